// Row-wise ops of the cpu backend: norms, rotary embeddings, gated activations, sums, row gathers.
//
// Each op splits its rows evenly over the pool when there is enough of them and calls a row kernel. A row is always done
// by one thread in one call, so the split changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

#define SMALL_WORK 16384 // elements below which waking other threads costs more than it saves

typedef struct rows_job rows_job;
struct rows_job {
    void (*run)(const rows_job *job, int32_t from, int32_t to); // rows from .. to - 1
    const cpu_vec_kernels *vec;
    int32_t n_rows;
    wtl_mat a, b, out; // as the op needs them
    const float *vector;
    const int32_t *ids;
    const wtl_rope *rope;
    float eps;
    wtl_act act;
    wtl_rope_style style;
    int32_t n_heads;
};

static float *row_of(wtl_mat m, int32_t row) { return m.data + (size_t)row * m.stride; }

static void rows_thread(void *ctx, int32_t thread, int32_t n_threads) {
    const rows_job *job = ctx;
    int64_t n = job->n_rows;
    job->run(job, (int32_t)(n * thread / n_threads), (int32_t)(n * (thread + 1) / n_threads));
}

// cost: elements touched, weighted by how much slower than an addition they are
static void run_rows(wtl_stream *s, rows_job *job, int64_t cost) {
    cpu_backend *be = cpu_of(s);
    job->vec = be->vec;
    if (job->n_rows < 2 || cost < SMALL_WORK) job->run(job, 0, job->n_rows);
    else pool_run(be->pool, rows_thread, job);
}

static void rms_norm_rows(const rows_job *job, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++)
        job->vec->rms_norm(row_of(job->a, i), job->vector, job->eps, row_of(job->out, i), job->a.cols);
}

void cpu_rms_norm(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out) {
    rows_job job = {.run = rms_norm_rows, .n_rows = x.rows, .a = x, .out = out, .vector = cpu_vector(weight), .eps = eps};
    run_rows(s, &job, (int64_t)x.rows * x.cols);
}

static void rope_table_rows(const rows_job *job, int32_t from, int32_t to) {
    int32_t half = job->rope->n_rot / 2;
    for (int32_t j = 0; j < half; j++) {
        double frequency = pow((double)job->rope->freq_base, -2.0 * j / job->rope->n_rot) * (double)job->rope->freq_scale;
        if (job->vector) frequency /= (double)job->vector[j];
        for (int32_t i = from; i < to; i++) {
            double angle = job->ids[i] * frequency;
            float *row = row_of(job->out, i);
            row[j] = (float)cos(angle);
            row[half + j] = (float)sin(angle);
        }
    }
}

void cpu_rope_table(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table) {
    rows_job job = {.run = rope_table_rows, .n_rows = table.rows, .out = table, .ids = positions, .rope = rope,
                    .vector = rope->freq_factors ? cpu_vector(rope->freq_factors) : NULL};
    run_rows(s, &job, (int64_t)table.rows * table.cols * 32);
}

static void rope_rows(const rows_job *job, int32_t from, int32_t to) {
    int32_t head_dim = job->out.cols / job->n_heads;
    for (int32_t i = from; i < to; i++)
        job->vec->rope(row_of(job->out, i), job->n_heads, head_dim, row_of(job->a, i), job->a.cols, job->style);
}

void cpu_rope(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table) {
    rows_job job = {.run = rope_rows, .n_rows = x.rows, .a = table, .out = x, .n_heads = n_heads, .style = style};
    run_rows(s, &job, (int64_t)x.rows * x.cols);
}

static void glu_rows(const rows_job *job, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++)
        job->vec->glu(row_of(job->a, i), row_of(job->b, i), job->act, row_of(job->out, i), job->a.cols);
}

void cpu_glu(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out) {
    rows_job job = {.run = glu_rows, .n_rows = gate.rows, .a = gate, .b = up, .out = out, .act = act};
    run_rows(s, &job, (int64_t)gate.rows * gate.cols * 2);
}

static void add_rows(const rows_job *job, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++)
        job->vec->add(row_of(job->a, i), row_of(job->b, i), row_of(job->out, i), job->a.cols);
}

void cpu_add(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out) {
    rows_job job = {.run = add_rows, .n_rows = a.rows, .a = a, .b = b, .out = out};
    run_rows(s, &job, (int64_t)a.rows * a.cols);
}

static void gather_row_range(const rows_job *job, int32_t from, int32_t to) {
    for (int32_t i = from; i < to; i++)
        memcpy(row_of(job->out, i), row_of(job->a, job->ids[i]), (size_t)job->out.cols * sizeof(float));
}

void cpu_gather_rows(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out) {
    rows_job job = {.run = gather_row_range, .n_rows = out.rows, .a = x, .out = out, .ids = row_ids};
    run_rows(s, &job, (int64_t)out.rows * out.cols);
}
