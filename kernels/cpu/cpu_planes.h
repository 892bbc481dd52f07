// The layout of an output head of type Q8_0, cut into planes of bits so that most rows can be ruled out by reading few of them.
//
// Panels and blocks are those of cpu_panel.h, their parts lie apart: each plane below holds one part of every block of the matrix, panel
// after panel. With the biased code u = q + 128 of a weight, in the order of groups of cpu_panel.h:
//   high  256 bytes a block, bits 4..7 of u as nibbles
//   bit3   64 bytes, bit 3 (bit g of byte j: of group g)
//   bit2   64 bytes, bit 2
//   low   128 bytes, bits 0 and 1, in pairs
//   scale  f16 [16]
// A sketch reads scale, high, bit3 and perhaps bit2: the upper 5 or 6 bits of each code, and puts the middle of what the missing bits can
// be in their place. reach says how far it may be off, see cpu_planes_reach. All bits together are the file's, no more and no fewer.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PLANES_H
#define WTL_KERNELS_CPU_PLANES_H

#include "kernels/cpu/cpu_panel.h"

// Sketches of 5 and of 6 bits.
typedef enum cpu_sketch { CPU_SKETCH_5, CPU_SKETCH_6, CPU_SKETCHES } cpu_sketch;
// Widest matrix: the rounding of a bound is covered by a constant up to here.
#define CPU_PLANES_MAX_COLS 65536

typedef struct cpu_planes {
    uint8_t *high, *bit3, *bit2, *low;
    uint16_t *scale;
    // [16 n_panels] of each sketch, as bf16: the norm of what the missing bits of a row may add, over all its weights, rounded up.
    uint16_t *reach[CPU_SKETCHES];
    float largest; // square root of the largest sum of squared scales of a row, each 32 times; not finite when a scale is not
} cpu_planes;

#define CPU_PLANES_BLOCK_BYTES 544 // all bits of a block and its scales
static inline int32_t cpu_sketch_block_bytes(cpu_sketch sketch) { return 256 + 64 + (sketch == CPU_SKETCH_6 ? 64 : 0) + 32; }

// One panel's part of every plane; what cpu_panel_args.panel points to for kernels of this layout.
static inline cpu_planes cpu_planes_at(const cpu_planes *all, size_t n_blocks, int32_t panel) {
    const size_t b = (size_t)panel * n_blocks, r = (size_t)panel * CPU_PANEL_ROWS;
    return (cpu_planes){all->high + 256 * b, all->bit3 + 64 * b, all->bit2 + 64 * b, all->low + 128 * b, all->scale + 16 * b,
                        {all->reach[0] + r, all->reach[1] + r}, all->largest};
}

// Where panel `panel` begins in each plane, and the bytes of a block there; how many those are, at most CPU_AHEAD_STREAMS.
static inline int32_t cpu_planes_streams(const cpu_planes *all, size_t n_blocks, int32_t panel, const uint8_t **at, size_t *block_bytes) {
    const cpu_planes p = cpu_planes_at(all, n_blocks, panel);
    at[0] = p.high, at[1] = p.low, at[2] = p.bit3, at[3] = p.bit2, at[4] = (const uint8_t *)p.scale;
    block_bytes[0] = 256, block_bytes[1] = 128, block_bytes[2] = block_bytes[3] = 64, block_bytes[4] = 32;
    return 5;
}

// The sketch of one panel times a tile.
typedef struct cpu_sketch_args {
    const cpu_planes *panel;
    const cpu_act *act;          // [n_blocks, columns]
    const cpu_outlier *outliers; // as in cpu_panel_args
    int32_t n_outliers, n_blocks, n_rows;
    const float *norm;      // [columns] of the column, see cpu_planes_norm; multiplies reach
    const float *threshold; // [columns]
    struct cpu_sketch_out { // of each column
        float value[16];
        float upper;    // no product of the panel is above it; Inf when that cannot be said
        uint32_t above; // bit r: value[r] is at least threshold
    } *out;
} cpu_sketch_args;

#define CPU_SKETCH_COLS 4
typedef struct cpu_planes_kernels {
    cpu_panel_kernels panels; // on all bits: the same results as those of the plain layout
    void (*sketch[CPU_SKETCHES][CPU_SKETCH_COLS + 1])(const cpu_sketch_args *a); // by number of columns
    // A block in the plain layout into block b of a panel. squares[s][r] += d^2 times the square of what sketch s may miss in row r.
    void (*split)(const panel_q8_0 *block, const cpu_planes *panel, int32_t b, double (*squares)[16]);
} cpu_planes_kernels;

extern const cpu_planes_kernels cpu_planes_avx512vnni;

// ---- cpu_planes.c -------------------------------------------------------------------------------------------------------
// Bytes of the planes, and in *reach_bytes those of reach behind them; false on overflow.
bool cpu_planes_bytes(int32_t n_panels, int32_t n_blocks, size_t *bytes, size_t *reach_bytes);
cpu_planes cpu_planes_place(uint8_t *data, int32_t n_panels, int32_t n_blocks);
// Fills panel p and returns the largest sum of 32 squared scales of its rows.
double cpu_planes_pack(const wtl_tensor *src, int32_t p, const cpu_planes_kernels *kernels, const cpu_planes *planes);
void cpu_planes_unpack_row(const cpu_planes *planes, int32_t n_blocks, int32_t r, uint8_t *row);
// What multiplies reach for a column; INFINITY when nothing can be said about it.
float cpu_planes_norm(const cpu_planes *planes, const cpu_panel_args *tile, int32_t n_columns, int32_t column);

#endif
