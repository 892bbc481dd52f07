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

// ---- Joules in words: bench_joules.c ------------------------------------------------------------------------------------
// What nobody measured says so: modelled, simulated, replayed. "-" where unknown.
enum { BENCH_JOULES_TEXT = 96 };
// Joules a token: "0.137 ± 0.0024", "~0.0052, modelled: 0.0017 to 0.016", "0.15 (0.019 to 0.29), below resolution".
void bench_joules_text(const json_t *row, char *text, size_t cap);
void bench_tokens_per_joule_text(const json_t *row, char *text, size_t cap); // "6.67", "~190"
// Joules a token of b by those of a: "0.93", "~1.4, modelled"; "-" also when one was measured and the other was not.
void bench_joules_ratio_text(const json_t *a, const json_t *b, char *text, size_t cap);
const char *bench_joules_kind(const json_t *row); // "modelled", "simulated", "replayed"; "" when measured or unknown

#endif
