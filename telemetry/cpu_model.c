// The model source: joules of machines whose counters cannot be read, from CPU time and a table of watts. The marked fall-back.
//
// energy = idle watts x wall time + (busy - idle) watts per processor x CPU time, as one cumulative counter evaluated at each read. Idle watts are
// taken for the processors that this process may use, not for a host's other ones. Which CPU time: cpu_time.h; which watts: cpu_watts.h or
// the user's, measured on the whole machine and shared out by processors. It says what this program cost, not what the machine drew.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/cpu_time.h"
#include "telemetry/cpu_watts.h"
#include "telemetry/source.h"
#include "telemetry/sysfs.h"

typedef struct model {
    tel_env env;
    tel_cpu_time time;
    double idle_w, extra_w; // all usable processors idle; more of it per busy processor
    bool started;
    uint64_t start_ns, last_cpu_ns;
    long double cpu_s; // CPU seconds since the start, over restarts of the group's counter
} model;

// ---- What would make measuring possible ----------------------------------------------------------------------------

static bool file_says(const char *root, const char *file, int64_t more_than) {
    char path[TEL_SYSFS_PATH];
    int64_t value;
    return tel_sysfs_path(path, "%s%s", root, file) && tel_sysfs_i64(path, &value) == TEL_SYSFS_OK && value > more_than;
}

static bool file_exists(const char *root, const char *file) {
    char path[TEL_SYSFS_PATH];
    return tel_sysfs_path(path, "%s%s", root, file) && tel_sysfs_exists(path);
}

static bool file_forbidden(const char *root, const char *file) {
    char path[TEL_SYSFS_PATH], text[TEL_SYSFS_TEXT];
    return tel_sysfs_path(path, "%s%s", root, file) && tel_sysfs_line(path, text) == TEL_SYSFS_PERMISSION;
}

// The one command, or the option that narrows the model where no command makes a counter appear.
static const char *choose_fix(const char *root, const tel_cpu_id *id, bool watts_given) {
    bool x86 = strcmp(id->vendor, "GenuineIntel") == 0 || strcmp(id->vendor, "AuthenticAMD") == 0;
    if (file_forbidden(root, "/sys/class/powercap/intel-rapl:0/energy_uj"))
        return "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj";
    if (file_exists(root, "/sys/bus/event_source/devices/power/events/energy-pkg") && file_says(root, "/proc/sys/kernel/perf_event_paranoid", 0))
        return "sudo sysctl kernel.perf_event_paranoid=0";
    // No zones at all on a bare machine: the driver is not loaded. Inside a virtual machine there is nothing to load it for.
    if (x86 && !id->hypervisor && !file_exists(root, "/sys/class/powercap/intel-rapl:0")) return "sudo modprobe intel_rapl_msr";
    return watts_given ? "" : "--cpu-watts IDLE,BUSY";
}

// ---- Source --------------------------------------------------------------------------------------------------------

static void set_watts(model *m, const tel_cpu_watts *row) {
    const tel_env *env = &m->env;
    double n = m->time.n_online > 0 ? m->time.n_online : m->time.n_usable;
    double idle = env->cpu_busy_w > 0 ? env->cpu_idle_w / n : row->idle_w, busy = env->cpu_busy_w > 0 ? env->cpu_busy_w / n : row->busy_w;
    m->idle_w = idle * m->time.n_usable;
    m->extra_w = busy - idle;
}

static void describe(const model *m, const tel_cpu_id *id, const tel_cpu_watts *row, tel_domain *d) {
    snprintf(d->name, sizeof d->name, "cpu");
    snprintf(d->key, sizeof d->key, "cpu_model");
    const char *known_as = m->env.cpu_busy_w > 0 && *id->model_name ? id->model_name : row->name;
    int n_written = snprintf(d->device, sizeof d->device, "%.60s, %g", known_as, m->time.n_usable);
    if (m->time.n_online > 0) snprintf(d->device + n_written, sizeof d->device - (size_t)n_written, " of %d CPUs", m->time.n_online);
    else snprintf(d->device + n_written, sizeof d->device - (size_t)n_written, " of an unknown number of CPUs");
    static const char *const basis[] = {"CPU time of this process", "CPU time of the group ", "CPU time of the group "};
    snprintf(d->path, sizeof d->path, "%s%.140s", basis[m->time.basis], m->time.path);
    snprintf(d->fix, sizeof d->fix, "%s", choose_fix(m->env.root, id, m->env.cpu_busy_w > 0));
    d->unit = "uJ";
    d->scope = TEL_SCOPE_CPU_PACKAGE;
    d->method = TEL_METHOD_MODELLED;
    d->kind = TEL_SERIES_COUNTER;
    d->uj_per_unit = 1;
    // Group time is booked in ticks: between two reads it may run ahead of the processors, so the limit has room for all of the machine.
    double n = m->time.n_online > 0 ? m->time.n_online : m->time.n_usable;
    d->limit_uw = (uint64_t)(1e6 * (m->idle_w + m->extra_w * (n < 1 ? 1 : n)));
    tel_model_factors(&m->env, &d->low_factor, &d->high_factor);
}

static tel_result fail(tel_error *err, tel_result code, const char *message) {
    if (err) {
        err->code = code;
        snprintf(err->message, sizeof err->message, "%s", message);
    }
    return code;
}

static tel_result model_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    *state = NULL;
    bool given = env->cpu_idle_w != 0 || env->cpu_busy_w != 0;
    if (given && !(env->cpu_idle_w >= 0 && env->cpu_busy_w > env->cpu_idle_w && env->cpu_busy_w < 1e6))
        return fail(err, TEL_ERR_INVALID, "the watts of the CPU model must be idle and busy, with busy the larger one and below 1,000,000");
    model *m = calloc(1, sizeof *m);
    if (!m) return fail(err, TEL_ERR_NO_MEMORY, "out of memory");
    *state = m;
    m->env = *env;
    tel_cpu_id id;
    tel_cpu_id_read(env->root, &id);
    tel_cpu_time_find(env->root, &m->time);
    if (m->time.n_online == 0) m->time.n_online = id.n_processors;
    const tel_cpu_watts *row = tel_cpu_watts_find(&id);
    set_watts(m, row);
    tel_domain *d = tel_found_add(found);
    if (d) describe(m, &id, row, d);
    return TEL_OK;
}

static void model_read(void *state, const tel_domain *domain, tel_series *series) {
    (void)domain;
    model *m = state;
    uint64_t cpu_ns, t0 = tel_env_now(&m->env);
    bool good = tel_cpu_time_read(&m->time, &cpu_ns);
    uint64_t t1 = tel_env_now(&m->env);
    if (!good) {
        tel_series_fault(series, t1, TEL_FAULT_READ);
        return;
    }
    if (!m->started) {
        m->started = true;
        m->start_ns = t0;
        m->last_cpu_ns = cpu_ns;
    }
    if (cpu_ns < m->last_cpu_ns) tel_series_fault(series, t1, TEL_FAULT_BACKWARDS); // what was used in between is not known
    else m->cpu_s += (long double)(cpu_ns - m->last_cpu_ns) / 1e9L;
    m->last_cpu_ns = cpu_ns;
    uint64_t middle = t0 + (t1 - t0) / 2; // the series gives the value this moment
    long double joules = (long double)m->idle_w * (long double)(middle - m->start_ns) / 1e9L + (long double)m->extra_w * m->cpu_s;
    tel_series_push(series, t0, t1, (uint64_t)(joules * 1e6L + 0.5L));
}

static void model_close(void *state) { free(state); }

const tel_source tel_source_model = {.name = "model", .rank = 100, .open = model_open, .read = model_read, .close = model_close};
