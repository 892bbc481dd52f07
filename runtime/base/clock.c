// Clocks.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id) {
    struct timespec t;
    if (clock_gettime(id, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t wtl_clock_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t wtl_cpu_time_ns(void) { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }
