// The joules of one reply while it is written: steps told to the energy object, budget, forecast.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_RUN_ENERGY_H
#define WTL_TOOLS_RUN_ENERGY_H

#include "tools/energy_desk.h"

typedef struct run_energy {
    energy_desk *desk;
    uint64_t request;    // in desk->energy; 0: none
    double max_joules;   // 0: no budget
    bool spent;          // the budget is used up
    uint64_t checked_ns;
} run_energy;

// CLI_GO, or CLI_FAILED after a message: a budget needs a source.
int run_energy_begin(run_energy *e, energy_desk *desk, double max_joules, int32_t n_prompt_tok, int32_t n_cached_tok);
// As wtl_session_step and wtl_session_prefill, for the reply's one sequence; the energy object hears of every step before it begins, so that one
// which lasts longer than the meter's patience is not taken for an idle machine. Whether the budget is spent is in e->spent; then a prefill
// ends with CANCELLED.
wtl_status run_energy_step(run_energy *e, wtl_session *session, const wtl_entry *entry, wtl_error *err);
wtl_status run_energy_prefill(run_energy *e, wtl_session *session, int32_t seq, const int32_t *tokens, size_t n, wtl_step_callback on_step, void *user,
                              wtl_error *err);
// Ends the request, waits for the meter to catch up (at most a second and a half) and reports.
void run_energy_end(run_energy *e, wtl_energy_report *out);

// What the prompt and up to n_decode_tok tokens will take. Prints a line; returns the JSON object, NULL when out of memory.
json_t *run_energy_forecast(const energy_desk *desk, int32_t n_prompt_tok, int32_t n_decode_tok);

#endif
