// Quantised activations in plain C; any machine.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/cpu/cpu_quantize.h"

static float largest_of(const float *x) {
    uint32_t top = 0;
    for (int i = 0; i < 32; i++) {
        const uint32_t bits = wtl_bits_from_f32(x[i]) & 0x7FFFFFFFu;
        if (bits > top) top = bits;
    }
    return wtl_f32_from_bits(top);
}

static uint32_t above(const float *x, float limit) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)(fabsf(x[i]) > limit) << i;
    return bits;
}

static void round_block(const float *x, float largest, cpu_act *act) {
    const float d = cpu_step_of(largest);
    const bool used = d > 0;
    const float inverse = used ? 127.0f / largest : 0.0f;
    int32_t low = 0, sum = 0;
    for (int i = 0; i < 32; i++) {
        // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits.
        const float shifted = (used ? x[i] * inverse : 0.0f) + 12582912.0f;
        act->q[i] = (int8_t)((int32_t)wtl_bits_from_f32(shifted) - 0x4B400000);
        sum += act->q[i];
        if (i == 15) low = sum;
    }
    act->d = d;
    act->s = d * (float)sum;
    act->neg = -sum;
    act->neg_low = -low;
}

#define QUANTIZE_NAME(step) cpu_##step##_scalar
#include "kernels/cpu/quantize_template.h"
