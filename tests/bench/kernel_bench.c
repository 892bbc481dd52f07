// Speed of the quantised matmul next to what the machine allows, measured in the same run.
//
// For each type, number of rows of x and number of threads: GB/s of packed weights read and GMAC/s, and their shares of
// memory reads and of integer multiply-adds. Few rows cycle through weights far larger than the caches.
// Usage: kernel_bench [type...]; environment: WTL_CPU_MASK, BENCH_THREADS (default: 1, then all cores).
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cores.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

#define STREAM_BYTES ((size_t)160 << 20) // cycled through for memory figures: enough to miss every cache
#define PIECE_BYTES ((size_t)2 << 20)    // one timed call: shorter than a scheduler's time slice
#define COMPUTE_MACS 100e6               // the same for many rows, where weights stay in the cache
#define MAX_SAMPLES 4096

static volatile uint64_t sink;

typedef struct read_job {
    const uint64_t *data;
    size_t words;
} read_job;

static void read_run(void *ctx, int32_t thread, int32_t n_threads) {
    const read_job *job = ctx;
    const size_t first = job->words / (size_t)n_threads * (size_t)thread, end = first + job->words / (size_t)n_threads;
    uint64_t sums[32] = {0};
    for (size_t i = first; i + 32 <= end; i += 32) {
        __builtin_prefetch(job->data + i + 512);
        for (int j = 0; j < 32; j++) sums[j] += job->data[i + (size_t)j];
    }
    for (int j = 0; j < 32; j++) sink += sums[j];
}

// Mean of the fastest quarter of the samples: other programs on the machine disturb the rest.
static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double typical(double *samples, int n) {
    qsort(samples, (size_t)n, sizeof *samples, compare);
    const int quarter = n / 4 ? n / 4 : 1;
    double sum = 0;
    for (int i = 0; i < quarter; i++) sum += samples[i];
    return sum / quarter;
}

static double seconds_of(cpu_pool *pool, cpu_job job, void *ctx) {
    const uint64_t start = wtl_clock_ns();
    pool_run(pool, job, ctx);
    return (double)(wtl_clock_ns() - start) * 1e-9;
}

#if defined(__x86_64__)
#define VNNI_ROUNDS 100000
#define VNNI_STEP(r) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #r "\n\t"
__attribute__((target("avx512f,avx512vnni"))) static void vnni_run(void *ctx, int32_t thread, int32_t n_threads) {
    (void)ctx, (void)thread, (void)n_threads;
    for (int i = 0; i < VNNI_ROUNDS; i++) { // twelve independent chains hide the latency
        __asm__ volatile(VNNI_STEP(16) VNNI_STEP(17) VNNI_STEP(18) VNNI_STEP(19) VNNI_STEP(20) VNNI_STEP(21) VNNI_STEP(22)
                             VNNI_STEP(23) VNNI_STEP(24) VNNI_STEP(25) VNNI_STEP(26) VNNI_STEP(27)
                         :
                         :
                         : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26",
                           "xmm27");
    }
}
static double vnni_peak(cpu_pool *pool) {
    if (!cpu_isa_available(CPU_ISA_AVX512VNNI)) return 0;
    double samples[128];
    for (int i = 0; i < 128; i++) samples[i] = seconds_of(pool, vnni_run, NULL);
    return 64.0 * 12 * VNNI_ROUNDS * pool_threads(pool) / typical(samples, 128) * 1e-9;
}
#else
static double vnni_peak(cpu_pool *pool) { return (void)pool, 0; }
#endif

static double read_peak(cpu_pool *pool) {
    enum { PIECES = STREAM_BYTES / PIECE_BYTES, SAMPLES = 4 * PIECES };
    static double samples[SAMPLES];
    uint8_t *data = wtl_pages_alloc(STREAM_BYTES);
    if (!data) return 0;
    memset(data, 1, STREAM_BYTES);
    for (int i = 0; i < SAMPLES; i++) {
        read_job job = {(const uint64_t *)(const void *)(data + (size_t)(i % PIECES) * PIECE_BYTES), PIECE_BYTES / 8};
        samples[i] = seconds_of(pool, read_run, &job);
    }
    wtl_pages_free(data, STREAM_BYTES);
    return (double)PIECE_BYTES / typical(samples, SAMPLES) * 1e-9;
}

// Random bytes with the block's f16 scales made small and finite: speed does not depend on values, denormals would.
static void fill(wtl_dtype dtype, uint8_t *data, size_t bytes) {
    uint64_t state = 88172645463325252u;
    const uint32_t block = wtl_dtype_get(dtype)->block_bytes;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(state >> 56);
    }
    for (size_t i = 0; i + block <= bytes; i += block) {
        for (size_t j = 1; j < block; j += 2) data[i + j] = data[i + j] & 0x3B; // exponent of f16 stays below 15
    }
}

static wtl_error failure;
static void must(wtl_status status) {
    if (status == WTL_OK) return;
    fprintf(stderr, "%s\n", failure.message);
    exit(1);
}

typedef struct setup {
    wtl_weight *w[STREAM_BYTES / PIECE_BYTES];
    int32_t n_weights, rows, cols;
    double pack_seconds;
} setup;

// Few rows of x: many matrices of PIECE_BYTES, as a decode step reads them. Many rows: one matrix that fits the work.
static void prepare(wtl_backend *be, wtl_dtype dtype, int32_t cols, int32_t n, setup *s) {
    uint64_t row_bytes;
    if (!wtl_dtype_row_bytes(dtype, (uint64_t)cols, &row_bytes)) exit(1);
    s->cols = cols;
    s->n_weights = n <= 8 ? (int32_t)(STREAM_BYTES / PIECE_BYTES) : 1;
    s->rows = (int32_t)(n <= 8 ? (double)PIECE_BYTES / (double)row_bytes : COMPUTE_MACS / n / cols) / 16 * 16;
    if (s->rows < 64) s->rows = 64;
    uint8_t *data = wtl_malloc((size_t)s->rows * row_bytes);
    if (!data) exit(1);
    fill(dtype, data, (size_t)s->rows * row_bytes);
    const wtl_tensor src = {data, dtype, s->rows, cols, row_bytes, false};
    double samples[STREAM_BYTES / PIECE_BYTES];
    for (int32_t i = 0; i < s->n_weights; i++) {
        const uint64_t start = wtl_clock_ns();
        must(be->ops->weight_prepare(be, &src, WTL_WEIGHT_MATRIX, &s->w[i], &failure));
        samples[i] = (double)(wtl_clock_ns() - start) * 1e-9;
    }
    s->pack_seconds = typical(samples, s->n_weights);
    wtl_free(data);
}

static double time_matmul(wtl_backend *be, const setup *w, int32_t n) {
    static double samples[MAX_SAMPLES];
    const wtl_stream_limits limits = {.max_rows = n, .max_cols = w->cols};
    wtl_stream *s;
    must(be->ops->stream_open(be, &limits, &s, &failure));
    float *x = wtl_calloc((size_t)n * (size_t)w->cols, sizeof *x), *out = wtl_calloc((size_t)n * (size_t)w->rows, sizeof *out);
    if (!x || !out) exit(1);
    for (size_t j = 0; j < (size_t)n * (size_t)w->cols; j++) x[j] = (float)(j * 7919 % 1000) / 500 - 1;
    const int count = w->n_weights > 1 ? 4 * w->n_weights : 100;
    for (int i = 0; i < count; i++) {
        const wtl_matmul a = {.x = {x, n, w->cols, w->cols}, .n_parts = 1,
                              .part = {{w->w[i % w->n_weights], NULL, {out, n, w->rows, w->rows}}}};
        const uint64_t start = wtl_clock_ns();
        s->ops->matmul(s, &a);
        samples[i] = (double)(wtl_clock_ns() - start) * 1e-9;
    }
    be->ops->stream_close(s);
    wtl_free(x);
    wtl_free(out);
    return typical(samples, count);
}

static void bench_type(wtl_backend *be, wtl_dtype dtype, int32_t cols, double gbs, double gmacs) {
    static const int32_t counts[] = {1, 2, 3, 4, 5, 8, 9, 13, 16, 33, 64, 512};
    static setup s;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const int32_t n = counts[i];
        prepare(be, dtype, cols, n, &s);
        const double t = time_matmul(be, &s, n), bytes = (double)s.w[0]->bytes;
        const double g = bytes / t * 1e-9, m = (double)s.rows * cols * n / t * 1e-9;
        if (n == 1) printf("  %s K=%d, packed at %.1f GB/s\n", wtl_dtype_get(dtype)->name, cols, bytes / s.pack_seconds * 1e-9);
        printf("    n=%-4d %6.1f GB/s (%3.0f %%)  %6.1f GMAC/s (%3.0f %%)\n", n, g, 100 * g / gbs, m,
               gmacs > 0 ? 100 * m / gmacs : 0);
        for (int32_t j = 0; j < s.n_weights; j++) be->ops->weight_free(be, s.w[j]);
    }
}

static bool wanted(const char *name, int argc, char **argv) {
    bool found = argc < 2;
    for (int i = 1; i < argc; i++) found = found || strcmp(name, argv[i]) == 0;
    return found;
}

static void bench_threads(int32_t n_threads, int argc, char **argv) {
    const wtl_backend_options options = {.n_threads = n_threads};
    wtl_backend *be;
    must(cpu_backend_open(&options, &be, &failure));
    cpu_pool *pool = ((cpu_backend *)be)->pool;
    const double gbs = read_peak(pool), gmacs = vnni_peak(pool);
    printf("%s: memory reads %.1f GB/s, integer multiply-adds %.0f GMAC/s\n", be->ops->describe(be), gbs, gmacs);
    for (uint32_t id = 0; id < WTL_DTYPE_ID_END; id++) {
        const wtl_dtype_info *info = wtl_dtype_get(id);
        if (!info->name || !info->can_run || info->block_weights == 1 || !wanted(info->name, argc, argv)) continue;
        if (info->block_weights == 32) bench_type(be, (wtl_dtype)id, 576, gbs, gmacs);
        bench_type(be, (wtl_dtype)id, 2048, gbs, gmacs);
    }
    be->ops->close(be);
}

int main(int argc, char **argv) {
    const char *threads = getenv("BENCH_THREADS");
    if (threads) {
        bench_threads(atoi(threads), argc, argv);
        return 0;
    }
    bench_threads(1, argc, argv);
    if (cpu_default_threads() > 1) bench_threads(cpu_default_threads(), argc, argv);
    return 0;
}
