// Bytes and multiply-adds of a step, from positions and the model's sizes.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/work.h"

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

// Positions that attention reads for n_new rows behind n_past: summed over rows, and distinct ones.
static void count_positions(int64_t n_past, int64_t n_new, int64_t window, uint64_t *summed, uint64_t *distinct) {
    const int64_t end = n_past + n_new;
    // Rows before the window fills see one position more than the row before; the others see the window.
    const int64_t growing = window ? min_i64(n_new, window > n_past ? window - n_past : 0) : n_new;
    *summed = (uint64_t)(growing * n_past + growing * (growing + 1) / 2 + (n_new - growing) * window);
    *distinct = (uint64_t)(window && end > window + n_new - 1 ? window + n_new - 1 : end);
}

void work_count_seq(const work_shape *shape, wtl_seq_work *q) {
    q->kv_positions = q->kv_read_bytes = q->kv_written_bytes = 0;
    for (int32_t g = 0; g < shape->n_groups; g++) {
        const uint64_t layers = (uint64_t)shape->n_layers[g];
        uint64_t summed, distinct;
        count_positions(q->n_past_tok, q->n_new_tok, shape->window[g], &summed, &distinct);
        q->kv_positions += layers * summed;
        q->kv_read_bytes += layers * distinct * shape->position_bytes;
        q->kv_written_bytes += layers * (uint64_t)q->n_new_tok * shape->position_bytes;
    }
    q->attention_macs = 2 * q->kv_positions * shape->head_width;
    q->macs = q->attention_macs + (uint64_t)q->n_new_tok * shape->row_macs -
              (uint64_t)(q->n_new_tok - q->n_logits) * shape->tail_macs + (uint64_t)q->n_logits * shape->head_macs;
}

uint64_t work_weight_bytes(const work_shape *shape, int32_t n_logits) {
    return shape->step_bytes + (n_logits ? shape->head_bytes : 0) - (n_logits ? 0 : shape->tail_bytes);
}

void work_count_cached(const work_shape *shape, const wtl_seq_work *q, int32_t n_cached, uint64_t *macs, uint64_t *kv_bytes) {
    uint64_t positions = 0;
    *kv_bytes = 0;
    const int64_t cached = min_i64(n_cached, q->n_past_tok);
    for (int32_t g = 0; g < shape->n_groups && cached > 0; g++) {
        const int64_t window = shape->window[g];
        const uint64_t layers = (uint64_t)shape->n_layers[g];
        int64_t seen = cached * q->n_new_tok, oldest = 0; // oldest: first position that the first row sees
        if (window) {
            // Row i sees cached positions from n_past + i + 1 - window on: one fewer with every row once the window moves.
            seen = 0;
            for (int64_t i = 0; i < q->n_new_tok; i++) {
                const int64_t first = q->n_past_tok + i + 1 - window;
                if (first >= cached) break;
                seen += cached - (first > 0 ? first : 0);
            }
            oldest = q->n_past_tok + 1 > window ? q->n_past_tok + 1 - window : 0;
        }
        positions += layers * (uint64_t)seen;
        if (cached > oldest) *kv_bytes += layers * (uint64_t)(cached - oldest) * shape->position_bytes;
    }
    *macs = 2 * positions * shape->head_width;
}
