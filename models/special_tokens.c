// Finds special tokens in text: control, unknown and user-defined ones, by a trie over their names.
//
// Where names overlap, the longest one wins wherever it stands (not the leftmost), as the GGUF reference partitions text.
// Done in one pass: candidates that touch form a cluster, and only inside a cluster are they weighed, longest first.
// A cluster costs O(n log n): a text made only of special tokens is no worse than that.
//
// A text may have untrusted bytes. Guarded tokens (control, unknown, and user-defined ones spelled like a marker) are looked for in
// the trusted stretches alone, as if nothing else existed; then the other user-defined tokens, which are ordinary pieces of
// the vocabulary, in what is left. So no untrusted byte makes a guarded token, and none can keep one from being found.
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

// "<|user|>": some files list the marks of their turns as user-defined.
static bool is_marker(const char *text, size_t len) { return len > 4 && memcmp(text, "<|", 2) == 0 && memcmp(text + len - 2, "|>", 2) == 0; }

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
    trie->nodes[node].guarded = !user_defined || is_marker(text, len);
    return true;
}

uint32_t special_trie_find(const special_trie *trie, const char *text, size_t len) {
    uint32_t node = len ? trie->roots[(uint8_t)text[0]] : 0;
    for (size_t i = 1; node && i < len; i++) node = child_of(trie, node, (uint8_t)text[i]);
    return node ? trie->nodes[node].id : SYMBOL_NONE;
}

void special_trie_free(special_trie *trie) {
    wtl_free(trie->nodes);
    memset(trie, 0, sizeof *trie);
}

static bool is_wanted(const special_node *n, special_set set) {
    if (n->id == SYMBOL_NONE) return false;
    return set == SPECIAL_ALL || (n->user_defined && (set == SPECIAL_USER_DEFINED || !n->guarded));
}

// Longest token at text[0..len); 0 when there is none.
static uint32_t longest(const special_trie *trie, const char *text, size_t len, special_set set, special_match *match) {
    uint32_t node = trie->roots[(uint8_t)text[0]], best = 0;
    for (uint32_t depth = 1; node; depth++) {
        const special_node *n = &trie->nodes[node];
        if (is_wanted(n, set)) {
            best = depth;
            match->id = n->id;
            match->guarded = n->guarded;
        }
        if (depth == len) break;
        node = child_of(trie, node, (uint8_t)text[depth]);
    }
    return best;
}

typedef struct special_search {
    const special_trie *trie;
    const char *text;
    special_set set;
    special_match *found;
    size_t n, cap;
    token_heap heap;
    bool *taken; // of the current cluster's bytes
    size_t cap_taken;
} special_search;

static bool add_match(special_search *s, size_t at, uint32_t len, special_match match) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        special_match *p = wtl_realloc(s->found, cap * sizeof *p);
        if (!p) return false;
        s->found = p;
        s->cap = cap;
    }
    match.at = at;
    match.len = len;
    s->found[s->n++] = match;
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
    special_match match = {0};
    while (s->heap.n) {
        uint64_t key = token_heap_pop(&s->heap);
        uint32_t len = UINT32_MAX - (uint32_t)(key >> 32);
        size_t at = (uint32_t)key;
        if (s->taken[at]) continue;
        size_t room = len;
        if (s->taken[at + len - 1])
            for (room = 1; !s->taken[at + room];) room++;
        uint32_t fits = longest(s->trie, text + at, room, s->set, &match);
        if (room == len) {
            memset(s->taken + at, 1, len);
            if (!add_match(s, start + at, len, match)) return false;
        } else if (fits && !token_heap_push(&s->heap, candidate(fits, at))) {
            return false;
        }
    }
    qsort(s->found + first, s->n - first, sizeof *s->found, by_position);
    return true;
}

// Adds the special tokens of text[begin..len) that lie in it as a whole.
static bool search(special_search *s, size_t begin, size_t len) {
    const bool *starts = s->set == SPECIAL_ALL ? s->trie->starts_any : s->trie->starts_user;
    for (size_t i = begin; i < len;) {
        special_match match = {0}, other;
        uint32_t n;
        if (!starts[(uint8_t)s->text[i]] || !(n = longest(s->trie, s->text + i, len - i, s->set, &match))) {
            i++;
            continue;
        }
        size_t end = i + n;
        s->heap.n = 0;
        for (size_t j = i + 1; j < end; j++) {
            if (!starts[(uint8_t)s->text[j]]) continue;
            uint32_t m = longest(s->trie, s->text + j, len - j, s->set, &other);
            if (m == 0) continue;
            if (s->heap.n == 0 && !token_heap_push(&s->heap, candidate(n, 0))) return false;
            if (!token_heap_push(&s->heap, candidate(m, j - i))) return false;
            if (j + m > end) end = j + m;
        }
        if (s->heap.n == 0 ? !add_match(s, i, n, match) : !settle_cluster(s, i, end)) return false;
        i = end;
    }
    return true;
}

// Guarded tokens of the trusted stretches, then the unguarded ones of what lies between them.
static bool search_trusted(special_search *s, size_t len, const tokenizer_span *untrusted, size_t n_untrusted) {
    size_t at = 0, n_guarded = 0;
    s->set = SPECIAL_ALL;
    for (size_t i = 0; i <= n_untrusted; i++) {
        size_t first = s->n;
        if (!search(s, at, i < n_untrusted ? untrusted[i].begin : len)) return false;
        for (size_t k = first; k < s->n; k++)
            if (s->found[k].guarded) s->found[n_guarded++] = s->found[k];
        s->n = n_guarded;
        if (i < n_untrusted) at = untrusted[i].end;
    }
    special_match *guarded = s->found;
    s->found = NULL;
    s->n = s->cap = at = 0;
    s->set = SPECIAL_UNGUARDED;
    bool ok = true;
    for (size_t i = 0; ok && i < n_guarded; i++) {
        ok = search(s, at, guarded[i].at) && add_match(s, guarded[i].at, guarded[i].len, guarded[i]);
        at = guarded[i].at + guarded[i].len;
    }
    ok = ok && search(s, at, len);
    wtl_free(guarded);
    return ok;
}

wtl_status special_find(const special_trie *trie, const char *text, size_t len, special_set set, const tokenizer_span *untrusted,
                        size_t n_untrusted, special_match **out, size_t *n, wtl_error *err) {
    special_search s = {.trie = trie, .text = text, .set = set};
    bool ok = set == SPECIAL_ALL && n_untrusted ? search_trusted(&s, len, untrusted, n_untrusted) : search(&s, 0, len);
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
