// Reading the ledger. Sums are made by SQLite in integers; every value of a user is a bound parameter. See ledger_query.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/ledger_query.h"

#include <stdio.h>
#include <string.h>

static const char *const class_names[] = {"measured", "disputed", "modelled", "replayed", "simulated", "unavailable"};

const char *ledger_class_name(ledger_class class_) { return (unsigned)class_ <= LEDGER_NO_FIGURE ? class_names[class_] : "unknown"; }

// Class of a row from the status of one of its energies and its method; a status that is not known here counts as no figure.
#define CLASS_OF(status, figure)                                                                                                    \
    "CASE WHEN " figure " IS NULL OR " status " NOT IN ('measured','below_resolution','disputed','modelled') THEN 5"              \
    " WHEN " status "='modelled' THEN 2 WHEN method='replayed' THEN 3 WHEN method='simulated' THEN 4"                              \
    " WHEN " status "='disputed' THEN 1 ELSE 0 END"

// ---- Columns of a result ----------------------------------------------------------------------------------------
static int64_t column_count(sqlite3_stmt *stmt, int i) {
    return sqlite3_column_type(stmt, i) == SQLITE_NULL ? LEDGER_UNKNOWN : sqlite3_column_int64(stmt, i);
}

static uint64_t column_uj(sqlite3_stmt *stmt, int i) {
    const int64_t uj = sqlite3_column_int64(stmt, i);
    return uj > 0 ? (uint64_t)uj : 0;
}

// A sum of four columns from i: value, bound, low, high. Whether it is resolved is decided anew: many short requests add up.
static tel_energy column_energy(sqlite3_stmt *stmt, int i, ledger_class class_) {
    if (class_ == LEDGER_NO_FIGURE || sqlite3_column_type(stmt, i) == SQLITE_NULL)
        return tel_energy_unavailable("no request here has this figure", NULL);
    tel_energy e = {.energy_uj = column_uj(stmt, i),
                    .bound_uj = column_uj(stmt, i + 1),
                    .low_uj = column_uj(stmt, i + 2),
                    .high_uj = column_uj(stmt, i + 3)};
    e.status = class_ == LEDGER_MODELLED   ? TEL_MODELLED
               : class_ == LEDGER_DISPUTED ? TEL_DISPUTED
               : e.bound_uj > e.energy_uj / 2 ? TEL_BELOW_RESOLUTION
                                             : TEL_MEASURED;
    e.method = class_ == LEDGER_REPLAYED    ? TEL_METHOD_REPLAYED
               : class_ == LEDGER_SIMULATED ? TEL_METHOD_SIMULATED
               : class_ == LEDGER_MODELLED  ? TEL_METHOD_MODELLED
                                            : TEL_METHOD_NONE;
    return e;
}

static bool failed(ledger_db *db, sqlite3_stmt *stmt, int code, char err[LEDGER_ERR]) {
    if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW) ledger_db_explain(db, code, err);
    else code = SQLITE_OK;
    sqlite3_finalize(stmt);
    return code != SQLITE_OK;
}

// ---- Sums -------------------------------------------------------------------------------------------------------
// One request gives one row here, three when grouped by phase: (key, class of its energy, counts, energies).
#define WHERE_REQUEST " FROM requests WHERE time_ms >= ?1 AND time_ms < ?2 AND (?3 IS NULL OR model IN (?3, ?4)) AND (?5 IS NULL OR user = ?5) AND (?6 IS NULL OR conversation = ?6)"
#define PART(key, phase, new_tok, cached_tok, decoded_tok)                                                                         \
    "SELECT " key " AS key, time_ms AS t, " CLASS_OF(phase "_status", phase "_uj") " AS class, " new_tok " AS new_tok, "        \
    cached_tok " AS cached_tok, " decoded_tok " AS decoded_tok, " phase "_uj AS uj, " phase "_bound_uj AS bound_uj, "            \
    phase "_low_uj AS low_uj, " phase "_high_uj AS high_uj, " phase "_reason AS reason, " CLASS_OF("decode_status", "decode_uj")  \
    " AS decode_class, decode_uj, decode_bound_uj, decode_low_uj, decode_high_uj, " decoded_tok " AS decode_tok, "                   \
    CLASS_OF("avoided_status", "avoided_uj") " AS avoided_class, avoided_uj, avoided_bound_uj, avoided_low_uj, avoided_high_uj"    \
    WHERE_REQUEST
#define WHOLE(key) PART(key, "total", "new_tok", "cached_tok", "decoded_tok")

static const char *const parts[] = {
    [LEDGER_BY_DAY] = WHOLE("date(time_ms / 1000, 'unixepoch', 'localtime')"),
    [LEDGER_BY_MODEL] = WHOLE("model"),
    [LEDGER_BY_USER] = WHOLE("user"),
    [LEDGER_BY_SOURCE] = WHOLE("CASE WHEN total_uj IS NULL THEN NULL ELSE sources END"),
    [LEDGER_BY_PHASE] = PART("'1 queue'", "queue", "NULL", "NULL", "NULL") " UNION ALL " PART(
        "'2 prefill'", "prefill", "new_tok", "cached_tok", "NULL") " UNION ALL " PART("'3 decode'", "decode", "NULL", "NULL", "decoded_tok"),
    [LEDGER_BY_CONVERSATION] = WHOLE("conversation"),
    [LEDGER_BY_NOTHING] = WHOLE("NULL"),
};

// Last column: the commonest reason of a group without figures.
#define FOUR(condition, p) \
    "sum(CASE WHEN " condition " THEN " p "uj END), sum(CASE WHEN " condition " THEN " p "bound_uj END), " \
    "sum(CASE WHEN " condition " THEN " p "low_uj END), sum(CASE WHEN " condition " THEN " p "high_uj END), "
#define DECODED "decode_class = class AND decode_tok > 0"
#define SUM_HEAD "WITH part AS MATERIALIZED ("
#define SUM_TAIL                                                                                                              \
    ") SELECT key, class, count(*), sum(new_tok), sum(cached_tok), sum(decoded_tok), " FOUR("1", "")                        \
    FOUR(DECODED, "decode_") "sum(CASE WHEN " DECODED " THEN decode_tok END), sum(CASE WHEN uj NOTNULL THEN decode_tok END), " \
    FOUR("avoided_class = class", "avoided_") "sum(avoided_class = class), "                                               \
    "CASE WHEN class = 5 THEN (SELECT p.reason FROM part p WHERE p.key IS part.key AND p.class = part.class GROUP BY p.reason ORDER BY count(*) DESC, p.reason LIMIT 1) END" \
    " FROM part GROUP BY key, class ORDER BY key IS NULL, key, class"

// Behind the last separator, without it: requests are booked under the name of the file.
static const char *base_name(const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

static int bind_filter(sqlite3_stmt *stmt, const ledger_filter *f) {
    int code = sqlite3_bind_int64(stmt, 1, f->from_ms);
    if (code == SQLITE_OK) code = sqlite3_bind_int64(stmt, 2, f->to_ms);
    if (code == SQLITE_OK && sqlite3_bind_parameter_count(stmt) == 6) {
        code = sqlite3_bind_text(stmt, 3, f->model, -1, SQLITE_STATIC); // NULL binds NULL
        if (code == SQLITE_OK) code = sqlite3_bind_text(stmt, 4, base_name(f->model), -1, SQLITE_STATIC);
        if (code == SQLITE_OK) code = sqlite3_bind_text(stmt, 5, f->user, -1, SQLITE_STATIC);
        if (code == SQLITE_OK) code = sqlite3_bind_text(stmt, 6, f->conversation, -1, SQLITE_STATIC);
    }
    return code;
}

static ledger_sum read_sum(sqlite3_stmt *stmt, ledger_by by) {
    ledger_sum s = {.key = (const char *)sqlite3_column_text(stmt, 0), .class_ = (ledger_class)sqlite3_column_int(stmt, 1)};
    if (by == LEDGER_BY_PHASE && s.key) s.key += 2; // the digit is for the order
    s.n_requests = sqlite3_column_int64(stmt, 2);
    s.new_tok = column_count(stmt, 3);
    s.cached_tok = column_count(stmt, 4);
    s.decoded_tok = column_count(stmt, 5);
    s.energy = column_energy(stmt, 6, s.class_);
    s.decode = column_energy(stmt, 10, s.class_);
    s.n_decode_tok = column_count(stmt, 14);
    s.energy_tok = column_count(stmt, 15);
    s.avoided = column_energy(stmt, 16, s.class_);
    s.n_avoided = sqlite3_column_int64(stmt, 20);
    if (s.class_ == LEDGER_NO_FIGURE) s.energy.reason = (const char *)sqlite3_column_text(stmt, 21);
    return s;
}

bool ledger_sums(ledger_db *db, ledger_by by, const ledger_filter *filter, bool (*row)(void *user, const ledger_sum *sum), void *user,
                 char err[LEDGER_ERR]) {
    sqlite3_stmt *stmt = NULL;
    char *text = sqlite3_mprintf("%s%s%s", SUM_HEAD, parts[by], SUM_TAIL);
    int code = text ? sqlite3_prepare_v2(db->sql, text, -1, &stmt, NULL) : SQLITE_NOMEM;
    sqlite3_free(text);
    if (code == SQLITE_OK) code = bind_filter(stmt, filter);
    while (code == SQLITE_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const ledger_sum sum = read_sum(stmt, by);
        code = row(user, &sum) ? SQLITE_OK : SQLITE_DONE;
    }
    return !failed(db, stmt, code, err);
}

// ---- Conservation -----------------------------------------------------------------------------------------------
static const char conservation[] =
    "SELECT domain, scope, source, " CLASS_OF("status", "source_uj") " AS class, count(*), count(DISTINCT session), sum(source_uj),"
    " sum(requests_uj), sum(idle_uj), sum(unattributed_uj) FROM domains WHERE to_ms >= ?1 AND to_ms < ?2"
    " GROUP BY domain, scope, source, class ORDER BY class, domain, scope, source";

bool ledger_conservation(ledger_db *db, const ledger_filter *filter, bool (*row)(void *user, const ledger_conserved *sum), void *user,
                         char err[LEDGER_ERR]) {
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(db->sql, conservation, -1, &stmt, NULL);
    if (code == SQLITE_OK) code = bind_filter(stmt, filter);
    while (code == SQLITE_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        ledger_conserved c = {.domain = (const char *)sqlite3_column_text(stmt, 0),
                              .scope = (const char *)sqlite3_column_text(stmt, 1),
                              .source = (const char *)sqlite3_column_text(stmt, 2),
                              .class_ = (ledger_class)sqlite3_column_int(stmt, 3),
                              .n_rows = sqlite3_column_int64(stmt, 4),
                              .n_sessions = sqlite3_column_int64(stmt, 5),
                              .source_uj = column_uj(stmt, 6),
                              .requests_uj = column_uj(stmt, 7),
                              .idle_uj = column_uj(stmt, 8),
                              .unattributed_uj = column_uj(stmt, 9)};
        c.adds_up = c.requests_uj + c.idle_uj + c.unattributed_uj == c.source_uj;
        code = row(user, &c) ? SQLITE_OK : SQLITE_DONE;
    }
    return !failed(db, stmt, code, err);
}

// ---- Rows -------------------------------------------------------------------------------------------------------
#define UTC(ms) "strftime('%Y-%m-%dT%H:%M:%S', " ms " / 1000, 'unixepoch') || printf('.%03dZ', " ms " % 1000)"
#define FACT_NAME(name, declaration) ", " #name
#define ENERGY_NAMES(e) ", " #e "_status, " #e "_uj, " #e "_bound_uj, " #e "_low_uj, " #e "_high_uj, " #e "_reason"
static const char *const tables[] = {
    [LEDGER_REQUESTS] = "SELECT " UTC("time_ms") " AS time_utc" LEDGER_FACTS(FACT_NAME) LEDGER_ENERGIES(ENERGY_NAMES) WHERE_REQUEST
                        " ORDER BY time_ms, seq",
    [LEDGER_DOMAINS] = "SELECT " UTC("from_ms") " AS from_utc, " UTC("to_ms") " AS to_utc, " LEDGER_DOMAIN_COLUMNS
                       " FROM domains WHERE to_ms >= ?1 AND to_ms < ?2 ORDER BY to_ms, seq",
};

static ledger_cell read_cell(sqlite3_stmt *stmt, int i) {
    ledger_cell cell = {.type = sqlite3_column_type(stmt, i)};
    switch (cell.type) {
    case SQLITE_INTEGER: cell.integer = sqlite3_column_int64(stmt, i); break;
    case SQLITE_FLOAT: cell.real = sqlite3_column_double(stmt, i); break;
    case SQLITE_NULL: break;
    default: // text; a blob can only come from somebody's editing and is shown as text
        cell.type = SQLITE_TEXT;
        cell.text = (const char *)sqlite3_column_text(stmt, i);
        cell.len = (size_t)sqlite3_column_bytes(stmt, i);
        if (!cell.text) cell.text = "";
    }
    return cell;
}

bool ledger_rows(ledger_db *db, ledger_table table, const ledger_filter *filter,
                 bool (*row)(void *user, bool header, const ledger_cell *cells, size_t n), void *user, char err[LEDGER_ERR]) {
    ledger_cell cells[LEDGER_COLUMNS_MAX];
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(db->sql, tables[table], -1, &stmt, NULL);
    if (code == SQLITE_OK) code = bind_filter(stmt, filter);
    const int n = code == SQLITE_OK ? sqlite3_column_count(stmt) : 0;
    for (int i = 0; i < n && i < LEDGER_COLUMNS_MAX; i++) {
        const char *name = sqlite3_column_name(stmt, i);
        cells[i] = (ledger_cell){.type = SQLITE_TEXT, .text = name, .len = strlen(name)};
    }
    bool more = code == SQLITE_OK && row(user, true, cells, (size_t)n);
    while (more && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        for (int i = 0; i < n && i < LEDGER_COLUMNS_MAX; i++) cells[i] = read_cell(stmt, i);
        more = row(user, false, cells, (size_t)n);
    }
    return !failed(db, stmt, code, err);
}
