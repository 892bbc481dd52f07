// Energy of requests: splits what a meter measured over requests, phases and kinds of tokens.
//
// A decode step is shorter than any sensor resolves, so no step is measured. The engine's thread stamps every step (what it did, not
// what it cost) into a lock-free ring; later, interval by interval between resolvable edges of the meter, the interval's joules are
// split over the steps inside it:
//   idle     = baseline watts x time (measured while no step ran), to the requests whose steps ran, by time; else to nobody. The pause
//              between two steps (sampling, sending text), up to a second, is time of those requests of the second that had run before
//   dynamic  = the rest, by a three-term model of a step's cost: a x weight bytes (shared equally by the sequences in the step)
//              + b x multiply-adds of each sequence + c x KV bytes read by each sequence
// a, b, c >= 0 are fitted per model, backend and meter domain while running and kept in a file. Only their ratios matter: the shares of an
// interval sum to its measured joules exactly, in integer microjoules: requests + idle + unattributed = source total, always. What
// the model does not explain is in the bound of every share (attribution_uj), not hidden.
//
// wtl_energy is shared by all requests of a process. Public beside wattle.h: tools and servers include it when they want joules.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_H
#define WTL_RUNTIME_ENERGY_H

#include "runtime/wattle.h"
#include "telemetry/telemetry.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_energy wtl_energy;

typedef struct wtl_energy_options {
    tel_meter *meter;         // borrowed, outlives this; NULL: no energy, only facts (CPU time, bytes)
    const char *no_meter;     // static sentence for the records when meter is NULL or counts nothing
    const char *no_meter_fix; // static; the one command that would mend it, or NULL
    const wtl_engine *engine; // borrowed: predicts work for forecasts and counterfactuals
    const char *fit_path;     // file of fitted models and idle baselines of this machine; NULL: not kept
    uint32_t n_stamps;        // ring, rounded up to a power of two; 0: 65536
} wtl_energy_options;

// Takes the meter's on_poll callback (attribution runs on the telemetry thread).
// Owns: caller closes, before the meter. Thread: any. Errors: INVALID, NO_MEMORY. A damaged fit file is ignored and rewritten.
wtl_status wtl_energy_open(const wtl_energy_options *options, wtl_energy **out, wtl_error *err);
void wtl_energy_close(wtl_energy **energy); // saves the fit

// ---- Requests -----------------------------------------------------------------------------------------------------
typedef struct wtl_energy_request {
    int32_t n_prompt_tok; // with cached ones
    int32_t n_cached_tok; // taken from the prefix cache: never prefilled
    uint64_t arrived_ns;  // of the meter's clock (CLOCK_MONOTONIC); 0: now. Time before the first step is the queue phase
} wtl_energy_request;

// Returns an id > 0, or 0 when memory is short (the request then runs without energy). Thread: any.
uint64_t wtl_energy_begin(wtl_energy *energy, const wtl_energy_request *request);
// Before a step: from here on something runs that is not stamped yet. Without it a request that is open and waits (queued, paused) may be
// running at any moment, and the others' joules settle only with the next step, or after 30 s. Wait-free. Thread: as wtl_energy_step.
void wtl_energy_step_begin(wtl_energy *energy);
// After every step: requests[i] is the id of work->seqs[i] (0: none). The only call on the hot path: copies the facts into the ring, never
// waits, never allocates; a full ring drops the stamp and counts it (its joules stay unattributed). Thread: that of the step. Sessions
// on several threads: one lock around begin, step and stamp, since steps that overlap cannot be told apart by any sensor.
void wtl_energy_step(wtl_energy *energy, const wtl_step_work *work, const uint64_t *requests);
// n_tok rows of the request's stamped decode steps were guesses that turned out wrong: its joules, but none of its decoded tokens. Thread: any.
void wtl_energy_rejected(wtl_energy *energy, uint64_t request, int32_t n_tok);
// The request ended, or was aborted: it keeps the joules used. Thread: any.
void wtl_energy_end(wtl_energy *energy, uint64_t request);
// Waits until the request's joules have settled (the meter has resolved its last step), at most timeout_ns, and not for a meter that resolves
// nothing any more. True: settled.
bool wtl_energy_settle(wtl_energy *energy, uint64_t request, uint64_t timeout_ns);
// Calls `call` whenever the meter has been read and what that resolves has been booked: requests may have settled. On the meter's thread, which
// it must not keep, and with a lock held: it calls nothing of this header. NULL: no more calls, and none is running. Thread: any.
void wtl_energy_on_booked(wtl_energy *energy, void (*call)(void *user), void *user);
// Whether waiting for it is in vain: of what has not settled, the meter resolves nothing (tel_meter_stalled). It may settle later all the same.
// Thread: any.
bool wtl_energy_stalled(wtl_energy *energy, uint64_t request);

typedef struct wtl_phase_energy {
    tel_energy energy;     // total share: idle part included, pauses between its steps too
    tel_energy dynamic;    // without idle; unavailable while there is no baseline
    tel_energy idle;
    int32_t n_tok;         // prefill: new prompt tokens processed; decode: tokens decoded (rows with logits: what is read again is none)
    int32_t n_cached_tok;  // prefill only
    uint64_t wall_ns;      // queue: arrival to first step; prefill, decode: from the phase's first step to the end of its last
    uint64_t busy_ns;      // time inside steps
    uint64_t pause_ns;     // pauses before its steps: wall time that is neither this nor busy was nobody's
    // Facts that need no meter.
    uint64_t cpu_ns;       // CPU time of the process during its steps, by share of work
    uint64_t weight_bytes, kv_bytes, macs; // its share of weights streamed; KV read and written; multiply-adds
} wtl_phase_energy;

enum { WTL_ENERGY_DOMAINS_MAX = 16 };
typedef struct wtl_domain_energy {
    const char *name; // borrowed from the meter
    tel_energy energy;
} wtl_domain_energy;

typedef struct wtl_energy_report {
    bool settled;            // false: an estimate; the part after the last resolved edge is predicted
    tel_energy total, dynamic, idle; // over all measured domains (or the modelled one)
    wtl_phase_energy queue, prefill, decode;
    // Prompt tokens by kind. new_prompt + cached = prefill.
    tel_energy new_prompt;   // cost of the new prompt tokens
    tel_energy cached;       // what cached tokens cost in prefill: being attended to by the new ones
    tel_energy avoided;      // counterfactual: what the cached tokens would have cost as new ones at their positions
    wtl_domain_energy domains[WTL_ENERGY_DOMAINS_MAX];
    size_t n_domains;
    uint32_t dropped_stamps; // steps that could not be stamped while this request ran
    uint64_t start_ns, first_decode_ns, end_ns; // of the meter's clock: first step, first decode step, last step; 0: none
} wtl_energy_report;

// Thread: any. False: no such request. Strings live as long as the meter.
bool wtl_energy_report_of(wtl_energy *energy, uint64_t request, wtl_energy_report *out);
void wtl_energy_forget(wtl_energy *energy, uint64_t request); // after its last report; its joules stay in the totals

// ---- Totals -------------------------------------------------------------------------------------------------------
// requests + idle + unattributed = source, exactly, of one counting domain since opening.
typedef struct wtl_energy_totals {
    uint64_t source_uj, requests_uj, idle_uj, unattributed_uj;
    // The requests' part by phase. Their sum is requests_uj less what was booked to requests after they were forgotten.
    uint64_t prefill_dynamic_uj, prefill_idle_uj, decode_dynamic_uj, decode_idle_uj;
    uint64_t until_ns; // edge up to which this is booked
} wtl_energy_totals;
wtl_energy_totals wtl_energy_totals_of(wtl_energy *energy, size_t domain);

// ---- The model ----------------------------------------------------------------------------------------------------
typedef struct wtl_energy_fit {
    double uj_per_gb, uj_per_gmac, uj_per_kv_gb; // a, b, c of one domain, per 1e9
    double error_frac[3];     // relative standard error of each
    double residual_frac;     // relative RMS residual of intervals
    uint64_t n_intervals;     // that it rests on
    double idle_w, idle_spread_w; // baseline with the model loaded
    uint64_t idle_age_ns;     // since it was last measured
    bool fitted, idle_known;
} wtl_energy_fit;
wtl_energy_fit wtl_energy_fit_of(wtl_energy *energy, size_t domain);

// What a request would take here, from the fitted model (idle part included, from fitted time per step). Unavailable with a reason while nothing
// was fitted. Thread: any.
typedef struct wtl_energy_forecast {
    tel_energy prefill, decode, total;
    uint64_t prefill_ns, decode_ns;
} wtl_energy_forecast;
wtl_energy_forecast wtl_energy_forecast_of(wtl_energy *energy, int32_t n_prompt_tok, int32_t n_cached_tok, int32_t n_decode_tok);

#ifdef __cplusplus
}
#endif
#endif
