// Finds the limits: walks memory in every pattern on small and on huge pages, then multiplies in registers. See limits.h.
//
// A pass over the buffer hands out pieces, so that a thread that lost its core for a while costs one piece and not a share. Every figure is
// that of the fastest pass: all patterns get a few, the best of them some more.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/limits.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/limits_team.h"

enum { SCOUT_PASSES = 2, FINAL_PASSES = 8, FINALISTS = 2, COMPUTE_RUNS = 24, COMPUTE_RUN_NS = 2000000 };
#define BUFFER_MIN ((size_t)128 << 20)
#define BUFFER_MAX ((size_t)512 << 20)
#define HUGE_PAGE ((size_t)2 << 20)

static const cpu_read_pattern patterns[] = {
    {0, false, 1},    {512, false, 1},  {1024, false, 1}, {2048, false, 1}, {4096, false, 1}, {1024, true, 1}, {2048, true, 1},
    {4096, true, 1},  {0, false, 2},    {1024, false, 2}, {2048, false, 2}, {2048, true, 2},  {0, false, 4},   {1024, false, 4},
    {2048, false, 4}, {2048, true, 4},
};
enum { N_PATTERNS = sizeof patterns / sizeof *patterns };

static const cpu_limit_kernels *const kernels_of[CPU_ISA_COUNT] = {
    [CPU_ISA_SCALAR] = &cpu_limits_scalar,
#if defined(__x86_64__)
    [CPU_ISA_AVX2] = &cpu_limits_avx2,
    [CPU_ISA_AVXVNNI] = &cpu_limits_avxvnni,
    [CPU_ISA_AVX512VNNI] = &cpu_limits_avx512vnni,
#elif defined(__aarch64__)
    [CPU_ISA_NEON_DOTPROD] = &cpu_limits_neon_dotprod,
    [CPU_ISA_NEON_I8MM] = &cpu_limits_neon_i8mm,
#endif
};

// ---- Memory ---------------------------------------------------------------------------------------------------------
// Four times the largest cache of the first processor, within bounds that every machine can spare.
static size_t buffer_size(void) {
    size_t largest = 0;
    for (int index = 0; index < 8; index++) {
        char path[96], unit = 0;
        unsigned long size = 0;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        FILE *f = fopen(path, "re");
        if (!f) break;
        const int n = fscanf(f, "%lu%c", &size, &unit);
        fclose(f);
        const size_t bytes = n < 1 ? 0 : unit == 'M' ? (size_t)size << 20 : unit == 'K' ? (size_t)size << 10 : size;
        if (bytes > largest) largest = bytes;
    }
    const size_t wanted = 4 * largest / HUGE_PAGE * HUGE_PAGE;
    return wanted < BUFFER_MIN ? BUFFER_MIN : wanted > BUFFER_MAX ? BUFFER_MAX : wanted;
}

typedef struct read_job {
    const cpu_limit_kernels *kernels;
    const uint8_t *data;
    size_t n_pieces;
    cpu_read_pattern pattern;
    _Atomic size_t next;
    _Atomic uint64_t sink;
} read_job;

static void read_run(void *ctx, int32_t thread, int32_t n_threads) {
    read_job *job = ctx;
    (void)thread, (void)n_threads;
    uint64_t seen = 0;
    for (size_t i; (i = atomic_fetch_add(&job->next, 1)) < job->n_pieces;) seen ^= job->kernels->read(job->data + i * CPU_LIMIT_PIECE, &job->pattern);
    atomic_fetch_xor(&job->sink, seen);
}

// GB/s of the fastest of some passes.
static double read_passes(limits_team *team, read_job *job, cpu_read_pattern pattern, int passes) {
    double best = 0;
    job->pattern = pattern;
    for (int i = 0; i < passes; i++) {
        atomic_store(&job->next, 0);
        const double gbs = (double)(job->n_pieces * CPU_LIMIT_PIECE) / (double)limits_team_run(team, read_run, job);
        if (gbs > best) best = gbs;
    }
    return best;
}

static void read_all_patterns(limits_team *team, read_job *job, bool huge, cpu_limits *out) {
    double gbs[N_PATTERNS];
    for (int i = 0; i < N_PATTERNS; i++) gbs[i] = read_passes(team, job, patterns[i], SCOUT_PASSES);
    if (!huge) out->plain_gbs = gbs[0];
    for (int final = 0; final < FINALISTS; final++) {
        int best = 0;
        for (int i = 1; i < N_PATTERNS; i++)
            if (gbs[i] > gbs[best]) best = i;
        const double more = read_passes(team, job, patterns[best], FINAL_PASSES), top = more > gbs[best] ? more : gbs[best];
        if (!huge && best == 0) out->plain_gbs = top;
        gbs[best] = 0;
        if (top <= out->read_gbs) continue;
        out->read_gbs = top;
        out->pattern = patterns[best];
        out->huge_pages = huge;
    }
}

static wtl_status measure_reads(limits_team *team, const cpu_limit_kernels *kernels, bool huge, cpu_limits *out, wtl_error *err) {
    const size_t bytes = out->buffer_bytes, mapped = bytes + HUGE_PAGE; // room to begin at a huge page; prefetches reach behind the end
    uint8_t *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return wtl_fail(err, WTL_ERR_NO_MEMORY, "no memory for %zu bytes to measure reading with", mapped);
    uint8_t *data = map + (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
    // Where the kernel has no huge pages both advices fail, and both buffers have small ones.
    const bool advised = madvise(data, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0;
    if (advised || !huge) {
        memset(data, 1, bytes); // pages that nobody wrote are all one page of zeros
        read_job job = {.kernels = kernels, .data = data, .n_pieces = bytes / CPU_LIMIT_PIECE};
        read_all_patterns(team, &job, huge, out);
    }
    munmap(map, mapped);
    return WTL_OK;
}

// ---- Arithmetic -----------------------------------------------------------------------------------------------------
typedef struct compute_job {
    double (*kernel)(int64_t rounds);
    int64_t rounds;
    _Atomic uint64_t macs; // of all threads
} compute_job;

static void compute_run(void *ctx, int32_t thread, int32_t n_threads) {
    compute_job *job = ctx;
    (void)thread, (void)n_threads;
    atomic_fetch_add(&job->macs, (uint64_t)job->kernel(job->rounds));
}

static double compute_once(limits_team *team, compute_job *job, uint64_t *ns) {
    atomic_store(&job->macs, 0);
    *ns = limits_team_run(team, compute_run, job);
    return (double)atomic_load(&job->macs) / (double)(*ns ? *ns : 1);
}

// 1e9 multiply-adds a second over all threads: the best of runs of two milliseconds, shorter than a turn of the scheduler.
static double measure_compute(limits_team *team, double (*kernel)(int64_t rounds)) {
    compute_job job = {.kernel = kernel, .rounds = 100};
    uint64_t ns = 0;
    double best = 0;
    for (compute_once(team, &job, &ns); ns < COMPUTE_RUN_NS / 2; compute_once(team, &job, &ns)) job.rounds *= 2;
    for (int i = 0; i < COMPUTE_RUNS; i++) {
        const double gmacs = compute_once(team, &job, &ns);
        if (gmacs > best) best = gmacs;
    }
    return best;
}

wtl_status cpu_limits_measure(int32_t n_threads, const char *mask, cpu_limits *out, wtl_error *err) {
    cpu_isa isa;
    limits_team *team = NULL;
    cpu_limits found = {.buffer_bytes = buffer_size()};
    wtl_status status = cpu_isa_choose(mask, &isa, err);
    if (!status) status = limits_team_open(n_threads ? n_threads : cpu_default_threads(), &team, err);
    if (status) return status;
    const cpu_limit_kernels *kernels = kernels_of[isa];
    status = measure_reads(team, kernels, false, &found, err);
    if (!status) status = measure_reads(team, kernels, true, &found, err);
    if (!status) {
        found.int8_name = kernels->int8_name;
        found.int16_name = kernels->int16_name;
        found.f32_name = kernels->f32_name;
        found.int8_gmacs = measure_compute(team, kernels->int8);
        found.int16_gmacs = measure_compute(team, kernels->int16);
        found.f32_gmacs = measure_compute(team, kernels->f32);
        *out = found;
    }
    limits_team_close(&team);
    return status;
}
