// Quantised activations for AVX-512 VNNI: see cpu_quantize.h.
//
// What is done once for a block is done for 16 blocks in one vector: magnitudes, steps, reciprocals, outliers. The values themselves go by
// in fours of blocks, which gives whole vectors of codes and of fields. A column that ends within a four has its last block done
// again in the lanes that are left, into an act that nobody reads.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "kernels/cpu/cpu_quantize.h"

// Notes of a column. measure leaves the first two; the others are quantize's, outliers left out.
enum { LARGEST, STEPS, REST_STEPS, INVERSES, KEPT };

CPU_INLINE __mmask16 first_lanes(int32_t n) { return (__mmask16)(n < 16 ? (1u << n) - 1u : 0xFFFFu); }
CPU_INLINE __m512i magnitude_bits(__m512 x) { return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF)); }

// ---- measure --------------------------------------------------------------------------------------------------------
// Lane i of each quarter: bits of magnitudes of block i, of four; the largest is among those of the quarters.
CPU_INLINE __m512i largest_of_four(const float *a, const float *b, const float *c, const float *d) {
    const float *const x[4] = {a, b, c, d};
    __m512i m[4];
    CPU_UNROLL
    for (int i = 0; i < 4; i++) m[i] = _mm512_max_epu32(magnitude_bits(_mm512_loadu_ps(x[i])), magnitude_bits(_mm512_loadu_ps(x[i] + 16)));
    const __m512i ab = _mm512_max_epu32(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1])); // a b a b in each quarter
    const __m512i cd = _mm512_max_epu32(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
    return _mm512_max_epu32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

// Lane i: bits of the largest magnitude of block i, of 16.
CPU_INLINE __m512i largest_of_fours(const __m512i four[4]) {
    const __m512i ab = _mm512_max_epu32(_mm512_shuffle_i32x4(four[0], four[1], 0x44), _mm512_shuffle_i32x4(four[0], four[1], 0xEE)); // a a b b
    const __m512i cd = _mm512_max_epu32(_mm512_shuffle_i32x4(four[2], four[3], 0x44), _mm512_shuffle_i32x4(four[2], four[3], 0xEE));
    return _mm512_max_epu32(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xDD));
}

CPU_INLINE __mmask16 finite_lanes(__m512i largest) { return _mm512_cmplt_epu32_mask(largest, _mm512_set1_epi32(0x7F800000)); }
// Whose reciprocal is a number. Bits of magnitudes compare like the magnitudes.
CPU_INLINE __mmask16 used_lanes(__m512i largest) {
    return _mm512_mask_cmpge_epu32_mask(finite_lanes(largest), largest, _mm512_castps_si512(_mm512_set1_ps(CPU_ACT_TINY)));
}

// cpu_step_of
CPU_INLINE __m512 steps_of(__m512i largest) {
    const __m512 d = _mm512_maskz_div_ps(used_lanes(largest), _mm512_castsi512_ps(largest), _mm512_set1_ps(127));
    return _mm512_mask_blend_ps(finite_lanes(largest), _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000)), d);
}

CPU_INLINE void note_largest(const cpu_column *c, int32_t b, const __m512i four[4]) {
    const __m512i largest = largest_of_fours(four);
    _mm512_store_si512(cpu_note(c, LARGEST) + b, largest);
    _mm512_store_ps(cpu_note(c, STEPS) + b, steps_of(largest));
}

void cpu_measure_avx512vnni(cpu_column *c) {
    const int32_t n = c->n_blocks;
    const float *x = c->x, *const last = x + 32 * (ptrdiff_t)(n - 1);
    int32_t b = 0;
    for (; b + 16 <= n; b += 16) {
        __m512i four[4];
        CPU_UNROLL
        for (int i = 0; i < 4; i++, x += 128) four[i] = largest_of_four(x, x + 32, x + 64, x + 96);
        note_largest(c, b, four);
    }
    if (b < n) {
        __m512i four[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int i = 0; x <= last; i++, x += 128) {
            const ptrdiff_t left = last - x;
            four[i] = largest_of_four(x, left >= 32 ? x + 32 : last, left >= 64 ? x + 64 : last, left >= 96 ? x + 96 : last);
        }
        note_largest(c, b, four);
    }
    c->limit = cpu_outlier_limit(cpu_note(c, STEPS), n);
}

// ---- outliers -------------------------------------------------------------------------------------------------------
// Bit i: |x[i]| is above limit. A NaN is never above, nothing is above a NaN.
CPU_INLINE uint32_t above(const float *x, float limit) {
    const __m512 l = _mm512_set1_ps(limit);
    const __mmask16 low = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x)), l, _CMP_GT_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + 16)), l, _CMP_GT_OQ);
    return (uint32_t)low | (uint32_t)high << 16;
}

// Bits of the largest magnitude of a block without those values.
CPU_INLINE uint32_t largest_without(const float *x, uint32_t without) {
    const __m512 low = _mm512_maskz_loadu_ps((__mmask16)~without, x), high = _mm512_maskz_loadu_ps((__mmask16)(~without >> 16), x + 16);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude_bits(low), magnitude_bits(high)));
}

// Takes what is above limit out of all blocks and notes how the rest is to be rounded. Returns how many, or -1 for more than `most`.
static int32_t take_outliers(const cpu_column *c, float limit, int32_t most, cpu_outlier *out) {
    int32_t found = 0;
    for (int32_t b = 0; b < c->n_blocks; b += 16) {
        __m512i largest = _mm512_load_si512(cpu_note(c, LARGEST) + b), taken = _mm512_setzero_si512();
        __m512 steps = _mm512_load_ps(cpu_note(c, STEPS) + b);
        // 128, not 127: steps are rounded.
        const __m512 bounds = _mm512_mul_ps(steps, _mm512_set1_ps(128));
        const uint32_t loud = _mm512_mask_cmp_ps_mask(first_lanes(c->n_blocks - b), bounds, _mm512_set1_ps(limit), _CMP_GT_OQ);
        for (uint32_t left = loud; left; left &= left - 1) {
            const int i = __builtin_ctz(left);
            const float *x = c->x + 32 * (ptrdiff_t)(b + i);
            const uint32_t bits = above(x, limit);
            const int32_t n = __builtin_popcount(bits);
            if (n > most - found) return -1;
            cpu_put_outliers(c, b + i, bits, out + found);
            found += n;
            largest = _mm512_mask_set1_epi32(largest, (__mmask16)(1u << i), (int)largest_without(x, bits));
            taken = _mm512_mask_set1_epi32(taken, (__mmask16)(1u << i), (int)bits);
        }
        if (loud) steps = steps_of(largest);
        const __m512 inverses = _mm512_maskz_div_ps(used_lanes(largest), _mm512_set1_ps(127), _mm512_castsi512_ps(largest));
        _mm512_store_ps(cpu_note(c, REST_STEPS) + b, steps);
        _mm512_store_ps(cpu_note(c, INVERSES) + b, inverses);
        // 0 * Inf is no integer: nothing of such a block is kept.
        const __m512i kept = _mm512_andnot_si512(taken, _mm512_set1_epi32(-1));
        _mm512_store_si512(cpu_note(c, KEPT) + b, _mm512_maskz_mov_epi32(finite_lanes(largest), kept));
    }
    return found;
}

// ---- rounding -------------------------------------------------------------------------------------------------------
// Codes of two blocks; kept: a bit for each, the others are 0.
CPU_INLINE __m512i codes_of_two(const float *a, const float *b, const float inverses[2], uint64_t kept) {
    const __m512 by_a = _mm512_set1_ps(inverses[0]), by_b = _mm512_set1_ps(inverses[1]);
    const __m512i a0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(a), by_a)), a1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(a + 16), by_a));
    const __m512i b0 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(b), by_b)), b1 = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(b + 16), by_b));
    // packs works per quarter: quarter i has the i-th fours of a0, a1, b0, b1.
    const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(a0, a1), _mm512_packs_epi32(b0, b1));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_maskz_mov_epi8(kept, _mm512_permutexvar_epi32(order, packed));
}

#define BOTH_BLOCKS(a, b, c, d, e, f, g, h) _mm512_setr_epi32(a, b, c, d, e, f, g, h, a, b, c, d, e, f, g, h)
#define BOTH_MASKS(m) (__mmask16)((m) << 8 | (m))

// Fields of cpu_act from d on, of two blocks. sums: lanes low [2] and high [2] have the sums of their first and last 16 codes.
CPU_INLINE __m512i fields_of_two(__m512 d, __m512i sums, __m512i low, __m512i high) {
    // d's lane is 1; the others have what is counted: sum, sum, low, sum, low, high, 0.
    const __m512i lows = _mm512_mask_permutexvar_epi32(BOTH_BLOCKS(1, 0, 0, 0, 0, 0, 0, 0), BOTH_MASKS(0x3E), low, sums);
    const __m512i n = _mm512_add_epi32(lows, _mm512_maskz_permutexvar_epi32(BOTH_MASKS(0x56), high, sums));
    const __m512i wide = _mm512_sllv_epi32(n, BOTH_BLOCKS(0, 0, 0, 0, 7, 7, 7, 0));
    const __m512i whole = _mm512_sub_epi32(BOTH_BLOCKS(0, 0, 0, 0, CPU_WIDE_ONE, CPU_WIDE_ONE, 0, 0), wide);
    return _mm512_castps_si512(_mm512_mask_mul_ps(_mm512_castsi512_ps(whole), BOTH_MASKS(0x03), d, _mm512_cvtepi32_ps(n)));
}

CPU_INLINE void store_two(__m512i codes, __m512i fields, cpu_act *a, cpu_act *b) {
    _mm256_storeu_si256((__m256i *)(void *)a->q, _mm512_castsi512_si256(codes));
    _mm256_storeu_si256((__m256i *)(void *)&a->d, _mm512_castsi512_si256(fields));
    _mm256_storeu_si256((__m256i *)(void *)b->q, _mm512_extracti64x4_epi64(codes, 1));
    _mm256_storeu_si256((__m256i *)(void *)&b->d, _mm512_extracti64x4_epi64(fields, 1));
}

CPU_INLINE uint64_t kept_of_two(const float *kept) {
    uint64_t bits;
    __builtin_memcpy(&bits, kept, sizeof bits);
    return bits;
}

// Blocks b to b + 3, x and act of each.
CPU_INLINE void round_four(const cpu_column *c, int32_t b, const float *const x[4], cpu_act *const act[4]) {
    const float *inverses = cpu_note(c, INVERSES) + b, *kept = cpu_note(c, KEPT) + b;
    const __m512i q01 = codes_of_two(x[0], x[1], inverses, kept_of_two(kept)), q23 = codes_of_two(x[2], x[3], inverses + 2, kept_of_two(kept + 2));
    const __m512i zero = _mm512_setzero_si512(), ones = _mm512_set1_epi8(1);
    const __m512i s01 = _mm512_dpbusd_epi32(zero, ones, q01), s23 = _mm512_dpbusd_epi32(zero, ones, q23); // quarters: low, high, low, high
    const __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(s01, s23), _mm512_unpackhi_epi32(s01, s23));
    const __m512i sums = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, 0x4E)); // quarters: low of 0 2 0 2, high of these, of 1 3 1 3
    const __m512 d = _mm512_broadcast_f32x4(_mm_load_ps(cpu_note(c, REST_STEPS) + b));
    const __m512 d01 = _mm512_permutevar_ps(d, _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    const __m512 d23 = _mm512_permutevar_ps(d, _mm512_setr_epi32(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
    const __m512i low = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8), high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
    const __m512i one = _mm512_set1_epi32(1);
    store_two(q01, fields_of_two(d01, sums, low, high), act[0], act[1]);
    store_two(q23, fields_of_two(d23, sums, _mm512_add_epi32(low, one), _mm512_add_epi32(high, one)), act[2], act[3]);
}

int32_t cpu_quantize_avx512vnni(const cpu_column *c, int32_t max_outliers, cpu_outlier *out) {
    int32_t found, b = 0;
    for (float limit = c->limit; (found = take_outliers(c, limit, max_outliers, out)) < 0; limit *= 2) {}
    const ptrdiff_t step = c->stride;
    const float *x = c->x;
    cpu_act *act = c->acts;
    for (; b + 4 <= c->n_blocks; b += 4, x += 128, act += 4 * step) {
        round_four(c, b, (const float *const[]){x, x + 32, x + 64, x + 96}, (cpu_act *const[]){act, act + step, act + 2 * step, act + 3 * step});
    }
    if (b < c->n_blocks) {
        const int32_t left = c->n_blocks - b;
        _Alignas(64) cpu_act unread;
        round_four(c, b, (const float *const[]){x, left > 1 ? x + 32 : x, left > 2 ? x + 64 : x, x},
                   (cpu_act *const[]){act, left > 1 ? act + step : &unread, left > 2 ? act + 2 * step : &unread, &unread});
    }
    return found;
}
