// Limits with AVX2: bytes by vpmaddubsw, vpmaddwd and vpaddd (there is no shorter way), 16 bits by
// the last two, floats by FMA. 256 bit.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>
#define LIMIT_VECTOR __m256i
#include "kernels/cpu/limits_read.h"

enum { CHAINS = 10, UNROLL = 10 }; // independent sums hide the latency; the compiler keeps all in registers

static double avx2_int8(int64_t rounds) {
    __m256i sums[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_setzero_si256();
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+x"(a), "+x"(b)); // or the products were the same ones
            for (int i = 0; i < CHAINS; i++) {
                __m256i pairs = _mm256_maddubs_epi16(a, b);
                __asm__ volatile("" : "+x"(pairs)); // nor do chains share them
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "x"(sums[i]));
    return 32.0 * CHAINS * UNROLL * (double)rounds;
}

static double avx2_int16(int64_t rounds) {
    __m256i sums[CHAINS], a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_setzero_si256();
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+x"(a), "+x"(b));
            for (int i = 0; i < CHAINS; i++) {
                __m256i products = _mm256_madd_epi16(a, b);
                __asm__ volatile("" : "+x"(products));
                sums[i] = _mm256_add_epi32(sums[i], products);
            }
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "x"(sums[i]));
    return 16.0 * CHAINS * UNROLL * (double)rounds;
}

static double avx2_f32(int64_t rounds) {
    __m256 sums[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+x"(x), "+x"(y));
            for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_fmadd_ps(sums[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "x"(sums[i]));
    return 8.0 * CHAINS * UNROLL * (double)rounds;
}

const cpu_limit_kernels cpu_limits_avx2 = {"AVX2 vpmaddubsw", "AVX2 vpmaddwd", "AVX2 FMA", read_piece, avx2_int8, avx2_int16, avx2_f32};
