// Clocks.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t id) {
    struct timespec t;
    if (clock_gettime(id, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t wtl_clock_ns(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t wtl_cpu_time_ns(void) { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

uint64_t wtl_process_start_ns(void) {
    // Field 22 of /proc/self/stat: start time in clock ticks since boot (proc(5)); boot time includes suspend.
    char buf[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f) return 0;
    size_t n = fread(buf, 1, sizeof buf - 1, f);
    fclose(f);
    buf[n] = '\0';
    char *p = strrchr(buf, ')'); // the command name may hold spaces and parentheses
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    if (!p || ticks_per_s <= 0) return 0;
    uint64_t since_boot_ns = strtoull(p + 1, NULL, 10) * (1000000000u / (uint64_t)ticks_per_s);
    uint64_t boot_now = read_clock(CLOCK_BOOTTIME), mono_now = wtl_clock_ns();
    uint64_t age_ns = boot_now > since_boot_ns ? boot_now - since_boot_ns : 0;
    return mono_now > age_ns ? mono_now - age_ns : 0;
}
