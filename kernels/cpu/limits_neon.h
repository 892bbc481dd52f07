// Limits with NEON: bytes by LIMIT_DOT(sum, a, b), which does LIMIT_DOT_MACS multiply-adds, 16 bits by smlal and smlal2, floats by FMA. 128 bit.
// The text of limits_neon_dotprod.c and limits_neon_i8mm.c.
// SPDX-License-Identifier: Apache-2.0
#include <arm_neon.h>
#define LIMIT_VECTOR uint64x2_t
#include "kernels/cpu/limits_read.h"

enum { CHAINS = 16, UNROLL = 8 };

static double neon_int8(int64_t rounds) {
    int32x4_t sums[CHAINS];
    uint8x16_t a = vdupq_n_u8(3);
    int8x16_t b = vdupq_n_s8(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = vdupq_n_s32(0);
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+w"(a), "+w"(b)); // or the products were the same ones
            for (int i = 0; i < CHAINS; i++) sums[i] = LIMIT_DOT(sums[i], a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "w"(sums[i]));
    return (double)LIMIT_DOT_MACS * CHAINS * UNROLL * (double)rounds;
}

static double neon_int16(int64_t rounds) {
    int32x4_t sums[CHAINS];
    int16x8_t a = vdupq_n_s16(3), b = vdupq_n_s16(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = vdupq_n_s32(0);
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+w"(a), "+w"(b));
            for (int i = 0; i < CHAINS; i++) sums[i] = vmlal_high_s16(vmlal_s16(sums[i], vget_low_s16(a), vget_low_s16(b)), a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "w"(sums[i]));
    return 8.0 * CHAINS * UNROLL * (double)rounds;
}

static double neon_f32(int64_t rounds) {
    float32x4_t sums[CHAINS], x = vdupq_n_f32(0.5f), y = vdupq_n_f32(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = vdupq_n_f32((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+w"(x), "+w"(y));
            for (int i = 0; i < CHAINS; i++) sums[i] = vfmaq_f32(sums[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "w"(sums[i]));
    return 4.0 * CHAINS * UNROLL * (double)rounds;
}
