// See bench_rows.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bench_has(const json_t *row, const char *field) { return json_is_number(json_object_get(row, field)); }

double bench_number(const json_t *row, const char *field) { return json_number_value(json_object_get(row, field)); }

const char *bench_text(const json_t *row, const char *field) {
    const char *text = json_string_value(json_object_get(row, field));
    return text ? text : "";
}

static int32_t size_of(const json_t *row, const char *field) {
    const double value = bench_number(row, field);
    return value > 0 && value <= BENCH_VALUE_MAX ? (int32_t)value : 0;
}

bench_case bench_case_of(const json_t *row) {
    const int32_t n_parallel = size_of(row, "n_parallel"); // llama-bench has no such field
    return (bench_case){.n_prompt = size_of(row, "n_prompt"), .n_gen = size_of(row, "n_gen"), .n_depth = size_of(row, "n_depth"),
                        .n_parallel = n_parallel ? n_parallel : 1};
}

double *bench_samples(const json_t *row, size_t *n) {
    const json_t *samples = json_object_get(row, "samples_ts");
    const size_t count = json_array_size(samples);
    double *out = calloc(count + 1, sizeof *out);
    if (!out) return NULL;
    *n = 0;
    for (size_t i = 0; i < count; i++) {
        const double value = json_number_value(json_array_get(samples, i));
        if (value > 0) out[(*n)++] = value;
    }
    if (*n == 0 && bench_number(row, "avg_ts") > 0) out[(*n)++] = bench_number(row, "avg_ts");
    return out;
}

// ---- Files ------------------------------------------------------------------------------------------------------------
static bool is_row(const json_t *value) { return json_is_object(value) && bench_has(value, "avg_ts") && bench_has(value, "n_prompt") && bench_has(value, "n_gen"); }

static bool take(json_t *rows, json_t *value) {
    json_t *row;
    size_t i;
    if (!json_is_array(value)) return is_row(value) && json_array_append(rows, value) == 0;
    json_array_foreach(value, i, row)
        if (!is_row(row) || json_array_append(rows, row) != 0) return false;
    return true;
}

// One array, or objects one after the other.
static int read_values(FILE *f, const char *path, json_t *rows) {
    for (;;) {
        int c;
        while ((c = fgetc(f)) == ' ' || c == '\n' || c == '\r' || c == '\t') {}
        if (c == EOF && ferror(f)) return cli_fail("%s: %s", path, strerror(errno));
        if (c == EOF) break;
        ungetc(c, f);
        json_error_t error;
        json_t *value = json_loadf(f, JSON_DISABLE_EOF_CHECK, &error);
        if (!value) return cli_fail("%s: no JSON: %s", path, error.text);
        const bool good = take(rows, value);
        json_decref(value);
        if (!good) return cli_fail("%s: not what `wattle bench -o json` or llama-bench writes: an object lacks n_prompt, n_gen or avg_ts", path);
    }
    return json_array_size(rows) ? CLI_GO : cli_fail("%s: there is no test in it", path);
}

int bench_rows_load(const char *path, json_t **out) {
    FILE *f = fopen(path, "re");
    if (!f) return cli_fail("%s: %s", path, strerror(errno));
    json_t *rows = json_array();
    const int code = rows ? read_values(f, path, rows) : cli_fail("out of memory for the rows of %s", path);
    fclose(f);
    if (code == CLI_GO) *out = rows;
    else json_decref(rows);
    return code;
}
