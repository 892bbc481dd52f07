// Joules of rows in words, without a unit: the column's head has it. See bench_rows.h.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_rows.h"

const char *bench_joules_kind(const json_t *row) {
    static const char *const kinds[] = {"modelled", "simulated", "replayed"};
    for (size_t i = 0; i < CLI_COUNT(kinds); i++)
        if (strcmp(bench_text(row, "joules_method"), kinds[i]) == 0 || strcmp(bench_text(row, "joules_status"), kinds[i]) == 0) return kinds[i];
    return "";
}

static bool is_modelled(const json_t *row) { return strcmp(bench_joules_kind(row), "modelled") == 0; }

// ---- Digits ---------------------------------------------------------------------------------------------------------
typedef char digits[32];

// 123.4 with two of them is 120, not 1.2e+02.
static const char *nearest(double value, int n, digits text) {
    snprintf(text, sizeof(digits), "%.*g", n, value);
    snprintf(text, sizeof(digits), "%.10g", strtod(text, NULL));
    return text;
}

// Two digits, away from zero or towards it: rounding makes no interval narrower. The slack keeps 0.8 from becoming 0.9.
static const char *outwards(double value, bool up, digits text) {
    const double place = value > 0 ? pow(10, floor(log10(value)) - 1) : 1;
    return nearest(place * (up ? ceil(value / place - 1e-9) : floor(value / place + 1e-9)), 2, text);
}

// ---- Texts ------------------------------------------------------------------------------------------------------------
void bench_joules_text(const json_t *row, char *text, size_t cap) {
    digits each, low = "", high = "", bound;
    const char *status = bench_text(row, "joules_status"), *kind = bench_joules_kind(row);
    const bench_case c = bench_case_of(row);
    const double tokens = bench_tokens(&c);
    const bool interval = tokens > 0 && bench_has(row, "joules_low") && bench_has(row, "joules_high");
    snprintf(text, cap, "-");
    if (!bench_has(row, "joules_per_token")) return;
    nearest(bench_number(row, "joules_per_token"), is_modelled(row) ? 2 : 3, each);
    if (interval) {
        outwards(bench_number(row, "joules_low") / tokens, false, low);
        outwards(bench_number(row, "joules_high") / tokens, true, high);
    }
    if (is_modelled(row)) {
        snprintf(text, cap, interval ? "~%s, modelled: %s to %s" : "~%s, modelled", each, low, high);
        return;
    }
    int n;
    if (strcmp(status, "below_resolution") == 0 && interval) n = snprintf(text, cap, "%s (%s to %s), below resolution", each, low, high);
    else n = snprintf(text, cap, "%s ± %s%s", each, outwards(tokens > 0 ? bench_number(row, "joules_bound") / tokens : 0, true, bound), strcmp(status, "disputed") == 0 ? ", disputed" : "");
    if (*kind && n > 0 && (size_t)n < cap) snprintf(text + n, cap - (size_t)n, ", %s", kind);
}

void bench_tokens_per_joule_text(const json_t *row, char *text, size_t cap) {
    digits number;
    if (!bench_has(row, "tokens_per_joule")) snprintf(text, cap, "-");
    else snprintf(text, cap, "%s%s", is_modelled(row) ? "~" : "", nearest(bench_number(row, "tokens_per_joule"), is_modelled(row) ? 2 : 3, number));
}

void bench_joules_ratio_text(const json_t *a, const json_t *b, char *text, size_t cap) {
    digits number;
    const char *kind = bench_joules_kind(a);
    const double of_a = bench_number(a, "joules_per_token");
    snprintf(text, cap, "-");
    if (!(of_a > 0) || !bench_has(b, "joules_per_token") || strcmp(kind, bench_joules_kind(b)) != 0) return;
    nearest(bench_number(b, "joules_per_token") / of_a, is_modelled(a) ? 2 : 3, number);
    snprintf(text, cap, "%s%s%s%s", is_modelled(a) ? "~" : "", number, *kind ? ", " : "", kind);
}
