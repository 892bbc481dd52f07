// Kernels of planes (cpu_planes.h), AVX-512 VNNI: on all bits, with the arithmetic of panel_avx512vnni.h, and sketches.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_planes.h"
#include "kernels/cpu/panel_avx512vnni.h"

// How far ahead each plane is fetched. For sketches, which wait for memory alone, into the second level, where more requests may be under way.
#define PLANES_PREFETCH_BLOCKS 16
CPU_INLINE void fetch(const uint8_t *p, size_t block_bytes, const int bits) {
    const char *ahead = (const char *)p + PLANES_PREFETCH_BLOCKS * block_bytes;
    for (size_t i = 0; i < block_bytes; i += 64) {
        if (bits > 6) _mm_prefetch(ahead + i, _MM_HINT_T0);
        else _mm_prefetch(ahead + i, _MM_HINT_T1);
    }
}

// Upper bits of the codes of group g in block b, where they lie in the byte: 5 or 6 of them, or all 8.
CPU_INLINE __m512i planes_codes(const cpu_planes *w, size_t b, int g, const int bits) {
    const __m512i high = _mm512_loadu_si512(w->high + 256 * b + 64 * (g & 3));
    __m512i q = _mm512_and_si512(g < 4 ? _mm512_slli_epi16(high, 4) : high, _mm512_set1_epi8((char)0xF0));
    q = merge_bits(q, w->bit3 + 64 * b, g, 3, 8);
    if (bits > 5) q = merge_bits(q, w->bit2 + 64 * b, g, 2, 4);
    if (bits > 6) q = merge_bits(q, w->low + 128 * b + 64 * (g >> 2), 2 * (g & 3), 0, 3);
    return q;
}

// The same of weight k of the row, as 32-bit integers without the bias.
CPU_INLINE __m512i planes_code(const cpu_planes *w, int32_t k, const int bits) {
    const size_t b = (uint32_t)k / 32;
    const int i = k & 31, shift = 8 * (i & 3) + (i >> 2);
    __m512i q = _mm512_slli_epi32(code4(w->high + 256 * b, i), 4);
    q = _mm512_or_si512(q, _mm512_slli_epi32(bits_at(w->bit3 + 64 * b, shift, 1), 3));
    if (bits > 5) q = _mm512_or_si512(q, _mm512_slli_epi32(bits_at(w->bit2 + 64 * b, shift, 1), 2));
    if (bits > 6) q = _mm512_or_si512(q, code2(w->low + 128 * b, i));
    return _mm512_sub_epi32(q, _mm512_set1_epi32(128));
}

CPU_INLINE __m512 planes_scale(const cpu_planes *w, size_t b) { return load_f16(w->scale + 16 * b); }

CPU_INLINE void planes_fetch(const cpu_planes *w, size_t b, const int bits) {
    fetch(w->high + 256 * b, 256, bits);
    fetch(w->bit3 + 64 * b, 64, bits);
    if (bits > 5) fetch(w->bit2 + 64 * b, 64, bits);
    if (bits > 6) fetch(w->low + 128 * b, 128, bits);
    if (b % 2 == 0) fetch((const uint8_t *)(w->scale + 16 * b), 32, bits);
}

// Integer products of block b with each column; on all bits as floats, see CPU_WIDE_ONE.
CPU_INLINE void planes_dots(const cpu_planes *w, size_t b, const int bits, const int nc, const cpu_act *x, __m512i *dot) {
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) dot[c] = bits > 6 ? broadcast(&x[c].wide) : _mm512_slli_epi32(broadcast(&x[c].neg), 7);
    CPU_UNROLL
    for (int g = 0; g < 8; g++) {
        const __m512i q = planes_codes(w, b, g, bits);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[c] = _mm512_dpbusd_epi32(dot[c], q, _mm512_set1_epi32(x[c].q4[g]));
    }
}

// ---- all bits -------------------------------------------------------------------------------------------------------
static __attribute__((noinline)) uint32_t planes_outliers(const cpu_panel_args *a, __m512 *sums) {
    const cpu_planes *w = a->panel;
    uint32_t used = 0;
    const cpu_outlier *o = a->outliers, *const end = o + a->n_outliers;
    while (o < end) {
        const int32_t k = o->k;
        const __m512 weight = _mm512_mul_ps(_mm512_cvtepi32_ps(planes_code(w, k, 8)), planes_scale(w, (uint32_t)k / 32));
        for (; o < end && o->k == k; o++) {
            const __m512 sum = used >> o->column & 1 ? sums[o->column] : _mm512_setzero_ps();
            sums[o->column] = _mm512_fmadd_ps(weight, _mm512_set1_ps(o->x), sum);
            used |= 1u << o->column;
        }
    }
    return used;
}

CPU_INLINE void planes_run(const int nc, const cpu_panel_args *a) {
    const cpu_planes w = *(const cpu_planes *)a->panel;
    const cpu_act *x = a->act;
    __m512 f[CPU_MOST_COLS];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = _mm512_setzero_ps();
    for (size_t b = 0; b < (size_t)a->n_blocks; b++, x += nc) {
        __m512i dot[CPU_MOST_COLS];
        planes_fetch(&w, b, 8);
        planes_dots(&w, b, 8, nc, x, dot);
        const __m512 d = planes_scale(&w, b), offset = wide_offset(d);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            f[c] = _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_castsi512_ps(dot[c]), d, offset), _mm512_set1_ps(x[c].d), f[c]);
        }
    }
    panel_end(a, nc, planes_outliers, f);
}

CPU_INLINE void planes_widen_block(const cpu_planes *w, size_t b, cpu_wide_block *wide) {
    CPU_UNROLL
    for (int g = 0; g < 8; g++) _mm512_storeu_si512(wide->q + 64 * g, planes_codes(w, b, g, 8));
    const __m512 d = planes_scale(w, b);
    _mm512_storeu_ps(wide->d, d);
    _mm512_storeu_ps(wide->c, wide_offset(d));
}

// As panel_widen of panels in one piece.
CPU_INLINE void planes_widen_run(const int np, const int nc, const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *span) {
    const wide_form kind = {.biased = true};
    uint8_t *to = (uint8_t *)(uintptr_t)a->panel;
    const cpu_act *x = a->act;
    const size_t first = (size_t)span->first_block;
    __m512 f[2][CPU_TILE_COLS];
    cpu_planes from[2];
    CPU_UNROLL
    for (int p = 0; p < np; p++) from[p] = *(const cpu_planes *)panels[p];
    wide_begin(np, nc, span, f);
    for (size_t b = 0; b < (size_t)a->n_blocks; b++, to += CPU_WIDE_BYTES(false, false)) {
        const cpu_wide_block *w[2];
        CPU_UNROLL
        for (int p = 0; p < np; p++) {
            cpu_wide_block *wide = (cpu_wide_block *)(void *)(to + (size_t)p * a->panel_bytes);
            planes_widen_block(&from[p], first + b, wide);
            w[p] = wide;
        }
        if (!nc) continue;
        wide_block(kind, np, nc, w, x, f);
        wide_fetch(&span->ahead, b);
        x += nc;
    }
    wide_leave(np, nc, span, f);
}

static void planes_widen(const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *span) { planes_widen_run(1, 0, panels, a, span); }
static void planes_widen_two(const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *span) {
    planes_widen_run(2, CPU_TILE_COLS, panels, a, span);
}

// ---- sketches -------------------------------------------------------------------------------------------------------
// Outliers' products with the sketched weights onto f, and how far those may be off onto bound.
static __attribute__((noinline)) void sketch_outliers(const cpu_sketch_args *a, const int bits, __m512 *f, __m512 *bound) {
    const float mid = bits == 5 ? 3.5f : 1.5f;
    for (int32_t i = 0; i < a->n_outliers; i++) {
        const cpu_outlier *o = &a->outliers[i];
        const __m512 d = planes_scale(a->panel, (uint32_t)o->k / 32), x = _mm512_set1_ps(o->x);
        const __m512 code = _mm512_cvtepi32_ps(bits == 5 ? planes_code(a->panel, o->k, 5) : planes_code(a->panel, o->k, 6));
        f[o->column] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_add_ps(code, _mm512_set1_ps(mid)), d), x, f[o->column]);
        const __m512 most = _mm512_abs_ps(_mm512_mul_ps(d, _mm512_set1_ps(mid * (1 + 0x1p-10f))));
        bound[o->column] = _mm512_fmadd_ps(most, _mm512_abs_ps(x), bound[o->column]);
    }
}

CPU_INLINE void sketch_column(const cpu_sketch_args *a, int c, __m512 f, __m512 bound) {
    const __mmask16 rows = (__mmask16)((1u << a->n_rows) - 1);
    struct cpu_sketch_out *out = &a->out[c];
    __m512 upper = _mm512_add_ps(f, bound);
    upper = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(upper, upper, _CMP_UNORD_Q), upper, _mm512_set1_ps(INFINITY)); // a maximum may lose a NaN
    out->upper = _mm512_mask_reduce_max_ps(rows, upper);
    out->above = _mm512_mask_cmp_ps_mask(rows, f, _mm512_set1_ps(a->threshold[c]), _CMP_GE_OQ);
    if (out->above) _mm512_storeu_ps(out->value, f);
}

CPU_INLINE void sketch_run(const int bits, const int nc, const cpu_sketch_args *a) {
    const cpu_planes w = *a->panel;
    const cpu_act *x = a->act;
    const float mid = bits == 5 ? 3.5f : 1.5f;
    __m512 f[CPU_SKETCH_COLS], bound[CPU_SKETCH_COLS];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = _mm512_setzero_ps();
    for (size_t b = 0; b < (size_t)a->n_blocks; b++, x += nc) {
        __m512i dot[CPU_SKETCH_COLS];
        planes_fetch(&w, b, bits);
        planes_dots(&w, b, bits, nc, x, dot);
        const __m512 d = planes_scale(&w, b);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            const __m512 missing = _mm512_set1_ps(mid * x[c].s);
            f[c] = _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[c]), _mm512_set1_ps(x[c].d), missing), d, f[c]);
        }
    }
    const __m256i packed = _mm256_loadu_si256((const __m256i *)(const void *)w.reach[bits - 5]);
    const __m512 reach = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) bound[c] = _mm512_fmadd_ps(reach, _mm512_set1_ps(a->norm[c]), _mm512_set1_ps(0x1p-110f));
    if (a->n_outliers) sketch_outliers(a, bits, f, bound);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) sketch_column(a, c, f[c], bound[c]);
}

// ---- from the plain layout ------------------------------------------------------------------------------------------
// Bits `from`, from + 1, ... of each group's codes to bits g * step of a byte: `count` groups from `first` on.
CPU_INLINE __m512i gather_bits(const panel_q8_0 *block, int first, int count, int from, int step) {
    __m512i plane = _mm512_setzero_si512();
    for (int i = 0; i < count; i++) {
        const __m512i bits = _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(block->q + 64 * (first + i)), (unsigned)from),
                                              _mm512_set1_epi8((char)((1 << step) - 1)));
        plane = _mm512_or_si512(plane, _mm512_slli_epi16(bits, (unsigned)(i * step)));
    }
    return plane;
}

// Sum over a row's 32 codes of (2 l - 2 mid)^2, of l their lowest `bits` bits: 4 times what is asked for, in integers.
CPU_INLINE __m512i missing_squares(const panel_q8_0 *block, int bits) {
    const int most = (1 << bits) - 1; // 2 mid
    uint8_t table[16] = {0};
    for (int l = 0; l <= most; l++) table[l] = (uint8_t)((2 * l - most) * (2 * l - most));
    const __m512i squares = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
    __m512i sum = _mm512_setzero_si512();
    for (int g = 0; g < 8; g++) {
        const __m512i l = _mm512_and_si512(_mm512_loadu_si512(block->q + 64 * g), _mm512_set1_epi8((char)most));
        sum = _mm512_dpbusd_epi32(sum, _mm512_shuffle_epi8(squares, l), _mm512_set1_epi8(1));
    }
    return sum;
}

static void planes_split(const panel_q8_0 *block, const cpu_planes *w, int32_t at, double (*squares)[16]) {
    const size_t b = (size_t)at;
    for (int k = 0; k < 4; k++) {
        const __m512i first = _mm512_loadu_si512(block->q + 64 * k), second = _mm512_loadu_si512(block->q + 64 * (k + 4));
        const __m512i nibbles = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(first, 4), _mm512_set1_epi8(15)),
                                                _mm512_and_si512(second, _mm512_set1_epi8((char)0xF0)));
        _mm512_storeu_si512(w->high + 256 * b + 64 * k, nibbles);
    }
    _mm512_storeu_si512(w->bit3 + 64 * b, gather_bits(block, 0, 8, 3, 1));
    _mm512_storeu_si512(w->bit2 + 64 * b, gather_bits(block, 0, 8, 2, 1));
    for (int half = 0; half < 2; half++) _mm512_storeu_si512(w->low + 128 * b + 64 * half, gather_bits(block, 4 * half, 4, 0, 2));
    memcpy(w->scale + 16 * b, block->d, sizeof block->d);
    int32_t sums[CPU_SKETCHES][16];
    float d[16];
    _mm512_storeu_si512(sums[CPU_SKETCH_5], missing_squares(block, 3));
    _mm512_storeu_si512(sums[CPU_SKETCH_6], missing_squares(block, 2));
    _mm512_storeu_ps(d, load_f16(block->d));
    for (int s = 0; s < CPU_SKETCHES; s++) {
        for (int r = 0; r < 16; r++) squares[s][r] += (double)d[r] * (double)d[r] * (0.25 * sums[s][r]);
    }
}

// ---- the table ------------------------------------------------------------------------------------------------------
#if CPU_SANITIZED
static __attribute__((noinline)) void planes_any(int nc, const cpu_panel_args *a) { planes_run(nc, a); }
static __attribute__((noinline)) void sketch_any(int bits, int nc, const cpu_sketch_args *a) { sketch_run(bits, nc, a); }
#else
#define planes_any planes_run
#define sketch_any sketch_run
#endif
#define PLANES_COLUMN(nc) static void planes_##nc(const cpu_panel_args *a) { planes_any(nc, a); }
#define SKETCH_COLUMN(nc)                                                                                              \
    static void sketch5_##nc(const cpu_sketch_args *a) { sketch_any(5, nc, a); }                                       \
    static void sketch6_##nc(const cpu_sketch_args *a) { sketch_any(6, nc, a); }
PLANES_COLUMN(1) PLANES_COLUMN(2) PLANES_COLUMN(3) PLANES_COLUMN(4) PLANES_COLUMN(5) PLANES_COLUMN(6) PLANES_COLUMN(7) PLANES_COLUMN(8)
PLANES_COLUMN(9) PLANES_COLUMN(10) PLANES_COLUMN(11) PLANES_COLUMN(12) PLANES_COLUMN(13) PLANES_COLUMN(14) PLANES_COLUMN(15) PLANES_COLUMN(16)
SKETCH_COLUMN(1) SKETCH_COLUMN(2) SKETCH_COLUMN(3) SKETCH_COLUMN(4)

const cpu_planes_kernels cpu_planes_avx512vnni = {
    .panels = {{NULL, planes_1, planes_2, planes_3, planes_4, planes_5, planes_6, planes_7, planes_8, planes_9, planes_10, planes_11,
                planes_12, planes_13, planes_14, planes_15, planes_16}, {NULL}, &cpu_wide_plain, planes_widen, planes_widen_two},
    .sketch = {{NULL, sketch5_1, sketch5_2, sketch5_3, sketch5_4}, {NULL, sketch6_1, sketch6_2, sketch6_3, sketch6_4}},
    .split = planes_split,
};
