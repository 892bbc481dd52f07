// The battery of a laptop: /sys/class/power_supply/BAT*: what the whole machine draws, while nothing charges it.
//
// Power is power_now, else current_now x voltage_now; both only mean the machine while `status` is Discharging. A battery that
// is not discharging when the source opens is listed with that reason. One that begins to charge later becomes silent: one
// fault marks the beginning of the stretch without readings, and no sample comes until it discharges again.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "telemetry/source.h"
#include "telemetry/sysfs.h"

enum { BATTERIES_MAX = 8 };

typedef struct battery_slot {
    char dir[TEL_SYSFS_PATH];
    bool product; // no power_now
    bool silent;
} battery_slot;

typedef struct battery {
    tel_env env;
    battery_slot slots[BATTERIES_MAX];
    int n;
} battery;

static tel_sysfs read_file(const battery_slot *s, const char *file, uint64_t *value) {
    char path[TEL_SYSFS_PATH];
    int64_t v;
    tel_sysfs result = tel_sysfs_path(path, "%s/%s", s->dir, file) ? tel_sysfs_i64(path, &v) : TEL_SYSFS_IO;
    if (result) return result;
    *value = v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v; // some drivers give what flows out a minus
    return TEL_SYSFS_OK;
}

// Microwatts: microvolts times microamperes are 1e-12 W.
static tel_sysfs read_power(const battery_slot *s, uint64_t *power_uw) {
    uint64_t ua, uv;
    if (!s->product) return read_file(s, "power_now", power_uw);
    tel_sysfs result = read_file(s, "current_now", &ua);
    if (!result) result = read_file(s, "voltage_now", &uv);
    if (result) return result;
    if (ua > 1000000000 || uv > 1000000000) return TEL_SYSFS_FORMAT; // beyond 1 kA or 1 kV
    *power_uw = ua * uv / 1000000;
    return TEL_SYSFS_OK;
}

static tel_sysfs read_status(const battery_slot *s, char status[TEL_SYSFS_TEXT]) {
    char path[TEL_SYSFS_PATH];
    status[0] = '\0';
    return tel_sysfs_path(path, "%s/status", s->dir) ? tel_sysfs_line(path, status) : TEL_SYSFS_IO;
}

static void add_battery(battery *b, tel_found *found, const char *class_dir, const char *name) {
    tel_domain *d = b->n < BATTERIES_MAX ? tel_found_add(found) : NULL;
    if (!d) return;
    battery_slot *s = &b->slots[b->n];
    char status[TEL_SYSFS_TEXT], path[TEL_SYSFS_PATH];
    uint64_t power_uw;
    d->slot = b->n++;
    tel_text(d->name, sizeof d->name, "%.40s", name);
    tel_text(d->key, sizeof d->key, "battery:%.40s", name);
    tel_text(d->contains, sizeof d->contains, "*");
    d->scope = TEL_SCOPE_BATTERY;
    d->kind = TEL_SERIES_POWER;
    d->method = TEL_METHOD_INTEGRATED;
    d->uj_per_unit = 1;
    if (!tel_sysfs_path(s->dir, "%s/%s", class_dir, name)) {
        tel_text(d->reason, sizeof d->reason, "the path of %.40s is too long", name);
        return;
    }
    s->product = !tel_sysfs_path(path, "%s/power_now", s->dir) || !tel_sysfs_exists(path);
    d->unit = s->product ? "uA x uV" : "uW";
    tel_text(d->path, sizeof d->path, "%s/%s", s->dir, s->product ? "current_now" : "power_now");
    tel_sysfs_path(path, "%s/model_name", s->dir);
    tel_sysfs_line(path, status);
    tel_text(d->device, sizeof d->device, "%.90s", status);
    tel_sysfs result = read_status(s, status);
    if (result)
        tel_text(d->reason, sizeof d->reason, "%.40s/status %s", name, tel_sysfs_phrase(result));
    else if (strcmp(status, "Discharging") != 0)
        tel_text(d->reason, sizeof d->reason,
                 "on mains power (status %.40s): a battery shows the machine's power only while it discharges", status);
    else if ((result = read_power(s, &power_uw)))
        tel_text(d->reason, sizeof d->reason, "%.40s/%s %s", name, s->product ? "current_now or voltage_now" : "power_now",
                 tel_sysfs_phrase(result));
}

static tel_result battery_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    battery *b = calloc(1, sizeof *b);
    *state = b;
    if (!b) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the batteries");
    b->env = *env;
    char dir[TEL_SYSFS_PATH];
    tel_sysfs_names names = {0};
    if (tel_sysfs_path(dir, "%s/sys/class/power_supply", env->root)) tel_sysfs_list(dir, "BAT", &names);
    for (size_t i = 0; i < names.n; i++) add_battery(b, found, dir, names.name[i]);
    tel_sysfs_names_free(&names);
    return TEL_OK;
}

static void battery_read(void *state, const tel_domain *domain, tel_series *series) {
    battery *b = state;
    if (domain->slot < 0 || domain->slot >= b->n) return;
    battery_slot *s = &b->slots[domain->slot];
    char status[TEL_SYSFS_TEXT];
    uint64_t power_uw, t0_ns = tel_env_now(&b->env);
    tel_sysfs result = read_status(s, status);
    bool discharging = !result && strcmp(status, "Discharging") == 0;
    if (discharging) result = read_power(s, &power_uw);
    uint64_t t1_ns = tel_env_now(&b->env);
    if (discharging && !result)
        tel_series_push(series, t0_ns, t1_ns, power_uw);
    else if (result || !s->silent)
        tel_series_fault(series, t1_ns, result == TEL_SYSFS_NOT_FOUND ? TEL_FAULT_VANISHED : TEL_FAULT_READ);
    s->silent = !discharging && !result;
}

static void battery_close(void *state) { free(state); }

const tel_source tel_source_battery = {
    .name = "battery", .rank = 4, .open = battery_open, .read = battery_read, .close = battery_close};
