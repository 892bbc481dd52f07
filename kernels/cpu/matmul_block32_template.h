// Panel kernels of the types with blocks of 32 weights for one instruction set: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL.
//
// The text of matmul_block32_<isa>.c, which includes panel_avx2.h or panel_neon.h before.
// SPDX-License-Identifier: Apache-2.0

// Accessors of the form's signature for panel block `w`.
#define FORM_CODES(name, expression)                                                                                   \
    CPU_INLINE panel_codes name##_codes(const void *block, int sub, int g, int rows) {                                 \
        const panel_##name *w = block;                                                                                 \
        (void)sub;                                                                                                     \
        return expression;                                                                                             \
    }
#define FORM_CODE(name, expression)                                                                                    \
    CPU_INLINE panel_words name##_code(const void *block, int sub, int k, int rows) {                                  \
        const panel_##name *w = block;                                                                                 \
        (void)sub;                                                                                                     \
        return expression;                                                                                             \
    }
#define FORM_FLOATS(name, what, expression)                                                                            \
    CPU_INLINE panel_floats name##_##what(const void *block, const panel_scales *k, int sub, int half, int rows) {     \
        const panel_##name *w = block;                                                                                 \
        (void)k, (void)sub, (void)half;                                                                                \
        return expression;                                                                                             \
    }

FORM_CODES(q4_0, codes4(w->q, g, rows))
FORM_CODE(q4_0, code4(w->q, k, rows))
FORM_FLOATS(q4_0, scale, load_f16(w->d + rows))
static const panel_form q4_0_form = {sizeof(panel_q4_0), 1, 8, 3, false, false, q4_0_codes, q4_0_code, q4_0_scale, NULL, NULL};
PANEL_KERNELS(q4_0)

FORM_CODES(q4_1, codes4(w->q, g, rows))
FORM_CODE(q4_1, code4(w->q, k, rows))
FORM_FLOATS(q4_1, scale, load_f16(w->d + rows))
FORM_FLOATS(q4_1, minimum, load_f16(w->m + rows))
static const panel_form q4_1_form = {sizeof(panel_q4_1), 1, 8, -1, false, true, q4_1_codes, q4_1_code, q4_1_scale, q4_1_minimum, NULL};
PANEL_KERNELS(q4_1)

FORM_CODES(q5_0, codes5(w->q, w->h, g, rows))
FORM_CODE(q5_0, code5(w->q, w->h, k, rows))
FORM_FLOATS(q5_0, scale, load_f16(w->d + rows))
static const panel_form q5_0_form = {sizeof(panel_q5_0), 1, 4, 4, false, false, q5_0_codes, q5_0_code, q5_0_scale, NULL, NULL};
PANEL_KERNELS(q5_0)

FORM_CODES(q5_1, codes5(w->q, w->h, g, rows))
FORM_CODE(q5_1, code5(w->q, w->h, k, rows))
FORM_FLOATS(q5_1, scale, load_f16(w->d + rows))
FORM_FLOATS(q5_1, minimum, load_f16(w->m + rows))
static const panel_form q5_1_form = {sizeof(panel_q5_1), 1, 4, -1, false, true, q5_1_codes, q5_1_code, q5_1_scale, q5_1_minimum, NULL};
PANEL_KERNELS(q5_1)

FORM_CODES(q8_0, load_bytes(w->q + 64 * g + 4 * rows))
FORM_CODE(q8_0, code8(w->q, k, rows))
FORM_FLOATS(q8_0, scale, load_f16(w->d + rows))
static const panel_form q8_0_form = {sizeof(panel_q8_0), 1, 0, 7, false, false, q8_0_codes, q8_0_code, q8_0_scale, NULL, NULL};
PANEL_KERNELS(q8_0)

FORM_CODES(iq4_nl, codes_iq4(w->q, g, rows))
FORM_CODE(iq4_nl, code_iq4(w->q, k, rows))
FORM_FLOATS(iq4_nl, scale, load_f16(w->d + rows))
static const panel_form iq4_nl_form = {sizeof(panel_iq4_nl), 1, 0, 7, false, false, iq4_nl_codes, iq4_nl_code, iq4_nl_scale, NULL, NULL};
PANEL_KERNELS(iq4_nl)
