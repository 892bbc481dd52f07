// See cpu_wide.h.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_wide.h"

#include <stdatomic.h>
#include <string.h>

// From so many rows of x on widening pays, unless one tile of panels as they are does: it takes the time of three or four columns.
#define WIDE_ROWS (CPU_TILE_COLS + 1)
// Two panels' span; activations and sums pass through what it leaves of the first-level cache.
#define WIDE_SPAN_BYTES ((size_t)28 << 10)
// Activations of a round, which pass from the second-level cache once for each pair of panels.
#define WIDE_ROUND_BYTES ((size_t)1024 << 10)
#define WIDE_MIN_TILES 8
#define WIDE_MAX_TILES 32

// A thread's own.
typedef struct wide_space {
    cpu_wide_sums sums[WIDE_MAX_TILES];
    float outlier_sums[WIDE_MAX_TILES * CPU_TILE_COLS][2][CPU_PANEL_ROWS];
    cpu_gate gate;
    // One block more: a load may begin late in the last one.
    _Alignas(64) uint8_t blocks[WIDE_SPAN_BYTES + sizeof(cpu_wide_block)];
} wide_space;
_Static_assert(WIDE_SPAN_BYTES >= 2 * 8 * sizeof(cpu_wide_block), "a super-block of two panels");

typedef struct wide_tile {
    const cpu_act *acts;
    int32_t column, n_columns;
    uint32_t used; // bit c: column c of the tile has outliers
} wide_tile;

// Tiles that go by with one widening.
typedef struct wide_round {
    _Atomic int32_t left; // tiles to quantise
    int32_t first;        // tile
    int32_t n_tiles, n_columns;
    wide_tile tiles[WIDE_MAX_TILES];
    cpu_outlier *outliers; // [n_outliers] by k; the column is one of the round's
    int32_t n_outliers;
} wide_round;

struct cpu_wide {
    const cpu_vec_kernels *vec;
    int32_t n_rounds;
    wide_round *rounds;
    wide_space *spaces; // [n_threads]
};

bool cpu_wide_pays(const cpu_matmul_kernels *kernels, const wtl_matmul *a) {
    for (int32_t i = 0; i < a->n_parts; i++) {
        if (cpu_weight_of(a->part[i].w)->n_panels > 0 && !kernels->types[a->part[i].w->dtype]->wide) return false;
    }
    return a->x.rows >= WIDE_ROWS;
}

static int32_t most_rounds(int32_t n_tiles) { return (n_tiles + WIDE_MIN_TILES - 1) / WIDE_MIN_TILES; }

size_t cpu_wide_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads) {
    if (limits->max_rows < WIDE_ROWS) return 0;
    const int32_t tiles = (limits->max_rows + CPU_TILE_COLS - 1) / CPU_TILE_COLS;
    return sizeof(cpu_wide) + (size_t)most_rounds(tiles) * sizeof(wide_round) + (size_t)n_threads * sizeof(wide_space) +
           (size_t)limits->max_rows * (size_t)CPU_MAX_OUTLIERS(limits->max_cols) * sizeof(cpu_outlier) + 2 * 64;
}

static int32_t tiles_of_round(const cpu_tiles *x) {
    const size_t most = WIDE_ROUND_BYTES / ((size_t)x->n_blocks * CPU_TILE_COLS * sizeof(cpu_act));
    return most < WIDE_MIN_TILES ? WIDE_MIN_TILES : most > WIDE_MAX_TILES ? WIDE_MAX_TILES : (int32_t)most;
}

cpu_wide *cpu_wide_begin(void *at, const cpu_tiles *x, const cpu_vec_kernels *vec, int32_t n_threads) {
    const int32_t tiles = tiles_of_round(x);
    cpu_wide *wide = at;
    wide->vec = vec;
    wide->spaces = (wide_space *)(void *)cpu_line_up((uint8_t *)(wide + 1));
    wide->rounds = (wide_round *)(void *)(wide->spaces + n_threads);
    wide->n_rounds = (x->n_tiles + tiles - 1) / tiles;
    cpu_outlier *outliers = (cpu_outlier *)(void *)cpu_line_up((uint8_t *)(wide->rounds + wide->n_rounds));
    for (int32_t i = 0; i < wide->n_rounds; i++) {
        wide_round *round = &wide->rounds[i];
        round->first = (int32_t)((int64_t)x->n_tiles * i / wide->n_rounds);
        round->n_tiles = (int32_t)((int64_t)x->n_tiles * (i + 1) / wide->n_rounds) - round->first;
        round->n_columns = cpu_first_column(x, round->first + round->n_tiles) - cpu_first_column(x, round->first);
        round->outliers = outliers + (size_t)cpu_first_column(x, round->first) * (size_t)x->max_outliers;
        for (int32_t t = 0; t < round->n_tiles; t++) {
            const int32_t column = cpu_first_column(x, round->first + t);
            round->tiles[t] = (wide_tile){x->acts + (size_t)column * (size_t)x->n_blocks, column, cpu_columns_of(x, round->first + t), 0};
        }
        atomic_init(&round->left, round->n_tiles);
    }
    return wide;
}

int32_t cpu_wide_rounds(const cpu_wide *wide) { return wide->n_rounds; }

// ---- outliers -------------------------------------------------------------------------------------------------------
// Of the round's tiles into one list, by k. next [K]: where the next one with that k goes.
static void sort_outliers(const cpu_tiles *x, wide_round *round, int32_t *next) {
    const int32_t n_k = 32 * x->n_blocks;
    memset(next, 0, (size_t)n_k * sizeof *next);
    for (int32_t t = round->first; t < round->first + round->n_tiles; t++) {
        const cpu_outlier *o = cpu_tile_outliers(x, t);
        for (int32_t i = 0; i < x->n_outliers[t]; i++) next[o[i].k]++;
    }
    int32_t before = 0;
    for (int32_t k = 0; k < n_k; k++) {
        const int32_t n = next[k];
        next[k] = before;
        before += n;
    }
    round->n_outliers = before;
    for (int32_t t = 0; t < round->n_tiles; t++) {
        const cpu_outlier *o = cpu_tile_outliers(x, round->first + t);
        wide_tile *tile = &round->tiles[t];
        for (int32_t i = 0; i < x->n_outliers[round->first + t]; i++) {
            round->outliers[next[o[i].k]++] = (cpu_outlier){o[i].k, tile->column - round->tiles[0].column + o[i].column, o[i].x};
            tile->used |= 1u << o[i].column;
        }
    }
}

void cpu_wide_tile_done(cpu_wide *wide, const cpu_tiles *x, int32_t tile, int32_t *scratch) {
    wide_round *round = wide->rounds;
    while (tile >= round->first + round->n_tiles) round++;
    if (atomic_fetch_sub(&round->left, 1) == 1) sort_outliers(x, round, scratch);
}

// ---- multiplying ----------------------------------------------------------------------------------------------------
// Adds what to fetch while n tiles are multiplied: with each block the next slice of so many panels from p on.
static void fetch_panels(cpu_ahead *ahead, const cpu_weight *w, int32_t p, int32_t panels, int32_t n) {
    if (p >= w->n_panels) return;
    const int32_t first = ahead->n;
    if (w->layout == CPU_LAYOUT_PANELS) {
        ahead->at[first] = (const uint8_t *)w->data + (size_t)p * w->panel_bytes;
        ahead->step[first] = (w->panel_bytes + (size_t)w->n_blocks - 1) / (size_t)w->n_blocks;
        ahead->n++;
    } else {
        ahead->n += cpu_planes_streams(&w->planes, (size_t)w->n_blocks, p, ahead->at + first, ahead->step + first);
    }
    for (int32_t i = first; i < ahead->n; i++) ahead->step[i] = ((size_t)panels * ahead->step[i] + (size_t)n - 1) / (size_t)n;
}

// Blocks of a span, so that all spans are about as long. Super-blocks stay whole.
static int32_t span_blocks(const cpu_weight *w, size_t block_bytes) {
    const int32_t unit = cpu_packing_of(w->base.dtype)->block_weights / 32;
    const int32_t most = (int32_t)(WIDE_SPAN_BYTES / (2 * block_bytes)) / unit * unit;
    const int32_t spans = (w->n_blocks + most - 1) / most, even = (w->n_blocks + spans - 1) / spans;
    return (even + unit - 1) / unit * unit;
}

// One or two panels times a round: neighbours of a part, or of a gated op one of each part.
typedef struct wide_pair {
    const wtl_matmul *a;
    const cpu_wide *wide;
    const wide_round *round;
    wide_space *space;
    const cpu_panel_kernels *kernels;
    int32_t n_panels;
    const cpu_weight *w[2];
    int32_t panel[2];
    cpu_panel_args args; // what the calls for all tiles have in common, and the first one's output
} wide_pair;

// Whether the first tile is multiplied while panels are widened.
static bool widens_on_the_way(const wide_pair *pair) {
    return pair->n_panels == 2 && pair->kernels->widen_two && pair->round->tiles[0].n_columns == CPU_TILE_COLS;
}

// Widens the span's panels, and multiplies the outliers that meet them.
static void widen_span(const wide_pair *pair, const cpu_panel_args *args, cpu_wide_span *span, cpu_wide_outliers *outliers) {
    cpu_planes planes[2];
    const void *panels[2];
    cpu_panel_args to = *args;
    for (int32_t i = 0; i < pair->n_panels; i++) panels[i] = cpu_panel_at(pair->w[i], pair->panel[i], &planes[i]);
    if (widens_on_the_way(pair)) {
        to.act = pair->round->tiles[0].acts + (ptrdiff_t)span->first_block * CPU_TILE_COLS;
        span->sums = pair->space->sums;
        span->first = span->first_block == 0;
        pair->kernels->widen_two(panels, &to, span);
    } else {
        for (int32_t i = 0; i < pair->n_panels; i++) {
            to.panel = pair->space->blocks + (size_t)i * args->panel_bytes;
            pair->kernels->widen(&panels[i], &to, span);
        }
    }
    outliers->panel_bytes = args->panel_bytes;
    outliers->first_k = 32 * span->first_block;
    outliers->end_k = outliers->first_k + 32 * args->n_blocks;
    pair->kernels->wide->outliers[pair->n_panels](outliers);
}

// The span that lies in the thread's space times all tiles. The last one of a gated op goes to the pairs, and from there to args->out.
static void multiply_span(const wide_pair *pair, const cpu_panel_args *args, cpu_wide_span *span) {
    const cpu_wide_kernel *kernels = pair->n_panels == 2 ? pair->kernels->wide->two : pair->kernels->wide->one;
    const wide_tile *tile = pair->round->tiles, *const end = tile + pair->round->n_tiles;
    const bool to_pairs = span->last && pair->a->gated;
    cpu_gate *gate = &pair->space->gate;
    cpu_panel_args call = *args;
    float *out = args->out;
    if (to_pairs) {
        cpu_place_pairs(pair->a, 0, pair->panel[0], gate, &call);
        call.n_rows = 2 * CPU_PANEL_ROWS; // what lies behind the last row is not taken over
    }
    span->sums = pair->space->sums;
    span->outlier_sums = (const float (*)[2][CPU_PANEL_ROWS])pair->space->outlier_sums;
    // What was multiplied on the way has nothing left but its end.
    const bool begun = widens_on_the_way(pair);
    for (; tile < end; tile++) {
        const bool ends_only = begun && tile == pair->round->tiles;
        call.act = tile->acts + (ptrdiff_t)span->first_block * tile->n_columns;
        call.n_blocks = ends_only ? 0 : args->n_blocks;
        if (!to_pairs) call.out = out;
        span->used = tile->used;
        span->first = span->first_block == 0 && !ends_only;
        if (!ends_only || span->last) kernels[tile->n_columns](&call, span);
        if (to_pairs) pair->wide->vec->glu_panels((const float (*)[2][CPU_PANEL_ROWS])gate->pairs, tile->n_columns, args->n_rows, pair->a->act, out, args->out_stride);
        out += (ptrdiff_t)tile->n_columns * args->out_stride;
        span->sums++;
        span->outlier_sums += tile->n_columns;
        for (int32_t s = 0; s < span->ahead.n; s++) span->ahead.at[s] += (size_t)args->n_blocks * span->ahead.step[s];
    }
}

static void multiply_pair(const wide_pair *pair, const cpu_ahead *ahead) {
    const wide_round *round = pair->round;
    const int32_t n_blocks = pair->w[0]->n_blocks, most = span_blocks(pair->w[0], pair->kernels->wide->block_bytes);
    cpu_wide_outliers outliers = {.panels = pair->space->blocks, .next = round->outliers, .end = round->outliers + round->n_outliers,
                                  .sums = pair->space->outlier_sums};
    if (round->n_outliers) memset(outliers.sums, 0, (size_t)round->n_columns * sizeof *outliers.sums);
    cpu_wide_span span = {.ahead = *ahead};
    cpu_panel_args args = pair->args;
    for (; span.first_block < n_blocks; span.first_block += args.n_blocks) {
        args.n_blocks = n_blocks - span.first_block < most ? n_blocks - span.first_block : most;
        args.panel_bytes = (size_t)args.n_blocks * pair->kernels->wide->block_bytes;
        span.last = span.first_block + args.n_blocks == n_blocks;
        widen_span(pair, &args, &span, &outliers);
        multiply_span(pair, &args, &span);
    }
}

// Panel p and its neighbour below end; panel p of both parts when gated. What comes next is fetched ahead by the first round only.
static void place_pair(wide_pair *pair, int32_t part, int32_t p, int32_t end, cpu_ahead *ahead) {
    const bool gated = pair->a->gated;
    const int32_t n_tiles = pair->round->n_tiles;
    pair->n_panels = gated || p + 1 < end ? 2 : 1;
    for (int32_t i = 0; i < pair->n_panels; i++) {
        pair->w[i] = cpu_weight_of(pair->a->part[gated ? i : part].w);
        pair->panel[i] = gated ? p : p + i;
        if (gated) fetch_panels(ahead, pair->w[i], p + 1, 1, n_tiles);
    }
    if (!gated) fetch_panels(ahead, pair->w[0], p + pair->n_panels, 2, n_tiles);
    pair->args = (cpu_panel_args){.panel = pair->space->blocks};
    cpu_place_output(pair->a, part, p, gated ? 1 : pair->n_panels, pair->round->tiles[0].column, &pair->args);
}

void cpu_wide_multiply(cpu_wide *wide, const wtl_matmul *a, int32_t part, const cpu_panel_kernels *kernels, int32_t first, int32_t end,
                       int32_t thread) {
    wide_pair pair = {.a = a, .wide = wide, .kernels = kernels, .space = &wide->spaces[thread]};
    static const cpu_ahead nothing = {0};
    for (int32_t r = 0; r < wide->n_rounds; r++) {
        pair.round = &wide->rounds[r];
        for (int32_t p = first; p < end; p += a->gated ? 1 : 2) {
            cpu_ahead ahead = nothing;
            place_pair(&pair, part, p, end, &ahead);
            multiply_pair(&pair, r == 0 ? &ahead : &nothing);
        }
    }
}
