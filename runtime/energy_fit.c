// Non-negative least squares in three terms from second moments, with a fading prior on the ratios.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_fit.h"

#include <math.h>
#include <string.h>

enum { TIME = 3, COST = 4, DIMENSIONS = 5 };

// A machine changes slowly (temperature, other load): observations count for some thousands of intervals, minutes of work.
static const double FORGET = 1.0 - 1.0 / 4096;
// Relative sd of a coefficient before anything is known: 99 % within about a factor of three upwards.
static const double PRIOR_SD = 0.8;
// Neighbouring intervals see the same kind of work, and the model's error in it is the same: so many count as one.
static const double CORRELATED = 8;
static const double MISFIT_MIN = 0.02, MISFIT_UNKNOWN = 0.3;
static const double KIND_MIN = 4; // observations before a kind has a say
static const double FEW = 8; // observations that the misfit before knowledge counts for

static size_t at(size_t row, size_t column) { return row * DIMENSIONS - row * (row + 1) / 2 + column; } // row <= column

void energy_fit_add(energy_fit *fit, const double x[ENERGY_TERMS], double length_ns, double cost, double sd) {
    const double v[DIMENSIONS] = {x[0], x[1], x[2], length_ns, cost};
    // Errors of the model are relative: the weight is that of a relative residual, less where the measurement is coarse.
    const double scale = cost * cost + 100 * sd * sd;
    if (!(cost >= 0) || !(scale > 0) || !isfinite(scale)) return;
    const double w = 1 / scale;
    for (size_t i = 0; i < DIMENSIONS; i++)
        for (size_t j = i; j < DIMENSIONS; j++) fit->moment[at(i, j)] = fit->moment[at(i, j)] * FORGET + w * v[i] * v[j];
    fit->noise = fit->noise * FORGET + w * sd * sd;
    fit->weight = fit->weight * FORGET + 1;
    fit->n++;
}

// The problem with the rate taken out: normal matrix a, right side b, and the sum of squared costs.
typedef struct normal {
    double a[ENERGY_TERMS][ENERGY_TERMS], b[ENERGY_TERMS], cc;
} normal;

static normal without_rate(const energy_fit *fit, double rate) {
    const double *m = fit->moment;
    normal out;
    for (size_t i = 0; i < ENERGY_TERMS; i++) {
        for (size_t j = 0; j < ENERGY_TERMS; j++) out.a[i][j] = m[i <= j ? at(i, j) : at(j, i)];
        out.b[i] = m[at(i, COST)] - rate * m[at(i, TIME)];
    }
    out.cc = m[at(COST, COST)] - 2 * rate * m[at(TIME, COST)] + rate * rate * m[at(TIME, TIME)];
    return out;
}

static double residual(const normal *p, const double theta[ENERGY_TERMS]) {
    double sum = p->cc;
    for (size_t i = 0; i < ENERGY_TERMS; i++) {
        sum -= 2 * theta[i] * p->b[i];
        for (size_t j = 0; j < ENERGY_TERMS; j++) sum += theta[i] * p->a[i][j] * theta[j];
    }
    return sum > 0 ? sum : 0;
}

// Solves h x = g over the terms in set by Gauss elimination; the others stay 0. False: singular.
static bool solve_set(double h[ENERGY_TERMS][ENERGY_TERMS], const double g[ENERGY_TERMS], unsigned set, double x[ENERGY_TERMS]) {
    double m[ENERGY_TERMS][ENERGY_TERMS + 1];
    size_t index[ENERGY_TERMS], n = 0;
    for (size_t i = 0; i < ENERGY_TERMS; i++)
        if (set >> i & 1) index[n++] = i;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) m[i][j] = h[index[i]][index[j]];
        m[i][n] = g[index[i]];
    }
    for (size_t k = 0; k < n; k++) { // h is positive definite: no pivoting
        if (!(m[k][k] > 0)) return false;
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = n + 1; j-- > k;) m[i][j] -= m[i][k] / m[k][k] * m[k][j];
    }
    memset(x, 0, ENERGY_TERMS * sizeof *x);
    for (size_t k = n; k-- > 0;) {
        double sum = m[k][n];
        for (size_t j = k + 1; j < n; j++) sum -= m[k][j] * x[index[j]];
        x[index[k]] = sum / m[k][k];
    }
    return true;
}

// The best theta >= 0 of  theta' h theta / 2 - g' theta : three terms have eight sets of positive ones, all are tried.
static void solve_nonnegative(double h[ENERGY_TERMS][ENERGY_TERMS], const double g[ENERGY_TERMS], double theta[ENERGY_TERMS]) {
    double best = 0;
    memset(theta, 0, ENERGY_TERMS * sizeof *theta);
    for (unsigned set = 1; set < 1u << ENERGY_TERMS; set++) {
        double x[ENERGY_TERMS];
        if (!solve_set(h, g, set, x)) continue;
        const double value = -(g[0] * x[0] + g[1] * x[1] + g[2] * x[2]) / 2; // at a stationary point
        if (x[0] < 0 || x[1] < 0 || x[2] < 0 || !(value < best)) continue;
        best = value;
        memcpy(theta, x, sizeof x);
    }
}

// Data and prior together, for one variance of the residual. Everything is in units of the prior, so that no term is a rounding error.
static void combine(const normal *p, const double prior[ENERGY_TERMS], double variance, energy_model *out) {
    double h[ENERGY_TERMS][ENERGY_TERMS], g[ENERGY_TERMS], x[ENERGY_TERMS];
    for (size_t i = 0; i < ENERGY_TERMS; i++) {
        for (size_t j = 0; j < ENERGY_TERMS; j++) h[i][j] = p->a[i][j] * prior[i] * prior[j] / variance;
        h[i][i] += 1 / (PRIOR_SD * PRIOR_SD);
        g[i] = p->b[i] * prior[i] / variance + 1 / (PRIOR_SD * PRIOR_SD);
    }
    solve_nonnegative(h, g, x);
    for (size_t i = 0; i < ENERGY_TERMS; i++) out->theta[i] = x[i] * prior[i];
    for (size_t j = 0; j < ENERGY_TERMS; j++) {
        double unit[ENERGY_TERMS] = {0}, column[ENERGY_TERMS] = {0};
        unit[j] = 1;
        solve_set(h, unit, (1u << ENERGY_TERMS) - 1, column);
        for (size_t i = 0; i < ENERGY_TERMS; i++) out->covariance[i][j] = column[i] * prior[i] * prior[j];
    }
}

energy_model energy_fit_solve(const energy_fit *fit, double rate, const double prior[ENERGY_TERMS]) {
    energy_model out = {.theta = {prior[0], prior[1], prior[2]}, .misfit_frac = MISFIT_UNKNOWN, .residual_frac = MISFIT_UNKNOWN};
    const normal p = without_rate(fit, rate);
    double scaled = 0, square = 0; // of the prior's prediction against the data: its level comes from them, only ratios are prior
    for (size_t i = 0; i < ENERGY_TERMS; i++) {
        scaled += prior[i] * p.b[i];
        for (size_t j = 0; j < ENERGY_TERMS; j++) square += prior[i] * p.a[i][j] * prior[j];
    }
    out.known = scaled > 0 && square > 0 && p.cc > 0;
    const double level = out.known ? scaled / square : 1;
    double center[ENERGY_TERMS], misfit = MISFIT_UNKNOWN;
    for (size_t i = 0; i < ENERGY_TERMS; i++) {
        out.theta[i] = center[i] = prior[i] * level;
        out.covariance[i][i] = center[i] * center[i] * PRIOR_SD * PRIOR_SD;
    }
    if (!out.known) return out;
    // The variance decides how much the data weigh, and follows from how well they fit: it settles in a few rounds.
    for (int round = 0; round < 4; round++) {
        combine(&p, center, misfit * misfit * CORRELATED, &out);
        const double all = residual(&p, out.theta) / p.cc, noise = fit->noise / p.cc;
        const double seen = all > noise ? all - noise : 0, few = FEW / (FEW + fit->weight);
        out.residual_frac = sqrt(all);
        misfit = sqrt(seen * (1 - few) + MISFIT_UNKNOWN * MISFIT_UNKNOWN * few);
        if (misfit < MISFIT_MIN) misfit = MISFIT_MIN;
    }
    out.misfit_frac = misfit;
    return out;
}

energy_model energy_fit_solve_kind(const energy_fit *kind, double rate, const energy_model *all) {
    energy_model out = *all;
    const normal p = without_rate(kind, rate);
    double center[ENERGY_TERMS], most = 0;
    for (size_t i = 0; i < ENERGY_TERMS; i++) most = all->theta[i] * p.a[i][i] > most ? all->theta[i] * p.a[i][i] : most;
    if (!all->known || !(most > 0) || kind->weight < KIND_MIN) return out;
    for (size_t i = 0; i < ENERGY_TERMS; i++) center[i] = all->theta[i] > 0 ? all->theta[i] : 1e-9 * all->theta[1];
    combine(&p, center, all->misfit_frac * all->misfit_frac * CORRELATED, &out);
    return out;
}

double energy_model_sd(const energy_model *model, const double g[ENERGY_TERMS]) {
    double sum = 0;
    for (size_t i = 0; i < ENERGY_TERMS; i++)
        for (size_t j = 0; j < ENERGY_TERMS; j++) sum += g[i] * model->covariance[i][j] * g[j];
    return sum > 0 ? sqrt(sum) : 0;
}

bool energy_fit_valid(const energy_fit *fit) {
    for (size_t i = 0; i < ENERGY_MOMENTS; i++)
        if (!isfinite(fit->moment[i]) || fit->moment[i] < 0) return false;
    // Any two of the five must obey Cauchy and Schwarz.
    for (size_t i = 0; i < DIMENSIONS; i++)
        for (size_t j = i + 1; j < DIMENSIONS; j++) {
            const double cross = fit->moment[at(i, j)];
            if (cross * cross > fit->moment[at(i, i)] * fit->moment[at(j, j)] * 1.000001) return false;
        }
    return isfinite(fit->noise) && fit->noise >= 0 && isfinite(fit->weight) && fit->weight >= 0 && fit->weight <= 1 / (1 - FORGET) + 1 &&
           (double)fit->n + 1 >= fit->weight;
}
