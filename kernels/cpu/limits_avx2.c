// Limits with AVX2.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/limits_avx2_template.h"

const cpu_limit_kernels cpu_limits_avx2 = {"AVX2 vpmaddubsw", "AVX2 vpmaddwd", "AVX2 FMA", read_piece, avx2_int8, avx2_int16, avx2_f32};
