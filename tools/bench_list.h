// Lists of whole numbers as llama-bench takes them: "1,2,4", ranges "first-last", "first-last+step", "first-last*factor", mixed.
// A comma may end them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_LIST_H
#define WTL_TOOLS_BENCH_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_LIST_MAX = 256, BENCH_VALUE_MAX = 1 << 30 };

typedef struct bench_list {
    int32_t values[BENCH_LIST_MAX];
    size_t n;
} bench_list;

// Appends the numbers of text; each is min at least and BENCH_VALUE_MAX at most. False with a sentence in why: list is then as before.
bool bench_list_add(bench_list *list, const char *text, int32_t min, char *why, size_t cap);

// "512,128": exactly two numbers, of which one is not 0.
bool bench_pair_parse(const char *text, int32_t *first, int32_t *second, char *why, size_t cap);

#endif
