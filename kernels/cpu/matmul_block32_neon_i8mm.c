// Panel kernels of the types with blocks of 32 weights for NEON with the int8 matrix instructions.
// SPDX-License-Identifier: Apache-2.0
#define PANEL_I8MM 1
#define PANEL_TABLE(name) cpu_matmul_##name##_neon_i8mm
#include "kernels/cpu/panel_neon.h"

#include "kernels/cpu/matmul_block32_template.h"
