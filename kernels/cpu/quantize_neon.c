// Quantised activations for NEON; any 64-bit Arm.
// SPDX-License-Identifier: Apache-2.0
#include <arm_neon.h>

#include "kernels/cpu/cpu_panel.h"

uint32_t cpu_above_neon(const float *x, float limit) {
    static const uint32_t weights[4] = {1, 2, 4, 8};
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++) {
        const uint32x4_t above = vcagtq_f32(vld1q_f32(x + 4 * i), vdupq_n_f32(limit)); // of magnitudes
        bits |= vaddvq_u32(vandq_u32(above, vld1q_u32(weights))) << 4 * i;
    }
    return bits;
}

// Four vectors of whole numbers within -127..127 to bytes.
static int8x16_t narrow(const int32x4_t *q) {
    const int16x8_t low = vcombine_s16(vmovn_s32(q[0]), vmovn_s32(q[1])), high = vcombine_s16(vmovn_s32(q[2]), vmovn_s32(q[3]));
    return vcombine_s8(vmovn_s16(low), vmovn_s16(high));
}

// Magnitudes compare like integers, NaN and Inf above all numbers.
void cpu_quantize_neon(const float *x, int32_t n_blocks, cpu_act *out, int32_t stride) {
    for (int32_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        float32x4_t v[8];
        int32x4_t q[8], sums[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
        uint32x4_t top = vdupq_n_u32(0);
        for (int i = 0; i < 8; i++) {
            v[i] = vld1q_f32(x + 4 * i);
            top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(v[i]), vdupq_n_u32(0x7FFFFFFFu)));
        }
        const uint32_t bits = vmaxvq_u32(top);
        const float largest = wtl_f32_from_bits(bits);
        const bool finite = bits < 0x7F800000u, used = finite && largest >= CPU_ACT_TINY;
        const float inverse = used ? 127.0f / largest : 0.0f;
        for (int i = 0; i < 8; i++) {
            q[i] = used ? vcvtnq_s32_f32(vmulq_n_f32(v[i], inverse)) : vdupq_n_s32(0);
            sums[i / 4] = vaddq_s32(sums[i / 4], q[i]);
        }
        vst1q_s8(out->q, narrow(q));
        vst1q_s8(out->q + 16, narrow(q + 4));
        const int32_t low = vaddvq_s32(sums[0]), sum = low + vaddvq_s32(sums[1]);
        out->d = used ? largest / 127.0f : finite ? 0.0f : wtl_f32_from_bits(0x7FC00000u);
        out->s = out->d * (float)sum;
        out->neg = -sum;
        out->neg_low = -low;
    }
}
