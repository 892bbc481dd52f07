// Attention inside the cpu backend: how K and V lie in a block, and the kernels that work on one partition.
//
// A layer's part of a block holds one part per KV head: keys transposed [head_dim, 16 positions], so that the scores of
// sixteen keys are one broadcast and one load per dimension, then values [16 positions, padded head_dim], so that the
// weighted sum needs only broadcasts. Both F16 or both F32; values start at a multiple of 64 bytes. What lies in slots
// without a position or in the padding is never looked at. cpu_attention.c splits the work and owns the memory.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_ATTEND_H
#define WTL_KERNELS_CPU_ATTEND_H

#include "kernels/cpu/cpu.h"

#define CPU_ATTEND_BLOCKS (CPU_ATTEND_PART / WTL_KV_BLOCK)
#define CPU_ATTEND_CHUNK 64 // dimensions of V that are converted at a time

static inline int32_t cpu_kv_padded(int32_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline size_t cpu_kv_elem_bytes(const wtl_kv_shape *shape) { return shape->dtype == WTL_DTYPE_F16 ? 2 : 4; }
static inline size_t cpu_kv_key_bytes(const wtl_kv_shape *shape) {
    return ((size_t)shape->head_dim * WTL_KV_BLOCK * cpu_kv_elem_bytes(shape) + 63) / 64 * 64;
}
static inline size_t cpu_kv_head_bytes(const wtl_kv_shape *shape) {
    return cpu_kv_key_bytes(shape) + (size_t)cpu_kv_padded(shape->head_dim) * WTL_KV_BLOCK * cpu_kv_elem_bytes(shape);
}

// Query rows of one sequence over one partition of one KV head. Rows are ordered by position, so that first and end never
// descend; the rows of one position are the query heads that share the KV head.
typedef struct cpu_attend_tile {
    const uint8_t *block[CPU_ATTEND_BLOCKS]; // the head's part of each block; NULL where no row may look
    const uint8_t *next[2]; // parts to fetch into the cache while this tile ends, or NULL
    bool f16;
    size_t key_bytes; // where values start in a part
    int32_t head_dim, padded;
    int32_t n_rows;
    const float *q;        // [n_rows, padded], already scaled
    const int32_t *first;  // [n_rows] visible positions first <= p < end, counted from the partition's start,
    const int32_t *end;    //   0..CPU_ATTEND_PART; first >= end: none
    float *scores;         // scratch [n_rows, CPU_ATTEND_PART]
    float *keys;           // scratch [2, head_dim, 16]
    float *values;         // scratch [CPU_ATTEND_PART, CPU_ATTEND_CHUNK]
    float *max, *sum;      // result [n_rows]
    float *out;            // result [n_rows, padded]: sum over p of exp(score - max) v[p]
} cpu_attend_tile;

// A row's softmax so far: out / sum is the answer over the partitions merged until now. Starts at max -Inf, zeros.
typedef struct cpu_attend_state {
    float *max, *sum; // one each
    float *out;       // [padded]
} cpu_attend_state;

typedef struct cpu_attend_kernels {
    // to[i] = from[i] * scale, n <= padded, zeros up to padded
    void (*scale)(const float *from, float scale, float *to, int32_t n, int32_t padded);
    void (*part)(const cpu_attend_tile *t);
    void (*merge)(cpu_attend_state into, float max, float sum, const float *out, int32_t padded);
    void (*finish)(cpu_attend_state from, float *out, int32_t n); // out [n] = from.out / from.sum
} cpu_attend_kernels;

extern const cpu_attend_kernels cpu_attend_scalar;
#if defined(__x86_64__)
extern const cpu_attend_kernels cpu_attend_avx2, cpu_attend_avx512vnni;
#endif

#endif
