// Rows as CSV and JSON lines. See ledger_export.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/ledger_export.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool needs_quotes(const char *text, size_t len) {
    if (!len || text[0] == ' ' || text[len - 1] == ' ') return true;
    for (size_t i = 0; i < len; i++)
        if (text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r' || text[i] == '\0') return true;
    return false;
}

static void put_csv_text(const char *text, size_t len) {
    if (!needs_quotes(text, len)) {
        cli_put(text, len);
        return;
    }
    cli_put("\"", 1);
    for (size_t begin = 0; begin < len;) {
        const char *quote = memchr(text + begin, '"', len - begin);
        const size_t end = quote ? (size_t)(quote - text) + 1 : len;
        cli_put(text + begin, end - begin);
        if (quote) cli_put("\"", 1);
        begin = end;
    }
    cli_put("\"", 1);
}

static bool put_csv_row(void *user, bool header, const ledger_cell *cells, size_t n) {
    (void)user, (void)header;
    for (size_t i = 0; i < n; i++) {
        if (i) cli_put(",", 1);
        switch (cells[i].type) {
        case SQLITE_INTEGER: cli_printf("%" PRId64, cells[i].integer); break;
        case SQLITE_FLOAT: cli_printf("%.15g", cells[i].real); break;
        case SQLITE_TEXT: put_csv_text(cells[i].text, cells[i].len); break;
        }
    }
    return cli_put("\n", 1);
}

json_t *ledger_json_text(const char *text, size_t len) {
    if (!text) return json_null();
    json_t *value = json_stringn(text, len);
    if (value) return value;
    char *copy = malloc(len + 1);
    for (size_t i = 0; copy && i < len; i++) copy[i] = text[i] & 0x80 ? '?' : text[i];
    value = copy ? json_stringn(copy, len) : NULL;
    free(copy);
    return value ? value : json_null();
}

static json_t *cell_json(const ledger_cell *cell) {
    switch (cell->type) {
    case SQLITE_INTEGER: return json_integer(cell->integer);
    case SQLITE_FLOAT: return isfinite(cell->real) ? json_real(cell->real) : json_null();
    case SQLITE_TEXT: return ledger_json_text(cell->text, cell->len);
    default: return json_null();
    }
}

typedef struct names {
    const char *name[LEDGER_COLUMNS_MAX]; // of the statement: they live as long as it does
} names;

static bool put_json_row(void *user, bool header, const ledger_cell *cells, size_t n) {
    names *keys = user;
    if (header) {
        for (size_t i = 0; i < n; i++) keys->name[i] = cells[i].text;
        return true;
    }
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(object, keys->name[i], cell_json(&cells[i]));
    const bool more = cli_put_json(object);
    json_decref(object);
    return more;
}

bool ledger_export(ledger_db *db, ledger_table table, const ledger_filter *filter, bool jsonl, char err[LEDGER_ERR]) {
    names keys;
    if (!db) return true;
    return ledger_rows(db, table, filter, jsonl ? put_json_row : put_csv_row, &keys, err);
}
