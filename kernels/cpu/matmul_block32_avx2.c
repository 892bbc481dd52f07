// Panel kernels of the types with blocks of 32 weights, and quantised activations, for AVX2.
// SPDX-License-Identifier: Apache-2.0
#define PANEL_TABLE(name) cpu_matmul_##name##_avx2
#include "kernels/cpu/panel_avx2.h"

#include "kernels/cpu/matmul_block32_template.h"

static int32_t sum_lanes(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}
static uint32_t max_lanes(__m256i v) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(s);
}

uint32_t cpu_above_avx2(const float *x, float limit) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)), l = _mm256_set1_ps(limit);
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) {
        const __m256 above = _mm256_cmp_ps(_mm256_and_ps(_mm256_loadu_ps(x + 8 * i), magnitude), l, _CMP_GT_OQ);
        bits |= (uint32_t)_mm256_movemask_ps(above) << 8 * i;
    }
    return bits;
}

// Magnitudes compare like integers, NaN and Inf above all numbers.
void cpu_quantize_avx2(const float *x, int32_t n_blocks, cpu_act *out, int32_t stride) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int32_t b = 0; b < n_blocks; b++, x += 32, out += stride) {
        __m256 v[4];
        __m256i q[4], top = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
        }
        const uint32_t bits = max_lanes(top);
        const float largest = wtl_f32_from_bits(bits);
        const bool finite = bits < 0x7F800000u, used = finite && largest >= CPU_ACT_TINY;
        const __m256 inverse = _mm256_set1_ps(used ? 127.0f / largest : 0.0f);
        for (int i = 0; i < 4; i++) { // 0 * Inf is no integer
            q[i] = used ? _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)) : _mm256_setzero_si256();
        }
        const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        _mm256_storeu_si256((__m256i *)(void *)out->q, _mm256_permutevar8x32_epi32(words, order)); // packs works per half
        const int32_t low = sum_lanes(_mm256_add_epi32(q[0], q[1]));
        const int32_t sum = low + sum_lanes(_mm256_add_epi32(q[2], q[3]));
        out->d = used ? largest / 127.0f : finite ? 0.0f : wtl_f32_from_bits(0x7FC00000u);
        out->s = out->d * (float)sum;
        out->neg = -sum;
        out->neg_low = -low;
    }
}
