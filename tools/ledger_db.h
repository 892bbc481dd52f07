// Inside the ledger: its SQLite file. Opening, schema and migrations, inserting one row, reasons in words. Knows nothing of queues and
// threads; a connection belongs to one thread at a time.
//
// Times are UTC (Unix milliseconds), energies integer microjoules, unknown is NULL. Columns are named LEDGER_COLUMNS in the order of
// the export, which is a promise to scripts: new ones are added at the end, by a new migration.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_LEDGER_DB_H
#define WTL_TOOLS_LEDGER_DB_H

#include <sqlite3.h>

#include "tools/ledger.h"

enum { LEDGER_SCHEMA = 1 }; // user_version

#define LEDGER_ENERGIES(X) X(total) X(dynamic) X(idle) X(queue) X(prefill) X(decode) X(new_prompt) X(cached) X(avoided)

// X(name, declaration): facts of a request, in front of its energies.
#define LEDGER_FACTS(X)                                                                                                            \
    X(id, "TEXT NOT NULL UNIQUE") X(time_ms, "INTEGER NOT NULL") X(session, "TEXT NOT NULL") X(kind, "TEXT") X(model, "TEXT")     \
    X(backend, "TEXT") X(outcome, "TEXT") X(user, "TEXT") X(conversation, "TEXT") X(new_tok, "INTEGER") X(cached_tok, "INTEGER") \
    X(decoded_tok, "INTEGER") X(queue_ns, "INTEGER") X(prefill_ns, "INTEGER") X(decode_ns, "INTEGER")                            \
    X(prefill_cpu_ns, "INTEGER") X(decode_cpu_ns, "INTEGER") X(prefill_weight_bytes, "INTEGER") X(prefill_kv_bytes, "INTEGER")   \
    X(decode_weight_bytes, "INTEGER") X(decode_kv_bytes, "INTEGER") X(settled, "INTEGER NOT NULL") X(method, "TEXT")              \
    X(scopes, "TEXT") X(sources, "TEXT") X(coverage_frac, "REAL") X(resolution_ns, "INTEGER") X(n_gaps, "INTEGER")

#define LEDGER_DOMAIN_COLUMNS                                                                                                      \
    "session, domain, scope, source, status, method, from_ms, to_ms, source_uj, requests_uj, idle_uj, unattributed_uj"

typedef struct ledger_db {
    sqlite3 *sql;
    sqlite3_stmt *add_request, *add_domain;
    char *path;
} ledger_db;

// Opens for writing; makes file, folders and tables. False: err says why, *db is empty.
bool ledger_db_open(ledger_db *db, const char *path, char err[LEDGER_ERR]);
// Opens for reading. 1: opened; 0: there is no ledger yet (no file, or nothing in it); -1: err says why.
int ledger_db_open_read(ledger_db *db, const char *path, char err[LEDGER_ERR]);
void ledger_db_close(ledger_db *db); // accepts an empty one

// SQLite result codes. Rows are inside the transaction of the caller.
int ledger_db_begin(ledger_db *db);
int ledger_db_commit(ledger_db *db);
void ledger_db_rollback(ledger_db *db);
int ledger_db_add_request(ledger_db *db, const char *session, const ledger_request *request);
int ledger_db_add_domain(ledger_db *db, const char *session, const ledger_domain *domain);

// "FILE: the disk is full"
void ledger_db_explain(const ledger_db *db, int code, char err[LEDGER_ERR]);

#endif
