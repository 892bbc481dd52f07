// Panel kernels of the types with super-blocks of 256 weights for NEON with SDOT.
// SPDX-License-Identifier: Apache-2.0
#define PANEL_TABLE(name) cpu_matmul_##name##_neon_dotprod
#include "kernels/cpu/panel_neon.h"

#include "kernels/cpu/matmul_kquant_template.h"
