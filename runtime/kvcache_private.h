// Inside of the KV bookkeeping: pools, sequences and the prefix tree, shared by kvcache.c and kvcache_tree.c (and looked at by tests).
//
// The tree (only with keep_prefixes). A node stands for a block of up to 16 tokens behind its parent's; it has the number of its
// block in group 0, so there are as many nodes as blocks and nothing is allocated later. The window groups' blocks of a node may be
// lost without it. Invariants:
// - Every full block of a sequence is a node, and its blocks are the node's: what two sequences computed alike is one block. So the
//   nodes that sequences hold are closed under parents.
// - A block is free (no holder, no node), held (refs > 0), or cached: a node's, not held, on the pool's list from oldest to newest.
// - A sequence's last block, while not full, may be offered by a node that has at most the sequence's tokens: what comes behind them
//   is not the node's business.
// - Holders let go of a chain's end first. So on group 0's list a node comes behind all its descendants, and the oldest is a leaf.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_KVCACHE_PRIVATE_H
#define WTL_RUNTIME_KVCACHE_PRIVATE_H

#include "runtime/kvcache.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kv_pool {
    int32_t window;
    int32_t n_blocks, n_free, n_cached;
    int32_t *free_list;      // [n_blocks], the first n_free entries are free; lowest numbers are handed out first
    int32_t *refs;           // [n_blocks] (sequence, slot) pairs that hold it
    int32_t *owner;          // [n_blocks] node that offers it, -1: none. Group 0: itself. NULL without keep_prefixes, as the next two
    int32_t *older, *newer;  // [n_blocks] neighbours of a cached block
    int32_t oldest, newest;  // ends of that list, -1: empty
    uint64_t n_evicted;
} kv_pool;

typedef struct kv_node {
    uint64_t hash;           // of all tokens from position 0 on
    int32_t parent, first_child, next_sibling, prev_sibling; // -1: none
    int32_t next_in_bucket;  // full nodes only
    int32_t n_tok;
    int32_t block[WTL_KV_GROUPS_MAX]; // block[0]: its own number; -1: lost
    int32_t tokens[WTL_KV_BLOCK];
} kv_node;

typedef struct kv_span {
    int32_t first, end; // slots held
    int32_t *blocks;    // [max_slots], entries first..end-1 are valid
} kv_span;

typedef struct kv_seq {
    bool alive;
    int32_t n_tok;
    int32_t tail[WTL_KV_BLOCK]; // tokens of the last block while it is not full; with keep_prefixes
    kv_span span[WTL_KV_GROUPS_MAX];
} kv_seq;

struct kvcache {
    kvcache_options options;
    int32_t max_slots; // blocks of one sequence of n_ctx positions
    kv_pool pool[WTL_KV_GROUPS_MAX];
    kv_seq *seqs;      // [n_seq_max]
    int32_t *storage;  // all int32 arrays in one piece
    kv_node *nodes;    // [pool[0].n_blocks + 1]; the last one is the root, which holds no tokens
    int32_t root;
    int32_t *buckets;  // [bucket_mask + 1] heads of chains of full nodes
    uint32_t bucket_mask;
    int32_t *path;     // [max_slots] scratch of a search
};

static inline int32_t slots_for(int32_t n_tok) { return (n_tok + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK; }

// Oldest position that a query at position n_tok or later can see.
static inline int32_t oldest_visible(const kv_pool *pool, int32_t n_tok) {
    return pool->window && n_tok >= pool->window ? n_tok - pool->window + 1 : 0;
}

// ---- Pools ----
int32_t pool_take(kvcache *c, int32_t group);     // a block held once; the oldest cached one when none is free. One must be there
void pool_hold(kv_pool *pool, int32_t block);     // one more holder of a block that is held or cached
void pool_drop(kv_pool *pool, int32_t block);     // one less; the last one frees it or, when a node owns it, leaves it cached
void pool_disown(kv_pool *pool, int32_t block);   // no node offers it any more: a cached one becomes free

// ---- Tree ----
// The full child of parent with these tokens [WTL_KV_BLOCK], or -1.
int32_t tree_find(const kvcache *c, int32_t parent, const int32_t *tokens);
// A child of parent that offers these tokens, or more, to all groups; -1: none.
int32_t tree_offer(const kvcache *c, int32_t parent, const int32_t *tokens, int32_t n_tok);
// Makes node block[0]; entries of block may be -1 but for group 0. None of them is owned yet. A full node must not exist already.
void tree_add(kvcache *c, int32_t parent, const int32_t *tokens, int32_t n_tok, const int32_t block[WTL_KV_GROUPS_MAX]);
void tree_remove(kvcache *c, int32_t node); // has no children; its blocks are disowned
// The node that offers the block loses it; without its block of group 0 the node goes (and must have no children).
void tree_disown(kvcache *c, int32_t group, int32_t block);
// The sequence has filled slot (a full block): enters it, or goes over to the blocks of the node that has the same tokens.
void tree_enter_full(kvcache *c, kv_seq *s, int32_t slot);
// What the sequence holds in its partly filled last block becomes findable, unless it is already.
void tree_enter_tail(kvcache *c, const kv_seq *s);
// Longest prefix of tokens[0..limit) that a sequence could go on from; its nodes to c->path.
int32_t tree_search(const kvcache *c, const int32_t *tokens, int32_t limit);

#ifdef __cplusplus
}
#endif
#endif
