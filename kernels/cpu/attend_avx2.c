// Attention kernels for AVX2, FMA and F16C; compiled with those flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 8
#include "kernels/cpu/attend_f32_template.h"
#include "kernels/cpu/attend_fixed_template.h"
#include "kernels/cpu/attend_bytes_template.h"

const cpu_attend_table cpu_attend_avx2 = {
    .f32 = {.query = f32_query, .part = f32_part, .merge = f32_merge, .finish = attend_finish},
    .fixed = {.query = fixed_query, .part = fixed_part, .merge = fixed_merge, .finish = attend_finish},
    .bytes = {.query = bytes_query, .part = bytes_part, .merge = fixed_merge, .finish = bytes_finish},
};
