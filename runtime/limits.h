// What this machine can do at most, measured now: the roof that speeds are held against. Public beside wattle.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_LIMITS_H
#define WTL_RUNTIME_LIMITS_H

#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_limits {
    int32_t n_threads;
    // Memory reads in 1e9 bytes a second, beyond the caches: in the best pattern that was found, and from 4 KiB pages without prefetching.
    double read_gb_per_s, plain_gb_per_s;
    char read_pattern[96];   // of the best: "huge pages, 2 streams, prefetching 2048 bytes ahead"
    // 1e9 multiply-adds a second, all operands in registers, with the instructions that the cpu backend would use here.
    double int8_gmac_per_s, int16_gmac_per_s, f32_gmac_per_s;
    const char *int8_arithmetic, *int16_arithmetic, *f32_arithmetic; // "AVX-512 VNNI vpdpbusd"; static
    uint64_t buffer_bytes;   // memory that was read
} wtl_limits;

// Takes about half a second of all n_threads (0: the default number), and buffer_bytes of memory meanwhile. Of every figure the best of
// many short runs is kept: other programs lower it all the same when they never rest. WTL_CPU_MASK applies.
// Owns: nothing. Thread: any. Errors: INVALID, UNSUPPORTED (WTL_CPU_MASK), NO_MEMORY.
wtl_status wtl_limits_measure(int32_t n_threads, wtl_limits *out, wtl_error *err);

#ifdef __cplusplus
}
#endif
#endif
