// Inside of the runtime: what a unit of work costs here, learned from intervals.
//
// cost = theta0 * weight GB + theta1 * Gmac + theta2 * KV GB (+ rate * time), theta >= 0. Kept are second moments only, with exponential
// forgetting: sums of w v v' with v = (three works, time, cost). From them everything follows whenever it is asked for: the idle rate
// may be put in later than the intervals (a better baseline mends the past), and the residual needs no second pass.
// A prior keeps directions that the data do not tell apart near given ratios: without it two terms that always occur together
// (weights and KV in a lone chat) would be split by chance. Its weight fades as intervals come.
// Beside the fit of everything stand fits of kinds of work (mostly prefill, mostly decode, both): a machine that is not like the model
// (clocks that fall when many rows are computed) shows in what the kinds would have said alone. How far they are apart is in the bounds.
// The same fit learns the time that steps take (cost in ns, rate 0).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_FIT_H
#define WTL_RUNTIME_ENERGY_FIT_H

#include <stdbool.h>

#include "runtime/energy_split.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ENERGY_MOMENTS = 15 }; // upper triangle of 5 x 5, by rows

typedef struct energy_fit {
    double moment[ENERGY_MOMENTS];
    double noise;  // sum of w times the variance of the measurement of cost
    double weight; // number of observations that still count, after forgetting
    uint64_t n;    // observations ever
} energy_fit;

// By the part of prefill in an interval's cost.
typedef enum energy_mix { ENERGY_MIX_DECODE, ENERGY_MIX_BOTH, ENERGY_MIX_PREFILL } energy_mix;
enum { ENERGY_MIXES = 3 };

typedef struct energy_model {
    double theta[ENERGY_TERMS];
    double covariance[ENERGY_TERMS][ENERGY_TERMS]; // of theta
    double misfit_frac;                            // relative RMS residual beyond measurement noise
    double residual_frac;                          // the same with it
    bool known; // false: not one observation; theta holds the bare ratios of the prior
} energy_model;

// One observation: work x in 1e9 units, length, cost, and the standard deviation of its measurement.
void energy_fit_add(energy_fit *fit, const double x[ENERGY_TERMS], double length_ns, double cost, double sd);
// Solves for a known rate (cost per ns that is there without any work; 0: none). prior: ratios of theta, positive.
energy_model energy_fit_solve(const energy_fit *fit, double rate, const double prior[ENERGY_TERMS]);
// Solves for one kind of work, drawn to the model of all of it where the kind's own observations do not tell.
energy_model energy_fit_solve_kind(const energy_fit *kind, double rate, const energy_model *all);
// Standard deviation of g . theta, for sensitivities g.
double energy_model_sd(const energy_model *model, const double g[ENERGY_TERMS]);
// False for moments that no observations can have given (a damaged file).
bool energy_fit_valid(const energy_fit *fit);

#ifdef __cplusplus
}
#endif
#endif
