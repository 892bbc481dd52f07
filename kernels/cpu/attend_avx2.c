// Attention kernels for AVX2, FMA and F16C; compiled with those flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 8
#define CPU_ATTEND_TABLE cpu_attend_avx2
#include "kernels/cpu/attend_template.h"
