// The writing side of the ledger: a bounded queue and the one thread that empties it.
//
// An entry is one allocation: the record followed by its texts. Adding copies it under a mutex that the writer holds only to take the
// whole list, so callers never wait for the disk. The writer collects for BATCH_NS after the first entry and commits all of it at once.
// A locked file keeps the batch for another try; any other failure costs the batch, and the next one is tried again: disks get room.
// SPDX-License-Identifier: Apache-2.0
#include "tools/ledger.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "tools/folders.h"
#include "tools/ledger_db.h"

#define BATCH_NS UINT64_C(300000000)    // from the first entry to the commit: a kill loses less than half a second
#define CLOSING_NS UINT64_C(2000000000) // most that closing waits for others to let go of the file
enum { BATCH_ENTRIES = 512 };           // as many do not wait for the time

typedef struct entry {
    struct entry *next;
    bool is_domain;
    union {
        ledger_request request;
        ledger_domain domain;
    };
    char texts[];
} entry;

struct ledger {
    char session[LEDGER_ID];
    pthread_mutex_t mutex;
    pthread_cond_t wake, done; // of the writer; of who flushes
    pthread_t thread;
    bool running;              // the thread exists; else every entry is lost
    // Under the mutex:
    entry *head, **tail;
    size_t n_queued;           // in the list
    uint64_t first_ns;         // when the oldest of the list was added
    uint64_t n_taken, n_settled; // entries that went into the list; that left it, written or lost
    ledger_counts counts;
    bool hurry, stop;
    bool told;                 // the caller has heard why entries are lost
    uint64_t stop_ns;
    char trouble[LEDGER_ERR];  // why the first entry was lost
    // The writer's own:
    ledger_db db;
};

static uint64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static struct timespec at_ns(uint64_t ns) { return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)}; }

void ledger_new_id(char id[LEDGER_ID]) {
    unsigned char bytes[(LEDGER_ID - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) { // kernels without it: time and process keep ids apart
        const uint64_t seed[2] = {clock_ns(CLOCK_REALTIME), now_ns() ^ (uint64_t)(uintptr_t)id};
        memcpy(bytes, seed, sizeof bytes);
    }
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

// ---- Entries ----------------------------------------------------------------------------------------------------
#define TEXT_OF(member) offsetof(ledger_request, member)
static const size_t request_texts[] = {
    TEXT_OF(id),   TEXT_OF(kind),         TEXT_OF(model),  TEXT_OF(backend), TEXT_OF(outcome),
    TEXT_OF(user), TEXT_OF(conversation), TEXT_OF(scopes), TEXT_OF(sources),
#define TEXTS_OF_ENERGY(e) TEXT_OF(energy.e.source), TEXT_OF(energy.e.reason),
    LEDGER_ENERGIES(TEXTS_OF_ENERGY)
#undef TEXTS_OF_ENERGY
};
static const size_t domain_texts[] = {offsetof(ledger_domain, domain), offsetof(ledger_domain, source)};
enum { N_REQUEST_TEXTS = sizeof request_texts / sizeof request_texts[0], N_DOMAIN_TEXTS = sizeof domain_texts / sizeof domain_texts[0] };

static const char **text_at(void *record, size_t offset) { return (const char **)(void *)((char *)record + offset); }

// Length that is kept: whole UTF-8 characters of the first LEDGER_TEXT_MAX bytes.
static size_t text_length(const char *text) {
    size_t n = strnlen(text, LEDGER_TEXT_MAX + 1);
    if (n <= LEDGER_TEXT_MAX) return n;
    for (n = LEDGER_TEXT_MAX; n > LEDGER_TEXT_MAX - 4 && ((unsigned char)text[n] & 0xC0) == 0x80;) n--;
    return n;
}

// A copy of the record with its texts behind it. NULL: out of memory.
static entry *entry_new(const void *record, size_t size, bool is_domain, const size_t *texts, size_t n_texts) {
    size_t bytes = 0, lengths[N_REQUEST_TEXTS];
    for (size_t i = 0; i < n_texts; i++) {
        const char *text = *text_at((void *)(uintptr_t)record, texts[i]);
        lengths[i] = text ? text_length(text) : 0;
        bytes += lengths[i] + 1;
    }
    entry *e = malloc(sizeof *e + bytes);
    if (!e) return NULL;
    e->next = NULL;
    e->is_domain = is_domain;
    memcpy(&e->request, record, size); // both records begin there
    char *next = e->texts;
    for (size_t i = 0; i < n_texts; i++) {
        const char **text = text_at(&e->request, texts[i]);
        if (!*text) continue;
        memcpy(next, *text, lengths[i]);
        next[lengths[i]] = '\0';
        *text = next;
        next += lengths[i] + 1;
    }
    return e;
}

static void free_entries(entry *e) {
    while (e) {
        entry *next = e->next;
        free(e);
        e = next;
    }
}

// ---- The writer -------------------------------------------------------------------------------------------------
static void note_loss(ledger *book, uint64_t n, const char *why) { // under the mutex
    book->counts.n_lost += n;
    if (!*book->trouble) snprintf(book->trouble, LEDGER_ERR, "%s", why);
}

// One transaction. Rows that are refused by themselves are left out and counted; SQLITE_OK: the others are in the file.
static int write_once(ledger *book, const entry *batch, uint64_t *n_refused, char why[LEDGER_ERR]) {
    *n_refused = 0;
    int code = ledger_db_begin(&book->db);
    for (const entry *e = batch; e && code == SQLITE_OK; e = e->next) {
        code = e->is_domain ? ledger_db_add_domain(&book->db, book->session, &e->domain)
                            : ledger_db_add_request(&book->db, book->session, &e->request);
        if ((code & 0xff) != SQLITE_CONSTRAINT) continue;
        ledger_db_explain(&book->db, code, why);
        ++*n_refused;
        code = SQLITE_OK;
    }
    if (code == SQLITE_OK) code = ledger_db_commit(&book->db);
    if (code != SQLITE_OK) {
        ledger_db_explain(&book->db, code, why);
        ledger_db_rollback(&book->db);
    }
    return code;
}

static bool out_of_patience(ledger *book) {
    pthread_mutex_lock(&book->mutex);
    const bool late = book->stop && now_ns() - book->stop_ns > CLOSING_NS;
    pthread_mutex_unlock(&book->mutex);
    return late;
}

// Waits for entries, and for more of them to commit together. False: closing, and nothing is left. Holds the mutex.
static bool wait_for_batch(ledger *book) {
    while (!book->head && !book->stop) pthread_cond_wait(&book->wake, &book->mutex);
    if (!book->head) return false;
    const struct timespec until = at_ns(book->first_ns + BATCH_NS);
    while (!book->stop && !book->hurry && book->n_queued < BATCH_ENTRIES)
        if (pthread_cond_timedwait(&book->wake, &book->mutex, &until) == ETIMEDOUT) break;
    return true;
}

static void *writer_main(void *arg) {
    ledger *book = arg;
    pthread_mutex_lock(&book->mutex);
    while (wait_for_batch(book)) {
        entry *batch = book->head;
        const size_t n = book->n_queued;
        book->head = NULL;
        book->tail = &book->head;
        book->n_queued = 0;
        book->hurry = false;
        pthread_mutex_unlock(&book->mutex);

        char why[LEDGER_ERR] = "";
        uint64_t n_refused = 0;
        int code = write_once(book, batch, &n_refused, why);
        while ((code & 0xff) == SQLITE_BUSY && !out_of_patience(book)) code = write_once(book, batch, &n_refused, why);
        free_entries(batch);

        pthread_mutex_lock(&book->mutex);
        const uint64_t lost = code == SQLITE_OK ? n_refused : n;
        if (lost) note_loss(book, lost, why);
        book->counts.n_written += n - lost;
        book->n_settled += n;
        pthread_cond_broadcast(&book->done);
    }
    pthread_mutex_unlock(&book->mutex);
    return NULL;
}

// Signals belong to the threads of the program.
static bool start_writer(ledger *book) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    book->running = pthread_create(&book->thread, NULL, writer_main, book) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return book->running;
}

// ---- Opening and closing ----------------------------------------------------------------------------------------
bool ledger_path(const char *given, char **path, char err[LEDGER_ERR]) {
    *path = NULL;
    if (given && strcmp(given, "none") == 0) return true;
    char *state = folder_state();
    int n = -1;
    if (given && *given) n = asprintf(path, "%s", given);
    else if (state) n = asprintf(path, "%s/ledger.db", state);
    free(state);
    if (n < 0 && !state && !(given && *given)) {
        snprintf(err, LEDGER_ERR, "no home directory for the ledger: name a file with --ledger, or --ledger none");
        return false;
    }
    if (n >= 0) return true;
    *path = NULL;
    snprintf(err, LEDGER_ERR, "out of memory");
    return false;
}

bool ledger_open(const char *path, ledger **out, char err[LEDGER_ERR]) {
    *out = NULL;
    *err = '\0';
    if (!path) return true;
    ledger *book = calloc(1, sizeof *book);
    if (!book) {
        snprintf(err, LEDGER_ERR, "out of memory for the ledger");
        return false;
    }
    ledger_new_id(book->session);
    book->tail = &book->head;
    pthread_mutex_init(&book->mutex, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&book->wake, &attr);
    pthread_cond_init(&book->done, &attr);
    pthread_condattr_destroy(&attr);
    *out = book;
    if (ledger_db_open(&book->db, path, err)) {
        if (start_writer(book)) return true;
        ledger_db_close(&book->db);
        snprintf(err, LEDGER_ERR, "%s: no thread can be started to write it", path);
    }
    snprintf(book->trouble, LEDGER_ERR, "%s", err);
    book->told = true;
    return false;
}

bool ledger_close(ledger **ledger_, char err[LEDGER_ERR]) {
    *err = '\0';
    ledger *book = *ledger_;
    if (!book) return true;
    *ledger_ = NULL;
    pthread_mutex_lock(&book->mutex);
    book->stop = true;
    book->stop_ns = now_ns();
    pthread_cond_signal(&book->wake);
    pthread_mutex_unlock(&book->mutex);
    if (book->running) pthread_join(book->thread, NULL);
    const ledger_counts counts = book->counts;
    if (counts.n_lost && !book->told)
        snprintf(err, LEDGER_ERR, "%llu of %llu entries did not reach the ledger: %.180s", (unsigned long long)counts.n_lost,
                 (unsigned long long)counts.n_added, book->trouble);
    ledger_db_close(&book->db);
    pthread_cond_destroy(&book->wake);
    pthread_cond_destroy(&book->done);
    pthread_mutex_destroy(&book->mutex);
    free(book);
    return counts.n_lost == 0;
}

// ---- Adding -----------------------------------------------------------------------------------------------------
// Takes over the entry; NULL: it was refused, `why` says so.
static bool add(ledger *book, entry *e, const char *why) {
    pthread_mutex_lock(&book->mutex);
    book->counts.n_added++;
    const bool room = book->n_queued < LEDGER_QUEUE;
    if (!e || !room || !book->running) {
        note_loss(book, 1, why ? why : "the file cannot be written as fast as requests end");
        pthread_mutex_unlock(&book->mutex);
        free(e);
        return false;
    }
    *book->tail = e;
    book->tail = &e->next;
    book->n_taken++;
    if (book->n_queued++ == 0) book->first_ns = now_ns();
    if (book->n_queued == 1 || book->n_queued == BATCH_ENTRIES) pthread_cond_signal(&book->wake);
    pthread_mutex_unlock(&book->mutex);
    return true;
}

static bool energy_fits(const tel_energy *e) {
    if (e->status == TEL_UNAVAILABLE) return true;
    return e->energy_uj <= LEDGER_UJ_MAX && e->bound_uj <= LEDGER_UJ_MAX && e->low_uj <= LEDGER_UJ_MAX && e->high_uj <= LEDGER_UJ_MAX;
}

bool ledger_add_request(ledger *book, const ledger_request *request) {
    if (!book) return false;
#define FITS(e) energy_fits(&request->energy.e) &&
    const bool fits = LEDGER_ENERGIES(FITS) true;
#undef FITS
    if (!fits) return add(book, NULL, "a request with more than 2500 kWh was refused");
    ledger_request r = *request;
    char id[LEDGER_ID];
    if (!r.id) {
        ledger_new_id(id);
        r.id = id;
    }
    if (!r.time_ms) r.time_ms = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000u);
    entry *e = entry_new(&r, sizeof r, false, request_texts, N_REQUEST_TEXTS);
    return add(book, e, e ? NULL : "out of memory");
}

bool ledger_add_domain(ledger *book, const ledger_domain *d, char err[LEDGER_ERR]) {
    char own[LEDGER_ERR];
    if (!err) err = own;
    *err = '\0';
    if (!book) return false;
    const char *name = d->domain ? d->domain : "";
    const uint64_t most = LEDGER_UJ_MAX;
    if (!*name || d->to_ms < d->from_ms) {
        snprintf(err, LEDGER_ERR, "ledger: a domain's entry needs a name, and an end that is not before its beginning");
    } else if (d->source_uj > most || d->requests_uj > most || d->idle_uj > most || d->unattributed_uj > most) {
        snprintf(err, LEDGER_ERR, "ledger: %.64s: more than 2500 kWh in one entry", name);
    } else if (d->requests_uj + d->idle_uj + d->unattributed_uj != d->source_uj) {
        snprintf(err, LEDGER_ERR, "ledger: %.64s: requests + idle + unattributed differ from the source by %lld uJ", name,
                 (long long)(d->requests_uj + d->idle_uj + d->unattributed_uj) - (long long)d->source_uj);
    }
    if (*err) return add(book, NULL, err);
    entry *e = entry_new(d, sizeof *d, true, domain_texts, N_DOMAIN_TEXTS);
    return add(book, e, e ? NULL : "out of memory");
}

bool ledger_flush(ledger *book, int64_t timeout_ms) {
    if (!book) return true;
    const struct timespec until = at_ns(now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u);
    pthread_mutex_lock(&book->mutex);
    const uint64_t target = book->n_taken;
    bool in_time = true;
    while (book->n_settled < target && in_time) {
        book->hurry = true;
        pthread_cond_signal(&book->wake);
        in_time = pthread_cond_timedwait(&book->done, &book->mutex, &until) != ETIMEDOUT;
    }
    const bool settled = book->n_settled >= target;
    pthread_mutex_unlock(&book->mutex);
    return settled;
}

ledger_counts ledger_count(ledger *book) {
    if (!book) return (ledger_counts){0};
    pthread_mutex_lock(&book->mutex);
    const ledger_counts counts = book->counts;
    pthread_mutex_unlock(&book->mutex);
    return counts;
}

bool ledger_trouble(ledger *book, char text[LEDGER_ERR]) {
    *text = '\0';
    if (!book) return false;
    pthread_mutex_lock(&book->mutex);
    const bool news = book->counts.n_lost && !book->told;
    if (news) {
        snprintf(text, LEDGER_ERR, "%s", book->trouble);
        book->told = true;
    }
    pthread_mutex_unlock(&book->mutex);
    return news;
}

const char *ledger_session(const ledger *book) { return book ? book->session : ""; }
