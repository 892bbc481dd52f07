// Attention kernels for any machine: vectors of four floats in whatever the compiler's baseline offers.
// SPDX-License-Identifier: Apache-2.0
#define CPU_LANES 4
#define CPU_ATTEND_TABLE cpu_attend_scalar
#include "kernels/cpu/attend_template.h"
