// What the machine was doing while a test ran: who used its processors, how fast they ran, what a hypervisor took away.
//
// Read from /proc/stat, /proc/cpuinfo and /sys at the ends of a window; nothing runs meanwhile. What cannot be read is unknown, not 0.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_MACHINE_H
#define WTL_TOOLS_BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench_moment {
    uint64_t wall_ns, own_cpu_ns;                // monotonic; CPU time of this process
    bool known;                                  // the rest, in clock ticks since the machine started, over all processors
    uint64_t busy_ticks, steal_ticks, all_ticks; // busy: any program; steal: the hypervisor gave the processor to somebody else
} bench_moment;

bench_moment bench_moment_now(void);
// The first line of /proc/stat. False when it is not what it should be.
bool bench_moment_parse(const char *stat, bench_moment *out);

typedef struct bench_use {
    bool known;                     // the window was long enough for the kernel's 10 ms ticks
    double others_frac, steal_frac; // of all processors' time
    double mhz;                     // see bench_cpu_mhz; set by who asks for it
} bench_use;
bench_use bench_use_between(const bench_moment *a, const bench_moment *b);
// A sentence when others took so much that figures are not to be trusted; NULL when not.
const char *bench_use_warning(const bench_use *use, char *text, size_t cap);

double bench_cpu_mhz(void);                         // now, of the fastest processor; 0: unknown
const char *bench_cpu_name(char *text, size_t cap); // "AMD EPYC 9654 96-Core Processor"; "" when unknown
uint64_t bench_rss_bytes(void);                     // resident now; 0: unknown
uint64_t bench_own_cpu_ns(void);

#endif
