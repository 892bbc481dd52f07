// Products of wide panels (cpu_panel.h), AVX-512 VNNI: one or two panels of 16 rows times 1..8 columns. For matmul_wide_avx512vnni.c and
// the kernels that widen panels on the way.
//
// Two panels share each broadcast of activations: it would take as many loads as multiply-adds otherwise. The
// order of arithmetic is that of panel_avx512vnni.h, and so are the bits.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_WIDE_AVX512VNNI_H
#define WTL_KERNELS_CPU_WIDE_AVX512VNNI_H

#include <immintrin.h>

#include "kernels/cpu/cpu_panel.h"

typedef struct wide_form {
    bool halves, has_min, biased;
} wide_form;

// From memory, never by way of a scalar register: the multipliers share their ports with such moves.
CPU_INLINE __m512i broadcast(const int32_t *p) { return _mm512_broadcastd_epi32(_mm_loadu_si32(p)); }
CPU_INLINE const cpu_wide_block *block_of(const void *panels, size_t panel_bytes, int p, size_t at) {
    return (const cpu_wide_block *)(const void *)((const uint8_t *)panels + (size_t)p * panel_bytes + at);
}

CPU_INLINE __m512i wide_start_first(const wide_form form, const cpu_act *x) {
    return form.biased ? broadcast(form.halves ? &x->wide_low : &x->wide) : _mm512_set1_epi32(CPU_WIDE_ONE);
}
CPU_INLINE __m512i wide_start_second(const wide_form form, const cpu_act *x) {
    return form.biased ? broadcast(&x->wide_high) : _mm512_setzero_si512();
}

// Products are to come in the order in which they are written here. clang (14) would load all broadcasts of a block first and run out of
// registers, which takes 2.5 times as long; it leaves assembler that is volatile where it is. gcc would fold one load into each product.
#if defined(__clang__)
#define WIDE_KEEP_HERE(sum) __asm__ volatile("" : "+v"(sum) : : "memory")
CPU_INLINE __m512i wide_activations(const int np, const int32_t *q) {
    __m512i a;
    (void)np;
    __asm__ volatile("vpbroadcastd %1, %0" : "=v"(a) : "m"(*q));
    return a;
}
CPU_INLINE __m512i wide_dot(__m512i sum, __m512i weights, __m512i a) {
    __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(a));
    return sum;
}
#else
#define WIDE_KEEP_HERE(sum) ((void)0)
CPU_INLINE __m512i wide_activations(const int np, const int32_t *q) {
    __m512i a = _mm512_set1_epi32(*q);
    if (np > 1) __asm__("" : "+v"(a)); // one load for both panels
    return a;
}
CPU_INLINE __m512i wide_dot(__m512i sum, __m512i weights, __m512i a) { return _mm512_dpbusd_epi32(sum, weights, a); }
#endif

// dot += groups 0..3 or 4..7 of each panel's block times columns of which x is this block's.
CPU_INLINE void wide_dots(const int half, const int np, const int nc, const cpu_wide_block *const *w, const cpu_act *x, __m512i (*dot)[CPU_TILE_COLS]) {
    CPU_UNROLL
    for (int g = 4 * half; g < 4 * half + 4; g++) {
        __m512i q[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) q[p] = _mm512_loadu_si512(w[p]->q + 64 * g);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            const __m512i a = wide_activations(np, &x[c].q4[g]);
            CPU_UNROLL
            for (int p = 0; p < np; p++) dot[p][c] = wide_dot(dot[p][c], q[p], a);
        }
    }
}

// The sum of the first groups as a product with their scale, and that of the others added.
CPU_INLINE __m512 wide_first(const cpu_wide_block *w, __m512i dot) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(dot), _mm512_loadu_ps(w->d), _mm512_loadu_ps(w->c));
}
CPU_INLINE __m512 wide_second(const wide_form form, const cpu_wide_block *w, const cpu_act *x, __m512i dot, __m512 t) {
    t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_loadu_ps(w->more[0]), t);
    if (!form.has_min) return t;
    const __m512i low = broadcast(&x->neg_low), high = _mm512_sub_epi32(broadcast(&x->neg), low);
    t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(low), _mm512_loadu_ps(w->more[1]), t);
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(high), _mm512_loadu_ps(w->more[2]), t);
}

// f += the products of one block.
CPU_INLINE void wide_block(const wide_form form, const int np, const int nc, const cpu_wide_block *const *w, const cpu_act *x,
                           __m512 (*f)[CPU_TILE_COLS]) {
    __m512i dot[2][CPU_TILE_COLS];
    __m512 t[2][CPU_TILE_COLS];
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[p][c] = wide_start_first(form, x + c);
    }
    wide_dots(0, np, nc, w, x, dot);
    if (form.halves) {
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            CPU_UNROLL_COLUMNS
            for (int c = 0; c < nc; c++) {
                t[p][c] = wide_first(w[p], dot[p][c]);
                if (np * nc > 8) __asm__("" : "+m"(t[p][c])); // to memory: the registers are for sums
                dot[p][c] = wide_start_second(form, x + c);
            }
        }
    }
    wide_dots(1, np, nc, w, x, dot);
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            const __m512 sum = form.halves ? wide_second(form, w[p], x + c, dot[p][c], t[p][c]) : wide_first(w[p], dot[p][c]);
            f[p][c] = _mm512_fmadd_ps(sum, _mm512_set1_ps(x[c].d), f[p][c]);
            if (!form.halves && form.has_min) f[p][c] = _mm512_fmadd_ps(_mm512_loadu_ps(w[p]->more[0]), _mm512_set1_ps(x[c].s), f[p][c]);
            WIDE_KEEP_HERE(f[p][c]);
        }
    }
}

CPU_INLINE void wide_store(const cpu_panel_args *a, const int np, const int nc, __m512 (*f)[CPU_TILE_COLS]) {
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

CPU_INLINE void wide_fetch(const cpu_ahead *ahead, size_t block) {
    for (int32_t s = 0; s < ahead->n; s++) {
        const char *at = (const char *)ahead->at[s] + block * ahead->step[s];
        for (size_t i = 0; i < ahead->step[s]; i += 64) _mm_prefetch(at + i, _MM_HINT_T1);
    }
}

// Sums as the spans before have left them.
CPU_INLINE void wide_begin(const int np, const int nc, const cpu_wide_span *span, __m512 (*f)[CPU_TILE_COLS]) {
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[p][c] = span->first ? _mm512_setzero_ps() : _mm512_load_ps(span->sums->products[p][c]);
    }
}

CPU_INLINE void wide_leave(const int np, const int nc, const cpu_wide_span *span, __m512 (*f)[CPU_TILE_COLS]) {
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) _mm512_store_ps(span->sums->products[p][c], f[p][c]);
    }
}

CPU_INLINE void wide_run(const wide_form form, const int np, const int nc, const cpu_panel_args *a, const cpu_wide_span *span) {
    const size_t block_bytes = CPU_WIDE_BYTES(form.halves, form.has_min);
    __m512 f[2][CPU_TILE_COLS];
    wide_begin(np, nc, span, f);
    const cpu_act *x = a->act;
    for (int32_t b = 0; b < a->n_blocks; b++, x += nc) {
        const cpu_wide_block *w[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) w[p] = block_of(a->panel, a->panel_bytes, p, (size_t)b * block_bytes);
        wide_block(form, np, nc, w, x, f);
        wide_fetch(&span->ahead, (size_t)b);
    }
    if (!span->last) {
        wide_leave(np, nc, span, f);
        return;
    }
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        if (!(span->used >> c & 1)) continue;
        CPU_UNROLL
        for (int p = 0; p < np; p++) f[p][c] = _mm512_add_ps(f[p][c], _mm512_load_ps(span->outlier_sums[c][p]));
    }
    wide_store(a, np, nc, f);
}

#endif
