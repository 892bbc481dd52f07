// Inside telemetry: the perf system call behind tel_source_perf.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_RAPL_PERF_H
#define TEL_RAPL_PERF_H

#include <stdint.h>

// What tel_source_perf calls when tel_env.perf_open is NULL: a counting event of every process on one CPU. Returns a file
// descriptor, closed by the caller, or -errno.
int tel_perf_open(uint32_t type, uint64_t config, int cpu);

#endif
