// Quantising one column of x (a row: one token) for a matmul with quantised weights, as backend.h promises it.
//
// In two steps, because a column's limit hangs on a sum in order over its blocks: between the two, the caller measures the next column, and
// nothing waits for that sum. What comes out is decided by the column alone, and has the same bits with every instruction set but for
// the fields of wide panels, which not all of them set.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_QUANTIZE_H
#define WTL_KERNELS_CPU_QUANTIZE_H

#include <stddef.h>

#include "kernels/cpu/cpu_panel.h"

// Magnitudes above this many times the mean of the blocks' largest ones are outliers; part of the op's contract.
#define CPU_OUTLIER_FACTOR 1.6f
// Magnitudes below this count as 0: their reciprocal would overflow.
#define CPU_ACT_TINY 0x1p-119f
// Arrays of floats that a column's steps share.
#define CPU_COLUMN_NOTES 5

struct cpu_column {
    const float *x;   // [n_blocks, 32]
    int32_t n_blocks;
    int32_t index;    // in its tile
    cpu_act *acts;    // block b's is acts[b * stride]
    int32_t stride;
    float *notes;     // [CPU_COLUMN_NOTES, cpu_note_length(n_blocks)], 64-byte aligned; untouched between the two steps
    float limit;      // measure sets it: outliers are above
};

// Whole vectors of blocks.
static inline size_t cpu_note_length(int32_t n_blocks) { return ((size_t)n_blocks + 15) / 16 * 16; }
static inline float *cpu_note(const cpu_column *c, int32_t i) { return c->notes + (size_t)i * cpu_note_length(c->n_blocks); }

// What a block is counted in, by its largest magnitude: NaN with a NaN or Inf.
static inline float cpu_step_of(float largest) {
    if (wtl_bits_from_f32(largest) >= 0x7F800000u) return wtl_f32_from_bits(0x7FC00000u);
    return largest >= CPU_ACT_TINY ? largest / 127.0f : 0.0f;
}

// Where outliers begin. With a NaN or Inf in the column it is NaN, which nothing exceeds.
static inline float cpu_outlier_limit(const float *steps, int32_t n_blocks) {
    float sum = 0;
    for (int32_t b = 0; b < n_blocks; b++) sum += steps[b];
    return CPU_OUTLIER_FACTOR * 127 * (sum / (float)n_blocks);
}

// Appends the values of block b whose bits are set, by k.
static inline void cpu_put_outliers(const cpu_column *c, int32_t b, uint32_t bits, cpu_outlier *out) {
    for (; bits; bits &= bits - 1, out++) {
        const int32_t k = 32 * b + __builtin_ctz(bits);
        *out = (cpu_outlier){k, c->index, c->x[k]};
    }
}

#endif
