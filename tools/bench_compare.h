// `wattle bench --compare A.json B.json`: ratios between two files of rows, and what else differs.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_COMPARE_H
#define WTL_TOOLS_BENCH_COMPARE_H

#include "tools/bench.h"

// An exit code. md or json.
int bench_compare_command(const char *path_a, const char *path_b, bench_format format);

enum { BENCH_DIFFERENCES_TEXT = 2048, BENCH_LABEL_TEXT = 512 }; // names of files are long

// "pp512, n_threads 2": the row's test and each of its settings that the rows of that test (it is one) have several values of.
void bench_row_label(const json_t *rows, const json_t *row, char *text, size_t cap);
// "ratio", "low" and "high" of a pair, "-" where not known.
void bench_ratio_text(const json_t *pair, char ratio[16], char interval[48]);
// "n_threads 1 -> 2, type_k f16 -> f32": settings in which two rows differ; "" for none.
void bench_differences(const json_t *a, const json_t *b, char *text, size_t cap);

#endif
