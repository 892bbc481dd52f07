// Pairs the rows of two files and prints ratios. See bench_compare.h.
//
// A row of A is compared with the row of B that is the same test (prompt, reply, depth, sequences) and differs in the fewest settings.
// The runs were at different times: their interval does not hold what the machine did in between. --vs does better.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_rows.h"
#include "tools/bench_stats.h"

static const char *const settings[] = {"model_filename", "model_type", "n_threads", "n_batch", "n_ubatch", "type_k", "type_v", "cpu_info", "engine", "build_commit",
                                       "backends", "flash_attn", "n_gpu_layers", "devices"};

// As a person compares it: the file's name without its folder.
static const char *setting_text(const json_t *row, const char *name, char buffer[32]) {
    const json_t *value = json_object_get(row, name);
    if (json_is_integer(value)) {
        snprintf(buffer, 32, "%lld", (long long)json_integer_value(value));
        return buffer;
    }
    if (json_is_boolean(value)) return json_is_true(value) ? "1" : "0"; // llama-bench's flash_attn was one before it was a number
    const char *text = bench_text(row, name), *slash = strrchr(text, '/');
    if (strcmp(name, "model_filename") == 0 && slash) text = slash + 1;
    return *text ? text : "none";
}

// Names in llama-bench's rows and in ours of what both cannot have alike are left out: engine, where one row has none.
static bool differs(const json_t *a, const json_t *b, const char *name) {
    char x[32], y[32];
    if (!json_object_get(a, name) || !json_object_get(b, name)) return false;
    return strcmp(setting_text(a, name, x), setting_text(b, name, y)) != 0;
}

void bench_differences(const json_t *a, const json_t *b, char *text, size_t cap) {
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < CLI_COUNT(settings) && n < cap; i++) {
        char x[32], y[32];
        if (differs(a, b, settings[i]))
            n += (size_t)snprintf(text + n, cap - n, "%s%s %s -> %s", n ? ", " : "", settings[i], setting_text(a, settings[i], x), setting_text(b, settings[i], y));
    }
}

// ---- Labels -----------------------------------------------------------------------------------------------------------
static bool same_test(const json_t *a, const json_t *b) {
    const bench_case x = bench_case_of(a), y = bench_case_of(b);
    return x.n_prompt == y.n_prompt && x.n_gen == y.n_gen && x.n_depth == y.n_depth && x.n_parallel == y.n_parallel;
}

static bool has_several(const json_t *rows, const json_t *row, const char *name) {
    const json_t *other;
    size_t i;
    json_array_foreach(rows, i, other)
        if (same_test(row, other) && differs(row, other, name)) return true;
    return false;
}

void bench_row_label(const json_t *rows, const json_t *row, char *text, size_t cap) {
    static const char *const names[] = {"model_filename", "n_threads", "n_batch", "n_ubatch", "type_k", "flash_attn", "n_gpu_layers"};
    const bench_case c = bench_case_of(row);
    char value[32];
    size_t n = strlen(bench_case_name(&c, text, cap));
    for (size_t i = 0; i < CLI_COUNT(names) && n < cap; i++) {
        if (!has_several(rows, row, names[i])) continue;
        const char *of = setting_text(row, names[i], value);
        n += (size_t)(i == 0 ? snprintf(text + n, cap - n, ", %s", of) : snprintf(text + n, cap - n, ", %s %s", names[i], of));
    }
}

// ---- Differences --------------------------------------------------------------------------------------------------------
static size_t count_differences(const json_t *a, const json_t *b) {
    size_t n = 0;
    for (size_t i = 0; i < CLI_COUNT(settings); i++) n += differs(a, b, settings[i]);
    return n;
}

// ---- Pairs ------------------------------------------------------------------------------------------------------------
// {"test", "a", "b", "ratio", "low", "high", "differs"}; b null and no numbers when there is no such test.
static json_t *pair_json(json_t *a, json_t *b) {
    char name[64], differences[BENCH_DIFFERENCES_TEXT];
    const bench_case c = bench_case_of(a);
    bench_ratio r = {NAN, NAN, NAN};
    if (b) {
        size_t n_a = 0, n_b = 0;
        double *x = bench_samples(a, &n_a), *y = bench_samples(b, &n_b);
        if (x && y && n_a && n_b) r = bench_means_ratio(x, n_a, y, n_b);
        free(x);
        free(y);
        bench_differences(a, b, differences, sizeof differences);
    }
    return json_pack("{s:s, s:O, s:O?, s:o, s:o, s:o, s:s}", "test", bench_case_name(&c, name, sizeof name), "a", a, "b", b, "ratio",
                     isfinite(r.ratio) ? json_real(r.ratio) : json_null(), "low", isfinite(r.low) ? json_real(r.low) : json_null(), "high",
                     isfinite(r.high) ? json_real(r.high) : json_null(), "differs", b ? differences : "");
}

// The rows of B that found no partner stay in b.
static json_t *pair_rows(json_t *rows_a, json_t *rows_b) {
    json_t *pairs = json_array(), *a, *b;
    size_t i, k;
    json_array_foreach(rows_a, i, a) {
        size_t best = SIZE_MAX, fewest = SIZE_MAX;
        json_array_foreach(rows_b, k, b) {
            if (!same_test(a, b) || count_differences(a, b) >= fewest) continue;
            fewest = count_differences(a, b);
            best = k;
        }
        json_array_append_new(pairs, pair_json(a, best == SIZE_MAX ? NULL : json_array_get(rows_b, best)));
        if (best != SIZE_MAX) json_array_remove(rows_b, best);
    }
    return pairs;
}

// ---- The table --------------------------------------------------------------------------------------------------------
void bench_ratio_text(const json_t *pair, char ratio[16], char interval[48]) {
    snprintf(ratio, 16, bench_has(pair, "ratio") ? "%.3f" : "-", bench_number(pair, "ratio"));
    snprintf(interval, 48, bench_has(pair, "low") ? "%.3f to %.3f" : "-", bench_number(pair, "low"), bench_number(pair, "high"));
}

static void print_pair(const json_t *rows_a, const json_t *pair) {
    const json_t *a = json_object_get(pair, "a"), *b = json_object_get(pair, "b");
    char label[BENCH_LABEL_TEXT], ratio[16], interval[48], joules_a[BENCH_JOULES_TEXT], joules_b[BENCH_JOULES_TEXT], saved[BENCH_JOULES_TEXT];
    if (json_is_null(b)) return;
    bench_row_label(rows_a, a, label, sizeof label);
    bench_ratio_text(pair, ratio, interval);
    bench_joules_text(a, joules_a, sizeof joules_a);
    bench_joules_text(b, joules_b, sizeof joules_b);
    bench_joules_ratio_text(a, b, saved, sizeof saved);
    cli_printf("| %s | %.2f | %.2f | %s | %s | %s | %s | %s | %s |\n", label, bench_number(a, "avg_ts"), bench_number(b, "avg_ts"), ratio, interval, joules_a, joules_b,
               saved, bench_text(pair, "differs"));
}

static void print_lonely(const json_t *row, const char *file) {
    char name[64];
    const bench_case c = bench_case_of(row);
    const double threads = bench_number(row, "n_threads");
    cli_printf("only in %s: %s, %s, %.0f thread%s, %.2f t/s\n", file, bench_case_name(&c, name, sizeof name), bench_text(row, "model_type"), threads,
               threads == 1 ? "" : "s", bench_number(row, "avg_ts"));
}

static void print_pairs(const json_t *rows_a, const json_t *pairs, const json_t *left_b, const char *path_a, const char *path_b) {
    const json_t *pair, *row;
    size_t i;
    cli_printf("| test | A t/s | B t/s | B / A | 95 %% interval | A J/token | B J/token | B / A | differs |\n");
    cli_printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n");
    json_array_foreach(pairs, i, pair) print_pair(rows_a, pair);
    cli_printf("\nA: %s; B: %s\n", path_a, path_b);
    json_array_foreach(pairs, i, pair)
        if (json_is_null(json_object_get(pair, "b"))) print_lonely(json_object_get(pair, "a"), path_a);
    json_array_foreach(left_b, i, row) print_lonely(row, path_b);
}

int bench_compare_command(const char *path_a, const char *path_b, bench_format format) {
    json_t *a = NULL, *b = NULL, *pairs = NULL;
    if (format != BENCH_MD && format != BENCH_JSON) return cli_wrong("bench: --compare prints md or json");
    int code = bench_rows_load(path_a, &a);
    if (code == CLI_GO) code = bench_rows_load(path_b, &b);
    if (code == CLI_GO && (pairs = pair_rows(a, b))) {
        if (format == BENCH_JSON) cli_put_json(pairs);
        else print_pairs(a, pairs, b, path_a, path_b);
    }
    json_decref(pairs);
    json_decref(a);
    json_decref(b);
    return code == CLI_GO ? CLI_OK : code;
}
