// What `wattle ledger` shows: the summary as a table for people and as JSON (also over HTTP).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_LEDGER_REPORT_H
#define WTL_TOOLS_LEDGER_REPORT_H

#include "tools/cli.h"
#include "tools/ledger_query.h"

typedef struct ledger_view {
    const char *path;
    const char *by_name;  // "day"
    const char *since, *until; // as given; until NULL: to now
    ledger_by by;
    ledger_filter filter;
} ledger_view;

// db NULL: there is no ledger yet. False: err says why.
bool ledger_report_table(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]);
json_t *ledger_report_object(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]); // NULL: err says why
bool ledger_report_json(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]);

#endif
