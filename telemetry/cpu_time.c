// Finds the control group of this process in version 1 or 2 of the interface, its quota, and the processors that may be used. See cpu_time.h.
//
// The path in /proc/self/cgroup is relative to what the process sees as /sys/fs/cgroup, or is the host's path where a container mounts its own
// group there: both places are tried. Quotas of all groups above apply too, so the smallest counts.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/cpu_time.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROCS_MAX = 65536, CPUS_MAX = 8192, ANCESTORS_MAX = 64 };

typedef struct group {
    char mount[TEL_SYSFS_PATH]; // "<root>/sys/fs/cgroup" or a controller's mount below it
    char path[TEL_SYSFS_PATH];  // "/system.slice/wattle.service", "" for the top
} group;

// ---- Which group ---------------------------------------------------------------------------------------------------

// The group of the line whose controllers (second field) hold `controller`; "" asks for version 2.
static bool group_of(const char *text, const char *controller, char path[TEL_SYSFS_PATH]) {
    size_t want = strlen(controller);
    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        const char *first = memchr(line, ':', len), *second = first ? memchr(first + 1, ':', len - (size_t)(first + 1 - line)) : NULL;
        if (second) {
            bool found = second == first + 1 && want == 0;
            for (const char *c = first + 1; want && c < second && !found;) {
                size_t n = strcspn(c, ",:");
                found = n == want && strncmp(c, controller, n) == 0;
                c += n + 1;
            }
            size_t n = len - (size_t)(second + 1 - line);
            if (found && n < TEL_SYSFS_PATH && !memmem(second + 1, n, "..", 2)) {
                memcpy(path, second + 1, n);
                path[n] = '\0';
                if (strcmp(path, "/") == 0) path[0] = '\0';
                return true;
            }
        }
        line += len + (line[len] == '\n');
    }
    return false;
}

// Where the file of that group is: below the mount, or at the mount itself (a container that sees its group as the top).
static bool locate(group *g, const char *file) {
    char path[TEL_SYSFS_PATH];
    if (*g->path && tel_sysfs_path(path, "%s%s/%s", g->mount, g->path, file) && tel_sysfs_exists(path)) return true;
    g->path[0] = '\0';
    return tel_sysfs_path(path, "%s/%s", g->mount, file) && tel_sysfs_exists(path);
}

static uint64_t parent_of(const char *root, uint64_t pid) {
    char path[TEL_SYSFS_PATH], text[1024];
    size_t n;
    uint64_t parent = 0;
    if (!tel_sysfs_path(path, "%s/proc/%llu/stat", root, (unsigned long long)pid) || tel_sysfs_whole(path, text, sizeof text, &n)) return 0;
    const char *after = strrchr(text, ')'); // the name may hold anything: ") S 17 ..."
    unsigned long long value;
    if (after && sscanf(after, ") %*c %llu", &value) == 1) parent = value;
    return parent;
}

static bool is_ancestor(const char *root, uint64_t candidate, uint64_t of) {
    for (int i = 0; i < ANCESTORS_MAX && of > 1; i++) {
        of = parent_of(root, of);
        if (of == candidate) return of != 0;
    }
    return false;
}

// Every process of the group is this one, above it or below it.
static bool ours_alone(const char *root, const group *g) {
    char path[TEL_SYSFS_PATH], *text = malloc(PROCS_MAX);
    bool self_seen = false, alone = text && tel_sysfs_path(path, "%s%s/cgroup.procs", g->mount, g->path) &&
                                    tel_sysfs_whole(path, text, PROCS_MAX, NULL) == TEL_SYSFS_OK;
    uint64_t self = (uint64_t)getpid();
    for (char *rest = text, *word; alone && (word = strtok_r(rest, "\n", &rest));) {
        uint64_t pid;
        if (!tel_parse_u64(word, &pid)) alone = false;
        else if (pid == self) self_seen = true;
        else alone = is_ancestor(root, pid, self) || is_ancestor(root, self, pid);
    }
    free(text);
    return alone && self_seen;
}

// ---- Quota ---------------------------------------------------------------------------------------------------------

static void take_quota(double *quota, double runtime, double period) {
    if (!(runtime > 0) || !(period > 0)) return;
    if (*quota == 0 || runtime / period < *quota) *quota = runtime / period;
}

static void quota_at(const group *g, bool version2, double *quota) {
    char path[TEL_SYSFS_PATH], text[TEL_SYSFS_TEXT];
    int64_t runtime, period;
    if (version2) { // "max 100000" or "150000 100000"
        double r, p;
        if (!tel_sysfs_path(path, "%s%s/cpu.max", g->mount, g->path) || tel_sysfs_line(path, text)) return;
        char *blank = strchr(text, ' ');
        if (!blank) return;
        *blank = '\0';
        if (tel_parse_double(text, &r) && tel_parse_double(blank + 1, &p)) take_quota(quota, r, p);
        return;
    }
    if (tel_sysfs_path(path, "%s%s/cpu.cfs_quota_us", g->mount, g->path) && tel_sysfs_i64(path, &runtime) == TEL_SYSFS_OK &&
        tel_sysfs_path(path, "%s%s/cpu.cfs_period_us", g->mount, g->path) && tel_sysfs_i64(path, &period) == TEL_SYSFS_OK)
        take_quota(quota, (double)runtime, (double)period);
}

static void quota_upwards(group g, bool version2, double *quota) {
    for (;;) {
        quota_at(&g, version2, quota);
        char *slash = strrchr(g.path, '/');
        if (!slash) return;
        *slash = '\0';
    }
}

// ---- Both versions -------------------------------------------------------------------------------------------------

static void find_version2(const char *root, const char *text, tel_cpu_time *out) {
    group g;
    if (!group_of(text, "", g.path)) return;
    const char *const mounts[] = {"%s/sys/fs/cgroup", "%s/sys/fs/cgroup/unified"}; // the second: mixed with version 1
    for (size_t i = 0; i < 2; i++) {
        group at = g;
        if (!tel_sysfs_path(at.mount, mounts[i], root) || !locate(&at, "cpu.stat")) continue;
        quota_upwards(at, true, &out->quota);
        // cgroup.events is in every group but the machine's root, whose time is everybody's.
        char path[TEL_SYSFS_PATH];
        if (!tel_sysfs_path(path, "%s%s/cgroup.events", at.mount, at.path) || !tel_sysfs_exists(path) || !ours_alone(root, &at)) return;
        if (tel_sysfs_path(out->path, "%s%s/cpu.stat", at.mount, at.path)) out->basis = TEL_CPU_CGROUP_V2;
        return;
    }
}

// Controllers are mounted alone or together, under either order of their names.
static bool mount_of(const char *root, const char *text, const char *controller, const char *file, group *g) {
    const char *const names[] = {controller, "cpu,cpuacct", "cpuacct,cpu"};
    char path[TEL_SYSFS_PATH];
    if (!group_of(text, controller, path)) return false;
    for (size_t i = 0; i < 3; i++) {
        memcpy(g->path, path, sizeof path);
        if (tel_sysfs_path(g->mount, "%s/sys/fs/cgroup/%s", root, names[i]) && locate(g, file)) return true;
    }
    return false;
}

static void find_version1(const char *root, const char *text, tel_cpu_time *out) {
    group g;
    if (mount_of(root, text, "cpu", "cpu.cfs_quota_us", &g)) quota_upwards(g, false, &out->quota);
    // release_agent is only in the machine's root group.
    char path[TEL_SYSFS_PATH];
    if (out->basis != TEL_CPU_PROCESS || !mount_of(root, text, "cpuacct", "cpuacct.usage", &g)) return;
    if (!tel_sysfs_path(path, "%s%s/release_agent", g.mount, g.path) || tel_sysfs_exists(path) || !ours_alone(root, &g)) return;
    if (tel_sysfs_path(out->path, "%s%s/cpuacct.usage", g.mount, g.path)) out->basis = TEL_CPU_CGROUP_V1;
}

// ---- Processors ----------------------------------------------------------------------------------------------------

static size_t count_cpus(const char *list) {
    static const size_t cap = CPUS_MAX;
    int *cpus = malloc(cap * sizeof *cpus);
    size_t n = 0;
    if (!cpus || !tel_parse_cpus(list, cpus, cap, &n)) n = 0;
    free(cpus);
    return n;
}

// "Cpus_allowed_list:\t0-3,8" in /proc/self/status: the affinity, under the same root as everything else.
static size_t allowed_cpus(const char *root) {
    char path[TEL_SYSFS_PATH], text[8192];
    if (!tel_sysfs_path(path, "%s/proc/self/status", root) || tel_sysfs_whole(path, text, sizeof text, NULL)) return 0;
    static const char key[] = "\nCpus_allowed_list:";
    char *list = strstr(text, key);
    if (!list) return 0;
    list += sizeof key - 1;
    list += strspn(list, " \t");
    list[strcspn(list, "\n")] = '\0';
    return count_cpus(list);
}

void tel_cpu_time_find(const char *root, tel_cpu_time *out) {
    *out = (tel_cpu_time){0};
    char path[TEL_SYSFS_PATH], text[4096];
    if (tel_sysfs_path(path, "%s/sys/devices/system/cpu/online", root) && tel_sysfs_line(path, text) == TEL_SYSFS_OK)
        out->n_online = (int)count_cpus(text);
    size_t allowed = allowed_cpus(root);
    if (tel_sysfs_path(path, "%s/proc/self/cgroup", root) && tel_sysfs_whole(path, text, sizeof text, NULL) == TEL_SYSFS_OK) {
        find_version2(root, text, out);
        find_version1(root, text, out);
    }
    out->n_usable = allowed ? (double)allowed : out->n_online > 0 ? out->n_online : 1;
    if (out->n_online > 0 && out->n_usable > out->n_online) out->n_usable = out->n_online;
    if (out->quota > 0 && out->quota < out->n_usable) out->n_usable = out->quota;
}

// ---- Reading -------------------------------------------------------------------------------------------------------

static bool process_ns(uint64_t *cpu_ns) {
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t)) return false;
    *cpu_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    return true;
}

bool tel_cpu_time_read(const tel_cpu_time *place, uint64_t *cpu_ns) {
    char text[2048];
    uint64_t usage_us;
    if (place->basis == TEL_CPU_PROCESS) return process_ns(cpu_ns);
    if (place->basis == TEL_CPU_CGROUP_V1) return tel_sysfs_u64(place->path, cpu_ns) == TEL_SYSFS_OK;
    if (tel_sysfs_whole(place->path, text, sizeof text, NULL)) return false;
    static const char key[] = "usage_usec ";
    char *at = strncmp(text, key, sizeof key - 1) == 0 ? text : strstr(text, "\nusage_usec ");
    if (!at) return false;
    at += sizeof key - 1 + (*at == '\n');
    at[strcspn(at, "\n")] = '\0';
    if (!tel_parse_u64(at, &usage_us) || usage_us > UINT64_MAX / 1000) return false;
    *cpu_ns = usage_us * 1000;
    return true;
}
