// Records of accounts. Every term is what one unknown can do to this value:
//   step         the totals at the edges where the account's share changes (where it does not, neighbours cancel)
//   unseen       time without readings, by share
//   gain, offset what the meter may be off by; an offset is in the baseline too, so it moves idle and total, not the dynamic part
//   idle         the baseline's spread: what is taken as idle by time is taken from the dynamic part by share; and that nothing but the
//                idle machine ran beside the steps in the intervals at the account's two ends, which no edge cuts at a step
//   attribution  coefficients: what the present model would have split otherwise, and what it may be wrong by; misfit of the model; what
//                pauses, which it does not explain, have by time; at a border of phases, what the intervals around it say otherwise
//   gap          work before the first edge of the meter
//   model        modelled domains: the interval of the model
// Whatever the terms say, splitting takes from a value no more than it has in intervals with others and gives it no more than these have;
// no part is more than the whole without the least of the other part; and none more than the device can draw in the time of its steps.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_record.h"

#include <math.h>

// 99 % of a normal distribution.
static const double CERTAIN = 2.6;
// The model's relative error between two parties: each is off by the misfit on its own.
static const double MISFIT = 2.6;
static const double UNFITTED_FRAC = 1.0;
// Intervals mix all kinds of work and average their errors; work that never ran, or never alone, has the whole error of its kind.
static const double ALONE_MISFIT_MIN = 0.1;
static const double MISSED_FACTOR = 1.5; // what was missed is bounded, not measured
static const uint64_t FITTED_AFTER = 8;

bool energy_domain_fitted(const energy_domain *d) { return d->model.known && d->fit.n >= FITTED_AFTER; }

static uint64_t whole(double uj) { return uj > 0 ? (uint64_t)(uj < 1.8e19 ? uj + 0.5 : 1.8e19) : 0; }

typedef struct figure { // dynamic and idle joules of work that is not booked
    double dynamic_uj, idle_uj, error_uj;
    bool known;
} figure;

// How far a figure that leans on the coefficients by g would move if one kind of work had been all there is to learn from.
static double disagreement(const energy_domain *d, const double g[ENERGY_TERMS]) {
    const double all = energy_cost(d->model.theta, g);
    double most = 0;
    for (size_t k = 0; k < ENERGY_MIXES; k++) most = fmax(most, fabs(energy_cost(d->kind_theta[k], g) - all));
    return most;
}

// What the misfit of work on its own may be beyond the averaged one.
static double alone(const energy_domain *d, double uj) { return MISFIT * fmax(ALONE_MISFIT_MIN - d->model.misfit_frac, 0) * uj; }

// By the model when it is fitted, else by the power seen last.
static figure predict(const energy_domain *d, const energy_pending *work) {
    figure out = {.known = true};
    if (!work || (work->busy_ns <= 0 && work->x[0] <= 0 && work->x[1] <= 0)) return out;
    if (d->baseline.known) out.idle_uj = d->baseline.uw * work->busy_ns * 1e-9;
    if (energy_domain_fitted(d)) {
        out.dynamic_uj = energy_cost(d->model.theta, work->x);
        out.error_uj = CERTAIN * energy_model_sd(&d->model, work->x) + MISFIT * d->model.misfit_frac * out.dynamic_uj;
    } else if (d->busy_uw > 0) {
        const double all = d->busy_uw * work->busy_ns * 1e-9;
        out.dynamic_uj = all > out.idle_uj ? all - out.idle_uj : 0;
        out.error_uj = UNFITTED_FRAC * all;
    } else {
        out.known = false;
    }
    return out;
}

static tel_status status_of(const tel_energy *e) {
    return e->method == TEL_METHOD_MODELLED ? TEL_MODELLED : e->bound_uj > e->energy_uj / 2 ? TEL_BELOW_RESOLUTION : TEL_MEASURED;
}

// What is known besides: the truth lies between low and high. The terms give way to it, first those that say least.
static void confine(tel_energy *e, double low, double high) {
    tel_terms *t = &e->terms;
    uint64_t *const terms[] = {&t->attribution_uj, &t->idle_uj, &t->gap_uj, &t->unseen_uj, &t->step_uj, &t->lag_uj, &t->latency_uj, &t->offset_uj, &t->gain_uj};
    if (low > (double)e->low_uj) e->low_uj = whole(low) < e->energy_uj ? whole(low) : e->energy_uj;
    if (high < (double)e->high_uj) e->high_uj = whole(high) > e->energy_uj ? whole(high) : e->energy_uj;
    const uint64_t down = e->energy_uj - e->low_uj, up = e->high_uj - e->energy_uj, bound = up > down ? up : down;
    uint64_t less = e->bound_uj > bound ? e->bound_uj - bound : 0;
    for (size_t i = 0; i < sizeof terms / sizeof terms[0]; i++) {
        const uint64_t part = *terms[i] < less ? *terms[i] : less;
        *terms[i] -= part;
        less -= part;
        e->bound_uj -= part;
    }
    e->status = status_of(e);
}

// Adds up what is in the terms, and sets bound, sides and status. down_uj, up_uj: attribution, to either side.
static void finish(tel_energy *e, const energy_domain *d, double down_uj, double up_uj) {
    tel_terms *t = &e->terms;
    const uint64_t known = t->step_uj + t->lag_uj + t->latency_uj + t->unseen_uj + t->gain_uj + t->offset_uj + t->idle_uj;
    t->attribution_uj = whole(fmax(down_uj, up_uj));
    const uint64_t both = known + t->attribution_uj;
    const bool modelled = d->info.method == TEL_METHOD_MODELLED;
    const double value = (double)e->energy_uj;
    double low = fmax(0, value - (double)known - down_uj), high = value + (double)known + up_uj + (double)t->gap_uj;
    if (modelled) { // its interval holds the errors of counting CPU time and of splitting too, unless those are wider
        const double wide = value * d->trust.high_factor, narrow = value * d->trust.low_factor;
        const double more = fmax(wide - value, value - narrow) - (double)(both + t->gap_uj);
        e->terms.model_uj = more > 0 ? whole(more) : 0;
        high = fmax(high, wide);
        low = fmin(low, narrow);
    }
    e->low_uj = whole(low);
    e->high_uj = whole(high);
    e->bound_uj = both + t->gap_uj + e->terms.model_uj;
    e->status = status_of(e);
    if (!modelled) confine(e, 0, high); // a low side that ends at nothing is no longer than the value
}

static tel_energy start(const energy_domain *d, double value) {
    return (tel_energy){.method = d->info.method,
                        .scope = d->info.scope,
                        .source = d->info.source,
                        .energy_uj = whole(value),
                        .fix = d->info.method == TEL_METHOD_MODELLED && d->info.fix && *d->info.fix ? d->info.fix : NULL,
                        .coverage_frac = 1,
                        .resolution_ns = d->info.step_ns};
}

typedef struct value { // one part of an account, and how baseline and sensor offset move it
    double uj, baseline_ns, offset_ns, edge_frac;
    double late_uj, aged_uj;
} value;

// Intervals that were booked before there was a baseline have idle joules inside their dynamic ones: taken out here, by time.
static value value_of(const energy_domain *d, const energy_account *a, energy_part part) {
    const double late = d->baseline.known ? d->baseline.uw * a->late_busy_ns * 1e-9 : 0;
    const double late_uj = d->baseline.known ? d->baseline.uw * fabs(a->late_busy_ns - a->late_share_ns) * 1e-9 : 0;
    const double drift = d->baseline.drift_uw * 1e-9; // per ns
    const double dynamic = (double)a->dynamic_uj - late, idle = (double)a->idle_uj + late;
    switch (part) {
    case ENERGY_DYNAMIC: return (value){dynamic > 0 ? dynamic : 0, a->share_ns, 0, 1, late_uj, a->aged_share_uj + drift * a->late_share_ns};
    case ENERGY_IDLE: return (value){idle, a->busy_ns, a->busy_ns, 0, 0, a->aged_busy_uj + drift * a->late_busy_ns};
    default: break;
    }
    return (value){(double)(a->dynamic_uj + a->idle_uj), fabs(a->busy_ns - a->share_ns), a->busy_ns > a->share_ns ? a->busy_ns : a->share_ns, 1,
                   late_uj, fabs(a->aged_busy_uj - a->aged_share_uj + drift * (a->late_busy_ns - a->late_share_ns))};
}

// Highest true energy that fits into the time of the steps it had a part in. The device's limit is not known: infinite.
static double most_uj(const energy_domain *d, double present_ns) {
    const double peak_uw = fmax(d->trust.peak_uw, d->peak_uw);
    return d->trust.peak_uw > 0 ? (peak_uw * (1 + d->trust.gain_frac) + d->trust.offset_uw) * present_ns * 1e-9 : INFINITY;
}

static double attribution(const energy_domain *d, const energy_account *a) {
    // The present model knows more than the one that split: where it would split otherwise, that is a known error.
    return fabs(energy_cost(d->model.theta, a->lean)) + CERTAIN * energy_model_sd(&d->model, a->lean) +
           hypot(MISFIT * d->model.misfit_frac * a->split_uj, disagreement(d, a->lean)) + alone(d, a->hidden_uj) + a->guess_uj + a->border_uj;
}

// In intervals of which a part was this account's, the time before its first step and after its last one was taken for the idle machine's.
// It drew the highest power seen here at most, and what it drew beyond was booked to the account: no more than was booked. Or it drew the
// least, and the account more.
static double outside(const energy_domain *d, const energy_account *a) {
    const double more = d->peak_uw * a->outside_ns * 1e-9 - a->outside_idle_uj, less = a->outside_idle_uj - d->least_uw * a->outside_ns * 1e-9;
    return fmax(0, fmax(fmin(a->outside_uj, more), less));
}

tel_energy energy_record_of(const energy_domain *d, const energy_account *a, energy_part part, const energy_pending *pending,
                            const energy_pending *missed) {
    const figure rest = predict(d, pending), before = predict(d, missed);
    if (missed && missed->lost)
        return tel_energy_unavailable("the meter gave no reading any more while it ran", "`wattle meters` shows which sources can be read now");
    if (part != ENERGY_TOTAL && !d->baseline.known)
        return tel_energy_unavailable("the idle power of this machine with the model loaded has not been measured yet",
                                      "leave it idle for a second before or after a request");
    if (!a->n_intervals && (!rest.known || (!pending || pending->busy_ns <= 0)))
        return tel_energy_unavailable(missed && missed->busy_ns > 0 ? "it ran before the meter's first resolved reading"
                                                                    : "the meter has not resolved any of it",
                                      NULL);
    if (!rest.known || !before.known) return tel_energy_unavailable("a part of it is not resolved by the meter and nothing is known to predict it from", NULL);
    const value v = value_of(d, a, part);
    const double rest_uj = (part != ENERGY_IDLE ? rest.dynamic_uj : 0) + (part != ENERGY_DYNAMIC ? rest.idle_uj : 0);
    const double before_uj = (part != ENERGY_IDLE ? before.dynamic_uj + before.error_uj : 0) + (part != ENERGY_DYNAMIC ? before.idle_uj : 0);
    const double rest_ns = pending ? pending->busy_ns : 0, missed_ns = missed ? missed->busy_ns : 0;
    tel_energy e = start(d, v.uj + rest_uj);
    e.n_samples = a->n_intervals;
    e.n_gaps = a->n_gaps;
    const double all_ns = a->busy_ns + rest_ns + missed_ns;
    e.coverage_frac = (all_ns > 0 ? a->busy_ns / all_ns : 0) * (d->trust.coverage_frac > 0 ? d->trust.coverage_frac : 1);
    e.terms.step_uj = whole(v.edge_frac * (a->edge_uj + a->last_share * a->last_edge_uj));
    e.terms.unseen_uj = whole(v.edge_frac * a->unseen_uj);
    e.terms.gain_uj = whole(d->trust.gain_frac * (v.uj + rest_uj));
    e.terms.offset_uj = whole(d->trust.offset_uw * (v.offset_ns + (v.offset_ns > 0 ? rest_ns : 0)) * 1e-9);
    const double steady_uw = d->baseline.spread_uw - d->baseline.drift_uw;
    e.terms.idle_uj = d->baseline.known ? whole((steady_uw * v.baseline_ns + d->baseline.spread_uw * rest_ns) * 1e-9 + v.aged_uj) : 0;
    if (part != ENERGY_IDLE) e.terms.idle_uj += whole(outside(d, a));
    e.terms.gap_uj = whole(MISSED_FACTOR * before_uj);
    // Splitting takes from one what it gives to another.
    const double split = part == ENERGY_IDLE ? 0 : attribution(d, a), more = part == ENERGY_IDLE ? 0 : rest.error_uj + v.late_uj;
    finish(&e, d, fmin(split, a->own_uj) + more, fmin(split, a->others_uj) + more);
    if (e.status != TEL_MODELLED)
        confine(&e, 0, most_uj(d, a->present_ns + (pending ? pending->present_ns : 0) + (missed ? missed->present_ns : 0)));
    return e;
}

void energy_record_part(const tel_energy *all, tel_energy *a, tel_energy *b) {
    const bool known = all->status != TEL_UNAVAILABLE && a->status != TEL_UNAVAILABLE && b->status != TEL_UNAVAILABLE;
    if (!known || all->status == TEL_MODELLED) return;
    const double a_low = (double)a->low_uj, a_high = (double)a->high_uj;
    confine(a, (double)all->low_uj - (double)b->high_uj, (double)all->high_uj - (double)b->low_uj);
    confine(b, (double)all->low_uj - a_high, (double)all->high_uj - a_low);
}

tel_energy energy_record_predicted(const energy_domain *d, const energy_pending *work) {
    if (!energy_domain_fitted(d))
        return tel_energy_unavailable("nothing has been measured with this model here yet", "run a prompt with a meter that can be read");
    figure f = predict(d, work);
    f.error_uj += alone(d, f.dynamic_uj) + disagreement(d, work->x);
    tel_energy e = start(d, f.dynamic_uj + f.idle_uj);
    e.terms.gain_uj = whole(d->trust.gain_frac * (f.dynamic_uj + f.idle_uj));
    e.terms.offset_uj = whole(d->trust.offset_uw * work->busy_ns * 1e-9);
    e.terms.idle_uj = d->baseline.known ? whole(d->baseline.spread_uw * work->busy_ns * 1e-9) : 0;
    finish(&e, d, f.error_uj, f.error_uj);
    e.status = TEL_MODELLED; // nothing ran
    e.method = TEL_METHOD_MODELLED;
    e.coverage_frac = 0;
    return e;
}
