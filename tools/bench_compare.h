// `wattle bench --compare A.json B.json`: ratios between two files of rows, and what else differs.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_COMPARE_H
#define WTL_TOOLS_BENCH_COMPARE_H

#include "tools/bench.h"

// An exit code. md or json.
int bench_compare_command(const char *path_a, const char *path_b, bench_format format);

// "n_threads 1 -> 2, type_k f16 -> f32": settings in which two rows differ; "" for none.
void bench_differences(const json_t *a, const json_t *b, char *text, size_t cap);

#endif
