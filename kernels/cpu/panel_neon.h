// The NEON micro-kernel: four rows of a panel per register, times up to four columns, with dot-product instructions.
//
// Included by the matmul_*_neon_dotprod.c and matmul_*_neon_i8mm.c files only, which set PANEL_TABLE (the name of a type's
// table) and PANEL_I8MM; order of arithmetic as in panel_avx2.h. SDOT takes signed codes: those of eight bits lose
// their bias first. I8MM has USDOT, which takes codes as they are, and USMMLA for pairs of columns: one instruction
// multiplies two rows by two columns, 8 weights deep. Dot products are exact in every case and each output's floating-point
// operations are the same, so that one column, a pair and both instruction sets give the same bits.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_NEON_H
#define WTL_KERNELS_CPU_PANEL_NEON_H

#include <arm_neon.h>

#include "kernels/cpu/panel_scales.h"

typedef uint8x16_t panel_codes;   // [4 rows][4]
typedef uint32x4_t panel_words;   // [4 rows]
typedef float32x4_t panel_floats; // [4 rows]
#include "kernels/cpu/panel_form.h"

CPU_INLINE float32x4_t load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
CPU_INLINE uint8x8_t load_four(const void *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return vreinterpret_u8_u32(vdup_n_u32(word));
}
CPU_INLINE float32x4_t from_u8(uint8x8_t bytes) { return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))); }
CPU_INLINE float32x4_t load_u8(const uint8_t *p) { return from_u8(load_four(p)); }
CPU_INLINE float32x4_t load_s8(const int8_t *p) {
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_four(p))))));
}
CPU_INLINE float32x4_t load_u4(const uint8_t *p, int shift) { // the nibbles from bit `shift` on
    return from_u8(load_four(p) >> (uint8_t)shift & 15);
}
CPU_INLINE float32x4_t negative(float32x4_t v) { return vnegq_f32(v); }
CPU_INLINE float32x4_t times(float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); }

// Codes of group g of four rows; see cpu_panel.h. Shifts of vectors are operators: intrinsics want literal counts.
CPU_INLINE uint8x16_t load_bytes(const uint8_t *p) { return vld1q_u8(p); }
CPU_INLINE uint8x16_t codes4(const uint8_t *q, int g, int rows) {
    const uint8x16_t b = load_bytes(q + 64 * (g & 3) + 4 * rows);
    return g < 4 ? b & 15 : b >> 4;
}
// Bits `bits` of the bytes at h, moved so that bit `from` lands on bit `to`, merged into q.
CPU_INLINE uint8x16_t merge_bits(uint8x16_t q, const uint8_t *h, int from, int to, int bits) {
    const uint8x16_t b = load_bytes(h), moved = from < to ? b << (uint8_t)(to - from) : b >> (uint8_t)(from - to);
    return q | (moved & (uint8_t)bits);
}
CPU_INLINE uint8x16_t codes5(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes4(q, g, rows), h + 4 * rows, g, 4, 0x10);
}
CPU_INLINE uint8x16_t codes6(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes4(q, g, rows), h + 64 * (g >> 2) + 4 * rows, 2 * (g & 3), 4, 0x30);
}
CPU_INLINE uint8x16_t codes2(const uint8_t *q, int g, int rows) {
    return load_bytes(q + 64 * (g >> 2) + 4 * rows) >> (uint8_t)(2 * (g & 3)) & 3;
}
CPU_INLINE uint8x16_t codes3(const uint8_t *q, const uint8_t *h, int g, int rows) {
    return merge_bits(codes2(q, g, rows), h + 4 * rows, g, 2, 4);
}
CPU_INLINE uint8x16_t codes_iq4(const uint8_t *q, int g, int rows) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    return vqtbl1q_u8(vld1q_u8(values), codes4(q, g, rows));
}

// The code of weight k, k not known before run time: `mask` bits from bit `shift` of the rows' 32-bit words.
CPU_INLINE uint32x4_t bits_at(const uint8_t *p, int shift, uint32_t mask) {
    return vreinterpretq_u32_u8(load_bytes(p)) >> (uint32_t)shift & mask;
}
CPU_INLINE uint32x4_t code4(const uint8_t *q, int k, int rows) {
    return bits_at(q + 64 * (k >> 2 & 3) + 4 * rows, 8 * (k & 3) + 4 * (k >> 4), 15);
}
CPU_INLINE uint32x4_t code5(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return code4(q, k, rows) | bits_at(h + 4 * rows, 8 * (k & 3) + (k >> 2), 1) << 4;
}
CPU_INLINE uint32x4_t code2(const uint8_t *q, int k, int rows) {
    return bits_at(q + 64 * (k >> 4) + 4 * rows, 8 * (k & 3) + 2 * (k >> 2 & 3), 3);
}
CPU_INLINE uint32x4_t code6(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return code4(q, k, rows) | code2(h, k, rows) << 4;
}
CPU_INLINE uint32x4_t code3(const uint8_t *q, const uint8_t *h, int k, int rows) {
    return code2(q, k, rows) | bits_at(h + 4 * rows, 8 * (k & 3) + (k >> 2), 1) << 2;
}
CPU_INLINE uint32x4_t code8(const uint8_t *q, int k, int rows) { return bits_at(q + 64 * (k >> 2) + 4 * rows, 8 * (k & 3), 255); }
CPU_INLINE uint32x4_t code_iq4(const uint8_t *q, int k, int rows) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    const uint8x16_t code = vreinterpretq_u8_u32(code4(q, k, rows)); // three upper bytes 0: they pick value 0, which is not 0
    return vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(values), code)) & 255;
}

// Weight `at` of four rows.
CPU_INLINE float32x4_t panel_weight(const panel_form form, const void *panel, int32_t at, int rows) {
    const uint32_t b = (uint32_t)at / 32; // unsigned: shifts instead of divisions
    const int i = at & 31, s = (int)(b % (uint32_t)form.subs);
    const uint8_t *w = (const uint8_t *)panel + (size_t)(b / (uint32_t)form.subs) * form.block_bytes;
    const int32x4_t zero = vdupq_n_s32(zero_point(form));
    const float32x4_t code = vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(form.code(w, s, i, rows)), zero));
    panel_scales k;
    if (form.scales) form.scales(w, &k);
    const float32x4_t d = form.scale(w, &k, s, i >> 4, rows);
    return form.has_min ? vfmaq_f32(form.minimum(w, &k, s, i >> 4, rows), code, d) : vmulq_f32(code, d);
}

// As panel_outliers of panel_avx2.h, for four rows.
CPU_INLINE uint32_t panel_outliers(const panel_form form, const cpu_panel_args *a, int first, int n, int rows, float32x4_t *sums) {
    uint32_t used = 0;
    const uint32_t wanted = ((1u << n) - 1) << first;
    const cpu_outlier *o = a->outliers, *const end = o + a->n_outliers;
    while (o < end) {
        const int32_t k = o->k;
        const float32x4_t weight = panel_weight(form, a->panel, k, rows);
        for (; o < end && o->k == k; o++) {
            if (!(wanted >> o->column & 1)) continue;
            const float32x4_t sum = used >> o->column & 1 ? sums[o->column] : vdupq_n_f32(0);
            sums[o->column] = vfmaq_n_f32(sum, weight, o->x);
            used |= 1u << o->column;
        }
    }
    return used;
}

// ---- what differs between the instruction sets -------------------------------------------------------------------------
// dot_lane: sum + four products of codes and the four activations of `lane`, per row. lane is a constant once loops are
// unrolled, which the intrinsics want to see as a literal.
#if PANEL_I8MM
#define DOT_LANE(lane) vusdotq_laneq_s32(sum, codes, a, lane)
#define PANEL_BIASED 1 // codes of eight bits are multiplied as they are
#else
#define DOT_LANE(lane) vdotq_laneq_s32(sum, vreinterpretq_s8_u8(codes), a, lane)
#define PANEL_BIASED 0
#endif
CPU_INLINE int32x4_t dot_lane(int32x4_t sum, uint8x16_t codes, int8x16_t a, const int lane) {
    return lane == 0 ? DOT_LANE(0) : lane == 1 ? DOT_LANE(1) : lane == 2 ? DOT_LANE(2) : DOT_LANE(3);
}

CPU_INLINE uint8x16_t codes_of(const panel_form form, const uint8_t *w, int s, const int g, int rows) {
    const uint8x16_t q = form.codes(w, s, g, rows);
    return form.merge == 0 && !PANEL_BIASED ? q ^ 0x80 : q;
}

// Where the accumulator of a column starts: zero point times -sum of the activations.
CPU_INLINE int32_t start(const panel_form form, int32_t neg) {
    return form.merge == 0 && !PANEL_BIASED ? 0 : neg * zero_point(form);
}
// -sum of the activations of the half (or all) of the block.
CPU_INLINE int32_t neg_of(const panel_form form, const cpu_act *x, const int half) {
    return !form.split ? x->neg : half ? x->neg - x->neg_low : x->neg_low;
}
// What a minimum is multiplied with.
CPU_INLINE float sum_of(const panel_form form, const cpu_act *x, const int half) {
    return form.split ? x->d * (float)-neg_of(form, x, half) : x->s;
}

// ---- columns one by one: f[c] [4 rows] ----------------------------------------------------------------------------------
// Groups first..first + n - 1 of a block times nc columns, scaled and added to f.
CPU_INLINE void panel_half(const panel_form form, const int nc, const uint8_t *w, const panel_scales *k, int s, const int half, int rows,
                           const cpu_act *x, float32x4_t *f) {
    const int first = 4 * half, n = form.split ? 4 : 8;
    int32x4_t dot[4];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) dot[c] = vdupq_n_s32(start(form, neg_of(form, x + c, half)));
    CPU_UNROLL
    for (int g = first; g < first + n; g++) {
        const uint8x16_t q = codes_of(form, w, s, g, rows);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) dot[c] = dot_lane(dot[c], q, vld1q_s8(x[c].q + 16 * (g >> 2)), g & 3);
    }
    const float32x4_t d = form.scale(w, k, s, half, rows);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = vfmaq_f32(f[c], vcvtq_f32_s32(dot[c]), vmulq_n_f32(d, x[c].d));
    if (!form.has_min) return;
    const float32x4_t m = form.minimum(w, k, s, half, rows);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c++) f[c] = vfmaq_n_f32(f[c], m, sum_of(form, x + c, half));
}

#if PANEL_I8MM
// ---- pairs of columns: f[2 p + h] is rows 2 h and 2 h + 1 of columns 2 p and 2 p + 1, [2 rows][2 columns] ---------------------
CPU_INLINE float32x4_t twice(float32x2_t pair) { return vcombine_f32(pair, pair); }
CPU_INLINE float32x2_t pair_of(float a, float b) { return vset_lane_f32(b, vdup_n_f32(a), 1); }
// Eight activations of two columns, from weight 16 h + 8 j on: [2 columns][8].
CPU_INLINE int8x16_t act_pair(const cpu_act *x, const int h, const int j) {
    return vcombine_s8(vld1_s8(x[0].q + 16 * h + 8 * j), vld1_s8(x[1].q + 16 * h + 8 * j));
}

CPU_INLINE void panel_half_pairs(const panel_form form, const int nc, const uint8_t *w, const panel_scales *k, int s, const int half, int rows,
                                 const cpu_act *x, float32x4_t *f) {
    const int first = 4 * half, n = form.split ? 4 : 8;
    int32x4_t dot[4];
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c += 2) {
        const int32_t a = start(form, neg_of(form, x + c, half)), b = start(form, neg_of(form, x + c + 1, half));
        dot[c] = dot[c + 1] = vzip1q_s32(vdupq_n_s32(a), vdupq_n_s32(b));
    }
    CPU_UNROLL
    for (int g = first; g < first + n; g += 2) {
        const uint32x4_t even = vreinterpretq_u32_u8(codes_of(form, w, s, g, rows));
        const uint32x4_t odd = vreinterpretq_u32_u8(codes_of(form, w, s, g + 1, rows));
        const uint8x16_t upper = vreinterpretq_u8_u32(vzip1q_u32(even, odd)), lower = vreinterpretq_u8_u32(vzip2q_u32(even, odd));
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c += 2) {
            const int8x16_t a = act_pair(x + c, g >> 2, g >> 1 & 1);
            dot[c] = vusmmlaq_s32(dot[c], upper, a);
            dot[c + 1] = vusmmlaq_s32(dot[c + 1], lower, a);
        }
    }
    const float32x4_t d = form.scale(w, k, s, half, rows), d0 = vzip1q_f32(d, d), d1 = vzip2q_f32(d, d);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c += 2) {
        const float32x4_t by = twice(pair_of(x[c].d, x[c + 1].d));
        f[c] = vfmaq_f32(f[c], vcvtq_f32_s32(dot[c]), vmulq_f32(d0, by));
        f[c + 1] = vfmaq_f32(f[c + 1], vcvtq_f32_s32(dot[c + 1]), vmulq_f32(d1, by));
    }
    if (!form.has_min) return;
    const float32x4_t m = form.minimum(w, k, s, half, rows), m0 = vzip1q_f32(m, m), m1 = vzip2q_f32(m, m);
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c += 2) {
        const float32x4_t by = twice(pair_of(sum_of(form, x + c, half), sum_of(form, x + c + 1, half)));
        f[c] = vfmaq_f32(f[c], m0, by);
        f[c + 1] = vfmaq_f32(f[c + 1], m1, by);
    }
}

// From pairs to columns: f[c] [4 rows].
CPU_INLINE void panel_unpair(const int nc, float32x4_t *f) {
    CPU_UNROLL_COLUMNS
    for (int c = 0; c < nc; c += 2) {
        const float32x4_t left = vuzp1q_f32(f[c], f[c + 1]), right = vuzp2q_f32(f[c], f[c + 1]);
        f[c] = left;
        f[c + 1] = right;
    }
}
#define PANEL_PAIRS(nc) ((nc) % 2 == 0)
#else
#define panel_half_pairs panel_half
#define panel_unpair(nc, f) ((void)0)
#define PANEL_PAIRS(nc) 0
#endif

// One block of 32 weights of four rows times nc columns.
CPU_INLINE void panel_sub(const panel_form form, const int nc, const uint8_t *w, const panel_scales *k, int s, int rows, const cpu_act *x,
                          float32x4_t *f) {
    if (PANEL_PAIRS(nc)) {
        panel_half_pairs(form, nc, w, k, s, 0, rows, x, f);
        if (form.split) panel_half_pairs(form, nc, w, k, s, 1, rows, x, f);
    } else {
        panel_half(form, nc, w, k, s, 0, rows, x, f);
        if (form.split) panel_half(form, nc, w, k, s, 1, rows, x, f);
    }
}

// Four rows of one column; lanes past the matrix are neither read nor written.
CPU_INLINE void panel_store(const cpu_panel_args *a, float *out, int rows, float32x4_t v) {
    if (rows + 4 <= a->n_rows) {
        if (a->bias) v = vaddq_f32(v, vld1q_f32(a->bias + rows));
        if (a->accumulate) v = vaddq_f32(vld1q_f32(out + rows), v);
        vst1q_f32(out + rows, v);
        return;
    }
    float lanes[4];
    vst1q_f32(lanes, v);
    for (int r = rows; r < a->n_rows; r++) {
        const float x = a->bias ? lanes[r - rows] + a->bias[r] : lanes[r - rows];
        out[r] = a->accumulate ? out[r] + x : x;
    }
}

// How far ahead decode prefetches: about 4 KiB, more than the hardware does across a page.
#define PANEL_PREFETCH_BYTES 4096

// n_fours groups of four rows starting at row `rows`, columns first..first + nc - 1 of a tile of `tile` columns.
CPU_INLINE void panel_pass(const panel_form form, uint32_t (*outliers)(const cpu_panel_args *, int, int, int, float32x4_t *),
                           const int nc, const int n_fours, int tile, int first, int rows, const cpu_panel_args *a) {
    float32x4_t f[4][4];
    CPU_UNROLL_COLUMNS
    for (int i = 0; i < n_fours; i++) {
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) f[i][c] = vdupq_n_f32(0);
    }
    const uint8_t *w = a->panel;
    const size_t sub_bytes = form.block_bytes / (size_t)form.subs;
    panel_scales k;
    for (int32_t b = 0; b < a->n_blocks; b += form.subs, w += form.block_bytes) {
        if (form.scales) form.scales(w, &k);
        CPU_ROLLED
        for (int s = 0; s < form.subs; s++) {
            for (size_t i = 0; i < sub_bytes && n_fours == 4; i += 64) {
                __builtin_prefetch(w + PANEL_PREFETCH_BYTES + (size_t)s * sub_bytes + i);
            }
            const cpu_act *x = a->act + (ptrdiff_t)(b + s) * tile + first;
            CPU_UNROLL_COLUMNS
            for (int i = 0; i < n_fours; i++) panel_sub(form, nc, w, &k, s, rows + 4 * i, x, f[i]);
        }
    }
    CPU_UNROLL_COLUMNS
    for (int i = 0; i < n_fours; i++) {
        float32x4_t sums[CPU_TILE_COLS];
        const uint32_t used = a->n_outliers ? outliers(a, first, nc, rows + 4 * i, sums) : 0;
        if (PANEL_PAIRS(nc)) panel_unpair(nc, f[i]);
        CPU_UNROLL_COLUMNS
        for (int c = 0; c < nc; c++) {
            const float32x4_t v = used >> (first + c) & 1 ? vaddq_f32(f[i][c], sums[first + c]) : f[i][c];
            panel_store(a, a->out + (ptrdiff_t)(first + c) * a->out_stride, rows + 4 * i, v);
        }
    }
}

// Up to two columns: all 16 rows in one pass. More: eight rows and up to four columns per pass, because of the registers.
#define PANEL_WHOLE(name, nc)                                                                                          \
    static void name##_##nc(const cpu_panel_args *a) { name##_pass(nc, 4, nc, 0, 0, a); }
#define PANEL_HALVES(name, nc)                                                                                         \
    static void name##_half_##nc(int tile, int first, const cpu_panel_args *a) {                                       \
        name##_pass(nc, 2, tile, first, 0, a);                                                                         \
        name##_pass(nc, 2, tile, first, 8, a);                                                                         \
    }
#define PANEL_TILE(name, tile, left, right)                                                                            \
    static void name##_##tile(const cpu_panel_args *a) {                                                               \
        name##_half_##left(tile, 0, a);                                                                                \
        if (tile > left) name##_half_##right(tile, left, a);                                                           \
    }
// Instances for 1..8 columns and their table.
#define PANEL_KERNELS(name)                                                                                            \
    static __attribute__((noinline)) uint32_t name##_outliers(const cpu_panel_args *a, int first, int n, int rows, float32x4_t *sums) { \
        return panel_outliers(name##_form, a, first, n, rows, sums);                                                   \
    }                                                                                                                  \
    PANEL_PASS_ATTRIBUTE void name##_pass(int nc, int n_fours, int tile, int first, int rows, const cpu_panel_args *a) { \
        panel_pass(name##_form, name##_outliers, nc, n_fours, tile, first, rows, a);                                   \
    }                                                                                                                  \
    PANEL_WHOLE(name, 1) PANEL_WHOLE(name, 2) PANEL_HALVES(name, 1) PANEL_HALVES(name, 2) PANEL_HALVES(name, 3)        \
    PANEL_HALVES(name, 4) PANEL_TILE(name, 3, 3, 3) PANEL_TILE(name, 4, 4, 4) PANEL_TILE(name, 5, 4, 1)                \
    PANEL_TILE(name, 6, 4, 2) PANEL_TILE(name, 7, 4, 3) PANEL_TILE(name, 8, 4, 4)                                      \
    const cpu_panel_kernels PANEL_TABLE(name) = {                                                                      \
        .columns = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}};

#endif
