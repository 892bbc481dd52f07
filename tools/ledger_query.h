// Reading the ledger: sums over requests, the conservation of each domain, and every row for the export.
//
// Joules of different kinds are never added: each group gives one row per class. Unknown stays unknown: a sum leaves out the rows that
// have no figure, and says over how many it is. Bounds add linearly (errors of gain and offset are alike in every request, and nothing
// is known of the rest), so a sum's bound is never too small. Days are local days; times in the file are UTC.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_LEDGER_QUERY_H
#define WTL_TOOLS_LEDGER_QUERY_H

#include "tools/ledger_db.h"

typedef enum ledger_class {
    LEDGER_MEASURED = 0, // a counter or sensor of this machine, also where one request is below its resolution
    LEDGER_DISPUTED,     // two sources disagree
    LEDGER_MODELLED,
    LEDGER_REPLAYED,
    LEDGER_SIMULATED,
    LEDGER_NO_FIGURE,    // requests without joules
} ledger_class;
const char *ledger_class_name(ledger_class class_); // "measured", ..., "unavailable"

typedef enum ledger_by { LEDGER_BY_DAY = 0, LEDGER_BY_MODEL, LEDGER_BY_USER, LEDGER_BY_SOURCE, LEDGER_BY_PHASE, LEDGER_BY_CONVERSATION, LEDGER_BY_NOTHING } ledger_by;

typedef struct ledger_filter {
    int64_t from_ms, to_ms;  // from <= time < to
    const char *model, *user; // NULL: all. A model may be given as the path of its file
    const char *conversation; // NULL: all
} ledger_filter;

// One class of one group. Texts live until the callback returns; counts may be LEDGER_UNKNOWN.
typedef struct ledger_sum {
    const char *key; // day, model, ...; NULL: the requests that have none
    ledger_class class_;
    int64_t n_requests;
    int64_t new_tok, cached_tok, decoded_tok;
    tel_energy energy;      // of the phase when grouped by phase, else the total; reason: the commonest one where there is no figure
    tel_energy decode;      // joules of decoding, over n_decode_tok tokens: only requests for which both are known
    int64_t n_decode_tok;
    int64_t energy_tok;     // tokens decoded with `energy`, for tokens per joule
    tel_energy avoided;     // counterfactual, over n_avoided requests
    int64_t n_avoided;
} ledger_sum;

// Sums of one domain. adds_up is checked again here: somebody may have edited the file.
typedef struct ledger_conserved {
    const char *domain, *scope, *source;
    ledger_class class_;
    int64_t n_rows, n_sessions;
    uint64_t source_uj, requests_uj, idle_uj, unattributed_uj;
    bool adds_up;
} ledger_conserved;

typedef struct ledger_cell {
    int type; // SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_NULL
    int64_t integer;
    double real;
    const char *text; // may hold any bytes
    size_t len;
} ledger_cell;

typedef enum ledger_table { LEDGER_REQUESTS = 0, LEDGER_DOMAINS } ledger_table;
enum { LEDGER_COLUMNS_MAX = 128 };

// The callbacks return false to stop. Each function is false with a sentence in err when the file cannot be read.
bool ledger_sums(ledger_db *db, ledger_by by, const ledger_filter *filter, bool (*row)(void *user, const ledger_sum *sum), void *user,
                 char err[LEDGER_ERR]);
// Domains know neither models nor users: only the time of the filter counts, by the end of each interval.
bool ledger_conservation(ledger_db *db, const ledger_filter *filter, bool (*row)(void *user, const ledger_conserved *sum), void *user,
                         char err[LEDGER_ERR]);
// First one call with the names of the columns as texts (`header` true), then one per row, oldest first.
bool ledger_rows(ledger_db *db, ledger_table table, const ledger_filter *filter,
                 bool (*row)(void *user, bool header, const ledger_cell *cells, size_t n), void *user, char err[LEDGER_ERR]);

// ---- Days ----------------------------------------------------------------------------------------------------------
// "2026-03-01" (a local day), "7d" (today and the six days before), "all". False: neither.
bool ledger_parse_since(const char *text, int64_t now_ms, int64_t *from_ms);
// "2026-03-01": to the end of that local day; "all" or NULL: no end.
bool ledger_parse_until(const char *text, int64_t *to_ms);

#endif
