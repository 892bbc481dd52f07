// The AVX-512 VNNI micro-kernel: a panel of 16 rows times 1..16 columns, or two times 3..8, an accumulator register per panel and column.
//
// Included by the matmul_*_avx512vnni.c files only. A type is a cpu_panel_form: inline functions that give its codes and
// scales, and constants that say which terms it has; everything is inlined, so each instance is straight-line code.
// Order of arithmetic, the same for every number of columns and for wide panels (matmul_wide_avx512vnni.c): per 32 weights
// an exact integer dot product, converted, times the weights' scale, times the activations' scale, added to the f32
// accumulator by FMA; then the minimum's term. With scales per 16 weights both halves' terms are summed before they are
// multiplied by the activations' scale. The products of the column's outliers come last, when the panel's weights are in
// the cache.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_AVX512VNNI_H
#define WTL_KERNELS_CPU_PANEL_AVX512VNNI_H

#include <immintrin.h>

#include "kernels/cpu/panel_scales.h"
#include "kernels/cpu/wide_avx512vnni.h"

typedef struct panel_form {
    size_t block_bytes;
    int subs;        // blocks of 32 per panel block
    int zero_shift;  // codes are biased by 1 << zero_shift; -1: not biased
    bool split;      // scales per 16 weights instead of 32
    bool has_min;
    __m512i (*codes)(const void *block, int sub, int group);
    __m512i (*code)(const void *block, int sub, int k); // of weight k = 0..31 of each row, as 32-bit integers
    // Scale and minimum [16] as f32; half: which 16 of the 32 weights, for split types.
    __m512 (*scale)(const void *block, const panel_scales *k, int sub, int half);
    __m512 (*minimum)(const void *block, const panel_scales *k, int sub, int half);
    void (*scales)(const void *block, panel_scales *k); // unpacks what scale and minimum take as k; NULL: nothing
} panel_form;

CPU_INLINE __m512 load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
CPU_INLINE __m512 load_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
CPU_INLINE __m512 load_s8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}

// Codes of group g, g a compile-time constant after unrolling; see cpu_panel.h.
CPU_INLINE __m512i codes4(const uint8_t *q, int g) {
    __m512i b = _mm512_loadu_si512(q + 64 * (g & 3));
    return _mm512_and_si512(g < 4 ? b : _mm512_srli_epi16(b, 4), _mm512_set1_epi8(15));
}
// Bits `bits` of byte plane h, moved so that bit `from` lands on bit `to`, merged into q.
CPU_INLINE __m512i merge_bits(__m512i q, const uint8_t *h, int from, int to, int bits) {
    __m512i b = _mm512_loadu_si512(h);
    if (from < to) b = _mm512_slli_epi16(b, (unsigned)(to - from));
    if (from > to) b = _mm512_srli_epi16(b, (unsigned)(from - to));
    return _mm512_ternarylogic_epi32(q, b, _mm512_set1_epi8((char)bits), 0xF8); // q | (b & bits)
}
CPU_INLINE __m512i codes5(const uint8_t *q, const uint8_t *h, int g) { return merge_bits(codes4(q, g), h, g, 4, 0x10); }
CPU_INLINE __m512i codes6(const uint8_t *q, const uint8_t *h, int g) {
    return merge_bits(codes4(q, g), h + 64 * (g >> 2), 2 * (g & 3), 4, 0x30);
}
CPU_INLINE __m512i codes2(const uint8_t *q, int g) {
    __m512i b = _mm512_loadu_si512(q + 64 * (g >> 2));
    return _mm512_and_si512(_mm512_srli_epi16(b, (unsigned)(2 * (g & 3))), _mm512_set1_epi8(3));
}
CPU_INLINE __m512i codes3(const uint8_t *q, const uint8_t *h, int g) { return merge_bits(codes2(q, g), h, g, 2, 4); }
CPU_INLINE __m512i codes_iq4(const uint8_t *q, int g) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)values));
    return _mm512_shuffle_epi8(table, codes4(q, g));
}

// The code of weight k, k not known before run time: `mask` bits from bit `shift` of the rows' 32-bit words.
CPU_INLINE __m512i bits_at(const uint8_t *p, int shift, int mask) {
    return _mm512_and_si512(_mm512_srl_epi32(_mm512_loadu_si512(p), _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(mask));
}
CPU_INLINE __m512i code4(const uint8_t *q, int k) { return bits_at(q + 64 * (k >> 2 & 3), 8 * (k & 3) + 4 * (k >> 4), 15); }
CPU_INLINE __m512i code5(const uint8_t *q, const uint8_t *h, int k) {
    return _mm512_or_si512(code4(q, k), _mm512_slli_epi32(bits_at(h, 8 * (k & 3) + (k >> 2), 1), 4));
}
CPU_INLINE __m512i code2(const uint8_t *q, int k) {
    return bits_at(q + 64 * (k >> 4), 8 * (k & 3) + 2 * (k >> 2 & 3), 3);
}
CPU_INLINE __m512i code6(const uint8_t *q, const uint8_t *h, int k) {
    return _mm512_or_si512(code4(q, k), _mm512_slli_epi32(code2(h, k), 4));
}
CPU_INLINE __m512i code3(const uint8_t *q, const uint8_t *h, int k) {
    return _mm512_or_si512(code2(q, k), _mm512_slli_epi32(bits_at(h, 8 * (k & 3) + (k >> 2), 1), 2));
}
CPU_INLINE __m512i code8(const uint8_t *q, int k) { return bits_at(q + 64 * (k >> 2), 8 * (k & 3), 255); }
CPU_INLINE __m512i code_iq4(const uint8_t *q, int k) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    const __m512i table = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)values));
    return _mm512_permutexvar_epi32(code4(q, k), table);
}

// Weight `at` of each row.
CPU_INLINE __m512 panel_weight(const panel_form form, const void *panel, int32_t at) {
    const uint32_t b = (uint32_t)at / 32; // unsigned: shifts instead of divisions
    const int i = at & 31, s = (int)(b % (uint32_t)form.subs);
    const uint8_t *w = (const uint8_t *)panel + (size_t)(b / (uint32_t)form.subs) * form.block_bytes;
    const __m512i zero = _mm512_set1_epi32(form.zero_shift < 0 ? 0 : 1 << form.zero_shift);
    panel_scales k;
    if (form.scales) form.scales(w, &k);
    const __m512 code = _mm512_cvtepi32_ps(_mm512_sub_epi32(form.code(w, s, i), zero)), d = form.scale(w, &k, s, i >> 4);
    return form.has_min ? _mm512_fmadd_ps(code, d, form.minimum(w, &k, s, i >> 4)) : _mm512_mul_ps(code, d);
}

// sums[c] = sum over column c's outliers of weight times value; bit c of the result: column c has any. Each weight is
// unpacked once for all columns.
CPU_INLINE uint32_t panel_outliers(const panel_form form, const cpu_panel_args *a, __m512 *sums) {
    uint32_t used = 0;
    const cpu_outlier *o = a->outliers, *const end = o + a->n_outliers;
    while (o < end) {
        const int32_t k = o->k;
        const __m512 weight = panel_weight(form, a->panel, k);
        for (; o < end && o->k == k; o++) {
            const __m512 sum = used >> o->column & 1 ? sums[o->column] : _mm512_setzero_ps();
            sums[o->column] = _mm512_fmadd_ps(weight, _mm512_set1_ps(o->x), sum);
            used |= 1u << o->column;
        }
    }
    return used;
}

// Whether codes are moved so that their zero point is 128, as in wide panels: an addition for each group saves two or three instructions for
// each column, which find where their accumulators start in the activations.
CPU_INLINE bool is_moved(const panel_form form, const int nc) { return form.zero_shift == 7 || (form.zero_shift >= 0 && nc > (form.split ? 2 : 4)); }
// A sum of the first groups as a float of its own, see CPU_WIDE_ONE: it saves the conversion.
CPU_INLINE bool sums_are_floats(const panel_form form, const int nc) { return form.zero_shift < 0 || is_moved(form, nc); }

// Where accumulators start: zero point times -sum of the activations; of groups 0..3 of split types, else of all.
CPU_INLINE __m512i start_first(const panel_form form, const int nc, const cpu_act *x) {
    if (form.zero_shift < 0) return _mm512_set1_epi32(CPU_WIDE_ONE);
    if (is_moved(form, nc)) return broadcast(form.split ? &x->wide_low : &x->wide);
    return _mm512_slli_epi32(broadcast(form.split ? &x->neg_low : &x->neg), (unsigned)form.zero_shift);
}
CPU_INLINE __m512i neg_high(const cpu_act *x) { return _mm512_sub_epi32(broadcast(&x->neg), broadcast(&x->neg_low)); }
CPU_INLINE __m512i start_second(const panel_form form, const int nc, const cpu_act *x) {
    if (form.zero_shift < 0) return _mm512_setzero_si512();
    if (is_moved(form, nc)) return broadcast(&x->wide_high);
    return _mm512_slli_epi32(neg_high(x), (unsigned)form.zero_shift);
}

// What makes a product with d of CPU_WIDE_ONE plus n one of n alone. Exact: d has 19 bits at most, the factor two.
CPU_INLINE __m512 wide_offset(__m512 d) { return _mm512_mul_ps(d, _mm512_set1_ps(-12582912.0f)); }

// What is unpacked of one block of 32 weights.
typedef struct panel_block {
    __m512i q[8];               // codes of each group, where they are unpacked once for several chunks of columns
    __m512 d[2], m[2], offset;  // scales, minima; what goes with d[0]
} panel_block;

CPU_INLINE __m512i codes_of(const panel_form form, const int nc, const uint8_t *w, int s, int g) {
    const __m512i q = form.codes(w, s, g);
    if (form.zero_shift == 7 || !is_moved(form, nc)) return q;
    return _mm512_add_epi8(q, _mm512_set1_epi8((char)(128 - (1 << form.zero_shift))));
}

CPU_INLINE panel_block block_scales(const panel_form form, const uint8_t *w, const panel_scales *k, int s) {
    panel_block b;
    for (int half = 0; half < (form.split ? 2 : 1); half++) {
        b.d[half] = form.scale(w, k, s, half);
        if (form.has_min) b.m[half] = form.minimum(w, k, s, half);
    }
    b.offset = wide_offset(b.d[0]);
    return b;
}

// Columns that are multiplied at a time, with codes that were unpacked before where these are not all. Types with two scales need two
// registers a column besides its sum.
CPU_INLINE int chunk_of(const panel_form form, const int nc) {
    const int most = form.split ? 8 : 16, chunks = (nc + most - 1) / most;
    return (nc + chunks - 1) / chunks;
}

// dot += groups first .. end - 1 of np panels times n of the tile's nc columns, from x on.
CPU_INLINE void panel_dots(const panel_form form, const int np, const int nc, const int n, const uint8_t *const *w, int s, const panel_block *b,
                           const int first, const int end, const cpu_act *x, __m512i (*dot)[CPU_MOST_COLS]) {
    CPU_UNROLL
    for (int g = first; g < end; g++) {
        __m512i q[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) q[p] = chunk_of(form, nc) < nc ? b[p].q[g] : codes_of(form, nc, w[p], s, g);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < n; c++) {
            __m512i a = _mm512_set1_epi32(x[c].q4[g]);
            if (np > 1) __asm__("" : "+v"(a)); // one load for both panels: the compiler would fold one into each product
            CPU_UNROLL
            for (int p = 0; p < np; p++) dot[p][c] = _mm512_dpbusd_epi32(dot[p][c], q[p], a);
        }
    }
}

// The sum of the first groups times their scale.
CPU_INLINE __m512 panel_first(const panel_form form, const int nc, const panel_block *b, __m512i dot) {
    if (sums_are_floats(form, nc)) return _mm512_fmadd_ps(_mm512_castsi512_ps(dot), b->d[0], b->offset);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(dot), b->d[0]);
}
// The sum of the others times their scale and the minima's terms onto t.
CPU_INLINE __m512 panel_second(const panel_form form, const panel_block *b, const cpu_act *x, __m512i dot, __m512 t) {
    t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), b->d[1], t);
    if (!form.has_min) return t;
    t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(broadcast(&x->neg_low)), b->m[0], t);
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(neg_high(x)), b->m[1], t);
}

// f += d * (first sum * its scale + second sum * its scale + the minima's terms) of split types: d comes last, it would cost a product
// for each half. Of others f += d * (sum * scale), then the minimum's term.
CPU_INLINE void panel_chunk(const panel_form form, const int np, const int nc, const int n, const uint8_t *const *w, int s, const panel_block *b,
                            const cpu_act *x, __m512 *const *f) {
    __m512i dot[2][CPU_MOST_COLS];
    __m512 t[2][CPU_MOST_COLS];
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < n; c++) dot[p][c] = start_first(form, nc, x + c);
    }
    panel_dots(form, np, nc, n, w, s, b, 0, form.split ? 4 : 8, x, dot);
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < n; c++) {
            t[p][c] = panel_first(form, nc, &b[p], dot[p][c]);
            if (form.split) dot[p][c] = start_second(form, nc, x + c);
        }
    }
    if (form.split) panel_dots(form, np, nc, n, w, s, b, 4, 8, x, dot);
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < n; c++) {
            if (form.split) t[p][c] = panel_second(form, &b[p], x + c, dot[p][c], t[p][c]);
            f[p][c] = _mm512_fmadd_ps(t[p][c], _mm512_set1_ps(x[c].d), f[p][c]);
            if (!form.split && form.has_min) f[p][c] = _mm512_fmadd_ps(b[p].m[0], _mm512_set1_ps(x[c].s), f[p][c]);
        }
    }
}

CPU_INLINE void panel_sub(const panel_form form, const int np, const int nc, const uint8_t *const *w, const panel_scales *k, int s, const cpu_act *x,
                          __m512 (*f)[CPU_MOST_COLS]) {
    const int chunk = chunk_of(form, nc);
    panel_block b[2];
    CPU_UNROLL
    for (int p = 0; p < np; p++) b[p] = block_scales(form, w[p], k + p, s);
    CPU_UNROLL
    for (int g = 0; chunk < nc && g < 8; g++) {
        b[0].q[g] = codes_of(form, nc, w[0], s, g);
        __asm__("" : "+v"(b[0].q[g])); // kept in a register
    }
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c += chunk) panel_chunk(form, np, nc, nc - c < chunk ? nc - c : chunk, w, s, b, x + c, (__m512 *[2]){f[0] + c, f[1] + c});
}

CPU_INLINE void panel_store(const cpu_panel_args *a, const int nc, const __m512 *f) {
    const __mmask16 rows = (__mmask16)((1u << a->n_rows) - 1);
    const __m512 bias = a->bias ? _mm512_maskz_loadu_ps(rows, a->bias) : _mm512_setzero_ps();
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        float *out = a->out + (ptrdiff_t)c * a->out_stride;
        __m512 v = f[c];
        if (a->bias) v = _mm512_add_ps(v, bias);
        if (a->accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, out), v);
        _mm512_mask_storeu_ps(out, rows, v);
    }
}

// What a kernel of one panel takes for panel p.
CPU_INLINE cpu_panel_args panel_of(const cpu_panel_args *a, int p) {
    cpu_panel_args one = *a;
    one.panel = p ? a->second : a->panel;
    one.n_rows = a->n_rows - p * CPU_PANEL_ROWS < CPU_PANEL_ROWS ? a->n_rows - p * CPU_PANEL_ROWS : CPU_PANEL_ROWS;
    one.out = a->out + p * CPU_PANEL_ROWS;
    one.bias = a->bias ? a->bias + p * CPU_PANEL_ROWS : NULL;
    return one;
}

// Adds the outliers' products and stores.
CPU_INLINE void panel_end(const cpu_panel_args *a, const int nc, uint32_t (*outliers)(const cpu_panel_args *, __m512 *), __m512 *f) {
    if (a->n_outliers) {
        __m512 sums[CPU_MOST_COLS];
        const uint32_t used = outliers(a, sums);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[c] = used >> c & 1 ? _mm512_add_ps(f[c], sums[c]) : f[c];
    }
    panel_store(a, nc, f);
}

// How far ahead weights are prefetched. From memory into the second level: more requests may be under way there, and farther ahead than the
// hardware goes across a page. From there into the first level shortly before they are wanted. (Decode gains up to 23 % over the
// first level alone, see RESULTS.md.) One tile of columns reads every weight from memory; with several tiles all but the first find them in the second-level
// cache, and lose nothing.
#define PANEL_PREFETCH_FAR 16384
#define PANEL_PREFETCH_NEAR 2048

// What lies far and near bytes behind at in each panel.
CPU_INLINE void panel_fetch(const int np, const uint8_t *const *w, size_t at, size_t far, size_t bytes) {
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        for (size_t i = at; i < at + bytes; i += 64) {
            _mm_prefetch((const char *)w[p] + far + i, _MM_HINT_T1);
            _mm_prefetch((const char *)w[p] + PANEL_PREFETCH_NEAR + i, _MM_HINT_T0);
        }
    }
}

// np panels times nc columns. Two panels share each broadcast of activations; behind a
// panel comes the next one, behind one of two neighbours its place in the next pair.
CPU_INLINE void panel_run(const panel_form form, uint32_t (*outliers)(const cpu_panel_args *, __m512 *), const int np, const int nc,
                          const cpu_panel_args *a) {
    __m512 f[2][CPU_MOST_COLS];
    const uint8_t *w[2];
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        w[p] = p ? a->second : a->panel;
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[p][c] = _mm512_setzero_ps();
    }
    const cpu_act *x = a->act;
    const bool neighbours = np > 1 && a->second == (const uint8_t *)a->panel + a->panel_bytes;
    const size_t distance = np > 1 && a->panel_bytes < PANEL_PREFETCH_FAR ? a->panel_bytes : PANEL_PREFETCH_FAR;
    panel_scales k[2];
    for (int32_t b = 0; b < a->n_blocks; b += form.subs) {
        size_t far = distance;
        if (neighbours && (size_t)(w[0] - (const uint8_t *)a->panel) + distance >= a->panel_bytes) far += a->panel_bytes;
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            if (form.scales) form.scales(w[p], &k[p]);
        }
        if (form.subs == 1) {
            panel_fetch(np, w, 0, far, form.block_bytes);
            panel_sub(form, np, nc, w, k, 0, x, f);
            x += nc;
        } else {
            CPU_ROLLED
            for (int s = 0; s < form.subs; s++) {
                panel_fetch(np, w, (size_t)s * (form.block_bytes / 8), far, form.block_bytes / 8);
                panel_sub(form, np, nc, w, k, s, x, f);
                x += nc;
            }
        }
        CPU_UNROLL
        for (int p = 0; p < np; p++) w[p] += form.block_bytes;
    }
    CPU_UNROLL
    for (int p = 0; p < np; p++) {
        const cpu_panel_args one = panel_of(a, p);
        panel_end(&one, nc, outliers, f[p]);
    }
}

// ---- widening -------------------------------------------------------------------------------------------------------
// Block s of super-block w.
CPU_INLINE void widen_block(const panel_form form, const uint8_t *w, const panel_scales *k, int s, cpu_wide_block *wide) {
    const __m512i zero = _mm512_set1_epi8((char)(form.zero_shift < 0 ? 0 : 128 - (1 << form.zero_shift)));
    CPU_UNROLL
    for (int g = 0; g < 8; g++) _mm512_storeu_si512(wide->q + 64 * g, _mm512_add_epi8(form.codes(w, s, g), zero));
    const __m512 d = form.scale(w, k, s, 0);
    _mm512_storeu_ps(wide->d, d);
    _mm512_storeu_ps(wide->c, wide_offset(d));
    float(*more)[16] = wide->more;
    if (form.split) _mm512_storeu_ps(*more++, form.scale(w, k, s, 1));
    if (!form.has_min) return;
    _mm512_storeu_ps(*more++, form.minimum(w, k, s, 0));
    if (form.split) _mm512_storeu_ps(*more, form.minimum(w, k, s, 1));
}

// np panels' blocks from first_block on; a block is multiplied with nc columns as soon as it is there, in the shadow of the next one's loads
// and stores. The sums stay open: nc of 0 widens only.
CPU_INLINE void panel_widen(const panel_form form, const int np, const int nc, const void *const *panels, const cpu_panel_args *a,
                            const cpu_wide_span *span) {
    const wide_form kind = {form.split, form.has_min, form.zero_shift >= 0};
    const size_t block_bytes = CPU_WIDE_BYTES(form.split, form.has_min);
    size_t at = (size_t)span->first_block / (size_t)form.subs * form.block_bytes;
    uint8_t *to = (uint8_t *)(uintptr_t)a->panel;
    const cpu_act *x = a->act;
    __m512 f[2][CPU_TILE_COLS];
    panel_scales k[2];
    wide_begin(np, nc, span, f);
    for (int32_t b = 0; b < a->n_blocks; b += form.subs, at += form.block_bytes) {
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            if (form.scales) form.scales((const uint8_t *)panels[p] + at, &k[p]);
        }
        CPU_ROLLED
        for (int s = 0; s < form.subs; s++, to += block_bytes) {
            const cpu_wide_block *w[2];
            CPU_UNROLL
            for (int p = 0; p < np; p++) {
                cpu_wide_block *wide = (cpu_wide_block *)(void *)(to + (size_t)p * a->panel_bytes);
                widen_block(form, (const uint8_t *)panels[p] + at, &k[p], s, wide);
                w[p] = wide;
            }
            if (!nc) continue;
            wide_block(kind, np, nc, w, x, f);
            wide_fetch(&span->ahead, (size_t)(b + s));
            x += nc;
        }
    }
    wide_leave(np, nc, span, f);
}

// Instances for 1..16 columns, where they gain for 17..24, for 3..8 of two panels, and their table; kind: of the wide kernels.
#if CPU_SANITIZED
#define PANEL_ANY(name)                                                                                                \
    static __attribute__((noinline)) void name##_any(int nc, const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, 1, nc, a); } \
    static __attribute__((noinline)) void name##_two_any(int nc, const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, 2, nc, a); }
#define PANEL_COLUMN(name, nc) static void name##_##nc(const cpu_panel_args *a) { name##_any(nc, a); }
#define PANEL_TWO(name, nc) static void name##_two_##nc(const cpu_panel_args *a) { name##_two_any(nc, a); }
#else
#define PANEL_ANY(name)
#define PANEL_COLUMN(name, nc) static void name##_##nc(const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, 1, nc, a); }
#define PANEL_TWO(name, nc) static void name##_two_##nc(const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, 2, nc, a); }
#endif
#define PANEL_COLUMNS(X, name)                                                                                         \
    X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6) X(name, 7) X(name, 8) X(name, 9) X(name, 10)     \
    X(name, 11) X(name, 12) X(name, 13) X(name, 14) X(name, 15) X(name, 16)
#define PANEL_MORE_plain(X, name) X(name, 17) X(name, 18) X(name, 19) X(name, 20) X(name, 21) X(name, 22) X(name, 23) X(name, 24)
#define PANEL_MORE_min(X, name) PANEL_MORE_plain(X, name)
#define PANEL_MORE_halves(X, name) // wide panels are as fast
#define PANEL_MORE_halves_min(X, name)
#define PANEL_TWOS(X, name) X(name, 3) X(name, 4) X(name, 5) X(name, 6) X(name, 7) X(name, 8)
#define PANEL_ENTRY(name, nc) [nc] = name##_##nc,
#define PANEL_TWO_ENTRY(name, nc) [nc] = name##_two_##nc,
#define PANEL_KERNELS(name, kind)                                                                                      \
    static __attribute__((noinline)) uint32_t name##_outliers(const cpu_panel_args *a, __m512 *sums) {                 \
        return panel_outliers(name##_form, a, sums);                                                                   \
    }                                                                                                                  \
    PANEL_ANY(name)                                                                                                    \
    PANEL_COLUMNS(PANEL_COLUMN, name)                                                                                  \
    PANEL_MORE_##kind(PANEL_COLUMN, name)                                                                              \
    PANEL_TWOS(PANEL_TWO, name)                                                                                        \
    static void name##_widen(const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *s) { panel_widen(name##_form, 1, 0, panels, a, s); } \
    static void name##_widen_two(const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *s) {         \
        panel_widen(name##_form, 2, CPU_TILE_COLS, panels, a, s);                                                      \
    }                                                                                                                  \
    const cpu_panel_kernels cpu_matmul_##name##_avx512vnni = {                                                         \
        .columns = {PANEL_COLUMNS(PANEL_ENTRY, name) PANEL_MORE_##kind(PANEL_ENTRY, name)},                            \
        .two = {PANEL_TWOS(PANEL_TWO_ENTRY, name)},                                                                    \
        .wide = &cpu_wide_##kind,                                                                                      \
        .widen = name##_widen,                                                                                         \
        .widen_two = name##_widen_two};

#endif
