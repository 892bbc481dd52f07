// Cores that this process may use. Asked once when a pool or a backend opens; see cores.c.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_CORES_H
#define WTL_KERNELS_CPU_CORES_H

#include "kernels/cpu/cpu.h" // cpu_default_threads

#ifdef __cplusplus
extern "C" {
#endif

// Logical cores in the affinity mask, capped by the cgroup quota rounded down; >= 1. More threads than this never spin.
int32_t cpu_usable_cores(void);

#ifdef __cplusplus
}
#endif
#endif
