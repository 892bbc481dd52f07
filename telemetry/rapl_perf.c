// RAPL through the kernel's `power` performance counters: /sys/bus/event_source/devices/power.
//
// Preferred over powercap: the kernel adds the counter up in 64 bits, so nothing wraps. One domain per event and CPU of
// `cpumask` (one CPU for every package, or for every die); the CPU's topology names the package, never its position in the
// mask. energy-cores and energy-gpu are parts of their package. The unit is what the .scale file says, in joules. A count
// begins at 0 when it is opened.
//
// A counter that opens and reads need not count: kernels show psys of the Sapphire Rapids family without having looked at it,
// and where the hypervisor feeds none it reads 0 for ever. So a package or psys is believed when it was seen to move.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/rapl_perf.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "telemetry/mirror.h"
#include "telemetry/source.h"
#include "telemetry/sysfs.h"

#define STEP_NS 1000000u // RAPL updates about every millisecond
enum { CPUS_MAX = 256 };

// Format of keys and names: the package, "0" or "0-die-1".
typedef struct power_event {
    const char *file, *name, *key, *contains;
    tel_scope scope;
} power_event;

static const power_event events[] = {
    {"energy-pkg", "package-%s", "cpu_package:%s", "", TEL_SCOPE_CPU_PACKAGE},
    {"energy-ram", "dram-%s", "dram:%s", "", TEL_SCOPE_DRAM},
    {"energy-psys", "psys-%s", "node", "*", TEL_SCOPE_NODE},
    {"energy-cores", "core-%s", "cpu_package:%s/core", "", TEL_SCOPE_CPU_PACKAGE},
    {"energy-gpu", "igpu-%s", "cpu_package:%s/gpu", "", TEL_SCOPE_CPU_PACKAGE},
};

typedef struct perf_cpu {
    int cpu;
    char package[24]; // "0", "0-die-1"; "" when the topology does not say
} perf_cpu;

typedef struct perf {
    tel_env env;
    char dir[TEL_SYSFS_PATH];
    uint32_t type;
    perf_cpu cpus[CPUS_MAX];
    size_t n_cpus;
    int fd[TEL_DOMAINS_MAX];
    int cpu[TEL_DOMAINS_MAX];
    int n; // slots used
} perf;

int tel_perf_open(uint32_t type, uint64_t config, int cpu) {
    struct perf_event_attr attr = {.type = type, .size = sizeof attr, .config = config};
    long fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : (int)fd;
}

// ---- CPUs and packages --------------------------------------------------------------------------------------------

static bool topology(const char *root, int cpu, const char *file, uint64_t *id) {
    char path[TEL_SYSFS_PATH];
    return tel_sysfs_path(path, "%s/sys/devices/system/cpu/cpu%d/topology/%s", root, cpu, file) && !tel_sysfs_u64(path, id) &&
           *id < 10000;
}

// The die is part of the name only where a package has several in the mask, as in powercap.
static void name_packages(perf *p, const int *cpus, size_t n) {
    uint64_t package[CPUS_MAX], die[CPUS_MAX];
    bool known[CPUS_MAX], has_die[CPUS_MAX];
    for (size_t i = 0; i < n; i++) {
        known[i] = topology(p->env.root, cpus[i], "physical_package_id", &package[i]);
        has_die[i] = topology(p->env.root, cpus[i], "die_id", &die[i]);
    }
    for (size_t i = 0; i < n; i++) {
        perf_cpu *c = &p->cpus[p->n_cpus++];
        *c = (perf_cpu){.cpu = cpus[i]};
        if (!known[i]) continue;
        bool shared = false;
        for (size_t k = 0; k < n; k++) shared = shared || (k != i && known[k] && package[k] == package[i]);
        if (shared && has_die[i])
            tel_text(c->package, sizeof c->package, "%u-die-%u", (unsigned)package[i], (unsigned)die[i]);
        else
            tel_text(c->package, sizeof c->package, "%u", (unsigned)package[i]);
    }
}

// ---- Events -------------------------------------------------------------------------------------------------------

// "event=0x02": the only term that these events have. It goes into the lowest byte of config (format/event is config:0-7).
static bool parse_event(const char *text, uint64_t *config) {
    if (strncmp(text, "event=0x", 8) != 0) return false;
    size_t n = strlen(text + 8);
    if (n < 1 || n > 2 || strspn(text + 8, "0123456789abcdefABCDEF") != n) return false;
    *config = strtoull(text + 8, NULL, 16);
    return true;
}

// Everything of one event but the CPU; the reason in d when it cannot be used.
static void describe_event(const perf *p, const power_event *event, tel_domain *d, uint64_t *config) {
    char path[TEL_SYSFS_PATH], text[TEL_SYSFS_TEXT];
    double joules = 0;
    d->unit = "perf unit";
    if (!tel_sysfs_path(path, "%s/events/%s", p->dir, event->file) || tel_sysfs_line(path, text) || !parse_event(text, config)) {
        tel_text(d->reason, sizeof d->reason, "events/%s does not name an event", event->file);
        return;
    }
    if (!tel_sysfs_path(path, "%s/events/%s.unit", p->dir, event->file) || tel_sysfs_line(path, text) ||
        strcmp(text, "Joules") != 0) {
        tel_text(d->reason, sizeof d->reason, "events/%s.unit does not say Joules", event->file);
        return;
    }
    if (!tel_sysfs_path(path, "%s/events/%s.scale", p->dir, event->file) || tel_sysfs_double(path, &joules) || joules < 1e-12 ||
        joules > 10) {
        tel_text(d->reason, sizeof d->reason, "events/%s.scale does not hold the joules of a unit", event->file);
        return;
    }
    d->uj_per_unit = joules * 1e6;
    if (joules == 0x1p-32) d->unit = "2^-32 J";
}

static void refuse_open(const perf *p, tel_domain *d, const char *file, int error) {
    char path[TEL_SYSFS_PATH];
    int64_t paranoid = 0;
    bool known = tel_sysfs_path(path, "%s/proc/sys/kernel/perf_event_paranoid", p->env.root) && !tel_sysfs_i64(path, &paranoid);
    if (error != EACCES && error != EPERM) {
        tel_text(d->reason, sizeof d->reason, "the kernel does not open %s (error %d)", file, error);
        return;
    }
    if (known && paranoid <= 0) {
        tel_text(
            d->reason, sizeof d->reason,
            "perf_event_open is refused although kernel.perf_event_paranoid is %lld: a container or security policy forbids it",
            (long long)paranoid);
        return;
    }
    if (known)
        tel_text(d->reason, sizeof d->reason,
                 "kernel.perf_event_paranoid is %lld: this user may not count events of the whole machine", (long long)paranoid);
    else
        tel_text(d->reason, sizeof d->reason,
                 "this user may not count events of the whole machine (kernel.perf_event_paranoid is not readable)");
    tel_text(d->fix, sizeof d->fix, "sudo sysctl kernel.perf_event_paranoid=0");
}

static void add_domain(perf *p, tel_found *found, const power_event *event, const perf_cpu *cpu) {
    tel_domain *d = p->n < TEL_DOMAINS_MAX ? tel_found_add(found) : NULL;
    if (!d) return;
    uint64_t config = 0;
    const char *package = *cpu->package ? cpu->package : "unknown";
    tel_text(d->name, sizeof d->name, event->name, package);
    tel_text(d->key, sizeof d->key, event->key, package);
    tel_text(d->contains, sizeof d->contains, "%s", event->contains);
    tel_text(d->path, sizeof d->path, "%s/events/%s on CPU %d", p->dir, event->file, cpu->cpu);
    d->scope = event->scope;
    d->method = TEL_METHOD_COUNTER;
    d->kind = TEL_SERIES_COUNTER;
    d->step_ns = STEP_NS;
    d->slot = p->n++;
    p->fd[d->slot] = -1;
    p->cpu[d->slot] = cpu->cpu;
    describe_event(p, event, d, &config);
    if (d->reason[0]) return;
    if (!*cpu->package) {
        tel_text(d->reason, sizeof d->reason, "the topology of CPU %d does not say which package it is", cpu->cpu);
        return;
    }
    int fd = (p->env.perf_open ? p->env.perf_open : tel_perf_open)(p->type, config, cpu->cpu);
    if (fd < 0)
        refuse_open(p, d, event->file, -fd);
    else
        p->fd[d->slot] = fd;
}

// ---- Reading ------------------------------------------------------------------------------------------------------

// 0, or the errno; a count that is not whole is EIO.
static int read_count(int fd, uint64_t *count) {
    ssize_t n;
    do n = read(fd, count, sizeof *count);
    while (n < 0 && errno == EINTR);
    return n < 0 ? errno : n == (ssize_t)sizeof *count ? 0 : EIO;
}

static void perf_read(void *state, const tel_domain *domain, tel_series *series) {
    const perf *p = state;
    if (domain->slot < 0 || domain->slot >= p->n || p->fd[domain->slot] < 0) return;
    uint64_t count, t0_ns = tel_env_now(&p->env);
    int error = read_count(p->fd[domain->slot], &count);
    uint64_t t1_ns = tel_env_now(&p->env);
    if (error)
        tel_series_fault(series, t1_ns, error == ENODEV || error == ENXIO ? TEL_FAULT_VANISHED : TEL_FAULT_READ);
    else
        tel_series_push(series, t0_ns, t1_ns, count);
}

// ---- Does it count? -----------------------------------------------------------------------------------------------

// After each of these all counters are looked at: one that lives is seen after the first or second, one that does not takes
// 20 ms, once for all. The slowest that live are those of psys in whole joules: a server of 100 W counts one every 10 ms.
static const long naps_us[] = {500, 500, 1000, 1000, 1000, 2000, 2000, 4000, 4000, 4000};
enum { N_NAPS = sizeof naps_us / sizeof naps_us[0] };

// A counter that cannot stand still on a machine that is on: a package, or psys. A part may: of a GPU that is off, say.
typedef struct pulse {
    tel_domain *domain;
    uint64_t first;
    bool moved; // also when it cannot be read: a fault of reading is not a standstill
} pulse;

static bool is_package(const tel_domain *d) { return strncmp(d->name, "package-", 8) == 0; }

static size_t first_look(const perf *p, tel_found *found, size_t first, pulse pulses[TEL_DOMAINS_MAX]) {
    size_t n = 0;
    for (size_t i = first; i < found->n; i++) {
        tel_domain *d = &found->items[i];
        if (d->reason[0] || !(is_package(d) || d->scope == TEL_SCOPE_NODE)) continue;
        pulses[n] = (pulse){.domain = d};
        pulses[n].moved = read_count(p->fd[d->slot], &pulses[n].first) != 0;
        n++;
    }
    return n;
}

static void look_again(const perf *p, pulse *pulses, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t count;
        if (!pulses[i].moved) pulses[i].moved = read_count(p->fd[pulses[i].domain->slot], &count) != 0 || count != pulses[i].first;
    }
}

// Beside packages that move nobody waits for psys: it would not count, and often nothing feeds it (a second socket's never).
static bool seen_enough(const pulse *pulses, size_t n) {
    size_t n_packages = 0, n_still = 0, n_still_packages = 0;
    for (size_t i = 0; i < n; i++) {
        const bool package = is_package(pulses[i].domain), still = !pulses[i].moved;
        n_packages += package;
        n_still += still;
        n_still_packages += package && still;
    }
    return n_packages ? n_still_packages == 0 : n_still == 0;
}

// The standstill that a part of this CPU's package is doubted for: the package's, or that of psys where no package is read.
static const tel_domain *doubted_for(const perf *p, const pulse *pulses, size_t n, int cpu) {
    const tel_domain *still = NULL;
    for (size_t i = 0; i < n; i++) {
        if (p->cpu[pulses[i].domain->slot] != cpu) continue;
        if (is_package(pulses[i].domain)) return pulses[i].moved ? NULL : pulses[i].domain;
        if (!pulses[i].moved) still = pulses[i].domain;
    }
    return still;
}

static void nap(long us) {
    struct timespec left = {.tv_nsec = us * 1000};
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

static void refuse_still(const perf *p, tel_found *found, size_t first) {
    pulse pulses[TEL_DOMAINS_MAX];
    const size_t n = first_look(p, found, first, pulses);
    for (size_t k = 0; k < N_NAPS && !seen_enough(pulses, n); k++) {
        nap(naps_us[k]);
        look_again(p, pulses, n);
    }
    if (seen_enough(pulses, n)) return;
    for (size_t i = first; i < found->n; i++) {
        tel_domain *d = &found->items[i];
        const tel_domain *still = d->reason[0] || is_package(d) || d->scope == TEL_SCOPE_NODE ? NULL : doubted_for(p, pulses, n, p->cpu[d->slot]);
        if (still) tel_text(d->reason, sizeof d->reason, "%s beside it does not move, so this one is not trusted either", still->name);
    }
    for (size_t i = 0; i < n; i++)
        if (!pulses[i].moved)
            tel_text(pulses[i].domain->reason, sizeof pulses[i].domain->reason,
                     "it did not move in 20 ms: nothing feeds this counter, as in many virtual machines");
}

// ---- Opening ------------------------------------------------------------------------------------------------------

typedef struct pairing {
    const perf *p;
    tel_domain *packages[TEL_MIRROR_MAX];
} pairing;

static bool read_package(void *user, size_t i, uint64_t *count) {
    const pairing *pair = user;
    return read_count(pair->p->fd[pair->packages[i]->slot], count) == 0;
}

static void refuse_mirrors(const perf *p, tel_found *found, size_t first) {
    pairing pair = {.p = p};
    size_t n = 0;
    int twin[TEL_MIRROR_MAX];
    for (size_t i = first; i < found->n && n < TEL_MIRROR_MAX; i++)
        if (is_package(&found->items[i]) && !found->items[i].reason[0]) pair.packages[n++] = &found->items[i];
    tel_mirror_find(read_package, &pair, n, false, twin);
    for (size_t i = 0; i < n; i++)
        if (twin[i] >= 0)
            tel_text(pair.packages[i]->reason, sizeof pair.packages[i]->reason,
                     "shows the counter of %s once more (a die of the same package)", pair.packages[twin[i]]->name);
}

// Type and CPUs of the device; false with a sentence when they cannot be had.
static bool open_device(perf *p, char *reason, size_t cap) {
    char path[TEL_SYSFS_PATH], text[TEL_SYSFS_TEXT];
    int cpus[CPUS_MAX];
    size_t n = 0;
    uint64_t type;
    if (!tel_sysfs_path(p->dir, "%s/sys/bus/event_source/devices/power", p->env.root) || !tel_sysfs_exists(p->dir)) {
        tel_text(reason, cap,
                 "the kernel shows no power events: this processor, its hypervisor or container hides them");
        return false;
    }
    tel_sysfs result = tel_sysfs_path(path, "%s/type", p->dir) ? tel_sysfs_u64(path, &type) : TEL_SYSFS_IO;
    if (result || type > UINT32_MAX) {
        tel_text(reason, cap, "the type of the power events %s", tel_sysfs_phrase(result ? result : TEL_SYSFS_FORMAT));
        return false;
    }
    p->type = (uint32_t)type;
    result = tel_sysfs_path(path, "%s/cpumask", p->dir) ? tel_sysfs_line(path, text) : TEL_SYSFS_IO;
    if (result || !tel_parse_cpus(text, cpus, CPUS_MAX, &n)) {
        tel_text(reason, cap, "the cpumask of the power events %s", result ? tel_sysfs_phrase(result) : "is not a list of CPUs");
        return false;
    }
    name_packages(p, cpus, n);
    return true;
}

static tel_result perf_open(const tel_env *env, void **state, tel_found *found, tel_error *err) {
    perf *p = calloc(1, sizeof *p);
    *state = p;
    if (!p) return tel_fail(err, TEL_ERR_NO_MEMORY, "out of memory for the power events");
    p->env = *env;
    const size_t first = found->n;
    char reason[sizeof found->items[0].reason], path[TEL_SYSFS_PATH];
    bool usable = open_device(p, reason, sizeof reason);
    for (size_t e = 0; usable && e < sizeof events / sizeof events[0]; e++)
        if (tel_sysfs_path(path, "%s/events/%s", p->dir, events[e].file) && tel_sysfs_exists(path))
            for (size_t i = 0; i < p->n_cpus; i++) add_domain(p, found, &events[e], &p->cpus[i]);
    if (found->n == first) {
        tel_domain *d = tel_found_add(found);
        if (!d) return TEL_OK;
        tel_text(d->name, sizeof d->name, "rapl");
        tel_text(d->path, sizeof d->path, "%s", p->dir);
        tel_text(d->reason, sizeof d->reason, "%s", usable ? "the power events have none for energy" : reason);
        d->unit = "perf unit";
        d->method = TEL_METHOD_COUNTER;
        d->slot = -1;
    }
    refuse_still(p, found, first);
    refuse_mirrors(p, found, first);
    return TEL_OK;
}

static void perf_close(void *state) {
    perf *p = state;
    if (!p) return;
    for (int i = 0; i < p->n; i++)
        if (p->fd[i] >= 0) close(p->fd[i]);
    free(p);
}

const tel_source tel_source_perf = {.name = "perf", .rank = 0, .open = perf_open, .read = perf_read, .close = perf_close};
