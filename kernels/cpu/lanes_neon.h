// The vectors of lanes.h and lanes_int.h for NEON: four lanes, fused multiply-add, conversions of f16. Any 64-bit Arm.
// Included by lanes.h where CPU_LANES_NEON is set, and by nobody else.
// SPDX-License-Identifier: Apache-2.0
#include <arm_neon.h>
typedef float32x4_t vec;
typedef struct vec_f64 { float64x2_t lo, hi; } vec_f64;

CPU_INLINE uint32x4_t v_lane_numbers(void) {
    static const uint32_t lanes[4] = {0, 1, 2, 3};
    return vld1q_u32(lanes);
}
CPU_INLINE vec v_zero(void) { return vdupq_n_f32(0); }
CPU_INLINE vec v_set1(float x) { return vdupq_n_f32(x); }
CPU_INLINE vec v_load(const float *p) { return vld1q_f32(p); }
CPU_INLINE void v_store(float *p, vec x) { vst1q_f32(p, x); }
CPU_INLINE vec v_load_part(const float *p, int32_t n) {
    float copy[4] = {0};
    for (int32_t i = 0; i < n && i < 4; i++) copy[i] = p[i];
    return vld1q_f32(copy);
}
CPU_INLINE void v_store_part(float *p, vec x, int32_t n) {
    for (int32_t i = 0; i < n && i < 4; i++) p[i] = x[i];
}
CPU_INLINE vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
CPU_INLINE vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
CPU_INLINE vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
CPU_INLINE vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
CPU_INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
// Not FMAX and FMIN, which give NaN when either operand is one.
CPU_INLINE vec v_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
CPU_INLINE vec v_min(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
CPU_INLINE float v_sum(vec x) { return vaddvq_f32(x); } // (x0 + x1) + (x2 + x3)
CPU_INLINE float v_top(vec x) { return vmaxvq_f32(x); }
CPU_INLINE vec v_abs(vec x) { return vabsq_f32(x); }
CPU_INLINE vec v_minus_abs(vec x) { return vnegq_f32(vabsq_f32(x)); }
CPU_INLINE vec v_mul_if_negative(vec x, vec a, vec b) { return vbslq_f32(vcltzq_f32(x), vmulq_f32(a, b), a); }
CPU_INLINE vec v_if_between(vec x, int32_t first, int32_t end, vec other) {
    const int32x4_t lane = vreinterpretq_s32_u32(v_lane_numbers());
    return vbslq_f32(vandq_u32(vcgeq_s32(lane, vdupq_n_s32(first)), vcltq_s32(lane, vdupq_n_s32(end))), x, other);
}
CPU_INLINE vec v_swap_pairs(vec x) { return vrev64q_f32(x); }
CPU_INLINE vec v_load_twice(const float *p) {
    const float32x2_t pair = vld1_f32(p);
    return vcombine_f32(vdup_lane_f32(pair, 0), vdup_lane_f32(pair, 1));
}
CPU_INLINE vec v_negate_even(vec x) {
    return vreinterpretq_f32_u64(veorq_u64(vreinterpretq_u64_f32(x), vdupq_n_u64(0x80000000u)));
}
CPU_INLINE vec v_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
CPU_INLINE void v_store_f16(uint16_t *p, vec x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
CPU_INLINE vec v_load_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
CPU_INLINE vec v_scale_pow2(vec p, vec n, vec t) {
    // In two steps, because 2^n alone may be out of range while the product is a subnormal or overflows.
    (void)n;
    const int32x4_t whole = vsubq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(0x4B400000)), bias = vdupq_n_s32(127);
    const int32x4_t half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half);
    const vec a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    const vec b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    return vmulq_f32(vmulq_f32(p, a), b);
}
CPU_INLINE vec_f64 v_zero_f64(void) { return (vec_f64){vdupq_n_f64(0), vdupq_n_f64(0)}; }
CPU_INLINE vec_f64 v_square_f64(vec x, vec_f64 sum) {
    const float64x2_t lo = vcvt_f64_f32(vget_low_f32(x)), hi = vcvt_high_f64_f32(x);
    return (vec_f64){vfmaq_f64(sum.lo, lo, lo), vfmaq_f64(sum.hi, hi, hi)};
}
CPU_INLINE double v_sum_f64(vec_f64 x) { return vaddvq_f64(vaddq_f64(x.lo, x.hi)); }

// ---- int32, for lanes_int.h -----------------------------------------------------------------------------------------
typedef int32x4_t ivec;
CPU_INLINE ivec i_zero(void) { return vdupq_n_s32(0); }
CPU_INLINE ivec i_load(const int16_t *p) { return vreinterpretq_s32_s16(vld1q_s16(p)); }
CPU_INLINE ivec i_pair(const int16_t *p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return vdupq_n_s32(pair);
}
CPU_INLINE ivec i_dot(ivec sum, ivec a, ivec b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
CPU_INLINE ivec i_load_i8(const int8_t *p) { return vreinterpretq_s32_s16(vmovl_s8(vld1_s8(p))); }
// As elsewhere where no instruction of the set multiplies quads.
typedef int16_t iquad_number;
typedef struct iquad { ivec even, odd; } iquad;
CPU_INLINE iquad iq_load(const uint8_t *p) {
    const uint16x8_t x = vreinterpretq_u16_u8(vld1q_u8(p));
    return (iquad){vreinterpretq_s32_u16(vandq_u16(x, vdupq_n_u16(255))), vreinterpretq_s32_u16(vshrq_n_u16(x, 8))};
}
CPU_INLINE void iq_store(iquad_number *p, ivec x) {
    const int16x4_t whole = vmovn_s32(x), upper = vext_s16(whole, whole, 2); // 2, 3, 0, 1
    vst1_s16(p, vzip1_s16(whole, upper)); // 0, 2, 1, 3
}
CPU_INLINE ivec i_set1(int32_t x) { return vdupq_n_s32(x); }
CPU_INLINE ivec i_add(ivec a, ivec b) { return vaddq_s32(a, b); }
CPU_INLINE ivec i_round(vec x) { return vcvtnq_s32_f32(x); }
CPU_INLINE vec v_from_int(ivec x) { return vcvtq_f32_s32(x); }
CPU_INLINE void v_store_i16(int16_t *p, vec x) { vst1_s16(p, vqmovn_s32(i_round(x))); }
