// Reading rows: their fields, and files of them that `wattle bench` or llama-bench wrote as JSON or JSON lines.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_ROWS_H
#define WTL_TOOLS_BENCH_ROWS_H

#include "tools/bench.h"

bool bench_has(const json_t *row, const char *field);      // a number is there
double bench_number(const json_t *row, const char *field); // 0 when not
const char *bench_text(const json_t *row, const char *field); // "" when not
bench_case bench_case_of(const json_t *row);               // sizes of the test only
// Tokens a second of every repetition, malloc'ed [*n]; from the mean alone when the row has no samples. NULL when out of memory.
double *bench_samples(const json_t *row, size_t *n);

// All rows of a file, an array. CLI_GO, or CLI_FAILED after a message.
int bench_rows_load(const char *path, json_t **out);

// "~0.0064", "0.137 ± 0.002", "-": joules a token.
void bench_joules_text(const json_t *row, char *text, size_t cap);

#endif
