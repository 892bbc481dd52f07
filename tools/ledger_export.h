// Every row of the ledger on standard output, for other programs.
//
// CSV: one header line, comma, "\n" at the end of a line; a text is quoted when it needs to be, quotes doubled; NULL is an empty field, an
// empty text is "". Texts are data and stay as they are, also where a spreadsheet would take them for a formula. JSON lines: one object
// per line with the same names; NULL is null. Columns keep their names and order; new ones come at the end of each table.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_LEDGER_EXPORT_H
#define WTL_TOOLS_LEDGER_EXPORT_H

#include "tools/cli.h"
#include "tools/ledger_query.h"

// db NULL: there is no ledger yet; nothing is printed. False: err says why.
bool ledger_export(ledger_db *db, ledger_table table, const ledger_filter *filter, bool jsonl, char err[LEDGER_ERR]);

// A JSON string of any bytes: what is no UTF-8 becomes '?'. NULL gives null.
json_t *ledger_json_text(const char *text, size_t len);

#endif
