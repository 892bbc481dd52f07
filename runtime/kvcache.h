// Which block of KV memory holds which positions of which sequence.
//
// Pure bookkeeping: knows no bytes and no backend, only block numbers. A pool per KV group (layers that keep the same
// positions); blocks of WTL_KV_BLOCK positions, reference-counted, so that forked sequences share what they have in common.
// A shared block is copied before one of its owners writes into it: kvcache_reserve says which copies to make. A group with
// a window gives blocks back once no later position can see them (and KVCACHE_REWIND_TOK positions more, so that short
// rewinds work). With keep_prefixes, what sequences gave back stays findable by its tokens until the memory is needed; the
// oldest goes first, ends of chains before their beginnings. Everything is allocated at opening. One thread at a time.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_KVCACHE_H
#define WTL_RUNTIME_KVCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVCACHE_REWIND_TOK 32

typedef struct kvcache kvcache;

typedef struct kvcache_options {
    int32_t n_groups;
    int32_t window[WTL_KV_GROUPS_MAX]; // 0: keeps everything
    int32_t n_ctx, n_seq_max, n_batch;
    bool keep_prefixes;
    int32_t n_extra_blocks; // per group, for prefixes only
} kvcache_options;

// Blocks of a group's pool: sequences with n_ctx positions together always fit (cached blocks make room), and n_extra_blocks more.
int32_t kvcache_group_blocks(const kvcache_options *options, int32_t group);

wtl_status kvcache_open(const kvcache_options *options, kvcache **out, wtl_error *err);
void kvcache_close(kvcache **cache);

// Sequences. INVALID for an unknown one, LIMIT when n_seq_max are alive or when a window group no longer holds (and with
// keep_prefixes no longer finds) what positions behind n_tok would look at.
wtl_status kvcache_seq_open(kvcache *cache, int32_t *seq, wtl_error *err);
wtl_status kvcache_seq_fork(kvcache *cache, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err);
wtl_status kvcache_seq_rewind(kvcache *cache, int32_t seq, int32_t n_tok, wtl_error *err);
// Like rewind, but the partly filled block's tokens are not offered as a prefix: they were only tried.
wtl_status kvcache_seq_forget(kvcache *cache, int32_t seq, int32_t n_tok, wtl_error *err);
void kvcache_seq_close(kvcache *cache, int32_t seq);
int32_t kvcache_seq_length(const kvcache *cache, int32_t seq); // -1: no such sequence

// Opens a sequence with the longest prefix of tokens[0..n - 1) that is there for every group; its length to *n_cached.
wtl_status kvcache_seq_open_prefix(kvcache *cache, const int32_t *tokens, size_t n, int32_t *seq, int32_t *n_cached, wtl_error *err);
int32_t kvcache_find_prefix(const kvcache *cache, const int32_t *tokens, size_t n); // only that length; changes nothing

// A block to be copied before the step writes.
typedef struct kvcache_copy {
    int32_t group, src, dst;
} kvcache_copy;

// Makes room for n_new more positions of seq: adds blocks and replaces a shared one. At most one copy per group is written to
// copies and counted in *n_copies. Cached blocks make room, oldest first. KV_FULL leaves the sequence as it was.
wtl_status kvcache_reserve(kvcache *cache, int32_t seq, int32_t n_new, kvcache_copy copies[WTL_KV_GROUPS_MAX], int32_t *n_copies,
                           wtl_error *err);
// The reserved positions are filled with tokens[0..n_new): the sequence grows, and window groups give back what no one can see any
// more. Full blocks become findable; one that is there already replaces the sequence's own, so block tables are to be read again.
void kvcache_commit(kvcache *cache, int32_t seq, const int32_t *tokens, int32_t n_new);
// Gives back what was reserved and not committed.
void kvcache_cancel(kvcache *cache, int32_t seq);

// Blocks of positions 0 .. n_positions - 1 as the attention reads them; -1 where nothing is held. table [ceil(n / 16)].
void kvcache_table(const kvcache *cache, int32_t seq, int32_t group, int32_t n_positions, int32_t *table);

typedef struct kvcache_usage {
    int32_t n_used, n_cached, n_free; // blocks held by sequences; only findable; empty
    uint64_t n_evicted;               // since opening
} kvcache_usage;
kvcache_usage kvcache_group_usage(const kvcache *cache, int32_t group);
int32_t kvcache_free_blocks(const kvcache *cache, int32_t group);

// ---- For files; with keep_prefixes only ----
// All nodes of the prefix tree, parents before children, most recently used first; returns their count. nodes may be NULL.
int32_t kvcache_nodes(const kvcache *cache, int32_t *nodes);
typedef struct kvcache_node {
    int32_t parent; // -1: none
    int32_t n_tok;  // WTL_KV_BLOCK, or less for a node without children
    const int32_t *tokens;
    int32_t block[WTL_KV_GROUPS_MAX]; // -1: lost (not in group 0)
} kvcache_node;
kvcache_node kvcache_node_at(const kvcache *cache, int32_t node);
// A free block to fill, -1 when none is free; and back. Nothing finds it yet.
int32_t kvcache_stage(kvcache *cache, int32_t group);
void kvcache_unstage(kvcache *cache, int32_t group, int32_t block); // accepts -1
// Makes staged blocks (-1: none, not in group 0) findable behind a full node or -1, as the least recently used. Returns the node that
// offers these tokens now: a new one (*added), or one that was there; then the blocks are given back or fill what it had lost.
int32_t kvcache_publish(kvcache *cache, int32_t parent, const int32_t *tokens, int32_t n_tok, const int32_t block[WTL_KV_GROUPS_MAX], bool *added);

#ifdef __cplusplus
}
#endif
#endif
