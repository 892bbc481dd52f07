// KV block bookkeeping: pools, sequences, copy on write. The prefix tree is in kvcache_tree.c, what both rely on in kvcache_private.h.
//
// A sequence holds blocks for slots [first, end) of each group and nothing else; the first end * 16 positions are reserved.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/kvcache_private.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

int32_t kvcache_group_blocks(const kvcache_options *o, int32_t group) {
    // Each sequence may leave one block half empty; window groups hold the window, the rewind margin and both ragged ends.
    const int64_t all = (int64_t)slots_for(o->n_ctx) + o->n_seq_max - 1;
    if (!o->window[group]) return (int32_t)all + o->n_extra_blocks;
    const int64_t per_seq = ((int64_t)o->window[group] + KVCACHE_REWIND_TOK) / WTL_KV_BLOCK + 3;
    const int64_t windowed = per_seq * o->n_seq_max + slots_for(o->n_batch);
    return (int32_t)(windowed < all ? windowed : all) + o->n_extra_blocks;
}

// ---- Opening and closing ------------------------------------------------------------------------------------------------

static int32_t *take_words(int32_t **next, int32_t n) {
    int32_t *words = *next;
    *next += n;
    return words;
}

static void pool_open(kvcache *c, int32_t group, int32_t **next) {
    kv_pool *pool = &c->pool[group];
    const int32_t n = kvcache_group_blocks(&c->options, group);
    *pool = (kv_pool){.window = c->options.window[group], .n_blocks = n, .n_free = n, .oldest = -1, .newest = -1};
    pool->free_list = take_words(next, n);
    pool->refs = take_words(next, n);
    for (int32_t b = 0; b < n; b++) pool->free_list[b] = n - 1 - b;
    if (c->options.keep_prefixes) {
        pool->owner = take_words(next, n);
        pool->older = take_words(next, n);
        pool->newer = take_words(next, n);
        for (int32_t b = 0; b < n; b++) pool->owner[b] = -1;
    }
    for (int32_t i = 0; i < c->options.n_seq_max; i++) c->seqs[i].span[group].blocks = take_words(next, c->max_slots);
}

static wtl_status tree_open(kvcache *c, wtl_error *err) {
    c->root = c->pool[0].n_blocks;
    for (c->bucket_mask = 1; c->bucket_mask < (uint32_t)c->root; c->bucket_mask = c->bucket_mask * 2 + 1) {}
    c->nodes = wtl_calloc((size_t)c->root + 1, sizeof *c->nodes);
    c->buckets = wtl_malloc(((size_t)c->bucket_mask + 1) * sizeof *c->buckets);
    c->path = wtl_malloc((size_t)c->max_slots * sizeof *c->path);
    if (!c->nodes || !c->buckets || !c->path)
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the prefix tree of %d KV blocks", c->root);
    for (uint32_t i = 0; i <= c->bucket_mask; i++) c->buckets[i] = -1;
    c->nodes[c->root] = (kv_node){.hash = 1, .parent = -1, .first_child = -1, .next_sibling = -1, .prev_sibling = -1, .next_in_bucket = -1};
    return WTL_OK;
}

wtl_status kvcache_open(const kvcache_options *options, kvcache **out, wtl_error *err) {
    *out = NULL;
    kvcache *c = wtl_calloc(1, sizeof *c);
    if (!c) goto no_memory;
    c->options = *options;
    c->max_slots = slots_for(options->n_ctx);
    size_t words = 0;
    for (int32_t g = 0; g < options->n_groups; g++)
        words += (options->keep_prefixes ? 5 : 2) * (size_t)kvcache_group_blocks(options, g) +
                 (size_t)options->n_seq_max * (size_t)c->max_slots;
    c->seqs = wtl_calloc((size_t)options->n_seq_max, sizeof *c->seqs);
    c->storage = wtl_calloc(words, sizeof *c->storage);
    if (!c->seqs || !c->storage) goto no_memory;
    int32_t *next = c->storage;
    for (int32_t g = 0; g < options->n_groups; g++) pool_open(c, g, &next);
    if (options->keep_prefixes) {
        wtl_status status = tree_open(c, err);
        if (status) {
            kvcache_close(&c);
            return status;
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
    wtl_free((*cache)->nodes);
    wtl_free((*cache)->buckets);
    wtl_free((*cache)->path);
    wtl_free(*cache);
    *cache = NULL;
}

// ---- Pools --------------------------------------------------------------------------------------------------------------

static void list_append(kv_pool *pool, int32_t block) {
    pool->older[block] = pool->newest;
    pool->newer[block] = -1;
    *(pool->newest >= 0 ? &pool->newer[pool->newest] : &pool->oldest) = block;
    pool->newest = block;
    pool->n_cached++;
}

static void list_remove(kv_pool *pool, int32_t block) {
    const int32_t older = pool->older[block], newer = pool->newer[block];
    *(older >= 0 ? &pool->newer[older] : &pool->oldest) = newer;
    *(newer >= 0 ? &pool->older[newer] : &pool->newest) = older;
    pool->n_cached--;
}

void pool_disown(kv_pool *pool, int32_t block) {
    pool->owner[block] = -1;
    if (pool->refs[block]) return;
    list_remove(pool, block);
    pool->free_list[pool->n_free++] = block;
}

// The oldest cached block becomes free. In group 0 it is a leaf, and its node goes with what other groups have of it.
static void evict_oldest(kvcache *c, int32_t group) {
    kv_pool *pool = &c->pool[group];
    const int32_t block = pool->oldest, node = pool->owner[block];
    assert(pool->refs[block] == 0);
    pool->n_evicted++;
    for (int32_t g = 1; group == 0 && g < c->options.n_groups; g++) c->pool[g].n_evicted += c->nodes[node].block[g] >= 0;
    tree_disown(c, group, block);
}

int32_t pool_take(kvcache *c, int32_t group) {
    kv_pool *pool = &c->pool[group];
    if (!pool->n_free && pool->n_cached) evict_oldest(c, group);
    assert(pool->n_free > 0);
    int32_t block = pool->free_list[--pool->n_free];
    assert(pool->refs[block] == 0);
    pool->refs[block] = 1;
    return block;
}

void pool_hold(kv_pool *pool, int32_t block) {
    assert(pool->refs[block] > 0 || pool->owner[block] >= 0);
    if (pool->refs[block]++ == 0) list_remove(pool, block);
}

void pool_drop(kv_pool *pool, int32_t block) {
    assert(pool->refs[block] > 0);
    if (--pool->refs[block]) return;
    if (pool->owner && pool->owner[block] >= 0) list_append(pool, block);
    else pool->free_list[pool->n_free++] = block;
}

// ---- Sequences ----------------------------------------------------------------------------------------------------------

// Drops the slots of a span outside [first, end). An emptied span starts again at slot `first`.
static void span_trim(kv_pool *pool, kv_span *span, int32_t first, int32_t end) {
    while (span->end > end && span->end > span->first) pool_drop(pool, span->blocks[--span->end]);
    while (span->first < first && span->first < span->end) pool_drop(pool, span->blocks[span->first++]);
    if (span->first == span->end) span->first = span->end = first < end ? first : end;
}

static kv_seq *seq_get(const kvcache *c, int32_t seq) {
    if (seq < 0 || seq >= c->options.n_seq_max || !c->seqs[seq].alive) return NULL;
    return &c->seqs[seq];
}

static wtl_status no_such_seq(wtl_error *err, int32_t seq) {
    return wtl_fail(err, WTL_ERR_INVALID, "there is no sequence %d in this session", seq);
}

// The group's block of a slot of the sequence: held, or let go of and still the tree's; else -1.
static int32_t block_of_slot(const kvcache *c, const kv_seq *s, int32_t group, int32_t slot) {
    const kv_span *span = &s->span[group];
    if (slot >= span->first && slot < span->end) return span->blocks[slot];
    return c->options.keep_prefixes ? c->nodes[s->span[0].blocks[slot]].block[group] : -1;
}

// Whether a sequence could go on from n_tok: within its length, and every window still there.
static wtl_status check_resume(const kvcache *c, const kv_seq *s, int32_t seq, int32_t n_tok, wtl_error *err) {
    if (n_tok < 0 || n_tok > s->n_tok)
        return wtl_fail(err, WTL_ERR_INVALID, "sequence %d holds %d tokens; %d were asked for", seq, s->n_tok, n_tok);
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        int32_t slot = c->pool[g].window ? slots_for(n_tok) : 0;
        while (--slot >= oldest_visible(&c->pool[g], n_tok) / WTL_KV_BLOCK)
            if (block_of_slot(c, s, g, slot) < 0)
                return wtl_fail(err, WTL_ERR_LIMIT, "sequence %d has %d tokens and its window layers (%d positions) have forgotten what "
                                "position %d looks at", seq, s->n_tok, c->pool[g].window, n_tok);
    }
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

// First slot to hold in order to go on from n_tok: what is held anyway, or what the window needs when that lies before.
static int32_t resume_first(const kvcache *c, const kv_seq *s, int32_t group, int32_t n_tok) {
    const int32_t need = oldest_visible(&c->pool[group], n_tok) / WTL_KV_BLOCK, end = slots_for(n_tok);
    const int32_t first = s->span[group].first < need ? s->span[group].first : need;
    return first < end ? first : end;
}

// Tokens of the partly filled block that a sequence of n_tok tokens of `from` ends in.
static void copy_tail(const kvcache *c, const kv_seq *from, int32_t n_tok, int32_t tail[WTL_KV_BLOCK]) {
    const int32_t slot = n_tok / WTL_KV_BLOCK, n_tail = n_tok % WTL_KV_BLOCK;
    if (!c->options.keep_prefixes || !n_tail) return;
    const bool full = slot < from->n_tok / WTL_KV_BLOCK;
    memmove(tail, full ? c->nodes[from->span[0].blocks[slot]].tokens : from->tail, (size_t)n_tail * sizeof *tail);
}

wtl_status kvcache_seq_fork(kvcache *c, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err) {
    const kv_seq *from = seq_get(c, src);
    if (!from) return no_such_seq(err, src);
    wtl_status status = check_resume(c, from, src, n_tok, err);
    int32_t fresh = 0;
    if (!status) status = kvcache_seq_open(c, &fresh, err);
    if (status) return status;
    kv_seq *to = &c->seqs[fresh];
    copy_tail(c, from, n_tok, to->tail);
    to->n_tok = n_tok;
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        kv_span *span = &to->span[g];
        span->first = resume_first(c, from, g, n_tok);
        span->end = slots_for(n_tok);
        for (int32_t i = span->first; i < span->end; i++) {
            span->blocks[i] = block_of_slot(c, from, g, i);
            pool_hold(&c->pool[g], span->blocks[i]);
        }
    }
    *seq = fresh;
    return WTL_OK;
}

static void seq_cut(kvcache *c, kv_seq *s, int32_t n_tok) {
    s->n_tok = n_tok;
    const int32_t end = slots_for(n_tok);
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        kv_span *span = &s->span[g];
        span_trim(&c->pool[g], span, span->first < end ? span->first : end, end);
    }
}

// Holds again what the window of position n_tok needs and was let go of. Window groups only; the group's end stays.
static void seq_regain(kvcache *c, kv_seq *s, int32_t group, int32_t n_tok) {
    kv_span *span = &s->span[group];
    const int32_t first = resume_first(c, s, group, n_tok), end = slots_for(n_tok);
    if (first >= span->first || first == end) return;
    const int32_t gap_end = end < span->first ? end : span->first; // slots [first, gap_end) are let go of
    for (int32_t i = gap_end; i-- > first;) {
        span->blocks[i] = block_of_slot(c, s, group, i);
        pool_hold(&c->pool[group], span->blocks[i]);
    }
    if (gap_end < span->first) { // all that was held lies behind: the span would have a hole
        while (span->end > span->first) pool_drop(&c->pool[group], span->blocks[--span->end]);
        span->end = gap_end;
    }
    span->first = first;
}

static wtl_status cut_back(kvcache *c, int32_t seq, int32_t n_tok, bool findable, wtl_error *err) {
    kv_seq *s = seq_get(c, seq);
    if (!s) return no_such_seq(err, seq);
    wtl_status status = check_resume(c, s, seq, n_tok, err);
    if (status || n_tok == s->n_tok) return status;
    if (c->options.keep_prefixes) {
        if (findable) tree_enter_tail(c, s);
        for (int32_t g = 0; g < c->options.n_groups; g++)
            if (c->pool[g].window) seq_regain(c, s, g, n_tok);
        copy_tail(c, s, n_tok, s->tail);
    }
    seq_cut(c, s, n_tok);
    return WTL_OK;
}

wtl_status kvcache_seq_rewind(kvcache *c, int32_t seq, int32_t n_tok, wtl_error *err) { return cut_back(c, seq, n_tok, true, err); }

wtl_status kvcache_seq_forget(kvcache *c, int32_t seq, int32_t n_tok, wtl_error *err) { return cut_back(c, seq, n_tok, false, err); }

void kvcache_seq_close(kvcache *c, int32_t seq) {
    kv_seq *s = seq_get(c, seq);
    if (!s) return;
    if (c->options.keep_prefixes) tree_enter_tail(c, s);
    seq_cut(c, s, 0);
    s->alive = false;
}

int32_t kvcache_seq_length(const kvcache *c, int32_t seq) {
    const kv_seq *s = seq_get(c, seq);
    return s ? s->n_tok : -1;
}

int32_t kvcache_find_prefix(const kvcache *c, const int32_t *tokens, size_t n) {
    if (!c->options.keep_prefixes || n < 2) return 0;
    return tree_search(c, tokens, n - 1 < (size_t)c->options.n_ctx ? (int32_t)(n - 1) : c->options.n_ctx);
}

wtl_status kvcache_seq_open_prefix(kvcache *c, const int32_t *tokens, size_t n, int32_t *seq, int32_t *n_cached, wtl_error *err) {
    int32_t fresh = 0;
    wtl_status status = kvcache_seq_open(c, &fresh, err);
    if (status) return status;
    const int32_t found = kvcache_find_prefix(c, tokens, n), end = slots_for(found);
    kv_seq *s = &c->seqs[fresh];
    s->n_tok = found;
    for (int32_t i = found - found % WTL_KV_BLOCK; i < found; i++) s->tail[i % WTL_KV_BLOCK] = tokens[i];
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        kv_span *span = &s->span[g];
        const int32_t first = oldest_visible(&c->pool[g], found) / WTL_KV_BLOCK;
        span->first = first < end ? first : end;
        span->end = end;
        for (int32_t i = span->first; i < end; i++) {
            span->blocks[i] = c->nodes[c->path[i]].block[g];
            pool_hold(&c->pool[g], span->blocks[i]);
        }
    }
    *seq = fresh;
    *n_cached = found;
    return WTL_OK;
}

// ---- Growing ------------------------------------------------------------------------------------------------------------

// What becomes of the partly filled last block when its sequence writes on.
typedef enum tail_plan {
    TAIL_OWN,   // nothing: there is none, or no one else looks at what will be written
    TAIL_COPY,  // another sequence holds it
    TAIL_SPARE, // a node offers tokens that would be overwritten: copied where there is room, else the node loses it
} tail_plan;

static tail_plan plan_tail(const kvcache *c, const kv_seq *s, int32_t group) {
    const int32_t n_tail = s->n_tok % WTL_KV_BLOCK;
    if (!n_tail) return TAIL_OWN;
    const kv_pool *pool = &c->pool[group];
    const int32_t block = s->span[group].blocks[s->n_tok / WTL_KV_BLOCK];
    if (pool->refs[block] > 1) return TAIL_COPY;
    return pool->owner && pool->owner[block] >= 0 && c->nodes[pool->owner[block]].n_tok > n_tail ? TAIL_SPARE : TAIL_OWN;
}

// Room in this group for slots up to end, the last block exclusively the sequence's. The blocks are known to be there.
static void reserve_group(kvcache *c, kv_seq *s, int32_t group, int32_t end, kvcache_copy copies[WTL_KV_GROUPS_MAX], int32_t *n_copies) {
    kv_pool *pool = &c->pool[group];
    kv_span *span = &s->span[group];
    const int32_t slot = s->n_tok / WTL_KV_BLOCK;
    const bool room_for_copy = pool->n_free + pool->n_cached > end - span->end;
    const tail_plan plan = plan_tail(c, s, group);
    while (span->end < end) span->blocks[span->end++] = pool_take(c, group);
    if (plan == TAIL_OWN) return;
    const int32_t shared = span->blocks[slot];
    if (plan == TAIL_SPARE && !room_for_copy) { // every cached block is gone by now: the node has no children
        tree_disown(c, group, shared);
        pool->n_evicted++;
        return;
    }
    const int32_t own = pool_take(c, group);
    copies[(*n_copies)++] = (kvcache_copy){group, shared, own};
    pool_drop(pool, shared);
    span->blocks[slot] = own;
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
        const int32_t need = end - s->span[g].end + (plan_tail(c, s, g) == TAIL_COPY), room = pool->n_free + pool->n_cached;
        if (need > room)
            return wtl_fail(err, WTL_ERR_KV_FULL, "the KV cache is full: sequence %d needs %d more blocks of %d positions, %d are free", seq,
                            need, WTL_KV_BLOCK, room);
    }
    *n_copies = 0;
    for (int32_t g = 0; g < c->options.n_groups; g++) reserve_group(c, s, g, end, copies, n_copies);
    return WTL_OK;
}

void kvcache_commit(kvcache *c, int32_t seq, const int32_t *tokens, int32_t n_new) {
    kv_seq *s = seq_get(c, seq);
    assert(s && s->n_tok + n_new <= s->span[0].end * WTL_KV_BLOCK);
    for (int32_t i = 0; c->options.keep_prefixes && i < n_new; i++) {
        const int32_t at = s->n_tok + i;
        s->tail[at % WTL_KV_BLOCK] = tokens[i];
        if ((at + 1) % WTL_KV_BLOCK == 0) tree_enter_full(c, s, at / WTL_KV_BLOCK);
    }
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

kvcache_usage kvcache_group_usage(const kvcache *c, int32_t group) {
    const kv_pool *p = &c->pool[group];
    return (kvcache_usage){p->n_blocks - p->n_cached - p->n_free, p->n_cached, p->n_free, p->n_evicted};
}

int32_t kvcache_free_blocks(const kvcache *c, int32_t group) { return c->pool[group].n_free; }
