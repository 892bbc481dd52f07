// The batch as others see it: opening and its sizes, submitting, cancelling, what may be asked. Stepping is in batch_step.c.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"
#include "runtime/base/clock.h"
#include "runtime/batch_private.h"
#include "runtime/engine.h"

enum {
    DEFAULT_PARALLEL = 8,
    DEFAULT_CTX = 8192,
    DEFAULT_BATCH = 512,
    DEFAULT_QUEUE = 256,
    DEFAULT_DRAFT = 7,
    PARALLEL_MAX = 1 << 10,
    QUEUE_MAX = 1 << 20,
    FIRST_REPLY_TOK = 128, // mean length of replies before one has ended
};
static const uint64_t DEFAULT_ITL_NS = 100000000;

// ---- Sizes -----------------------------------------------------------------------------------------------------------------
static wtl_status fill_options(wtl_batch_options *o, wtl_error *err) {
    if (!o->engine) return wtl_fail(err, WTL_ERR_INVALID, "a batch needs an engine");
    const int32_t n_ctx_train = wtl_engine_describe(o->engine).n_ctx_train;
    if (!o->n_parallel) o->n_parallel = DEFAULT_PARALLEL;
    if (!o->n_ctx) o->n_ctx = n_ctx_train < DEFAULT_CTX ? n_ctx_train : DEFAULT_CTX;
    if (!o->n_batch) o->n_batch = DEFAULT_BATCH;
    if (!o->n_queue) o->n_queue = DEFAULT_QUEUE;
    if (!o->n_draft) o->n_draft = DEFAULT_DRAFT;
    if (!o->max_itl_ns) o->max_itl_ns = DEFAULT_ITL_NS;
    if (o->n_parallel < 1 || o->n_parallel > PARALLEL_MAX || o->n_ctx < 1 || o->n_batch < 1 || o->n_queue < 1 || o->n_queue > QUEUE_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "batch options out of range: n_parallel %d (1 to %d), n_ctx %d, n_batch %d (from 1), n_queue %d (1 to %d)",
                        o->n_parallel, PARALLEL_MAX, o->n_ctx, o->n_batch, o->n_queue, QUEUE_MAX);
    if (o->n_draft < -1 || o->n_draft > BATCH_DRAFT_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "batch option out of range: n_draft %d (-1 to %d)", o->n_draft, BATCH_DRAFT_MAX);
    if (o->n_ctx > n_ctx_train)
        return wtl_fail(err, WTL_ERR_LIMIT, "a context of %d tokens was asked for, but the model was trained for %d", o->n_ctx, n_ctx_train);
    if (o->n_batch < o->n_parallel) o->n_batch = o->n_parallel; // every decode has its row
    return WTL_OK;
}

static int32_t prompt_logits(const wtl_batch_options *o) {
    const int32_t room = o->n_batch - o->n_parallel;
    return room < BATCH_PROMPT_LOGITS ? room : BATCH_PROMPT_LOGITS;
}

static wtl_session_options session_options(const wtl_batch_options *o, int32_t n_blocks) {
    const int64_t most = (int64_t)wtl_engine_describe(o->engine).n_ctx_train * o->n_parallel, n_ctx = (int64_t)n_blocks * WTL_KV_BLOCK;
    return (wtl_session_options){.n_ctx = (int32_t)(n_ctx < most ? n_ctx : most), .n_seq_max = o->n_parallel, .n_batch = o->n_batch,
                                 .n_logits_max = prompt_logits(o) + o->n_parallel, .kv_type = o->kv_type, .keep_prefixes = !o->no_prefix_cache,
                                 .all_logits = o->all_logits};
}

static wtl_status kv_bytes_of(const wtl_batch_options *o, int32_t n_blocks, uint64_t *out, wtl_error *err) {
    const wtl_session_options s = session_options(o, n_blocks);
    wtl_memory memory;
    const wtl_status status = wtl_session_memory(o->engine, &s, &memory, err);
    if (!status) *out = memory.kv_bytes;
    return status;
}

// A quarter of the machine's memory; everything where it does not say.
static uint64_t memory_share(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages / 4 * (uint64_t)page : UINT64_MAX;
}

// Blocks for running requests: as many full contexts as kv_bytes hold, at most n_parallel; what is left keeps prefixes.
static wtl_status plan(const wtl_batch_options *o, wtl_session_options *session, int64_t *n_blocks, wtl_error *err) {
    const int32_t one = (o->n_ctx + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
    const int64_t wanted = (int64_t)one * o->n_parallel, most = (INT32_MAX / 2) / WTL_KV_BLOCK;
    int32_t low = one, high = (int32_t)(wanted < most ? wanted : most);
    uint64_t bytes = 0, least = 0;
    wtl_status status = kv_bytes_of(o, one, &least, err);
    const uint64_t limit = o->kv_bytes ? o->kv_bytes : memory_share();
    if (!status && least > limit)
        return wtl_fail(err, WTL_ERR_LIMIT, "%llu bytes of KV memory do not hold one context of %d tokens beside %d sequences: %llu are needed%s",
                        (unsigned long long)limit, o->n_ctx, o->n_parallel, (unsigned long long)least,
                        o->kv_bytes ? "" : " (the limit is a quarter of the machine's memory unless kv_bytes says otherwise)");
    while (!status && low < high) {
        const int32_t middle = high - (high - low) / 2;
        status = kv_bytes_of(o, middle, &bytes, err);
        if (status) break;
        if (bytes <= limit) low = middle;
        else high = middle - 1;
    }
    if (!status) status = kv_bytes_of(o, low, &bytes, err);
    if (status) return status;
    *session = session_options(o, low);
    if (o->kv_bytes && !o->no_prefix_cache) session->cache_bytes = o->kv_bytes - bytes;
    *n_blocks = (session->n_ctx + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
    return WTL_OK;
}

// ---- Opening and closing ---------------------------------------------------------------------------------------------------
// Slow guesses, so that the first chunks beside a decode are short: 5 GB/s of weights, 10 GMAC/s of arithmetic.
static void guess_pace(wtl_batch *b) {
    const work_shape *w = &b->work;
    batch_pace_open(&b->pace, (double)(w->step_bytes + w->head_bytes) / 5.0 + 1e5, (double)w->row_macs / 10.0 + 1e3, 2e6 * (double)w->head_width / 10.0);
}

static bool take_memory(wtl_batch *b) {
    const size_t n_parallel = (size_t)b->options.n_parallel;
    b->running = wtl_calloc(n_parallel, sizeof *b->running);
    b->entries = wtl_calloc((size_t)b->options.n_batch, sizeof *b->entries);
    b->parts = wtl_calloc(n_parallel, sizeof *b->parts);
    b->energy_ids = wtl_calloc(n_parallel, sizeof *b->energy_ids);
    return b->running && b->entries && b->parts && b->energy_ids;
}

static void set_up_lock(wtl_batch *b) {
    pthread_condattr_t attributes;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

wtl_status wtl_batch_open(const wtl_batch_options *options, wtl_batch **out, wtl_error *err) {
    if (!options || !out) return wtl_fail(err, WTL_ERR_INVALID, "options and out must not be NULL");
    *out = NULL;
    wtl_batch *b = wtl_calloc(1, sizeof *b);
    if (!b) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a batch");
    b->options = *options;
    batch_draft_open(&b->trust);
    set_up_lock(b);
    wtl_session_options session;
    wtl_status status = fill_options(&b->options, err);
    if (!status) status = plan(&b->options, &session, &b->n_blocks, err);
    if (!status && !take_memory(b)) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a batch of %d requests", b->options.n_parallel);
    if (!status) status = wtl_session_open(b->options.engine, &session, &b->session, err);
    if (status) {
        wtl_batch_close(&b);
        return status;
    }
    b->vocab = wtl_engine_vocab(b->options.engine);
    b->n_vocab = wtl_engine_describe(b->options.engine).n_vocab;
    b->n_ctx = b->options.n_ctx;
    b->work = engine_work_shape(b->options.engine, b->options.kv_type);
    b->reply_tok = FIRST_REPLY_TOK;
    b->totals.n_parallel = b->options.n_parallel;
    guess_pace(b);
    b->totals.kv = wtl_session_kv_usage(b->session);
    *out = b;
    return WTL_OK;
}

void wtl_batch_close(wtl_batch **batch) {
    if (!batch || !*batch) return;
    wtl_batch *b = *batch;
    batch_lock(b);
    b->closing = true;
    batch_unlock(b);
    while (b->users) { // every user has a request, running, paused or waiting
        batch_request *r = b->n_running ? b->running[0] : b->paused ? b->paused : b->users->first;
        batch_end_request(b, r, WTL_FINISH_CANCELLED, NULL);
        batch_retire(b, r);
    }
    wtl_session_close(&b->session);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    wtl_free(b->running);
    wtl_free(b->entries);
    wtl_free(b->parts);
    wtl_free(b->energy_ids);
    wtl_free(b);
    *batch = NULL;
}

int32_t wtl_batch_n_ctx(const wtl_batch *batch) { return batch->n_ctx; }

wtl_status wtl_batch_save(wtl_batch *b, const char *path, uint64_t *n_tok, wtl_error *err) { return wtl_session_save(b->session, path, n_tok, err); }
wtl_status wtl_batch_load(wtl_batch *b, const char *path, uint64_t *n_tok, wtl_error *err) { return wtl_session_load(b->session, path, n_tok, err); }

// ---- Submitting ------------------------------------------------------------------------------------------------------------
static wtl_status check_request(const wtl_batch *b, const wtl_batch_request *q, wtl_error *err) {
    if (!q->on_token) return wtl_fail(err, WTL_ERR_INVALID, "a request needs on_token");
    if (!q->tokens || q->n_tokens < 1) return wtl_fail(err, WTL_ERR_INVALID, "the prompt is empty");
    if (q->n_tokens > (size_t)b->n_ctx)
        return wtl_fail(err, WTL_ERR_LIMIT, "the prompt has %zu tokens and the context holds %d", q->n_tokens, b->n_ctx);
    for (size_t i = 0; i < q->n_tokens; i++)
        if (q->tokens[i] < 0 || q->tokens[i] >= b->n_vocab)
            return wtl_fail(err, WTL_ERR_INVALID, "token %d of the prompt is %d, which is not in the vocabulary of %d", (int)i, q->tokens[i], b->n_vocab);
    if (q->max_tokens < 0) return wtl_fail(err, WTL_ERR_INVALID, "max_tokens %d: must be 0 or more", q->max_tokens);
    if (q->n_choices < 0) return wtl_fail(err, WTL_ERR_INVALID, "n_choices %d: must be 0 or more", q->n_choices);
    if (q->n_choices > b->options.n_parallel)
        return wtl_fail(err, WTL_ERR_LIMIT, "%d choices were asked for and %d requests run at once", q->n_choices, b->options.n_parallel);
    if (q->n_top_logprobs < -1 || q->n_top_logprobs > BATCH_TOP_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "n_top_logprobs %d: must be -1 to %d", q->n_top_logprobs, BATCH_TOP_MAX);
    if (q->on_prompt && q->n_top_logprobs < 0) return wtl_fail(err, WTL_ERR_INVALID, "on_prompt needs n_top_logprobs of 0 or more");
    if (!(q->max_uj >= 0)) return wtl_fail(err, WTL_ERR_INVALID, "max_uj %g: must be 0 or more", q->max_uj);
    if (q->max_uj > 0 && !b->options.energy) return wtl_fail(err, WTL_ERR_INVALID, "max_uj %g: this batch counts no joules", q->max_uj);
    wtl_sampler *probe; // the sampler itself says what it does not take; it is opened again when the request starts
    const wtl_status status = wtl_sampler_open(&q->sampling, b->n_vocab, &probe, err);
    wtl_sampler_close(&probe);
    return status;
}

static batch_request *request_copy(const wtl_batch *b, const wtl_batch_request *q) {
    const int32_t n_choices = q->n_choices ? q->n_choices : 1;
    batch_request *r = wtl_calloc(1, sizeof *r + (size_t)n_choices * sizeof r->choices[0]);
    if (!r) return NULL;
    r->ask = *q;
    r->n_prompt = (int32_t)q->n_tokens;
    r->n_choices = r->n_open = n_choices;
    // The last token chosen is never fed: a reply may be one longer than what fits behind the prompt.
    const int32_t room = b->n_ctx - r->n_prompt + 1;
    r->n_reply_max = q->max_tokens > 0 && q->max_tokens < room ? q->max_tokens : room;
    const size_t n_bias = (size_t)q->sampling.n_bias;
    r->tokens = wtl_calloc(q->n_tokens, sizeof *r->tokens);
    if (n_bias) r->bias = wtl_calloc(n_bias, sizeof *r->bias);
    if (!r->tokens || (n_bias && !r->bias)) {
        batch_request_free(r);
        return NULL;
    }
    memcpy(r->tokens, q->tokens, q->n_tokens * sizeof *r->tokens);
    if (n_bias) memcpy(r->bias, q->sampling.bias, n_bias * sizeof *r->bias);
    r->ask.tokens = r->tokens;
    r->ask.sampling.bias = r->bias;
    r->ask.user_key = NULL; // the user has it
    r->facts.n_prompt_tok = r->n_prompt;
    r->facts.arrived_ns = q->arrived_ns ? q->arrived_ns : wtl_clock_ns();
    for (int32_t i = 0; i < n_choices; i++) r->choices[i] = (batch_choice){.request = r, .index = i, .seq = -1};
    r->reader = &r->choices[0];
    r->n_text = r->n_prompt;
    return r;
}

wtl_status wtl_batch_submit(wtl_batch *b, const wtl_batch_request *q, uint64_t *id, wtl_error *err) {
    if (!b || !q || !id) return wtl_fail(err, WTL_ERR_INVALID, "batch, request and id must not be NULL");
    wtl_status status = check_request(b, q, err);
    if (status) return status;
    batch_request *r = request_copy(b, q);
    if (!r) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a request of %zu tokens", q->n_tokens);
    const int64_t n_blocks = batch_blocks(r, r->n_choices);
    if (n_blocks > b->n_blocks) {
        status = wtl_fail(err, WTL_ERR_LIMIT, "%d choices of up to %d tokens behind a prompt of %d need %lld blocks of KV and there are %lld: a smaller max_tokens fits",
                          r->n_choices, r->n_reply_max, r->n_prompt, (long long)n_blocks, (long long)b->n_blocks);
        batch_request_free(r);
        return status;
    }
    batch_lock(b);
    if (b->closing) status = wtl_fail(err, WTL_ERR_CANCELLED, "the batch is closing");
    else if (b->n_waiting >= b->options.n_queue) status = wtl_fail(err, WTL_ERR_BUSY, "%d requests are waiting, and no more may", b->n_waiting);
    else if (!(r->owner = batch_user_get(b, q->user_key ? q->user_key : ""))) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a request");
    if (!status) {
        *id = r->id = ++b->last_id;
        batch_enqueue(b, r);
        pthread_cond_signal(&b->changed);
    }
    batch_unlock(b);
    if (status) batch_request_free(r);
    return status;
}

// ---- From any thread -------------------------------------------------------------------------------------------------------
bool wtl_batch_cancel(wtl_batch *b, uint64_t id) {
    batch_lock(b);
    batch_request *r = batch_find(b, id);
    const bool alive = r && r->n_open > 0;
    if (alive && !r->cancelled) {
        r->cancelled = true;
        b->n_cancelled++;
        pthread_cond_signal(&b->changed);
    }
    batch_unlock(b);
    return alive;
}

bool wtl_batch_facts_of(wtl_batch *b, uint64_t id, wtl_batch_facts *out) {
    batch_lock(b);
    const batch_request *r = batch_find(b, id);
    if (r) *out = r->facts;
    batch_unlock(b);
    return r != NULL;
}

void wtl_batch_wait(wtl_batch *b, uint64_t timeout_ns) {
    const uint64_t now = wtl_clock_ns(), until = timeout_ns < UINT64_MAX / 2 - now ? now + timeout_ns : UINT64_MAX / 2;
    const struct timespec at = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
    batch_lock(b);
    while (!b->n_running && !b->n_waiting && !b->n_cancelled && !b->woken)
        if (pthread_cond_timedwait(&b->changed, &b->mutex, &at) == ETIMEDOUT) break;
    b->woken = false;
    batch_unlock(b);
}

void wtl_batch_wake(wtl_batch *b) {
    batch_lock(b);
    b->woken = true;
    pthread_cond_signal(&b->changed);
    batch_unlock(b);
}

static double per_second(const batch_speed *s) { return s->ns > 0 ? s->n / s->ns * 1e9 : 0; }

wtl_batch_state wtl_batch_state_of(wtl_batch *b, wtl_batch_slot *slots, size_t cap, size_t *n_slots) {
    size_t n = 0;
    batch_lock(b);
    wtl_batch_state out = b->totals;
    out.n_waiting = b->n_waiting;
    out.n_paused = b->n_paused;
    for (int32_t i = 0; i < b->n_running; i++) {
        const batch_request *r = b->running[i];
        out.n_running += !r->gone;
        for (int32_t c = 0; c < r->n_choices && n < cap && slots; c++) {
            const batch_choice *choice = &r->choices[c];
            if (choice->ended || r->gone) continue;
            const int32_t fed = choice->decodes ? r->n_prompt + choice->n_decoded - 1 : r->n_done;
            slots[n++] = (wtl_batch_slot){r->id, choice->index, fed, r->n_prompt, fed < r->n_prompt ? fed : r->n_prompt, choice->n_decoded};
        }
    }
    out.itl_ns = b->itl.n > 0 ? b->itl.ns / b->itl.n : 0;
    out.prefill_tok_per_s = per_second(&b->prompt_speed);
    out.decode_tok_per_s = per_second(&b->reply_speed);
    out.wait_estimate_ns = batch_wait_estimate(b);
    batch_unlock(b);
    if (n_slots) *n_slots = n;
    return out;
}
