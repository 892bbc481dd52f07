// Attention inside the cpu backend: how K and V lie in a block, and the kernels that work on one partition.
//
// A layer's part of a block holds one part per KV head: keys, then values, then (F16) scales. WTL_DTYPE_F32 is kept as it
// is: keys [head_dim, 16 positions], so that the scores of sixteen keys are one broadcast and one load per dimension,
// values [16 positions, padded head_dim]. WTL_DTYPE_F16 is kept as fixed point, int16 times one f32 scale per position
// for K and one for V: integer dot products run at twice the speed of f32 without a conversion, and their sums are exact.
// There two neighbours along the reduction make a lane: keys [dimension pairs][16 positions][2], values
// [padded head_dim / 16][8 position pairs][16 dimensions][2]. WTL_DTYPE_Q8_0 is bytes times a step for 32 dimensions of a
// position, which are turned before (turn.h) where they are whole 32: keys + 128 as [dimension quads][16 positions][4], f16 steps; values as [head_dim / 32][8 position pairs]
// [32 dimensions][2], whose steps are an f32 for the head times whole numbers of 1/32768, so that weights can be made whole
// numbers once and scaled for every 32 dimensions as integers. Parts start at multiples of 64 bytes. What lies in slots
// without a position or in the padding is never looked at. cpu_attention.c splits the work and owns the memory.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_ATTEND_H
#define WTL_KERNELS_CPU_ATTEND_H

#include "kernels/cpu/cpu.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CPU_ATTEND_BLOCKS (CPU_ATTEND_PART / WTL_KV_BLOCK)
#define CPU_ATTEND_CHUNK 64 // dimensions of V that the f32 kernel copies at a time
#define CPU_ATTEND_GROUP 6 // rows that a fixed-point kernel takes through a partition together, at most

// Limits of the fixed-point numbers. A score is at most |q| |k| in steps (Cauchy and Schwarz), and 46300^2 leaves room in
// int32 for the rounding of every element. A weighted sum is at most (sum of weights) * (largest value):
// (130000 + 256 / 2) * 16383 < 2^31, for weights that are scaled to a sum of at most 130000 and to at most 32767 each.
#define CPU_FIXED_MAX 32767
#define CPU_FIXED_NORM 46300
#define CPU_FIXED_VALUE_MAX 16383
#define CPU_FIXED_WEIGHT_SUM 130000

static inline int32_t cpu_kv_padded(int32_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline int32_t cpu_kv_pairs(int32_t head_dim) { return (head_dim + 1) / 2; }
// Q8_0: dimensions that share a step, how many such groups, and quads of keys
#define CPU_BYTES_GROUP 32
static inline int32_t cpu_kv_groups(int32_t head_dim) { return (head_dim + CPU_BYTES_GROUP - 1) / CPU_BYTES_GROUP; }
static inline int32_t cpu_kv_quads(int32_t head_dim) { return (head_dim + 3) / 4; }
#define CPU_BYTES_VALUES ((size_t)CPU_BYTES_GROUP * WTL_KV_BLOCK) // bytes of a group's values in a block

// Bytes from the start of a KV head's part.
typedef struct cpu_kv_layout {
    size_t values;
    size_t key_scales;   // F16: f32 [16]; Q8_0: f16 [groups, 16]
    size_t value_scales; // F16, Q8_0: f32 [16]
    size_t value_ratios; // Q8_0: int16 [groups, 16], 1/32768 of value_scales
    size_t bytes;
} cpu_kv_layout;

cpu_kv_layout cpu_kv_head_layout(const wtl_kv_shape *shape); // cpu_attention.c

// Query rows of one sequence over one partition of one KV head. Rows are ordered by position, so that first and end never
// descend; the rows of one position are the query heads that share the KV head.
typedef struct cpu_attend_tile {
    const uint8_t *block[CPU_ATTEND_BLOCKS]; // the head's part of each block; NULL where no row may look
    const uint8_t *next[CPU_ATTEND_BLOCKS]; // parts of which keys are fetched into the cache while values are read, or NULL
    cpu_kv_layout layout;
    int32_t head_dim, padded;
    int32_t n_rows;
    const int32_t *first;  // [n_rows] visible positions first <= p < end, counted from the partition's start,
    const int32_t *end;    //   0..CPU_ATTEND_PART; first >= end: none
    float *q;              // [n_rows, padded] as `query` wrote it: f32, int16 in the first half of each row, or as in attend_bytes_template.h
    float *q_scale;        // [n_rows] F16, Q8_0: from a score as the kernel has it to the base-2 exponent
    float *scores;         // scratch [n_rows (F16, Q8_0: CPU_ATTEND_GROUP), CPU_ATTEND_PART]
    float *values;         // scratch [CPU_ATTEND_PART, CPU_ATTEND_CHUNK]; F16: int16 weights [CPU_ATTEND_GROUP, CPU_ATTEND_PART]; Q8_0: twice
    float *max, *sum;      // result [n_rows]
    float *out;            // result [n_rows, padded]: sum over p of exp(score - max) v[p]
} cpu_attend_tile;

// Softmax of some rows so far: out / sum is the answer over the partitions merged until now. Starts at max -Inf, zeros.
typedef struct cpu_attend_state {
    float *max, *sum; // [rows]; the maximum is in the kernel's own units
    float *out;       // [rows, padded]
} cpu_attend_state;

typedef struct cpu_attend_kernels {
    void (*query)(const cpu_attend_tile *t, int32_t row, const float *q, float scale); // q [head_dim] into row of the tile
    void (*part)(const cpu_attend_tile *t);
    // The arithmetic of a row depends on its own numbers alone.
    void (*merge)(cpu_attend_state into, cpu_attend_state from, int32_t n_rows, int32_t padded);
    void (*finish)(const float *sum, const float *from, float *out, int32_t n); // out [n] = from * (1 / sum)
} cpu_attend_kernels;

typedef struct cpu_attend_table {
    cpu_attend_kernels f32, fixed, bytes;
} cpu_attend_table;

extern const cpu_attend_table cpu_attend_scalar, cpu_attend_avx2, cpu_attend_avx512vnni, cpu_attend_neon;

#ifdef __cplusplus
}
#endif
#endif
