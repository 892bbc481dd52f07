// The AVX-512 VNNI micro-kernel: one panel of 16 rows times 1..8 columns, one accumulator register per column.
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

#include "kernels/cpu/cpu_panel.h"

typedef struct panel_form {
    size_t block_bytes;
    int subs;        // blocks of 32 per panel block
    int zero_shift;  // codes are biased by 1 << zero_shift; -1: not biased
    bool split;      // scales per 16 weights instead of 32
    bool has_min;
    __m512i (*codes)(const void *block, int sub, int group);
    __m512i (*code)(const void *block, int sub, int k); // of weight k = 0..31 of each row, as 32-bit integers
    // Scale and minimum [16] as f32; half: which 16 of the 32 weights, for split types.
    __m512 (*scale)(const void *block, int sub, int half);
    __m512 (*minimum)(const void *block, int sub, int half);
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

// Weight k of each row.
CPU_INLINE __m512 panel_weight(const panel_form form, const void *panel, int32_t k) {
    const uint32_t b = (uint32_t)k / 32; // unsigned: shifts instead of divisions
    const int i = k & 31, s = (int)(b % (uint32_t)form.subs);
    const uint8_t *w = (const uint8_t *)panel + (size_t)(b / (uint32_t)form.subs) * form.block_bytes;
    const __m512i zero = _mm512_set1_epi32(form.zero_shift < 0 ? 0 : 1 << form.zero_shift);
    const __m512 code = _mm512_cvtepi32_ps(_mm512_sub_epi32(form.code(w, s, i), zero)), d = form.scale(w, s, i >> 4);
    return form.has_min ? _mm512_fmadd_ps(code, d, form.minimum(w, s, i >> 4)) : _mm512_mul_ps(code, d);
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

// From memory, never by way of a scalar register: the multipliers share their ports with such moves.
CPU_INLINE __m512i broadcast(const int32_t *p) { return _mm512_broadcastd_epi32(_mm_loadu_si32(p)); }

// A sum as a float of its own, see CPU_WIDE_ONE: types without a zero point save the conversion.
CPU_INLINE bool sums_are_floats(const panel_form form) { return form.zero_shift < 0 && !form.split; }

// Where the accumulator starts: zero point times -sum of the activations.
CPU_INLINE __m512i start(const panel_form form, __m512i neg) {
    if (sums_are_floats(form)) return _mm512_set1_epi32(CPU_WIDE_ONE);
    if (form.zero_shift < 0) return _mm512_setzero_si512();
    return _mm512_slli_epi32(neg, (unsigned)form.zero_shift);
}
CPU_INLINE __m512i neg_high(const cpu_act *x) { return _mm512_sub_epi32(broadcast(&x->neg), broadcast(&x->neg_low)); }

// What makes a product with d of CPU_WIDE_ONE plus n one of n alone. Exact: d has 19 bits at most, the factor two.
CPU_INLINE __m512 wide_offset(__m512 d) { return _mm512_mul_ps(d, _mm512_set1_ps(-12582912.0f)); }

// f += (dot * scale) * d and the minimum's term.
CPU_INLINE void panel_scale(const panel_form form, const int nc, const uint8_t *w, int s, const cpu_act *x, const __m512i *dot,
                            __m512 *f) {
    const __m512 d = form.scale(w, s, 0), offset = wide_offset(d);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        const __m512 t = sums_are_floats(form) ? _mm512_fmadd_ps(_mm512_castsi512_ps(dot[c]), d, offset) : _mm512_mul_ps(_mm512_cvtepi32_ps(dot[c]), d);
        f[c] = _mm512_fmadd_ps(t, _mm512_set1_ps(x[c].d), f[c]);
    }
    if (!form.has_min) return;
    const __m512 m = form.minimum(w, s, 0);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = _mm512_fmadd_ps(m, _mm512_set1_ps(x[c].s), f[c]);
}

// f += d * (low * its scale + high * its scale + the minima's terms): d comes last, it would cost a product for each half.
CPU_INLINE void panel_scale_halves(const panel_form form, const int nc, const uint8_t *w, int s, const cpu_act *x, const __m512i *low,
                                   const __m512i *high, __m512 *f) {
    const __m512 d0 = form.scale(w, s, 0), d1 = form.scale(w, s, 1);
    __m512 m0 = d0, m1 = d1;
    if (form.has_min) m0 = form.minimum(w, s, 0), m1 = form.minimum(w, s, 1);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(low[c]), d0);
        t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[c]), d1, t);
        if (form.has_min) {
            t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(broadcast(&x[c].neg_low)), m0, t);
            t = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(neg_high(x + c)), m1, t);
        }
        f[c] = _mm512_fmadd_ps(t, _mm512_set1_ps(x[c].d), f[c]);
    }
}

CPU_INLINE void panel_sub(const panel_form form, const int nc, const uint8_t *w, int s, const cpu_act *x, __m512 *f) {
    __m512i low[CPU_TILE_COLS], high[CPU_TILE_COLS]; // high: groups 4..7 of split types
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        low[c] = start(form, broadcast(form.split ? &x[c].neg_low : &x[c].neg));
        if (form.split) high[c] = start(form, neg_high(x + c));
    }
    CPU_UNROLL
    for (int g = 0; g < 8; g++) {
        __m512i *dot = form.split && g >= 4 ? high : low;
        const __m512i q = form.codes(w, s, g);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[c] = _mm512_dpbusd_epi32(dot[c], q, _mm512_set1_epi32(x[c].q4[g]));
    }
    if (form.split) panel_scale_halves(form, nc, w, s, x, low, high, f);
    else panel_scale(form, nc, w, s, x, low, f);
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

// Adds the outliers' products and stores.
CPU_INLINE void panel_end(const cpu_panel_args *a, const int nc, uint32_t (*outliers)(const cpu_panel_args *, __m512 *), __m512 *f) {
    if (a->n_outliers) {
        __m512 sums[CPU_TILE_COLS];
        const uint32_t used = outliers(a, sums);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[c] = used >> c & 1 ? _mm512_add_ps(f[c], sums[c]) : f[c];
    }
    panel_store(a, nc, f);
}

// How far ahead weights are prefetched: about 4 KiB, more than the hardware does across a page. One tile of columns reads
// every weight from memory; with several tiles all but the first find them in the second-level cache, and lose nothing.
#define PANEL_PREFETCH_BYTES 4096

CPU_INLINE void panel_run(const panel_form form, uint32_t (*outliers)(const cpu_panel_args *, __m512 *), const int nc,
                          const cpu_panel_args *a) {
    __m512 f[CPU_TILE_COLS];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = _mm512_setzero_ps();
    const uint8_t *w = a->panel;
    const cpu_act *x = a->act;
    for (int32_t b = 0; b < a->n_blocks; b += form.subs, w += form.block_bytes) {
        if (form.subs == 1) {
            for (size_t i = 0; i < form.block_bytes; i += 64) _mm_prefetch((const char *)w + PANEL_PREFETCH_BYTES + i, _MM_HINT_T0);
            panel_sub(form, nc, w, 0, x, f);
            x += nc;
        } else {
            CPU_ROLLED
            for (int s = 0; s < form.subs; s++) {
                const size_t sub_bytes = form.block_bytes / 8;
                for (size_t i = 0; i < sub_bytes; i += 64) {
                    _mm_prefetch((const char *)w + PANEL_PREFETCH_BYTES + (size_t)s * sub_bytes + i, _MM_HINT_T0);
                }
                panel_sub(form, nc, w, s, x, f);
                x += nc;
            }
        }
    }
    panel_end(a, nc, outliers, f);
}

// The wide form of blocks of 32 of a panel; where a type has super-blocks, whole ones.
CPU_INLINE void panel_widen(const panel_form form, const void *panel, int32_t first_block, int32_t n_blocks, void *out) {
    const size_t block_bytes = CPU_WIDE_BYTES(form.split, form.has_min);
    const uint8_t *w = (const uint8_t *)panel + (size_t)first_block / (size_t)form.subs * form.block_bytes;
    uint8_t *to = out;
    const __m512i zero = _mm512_set1_epi8((char)(form.zero_shift < 0 ? 0 : 128 - (1 << form.zero_shift)));
    for (int32_t b = 0; b < n_blocks; b += form.subs, w += form.block_bytes) {
        CPU_ROLLED
        for (int s = 0; s < form.subs; s++, to += block_bytes) {
            cpu_wide_block *wide = (cpu_wide_block *)(void *)to;
            CPU_UNROLL
            for (int g = 0; g < 8; g++) _mm512_storeu_si512(wide->q + 64 * g, _mm512_add_epi8(form.codes(w, s, g), zero));
            const __m512 d = form.scale(w, s, 0);
            _mm512_storeu_ps(wide->d, d);
            _mm512_storeu_ps(wide->c, wide_offset(d));
            float(*more)[16] = wide->more;
            if (form.split) _mm512_storeu_ps(*more++, form.scale(w, s, 1));
            if (!form.has_min) continue;
            _mm512_storeu_ps(*more++, form.minimum(w, s, 0));
            if (form.split) _mm512_storeu_ps(*more, form.minimum(w, s, 1));
        }
    }
}

// Instances for 1..8 columns and their table; kind: of the wide kernels.
#if CPU_SANITIZED
#define PANEL_ANY(name)                                                                                                \
    static __attribute__((noinline)) void name##_any(int nc, const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, nc, a); }
#define PANEL_COLUMN(name, nc) static void name##_##nc(const cpu_panel_args *a) { name##_any(nc, a); }
#else
#define PANEL_ANY(name)
#define PANEL_COLUMN(name, nc) static void name##_##nc(const cpu_panel_args *a) { panel_run(name##_form, name##_outliers, nc, a); }
#endif
#define PANEL_KERNELS(name, kind)                                                                                           \
    static __attribute__((noinline)) uint32_t name##_outliers(const cpu_panel_args *a, __m512 *sums) {                 \
        return panel_outliers(name##_form, a, sums);                                                                   \
    }                                                                                                                  \
    PANEL_ANY(name)                                                                                                    \
    PANEL_COLUMN(name, 1) PANEL_COLUMN(name, 2) PANEL_COLUMN(name, 3) PANEL_COLUMN(name, 4)                            \
    PANEL_COLUMN(name, 5) PANEL_COLUMN(name, 6) PANEL_COLUMN(name, 7) PANEL_COLUMN(name, 8)                            \
    static void name##_widen(const void *panel, int32_t first, int32_t n, void *out) { panel_widen(name##_form, panel, first, n, out); } \
    const cpu_panel_kernels cpu_matmul_##name##_avx512vnni = {                                                         \
        {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}, &cpu_wide_##kind, name##_widen};

#endif
