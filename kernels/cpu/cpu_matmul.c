// Matrix multiplication with quantised weights, and reading rows out of packed weights.
//
// x is quantised once per op, in tiles of up to 8 to 24 columns (a column is one row of x: one token); a norm before it is
// computed column by column, and what it gives is never stored. A gated activation behind it is computed panel by panel, and what
// goes into it is never stored. Then each thread takes the
// groups of panels of its own range, in the order of memory, so that what is fetched ahead is its own; who is done takes
// from the other ranges. Which thread computes a panel changes nothing, every output is one kernel's sum in K order.
// Within a group the tile is the outer loop: its activations stay in the first-level cache, the group's weights in the
// second, so weights are read from memory once per op. With more than a few rows cpu_wide.c multiplies the groups, where the
// instruction set has kernels for it.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/cpu_quantize.h"
#include "kernels/cpu/cpu_wide.h"
#include "kernels/ref/ref.h"

// Up to so many activations the caller quantises alone: cheaper than another barrier.
#define SERIAL_QUANTIZE 8192
// Weights of a group of panels that should stay in the second-level cache while tiles pass.
#define GROUP_BYTES ((size_t)192 << 10)

// Threads beyond so many share ranges.
#define MATMUL_RANGES 32

typedef struct matmul_range {
    _Alignas(64) _Atomic int32_t next; // group; each range has a cache line to itself
    int32_t end;
} matmul_range;

typedef struct matmul_job {
    const wtl_matmul *a;
    const cpu_matmul_kernels *kernels;
    const cpu_vec_kernels *vec;
    uint8_t *spaces; // [n_threads, space_bytes(K)]
    cpu_tiles x;
    cpu_wide *wide; // NULL: panels are multiplied as they are
    int32_t n_parts;                         // to be planned: a gated op's are one
    int32_t group[WTL_MATMUL_PARTS];         // panels per group
    int32_t groups_end[WTL_MATMUL_PARTS];    // running count of groups over the parts; equal to the one before: a float part
    _Atomic int32_t next;                    // tile to quantise
    int32_t n_ranges;
    matmul_range range[MATMUL_RANGES];
} matmul_job;

static size_t blocks_up(int32_t cols) { return ((size_t)cols + 31) / 32; }

static bool is_packed(const wtl_weight *w) { return cpu_weight_of(w)->n_panels > 0; }

static const cpu_panel_kernels *kernels_of(const matmul_job *job, const cpu_weight *w) {
    return w->layout == CPU_LAYOUT_PLANES ? &job->kernels->planes->panels : job->kernels->types[w->base.dtype];
}

// Bytes of one row in the file, for the widest quantised type (Q8_0), padded to keep threads on their own cache lines.
static size_t file_row_bytes(int32_t max_cols) { return (blocks_up(max_cols) * sizeof(block_q8_0) + 127) / 64 * 64; }

static size_t acts_bytes(int32_t max_rows, int32_t max_cols) { return (size_t)max_rows * blocks_up(max_cols) * sizeof(cpu_act); }

// A thread's space while it quantises a tile. Of a column and of the next one: the row of x that an input gives, and notes. Of all: outliers.
static size_t row_stride(int32_t cols) { return ((size_t)cols + 15) / 16 * 16; }
static size_t rows_bytes(int32_t cols) { return 2 * row_stride(cols) * sizeof(float); }
static size_t notes_length(int32_t cols) { return CPU_COLUMN_NOTES * cpu_note_length((int32_t)blocks_up(cols)); }
static size_t notes_bytes(int32_t cols) { return 2 * notes_length(cols) * sizeof(float); }
static size_t space_bytes(int32_t cols) {
    return rows_bytes(cols) + notes_bytes(cols) + (CPU_MOST_COLS * (size_t)CPU_MAX_OUTLIERS(cols) * sizeof(cpu_outlier) + 63) / 64 * 64;
}

size_t cpu_matmul_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads) {
    const size_t outlier_bytes = (size_t)CPU_MAX_OUTLIERS(limits->max_cols) * sizeof(cpu_outlier) + sizeof(int32_t);
    size_t acts = acts_bytes(limits->max_rows, limits->max_cols) + (size_t)limits->max_rows * outlier_bytes;
    acts += 2 * 64 + (size_t)n_threads * space_bytes(limits->max_cols) + cpu_wide_scratch_bytes(limits, n_threads);
    const size_t rows = (size_t)n_threads * file_row_bytes(limits->max_cols);
    return acts > rows ? acts : rows;
}

// ---- quantising x ---------------------------------------------------------------------------------------------------
// Row i of x, made in `to` unless it is there.
static const float *input_row(const matmul_job *job, int32_t i, float *to) {
    const wtl_input *in = &job->a->input;
    if (in->kind == WTL_INPUT_PLAIN) return job->a->x.data + (int64_t)i * job->a->x.stride;
    const wtl_mat from = in->from;
    const float *row = from.data + (int64_t)i * from.stride;
    job->vec->rms_norm(row, cpu_vector(in->weight), in->eps, to, from.cols);
    return to;
}

// By k, then by column; INT64_MAX at the end.
static int64_t outlier_order(const cpu_outlier *o, const cpu_outlier *end) {
    return o < end ? (int64_t)o->k * CPU_MOST_COLS + o->column : INT64_MAX;
}

// Lists of n columns, the c-th of which ends at end[c], into one.
static void merge_outliers(const cpu_outlier *lists, const int32_t *end, int32_t n, cpu_outlier *out) {
    const cpu_outlier *next[CPU_MOST_COLS];
    int64_t order[CPU_MOST_COLS];
    for (int32_t c = 0; c < n; c++) {
        next[c] = lists + (c ? end[c - 1] : 0);
        order[c] = outlier_order(next[c], lists + end[c]);
    }
    for (int32_t i = 0; i < end[n - 1]; i++) {
        int64_t first = order[0];
        for (int32_t c = 1; c < n; c++) first = order[c] < first ? order[c] : first;
        const int32_t c = (int32_t)(first % CPU_MOST_COLS);
        out[i] = *next[c]++;
        order[c] = outlier_order(next[c], lists + end[c]);
    }
}

// Column c of a tile of n, made and measured.
static cpu_column next_column(const matmul_job *job, int32_t first, int32_t c, int32_t n, uint8_t *space) {
    const int32_t cols = job->a->x.cols;
    cpu_column column = {
        .x = input_row(job, first + c, (float *)(void *)space + (size_t)(c & 1) * row_stride(cols)),
        .n_blocks = job->x.n_blocks,
        .index = c,
        .acts = job->x.acts + (size_t)first * (size_t)job->x.n_blocks + c,
        .stride = n,
        .notes = (float *)(void *)(space + rows_bytes(cols)) + (size_t)(c & 1) * notes_length(cols),
    };
    job->kernels->measure(&column);
    return column;
}

// Wide panels sort outliers themselves, and want those that share a k by column.
static void quantize_tile(const matmul_job *job, int32_t tile, int32_t thread) {
    const int32_t first = cpu_first_column(&job->x, tile), n = cpu_columns_of(&job->x, tile), cols = job->a->x.cols;
    uint8_t *space = job->spaces + (size_t)thread * space_bytes(cols);
    cpu_outlier *outliers = cpu_tile_outliers(&job->x, tile);
    const bool merge = !job->wide && n > 1;
    cpu_outlier *lists = merge ? (cpu_outlier *)(void *)(space + rows_bytes(cols) + notes_bytes(cols)) : outliers;
    int32_t found = 0, end[CPU_MOST_COLS];
    cpu_column column = next_column(job, first, 0, n, space);
    for (int32_t c = 0; c < n; c++) {
        const cpu_column next = c + 1 < n ? next_column(job, first, c + 1, n, space) : column;
        found += job->kernels->quantize(&column, job->x.max_outliers, lists + found);
        end[c] = found;
        column = next;
    }
    if (merge) merge_outliers(lists, end, n, outliers);
    job->x.n_outliers[tile] = found;
    if (job->wide) cpu_wide_tile_done(job->wide, &job->x, tile, (int32_t *)(void *)space); // the rows are not wanted any more
}

static void quantize_run(void *ctx, int32_t thread, int32_t n_threads) {
    matmul_job *job = ctx;
    (void)n_threads;
    int32_t tile;
    while ((tile = atomic_fetch_add(&job->next, 1)) < job->x.n_tiles) quantize_tile(job, tile, thread);
}

static void quantize_all(cpu_pool *pool, matmul_job *job) {
    atomic_store(&job->next, 0);
    if (job->x.n_tiles > 1 && (int64_t)job->a->x.rows * job->a->x.cols > SERIAL_QUANTIZE) {
        pool_run(pool, quantize_run, job);
    } else {
        for (int32_t t = 0; t < job->x.n_tiles; t++) quantize_tile(job, t, 0);
    }
}

// ---- multiplying ----------------------------------------------------------------------------------------------------
// What all panels have in common that are multiplied with a tile; the panel and its output are still to be filled in.
static cpu_panel_args tile_args(const cpu_tiles *x, int32_t tile) {
    return (cpu_panel_args){
        .act = x->acts + (size_t)cpu_first_column(x, tile) * (size_t)x->n_blocks,
        .outliers = cpu_tile_outliers(x, tile),
        .n_outliers = x->n_outliers[tile],
        .n_blocks = x->n_blocks,
    };
}

// The kernels that a tile of so many columns takes.
typedef struct tile_kernels {
    cpu_panel_kernel one, two; // two: NULL where one panel at a time is as fast
} tile_kernels;

static tile_kernels tile_kernels_of(const cpu_panel_kernels *kernels, int32_t columns) {
    return (tile_kernels){kernels->columns[columns], columns <= CPU_TILE_COLS ? kernels->two[columns] : NULL};
}

// Panel p of a part and, with n of 2, its neighbour.
static void multiply_panels(const matmul_job *job, tile_kernels kernels, int32_t part, int32_t p, int32_t n, int32_t tile) {
    const cpu_weight *w = cpu_weight_of(job->a->part[part].w);
    cpu_planes planes;
    cpu_panel_args args = tile_args(&job->x, tile);
    args.panel = cpu_panel_at(w, p, &planes);
    cpu_place_output(job->a, part, p, n, cpu_first_column(&job->x, tile), &args);
    if (n == 1) {
        kernels.one(&args);
        return;
    }
    args.second = cpu_panel_at(w, p + 1, NULL);
    args.panel_bytes = w->panel_bytes;
    kernels.two(&args);
}

// Panel p of the gate and of what it lets through.
static void multiply_gated(const matmul_job *job, tile_kernels kernels, int32_t p, int32_t tile) {
    cpu_gate gate;
    cpu_panel_args args = tile_args(&job->x, tile);
    args.panel_bytes = cpu_weight_of(job->a->part[0].w)->panel_bytes;
    if (kernels.two) args.second = cpu_panel_at(cpu_weight_of(job->a->part[1].w), p, NULL);
    for (int32_t part = 0; part < (kernels.two ? 1 : 2); part++) {
        args.panel = cpu_panel_at(cpu_weight_of(job->a->part[part].w), p, NULL);
        cpu_place_pairs(job->a, part, p, &gate, &args);
        if (kernels.two) args.n_rows = 2 * CPU_PANEL_ROWS; // what lies behind the last row is not taken over
        (kernels.two ? kernels.two : kernels.one)(&args);
    }
    cpu_place_output(job->a, 0, p, 1, cpu_first_column(&job->x, tile), &args);
    job->vec->glu_panels((const float (*)[2][CPU_PANEL_ROWS])gate.pairs, cpu_columns_of(&job->x, tile), args.n_rows, job->a->act, args.out, args.out_stride);
}

static void multiply_group(const matmul_job *job, int32_t part, int32_t group, int32_t thread) {
    const cpu_weight *w = cpu_weight_of(job->a->part[part].w);
    const int32_t first = group * job->group[part];
    const int32_t end = w->n_panels - first < job->group[part] ? w->n_panels : first + job->group[part];
    const cpu_panel_kernels *kernels = kernels_of(job, w);
    if (job->wide) {
        cpu_wide_multiply(job->wide, job->a, part, kernels, first, end, thread);
        return;
    }
    for (int32_t t = 0; t < job->x.n_tiles; t++) {
        const tile_kernels tile = tile_kernels_of(kernels, cpu_columns_of(&job->x, t));
        for (int32_t p = first, n; p < end; p += n) {
            n = !job->a->gated && tile.two && p + 1 < end ? 2 : 1;
            if (job->a->gated) multiply_gated(job, tile, p, t);
            else multiply_panels(job, tile, part, p, n, t);
        }
    }
}

static void multiply_range(matmul_job *job, matmul_range *range, int32_t thread) {
    int32_t group;
    while ((group = atomic_fetch_add_explicit(&range->next, 1, memory_order_relaxed)) < range->end) {
        int32_t part = 0;
        while (group >= job->groups_end[part]) part++;
        multiply_group(job, part, part ? group - job->groups_end[part - 1] : group, thread);
    }
}

static void multiply_run(void *ctx, int32_t thread, int32_t n_threads) {
    matmul_job *job = ctx;
    (void)n_threads;
    for (int32_t i = 0; i < job->n_ranges; i++) multiply_range(job, &job->range[(thread + i) % job->n_ranges], thread);
}

// Most panels of a group that its cache holds.
static int32_t most_panels(const matmul_job *job, const cpu_weight *w) {
    const int32_t passes = job->wide ? cpu_wide_rounds(job->wide) : job->x.n_tiles;
    return passes <= 1 || !w->panel_bytes ? INT32_MAX : (int32_t)(GROUP_BYTES / w->panel_bytes) / (job->a->gated ? 2 : 1);
}

// Group sizes: large enough to reuse tiles, small enough that every thread gets several groups. Panels go in pairs, but a gated op's.
static void plan_groups(matmul_job *job, int32_t n_threads) {
    int32_t panels = 0, groups = 0;
    for (int32_t i = 0; i < job->n_parts; i++) panels += cpu_weight_of(job->a->part[i].w)->n_panels; // 0 for float parts
    const int32_t fair = n_threads == 1 ? panels : panels / (n_threads * 8);
    for (int32_t i = 0; i < job->n_parts; i++) {
        const cpu_weight *w = cpu_weight_of(job->a->part[i].w);
        const int32_t most = most_panels(job, w), least = job->wide && !job->a->gated ? 2 : 1;
        int32_t size = fair < most ? fair : most;
        if (size > 1 && !job->a->gated) size &= ~1;
        job->group[i] = size < least ? least : size;
        groups += w->n_panels / job->group[i] + (w->n_panels % job->group[i] != 0);
        job->groups_end[i] = groups;
    }
    job->n_ranges = n_threads < MATMUL_RANGES ? n_threads : MATMUL_RANGES;
    for (int32_t i = 0; i < job->n_ranges; i++) {
        atomic_init(&job->range[i].next, (int32_t)((int64_t)groups * i / job->n_ranges));
        job->range[i].end = (int32_t)((int64_t)groups * (i + 1) / job->n_ranges);
    }
}

static bool input_fits(const wtl_input *in, wtl_mat x) {
    if (in->kind == WTL_INPUT_PLAIN) return true;
    return in->from.rows == x.rows && in->from.cols == x.cols && in->weight->cols == x.cols;
}

static bool gate_fits(const wtl_matmul *a) {
    return a->n_parts == 2 && !a->accumulate && !a->part[0].bias && !a->part[1].bias && a->part[0].w->rows == a->part[1].w->rows;
}

bool cpu_matmul_fits(const cpu_stream *s, const wtl_matmul *a) {
    if (a->x.rows < 0 || a->x.rows > s->limits.max_rows || a->x.cols > s->limits.max_cols) return false;
    if (a->n_parts < 1 || a->n_parts > WTL_MATMUL_PARTS || !input_fits(&a->input, a->x)) return false;
    if (a->gated && !gate_fits(a)) return false;
    for (int32_t i = 0; i < a->n_parts; i++) {
        if (a->part[i].w->cols != a->x.cols || a->part[i].out.rows != a->x.rows) return false;
        if (a->part[i].out.cols != a->part[i].w->rows) return false;
    }
    return true;
}

// Whether all packed parts have a kernel for so many columns.
static bool has_kernels(const matmul_job *job, int32_t columns) {
    for (int32_t i = 0; i < job->a->n_parts; i++) {
        const cpu_weight *w = cpu_weight_of(job->a->part[i].w);
        if (w->n_panels > 0 && (columns > CPU_MOST_COLS || !kernels_of(job, w)->columns[columns])) return false;
    }
    return true;
}

// Tiles for x and the rest of the job, in the stream's scratch.
static void begin(matmul_job *job, wtl_stream *s, const wtl_matmul *a) {
    const cpu_backend *be = cpu_of(s);
    const int32_t rows = a->x.rows, n_threads = pool_threads(be->pool);
    *job = (matmul_job){.a = a, .kernels = be->matmul, .vec = be->vec, .n_parts = a->gated ? 1 : a->n_parts};
    cpu_tiles *x = &job->x;
    x->n_blocks = a->x.cols / 32;
    const bool one_tile = has_kernels(job, rows), wide = !one_tile && cpu_wide_pays(be->matmul, a);
    x->n_tiles = one_tile ? 1 : (rows + CPU_TILE_COLS - 1) / CPU_TILE_COLS;
    x->tile_columns = rows / x->n_tiles;
    x->n_long = rows % x->n_tiles;
    x->max_outliers = CPU_MAX_OUTLIERS(a->x.cols);
    x->acts = ((cpu_stream *)s)->quant_scratch;
    x->outliers = (cpu_outlier *)(void *)(x->acts + (size_t)rows * (size_t)x->n_blocks);
    x->n_outliers = (int32_t *)(void *)(x->outliers + (size_t)rows * (size_t)x->max_outliers);
    uint8_t *rest = cpu_line_up((uint8_t *)(void *)(x->n_outliers + x->n_tiles));
    job->spaces = rest;
    if (wide) job->wide = cpu_wide_begin(rest + (size_t)n_threads * space_bytes(a->x.cols), x, be->vec, n_threads);
}

void cpu_matmul_tile(wtl_stream *s, const wtl_matmul *a, cpu_panel_args *args) {
    matmul_job job;
    begin(&job, s, a);
    quantize_tile(&job, 0, 0);
    *args = tile_args(&job.x, 0);
    cpu_place_output(a, 0, 0, 1, 0, args);
}

static void matmul_packed(wtl_stream *s, const wtl_matmul *a) {
    const cpu_backend *be = cpu_of(s);
    matmul_job job;
    begin(&job, s, a);
    quantize_all(be->pool, &job);
    plan_groups(&job, pool_active(be->pool));
    pool_run(be->pool, multiply_run, &job);
}

// Kernels of one kind multiply both parts.
static bool gates_in_panels(const wtl_matmul *a) {
    const cpu_weight *gate = cpu_weight_of(a->part[0].w), *up = cpu_weight_of(a->part[1].w);
    return gate->n_panels > 0 && gate->layout == CPU_LAYOUT_PANELS && up->layout == CPU_LAYOUT_PANELS && gate->base.dtype == up->base.dtype;
}

// Parts with weights of floats want x as a whole.
static wtl_matmul with_plain_input(wtl_stream *s, const wtl_matmul *a) {
    wtl_matmul plain = *a;
    if (a->input.kind == WTL_INPUT_RMS_NORM) cpu_rms_norm(s, a->input.from, a->input.weight, a->input.eps, a->x);
    plain.input = (wtl_input){.kind = WTL_INPUT_PLAIN};
    return plain;
}

void cpu_matmul(wtl_stream *s, const wtl_matmul *a) {
    if (!cpu_fits(s, cpu_matmul_fits((cpu_stream *)s, a)) || a->x.rows == 0) return;
    if (a->gated && !gates_in_panels(a)) {
        wtl_matmul apart = *a;
        apart.gated = false;
        cpu_matmul(s, &apart);
        cpu_glu(s, a->part[0].out, a->part[1].out, a->act, a->part[0].out);
        return;
    }
    int32_t n_packed = 0;
    for (int32_t i = 0; i < a->n_parts; i++) n_packed += is_packed(a->part[i].w);
    const wtl_matmul plain = n_packed < a->n_parts ? with_plain_input(s, a) : *a;
    for (int32_t i = 0; i < a->n_parts; i++) {
        const wtl_weight *bias = a->part[i].bias;
        if (!is_packed(a->part[i].w)) cpu_matmul_float(s, a->part[i].w, a->x, bias ? cpu_vector(bias) : NULL, a->accumulate, a->part[i].out);
    }
    if (n_packed) matmul_packed(s, &plain);
}

// ---- embed ----------------------------------------------------------------------------------------------------------
typedef struct embed_job {
    const cpu_weight *w;
    const int32_t *tokens;
    float scale;
    wtl_mat out;
    uint8_t *rows; // [n_threads, row_stride] a row as in the file
    size_t row_stride;
} embed_job;

static void embed_row(const embed_job *job, int32_t i, uint8_t *file_row) {
    const cpu_weight *w = job->w;
    float *out = job->out.data + (int64_t)i * job->out.stride;
    const int32_t token = job->tokens[i], cols = w->base.cols;
    if (w->layout == CPU_LAYOUT_PANELS) {
        cpu_unpack_row(w->base.dtype, cols, w->data, w->panel_bytes, token, file_row);
        ref_dequantize_row(w->base.dtype, file_row, out, cols);
    } else if (w->layout == CPU_LAYOUT_PLANES) {
        cpu_planes_unpack_row(&w->planes, w->n_blocks, token, file_row);
        ref_dequantize_row(w->base.dtype, file_row, out, cols);
    } else {
        const size_t row_bytes = w->data_bytes / (size_t)w->base.rows;
        ref_dequantize_row(w->base.dtype, (const uint8_t *)w->data + (size_t)token * row_bytes, out, cols);
    }
    if (job->scale == 1.0f) return;
    for (int32_t c = 0; c < cols; c++) out[c] *= job->scale;
}

static void embed_run(void *ctx, int32_t thread, int32_t n_threads) {
    const embed_job *job = ctx;
    uint8_t *file_row = job->rows + (size_t)thread * job->row_stride;
    for (int32_t i = thread; i < job->out.rows; i += n_threads) embed_row(job, i, file_row);
}

void cpu_embed(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out) {
    cpu_stream *stream = (cpu_stream *)s;
    if (!cpu_fits(s, out.rows >= 0 && out.rows <= stream->limits.max_rows && w->cols <= stream->limits.max_cols &&
                         out.cols == w->cols)) {
        return;
    }
    embed_job job = {.w = cpu_weight_of(w), .tokens = tokens, .scale = scale, .out = out, .rows = stream->quant_scratch,
                     .row_stride = file_row_bytes(stream->limits.max_cols)};
    if (out.rows < 4) embed_run(&job, 0, 1); // not worth a barrier
    else pool_run(cpu_of(s)->pool, embed_run, &job);
}
