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

#define CPU_CORES_MAX 4096 // affinity masks of larger machines are refused by the kernel call: one thread is used there

// Logical cores, each 0 or 1.
typedef struct cpu_core_set {
    uint8_t member[CPU_CORES_MAX];
} cpu_core_set;

// What cpu_default_threads and cpu_usable_cores answer for a thread bound to `allowed` where /sys and /proc lie under `root` ("" for
// this machine): other machines in tests.
int32_t cpu_default_threads_at(const char *root, const cpu_core_set *allowed);
int32_t cpu_usable_cores_at(const char *root, const cpu_core_set *allowed);

#ifdef __cplusplus
}
#endif
#endif
