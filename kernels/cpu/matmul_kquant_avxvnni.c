// Panel kernels of the types with super-blocks of 256 weights for AVX-VNNI.
// SPDX-License-Identifier: Apache-2.0
#define PANEL_VNNI 1
#define PANEL_TABLE(name) cpu_matmul_##name##_avxvnni
#include "kernels/cpu/panel_avx2.h"

#include "kernels/cpu/matmul_kquant_template.h"
