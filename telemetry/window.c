// Energy of a window between knots, and its bound, term by term.
//
// Inside a seen stretch of length L with mean power Q, the energy of its first part f*L lies between
//   max(f*low, Q - (1-f)*high) * L   and   min(f*high, Q - (1-f)*low) * L
// where low and high are the extremes that the device can have: the rest must fit into the other part. The straight line is the value, the
// distance to these two is the step term. Both ends of a window have one; they reach their extremes together only for a load that changes
// its phase against the sensor in between, so the shorter one counts by three quarters (checked by tests on locked loads).
// Lag: the window slides by the uncertainty that all knots share. Gain, offset, blind time, gaps: proportional to energy or time.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/track.h"

#include <math.h>

// A place in a track: inside the stretch that ends at knot i (i >= 1), at fraction f of it.
typedef struct place {
    size_t i;
    double f, length_ns;
    const tel_knot *a, *b;
} place;

// 99 % of a normal distribution, both sides.
static const double SIGMAS = 2.576;
// Share of the shorter end's shape that counts beside the longer one's.
static const double BOTH_ENDS = 0.75;

static place find(const tel_track *t, double t_ns) {
    size_t low = 0, high = t->n - 1;
    while (high - low > 1) { // knot[low] <= t_ns < knot[high]
        size_t middle = low + (high - low) / 2;
        if ((double)track_knot(t, middle)->t_ns <= t_ns) low = middle;
        else high = middle;
    }
    place p = {.i = low + 1, .a = track_knot(t, low), .b = track_knot(t, low + 1)};
    p.length_ns = (double)(p.b->t_ns - p.a->t_ns);
    p.f = (t_ns - (double)p.a->t_ns) / p.length_ns;
    if (p.f < 0) p.f = 0;
    if (p.f > 1) p.f = 1;
    return p;
}

static double between(uint64_t a, uint64_t b, double f) { return (double)a + f * (double)(b - a); }
static double total_at(const place *p) { return between(p->a->total_uj, p->b->total_uj, p->f); }
static double stretch_uj(const place *p) { return (double)(p->b->total_uj - p->a->total_uj); }
static double power_uw(const place *p) { return stretch_uj(p) * 1e9 / p->length_ns; }

static bool has_shape(const place *p) { return p->b->stretch == TEL_STRETCH_SEEN || p->b->stretch == TEL_STRETCH_DOUBTFUL; }

static double clamp(double x) { return x > 0 ? x : 0; }

// ---- Step: the edges ----------------------------------------------------------------------------------------------
typedef struct sides {
    double up, down; // truth may be higher, lower than the value by so much, uJ
} sides;

static sides edge(const place *p, double low_uw, double high_uw) {
    if (!has_shape(p)) return (sides){0, 0}; // its whole time is in the blind terms
    double q = power_uw(p), f = p->f, scale = p->length_ns / 1e9;
    double most = fmin(f * high_uw, q - (1 - f) * low_uw), least = fmax(f * low_uw, q - (1 - f) * high_uw);
    return (sides){clamp(most - f * q) * scale, clamp(f * q - least) * scale};
}

// The error of a knot's own time, for the two ends.
static double own_times(const place *p) {
    double early = (double)p->a->early_ns * (1 - p->f) + (double)p->b->early_ns * p->f;
    if (early > p->length_ns / 2) early = p->length_ns / 2;
    return power_uw(p) * early / 1e9;
}

// Both ends of a window at two places.
static sides shape_term(const tel_track *t, const place *p0, const place *p1, double low_uw, double high_uw, double window_ns) {
    double value = total_at(p1) - total_at(p0);
    if (p0->i == p1->i && has_shape(p0)) {
        double w = window_ns / 1e9, rest = (p0->length_ns - window_ns) / 1e9, all = stretch_uj(p0);
        return (sides){clamp(fmin(high_uw * w, all - low_uw * rest) - value), clamp(value - fmax(low_uw * w, all - high_uw * rest))};
    }
    sides a = edge(p0, low_uw, high_uw), b = edge(p1, low_uw, high_uw);
    double up0 = a.down, down0 = a.up; // more energy before the window is less in it
    double times = t->options.kind == TEL_SERIES_COUNTER ? own_times(p0) + own_times(p1) : 0;
    return (sides){fmax(up0, b.up) + BOTH_ENDS * fmin(up0, b.up) + times, fmax(down0, b.down) + BOTH_ENDS * fmin(down0, b.down) + times};
}

// ---- Lag: all knots may be off by the same time --------------------------------------------------------------------
// What the window could hold when everything happened earlier or later by up to half of the lag, beyond the shape at its place.
static sides lag_term(const tel_track *t, double t0, double t1, double value, sides shape, double low_uw, double high_uw) {
    enum { PLACES = 4 };
    double half = (double)track_lag_ns(t) / 2, first = (double)track_knot(t, 0)->t_ns, last = (double)track_knot(t, t->n - 1)->t_ns;
    sides worst = {0, 0};
    for (int k = -PLACES; k <= PLACES && half > 0; k++) {
        double a = fmax(t0 + half * k / PLACES, first), b = fmin(t1 + half * k / PLACES, last);
        if (b <= a) continue;
        place p0 = find(t, a), p1 = find(t, b);
        sides s = shape_term(t, &p0, &p1, low_uw, high_uw, b - a);
        double moved = total_at(&p1) - total_at(&p0) - value;
        worst.up = fmax(worst.up, moved + s.up - shape.up);
        worst.down = fmax(worst.down, s.down - moved - shape.down);
    }
    return worst;
}

// ---- Blind time ----------------------------------------------------------------------------------------------------
static sides blind_term(const place *p0, const place *p1, tel_stretch kind, double low_uw, double high_uw) {
    double ns = between(p1->a->blind_ns[kind], p1->b->blind_ns[kind], p1->f) - between(p0->a->blind_ns[kind], p0->b->blind_ns[kind], p0->f);
    double uj = between(p1->a->blind_uj[kind], p1->b->blind_uj[kind], p1->f) - between(p0->a->blind_uj[kind], p0->b->blind_uj[kind], p0->f);
    if (ns <= 0) return (sides){0, 0};
    return (sides){clamp(high_uw * ns / 1e9 - uj), clamp(uj - low_uw * ns / 1e9)};
}

// Moments read at jittered times are independent draws: the error of n of them grows with the root of n, not with n.
static sides moments_term(const place *p0, const place *p1, double low_uw, double high_uw) {
    sides all = blind_term(p0, p1, TEL_STRETCH_MOMENTS, low_uw, high_uw); // high_uw: as seen, moments catch the peaks
    double n = (double)(p1->b->n_moments - p0->a->n_moments);
    if (n < 4) return all;
    double factor = SIGMAS / sqrt(n); // a power between low and high deviates by at most half of their distance
    return factor < 1 ? (sides){all.up * factor, all.down * factor} : all;
}

// An unknown sensor that sees a quarter of the time: everything that it may have missed, at the ends of the window as unluckily as possible.
static sides doubt_term(const tel_track *t, const place *p0, const place *p1, double low_uw, double window_ns) {
    const tel_stretch kind = TEL_STRETCH_DOUBTFUL;
    double high_uw = track_seen_peak(t), ns, uj;
    if (p0->i == p1->i) {
        if (p0->b->stretch != kind) return (sides){0, 0};
        ns = fmin(window_ns, TEL_DOUBT * p0->length_ns);
        uj = power_uw(p0) * ns / 1e9;
    } else {
        ns = (double)(p1->a->blind_ns[kind] - p0->b->blind_ns[kind]);
        uj = (double)(p1->a->blind_uj[kind] - p0->b->blind_uj[kind]);
        const place *ends[] = {p0, p1};
        for (int i = 0; i < 2; i++) {
            const place *p = ends[i];
            if (p->b->stretch != kind) continue;
            double part = fmin(i == 0 ? 1 - p->f : p->f, TEL_DOUBT) * p->length_ns;
            ns += part;
            uj += power_uw(p) * part / 1e9;
        }
    }
    return (sides){clamp(high_uw * ns / 1e9 - uj), clamp(uj - low_uw * ns / 1e9)};
}

// ---- The record ----------------------------------------------------------------------------------------------------
static tel_energy unavailable(const tel_track *t, const char *reason) {
    tel_energy e = tel_energy_unavailable(reason, NULL);
    e.scope = t->options.scope;
    e.source = t->options.source;
    return e;
}

static uint64_t whole(double uj) { return uj > 0 ? (uint64_t)ceil(uj) : 0; }

static const char *obstacle(const tel_track *t, uint64_t t0, uint64_t t1) {
    if (t1 <= t0) return "the window is empty";
    if (t->n < 2) return "there are no two readings yet";
    if (t0 < track_knot(t, 0)->t_ns) return "the window begins before the first reading that is kept";
    if (t1 > track_knot(t, t->n - 1)->t_ns) return "the window has not settled: its end is later than the last reading";
    return NULL;
}

tel_energy tel_track_energy(const tel_track *t, uint64_t t0_ns, uint64_t t1_ns) {
    const char *reason = obstacle(t, t0_ns, t1_ns);
    if (reason) return unavailable(t, reason);
    double t0 = (double)t0_ns, t1 = (double)t1_ns, w = (double)(t1_ns - t0_ns), low, high;
    place p0 = find(t, t0), p1 = find(t, t1);
    double value = total_at(&p1) - total_at(&p0);
    track_extremes(t, &low, &high);
    double gap_ns = between(p1.a->blind_ns[TEL_STRETCH_GAP], p1.b->blind_ns[TEL_STRETCH_GAP], p1.f) -
                    between(p0.a->blind_ns[TEL_STRETCH_GAP], p0.b->blind_ns[TEL_STRETCH_GAP], p0.f);
    if (gap_ns > 0.999 * w) return unavailable(t, "the source could not be read during the whole window");

    sides step = shape_term(t, &p0, &p1, low, high, w), lag = lag_term(t, t0, t1, value, step, low, high);
    sides unseen = blind_term(&p0, &p1, TEL_STRETCH_UNSEEN, low, high), gap = blind_term(&p0, &p1, TEL_STRETCH_GAP, 0, high);
    sides moments = moments_term(&p0, &p1, low, track_seen_peak(t));
    sides doubt = doubt_term(t, &p0, &p1, low, w); // instead of the shape inside the steps, not besides it
    unseen.up += moments.up + clamp(doubt.up - step.up);
    unseen.down += moments.down + clamp(doubt.down - step.down);
    double gain = t->gain_error * value, offset = t->offset_error * w / 1e3;
    double up = step.up + lag.up + unseen.up + gap.up + gain + offset, down = step.down + lag.down + unseen.down + gap.down + gain + offset;
    bool upper = up >= down; // the terms of the longer side add up to the bound
    double blind_ns = 0;
    for (int k = TEL_STRETCH_UNSEEN; k < TEL_N_STRETCHES; k++)
        blind_ns += between(p1.a->blind_ns[k], p1.b->blind_ns[k], p1.f) - between(p0.a->blind_ns[k], p0.b->blind_ns[k], p0.f);

    tel_energy e = {.method = t->options.method,
                    .scope = t->options.scope,
                    .source = t->options.source,
                    .energy_uj = (uint64_t)(value + 0.5),
                    .coverage_frac = clamp(1 - blind_ns / w),
                    .resolution_ns = t->step_ns ? t->step_ns : t->poll_ns,
                    .n_samples = p1.b->n_samples - p0.a->n_samples,
                    .n_gaps = p1.b->n_gaps - p0.a->n_gaps};
    e.terms = (tel_terms){.step_uj = whole(upper ? step.up : step.down),
                          .lag_uj = whole(upper ? lag.up : lag.down),
                          .unseen_uj = whole(upper ? unseen.up : unseen.down),
                          .gap_uj = whole(upper ? gap.up : gap.down),
                          .gain_uj = whole(gain),
                          .offset_uj = whole(offset)};
    double model = fmax(value * (t->options.high_factor - 1), value * (1 - t->options.low_factor));
    e.terms.model_uj = whole(clamp(model - (upper ? up : down)));
    e.bound_uj = e.terms.step_uj + e.terms.lag_uj + e.terms.unseen_uj + e.terms.gap_uj + e.terms.gain_uj + e.terms.offset_uj + e.terms.model_uj;
    double least = fmin(value - down, value * t->options.low_factor), most = fmax(value + up, value * t->options.high_factor);
    e.low_uj = (uint64_t)clamp(floor(least));
    e.high_uj = whole(most);
    e.status = t->options.method == TEL_METHOD_MODELLED ? TEL_MODELLED : e.bound_uj > e.energy_uj / 2 ? TEL_BELOW_RESOLUTION : TEL_MEASURED;
    return e;
}

// ---- Edges ---------------------------------------------------------------------------------------------------------
uint64_t tel_track_settled(const tel_track *t) { return t->n ? track_knot(t, t->n - 1)->t_ns : 0; }

static uint64_t edge_bound(const tel_track *t, size_t i) {
    const tel_knot *k = track_knot(t, i);
    double before = 0, after;
    if (i > 0) {
        const tel_knot *a = track_knot(t, i - 1);
        before = (double)(k->total_uj - a->total_uj) * 1e9 / (double)(k->t_ns - a->t_ns);
    }
    after = before;
    if (i + 1 < t->n) {
        const tel_knot *b = track_knot(t, i + 1);
        after = (double)(b->total_uj - k->total_uj) * 1e9 / (double)(b->t_ns - k->t_ns);
    }
    double own = fmax(before, after) * (double)k->early_ns / 1e9, lag = fabs(after - before) * (double)track_lag_ns(t) / 2 / 1e9;
    return whole(own + lag);
}

size_t tel_track_edges(const tel_track *t, uint64_t after_ns, tel_edge *out, size_t cap) {
    size_t n = 0, i = 0;
    if (t->n >= 2 && track_knot(t, 0)->t_ns <= after_ns) { // binary search for the first knot later than after_ns
        size_t low = 0, high = t->n;
        while (high - low > 1) {
            size_t middle = low + (high - low) / 2;
            if (track_knot(t, middle)->t_ns <= after_ns) low = middle;
            else high = middle;
        }
        i = low + 1;
    }
    for (; i < t->n && n < cap; i++) {
        const tel_knot *k = track_knot(t, i);
        // The end of blind time is no edge.
        if (i > 0 && k->stretch == TEL_STRETCH_UNSEEN) continue;
        out[n++] = (tel_edge){.t_ns = k->t_ns, .total_uj = k->total_uj, .edge_uj = edge_bound(t, i), .unseen_uj = k->blind_bound_uj, .gaps = k->n_gaps};
    }
    return n;
}

tel_trust tel_track_trust(const tel_track *t) {
    double blind_ns = 0, all_ns = t->n < 2 ? 0 : (double)(track_knot(t, t->n - 1)->t_ns - track_knot(t, 0)->t_ns);
    for (int k = TEL_STRETCH_UNSEEN; all_ns > 0 && k < TEL_N_STRETCHES; k++)
        blind_ns += (double)(track_knot(t, t->n - 1)->blind_ns[k] - track_knot(t, 0)->blind_ns[k]);
    return (tel_trust){.gain_frac = t->gain_error, .offset_uw = t->offset_error * 1e6, .low_factor = t->options.low_factor, .high_factor = t->options.high_factor,
                       .coverage_frac = all_ns > 0 ? clamp(1 - blind_ns / all_ns) : 1, .peak_uw = track_limit_peak(t)};
}

bool tel_track_power(const tel_track *t, uint64_t *power_uw_out) {
    if (t->n < 2) return false;
    const tel_knot *a = track_knot(t, t->n - 2), *b = track_knot(t, t->n - 1);
    *power_uw_out = (uint64_t)((double)(b->total_uj - a->total_uj) * 1e9 / (double)(b->t_ns - a->t_ns));
    return true;
}
