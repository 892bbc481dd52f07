// What cpu_matmul.c and cpu_wide.c share: x of a matmul, quantised, and where the results of a panel go.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_MATMUL_H
#define WTL_KERNELS_CPU_MATMUL_H

#include "kernels/cpu/cpu_weight.h"

// Columns (rows of x: tokens) in tiles of about equal width, each what one kernel call multiplies.
typedef struct cpu_tiles {
    cpu_act *acts;         // tile t starts at first_column(t) * n_blocks and is [n_blocks, columns of the tile]
    cpu_outlier *outliers; // [columns, max_outliers]; a tile's lie together at its first column's
    int32_t *n_outliers;   // [n_tiles]
    int32_t max_outliers;  // of a column
    int32_t n_blocks, n_tiles;
    int32_t tile_columns, n_long; // columns of a tile; the first n_long tiles have one more
} cpu_tiles;

static inline int32_t cpu_first_column(const cpu_tiles *x, int32_t tile) { return tile * x->tile_columns + (tile < x->n_long ? tile : x->n_long); }
static inline int32_t cpu_columns_of(const cpu_tiles *x, int32_t tile) { return x->tile_columns + (tile < x->n_long); }
static inline cpu_outlier *cpu_tile_outliers(const cpu_tiles *x, int32_t tile) {
    return x->outliers + (size_t)cpu_first_column(x, tile) * (size_t)x->max_outliers;
}

// What kernels take for panel p; in *planes where that is not one piece of memory.
static inline const void *cpu_panel_at(const cpu_weight *w, int32_t p, cpu_planes *planes) {
    if (w->layout == CPU_LAYOUT_PANELS) return (const uint8_t *)w->data + (size_t)p * w->panel_bytes;
    *planes = cpu_planes_at(&w->planes, (size_t)w->n_blocks, p);
    return planes;
}

// Points args at the output of n panels from p on, for a tile that begins with that column.
static inline void cpu_place_output(const wtl_matmul *a, int32_t part, int32_t p, int32_t n, int32_t column, cpu_panel_args *args) {
    const int32_t row = p * CPU_PANEL_ROWS, left = a->part[part].w->rows - row;
    const wtl_mat out = a->part[part].out;
    args->n_rows = left < n * CPU_PANEL_ROWS ? left : n * CPU_PANEL_ROWS;
    args->out = out.data + (int64_t)column * out.stride + row;
    args->out_stride = out.stride;
    args->bias = a->part[part].bias ? cpu_vector(a->part[part].bias) + row : NULL;
    args->accumulate = a->accumulate;
}

// Where the results of a gated matmul's kernels meet before they are stored: what a gate's panel and the other one give for a tile.
typedef struct cpu_gate {
    _Alignas(64) float pairs[CPU_MOST_COLS][2][CPU_PANEL_ROWS];
} cpu_gate;

// Panel p of that part of a gated matmul, or of both parts beside each other, into the pairs instead of its output.
static inline void cpu_place_pairs(const wtl_matmul *a, int32_t part, int32_t p, cpu_gate *gate, cpu_panel_args *args) {
    cpu_place_output(a, part, p, 1, 0, args);
    args->out = gate->pairs[0][part];
    args->out_stride = 2 * CPU_PANEL_ROWS;
}

static inline uint8_t *cpu_line_up(uint8_t *p) { return p + (size_t)(-(uintptr_t)p & 63); }

#endif
