// How fast attention of the cpu backend is, beside what the machine allows: prints multiply-adds and bytes per second and
// their share of the f32 FMA peak and of the read bandwidth that the same run measured with the same threads. Storing K and V
// of the rows is timed before each attention.
//
// usage: attend_bench [threads] [rounds]. Limits and cases are interleaved, every timing is of a few milliseconds at most
// and the best one counts, so that neighbours on the machine disturb all of them alike. WTL_CPU_MASK picks the
// instruction set.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

#define PEAK_STEPS 50000
#define READ_BYTES ((size_t)256 << 20)
#define READ_PIECE ((size_t)8 << 20) // timed at a time

typedef struct limit_job {
    float sink[64];
    const uint64_t *data;
} limit_job;

#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((target("avx512f"))) static float fma_loop_512(void) {
    __m512 a[12], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f), sum = y;
    for (int i = 0; i < 12; i++) a[i] = _mm512_set1_ps((float)i);
    for (int i = 0; i < PEAK_STEPS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) a[j] = _mm512_fmadd_ps(a[j], x, y);
    }
    for (int i = 0; i < 12; i++) sum = _mm512_add_ps(sum, a[i]);
    return _mm512_reduce_add_ps(sum);
}
__attribute__((target("avx2,fma"))) static float fma_loop_256(void) {
    __m256 a[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f), sum = y;
    for (int i = 0; i < 12; i++) a[i] = _mm256_set1_ps((float)i);
    for (int i = 0; i < PEAK_STEPS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) a[j] = _mm256_fmadd_ps(a[j], x, y);
    }
    for (int i = 0; i < 12; i++) sum = _mm256_add_ps(sum, a[i]);
    return _mm256_cvtss_f32(sum);
}
#endif

// Multiply-adds of one thread.
static double fma_loop(float *sink) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        *sink = fma_loop_512();
        return 16.0 * 12 * PEAK_STEPS;
    }
    if (__builtin_cpu_supports("avx2")) {
        *sink = fma_loop_256();
        return 8.0 * 12 * PEAK_STEPS;
    }
#endif
    *sink = 0.0f;
    return 0.0;
}

static void fma_thread(void *ctx, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    fma_loop(&((limit_job *)ctx)->sink[thread % 64]);
}

static void read_thread(void *ctx, int32_t thread, int32_t n_threads) {
    limit_job *job = ctx;
    size_t n = READ_PIECE / 8 / (size_t)n_threads;
    const uint64_t *p = job->data + n * (size_t)thread;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) sum[j] ^= p[i + j];
    job->sink[thread % 64] = (float)(sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7]);
}

static double time_limit(cpu_pool *pool, cpu_job run, limit_job *job) {
    uint64_t start = wtl_clock_ns();
    pool_run(pool, run, job);
    return (double)(wtl_clock_ns() - start);
}

typedef struct bench_case {
    const char *name;
    wtl_dtype dtype;
    int32_t heads_kv, group, head_dim, n_rows, depth; // rows at positions depth .. depth + n_rows - 1
    int32_t n_layers; // distinct layers walked, so that decode reads memory and not a cache
    int32_t n_seqs;   // 0: one; else one row each, all at position depth
    double macs, bytes; // per layer
    double best_ns, store_ns; // of a layer: attention, and storing K and V before it
    uint8_t *pool;
    size_t pool_bytes, layer_bytes;
} bench_case;

static void best_of(double *best, double ns) { if (*best == 0.0 || ns < *best) *best = ns; }

static void run_case(wtl_backend *be, bench_case *c) {
    wtl_kv_shape shape = {c->dtype, c->heads_kv, c->head_dim};
    int32_t n_seqs = c->n_seqs ? c->n_seqs : 1, kv_len = c->depth + c->n_rows / n_seqs, stride = (kv_len + 15) / 16;
    int32_t n_heads = c->heads_kv * c->group, n_blocks = stride * n_seqs;
    size_t q_floats = (size_t)c->n_rows * (size_t)(n_heads * c->head_dim);
    c->layer_bytes = be->ops->kv_layer_bytes(&shape);
    size_t block_bytes = c->layer_bytes * (size_t)c->n_layers;
    wtl_stream_limits limits = {.max_rows = c->n_rows, .max_cols = 16, .max_heads = n_heads, .max_head_dim = c->head_dim, .max_kv_len = kv_len};
    wtl_stream *s = NULL;
    float *q = malloc(q_floats * sizeof *q), *out = malloc(q_floats * sizeof *q);
    int32_t *table = malloc((size_t)n_blocks * sizeof *table), *positions = malloc((size_t)c->n_rows * sizeof *positions);
    int32_t *seqs = calloc((size_t)c->n_rows, sizeof *seqs);
    double sum_ns = 0.0, sum_store_ns = 0.0;
    if (be->ops->stream_open(be, &limits, &s, NULL) != WTL_OK || !q || !out || !table || !positions || !seqs) abort();
    if (!c->pool) {
        c->pool_bytes = block_bytes * (size_t)n_blocks;
        c->pool = wtl_pages_alloc(c->pool_bytes);
        if (!c->pool) abort();
        uint16_t *half = (uint16_t *)(void *)c->pool;
        for (size_t i = 0; i < c->pool_bytes / 2; i++) half[i] = (uint16_t)(0x3000 + (i * 2654435761u >> 22) % 0xC00);
    }
    for (size_t i = 0; i < q_floats; i++) q[i] = (float)(i % 17) * 0.1f - 0.8f;
    for (int32_t i = 0; i < n_blocks; i++) table[i] = i;
    for (int32_t i = 0; i < c->n_rows; i++) {
        positions[i] = c->depth + i / n_seqs;
        seqs[i] = c->n_seqs ? i : 0;
    }
    wtl_rows rows = {c->n_rows, n_seqs, kv_len, positions, seqs};
    for (int32_t layer = 0; layer < c->n_layers; layer++) {
        wtl_mat mq = {q, c->n_rows, n_heads * c->head_dim, n_heads * c->head_dim}, mo = mq;
        mo.data = out;
        wtl_attention a = {.q = mq, .out = mo, .n_heads = n_heads, .scale = 0.125f,
                           .kv = {shape, c->pool, block_bytes, (size_t)layer * c->layer_bytes, table, stride}};
        wtl_mat k = mq;
        k.cols = c->heads_kv * c->head_dim;
        uint64_t start = wtl_clock_ns();
        be->ops->kv_write(s, k, k, &a.kv, &rows);
        uint64_t stored = wtl_clock_ns();
        be->ops->attention(s, &a, &rows);
        uint64_t end = wtl_clock_ns();
        sum_ns += (double)(end - stored);
        sum_store_ns += (double)(stored - start);
    }
    best_of(&c->best_ns, sum_ns / c->n_layers);
    best_of(&c->store_ns, sum_store_ns / c->n_layers);
    double rows_each = c->n_rows / n_seqs, pairs = (double)c->n_rows * c->depth + 0.5 * c->n_rows * (rows_each + 1);
    c->macs = pairs * n_heads * c->head_dim * 2.0;
    c->bytes = (double)kv_len / WTL_KV_BLOCK * (double)c->layer_bytes * n_seqs;
    be->ops->stream_close(s);
    free(q), free(out), free(table), free(positions), free(seqs);
}

int main(int argc, char **argv) {
    wtl_backend_options options = {.n_threads = argc > 1 ? atoi(argv[1]) : 0};
    int rounds = argc > 2 ? atoi(argv[2]) : 15;
    wtl_backend *be = NULL;
    wtl_error err;
    if (cpu_backend_open(&options, &be, &err) != WTL_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    cpu_pool *pool = ((cpu_backend *)be)->pool;
    const bench_case shapes[] = {
        {.name = "prefill 512, 3x3 heads of 64", .heads_kv = 3, .group = 3, .head_dim = 64, .n_rows = 512, .n_layers = 4},
        {.name = "prefill 512, 1x4 heads of 256", .heads_kv = 1, .group = 4, .head_dim = 256, .n_rows = 512, .n_layers = 4},
        {.name = "prefill 512 at 3584, 3x3 of 64", .heads_kv = 3, .group = 3, .head_dim = 64, .n_rows = 512, .depth = 3584,
         .n_layers = 1},
        {.name = "prefill 512, 8x1 heads of 128", .heads_kv = 8, .group = 1, .head_dim = 128, .n_rows = 512, .n_layers = 2},
        {.name = "decode at 4096, 3x3 heads of 64", .heads_kv = 3, .group = 3, .head_dim = 64, .n_rows = 1, .depth = 4095,
         .n_layers = 30},
        {.name = "decode at 4096, 1x4 heads of 256", .heads_kv = 1, .group = 4, .head_dim = 256, .n_rows = 1, .depth = 4095,
         .n_layers = 26},
        {.name = "decode at 4096, 8x1 heads of 128", .heads_kv = 8, .group = 1, .head_dim = 128, .n_rows = 1, .depth = 4095,
         .n_layers = 8},
        {.name = "decode of 32 at 10, 3x3 of 64", .heads_kv = 3, .group = 3, .head_dim = 64, .n_rows = 32, .depth = 9,
         .n_layers = 30, .n_seqs = 32},
        {.name = "decode of 32 at 390, 3x3 of 64", .heads_kv = 3, .group = 3, .head_dim = 64, .n_rows = 32, .depth = 389,
         .n_layers = 30, .n_seqs = 32},
    };
    bench_case cases[2 * sizeof shapes / sizeof shapes[0]]; // each over an F16 and over a Q8_0 cache
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i] = shapes[i / 2];
        cases[i].dtype = i % 2 ? WTL_DTYPE_Q8_0 : WTL_DTYPE_F16;
    }
    limit_job job = {0};
    uint8_t *buffer = wtl_pages_alloc(READ_BYTES);
    if (!buffer) abort();
    memset(buffer, 1, READ_BYTES);
    double fma_ns = INFINITY, read_ns = INFINITY, fma_macs = 0.0;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 20; i++) fma_ns = fmin(fma_ns, time_limit(pool, fma_thread, &job));
        for (size_t i = 0; i < READ_BYTES; i += READ_PIECE) {
            job.data = (const uint64_t *)(const void *)(buffer + i);
            read_ns = fmin(read_ns, time_limit(pool, read_thread, &job));
        }
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) run_case(be, &cases[i]);
    }
    fma_macs = fma_loop(&job.sink[0]) * pool_threads(pool);
    double peak = fma_macs / fma_ns, read = (double)READ_PIECE / read_ns;
    printf("%s: FMA peak %.1f GMAC/s, reads %.1f GB/s\n", be->ops->describe(be), peak, read);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench_case *c = &cases[i];
        printf("%-34s %-4s %8.1f us/layer, stored in %6.1f us %7.1f GMAC/s (%3.0f %% of peak) %6.1f GB/s (%3.0f %% of reads)\n", c->name,
               wtl_dtype_get((uint32_t)c->dtype)->name, c->best_ns / 1e3, c->store_ns / 1e3, c->macs / c->best_ns, 100.0 * c->macs / c->best_ns / peak,
               c->bytes / c->best_ns, 100.0 * c->bytes / c->best_ns / read);
        wtl_pages_free(c->pool, c->pool_bytes);
    }
    wtl_pages_free(buffer, READ_BYTES);
    be->ops->close(be);
    return 0;
}
