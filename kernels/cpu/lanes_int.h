// Vectors of CPU_LANES int32 beside those of lanes.h: dot products of int16 pairs and what leads into and out of them.
//
// A lane holds two int16 that lie beside each other in memory. Sums of products are exact as long as they fit into int32,
// so their order is free: that, and twice the speed of f32, is what kernels on fixed-point numbers are for.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_LANES_INT_H
#define WTL_KERNELS_CPU_LANES_INT_H

#include "kernels/cpu/lanes.h"

#if CPU_LANES == 16
typedef __m512i ivec;
CPU_INLINE ivec i_zero(void) { return _mm512_setzero_si512(); }
CPU_INLINE ivec i_load(const int16_t *p) { return _mm512_loadu_si512(p); }
// The pair p[0], p[1] in every lane.
CPU_INLINE ivec i_pair(const int16_t *p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
}
// sum + a[0] b[0] + a[1] b[1] in every lane; no product of -32768 with itself
CPU_INLINE ivec i_dot(ivec sum, ivec a, ivec b) {
    // In assembler because gcc 12 copies the accumulator before every intrinsic, which costs a third of the speed.
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
CPU_INLINE vec v_from_int(ivec x) { return _mm512_cvtepi32_ps(x); }
// To the nearest whole number, ties to even. |x| <= 32767; anything else stores some number.
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    _mm256_storeu_si256((void *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}

#elif CPU_LANES == 8
typedef __m256i ivec;
CPU_INLINE ivec i_zero(void) { return _mm256_setzero_si256(); }
CPU_INLINE ivec i_load(const int16_t *p) { return _mm256_loadu_si256((const void *)p); }
CPU_INLINE ivec i_pair(const int16_t *p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
}
CPU_INLINE ivec i_dot(ivec sum, ivec a, ivec b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
CPU_INLINE vec v_from_int(ivec x) { return _mm256_cvtepi32_ps(x); }
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    __m256i whole = _mm256_cvtps_epi32(x);
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

#else
typedef vec_int ivec;
CPU_INLINE ivec i_zero(void) { return (ivec){0}; }
CPU_INLINE ivec i_load(const int16_t *p) {
    ivec x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
CPU_INLINE ivec i_pair(const int16_t *p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return (ivec){pair, pair, pair, pair};
}
CPU_INLINE ivec i_dot(ivec sum, ivec a, ivec b) {
    const ivec a0 = (ivec)((vec_bits)a << 16) >> 16, b0 = (ivec)((vec_bits)b << 16) >> 16;
    return sum + a0 * b0 + (a >> 16) * (b >> 16);
}
CPU_INLINE vec v_from_int(ivec x) { return (vec){(float)x[0], (float)x[1], (float)x[2], (float)x[3]}; }
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    vec_bits whole = (vec_bits)(x + v_set1(12582912.0f)) - 0x4B400000u; // 1.5 * 2^23
    for (int i = 0; i < 4; i++) p[i] = (int16_t)whole[i];
}
#endif

// 2^x with a relative error below 5e-6. 0 below -150; x at most 127; NaN stays NaN.
// x = n + f with |f| <= 1/2; 2^f of degree 4 through the Chebyshev nodes of that interval.
CPU_INLINE vec v_exp2(vec x) {
    const vec magic = v_set1(12582912.0f);
    x = v_max(v_set1(-160.0f), x);
#if CPU_LANES == 16
    vec n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), t = magic;
#else
    vec t = v_add(x, magic), n = v_sub(t, magic);
#endif
    vec f = v_sub(x, n);
    vec p = v_set1(0.00966636837f);
    p = v_fma(p, f, v_set1(0.0559219755f));
    p = v_fma(p, f, v_set1(0.240223497f));
    p = v_fma(p, f, v_set1(0.693121016f));
    p = v_fma(p, f, v_set1(1.0f));
    return v_scale_pow2(p, n, t);
}

#endif
