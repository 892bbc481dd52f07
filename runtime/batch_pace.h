// Inside of the runtime: how long a step will take, learned while running, and so how much prompt it may carry.
//
// The time of a step is taken as base + decode rows + prompt rows + attended positions, each with a cost that is never negative. A Kalman
// filter follows the four costs: what the steps of late do not tell apart keeps its value and its doubt, and one step that was held up by
// something else cannot move them far. Pure arithmetic, no clock, no allocation.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_BATCH_PACE_H
#define WTL_RUNTIME_BATCH_PACE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BATCH_PACE_TERMS = 4 };

// What a step is made of.
typedef struct batch_load {
    int32_t n_decode, n_prompt; // rows
    uint64_t kv_positions;      // that attention reads: summed over rows and layers
} batch_load;

typedef struct batch_pace {
    double cost[BATCH_PACE_TERMS];                        // ns: of any step, per decode row, per prompt row, per million attended positions
    double doubt[BATCH_PACE_TERMS][BATCH_PACE_TERMS];     // covariance of the costs
    double first_doubt[BATCH_PACE_TERMS];                 // its diagonal at opening: never more than this
    double widest;                                        // prompt rows of steps with decodes, the most of late
} batch_pace;

// From a guess of what one step costs, better too slow than too fast: the first chunks are then short.
void batch_pace_open(batch_pace *pace, double step_ns, double row_ns, double million_positions_ns);
// A step with this load took so long, from its beginning to the next one's.
void batch_pace_learn(batch_pace *pace, const batch_load *load, uint64_t took_ns);
double batch_pace_ns(const batch_pace *pace, const batch_load *load);
// How long a step with these decodes (load without prompt) may take when it is planned for target_ns. Decodes that need the target for
// themselves leave prompts a quarter of the step all the same: what is read today decodes tomorrow, and a step of many rows costs little
// more than one of few.
double batch_pace_limit_ns(const batch_pace *pace, const batch_load *decodes, double target_ns);
// Prompt rows beside decodes that are not far beyond what was tried: steps of one length do not tell the costs apart, so the law is
// trusted near them only.
int32_t batch_pace_most_rows(const batch_pace *pace);

#ifdef __cplusplus
}
#endif
#endif
