// Reference KV cache and causal attention over block tables.
//
// A layer's part of a block is [kv head] of K [16, head_dim] then V [16, head_dim], in the cache's type. Attention is
// softmax(scale q k^T) v (Vaswani et al. 2017) with the maximum subtracted, one query head after the other, in double.
// Blocks with table entry -1 are released: no visible position may lie in one.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <math.h>

#include "kernels/ref/ref.h"

#define F16_MAX 65504.0f

// One K or V of a head. Q8_0: block_q8_0 for every 32 values; the last one may be used in part.
static size_t stored_bytes(const wtl_kv_shape *shape) {
    size_t dim = (size_t)shape->head_dim;
    if (shape->dtype == WTL_DTYPE_Q8_0) return (dim + 31) / 32 * sizeof(block_q8_0);
    return dim * (shape->dtype == WTL_DTYPE_F16 ? 2 : 4);
}

size_t ref_kv_layer_bytes(const wtl_kv_shape *shape) {
    size_t bytes = (size_t)shape->n_heads_kv * 2 * WTL_KV_BLOCK * stored_bytes(shape);
    return (bytes + 63) & ~(size_t)63;
}

// Where head h's K (part 0) or V (part 1) of a position lies.
static uint8_t *kv_at(const wtl_kv *kv, int32_t seq, int32_t position, int32_t h, int32_t part) {
    int32_t block = kv->table[(int64_t)seq * kv->table_stride + position / WTL_KV_BLOCK];
    assert(block >= 0 && position / WTL_KV_BLOCK < kv->table_stride);
    size_t before = ((size_t)h * 2 + (size_t)part) * WTL_KV_BLOCK + (size_t)(position % WTL_KV_BLOCK);
    return kv->base + (size_t)block * kv->block_bytes + kv->layer_offset + before * stored_bytes(&kv->shape);
}

// Beyond f16's largest finite value (Inf too): that value; NaN stays NaN.
static float saturated(float x) { return x > F16_MAX ? F16_MAX : x < -F16_MAX ? -F16_MAX : x; }

// x [n] of n <= 32 as bytes times the smallest f16 that is at least their largest magnitude over 127.
static void store_q8_0(const float *x, int32_t n, block_q8_0 *out) {
    float largest = 0.0f;
    for (int32_t i = 0; i < n; i++)
        if (isnan(x[i]) || fabsf(saturated(x[i])) > largest) largest = fabsf(saturated(x[i]));
    out->d = wtl_f16_from_f32(largest / 127);
    if (wtl_f32_from_f16(out->d) < largest / 127) out->d++;
    const float step = wtl_f32_from_f16(out->d);
    for (int32_t i = 0; i < n; i++) out->qs[i] = step > 0 ? (int8_t)lrintf(saturated(x[i]) / step) : 0;
}

static void kv_store(const wtl_kv_shape *shape, uint8_t *to, const float *from) {
    for (int32_t d = 0; shape->dtype == WTL_DTYPE_Q8_0 && d < shape->head_dim; d += 32)
        store_q8_0(from + d, shape->head_dim - d < 32 ? shape->head_dim - d : 32, (block_q8_0 *)(void *)to + d / 32);
    if (shape->dtype == WTL_DTYPE_Q8_0) return;
    for (int32_t d = 0; d < shape->head_dim; d++) {
        if (shape->dtype == WTL_DTYPE_F16)
            ((uint16_t *)to)[d] = wtl_f16_from_f32(saturated(from[d])); // nearest, ties to even
        else
            ((float *)to)[d] = from[d];
    }
}

// One stored K or V of a head [head_dim] in double.
static void kv_load(const wtl_kv_shape *shape, const uint8_t *from, double *to) {
    const block_q8_0 *blocks = (const block_q8_0 *)(const void *)from;
    if (shape->dtype == WTL_DTYPE_Q8_0)
        for (int32_t d = 0; d < shape->head_dim; d++) to[d] = (double)wtl_f32_from_f16(blocks[d / 32].d) * blocks[d / 32].qs[d % 32];
    else if (shape->dtype == WTL_DTYPE_F16)
        for (int32_t d = 0; d < shape->head_dim; d++) to[d] = (double)wtl_f32_from_f16(((const uint16_t *)from)[d]);
    else
        for (int32_t d = 0; d < shape->head_dim; d++) to[d] = (double)((const float *)from)[d];
}

// k, v [n_rows, n_heads_kv * head_dim]
void ref_kv_write(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows) {
    (void)s;
    for (int32_t r = 0; r < rows->n_rows; r++) {
        for (int32_t h = 0; h < kv->shape.n_heads_kv; h++) {
            int32_t first = h * kv->shape.head_dim, seq = rows->seqs[r], position = rows->positions[r];
            kv_store(&kv->shape, kv_at(kv, seq, position, h, 0), ref_mat_row(k, r) + first);
            kv_store(&kv->shape, kv_at(kv, seq, position, h, 1), ref_mat_row(v, r) + first);
        }
    }
}

// One query head [head_dim] of sequence seq over positions first..last of KV head h; out [head_dim].
static void attend(ref_stream *rs, const wtl_attention *a, int32_t seq, int32_t h, int32_t first, int32_t last,
                   const float *q, float *out) {
    const wtl_kv_shape *shape = &a->kv.shape;
    double maximum = -HUGE_VAL, total = 0.0, *scores = rs->scores, *stored = rs->wide_row, *weighted = rs->weighted;
    for (int32_t p = first; p <= last; p++) {
        double product = 0.0;
        kv_load(shape, kv_at(&a->kv, seq, p, h, 0), stored);
        for (int32_t d = 0; d < shape->head_dim; d++) product += (double)q[d] * stored[d];
        scores[p - first] = product * (double)a->scale;
        if (scores[p - first] > maximum) maximum = scores[p - first];
    }
    for (int32_t d = 0; d < shape->head_dim; d++) weighted[d] = 0.0;
    for (int32_t p = first; p <= last; p++) {
        double weight = exp(scores[p - first] - maximum); // NaN scores reach every element of the row from here
        total += weight;
        kv_load(shape, kv_at(&a->kv, seq, p, h, 1), stored);
        for (int32_t d = 0; d < shape->head_dim; d++) weighted[d] += weight * stored[d];
    }
    for (int32_t d = 0; d < shape->head_dim; d++) out[d] = (float)(weighted[d] / total);
}

// q, out [n_rows, n_heads * head_dim]
void ref_attention(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows) {
    ref_stream *rs = ref_of(s);
    int32_t head_dim = a->kv.shape.head_dim, group = a->n_heads / a->kv.shape.n_heads_kv;
    if (!ref_fits(s, rows->kv_len_max <= rs->limits.max_kv_len && head_dim <= rs->limits.max_head_dim)) return;
    for (int32_t r = 0; r < rows->n_rows; r++) {
        int32_t last = rows->positions[r], first = a->window > 0 && last >= a->window ? last - a->window + 1 : 0;
        assert(last < rows->kv_len_max);
        for (int32_t h = 0; h < a->n_heads; h++)
            attend(rs, a, rows->seqs[r], h / group, first, last, ref_mat_row(a->q, r) + h * head_dim,
                   ref_mat_row(a->out, r) + h * head_dim);
    }
}
