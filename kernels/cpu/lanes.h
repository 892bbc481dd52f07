// Vectors of CPU_LANES floats under one set of names, so that one kernel text serves every instruction set.
//
// A file sets CPU_LANES to 16 (AVX-512), 8 (AVX2, FMA, F16C) or 4 (any machine: compiler vectors, multiply and add
// rounded apart; or NEON, where CPU_LANES_NEON is 1) before including this. Parts of vectors are zero-filled. v_max and v_min give their second operand when
// one is NaN. Everything is static: nothing here may be reached without the dispatch tables.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_LANES_H
#define WTL_KERNELS_CPU_LANES_H

#include "kernels/tensor.h"

#define CPU_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif

#if CPU_LANES == 16
#include <immintrin.h>
typedef __m512 vec;
typedef struct vec_f64 { __m512d lo, hi; } vec_f64;

CPU_INLINE __mmask16 v_first_lanes(int32_t n) { return (__mmask16)((1u << n) - 1u); }
CPU_INLINE vec v_zero(void) { return _mm512_setzero_ps(); }
CPU_INLINE vec v_set1(float x) { return _mm512_set1_ps(x); }
CPU_INLINE vec v_load(const float *p) { return _mm512_loadu_ps(p); }
CPU_INLINE void v_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
CPU_INLINE vec v_load_part(const float *p, int32_t n) { return _mm512_maskz_loadu_ps(v_first_lanes(n), p); }
CPU_INLINE void v_store_part(float *p, vec x, int32_t n) { _mm512_mask_storeu_ps(p, v_first_lanes(n), x); }
CPU_INLINE vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
CPU_INLINE vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
CPU_INLINE vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
CPU_INLINE vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
CPU_INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
CPU_INLINE vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
CPU_INLINE vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
CPU_INLINE float v_sum(vec x) { return _mm512_reduce_add_ps(x); }
CPU_INLINE float v_top(vec x) { return _mm512_reduce_max_ps(x); }
CPU_INLINE vec v_abs(vec x) { return _mm512_abs_ps(x); }
CPU_INLINE vec v_minus_abs(vec x) { return _mm512_or_ps(x, _mm512_set1_ps(-0.0f)); }
// a * b where x < 0, else a (also for NaN)
CPU_INLINE vec v_mul_if_negative(vec x, vec a, vec b) {
    return _mm512_mask_mul_ps(a, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), a, b);
}
// x in the lanes first <= i < end, else other. Any first and end.
CPU_INLINE vec v_if_between(vec x, int32_t first, int32_t end, vec other) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __mmask16 below = _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(end));
    return _mm512_mask_blend_ps(_mm512_mask_cmpge_epi32_mask(below, lane, _mm512_set1_epi32(first)), other, x);
}
CPU_INLINE vec v_swap_pairs(vec x) { return _mm512_permute_ps(x, 0xB1); }
// p[0], p[0], p[1], p[1], ...
CPU_INLINE vec v_load_twice(const float *p) {
    const __m512i pairs = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_permutexvar_ps(pairs, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
CPU_INLINE vec v_negate_even(vec x) {
    return _mm512_xor_ps(x, _mm512_castsi512_ps(_mm512_set1_epi64(0x80000000)));
}
CPU_INLINE vec v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
CPU_INLINE vec v_load_f16_part(const uint16_t *p, int32_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first_lanes(n), p));
}
CPU_INLINE void v_store_f16(uint16_t *p, vec x) {
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
CPU_INLINE vec v_from_bf16(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
CPU_INLINE vec v_load_bf16(const uint16_t *p) { return v_from_bf16(_mm256_loadu_si256((const void *)p)); }
CPU_INLINE vec v_load_bf16_part(const uint16_t *p, int32_t n) {
    return v_from_bf16(_mm256_maskz_loadu_epi16(v_first_lanes(n), p));
}
// p * 2^n for whole n; t is n + 1.5 * 2^23
CPU_INLINE vec v_scale_pow2(vec p, vec n, vec t) { (void)t; return _mm512_scalef_ps(p, n); }
CPU_INLINE vec_f64 v_zero_f64(void) { return (vec_f64){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
CPU_INLINE vec_f64 v_square_f64(vec x, vec_f64 sum) {
    __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    return (vec_f64){_mm512_fmadd_pd(lo, lo, sum.lo), _mm512_fmadd_pd(hi, hi, sum.hi)};
}
CPU_INLINE vec_f64 v_square_f64_at(const float *p, vec_f64 sum) { // converts as it loads: halves of a vector would have to be moved
    __m512d lo = _mm512_cvtps_pd(_mm256_loadu_ps(p)), hi = _mm512_cvtps_pd(_mm256_loadu_ps(p + 8));
    return (vec_f64){_mm512_fmadd_pd(lo, lo, sum.lo), _mm512_fmadd_pd(hi, hi, sum.hi)};
}
CPU_INLINE double v_sum_f64(vec_f64 x) { return _mm512_reduce_add_pd(_mm512_add_pd(x.lo, x.hi)); }

#elif CPU_LANES == 8
#include <immintrin.h>
typedef __m256 vec;
typedef struct vec_f64 { __m256d lo, hi; } vec_f64;

CPU_INLINE __m256i v_first_lanes(int32_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
CPU_INLINE vec v_zero(void) { return _mm256_setzero_ps(); }
CPU_INLINE vec v_set1(float x) { return _mm256_set1_ps(x); }
CPU_INLINE vec v_load(const float *p) { return _mm256_loadu_ps(p); }
CPU_INLINE void v_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
CPU_INLINE vec v_load_part(const float *p, int32_t n) { return _mm256_maskload_ps(p, v_first_lanes(n)); }
CPU_INLINE void v_store_part(float *p, vec x, int32_t n) { _mm256_maskstore_ps(p, v_first_lanes(n), x); }
CPU_INLINE vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
CPU_INLINE vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
CPU_INLINE vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
CPU_INLINE vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
CPU_INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
CPU_INLINE vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
CPU_INLINE vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
CPU_INLINE float v_sum(vec x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
CPU_INLINE float v_top(vec x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
CPU_INLINE vec v_abs(vec x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
CPU_INLINE vec v_minus_abs(vec x) { return _mm256_or_ps(_mm256_set1_ps(-0.0f), x); }
CPU_INLINE vec v_mul_if_negative(vec x, vec a, vec b) {
    return _mm256_blendv_ps(a, _mm256_mul_ps(a, b), _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
CPU_INLINE vec v_if_between(vec x, int32_t first, int32_t end, vec other) {
    __m256i keep = _mm256_andnot_si256(v_first_lanes(first), v_first_lanes(end));
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(keep));
}
CPU_INLINE vec v_swap_pairs(vec x) { return _mm256_permute_ps(x, 0xB1); }
CPU_INLINE vec v_load_twice(const float *p) {
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0));
}
CPU_INLINE vec v_negate_even(vec x) {
    return _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000)));
}
CPU_INLINE vec v_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
CPU_INLINE void v_store_f16(uint16_t *p, vec x) {
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
CPU_INLINE vec v_load_bf16(const uint16_t *p) {
    __m256i h = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(h, 16));
}
CPU_INLINE vec v_scale_pow2(vec p, vec n, vec t) {
    // In two steps, because 2^n alone may be out of range while the product is a subnormal or overflows.
    (void)n;
    __m256i whole = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4B400000));
    __m256i half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half), bias = _mm256_set1_epi32(127);
    vec a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vec b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, a), b);
}
CPU_INLINE vec_f64 v_zero_f64(void) { return (vec_f64){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
CPU_INLINE vec_f64 v_square_f64(vec x, vec_f64 sum) {
    __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), hi = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    return (vec_f64){_mm256_fmadd_pd(lo, lo, sum.lo), _mm256_fmadd_pd(hi, hi, sum.hi)};
}
CPU_INLINE vec_f64 v_square_f64_at(const float *p, vec_f64 sum) {
    __m256d lo = _mm256_cvtps_pd(_mm_loadu_ps(p)), hi = _mm256_cvtps_pd(_mm_loadu_ps(p + 4));
    return (vec_f64){_mm256_fmadd_pd(lo, lo, sum.lo), _mm256_fmadd_pd(hi, hi, sum.hi)};
}
CPU_INLINE double v_sum_f64(vec_f64 x) {
    __m256d s = _mm256_add_pd(x.lo, x.hi);
    __m128d h = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
    return _mm_cvtsd_f64(_mm_add_sd(h, _mm_unpackhi_pd(h, h)));
}

#elif CPU_LANES == 4 && CPU_LANES_NEON
#include "kernels/cpu/lanes_neon.h"

#elif CPU_LANES == 4
typedef float vec __attribute__((vector_size(16)));
typedef uint32_t vec_bits __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
typedef struct vec_f64 { double lane[4]; } vec_f64;

CPU_INLINE vec v_choose(vec_int mask, vec yes, vec no) {
    return (vec)(((vec_bits)mask & (vec_bits)yes) | (~(vec_bits)mask & (vec_bits)no));
}
CPU_INLINE vec v_set1(float x) { return (vec){x, x, x, x}; }
CPU_INLINE vec v_zero(void) { return v_set1(0.0f); }
CPU_INLINE vec v_load(const float *p) {
    vec x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
CPU_INLINE void v_store(float *p, vec x) { __builtin_memcpy(p, &x, sizeof x); }
CPU_INLINE vec v_load_part(const float *p, int32_t n) {
    return (vec){n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, n > 3 ? p[3] : 0.0f};
}
CPU_INLINE void v_store_part(float *p, vec x, int32_t n) {
    for (int32_t i = 0; i < n && i < 4; i++) p[i] = x[i];
}
CPU_INLINE vec v_add(vec a, vec b) { return a + b; }
CPU_INLINE vec v_sub(vec a, vec b) { return a - b; }
CPU_INLINE vec v_mul(vec a, vec b) { return a * b; }
CPU_INLINE vec v_div(vec a, vec b) { return a / b; }
CPU_INLINE vec v_fma(vec a, vec b, vec c) { return a * b + c; }
CPU_INLINE vec v_max(vec a, vec b) { return v_choose(a > b, a, b); }
CPU_INLINE vec v_min(vec a, vec b) { return v_choose(a < b, a, b); }
CPU_INLINE float v_sum(vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
CPU_INLINE float v_top(vec x) {
    float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}
CPU_INLINE vec v_abs(vec x) { return (vec)((vec_bits)x & 0x7FFFFFFFu); }
CPU_INLINE vec v_minus_abs(vec x) { return (vec)((vec_bits)x | 0x80000000u); }
CPU_INLINE vec v_mul_if_negative(vec x, vec a, vec b) { return v_choose(x < v_zero(), a * b, a); }
CPU_INLINE vec v_if_between(vec x, int32_t first, int32_t end, vec other) {
    const vec_int lane = {0, 1, 2, 3};
    return v_choose((lane >= first) & (lane < end), x, other);
}
CPU_INLINE vec v_swap_pairs(vec x) { return (vec){x[1], x[0], x[3], x[2]}; }
CPU_INLINE vec v_load_twice(const float *p) { return (vec){p[0], p[0], p[1], p[1]}; }
CPU_INLINE vec v_negate_even(vec x) {
    const vec_bits even = {0x80000000u, 0, 0x80000000u, 0};
    return (vec)((vec_bits)x ^ even);
}
CPU_INLINE vec v_load_f16(const uint16_t *p) {
    // Exponent and mantissa moved into place and scaled by 2^112 are exact, subnormals too; Inf and NaN need the top exponent.
    const vec_bits h = {p[0], p[1], p[2], p[3]};
    vec_bits magnitude = (h & 0x7FFFu) << 13, sign = (h & 0x8000u) << 16;
    vec_bits special = (vec_bits)(magnitude >= 0x0F800000u);
    vec_bits scaled = (vec_bits)((vec)magnitude * v_set1(0x1p112f));
    return (vec)(sign | (special & (magnitude | 0x7F800000u)) | (~special & scaled));
}
CPU_INLINE void v_store_f16(uint16_t *p, vec x) {
    for (int32_t i = 0; i < 4; i++) p[i] = wtl_f16_from_f32(x[i]);
}
CPU_INLINE vec v_load_bf16(const uint16_t *p) {
    const vec_bits h = {p[0], p[1], p[2], p[3]};
    return (vec)(h << 16);
}
CPU_INLINE vec v_scale_pow2(vec p, vec n, vec t) {
    (void)n;
    vec_int whole = (vec_int)((vec_bits)t - 0x4B400000u);
    vec_int half = whole >> 1;
    vec_bits rest = (vec_bits)whole - (vec_bits)half;
    return p * (vec)(((vec_bits)half + 127u) << 23) * (vec)((rest + 127u) << 23);
}
CPU_INLINE vec_f64 v_zero_f64(void) { return (vec_f64){{0}}; }
CPU_INLINE vec_f64 v_square_f64(vec x, vec_f64 sum) {
    for (int32_t i = 0; i < 4; i++) sum.lane[i] += (double)x[i] * (double)x[i];
    return sum;
}
CPU_INLINE double v_sum_f64(vec_f64 x) { return (x.lane[0] + x.lane[2]) + (x.lane[1] + x.lane[3]); }
#else
#error "set CPU_LANES to 4, 8 or 16 before including lanes.h"
#endif

#if CPU_LANES == 4
CPU_INLINE vec_f64 v_square_f64_at(const float *p, vec_f64 sum) { return v_square_f64(v_load(p), sum); }
#endif

#if CPU_LANES != 16
CPU_INLINE vec v_load_f16_part(const uint16_t *p, int32_t n) {
    uint16_t copy[CPU_LANES] = {0};
    for (int32_t i = 0; i < n; i++) copy[i] = p[i];
    return v_load_f16(copy);
}
CPU_INLINE vec v_load_bf16_part(const uint16_t *p, int32_t n) {
    uint16_t copy[CPU_LANES] = {0};
    for (int32_t i = 0; i < n; i++) copy[i] = p[i];
    return v_load_bf16(copy);
}
#endif

// e^x within 2 ulp (3 where v_fma rounds twice). 0 below -104, Inf above 88.73, subnormals in between; NaN stays NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r), q of degree 4 through the Chebyshev nodes of that interval
// (relative error 1.1e-8). ln 2 is split so that n * 0.693359375 is exact.
CPU_INLINE vec v_exp_to_90(vec x) { // x <= 90 or NaN
    const vec magic = v_set1(12582912.0f); // 1.5 * 2^23: adding it rounds to a whole number
    x = v_max(v_set1(-110.0f), x);
    vec t = v_fma(x, v_set1(1.44269504f), magic);
    vec n = v_sub(t, magic);
    vec r = v_fma(n, v_set1(-0.693359375f), x);
    r = v_fma(n, v_set1(2.12194441e-4f), r);
    vec q = v_set1(1.39262504e-3f);
    q = v_fma(q, r, v_set1(8.36323295e-3f));
    q = v_fma(q, r, v_set1(4.16665524e-2f));
    q = v_fma(q, r, v_set1(1.66665763e-1f));
    q = v_fma(q, r, v_set1(0.5f));
    vec p = v_add(v_fma(v_mul(r, r), q, r), v_set1(1.0f));
    return v_scale_pow2(p, n, t);
}
CPU_INLINE vec v_exp(vec x) { return v_exp_to_90(v_min(v_set1(90.0f), x)); }

// x / (1 + e^-z), from e^-|z| so that nothing overflows.
CPU_INLINE vec v_times_sigmoid(vec x, vec z) {
    vec e = v_exp_to_90(v_minus_abs(z));
    return v_div(v_mul_if_negative(z, x, e), v_add(e, v_set1(1.0f)));
}

#endif
