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
PANEL_KERNELS(q4_0)

FORM_CODES(q4_1, codes4(w->q, g))
FORM_CODE(q4_1, code4(w->q, k))
FORM_FLOATS(q4_1, scale, load_f16(w->d))
FORM_FLOATS(q4_1, minimum, load_f16(w->m))
static const panel_form q4_1_form = {sizeof(panel_q4_1), 1, -1, false, true, q4_1_codes, q4_1_code, q4_1_scale, q4_1_minimum};
PANEL_KERNELS(q4_1)

FORM_CODES(q5_0, codes5(w->q, w->h, g))
FORM_CODE(q5_0, code5(w->q, w->h, k))
FORM_FLOATS(q5_0, scale, load_f16(w->d))
static const panel_form q5_0_form = {sizeof(panel_q5_0), 1, 4, false, false, q5_0_codes, q5_0_code, q5_0_scale, NULL};
PANEL_KERNELS(q5_0)

FORM_CODES(q5_1, codes5(w->q, w->h, g))
FORM_CODE(q5_1, code5(w->q, w->h, k))
FORM_FLOATS(q5_1, scale, load_f16(w->d))
FORM_FLOATS(q5_1, minimum, load_f16(w->m))
static const panel_form q5_1_form = {sizeof(panel_q5_1), 1, -1, false, true, q5_1_codes, q5_1_code, q5_1_scale, q5_1_minimum};
PANEL_KERNELS(q5_1)

FORM_CODES(q8_0, _mm512_loadu_si512(w->q + 64 * g))
FORM_CODE(q8_0, code8(w->q, k))
FORM_FLOATS(q8_0, scale, load_f16(w->d))
static const panel_form q8_0_form = {sizeof(panel_q8_0), 1, 7, false, false, q8_0_codes, q8_0_code, q8_0_scale, NULL};
PANEL_KERNELS(q8_0)

FORM_CODES(iq4_nl, codes_iq4(w->q, g))
FORM_CODE(iq4_nl, code_iq4(w->q, k))
FORM_FLOATS(iq4_nl, scale, load_f16(w->d))
static const panel_form iq4_nl_form = {sizeof(panel_iq4_nl), 1, 7, false, false, iq4_nl_codes, iq4_nl_code, iq4_nl_scale, NULL};
PANEL_KERNELS(iq4_nl)

uint32_t cpu_above_avx512vnni(const float *x, float limit) {
    const __m512 l = _mm512_set1_ps(limit);
    const __mmask16 low = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x)), l, _CMP_GT_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + 16)), l, _CMP_GT_OQ);
    return (uint32_t)low | (uint32_t)high << 16;
}

// Magnitudes compare like integers, NaN and Inf above all numbers.
void cpu_quantize_avx512vnni(const float *x, int32_t n_blocks, cpu_act *out, int32_t stride) {
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    for (int32_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
        const __m512i a0 = _mm512_and_si512(_mm512_castps_si512(x0), magnitude);
        const __m512i a1 = _mm512_and_si512(_mm512_castps_si512(x1), magnitude);
        const uint32_t top = (uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(a0, a1));
        const float largest = wtl_f32_from_bits(top);
        const bool finite = top < 0x7F800000u, used = finite && largest >= CPU_ACT_TINY;
        const __m512 inverse = _mm512_set1_ps(used ? 127.0f / largest : 0.0f);
        const __mmask16 keep = used ? 0xFFFF : 0; // 0 * Inf is no integer
        const __m512i q0 = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x0, inverse));
        const __m512i q1 = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x1, inverse));
        _mm_storeu_si128((__m128i *)(void *)out->q, _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(out->q + 16), _mm512_cvtepi32_epi8(q1));
        const int32_t low = _mm512_reduce_add_epi32(q0), sum = low + _mm512_reduce_add_epi32(q1);
        out->d = used ? largest / 127.0f : finite ? 0.0f : wtl_f32_from_bits(0x7FC00000u);
        out->s = out->d * (float)sum;
        out->neg = -sum;
        out->neg_low = -low;
    }
}
