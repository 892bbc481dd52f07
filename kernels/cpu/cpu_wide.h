// Matrix multiplication with more than a few rows: weights are unpacked once for all of them.
//
// A thread widens a span of two panels (cpu_panel.h) into its first-level cache and multiplies it with every tile of a round, whose
// activations pass from the second-level cache; sums wait in memory from one span to the next. The first tile, when it is a full one, is
// multiplied block by block while panels are widened: loads and stores of one hide behind the products of the other. Meanwhile the next two panels are fetched.
// Outliers are sorted by k over the whole round, so that those that share a k share the unpacking of its weights.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_WIDE_H
#define WTL_KERNELS_CPU_WIDE_H

#include "kernels/cpu/cpu_matmul.h"

typedef struct cpu_wide cpu_wide; // what an op's rounds need, in the stream's scratch

// Whether it pays for so many rows and all packed parts of the op.
bool cpu_wide_pays(const cpu_matmul_kernels *kernels, const wtl_matmul *a);
// Scratch for ops of up to these sizes; 0 when none of them is wide.
size_t cpu_wide_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads);
// at: that many bytes, 64-byte aligned. x need not be quantised yet.
cpu_wide *cpu_wide_begin(void *at, const cpu_tiles *x, const cpu_vec_kernels *vec, int32_t n_threads);
int32_t cpu_wide_rounds(const cpu_wide *wide);
// To be called by the thread that has quantised `tile`, with scratch of K int32_t. Who quantises a round's last tile sorts its outliers.
void cpu_wide_tile_done(cpu_wide *wide, const cpu_tiles *x, int32_t tile, int32_t *scratch);
// Panels [first, end) of a part, or of both when gated, times all of x. Unless gated first is even.
void cpu_wide_multiply(cpu_wide *wide, const wtl_matmul *a, int32_t part, const cpu_panel_kernels *kernels, int32_t first, int32_t end,
                       int32_t thread);

#endif
