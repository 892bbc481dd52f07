// F32, F16 and BF16 products for any machine: vectors of four floats of the compiler's baseline.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_FLOAT_TABLE cpu_float_scalar
#include "kernels/cpu/matmul_float_template.h"
