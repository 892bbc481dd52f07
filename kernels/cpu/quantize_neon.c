// Quantised activations for NEON; any 64-bit Arm.
// SPDX-License-Identifier: Apache-2.0
#include <arm_neon.h>

#include "kernels/cpu/cpu_quantize.h"

static float largest_of(const float *x) {
    uint32x4_t top = vdupq_n_u32(0);
    for (int i = 0; i < 8; i++) {
        top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + 4 * i)), vdupq_n_u32(0x7FFFFFFFu)));
    }
    return wtl_f32_from_bits(vmaxvq_u32(top));
}

static uint32_t above(const float *x, float limit) {
    static const uint32_t weights[4] = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++) {
        const uint32x4_t is_above = vcagtq_f32(vld1q_f32(x + 4 * i), vdupq_n_f32(limit)); // of magnitudes
        bits |= vaddvq_u32(vandq_u32(is_above, vld1q_u32(weights))) << 4 * i;
    }
    return bits;
}

// Four vectors of whole numbers within -127..127 to bytes.
static int8x16_t narrow(const int32x4_t *q) {
    const int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1])), high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

static void round_block(const float *x, float largest, cpu_act *act) {
    const float d = cpu_step_of(largest);
    const bool used = d > 0;
    const float inverse = used ? 127.0f / largest : 0.0f;
    int32x4_t q[8], sums[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int i = 0; i < 8; i++) {
        q[i] = used ? vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), inverse)) : vdupq_n_s32(0);
        sums[i / 4] = vaddq_s32(sums[i / 4], q[i]);
    }
    vst1q_s8(act->q, narrow(q));
    vst1q_s8(act->q + 16, narrow(q + 4));
    const int32_t low = vaddvq_s32(sums[0]), sum = low + vaddvq_s32(sums[1]);
    act->d = d;
    act->s = d * (float)sum;
    act->neg = -sum;
    act->neg_low = -low;
}

#define QUANTIZE_NAME(step) cpu_##step##_neon
#include "kernels/cpu/quantize_template.h"
