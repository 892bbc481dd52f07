// Processors' use, speed and name from the kernel's files. See bench_machine.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/cli.h"

// A window of so many ticks tells shares to a few per cent.
enum { TICKS_MIN = 20 };
// From here on the others are more than the usual daemons.
static const double BUSY_FRAC = 0.05;

uint64_t bench_own_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool bench_moment_parse(const char *stat, bench_moment *out) {
    uint64_t user, nice, system, idle, iowait = 0, irq = 0, softirq = 0, steal = 0; // guest time is within user and nice
    const int n = sscanf(stat, "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &user, &nice, &system, &idle,
                         &iowait, &irq, &softirq, &steal);
    if (n < 4) return false;
    out->busy_ticks = user + nice + system + irq + softirq;
    out->steal_ticks = steal;
    out->all_ticks = out->busy_ticks + steal + idle + iowait;
    return true;
}

bench_moment bench_moment_now(void) {
    char text[512] = "";
    bench_moment now = {.wall_ns = cli_now_ns(), .own_cpu_ns = bench_own_cpu_ns()};
    FILE *f = fopen("/proc/stat", "re");
    if (!f) return now;
    now.known = fgets(text, sizeof text, f) && bench_moment_parse(text, &now);
    fclose(f);
    return now;
}

bench_use bench_use_between(const bench_moment *a, const bench_moment *b) {
    bench_use use = {0};
    const long hz = sysconf(_SC_CLK_TCK);
    if (!a->known || !b->known || hz <= 0 || b->all_ticks < a->all_ticks + TICKS_MIN || b->wall_ns <= a->wall_ns) return use;
    const double all = (double)(b->all_ticks - a->all_ticks), own = (double)(b->own_cpu_ns - a->own_cpu_ns) * 1e-9 * (double)hz;
    const double others = ((double)(b->busy_ticks - a->busy_ticks) - own) / all;
    use.known = true;
    use.others_frac = others > 0 ? others : 0;
    use.steal_frac = (double)(b->steal_ticks - a->steal_ticks) / all;
    return use;
}

const char *bench_use_warning(const bench_use *use, char *text, size_t cap) {
    if (!use->known || use->others_frac + use->steal_frac < BUSY_FRAC) return NULL;
    snprintf(text, cap, "the machine was busy: other programs took %.0f %% of its processors' time, the hypervisor %.0f %%", 100 * use->others_frac,
             100 * use->steal_frac);
    return text;
}

// kHz that the governor runs at, the largest over the processors.
static double sys_mhz(void) {
    double best = 0;
    for (int cpu = 0; cpu < 1024; cpu++) {
        char path[96];
        double khz = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        FILE *f = fopen(path, "re");
        if (!f) break;
        if (fscanf(f, "%lf", &khz) == 1 && khz > best) best = khz;
        fclose(f);
    }
    return best / 1e3;
}

// Value behind "name\t: " of the lines of /proc/cpuinfo: the largest number, or the first text.
static double read_cpuinfo(const char *name, char *text, size_t cap) {
    char line[512];
    double best = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)) != 0) continue;
        colon++;
        colon += strspn(colon, " \t");
        colon[strcspn(colon, "\n")] = '\0';
        if (text) {
            snprintf(text, cap, "%s", colon);
            break;
        }
        const double value = strtod(colon, NULL);
        if (value > best) best = value;
    }
    fclose(f);
    return best;
}

double bench_cpu_mhz(void) {
    const double mhz = sys_mhz();
    return mhz > 0 ? mhz : read_cpuinfo("cpu MHz", NULL, 0);
}

const char *bench_cpu_name(char *text, size_t cap) {
    *text = '\0';
    read_cpuinfo("model name", text, cap);
    return text;
}

uint64_t bench_rss_bytes(void) {
    unsigned long long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    if (fscanf(f, "%llu %llu", &all, &resident) != 2) resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
