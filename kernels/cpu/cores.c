// How many threads are worth starting, and how many logical cores may be used at all.
//
// Read from the kernel's own files: the affinity mask, the sibling lists under /sys, the cgroup quota (v1 and v2). hwloc
// would tell the same, but its start-up scans plugin folders and costs 4 ms (measured; 14 ms cold) of the 60 ms in which
// the first token of a small model is due; reading one sibling list takes 10 us. Everything unreadable means "no limit".
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORES_MAX_CPUS 4096 // affinity masks of larger machines are refused by the kernel call and count as "no limit"
#define CORES_PATH 512

typedef struct cpu_set_bits {
    uint8_t member[CORES_MAX_CPUS];
} cpu_set_bits;

// Reads a small file as one string; false when it is missing or empty.
static bool read_text(const char *path, char *text, size_t capacity) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t n = fread(text, 1, capacity - 1, f);
    fclose(f);
    text[n] = '\0';
    return n > 0;
}

// "0-3,8,10-11" sets those members.
static void parse_list(const char *text, cpu_set_bits *set) {
    while (*text >= '0' && *text <= '9') {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        for (long cpu = first; cpu <= last && cpu < CORES_MAX_CPUS; cpu++) set->member[cpu] = 1;
        text = *end == ',' ? end + 1 : end;
    }
}

static bool read_affinity(cpu_set_bits *set) {
    cpu_set_t mask[CORES_MAX_CPUS / CPU_SETSIZE];
    memset(set, 0, sizeof *set);
    memset(mask, 0, sizeof mask);
    if (sched_getaffinity(0, sizeof mask, mask) != 0) return false;
    for (size_t cpu = 0; cpu < CORES_MAX_CPUS; cpu++) {
        if (CPU_ISSET_S(cpu, sizeof mask, mask)) set->member[cpu] = 1;
    }
    return true;
}

// Leaves only the performance cores of hybrid processors, if the mask holds any.
static void drop_efficiency_cores(cpu_set_bits *set) {
    char text[1024];
    cpu_set_bits fast = {{0}};
    if (!read_text("/sys/devices/cpu_core/cpus", text, sizeof text)) return;
    parse_list(text, &fast);
    bool any = false;
    for (size_t cpu = 0; cpu < CORES_MAX_CPUS; cpu++) any = any || (set->member[cpu] && fast.member[cpu]);
    for (size_t cpu = 0; any && cpu < CORES_MAX_CPUS; cpu++) set->member[cpu] = set->member[cpu] & fast.member[cpu];
}

// Physical cores in the set: of hardware threads that share a core only the first one counts.
static int32_t count_cores(const cpu_set_bits *set) {
    cpu_set_bits left = *set;
    int32_t n = 0;
    for (size_t cpu = 0; cpu < CORES_MAX_CPUS; cpu++) {
        if (!left.member[cpu]) continue;
        char path[CORES_PATH], text[1024];
        cpu_set_bits siblings = {{0}};
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        if (read_text(path, text, sizeof text)) parse_list(text, &siblings);
        for (size_t i = 0; i < CORES_MAX_CPUS; i++) left.member[i] = left.member[i] & !siblings.member[i];
        left.member[cpu] = 0;
        n++;
    }
    return n;
}

// Whole cores that one cgroup directory allows, INT32_MAX for no limit.
static int32_t directory_quota(const char *directory) {
    char path[CORES_PATH + 32], text[128];
    long long quota = -1, period = 0;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (read_text(path, text, sizeof text)) {
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) return INT32_MAX; // "max 100000"
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", directory);
        if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1) return INT32_MAX;
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", directory);
        if (!read_text(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1) return INT32_MAX;
    }
    if (quota <= 0 || period <= 0) return INT32_MAX;
    long long cores = quota / period;
    return cores < 1 ? 1 : cores > INT32_MAX ? INT32_MAX : (int32_t)cores;
}

// The smallest quota on the way from mount/path up to mount. Inside a container the path may not exist: then only the
// existing ancestors count.
static int32_t path_quota(const char *mount, const char *path) {
    char directory[CORES_PATH];
    int length = snprintf(directory, sizeof directory, "%s%s", mount, path);
    if (length < 0 || (size_t)length >= sizeof directory) return INT32_MAX;
    int32_t least = INT32_MAX;
    for (;;) {
        int32_t quota = directory_quota(directory);
        if (quota < least) least = quota;
        char *slash = strrchr(directory, '/');
        if (!slash || strlen(directory) <= strlen(mount)) return least;
        *slash = '\0';
    }
}

static int32_t cgroup_quota(void) {
    char text[4096];
    if (!read_text("/proc/self/cgroup", text, sizeof text)) return INT32_MAX;
    int32_t least = INT32_MAX;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        const char *mount = NULL;
        if (*controllers == '\0') mount = "/sys/fs/cgroup";
        else if (strcmp(controllers, "cpu") == 0) mount = "/sys/fs/cgroup/cpu";
        else if (strcmp(controllers, "cpu,cpuacct") == 0) mount = "/sys/fs/cgroup/cpu,cpuacct";
        if (!mount) continue;
        int32_t quota = path_quota(mount, path);
        if (quota < least) least = quota;
    }
    return least;
}

static int32_t at_least_one(int32_t n, int32_t limit) {
    if (n > limit) n = limit;
    return n < 1 ? 1 : n;
}

int32_t cpu_default_threads(void) {
    cpu_set_bits set;
    if (!read_affinity(&set)) return 1;
    drop_efficiency_cores(&set);
    return at_least_one(count_cores(&set), cgroup_quota());
}

int32_t cpu_usable_cores(void) {
    cpu_set_bits set;
    if (!read_affinity(&set)) return 1;
    int32_t n = 0;
    for (size_t cpu = 0; cpu < CORES_MAX_CPUS; cpu++) n += set.member[cpu];
    return at_least_one(n, cgroup_quota());
}
