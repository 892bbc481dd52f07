// What a weight type is to the kernels that take a panel a few rows at a time: inline functions and constants.
//
// panel_avx2.h and panel_neon.h define the register types and include this; matmul_*_template.h fill it in, type by type. A
// form is a constant and everything is inlined, so each instance is straight-line code. Row counts are the register's own:
// `rows` is the first of the eight (AVX2) or four (NEON) rows of the panel that a function gives.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_FORM_H
#define WTL_KERNELS_CPU_PANEL_FORM_H

typedef struct panel_form {
    size_t block_bytes;
    int subs;       // blocks of 32 per panel block
    int merge;      // groups whose products of unsigned codes fit into 16 bits together; 0: codes have eight bits
    int zero_shift; // codes are biased by 1 << zero_shift; -1: not biased
    bool split;     // scales per 16 weights instead of 32
    bool has_min;
    panel_codes (*codes)(const void *block, int sub, int group, int rows);
    panel_words (*code)(const void *block, int sub, int k, int rows); // of weight k = 0..31 of each row, as 32-bit integers
    // half: which 16 of the 32 weights, for split types.
    panel_floats (*scale)(const void *block, const panel_scales *k, int sub, int half, int rows);
    panel_floats (*minimum)(const void *block, const panel_scales *k, int sub, int half, int rows);
    void (*scales)(const void *block, panel_scales *k); // unpacks what scale and minimum take as k; NULL: nothing
} panel_form;

// What codes of the form are biased by.
CPU_INLINE int zero_point(const panel_form form) { return form.zero_shift < 0 ? 0 : 1 << form.zero_shift; }

#if CPU_SANITIZED
#define PANEL_PASS_ATTRIBUTE static __attribute__((noinline))
#else
#define PANEL_PASS_ATTRIBUTE CPU_INLINE
#endif

#endif
