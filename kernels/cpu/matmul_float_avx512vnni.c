// F32, F16 and BF16 products for AVX-512; compiled with its flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 16
#define CPU_FLOAT_TABLE cpu_float_avx512vnni
#include "kernels/cpu/matmul_float_template.h"
