// Limits with AVX-VNNI.
// SPDX-License-Identifier: Apache-2.0
#define LIMIT_VNNI 1
#include "kernels/cpu/limits_avx2_template.h"

const cpu_limit_kernels cpu_limits_avxvnni = {"AVX-VNNI vpdpbusd", "AVX2 vpmaddwd", "AVX2 FMA", read_piece, avx2_int8, avx2_int16, avx2_f32};
