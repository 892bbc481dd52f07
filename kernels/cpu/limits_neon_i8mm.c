// Limits with NEON and int8 matrix products.
// SPDX-License-Identifier: Apache-2.0
#define LIMIT_DOT(sum, a, b) vusmmlaq_s32(sum, a, b)
#define LIMIT_DOT_MACS 32
#include "kernels/cpu/limits_neon.h"

const cpu_limit_kernels cpu_limits_neon_i8mm = {"NEON usmmla", "NEON smlal", "NEON fmla", read_piece, neon_int8, neon_int16, neon_f32};
