// Vectors of CPU_LANES int32 beside those of lanes.h: dot products of pairs and quads and what leads into and out of them.
//
// A lane holds two int16, or four bytes, that lie beside each other in memory. Sums of products are exact as long as they fit
// into int32, so their order is free: that, and twice the speed of f32 (four times with VNNI and bytes), is what kernels on
// whole numbers are for. Quads are unsigned bytes times small signed numbers; where no instruction multiplies those, a quad
// is two pairs, of its even and of its odd bytes, and the signed numbers (iquad_number) are kept as int16 in that order.
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
// 2 CPU_LANES bytes to int16
CPU_INLINE ivec i_load_i8(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)p)); }
typedef int8_t iquad_number;
typedef ivec iquad;
CPU_INLINE iquad iq_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
// The quad p[0 .. 3] in every lane.
CPU_INLINE iquad iq_set(const iquad_number *p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof quad);
    return _mm512_set1_epi32(quad);
}
// sum + bytes[0] x[0] + ... + bytes[3] x[3] in every lane
CPU_INLINE ivec iq_dot(ivec sum, iquad bytes, iquad x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(x));
    return sum;
}
// CPU_LANES whole numbers as quads, where |x| <= 127; anything else stores some number.
CPU_INLINE void iq_store(iquad_number *p, ivec x) { _mm_storeu_si128((void *)p, _mm512_cvtsepi32_epi8(x)); }
CPU_INLINE ivec i_set1(int32_t x) { return _mm512_set1_epi32(x); }
CPU_INLINE ivec i_add(ivec a, ivec b) { return _mm512_add_epi32(a, b); }
CPU_INLINE ivec i_round(vec x) { return _mm512_cvtps_epi32(x); } // as v_store_i16
CPU_INLINE vec v_from_int(ivec x) { return _mm512_cvtepi32_ps(x); }
// To the nearest whole number, ties to even. |x| <= 32767; anything else stores some number.
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    _mm256_storeu_si256((void *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}
// Two vectors behind each other, in half the time of one after the other.
#define V_STORES_TWO_I16 1
CPU_INLINE void v_store_two_i16(int16_t *p, vec x, vec y) {
    const __m512i quarters = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0); // packing works within 128 bits
    const __m512i packed = _mm512_packs_epi32(_mm512_cvtps_epi32(x), _mm512_cvtps_epi32(y));
    _mm512_storeu_si512(p, _mm512_permutexvar_epi64(quarters, packed));
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
CPU_INLINE ivec i_load_i8(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p)); }
typedef int16_t iquad_number;
typedef struct iquad { ivec even, odd; } iquad;
CPU_INLINE iquad iq_load(const uint8_t *p) {
    const ivec x = _mm256_loadu_si256((const void *)p);
    return (iquad){_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
}
CPU_INLINE void iq_store(iquad_number *p, ivec x) {
    const __m128i whole = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((void *)p, _mm_shufflehi_epi16(_mm_shufflelo_epi16(whole, 0xD8), 0xD8)); // 0, 2, 1, 3
}
CPU_INLINE ivec i_set1(int32_t x) { return _mm256_set1_epi32(x); }
CPU_INLINE ivec i_add(ivec a, ivec b) { return _mm256_add_epi32(a, b); }
CPU_INLINE ivec i_round(vec x) { return _mm256_cvtps_epi32(x); }
CPU_INLINE vec v_from_int(ivec x) { return _mm256_cvtepi32_ps(x); }
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    __m256i whole = _mm256_cvtps_epi32(x);
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

#elif !CPU_LANES_NEON // those of NEON are in lanes_neon.h
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
CPU_INLINE ivec i_load_i8(const int8_t *p) {
    int16_t x[8];
    for (int i = 0; i < 8; i++) x[i] = p[i];
    return i_load(x);
}
typedef int16_t iquad_number;
typedef struct iquad { ivec even, odd; } iquad;
CPU_INLINE iquad iq_load(const uint8_t *p) {
    vec_bits x;
    __builtin_memcpy(&x, p, sizeof x);
    return (iquad){(ivec)(x & 0x00FF00FFu), (ivec)(x >> 8 & 0x00FF00FFu)};
}
CPU_INLINE void iq_store(iquad_number *p, ivec x) {
    for (int i = 0; i < 4; i++) p[i] = (int16_t)x[i >> 1 | (i & 1) << 1];
}
CPU_INLINE ivec i_set1(int32_t x) { return (ivec){x, x, x, x}; }
CPU_INLINE ivec i_add(ivec a, ivec b) { return (ivec)((vec_bits)a + (vec_bits)b); }
CPU_INLINE ivec i_round(vec x) { return (ivec)((vec_bits)(x + v_set1(12582912.0f)) - 0x4B400000u); } // 1.5 * 2^23
CPU_INLINE vec v_from_int(ivec x) { return (vec){(float)x[0], (float)x[1], (float)x[2], (float)x[3]}; }
CPU_INLINE void v_store_i16(int16_t *p, vec x) {
    const ivec whole = i_round(x);
    for (int i = 0; i < 4; i++) p[i] = (int16_t)whole[i];
}
#endif

// The first n of CPU_LANES numbers, as v_store_i16, into p[2 i + odd]; what lies between them stays.
#if CPU_LANES == 16
CPU_INLINE void v_store_i16_beside(int16_t *p, int32_t odd, vec x, int32_t n) {
    const __m512i whole = _mm512_cvtps_epi32(x);
    const __mmask32 mask = (__mmask32)((UINT64_C(1) << 2 * n) - 1) & 0x55555555u;
    if (odd) _mm512_mask_storeu_epi16(p, mask << 1, _mm512_slli_epi32(whole, 16));
    else _mm512_mask_storeu_epi16(p, mask, whole);
}
#else
CPU_INLINE void v_store_i16_beside(int16_t *p, int32_t odd, vec x, int32_t n) {
    int16_t piece[CPU_LANES];
    v_store_i16(piece, x);
    for (int32_t i = 0; i < n; i++) p[2 * i + odd] = piece[i];
}
#endif

#if CPU_LANES != 16
CPU_INLINE iquad iq_set(const iquad_number *p) { return (iquad){i_pair(p), i_pair(p + 2)}; }
CPU_INLINE ivec iq_dot(ivec sum, iquad bytes, iquad x) { return i_dot(i_dot(sum, bytes.even, x.even), bytes.odd, x.odd); }
#endif

// out[i] = a[i] b[i] / 32768 to the nearest whole number, sixteen int16.
CPU_INLINE void i16_scale_16(const int16_t *a, const int16_t *b, int16_t *out) {
#if CPU_LANES >= 8
    _mm256_storeu_si256((void *)out, _mm256_mulhrs_epi16(_mm256_loadu_si256((const void *)a), _mm256_loadu_si256((const void *)b)));
#else
    for (int i = 0; i < 16; i++) out[i] = (int16_t)((a[i] * b[i] + 0x4000) >> 15);
#endif
}

// 2^x with a relative error below 5e-6. 0 below -150; x at most 127; NaN stays NaN.
// x = n + f with |f| <= 1/2; 2^f of degree 4 through the Chebyshev nodes of that interval.
CPU_INLINE vec v_exp2(vec x) {
#if CPU_LANES == 16 // one instruction gives x - n, and the last one takes any n, also -Inf
    const vec f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n = v_sub(x, f), t = n;
#else
    const vec magic = v_set1(12582912.0f);
    x = v_max(v_set1(-160.0f), x);
    const vec t = v_add(x, magic), n = v_sub(t, magic), f = v_sub(x, n);
#endif
    vec p = v_set1(0.00966636837f);
    p = v_fma(p, f, v_set1(0.0559219755f));
    p = v_fma(p, f, v_set1(0.240223497f));
    p = v_fma(p, f, v_set1(0.693121016f));
    p = v_fma(p, f, v_set1(1.0f));
    return v_scale_pow2(p, n, t);
}

#endif
