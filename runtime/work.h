// Inside of the runtime: how much work a step is, known before or after it runs.
//
// A shape holds the few sizes of a model from which bytes and multiply-adds of any step follow. The session counts what it did with the
// same function that forecasts and counterfactuals predict with, so both mean the same by a byte and a multiply-add.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_WORK_H
#define WTL_RUNTIME_WORK_H

#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WORK_GROUPS_MAX = 2 };

typedef struct work_shape {
    int32_t n_groups;
    int32_t n_layers[WORK_GROUPS_MAX], window[WORK_GROUPS_MAX]; // window 0: every position is visible
    uint64_t position_bytes;                                    // KV of one position in one layer
    uint64_t head_width;                                        // heads * head_dim
    uint64_t step_bytes, head_bytes, tail_bytes;                // weights, as in wtl_model
    uint64_t row_macs, head_macs, tail_macs;
} work_shape;

// Fills kv_positions, attention_macs, kv_read_bytes, kv_written_bytes and macs from n_past_tok, n_new_tok and n_logits.
void work_count_seq(const work_shape *shape, wtl_seq_work *seq);
// Weights that a step streams: the head only when some row wants logits, else not even the layers' tail.
uint64_t work_weight_bytes(const work_shape *shape, int32_t n_logits);
// The part of a sequence's attention that goes to its first n_cached positions: multiply-adds and KV bytes.
void work_count_cached(const work_shape *shape, const wtl_seq_work *seq, int32_t n_cached, uint64_t *macs, uint64_t *kv_bytes);

#ifdef __cplusplus
}
#endif
#endif
