// The model of a step's time: see batch_pace.h.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_pace.h"

#include <math.h>
#include <string.h>

enum { N = BATCH_PACE_TERMS };

static const double NOISE_FRAC = 0.15;      // a step's time scatters about the law by this part of itself, machine and law together
static const double OUTLIER_SIGMAS = 3;     // what lies further out counts as if it lay there
static const double DRIFT_FRAC = 0.01;      // by which a cost may change from one step to the next: clocks, neighbours, warmth

static const double PROMPT_SHARE = 0.25;    // of a step, at least

static const double WIDEST_FADES = 0.95, WIDEST_GROWS = 1.5, FIRST_ROWS = 16;

static void terms_of(const batch_load *load, double x[N]) {
    x[0] = 1;
    x[1] = load->n_decode;
    x[2] = load->n_prompt;
    x[3] = (double)load->kv_positions * 1e-6;
}

void batch_pace_open(batch_pace *p, double step_ns, double row_ns, double million_positions_ns) {
    memset(p, 0, sizeof *p);
    const double cost[N] = {step_ns, row_ns, row_ns, million_positions_ns};
    for (int i = 0; i < N; i++) {
        p->cost[i] = cost[i];
        p->doubt[i][i] = p->first_doubt[i] = cost[i] * cost[i];
    }
}

double batch_pace_ns(const batch_pace *p, const batch_load *load) {
    double x[N], sum = 0;
    terms_of(load, x);
    for (int i = 0; i < N; i++) sum += p->cost[i] * x[i];
    return sum;
}

double batch_pace_limit_ns(const batch_pace *p, const batch_load *decodes, double target_ns) {
    return fmax(target_ns, batch_pace_ns(p, decodes) / (1 - PROMPT_SHARE));
}

int32_t batch_pace_most_rows(const batch_pace *p) { return (int32_t)(FIRST_ROWS + WIDEST_GROWS * p->widest); }

// The costs drift, but doubt about one that no step speaks of does not grow beyond what it was at first. Scaling a row and its column by
// the same factor keeps the matrix a covariance.
static void let_drift(batch_pace *p) {
    for (int i = 0; i < N; i++) {
        p->doubt[i][i] += DRIFT_FRAC * DRIFT_FRAC * (p->cost[i] * p->cost[i] + 1e-4 * p->first_doubt[i]);
        if (p->doubt[i][i] <= p->first_doubt[i]) continue;
        const double scale = sqrt(p->first_doubt[i] / p->doubt[i][i]);
        for (int j = 0; j < N; j++) {
            p->doubt[i][j] *= scale;
            p->doubt[j][i] *= scale;
        }
    }
}

void batch_pace_learn(batch_pace *p, const batch_load *load, uint64_t took_ns) {
    double x[N], gain[N], spread = 0;
    let_drift(p);
    terms_of(load, x);
    for (int i = 0; i < N; i++) {
        gain[i] = 0;
        for (int j = 0; j < N; j++) gain[i] += p->doubt[i][j] * x[j];
        spread += gain[i] * x[i];
    }
    const double expected = batch_pace_ns(p, load), noise = NOISE_FRAC * fmax(expected, 1);
    spread += noise * noise;
    const double limit = OUTLIER_SIGMAS * sqrt(spread);
    const double off = fmin(fmax((double)took_ns - expected, -limit), limit);
    for (int i = 0; i < N; i++) p->cost[i] = fmax(p->cost[i] + gain[i] / spread * off, 0);
    for (int i = 0; i < N; i++)
        for (int j = i; j < N; j++) p->doubt[i][j] = p->doubt[j][i] = p->doubt[i][j] - gain[i] * gain[j] / spread;
    if (load->n_decode && load->n_prompt) p->widest = fmax(load->n_prompt, WIDEST_FADES * p->widest);
}
