// Rows as a table for people, CSV, JSON, JSON lines and SQL, in the shapes of llama-bench. See bench.h.
//
// What is not known is an empty field in CSV, NULL in SQL, null in JSON and "-" in the table.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_rows.h"

enum { DIGITS = 9 }; // of a real: microjoules of a kilojoule

bool bench_format_parse(const char *name, bench_format *out) {
    static const char *const names[] = {[BENCH_MD] = "md", [BENCH_CSV] = "csv", [BENCH_JSON] = "json", [BENCH_JSONL] = "jsonl", [BENCH_SQL] = "sql"};
    for (size_t i = 0; i < CLI_COUNT(names); i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = (bench_format)i;
        return true;
    }
    return false;
}

// ---- Values ---------------------------------------------------------------------------------------------------------
static int put_bytes(const char *bytes, size_t len, void *user) {
    (void)user;
    return cli_put(bytes, len) ? 0 : -1;
}

static void put_json(const json_t *value) { json_dump_callback(value, put_bytes, NULL, JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS)); }

// Text with every `quote` in it twice, between quotes: the rule of CSV and of SQL.
static void put_quoted(const char *text, char quote) {
    cli_put(&quote, 1);
    for (const char *p = text; *p; p++) {
        if (*p == quote) cli_put(&quote, 1);
        cli_put(p, 1);
    }
    cli_put(&quote, 1);
}

// A field of CSV or SQL: numbers between quotes, too, as llama-bench has them.
static void put_field(const json_t *value, char quote, const char *unknown) {
    char text[64];
    if (!value || json_is_null(value)) cli_printf("%s", unknown);
    else if (json_is_string(value)) put_quoted(json_string_value(value), quote);
    else if (json_is_boolean(value)) put_quoted(json_is_true(value) ? "1" : "0", quote);
    else if (json_is_integer(value)) snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value)), put_quoted(text, quote);
    else snprintf(text, sizeof text, "%.*g", DIGITS, json_real_value(value)), put_quoted(text, quote);
}

typedef void (*field_printer)(const bench_field *field, const json_t *row);

// Fields that are columns, with commas between.
static void put_columns(field_printer print, const json_t *row) {
    bool first = true;
    for (size_t i = 0; i < bench_n_fields(); i++) {
        if (bench_fields[i].kind == BENCH_SAMPLES) continue;
        if (!first) cli_printf(",");
        first = false;
        print(&bench_fields[i], row);
    }
}

// ---- CSV, SQL -------------------------------------------------------------------------------------------------------
static void put_name(const bench_field *field, const json_t *row) {
    (void)row;
    cli_printf("%s", field->name);
}

static void put_csv(const bench_field *field, const json_t *row) { put_field(json_object_get(row, field->name), '"', ""); }

static void put_sql(const bench_field *field, const json_t *row) { put_field(json_object_get(row, field->name), '\'', "NULL"); }

static void put_sql_column(const bench_field *field, const json_t *row) {
    static const char *const types[] = {[BENCH_TEXT] = "TEXT", [BENCH_INTEGER] = "INTEGER", [BENCH_REAL] = "REAL", [BENCH_BOOL] = "INTEGER"};
    (void)row;
    cli_printf("\n  %s %s", field->name, types[field->kind]);
}

// ---- JSON -----------------------------------------------------------------------------------------------------------
static void put_object(const json_t *row, const char *before, const char *between) {
    for (size_t i = 0; i < bench_n_fields(); i++) {
        cli_printf("%s\"%s\": ", i ? between : before, bench_fields[i].name);
        put_json(json_object_get(row, bench_fields[i].name));
    }
}

// ---- The table ------------------------------------------------------------------------------------------------------
static void put_cell(int width, const char *text) { // width < 0: to the left
    int extra = 0;
    for (const char *p = text; *p; p++) extra += (*p & 0xC0) == 0x80; // bytes that take no column
    cli_printf(" %*s |", width < 0 ? width - extra : width + extra, text);
}

typedef struct column {
    const char *title;
    int width;
    bool shown;
} column;

static size_t columns_of(const bench_printer *p, column *out) {
    const column all[] = {{"model", -30, true}, {"size", 10, true}, {"params", 10, true}, {"backend", -10, true}, {"threads", 7, true},
                          {"n_batch", 7, p->show_batch}, {"n_ubatch", 8, p->show_ubatch}, {"type_k", -6, p->show_kv}, {"type_v", -6, p->show_kv},
                          {"test", 15, true}, {"t/s", 20, true}, {"GB/s", 12, true}, {"GMAC/s", 12, true}, {"J/token", p->joules_width, p->energy},
                          {"tokens/J", 10, p->energy}};
    size_t n = 0;
    for (size_t i = 0; i < CLI_COUNT(all); i++)
        if (all[i].shown) out[n++] = all[i];
    return n;
}

// "12.3 (28 %)": a rate and its share of the machine's limit.
static void rate_text(const json_t *row, const char *rate, const char *share, char *text, size_t cap) {
    if (!bench_has(row, rate)) snprintf(text, cap, "-");
    else if (!bench_has(row, share)) snprintf(text, cap, "%.1f", bench_number(row, rate));
    else snprintf(text, cap, "%.1f (%.0f %%)", bench_number(row, rate), bench_number(row, share));
}

static void cell_text(const json_t *row, const char *title, char *text, size_t cap) {
    const double size = bench_number(row, "model_size"), params = bench_number(row, "model_n_params");
    const bench_case c = bench_case_of(row);
    const json_t *value = json_object_get(row, strcmp(title, "threads") == 0 ? "n_threads" : title);
    text[0] = '\0';
    if (strcmp(title, "model") == 0) snprintf(text, cap, "%s", bench_text(row, "model_type"));
    else if (strcmp(title, "size") == 0 && size < 1073741824.0) snprintf(text, cap, "%.2f MiB", size / 1048576);
    else if (strcmp(title, "size") == 0) snprintf(text, cap, "%.2f GiB", size / 1073741824);
    else if (strcmp(title, "params") == 0) snprintf(text, cap, "%.2f %s", params < 1e9 ? params / 1e6 : params / 1e9, params < 1e9 ? "M" : "B");
    else if (strcmp(title, "backend") == 0) snprintf(text, cap, "%s", bench_text(row, "backends"));
    else if (strcmp(title, "test") == 0) bench_case_name(&c, text, cap);
    else if (strcmp(title, "t/s") == 0) snprintf(text, cap, "%.2f ± %.2f", bench_number(row, "avg_ts"), bench_number(row, "stddev_ts"));
    else if (strcmp(title, "GB/s") == 0) rate_text(row, "gb_per_s", "pct_bandwidth", text, cap);
    else if (strcmp(title, "GMAC/s") == 0) rate_text(row, "gmac_per_s", "pct_compute", text, cap);
    else if (strcmp(title, "J/token") == 0) bench_joules_text(row, text, cap);
    else if (strcmp(title, "tokens/J") == 0) bench_tokens_per_joule_text(row, text, cap);
    else if (json_is_string(value)) snprintf(text, cap, "%s", json_string_value(value));
    else snprintf(text, cap, "%lld", (long long)json_integer_value(value));
}

static void put_table_head(const bench_printer *p) {
    column columns[16];
    const size_t n = columns_of(p, columns);
    static const char dashes[] = "----------------------------------------";
    cli_printf("|");
    for (size_t i = 0; i < n; i++) put_cell(columns[i].width, columns[i].title);
    cli_printf("\n|");
    for (size_t i = 0; i < n; i++) cli_printf(" %.*s%s |", abs(columns[i].width) - 1, dashes, columns[i].width > 0 ? ":" : "-");
    cli_printf("\n");
}

static void put_table_row(const bench_printer *p, const json_t *row) {
    column columns[16];
    const size_t n = columns_of(p, columns);
    cli_printf("|");
    for (size_t i = 0; i < n; i++) {
        char text[128];
        cell_text(row, columns[i].title, text, sizeof text);
        put_cell(columns[i].width, text);
    }
    cli_printf("\n");
}

// ---- All ------------------------------------------------------------------------------------------------------------
// As wide as the first row's joules, which a model's interval makes longer.
static int joules_width(const json_t *row) {
    enum { USUAL = 18 };
    char text[BENCH_JOULES_TEXT];
    bench_joules_text(row, text, sizeof text);
    return strlen(text) > USUAL ? (int)strlen(text) : USUAL;
}

static void put_head(const bench_printer *p) {
    switch (p->format) {
    case BENCH_MD: put_table_head(p); break;
    case BENCH_CSV:
        put_columns(put_name, NULL);
        cli_printf("\n");
        break;
    case BENCH_JSON: cli_printf("[\n"); break;
    case BENCH_JSONL: break;
    case BENCH_SQL:
        cli_printf("CREATE TABLE IF NOT EXISTS llama_bench (");
        put_columns(put_sql_column, NULL);
        cli_printf("\n);\n\n");
        break;
    }
}

void bench_print_row(bench_printer *p, const json_t *row) {
    if (p->n_rows == 0) p->joules_width = joules_width(row);
    if (p->n_rows == 0) put_head(p);
    switch (p->format) {
    case BENCH_MD: put_table_row(p, row); break;
    case BENCH_CSV:
        put_columns(put_csv, row);
        cli_printf("\n");
        break;
    case BENCH_JSON:
        cli_printf("%s  {\n", p->n_rows ? ",\n" : "");
        put_object(row, "    ", ",\n    ");
        cli_printf("\n  }");
        break;
    case BENCH_JSONL:
        cli_printf("{");
        put_object(row, "", ", ");
        cli_printf("}\n");
        break;
    case BENCH_SQL:
        cli_printf("INSERT INTO llama_bench (");
        put_columns(put_name, row);
        cli_printf(") VALUES (");
        put_columns(put_sql, row);
        cli_printf(");\n");
        break;
    }
    p->n_rows++;
    cli_flush();
}

void bench_print_end(bench_printer *p) {
    if (p->format == BENCH_JSON) cli_printf(p->n_rows ? "\n]\n" : "[]\n");
    if (p->format == BENCH_MD && p->n_rows) cli_printf("\nbuild: wattle-%s (0)\n", wtl_version());
}
