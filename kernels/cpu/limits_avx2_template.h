// Limits with 256 bit: bytes by vpdpbusd where LIMIT_VNNI is set, else by vpmaddubsw, vpmaddwd and vpaddd (there is no
// shorter way), 16 bits by the last two, floats by FMA. The text of limits_avx2.c and limits_avxvnni.c.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>
#define LIMIT_VECTOR __m256i
#include "kernels/cpu/dot_avxvnni.h"
#include "kernels/cpu/limits_read.h"

enum { CHAINS = 10, UNROLL = 10 }; // independent sums hide the latency; the compiler keeps all in registers

CPU_INLINE __m256i multiply_bytes(__m256i sum, __m256i a, __m256i b) {
#if LIMIT_VNNI
    return dot_bytes(sum, a, b);
#else
    __m256i pairs = _mm256_maddubs_epi16(a, b);
    __asm__ volatile("" : "+x"(pairs)); // or chains would share them
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

static double avx2_int8(int64_t rounds) {
    __m256i sums[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_setzero_si256();
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+x"(a), "+x"(b)); // or the products were the same ones
            for (int i = 0; i < CHAINS; i++) sums[i] = multiply_bytes(sums[i], a, b);
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
