// Rows of f32 as fixed point: int16 times one step for the whole row. What the F16 KV cache and its queries are made of.
// And the steps of bytes, for the Q8_0 cache.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_FIXED_H
#define WTL_KERNELS_CPU_FIXED_H

#include <math.h>

#include "kernels/cpu/lanes_int.h"

// x[i .. i + CPU_LANES - 1] clipped to +-limit, zeros behind n; NaN stays.
CPU_INLINE vec fixed_load(const float *x, int32_t i, int32_t n, float limit) {
    vec v = n - i >= CPU_LANES ? v_load(x + i) : v_load_part(x + i, n - i);
    if (limit == INFINITY) return v;
    return v_max(v_set1(-limit), v_min(v_set1(limit), v));
}

// Norm of x [n] relative to its largest magnitude, when their squares would overflow or vanish. 0 below 2^-100.
static __attribute__((noinline)) float fixed_relative_norm(const float *x, int32_t n, float limit, float largest) {
    vec squares = v_zero(), inverse = v_set1(largest >= 0x1p-100f ? 1.0f / largest : 0.0f);
    for (int32_t i = 0; i < n; i += CPU_LANES) {
        vec relative = v_mul(fixed_load(x, i, n, limit), inverse);
        squares = v_fma(relative, relative, squares);
    }
    return sqrtf(v_sum(squares));
}

// The smallest step with which no number of x [n] is above `most` steps and their norm is not above `norm` steps.
// 0 where all of them are below 2^-100, NaN where one is NaN or Inf.
CPU_INLINE float fixed_step(const float *x, int32_t n, float limit, float most, float norm) {
    vec top = v_zero(), squares = v_zero();
    for (int32_t i = 0; i < n; i += CPU_LANES) {
        vec v = fixed_load(x, i, n, limit);
        top = v_max(v_abs(v), top);
        squares = v_fma(v, v, squares);
    }
    const float largest = v_top(top), square = v_sum(squares);
    if (square >= 0x1p-60f && square <= 0x1p60f) { // all that matters is far from the ends of f32
        const float by_most = largest * (1.0f / most), by_norm = sqrtf(square) * (1.0f / norm);
        return by_norm < by_most ? by_most : by_norm;
    }
    const float relative = fixed_relative_norm(x, n, limit, largest), by_norm = relative * (1.0f / norm);
    return (largest >= 0x1p-100f ? largest : 0.0f) * (by_norm < 1.0f / most ? 1.0f / most : by_norm);
}

// Largest magnitude of x [n] over 127, 0 below 2^-100, NaN where one is NaN or Inf: the step of bytes.
CPU_INLINE float fixed_byte_step(const float *x, int32_t n) {
    vec top = v_zero(), poison = v_zero();
    for (int32_t i = 0; i < n; i += CPU_LANES) {
        vec v = fixed_load(x, i, n, INFINITY);
        top = v_max(v_abs(v), top);
        poison = v_fma(v, v_zero(), poison);
    }
    const float largest = v_top(top);
    return (largest >= 0x1p-100f ? largest * (1.0f / 127) : 0.0f) + v_sum(poison);
}

// What numbers are multiplied with to count steps; any step.
CPU_INLINE float fixed_per_step(float step) { return step > 0.0f ? 1.0f / step : 0.0f; }

#endif
