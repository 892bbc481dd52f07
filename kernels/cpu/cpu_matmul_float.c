// Products with F32, F16 and BF16 weights: own kernels for few rows, tiles of OpenBLAS for many.
//
// Threads take tiles of weight rows, never a part of a sum. The BLAS path converts a tile of weights to f32 in the
// thread's scratch; it is the one place where a row's bits may depend on its company, and use_blas turns it off.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_float.h"
#include "kernels/cpu/cpu_weight.h"

#include <stdatomic.h>

#define BLAS_ROWS 32     // rows of x from which OpenBLAS is the faster one
#define BLAS_TILE 128    // weight rows per call: long enough for BLAS, short enough to spread over threads
#define OWN_TILE 16      // weight rows that a thread takes at a time
#define SMALL_WORK 65536 // multiply-adds below which waking other threads costs more than it saves

typedef struct float_job {
    const cpu_float_kernels *kernels;
    const cpu_weight *w;
    wtl_mat x, out;
    const float *bias;
    bool accumulate, blas;
    float *scratch;      // blas, F16 and BF16: [n_threads][BLAS_TILE, K]
    int32_t tile;
    atomic_int next;
} float_job;

size_t cpu_matmul_float_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads) {
    if (!blas_built() || limits->max_rows < BLAS_ROWS) return 0;
    return (size_t)n_threads * BLAS_TILE * (size_t)limits->max_cols * sizeof(float);
}

static const cpu_float_kernels *const float_kernels[CPU_ISA_COUNT] = CPU_ISA_TABLE(cpu_float);

static void blas_tile(const float_job *job, cpu_float_rows w, int32_t thread, const float *bias, wtl_mat out) {
    const float *rows = w.data;
    if (w.dtype != WTL_DTYPE_F32) {
        float *copy = job->scratch + (size_t)thread * BLAS_TILE * (size_t)w.cols;
        job->kernels->widen(w, copy);
        rows = copy;
    }
    blas_gemm(rows, w.n_rows, job->x, job->accumulate, out);
    if (!bias) return;
    for (int32_t i = 0; i < job->x.rows; i++)
        for (int32_t j = 0; j < w.n_rows; j++) out.data[(size_t)i * out.stride + j] += bias[j];
}

static void float_thread(void *ctx, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    float_job *job = ctx;
    int32_t n = job->w->base.rows, cols = job->w->base.cols;
    size_t row_bytes = (size_t)cols * (job->w->base.dtype == WTL_DTYPE_F32 ? 4 : 2);
    for (int64_t j; (j = (int64_t)atomic_fetch_add(&job->next, 1) * job->tile) < n;) {
        cpu_float_rows w = {.data = (const uint8_t *)job->w->data + (size_t)j * row_bytes, .dtype = job->w->base.dtype,
                            .n_rows = n - j < job->tile ? (int32_t)(n - j) : job->tile, .cols = cols};
        const float *bias = job->bias ? job->bias + j : NULL;
        wtl_mat out = job->out;
        out.data += j;
        if (job->blas) blas_tile(job, w, thread, bias, out);
        else job->kernels->matmul(w, job->x, bias, job->accumulate, out);
    }
}

void cpu_matmul_float(wtl_stream *s, const wtl_weight *w, wtl_mat x, const float *bias, bool accumulate, wtl_mat out) {
    cpu_backend *be = cpu_of(s);
    cpu_stream *cs = (cpu_stream *)s;
    bool fits = w->dtype == WTL_DTYPE_F32 ||
                cs->float_bytes / sizeof(float) / BLAS_TILE / (size_t)pool_threads(be->pool) >= (size_t)w->cols;
    float_job job = {.kernels = float_kernels[be->isa], .w = cpu_weight_of(w), .x = x, .out = out, .bias = bias,
                     .accumulate = accumulate, .blas = be->use_blas && blas_load() && x.rows >= BLAS_ROWS && fits,
                     .scratch = cs->float_scratch};
    job.tile = job.blas ? BLAS_TILE : OWN_TILE;
    if ((int64_t)x.rows * w->rows * w->cols < SMALL_WORK) float_thread(&job, 0, 1);
    else pool_run(be->pool, float_thread, &job);
}
