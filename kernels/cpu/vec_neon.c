// Row kernels for NEON, on any 64-bit Arm, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_LANES_NEON 1
#define CPU_VEC_TABLE cpu_vec_neon
#include "kernels/cpu/vec_template.h"
