// Weights of a file to f32: the meaning of every type that can run. Types with blocks of 256 are in dequant_k.c.
//
// The formulas are facts of the GGUF format (ggml's published block layouts), checked bit for bit against vectors made
// with the independent implementation in the gguf Python package (tests/fixtures/dequant_vectors.bin). Each product and
// sum is rounded to f32 in the written order; that order is part of the format as others run it.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <string.h>

#include "kernels/ref/ref.h"

const int8_t ref_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void dequantize_f32(const void *src, float *dst, int64_t n) { memcpy(dst, src, (size_t)n * sizeof(float)); }

static void dequantize_f16(const void *src, float *dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const uint8_t *)src + 2 * i, sizeof h);
        dst[i] = wtl_f32_from_f16(h);
    }
}

static void dequantize_bf16(const void *src, float *dst, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const uint8_t *)src + 2 * i, sizeof h);
        dst[i] = wtl_f32_from_bf16(h);
    }
}

// Nibble types of 32: weight j is the low nibble of byte j for j < 16 and the high nibble of byte j - 16 above.

// w = d (q - 8)
static void dequantize_q4_0(const void *src, float *dst, int64_t n) {
    const block_q4_0 *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)((block->qs[j] & 15) - 8);
            dst[j + 16] = d * (float)((block->qs[j] >> 4) - 8);
        }
    }
}

// w = d q + m
static void dequantize_q4_1(const void *src, float *dst, int64_t n) {
    const block_q4_1 *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d), m = wtl_f32_from_f16(block->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)(block->qs[j] & 15) + m;
            dst[j + 16] = d * (float)(block->qs[j] >> 4) + m;
        }
    }
}

// Fifth bit of weight j: bit j of the little-endian word qh.
static int fifth_bit(const uint8_t *qh, int j) { return ((qh[j / 8] >> (j % 8)) & 1) << 4; }

// w = d (q - 16), q of five bits
static void dequantize_q5_0(const void *src, float *dst, int64_t n) {
    const block_q5_0 *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)(((block->qs[j] & 15) | fifth_bit(block->qh, j)) - 16);
            dst[j + 16] = d * (float)(((block->qs[j] >> 4) | fifth_bit(block->qh, j + 16)) - 16);
        }
    }
}

// w = d q + m, q of five bits
static void dequantize_q5_1(const void *src, float *dst, int64_t n) {
    const block_q5_1 *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d), m = wtl_f32_from_f16(block->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)((block->qs[j] & 15) | fifth_bit(block->qh, j)) + m;
            dst[j + 16] = d * (float)((block->qs[j] >> 4) | fifth_bit(block->qh, j + 16)) + m;
        }
    }
}

// w = d q, q signed
static void dequantize_q8_0(const void *src, float *dst, int64_t n) {
    const block_q8_0 *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d);
        for (int j = 0; j < 32; j++) dst[j] = d * (float)block->qs[j];
    }
}

// w = d level[q]
static void dequantize_iq4_nl(const void *src, float *dst, int64_t n) {
    const block_iq4_nl *block = src;
    for (int64_t b = 0; b < n / 32; b++, block++, dst += 32) {
        float d = wtl_f32_from_f16(block->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)ref_iq4_values[block->qs[j] & 15];
            dst[j + 16] = d * (float)ref_iq4_values[block->qs[j] >> 4];
        }
    }
}

void ref_dequantize_row(wtl_dtype dtype, const void *src, float *dst, int64_t n) {
    assert(n >= 0 && wtl_dtype_get(dtype)->can_run && n % wtl_dtype_get(dtype)->block_weights == 0);
    switch (dtype) {
    case WTL_DTYPE_F32: dequantize_f32(src, dst, n); return;
    case WTL_DTYPE_F16: dequantize_f16(src, dst, n); return;
    case WTL_DTYPE_BF16: dequantize_bf16(src, dst, n); return;
    case WTL_DTYPE_Q4_0: dequantize_q4_0(src, dst, n); return;
    case WTL_DTYPE_Q4_1: dequantize_q4_1(src, dst, n); return;
    case WTL_DTYPE_Q5_0: dequantize_q5_0(src, dst, n); return;
    case WTL_DTYPE_Q5_1: dequantize_q5_1(src, dst, n); return;
    case WTL_DTYPE_Q8_0: dequantize_q8_0(src, dst, n); return;
    case WTL_DTYPE_IQ4_NL: dequantize_iq4_nl(src, dst, n); return;
    case WTL_DTYPE_Q2_K: ref_dequantize_q2_k(src, dst, n); return;
    case WTL_DTYPE_Q3_K: ref_dequantize_q3_k(src, dst, n); return;
    case WTL_DTYPE_Q4_K: ref_dequantize_q4_k(src, dst, n); return;
    case WTL_DTYPE_Q5_K: ref_dequantize_q5_k(src, dst, n); return;
    case WTL_DTYPE_Q6_K: ref_dequantize_q6_k(src, dst, n); return;
    case WTL_DTYPE_IQ4_XS: ref_dequantize_iq4_xs(src, dst, n); return;
    default: return; // the assert above has said so
    }
}
