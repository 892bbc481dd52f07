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
    CPU_INLINE __m512 name##_##what(const void *block, const panel_scales *k, int sub, int half) {                     \
        const panel_##name *w = block;                                                                                 \
        (void)k, (void)sub, (void)half;                                                                                \
        return expression;                                                                                             \
    }

FORM_CODES(q4_0, codes4(w->q, g))
FORM_CODE(q4_0, code4(w->q, k))
FORM_FLOATS(q4_0, scale, load_f16(w->d))
static const panel_form q4_0_form = {sizeof(panel_q4_0), 1, 3, false, false, q4_0_codes, q4_0_code, q4_0_scale, NULL, NULL};
PANEL_KERNELS(q4_0, plain)

FORM_CODES(q4_1, codes4(w->q, g))
FORM_CODE(q4_1, code4(w->q, k))
FORM_FLOATS(q4_1, scale, load_f16(w->d))
FORM_FLOATS(q4_1, minimum, load_f16(w->m))
static const panel_form q4_1_form = {sizeof(panel_q4_1), 1, -1, false, true, q4_1_codes, q4_1_code, q4_1_scale, q4_1_minimum, NULL};
PANEL_KERNELS(q4_1, min)

FORM_CODES(q5_0, codes5(w->q, w->h, g))
FORM_CODE(q5_0, code5(w->q, w->h, k))
FORM_FLOATS(q5_0, scale, load_f16(w->d))
static const panel_form q5_0_form = {sizeof(panel_q5_0), 1, 4, false, false, q5_0_codes, q5_0_code, q5_0_scale, NULL, NULL};
PANEL_KERNELS(q5_0, plain)

FORM_CODES(q5_1, codes5(w->q, w->h, g))
FORM_CODE(q5_1, code5(w->q, w->h, k))
FORM_FLOATS(q5_1, scale, load_f16(w->d))
FORM_FLOATS(q5_1, minimum, load_f16(w->m))
static const panel_form q5_1_form = {sizeof(panel_q5_1), 1, -1, false, true, q5_1_codes, q5_1_code, q5_1_scale, q5_1_minimum, NULL};
PANEL_KERNELS(q5_1, min)

FORM_CODES(q8_0, _mm512_loadu_si512(w->q + 64 * g))
FORM_CODE(q8_0, code8(w->q, k))
FORM_FLOATS(q8_0, scale, load_f16(w->d))
static const panel_form q8_0_form = {sizeof(panel_q8_0), 1, 7, false, false, q8_0_codes, q8_0_code, q8_0_scale, NULL, NULL};
PANEL_KERNELS(q8_0, plain)

FORM_CODES(iq4_nl, codes_iq4(w->q, g))
FORM_CODE(iq4_nl, code_iq4(w->q, k))
FORM_FLOATS(iq4_nl, scale, load_f16(w->d))
static const panel_form iq4_nl_form = {sizeof(panel_iq4_nl), 1, 7, false, false, iq4_nl_codes, iq4_nl_code, iq4_nl_scale, NULL, NULL};
PANEL_KERNELS(iq4_nl, plain)
