// Attention kernels for any machine: vectors of four floats in whatever the compiler's baseline offers.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#include "kernels/cpu/attend_f32_template.h"
#include "kernels/cpu/attend_fixed_template.h"
#include "kernels/cpu/attend_bytes_template.h"

const cpu_attend_table cpu_attend_scalar = {
    .f32 = {.query = f32_query, .part = f32_part, .merge = f32_merge, .finish = attend_finish},
    .fixed = {.query = fixed_query, .part = fixed_part, .merge = fixed_merge, .finish = attend_finish},
    .bytes = {.query = bytes_query, .part = bytes_part, .merge = fixed_merge, .finish = bytes_finish},
};
