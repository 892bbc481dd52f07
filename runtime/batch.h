// Many requests on one model at once: continuous batching. Public beside wattle.h.
//
// Requests join and leave at every step. A step carries one token of every request that decodes, and beside them chunks of prompt, as long
// as keeps the decodes' time between tokens under a target. Requests wait in a bounded queue. Users are served in equal shares; within a
// user, and among users served equally, the prompt of which least is left to read goes first (cached tokens need no reading), but every
// fourth row is the user's oldest prompt's, so that none waits for ever. What a request's KV may grow to is set aside before it starts,
// so nothing that runs is ever thrown out. A user who has more requests running than another who waits for a place gives one up: it pauses,
// waits, and goes on with the same tokens. One whose owner takes no tokens for now can be held: then it costs others neither time nor a place.
//
//     wtl_batch_submit(...)   any thread: a prompt, how to choose tokens, whom to call
//     wtl_batch_step(...)     one thread, in a loop: runs one step and calls back; wtl_batch_wait sleeps until there is something to do
//     wtl_batch_cancel(...)   any thread: before the next step begins
//     wtl_batch_hold(...)     any thread: its owner cannot keep up, or can again
//
// Callbacks run on the stepping thread, after the step, without a lock held: they may submit and cancel, and should return soon.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_BATCH_H
#define WTL_RUNTIME_BATCH_H

#include "runtime/energy.h"
#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_batch wtl_batch;

typedef struct wtl_batch_options {
    const wtl_engine *engine; // borrowed
    wtl_energy *energy;       // borrowed; NULL: no joules
    int32_t n_parallel;       // requests that run at once; 0: 8
    int32_t n_ctx;            // positions of one request, prompt and reply; 0: the model's, at most 8192
    int32_t n_batch;          // tokens of one step; 0: 512
    uint64_t kv_bytes;        // KV memory, running and cached; 0: room for n_parallel full contexts, at most a quarter of the machine's memory
    wtl_kv_type kv_type;
    bool no_prefix_cache;
    bool all_logits;          // see wtl_session_options
    int32_t n_queue;          // newcomers that wait at most, beside those that go on after a pause; 0: 256
    int32_t n_draft;          // tokens guessed from a text's repetitions and tried in the same step, at most 15; 0: 7, -1: none. Replies are the same
    uint64_t max_itl_ns;      // target for the time between two tokens of a running reply while prompts are read; 0: 100 ms. Replies that need
                              // it all for themselves get a third more: prompts keep a quarter of a step, and at least 16 rows
} wtl_batch_options;

// Owns: caller closes, after all callbacks; open requests end with WTL_FINISH_CANCELLED. Errors: INVALID, LIMIT (kv_bytes hold not even one context: says
// how many are needed), NO_MEMORY, DEVICE.
wtl_status wtl_batch_open(const wtl_batch_options *options, wtl_batch **out, wtl_error *err);
void wtl_batch_close(wtl_batch **batch);
int32_t wtl_batch_n_ctx(const wtl_batch *batch); // of one request
// Cached prefixes to a file and back: see wtl_session_save. Between steps only, by the stepping thread.
wtl_status wtl_batch_save(wtl_batch *batch, const char *path, uint64_t *n_tok, wtl_error *err);
wtl_status wtl_batch_load(wtl_batch *batch, const char *path, uint64_t *n_tok, wtl_error *err);

// ---- Requests --------------------------------------------------------------------------------------------------------------
typedef enum wtl_finish {
    WTL_FINISH_NONE = 0,  // goes on
    WTL_FINISH_END,       // the model's end token
    WTL_FINISH_LENGTH,    // max_tokens
    WTL_FINISH_CONTEXT,   // n_ctx is full
    WTL_FINISH_STOP,      // the callback said so (a stop string)
    WTL_FINISH_ENERGY,    // max_uj
    WTL_FINISH_CANCELLED,
    WTL_FINISH_ERROR,     // see wtl_batch_token.error
} wtl_finish;

typedef struct wtl_token_logprob {
    int32_t token;
    float logprob; // natural, of the model's own distribution (before temperature and truncation)
} wtl_token_logprob;

// One event of a request: a token of one of its choices, or an end without a token.
typedef struct wtl_batch_token {
    uint64_t request;
    int32_t choice;          // 0 .. n_choices - 1
    int32_t token;           // -1: none (ended before one was chosen)
    float logprob;           // valid with n_top_logprobs >= 0
    const wtl_token_logprob *top; // [n_top] most likely first; valid during the call
    int32_t n_top;
    wtl_finish finish;       // of this choice; the token that is an end token comes with END and is not part of the text
    bool last;               // no choice of the request is left: the request is gone after this call
    const wtl_error *error;  // with WTL_FINISH_ERROR
} wtl_batch_token;
// Returns false to end this choice here (its text is complete: a stop string). The event is then followed by no other of this choice.
typedef bool (*wtl_batch_on_token)(void *user, const wtl_batch_token *token);

// Facts that a request's owner wants during and after it. Times are CLOCK_MONOTONIC; 0: not yet.
typedef struct wtl_batch_facts {
    int32_t n_prompt_tok, n_cached_tok, n_prefilled_tok; // cached + prefilled = prompt, when prefill is done
    int32_t n_decoded_tok;                               // tokens chosen, over all choices
    int32_t n_drafted_tok, n_accepted_tok;               // guesses tried, and those of them that were chosen
    int32_t n_pauses, n_reread_tok;                      // times it gave up its place; tokens that had to be read again for that
    uint64_t arrived_ns, started_ns, first_token_ns, last_token_ns;
    uint64_t energy;                                     // id for runtime/energy.h; 0: none. Ended by the batch, forgotten by the owner
} wtl_batch_facts;
// Called once when the request leaves the queue and its prefix has been looked up, and after every chunk of its prompt.
typedef void (*wtl_batch_on_progress)(void *user, uint64_t request, const wtl_batch_facts *facts);

// A token of the prompt, from position 1 on, with its logprob and the likeliest in its place; choice and finish mean nothing.
typedef void (*wtl_batch_on_prompt)(void *user, const wtl_batch_token *token);
// Whether this token may come next in this choice (a grammar).
typedef bool (*wtl_batch_allows)(void *user, int32_t choice, int32_t token);

typedef struct wtl_batch_request {
    const int32_t *tokens; // [n_tokens] prompt, copied; at least one
    size_t n_tokens;
    wtl_sampler_options sampling; // bias copied; choice i uses seed + i
    int32_t max_tokens;    // of each choice; 0: until the end token or the context is full
    int32_t n_choices;     // 0: 1. The prompt is prefilled once
    int32_t n_top_logprobs; // -1: no logprobs; 0: of the token only; at most 20
    bool ignore_eos;
    const char *user_key;  // fairness: requests of one key share what one user gets; copied; NULL: ""
    double max_uj;         // microjoules it may take; 0: no limit. Needs options.energy
    uint64_t arrived_ns;   // 0: now
    wtl_batch_allows allows; // NULL: all tokens may come. Called with `user`; on_token tells what was taken
    wtl_batch_on_token on_token; // required
    wtl_batch_on_progress on_progress; // NULL: none
    wtl_batch_on_prompt on_prompt; // NULL: none. Needs n_top_logprobs >= 0. In order, before any on_token; nothing of the prompt is taken from the cache
    bool prompt_only;      // end (LENGTH, without a token) when the prompt is through
    void *user;            // for the callbacks
} wtl_batch_request;

// Thread: any. *id > 0. Errors: INVALID (empty prompt, a token out of range, options), LIMIT (prompt does not fit n_ctx: says both numbers;
// n_choices > n_parallel; all choices at their longest do not fit kv_bytes), BUSY (the queue is full), CANCELLED (closing), NO_MEMORY.
wtl_status wtl_batch_submit(wtl_batch *batch, const wtl_batch_request *request, uint64_t *id, wtl_error *err);
// The request gets its last event (CANCELLED) from the next step, also while it waits. False: no such request (any more). Thread: any.
bool wtl_batch_cancel(wtl_batch *batch, uint64_t id);
// The owner takes no tokens for now, or does again. The reply of a held request goes on in steps that carry no other reply. When others wait for
// its place it pauses: its KV is only cached then, and no step carries it. When no longer held it waits again, as old as it is, and goes on
// with the same tokens as without a pause; what is no longer cached is read again. False: no such request. Thread: any.
bool wtl_batch_hold(wtl_batch *batch, uint64_t id, bool held);
// Inside on_token: facts of the request that is called back. Elsewhere: of any request alive. False: no such request. Thread: any.
bool wtl_batch_facts_of(wtl_batch *batch, uint64_t id, wtl_batch_facts *out);

// ---- Stepping --------------------------------------------------------------------------------------------------------------
// One step. *ran: something was done (a step ran or a request ended). Errors: DEVICE, NO_MEMORY: the requests of that step end with
// WTL_FINISH_ERROR, and stepping may go on. Thread: one.
wtl_status wtl_batch_step(wtl_batch *batch, bool *ran, wtl_error *err);
// Sleeps until something is to be done, wtl_batch_wake was called, or timeout_ns have passed. Uses no CPU meanwhile. Thread: the stepping one.
void wtl_batch_wait(wtl_batch *batch, uint64_t timeout_ns);
void wtl_batch_wake(wtl_batch *batch); // thread: any

typedef struct wtl_batch_slot { // one running request's choice
    uint64_t request;
    int32_t choice, n_ctx_used, n_prompt_tok, n_prompt_done, n_decoded;
} wtl_batch_slot;
typedef struct wtl_batch_state {
    int32_t n_running, n_waiting, n_paused, n_parallel;
    uint64_t n_steps, n_prompt_tok, n_cached_tok, n_decoded_tok; // since opening; n_prompt_tok: prefilled, without cached ones
    uint64_t n_drafted_tok, n_accepted_tok; // as in the facts
    uint64_t n_pauses, n_reread_tok;                             // see wtl_batch_facts
    uint64_t cpu_prefill_ns, cpu_decode_ns; // CPU time of the process during steps, by share of rows
    uint64_t busy_ns;        // time inside steps
    double itl_ns, prefill_tok_per_s, decode_tok_per_s; // recent: smoothed; 0: none yet
    uint64_t wait_estimate_ns; // how long a request submitted now would wait: for Retry-After
    wtl_kv_usage kv;
} wtl_batch_state;
// slots: at most cap running choices are written, their count to *n_slots. Thread: any; never waits for a step.
wtl_batch_state wtl_batch_state_of(wtl_batch *batch, wtl_batch_slot *slots, size_t cap, size_t *n_slots);

#ifdef __cplusplus
}
#endif
#endif
