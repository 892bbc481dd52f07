// The books: requests by id, and the facts of their steps. Intervals are booked in energy_interval.c.
//
// An id is a slot of the table and a generation, so that a stale id finds nothing.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_book.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/energy_interval.h"

enum { SLOT_BITS = 20, ENTRIES_MAX = 1 << SLOT_BITS, ENTRIES_FIRST = 16 };
// Time per unit of work before any step was timed: a gigabyte streams about as long as five billion multiply-adds take, on CPUs
// of today (20 GB/s beside 100 Gmac/s). Every step that is timed corrects it.
static const double TIME_PRIOR[ENERGY_TERMS] = {1, 0.2, 1};
// Steps of a few microseconds are timed by a clock that is read outside of them.
static const double STEP_TIME_SD_NS = 1000;

// ---- Requests -------------------------------------------------------------------------------------------------------

// Room for twice as many requests; on failure everything stays as it was.
static bool grow(energy_book *b) {
    const size_t cap = b->cap_entries ? 2 * b->cap_entries : ENTRIES_FIRST, n_claims = ENERGY_LEAVES * cap + 2;
    if (cap > ENTRIES_MAX) return false;
    void *entries = wtl_realloc(b->entries, cap * sizeof *b->entries);
    if (entries) b->entries = entries;
    void *claims = entries ? wtl_realloc(b->claims, n_claims * sizeof *b->claims) : NULL;
    if (claims) b->claims = claims;
    void *claimants = claims ? wtl_realloc(b->claimants, cap * sizeof *b->claimants) : NULL;
    if (claimants) b->claimants = claimants;
    void *ranks = claimants ? wtl_realloc(b->ranks, (n_claims + 1) * sizeof *b->ranks) : NULL;
    if (ranks) b->ranks = ranks;
    void *order = ranks ? wtl_realloc(b->order, (n_claims + 1) * sizeof *b->order) : NULL;
    if (!order) return false;
    b->order = order;
    memset(b->entries + b->cap_entries, 0, (cap - b->cap_entries) * sizeof *b->entries);
    b->cap_entries = cap;
    return true;
}

bool energy_book_init(energy_book *b, const energy_machine *machine, const work_shape *shape, uint32_t n_stamps) {
    memset(b, 0, sizeof *b);
    b->machine = *machine;
    b->shape = *shape;
    b->opened_ns = machine->now_ns(machine->user);
    energy_book_time(b);
    b->ring = energy_ring_open(n_stamps);
    b->domains = wtl_calloc(machine->n_domains ? machine->n_domains : 1, sizeof *b->domains);
    if (!b->ring || !b->domains || !grow(b)) {
        energy_book_free(b);
        return false;
    }
    for (size_t d = 0; d < machine->n_domains; d++) {
        b->domains[d].info = machine->info(machine->user, d);
        b->domains[d].trust = machine->trust(machine->user, d);
        energy_book_solve(b, &b->domains[d]);
    }
    return true;
}

void energy_book_free(energy_book *b) {
    for (size_t i = 0; b->entries && i < b->cap_entries; i++) wtl_free(b->entries[i]);
    wtl_free(b->entries);
    wtl_free(b->claims);
    wtl_free(b->claimants);
    wtl_free(b->ranks);
    wtl_free(b->order);
    wtl_free(b->domains);
    energy_ring_close(b->ring);
    memset(b, 0, sizeof *b);
}

energy_entry *energy_book_begin(energy_book *b, const wtl_energy_request *request) {
    if (b->n_entries == b->cap_entries && !grow(b)) return NULL;
    energy_entry *entry = wtl_calloc(1, sizeof *entry + b->machine.n_domains * sizeof *entry->share);
    if (!entry) return NULL;
    size_t slot = (size_t)(b->generation % b->cap_entries); // the table is never full here
    while (b->entries[slot]) slot = (slot + 1) % b->cap_entries;
    entry->id = ++b->generation << SLOT_BITS | slot;
    entry->info = *request;
    uint64_t until;
    entry->dropped_before = energy_ring_dropped(b->ring, &until);
    b->entries[slot] = entry;
    b->n_entries++;
    b->n_active++;
    return entry;
}

energy_entry *energy_book_find(const energy_book *b, uint64_t id) {
    const size_t slot = (size_t)(id & (ENTRIES_MAX - 1));
    energy_entry *entry = slot < b->cap_entries ? b->entries[slot] : NULL;
    return entry && entry->id == id ? entry : NULL;
}

static bool has_run(const energy_entry *entry) { return entry->facts[ENERGY_PREFILL].first_ns || entry->facts[ENERGY_DECODE].first_ns; }

void energy_book_end(energy_book *b, energy_entry *entry) {
    if (entry->ended) return;
    uint64_t until;
    entry->dropped_after = energy_ring_dropped(b->ring, &until);
    entry->ended = true;
    b->n_active--;
    if (has_run(entry)) b->n_started--;
}

void energy_book_forget(energy_book *b, energy_entry *entry) {
    energy_book_end(b, entry);
    b->entries[entry->id & (ENTRIES_MAX - 1)] = NULL;
    b->n_entries--;
    wtl_free(entry);
}

// ---- Facts ----------------------------------------------------------------------------------------------------------

void energy_book_prior(const energy_book *b, double prior[ENERGY_TERMS]) {
    // A coefficient of 0 could never be learned away from 0 by ratios: none is less than a hundredth of its neutral value.
    const double scale = b->time_model.theta[0] / TIME_PRIOR[0] + b->time_model.theta[1] / TIME_PRIOR[1];
    for (size_t j = 0; j < ENERGY_TERMS; j++) {
        const double least = scale * TIME_PRIOR[j] * 0.01;
        prior[j] = b->time_model.theta[j] > least ? b->time_model.theta[j] : least;
    }
}

void energy_book_solve(energy_book *b, energy_domain *d) {
    const double rate = d->baseline.known ? d->baseline.uw * 1e-9 : 0;
    double prior[ENERGY_TERMS];
    energy_book_prior(b, prior);
    d->model = energy_fit_solve(&d->fit, rate, prior);
    for (size_t k = 0; k < ENERGY_MIXES; k++) {
        const energy_model kind = energy_fit_solve_kind(&d->kind_fit[k], rate, &d->model);
        memcpy(d->kind_theta[k], kind.theta, sizeof kind.theta);
    }
}

void energy_book_time(energy_book *b) { b->time_model = energy_fit_solve(&b->time_fit, 0, TIME_PRIOR); }

static void step_work(energy_book *b, uint64_t index, const energy_stamp *step, double x[ENERGY_TERMS]) {
    x[0] = (double)step->weight_bytes * 1e-9;
    x[1] = x[2] = 0;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const energy_seq_stamp *q = &energy_ring_slot(b->ring, index + 1 + (uint64_t)i)->seq;
        x[1] += (double)q->macs * 1e-9;
        x[2] += (double)(q->kv_read_bytes + q->kv_written_bytes) * 1e-9;
    }
}

// Prefill lasts until the prompt's tokens that were not cached are processed.
static void take_seq(energy_book *b, const energy_stamp *step, energy_seq_stamp *q, double part) {
    energy_entry *entry = q->request ? energy_book_find(b, q->request) : NULL;
    q->phase = ENERGY_DECODE;
    q->pause_phase = -1;
    q->cached_macs = q->cached_kv_bytes = 0;
    if (!entry) return;
    const int32_t n_new = entry->info.n_prompt_tok - entry->info.n_cached_tok;
    if (entry->facts[ENERGY_PREFILL].n_tok < n_new) {
        q->phase = ENERGY_PREFILL;
        const wtl_seq_work work = {.n_new_tok = q->n_new_tok, .n_past_tok = q->n_past_tok};
        work_count_cached(&b->shape, &work, entry->info.n_cached_tok, &q->cached_macs, &q->cached_kv_bytes);
        if (q->cached_macs > q->macs) q->cached_macs = q->macs;
        if (q->cached_kv_bytes > q->kv_read_bytes) q->cached_kv_bytes = q->kv_read_bytes;
    }
    // A prompt's last pause, in which the first token is chosen, is prefill still.
    if (has_run(entry)) {
        q->pause_phase = entry->facts[ENERGY_DECODE].first_ns ? ENERGY_DECODE : ENERGY_PREFILL;
        entry->facts[q->pause_phase].pause_ns += (double)step->pause_ns;
    }
    if (!has_run(entry) && !entry->ended) b->n_started++;
    energy_facts *f = &entry->facts[q->phase];
    const double length = (double)(step->end_ns - step->start_ns);
    if (!f->first_ns) f->first_ns = step->start_ns;
    f->last_ns = step->end_ns;
    f->busy_ns += length;
    f->cpu_ns += (double)step->cpu_ns * part;
    f->weight_bytes += (double)step->weight_bytes / step->n_seqs;
    f->kv_bytes += q->kv_read_bytes + q->kv_written_bytes;
    f->macs += q->macs;
    f->n_tok += q->phase == ENERGY_PREFILL ? q->n_new_tok : q->n_logits; // what is read again after a pause is work, and no new token
}

// Time since the last step that may belong to requests of this one. None where stamps were dropped.
static uint64_t pause_before(const energy_book *b, const energy_stamp *step) {
    const bool after = b->last_end_ns && step->start_ns > b->last_end_ns && !step->dropped_from_ns;
    const uint64_t pause_ns = after ? step->start_ns - b->last_end_ns : 0;
    return pause_ns <= ENERGY_PAUSE_NS ? pause_ns : 0;
}

static void take_step(energy_book *b, uint64_t index, energy_stamp *step) {
    double all[ENERGY_TERMS];
    if (step->end_ns <= step->start_ns) step->end_ns = step->start_ns + 1; // a clock that stood still
    step_work(b, index, step, all);
    energy_fit_add(&b->time_fit, all, 1, (double)(step->end_ns - step->start_ns), STEP_TIME_SD_NS);
    const double cost = energy_cost(TIME_PRIOR, all);
    step->pause_ns = pause_before(b, step);
    step->n_pausing = 0;
    for (int32_t i = 0; i < step->n_seqs; i++) {
        energy_seq_stamp *q = &energy_ring_slot(b->ring, index + 1 + (uint64_t)i)->seq;
        const double x[ENERGY_TERMS] = {all[0] / step->n_seqs, (double)q->macs * 1e-9, (double)(q->kv_read_bytes + q->kv_written_bytes) * 1e-9};
        take_seq(b, step, q, cost > 0 ? energy_cost(TIME_PRIOR, x) / cost : 1.0 / step->n_seqs);
        step->n_pausing += q->pause_phase >= 0;
    }
    if (!step->n_pausing) step->pause_ns = 0;
    if (step->dropped_from_ns) step->dropped_from_ns = step->dropped_from_ns < step->start_ns ? step->dropped_from_ns : 0;
    b->last_end_ns = step->end_ns;
    b->dropped_seen = step->n_dropped;
    b->hole_from_ns = b->hole_until_ns = 0;
}

void energy_book_ingest(energy_book *b) {
    uint64_t until;
    const uint64_t dropped = energy_ring_dropped(b->ring, &until), head = energy_ring_head(b->ring), before = b->ingested;
    while (b->ingested < head) {
        energy_stamp *step = &energy_ring_slot(b->ring, b->ingested)->step;
        take_step(b, b->ingested, step);
        b->ingested += 1 + (uint64_t)step->n_seqs;
    }
    if (b->ingested > before) energy_book_time(b);
    if (dropped > b->dropped_seen && until > b->last_end_ns) {
        b->hole_from_ns = b->last_end_ns;
        b->hole_until_ns = until;
    }
    if (!b->machine.n_domains) energy_ring_release(b->ring, b->ingested);
}

void energy_book_run(energy_book *b) {
    bool told;
    const uint64_t now = b->machine.now_ns(b->machine.user), running = energy_ring_running(b->ring, &told); // in this order, before the head
    energy_book_ingest(b);
    b->complete_ns = energy_complete_until(b, now, running, told);
    uint64_t needed = b->ingested;
    for (size_t d = 0; d < b->machine.n_domains; d++) {
        energy_domain_run(b, d, now);
        energy_domain_give_up(b, d, now);
        if (b->domains[d].cursor < needed) needed = b->domains[d].cursor;
    }
    energy_ring_release(b->ring, needed);
}

static double overlap(uint64_t a0, uint64_t a1, uint64_t b0, uint64_t b1) {
    const uint64_t from = a0 > b0 ? a0 : b0, to = a1 < b1 ? a1 : b1;
    return to > from ? (double)(to - from) : 0;
}

double energy_step_overlap(const energy_stamp *step, uint64_t from_ns, uint64_t to_ns) { return overlap(step->start_ns, step->end_ns, from_ns, to_ns); }

double energy_pause_overlap(const energy_stamp *step, uint64_t from_ns, uint64_t to_ns) {
    return overlap(step->start_ns - step->pause_ns, step->start_ns, from_ns, to_ns);
}

void energy_seq_leaves(const energy_stamp *step, const energy_seq_stamp *q, double frac, double x[ENERGY_LEAVES][ENERGY_TERMS]) {
    const double unit = frac * 1e-9, weights = (double)step->weight_bytes / step->n_seqs * unit;
    memset(x, 0, ENERGY_LEAVES * sizeof *x);
    double *own = x[q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED];
    own[0] = weights;
    own[1] = (double)(q->macs - q->cached_macs) * unit;
    own[2] = (double)(q->kv_read_bytes - q->cached_kv_bytes + q->kv_written_bytes) * unit;
    x[ENERGY_CACHED][1] = (double)q->cached_macs * unit;
    x[ENERGY_CACHED][2] = (double)q->cached_kv_bytes * unit;
}
