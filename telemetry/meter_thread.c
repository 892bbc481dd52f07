// Reading: rounds over the domains that are due, and the thread that makes them.
//
// Distances of reads vary by a quarter each way, so that sampling cannot lock onto the period of a load. The observer pays for itself:
// distances grow until reading and the thread's CPU time stay below half a per cent of one core, whatever a read costs on this machine.
// What a read costs is taken as its usual time: on a busy machine single reads are long because the thread was not running.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <time.h>

#include "telemetry/meter.h"

static const double READ_BUDGET_FRAC = 0.0045; // of wall time, both below the 0.5 % that are promised for each
static const double CPU_BUDGET_FRAC = 0.004;
static const uint64_t JUDGE_NS = 1000000000u;     // CPU time is judged over this long
static const uint64_t SUSPEND_MIN_NS = 10000000u; // 10 ms: less is the clocks' noise
static const uint64_t POKE_SHARE = 4;             // a poke is answered no sooner than this part of the interval after a round

static uint64_t timespec_ns(const struct timespec *t) { return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec; }

// ---- Suspend ------------------------------------------------------------------------------------------------------
uint64_t meter_suspended_ns(void) {
    uint64_t least = UINT64_MAX, result = 0;
    for (int i = 0; i < 3; i++) { // the reading with the least time between its two looks at the monotonic clock
        struct timespec before, boot, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        if (clock_gettime(CLOCK_BOOTTIME, &boot)) return 0;
        clock_gettime(CLOCK_MONOTONIC, &after);
        uint64_t width = timespec_ns(&after) - timespec_ns(&before), mono = timespec_ns(&before) + width / 2;
        if (width >= least) continue;
        least = width;
        result = timespec_ns(&boot) > mono ? timespec_ns(&boot) - mono : 0;
        if (width < 20000) break;
    }
    return result;
}

// Counters may have restarted while the machine slept, and nothing was read: a gap in everything that hangs on this machine.
static void check_suspend(tel_meter *meter) {
    uint64_t now = meter->suspended_ns();
    if (now > meter->last_suspended_ns + SUSPEND_MIN_NS)
        for (size_t i = 0; i < meter->n_domains; i++) {
            meter_domain *d = &meter->domains[i];
            bool made_up = d->source == &tel_source_replay || d->source == &tel_source_simulated;
            if (d->readable && !made_up) tel_series_fault(&d->series, tel_env_now(&meter->env), TEL_FAULT_SUSPEND);
        }
    meter->last_suspended_ns = now;
}

// ---- Pace ---------------------------------------------------------------------------------------------------------
static double next_random(tel_meter *meter) { // 0 to 1; xorshift64
    meter->random ^= meter->random << 13;
    meter->random ^= meter->random >> 7;
    meter->random ^= meter->random << 17;
    return (double)(meter->random >> 11) / 9007199254740992.0;
}

static uint64_t jittered(tel_meter *meter, uint64_t ns) { return (uint64_t)((double)ns * (0.75 + 0.5 * next_random(meter))); }

void meter_pace(tel_meter *meter) {
    double share = 0;
    for (size_t i = 0; i < meter->n_domains; i++) {
        const meter_domain *d = &meter->domains[i];
        if (d->readable) share += (double)d->typical_ns / (double)d->base_ns;
    }
    meter->slow_read = share > READ_BUDGET_FRAC ? share / READ_BUDGET_FRAC : 1;
    double slow = meter->options.interval_ns ? 1 : meter->slow_read > meter->slow_cpu ? meter->slow_read : meter->slow_cpu;
    meter->interval_ns = 10 * JUDGE_NS;
    for (size_t i = 0; i < meter->n_domains; i++) {
        meter_domain *d = &meter->domains[i];
        double every = (double)d->base_ns * slow;
        d->every_ns = every < (double)d->longest_ns ? (uint64_t)every : d->longest_ns;
        if (d->readable && d->every_ns < meter->interval_ns) meter->interval_ns = d->every_ns;
    }
}

static void judge_cpu(tel_meter *meter, uint64_t now) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    uint64_t cpu = timespec_ns(&t);
    pthread_mutex_lock(&meter->lock);
    meter->shown_cpu_ns = cpu;
    pthread_mutex_unlock(&meter->lock);
    uint64_t wall = now - meter->judged_ns;
    if (wall < JUDGE_NS) return;
    double share = (double)(cpu - meter->judged_cpu_ns) / (double)wall;
    if (share > CPU_BUDGET_FRAC) meter->slow_cpu *= share < 4 * CPU_BUDGET_FRAC ? share / CPU_BUDGET_FRAC : 4;
    else if (share < CPU_BUDGET_FRAC / 2) meter->slow_cpu *= 0.8;
    if (meter->slow_cpu < 1) meter->slow_cpu = 1;
    if (meter->slow_cpu > 1000) meter->slow_cpu = 1000;
    meter->judged_ns = now;
    meter->judged_cpu_ns = cpu;
}

// ---- Rounds -------------------------------------------------------------------------------------------------------
static void take_over(tel_meter *meter, meter_domain *d) {
    const tel_series *s = &d->series;
    meter_figures f = {.step_ns = s->step_ns, .read_mean_ns = s->n_reads ? s->read_total_ns / s->n_reads : 0,
                       .read_p99_ns = tel_series_read_p99(s), .n_reads = s->n_reads, .n_samples = s->dropped + s->n, .n_gaps = s->n_gaps,
                       .every_ns = d->every_ns, .read_ns = tel_env_now(&meter->env),
                       .ended = d->source->ended ? d->source->ended(d->state, &d->domain) : NULL};
    pthread_mutex_lock(&meter->lock);
    tel_track_update(d->track, s);
    d->figures = f;
    pthread_mutex_unlock(&meter->lock);
}

// The first read of all is cold and not asked; the least of the next few is a beginning. Then it moves by a part of itself towards
// each read: it settles at the median, however long the longest are.
static void learn_cost(meter_domain *d, uint64_t read_ns) {
    if (!d->typical_ns || (d->series.n_reads < 8 && read_ns < d->typical_ns)) d->typical_ns = read_ns;
    else if (read_ns > d->typical_ns) d->typical_ns += d->typical_ns / 16 + 1;
    else d->typical_ns -= d->typical_ns / 16;
}

static void read_domain(tel_meter *meter, meter_domain *d) {
    uint64_t reads = d->series.n_reads, total = d->series.read_total_ns, before;
    do { // a source with more than the series holds comes in pieces
        before = d->series.dropped + d->series.n;
        d->source->read(d->state, &d->domain, &d->series);
        take_over(meter, d);
    } while (d->series.dropped + d->series.n - before >= METER_SERIES_CAPACITY / 2);
    if (reads > 0 && d->series.n_reads > reads) learn_cost(d, (d->series.read_total_ns - total) / (d->series.n_reads - reads));
}

// Domains that are nearly due come along, so that the thread wakes once for all.
static bool is_due(const meter_domain *d, meter_which which, uint64_t now) {
    if (!d->readable) return false;
    return which == METER_ALL || (which == METER_COUNTING && d->counts) || d->due_ns <= now + d->every_ns / 4;
}

void meter_round(tel_meter *meter, meter_which which) {
    uint64_t now = tel_monotonic_ns();
    check_suspend(meter);
    for (size_t i = 0; i < meter->n_domains; i++) {
        meter_domain *d = &meter->domains[i];
        if (!is_due(d, which, now)) continue;
        read_domain(meter, d);
        d->due_ns = 0; // set below, when it is known what this read cost
    }
    meter_pace(meter);
    meter->next_ns = UINT64_MAX;
    for (size_t i = 0; i < meter->n_domains; i++) {
        meter_domain *d = &meter->domains[i];
        if (!d->due_ns) d->due_ns = now + jittered(meter, d->every_ns);
        if (d->readable && d->due_ns < meter->next_ns) meter->next_ns = d->due_ns;
    }
    pthread_mutex_lock(&meter->lock);
    meter->shown_interval_ns = meter->interval_ns;
    meter_compare(meter);
    pthread_mutex_unlock(&meter->lock);
    if (meter->recording) recording_flush(meter->recording);
}

void meter_call(tel_meter *meter) {
    pthread_mutex_lock(&meter->call_lock);
    if (meter->call) meter->call(meter->call_user);
    pthread_mutex_unlock(&meter->call_lock);
}

// ---- The thread ---------------------------------------------------------------------------------------------------
// Sleeps until due, or until a poke is to be answered. False: the meter is being closed.
static bool wait_until(tel_meter *meter, uint64_t due_ns, uint64_t poke_ns, meter_which *which) {
    pthread_mutex_lock(&meter->wake_lock);
    while (!meter->stop) {
        uint64_t until = meter->poked && poke_ns < due_ns ? poke_ns : due_ns;
        if (tel_monotonic_ns() >= until) break;
        struct timespec t = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
        pthread_cond_timedwait(&meter->wake, &meter->wake_lock, &t);
    }
    *which = meter->poked ? METER_COUNTING : METER_DUE;
    meter->poked = false;
    bool go_on = !meter->stop;
    pthread_mutex_unlock(&meter->wake_lock);
    return go_on;
}

void *meter_thread(void *arg) {
    tel_meter *meter = arg;
    uint64_t last = tel_monotonic_ns(), due, soon;
    meter->judged_ns = last;
    meter_which which = METER_DUE;
    for (;;) {
        pthread_mutex_lock(&meter->read_lock);
        due = meter->next_ns;
        soon = last + meter->interval_ns / POKE_SHARE;
        pthread_mutex_unlock(&meter->read_lock);
        if (!wait_until(meter, due, soon, &which)) return NULL;
        pthread_mutex_lock(&meter->read_lock);
        meter_round(meter, which);
        pthread_mutex_unlock(&meter->read_lock);
        meter_call(meter);
        last = tel_monotonic_ns();
        judge_cpu(meter, last);
    }
}
