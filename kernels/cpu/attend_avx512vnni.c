// Attention kernels for AVX-512; compiled with its flags, reached only through dispatch.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 16
#define CPU_ATTEND_TABLE cpu_attend_avx512vnni
#include "kernels/cpu/attend_template.h"
