// F32, F16 and BF16 products for NEON, on any 64-bit Arm, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_LANES_NEON 1
#define CPU_FLOAT_TABLE cpu_float_neon
#include "kernels/cpu/matmul_float_template.h"
