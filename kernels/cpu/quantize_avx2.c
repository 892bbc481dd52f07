// Quantised activations for AVX2.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include "kernels/cpu/cpu_quantize.h"

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

static float largest_of(const float *x) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i top = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * i)), magnitude));
    return wtl_f32_from_bits(max_lanes(top));
}

static uint32_t above(const float *x, float limit) {
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)), l = _mm256_set1_ps(limit);
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) {
        const __m256 is_above = _mm256_cmp_ps(_mm256_and_ps(_mm256_loadu_ps(x + 8 * i), magnitude), l, _CMP_GT_OQ);
        bits |= (uint32_t)_mm256_movemask_ps(is_above) << 8 * i;
    }
    return bits;
}

static void round_block(const float *x, float largest, cpu_act *act) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const float d = cpu_step_of(largest);
    const bool used = d > 0;
    const __m256 inverse = _mm256_set1_ps(used ? 127.0f / largest : 0.0f);
    __m256i q[4];
    for (int i = 0; i < 4; i++) { // 0 * Inf is no integer
        q[i] = used ? _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), inverse)) : _mm256_setzero_si256();
    }
    const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256((__m256i *)(void *)act->q, _mm256_permutevar8x32_epi32(words, order)); // packs works per half
    const int32_t low = sum_lanes(_mm256_add_epi32(q[0], q[1]));
    const int32_t sum = low + sum_lanes(_mm256_add_epi32(q[2], q[3]));
    act->d = d;
    act->s = d * (float)sum;
    act->neg = -sum;
    act->neg_low = -low;
}

#define QUANTIZE_NAME(step) cpu_##step##_avx2
#include "kernels/cpu/quantize_template.h"
