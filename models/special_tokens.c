// Finds special tokens in text: control, unknown and user-defined ones, by a trie over their names.
//
// Where names overlap, the longest one wins wherever it stands (not the leftmost), as the GGUF reference partitions text.
// Done in one pass: candidates that touch form a cluster, and only inside a cluster are they weighed, longest first.
// A cluster costs O(n log n): a text made only of special tokens is no worse than that.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/token_heap.h"
#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

static uint32_t node_new(special_trie *trie, uint8_t byte) {
    if (trie->n == trie->cap) {
        size_t cap = trie->cap ? 2 * trie->cap : 256;
        special_node *p = wtl_realloc(trie->nodes, cap * sizeof *p);
        if (!p) return 0;
        trie->nodes = p;
        trie->cap = cap;
    }
    if (trie->n == 0) trie->nodes[trie->n++] = (special_node){.id = SYMBOL_NONE}; // root: index 0 means "none" elsewhere
    if (trie->n == trie->cap) return node_new(trie, byte);
    trie->nodes[trie->n] = (special_node){.id = SYMBOL_NONE, .byte = byte};
    return (uint32_t)trie->n++;
}

static uint32_t child_of(const special_trie *trie, uint32_t node, uint8_t byte) {
    uint32_t c = trie->nodes[node].child;
    while (c && trie->nodes[c].byte != byte) c = trie->nodes[c].sibling;
    return c;
}

bool special_trie_add(special_trie *trie, const char *text, size_t len, uint32_t id, bool user_defined) {
    if (len == 0) return true;
    uint8_t first = (uint8_t)text[0];
    if (!trie->roots[first] && !(trie->roots[first] = node_new(trie, first))) return false;
    trie->starts_any[first] = true;
    if (user_defined) trie->starts_user[first] = true;
    uint32_t node = trie->roots[first];
    for (size_t i = 1; i < len; i++) {
        uint32_t child = child_of(trie, node, (uint8_t)text[i]);
        if (!child) {
            child = node_new(trie, (uint8_t)text[i]);
            if (!child) return false;
            trie->nodes[child].sibling = trie->nodes[node].child;
            trie->nodes[node].child = child;
        }
        node = child;
    }
    trie->nodes[node].id = id;
    trie->nodes[node].user_defined = user_defined;
    return true;
}

void special_trie_free(special_trie *trie) {
    wtl_free(trie->nodes);
    memset(trie, 0, sizeof *trie);
}

// Longest token at text[0..len); 0 when there is none.
static uint32_t longest(const special_trie *trie, const char *text, size_t len, bool user_defined_only, uint32_t *id) {
    uint32_t node = trie->roots[(uint8_t)text[0]], best = 0;
    for (uint32_t depth = 1; node; depth++) {
        const special_node *n = &trie->nodes[node];
        if (n->id != SYMBOL_NONE && (n->user_defined || !user_defined_only)) {
            best = depth;
            *id = n->id;
        }
        if (depth == len) break;
        node = child_of(trie, node, (uint8_t)text[depth]);
    }
    return best;
}

typedef struct special_search {
    const special_trie *trie;
    const char *text;
    bool user_defined_only;
    special_match *found;
    size_t n, cap;
    token_heap heap;
    bool *taken; // of the current cluster's bytes
    size_t cap_taken;
} special_search;

static bool add_match(special_search *s, size_t at, uint32_t len, uint32_t id) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        special_match *p = wtl_realloc(s->found, cap * sizeof *p);
        if (!p) return false;
        s->found = p;
        s->cap = cap;
    }
    s->found[s->n++] = (special_match){at, len, id};
    return true;
}

static uint64_t candidate(uint32_t len, size_t at) { return (uint64_t)(UINT32_MAX - len) << 32 | at; }

static int by_position(const void *a, const void *b) {
    const special_match *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

// Weighs the candidates in s->heap (positions relative to start), longest first. A token that was taken before is at least
// as long, so it overlaps a candidate only by covering the candidate's first or last byte.
static bool settle_cluster(special_search *s, size_t start, size_t end) {
    size_t first = s->n, bytes = end - start;
    if (bytes > s->cap_taken) {
        bool *p = wtl_realloc(s->taken, bytes);
        if (!p) return false;
        s->taken = p;
        s->cap_taken = bytes;
    }
    memset(s->taken, 0, bytes);
    const char *text = s->text + start;
    uint32_t id = 0;
    while (s->heap.n) {
        uint64_t key = token_heap_pop(&s->heap);
        uint32_t len = UINT32_MAX - (uint32_t)(key >> 32);
        size_t at = (uint32_t)key;
        if (s->taken[at]) continue;
        size_t room = len;
        if (s->taken[at + len - 1])
            for (room = 1; !s->taken[at + room];) room++;
        uint32_t fits = longest(s->trie, text + at, room, s->user_defined_only, &id);
        if (room == len) {
            memset(s->taken + at, 1, len);
            if (!add_match(s, start + at, len, id)) return false;
        } else if (fits && !token_heap_push(&s->heap, candidate(fits, at))) {
            return false;
        }
    }
    qsort(s->found + first, s->n - first, sizeof *s->found, by_position);
    return true;
}

static bool search(special_search *s, size_t len) {
    const bool *starts = s->user_defined_only ? s->trie->starts_user : s->trie->starts_any;
    for (size_t i = 0; i < len;) {
        uint32_t id = 0, n;
        if (!starts[(uint8_t)s->text[i]] || !(n = longest(s->trie, s->text + i, len - i, s->user_defined_only, &id))) {
            i++;
            continue;
        }
        size_t end = i + n;
        s->heap.n = 0;
        for (size_t j = i + 1; j < end; j++) {
            uint32_t other;
            if (!starts[(uint8_t)s->text[j]]) continue;
            uint32_t m = longest(s->trie, s->text + j, len - j, s->user_defined_only, &other);
            if (m == 0) continue;
            if (s->heap.n == 0 && !token_heap_push(&s->heap, candidate(n, 0))) return false;
            if (!token_heap_push(&s->heap, candidate(m, j - i))) return false;
            if (j + m > end) end = j + m;
        }
        if (s->heap.n == 0 ? !add_match(s, i, n, id) : !settle_cluster(s, i, end)) return false;
        i = end;
    }
    return true;
}

wtl_status special_find(const special_trie *trie, const char *text, size_t len, bool user_defined_only,
                        special_match **out, size_t *n, wtl_error *err) {
    special_search s = {.trie = trie, .text = text, .user_defined_only = user_defined_only};
    bool ok = search(&s, len);
    wtl_free(s.taken);
    token_heap_free(&s.heap);
    if (!ok) {
        wtl_free(s.found);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory while looking for special tokens in %zu bytes", len);
    }
    *out = s.found;
    *n = s.n;
    return WTL_OK;
}
