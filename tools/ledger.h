// The energy ledger: every request of this user on this machine with its joules and how far they can be trusted. A SQLite file.
//
//     ledger *book;
//     char err[LEDGER_ERR];
//     if (!ledger_open(path, &book, err)) say(err);      // work goes on: the book then only counts what it loses
//     ledger_add_request(book, &request);                // after each request: copies, never waits
//     if (!ledger_close(&book, err) && *err) say(err);   // writes what is queued
//
// One thread per open ledger writes; entries are queued (bounded) and committed together at most 0.5 s later, so a process that is
// killed loses at most the last second. Several processes may write the same file at once. Trouble (full disk, no permission, a
// damaged file) costs entries, never the caller: they are counted as lost, and one sentence says why.
// Reading is in ledger_query.h, the file itself in ledger_db.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_LEDGER_H
#define WTL_TOOLS_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "telemetry/telemetry.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ledger ledger;

enum {
    LEDGER_ERR = 256,
    LEDGER_ID = 33,        // 128 random bits in hexadecimal, terminated
    LEDGER_QUEUE = 4096,   // entries that wait at most, besides those being written
    LEDGER_TEXT_MAX = 1024, // bytes of one text; longer ones are cut between characters
    LEDGER_UNKNOWN = -1,   // any negative count or time: stored as NULL
};
// Most that one figure may be: 2500 kWh, beyond any request, and exact in a double.
#define LEDGER_UJ_MAX (UINT64_C(1) << 53)

// Facts of one phase; none needs a meter.
typedef struct ledger_phase {
    int64_t wall_ns, cpu_ns;
    int64_t weight_bytes, kv_bytes; // streamed from memory
} ledger_phase;

// Zero-initialised energies are unavailable. Texts are borrowed for the call; NULL where there is none.
typedef struct ledger_request {
    const char *id;           // unique in the file; NULL: a random one
    int64_t time_ms;          // Unix time of its arrival; 0: now
    const char *kind;         // "run", "chat", "serve"
    const char *model, *backend;
    const char *outcome;      // "end", "stop", "length", "context", "interrupted", "aborted", "energy"
    const char *user;         // label of whom it was for
    const char *conversation;
    int64_t new_tok, cached_tok, decoded_tok; // new prompt tokens, prompt tokens from the cache, tokens decoded
    ledger_phase queue, prefill, decode;
    struct {
        tel_energy total;
        tel_energy dynamic, idle;          // total = dynamic + idle
        tel_energy queue, prefill, decode; // total by phase
        tel_energy new_prompt, cached;     // prefill by kind of token
        tel_energy avoided;                // counterfactual: the cached tokens as new ones
    } energy;
    const char *scopes, *sources; // of the total, comma separated; NULL: those of energy.total
    bool settled;                 // false: an estimate, the meter had not caught up
} ledger_request;

// Joules of one domain over an interval that follows on the last one booked: never cumulative.
typedef struct ledger_domain {
    const char *domain; // "package-0"
    tel_scope scope;
    tel_status status;
    tel_method method;
    const char *source;
    int64_t from_ms, to_ms; // Unix time
    uint64_t source_uj, requests_uj, idle_uj, unattributed_uj; // requests + idle + unattributed = source, exactly
} ledger_domain;

typedef struct ledger_counts {
    uint64_t n_added, n_written, n_lost; // added = written + lost + still queued
} ledger_counts;

// ---- Where it is ---------------------------------------------------------------------------------------------------
// `given` (an option; NULL or "": the default), else ${XDG_STATE_HOME:-~/.local/state}/wattle/ledger.db. *path is malloc'ed; NULL when
// `given` is "none" (the ledger is off) or there is no home directory. False: no home directory, or no memory; err says which.
bool ledger_path(const char *given, char **path, char err[LEDGER_ERR]);

// ---- Writing: every function accepts a NULL ledger and does nothing -------------------------------------------------
// Makes the file (0600) and missing folders (0700). path NULL: off, *out is NULL, true. False: err says why, and *out takes entries only
// to count them as lost (NULL when memory is short). Thread: any. May take milliseconds; a second while others make the same file.
bool ledger_open(const char *path, ledger **out, char err[LEDGER_ERR]);

// Queues a copy; never waits for the disk. False: lost (queue full, out of memory, a figure above LEDGER_UJ_MAX) and counted.
// Thread: any.
bool ledger_add_request(ledger *book, const ledger_request *request);
// The same for a domain's interval. One that does not add up is a defect of the caller: refused, err says by how much. err may be NULL.
bool ledger_add_domain(ledger *book, const ledger_domain *domain, char err[LEDGER_ERR]);

// Waits until what was added before has been written or lost, at most timeout_ms. False: not yet.
bool ledger_flush(ledger *book, int64_t timeout_ms);
// Writes what is queued (trying for at most two seconds when others hold the file), ends the thread, frees, nulls the pointer.
// False: entries were lost; err is the sentence, or "" where it was already given by ledger_open or ledger_trouble.
bool ledger_close(ledger **book, char err[LEDGER_ERR]);

ledger_counts ledger_count(ledger *book);
// True once, when the first entry was lost: text says why.
bool ledger_trouble(ledger *book, char text[LEDGER_ERR]);
const char *ledger_session(const ledger *book); // random id of this open ledger, in every row that it writes; "" for NULL
void ledger_new_id(char id[LEDGER_ID]);

#ifdef __cplusplus
}
#endif
#endif
