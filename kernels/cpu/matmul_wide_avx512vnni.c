// Kernels of wide panels (cpu_panel.h), AVX-512 VNNI: one or two panels of 16 rows times 1..6 columns.
//
// Two panels share each broadcast of activations: two loads serve twelve multiply-adds less often than one would need. The
// order of arithmetic is that of panel_avx512vnni.h, and so are the bits.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu_panel.h"

typedef struct wide_form {
    bool halves, has_min, biased;
} wide_form;

CPU_INLINE __m512i broadcast(const int32_t *p) { return _mm512_broadcastd_epi32(_mm_loadu_si32(p)); }
CPU_INLINE const cpu_wide_block *block_of(const void *panels, size_t panel_bytes, int p, size_t at) {
    return (const cpu_wide_block *)(const void *)((const uint8_t *)panels + (size_t)p * panel_bytes + at);
}

CPU_INLINE __m512i start_first(const wide_form form, const cpu_act *x) {
    return form.biased ? broadcast(form.halves ? &x->wide_low : &x->wide) : _mm512_set1_epi32(CPU_WIDE_ONE);
}
CPU_INLINE __m512i start_second(const wide_form form, const cpu_act *x) {
    return form.biased ? broadcast(&x->wide_high) : _mm512_setzero_si512();
}

// f + the terms of one block of 32.
CPU_INLINE __m512 wide_add(const wide_form form, const cpu_wide_block *w, const cpu_act *x, __m512i first, __m512i second, __m512 f) {
    __m512 t = _mm512_fmadd_ps(_mm512_castsi512_ps(first), _mm512_loadu_ps(w->d), _mm512_loadu_ps(w->c));
    if (form.halves) t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(second), _mm512_loadu_ps(w->more[0]), t);
    if (form.halves && form.has_min) {
        const __m512i low = broadcast(&x->neg_low), high = _mm512_sub_epi32(broadcast(&x->neg), low);
        t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(low), _mm512_loadu_ps(w->more[1]), t);
        t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(high), _mm512_loadu_ps(w->more[2]), t);
    }
    f = _mm512_fmadd_ps(t, _mm512_set1_ps(x->d), f);
    if (!form.halves && form.has_min) f = _mm512_fmadd_ps(_mm512_loadu_ps(w->more[0]), _mm512_set1_ps(x->s), f);
    return f;
}

CPU_INLINE void wide_block(const wide_form form, const int np, const int nc, const cpu_wide_block *const *w, const cpu_act *x,
                           __m512 (*f)[CPU_WIDE_COLS]) {
    __m512i first[2][CPU_WIDE_COLS], second[2][CPU_WIDE_COLS]; // second: groups 4..7 of types with two scales
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            first[p][c] = start_first(form, x + c);
            if (form.halves) second[p][c] = start_second(form, x + c);
        }
    }
    CPU_UNROLL
    for (int g = 0; g < 8; g++) {
        __m512i q[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) q[p] = _mm512_loadu_si512(w[p]->q + 64 * g);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            __m512i a = _mm512_set1_epi32(x[c].q4[g]);
            if (np > 1) __asm__("" : "+v"(a)); // one load for both panels: the compiler would fold one into each product
            CPU_UNROLL
            for (int p = 0; p < np; p++) {
                __m512i *dot = form.halves && g >= 4 ? &second[p][c] : &first[p][c];
                *dot = _mm512_dpbusd_epi32(*dot, q[p], a);
            }
        }
    }
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[p][c] = wide_add(form, w[p], x + c, first[p][c], form.halves ? second[p][c] : first[p][c], f[p][c]);
    }
}

// Weight i of a block's 32, of each row: a load that begins i % 4 bytes late has that byte lowest in every 32-bit word.
CPU_INLINE __m512 wide_weight(const wide_form form, const cpu_wide_block *w, uint32_t i) {
    const __m512i word = _mm512_and_si512(_mm512_loadu_si512(w->q + 64 * (i / 4) + i % 4), _mm512_set1_epi32(255));
    const __m512 code = _mm512_cvtepi32_ps(form.biased ? _mm512_sub_epi32(word, _mm512_set1_epi32(128)) : word);
    const __m512 d = _mm512_loadu_ps(form.halves && i >= 16 ? w->more[0] : w->d);
    if (!form.has_min) return _mm512_mul_ps(code, d);
    return _mm512_fmadd_ps(code, d, _mm512_loadu_ps(w->more[form.halves ? 1 + i / 16 : 0]));
}

// sums[c] = sum over column c's outliers of weight times value, by k; bit c of the result: column c has any.
CPU_INLINE uint32_t wide_outliers(const wide_form form, const int np, const cpu_panel_args *a, float (*sums)[2][CPU_PANEL_ROWS]) {
    const size_t block_bytes = CPU_WIDE_BYTES(form.halves, form.has_min);
    for (int c = 0; c < CPU_WIDE_COLS; c++) {
        for (int p = 0; p < np; p++) _mm512_storeu_ps(sums[c][p], _mm512_setzero_ps());
    }
    uint32_t used = 0;
    const cpu_outlier *o = a->outliers, *const end = o + a->n_outliers;
    while (o < end) {
        const int32_t k = o->k;
        __m512 weight[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            weight[p] = wide_weight(form, block_of(a->panel, a->panel_bytes, p, (size_t)((uint32_t)k / 32) * block_bytes), (uint32_t)k % 32);
        }
        for (; o < end && o->k == k; o++) {
            float(*sum)[CPU_PANEL_ROWS] = sums[o->column];
            const __m512 x = _mm512_set1_ps(o->x);
            used |= 1u << o->column;
            CPU_UNROLL
            for (int p = 0; p < np; p++) _mm512_storeu_ps(sum[p], _mm512_fmadd_ps(weight[p], x, _mm512_loadu_ps(sum[p])));
        }
    }
    return used;
}

CPU_INLINE void wide_store(const cpu_panel_args *a, const int np, const int nc, __m512 (*f)[CPU_WIDE_COLS]) {
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        const int32_t left = a->n_rows - p * CPU_PANEL_ROWS;
        const __mmask16 rows = (__mmask16)(left >= CPU_PANEL_ROWS ? 0xFFFF : (1u << left) - 1);
        const __m512 bias = a->bias ? _mm512_maskz_loadu_ps(rows, a->bias + p * CPU_PANEL_ROWS) : _mm512_setzero_ps();
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            float *out = a->out + (ptrdiff_t)c * a->out_stride + p * CPU_PANEL_ROWS;
            __m512 v = f[p][c];
            if (a->bias) v = _mm512_add_ps(v, bias);
            if (a->accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, out), v);
            _mm512_mask_storeu_ps(out, rows, v);
        }
    }
}

CPU_INLINE void wide_run(const wide_form form, uint32_t (*outliers)(const cpu_panel_args *, float (*)[2][CPU_PANEL_ROWS]), const int np,
                         const int nc, const cpu_panel_args *a) {
    const size_t block_bytes = CPU_WIDE_BYTES(form.halves, form.has_min);
    __m512 f[2][CPU_WIDE_COLS];
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[p][c] = _mm512_setzero_ps();
    }
    const cpu_act *x = a->act;
    for (int32_t b = 0; b < a->n_blocks; b++, x += nc) {
        const cpu_wide_block *w[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) w[p] = block_of(a->panel, a->panel_bytes, p, (size_t)b * block_bytes);
        wide_block(form, np, nc, w, x, f);
    }
    if (a->n_outliers) {
        float sums[CPU_WIDE_COLS][2][CPU_PANEL_ROWS];
        const uint32_t used = outliers(a, sums);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            if (!(used >> c & 1)) continue;
            CPU_UNROLL
            for (int p = 0; p < np; p++) f[p][c] = _mm512_add_ps(f[p][c], _mm512_loadu_ps(sums[c][p]));
        }
    }
    wide_store(a, np, nc, f);
}

#if CPU_SANITIZED
#define WIDE_ANY(kind, np)                                                                                             \
    static __attribute__((noinline)) void kind##_##np##_any(int nc, const cpu_panel_args *a) { wide_run(kind##_form, kind##_outliers_##np, np, nc, a); }
#define WIDE_COLUMN(kind, np, nc) static void kind##_##np##_##nc(const cpu_panel_args *a) { kind##_##np##_any(nc, a); }
#else
#define WIDE_ANY(kind, np)
#define WIDE_COLUMN(kind, np, nc) static void kind##_##np##_##nc(const cpu_panel_args *a) { wide_run(kind##_form, kind##_outliers_##np, np, nc, a); }
#endif
#define WIDE_PANELS(kind, np)                                                                                          \
    static __attribute__((noinline)) uint32_t kind##_outliers_##np(const cpu_panel_args *a, float (*sums)[2][CPU_PANEL_ROWS]) { \
        return wide_outliers(kind##_form, np, a, sums);                                                                \
    }                                                                                                                  \
    WIDE_ANY(kind, np)                                                                                                 \
    WIDE_COLUMN(kind, np, 1) WIDE_COLUMN(kind, np, 2) WIDE_COLUMN(kind, np, 3)                                         \
    WIDE_COLUMN(kind, np, 4) WIDE_COLUMN(kind, np, 5) WIDE_COLUMN(kind, np, 6)
#define WIDE_KERNELS(kind, halves, has_min, biased)                                                                    \
    static const wide_form kind##_form = {halves, has_min, biased};                                                    \
    WIDE_PANELS(kind, 1)                                                                                               \
    WIDE_PANELS(kind, 2)                                                                                               \
    const cpu_wide_kernels cpu_wide_##kind = {CPU_WIDE_BYTES(halves, has_min),                                         \
                                              {NULL, kind##_1_1, kind##_1_2, kind##_1_3, kind##_1_4, kind##_1_5, kind##_1_6}, \
                                              {NULL, kind##_2_1, kind##_2_2, kind##_2_3, kind##_2_4, kind##_2_5, kind##_2_6}};

WIDE_KERNELS(plain, false, false, true)
WIDE_KERNELS(min, false, true, false)
WIDE_KERNELS(halves, true, false, true)
WIDE_KERNELS(halves_min, true, true, false)
