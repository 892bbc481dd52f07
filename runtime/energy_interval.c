// Booking of intervals: edges of the meter are merged until they stand out against their uncertainty, the steps inside become claims,
// the claims are split, and what happened is learned from.
//
// An interval waits until every step that could lie in it has been stamped: while a step runs that is its beginning; with requests open and
// nobody saying when steps begin it is the end of the last stamp.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_interval.h"

#include <math.h>
#include <string.h>

enum { EDGES = 64, NOBODY = 0, FORGOTTEN = 1, FIXED_CLAIMS = 2, INFO_EVERY = 256 };

// An interval is long enough when its ends leave less than a tenth of it open, or when it begins to blur phases.
static const uint64_t LENGTH_MIN_NS = 20000000, LENGTH_MAX_NS = 250000000;
static const double EDGE_FRAC = 0.1;
// After the last step clocks and voltages take a while to fall.
static const uint64_t SETTLE_NS = 100000000;
// A request that is open and runs nothing for so long does not hold the books up any more.
static const uint64_t WAIT_NS = 30000000000;
static const double MOSTLY = 0.9; // of an interval's cost: work of one kind
static const double ALONE = 1 - 1e-9; // share of who had an interval to himself
static const double ALONE_FRAC = 0.98; // of the time of an interval: its power is that of who held so much of it
// Stamps wait so long for an edge; a battery gives one in half a minute.
static const uint64_t LOST_NS = 120000000000;
static const uint64_t LOOK_BACK_NS = 1000000000;

typedef struct span {
    tel_edge from, to;
    size_t n_claims, n_claimants;
    double busy_ns, pause_ns, hole_ns; // of steps, of pauses between them that belong to requests, of steps that are not known
    double x[ENERGY_TERMS];       // of all steps inside
    double prefill[ENERGY_TERMS]; // the part of it that was prefill
} span;

// ---- Claims ---------------------------------------------------------------------------------------------------------

static double overlap(uint64_t a0, uint64_t a1, uint64_t b0, uint64_t b1) {
    const uint64_t from = a0 > b0 ? a0 : b0, to = a1 < b1 ? a1 : b1;
    return to > from ? (double)(to - from) : 0;
}

static void add_hole(energy_book *b, span *s, uint64_t from_ns, uint64_t until_ns) {
    const double ns = overlap(from_ns, until_ns, s->from.t_ns, s->to.t_ns);
    b->claims[NOBODY].busy_ns += ns;
    b->claims[NOBODY].time_cost_ns += ns;
    s->hole_ns += ns;
}

// First of the claims of a sequence's request in this interval.
static energy_claim *claims_of(energy_book *b, span *s, uint64_t request) {
    energy_entry *entry = energy_book_find(b, request);
    if (!entry) return &b->claims[request ? FORGOTTEN : NOBODY];
    if (entry->mark != b->mark) {
        entry->mark = b->mark;
        entry->claim = s->n_claims;
        memset(&b->claims[s->n_claims], 0, ENERGY_LEAVES * sizeof *b->claims);
        s->n_claims += ENERGY_LEAVES;
        b->claimants[s->n_claimants++] = entry;
    }
    return &b->claims[entry->claim];
}

static void add_seq(energy_book *b, span *s, const energy_stamp *step, const energy_seq_stamp *q, double ns) {
    double x[ENERGY_LEAVES][ENERGY_TERMS];
    energy_seq_leaves(step, q, ns / (double)(step->end_ns - step->start_ns), x);
    energy_claim *claim = claims_of(b, s, q->request);
    const bool leaves = claim >= &b->claims[FIXED_CLAIMS];
    const double part_ns = ns / step->n_seqs, own = energy_cost(b->time_model.theta, x[ENERGY_NEW]) + energy_cost(b->time_model.theta, x[ENERGY_DECODED]);
    const double cached = energy_cost(b->time_model.theta, x[ENERGY_CACHED]), cached_frac = own + cached > 0 ? cached / (own + cached) : 0;
    for (size_t leaf = 0; leaf < ENERGY_LEAVES; leaf++) {
        energy_claim *c = leaves ? &claim[leaf] : claim;
        for (size_t j = 0; j < ENERGY_TERMS; j++) {
            c->x[j] += x[leaf][j];
            s->x[j] += x[leaf][j];
            if (leaf != ENERGY_DECODED) s->prefill[j] += x[leaf][j];
        }
    }
    for (size_t leaf = 0; leaf < ENERGY_LEAVES; leaf++)
        if (leaves && (x[leaf][1] > 0 || x[leaf][2] > 0)) claim[leaf].present_ns += ns;
    // Attention to cached positions has its part of the step's time too.
    claim[leaves ? (q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED) : 0].busy_ns += part_ns * (1 - cached_frac);
    claim[leaves ? ENERGY_CACHED : 0].busy_ns += part_ns * cached_frac;
}

static void add_pause(energy_book *b, span *s, const energy_stamp *step, const energy_seq_stamp *q, double ns) {
    energy_claim *claim = claims_of(b, s, q->request);
    if (claim >= &b->claims[FIXED_CLAIMS]) claim += q->pause_phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED;
    claim->busy_ns += ns / step->n_pausing;
    claim->time_cost_ns += ns / step->n_pausing; // no work explains its joules: how far this moves its owner is in the account's lean
    claim->present_ns += ns;
}

// Turns the steps that overlap the interval into claims.
static void collect(energy_book *b, energy_domain *d, span *s) {
    b->mark++;
    memset(b->claims, 0, FIXED_CLAIMS * sizeof *b->claims);
    s->n_claims = FIXED_CLAIMS;
    for (uint64_t i = d->cursor; i < b->ingested;) {
        const energy_stamp *step = &energy_ring_slot(b->ring, i)->step;
        if (step->dropped_from_ns) add_hole(b, s, step->dropped_from_ns, step->start_ns);
        if (step->start_ns - step->pause_ns >= s->to.t_ns) break;
        const double ns = energy_step_overlap(step, s->from.t_ns, s->to.t_ns), pause_ns = energy_pause_overlap(step, s->from.t_ns, s->to.t_ns);
        for (int32_t k = 0; k < step->n_seqs; k++) {
            const energy_seq_stamp *q = &energy_ring_slot(b->ring, i + 1 + (uint64_t)k)->seq;
            if (ns > 0) add_seq(b, s, step, q, ns);
            if (pause_ns > 0 && q->pause_phase >= 0) add_pause(b, s, step, q, pause_ns);
        }
        s->busy_ns += ns;
        s->pause_ns += pause_ns;
        i += 1 + (uint64_t)step->n_seqs;
        if (step->end_ns <= s->to.t_ns) d->cursor = i;
        if (step->end_ns > d->busy_until_ns) d->busy_until_ns = step->end_ns;
    }
    add_hole(b, s, b->hole_from_ns, b->hole_until_ns);
    add_hole(b, s, d->lost_from_ns, d->lost_until_ns);
    if (b->hole_until_ns > d->busy_until_ns) d->busy_until_ns = b->hole_until_ns;
    if (d->lost_until_ns > d->busy_until_ns) d->busy_until_ns = d->lost_until_ns;
}

// ---- Accounts -------------------------------------------------------------------------------------------------------

// Time of the interval that lies before an account's first step or after its last one, and in which nothing else ran either.
static double outside_ns(const span *s, uint64_t first_ns, uint64_t last_ns) {
    const double length = (double)(s->to.t_ns - s->from.t_ns), unused = length - s->busy_ns - s->pause_ns - s->hole_ns;
    const double out = length - overlap(first_ns, last_ns, s->from.t_ns, s->to.t_ns);
    return fmax(0, fmin(unused, out));
}

static void book_account(energy_account *a, const energy_domain *d, const span *s, const energy_claim *c, const energy_rest *rest, double cost,
                         double out_ns) {
    const double length = (double)(s->to.t_ns - s->from.t_ns), per_cost = cost > 0 ? rest->dynamic_uj / cost : 0;
    const bool adjoins = a->n_intervals && a->last_interval + 1 == d->n_intervals;
    a->edge_uj += adjoins ? fabs(c->share - a->last_share) * (double)s->from.edge_uj
                          : a->last_share * a->last_edge_uj + c->share * (double)s->from.edge_uj;
    a->dynamic_uj += c->dynamic_uj;
    a->idle_uj += c->idle_uj;
    for (size_t j = 0; j < ENERGY_TERMS; j++) a->lean[j] += per_cost * (c->x[j] - c->share * s->x[j]);
    a->present_ns += c->present_ns;
    if (c->share < ALONE || c->busy_ns < ALONE * (s->busy_ns + s->pause_ns + s->hole_ns)) {
        const double own_uj = (double)(c->dynamic_uj + c->idle_uj);
        a->own_uj += own_uj;
        a->others_uj += (double)(s->to.total_uj - s->from.total_uj - rest->idle_uj) - own_uj;
    }
    a->split_uj += c->share * (1 - c->share) * rest->dynamic_uj;
    a->guess_uj += s->hole_ns > 0 ? c->share * rest->dynamic_uj * s->hole_ns / (s->hole_ns + s->busy_ns) : 0;
    a->unseen_uj += c->share * (double)(s->to.unseen_uj - s->from.unseen_uj);
    a->outside_ns += c->share * out_ns;
    a->outside_idle_uj += c->share * out_ns * fmin(d->baseline.known ? d->baseline.uw * 1e-9 : 0, (double)(s->to.total_uj - s->from.total_uj) / length);
    if (out_ns > 0) a->outside_uj += (double)(c->dynamic_uj + c->idle_uj);
    a->share_ns += c->share * length;
    a->busy_ns += c->busy_ns;
    if (!d->baseline.known) {
        a->late_share_ns += c->share * length;
        a->late_busy_ns += c->busy_ns;
    } else {
        a->aged_share_uj += d->baseline.drift_uw * c->share * length * 1e-9;
        a->aged_busy_uj += d->baseline.drift_uw * c->busy_ns * 1e-9;
    }
    a->last_share = c->share;
    a->last_edge_uj = (double)s->to.edge_uj;
    a->last_interval = d->n_intervals;
    a->n_intervals++;
    a->n_gaps += s->to.gaps - s->from.gaps;
}

static void add_claim(energy_claim *sum, const energy_claim *c) {
    for (size_t j = 0; j < ENERGY_TERMS; j++) sum->x[j] += c->x[j];
    sum->busy_ns += c->busy_ns;
    sum->present_ns += c->present_ns;
    sum->share += c->share;
    sum->dynamic_uj += c->dynamic_uj;
    sum->idle_uj += c->idle_uj;
}

// A request alone: power that jumps at the border of its phases, for reasons of its own or not, shows in the intervals beside the border.
static void book_border(energy_share *share, const energy_domain *d, const span *s, const energy_claim *prefill, const energy_claim *decode) {
    const double length = (double)(s->to.t_ns - s->from.t_ns), power_uw = (double)(s->to.total_uj - s->from.total_uj) * 1e9 / length;
    const energy_border before = share->border;
    const bool whole = prefill->busy_ns + decode->busy_ns > ALONE_FRAC * length, adjoins = before.interval && before.interval + 1 == d->n_intervals;
    double other_uj = 0;
    share->border = (energy_border){.interval = whole ? d->n_intervals : 0};
    if (!whole) return;
    if (decode->busy_ns <= 0) {
        share->border.prefill_uw = power_uw;
    } else if (prefill->busy_ns > 0) {
        const double prefill_uj = (double)(prefill->dynamic_uj + prefill->idle_uj);
        if (adjoins && before.prefill_uw > 0) other_uj = fabs(before.prefill_uw * prefill->busy_ns * 1e-9 - prefill_uj);
        share->border.decode_ns = decode->busy_ns;
        share->border.decode_uj = (double)(decode->dynamic_uj + decode->idle_uj);
        share->border.said_uj = other_uj;
    } else if (adjoins && before.decode_ns > 0) {
        other_uj = fmax(0, fabs(power_uw * before.decode_ns * 1e-9 - before.decode_uj) - before.said_uj);
    }
    share->account[ENERGY_NEW].border_uj += other_uj;
    share->account[ENERGY_PREFILLED].border_uj += other_uj;
    share->account[ENERGY_DECODED].border_uj += other_uj;
}

static void book_entry(const energy_book *b, energy_domain *d, const span *s, energy_entry *entry, const energy_rest *rest, double cost) {
    energy_account *accounts = entry->share[d - b->domains].account;
    const energy_claim *leaf = &b->claims[entry->claim];
    energy_claim prefill = {0}, all = {0};
    add_claim(&prefill, &leaf[ENERGY_NEW]);
    add_claim(&prefill, &leaf[ENERGY_CACHED]);
    prefill.present_ns = leaf[ENERGY_NEW].present_ns; // the same steps
    add_claim(&all, &prefill);
    add_claim(&all, &leaf[ENERGY_DECODED]);
    const energy_claim *by_kind[ENERGY_ACCOUNTS] = {&leaf[ENERGY_NEW], &leaf[ENERGY_CACHED], &leaf[ENERGY_DECODED], &prefill, &all};
    const energy_facts *pre = &entry->facts[ENERGY_PREFILL], *post = &entry->facts[ENERGY_DECODE];
    const double out_prefill = outside_ns(s, pre->first_ns, pre->last_ns), out_decode = outside_ns(s, post->first_ns, post->last_ns);
    const double out_all = outside_ns(s, pre->first_ns ? pre->first_ns : post->first_ns, post->last_ns > pre->last_ns ? post->last_ns : pre->last_ns);
    const double out_ns[ENERGY_ACCOUNTS] = {out_prefill, out_prefill, out_decode, out_prefill, out_all};
    for (size_t k = 0; k < ENERGY_ACCOUNTS; k++)
        if (by_kind[k]->busy_ns > 0 || by_kind[k]->share > 0) book_account(&accounts[k], d, s, by_kind[k], rest, cost, out_ns[k]);
    book_border(&entry->share[d - b->domains], d, s, &prefill, &leaf[ENERGY_DECODED]);
    accounts[ENERGY_NEW].hidden_uj += (double)leaf[ENERGY_CACHED].dynamic_uj;
    accounts[ENERGY_CACHED].hidden_uj += (double)leaf[ENERGY_CACHED].dynamic_uj;
    d->totals.requests_uj += all.dynamic_uj + all.idle_uj;
    d->totals.prefill_dynamic_uj += prefill.dynamic_uj;
    d->totals.prefill_idle_uj += prefill.idle_uj;
    d->totals.decode_dynamic_uj += leaf[ENERGY_DECODED].dynamic_uj;
    d->totals.decode_idle_uj += leaf[ENERGY_DECODED].idle_uj;
}

// ---- Learning -------------------------------------------------------------------------------------------------------

static void learn_idle(energy_domain *d, const span *s) {
    const double length = (double)(s->to.t_ns - s->from.t_ns);
    const bool quiet = s->busy_ns <= 0 && s->pause_ns <= 0 && s->hole_ns <= 0 && s->from.t_ns >= d->busy_until_ns + SETTLE_NS && s->to.gaps == s->from.gaps;
    if (quiet)
        energy_idle_add(&d->idle, s->to.t_ns, length, (double)(s->to.total_uj - s->from.total_uj), (double)s->from.edge_uj, (double)s->to.edge_uj);
    else
        energy_idle_break(&d->idle, s->from.t_ns);
}

static energy_mix mix_of(const energy_domain *d, const span *s) {
    const double all = energy_cost(d->model.theta, s->x), prefill = energy_cost(d->model.theta, s->prefill);
    return prefill > MOSTLY * all ? ENERGY_MIX_PREFILL : prefill > (1 - MOSTLY) * all ? ENERGY_MIX_BOTH : ENERGY_MIX_DECODE;
}

static void learn_cost(energy_book *b, energy_domain *d, const span *s) {
    const double length = (double)(s->to.t_ns - s->from.t_ns), energy = (double)(s->to.total_uj - s->from.total_uj);
    // The ends are uncertain by a uniform error each: sd is the half width over the root of three.
    const double sd = sqrt(((double)s->from.edge_uj * (double)s->from.edge_uj + (double)s->to.edge_uj * (double)s->to.edge_uj) / 3);
    if (s->hole_ns <= 0 && s->to.gaps == s->from.gaps) {
        energy_fit_add(&d->fit, s->x, length, energy, sd);
        energy_fit_add(&d->kind_fit[mix_of(d, s)], s->x, length, energy, sd);
        const double power = energy / length * 1e9;
        d->busy_uw = d->busy_uw > 0 ? d->busy_uw + (power - d->busy_uw) / 8 : power;
    }
    energy_book_solve(b, d);
}

// ---- Intervals ------------------------------------------------------------------------------------------------------

static void book_interval(energy_book *b, energy_domain *d, const tel_edge *to, uint64_t now_ns) {
    span s = {.from = d->from, .to = *to};
    collect(b, d, &s);
    learn_idle(d, &s);
    d->baseline = energy_idle_of(&d->idle, now_ns);
    if (s.busy_ns > 0) learn_cost(b, d, &s);
    d->n_intervals++;

    const energy_interval v = {to->total_uj - d->from.total_uj, (double)(to->t_ns - d->from.t_ns), d->baseline.known ? d->baseline.uw : -1};
    d->peak_uw = fmax(d->peak_uw, (double)v.energy_uj * 1e9 / v.length_ns);
    d->least_uw = d->n_intervals > 1 ? fmin(d->least_uw, (double)v.energy_uj * 1e9 / v.length_ns) : (double)v.energy_uj * 1e9 / v.length_ns;
    const energy_rest rest = energy_split_interval(&v, d->model.theta, b->claims, s.n_claims, b->ranks, b->order);
    const double cost = energy_cost(d->model.theta, s.x);
    for (size_t i = 0; i < s.n_claimants; i++) book_entry(b, d, &s, b->claimants[i], &rest, cost);
    const energy_claim *nobody = &b->claims[NOBODY], *forgotten = &b->claims[FORGOTTEN];
    d->totals.source_uj += v.energy_uj;
    d->totals.requests_uj += forgotten->dynamic_uj + forgotten->idle_uj;
    d->totals.idle_uj += rest.idle_uj;
    d->totals.unattributed_uj += rest.unattributed_uj + nobody->dynamic_uj + nobody->idle_uj;
    d->totals.until_ns = to->t_ns;
    d->from = *to;
}

// Steps that ended before the first edge, or the part of one before it: no interval will ever cover them.
static void miss_steps(energy_book *b, size_t domain) {
    energy_domain *d = &b->domains[domain];
    for (uint64_t i = d->cursor; i < b->ingested;) {
        const energy_stamp *step = &energy_ring_slot(b->ring, i)->step;
        if (step->start_ns >= d->from.t_ns) break;
        const double ns = energy_step_overlap(step, 0, d->from.t_ns), frac = ns / (double)(step->end_ns - step->start_ns);
        for (int32_t k = 0; k < step->n_seqs; k++) {
            const energy_seq_stamp *q = &energy_ring_slot(b->ring, i + 1 + (uint64_t)k)->seq;
            energy_entry *entry = q->request ? energy_book_find(b, q->request) : NULL;
            if (!entry) continue;
            double x[ENERGY_LEAVES][ENERGY_TERMS];
            energy_seq_leaves(step, q, frac, x);
            energy_pending *missed = entry->share[domain].missed;
            for (size_t leaf = 0; leaf < ENERGY_LEAVES; leaf++)
                for (size_t j = 0; j < ENERGY_TERMS; j++) missed[leaf].x[j] += x[leaf][j];
            missed[q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED].busy_ns += ns / step->n_seqs;
            missed[q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED].present_ns += ns;
            if (x[ENERGY_CACHED][1] > 0 || x[ENERGY_CACHED][2] > 0) missed[ENERGY_CACHED].present_ns += ns;
        }
        if (step->end_ns > d->from.t_ns) break;
        i += 1 + (uint64_t)step->n_seqs;
        d->cursor = i;
    }
}

uint64_t energy_complete_until(const energy_book *b, uint64_t now_ns, uint64_t running_ns, bool told) {
    if (!b->n_active) return now_ns;
    const uint64_t waited = now_ns > WAIT_NS ? now_ns - WAIT_NS : 0, step_ns = !told ? waited : running_ns ? running_ns : now_ns;
    // Whose the pause before a step is, that step's stamp says.
    const bool pausing = b->n_started && step_ns <= b->last_end_ns + ENERGY_PAUSE_NS;
    return b->last_end_ns > step_ns || pausing ? b->last_end_ns : step_ns;
}

// A domain without edges (a device that was lost) may not keep every slot of the ring from the others.
void energy_domain_give_up(energy_book *b, size_t domain, uint64_t now_ns) {
    energy_domain *d = &b->domains[domain];
    const uint64_t size = energy_ring_size(b->ring);
    const bool full = b->ingested - d->cursor > size - size / 4;
    while (d->cursor < b->ingested) {
        const energy_stamp *step = &energy_ring_slot(b->ring, d->cursor)->step;
        if (!(full && b->ingested - d->cursor > size / 2) && now_ns < step->end_ns + LOST_NS) break;
        for (int32_t k = 0; k < step->n_seqs; k++) {
            const energy_seq_stamp *q = &energy_ring_slot(b->ring, d->cursor + 1 + (uint64_t)k)->seq;
            energy_entry *entry = q->request ? energy_book_find(b, q->request) : NULL;
            if (!entry) continue;
            energy_pending *missed = entry->share[domain].missed;
            missed[q->phase == ENERGY_PREFILL ? ENERGY_NEW : ENERGY_DECODED].lost = true;
            if (q->phase == ENERGY_PREFILL) missed[ENERGY_CACHED].lost = true;
        }
        if (d->lost_until_ns <= d->from.t_ns) d->lost_from_ns = step->start_ns;
        d->lost_until_ns = step->end_ns;
        d->cursor += 1 + (uint64_t)step->n_seqs;
    }
}

static bool long_enough(const tel_edge *from, const tel_edge *to) {
    const uint64_t length = to->t_ns - from->t_ns;
    if (length < LENGTH_MIN_NS) return false;
    return length >= LENGTH_MAX_NS || (double)(from->edge_uj + to->edge_uj) <= EDGE_FRAC * (double)(to->total_uj - from->total_uj);
}

// The books open at the last edge before energy_book_init, or at the first one after. True: open.
static bool open_books(energy_book *b, size_t domain, const tel_edge *edge) {
    energy_domain *d = &b->domains[domain];
    if (edge->t_ns <= b->opened_ns) {
        d->from = *edge;
        return false;
    }
    if (!d->from.t_ns) d->from = *edge;
    d->open = true;
    d->totals.until_ns = d->from.t_ns;
    d->busy_until_ns = b->opened_ns; // whatever ran before is not known to have been idle
    miss_steps(b, domain);
    return true;
}

void energy_domain_run(energy_book *b, size_t domain, uint64_t now_ns) {
    energy_domain *d = &b->domains[domain];
    const energy_machine *m = &b->machine;
    const uint64_t until = b->complete_ns, look_back = b->opened_ns > LOOK_BACK_NS ? b->opened_ns - LOOK_BACK_NS : 0;
    d->trust = m->trust(m->user, domain);
    if (!d->info.step_ns || d->n_intervals % INFO_EVERY == 0) d->info = m->info(m->user, domain); // the step is measured on the way
    tel_edge edges[EDGES];
    uint64_t after = d->open ? d->from.t_ns : look_back;
    for (size_t n = EDGES; n == EDGES;) {
        n = m->edges(m->user, domain, after, edges, EDGES);
        for (size_t i = 0; i < n; i++) {
            if (edges[i].t_ns > until) return;
            if (!d->open && !open_books(b, domain, &edges[i])) continue;
            if (edges[i].t_ns <= d->from.t_ns) continue;
            if (long_enough(&d->from, &edges[i]) || edges[i].gaps != d->from.gaps) book_interval(b, d, &edges[i], now_ns);
        }
        if (n) after = edges[n - 1].t_ns;
    }
}
