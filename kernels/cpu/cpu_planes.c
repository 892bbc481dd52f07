// Packs, unpacks and bounds the planes of cpu_planes.h.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_planes.h"

#include <math.h>

#include "kernels/cpu/cpu_pack.h"
#include "runtime/base/checked.h"

bool cpu_planes_bytes(int32_t n_panels, int32_t n_blocks, size_t *bytes, size_t *reach_bytes) {
    size_t blocks;
    if (!wtl_mul_size((size_t)n_panels, (size_t)n_blocks, &blocks) || !wtl_mul_size(blocks, CPU_PLANES_BLOCK_BYTES, bytes) ||
        !wtl_align_size(*bytes, 64, bytes)) {
        return false;
    }
    *reach_bytes = CPU_SKETCHES * CPU_PANEL_ROWS * sizeof(uint16_t) * (size_t)n_panels;
    return true;
}

cpu_planes cpu_planes_place(uint8_t *data, int32_t n_panels, int32_t n_blocks) {
    const size_t blocks = (size_t)n_panels * (size_t)n_blocks;
    cpu_planes planes = {.high = data, .bit3 = data + 256 * blocks, .bit2 = data + 320 * blocks, .low = data + 384 * blocks,
                         .scale = (uint16_t *)(void *)(data + 512 * blocks)};
    planes.reach[0] = (uint16_t *)(void *)(data + (CPU_PLANES_BLOCK_BYTES * blocks + 63) / 64 * 64);
    planes.reach[1] = planes.reach[0] + (size_t)n_panels * CPU_PANEL_ROWS;
    return planes;
}

// The smallest bf16 that is not below v >= 0; NaN stays NaN.
static uint16_t bf16_up(double v) {
    const float f = (float)v;
    const uint32_t bits = wtl_bits_from_f32((double)f < v ? nextafterf(f, INFINITY) : f);
    if (bits >= 0x7F800000u) return (uint16_t)(bits >> 16 | (bits > 0x7F800000u ? 1 : 0));
    return (uint16_t)((bits + 0xFFFFu) >> 16);
}

double cpu_planes_pack(const wtl_tensor *src, int32_t p, const cpu_planes_kernels *kernels, const cpu_planes *planes) {
    static const uint8_t zeros[sizeof(block_q8_0)];
    const int32_t n_blocks = src->cols / 32;
    const cpu_planes panel = cpu_planes_at(planes, (size_t)n_blocks, p);
    const uint8_t *rows[CPU_PANEL_ROWS];
    double squares[CPU_SKETCHES][16] = {{0}}, scales[16] = {0}, largest = 0;
    for (int32_t b = 0; b < n_blocks; b++) {
        for (int32_t r = 0; r < CPU_PANEL_ROWS; r++) {
            const bool real = p * CPU_PANEL_ROWS + r < src->rows;
            rows[r] = real ? (const uint8_t *)src->data + (size_t)(p * CPU_PANEL_ROWS + r) * src->row_bytes + (size_t)b * sizeof(block_q8_0) : zeros;
        }
        panel_q8_0 block;
        cpu_packing_of(WTL_DTYPE_Q8_0)->pack(rows, &block);
        kernels->split(&block, &panel, b, squares);
        for (int r = 0; r < 16; r++) {
            const double d = (double)wtl_f32_from_f16(block.d[r]);
            scales[r] += 32 * d * d;
        }
    }
    for (int r = 0; r < 16; r++) {
        for (int s = 0; s < CPU_SKETCHES; s++) panel.reach[s][r] = bf16_up(sqrt(squares[s][r]) * (1 + 0x1p-40)); // covers the sum's rounding
        if (!(scales[r] <= largest)) largest = scales[r]; // a NaN stays
    }
    return largest;
}

void cpu_planes_unpack_row(const cpu_planes *planes, int32_t n_blocks, int32_t r, uint8_t *row) {
    const cpu_planes panel = cpu_planes_at(planes, (size_t)n_blocks, r / CPU_PANEL_ROWS);
    r %= CPU_PANEL_ROWS;
    for (size_t b = 0; b < (size_t)n_blocks; b++, row += sizeof(block_q8_0)) {
        memcpy(row, &panel.scale[16 * b + (size_t)r], 2);
        const uint32_t bit3 = load_word(panel.bit3 + 64 * b + 4 * (size_t)r), bit2 = load_word(panel.bit2 + 64 * b + 4 * (size_t)r);
        for (unsigned g = 0; g < 8; g++) {
            const uint32_t high = load_word(panel.high + 256 * b + 64 * (g & 3) + 4 * (size_t)r) >> (g < 4 ? 0 : 4) & 0x0F0F0F0Fu;
            const uint32_t low = load_word(panel.low + 128 * b + 64 * (g >> 2) + 4 * (size_t)r) >> 2 * (g & 3) & 0x03030303u;
            const uint32_t u = high << 4 | (bit3 >> g & 0x01010101u) << 3 | (bit2 >> g & 0x01010101u) << 2 | low;
            store_word(row + offsetof(block_q8_0, qs) + 4 * g, u ^ 0x80808080u);
        }
    }
}

// How far a sketch S may be from the product F that the full kernel computes, for one row and column. In real numbers both stand for sums
// over k of weights w_k times x_k, where x is the quantised column, an outlier as it is: F with w_k = d q_k, S with w_k = d (h_k + mid),
// h_k = q_k - l_k without the missing bits l_k = 0..2 mid. What they differ by is the sum of d (l_k - mid) x_k:
//   outliers      at most mid |d x_k| each, which the kernels add up;
//   other values  at most reach * in by the inequality of Cauchy and Schwarz, with reach^2 = sum of d^2 (l_k - mid)^2, in = their norm.
// Rounding: on its way to F or S a term is rounded at most n = blocks + outliers + 8 times (Higham 2002, section 3.1), so each is off by at
// most 1.01 n 2^-24 times the sum of the magnitudes of its terms. No |q|, |h| + mid is above 140, so that sum is at most
// 140 sqrt(sum of d^2) |x|, again by Cauchy and Schwarz; and since |l_k - mid| >= 1/2, at most 280 reach |x|. Together
//   |F - S| <= reach * (in + 280 * 2.02 n 2^-24 |x|) + mid * sum of |d x_k| over outliers + 2^-110,
// the last for results below 2^-126, where rounding is not relative: their error is at most 2^-150 times a scale, 4 n times.
// 1 + 2^-10 covers the rounding of the bound itself, which has at most CPU_PLANES_MAX_COLS / 16 terms.
float cpu_planes_norm(const cpu_planes *planes, const cpu_panel_args *tile, int32_t n_columns, int32_t column) {
    double in = 0, out = 0;
    for (int32_t b = 0; b < tile->n_blocks; b++) {
        const cpu_act *act = &tile->act[(ptrdiff_t)b * n_columns + column];
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) sum += act->q[i] * act->q[i];
        in += (double)act->d * (double)act->d * sum;
    }
    for (int32_t i = 0; i < tile->n_outliers; i++) {
        const cpu_outlier *o = &tile->outliers[i];
        if (o->column == column) out += (double)o->x * (double)o->x;
    }
    const double all = sqrt(in + out), n = tile->n_blocks + CPU_MAX_OUTLIERS(32 * tile->n_blocks) + 8;
    // Where a sum or a term of it might overflow nothing is said. Not finite: neither is x, or a scale.
    if (!(all < 1e30) || !(140 * (double)planes->largest * all < 1e37)) return INFINITY;
    return (float)((sqrt(in) + 280 * 2.02 * 0x1p-24 * n * all) * (1 + 0x1p-10));
}
