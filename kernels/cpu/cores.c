// How many threads are worth starting, and how many logical cores may be used at all.
//
// Read from the kernel's own files: the affinity mask, the sibling lists and kinds of cores under /sys, the cgroup quota (v1 and
// v2). hwloc 2.9 would tell the same, but reads some 25 files for each hardware thread where one or two are enough, and its
// libraries take 1.3 MB of memory (4.1 MB and 2.7 ms of a start with the plugins that Debian installs beside it), which a small
// model's process notices. Everything unreadable means "no limit".
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORES_PATH 512
#define CORES_TEXT 4096

// Reads a small file under root as one string; false when it is missing, empty, or its name does not fit.
static bool read_text(const char *root, const char *path, char *text, size_t capacity) {
    char full[CORES_PATH];
    const int length = snprintf(full, sizeof full, "%s%s", root, path);
    FILE *f = length > 0 && (size_t)length < sizeof full ? fopen(full, "re") : NULL;
    if (!f) return false;
    size_t n = fread(text, 1, capacity - 1, f);
    fclose(f);
    text[n] = '\0';
    return n > 0;
}

// As read_text, of a file of one logical core.
static bool read_cpu_text(const char *root, size_t cpu, const char *name, char *text, size_t capacity) {
    char path[CORES_PATH];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/%s", cpu, name);
    return read_text(root, path, text, capacity);
}

// "0-3,8,10-11" sets those members.
static void parse_list(const char *text, cpu_core_set *set) {
    while (*text >= '0' && *text <= '9') {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        for (long cpu = first; cpu <= last && cpu < CPU_CORES_MAX; cpu++) set->member[cpu] = 1;
        text = *end == ',' ? end + 1 : end;
    }
}

static bool read_affinity(cpu_core_set *set) {
    cpu_set_t mask[CPU_CORES_MAX / CPU_SETSIZE];
    memset(set, 0, sizeof *set);
    memset(mask, 0, sizeof mask);
    if (sched_getaffinity(0, sizeof mask, mask) != 0) return false;
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) {
        if (CPU_ISSET_S(cpu, sizeof mask, mask)) set->member[cpu] = 1;
    }
    return true;
}

// Leaves only members of `wanted`, if the set has any.
static void keep(cpu_core_set *set, const cpu_core_set *wanted) {
    bool any = false;
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) any = any || (set->member[cpu] && wanted->member[cpu]);
    for (size_t cpu = 0; any && cpu < CPU_CORES_MAX; cpu++) set->member[cpu] = set->member[cpu] & wanted->member[cpu];
}

// Leaves only the performance cores of hybrid processors. Intel's kernel driver lists them; elsewhere (big.LITTLE) each core
// tells its capacity, 1024 the machine's largest: those with at least half of the set's largest stay.
static void drop_efficiency_cores(const char *root, cpu_core_set *set) {
    char text[CORES_TEXT];
    cpu_core_set fast = {{0}};
    if (read_text(root, "/sys/devices/cpu_core/cpus", text, sizeof text)) {
        parse_list(text, &fast);
        keep(set, &fast);
        return;
    }
    int32_t largest = 0, capacity[CPU_CORES_MAX] = {0};
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) {
        if (!set->member[cpu]) continue;
        if (!read_cpu_text(root, cpu, "cpu_capacity", text, sizeof text)) return; // not told: all alike
        const long told = strtol(text, NULL, 10);
        capacity[cpu] = told < 0 ? 0 : told > 1 << 20 ? 1 << 20 : (int32_t)told;
        if (capacity[cpu] > largest) largest = capacity[cpu];
    }
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) fast.member[cpu] = 2 * capacity[cpu] >= largest;
    keep(set, &fast);
}

// Physical cores in the set: of hardware threads that share a core only the first one counts.
static int32_t count_cores(const char *root, const cpu_core_set *set) {
    cpu_core_set left = *set;
    int32_t n = 0;
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) {
        if (!left.member[cpu]) continue;
        char text[CORES_TEXT];
        cpu_core_set siblings = {{0}};
        if (read_cpu_text(root, cpu, "topology/thread_siblings_list", text, sizeof text)) parse_list(text, &siblings);
        for (size_t i = 0; i < CPU_CORES_MAX; i++) left.member[i] = left.member[i] & !siblings.member[i];
        left.member[cpu] = 0;
        n++;
    }
    return n;
}

// Whole cores that one cgroup directory allows, INT32_MAX for no limit.
static int32_t directory_quota(const char *root, const char *directory) {
    char path[CORES_PATH], text[128];
    long long quota = -1, period = 0;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (read_text(root, path, text, sizeof text)) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) return INT32_MAX; // "max 100000"
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
        if (!read_text(root, path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1) return INT32_MAX;
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        if (!read_text(root, path, text, sizeof text) || sscanf(text, "%lld", &period) != 1) return INT32_MAX;
    }
    if (quota <= 0 || period <= 0) return INT32_MAX;
    long long cores = quota / period;
    return cores < 1 ? 1 : cores > INT32_MAX ? INT32_MAX : (int32_t)cores;
}

// The smallest quota on the way from mount/path up to mount. Inside a container the path may not exist: then only the
// existing ancestors count.
static int32_t path_quota(const char *root, const char *mount, const char *path) {
    char directory[CORES_PATH - 32]; // room for a file's name
    int length = snprintf(directory, sizeof directory, "%s%s", mount, path);
    if (length < 0 || (size_t)length >= sizeof directory) return INT32_MAX;
    int32_t least = INT32_MAX;
    for (;;) {
        int32_t quota = directory_quota(root, directory);
        if (quota < least) least = quota;
        char *slash = strrchr(directory, '/');
        if (!slash || strlen(directory) <= strlen(mount)) return least;
        *slash = '\0';
    }
}

// "cpu" is one of "cpu,cpuacct", in any order.
static bool names_cpu(const char *controllers) {
    while (*controllers) {
        const size_t n = strcspn(controllers, ",");
        if (n == 3 && strncmp(controllers, "cpu", 3) == 0) return true;
        controllers += n + (controllers[n] == ',');
    }
    return false;
}

static int32_t cgroup_quota(const char *root) {
    char text[CORES_TEXT];
    if (!read_text(root, "/proc/self/cgroup", text, sizeof text)) return INT32_MAX;
    int32_t least = INT32_MAX;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        if (*controllers && !names_cpu(controllers)) continue;
        // Version 2 has one tree. Version 1 mounts controllers alone or together, under the names of this line or in another order, with a link to each.
        char named[CORES_PATH / 2] = "";
        if (*controllers) snprintf(named, sizeof named, "/sys/fs/cgroup/%s", controllers);
        const char *const mounts[] = {*controllers ? "/sys/fs/cgroup/cpu" : "/sys/fs/cgroup", named};
        for (size_t i = 0; i < 2 && *mounts[i]; i++) {
            int32_t quota = path_quota(root, mounts[i], path);
            if (quota < least) least = quota;
        }
    }
    return least;
}

static int32_t at_least_one(int32_t n, int32_t limit) {
    if (n > limit) n = limit;
    return n < 1 ? 1 : n;
}

int32_t cpu_default_threads_at(const char *root, const cpu_core_set *allowed) {
    cpu_core_set set = *allowed;
    drop_efficiency_cores(root, &set);
    return at_least_one(count_cores(root, &set), cgroup_quota(root));
}

int32_t cpu_usable_cores_at(const char *root, const cpu_core_set *allowed) {
    int32_t n = 0;
    for (size_t cpu = 0; cpu < CPU_CORES_MAX; cpu++) n += allowed->member[cpu];
    return at_least_one(n, cgroup_quota(root));
}

int32_t cpu_default_threads(void) {
    cpu_core_set allowed;
    return read_affinity(&allowed) ? cpu_default_threads_at("", &allowed) : 1;
}

int32_t cpu_usable_cores(void) {
    cpu_core_set allowed;
    return read_affinity(&allowed) ? cpu_usable_cores_at("", &allowed) : 1;
}
