// Inside of the runtime: the idle baseline of one meter domain, measured while no step ran, the model loaded.
//
// Stretches without steps become samples of power; the baseline is their median, so that a burst of other work in one of them does not
// move it. The spread is what the baseline may be off by in 99 % of cases: how far the samples lie apart (other programs come
// and go), the edges they were measured between, and its age, since temperature and background load drift.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_IDLE_H
#define WTL_RUNTIME_ENERGY_IDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ENERGY_IDLE_SAMPLES = 32 };

typedef struct energy_idle_value {
    bool known;
    double uw, spread_uw;
    double drift_uw; // part of the spread: what it may have moved since it was measured
    uint64_t age_ns;
} energy_idle_value;

typedef struct energy_idle {
    double uw[ENERGY_IDLE_SAMPLES], edge_uw[ENERGY_IDLE_SAMPLES]; // ring of samples and what their edges leave open
    uint64_t n;                                                   // ever
    uint64_t last_ns;                                             // end of the last sample
    // The stretch that is being measured.
    double open_uj, open_ns, open_edge_uj;
    // From a file, until there are own samples.
    double loaded_uw, loaded_spread_uw;
    uint64_t loaded_age_ns, loaded_at_ns;
} energy_idle;

// An interval without any step. first_edge_uj, last_edge_uj: uncertainty of the total at its ends.
void energy_idle_add(energy_idle *idle, uint64_t end_ns, double length_ns, double energy_uj, double first_edge_uj, double last_edge_uj);
void energy_idle_break(energy_idle *idle, uint64_t end_ns); // a step ran: the stretch is over
void energy_idle_load(energy_idle *idle, double uw, double spread_uw, uint64_t age_ns, uint64_t now_ns);
energy_idle_value energy_idle_of(const energy_idle *idle, uint64_t now_ns);

#ifdef __cplusplus
}
#endif
#endif
