// F32, F16 and BF16 products for AVX2, FMA and F16C; compiled with those flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 8
#define CPU_FLOAT_TABLE cpu_float_avx2
#include "kernels/cpu/matmul_float_template.h"
