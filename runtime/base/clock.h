// Monotonic and CPU time in integer nanoseconds.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_BASE_CLOCK_H
#define WTL_BASE_CLOCK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint64_t wtl_clock_ns(void);     // CLOCK_MONOTONIC
uint64_t wtl_cpu_time_ns(void);  // CPU time of all threads of this process

#ifdef __cplusplus
}
#endif
#endif
