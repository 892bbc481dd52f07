// Panel kernels of the types with blocks of 32 weights, AVX2.
// SPDX-License-Identifier: Apache-2.0
#define PANEL_TABLE(name) cpu_matmul_##name##_avx2
#include "kernels/cpu/panel_avx2.h"

#include "kernels/cpu/matmul_block32_template.h"
