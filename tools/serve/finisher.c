// The finisher's thread. See finisher.h.
//
// New endings come through a locked inbox; those that wait are the thread's own list, so that no caller ever waits for a meter, for SQLite or
// for a reader. While an answer waits for its joules it asks the meter for readings and looks whenever one has been booked, when the answer has
// waited long enough, and 5 times a second at least (4 times for endings whose last bytes have left); else it sleeps.
// It is the only user of the energy desk between opening and closing.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/finisher.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/energy_json.h"
#include "tools/serve/energies.h"
#include "tools/serve/metrics.h"
#include "tools/serve/server_log.h"

static const uint64_t LOOK_NS = 200000000, LATE_LOOK_NS = 250000000;
// runtime/energy.h settles the joules of a request that others keep open after 30 s.
static const uint64_t LATE_NS = 35000000000u;

typedef struct ending {
    server_outcome outcome; // its strings are own copies
    server_done done;
    void *user;
    uint64_t since_ns;
    bool told; // the last bytes have left
    struct ending *next;
} ending;

typedef struct server_finisher {
    server *s;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t news;
    ending *inbox, **inbox_end;
    bool stop;
    bool urgent;                    // it sleeps until joules have been booked
    ending *waiting, **waiting_end; // the thread's own
    _Atomic size_t n_pending;       // not told yet
} server_finisher;

static void ending_free(ending *e) {
    free((char *)e->outcome.user);
    free((char *)e->outcome.conversation);
    free((char *)e->outcome.peer);
    free(e);
}

// ---- Figures -------------------------------------------------------------------------------------------------------------------------
static void absent(const server_outcome *o, const char *reason, wtl_energy_report *out) {
    *out = (wtl_energy_report){.settled = true};
    tel_energy *all[] = {&out->total, &out->dynamic, &out->idle, &out->queue.energy, &out->queue.dynamic, &out->queue.idle, &out->prefill.energy,
                         &out->prefill.dynamic, &out->prefill.idle, &out->decode.energy, &out->decode.dynamic, &out->decode.idle, &out->new_prompt,
                         &out->cached, &out->avoided};
    for (size_t i = 0; i < CLI_COUNT(all); i++) *all[i] = tel_energy_unavailable(reason, NULL);
    out->prefill.n_tok = o->facts.n_prefilled_tok;
    out->prefill.n_cached_tok = o->facts.n_cached_tok;
    out->decode.n_tok = o->facts.n_decoded_tok;
    const uint64_t until = o->facts.started_ns ? o->facts.started_ns : cli_now_ns();
    if (o->facts.arrived_ns && until > o->facts.arrived_ns) out->queue.wall_ns = until - o->facts.arrived_ns;
}

static void report_of(const server *s, const server_outcome *o, wtl_energy_report *out) {
    if (!o->facts.energy && !o->facts.started_ns) absent(o, "the request ended before anything ran for it", out);
    else if (!s->desk.energy || !o->facts.energy || !wtl_energy_report_of(s->desk.energy, o->facts.energy, out))
        absent(o, "the joules of this request were not recorded: out of memory", out);
}

static bool is_settled(const server *s, const server_outcome *o) {
    return !s->desk.energy || !o->facts.energy || wtl_energy_settle(s->desk.energy, o->facts.energy, 0);
}

// How long it waits for its joules: not at all where the meter has stopped resolving any.
static uint64_t patience_of(const server *s, const ending *e) {
    if (e->told) return LATE_NS;
    const uint64_t request = e->outcome.facts.energy;
    const bool stalled = s->desk.energy && request && wtl_energy_stalled(s->desk.energy, request);
    return stalled ? 0 : (uint64_t)(s->options.settle_ms * 1e6);
}

static json_t *per_kwh(const tel_energy *e, double each) {
    return e->status == TEL_UNAVAILABLE ? json_null() : json_real((double)e->energy_uj / 3.6e12 * each);
}

// Cached tokens are priced at what attending to them took; everything else is new.
static json_t *cost_json(const server *s, const wtl_energy_report *r) {
    tel_energy cached = r->cached, fresh = r->total;
    if (r->prefill.n_cached_tok == 0 && fresh.status != TEL_UNAVAILABLE) cached = (tel_energy){.status = fresh.status};
    if (cached.status == TEL_UNAVAILABLE) fresh = cached;
    fresh.energy_uj -= cached.energy_uj < fresh.energy_uj ? cached.energy_uj : fresh.energy_uj;
    const double price = s->options.price_per_kwh;
    return json_pack("{s:s, s:o, s:o, s:o}", "currency", s->options.currency ? s->options.currency : "", "new", per_kwh(&fresh, price), "cached",
                     per_kwh(&cached, price), "total", per_kwh(&r->total, price));
}

json_t *server_energy_json(server *s, const wtl_energy_report *r) {
    json_t *object = energy_json(r, s->desk.meter);
    if (!object) return NULL;
    const double carbon = s->options.carbon_gco2e_per_kwh;
    if (s->options.price_per_kwh > 0) json_object_set_new(object, "cost", cost_json(s, r));
    if (carbon > 0)
        json_object_set_new(object, "carbon", json_pack("{s:o, s:f, s:s}", "gco2e", per_kwh(&r->total, carbon), "intensity_gco2e_per_kwh", carbon, "source", "user setting"));
    return object;
}

// ---- The log line --------------------------------------------------------------------------------------------------------------------
static double ms_between(uint64_t from_ns, uint64_t to_ns) { return from_ns && to_ns >= from_ns ? (double)(to_ns - from_ns) / 1e6 : (double)NAN; }

static void log_joules(server_log_line *line, const wtl_energy_report *r) {
    const tel_energy *e = &r->total;
    const bool known = e->status != TEL_UNAVAILABLE;
    server_log_text(line, "energy", tel_status_name(e->status));
    server_log_real(line, "joules", known ? (double)e->energy_uj / 1e6 : (double)NAN, 6);
    if (known) {
        server_log_real(line, "bound_joules", (double)e->bound_uj / 1e6, 6);
        server_log_bool(line, "settled", r->settled);
    } else {
        server_log_text(line, "reason", e->reason);
    }
}

static void log_answer(const server *s, const server_outcome *o, const wtl_energy_report *r) {
    const wtl_batch_facts *f = &o->facts;
    server_log_line line;
    server_log_begin(&line, s->options.log_json, "answer");
    server_log_text(&line, "id", o->id);
    server_log_text(&line, "peer", o->peer);
    server_log_text(&line, "kind", o->kind);
    server_log_text(&line, "finish", o->finish);
    if (o->user) server_log_text(&line, "user", o->user);
    server_log_int(&line, "prompt", f->n_prompt_tok);
    server_log_int(&line, "cached", f->n_cached_tok);
    server_log_int(&line, "decoded", f->n_decoded_tok);
    server_log_real(&line, "queue_ms", ms_between(f->arrived_ns, f->started_ns), 1);
    server_log_real(&line, "ttft_ms", ms_between(f->arrived_ns, f->first_token_ns), 1);
    server_log_real(&line, "total_ms", ms_between(f->arrived_ns, f->last_token_ns ? f->last_token_ns : cli_now_ns()), 1);
    const double decode_ms = ms_between(f->first_token_ns, f->last_token_ns);
    server_log_real(&line, "tok_per_s", f->n_decoded_tok > 1 && decode_ms > 0 ? (f->n_decoded_tok - 1) * 1e3 / decode_ms : (double)NAN, 1);
    log_joules(&line, r);
    if (f->n_pauses) {
        server_log_int(&line, "pauses", f->n_pauses);
        server_log_int(&line, "reread", f->n_reread_tok);
    }
    if (s->options.verbose) {
        if (o->conversation) server_log_text(&line, "conversation", o->conversation);
        server_log_real(&line, "prefill_ms", (double)r->prefill.busy_ns / 1e6, 1);
        server_log_real(&line, "decode_ms", (double)r->decode.busy_ns / 1e6, 1);
        server_log_real(&line, "cpu_s", (double)(r->prefill.cpu_ns + r->decode.cpu_ns) / 1e9, 3);
        server_log_int(&line, "dropped_stamps", r->dropped_stamps);
    }
    server_log_end(&line);
}

// ---- One ending ----------------------------------------------------------------------------------------------------------------------
static void keep_energy(server *s, const server_outcome *o, const wtl_energy_report *r) {
    json_t *object = server_energy_json(s, r);
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(object);
    if (text) server_energies_put(s->energies, o->id, 0, text);
}

static void tell(server_finisher *f, ending *e, const wtl_energy_report *r, bool settled) {
    server *s = f->s;
    if (settled) keep_energy(s, &e->outcome, r);
    else server_energies_put(s->energies, e->outcome.id, e->outcome.facts.energy, NULL);
    server_metrics_answer(s->metrics, &e->outcome);
    log_answer(s, &e->outcome, r);
    if (e->done) e->done(e->user, r);
    e->told = true;
    atomic_fetch_sub(&f->n_pending, 1);
}

static void book(server *s, const server_outcome *o, const wtl_energy_report *r) {
    const char *slash = s->model_path ? strrchr(s->model_path, '/') : NULL;
    const energy_desk_entry entry = {.kind = "serve", .model = slash ? slash + 1 : s->model_path, .backend = s->engine ? wtl_engine_describe(s->engine).backend : NULL,
                                     .outcome = o->finish, .conversation = o->conversation, .arrived_ms = o->arrived_ms, .id = *o->id ? o->id : NULL, .user = o->user};
    energy_desk_book(&s->desk, &entry, r);
    if (s->desk.energy && o->facts.energy) wtl_energy_forget(s->desk.energy, o->facts.energy);
}

// True: nothing is left to do for it.
static bool attend(server_finisher *f, ending *e, uint64_t now_ns, bool stop) {
    const bool settled = is_settled(f->s, &e->outcome), told_before = e->told;
    const uint64_t patience_ns = patience_of(f->s, e);
    const bool last = settled || stop || (e->told && now_ns - e->since_ns >= patience_ns);
    if (!last && (e->told || now_ns - e->since_ns < patience_ns)) return false;
    wtl_energy_report report;
    report_of(f->s, &e->outcome, &report);
    if (last) server_metrics_joules(f->s->metrics, &report); // who has read the answer finds it counted
    if (!e->told) tell(f, e, &report, last);
    if (!last) return false;
    if (told_before) keep_energy(f->s, &e->outcome, &report);
    book(f->s, &e->outcome, &report);
    return true;
}

// ---- The thread ----------------------------------------------------------------------------------------------------------------------
static void attend_all(server_finisher *f, bool stop) {
    const uint64_t now_ns = cli_now_ns();
    f->waiting_end = &f->waiting;
    for (ending *e = f->waiting; e;) {
        ending *next = e->next;
        if (attend(f, e, now_ns, stop)) {
            ending_free(e);
        } else {
            *f->waiting_end = e;
            f->waiting_end = &e->next;
        }
        e = next;
    }
    *f->waiting_end = NULL;
}

// With the lock. Sleeps until there is something to look at; true: the end was asked for.
static bool wait_for_news(server_finisher *f) {
    while (!f->waiting && !f->inbox && !f->stop) pthread_cond_wait(&f->news, &f->mutex);
    if (f->inbox || f->stop) return f->stop;
    const uint64_t now_ns = cli_now_ns(), settle_ns = (uint64_t)(f->s->options.settle_ms * 1e6);
    uint64_t at_ns = now_ns + LATE_LOOK_NS;
    for (const ending *e = f->waiting; e; e = e->next) {
        if (e->told) continue;
        f->urgent = true;
        if (at_ns > now_ns + LOOK_NS) at_ns = now_ns + LOOK_NS;
        if (at_ns > e->since_ns + settle_ns) at_ns = e->since_ns + settle_ns;
    }
    if (f->urgent && f->s->desk.meter) tel_meter_poke(f->s->desk.meter);
    const struct timespec at = {(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};
    pthread_cond_timedwait(&f->news, &f->mutex, &at);
    f->urgent = false;
    return f->stop;
}

void server_finisher_booked(void *finisher) {
    server_finisher *f = finisher;
    pthread_mutex_lock(&f->mutex);
    if (f->urgent) pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->mutex);
}

static void *finisher_main(void *user) {
    server_finisher *f = user;
    for (bool stop = false; !stop || f->waiting;) {
        pthread_mutex_lock(&f->mutex);
        if (!stop) stop = wait_for_news(f);
        *f->waiting_end = f->inbox;
        f->inbox = NULL;
        f->inbox_end = &f->inbox;
        pthread_mutex_unlock(&f->mutex);
        attend_all(f, stop);
    }
    return NULL;
}

bool server_finisher_open(server *s) {
    server_finisher *f = calloc(1, sizeof *f);
    if (!f) return false;
    pthread_condattr_t monotonic;
    f->s = s;
    f->inbox_end = &f->inbox;
    f->waiting_end = &f->waiting;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&f->thread, NULL, finisher_main, f) == 0) {
        s->finisher = f;
        return true;
    }
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    return false;
}

void server_finisher_close(server *s) {
    server_finisher *f = s->finisher;
    if (!f) return;
    if (s->desk.energy) wtl_energy_on_booked(s->desk.energy, NULL, NULL);
    pthread_mutex_lock(&f->mutex);
    f->stop = true;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->mutex);
    pthread_join(f->thread, NULL);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    s->finisher = NULL;
}

size_t server_finisher_pending(server_finisher *f) { return f ? atomic_load(&f->n_pending) : 0; }

void server_finish(server *s, const server_outcome *outcome, server_done done, void *user) {
    server_finisher *f = s->finisher;
    ending *e = calloc(1, sizeof *e);
    if (!e) {
        wtl_energy_report report;
        absent(outcome, "out of memory for this request's energy", &report);
        if (done) done(user, &report);
        return;
    }
    *e = (ending){.outcome = *outcome, .done = done, .user = user, .since_ns = cli_now_ns()};
    // When memory is short a label is lost, and the answer is not.
    e->outcome.user = outcome->user ? strdup(outcome->user) : NULL;
    e->outcome.conversation = outcome->conversation ? strdup(outcome->conversation) : NULL;
    e->outcome.peer = outcome->peer ? strdup(outcome->peer) : NULL;
    atomic_fetch_add(&f->n_pending, 1);
    pthread_mutex_lock(&f->mutex);
    *f->inbox_end = e;
    f->inbox_end = &e->next;
    pthread_cond_signal(&f->news);
    pthread_mutex_unlock(&f->mutex);
}
