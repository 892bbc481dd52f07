// Panel kernels of the types with super-blocks of 256 weights, AVX-512 VNNI: Q2_K to Q6_K and IQ4_XS.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/panel_avx512vnni.h"

// Accessors of the form's signature for super-block `w` and its sub-block `b` of 32 weights; `k`: what FORM_SCALES unpacks.
#define FORM_CODES(name, expression)                                                                                   \
    CPU_INLINE __m512i name##_codes(const void *block, int sub, int g) {                                               \
        const sub_##name *b = &((const panel_##name *)block)->sub[sub];                                                \
        return expression;                                                                                             \
    }
#define FORM_CODE(name, expression)                                                                                    \
    CPU_INLINE __m512i name##_code(const void *block, int sub, int k) {                                                \
        const sub_##name *b = &((const panel_##name *)block)->sub[sub];                                                \
        return expression;                                                                                             \
    }
#define FORM_FLOATS(name, what, expression)                                                                            \
    CPU_INLINE __m512 name##_##what(const void *block, const panel_scales *k, int sub, int half) {                     \
        const panel_##name *w = block;                                                                                 \
        const sub_##name *b = &w->sub[sub];                                                                            \
        (void)k, (void)half, (void)b;                                                                                  \
        return expression;                                                                                             \
    }
#define FORM_SCALES(name, unpack)                                                                                      \
    CPU_INLINE void name##_scales(const void *block, panel_scales *k) { unpack(((const panel_##name *)block)->scales, k); }

CPU_INLINE __m512 load_u4(const uint8_t *p, int shift) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(bytes, shift), _mm_set1_epi8(15))));
}
CPU_INLINE __m512 negative(__m512 v) { return _mm512_sub_ps(_mm512_setzero_ps(), v); }

FORM_CODES(q2_k, codes2(b->q, g))
FORM_CODE(q2_k, code2(b->q, k))
FORM_FLOATS(q2_k, scale, _mm512_mul_ps(load_f16(w->d), load_u4(b->sm[half], 0)))
FORM_FLOATS(q2_k, minimum, negative(_mm512_mul_ps(load_f16(w->m), load_u4(b->sm[half], 4))))
static const panel_form q2_k_form = {sizeof(panel_q2_k), 8, -1, true, true, q2_k_codes, q2_k_code, q2_k_scale, q2_k_minimum, NULL};
PANEL_KERNELS(q2_k, halves_min)

FORM_SCALES(q3_k, unpack_q3_scales)
FORM_CODES(q3_k, codes3(b->q, b->h, g))
FORM_CODE(q3_k, code3(b->q, b->h, k))
FORM_FLOATS(q3_k, scale, _mm512_mul_ps(load_f16(w->d), load_s8(k->halves[sub][half])))
static const panel_form q3_k_form = {sizeof(panel_q3_k), 8, 2, true, false, q3_k_codes, q3_k_code, q3_k_scale, NULL, q3_k_scales};
PANEL_KERNELS(q3_k, halves)

FORM_SCALES(q4_k, unpack_scale_min)
FORM_CODES(q4_k, codes4(b->q, g))
FORM_CODE(q4_k, code4(b->q, k))
FORM_FLOATS(q4_k, scale, _mm512_mul_ps(load_f16(w->d), load_u8(k->scale[sub])))
FORM_FLOATS(q4_k, minimum, negative(_mm512_mul_ps(load_f16(w->m), load_u8(k->minimum[sub]))))
static const panel_form q4_k_form = {sizeof(panel_q4_k), 8, -1, false, true, q4_k_codes, q4_k_code, q4_k_scale, q4_k_minimum, q4_k_scales};
PANEL_KERNELS(q4_k, min)

FORM_SCALES(q5_k, unpack_scale_min)
FORM_CODES(q5_k, codes5(b->q, b->h, g))
FORM_CODE(q5_k, code5(b->q, b->h, k))
FORM_FLOATS(q5_k, scale, _mm512_mul_ps(load_f16(w->d), load_u8(k->scale[sub])))
FORM_FLOATS(q5_k, minimum, negative(_mm512_mul_ps(load_f16(w->m), load_u8(k->minimum[sub]))))
static const panel_form q5_k_form = {sizeof(panel_q5_k), 8, -1, false, true, q5_k_codes, q5_k_code, q5_k_scale, q5_k_minimum, q5_k_scales};
PANEL_KERNELS(q5_k, min)

FORM_CODES(q6_k, codes6(b->q, b->h, g))
FORM_CODE(q6_k, code6(b->q, b->h, k))
FORM_FLOATS(q6_k, scale, _mm512_mul_ps(load_f16(w->d), load_s8(b->sc[half])))
static const panel_form q6_k_form = {sizeof(panel_q6_k), 8, 5, true, false, q6_k_codes, q6_k_code, q6_k_scale, NULL, NULL};
PANEL_KERNELS(q6_k, halves)

FORM_SCALES(iq4_xs, unpack_iq4_scales)
FORM_CODES(iq4_xs, codes_iq4(b->q, g))
FORM_CODE(iq4_xs, code_iq4(b->q, k))
FORM_FLOATS(iq4_xs, scale, _mm512_mul_ps(load_f16(w->d), load_s8(k->signed_scale[sub])))
static const panel_form iq4_xs_form = {sizeof(panel_iq4_xs), 8, 7, false, false, iq4_xs_codes, iq4_xs_code, iq4_xs_scale, NULL, iq4_xs_scales};
PANEL_KERNELS(iq4_xs, plain)
