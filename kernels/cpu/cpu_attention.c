// KV cache writes and attention of the cpu backend: splits rows into items for the pool and merges partial softmaxes.
//
// A run is up to a tile of adjacent rows of one sequence. Long steps: one item per (run, KV head), which walks the
// partitions and merges as it goes. Short steps (decode): one item per (run, KV head, partition), so that one sequence
// with a long context keeps every thread busy; partials wait in scratch and whoever finishes the last one merges them.
// Both give every row the same partials merged in the same order, so the choice changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attend.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define TILE_ROWS_TARGET 96               // query rows that share a conversion of K and V
#define SPLIT_ROWS 32                     // steps up to this many rows are split by partition
#define SPLIT_BYTES_MAX ((size_t)16 << 20) // partials kept for that, unless one row alone needs more
#define SMALL_WORK 65536                  // multiply-adds below which waking other threads costs more than it saves
#define SMALL_STORE 1024                  // numbers of K below which it does for storing: each takes a cache line of its own

// ---- KV cache ---------------------------------------------------------------------------------------------------
cpu_kv_layout cpu_kv_head_layout(const wtl_kv_shape *shape) {
    size_t padded = (size_t)cpu_kv_padded(shape->head_dim), dim = (size_t)shape->head_dim;
    if (shape->dtype == WTL_DTYPE_F32) {
        size_t values = dim * WTL_KV_BLOCK * sizeof(float);
        return (cpu_kv_layout){.values = values, .bytes = values + padded * WTL_KV_BLOCK * sizeof(float)};
    }
    if (shape->dtype == WTL_DTYPE_Q8_0) {
        size_t values = (size_t)cpu_kv_quads(shape->head_dim) * WTL_KV_BLOCK * 4, groups = (size_t)cpu_kv_groups(shape->head_dim);
        size_t scales = values + groups * CPU_BYTES_VALUES, row = groups * WTL_KV_BLOCK * sizeof(int16_t), top = WTL_KV_BLOCK * sizeof(float);
        return (cpu_kv_layout){.values = values, .key_scales = scales, .value_scales = scales + row, .value_ratios = scales + row + top,
                               .bytes = scales + 2 * row + top};
    }
    size_t values = (size_t)cpu_kv_pairs(shape->head_dim) * WTL_KV_BLOCK * 2 * sizeof(int16_t);
    size_t scales = values + padded * WTL_KV_BLOCK * sizeof(int16_t), row = WTL_KV_BLOCK * sizeof(float);
    return (cpu_kv_layout){.values = values, .key_scales = scales, .value_scales = scales + row, .bytes = scales + 2 * row};
}

size_t cpu_kv_layer_bytes(const wtl_kv_shape *shape) { return (size_t)shape->n_heads_kv * cpu_kv_head_layout(shape).bytes; }

size_t cpu_backend_kv_layer_bytes(const wtl_kv_shape *shape) { return cpu_kv_layer_bytes(shape); }

typedef struct kv_write_job {
    const cpu_vec_kernels *vec;
    wtl_mat k, v;
    const wtl_kv *kv;
    const wtl_rows *rows;
} kv_write_job;

static uint8_t *block_of_row(const kv_write_job *job, int32_t row) {
    const wtl_kv *kv = job->kv;
    const int32_t *table = kv->table + (size_t)job->rows->seqs[row] * kv->table_stride;
    return kv->base + (size_t)table[job->rows->positions[row] / WTL_KV_BLOCK] * kv->block_bytes + kv->layer_offset;
}

static void kv_write_range(const kv_write_job *job, int32_t from, int32_t to) {
    const int32_t *positions = job->rows->positions;
    uint8_t *block = from < to ? block_of_row(job, from) : NULL;
    for (int32_t i = from; i < to; i++) {
        uint8_t *next = i + 1 < to ? block_of_row(job, i + 1) : NULL;
        const bool fetch = next && next != block;
        job->vec->kv_store(&job->kv->shape, job->k.data + (size_t)i * job->k.stride, job->v.data + (size_t)i * job->v.stride, block,
                           positions[i] % WTL_KV_BLOCK, fetch ? next : NULL, fetch ? positions[i + 1] % WTL_KV_BLOCK : 0);
        block = next;
    }
}

static void kv_write_thread(void *ctx, int32_t thread, int32_t n_threads) {
    const kv_write_job *job = ctx;
    int64_t n = job->rows->n_rows;
    kv_write_range(job, (int32_t)(n * thread / n_threads), (int32_t)(n * (thread + 1) / n_threads));
}

void cpu_kv_write(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows) {
    cpu_backend *be = cpu_of(s);
    kv_write_job job = {be->vec, k, v, kv, rows};
    if ((int64_t)rows->n_rows * k.cols < SMALL_STORE) kv_write_range(&job, 0, rows->n_rows);
    else pool_run(be->pool, kv_write_thread, &job);
}

// ---- Scratch ----------------------------------------------------------------------------------------------------
// Adjacent rows of one sequence whose visible positions lie in partitions first_part .. first_part + n_parts - 1.
typedef struct attend_run {
    int32_t row, n_rows;
    int32_t first_part, n_parts;
    int32_t item;    // split by partition: number of this run's first item
    size_t partials; // and where its partials start, in floats
} attend_run;

// What one thread works in.
typedef struct thread_scratch {
    float *q, *q_scale, *scores, *values; // as in cpu_attend_tile
    float *part_max, *part_sum, *part_out;
    float *max, *sum, *out;            // running state, same shapes
    int32_t *first, *end;
    const attend_run *loaded; // whose queries q holds, for which KV head
    int32_t loaded_head;
} thread_scratch;

typedef struct attend_scratch {
    attend_run *runs;   // [max_rows]
    atomic_int *left;   // [SPLIT_ROWS, max_heads] partitions not yet done
    float *partials;
    size_t n_partials;  // floats
    uint8_t *threads;
    size_t thread_bytes;
    int32_t tile_rows;  // most query rows of an item
    size_t bytes;
} attend_scratch;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

static void *carve(uint8_t *base, size_t *used, size_t bytes) {
    void *p = base ? base + *used : NULL;
    *used += aligned(bytes);
    return p;
}

static size_t carve_thread(uint8_t *base, int32_t tile_rows, int32_t head_dim, thread_scratch *out) {
    size_t rows = (size_t)tile_rows, row_bytes = (size_t)cpu_kv_padded(head_dim) * sizeof(float), used = 0;
    out->q = carve(base, &used, rows * row_bytes);
    out->q_scale = carve(base, &used, rows * sizeof(float));
    out->scores = carve(base, &used, rows * CPU_ATTEND_PART * sizeof(float));
    out->values = carve(base, &used, CPU_ATTEND_PART * CPU_ATTEND_CHUNK * sizeof(float));
    out->part_max = carve(base, &used, rows * sizeof(float));
    out->part_sum = carve(base, &used, rows * sizeof(float));
    out->part_out = carve(base, &used, rows * row_bytes);
    out->max = carve(base, &used, rows * sizeof(float));
    out->sum = carve(base, &used, rows * sizeof(float));
    out->out = carve(base, &used, rows * row_bytes);
    out->first = carve(base, &used, rows * sizeof(int32_t));
    out->end = carve(base, &used, rows * sizeof(int32_t));
    return used;
}

static attend_scratch carve_scratch(uint8_t *base, const wtl_stream_limits *limits, int32_t n_threads) {
    attend_scratch out = {0};
    thread_scratch thread;
    size_t used = 0, row_floats = (size_t)cpu_kv_padded(limits->max_head_dim) + 2;
    size_t parts = ((size_t)limits->max_kv_len + CPU_ATTEND_PART - 1) / CPU_ATTEND_PART + 1;
    size_t one_row = (size_t)limits->max_heads * parts * row_floats;
    size_t rows = limits->max_rows < SPLIT_ROWS ? (size_t)limits->max_rows : SPLIT_ROWS;
    out.n_partials = one_row * rows;
    if (out.n_partials > SPLIT_BYTES_MAX / sizeof(float)) out.n_partials = max_size(SPLIT_BYTES_MAX / sizeof(float), one_row);
    out.tile_rows = limits->max_heads > TILE_ROWS_TARGET ? limits->max_heads : TILE_ROWS_TARGET;
    out.thread_bytes = carve_thread(NULL, out.tile_rows, limits->max_head_dim, &thread);
    out.runs = carve(base, &used, (size_t)limits->max_rows * sizeof(attend_run));
    out.left = carve(base, &used, SPLIT_ROWS * (size_t)limits->max_heads * sizeof(atomic_int));
    out.partials = carve(base, &used, out.n_partials * sizeof(float));
    out.threads = carve(base, &used, out.thread_bytes * (size_t)n_threads);
    out.bytes = used;
    return out;
}

size_t cpu_attention_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads) {
    return carve_scratch(NULL, limits, n_threads).bytes;
}

// ---- Items ------------------------------------------------------------------------------------------------------
// Items that a thread takes first: with one row each of many sequences these are mostly rows whose K and V the same thread has
// just stored. When they are gone it helps with the others'.
#define ATTEND_RANGES 32
typedef struct attend_range {
    _Alignas(64) atomic_int next;
    int32_t end;
} attend_range;

typedef struct attend_job {
    const cpu_attend_kernels *kernels;
    const wtl_attention *a;
    const wtl_rows *rows;
    const wtl_stream_limits *limits;
    cpu_kv_layout layout;
    attend_scratch scratch;
    int32_t n_runs, n_items;
    int32_t chunk; // items that a thread takes at a time
    int32_t group; // query heads per KV head
    bool split;
    int32_t n_ranges; // one for a long step, whose longest items shall come first
    attend_range range[ATTEND_RANGES];
} attend_job;

static int32_t first_visible(const attend_job *job, int32_t position) {
    int32_t window = job->a->window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

static int32_t clamp_to_part(int64_t p) { return p < 0 ? 0 : p > CPU_ATTEND_PART ? CPU_ATTEND_PART : (int32_t)p; }

// One KV head's part of a block; NULL where no row of the run looks.
static const uint8_t *head_block(const attend_job *job, const attend_run *run, int32_t kv_head, int32_t block) {
    const wtl_kv *kv = &job->a->kv;
    int32_t first = first_visible(job, job->rows->positions[run->row]);
    int32_t last = job->rows->positions[run->row + run->n_rows - 1];
    if (block < first / WTL_KV_BLOCK || block > last / WTL_KV_BLOCK) return NULL;
    int32_t index = kv->table[(size_t)job->rows->seqs[run->row] * kv->table_stride + block];
    if (index < 0) return NULL;
    size_t offset = (size_t)index * kv->block_bytes + kv->layer_offset;
    return kv->base + offset + (size_t)kv_head * job->layout.bytes;
}

// The run and KV head that a thread is likely to take after these; NULL: none.
static const attend_run *next_run(const attend_job *job, const attend_run *run, int32_t *kv_head) {
    const attend_run *const first = job->scratch.runs, *const last = first + job->n_runs - 1;
    if (!job->split) { // as attend_whole_run goes through them
        if (run > first) return run - 1;
        return ++*kv_head < job->a->kv.shape.n_heads_kv ? last : NULL;
    }
    if (++*kv_head < job->a->kv.shape.n_heads_kv) return run;
    *kv_head = 0;
    return run < last ? run + 1 : NULL;
}

// Blocks of a partition, and the ones that this thread is likely to want after them.
static void find_blocks(const attend_job *job, const attend_run *run, int32_t kv_head, int32_t part, cpu_attend_tile *t) {
    for (int32_t b = 0; b < CPU_ATTEND_BLOCKS; b++) t->block[b] = head_block(job, run, kv_head, part * CPU_ATTEND_BLOCKS + b);
    const attend_run *then = run;
    if (++part == run->first_part + run->n_parts) {
        then = next_run(job, run, &kv_head);
        part = then ? then->first_part : 0;
    }
    for (int32_t b = 0; b < CPU_ATTEND_BLOCKS; b++) t->next[b] = then ? head_block(job, then, kv_head, part * CPU_ATTEND_BLOCKS + b) : NULL;
}

// What all partitions of a run have in common.
static cpu_attend_tile run_tile(const attend_job *job, const attend_run *run, const thread_scratch *ts) {
    const int32_t head_dim = job->a->kv.shape.head_dim;
    return (cpu_attend_tile){.layout = job->layout, .head_dim = head_dim, .padded = cpu_kv_padded(head_dim),
                             .n_rows = run->n_rows * job->group, .q = ts->q, .q_scale = ts->q_scale, .first = ts->first,
                             .end = ts->end, .scores = ts->scores, .values = ts->values};
}

// Queries of the run for one KV head: row position-major, the group's heads adjacent.
static void load_queries(const attend_job *job, const attend_run *run, int32_t kv_head, const cpu_attend_tile *t) {
    for (int32_t i = 0, r = 0; i < run->n_rows; i++) {
        const float *q = job->a->q.data + (size_t)(run->row + i) * job->a->q.stride + (size_t)kv_head * job->group * t->head_dim;
        for (int32_t h = 0; h < job->group; h++, r++) job->kernels->query(t, r, q + (size_t)h * t->head_dim, job->a->scale);
    }
}

static void attend_one_part(const attend_job *job, const attend_run *run, int32_t kv_head, int32_t part, cpu_attend_tile *t,
                            const thread_scratch *ts, cpu_attend_state result) {
    t->max = result.max, t->sum = result.sum, t->out = result.out;
    find_blocks(job, run, kv_head, part, t);
    int64_t start = (int64_t)part * CPU_ATTEND_PART;
    for (int32_t i = 0, r = 0; i < run->n_rows; i++) {
        int32_t position = job->rows->positions[run->row + i];
        int32_t first = clamp_to_part(first_visible(job, position) - start), end = clamp_to_part(position + 1 - start);
        for (int32_t h = 0; h < job->group; h++, r++) ts->first[r] = first, ts->end[r] = end;
    }
    job->kernels->part(t);
}

static void finish_rows(const attend_job *job, const attend_run *run, int32_t kv_head, cpu_attend_state state) {
    int32_t head_dim = job->a->kv.shape.head_dim, padded = cpu_kv_padded(head_dim);
    for (int32_t i = 0, r = 0; i < run->n_rows; i++) {
        float *out = job->a->out.data + (size_t)(run->row + i) * job->a->out.stride + (size_t)kv_head * job->group * head_dim;
        for (int32_t h = 0; h < job->group; h++, r++)
            job->kernels->finish(state.sum + r, state.out + (size_t)r * padded, out + (size_t)h * head_dim, head_dim);
    }
}

// Item of a long step: a run and KV head through all its partitions. All runs of a KV head before those of the next one, so that its K
// and V stay in the second-level cache; the longest contexts first.
static void attend_whole_run(const attend_job *job, int32_t item, const thread_scratch *ts) {
    const int32_t kv_head = item / job->n_runs;
    const attend_run *run = &job->scratch.runs[job->n_runs - 1 - item % job->n_runs];
    cpu_attend_tile t = run_tile(job, run, ts);
    load_queries(job, run, kv_head, &t);
    cpu_attend_state state = {ts->max, ts->sum, ts->out}, part = {ts->part_max, ts->part_sum, ts->part_out};
    attend_one_part(job, run, kv_head, run->first_part, &t, ts, state); // as merging it with nothing, bit for bit
    for (int32_t i = 1; i < run->n_parts; i++) {
        attend_one_part(job, run, kv_head, run->first_part + i, &t, ts, part);
        job->kernels->merge(state, part, t.n_rows, t.padded);
    }
    finish_rows(job, run, kv_head, state);
}

static cpu_attend_state partial_at(float *partials, int32_t n_rows) {
    return (cpu_attend_state){partials, partials + n_rows, partials + 2 * n_rows};
}

// Item of a short step: one partition; the last one of a (run, KV head) merges all of them.
static void attend_split_part(const attend_job *job, int32_t item, thread_scratch *ts) {
    const attend_run *run = job->scratch.runs;
    while (run < job->scratch.runs + job->n_runs - 1 && item >= run[1].item) run++;
    int32_t run_index = (int32_t)(run - job->scratch.runs), n_heads_kv = job->a->kv.shape.n_heads_kv;
    int32_t kv_head = (item - run->item) / run->n_parts, i = (item - run->item) % run->n_parts;
    cpu_attend_tile t = run_tile(job, run, ts);
    size_t part_floats = (size_t)t.n_rows * ((size_t)t.padded + 2);
    float *partials = job->scratch.partials + run->partials + (size_t)kv_head * (size_t)run->n_parts * part_floats;
    if (ts->loaded != run || ts->loaded_head != kv_head) load_queries(job, run, kv_head, &t);
    ts->loaded = run, ts->loaded_head = kv_head;
    attend_one_part(job, run, kv_head, run->first_part + i, &t, ts, partial_at(partials + (size_t)i * part_floats, t.n_rows));
    if (run->n_parts > 1 && atomic_fetch_sub(&job->scratch.left[run_index * n_heads_kv + kv_head], 1) != 1) return;
    const cpu_attend_state state = partial_at(partials, t.n_rows); // the first one is as merged with nothing, bit for bit
    for (int32_t p = 1; p < run->n_parts; p++)
        job->kernels->merge(state, partial_at(partials + (size_t)p * part_floats, t.n_rows), t.n_rows, t.padded);
    finish_rows(job, run, kv_head, state);
}

static void attend_range_items(attend_job *job, attend_range *range, thread_scratch *ts) {
    for (int32_t item; (item = atomic_fetch_add_explicit(&range->next, job->chunk, memory_order_relaxed)) < range->end;) {
        int32_t end = item + job->chunk < range->end ? item + job->chunk : range->end;
        for (; item < end; item++) {
            if (job->split) attend_split_part(job, item, ts);
            else attend_whole_run(job, item, ts);
        }
    }
}

static void attend_thread(void *ctx, int32_t thread, int32_t n_threads) {
    (void)n_threads;
    attend_job *job = ctx;
    thread_scratch ts = {0};
    uint8_t *base = job->scratch.threads + (size_t)thread * job->scratch.thread_bytes;
    carve_thread(base, job->scratch.tile_rows, job->limits->max_head_dim, &ts);
    for (int32_t i = 0; i < job->n_ranges; i++) attend_range_items(job, &job->range[(thread + i) % job->n_ranges], &ts);
}

// Cuts the step into runs of at most run_rows rows. Returns multiply-adds per query head and dimension (for K alone).
static int64_t find_runs(attend_job *job, int32_t run_rows) {
    const wtl_rows *rows = job->rows;
    int64_t work = 0;
    job->n_runs = 0;
    for (int32_t row = 0, n; row < rows->n_rows; row += n) {
        n = 1;
        while (n < run_rows && row + n < rows->n_rows && rows->seqs[row + n] == rows->seqs[row]) n++;
        int32_t first = first_visible(job, rows->positions[row]), last = rows->positions[row + n - 1];
        int32_t first_part = first / CPU_ATTEND_PART;
        job->scratch.runs[job->n_runs++] =
            (attend_run){.row = row, .n_rows = n, .first_part = first_part, .n_parts = last / CPU_ATTEND_PART - first_part + 1};
        work += (int64_t)n * (last - first + 1);
    }
    return work;
}

// Numbers the items of a split by partition; false when the partials do not fit.
static bool plan_split(attend_job *job) {
    int32_t n_heads_kv = job->a->kv.shape.n_heads_kv;
    size_t row_floats = (size_t)cpu_kv_padded(job->a->kv.shape.head_dim) + 2, used = 0;
    int64_t items = 0;
    if (job->rows->n_rows > SPLIT_ROWS) return false;
    for (int32_t i = 0; i < job->n_runs; i++) {
        attend_run *run = &job->scratch.runs[i];
        run->item = (int32_t)items;
        run->partials = used;
        items += (int64_t)run->n_parts * n_heads_kv;
        used += (size_t)run->n_rows * (size_t)job->a->n_heads * (size_t)run->n_parts * row_floats;
        if (used > job->scratch.n_partials || items > INT32_MAX / 2) return false;
        for (int32_t h = 0; h < n_heads_kv; h++) atomic_init(&job->scratch.left[i * n_heads_kv + h], run->n_parts);
    }
    job->n_items = (int32_t)items;
    return true;
}

// Neighbouring partitions follow each other on one thread, which can then fetch ahead.
static void plan_ranges(attend_job *job, int32_t n_threads) {
    job->chunk = job->split && job->n_items >= 8 * n_threads ? job->n_items / (4 * n_threads) : 1;
    job->n_ranges = !job->split ? 1 : n_threads < ATTEND_RANGES ? n_threads : ATTEND_RANGES;
    for (int32_t i = 0; i < job->n_ranges; i++) {
        atomic_init(&job->range[i].next, (int32_t)((int64_t)job->n_items * i / job->n_ranges));
        job->range[i].end = (int32_t)((int64_t)job->n_items * (i + 1) / job->n_ranges);
    }
}

static const cpu_attend_kernels *attend_kernels(cpu_isa isa, wtl_dtype dtype) {
    static const cpu_attend_table *const tables[CPU_ISA_COUNT] = CPU_ISA_TABLE(cpu_attend);
    const cpu_attend_table *table = tables[isa];
    return dtype == WTL_DTYPE_F32 ? &table->f32 : dtype == WTL_DTYPE_Q8_0 ? &table->bytes : &table->fixed;
}

wtl_attention_arithmetic cpu_attention_arithmetic(wtl_backend *be, wtl_dtype kv) {
    if (kv == WTL_DTYPE_F32) return (wtl_attention_arithmetic){WTL_ARITHMETIC_F32, WTL_ARITHMETIC_F32};
    const bool bytes = kv == WTL_DTYPE_Q8_0 && ((cpu_backend *)be)->isa == CPU_ISA_AVX512VNNI; // the others multiply bytes as int16
    return (wtl_attention_arithmetic){bytes ? WTL_ARITHMETIC_INT8 : WTL_ARITHMETIC_INT16, WTL_ARITHMETIC_INT16};
}

void cpu_attention(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows) {
    cpu_backend *be = cpu_of(s);
    cpu_stream *cs = (cpu_stream *)s;
    int32_t n_threads = pool_threads(be->pool), n_heads_kv = a->kv.shape.n_heads_kv;
    if (!cpu_fits(s, rows->n_rows <= cs->limits.max_rows && a->n_heads <= cs->limits.max_heads &&
                         a->kv.shape.head_dim <= cs->limits.max_head_dim) || rows->n_rows <= 0)
        return;
    attend_job job = {.kernels = attend_kernels(be->isa, a->kv.shape.dtype), .a = a, .rows = rows, .limits = &cs->limits,
                      .layout = cpu_kv_head_layout(&a->kv.shape),
                      .scratch = carve_scratch(cs->attend_scratch, &cs->limits, n_threads),
                      .group = a->n_heads / n_heads_kv};
    // Smaller runs when a step would not give every thread a few items.
    int32_t run_rows = job.group < TILE_ROWS_TARGET ? TILE_ROWS_TARGET / job.group : 1;
    while (run_rows > 8 && rows->n_rows / run_rows * n_heads_kv < 4 * n_threads) run_rows /= 2;
    int64_t work = find_runs(&job, run_rows) * a->n_heads * a->kv.shape.head_dim * 2;
    job.split = plan_split(&job);
    if (!job.split) job.n_items = job.n_runs * n_heads_kv;
    plan_ranges(&job, n_threads);
    if (work < SMALL_WORK) attend_thread(&job, 0, 1);
    else pool_run(be->pool, attend_thread, &job);
}
