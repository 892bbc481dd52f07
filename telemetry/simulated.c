// Source "simulated": a made-up device behind a counter of 1 ms steps. For tests and demonstrations; its method says so everywhere.
//
// "simulated:WATTS" draws a constant power: the energy of any window is known without measuring. "simulated:cpu:IDLE,BUSY" draws IDLE
// watts and BUSY more for every core that this process keeps busy: a live counter whose truth follows the load.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/simulated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "telemetry/sysfs.h"

enum { STEP_NS = 1000000 };
static const double WATTS_MAX = 1e6;

typedef struct simulated {
    tel_env env; // for its clock
    double idle_w, busy_w;
    uint64_t start_ns, start_cpu_ns;
    uint64_t last_step, last_raw;
} simulated;

bool tel_simulated_parse(const char *option, double *idle_w, double *busy_w) {
    char idle[32];
    const char *comma = strchr(option, ',');
    if (!comma || (size_t)(comma - option) >= sizeof idle) return false;
    memcpy(idle, option, (size_t)(comma - option));
    idle[comma - option] = 0;
    return tel_parse_double(idle, idle_w) && tel_parse_double(comma + 1, busy_w) && *idle_w >= 0 && *idle_w <= WATTS_MAX && *busy_w > 0 &&
           *busy_w <= WATTS_MAX;
}

static uint64_t process_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static tel_result simulated_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    simulated *s = *state = calloc(1, sizeof *s);
    if (!s) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for a simulated device");
    s->env.clock = env->clock;
    s->idle_w = env->simulated_w;
    s->busy_w = env->simulated_busy_w;
    s->start_ns = tel_env_now(&s->env);
    s->start_cpu_ns = process_cpu_ns();
    tel_domain *domain = tel_found_add(found);
    if (!domain) return TEL_OK;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    double most_w = s->idle_w + s->busy_w * (double)(cores > 0 ? cores : 1);
    snprintf(domain->name, sizeof domain->name, "simulated-0");
    snprintf(domain->device, sizeof domain->device, s->busy_w > 0 ? "simulated load" : "simulated constant power");
    snprintf(domain->path, sizeof domain->path, "none");
    snprintf(domain->key, sizeof domain->key, "simulated:0");
    domain->unit = "uJ";
    domain->scope = TEL_SCOPE_CPU_PACKAGE;
    domain->method = TEL_METHOD_SIMULATED;
    domain->kind = TEL_SERIES_COUNTER;
    domain->uj_per_unit = 1;
    domain->limit_uw = most_w >= 1e-6 ? (uint64_t)(most_w * 1e6) : 1;
    domain->step_ns = STEP_NS;
    domain->card = tel_card_exact();
    return TEL_OK;
}

// The counter changes at whole steps only. What the CPU did since the last step began is booked with it: less than a step too early.
static void simulated_read(void *state, const tel_domain *domain, tel_series *series) {
    simulated *s = state;
    (void)domain;
    uint64_t t0 = tel_env_now(&s->env), step = (t0 - s->start_ns) / STEP_NS;
    if (step > s->last_step) {
        double busy_uj = s->busy_w > 0 ? s->busy_w * (double)(process_cpu_ns() - s->start_cpu_ns) / 1e3 : 0;
        double raw = s->idle_w * (double)step * (STEP_NS / 1000) + busy_uj;
        if (raw > (double)s->last_raw) s->last_raw = (uint64_t)raw;
        s->last_step = step;
    }
    tel_series_push(series, t0, tel_env_now(&s->env), s->last_raw);
}

static void simulated_close(void *state) { free(state); }

const tel_source tel_source_simulated = {
    .name = "simulated", .rank = 0, .open = simulated_open, .read = simulated_read, .close = simulated_close};
