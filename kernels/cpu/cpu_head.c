// head_top: the largest outputs of a head in planes (cpu_planes.h), without reading all of it.
//
// Three passes over the pool. A sketch of every panel gives each row an estimate and each panel a value that none of its rows exceeds; the
// k rows with the largest estimates are kept. The panels of those are multiplied in full, and the k-th largest of what they give is a
// limit: no output below it is among the k largest of all. Then every panel that may reach the limit is multiplied in full, with the
// kernel of a plain matmul; outputs of the others become -INFINITY. What a column's limit is depends on the column alone, so that
// which of its outputs are exact does too.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/cpu_planes.h"
#include "kernels/cpu/cpu_weight.h"

// More than so many largest outputs: a sketch leaves too much.
#define HEAD_TOP_MAX 128
// With at least so many panels for each of the k, five bits leave few panels, and six cost more than they save.
#define PANELS_FOR_5_BITS 256
// With fewer panels for each of all columns' k, what is left to multiply costs more than a sketch saves.
#define PANELS_FOR_SKETCH 64
#define SKETCH_CHUNK 64 // panels
#define FINISH_CHUNK 256

// The best of what was offered, worst on top: largest value first, of equal ones the lowest row.
typedef struct head_best {
    float value;
    int32_t row;
} head_best;
typedef struct head_heap {
    head_best *at; // [k]
    int32_t n, k;
} head_heap;

typedef struct head_job {
    const cpu_weight *w;
    const cpu_planes_kernels *kernels;
    cpu_panel_args tile; // of all columns
    cpu_sketch sketch;
    int32_t n_columns, k;
    float norm[CPU_SKETCH_COLS], limit[CPU_SKETCH_COLS];
    head_best *best;     // [n_threads, columns, k]
    float *upper;        // [columns, n_panels]
    uint8_t *is_full;    // [n_panels] multiplied in full already
    int32_t *first;      // [n_first] the panels of the second pass
    int32_t n_first;
    _Atomic int32_t next, n_full;
} head_job;

// ---- memory ---------------------------------------------------------------------------------------------------------
static int32_t panels_of(int32_t rows) { return rows / CPU_PANEL_ROWS + (rows % CPU_PANEL_ROWS != 0); }

static size_t best_bytes(int32_t n_threads) { return (size_t)n_threads * CPU_SKETCH_COLS * HEAD_TOP_MAX * sizeof(head_best); }

size_t cpu_head_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads) {
    const size_t panels = (size_t)panels_of(limits->max_head_rows);
    if (!panels) return 0;
    return best_bytes(n_threads) + CPU_SKETCH_COLS * (panels * sizeof(float) + HEAD_TOP_MAX * sizeof(int32_t)) + panels;
}

static void carve(head_job *job, const cpu_stream *s, int32_t n_threads) {
    const size_t panels = (size_t)job->w->n_panels;
    job->best = s->head_scratch;
    job->upper = (float *)(void *)((uint8_t *)s->head_scratch + best_bytes(n_threads));
    job->first = (int32_t *)(void *)(job->upper + CPU_SKETCH_COLS * panels);
    job->is_full = (uint8_t *)(job->first + CPU_SKETCH_COLS * HEAD_TOP_MAX);
    memset(job->is_full, 0, panels);
}

// ---- the best k -----------------------------------------------------------------------------------------------------
static bool is_better(head_best a, head_best b) { return a.value > b.value || (a.value == b.value && a.row < b.row); }

static void sift_up(head_heap *h, int32_t i) {
    for (int32_t parent; i > 0 && is_better(h->at[parent = (i - 1) / 2], h->at[i]); i = parent) {
        const head_best moved = h->at[i];
        h->at[i] = h->at[parent];
        h->at[parent] = moved;
    }
}

static void sift_down(head_heap *h) {
    for (int32_t i = 0, child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && is_better(h->at[child], h->at[child + 1])) child++;
        if (!is_better(h->at[i], h->at[child])) break;
        const head_best moved = h->at[i];
        h->at[i] = h->at[child];
        h->at[child] = moved;
    }
}

// A NaN is not offered.
static void offer(head_heap *h, head_best b) {
    if (h->n < h->k) {
        h->at[h->n] = b;
        sift_up(h, h->n++);
    } else if (is_better(b, h->at[0])) {
        h->at[0] = b;
        sift_down(h);
    }
}

static float worst(const head_heap *h) { return h->n < h->k ? -INFINITY : h->at[0].value; }

// ---- passes ---------------------------------------------------------------------------------------------------------
static head_best *best_of(const head_job *job, int32_t thread, int32_t column) {
    return job->best + ((size_t)thread * CPU_SKETCH_COLS + (size_t)column) * HEAD_TOP_MAX;
}

static int32_t rows_of(const head_job *job, int32_t panel) {
    const int32_t left = job->w->base.rows - panel * CPU_PANEL_ROWS;
    return left < CPU_PANEL_ROWS ? left : CPU_PANEL_ROWS;
}

static void sketch_panel(const head_job *job, int32_t p, head_heap *heaps) {
    const cpu_planes panel = cpu_planes_at(&job->w->planes, (size_t)job->w->n_blocks, p);
    struct cpu_sketch_out out[CPU_SKETCH_COLS];
    float threshold[CPU_SKETCH_COLS];
    for (int32_t c = 0; c < job->n_columns; c++) threshold[c] = worst(&heaps[c]);
    job->kernels->sketch[job->sketch][job->n_columns](&(cpu_sketch_args){
        .panel = &panel, .act = job->tile.act, .outliers = job->tile.outliers, .n_outliers = job->tile.n_outliers, .n_blocks = job->tile.n_blocks,
        .n_rows = rows_of(job, p), .norm = job->norm, .threshold = threshold, .out = out});
    for (int32_t c = 0; c < job->n_columns; c++) {
        job->upper[(size_t)c * (size_t)job->w->n_panels + (size_t)p] = out[c].upper;
        for (uint32_t above = out[c].above; above; above &= above - 1) {
            const int r = __builtin_ctz(above);
            offer(&heaps[c], (head_best){out[c].value[r], p * CPU_PANEL_ROWS + r});
        }
    }
}

// Leaves the thread's best in its part of job->best; a row of -1 ends them.
static void sketch_run(void *ctx, int32_t thread, int32_t n_threads) {
    head_job *job = ctx;
    (void)n_threads;
    head_heap heaps[CPU_SKETCH_COLS];
    for (int32_t c = 0; c < job->n_columns; c++) heaps[c] = (head_heap){best_of(job, thread, c), 0, job->k};
    for (int32_t p; (p = atomic_fetch_add_explicit(&job->next, SKETCH_CHUNK, memory_order_relaxed)) < job->w->n_panels;) {
        for (int32_t end = p + SKETCH_CHUNK < job->w->n_panels ? p + SKETCH_CHUNK : job->w->n_panels; p < end; p++) sketch_panel(job, p, heaps);
    }
    for (int32_t c = 0; c < job->n_columns; c++) {
        if (heaps[c].n < job->k) heaps[c].at[heaps[c].n].row = -1;
    }
}

static void multiply_panel(const head_job *job, int32_t p) {
    const cpu_planes panel = cpu_planes_at(&job->w->planes, (size_t)job->w->n_blocks, p);
    cpu_panel_args args = job->tile;
    args.panel = &panel;
    args.n_rows = rows_of(job, p);
    args.out += (size_t)p * CPU_PANEL_ROWS;
    job->kernels->panels.columns[job->n_columns](&args);
}

static void first_run(void *ctx, int32_t thread, int32_t n_threads) {
    head_job *job = ctx;
    (void)thread, (void)n_threads;
    for (int32_t i; (i = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->n_first;) multiply_panel(job, job->first[i]);
}

static void finish_panel(head_job *job, int32_t p) {
    bool below[CPU_SKETCH_COLS], all_below = true;
    for (int32_t c = 0; c < job->n_columns; c++) {
        below[c] = job->upper[(size_t)c * (size_t)job->w->n_panels + (size_t)p] < job->limit[c];
        all_below &= below[c];
    }
    if (!all_below && !job->is_full[p]) {
        multiply_panel(job, p);
        atomic_fetch_add_explicit(&job->n_full, 1, memory_order_relaxed);
    }
    for (int32_t c = 0; c < job->n_columns; c++) {
        float *out = job->tile.out + (ptrdiff_t)c * job->tile.out_stride + (ptrdiff_t)p * CPU_PANEL_ROWS;
        for (int32_t r = 0; below[c] && r < rows_of(job, p); r++) out[r] = -INFINITY;
    }
}

static void finish_run(void *ctx, int32_t thread, int32_t n_threads) {
    head_job *job = ctx;
    (void)thread, (void)n_threads;
    for (int32_t p; (p = atomic_fetch_add_explicit(&job->next, FINISH_CHUNK, memory_order_relaxed)) < job->w->n_panels;) {
        for (int32_t end = p + FINISH_CHUNK < job->w->n_panels ? p + FINISH_CHUNK : job->w->n_panels; p < end; p++) finish_panel(job, p);
    }
}

static void run_pass(cpu_pool *pool, cpu_job pass, head_job *job) {
    atomic_store_explicit(&job->next, 0, memory_order_relaxed);
    pool_run(pool, pass, job);
}

// ---- between passes -------------------------------------------------------------------------------------------------
// Joins the threads' best of a column and puts their panels on the list.
static head_heap join_best(head_job *job, int32_t column, int32_t n_threads) {
    head_heap all = {best_of(job, 0, column), 0, job->k};
    while (all.n < all.k && all.at[all.n].row >= 0) all.n++; // thread 0's are a heap already
    for (int32_t t = 1; t < n_threads; t++) {
        const head_best *best = best_of(job, t, column);
        for (int32_t i = 0; i < job->k && best[i].row >= 0; i++) offer(&all, best[i]);
    }
    for (int32_t i = 0; i < all.n; i++) {
        const int32_t p = all.at[i].row / CPU_PANEL_ROWS;
        if (!job->is_full[p]) job->first[job->n_first++] = p;
        job->is_full[p] = 1;
    }
    return all;
}

// The k-th largest output of the panels that a column's best lie in: at least so many outputs are that large.
static float limit_of(const head_job *job, int32_t column, const head_heap *best, head_best *memory) {
    head_heap outputs = {memory, 0, job->k};
    const float *out = job->tile.out + (ptrdiff_t)column * job->tile.out_stride;
    for (int32_t i = 0; i < best->n; i++) {
        const int32_t row = best->at[i].row;
        if (out[row] == out[row]) offer(&outputs, (head_best){out[row], row});
    }
    return worst(&outputs);
}

static void head_top_planes(cpu_stream *s, const wtl_matmul *a, int32_t k) {
    cpu_backend *be = cpu_of(&s->base);
    const cpu_weight *w = cpu_weight_of(a->part[0].w);
    const int32_t n_threads = pool_threads(be->pool);
    head_job job = {.w = w, .kernels = be->matmul->planes, .n_columns = a->x.rows, .k = k,
                    .sketch = w->n_panels / k >= PANELS_FOR_5_BITS ? CPU_SKETCH_5 : CPU_SKETCH_6};
    carve(&job, s, n_threads);
    cpu_matmul_tile(&s->base, a, &job.tile);
    for (int32_t c = 0; c < job.n_columns; c++) job.norm[c] = cpu_planes_norm(&w->planes, &job.tile, job.n_columns, c);
    for (int32_t t = 0; t < n_threads; t++) { // of shares that never run there are none
        for (int32_t c = 0; c < job.n_columns; c++) best_of(&job, t, c)->row = -1;
    }
    run_pass(be->pool, sketch_run, &job);
    head_heap best[CPU_SKETCH_COLS];
    for (int32_t c = 0; c < job.n_columns; c++) best[c] = join_best(&job, c, n_threads);
    run_pass(be->pool, first_run, &job);
    head_best memory[HEAD_TOP_MAX];
    for (int32_t c = 0; c < job.n_columns; c++) job.limit[c] = limit_of(&job, c, &best[c], memory);
    run_pass(be->pool, finish_run, &job);
    const uint64_t blocks = (uint64_t)w->n_panels * (uint64_t)w->n_blocks, n_full = (uint64_t)(job.n_first + atomic_load(&job.n_full));
    s->base.head_bytes += blocks * (uint64_t)cpu_sketch_block_bytes(job.sketch) + (uint64_t)w->n_panels * CPU_PANEL_ROWS * sizeof(uint16_t) +
                          n_full * (uint64_t)w->n_blocks * CPU_PLANES_BLOCK_BYTES;
}

void cpu_head_top(wtl_stream *s, const wtl_matmul *a, int32_t k) {
    cpu_stream *stream = (cpu_stream *)s;
    const wtl_matmul_part *part = &a->part[0];
    if (!cpu_fits(s, a->n_parts == 1 && !part->bias && !a->accumulate && k > 0 && part->w->rows <= stream->limits.max_head_rows &&
                         cpu_matmul_fits(stream, a)) || a->x.rows == 0) {
        return;
    }
    const cpu_weight *w = cpu_weight_of(part->w);
    if (w->layout == CPU_LAYOUT_PLANES && a->x.rows <= CPU_SKETCH_COLS && k <= HEAD_TOP_MAX && w->n_panels / (k * a->x.rows) >= PANELS_FOR_SKETCH) {
        head_top_planes(stream, a, k);
        return;
    }
    cpu_matmul(s, a);
    s->head_bytes += part->w->bytes;
}
