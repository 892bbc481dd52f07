// Samples of one domain in order: units, wraps, and everything that a counter or sensor can do wrong.
//
// A counter's reading is taken as energy only where one explanation fits: it rose, or wrapped once, by no more than twice the power
// limit over the time since it last moved. Everything else (a fall, a jump, time in which a wrap could hide) is a gap: the total stays where
// it is and counting goes on from the new value. No path adds energy that a second explanation would deny.
// Called by the sources (through the sampling thread) and by meter.c; window.c reads the ring.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/series.h"

#include <stdlib.h>
#include <string.h>

enum {
    FROZEN_STEPS = 20,
    DOUBT_READS = 64, // reads after a jump in which a return to the old value is looked for
    LATE_STEPS = 10,  // powers: readings further apart than this many steps leave the time between them unobserved
};
static const uint64_t FROZEN_MIN_NS = 2000000000u, LATE_MIN_NS = 2000000000u;
static const uint64_t UNKNOWN_LIMIT_UW = 1000000000u;  // 1 kW: above any CPU package and most boards
static const uint64_t UNKNOWN_STEP_NS = 1000000000u;   // slack while a counter's step is not known: no counter in use is slower
static const long double TOTAL_MAX_UJ = 9.0e18L;       // 9 TJ: totals stay inside uint64

const char *tel_fault_name(tel_fault fault) {
    static const char *const names[TEL_N_FAULTS] = {"read", "vanished", "backwards", "reset", "implausible", "frozen", "late", "suspend"};
    return (unsigned)fault < TEL_N_FAULTS ? names[fault] : "unknown";
}

tel_result tel_series_init(tel_series *series, const tel_series_options *options) {
    memset(series, 0, sizeof *series);
    if (options->capacity < 2 || options->capacity > SIZE_MAX / sizeof(tel_sample) || !(options->uj_per_unit > 0)) return TEL_ERR_INVALID;
    series->options = *options;
    series->ring = calloc(options->capacity, sizeof *series->ring);
    return series->ring ? TEL_OK : TEL_ERR_NO_MEMORY;
}

void tel_series_free(tel_series *series) {
    free(series->ring);
    memset(series, 0, sizeof *series);
}

const tel_sample *tel_series_at(const tel_series *series, size_t i) {
    return &series->ring[(series->head + i) % series->options.capacity];
}

// ---- Cost of reading ----------------------------------------------------------------------------------------------
void tel_series_cost(tel_series *series, uint64_t read_ns) {
    series->n_reads++;
    series->read_total_ns += read_ns;
    unsigned bin = 0;
    while (bin < 31 && read_ns >> (bin + 1)) bin++;
    series->read_hist[bin]++;
}

// Upper end of the power of two that 99 % of the reads stay in.
uint64_t tel_series_read_p99(const tel_series *series) {
    uint64_t above = series->n_reads / 100, seen = 0;
    for (unsigned bin = 32; bin-- > 0;) {
        seen += series->read_hist[bin];
        if (seen > above) return (2ull << bin) - 1;
    }
    return 0;
}

// ---- What the raw values can mean ---------------------------------------------------------------------------------
static long double cap_uw(const tel_series *s) {
    return 2.0L * (long double)(s->options.limit_uw ? s->options.limit_uw : UNKNOWN_LIMIT_UW);
}

static uint64_t known_step(const tel_series *s) { return s->step_ns > s->options.step_ns ? s->step_ns : s->options.step_ns; }

// Most energy that the counter can have taken up since a value that it changed to, or was first seen with, at since_ns. The value
// itself is older by up to a step, and the updates may be late by another.
static long double most_uj(const tel_series *s, uint64_t since_ns, uint64_t t_ns) {
    uint64_t step = known_step(s);
    uint64_t slack = (t_ns - s->last_t_ns) + (step ? 2 * step : UNKNOWN_STEP_NS);
    return cap_uw(s) * ((long double)(t_ns - since_ns) + (long double)slack) / 1e9L;
}

static long double units_uj(const tel_series *s, uint64_t units) { return (long double)units * (long double)s->options.uj_per_unit; }

// Energy of a whole turn of the counter.
static long double turn_uj(const tel_series *s) {
    long double units = s->options.range ? (long double)s->options.range + 1 : 18446744073709551616.0L;
    return units * (long double)s->options.uj_per_unit;
}

enum { N_BEFORE = sizeof((tel_series *)0)->before / sizeof((tel_series *)0)->before[0] };

static bool in_doubt(const tel_series *s) {
    for (size_t i = 0; i < N_BEFORE; i++)
        if (s->before[i].reads) return true;
    return false;
}

// Whether the counter may have gone on from a value that it had before a jump. Such a value has then been answered and is forgotten.
static bool returns(tel_series *s, uint64_t t_ns, uint64_t raw) {
    bool any = false;
    for (size_t i = 0; i < N_BEFORE; i++) {
        if (!s->before[i].reads || raw < s->before[i].raw) continue;
        if (units_uj(s, raw - s->before[i].raw) > most_uj(s, s->before[i].change_ns, t_ns)) continue;
        s->before[i].reads = 0;
        any = true;
    }
    return any;
}

static void keep_before(tel_series *s) {
    size_t place = 0; // a free one, or the oldest
    for (size_t i = 1; i < N_BEFORE; i++)
        if (s->before[i].reads < s->before[place].reads) place = i;
    s->before[place].raw = s->last_raw;
    s->before[place].change_ns = s->last_change_ns;
    s->before[place].reads = DOUBT_READS;
}

// Whether a fall to raw is one wrap. Two wraps look like one or none: caught before, by the distance of samples. After failed reads
// a restart is likelier than in ordinary sampling, so there the wrap must also be expected: near enough to the end of the range.
static bool is_wrap(const tel_series *s, uint64_t t_ns, uint64_t raw) {
    if (in_doubt(s)) return false; // a last value that may be garbage proves nothing
    uint64_t units = s->options.range ? s->options.range - s->last_raw + raw + 1 : raw - s->last_raw;
    long double most = most_uj(s, s->last_change_ns, t_ns);
    if (s->gap_pending && most > turn_uj(s) / 64) return false;
    return units_uj(s, units) <= most;
}

// ---- Storing ------------------------------------------------------------------------------------------------------
static void store(tel_series *s, const tel_sample *sample) {
    size_t capacity = s->options.capacity;
    if (s->n == capacity) {
        s->ring[s->head] = *sample;
        s->head = (s->head + 1) % capacity;
        s->dropped++;
    } else {
        s->ring[(s->head + s->n++) % capacity] = *sample;
    }
    s->gap_pending = s->gap_hard = false;
}

static uint64_t last_value(const tel_series *s) { return s->n ? tel_series_at(s, s->n - 1)->value : 0; }

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void learn_step(tel_series *s, uint64_t distance_ns) {
    enum { N = sizeof s->steps / sizeof s->steps[0] };
    s->steps[s->n_steps++ % N] = distance_ns;
    uint64_t sorted[N];
    size_t n = s->n_steps < N ? s->n_steps : N;
    // The first few decide quickly; afterwards a new median every few changes is enough.
    if (n == N && s->n_steps % 16) return;
    memcpy(sorted, s->steps, n * sizeof sorted[0]);
    qsort(sorted, n, sizeof sorted[0], by_size);
    s->step_ns = sorted[n / 2];
}

static void learn_power(tel_series *s, uint64_t power_uw) {
    if (!s->max_uw || power_uw < s->min_uw) s->min_uw = power_uw;
    if (power_uw > s->max_uw) s->max_uw = power_uw;
}

static void count_gap(tel_series *s, tel_fault fault) {
    s->faults[fault]++;
    if (s->has_last && !s->gap_pending) s->n_gaps++;
    s->gap_pending = s->has_last;
}

// A gap needs no time of its own: it began at the last sample and ends at the next.
static void open_gap(tel_series *s, tel_fault fault) {
    count_gap(s, fault);
    if (fault != TEL_FAULT_READ && s->has_last) s->gap_hard = true;
}

void tel_series_fault(tel_series *series, uint64_t t_ns, tel_fault fault) {
    if ((unsigned)fault >= TEL_N_FAULTS) fault = TEL_FAULT_READ;
    if (series->tap.fault) series->tap.fault(series->tap.user, t_ns, fault);
    open_gap(series, fault);
}

// ---- Counters -----------------------------------------------------------------------------------------------------
// Counting starts anew from raw; the stretch before has no energy.
static void counter_restart(tel_series *s, uint64_t t_ns, uint64_t raw, uint32_t read_ns) {
    tel_sample sample = {.t_ns = t_ns, .value = last_value(s), .read_ns = read_ns, .gap_before = true, .changed = raw != s->last_raw};
    store(s, &sample);
    s->last_raw = raw;
    s->last_t_ns = s->last_change_ns = t_ns;
    s->moved = s->frozen = false; // the next change ends a part of a step
}

static void counter_jump(tel_series *s, uint64_t t_ns, uint64_t raw, uint32_t read_ns, tel_fault fault) {
    count_gap(s, fault);
    if (!returns(s, t_ns, raw)) keep_before(s);
    counter_restart(s, t_ns, raw, read_ns);
}

static tel_fault name_of_fall(const tel_series *s, uint64_t t_ns, uint64_t raw) {
    bool small = raw < s->last_raw / 2 && units_uj(s, raw) <= most_uj(s, s->last_change_ns, t_ns);
    return small ? TEL_FAULT_RESET : TEL_FAULT_BACKWARDS;
}

// The counter moved by so many units, and nothing speaks against it.
static void counter_advance(tel_series *s, uint64_t t_ns, uint64_t raw, uint64_t units, uint32_t read_ns) {
    long double add = units_uj(s, units) + s->remainder_uj;
    uint64_t whole = (uint64_t)add;
    s->remainder_uj = add - (long double)whole;
    tel_sample sample = {.t_ns = t_ns, .value = last_value(s) + whole, .read_ns = read_ns, .changed = units > 0};
    bool across_gap = s->gap_pending;
    store(s, &sample);
    if (units > 0) {
        uint64_t distance = t_ns - s->last_change_ns;
        if (s->moved && !across_gap && distance) {
            learn_step(s, distance);
            // Over less than a step the quotient is the reads' jitter, not a power.
            if (distance >= s->options.step_ns && distance >= s->step_ns / 2) {
                long double power = units_uj(s, units) * 1e9L / (long double)distance;
                if (power <= cap_uw(s)) learn_power(s, (uint64_t)power);
            }
        }
        s->moved = true;
        s->last_change_ns = t_ns;
    }
    s->last_raw = raw;
    s->last_t_ns = t_ns;
}

// True: the value stands still for so long that the counter must be taken as stopped; the reading is not stored.
static bool counter_frozen(tel_series *s, uint64_t t_ns, uint64_t raw) {
    if (raw != s->last_raw) return false;
    if (!s->frozen) {
        uint64_t step = known_step(s), still = t_ns - s->last_change_ns;
        if (!s->moved || !step || still < FROZEN_MIN_NS || still / FROZEN_STEPS < step) return false;
        s->frozen = true;
        open_gap(s, TEL_FAULT_FROZEN);
    }
    s->last_t_ns = t_ns;
    return true;
}

static void counter_push(tel_series *s, uint64_t t_ns, uint64_t raw, uint32_t read_ns) {
    if (s->options.range && raw > s->options.range) { // no such value: this reading or the range is wrong
        open_gap(s, TEL_FAULT_READ);
        return;
    }
    if (!s->has_last) { // the baseline: whatever the counter had counted before is not ours
        tel_sample first = {.t_ns = t_ns, .read_ns = read_ns};
        store(s, &first);
        s->has_last = true;
        s->last_raw = raw;
        s->last_t_ns = s->last_change_ns = t_ns;
        return;
    }
    if (counter_frozen(s, t_ns, raw)) return;
    for (size_t i = 0; i < N_BEFORE; i++) s->before[i].reads -= s->before[i].reads > 0;
    if (s->gap_hard) {
        counter_restart(s, t_ns, raw, read_ns);
        return;
    }
    // Readings so far apart that the counter could have turned once without showing it.
    if (cap_uw(s) * (long double)(t_ns - s->last_t_ns) / 1e9L >= turn_uj(s)) {
        count_gap(s, TEL_FAULT_LATE);
        counter_restart(s, t_ns, raw, read_ns);
        return;
    }
    bool fell = raw < s->last_raw;
    if (fell && !is_wrap(s, t_ns, raw)) {
        counter_jump(s, t_ns, raw, read_ns, name_of_fall(s, t_ns, raw));
        return;
    }
    uint64_t units = fell && s->options.range ? s->options.range - s->last_raw + raw + 1 : raw - s->last_raw;
    if (units_uj(s, units) > most_uj(s, s->last_change_ns, t_ns) ||
        units_uj(s, units) + (long double)last_value(s) > TOTAL_MAX_UJ) {
        counter_jump(s, t_ns, raw, read_ns, TEL_FAULT_IMPLAUSIBLE);
        return;
    }
    // The value before a jump explains this reading as well as the one after it does: nobody knows which is right.
    if (units && returns(s, t_ns, raw)) {
        count_gap(s, TEL_FAULT_BACKWARDS);
        counter_restart(s, t_ns, raw, read_ns);
        return;
    }
    counter_advance(s, t_ns, raw, units, read_ns);
}

// ---- Powers -------------------------------------------------------------------------------------------------------
// stamped: the device keeps its readings, so that a failed read loses none as long as the next one brings the reading that is due.
static void power_push(tel_series *s, uint64_t t_ns, uint64_t raw, uint32_t read_ns, bool stamped) {
    long double power = (long double)raw * (long double)s->options.uj_per_unit;
    if (power > cap_uw(s)) {
        open_gap(s, TEL_FAULT_IMPLAUSIBLE);
        return;
    }
    uint64_t step = s->step_ns ? s->step_ns : s->options.step_ns;
    if (s->has_last && step && t_ns - s->last_t_ns > LATE_MIN_NS && (t_ns - s->last_t_ns) / LATE_STEPS > step)
        open_gap(s, TEL_FAULT_LATE);
    bool lost = s->gap_hard || !stamped || t_ns - s->last_t_ns > 2 * step;
    tel_sample sample = {.t_ns = t_ns, .value = (uint64_t)(power + 0.5L), .read_ns = read_ns, .gap_before = s->gap_pending && lost,
                         .changed = s->has_last && raw != s->last_raw};
    if (sample.changed) {
        if (s->moved && !sample.gap_before) learn_step(s, t_ns - s->last_change_ns);
        s->moved = true;
        s->last_change_ns = t_ns;
    }
    learn_power(s, sample.value);
    store(s, &sample);
    s->has_last = true;
    s->last_raw = raw;
    s->last_t_ns = t_ns;
}

static void push(tel_series *s, uint64_t t_ns, uint64_t raw, uint64_t read_ns, bool stamped) {
    if (s->has_last && t_ns <= s->last_t_ns) return;
    if (s->tap.sample) s->tap.sample(s->tap.user, t_ns, raw, read_ns, stamped);
    uint32_t cost = read_ns < UINT32_MAX ? (uint32_t)read_ns : UINT32_MAX;
    if (s->options.kind == TEL_SERIES_COUNTER) counter_push(s, t_ns, raw, cost);
    else power_push(s, t_ns, raw, cost, stamped);
}

void tel_series_push(tel_series *series, uint64_t t0_ns, uint64_t t1_ns, uint64_t raw) {
    uint64_t read_ns = t1_ns > t0_ns ? t1_ns - t0_ns : 0;
    tel_series_cost(series, read_ns);
    push(series, t0_ns + read_ns / 2, raw, read_ns, false);
}

void tel_series_push_at(tel_series *series, uint64_t t_ns, uint64_t raw) { push(series, t_ns, raw, 0, true); }
