// Which block of KV memory holds which positions of which sequence.
//
// Pure bookkeeping: knows no bytes and no backend, only block numbers. A pool per KV group (layers that keep the same
// positions); blocks of WTL_KV_BLOCK positions, reference-counted, so that forked sequences share what they have in common.
// A shared block is copied before one of its owners writes into it: kvcache_reserve says which copies to make. A group with
// a window gives blocks back once no later position can see them (and KVCACHE_REWIND_TOK positions more, so that short
// rewinds work). Everything is allocated at opening. One thread at a time.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_KVCACHE_H
#define WTL_RUNTIME_KVCACHE_H

#include <stdbool.h>
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
} kvcache_options;

// Blocks that a group's pool needs so that sequences with n_ctx positions together always fit.
int32_t kvcache_group_blocks(const kvcache_options *options, int32_t group);

wtl_status kvcache_open(const kvcache_options *options, kvcache **out, wtl_error *err);
void kvcache_close(kvcache **cache);

// Sequences. INVALID for an unknown one, LIMIT when n_seq_max are alive or when a window group no longer holds what
// positions behind n_tok would look at.
wtl_status kvcache_seq_open(kvcache *cache, int32_t *seq, wtl_error *err);
wtl_status kvcache_seq_fork(kvcache *cache, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err);
wtl_status kvcache_seq_rewind(kvcache *cache, int32_t seq, int32_t n_tok, wtl_error *err);
void kvcache_seq_close(kvcache *cache, int32_t seq);
int32_t kvcache_seq_length(const kvcache *cache, int32_t seq); // -1: no such sequence

// A block to be copied before the step writes.
typedef struct kvcache_copy {
    int32_t group, src, dst;
} kvcache_copy;

// Makes room for n_new more positions of seq: adds blocks and replaces a shared one. At most one copy per group is written to
// copies and counted in *n_copies. KV_FULL leaves the sequence as it was.
wtl_status kvcache_reserve(kvcache *cache, int32_t seq, int32_t n_new, kvcache_copy copies[WTL_KV_GROUPS_MAX], int32_t *n_copies,
                           wtl_error *err);
// The reserved positions are filled: the sequence grows, and window groups give back what no one can see any more.
void kvcache_commit(kvcache *cache, int32_t seq, int32_t n_new);
// Gives back what was reserved and not committed.
void kvcache_cancel(kvcache *cache, int32_t seq);

// Blocks of positions 0 .. n_positions - 1 as the attention reads them; -1 where nothing is held. table [ceil(n / 16)].
void kvcache_table(const kvcache *cache, int32_t seq, int32_t group, int32_t n_positions, int32_t *table);
int32_t kvcache_free_blocks(const kvcache *cache, int32_t group);

#ifdef __cplusplus
}
#endif
#endif
