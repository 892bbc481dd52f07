// The merge loop that byte-level BPE and SentencePiece-style merging share, and the memory of pieces already merged.
//
// Symbols form a linked list; every symbol carries the priority of merging with its right neighbour. Short pieces scan the
// list for the best pair; long ones keep candidates in a heap and drop those whose priority is no longer the symbol's own.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"

// Up to here scanning beats the heap.
#define MERGE_SCAN_MAX 48
#define CACHED_PIECE_BYTES_MAX 64

bool merge_reserve(token_encoder *e, size_t n_symbols) {
    if (n_symbols <= e->cap_symbols) return true;
    size_t cap = n_symbols < 64 ? 64 : n_symbols;
    if (cap > SIZE_MAX / sizeof *e->symbols) return false;
    merge_symbol *p = wtl_malloc(cap * sizeof *p);
    if (!p) return false;
    wtl_free(e->symbols);
    e->symbols = p;
    e->cap_symbols = cap;
    return true;
}

// Absorbs the right neighbour of symbols[at]; the keys of at and of the one before it become stale.
static void absorb(merge_symbol *symbols, uint32_t at) {
    merge_symbol *l = &symbols[at], *r = &symbols[l->next];
    l->len += r->len;
    l->id = l->merged;
    l->next = r->next;
    r->key = SYMBOL_NONE;
    if (r->next != SYMBOL_NONE) symbols[r->next].prev = at;
}

static void rekey(const token_encoder *e, const char *piece, uint32_t at, merge_rule rule) {
    merge_symbol *l = &e->symbols[at];
    l->key = SYMBOL_NONE;
    if (l->next != SYMBOL_NONE) rule(e->tokenizer, piece, l, &e->symbols[l->next]);
}

static void merge_short(token_encoder *e, const char *piece, merge_rule rule) {
    merge_symbol *symbols = e->symbols;
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = symbols[0].next; i != SYMBOL_NONE; i = symbols[i].next)
            if (symbols[i].key < symbols[best].key) best = i;
        if (symbols[best].key == SYMBOL_NONE) return;
        absorb(symbols, best);
        rekey(e, piece, best, rule);
        if (symbols[best].prev != SYMBOL_NONE) rekey(e, piece, symbols[best].prev, rule);
    }
}

static bool push_candidate(token_encoder *e, uint32_t at) {
    uint32_t key = e->symbols[at].key;
    return key == SYMBOL_NONE || token_heap_push(&e->heap, (uint64_t)key << 32 | at);
}

static bool merge_long(token_encoder *e, const char *piece, size_t n, merge_rule rule) {
    merge_symbol *symbols = e->symbols;
    if (!token_heap_reserve(&e->heap, n)) return false;
    e->heap.n = 0;
    for (uint32_t i = 0; i < n; i++)
        if (symbols[i].key != SYMBOL_NONE) e->heap.keys[e->heap.n++] = (uint64_t)symbols[i].key << 32 | i;
    token_heap_build(&e->heap);
    while (e->heap.n) {
        uint64_t top = token_heap_pop(&e->heap);
        uint32_t at = (uint32_t)top;
        if (symbols[at].key != (uint32_t)(top >> 32)) continue; // merged away or paired anew since
        absorb(symbols, at);
        rekey(e, piece, at, rule);
        if (!push_candidate(e, at)) return false;
        uint32_t prev = symbols[at].prev;
        if (prev == SYMBOL_NONE) continue;
        rekey(e, piece, prev, rule);
        if (!push_candidate(e, prev)) return false;
    }
    return true;
}

wtl_status merge_run(token_encoder *e, const char *piece, size_t n, merge_rule rule) {
    for (uint32_t i = 0; i < n; i++) {
        e->symbols[i].prev = i ? i - 1 : SYMBOL_NONE;
        e->symbols[i].next = i + 1 < n ? i + 1 : SYMBOL_NONE;
    }
    for (uint32_t i = 0; i < n; i++) rekey(e, piece, i, rule);
    if (n <= MERGE_SCAN_MAX) merge_short(e, piece, rule);
    else if (!merge_long(e, piece, n, rule))
        return wtl_fail(e->err, WTL_ERR_NO_MEMORY, "out of memory while merging %zu symbols", n);
    return WTL_OK;
}

wtl_status tokens_reserve(wtl_tokens *tokens, size_t more, wtl_error *err) {
    if (more <= tokens->cap - tokens->n) return WTL_OK;
    if (more > (size_t)INT32_MAX || tokens->n > (size_t)INT32_MAX - more)
        return wtl_fail(err, WTL_ERR_LIMIT, "text has more than 2^31 - 1 tokens");
    size_t cap = tokens->n + more;
    if (cap < 2 * tokens->cap) cap = 2 * tokens->cap;
    if (cap < 32) cap = 32;
    int32_t *p = wtl_realloc(tokens->ids, cap * sizeof *p);
    if (!p) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu tokens", cap);
    tokens->ids = p;
    tokens->cap = cap;
    return WTL_OK;
}

wtl_status cache_get(token_encoder *e, const char *piece, size_t len, uint32_t *hash, bool *found) {
    *found = false;
    if (!e->cache || len > CACHED_PIECE_BYTES_MAX) return WTL_OK;
    *hash = token_hash(piece, len);
    const cached_piece *c = &e->cache[*hash & e->cache_mask];
    if (c->n == 0 || c->hash != *hash || c->len != len || memcmp(c->piece, piece, len) != 0) return WTL_OK;
    wtl_status status = tokens_reserve(e->out, c->n, e->err);
    if (status) return status;
    memcpy(e->out->ids + e->out->n, e->out->ids + c->at, c->n * sizeof *e->out->ids);
    e->out->n += c->n;
    *found = true;
    return WTL_OK;
}

void cache_put(token_encoder *e, const char *piece, size_t len, uint32_t hash, size_t at) {
    if (!e->cache || len > CACHED_PIECE_BYTES_MAX) return;
    e->cache[hash & e->cache_mask] =
        (cached_piece){.piece = piece, .hash = hash, .len = (uint32_t)len, .at = at, .n = (uint32_t)(e->out->n - at)};
}

void cache_clear(token_encoder *e) {
    if (e->cache) memset(e->cache, 0, ((size_t)e->cache_mask + 1) * sizeof *e->cache);
}
