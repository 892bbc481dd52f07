// Limits with NEON and dot products.
// SPDX-License-Identifier: Apache-2.0
#define LIMIT_DOT(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_u8(a), b)
#define LIMIT_DOT_MACS 16
#include "kernels/cpu/limits_neon.h"

const cpu_limit_kernels cpu_limits_neon_dotprod = {"NEON sdot", "NEON smlal", "NEON fmla", read_piece, neon_int8, neon_int16, neon_f32};
