// Row kernels for AVX-512; compiled with its flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 16
#define CPU_VEC_TABLE cpu_vec_avx512vnni
#include "kernels/cpu/vec_template.h"
