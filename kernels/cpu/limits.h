// What this machine can do at most: bytes read from memory, multiply-adds of bytes, of 16-bit numbers and of floats. The roof of the roofline.
//
// Kernels are in limits_<isa>.c, reached through a table like all others; limits.c runs them on a team of threads and keeps the best of many short
// runs, since whatever disturbs can only slow down.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_LIMITS_H
#define WTL_KERNELS_CPU_LIMITS_H

#include "kernels/cpu/cpu.h"

#ifdef __cplusplus
extern "C" {
#endif

// How memory is walked through. Which one is the fastest differs between machines, and with the number of threads.
typedef struct cpu_read_pattern {
    int32_t ahead;   // bytes that are prefetched ahead of the loads; 0: left to the hardware
    bool passing;    // prefetched past the outer caches (non-temporal)
    int32_t streams; // places that are read in turns: 1, 2 or 4
} cpu_read_pattern;

#define CPU_LIMIT_PIECE ((size_t)1 << 20) // bytes that one call reads: a multiple of 4 streams of 256 bytes

typedef struct cpu_limit_kernels {
    const char *int8_name, *int16_name, *f32_name; // the instructions, for reports
    // Loads CPU_LIMIT_PIECE bytes; returns something that depends on all of them.
    uint64_t (*read)(const uint8_t *piece, const cpu_read_pattern *pattern);
    // So many rounds in registers; return the multiply-adds that were done.
    double (*int8)(int64_t rounds);
    double (*int16)(int64_t rounds);
    double (*f32)(int64_t rounds);
} cpu_limit_kernels;

extern const cpu_limit_kernels cpu_limits_scalar, cpu_limits_avx2, cpu_limits_avxvnni, cpu_limits_avx512vnni;
extern const cpu_limit_kernels cpu_limits_neon_dotprod, cpu_limits_neon_i8mm;

typedef struct cpu_limits {
    double read_gbs, plain_gbs;   // best pattern and pages; small pages without prefetch
    cpu_read_pattern pattern;     // of read_gbs
    bool huge_pages;              // read_gbs was on huge pages
    double int8_gmacs, int16_gmacs, f32_gmacs; // 1e9 multiply-adds a second
    const char *int8_name, *int16_name, *f32_name;
    size_t buffer_bytes;
} cpu_limits;

// Takes about half a second, and buffer_bytes of memory meanwhile. n_threads 0: the default. mask as in wtl_backend_options.
// Thread: any. Errors: INVALID, UNSUPPORTED (mask), NO_MEMORY.
wtl_status cpu_limits_measure(int32_t n_threads, const char *mask, cpu_limits *out, wtl_error *err);

#ifdef __cplusplus
}
#endif
#endif
