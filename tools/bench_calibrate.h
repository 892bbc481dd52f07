// `wattle bench --calibrate`: chooses thread counts for prompts and replies apart, in about two seconds, and keeps them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_CALIBRATE_H
#define WTL_TOOLS_BENCH_CALIBRATE_H

#include "tools/bench.h"

enum { CALIBRATE_COUNTS_MAX = 16 };

// Thread counts to try on so many cores: powers of two, threes between them, and all cores; ascending. Returns how many.
size_t calibrate_counts(int32_t n_cores, int32_t counts[CALIBRATE_COUNTS_MAX]);
// The fewest threads whose speed is within 3 % of the best: more would only cost energy. An index.
size_t calibrate_choose(const double *speeds, size_t n);

// With the model, on this machine. An exit code.
int bench_calibrate_command(const char *model_path, bench_format format);

#endif
