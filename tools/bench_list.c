// Reads lists and ranges of whole numbers. See bench_list.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_list.h"

#include <stdio.h>

// Digits only: no sign, no space, no second spelling. False when there is none or it is too large.
static bool read_number(const char **text, int32_t *out) {
    const char *p = *text;
    int64_t value = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        value = 10 * value + (*p - '0');
        if (value > BENCH_VALUE_MAX) return false;
    }
    *text = p;
    *out = (int32_t)value;
    return true;
}

typedef struct range {
    int32_t first, last, step;
    char op; // '+' or '*'
} range;

// first[-last[(+|*)step]]
static bool read_range(const char **text, range *r) {
    if (!read_number(text, &r->first)) return false;
    *r = (range){r->first, r->first, 1, '+'};
    if (**text != '-') return true;
    ++*text;
    if (!read_number(text, &r->last)) return false;
    if (**text != '+' && **text != '*') return true;
    r->op = *(*text)++;
    return read_number(text, &r->step);
}

static bool expand(bench_list *list, const range *r, int32_t min, char *why, size_t cap) {
    if (r->first < min) return snprintf(why, cap, "%d is below %d", r->first, min), false;
    if (r->last < r->first) return snprintf(why, cap, "the range %d-%d ends before it begins", r->first, r->last), false;
    for (int64_t value = r->first; value <= r->last;) {
        if (list->n == BENCH_LIST_MAX) return snprintf(why, cap, "more than %d values", BENCH_LIST_MAX), false;
        list->values[list->n++] = (int32_t)value;
        const int64_t next = r->op == '+' ? value + r->step : value * r->step;
        if (next <= value) return snprintf(why, cap, "the range %d-%d%c%d never ends", r->first, r->last, r->op, r->step), false;
        value = next;
    }
    return true;
}

bool bench_list_add(bench_list *list, const char *text, int32_t min, char *why, size_t cap) {
    const size_t n_before = list->n;
    for (const char *p = text;; p++) {
        range r;
        bool good = read_range(&p, &r) && (*p == ',' || !*p);
        if (!good) snprintf(why, cap, "must be numbers up to %d or ranges like 1-4, 128-512+128, 1-64*2, between commas", BENCH_VALUE_MAX);
        if (!good || !expand(list, &r, min, why, cap)) {
            list->n = n_before;
            return false;
        }
        if (!*p || !p[1]) return true; // a comma may end the list, as llama-bench has it
    }
}

bool bench_pair_parse(const char *text, int32_t *first, int32_t *second, char *why, size_t cap) {
    const char *p = text;
    int32_t a = 0, b = 0;
    if (!read_number(&p, &a) || *p++ != ',' || !read_number(&p, &b) || *p || (a == 0 && b == 0)) {
        snprintf(why, cap, "must be two numbers, prompt and reply, like 512,128");
        return false;
    }
    *first = a;
    *second = b;
    return true;
}
