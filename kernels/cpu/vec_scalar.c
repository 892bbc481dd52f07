// Row kernels for any machine: vectors of four floats in whatever the compiler's baseline offers.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_VEC_TABLE cpu_vec_scalar
#include "kernels/cpu/vec_template.h"
