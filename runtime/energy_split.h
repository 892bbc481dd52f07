// Inside of the runtime: one interval's joules over those who ran in it. Pure arithmetic on integers, no state.
//
// Shares are rounded by the largest remainder, so that the parts add up to the whole to the microjoule, whatever the weights.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_SPLIT_H
#define WTL_RUNTIME_ENERGY_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ENERGY_TERMS = 3 }; // weight bytes, multiply-adds, KV bytes

// One party in an interval: the work of one request in one kind of tokens, or of nobody.
typedef struct energy_claim {
    double x[ENERGY_TERMS]; // work inside the interval, in 1e9 units of each term
    double busy_ns;         // its part of the time during which steps ran, and of the pauses between them: idle power is shared by it
    double present_ns;      // of the same steps and pauses, whole
    double time_cost_ns;    // of busy_ns, what no known work explains: it takes its part of the dynamic joules by time instead
    double share;           // out: part of the dynamic joules, 0 to 1
    uint64_t dynamic_uj, idle_uj; // out
} energy_claim;

typedef struct energy_interval {
    uint64_t energy_uj;
    double length_ns;
    double idle_uw;  // baseline; negative: not known, and all is dynamic
} energy_interval;

typedef struct energy_rest {
    uint64_t idle_uj;         // no step was running
    uint64_t unattributed_uj; // dynamic, and nobody ran
    double dynamic_uj;        // of the interval, all of it
} energy_rest;

typedef struct energy_rank { // working memory of a split
    double weight, rest;
    uint64_t part;
} energy_rank;

// Splits total over ranks[0..n) by weight (not negative, finite) into part; the parts sum to total exactly. All weights zero: equal
// parts. n >= 1. order: [n].
void energy_split(uint64_t total_uj, energy_rank *ranks, size_t n, size_t *order);
// Splits an interval over its claims with the coefficients theta (cost per 1e9 units). ranks, order: [n + 1].
energy_rest energy_split_interval(const energy_interval *interval, const double theta[ENERGY_TERMS], energy_claim *claims, size_t n,
                                  energy_rank *ranks, size_t *order);
static inline double energy_cost(const double theta[ENERGY_TERMS], const double x[ENERGY_TERMS]) {
    return theta[0] * x[0] + theta[1] * x[1] + theta[2] * x[2];
}

#ifdef __cplusplus
}
#endif
#endif
