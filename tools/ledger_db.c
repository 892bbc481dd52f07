// The ledger's SQLite file. See ledger_db.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/ledger_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/folders.h"

enum {
    BUSY_MS = 500,             // one wait for another writer; the thread looks around in between
    OPEN_TRIES = 50,           // of 20 ms: SQLite does not always wait by itself when several processes turn a new file into a WAL
    APPLICATION_ID = 0x77746c65, // "wtle" in the file header
};

// ---- Schema -----------------------------------------------------------------------------------------------------
#define FACT_COLUMN(name, declaration) #name " " declaration ", "
#define ENERGY_COLUMNS(e)                                                                                                  \
    #e "_status TEXT NOT NULL, " #e "_uj INTEGER, " #e "_bound_uj INTEGER, " #e "_low_uj INTEGER, " #e "_high_uj INTEGER, " \
       #e "_reason TEXT, "

// migrations[v] leads from version v to v + 1 and never changes once released.
static const char *const migrations[LEDGER_SCHEMA] = {
    "CREATE TABLE requests(" LEDGER_FACTS(FACT_COLUMN) LEDGER_ENERGIES(ENERGY_COLUMNS) "seq INTEGER PRIMARY KEY);"
    "CREATE INDEX requests_time ON requests(time_ms);"
    "CREATE TABLE domains(session TEXT NOT NULL, domain TEXT NOT NULL, scope TEXT, source TEXT, status TEXT NOT NULL, method TEXT,"
    " from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, source_uj INTEGER NOT NULL, requests_uj INTEGER NOT NULL, idle_uj INTEGER NOT NULL,"
    " unattributed_uj INTEGER NOT NULL, seq INTEGER PRIMARY KEY, CHECK(requests_uj + idle_uj + unattributed_uj = source_uj));"
    "CREATE INDEX domains_time ON domains(to_ms);",
};

static int run(sqlite3 *sql, const char *text) { return sqlite3_exec(sql, text, NULL, NULL, NULL); }

static int read_int(sqlite3 *sql, const char *text, int64_t *out) {
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(sql, text, -1, &stmt, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(stmt) == SQLITE_ROW ? SQLITE_OK : sqlite3_errcode(sql);
    if (code == SQLITE_OK) *out = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return code;
}

typedef struct file_state {
    int64_t version, application, n_tables;
} file_state;

// All of one moment: another process may be making the tables just now.
static int read_state(sqlite3 *sql, file_state *state) {
    int code = run(sql, "SAVEPOINT state");
    if (code == SQLITE_OK) code = read_int(sql, "PRAGMA user_version", &state->version);
    if (code == SQLITE_OK) code = read_int(sql, "PRAGMA application_id", &state->application);
    if (code == SQLITE_OK) code = read_int(sql, "SELECT count(*) FROM sqlite_schema", &state->n_tables);
    const int released = run(sql, "RELEASE state");
    return code == SQLITE_OK ? released : code;
}

// Whether this file is for us. A file without anything in it is: it becomes a ledger.
static bool accept_state(const file_state *state, const char *path, char err[LEDGER_ERR]) {
    if (state->application != APPLICATION_ID && (state->n_tables || state->version || state->application)) {
        snprintf(err, LEDGER_ERR, "%s: a database of another program, not a ledger", path);
        return false;
    }
    if (state->version > LEDGER_SCHEMA) {
        snprintf(err, LEDGER_ERR, "%s: written by a newer wattle (format %lld, this one knows %d)", path, (long long)state->version,
                 LEDGER_SCHEMA);
        return false;
    }
    return true;
}

// Every missing step in one transaction; another process may have done them while this one waited for the lock.
static int migrate(sqlite3 *sql) {
    int code = run(sql, "BEGIN IMMEDIATE");
    file_state state = {0};
    if (code == SQLITE_OK) code = read_state(sql, &state);
    for (int64_t v = state.version; v >= 0 && v < LEDGER_SCHEMA && code == SQLITE_OK; v++) code = run(sql, migrations[v]);
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID, LEDGER_SCHEMA);
    if (code == SQLITE_OK) code = state.version < LEDGER_SCHEMA ? run(sql, stamp) : run(sql, "COMMIT");
    if (code != SQLITE_OK && !sqlite3_get_autocommit(sql)) run(sql, "ROLLBACK");
    return code;
}

// ---- Opening ----------------------------------------------------------------------------------------------------
void ledger_db_explain(const ledger_db *db, int code, char err[LEDGER_ERR]) {
    const int os = db->sql ? sqlite3_system_errno(db->sql) : 0;
    const char *why = NULL;
    switch (code & 0xff) { // the primary code
    case SQLITE_FULL: why = "the disk is full"; break;
    case SQLITE_BUSY: why = "other processes keep it locked"; break;
    case SQLITE_READONLY: why = "no permission to write it or its folder"; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: why = "damaged, or no ledger; move it away and a new one is made"; break;
    case SQLITE_NOMEM: why = "out of memory"; break;
    case SQLITE_CONSTRAINT: why = "an entry with this id is there already"; break;
    }
    if (why) snprintf(err, LEDGER_ERR, "%s: %s", db->path, why);
    else snprintf(err, LEDGER_ERR, "%s: %s%s%s", db->path, sqlite3_errstr(code), os ? ": " : "", os ? strerror(os) : "");
}

// Folders of the path that are missing, private to the user.
static bool make_folders(const char *path, char err[LEDGER_ERR]) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return true;
    char *folder = strndup(path, (size_t)(slash - path)), failed[128] = "";
    const int error = folder ? folder_make(folder, 0700, failed, sizeof failed) : ENOMEM;
    free(folder);
    if (error) snprintf(err, LEDGER_ERR, "%s: the folder %s cannot be made: %s", path, failed, strerror(error));
    return error == 0;
}

// Every SQLite file begins so. SQLite itself takes some files of a few bytes for empty ones and would write over them.
static bool check_magic(const char *path, char err[LEDGER_ERR]) {
    char head[16] = "";
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true; // SQLite finds better words
    const ssize_t got = read(fd, head, sizeof head);
    close(fd);
    if (got <= 0 || (got == sizeof head && memcmp(head, "SQLite format 3", sizeof head) == 0)) return true;
    snprintf(err, LEDGER_ERR, "%s: damaged, or no ledger; move it away and a new one is made", path);
    return false;
}

// SQLite gives its side files the permissions of this one, so it is made here.
static bool make_file(const char *path, char err[LEDGER_ERR]) {
    struct stat st;
    if (stat(path, &st) == 0) {
        if (S_ISREG(st.st_mode)) return check_magic(path, err);
        snprintf(err, LEDGER_ERR, "%s: not a regular file", path);
        return false;
    }
    if (!make_folders(path, err)) return false;
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) snprintf(err, LEDGER_ERR, "%s: cannot be made: %s", path, strerror(errno));
    else close(fd);
    return fd >= 0;
}

static int prepare_file(ledger_db *db, bool *foreign, char err[LEDGER_ERR]) {
    file_state state = {0};
    int code = read_state(db->sql, &state);
    if (code != SQLITE_OK) return code;
    *foreign = !accept_state(&state, db->path, err);
    if (*foreign) return SQLITE_OK;
    // In a WAL a commit needs no fsync (NORMAL): a kill loses nothing committed, a power cut may lose the last commits, never the file.
    // Of the file's pages 512 KiB stay in memory: a server's own memory is to be flat, and 2 MiB would fill up over ten thousand answers.
    code = run(db->sql, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=4194304; PRAGMA cache_size=-512");
    if (code == SQLITE_OK && state.version < LEDGER_SCHEMA) code = migrate(db->sql);
    return code;
}

// "INSERT INTO requests(id, ...) VALUES(?1, ...)" over the one list of columns.
#define FACT_NAME(name, declaration) #name ","
#define FACT_MARK(name, declaration) "?,"
#define ENERGY_NAMES(e) #e "_status," #e "_uj," #e "_bound_uj," #e "_low_uj," #e "_high_uj," #e "_reason,"
#define ENERGY_MARKS(e) "?,?,?,?,?,?,"
static const char insert_request[] = "INSERT INTO requests(" LEDGER_FACTS(FACT_NAME) LEDGER_ENERGIES(ENERGY_NAMES) "seq) VALUES("
    LEDGER_FACTS(FACT_MARK) LEDGER_ENERGIES(ENERGY_MARKS) "NULL)";
static const char insert_domain[] = "INSERT INTO domains(" LEDGER_DOMAIN_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?)";

bool ledger_db_open(ledger_db *db, const char *path, char err[LEDGER_ERR]) {
    *db = (ledger_db){.path = strdup(path)};
    bool foreign = false;
    if (!db->path) {
        snprintf(err, LEDGER_ERR, "out of memory");
        return false;
    }
    if (!make_file(path, err)) goto fail;
    int code = sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) code = sqlite3_busy_timeout(db->sql, BUSY_MS);
    for (int i = 0; code == SQLITE_OK; i++) {
        code = prepare_file(db, &foreign, err);
        if ((code & 0xff) != SQLITE_BUSY || i == OPEN_TRIES) break;
        sqlite3_sleep(20);
        code = SQLITE_OK;
    }
    if (foreign) goto fail;
    if (code == SQLITE_OK) code = sqlite3_prepare_v3(db->sql, insert_request, -1, SQLITE_PREPARE_PERSISTENT, &db->add_request, NULL);
    if (code == SQLITE_OK) code = sqlite3_prepare_v3(db->sql, insert_domain, -1, SQLITE_PREPARE_PERSISTENT, &db->add_domain, NULL);
    // Found now, not with the first entry: a folder or a file that may be read only.
    if (code == SQLITE_OK) code = run(db->sql, "BEGIN IMMEDIATE");
    if ((code & 0xff) == SQLITE_BUSY) return true; // somebody writes: so can we, later
    if (code == SQLITE_OK) code = run(db->sql, "ROLLBACK");
    if (code == SQLITE_OK) return true;
    ledger_db_explain(db, code, err);
fail:
    ledger_db_close(db);
    return false;
}

int ledger_db_open_read(ledger_db *db, const char *path, char err[LEDGER_ERR]) {
    struct stat st;
    *db = (ledger_db){0};
    if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR)) return 0;
    db->path = strdup(path);
    if (!db->path) {
        snprintf(err, LEDGER_ERR, "out of memory");
        return -1;
    }
    if (!check_magic(path, err)) {
        ledger_db_close(db);
        return -1;
    }
    file_state state = {0};
    bool accepted = false;
    // Not read-only: the reader may have to put a killed writer's log in order. SQLite falls back by itself where it may only read.
    int code = sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) code = sqlite3_busy_timeout(db->sql, 4 * BUSY_MS);
    if (code == SQLITE_OK) code = read_state(db->sql, &state);
    if (code != SQLITE_OK) ledger_db_explain(db, code, err);
    else accepted = accept_state(&state, path, err);
    if (accepted && state.version == LEDGER_SCHEMA) return 1;
    ledger_db_close(db);
    return accepted ? 0 : -1;
}

void ledger_db_close(ledger_db *db) {
    sqlite3_finalize(db->add_request);
    sqlite3_finalize(db->add_domain);
    sqlite3_close(db->sql);
    free(db->path);
    *db = (ledger_db){0};
}

// ---- Rows -------------------------------------------------------------------------------------------------------
int ledger_db_begin(ledger_db *db) { return run(db->sql, "BEGIN IMMEDIATE"); }
int ledger_db_commit(ledger_db *db) { return run(db->sql, "COMMIT"); }

void ledger_db_rollback(ledger_db *db) {
    if (!sqlite3_get_autocommit(db->sql)) run(db->sql, "ROLLBACK"); // some errors have rolled back already
}

// Binds parameter after parameter; the first failure stays.
typedef struct binder {
    sqlite3_stmt *stmt;
    int next, code;
} binder;

static void note(binder *b, int code) {
    if (b->code == SQLITE_OK) b->code = code;
}

static void put_text(binder *b, const char *text) {
    note(b, text ? sqlite3_bind_text(b->stmt, b->next, text, -1, SQLITE_STATIC) : sqlite3_bind_null(b->stmt, b->next));
    b->next++;
}

static void put_int(binder *b, bool known, int64_t value) {
    note(b, known ? sqlite3_bind_int64(b->stmt, b->next, value) : sqlite3_bind_null(b->stmt, b->next));
    b->next++;
}

static void put_count(binder *b, int64_t value) { put_int(b, value >= 0, value); }

static void put_energy(binder *b, const tel_energy *e) {
    const bool known = e->status != TEL_UNAVAILABLE;
    put_text(b, tel_status_name(e->status));
    put_int(b, known, (int64_t)e->energy_uj);
    put_int(b, known, (int64_t)e->bound_uj);
    put_int(b, known, (int64_t)e->low_uj);
    put_int(b, known, (int64_t)e->high_uj);
    put_text(b, known ? NULL : e->reason ? e->reason : "no reason was given");
}

static int finish(binder *b) {
    if (b->code == SQLITE_OK) b->code = sqlite3_step(b->stmt) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(sqlite3_db_handle(b->stmt));
    sqlite3_reset(b->stmt);
    sqlite3_clear_bindings(b->stmt);
    return b->code;
}

int ledger_db_add_request(ledger_db *db, const char *session, const ledger_request *r) {
    binder b = {.stmt = db->add_request, .next = 1};
    const tel_energy *total = &r->energy.total;
    const bool known = total->status != TEL_UNAVAILABLE;
    put_text(&b, r->id);
    put_int(&b, true, r->time_ms);
    const char *const texts[] = {session, r->kind, r->model, r->backend, r->outcome, r->user, r->conversation};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) put_text(&b, texts[i]);
    const int64_t counts[] = {r->new_tok,         r->cached_tok,     r->decoded_tok,          r->queue.wall_ns,    r->prefill.wall_ns,
                              r->decode.wall_ns,  r->prefill.cpu_ns, r->decode.cpu_ns,        r->prefill.weight_bytes,
                              r->prefill.kv_bytes, r->decode.weight_bytes, r->decode.kv_bytes};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) put_count(&b, counts[i]);
    put_int(&b, true, r->settled);
    put_text(&b, known ? tel_method_name(total->method) : NULL);
    put_text(&b, r->scopes ? r->scopes : known ? tel_scope_name(total->scope) : NULL);
    put_text(&b, r->sources ? r->sources : known ? total->source : NULL);
    note(&b, known ? sqlite3_bind_double(b.stmt, b.next, total->coverage_frac) : sqlite3_bind_null(b.stmt, b.next));
    b.next++;
    put_int(&b, known && total->resolution_ns && total->resolution_ns <= INT64_MAX, (int64_t)total->resolution_ns);
    put_int(&b, known, total->n_gaps);
#define PUT_ENERGY(e) put_energy(&b, &r->energy.e);
    LEDGER_ENERGIES(PUT_ENERGY)
#undef PUT_ENERGY
    return finish(&b);
}

int ledger_db_add_domain(ledger_db *db, const char *session, const ledger_domain *d) {
    binder b = {.stmt = db->add_domain, .next = 1};
    const char *const texts[] = {session, d->domain, tel_scope_name(d->scope), d->source, tel_status_name(d->status), tel_method_name(d->method)};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) put_text(&b, texts[i]);
    const int64_t figures[] = {d->from_ms, d->to_ms, (int64_t)d->source_uj, (int64_t)d->requests_uj, (int64_t)d->idle_uj,
                               (int64_t)d->unattributed_uj};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) put_int(&b, true, figures[i]);
    return finish(&b);
}
