// A session: KV memory, scratch, the sequences, and the step that moves them forward.
//
// All memory is taken at opening; a step allocates nothing. A step checks everything first, then reserves KV blocks, then runs,
// then commits: whatever fails before the commit leaves every sequence as it was.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"
#include "runtime/base/clock.h"
#include "runtime/session.h"

enum {
    DEFAULT_CTX = 8192,
    DEFAULT_BATCH = 512,
    CTX_MAX = 1 << 30, // positions and their sums with a batch stay inside int32_t
    BATCH_MAX = 1 << 16,
    SEQ_MAX = 1 << 12,
    THREADS_MAX = 1024,
    DECODE_ROWS_MAX = 4, // up to so many rows a step waits for memory, not for arithmetic
    BLOCKS_MAX = 1 << 30, // for prefixes; with those for CTX_MAX still inside int32_t
};

// ---- Plan -----------------------------------------------------------------------------------------------------------

static wtl_status check_options(const wtl_session_options *o, int32_t n_ctx_train, wtl_error *err) {
    if (o->n_ctx < 1 || o->n_ctx > CTX_MAX || o->n_seq_max < 1 || o->n_seq_max > SEQ_MAX || o->n_batch < 1 || o->n_batch > BATCH_MAX ||
        o->n_threads < 0 || o->n_threads > THREADS_MAX || o->n_logits_max < 1 || o->n_logits_max > o->n_batch || !engine_kv_type_exists(o->kv_type))
        return wtl_fail(err, WTL_ERR_INVALID,
                        "session options out of range: n_ctx %d (1 to %d), n_seq_max %d (1 to %d), n_batch %d (1 to %d), n_logits_max %d "
                        "(1 to n_batch), n_threads %d (0 to %d), kv_type %d",
                        o->n_ctx, CTX_MAX, o->n_seq_max, SEQ_MAX, o->n_batch, BATCH_MAX, o->n_logits_max, o->n_threads, THREADS_MAX, (int)o->kv_type);
    // Several sequences share n_ctx, so only the share of one is held against what the model was trained for.
    if ((int64_t)o->n_ctx > (int64_t)n_ctx_train * o->n_seq_max)
        return wtl_fail(err, WTL_ERR_LIMIT, "a context of %d tokens was asked for, but the model was trained for %d", o->n_ctx, n_ctx_train);
    return WTL_OK;
}

static void fill_defaults(wtl_session_options *o, int32_t n_ctx_train) {
    if (!o->n_seq_max) o->n_seq_max = 1;
    if (!o->n_ctx) o->n_ctx = n_ctx_train < DEFAULT_CTX ? n_ctx_train : DEFAULT_CTX;
    if (!o->n_batch) o->n_batch = DEFAULT_BATCH;
    if (!o->n_logits_max) o->n_logits_max = o->n_seq_max < o->n_batch ? o->n_seq_max : o->n_batch;
}

static int32_t max_int(int32_t a, int32_t b) { return a > b ? a : b; }

// Block sizes, and how many blocks beyond the needed ones cache_bytes are. False when that is too much to count.
static bool plan_blocks(const wtl_model *m, session_plan *p) {
    size_t all_groups = 0;
    for (int32_t g = 0; g < m->n_kv_groups; g++) {
        p->kv.window[g] = m->kv_group[g].window;
        if (!wtl_mul_size(p->kv_layer_bytes, (size_t)m->kv_group[g].n_layers, &p->block_bytes[g]) ||
            !wtl_add_size(all_groups, p->block_bytes[g], &all_groups))
            return false;
    }
    p->kv.keep_prefixes = p->o.keep_prefixes;
    if (!p->o.keep_prefixes || !all_groups) return true;
    const uint64_t n_extra = p->o.cache_bytes / all_groups;
    p->kv.n_extra_blocks = (int32_t)n_extra;
    return n_extra <= BLOCKS_MAX;
}

static wtl_status plan_session(const wtl_engine *engine, const wtl_session_options *options, session_plan *p, wtl_error *err) {
    const wtl_model *m = engine->model;
    const wtl_model_config *c = &m->config;
    memset(p, 0, sizeof *p);
    if (options) p->o = *options;
    fill_defaults(&p->o, c->n_ctx_train);
    wtl_status status = check_options(&p->o, c->n_ctx_train, err);
    if (status) return status;

    p->kv_shape = engine_kv_shape(engine, p->o.kv_type);
    p->kv_layer_bytes = engine->be->ops->kv_layer_bytes(&p->kv_shape);
    p->work = engine_work_shape(engine, p->o.kv_type);
    p->kv = (kvcache_options){.n_groups = m->n_kv_groups, .n_ctx = p->o.n_ctx, .n_seq_max = p->o.n_seq_max, .n_batch = p->o.n_batch};
    p->max_slots = (p->o.n_ctx + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
    bool fits = model_acts_layout(c, p->o.n_batch, p->o.n_logits_max, NULL, NULL, &p->acts_bytes) && plan_blocks(m, p);
    p->index_words = 3 * (size_t)p->o.n_batch + (size_t)p->o.n_logits_max;
    for (int32_t g = 0; g < m->n_kv_groups; g++) {
        size_t table_words;
        fits = fits && wtl_mul_size(p->block_bytes[g], (size_t)kvcache_group_blocks(&p->kv, g), &p->pool_bytes[g]) &&
               wtl_mul_size((size_t)p->o.n_seq_max, (size_t)p->max_slots, &table_words) &&
               wtl_add_size(p->index_words, table_words, &p->index_words);
    }
    const size_t n_copied = engine->be->ops->host_reads ? 0 : (size_t)p->o.n_logits_max;
    fits = fits && wtl_mul_size(n_copied, (size_t)c->n_vocab, &p->logits_bytes) &&
           wtl_mul_size(p->logits_bytes, sizeof(float), &p->logits_bytes) && p->index_words <= SIZE_MAX / sizeof(int32_t);
    if (!fits) return wtl_fail(err, WTL_ERR_LIMIT, "a session of %d tokens and %d sequences is too large", p->o.n_ctx, p->o.n_seq_max);
    p->limits = (wtl_stream_limits){
        .max_rows = p->o.n_batch,
        .max_cols = max_int(max_int(c->n_embd, c->n_ff), c->n_heads * c->head_dim),
        .max_heads = c->n_heads,
        .max_head_dim = c->head_dim,
        .max_kv_len = p->o.n_ctx,
        .max_head_rows = c->n_vocab,
    };
    return WTL_OK;
}

wtl_status wtl_session_memory(const wtl_engine *engine, const wtl_session_options *options, wtl_memory *out, wtl_error *err) {
    session_plan plan;
    wtl_status status = plan_session(engine, options, &plan, err);
    if (status) return status;
    *out = (wtl_memory){.weights_bytes = engine->model->weight_bytes,
                        .kv_bytes = plan.pool_bytes[0] + plan.pool_bytes[1],
                        .scratch_bytes = plan.acts_bytes + plan.logits_bytes + 2 * plan.index_words * sizeof(int32_t) +
                                         engine->be->ops->stream_bytes(engine->be, &plan.limits)};
    return WTL_OK;
}

// ---- Opening and closing --------------------------------------------------------------------------------------------

static step_index index_layout(const session_plan *p, int32_t *base) {
    step_index x = {0};
    x.tokens = base;
    x.positions = x.tokens + p->o.n_batch;
    x.seqs = x.positions + p->o.n_batch;
    x.out_rows = x.seqs + p->o.n_batch;
    int32_t *next = x.out_rows + p->o.n_logits_max;
    for (int32_t g = 0; g < p->kv.n_groups; g++) {
        x.table[g] = next;
        next += (size_t)p->o.n_seq_max * (size_t)p->max_slots;
    }
    return x;
}

static wtl_status take_backend_memory(wtl_session *s, wtl_error *err) {
    wtl_backend *be = s->engine->be;
    const session_plan *p = &s->plan;
    wtl_status status = be->ops->stream_open(be, &p->limits, &s->stream, err);
    for (int32_t g = 0; !status && g < p->kv.n_groups; g++)
        if (p->pool_bytes[g]) status = be->ops->alloc(be, p->pool_bytes[g], &s->pool[g], err);
    if (!status) status = be->ops->alloc(be, p->acts_bytes, &s->acts_memory, err);
    if (!status) status = be->ops->alloc(be, p->index_words * sizeof(int32_t), (void **)&s->index_memory, err);
    return status;
}

wtl_status wtl_session_open(const wtl_engine *engine, const wtl_session_options *options, wtl_session **out, wtl_error *err) {
    *out = NULL;
    wtl_session *s = wtl_calloc(1, sizeof *s);
    if (!s) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a session");
    s->engine = engine;
    wtl_status status = plan_session(engine, options, &s->plan, err);
    const session_plan *p = &s->plan;
    if (!status) status = kvcache_open(&p->kv, &s->kv, err);
    if (!status) status = take_backend_memory(s, err);
    if (status) goto fail;
    if (p->o.profile && !(s->profile = op_profile_open(s->stream, engine->model, p->kv_shape.dtype))) {
        status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the profile of a session");
        goto fail;
    }

    s->index_host = wtl_malloc(p->index_words * sizeof(int32_t));
    if (p->logits_bytes) s->logits = wtl_pages_alloc(p->logits_bytes);
    s->seq_work = wtl_calloc((size_t)p->o.n_seq_max, sizeof *s->seq_work);
    s->seen = wtl_calloc((size_t)p->o.n_seq_max, sizeof *s->seen);
    s->chunk = wtl_calloc((size_t)p->o.n_batch, sizeof *s->chunk);
    if (!s->index_host || (p->logits_bytes && !s->logits) || !s->seq_work || !s->seen || !s->chunk) {
        status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a session of %d tokens", p->o.n_ctx);
        goto fail;
    }
    s->index = index_layout(p, s->index_memory);
    s->host = index_layout(p, s->index_host);
    size_t bytes;
    model_acts_layout(&engine->model->config, p->o.n_batch, p->o.n_logits_max, s->acts_memory, &s->acts, &bytes);
    *out = s;
    return WTL_OK;
fail:
    wtl_session_close(&s);
    return status;
}

void wtl_session_close(wtl_session **session) {
    if (!session || !*session) return;
    wtl_session *s = *session;
    wtl_backend *be = s->engine->be;
    be->ops->stream_close(s->stream);
    op_profile_close(s->profile);
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++) be->ops->free(be, s->pool[g], s->plan.pool_bytes[g]);
    be->ops->free(be, s->acts_memory, s->plan.acts_bytes);
    be->ops->free(be, s->index_memory, s->plan.index_words * sizeof(int32_t));
    kvcache_close(&s->kv);
    wtl_free(s->index_host);
    wtl_pages_free(s->logits, s->plan.logits_bytes);
    wtl_free(s->seq_work);
    wtl_free(s->seen);
    wtl_free(s->chunk);
    wtl_free(s);
    *session = NULL;
}

int32_t wtl_session_n_ctx(const wtl_session *session) { return session->plan.o.n_ctx; }

wtl_status wtl_seq_open(wtl_session *s, int32_t *seq, wtl_error *err) { return kvcache_seq_open(s->kv, seq, err); }

wtl_status wtl_seq_fork(wtl_session *s, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err) {
    return kvcache_seq_fork(s->kv, src, n_tok, seq, err);
}

wtl_status wtl_seq_rewind(wtl_session *s, int32_t seq, int32_t n_tok, wtl_error *err) {
    return kvcache_seq_rewind(s->kv, seq, n_tok, err);
}

wtl_status wtl_seq_forget(wtl_session *s, int32_t seq, int32_t n_tok, wtl_error *err) {
    return kvcache_seq_forget(s->kv, seq, n_tok, err);
}

void wtl_seq_close(wtl_session *s, int32_t seq) { kvcache_seq_close(s->kv, seq); }

int32_t wtl_seq_length(const wtl_session *s, int32_t seq) { return kvcache_seq_length(s->kv, seq); }

wtl_status wtl_seq_open_prefix(wtl_session *s, const int32_t *tokens, size_t n, int32_t *seq, int32_t *n_cached, wtl_error *err) {
    return kvcache_seq_open_prefix(s->kv, tokens, n, seq, n_cached, err);
}

int32_t wtl_session_find_prefix(const wtl_session *s, const int32_t *tokens, size_t n) { return kvcache_find_prefix(s->kv, tokens, n); }

wtl_kv_usage wtl_session_kv_usage(const wtl_session *s) {
    wtl_kv_usage sum = {0};
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++) {
        const kvcache_usage u = kvcache_group_usage(s->kv, g);
        sum.n_used += (uint64_t)u.n_used;
        sum.n_cached += (uint64_t)u.n_cached;
        sum.n_free += (uint64_t)u.n_free;
        sum.evicted += u.n_evicted;
        sum.bytes += s->plan.pool_bytes[g];
    }
    return sum;
}

// ---- A step ---------------------------------------------------------------------------------------------------------

// Checks the entries and writes one seq_work per sequence, in the order of the entries. Counts rows with logits.
static wtl_status check_entries(wtl_session *s, const wtl_entry *entries, int32_t n, wtl_error *err) {
    const int32_t n_vocab = s->engine->model->config.n_vocab, n_ctx_train = s->engine->model->config.n_ctx_train;
    wtl_step_work *w = &s->work;
    *w = (wtl_step_work){.n_rows = n, .seqs = s->seq_work};
    if (n < 1 || n > s->plan.o.n_batch)
        return wtl_fail(err, n < 1 ? WTL_ERR_INVALID : WTL_ERR_LIMIT, "a step of %d entries; allowed are 1 to %d", n, s->plan.o.n_batch);
    memset(s->seen, 0, (size_t)s->plan.o.n_seq_max * sizeof *s->seen);
    for (int32_t i = 0; i < n; i++) {
        const wtl_entry *e = &entries[i];
        const int32_t past = kvcache_seq_length(s->kv, e->seq);
        if (past < 0) return wtl_fail(err, WTL_ERR_INVALID, "entry %d: there is no sequence %d", i, e->seq);
        if (e->token < 0 || e->token >= n_vocab)
            return wtl_fail(err, WTL_ERR_INVALID, "entry %d: token %d is not in the vocabulary of %d", i, e->token, n_vocab);
        if (i == 0 || entries[i - 1].seq != e->seq) {
            if (s->seen[e->seq]) return wtl_fail(err, WTL_ERR_INVALID, "entry %d: the entries of sequence %d are not adjacent", i, e->seq);
            s->seen[e->seq] = true;
            s->seq_work[w->n_seqs++] = (wtl_seq_work){.seq = e->seq, .n_past_tok = past};
        }
        wtl_seq_work *q = &s->seq_work[w->n_seqs - 1];
        if (++q->n_new_tok > n_ctx_train - q->n_past_tok)
            return wtl_fail(err, WTL_ERR_LIMIT, "entry %d: sequence %d would pass the %d tokens that the model was trained for", i, e->seq, n_ctx_train);
        if (e->n_top < 0) return wtl_fail(err, WTL_ERR_INVALID, "entry %d: n_top is %d", i, e->n_top);
        w->n_logits += e->want_logits;
        q->n_logits += e->want_logits;
    }
    if (w->n_logits > s->plan.o.n_logits_max)
        return wtl_fail(err, WTL_ERR_LIMIT, "a step with logits of %d entries; n_logits_max is %d", w->n_logits, s->plan.o.n_logits_max);
    return WTL_OK;
}

// Threads of the step: by what it waits for.
static int32_t step_threads(const wtl_session *s) {
    const wtl_step_work *w = &s->work;
    if (s->plan.o.n_threads) return s->plan.o.n_threads;
    return w->n_rows <= DECODE_ROWS_MAX ? s->engine->n_threads_decode : s->engine->be->n_threads;
}

static void cancel_reserved(wtl_session *s, int32_t n_seqs) {
    for (int32_t i = 0; i < n_seqs; i++) kvcache_cancel(s->kv, s->seq_work[i].seq);
}

// Reserves KV blocks for every sequence of the step and copies shared ones that will be written.
static wtl_status reserve_blocks(wtl_session *s, wtl_error *err) {
    for (int32_t i = 0; i < s->work.n_seqs; i++) {
        kvcache_copy copies[WTL_KV_GROUPS_MAX];
        int32_t n_copies;
        wtl_status status = kvcache_reserve(s->kv, s->seq_work[i].seq, s->seq_work[i].n_new_tok, copies, &n_copies, err);
        if (status) {
            cancel_reserved(s, i);
            return status;
        }
        for (int32_t j = 0; j < n_copies; j++) {
            const size_t bytes = s->plan.block_bytes[copies[j].group];
            uint8_t *pool = s->pool[copies[j].group];
            s->stream->ops->copy(s->stream, pool + (size_t)copies[j].dst * bytes, pool + (size_t)copies[j].src * bytes, bytes);
        }
    }
    return WTL_OK;
}

// Writes tokens, positions and block tables for the step and uploads them.
static void upload_index(wtl_session *s, const wtl_entry *entries, int32_t *kv_len_max) {
    const step_index *h = &s->host;
    int32_t row = 0, n_out = 0;
    *kv_len_max = 0;
    for (int32_t i = 0; i < s->work.n_seqs; i++) {
        const wtl_seq_work *q = &s->seq_work[i];
        for (int32_t j = 0; j < q->n_new_tok; j++, row++) {
            h->tokens[row] = entries[row].token;
            h->positions[row] = q->n_past_tok + j;
            h->seqs[row] = i;
            if (entries[row].want_logits) h->out_rows[n_out++] = row;
        }
        const int32_t length = q->n_past_tok + q->n_new_tok;
        *kv_len_max = max_int(*kv_len_max, length);
        for (int32_t g = 0; g < s->plan.kv.n_groups; g++)
            kvcache_table(s->kv, q->seq, g, length, h->table[g] + (size_t)i * (size_t)s->plan.max_slots);
    }
    const wtl_backend_ops *ops = s->stream->ops;
    const size_t row_bytes = (size_t)row * sizeof(int32_t);
    ops->upload(s->stream, s->index.tokens, h->tokens, row_bytes);
    ops->upload(s->stream, s->index.positions, h->positions, row_bytes);
    ops->upload(s->stream, s->index.seqs, h->seqs, row_bytes);
    ops->upload(s->stream, s->index.out_rows, h->out_rows, (size_t)n_out * sizeof(int32_t));
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++)
        for (int32_t i = 0; i < s->work.n_seqs; i++) {
            const size_t start = (size_t)i * (size_t)s->plan.max_slots;
            const int32_t length = s->seq_work[i].n_past_tok + s->seq_work[i].n_new_tok;
            const size_t slots = (size_t)(length + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
            ops->upload(s->stream, s->index.table[g] + start, h->table[g] + start, slots * sizeof(int32_t));
        }
}

// How many of the largest logits all entries can do with; 0: some entry wants all.
static int32_t common_top(const wtl_session *s, const wtl_entry *entries) {
    int32_t n_top = 0;
    for (int32_t i = 0; i < s->work.n_rows; i++) {
        if (!entries[i].want_logits) continue;
        if (!entries[i].n_top) return 0;
        n_top = max_int(n_top, entries[i].n_top);
    }
    return s->plan.o.all_logits ? 0 : n_top;
}

static wtl_status run_forward(wtl_session *s, const wtl_entry *entries, int32_t kv_len_max, wtl_error *err) {
    const wtl_model *m = s->engine->model;
    const session_plan *p = &s->plan;
    wtl_step step = {
        .rows = {s->work.n_rows, s->work.n_seqs, kv_len_max, s->index.positions, s->index.seqs},
        .tokens = s->index.tokens,
        .out_rows = s->index.out_rows,
        .n_logits = s->work.n_logits,
        .n_top = common_top(s, entries),
        .kv_layer_bytes = p->kv_layer_bytes,
        .acts = s->acts,
    };
    for (int32_t g = 0; g < p->kv.n_groups; g++)
        step.kv[g] = (wtl_kv){p->kv_shape, s->pool[g], p->block_bytes[g], 0, s->index.table[g], p->max_slots};
    s->stream->ops->set_threads(s->stream, step_threads(s));
    s->stream->head_bytes = 0;
    model_forward(m, s->stream, &step);
    if (s->work.n_logits && s->logits)
        s->stream->ops->download(s->stream, s->logits, s->acts.logits.data,
                                 (size_t)s->work.n_logits * (size_t)m->config.n_vocab * sizeof(float));
    const wtl_status status = s->stream->ops->sync(s->stream, err);
    s->head_saved_bytes = step.n_top ? (int64_t)m->head_bytes - (int64_t)s->stream->head_bytes : 0;
    return status;
}

// Fills the step's account from what it ran.
static void count_work(wtl_session *s) {
    wtl_step_work *w = &s->work;
    bool one_token = false, more_tokens = false;
    for (int32_t i = 0; i < w->n_seqs; i++) {
        wtl_seq_work *q = &s->seq_work[i];
        *(q->n_new_tok == 1 ? &one_token : &more_tokens) = true;
        work_count_seq(&s->plan.work, q);
        w->kv_read_bytes += q->kv_read_bytes;
        w->kv_written_bytes += q->kv_written_bytes;
        w->kv_positions += q->kv_positions;
        w->macs += q->macs;
    }
    w->phase = one_token && more_tokens ? WTL_PHASE_MIXED : one_token ? WTL_PHASE_DECODE : WTL_PHASE_PREFILL;
    w->weight_bytes = (uint64_t)((int64_t)work_weight_bytes(&s->plan.work, w->n_logits) - s->head_saved_bytes);
}

wtl_status wtl_session_step(wtl_session *s, const wtl_entry *entries, int32_t n, wtl_error *err) {
    wtl_status status = check_entries(s, entries, n, err);
    s->work.start_ns = wtl_clock_ns(); // copying shared blocks is part of the step
    if (!status) status = reserve_blocks(s, err);
    if (status) {
        s->work = (wtl_step_work){.seqs = s->seq_work};
        return status;
    }
    int32_t kv_len_max;
    upload_index(s, entries, &kv_len_max);
    status = run_forward(s, entries, kv_len_max, err);
    s->work.end_ns = wtl_clock_ns();
    if (status) {
        cancel_reserved(s, s->work.n_seqs);
        s->work = (wtl_step_work){.seqs = s->seq_work};
        return status;
    }
    const int32_t *tokens = s->host.tokens;
    for (int32_t i = 0; i < s->work.n_seqs; tokens += s->seq_work[i++].n_new_tok)
        kvcache_commit(s->kv, s->seq_work[i].seq, tokens, s->seq_work[i].n_new_tok);
    count_work(s);
    if (s->profile) op_profile_step(s->profile, &s->work);
    return WTL_OK;
}

const float *wtl_session_logits(const wtl_session *s, int32_t i) {
    if (i < 0 || i >= s->work.n_logits) return NULL;
    const wtl_mat *made = &s->acts.logits;
    return s->logits ? s->logits + (size_t)i * (size_t)made->cols : made->data + (size_t)i * (size_t)made->stride;
}

wtl_step_work wtl_session_work(const wtl_session *s) { return s->work; }

wtl_status wtl_session_prefill(wtl_session *s, int32_t seq, const int32_t *tokens, size_t n, wtl_step_callback on_step, void *user,
                               wtl_error *err) {
    const int32_t past = kvcache_seq_length(s->kv, seq);
    if (past < 0) return wtl_fail(err, WTL_ERR_INVALID, "there is no sequence %d in this session", seq);
    if (n < 1) return wtl_fail(err, WTL_ERR_INVALID, "there are no tokens to prefill");
    if (n > (size_t)(s->plan.o.n_ctx - past))
        return wtl_fail(err, WTL_ERR_LIMIT, "%zu tokens behind %d do not fit a context of %d", n, past, s->plan.o.n_ctx);
    for (size_t done = 0; done < n;) {
        const size_t left = n - done, size = left < (size_t)s->plan.o.n_batch ? left : (size_t)s->plan.o.n_batch;
        for (size_t i = 0; i < size; i++) s->chunk[i] = (wtl_entry){.token = tokens[done + i], .seq = seq, .want_logits = done + i + 1 == n};
        wtl_status status = wtl_session_step(s, s->chunk, (int32_t)size, err);
        if (status) return status;
        done += size;
        if (on_step && !on_step(user, &s->work) && done < n)
            return wtl_fail(err, WTL_ERR_CANCELLED, "stopped after %zu of %zu prompt tokens", done, n);
    }
    return WTL_OK;
}
