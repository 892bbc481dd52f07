// Reading the prefix tree out and putting it back: what kv_file.c needs of the bookkeeping.
//
// What is loaded takes free blocks only and counts as older than all that is there. Blocks are staged (held by no sequence) while
// a file is still being checked, and become findable all at once.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>

#include "runtime/kvcache_private.h"

int32_t kvcache_nodes(const kvcache *c, int32_t *nodes) {
    int32_t n = 0;
    // Held ones from the root down: first child, else the next sibling of the nearest node upwards that has one.
    for (int32_t id = c->nodes[c->root].first_child; id >= 0;) {
        const bool held = c->pool[0].refs[id] > 0;
        if (held) {
            if (nodes) nodes[n] = id;
            n++;
        }
        if (held && c->nodes[id].first_child >= 0) {
            id = c->nodes[id].first_child;
            continue;
        }
        while (id != c->root && c->nodes[id].next_sibling < 0) id = c->nodes[id].parent;
        id = id == c->root ? -1 : c->nodes[id].next_sibling;
    }
    // Cached ones from the newest to the oldest: that has parents before children too.
    for (int32_t id = c->pool[0].newest; id >= 0; id = c->pool[0].older[id]) {
        if (nodes) nodes[n] = id;
        n++;
    }
    return n;
}

kvcache_node kvcache_node_at(const kvcache *c, int32_t node) {
    const kv_node *n = &c->nodes[node];
    kvcache_node out = {n->parent == c->root ? -1 : n->parent, n->n_tok, n->tokens, {-1, -1}};
    for (int32_t g = 0; g < c->options.n_groups; g++) out.block[g] = n->block[g];
    return out;
}

int32_t kvcache_stage(kvcache *c, int32_t group) { return c->pool[group].n_free ? pool_take(c, group) : -1; }

void kvcache_unstage(kvcache *c, int32_t group, int32_t block) {
    if (block >= 0) pool_drop(&c->pool[group], block);
}

// From held by no one in particular to cached, as the oldest.
static void stage_to_cached(kv_pool *pool, int32_t block) {
    assert(pool->refs[block] == 1 && pool->owner[block] >= 0);
    pool->refs[block] = 0;
    pool->newer[block] = pool->oldest;
    pool->older[block] = -1;
    *(pool->oldest >= 0 ? &pool->older[pool->oldest] : &pool->newest) = block;
    pool->oldest = block;
    pool->n_cached++;
}

int32_t kvcache_publish(kvcache *c, int32_t parent, const int32_t *tokens, int32_t n_tok, const int32_t block[WTL_KV_GROUPS_MAX], bool *added) {
    const int32_t behind = parent < 0 ? c->root : parent;
    const int32_t found = n_tok == WTL_KV_BLOCK ? tree_find(c, behind, tokens) : tree_offer(c, behind, tokens, n_tok);
    *added = found < 0;
    if (found < 0) tree_add(c, behind, tokens, n_tok, block);
    for (int32_t g = 0; g < c->options.n_groups; g++) {
        if (block[g] < 0) continue;
        kv_pool *pool = &c->pool[g];
        int32_t *theirs = found < 0 ? NULL : &c->nodes[found].block[g];
        if (theirs && *theirs < 0) { // a window block that had been lost
            *theirs = block[g];
            pool->owner[block[g]] = found;
            theirs = NULL;
        }
        if (theirs) pool_drop(pool, block[g]);
        else stage_to_cached(pool, block[g]);
    }
    return found < 0 ? block[0] : found;
}
