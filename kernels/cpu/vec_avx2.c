// Row kernels for AVX2, FMA and F16C; compiled with those flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 8
#define CPU_VEC_TABLE cpu_vec_avx2
#include "kernels/cpu/vec_template.h"
