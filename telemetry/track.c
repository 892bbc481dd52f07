// From samples to knots: when did the sensor update, and how much energy lies between two updates.
//
// A sensor that is read faster than it updates shows each update at the first read after it, so the update's time is known to one
// distance of reads. Updates come at regular steps: the tracker predicts the next one from the step and keeps the prediction inside what the
// reads allow, which leaves a millisecond or two of the 5 to 20. An update that does not change the value is invisible and is put where it
// must have been. A counter that updates faster than it is read has a knot at every read.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/track.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEARN_CHANGES = 5,       // distances of changes before a step is believed
    KNOT_SHORTEST_NS = 2000000, // counters read in quick succession: one knot
    STEP_UNKNOWN_NS = 100000000, // of a counter that was only seen once: what drivers of boards have
    STEP_SHORTEST_NS = 1000000, // no sensor updates faster; a file that says so must not cost millions of silent updates
};
#define TRUSTED_LEVELS 20u // isolated changes of level before behaviour decides a sensor's class

const tel_knot *track_knot(const tel_track *t, size_t i) { return &t->ring[(t->head + i) % t->options.capacity]; }

static tel_knot *last_knot(tel_track *t) { return &t->ring[(t->head + t->n - 1) % t->options.capacity]; }

static tel_knot *new_knot(tel_track *t) {
    if (t->n == t->options.capacity) {
        t->head = (t->head + 1) % t->options.capacity;
        t->n--;
    }
    t->n++;
    return last_knot(t);
}

// ---- Opening ------------------------------------------------------------------------------------------------------
tel_result tel_track_open(const tel_track_options *options, tel_track **out) {
    if (!options->card || options->capacity < 4) return TEL_ERR_INVALID;
    tel_track *t = calloc(1, sizeof *t);
    tel_knot *ring = calloc(options->capacity, sizeof *ring);
    if (!t || !ring) {
        free(t);
        free(ring);
        return TEL_ERR_NO_MEMORY;
    }
    t->options = *options;
    t->options.calibration = NULL; // copied below
    t->ring = ring;
    if (t->options.low_factor <= 0) t->options.low_factor = 1;
    if (t->options.high_factor <= 0) t->options.high_factor = 1;
    const tel_card *card = options->card;
    t->kind = card->kind;
    t->step_ns = card->step_ns ? card->step_ns : options->step_ns;
    t->gain = 1;
    t->gain_error = card->gain_frac;
    t->offset_error = card->offset_w;
    if (options->calibration) {
        t->calibrated = true;
        t->gain = options->calibration->gain;
        t->offset_w = options->calibration->offset_w;
        t->gain_error = options->calibration->gain_error;
        t->offset_error = options->calibration->offset_error_w;
    }
    t->min_uw = INFINITY;
    *out = t;
    return TEL_OK;
}

void tel_track_close(tel_track **track) {
    if (!track || !*track) return;
    free((*track)->ring);
    free(*track);
    *track = NULL;
}

// ---- Knots --------------------------------------------------------------------------------------------------------
static double truth_uw(const tel_track *t, double reading_uw) {
    double p = (reading_uw - t->offset_w * 1e6) / t->gain;
    return p > 0 ? p : 0;
}

double track_limit_peak(const tel_track *t) {
    const tel_card *card = t->options.card;
    // Boards exceed their limit for milliseconds by up to a third (467 W were measured on one of 350 W).
    return 1.35 * (card->limit_w > 0 ? card->limit_w * 1e6 : (double)t->options.limit_uw);
}

void track_extremes(const tel_track *t, double *low_uw, double *high_uw) {
    double low = isfinite(t->min_uw) ? t->min_uw : 0, high = t->max_uw;
    double margin = 0.02 * high + (t->options.scope == TEL_SCOPE_GPU_BOARD ? 1e6 : 0), swing = high - low + margin;
    *low_uw = low > margin ? low - margin : 0;
    if (t->kind == TEL_CARD_AVERAGED) *low_uw = 0; // a second of averaging hides the depths as well as the peaks
    double peak = track_limit_peak(t);
    if (peak <= 0) { // nobody says: a load in step with the sensor hides its peaks behind its mean
        double beyond = t->kind == TEL_CARD_COUNTER ? 1 : 3;
        peak = fmax(high + beyond * swing, 1.5 * high);
    } else if (t->kind == TEL_CARD_PART_TIME) {
        peak = fmin(peak, track_seen_peak(t));
    }
    *high_uw = fmax(peak, high + margin);
}

double track_seen_peak(const tel_track *t) {
    double low = fmin(t->min_uw, t->max_uw), seen = t->max_uw + 0.25 * (t->max_uw - low) + 0.02 * t->max_uw;
    // A load in step with the sensor may never have been looked at: what is known to draw low may be drawing about twice that.
    return fmax(seen, 2.2 * low);
}

uint64_t track_lag_ns(const tel_track *t) {
    uint64_t poll = t->step_ns > t->poll_ns ? t->poll_ns : 0; // read faster than it updates: half a read's distance is left
    return t->options.card->lag_ns + poll / 2;
}

static double stretch_bound(const tel_track *t, double uw, double ns) {
    double low, high;
    track_extremes(t, &low, &high);
    if (t->kind == TEL_CARD_UNKNOWN) high = track_seen_peak(t);
    return fmax(high - uw, uw - low) * ns / 1e9;
}

// Appends the stretch from the last knot to t_ns with mean power uw (calibrated).
static void add_stretch(tel_track *t, uint64_t t_ns, double uw, tel_stretch stretch, uint64_t early_ns, uint32_t n_samples) {
    const tel_knot last = *last_knot(t);
    if (t_ns <= last.t_ns) return;
    double ns = (double)(t_ns - last.t_ns);
    t->sum_uj += (long double)uw * ns / 1e9L;
    tel_knot *k = new_knot(t);
    *k = last;
    k->t_ns = t_ns;
    k->total_uj = (uint64_t)t->sum_uj;
    k->early_ns = (uint32_t)(early_ns < 1000000000u ? early_ns : 1000000000u);
    k->n_samples += n_samples;
    k->stretch = stretch;
    if (stretch != TEL_STRETCH_SEEN) {
        double share = stretch == TEL_STRETCH_DOUBTFUL ? TEL_DOUBT : 1;
        k->blind_ns[stretch] += (uint64_t)(share * ns);
        k->blind_uj[stretch] += (uint64_t)(share * (double)(k->total_uj - last.total_uj));
        k->blind_bound_uj += (uint64_t)(share * stretch_bound(t, uw, ns));
    }
    if (stretch == TEL_STRETCH_MOMENTS) k->n_moments++;
    if (stretch == TEL_STRETCH_GAP) k->n_gaps++;
    t->last_stretch_ns = t_ns - last.t_ns;
}

static void first_knot(tel_track *t, uint64_t t_ns) {
    *new_knot(t) = (tel_knot){.t_ns = t_ns};
    t->started = true;
}

// ---- What kind of sensor is this? ---------------------------------------------------------------------------------
static bool between(double a, double m, double b) {
    double x = (m - a) / (b - a);
    return x > 0.15 && x < 0.85;
}

// a a m b b: an isolated change of level shows a reading in between nearly always when the whole step is averaged, and in one case of five
// when a quarter of it is. A sensor that never jumps by more than a fifth of its swing averages over many steps.
static void learn_behaviour(tel_track *t, double uw) {
    if (t->options.card->kind != TEL_CARD_UNKNOWN) return;
    double *r = t->recent_uw;
    double swing = t->max_uw - t->min_uw;
    if (t->n_recent > 0) t->max_jump_uw = fmax(t->max_jump_uw, fabs(uw - r[3]));
    if (t->n_recent >= 4 && swing > 0.25 * t->max_uw) {
        bool level = fabs(r[0] - r[1]) < 0.1 * swing;
        if (level && fabs(r[2] - r[1]) > 0.15 * swing) {
            if (fabs(r[3] - r[2]) < 0.1 * swing) t->n_levels++;                                       // a a b b
            else if (fabs(uw - r[3]) < 0.1 * swing && fabs(r[3] - r[1]) > 0.5 * swing && between(r[1], r[2], r[3])) t->n_levels++, t->n_between++;
        }
    }
    memmove(r, r + 1, 3 * sizeof *r);
    r[3] = uw;
    if (t->n_recent < 1000) t->n_recent++;
    if (t->n_recent >= 30 && swing > 0.25 * t->max_uw && t->max_jump_uw < 0.2 * swing) t->kind = TEL_CARD_AVERAGED;
    else if (t->n_levels >= TRUSTED_LEVELS && t->n_between * 100 >= t->n_levels * 55) t->kind = TEL_CARD_FULL_WINDOW;
    else t->kind = TEL_CARD_UNKNOWN;
}

static void learn_extremes(tel_track *t, double uw) {
    t->min_uw = fmin(t->min_uw, uw);
    t->max_uw = fmax(t->max_uw, uw);
    t->last_power_uw = uw;
}

// ---- Slow sensors: updates seen between two reads -------------------------------------------------------------------
static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Updates that do not change the value are invisible, so distances are multiples of the step: the documented one, or the shortest
// distances seen (the lowest tenth: a single one may be cut by a late read). The mean of step counts refines it.
static void learn_step(tel_track *t, uint64_t distance_ns) {
    t->distances[t->n_distances++ % 64] = distance_ns;
    size_t n = t->n_distances < 64 ? t->n_distances : 64;
    if (n < LEARN_CHANGES) return;
    uint64_t sorted[64], documented = t->options.card->step_ns ? t->options.card->step_ns : t->options.step_ns;
    memcpy(sorted, t->distances, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_size);
    double base = documented ? (double)documented : (double)sorted[n / 10], sum = 0, steps = 0;
    for (int round_n = 0; round_n < 2; round_n++) { // the second time with a better base
        sum = steps = 0;
        for (size_t i = 0; i < n; i++) {
            double k = round((double)sorted[i] / base);
            if (k < 1 || k > 8) continue;
            sum += (double)sorted[i];
            steps += k;
        }
        if (steps < 1) return;
        if (!documented || fabs(sum / steps - (double)documented) < 0.2 * (double)documented) base = sum / steps;
    }
    t->step_ns = base > STEP_SHORTEST_NS ? (uint64_t)base : STEP_SHORTEST_NS;
}

static uint64_t window_of(const tel_track *t, uint64_t step_ns) {
    uint64_t window = t->options.card->window_ns;
    if (t->kind == TEL_CARD_AVERAGED && window < step_ns) return 1000000000u;
    if (!window || t->kind == TEL_CARD_FULL_WINDOW) return step_ns;
    return window;
}

// One update of a power sensor whose averaging window ends at end_ns; the reading is uw.
static void add_update(tel_track *t, uint64_t end_ns, double uw, uint64_t early_ns) {
    uint64_t begin = last_knot(t)->t_ns, window = window_of(t, t->step_ns);
    if (end_ns <= begin) return;
    double before = t->last_power_uw;
    if (t->kind == TEL_CARD_AVERAGED && end_ns - begin < window - t->step_ns / 2) return; // this window overlaps the last one
    learn_extremes(t, uw);
    learn_behaviour(t, uw);
    if (t->kind == TEL_CARD_PART_TIME && end_ns - begin > window) {
        add_stretch(t, end_ns - window, (before + uw) / 2, TEL_STRETCH_UNSEEN, early_ns, 0);
        add_stretch(t, end_ns, uw, TEL_STRETCH_SEEN, early_ns, 1);
    } else {
        add_stretch(t, end_ns, uw, t->kind == TEL_CARD_UNKNOWN ? TEL_STRETCH_DOUBTFUL : TEL_STRETCH_SEEN, early_ns, 1);
    }
}

// Updates that must have come before t_ns without changing the value.
static void add_silent(tel_track *t, uint64_t t_ns, double uw) {
    if (!t->step_ns) return;
    while (last_knot(t)->t_ns + t->step_ns + t->step_ns / 2 + t->options.card->lag_ns < t_ns) {
        uint64_t before = last_knot(t)->t_ns, step = t->kind == TEL_CARD_AVERAGED ? window_of(t, t->step_ns) : t->step_ns;
        if (before + step > t_ns) return;
        add_update(t, before + step, uw, t->poll_ns / 2);
        if (last_knot(t)->t_ns == before) return;
    }
}

// An update became visible at read `now`, not yet at the read before: where did its window end?
static uint64_t update_end(const tel_track *t, uint64_t before_ns, uint64_t now_ns) {
    uint64_t lag = t->options.card->lag_ns / 2;
    uint64_t first = before_ns > lag ? before_ns - lag : 0, last = now_ns > lag ? now_ns - lag : 0;
    uint64_t middle = first + (last - first) / 2;
    if (!t->step_ns) return middle;
    uint64_t from = t->ring[(t->head + t->n - 1) % t->options.capacity].t_ns;
    if (middle <= from) return middle;
    uint64_t steps = (middle - from + t->step_ns / 2) / t->step_ns;
    if (steps < 1 || steps > 3) return middle; // after a gap: begin anew
    uint64_t predicted = from + steps * t->step_ns;
    return predicted < first ? first : predicted > last ? last : predicted;
}

static void take_power(tel_track *t, const tel_sample *s) {
    double uw = truth_uw(t, (double)s->value), old_uw = truth_uw(t, (double)t->last_value);
    if (!s->changed) {
        add_silent(t, s->t_ns, old_uw);
        return;
    }
    if (t->last_change_ns) learn_step(t, s->t_ns - t->last_change_ns);
    uint64_t end = update_end(t, t->last_t_ns, s->t_ns);
    if (t->last_change_ns && end > t->step_ns) add_silent(t, end, old_uw);
    add_update(t, end, uw, (s->t_ns - t->last_t_ns) / 4);
    t->last_change_ns = s->t_ns;
}

// ---- Moments and counters -------------------------------------------------------------------------------------------
static void take_moment(tel_track *t, const tel_sample *s) {
    double uw = truth_uw(t, (double)s->value), old_uw = truth_uw(t, (double)t->last_value);
    learn_extremes(t, uw);
    add_stretch(t, s->t_ns, (uw + old_uw) / 2, TEL_STRETCH_MOMENTS, 0, 1);
}

// A counter shows its energy as of its last update: half a step ago when it is read more slowly than that.
static void take_counter(tel_track *t, const tel_sample *s) {
    if (!s->changed) return;
    bool slow_step = t->step_ns > t->poll_ns + t->poll_ns / 2;
    uint64_t first = t->last_t_ns, lag = t->options.card->lag_ns / 2;
    if (!slow_step && t->step_ns && s->t_ns - first > t->step_ns) first = s->t_ns - t->step_ns;
    uint64_t end = slow_step ? update_end(t, first, s->t_ns) : first + (s->t_ns - first) / 2 - (lag < first ? lag : 0);
    uint64_t begin = last_knot(t)->t_ns;
    if (t->last_change_ns && !t->options.card->step_ns) learn_step(t, s->t_ns - t->last_change_ns);
    if (end < begin + KNOT_SHORTEST_NS) return; // its energy stays in the difference to the next sample
    double ns = (double)(end - begin);
    double uw = truth_uw(t, (double)(s->value - t->last_value) * 1e9 / ns);
    // Short stretches tell little about extremes: one update more or less is a large part of them.
    if ((double)(s->t_ns - first) / 2 < 0.1 * ns) learn_extremes(t, uw);
    else t->last_power_uw = uw;
    uint64_t early = slow_step ? (s->t_ns - first) / 4 : (s->t_ns - first) / 2;
    const tel_card *card = t->options.card; // a counter that adds up a sensor which looks away is no better than that sensor
    if (t->kind == TEL_CARD_PART_TIME && card->window_ns < card->step_ns)
        add_stretch(t, begin + (uint64_t)(ns * (1 - (double)card->window_ns / (double)card->step_ns)), uw, TEL_STRETCH_UNSEEN, early, 0);
    add_stretch(t, end, uw, TEL_STRETCH_SEEN, early, 1);
    t->last_value = s->value;
    t->last_change_ns = s->t_ns;
}

// ---- Taking over samples --------------------------------------------------------------------------------------------
static void learn_poll(tel_track *t, uint64_t distance_ns) {
    if (!distance_ns) return;
    t->poll_ns = t->poll_ns ? (15 * t->poll_ns + distance_ns) / 16 : distance_ns;
}

static void take(tel_track *t, const tel_sample *s) {
    bool counter = t->options.kind == TEL_SERIES_COUNTER;
    if (!t->started) {
        first_knot(t, s->t_ns);
        // A counter's first value is as old as its last update: up to a step.
        if (counter) last_knot(t)->early_ns = (uint32_t)(t->step_ns ? t->step_ns : STEP_UNKNOWN_NS);
        t->last_value = s->value;
        t->last_power_uw = counter ? 0 : truth_uw(t, (double)s->value);
        t->last_t_ns = s->t_ns;
        return;
    }
    if (s->gap_before) { // the first power after it is not known yet: the one before stands in, and the bound covers all
        add_stretch(t, s->t_ns, t->last_power_uw, TEL_STRETCH_GAP, counter ? t->step_ns : 0, 0);
        t->last_value = s->value;
        t->last_change_ns = 0;
        t->last_t_ns = s->t_ns;
        return;
    }
    learn_poll(t, s->t_ns - t->last_t_ns);
    if (counter) take_counter(t, s);
    else if (t->kind == TEL_CARD_INSTANT) take_moment(t, s);
    else take_power(t, s);
    if (!counter) t->last_value = s->value;
    t->last_t_ns = s->t_ns;
}

void tel_track_update(tel_track *t, const tel_series *series) {
    uint64_t first = series->dropped, end = series->dropped + series->n;
    if (t->consumed < first) t->consumed = first;
    for (; t->consumed < end; t->consumed++) take(t, tel_series_at(series, (size_t)(t->consumed - first)));
}
