// Attention kernels for NEON, on any 64-bit Arm, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_LANES_NEON 1
#include "kernels/cpu/attend_f32_template.h"
#include "kernels/cpu/attend_fixed_template.h"
#include "kernels/cpu/attend_bytes_template.h"

const cpu_attend_table cpu_attend_neon = {
    .f32 = {.query = f32_query, .part = f32_part, .merge = f32_merge, .finish = attend_finish},
    .fixed = {.query = fixed_query, .part = fixed_part, .merge = fixed_merge, .finish = attend_finish},
    .bytes = {.query = bytes_query, .part = bytes_part, .merge = fixed_merge, .finish = bytes_finish},
};
