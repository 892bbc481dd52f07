// A binary min-heap of 64-bit keys: priority above, position below, so that ties go to the leftmost.
// Used by the merge engine and by the search for special tokens.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_TOKEN_HEAP_H
#define WTL_MODELS_TOKEN_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "runtime/base/alloc.h"

typedef struct token_heap {
    uint64_t *keys;
    size_t n, cap;
} token_heap;

static inline bool token_heap_reserve(token_heap *h, size_t n) {
    if (n <= h->cap) return true;
    size_t cap = n > 2 * h->cap ? n : 2 * h->cap;
    if (cap > SIZE_MAX / sizeof *h->keys) return false;
    uint64_t *p = (uint64_t *)wtl_realloc(h->keys, cap * sizeof *p);
    if (!p) return false;
    h->keys = p;
    h->cap = cap;
    return true;
}

static inline bool token_heap_push(token_heap *h, uint64_t key) {
    if (h->n == h->cap && !token_heap_reserve(h, h->n + 64)) return false;
    size_t i = h->n++;
    for (; i > 0 && h->keys[(i - 1) / 2] > key; i = (i - 1) / 2) h->keys[i] = h->keys[(i - 1) / 2];
    h->keys[i] = key;
    return true;
}

// Puts key where i is and lets it sink.
static inline void token_heap_sink(token_heap *h, size_t i, uint64_t key) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && h->keys[child + 1] < h->keys[child]) child++;
        if (h->keys[child] >= key) break;
        h->keys[i] = h->keys[child];
        i = child;
    }
    h->keys[i] = key;
}

// Smallest key; the heap must not be empty.
static inline uint64_t token_heap_pop(token_heap *h) {
    uint64_t top = h->keys[0], last = h->keys[--h->n];
    if (h->n) token_heap_sink(h, 0, last);
    return top;
}

// Makes a heap of keys[0..n) that were written in any order. O(n).
static inline void token_heap_build(token_heap *h) {
    for (size_t i = h->n / 2; i-- > 0;) token_heap_sink(h, i, h->keys[i]);
}

static inline void token_heap_free(token_heap *h) {
    wtl_free(h->keys);
    h->keys = NULL;
    h->n = h->cap = 0;
}

#endif
