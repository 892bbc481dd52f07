// The energy object: opening, the step call, requests, totals. Reports are in energy_report.c, booking in energy_interval.c.
// SPDX-License-Identifier: Apache-2.0
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/energy_private.h"

enum { STAMPS_DEFAULT = 65536 };

struct energy_hot {
    uint64_t cpu_last_ns;           // at the last step; the stepping thread's
    _Atomic uint64_t cpu_mark_ns;   // when work began after a pause: CPU time before it belongs to nobody
};

static const uint64_t SETTLE_POLL_NS = 20000000;

wtl_status energy_open(const energy_setup *setup, wtl_energy **out, wtl_error *err) {
    *out = NULL;
    pthread_condattr_t attributes;
    wtl_energy *e = wtl_calloc(1, sizeof *e);
    if (!e) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the energy of requests");
    pthread_mutex_init(&e->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->booked, &attributes);
    pthread_condattr_destroy(&attributes);
    e->no_meter = setup->no_meter ? setup->no_meter : "there is no energy meter";
    e->no_meter_fix = setup->no_meter_fix;
    e->hot = wtl_calloc(1, sizeof *e->hot);
    e->fit_key = wtl_strndup(setup->fit_key ? setup->fit_key : "", setup->fit_key ? strlen(setup->fit_key) : 0);
    if (setup->fit_path) e->fit_path = wtl_strndup(setup->fit_path, strlen(setup->fit_path));
    const bool strings = e->hot && e->fit_key && (e->fit_path || !setup->fit_path);
    if (!strings || !energy_book_init(&e->book, &setup->machine, &setup->shape, setup->n_stamps ? setup->n_stamps : STAMPS_DEFAULT)) {
        wtl_energy_close(&e);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the energy of requests");
    }
    if (e->fit_path) energy_store_load(e->fit_path, e->fit_key, &e->book);
    *out = e;
    return WTL_OK;
}

void wtl_energy_close(wtl_energy **energy) {
    if (!energy || !*energy) return;
    wtl_energy *e = *energy;
    if (e->detach) e->detach(e->detach_user);
    if (e->book.ring) {
        energy_book_run(&e->book);
        for (size_t d = 0; d < e->book.machine.n_domains; d++) // a quiet stretch that is still being measured is better than none
            if (!e->book.domains[d].idle.n) energy_idle_break(&e->book.domains[d].idle, e->book.domains[d].from.t_ns);
        if (e->fit_path) energy_store_save(e->fit_path, e->fit_key, &e->book); // a fit that cannot be kept is learned again
    }
    energy_book_free(&e->book);
    pthread_cond_destroy(&e->booked);
    pthread_mutex_destroy(&e->mutex);
    wtl_free(e->hot);
    wtl_free(e->fit_path);
    wtl_free(e->fit_key);
    wtl_free(e);
    *energy = NULL;
}

void energy_on_poll(void *energy) {
    wtl_energy *e = energy;
    pthread_mutex_lock(&e->mutex);
    energy_book_run(&e->book);
    pthread_cond_broadcast(&e->booked);
    if (e->call) e->call(e->call_user);
    pthread_mutex_unlock(&e->mutex);
}

void wtl_energy_on_booked(wtl_energy *e, void (*call)(void *user), void *user) {
    pthread_mutex_lock(&e->mutex); // waits for a call that is running
    e->call = call;
    e->call_user = user;
    pthread_mutex_unlock(&e->mutex);
}

uint64_t wtl_energy_begin(wtl_energy *e, const wtl_energy_request *request) {
    wtl_energy_request r = *request;
    if (!r.arrived_ns) r.arrived_ns = e->book.machine.now_ns(e->book.machine.user);
    if (r.n_prompt_tok < 0) r.n_prompt_tok = 0;
    if (r.n_cached_tok < 0) r.n_cached_tok = 0;
    if (r.n_cached_tok > r.n_prompt_tok) r.n_cached_tok = r.n_prompt_tok;
    pthread_mutex_lock(&e->mutex);
    if (!e->book.n_active) atomic_store_explicit(&e->hot->cpu_mark_ns, wtl_cpu_time_ns(), memory_order_relaxed);
    const energy_entry *entry = energy_book_begin(&e->book, &r);
    const uint64_t id = entry ? entry->id : 0;
    pthread_mutex_unlock(&e->mutex);
    return id;
}

void wtl_energy_step_begin(wtl_energy *e) {
    if (e->book.machine.n_domains) energy_ring_start(e->book.ring, e->book.machine.now_ns, e->book.machine.user);
}

void wtl_energy_step(wtl_energy *e, const wtl_step_work *work, const uint64_t *requests) {
    if (work->n_seqs < 1) { // the step failed: nothing ran to its end
        energy_ring_fail(e->book.ring);
        return;
    }
    energy_hot *hot = e->hot;
    const uint64_t cpu = wtl_cpu_time_ns(), mark = atomic_load_explicit(&hot->cpu_mark_ns, memory_order_relaxed);
    const uint64_t since = hot->cpu_last_ns > mark ? hot->cpu_last_ns : mark;
    hot->cpu_last_ns = cpu;
    energy_ring_push(e->book.ring, work, requests, cpu > since ? cpu - since : 0);
    // Without a meter no thread drains the ring: this one does, when nobody holds the lock.
    if (!e->book.machine.n_domains && energy_ring_fill(e->book.ring) > 0.5 && !pthread_mutex_trylock(&e->mutex)) {
        energy_book_ingest(&e->book);
        pthread_mutex_unlock(&e->mutex);
    }
}

void wtl_energy_rejected(wtl_energy *e, uint64_t request, int32_t n_tok) {
    pthread_mutex_lock(&e->mutex);
    energy_entry *entry = energy_book_find(&e->book, request);
    if (entry) entry->n_rejected_tok += n_tok;
    pthread_mutex_unlock(&e->mutex);
}

void wtl_energy_end(wtl_energy *e, uint64_t request) {
    pthread_mutex_lock(&e->mutex);
    energy_entry *entry = energy_book_find(&e->book, request);
    if (entry) energy_book_end(&e->book, entry);
    pthread_mutex_unlock(&e->mutex);
}

void wtl_energy_forget(wtl_energy *e, uint64_t request) {
    pthread_mutex_lock(&e->mutex);
    energy_book_ingest(&e->book);
    energy_entry *entry = energy_book_find(&e->book, request);
    if (entry) energy_book_forget(&e->book, entry);
    pthread_mutex_unlock(&e->mutex);
}

static uint64_t last_step_ns(const energy_entry *entry) {
    const uint64_t decode = entry->facts[ENERGY_DECODE].last_ns, prefill = entry->facts[ENERGY_PREFILL].last_ns;
    return decode > prefill ? decode : prefill;
}

bool energy_entry_settled(const energy_book *b, const energy_entry *entry) {
    const uint64_t last = last_step_ns(entry);
    for (size_t d = 0; d < b->machine.n_domains; d++)
        if (last > b->domains[d].totals.until_ns) return false;
    return entry->ended;
}

bool energy_entry_stalled(const energy_book *b, const energy_entry *entry) {
    const uint64_t last = last_step_ns(entry);
    bool owes = false;
    if (!entry->ended || !b->machine.stalled) return false;
    for (size_t d = 0; d < b->machine.n_domains; d++) {
        if (last <= b->domains[d].totals.until_ns) continue;
        if (!b->machine.stalled(b->machine.user, d, last)) return false;
        owes = true;
    }
    return owes;
}

bool wtl_energy_settle(wtl_energy *e, uint64_t request, uint64_t timeout_ns) {
    const uint64_t give_up = wtl_clock_ns() + timeout_ns;
    bool settled;
    pthread_mutex_lock(&e->mutex);
    for (;;) {
        energy_book_ingest(&e->book);
        const energy_entry *entry = energy_book_find(&e->book, request);
        settled = entry && energy_entry_settled(&e->book, entry);
        const uint64_t now = wtl_clock_ns();
        if (settled || !entry || now >= give_up || energy_entry_stalled(&e->book, entry)) break;
        if (e->book.machine.poke) e->book.machine.poke(e->book.machine.user);
        uint64_t until = now + SETTLE_POLL_NS;
        if (until > give_up) until = give_up;
        const struct timespec at = {(time_t)(until / 1000000000), (long)(until % 1000000000)};
        pthread_cond_timedwait(&e->booked, &e->mutex, &at);
    }
    pthread_mutex_unlock(&e->mutex);
    return settled;
}

bool wtl_energy_stalled(wtl_energy *e, uint64_t request) {
    pthread_mutex_lock(&e->mutex);
    energy_book_ingest(&e->book);
    const energy_entry *entry = energy_book_find(&e->book, request);
    const bool stalled = entry && energy_entry_stalled(&e->book, entry);
    pthread_mutex_unlock(&e->mutex);
    return stalled;
}

wtl_energy_totals wtl_energy_totals_of(wtl_energy *e, size_t domain) {
    wtl_energy_totals out = {0};
    pthread_mutex_lock(&e->mutex);
    if (domain < e->book.machine.n_domains) out = e->book.domains[domain].totals;
    pthread_mutex_unlock(&e->mutex);
    return out;
}

wtl_energy_fit wtl_energy_fit_of(wtl_energy *e, size_t domain) {
    wtl_energy_fit out = {0};
    pthread_mutex_lock(&e->mutex);
    if (domain < e->book.machine.n_domains) {
        const energy_domain *d = &e->book.domains[domain];
        const energy_idle_value idle = energy_idle_of(&d->idle, e->book.machine.now_ns(e->book.machine.user));
        double error[ENERGY_TERMS];
        for (size_t j = 0; j < ENERGY_TERMS; j++) {
            double unit[ENERGY_TERMS] = {0};
            unit[j] = 1;
            error[j] = d->model.theta[j] > 0 ? energy_model_sd(&d->model, unit) / d->model.theta[j] : 0;
        }
        out = (wtl_energy_fit){.uj_per_gb = d->model.theta[0],
                               .uj_per_gmac = d->model.theta[1],
                               .uj_per_kv_gb = d->model.theta[2],
                               .error_frac = {error[0], error[1], error[2]},
                               .residual_frac = d->model.residual_frac,
                               .n_intervals = d->fit.n,
                               .idle_w = idle.uw * 1e-6,
                               .idle_spread_w = idle.spread_uw * 1e-6,
                               .idle_age_ns = idle.age_ns,
                               .fitted = d->model.known,
                               .idle_known = idle.known};
    }
    pthread_mutex_unlock(&e->mutex);
    return out;
}
