// Kernels of wide panels (cpu_panel.h), AVX-512 VNNI.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/wide_avx512vnni.h"

// Weight i of a block's 32, of each row: a load that begins i % 4 bytes late has that byte lowest in every 32-bit word.
CPU_INLINE __m512 wide_weight(const wide_form form, const cpu_wide_block *w, uint32_t i) {
    const __m512i word = _mm512_and_si512(_mm512_loadu_si512(w->q + 64 * (i / 4) + i % 4), _mm512_set1_epi32(255));
    const __m512 code = _mm512_cvtepi32_ps(form.biased ? _mm512_sub_epi32(word, _mm512_set1_epi32(128)) : word);
    const __m512 d = _mm512_loadu_ps(form.halves && i >= 16 ? w->more[0] : w->d);
    if (!form.has_min) return _mm512_mul_ps(code, d);
    return _mm512_fmadd_ps(code, d, _mm512_loadu_ps(w->more[form.halves ? 1 + i / 16 : 0]));
}

CPU_INLINE void wide_outliers(const wide_form form, const int np, cpu_wide_outliers *a) {
    const size_t block_bytes = CPU_WIDE_BYTES(form.halves, form.has_min);
    const cpu_outlier *o = a->next, *const end = a->end;
    while (o < end && o->k < a->end_k) {
        const uint32_t k = (uint32_t)(o->k - a->first_k);
        __m512 weight[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) weight[p] = wide_weight(form, block_of(a->panels, a->panel_bytes, p, (size_t)(k / 32) * block_bytes), k % 32);
        for (const int32_t same = o->k; o < end && o->k == same; o++) {
            const __m512 x = _mm512_set1_ps(o->x);
            CPU_UNROLL
            for (int p = 0; p < np; p++) {
                float *sum = a->sums[o->column][p];
                _mm512_store_ps(sum, _mm512_fmadd_ps(weight[p], x, _mm512_load_ps(sum)));
            }
        }
    }
    a->next = o;
}

#if CPU_SANITIZED
#define WIDE_ANY(kind, np)                                                                                             \
    static __attribute__((noinline)) void kind##_##np##_any(int nc, const cpu_panel_args *a, const cpu_wide_span *s) { \
        wide_run(kind##_form, np, nc, a, s);                                                     \
    }
#define WIDE_COLUMN(kind, np, nc) static void kind##_##np##_##nc(const cpu_panel_args *a, const cpu_wide_span *s) { kind##_##np##_any(nc, a, s); }
#else
#define WIDE_ANY(kind, np)
#define WIDE_COLUMN(kind, np, nc)                                                                                      \
    static void kind##_##np##_##nc(const cpu_panel_args *a, const cpu_wide_span *s) { wide_run(kind##_form, np, nc, a, s); }
#endif
#define WIDE_PANELS(kind, np)                                                                                          \
    static void kind##_outliers_##np(cpu_wide_outliers *a) { wide_outliers(kind##_form, np, a); }                    \
    WIDE_ANY(kind, np)                                                                                                 \
    WIDE_COLUMN(kind, np, 1) WIDE_COLUMN(kind, np, 2) WIDE_COLUMN(kind, np, 3)                                         \
    WIDE_COLUMN(kind, np, 4) WIDE_COLUMN(kind, np, 5) WIDE_COLUMN(kind, np, 6) WIDE_COLUMN(kind, np, 7) WIDE_COLUMN(kind, np, 8)
#define WIDE_KERNELS(kind, halves, has_min, biased)                                                                    \
    static const wide_form kind##_form = {halves, has_min, biased};                                                    \
    WIDE_PANELS(kind, 1)                                                                                               \
    WIDE_PANELS(kind, 2)                                                                                               \
    const cpu_wide_kernels cpu_wide_##kind = {CPU_WIDE_BYTES(halves, has_min),                                         \
                                              {NULL, kind##_1_1, kind##_1_2, kind##_1_3, kind##_1_4, kind##_1_5, kind##_1_6, kind##_1_7, kind##_1_8}, \
                                              {NULL, kind##_2_1, kind##_2_2, kind##_2_3, kind##_2_4, kind##_2_5, kind##_2_6, kind##_2_7, kind##_2_8}, \
                                              {NULL, kind##_outliers_1, kind##_outliers_2}};

WIDE_KERNELS(plain, false, false, true)
WIDE_KERNELS(min, false, true, false)
WIDE_KERNELS(halves, true, false, true)
WIDE_KERNELS(halves_min, true, true, false)
