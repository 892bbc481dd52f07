// Limits with AVX-512: bytes by vpdpbusd, 16 bits by vpdpwssd, floats by FMA. 512 bit.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>
#define LIMIT_VECTOR __m512i
#include "kernels/cpu/limits_read.h"

enum { CHAINS = 16, UNROLL = 8 };

static double avx512_int8(int64_t rounds) {
    __m512i sums[CHAINS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_setzero_si512();
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+v"(a), "+v"(b));
            for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "v"(sums[i]));
    return 64.0 * CHAINS * UNROLL * (double)rounds;
}

static double avx512_int16(int64_t rounds) {
    __m512i sums[CHAINS], a = _mm512_set1_epi16(3), b = _mm512_set1_epi16(2);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_setzero_si512();
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+v"(a), "+v"(b));
            for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpwssd_epi32(sums[i], a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "v"(sums[i]));
    return 32.0 * CHAINS * UNROLL * (double)rounds;
}

static double avx512_f32(int64_t rounds) {
    __m512 sums[CHAINS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < UNROLL; k++) {
            __asm__ volatile("" : "+v"(x), "+v"(y));
            for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], x, y);
        }
    }
    for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "v"(sums[i]));
    return 16.0 * CHAINS * UNROLL * (double)rounds;
}

const cpu_limit_kernels cpu_limits_avx512vnni = {"AVX-512 VNNI vpdpbusd", "AVX-512 VNNI vpdpwssd", "AVX-512 FMA", read_piece,
                                                    avx512_int8, avx512_int16, avx512_f32};
