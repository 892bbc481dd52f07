// Opening and closing a meter: sources found by the options, the choice between their domains, one series and one track per domain that
// can be read, the first readings, the thread.
//
// Everything that was opened is closed by one function, whatever had been reached. The first round is made before tel_meter_open returns:
// what the meter observed begins there. Domains that do not count are read too, at a tenth of the rate, to be compared.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "telemetry/meter.h"
#include "telemetry/rapl_perf.h"
#include "telemetry/simulated.h"
#include "telemetry/sysfs.h"

#define MS(n) ((uint64_t)(n)*1000000u)

static const uint64_t LONGEST_NS = MS(10000);
static const uint64_t HISTORY_NS = MS(600000);
static const uint64_t RIVAL_SHARE = 10;
static const uint64_t UNKNOWN_LIMIT_UW = 1000000000u;       // as series.c
static const uint64_t UNKNOWN_NODE_LIMIT_UW = 20000000000u; // 20 kW: a machine with eight large GPUs draws 10 kW
enum { KNOTS_MIN = 256, KNOTS_MAX = 4000000, CALIBRATIONS_MAX = 4096 };

// ---- Options ------------------------------------------------------------------------------------------------------
static const char *keep(tel_meter *meter, size_t slot, const char *text) {
    return meter->strings[slot] = strdup(text ? text : "");
}

static const char *given(const char *option, const char *variable, const char *otherwise) {
    const char *text = option ? option : getenv(variable);
    return text && *text ? text : otherwise;
}

// The one option that choose.c leaves to us: a simulated load.
static tel_result make_plan(const char *source, tel_plan *plan, tel_env *env, tel_error *err) {
    static const char load[] = "simulated:cpu:";
    if (!source || strncmp(source, load, sizeof load - 1) != 0) {
        tel_result result = tel_plan_make(source, plan, err);
        env->simulated_w = plan->simulated_w;
        return result;
    }
    if (!tel_simulated_parse(source + sizeof load - 1, &env->simulated_w, &env->simulated_busy_w))
        return tel_fail(err, TEL_ERR_INVALID, "%.60s: idle and busy watts are expected, as in simulated:cpu:5,20", source);
    *plan = (tel_plan){.sources = {&tel_source_simulated}, .n_sources = 1, .required = true, .asked = source, .replay_path = ""};
    return TEL_OK;
}

static uint64_t monotonic(void *unused) {
    (void)unused;
    return tel_monotonic_ns();
}

static tel_result take_options(tel_meter *meter, const tel_options *options, tel_plan *plan, tel_error *err) {
    meter->options = *options;
    tel_env *env = &meter->env;
    tel_result result = make_plan(options->source, plan, env, err);
    if (result) return result;
    if (!(options->cpu_idle_w >= 0 && options->cpu_busy_w >= 0 && options->cpu_idle_w <= 1e6 && options->cpu_busy_w <= 1e6))
        return tel_fail(err, TEL_ERR_INVALID, "watts of the CPU must be from 0 to a million");
    env->root = keep(meter, 0, given(options->sysfs_root, "WTL_SYSFS_ROOT", ""));
    env->nvml_path = keep(meter, 1, given(options->nvml_path, "WTL_NVML_PATH", "libnvidia-ml.so.1"));
    env->replay_path = keep(meter, 2, plan->replay_path);
    env->card = keep(meter, 3, options->card);
    env->cpu_idle_w = options->cpu_idle_w;
    env->cpu_busy_w = options->cpu_busy_w;
    env->clock = options->clock.now_ns ? options->clock : (tel_clock){.now_ns = monotonic};
    env->perf_open = tel_perf_open;
    for (size_t i = 0; i < 4; i++)
        if (!meter->strings[i]) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the meter");
    return TEL_OK;
}

// ---- Sources ------------------------------------------------------------------------------------------------------
static tel_result open_sources(tel_meter *meter, const tel_plan *plan, tel_error *err) {
    for (size_t i = 0; i < plan->n_sources; i++) {
        meter_source *s = &meter->sources[meter->n_sources];
        s->found = calloc(1, sizeof *s->found);
        if (!s->found) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the domains of %s", plan->sources[i]->name);
        s->source = plan->sources[i];
        meter->n_sources++;
        tel_result result = s->source->open(&meter->env, &s->state, s->found, err);
        if (result) return result;
    }
    return TEL_OK;
}

static tel_result choose_domains(tel_meter *meter, const tel_plan *plan, tel_error *err) {
    size_t n = 0, k = 0;
    for (size_t i = 0; i < meter->n_sources; i++) n += meter->sources[i].found->n;
    tel_candidate *candidates = calloc(n ? n : 1, sizeof *candidates);
    meter->domains = calloc(n ? n : 1, sizeof *meter->domains);
    tel_result result = TEL_OK;
    if (!candidates || !meter->domains) {
        result = tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for %zu domains", n);
        goto done;
    }
    for (size_t i = 0; i < meter->n_sources; i++) {
        meter_source *s = &meter->sources[i];
        for (size_t j = 0; j < s->found->n; j++)
            candidates[k++] = (tel_candidate){.source = s->source, .state = s->state, .domain = &s->found->items[j]};
    }
    meter->n_counting = tel_choose(candidates, n);
    tel_choose_explain(plan, candidates, n, meter->explain, sizeof meter->explain);
    for (size_t i = 0; i < n; i++)
        meter->domains[i] = (meter_domain){.domain = *candidates[i].domain, .source = candidates[i].source, .state = candidates[i].state,
                                           .readable = candidates[i].readable, .counts = candidates[i].counts, .rival = SIZE_MAX};
    meter->n_domains = n;
    result = tel_choose_check(plan, candidates, n, err);
done:
    free(candidates);
    return result;
}

// A modelled value is no second source: it is not held against a measured one.
static void find_rivals(tel_meter *meter) {
    for (size_t i = meter->n_counting; i < meter->n_domains; i++) {
        meter_domain *d = &meter->domains[i];
        if (!d->readable || !d->domain.key[0] || d->domain.method == TEL_METHOD_MODELLED) continue;
        for (size_t k = 0; k < meter->n_counting; k++) {
            const tel_domain *counting = &meter->domains[k].domain;
            if (!strcmp(counting->key, d->domain.key) && counting->method != TEL_METHOD_MODELLED) d->rival = k;
        }
    }
}

// ---- One domain ---------------------------------------------------------------------------------------------------
static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high) { return value < low ? low : value > high ? high : value; }

// Counters: several reads per step, because a step is seen to within a read; fast ones 50 times a second. Powers: twice per step, so that none
// is passed over.
static uint64_t suitable_interval(const meter_domain *d) {
    const tel_domain *domain = &d->domain;
    if (domain->poll_ns) return clamp(domain->poll_ns, MS(10), MS(1000));
    if (domain->kind == TEL_SERIES_COUNTER) return clamp(domain->step_ns / 5, MS(20), MS(1000));
    return domain->step_ns ? clamp(domain->step_ns / 2, MS(20), MS(1000)) : MS(50);
}

static uint64_t limit_of(const tel_domain *domain) {
    if (domain->limit_uw) return domain->limit_uw;
    if (domain->card && domain->card->limit_w > 0) return (uint64_t)(domain->card->limit_w * 1e6);
    return domain->scope == TEL_SCOPE_NODE || domain->scope == TEL_SCOPE_WALL ? UNKNOWN_NODE_LIMIT_UW : 0;
}

// A quarter of the distance at which a wrap could be missed.
static uint64_t longest_interval(const tel_domain *domain) {
    if (domain->kind != TEL_SERIES_COUNTER || !domain->range) return LONGEST_NS;
    uint64_t limit = limit_of(domain);
    double turn_uj = ((double)domain->range + 1) * domain->uj_per_unit;
    double ns = turn_uj / (2 * (double)(limit ? limit : UNKNOWN_LIMIT_UW)) * 1e9 / 4;
    return ns < (double)LONGEST_NS ? (uint64_t)(ns > 1e6 ? ns : 1e6) : LONGEST_NS;
}

// Knots for the whole history, at the distance at which they can come.
static size_t knots_of(const tel_meter *meter, const meter_domain *d) {
    uint64_t history = meter->options.history_ns ? meter->options.history_ns : HISTORY_NS;
    uint64_t distance = d->base_ns / 2;
    if (meter->options.manual && distance > MS(10)) distance = MS(10); // polled as the caller likes
    if (d->domain.poll_ns && d->domain.poll_ns < distance) distance = d->domain.poll_ns;
    return (size_t)clamp(history / (distance ? distance : 1), KNOTS_MIN, KNOTS_MAX);
}

static tel_result open_domain(tel_meter *meter, meter_domain *d, const tel_calibration *calibration, tel_error *err) {
    const tel_domain *domain = &d->domain;
    bool modelled = domain->method == TEL_METHOD_MODELLED;
    uint64_t base = meter->options.interval_ns ? meter->options.interval_ns : suitable_interval(d);
    d->base_ns = d->counts || base >= MS(1000) ? base : clamp(base * RIVAL_SHARE, base, MS(1000));
    d->longest_ns = longest_interval(domain);
    d->every_ns = d->base_ns < d->longest_ns ? d->base_ns : d->longest_ns;
    d->calibrated = calibration != NULL;
    tel_series_options series = {.kind = domain->kind, .uj_per_unit = domain->uj_per_unit, .range = domain->range,
                                 .limit_uw = limit_of(domain), .step_ns = domain->step_ns, .capacity = METER_SERIES_CAPACITY};
    tel_track_options track = {.card = domain->card ? domain->card : domain->kind == TEL_SERIES_COUNTER ? tel_card_counter() : tel_card_instant(),
                               .calibration = calibration, .kind = domain->kind, .scope = domain->scope, .method = domain->method,
                               .source = d->source->name, .step_ns = domain->step_ns, .limit_uw = domain->limit_uw,
                               .low_factor = domain->low_factor > 0 ? domain->low_factor : modelled ? 1.0 / 3 : 1,
                               .high_factor = domain->high_factor > 0 ? domain->high_factor : modelled ? 3 : 1,
                               .capacity = knots_of(meter, d)};
    tel_result result = tel_series_init(&d->series, &series);
    if (!result) result = tel_track_open(&track, &d->track);
    return result ? tel_fail(err, result, "%s of %s: its series cannot be set up", domain->name, d->source->name) : TEL_OK;
}

// How well an entry fits a domain: 0 not at all. The same name on another device is another sensor.
static int fit_of(const tel_calibration *entry, const tel_domain *domain) {
    bool name = !strcmp(entry->domain, domain->name), device = entry->device[0] && !strcmp(entry->device, domain->device);
    if (device) return name ? 3 : 2;
    return name && (!entry->device[0] || !domain->device[0]) ? 1 : 0;
}

static tel_result open_domains(tel_meter *meter, tel_error *err) {
    tel_calibration *list = NULL;
    size_t n = 0;
    tel_result result = TEL_OK;
    if (meter->options.calibration_path) {
        list = calloc(CALIBRATIONS_MAX, sizeof *list);
        if (!list) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the calibration");
        result = tel_calibration_load(meter->options.calibration_path, list, CALIBRATIONS_MAX, &n, err);
        if (n > CALIBRATIONS_MAX) n = CALIBRATIONS_MAX;
    }
    for (size_t i = 0; i < meter->n_domains && !result; i++) {
        meter_domain *d = &meter->domains[i];
        const tel_calibration *best = NULL;
        for (size_t k = 0; k < n; k++)
            if (fit_of(&list[k], &d->domain) > (best ? fit_of(best, &d->domain) : 0)) best = &list[k];
        if (d->readable) result = open_domain(meter, d, best, err);
    }
    free(list);
    return result;
}

// ---- Start and end ------------------------------------------------------------------------------------------------
static tel_result make_locks(tel_meter *meter, tel_error *err) {
    pthread_condattr_t attributes;
    pthread_mutex_t *locks[] = {&meter->read_lock, &meter->lock, &meter->call_lock, &meter->wake_lock};
    for (size_t i = 0; i < 4; i++)
        if (pthread_mutex_init(locks[i], NULL)) return tel_fail(err, TEL_ERR_NO_MEMORY, "no more locks for the meter");
    if (pthread_condattr_init(&attributes)) return tel_fail(err, TEL_ERR_NO_MEMORY, "no more locks for the meter");
    int failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) || pthread_cond_init(&meter->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (failed) return tel_fail(err, TEL_ERR_NO_MEMORY, "no more locks for the meter");
    meter->locks_made = true;
    return TEL_OK;
}

static tel_result start_thread(tel_meter *meter, tel_error *err) {
    sigset_t all, before;
    sigfillset(&all); // signals are for the program's own threads
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&meter->thread, NULL, meter_thread, meter);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) return tel_fail(err, TEL_ERR_NO_MEMORY, "the sampling thread cannot be started: %s", strerror(failed));
    meter->running = true;
    return TEL_OK;
}

static tel_result start(tel_meter *meter, tel_error *err) {
    bool any = false;
    for (size_t i = 0; i < meter->n_domains; i++) any = any || meter->domains[i].readable;
    meter->last_suspended_ns = meter->suspended_ns();
    meter->began_ns = tel_env_now(&meter->env);
    meter_pace(meter);
    meter->shown_interval_ns = any ? meter->interval_ns : 0;
    if (meter->options.manual || !any) return TEL_OK;
    meter_round(meter, METER_ALL);
    return start_thread(meter, err);
}

tel_result tel_meter_open(const tel_options *options, tel_meter **out, tel_error *err) {
    static const tel_options defaults;
    *out = NULL;
    tel_meter *meter = calloc(1, sizeof *meter);
    if (!meter) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the meter");
    meter->pid = getpid();
    meter->opened_ns = tel_monotonic_ns();
    meter->random = meter->opened_ns | 1;
    meter->slow_read = meter->slow_cpu = 1;
    meter->suspended_ns = meter_suspended_ns;
    tel_plan plan;
    tel_result result = make_locks(meter, err);
    if (!result) result = take_options(meter, options ? options : &defaults, &plan, err);
    if (!result) result = open_sources(meter, &plan, err);
    if (!result) result = choose_domains(meter, &plan, err);
    if (!result) result = open_domains(meter, err);
    if (!result) find_rivals(meter);
    if (!result) result = start(meter, err);
    // Borrowed for the call.
    meter->options.source = meter->options.sysfs_root = meter->options.nvml_path = meter->options.calibration_path = meter->options.card = NULL;
    if (result) tel_meter_close(&meter);
    *out = meter;
    return result;
}

void tel_meter_close(tel_meter **out) {
    if (!out || !*out) return;
    tel_meter *meter = *out;
    *out = NULL;
    if (meter->pid != getpid()) return; // a child's copy: its locks, library states and buffers belong to the parent
    if (meter->running) {
        pthread_mutex_lock(&meter->wake_lock);
        meter->stop = true;
        pthread_cond_signal(&meter->wake);
        pthread_mutex_unlock(&meter->wake_lock);
        pthread_join(meter->thread, NULL);
    }
    for (size_t i = 0; i < meter->n_domains; i++) {
        tel_series_free(&meter->domains[i].series);
        tel_track_close(&meter->domains[i].track);
    }
    for (size_t i = 0; i < meter->n_sources; i++) {
        meter->sources[i].source->close(meter->sources[i].state);
        free(meter->sources[i].found);
    }
    for (size_t i = 0; i < 4; i++) free(meter->strings[i]);
    free(meter->domains);
    if (meter->locks_made) {
        pthread_mutex_t *locks[] = {&meter->read_lock, &meter->lock, &meter->call_lock, &meter->wake_lock};
        for (size_t i = 0; i < 4; i++) pthread_mutex_destroy(locks[i]);
        pthread_cond_destroy(&meter->wake);
    }
    free(meter);
}
