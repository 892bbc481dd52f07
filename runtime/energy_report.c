// Reports: the accounts of a request as records, what has not settled predicted and marked.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "runtime/energy_private.h"
#include "runtime/energy_record.h"

// Work of a request that no interval covers yet, by leaf, and the sums.
static void find_pending(const energy_book *b, const energy_domain *d, const energy_entry *entry, energy_pending out[ENERGY_ACCOUNTS]) {
    memset(out, 0, ENERGY_ACCOUNTS * sizeof *out);
    for (uint64_t i = d->cursor; i < b->ingested;) {
        const energy_stamp *step = &energy_ring_slot(b->ring, i)->step;
        const uint64_t from = d->open ? d->from.t_ns : 0;
        const double ns = energy_step_overlap(step, from, UINT64_MAX), frac = ns / (double)(step->end_ns - step->start_ns);
        const double pause_ns = energy_pause_overlap(step, from, UINT64_MAX);
        for (int32_t k = 0; ns > 0 && k < step->n_seqs; k++) {
            const energy_seq_stamp *q = &energy_ring_slot(b->ring, i + 1 + (uint64_t)k)->seq;
            if (q->request != entry->id) continue;
            if (q->pause_phase >= 0) out[q->pause_phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED].busy_ns += pause_ns / step->n_pausing;
            double x[ENERGY_LEAVES][ENERGY_TERMS];
            energy_seq_leaves(step, q, frac, x);
            for (size_t leaf = 0; leaf < ENERGY_LEAVES; leaf++)
                for (size_t j = 0; j < ENERGY_TERMS; j++) out[leaf].x[j] += x[leaf][j];
            energy_pending *phase = &out[q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED];
            phase->busy_ns += ns / step->n_seqs;
            phase->present_ns += ns + pause_ns;
            if (x[ENERGY_CACHED][1] > 0 || x[ENERGY_CACHED][2] > 0) out[ENERGY_CACHED].present_ns += ns;
        }
        i += 1 + (uint64_t)step->n_seqs;
    }
}

static void add_sums(energy_pending p[ENERGY_ACCOUNTS]) {
    p[ENERGY_PREFILLED] = p[ENERGY_NEW];
    for (size_t j = 0; j < ENERGY_TERMS; j++) p[ENERGY_PREFILLED].x[j] += p[ENERGY_CACHED].x[j];
    p[ENERGY_PREFILLED].busy_ns += p[ENERGY_CACHED].busy_ns;
    p[ENERGY_PREFILLED].lost = p[ENERGY_NEW].lost || p[ENERGY_CACHED].lost;
    p[ENERGY_ALL] = p[ENERGY_PREFILLED]; // present in the steps of the new tokens, which are those of the cached ones
    for (size_t j = 0; j < ENERGY_TERMS; j++) p[ENERGY_ALL].x[j] += p[ENERGY_DECODED].x[j];
    p[ENERGY_ALL].busy_ns += p[ENERGY_DECODED].busy_ns;
    p[ENERGY_ALL].present_ns += p[ENERGY_DECODED].present_ns;
    p[ENERGY_ALL].lost = p[ENERGY_PREFILLED].lost || p[ENERGY_DECODED].lost;
}

// Records of one request in one domain.
typedef struct domain_records {
    tel_energy kind[ENERGY_ACCOUNTS][3]; // by energy_kind and energy_part
} domain_records;

static void domain_records_of(const energy_book *b, size_t domain, const energy_entry *entry, domain_records *out) {
    const energy_domain *d = &b->domains[domain];
    const energy_share *share = &entry->share[domain];
    energy_pending pending[ENERGY_ACCOUNTS], missed[ENERGY_ACCOUNTS];
    find_pending(b, d, entry, pending);
    memcpy(missed, share->missed, sizeof share->missed);
    add_sums(pending);
    add_sums(missed);
    for (size_t k = 0; k < ENERGY_ACCOUNTS; k++)
        for (int part = ENERGY_TOTAL; part <= ENERGY_IDLE; part++)
            out->kind[k][part] = energy_record_of(d, &share->account[k], (energy_part)part, &pending[k], &missed[k]);
    for (int part = ENERGY_TOTAL; part <= ENERGY_IDLE; part++) {
        energy_record_part(&out->kind[ENERGY_ALL][part], &out->kind[ENERGY_PREFILLED][part], &out->kind[ENERGY_DECODED][part]);
        energy_record_part(&out->kind[ENERGY_PREFILLED][part], &out->kind[ENERGY_NEW][part], &out->kind[ENERGY_CACHED][part]);
    }
}

static wtl_phase_energy facts_of(const energy_facts *f) {
    return (wtl_phase_energy){.n_tok = f->n_tok,
                              .wall_ns = f->last_ns - f->first_ns,
                              .busy_ns = (uint64_t)f->busy_ns,
                              .pause_ns = (uint64_t)f->pause_ns,
                              .cpu_ns = (uint64_t)f->cpu_ns,
                              .weight_bytes = (uint64_t)f->weight_bytes,
                              .kv_bytes = f->kv_bytes,
                              .macs = f->macs};
}

static void report_facts(const wtl_energy *e, const energy_entry *entry, wtl_energy_report *out) {
    const energy_facts *prefill = &entry->facts[ENERGY_PREFILL], *decode = &entry->facts[ENERGY_DECODE];
    out->prefill = facts_of(prefill);
    out->prefill.n_cached_tok = entry->info.n_cached_tok;
    out->decode = facts_of(decode);
    out->decode.n_tok = decode->n_tok > entry->n_rejected_tok ? decode->n_tok - entry->n_rejected_tok : 0;
    out->start_ns = prefill->first_ns ? prefill->first_ns : decode->first_ns;
    out->first_decode_ns = decode->first_ns;
    out->end_ns = decode->last_ns > prefill->last_ns ? decode->last_ns : prefill->last_ns;
    const uint64_t arrived = entry->info.arrived_ns, now = e->book.machine.now_ns(e->book.machine.user);
    const uint64_t waited_until = out->start_ns ? out->start_ns : now;
    out->queue.wall_ns = waited_until > arrived ? waited_until - arrived : 0;
    uint64_t until;
    const uint64_t dropped = entry->ended ? entry->dropped_after : energy_ring_dropped(e->book.ring, &until);
    out->dropped_stamps = (uint32_t)(dropped - entry->dropped_before);
    out->settled = energy_entry_settled(&e->book, entry);
}

static void set_all(wtl_energy_report *out, tel_energy record) {
    out->total = out->dynamic = out->idle = record;
    out->queue.energy = out->queue.dynamic = out->queue.idle = record;
    out->prefill.energy = out->prefill.dynamic = out->prefill.idle = record;
    out->decode.energy = out->decode.dynamic = out->decode.idle = record;
    out->new_prompt = out->cached = out->avoided = record;
}

static void add_record(tel_energy *sum, const tel_energy *one, bool first) { *sum = first ? *one : tel_energy_add(sum, one); }

static void add_domain(wtl_energy_report *out, const domain_records *r, bool first) {
    add_record(&out->total, &r->kind[ENERGY_ALL][ENERGY_TOTAL], first);
    add_record(&out->dynamic, &r->kind[ENERGY_ALL][ENERGY_DYNAMIC], first);
    add_record(&out->idle, &r->kind[ENERGY_ALL][ENERGY_IDLE], first);
    add_record(&out->prefill.energy, &r->kind[ENERGY_PREFILLED][ENERGY_TOTAL], first);
    add_record(&out->prefill.dynamic, &r->kind[ENERGY_PREFILLED][ENERGY_DYNAMIC], first);
    add_record(&out->prefill.idle, &r->kind[ENERGY_PREFILLED][ENERGY_IDLE], first);
    add_record(&out->decode.energy, &r->kind[ENERGY_DECODED][ENERGY_TOTAL], first);
    add_record(&out->decode.dynamic, &r->kind[ENERGY_DECODED][ENERGY_DYNAMIC], first);
    add_record(&out->decode.idle, &r->kind[ENERGY_DECODED][ENERGY_IDLE], first);
    add_record(&out->new_prompt, &r->kind[ENERGY_NEW][ENERGY_TOTAL], first);
    add_record(&out->cached, &r->kind[ENERGY_CACHED][ENERGY_TOTAL], first);
}

// What did not happen takes no joules, and has no record.
static void explain_absent(const energy_entry *entry, wtl_energy_report *out) {
    if (!out->prefill.n_tok) {
        const tel_energy none = tel_energy_unavailable("no prompt token was processed", NULL);
        out->prefill.energy = out->prefill.dynamic = out->prefill.idle = out->new_prompt = out->cached = none;
    }
    if (!out->decode.n_tok) {
        const tel_energy none = tel_energy_unavailable("no token was decoded", NULL);
        out->decode.energy = out->decode.dynamic = out->decode.idle = none;
    }
    if (!entry->info.n_cached_tok) out->cached = tel_energy_unavailable("no prompt token came from the cache", NULL);
    const tel_energy none = tel_energy_unavailable("a request that waits runs nothing: no joules are its own", NULL);
    out->queue.energy = out->queue.dynamic = out->queue.idle = none;
}

// The cached tokens as a prefill of their own, weights streamed for nobody else. Its idle part is that of the time it would have taken.
static tel_energy avoided(const wtl_energy *e, const energy_entry *entry) {
    if (!entry->info.n_cached_tok) return tel_energy_unavailable("no prompt token came from the cache", NULL);
    energy_pending work = {0};
    energy_predict(&e->book, 0, entry->info.n_cached_tok, ENERGY_CHUNK_TOK, 0, &work);
    return energy_predicted_sum(e, &work);
}

static void report_energy(const wtl_energy *e, const energy_entry *entry, wtl_energy_report *out) {
    const energy_book *b = &e->book;
    bool first = true;
    for (size_t d = 0; d < b->machine.n_domains; d++) {
        domain_records r;
        domain_records_of(b, d, entry, &r);
        if (out->n_domains < WTL_ENERGY_DOMAINS_MAX)
            out->domains[out->n_domains++] = (wtl_domain_energy){b->domains[d].info.name, r.kind[ENERGY_ALL][ENERGY_TOTAL]};
        if (!energy_domain_sums(b, d)) continue;
        add_domain(out, &r, first);
        first = false;
    }
}

bool wtl_energy_report_of(wtl_energy *e, uint64_t request, wtl_energy_report *out) {
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&e->mutex);
    energy_book_ingest(&e->book);
    const energy_entry *entry = energy_book_find(&e->book, request);
    if (entry) {
        report_facts(e, entry, out);
        set_all(out, tel_energy_unavailable(e->no_meter, e->no_meter_fix));
        if (e->book.machine.n_domains) {
            report_energy(e, entry, out);
            out->avoided = avoided(e, entry);
            explain_absent(entry, out);
        }
    }
    pthread_mutex_unlock(&e->mutex);
    return entry != NULL;
}
