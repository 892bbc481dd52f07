// Weights of the types with blocks of 256 to f32. Called through ref_dequantize_row (dequant.c), which says where the
// formulas come from and why the order of the roundings is fixed.
//
// A block of 256 has one or two f16 scales and, inside, 8 or 16 sub-blocks with small integer scales of their own.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/ref.h"

// Weight i of 256 is two bits of byte 32 (i / 128) + i % 32; the bit pair is (i % 128) / 32.
static int two_bits(const uint8_t *qs, int i) { return (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3; }

// w = (d scale) q - (dmin minimum); per 16 weights the low nibble of a byte is the scale, the high one the minimum
void ref_dequantize_q2_k(const void *src, float *dst, int64_t n) {
    const block_q2_k *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d), dmin = wtl_f32_from_f16(block->dmin);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)(block->scales[sub] & 15), minimum = dmin * (float)(block->scales[sub] >> 4);
            for (int i = sub * 16; i < sub * 16 + 16; i++)
                dst[i] = scale * (float)two_bits(block->qs, i) - minimum;
        }
    }
}

// Sixteen six-bit scales in 12 bytes: bytes 0..7 hold the low nibbles of scales 0..7 (low) and 8..15 (high),
// byte 8 + sub % 4 holds the upper two bits of four scales. Stored with 32 added.
static int q3_k_scale(const uint8_t *packed, int sub) {
    int low = sub < 8 ? packed[sub] & 15 : packed[sub - 8] >> 4;
    int high = (packed[8 + sub % 4] >> (sub / 4 * 2)) & 3;
    return (low | high << 4) - 32;
}

// w = (d scale) q, q = two bits, minus 4 where the weight's bit in hmask is clear
void ref_dequantize_q3_k(const void *src, float *dst, int64_t n) {
    const block_q3_k *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)q3_k_scale(block->scales, sub);
            for (int i = sub * 16; i < sub * 16 + 16; i++) {
                int high = (block->hmask[i % 32] >> (i / 32)) & 1;
                dst[i] = scale * (float)(two_bits(block->qs, i) - (high ? 0 : 4));
            }
        }
    }
}

// Eight six-bit scales and minima in 12 bytes. 0..3: the low six bits of bytes 0..3 (scales) and 4..7 (minima).
// 4..7: nibbles of bytes 8..11, their upper two bits from the top of bytes 0..3 and 4..7.
static void q4_k_scale_min(const uint8_t *packed, int sub, int *scale, int *minimum) {
    if (sub < 4) {
        *scale = packed[sub] & 63;
        *minimum = packed[sub + 4] & 63;
    } else {
        *scale = (packed[sub + 4] & 15) | packed[sub - 4] >> 6 << 4;
        *minimum = packed[sub + 4] >> 4 | packed[sub] >> 6 << 4;
    }
}

// w = (d scale) q - (dmin minimum) per 32 weights; sub-blocks 2c and 2c + 1 are the low and high nibbles of bytes 32c..
void ref_dequantize_q4_k(const void *src, float *dst, int64_t n) {
    const block_q4_k *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d), dmin = wtl_f32_from_f16(block->dmin);
        for (int sub = 0; sub < 8; sub++) {
            int scale_bits, minimum_bits;
            q4_k_scale_min(block->scales, sub, &scale_bits, &minimum_bits);
            float scale = d * (float)scale_bits, minimum = dmin * (float)minimum_bits;
            const uint8_t *qs = block->qs + sub / 2 * 32;
            for (int i = 0; i < 32; i++)
                dst[sub * 32 + i] = scale * (float)(sub % 2 ? qs[i] >> 4 : qs[i] & 15) - minimum;
        }
    }
}

// As Q4_K with a fifth bit: bit `sub` of qh[i]
void ref_dequantize_q5_k(const void *src, float *dst, int64_t n) {
    const block_q5_k *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d), dmin = wtl_f32_from_f16(block->dmin);
        for (int sub = 0; sub < 8; sub++) {
            int scale_bits, minimum_bits;
            q4_k_scale_min(block->scales, sub, &scale_bits, &minimum_bits);
            float scale = d * (float)scale_bits, minimum = dmin * (float)minimum_bits;
            const uint8_t *qs = block->qs + sub / 2 * 32;
            for (int i = 0; i < 32; i++) {
                int q = (sub % 2 ? qs[i] >> 4 : qs[i] & 15) | ((block->qh[i] >> sub) & 1) << 4;
                dst[sub * 32 + i] = scale * (float)q - minimum;
            }
        }
    }
}

// w = (d scale) (q - 32), signed scale per 16 weights. Each half of 128 has 64 bytes of low nibbles (weights 0..63 low,
// 64..127 high) and 32 bytes with the upper two bits of weights l, l + 32, l + 64, l + 96.
void ref_dequantize_q6_k(const void *src, float *dst, int64_t n) {
    const block_q6_k *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)block->scales[sub];
            for (int i = sub * 16; i < sub * 16 + 16; i++) {
                int half = i / 128, within = i % 128;
                uint8_t nibbles = block->ql[half * 64 + within % 64];
                int low = within < 64 ? nibbles & 15 : nibbles >> 4;
                int high = (block->qh[half * 32 + within % 32] >> (within / 32 * 2)) & 3;
                dst[i] = scale * (float)((low | high << 4) - 32);
            }
        }
    }
}

// w = (d (scale - 32)) level[q] per 32 weights; four low bits of the scale in scales_l, two high ones in scales_h
void ref_dequantize_iq4_xs(const void *src, float *dst, int64_t n) {
    const block_iq4_xs *block = src;
    for (int64_t b = 0; b < n / 256; b++, block++, dst += 256) {
        float d = wtl_f32_from_f16(block->d);
        for (int sub = 0; sub < 8; sub++) {
            int low = (block->scales_l[sub / 2] >> (sub % 2 * 4)) & 15, high = (block->scales_h >> (sub * 2)) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            const uint8_t *qs = block->qs + sub * 16;
            for (int i = 0; i < 16; i++) {
                dst[sub * 32 + i] = scale * (float)ref_iq4_values[qs[i] & 15];
                dst[sub * 32 + i + 16] = scale * (float)ref_iq4_values[qs[i] >> 4];
            }
        }
    }
}
