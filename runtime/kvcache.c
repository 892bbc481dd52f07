// KV block bookkeeping: reference counts, free lists, copy on write.
//
// Invariants, per group: every block is either on the free list with count 0, or held by as many (sequence, slot) pairs as
// its count says. A sequence holds blocks for slots [first, end) and nothing else; the first end * 16 positions are reserved.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/kvcache.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/alloc.h"

typedef struct kv_pool {
    int32_t window;
    int32_t n_blocks, n_free;
    int32_t *free_list; // [n_blocks], the first n_free entries are free; lowest numbers are handed out first
    int32_t *refs;      // [n_blocks]
} kv_pool;

typedef struct kv_span {
    int32_t first, end; // slots held
    int32_t *blocks;    // [max_slots], entries first..end-1 are valid
} kv_span;

typedef struct kv_seq {
    bool alive;
    int32_t n_tok;
    kv_span span[WTL_KV_GROUPS_MAX];
} kv_seq;

struct kvcache {
    kvcache_options options;
    int32_t max_slots; // blocks of one sequence of n_ctx positions
    kv_pool pool[WTL_KV_GROUPS_MAX];
    kv_seq *seqs;      // [n_seq_max]
    int32_t *storage;  // all int32 arrays in one piece
};

static int32_t slots_for(int32_t n_tok) { return (n_tok + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK; }

int32_t kvcache_group_blocks(const kvcache_options *o, int32_t group) {
    // Each sequence may leave one block half empty; window groups hold the window, the rewind margin and both ragged ends.
    const int64_t all = (int64_t)slots_for(o->n_ctx) + o->n_seq_max - 1;
    if (!o->window[group]) return (int32_t)all;
    const int64_t per_seq = ((int64_t)o->window[group] + KVCACHE_REWIND_TOK) / WTL_KV_BLOCK + 3;
    const int64_t windowed = per_seq * o->n_seq_max + slots_for(o->n_batch);
    return (int32_t)(windowed < all ? windowed : all);
}

wtl_status kvcache_open(const kvcache_options *options, kvcache **out, wtl_error *err) {
    *out = NULL;
    kvcache *c = wtl_calloc(1, sizeof *c);
    if (!c) goto no_memory;
    c->options = *options;
    c->max_slots = slots_for(options->n_ctx);
    size_t words = 0;
    for (int32_t g = 0; g < options->n_groups; g++)
        words += 2 * (size_t)kvcache_group_blocks(options, g) + (size_t)options->n_seq_max * (size_t)c->max_slots;
    c->seqs = wtl_calloc((size_t)options->n_seq_max, sizeof *c->seqs);
    c->storage = wtl_calloc(words, sizeof *c->storage);
    if (!c->seqs || !c->storage) goto no_memory;

    int32_t *next = c->storage;
    for (int32_t g = 0; g < options->n_groups; g++) {
        kv_pool *pool = &c->pool[g];
        pool->window = options->window[g];
        pool->n_blocks = pool->n_free = kvcache_group_blocks(options, g);
        pool->free_list = next;
        next += pool->n_blocks;
        pool->refs = next;
        next += pool->n_blocks;
        for (int32_t b = 0; b < pool->n_blocks; b++) pool->free_list[b] = pool->n_blocks - 1 - b;
        for (int32_t i = 0; i < options->n_seq_max; i++) {
            c->seqs[i].span[g].blocks = next;
            next += c->max_slots;
        }
    }
    *out = c;
    return WTL_OK;
no_memory:
    kvcache_close(&c);
    return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the block tables of %d sequences", options->n_seq_max);
}

void kvcache_close(kvcache **cache) {
    if (!cache || !*cache) return;
    wtl_free((*cache)->seqs);
    wtl_free((*cache)->storage);
    wtl_free(*cache);
    *cache = NULL;
}

static int32_t pool_take(kv_pool *pool) {
    assert(pool->n_free > 0);
    int32_t block = pool->free_list[--pool->n_free];
    assert(pool->refs[block] == 0);
    pool->refs[block] = 1;
    return block;
}

static void pool_drop(kv_pool *pool, int32_t block) {
    assert(pool->refs[block] > 0);
    if (--pool->refs[block] == 0) pool->free_list[pool->n_free++] = block;
}

// Drops the slots of a span outside [first, end). An emptied span starts again at slot `first`.
static void span_trim(kv_pool *pool, kv_span *span, int32_t first, int32_t end) {
    while (span->end > end && span->end > span->first) pool_drop(pool, span->blocks[--span->end]);
    while (span->first < first && span->first < span->end) pool_drop(pool, span->blocks[span->first++]);
    if (span->first == span->end) span->first = span->end = first < end ? first : end;
}

// Oldest position that a query at position n_tok or later can see.
static int32_t oldest_visible(const kv_pool *pool, int32_t n_tok) {
    return pool->window && n_tok >= pool->window ? n_tok - pool->window + 1 : 0;
}

static kv_seq *seq_get(const kvcache *c, int32_t seq) {
    if (seq < 0 || seq >= c->options.n_seq_max || !c->seqs[seq].alive) return NULL;
    return &c->seqs[seq];
}

static wtl_status no_such_seq(wtl_error *err, int32_t seq) {
    return wtl_fail(err, WTL_ERR_INVALID, "there is no sequence %d in this session", seq);
}

// Whether a sequence could go on from n_tok: within its length, and every window still there.
static wtl_status check_resume(const kvcache *c, const kv_seq *s, int32_t seq, int32_t n_tok, wtl_error *err) {
    if (n_tok < 0 || n_tok > s->n_tok)
        return wtl_fail(err, WTL_ERR_INVALID, "sequence %d holds %d tokens; %d were asked for", seq, s->n_tok, n_tok);
    for (int32_t g = 0; g < c->options.n_groups; g++)
        if (n_tok > 0 && s->span[g].first > oldest_visible(&c->pool[g], n_tok) / WTL_KV_BLOCK)
            return wtl_fail(err, WTL_ERR_LIMIT, "sequence %d has %d tokens and its window layers (%d positions) have forgotten what "
                            "position %d looks at", seq, s->n_tok, c->pool[g].window, n_tok);
    return WTL_OK;
}

wtl_status kvcache_seq_open(kvcache *c, int32_t *seq, wtl_error *err) {
    for (int32_t i = 0; i < c->options.n_seq_max; i++) {
        kv_seq *s = &c->seqs[i];
        if (s->alive) continue;
        s->alive = true;
        s->n_tok = 0;
        for (int32_t g = 0; g < c->options.n_groups; g++) s->span[g].first = s->span[g].end = 0;
        *seq = i;
        return WTL_OK;
    }
    return wtl_fail(err, WTL_ERR_LIMIT, "all %d sequences of this session are in use", c->options.n_seq_max);
}

wtl_status kvcache_seq_fork(kvcache *c, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err) {
    const kv_seq *from = seq_get(c, src);
    if (!from) return no_such_seq(err, src);
    wtl_status status = check_resume(c, from, src, n_tok, err);
    int32_t fresh = 0;
    if (!status) status = kvcache_seq_open(c, &fresh, err);
    if (status) return status;
    kv_seq *to = &c->seqs[fresh];
    to->n_tok = n_tok;
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        const int32_t first = from->span[g].first, end = slots_for(n_tok);
        to->span[g].first = first < end ? first : end;
        to->span[g].end = end;
        for (int32_t i = to->span[g].first; i < end; i++) {
            to->span[g].blocks[i] = from->span[g].blocks[i];
            c->pool[g].refs[from->span[g].blocks[i]]++;
        }
    }
    *seq = fresh;
    return WTL_OK;
}

static void seq_cut(kvcache *c, kv_seq *s, int32_t n_tok) {
    s->n_tok = n_tok;
    for (int32_t g = 0; g < c->options.n_groups; g++) span_trim(&c->pool[g], &s->span[g], 0, slots_for(n_tok));
}

wtl_status kvcache_seq_rewind(kvcache *c, int32_t seq, int32_t n_tok, wtl_error *err) {
    kv_seq *s = seq_get(c, seq);
    if (!s) return no_such_seq(err, seq);
    wtl_status status = check_resume(c, s, seq, n_tok, err);
    if (!status) seq_cut(c, s, n_tok);
    return status;
}

void kvcache_seq_close(kvcache *c, int32_t seq) {
    kv_seq *s = seq_get(c, seq);
    if (!s) return;
    seq_cut(c, s, 0);
    s->alive = false;
}

int32_t kvcache_seq_length(const kvcache *c, int32_t seq) {
    const kv_seq *s = seq_get(c, seq);
    return s ? s->n_tok : -1;
}

// The partly filled last block of the sequence when another one holds it too; -1 otherwise.
static int32_t shared_tail(const kv_pool *pool, const kv_seq *s, const kv_span *span) {
    if (s->n_tok % WTL_KV_BLOCK == 0) return -1;
    int32_t block = span->blocks[s->n_tok / WTL_KV_BLOCK];
    return pool->refs[block] > 1 ? block : -1;
}

wtl_status kvcache_reserve(kvcache *c, int32_t seq, int32_t n_new, kvcache_copy copies[WTL_KV_GROUPS_MAX], int32_t *n_copies,
                           wtl_error *err) {
    kv_seq *s = seq_get(c, seq);
    if (!s) return no_such_seq(err, seq);
    if (n_new < 1 || n_new > c->options.n_ctx - s->n_tok)
        return wtl_fail(err, WTL_ERR_LIMIT, "sequence %d holds %d tokens; %d more do not fit a context of %d", seq, s->n_tok, n_new,
                        c->options.n_ctx);
    const int32_t end = slots_for(s->n_tok + n_new);
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        const kv_pool *pool = &c->pool[g];
        int32_t need = end - s->span[g].end + (shared_tail(pool, s, &s->span[g]) >= 0);
        if (need > pool->n_free)
            return wtl_fail(err, WTL_ERR_KV_FULL, "the KV cache is full: sequence %d needs %d more blocks of %d positions, %d are free", seq,
                            need, WTL_KV_BLOCK, pool->n_free);
    }
    *n_copies = 0;
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        kv_pool *pool = &c->pool[g];
        kv_span *span = &s->span[g];
        const int32_t shared = shared_tail(pool, s, span);
        if (shared >= 0) {
            const int32_t own = pool_take(pool);
            copies[(*n_copies)++] = (kvcache_copy){g, shared, own};
            pool_drop(pool, shared);
            span->blocks[s->n_tok / WTL_KV_BLOCK] = own;
        }
        while (span->end < end) span->blocks[span->end++] = pool_take(pool);
    }
    return WTL_OK;
}

void kvcache_commit(kvcache *c, int32_t seq, int32_t n_new) {
    kv_seq *s = seq_get(c, seq);
    assert(s && s->n_tok + n_new <= s->span[0].end * WTL_KV_BLOCK);
    s->n_tok += n_new;
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        kv_pool *pool = &c->pool[g];
        if (!pool->window) continue;
        const int32_t keep_from = s->n_tok > KVCACHE_REWIND_TOK ? oldest_visible(pool, s->n_tok - KVCACHE_REWIND_TOK) : 0;
        span_trim(pool, &s->span[g], keep_from / WTL_KV_BLOCK, s->span[g].end);
    }
}

void kvcache_cancel(kvcache *c, int32_t seq) {
    kv_seq *s = seq_get(c, seq);
    if (s) seq_cut(c, s, s->n_tok);
}

void kvcache_table(const kvcache *c, int32_t seq, int32_t group, int32_t n_positions, int32_t *table) {
    const kv_seq *s = seq_get(c, seq);
    assert(s);
    const kv_span *span = &s->span[group];
    for (int32_t i = 0; i < slots_for(n_positions); i++) table[i] = i >= span->first && i < span->end ? span->blocks[i] : -1;
}

int32_t kvcache_free_blocks(const kvcache *c, int32_t group) { return c->pool[group].n_free; }
