// The one instruction that AVX-VNNI adds to AVX2, and what it does in instructions of AVX2.
//
// The latter is for builds with WTL_EMULATE_AVXVNNI: there the kernels of this set run, and are tested, on any machine with AVX2.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_DOT_AVXVNNI_H
#define WTL_KERNELS_CPU_DOT_AVXVNNI_H

#include <immintrin.h>

#define CPU_INLINE static inline __attribute__((always_inline))

// sum + four products of unsigned and signed bytes in every lane of 32 bits; no saturation
CPU_INLINE __m256i dot_bytes(__m256i sum, __m256i codes, __m256i a) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sum, codes, a);
#else
    const __m256i low = _mm256_set1_epi16(255);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, low), _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(a, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
#endif
}

#endif
