// The prefix tree: KV blocks found again by their tokens. Invariants: kvcache_private.h.
//
// Full blocks are found by a hash of all tokens up to their end; what the hash finds is taken only when parent and tokens are equal,
// so a collision costs a comparison and never gives wrong KV. Partly filled blocks hang below their parent and are found by looking
// at the parent's children.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <string.h>

#include "runtime/kvcache_private.h"

#define HASH_MULTIPLY UINT64_C(0x9E3779B97F4A7C15) // 2^64 / golden ratio: spreads small numbers over all bits

static uint64_t chain_hash(uint64_t parent, const int32_t *tokens) {
    uint64_t h = parent;
    for (int32_t i = 0; i < WTL_KV_BLOCK; i++) {
        h = (h ^ (uint32_t)tokens[i]) * HASH_MULTIPLY;
        h ^= h >> 29;
    }
    return h;
}

static int32_t *bucket_of(const kvcache *c, uint64_t hash) { return &c->buckets[(uint32_t)(hash >> 32) & c->bucket_mask]; }

static bool is_full(const kv_node *n) { return n->n_tok == WTL_KV_BLOCK; }

int32_t tree_find(const kvcache *c, int32_t parent, const int32_t *tokens) {
    int32_t id = *bucket_of(c, chain_hash(c->nodes[parent].hash, tokens));
    while (id >= 0 && (c->nodes[id].parent != parent || memcmp(c->nodes[id].tokens, tokens, sizeof c->nodes[id].tokens) != 0))
        id = c->nodes[id].next_in_bucket;
    return id;
}

void tree_add(kvcache *c, int32_t parent, const int32_t *tokens, int32_t n_tok, const int32_t block[WTL_KV_GROUPS_MAX]) {
    const int32_t id = block[0];
    kv_node *n = &c->nodes[id], *p = &c->nodes[parent];
    assert(parent == c->root || is_full(p));
    *n = (kv_node){.parent = parent, .first_child = -1, .next_sibling = p->first_child, .prev_sibling = -1, .next_in_bucket = -1, .n_tok = n_tok};
    memcpy(n->tokens, tokens, (size_t)n_tok * sizeof *tokens);
    for (int32_t g = 0; g < WTL_KV_GROUPS_MAX; g++) {
        n->block[g] = g < c->options.n_groups ? block[g] : -1;
        if (n->block[g] < 0) continue;
        assert(c->pool[g].owner[n->block[g]] < 0);
        c->pool[g].owner[n->block[g]] = id;
    }
    if (p->first_child >= 0) c->nodes[p->first_child].prev_sibling = id;
    p->first_child = id;
    if (!is_full(n)) return;
    n->hash = chain_hash(p->hash, tokens);
    int32_t *bucket = bucket_of(c, n->hash);
    n->next_in_bucket = *bucket;
    *bucket = id;
}

void tree_remove(kvcache *c, int32_t id) {
    kv_node *n = &c->nodes[id];
    assert(n->first_child < 0);
    if (n->prev_sibling >= 0) c->nodes[n->prev_sibling].next_sibling = n->next_sibling;
    else c->nodes[n->parent].first_child = n->next_sibling;
    if (n->next_sibling >= 0) c->nodes[n->next_sibling].prev_sibling = n->prev_sibling;
    if (is_full(n)) {
        int32_t *link = bucket_of(c, n->hash);
        while (*link != id) link = &c->nodes[*link].next_in_bucket;
        *link = n->next_in_bucket;
    }
    for (int32_t g = 0; g < c->options.n_groups; g++)
        if (n->block[g] >= 0) pool_disown(&c->pool[g], n->block[g]);
}

void tree_disown(kvcache *c, int32_t group, int32_t block) {
    const int32_t node = c->pool[group].owner[block];
    if (group == 0) {
        tree_remove(c, node);
        return;
    }
    c->nodes[node].block[group] = -1;
    pool_disown(&c->pool[group], block);
}

// The node behind which a sequence's slot comes.
static int32_t parent_of_slot(const kvcache *c, const kv_seq *s, int32_t slot) { return slot ? s->span[0].blocks[slot - 1] : c->root; }

void tree_enter_full(kvcache *c, kv_seq *s, int32_t slot) {
    const int32_t parent = parent_of_slot(c, s, slot), found = tree_find(c, parent, s->tail);
    int32_t mine[WTL_KV_GROUPS_MAX];
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        mine[g] = s->span[g].blocks[slot];
        if (c->pool[g].owner[mine[g]] >= 0) tree_disown(c, g, mine[g]); // offered the block's beginning
    }
    if (found < 0) {
        tree_add(c, parent, s->tail, WTL_KV_BLOCK, mine);
        return;
    }
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        int32_t *theirs = &c->nodes[found].block[g];
        if (*theirs < 0) { // a window block that was lost: here it is again
            *theirs = mine[g];
            c->pool[g].owner[mine[g]] = found;
            continue;
        }
        pool_hold(&c->pool[g], *theirs);
        pool_drop(&c->pool[g], mine[g]);
        s->span[g].blocks[slot] = *theirs;
    }
}

static int32_t common_tokens(const kv_node *n, const int32_t *tokens, int32_t limit) {
    const int32_t most = n->n_tok < limit ? n->n_tok : limit;
    int32_t k = 0;
    while (k < most && n->tokens[k] == tokens[k]) k++;
    return k;
}

static bool has_all_groups(const kvcache *c, const kv_node *n) {
    for (int32_t g = 1; g < c->options.n_groups; g++)
        if (n->block[g] < 0) return false;
    return true;
}

int32_t tree_offer(const kvcache *c, int32_t parent, const int32_t *tokens, int32_t n_tok) {
    int32_t id = c->nodes[parent].first_child;
    while (id >= 0 && (common_tokens(&c->nodes[id], tokens, n_tok) < n_tok || !has_all_groups(c, &c->nodes[id]))) id = c->nodes[id].next_sibling;
    return id;
}

void tree_enter_tail(kvcache *c, const kv_seq *s) {
    const int32_t n_tail = s->n_tok % WTL_KV_BLOCK, slot = s->n_tok / WTL_KV_BLOCK;
    if (!n_tail) return;
    int32_t block[WTL_KV_GROUPS_MAX] = {0};
    const int32_t owner = c->pool[0].owner[s->span[0].blocks[slot]];
    if (owner >= 0 && c->nodes[owner].n_tok >= n_tail) return;
    if (owner >= 0) tree_remove(c, owner); // a fork entered less of this block
    const int32_t parent = parent_of_slot(c, s, slot);
    if (tree_offer(c, parent, s->tail, n_tail) >= 0) return;
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        block[g] = s->span[g].blocks[slot];
        if (c->pool[g].owner[block[g]] >= 0) block[g] = -1; // another node offers it
    }
    tree_add(c, parent, s->tail, n_tail, block);
}

// Whether every window group still has what position n looks at, when slot d is node last and the slots before are c->path.
static bool windows_held(const kvcache *c, int32_t d, int32_t last, int32_t n) {
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        if (!c->pool[g].window) continue;
        const int32_t from = oldest_visible(&c->pool[g], n) / WTL_KV_BLOCK;
        for (int32_t slot = d; slot >= from; slot--)
            if (c->nodes[slot == d ? last : c->path[slot]].block[g] < 0) return false;
    }
    return true;
}

int32_t tree_search(const kvcache *c, const int32_t *tokens, int32_t limit) {
    int32_t depth = 0;
    for (int32_t id = c->root; (depth + 1) * WTL_KV_BLOCK <= limit; depth++) {
        id = tree_find(c, id, tokens + depth * WTL_KV_BLOCK);
        if (id < 0) break;
        c->path[depth] = id;
    }
    // From the deepest level up: a level above is only looked at when windows lack something for all that is longer.
    for (int32_t d = depth; d >= 0; d--) {
        if (d < depth && windows_held(c, d, c->path[d], (d + 1) * WTL_KV_BLOCK)) return (d + 1) * WTL_KV_BLOCK;
        const int32_t left = limit - d * WTL_KV_BLOCK;
        int32_t best = 0, best_id = -1;
        for (int32_t id = c->nodes[d ? c->path[d - 1] : c->root].first_child; id >= 0; id = c->nodes[id].next_sibling) {
            const int32_t k = common_tokens(&c->nodes[id], tokens + d * WTL_KV_BLOCK, left);
            if (k <= best || !windows_held(c, d, id, d * WTL_KV_BLOCK + k)) continue;
            best = k;
            best_id = id;
        }
        if (!best) continue;
        c->path[d] = best_id;
        return d * WTL_KV_BLOCK + best;
    }
    return 0;
}
