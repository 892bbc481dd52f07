// Panel kernels of the types with blocks of 32 weights, AVX-512 VNNI: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/panel_avx512vnni.h"

// Accessors of the form's signature for a panel type with fields q, h, d, m; unused ones are not instantiated.
#define FORM_CODES(name, expression)                                                                                   \
    CPU_INLINE __m512i name##_codes(const void *block, int sub, int g) {                                               \
        const panel_##name *w = block;                                                                                 \
        (void)sub;                                                                                                     \
        return expression;                                                                                             \
    }
#define FORM_CODE(name, expression)                                                                                    \
    CPU_INLINE __m512i name##_code(const void *block, int sub, int k) {                                                \
        const panel_##name *w = block;                                                                                 \
        (void)sub;                                                                                                     \
        return expression;                                                                                             \
    }
#define FORM_FLOATS(name, what, expression)                                                                            \
    CPU_INLINE __m512 name##_##what(const void *block, int sub, int half) {                                            \
        const panel_##name *w = block;                                                                                 \
        (void)sub, (void)half;                                                                                         \
        return expression;                                                                                             \
    }

FORM_CODES(q4_0, codes4(w->q, g))
FORM_CODE(q4_0, code4(w->q, k))
FORM_FLOATS(q4_0, scale, load_f16(w->d))
static const panel_form q4_0_form = {sizeof(panel_q4_0), 1, 3, false, false, q4_0_codes, q4_0_code, q4_0_scale, NULL};
PANEL_KERNELS(q4_0, plain)

FORM_CODES(q4_1, codes4(w->q, g))
FORM_CODE(q4_1, code4(w->q, k))
FORM_FLOATS(q4_1, scale, load_f16(w->d))
FORM_FLOATS(q4_1, minimum, load_f16(w->m))
static const panel_form q4_1_form = {sizeof(panel_q4_1), 1, -1, false, true, q4_1_codes, q4_1_code, q4_1_scale, q4_1_minimum};
PANEL_KERNELS(q4_1, min)

FORM_CODES(q5_0, codes5(w->q, w->h, g))
FORM_CODE(q5_0, code5(w->q, w->h, k))
FORM_FLOATS(q5_0, scale, load_f16(w->d))
static const panel_form q5_0_form = {sizeof(panel_q5_0), 1, 4, false, false, q5_0_codes, q5_0_code, q5_0_scale, NULL};
PANEL_KERNELS(q5_0, plain)

FORM_CODES(q5_1, codes5(w->q, w->h, g))
FORM_CODE(q5_1, code5(w->q, w->h, k))
FORM_FLOATS(q5_1, scale, load_f16(w->d))
FORM_FLOATS(q5_1, minimum, load_f16(w->m))
static const panel_form q5_1_form = {sizeof(panel_q5_1), 1, -1, false, true, q5_1_codes, q5_1_code, q5_1_scale, q5_1_minimum};
PANEL_KERNELS(q5_1, min)

FORM_CODES(q8_0, _mm512_loadu_si512(w->q + 64 * g))
FORM_CODE(q8_0, code8(w->q, k))
FORM_FLOATS(q8_0, scale, load_f16(w->d))
static const panel_form q8_0_form = {sizeof(panel_q8_0), 1, 7, false, false, q8_0_codes, q8_0_code, q8_0_scale, NULL};
PANEL_KERNELS(q8_0, plain)

FORM_CODES(iq4_nl, codes_iq4(w->q, g))
FORM_CODE(iq4_nl, code_iq4(w->q, k))
FORM_FLOATS(iq4_nl, scale, load_f16(w->d))
static const panel_form iq4_nl_form = {sizeof(panel_iq4_nl), 1, 7, false, false, iq4_nl_codes, iq4_nl_code, iq4_nl_scale, NULL};
PANEL_KERNELS(iq4_nl, plain)

uint32_t cpu_above_avx512vnni(const float *x, float limit) {
    const __m512 l = _mm512_set1_ps(limit);
    const __mmask16 low = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x)), l, _CMP_GT_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + 16)), l, _CMP_GT_OQ);
    return (uint32_t)low | (uint32_t)high << 16;
}

// Largest lane of each of a, b, c, d, of lanes that compare as unsigned integers.
CPU_INLINE __m128i max_of_each(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_max_epu32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); // a b a b in each quarter
    const __m512i cd = _mm512_max_epu32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all = _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd)); // a b c d
    const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// Four fields that lie together, each of four blocks.
CPU_INLINE void store_fields(float *first, int32_t stride, __m128 a, __m128 b, __m128 c, __m128 d) {
    const ptrdiff_t step = (ptrdiff_t)stride * (ptrdiff_t)(sizeof(cpu_act) / sizeof(float));
    _MM_TRANSPOSE4_PS(a, b, c, d); // now all of one block each
    _mm_storeu_ps(first, a);
    _mm_storeu_ps(first + step, b);
    _mm_storeu_ps(first + 2 * step, c);
    _mm_storeu_ps(first + 3 * step, d);
}

// Four blocks. Magnitudes compare like integers, NaN and Inf above all numbers.
static void quantize_four(const float *x, cpu_act *out, int32_t stride) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512 v[4][2];
    __m512i m[4];
    CPU_UNROLL
    for (int i = 0; i < 4; i++) {
        v[i][0] = _mm512_loadu_ps(x + 32 * i), v[i][1] = _mm512_loadu_ps(x + 32 * i + 16);
        m[i] = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v[i][0]), magnitude), _mm512_and_si512(_mm512_castps_si512(v[i][1]), magnitude));
    }
    const __m128i top = max_of_each(m[0], m[1], m[2], m[3]);
    const __m128 largest = _mm_castsi128_ps(top);
    const __mmask8 finite = _mm_cmplt_epu32_mask(top, _mm_set1_epi32(0x7F800000));
    const __mmask8 used = finite & _mm_cmp_ps_mask(largest, _mm_set1_ps(CPU_ACT_TINY), _CMP_GE_OQ);
    const __m128 inverse = _mm_maskz_div_ps(used, _mm_set1_ps(127), largest);
    __m128 d = _mm_maskz_div_ps(used, largest, _mm_set1_ps(127));
    d = _mm_mask_blend_ps(finite, _mm_castsi128_ps(_mm_set1_epi32(0x7FC00000)), d);
    __m256i sums[4]; // of four codes each
    CPU_UNROLL
    for (int i = 0; i < 4; i++) {
        const __m512 by = _mm512_broadcastss_ps(_mm_permutevar_ps(inverse, _mm_set1_epi32(i)));
        const __mmask16 keep = used >> i & 1 ? 0xFFFF : 0; // 0 * Inf is no integer
        const __m128i low = _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(v[i][0], by)));
        const __m128i high = _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(v[i][1], by)));
        const __m256i q = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
        _mm256_storeu_si256((__m256i *)(void *)out[(ptrdiff_t)i * stride].q, q);
        sums[i] = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
    }
    const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m128i low = _mm256_castsi256_si128(pairs), sum = _mm_add_epi32(low, _mm256_extracti128_si256(pairs, 1)); // of block i in lane i
    const __m128i zero = _mm_setzero_si128();
    const __m128i neg = _mm_sub_epi32(zero, sum), neg_low = _mm_sub_epi32(zero, low), one = _mm_set1_epi32(CPU_WIDE_ONE);
    const __m128i wide_high = _mm_slli_epi32(_mm_sub_epi32(neg, neg_low), 7);
    store_fields(&out[0].d, stride, d, _mm_mul_ps(d, _mm_cvtepi32_ps(sum)), _mm_castsi128_ps(neg), _mm_castsi128_ps(neg_low));
    store_fields((float *)(void *)&out[0].wide, stride, _mm_castsi128_ps(_mm_add_epi32(one, _mm_slli_epi32(neg, 7))),
                 _mm_castsi128_ps(_mm_add_epi32(one, _mm_slli_epi32(neg_low, 7))), _mm_castsi128_ps(wide_high), _mm_setzero_ps());
}

// One block: what is left of a column, and blocks whose outliers were taken out.
static void quantize_one(const float *x, cpu_act *out) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    const __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + 16);
    const uint32_t top = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v0), magnitude), _mm512_and_si512(_mm512_castps_si512(v1), magnitude)));
    const float largest = wtl_f32_from_bits(top);
    const bool finite = top < 0x7F800000u, used = finite && largest >= CPU_ACT_TINY;
    __m128i low = _mm_setzero_si128(), high = low; // 0 * Inf is no integer
    if (used) {
        const __m512 by = _mm512_set1_ps(127.0f / largest);
        low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v0, by)));
        high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v1, by)));
    }
    _mm_storeu_si128((__m128i *)(void *)out->q, low);
    _mm_storeu_si128((__m128i *)(void *)(out->q + 16), high);
    const __m128i zero = _mm_setzero_si128(), ones = _mm_set1_epi8(1); // sums of four, then of all
    const __m128i quads = _mm_hadd_epi32(_mm_dpbusd_epi32(zero, ones, low), _mm_dpbusd_epi32(zero, ones, high));
    const __m128i halves = _mm_hadd_epi32(quads, quads);
    const int32_t sum_low = _mm_cvtsi128_si32(halves), sum = sum_low + _mm_extract_epi32(halves, 1);
    out->d = used ? largest / 127.0f : finite ? 0.0f : wtl_f32_from_bits(0x7FC00000u);
    out->s = out->d * (float)sum;
    out->neg = -sum;
    out->neg_low = -sum_low;
    out->wide = CPU_WIDE_ONE - 128 * sum;
    out->wide_low = CPU_WIDE_ONE - 128 * sum_low;
    out->wide_high = 128 * (sum_low - sum);
    out->unused = 0;
}

void cpu_quantize_avx512vnni(const float *x, int32_t n_blocks, cpu_act *out, int32_t stride) {
    int32_t b = 0;
    for (; b + 4 <= n_blocks; b += 4) quantize_four(x + 32 * (ptrdiff_t)b, out + (ptrdiff_t)b * stride, stride);
    if (b < n_blocks && n_blocks >= 4) { // the last four, some of them again
        b = n_blocks - 4;
        quantize_four(x + 32 * (ptrdiff_t)b, out + (ptrdiff_t)b * stride, stride);
        return;
    }
    for (; b < n_blocks; b++) quantize_one(x + 32 * (ptrdiff_t)b, out + (ptrdiff_t)b * stride);
}
