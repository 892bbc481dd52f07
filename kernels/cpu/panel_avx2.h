// The 256-bit micro-kernel: 16 or 8 rows of a panel times up to four columns, with or without dot-product instructions.
//
// Included by the matmul_*_avx2.c and matmul_*_avxvnni.c files only, which set PANEL_TABLE (the name of a type's table) and
// PANEL_VNNI; order of arithmetic as in panel_avx512vnni.h, but for scales per 16 weights: both halves are added as if they
// were blocks. With AVX2 alone vpmaddubsw adds two products in 16 bits: codes of up to six bits cannot overflow it, and sums
// of several such results are widened once (merge). Eight-bit codes are made signed and multiplied as |w| * (a with w's
// sign): at most 2 * 128 * 127. AVX-VNNI has vpdpbusd instead and nothing else: dot products are exact either way, so that
// both give the same bits.
// Sixteen registers hold four columns of eight rows, so a tile of up to eight columns takes two passes.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_AVX2_H
#define WTL_KERNELS_CPU_PANEL_AVX2_H

#include <immintrin.h>

#include "kernels/cpu/dot_avxvnni.h"
#include "kernels/cpu/panel_scales.h"

typedef __m256i panel_codes, panel_words; // of eight rows: bytes [8][4], 32-bit integers [8]
typedef __m256 panel_floats;
#include "kernels/cpu/panel_form.h"

CPU_INLINE __m256i load_bytes(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
CPU_INLINE __m256 load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
CPU_INLINE __m256 load_u8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
CPU_INLINE __m256 load_s8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}

CPU_INLINE __m256 load_u4(const uint8_t *p, int shift) { // the nibbles from bit `shift` on
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(bytes, shift), _mm_set1_epi8(15))));
}
CPU_INLINE __m256 negative(__m256 v) { return _mm256_sub_ps(_mm256_setzero_ps(), v); }
CPU_INLINE __m256 times(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }

// Codes of group g of eight rows; see cpu_panel.h.
CPU_INLINE __m256i codes4(const uint8_t *q, int g, int rows) {
    __m256i b = load_bytes(q + 64 * (g & 3) + 4 * rows);
    return _mm256_and_si256(g < 4 ? b : _mm256_srli_epi16(b, 4), _mm256_set1_epi8(15));
}
CPU_INLINE __m256i merge_bits(__m256i q, const uint8_t *h, int from, int to, int bits) {
    __m256i b = load_bytes(h);
    if (from < to) b = _mm256_slli_epi16(b, to - from);
    if (from > to) b = _mm256_srli_epi16(b, from - to);
    return _mm256_or_si256(q, _mm256_and_si256(b, _mm256_set1_epi8((char)bits)));
}
CPU_INLINE __m256i codes5(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes4(q, g, rows), h + 4 * rows, g, 4, 0x10);
}
CPU_INLINE __m256i codes6(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes4(q, g, rows), h + 64 * (g >> 2) + 4 * rows, 2 * (g & 3), 4, 0x30);
}
CPU_INLINE __m256i codes2(const uint8_t *q, int g, int rows) {
    __m256i b = load_bytes(q + 64 * (g >> 2) + 4 * rows);
    return _mm256_and_si256(_mm256_srli_epi16(b, 2 * (g & 3)), _mm256_set1_epi8(3));
}
CPU_INLINE __m256i codes3(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes2(q, g, rows), h + 4 * rows, g, 2, 4);
}
CPU_INLINE __m256i codes_iq4(const uint8_t *q, int g, int rows) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)values));
    return _mm256_shuffle_epi8(table, codes4(q, g, rows));
}

// The code of weight k, k not known before run time: `mask` bits from bit `shift` of the rows' 32-bit words.
CPU_INLINE __m256i bits_at(const uint8_t *p, int shift, int mask) {
    return _mm256_and_si256(_mm256_srl_epi32(load_bytes(p), _mm_cvtsi32_si128(shift)), _mm256_set1_epi32(mask));
}
CPU_INLINE __m256i code4(const uint8_t *q, int k, int rows) {
    return bits_at(q + 64 * (k >> 2 & 3) + 4 * rows, 8 * (k & 3) + 4 * (k >> 4), 15);
}
CPU_INLINE __m256i code5(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return _mm256_or_si256(code4(q, k, rows), _mm256_slli_epi32(bits_at(h + 4 * rows, 8 * (k & 3) + (k >> 2), 1), 4));
}
CPU_INLINE __m256i code2(const uint8_t *q, int k, int rows) {
    return bits_at(q + 64 * (k >> 4) + 4 * rows, 8 * (k & 3) + 2 * (k >> 2 & 3), 3);
}
CPU_INLINE __m256i code6(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return _mm256_or_si256(code4(q, k, rows), _mm256_slli_epi32(code2(h, k, rows), 4));
}
CPU_INLINE __m256i code3(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return _mm256_or_si256(code2(q, k, rows), _mm256_slli_epi32(bits_at(h + 4 * rows, 8 * (k & 3) + (k >> 2), 1), 2));
}
CPU_INLINE __m256i code8(const uint8_t *q, int k, int rows) { return bits_at(q + 64 * (k >> 2) + 4 * rows, 8 * (k & 3), 255); }
CPU_INLINE __m256i code_iq4(const uint8_t *q, int k, int rows) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)values);
    const __m256i code = code4(q, k, rows); // three upper bytes 0: they pick value 0, which is not 0
    return _mm256_and_si256(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), code), _mm256_set1_epi32(255));
}

// Weight `at` of eight rows.
CPU_INLINE __m256 panel_weight(const panel_form form, const void *panel, int32_t at, int rows) {
    const uint32_t b = (uint32_t)at / 32; // unsigned: shifts instead of divisions
    const int i = at & 31, s = (int)(b % (uint32_t)form.subs);
    const uint8_t *w = (const uint8_t *)panel + (size_t)(b / (uint32_t)form.subs) * form.block_bytes;
    const __m256i zero = _mm256_set1_epi32(zero_point(form));
    const __m256 code = _mm256_cvtepi32_ps(_mm256_sub_epi32(form.code(w, s, i, rows), zero));
    panel_scales k;
    if (form.scales) form.scales(w, &k);
    const __m256 d = form.scale(w, &k, s, i >> 4, rows);
    return form.has_min ? _mm256_fmadd_ps(code, d, form.minimum(w, &k, s, i >> 4, rows)) : _mm256_mul_ps(code, d);
}

// sums[column] = sum over the column's outliers of weight times value, for eight rows; bit c of the result: column c has
// any. Each weight is unpacked once for all columns. Columns outside of first..first + n - 1 are left out.
CPU_INLINE uint32_t panel_outliers(const panel_form form, const cpu_panel_args *a, int first, int n, int rows, __m256 *sums) {
    uint32_t used = 0;
    const uint32_t wanted = ((1u << n) - 1) << first;
    const cpu_outlier *o = a->outliers, *const end = o + a->n_outliers;
    while (o < end) {
        const int32_t k = o->k;
        const __m256 weight = panel_weight(form, a->panel, k, rows);
        for (; o < end && o->k == k; o++) {
            if (!(wanted >> o->column & 1)) continue;
            const __m256 sum = used >> o->column & 1 ? sums[o->column] : _mm256_setzero_ps();
            sums[o->column] = _mm256_fmadd_ps(weight, _mm256_set1_ps(o->x), sum);
            used |= 1u << o->column;
        }
    }
    return used;
}

#if PANEL_VNNI
// Where the accumulator starts: zero point times -sum of the activations.
CPU_INLINE __m256i start(const panel_form form, int32_t neg) {
    if (form.zero_shift < 0) return _mm256_setzero_si256();
    return _mm256_slli_epi32(_mm256_set1_epi32(neg), form.zero_shift);
}

// dot[c] += codes * activations over groups first..first + n - 1.
CPU_INLINE void panel_dot(const panel_form form, const int nc, const uint8_t *w, int s, int rows, const int first, const int n,
                          const cpu_act *x, __m256i *dot) {
    CPU_UNROLL
    for (int g = first; g < first + n; g++) {
        const __m256i q = form.codes(w, s, g, rows);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[c] = dot_bytes(dot[c], q, _mm256_set1_epi32(x[c].q4[g]));
    }
}

#else
// Where the accumulator starts: zero point times -sum of the activations. Eight-bit codes are made signed instead.
CPU_INLINE __m256i start(const panel_form form, int32_t neg) {
    if (form.zero_shift < 0 || form.merge == 0) return _mm256_setzero_si256();
    return _mm256_slli_epi32(_mm256_set1_epi32(neg), form.zero_shift);
}
CPU_INLINE __m256i widen(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

// dot[c] += codes * activations over groups first..first + n - 1.
CPU_INLINE void panel_dot(const panel_form form, const int nc, const uint8_t *w, int s, int rows, const int first, const int n,
                          const cpu_act *x, __m256i *dot) {
    __m256i sums[4];
    CPU_UNROLL
    for (int g = first; g < first + n; g++) {
        const __m256i q = form.codes(w, s, g, rows);
        const __m256i value = _mm256_xor_si256(q, _mm256_set1_epi8((char)0x80)), magnitude = _mm256_abs_epi8(value);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            const __m256i a = _mm256_set1_epi32(x[c].q4[g]);
            if (form.merge == 0) {
                dot[c] = _mm256_add_epi32(dot[c], widen(_mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, value))));
                continue;
            }
            const int place = (g - first) % form.merge;
            const __m256i products = _mm256_maddubs_epi16(q, a);
            sums[c] = place == 0 ? products : _mm256_add_epi16(sums[c], products);
            if (place == form.merge - 1 || g == first + n - 1) dot[c] = _mm256_add_epi32(dot[c], widen(sums[c]));
        }
    }
}
#endif

CPU_INLINE void panel_scale(const panel_form form, const int nc, const uint8_t *w, const panel_scales *k, int s, const int half, int rows,
                            const cpu_act *x, const __m256i *dot, __m256 *f) {
    const __m256 d = form.scale(w, k, s, half, rows);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        f[c] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[c]), _mm256_mul_ps(d, _mm256_set1_ps(x[c].d)), f[c]);
    }
    if (!form.has_min) return;
    const __m256 m = form.minimum(w, k, s, half, rows);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        const int32_t neg = half ? x[c].neg - x[c].neg_low : x[c].neg_low;
        f[c] = _mm256_fmadd_ps(m, _mm256_set1_ps(form.split ? x[c].d * (float)-neg : x[c].s), f[c]);
    }
}

// One block of 32 weights of eight rows times nc columns.
CPU_INLINE void panel_sub(const panel_form form, const int nc, const uint8_t *w, const panel_scales *k, int s, int rows, const cpu_act *x,
                          __m256 *f) {
    __m256i dot[4];
    if (!form.split) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[c] = start(form, x[c].neg);
        panel_dot(form, nc, w, s, rows, 0, 8, x, dot);
        panel_scale(form, nc, w, k, s, 0, rows, x, dot, f);
        return;
    }
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) dot[c] = start(form, x[c].neg_low);
    panel_dot(form, nc, w, s, rows, 0, 4, x, dot);
    panel_scale(form, nc, w, k, s, 0, rows, x, dot, f);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) dot[c] = start(form, x[c].neg - x[c].neg_low);
    panel_dot(form, nc, w, s, rows, 4, 4, x, dot);
    panel_scale(form, nc, w, k, s, 1, rows, x, dot, f);
}

// Eight rows of one column; lanes past the matrix are neither read nor written.
CPU_INLINE void panel_store(const cpu_panel_args *a, float *out, int rows, __m256 v) {
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(rows));
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(a->n_rows), lane);
    if (a->bias) v = _mm256_add_ps(v, _mm256_maskload_ps(a->bias + rows, mask));
    if (a->accumulate) v = _mm256_add_ps(_mm256_maskload_ps(out + rows, mask), v);
    _mm256_maskstore_ps(out + rows, mask, v);
}

// How far ahead decode prefetches: about 4 KiB, more than the hardware does across a page.
#define PANEL_PREFETCH_BYTES 4096

// n_eights groups of eight rows starting at row `rows`, columns first..first + nc - 1 of a tile of `tile` columns.
CPU_INLINE void panel_pass(const panel_form form, uint32_t (*outliers)(const cpu_panel_args *, int, int, int, __m256 *), const int nc,
                           const int n_eights, int tile, int first, int rows, const cpu_panel_args *a) {
    __m256 f[2][4];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[0][c] = f[1][c] = _mm256_setzero_ps();
    const uint8_t *w = a->panel;
    const size_t sub_bytes = form.block_bytes / (size_t)form.subs;
    panel_scales k;
    for (int32_t b = 0; b < a->n_blocks; b += form.subs, w += form.block_bytes) {
        if (form.scales) form.scales(w, &k);
        CPU_ROLLED
        for (int s = 0; s < form.subs; s++) {
            if (n_eights == 2) {
                for (size_t i = 0; i < sub_bytes; i += 64) {
                    _mm_prefetch((const char *)w + PANEL_PREFETCH_BYTES + (size_t)s * sub_bytes + i, _MM_HINT_T0);
                }
            }
            const cpu_act *x = a->act + (ptrdiff_t)(b + s) * tile + first;
            panel_sub(form, nc, w, &k, s, rows, x, f[0]);
            if (n_eights == 2) panel_sub(form, nc, w, &k, s, rows + 8, x, f[1]);
        }
    }
    for (int h = 0; h < n_eights && a->n_outliers; h++) {
        __m256 sums[CPU_TILE_COLS];
        const uint32_t used = outliers(a, first, nc, rows + 8 * h, sums);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[h][c] = used >> (first + c) & 1 ? _mm256_add_ps(f[h][c], sums[first + c]) : f[h][c];
    }
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) {
        float *out = a->out + (ptrdiff_t)(first + c) * a->out_stride;
        panel_store(a, out, rows, f[0][c]);
        if (n_eights == 2) panel_store(a, out, rows + 8, f[1][c]);
    }
}

// Up to two columns: all 16 rows in one pass. More: eight rows and up to four columns per pass, because of the registers.
#define PANEL_WHOLE(name, nc)                                                                                          \
    static void name##_##nc(const cpu_panel_args *a) { name##_pass(nc, 2, nc, 0, 0, a); }
#define PANEL_HALVES(name, nc)                                                                                         \
    static void name##_half_##nc(int tile, int first, const cpu_panel_args *a) {                                       \
        name##_pass(nc, 1, tile, first, 0, a);                                                                         \
        name##_pass(nc, 1, tile, first, 8, a);                                                                         \
    }
#define PANEL_TILE(name, tile, left, right)                                                                            \
    static void name##_##tile(const cpu_panel_args *a) {                                                               \
        name##_half_##left(tile, 0, a);                                                                                \
        if (tile > left) name##_half_##right(tile, left, a);                                                           \
    }
// Instances for 1..8 columns and their table.
#define PANEL_KERNELS(name)                                                                                            \
    static __attribute__((noinline)) uint32_t name##_outliers(const cpu_panel_args *a, int first, int n, int rows, __m256 *sums) { \
        return panel_outliers(name##_form, a, first, n, rows, sums);                                                   \
    }                                                                                                                  \
    PANEL_PASS_ATTRIBUTE void name##_pass(int nc, int n_eights, int tile, int first, int rows, const cpu_panel_args *a) { \
        panel_pass(name##_form, name##_outliers, nc, n_eights, tile, first, rows, a);                                  \
    }                                                                                                                  \
    PANEL_WHOLE(name, 1) PANEL_WHOLE(name, 2) PANEL_HALVES(name, 2) PANEL_HALVES(name, 3) PANEL_HALVES(name, 4)        \
    PANEL_TILE(name, 3, 3, 3) PANEL_TILE(name, 4, 4, 4) PANEL_TILE(name, 5, 3, 2) PANEL_TILE(name, 6, 3, 3)            \
    PANEL_TILE(name, 7, 4, 3) PANEL_TILE(name, 8, 4, 4)                                                                \
    const cpu_panel_kernels PANEL_TABLE(name) = {                                                                      \
        .columns = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}};

#endif
