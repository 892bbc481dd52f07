// RAPL through the powercap framework: /sys/class/powercap/intel-rapl:N[:M], also on AMD.
//
// What a zone is follows from its `name` file, never from its index: psys sits at any index, also between two sockets. A zone
// of intel-rapl-mmio is a second view of a package and does not count beside intel-rapl; core and uncore are parts of their
// package. Values are microjoules that wrap after max_energy_range_uj: a zone that does not say its range cannot be followed.
// Every read opens the file anew (a few microseconds), so that a zone that goes away or is closed to this user is seen.
// Nothing here waits to see a counter move, as rapl_perf.c does: the kernel's driver makes no zone of a counter that reads 0
// (rapl_check_domain), and a counter that nothing feeds reads 0.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "telemetry/mirror.h"
#include "telemetry/source.h"
#include "telemetry/sysfs.h"

#define STEP_NS 1000000u // the counter is updated about every millisecond
#define FIX_READ "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"

typedef struct powercap {
    tel_env env;
    char dir[TEL_SYSFS_PATH];
    char energy_path[TEL_DOMAINS_MAX][TEL_SYSFS_PATH];
    int n;          // slots used
    bool has_plain; // there are zones beside those of intel-rapl-mmio
} powercap;

// ---- What a zone is -----------------------------------------------------------------------------------------------

static bool is_plain(const char *zone) { return strncmp(zone, "intel-rapl:", 11) == 0; }

// "package-1" or "package-0-die-2": the part after "package-" when it is of that form, else NULL.
static const char *package_of(const char *name) {
    if (strncmp(name, "package-", 8) != 0) return NULL;
    const char *rest = name + 8, *p = rest;
    size_t n = strspn(p, "0123456789");
    if (!n || n > 4) return NULL;
    p += n;
    if (!*p) return rest;
    if (strncmp(p, "-die-", 5) != 0) return NULL;
    n = strspn(p + 5, "0123456789");
    return n && n <= 4 && !p[5 + n] ? rest : NULL;
}

// Name of the zone that holds zone "intel-rapl:N:M"; "" for a zone of its own or when it cannot be read.
static void parent_name(const powercap *pc, const char *zone, char name[TEL_SYSFS_TEXT]) {
    char path[TEL_SYSFS_PATH];
    name[0] = '\0';
    const char *first = strchr(zone, ':'), *last = strrchr(zone, ':');
    if (first != last && tel_sysfs_path(path, "%s/%.*s/name", pc->dir, (int)(last - zone), zone)) tel_sysfs_line(path, name);
}

// Fills name, key, scope of a domain from the names of its zone and of the zone around it.
static void identify(tel_domain *d, const char *name, const char *parent) {
    const char *package = package_of(name), *inside = package_of(parent);
    d->scope = TEL_SCOPE_CPU_PACKAGE;
    if (package && !*parent) {
        tel_text(d->name, sizeof d->name, "package-%s", package);
        tel_text(d->key, sizeof d->key, "cpu_package:%s", package);
    } else if (strcmp(name, "psys") == 0) {
        tel_text(d->name, sizeof d->name, "psys");
        tel_text(d->key, sizeof d->key, "node");
        tel_text(d->contains, sizeof d->contains, "*");
        d->scope = TEL_SCOPE_NODE;
    } else if (inside && strcmp(name, "dram") == 0) {
        tel_text(d->name, sizeof d->name, "dram-%s", inside);
        tel_text(d->key, sizeof d->key, "dram:%s", inside);
        d->scope = TEL_SCOPE_DRAM;
    } else if (inside && (strcmp(name, "core") == 0 || strcmp(name, "uncore") == 0)) {
        tel_text(d->name, sizeof d->name, "%s-%s", name, inside);
        tel_text(d->key, sizeof d->key, "cpu_package:%s/%s", inside, name);
    } else { // no key: nobody knows what it covers
        tel_text(d->name, sizeof d->name, "%.40s", *name ? name : "zone");
        d->scope = TEL_SCOPE_NONE;
    }
}

// ---- Finding ------------------------------------------------------------------------------------------------------

static void refuse_file(tel_domain *d, const char *zone, const char *file, tel_sysfs result) {
    tel_text(d->reason, sizeof d->reason, "%s/%s %s", zone, file, tel_sysfs_phrase(result));
    if (result == TEL_SYSFS_PERMISSION) tel_text(d->fix, sizeof d->fix, "%s", FIX_READ);
}

// Whether the counter can be read and followed; the reason otherwise.
static void check_counter(const powercap *pc, tel_domain *d, const char *zone) {
    char path[TEL_SYSFS_PATH];
    uint64_t raw;
    tel_sysfs result = tel_sysfs_u64(pc->energy_path[d->slot], &raw);
    if (result) {
        refuse_file(d, zone, "energy_uj", result);
        return;
    }
    result = tel_sysfs_path(path, "%s/%s/max_energy_range_uj", pc->dir, zone) ? tel_sysfs_u64(path, &d->range) : TEL_SYSFS_IO;
    if (!result && d->range && raw <= d->range) return;
    if (result)
        tel_text(d->reason, sizeof d->reason, "%s/max_energy_range_uj %s: its wraps cannot be followed", zone,
                 tel_sysfs_phrase(result));
    else
        tel_text(d->reason, sizeof d->reason, "%s/energy_uj is beyond max_energy_range_uj: its wraps cannot be followed", zone);
    d->range = 0;
}

static void add_zone(powercap *pc, tel_found *found, const char *zone, const char *name) {
    char parent[TEL_SYSFS_TEXT];
    tel_domain *d = tel_found_add(found);
    if (!d) return;
    parent_name(pc, zone, parent);
    identify(d, name, parent);
    d->unit = "uJ";
    d->method = TEL_METHOD_COUNTER;
    d->kind = TEL_SERIES_COUNTER;
    d->uj_per_unit = 1;
    d->step_ns = STEP_NS;
    d->slot = pc->n++;
    if (!tel_sysfs_path(pc->energy_path[d->slot], "%s/%s/energy_uj", pc->dir, zone))
        tel_text(d->reason, sizeof d->reason, "the path of %s is too long", zone);
    else if (pc->has_plain && !is_plain(zone))
        tel_text(d->reason, sizeof d->reason, "%s is a second view of what intel-rapl shows", zone);
    else
        check_counter(pc, d, zone);
    tel_text(d->path, sizeof d->path, "%s", pc->energy_path[d->slot]);
}

typedef struct pairing {
    const powercap *pc;
    tel_domain *packages[TEL_MIRROR_MAX];
} pairing;

static bool read_package(void *user, size_t i, uint64_t *raw) {
    const pairing *p = user;
    return tel_sysfs_u64(p->pc->energy_path[p->packages[i]->slot], raw) == TEL_SYSFS_OK;
}

static void refuse_mirrors(const powercap *pc, tel_found *found, size_t first) {
    pairing p = {.pc = pc};
    size_t n = 0;
    int twin[TEL_MIRROR_MAX];
    for (size_t i = first; i < found->n && n < TEL_MIRROR_MAX; i++)
        if (found->items[i].scope == TEL_SCOPE_CPU_PACKAGE && !strchr(found->items[i].key, '/') && !found->items[i].reason[0])
            p.packages[n++] = &found->items[i];
    tel_mirror_find(read_package, &p, n, true, twin);
    for (size_t i = 0; i < n; i++)
        if (twin[i] >= 0)
            tel_text(p.packages[i]->reason, sizeof p.packages[i]->reason,
                     "shows the counter of %s once more (a die of the same package)", p.packages[twin[i]]->name);
}

static void nothing_there(tel_found *found, tel_sysfs result, const char *dir, size_t n_hidden) {
    tel_domain *d = tel_found_add(found);
    if (!d) return;
    tel_text(d->name, sizeof d->name, "rapl");
    tel_text(d->path, sizeof d->path, "%s", dir);
    d->unit = "uJ";
    d->method = TEL_METHOD_COUNTER;
    if (n_hidden)
        tel_text(d->reason, sizeof d->reason,
                 "the container hides the energy counters: %zu zones are named and none can be opened", n_hidden);
    else if (result)
        tel_text(d->reason, sizeof d->reason,
                 "/sys/class/powercap %s: this processor, its hypervisor or container hides the energy counters",
                 tel_sysfs_phrase(result));
    else
        tel_text(d->reason, sizeof d->reason,
                 "/sys/class/powercap has no zone: this processor, its hypervisor or container hides the energy counters");
}

static tel_result powercap_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    powercap *pc = calloc(1, sizeof *pc);
    *state = pc;
    if (!pc) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the powercap zones");
    pc->env = *env;
    const size_t first = found->n;
    size_t n_hidden = 0;
    tel_sysfs_names zones = {0};
    tel_sysfs result = tel_sysfs_path(pc->dir, "%s/sys/class/powercap", env->root) ? tel_sysfs_list(pc->dir, "intel-rapl", &zones)
                                                                                   : TEL_SYSFS_IO;
    for (size_t i = 0; i < zones.n; i++) pc->has_plain = pc->has_plain || is_plain(zones.name[i]);
    for (size_t i = 0; i < zones.n && pc->n < TEL_DOMAINS_MAX; i++) {
        char path[TEL_SYSFS_PATH], name[TEL_SYSFS_TEXT];
        if (!strchr(zones.name[i], ':')) continue; // the control type itself
        bool hidden =
            !tel_sysfs_path(path, "%s/%s/name", pc->dir, zones.name[i]) || tel_sysfs_line(path, name) == TEL_SYSFS_NOT_FOUND;
        if (hidden)
            n_hidden++; // a link into a masked directory
        else
            add_zone(pc, found, zones.name[i], name);
    }
    tel_sysfs_names_free(&zones);
    if (found->n == first) nothing_there(found, result, pc->dir, n_hidden);
    refuse_mirrors(pc, found, first);
    return TEL_OK;
}

// ---- Reading ------------------------------------------------------------------------------------------------------

static void powercap_read(void *state, const tel_domain *domain, tel_series *series) {
    const powercap *pc = state;
    if (domain->slot < 0 || domain->slot >= pc->n) return;
    uint64_t raw, t0_ns = tel_env_now(&pc->env);
    tel_sysfs result = tel_sysfs_u64(pc->energy_path[domain->slot], &raw);
    uint64_t t1_ns = tel_env_now(&pc->env);
    if (result)
        tel_series_fault(series, t1_ns, result == TEL_SYSFS_NOT_FOUND ? TEL_FAULT_VANISHED : TEL_FAULT_READ);
    else
        tel_series_push(series, t0_ns, t1_ns, raw);
}

static void powercap_close(void *state) { free(state); }

const tel_source tel_source_powercap = {
    .name = "powercap", .rank = 1, .open = powercap_open, .read = powercap_read, .close = powercap_close};
