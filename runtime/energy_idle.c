// The idle baseline: median of stretches without steps.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_idle.h"

#include <math.h>
#include <string.h>

static const double SAMPLE_NS = 500e6, SAMPLE_MIN_NS = 100e6;
static const size_t MANY = 8; // samples of which one may be a burst of something else
static const double FEW_FRAC = 0.1;       // of the baseline, over the number of samples: scatter not yet seen
static const double LEAST_FRAC = 0.01;
// A package that warms up, a fan, another program that starts: tens of percent within minutes.
static const double DRIFT_FRAC_PER_MINUTE = 0.12, DRIFT_FRAC_MAX = 0.25;

static void close_sample(energy_idle *idle, uint64_t end_ns) {
    const size_t i = (size_t)(idle->n % ENERGY_IDLE_SAMPLES);
    idle->uw[i] = idle->open_uj / idle->open_ns * 1e9;
    idle->edge_uw[i] = idle->open_edge_uj / idle->open_ns * 1e9;
    idle->n++;
    idle->last_ns = end_ns;
    idle->open_uj = idle->open_ns = idle->open_edge_uj = 0;
}

void energy_idle_add(energy_idle *idle, uint64_t end_ns, double length_ns, double energy_uj, double first_edge_uj, double last_edge_uj) {
    const double first = idle->open_ns > 0 ? idle->open_edge_uj : first_edge_uj + last_edge_uj;
    idle->open_edge_uj = first > first_edge_uj + last_edge_uj ? first : first_edge_uj + last_edge_uj; // inner edges cancel
    idle->open_uj += energy_uj;
    idle->open_ns += length_ns;
    if (idle->open_ns >= SAMPLE_NS) close_sample(idle, end_ns);
}

void energy_idle_break(energy_idle *idle, uint64_t end_ns) {
    if (idle->open_ns >= SAMPLE_MIN_NS) close_sample(idle, end_ns);
    idle->open_uj = idle->open_ns = idle->open_edge_uj = 0;
}

void energy_idle_load(energy_idle *idle, double uw, double spread_uw, uint64_t age_ns, uint64_t now_ns) {
    idle->loaded_uw = uw;
    idle->loaded_spread_uw = spread_uw;
    idle->loaded_age_ns = age_ns;
    idle->loaded_at_ns = now_ns;
}

static double median(double *v, size_t n) {
    for (size_t i = 1; i < n; i++) // at most 32 of them
        for (size_t j = i; j > 0 && v[j] < v[j - 1]; j--) {
            const double swap = v[j];
            v[j] = v[j - 1];
            v[j - 1] = swap;
        }
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double drift(double uw, uint64_t age_ns) {
    const double frac = DRIFT_FRAC_PER_MINUTE * (double)age_ns / 60e9;
    return uw * (frac < DRIFT_FRAC_MAX ? frac : DRIFT_FRAC_MAX);
}

energy_idle_value energy_idle_of(const energy_idle *idle, uint64_t now_ns) {
    energy_idle_value out = {0};
    const size_t n = idle->n < ENERGY_IDLE_SAMPLES ? (size_t)idle->n : ENERGY_IDLE_SAMPLES;
    if (!n) {
        if (idle->loaded_uw <= 0) return out;
        out = (energy_idle_value){.known = true, .uw = idle->loaded_uw, .age_ns = idle->loaded_age_ns};
        if (now_ns > idle->loaded_at_ns) out.age_ns += now_ns - idle->loaded_at_ns;
        out.drift_uw = drift(out.uw, out.age_ns);
        out.spread_uw = idle->loaded_spread_uw + out.drift_uw;
        return out;
    }
    double v[ENERGY_IDLE_SAMPLES];
    memcpy(v, idle->uw, n * sizeof *v);
    out.known = true;
    out.uw = median(v, n);
    for (size_t i = 0; i < n; i++) v[i] = fabs(idle->uw[i] - out.uw);
    median(v, n); // sorts
    const double scatter = v[n >= MANY ? n - 2 : n - 1];
    const double unseen = FEW_FRAC * out.uw / (double)n;
    memcpy(v, idle->edge_uw, n * sizeof *v);
    out.age_ns = now_ns > idle->last_ns ? now_ns - idle->last_ns : 0;
    out.drift_uw = drift(out.uw, out.age_ns);
    out.spread_uw = (scatter > unseen ? scatter : unseen) + median(v, n) / sqrt((double)n) + LEAST_FRAC * out.uw + out.drift_uw;
    return out;
}
