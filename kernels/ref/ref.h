// Inside of the ref backend: its weights and streams, and the op functions that ref_backend.c puts into the table.
//
// ref is the oracle: every other backend is judged against it, so it says each formula in the plainest way. Sums are in
// double, one thread, no instruction-set variants. Ops run inside the call; scratch is sized when the stream opens.
// The cpu backend may use ref_dequantize_row and nothing else from here.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_REF_H
#define WTL_KERNELS_REF_H

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// dst[0..n-1] = the n weights at src in f32, for every type that can_run; n is a multiple of the type's block.
// src must be aligned to 2 bytes for quantised blocks; F32, F16 and BF16 may lie anywhere. Any thread.
void ref_dequantize_row(wtl_dtype dtype, const void *src, float *dst, int64_t n);

// dequant_k.c: the types with blocks of 256. Same contract; called through ref_dequantize_row.
void ref_dequantize_q2_k(const void *src, float *dst, int64_t n);
void ref_dequantize_q3_k(const void *src, float *dst, int64_t n);
void ref_dequantize_q4_k(const void *src, float *dst, int64_t n);
void ref_dequantize_q5_k(const void *src, float *dst, int64_t n);
void ref_dequantize_q6_k(const void *src, float *dst, int64_t n);
void ref_dequantize_iq4_xs(const void *src, float *dst, int64_t n);
extern const int8_t ref_iq4_values[16]; // the 16 levels that IQ4_NL and IQ4_XS share

// Exactly one of source and vector is set: a matrix stays in the file's memory, a vector is our own f32 copy.
typedef struct ref_weight {
    wtl_weight base;
    const uint8_t *source; // [rows, row_bytes]
    size_t row_bytes;
    float *vector; // [cols]
} ref_weight;

typedef struct ref_stream {
    wtl_stream base;
    wtl_stream_limits limits;
    wtl_status failed; // first failure since the last sync
    float *row;        // [max_cols] one dequantised weight row
    double *wide_row;  // [max(max_cols, max_head_dim)] the same in double; one stored K or V of a head
    double *weighted;  // [max_head_dim] weighted sum of V
    double *scores;    // [max_kv_len] one query against all keys
} ref_stream;

static inline ref_stream *ref_of(wtl_stream *s) { return (ref_stream *)s; }

// True when the op fits the stream's limits; otherwise INVALID sticks to the stream and the op must do nothing.
static inline bool ref_fits(wtl_stream *s, bool condition) {
    if (!condition && ref_of(s)->failed == WTL_OK) ref_of(s)->failed = WTL_ERR_INVALID;
    return condition;
}

// f32 data of a vector weight [cols].
static inline const float *ref_vector(const wtl_weight *w) { return ((const ref_weight *)w)->vector; }
// Row r of a matrix weight as it lies in the file.
static inline const void *ref_weight_row(const wtl_weight *w, int32_t r) {
    const ref_weight *weight = (const ref_weight *)w;
    return weight->source + (size_t)r * weight->row_bytes;
}
static inline float *ref_mat_row(wtl_mat m, int32_t r) { return m.data + (int64_t)r * m.stride; }

// ---- ops, in the op table's signatures; contracts in kernels/backend.h ----
void ref_embed(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out);
void ref_gather_rows(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out);
void ref_add(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out);
void ref_glu(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out);
void ref_rms_norm(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out);
void ref_matmul(wtl_stream *s, const wtl_matmul *a);
void ref_head_top(wtl_stream *s, const wtl_matmul *a, int32_t k);
void ref_rope_table(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table);
void ref_rope(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table);
size_t ref_kv_layer_bytes(const wtl_kv_shape *shape);
void ref_kv_write(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows);
void ref_attention(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows);

#ifdef __cplusplus
}
#endif
#endif
