// Attention over one partition of an F16 cache, kept as fixed point, for one instruction set: a part of attend_<isa>.c.
//
// Queries become int16 times a step too. A score is an exact sum of integers, scaled once; exp runs in f32; a row's
// weights over the partition, times the values' scales, become int16 times a step of the row's own, and the weighted sum
// is exact again. So only the softmax sum has an order: one accumulator per position modulo CPU_LANES. Which rows share a
// register tile changes no bit, a weight of zero hides what a slot holds, and exponents are of base 2.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <float.h>
#include <math.h>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/fixed.h"

// A column is 16 lanes: the positions of a block, or 16 dimensions. Register tiles are rows x columns.
#define COLUMN_VECS (16 / CPU_LANES)
#define COLUMN_PAIR 32 // int16 from one pair of a column to the next
#if CPU_LANES == 16
#define TILE_ROWS_MAX 6
#define TILE_COLUMNS 4
#elif CPU_LANES == 8
#define TILE_ROWS_MAX 6
#define TILE_COLUMNS 1
#else
#define TILE_ROWS_MAX 2
#define TILE_COLUMNS 1
#endif
#define SUM_VECS (TILE_ROWS_MAX * TILE_COLUMNS * COLUMN_VECS)
_Static_assert(TILE_ROWS_MAX <= CPU_ATTEND_GROUP, "scratch holds that many rows");

// What a register tile multiplies: a [R, stride] with columns [NC] -> [n, 16][2], over some stretches one after the other.
typedef struct tile_input {
    const int16_t *a;
    int32_t stride;
    int32_t n;                     // pairs of a stretch
    int32_t n_stretches;           // a advances by 2 n
    const uint8_t *const *columns; // column c of stretch s starts at columns[across ? s + c : s] + offset + c * step
    size_t offset, step;
    bool across;                   // columns lie in neighbouring blocks (keys) rather than in one (values)
    const uint8_t *const *ahead;   // NULL, or as columns: what is fetched into the cache meanwhile, as many bytes as are read
    size_t ahead_offset;
} tile_input;

// out[r, 16 c + i] = (a[r] . column c)[i] * (lane ? lane[c][i] : row[r]), for R rows and NC columns.
CPU_INLINE void multiply_tile(const int R, const int NC, const tile_input in, const float *row, const float *const *lane,
                              float *out, int32_t out_stride) {
    ivec sum[SUM_VECS];
    CPU_UNROLL for (int v = 0; v < R * NC * COLUMN_VECS; v++) sum[v] = i_zero();
    for (int32_t s = 0; s < in.n_stretches; s++) {
        const int16_t *a = in.a + 2 * in.n * s, *b[TILE_COLUMNS];
        CPU_UNROLL for (int c = 0; c < NC; c++)
            b[c] = (const int16_t *)(const void *)(in.columns[in.across ? s + c : s] + in.offset + (size_t)c * in.step);
        for (int32_t i = 0; i < in.n; i++) {
            ivec column[TILE_COLUMNS * COLUMN_VECS];
            if (in.ahead) {
                CPU_UNROLL for (int c = 0; c < NC; c++)
                    __builtin_prefetch(in.ahead[in.across ? c : s] + in.ahead_offset + (size_t)c * in.step + (size_t)i * 64, 0, 2);
            }
            CPU_UNROLL for (int v = 0; v < NC * COLUMN_VECS; v++)
                column[v] = i_load(b[v / COLUMN_VECS] + (size_t)i * COLUMN_PAIR + v % COLUMN_VECS * 2 * CPU_LANES);
            CPU_UNROLL for (int r = 0; r < R; r++) {
                ivec x = i_pair(a + (size_t)r * in.stride + 2 * i);
                CPU_UNROLL for (int v = 0; v < NC * COLUMN_VECS; v++)
                    sum[r * NC * COLUMN_VECS + v] = i_dot(sum[r * NC * COLUMN_VECS + v], x, column[v]);
            }
        }
    }
    CPU_UNROLL for (int v = 0; v < NC * COLUMN_VECS; v++) {
        const vec by = lane ? v_load(lane[v / COLUMN_VECS] + v % COLUMN_VECS * CPU_LANES) : v_zero();
        CPU_UNROLL for (int r = 0; r < R; r++) {
            vec x = v_from_int(sum[r * NC * COLUMN_VECS + v]);
            v_store(out + (size_t)r * out_stride + v * CPU_LANES, v_mul(x, lane ? by : v_set1(row[r])));
        }
    }
}

// Products of R queries from `row` on with the keys of blocks b .. b + NC - 1, in key steps.
CPU_INLINE void score_columns(const int R, const int NC, const cpu_attend_tile *t, int32_t row, int32_t b,
                              const uint8_t *const *ahead) {
    const float *steps[TILE_COLUMNS];
    CPU_UNROLL for (int c = 0; c < NC; c++) steps[c] = (const float *)(const void *)(t->block[b + c] + t->layout.key_scales);
    const tile_input in = {.a = (const int16_t *)(const void *)(t->q + (size_t)row * t->padded), .stride = 2 * t->padded,
                           .n = cpu_kv_pairs(t->head_dim), .n_stretches = 1, .columns = t->block + b, .across = true, .ahead = ahead};
    multiply_tile(R, NC, in, NULL, steps, t->scores + b * WTL_KV_BLOCK, CPU_ATTEND_PART);
}

// Weighted sums of R rows from `row` on over blocks b0 .. b1 - 1, in dimensions 16 c .. 16 (c + NC) - 1. unit [R].
CPU_INLINE void weigh_columns(const int R, const int NC, const cpu_attend_tile *t, int32_t row, int32_t b0, int32_t b1,
                              int32_t c, const float *unit, const uint8_t *const *ahead) {
    const size_t column_bytes = 16 * WTL_KV_BLOCK * sizeof(int16_t);
    const tile_input in = {.a = (const int16_t *)(const void *)t->values + b0 * WTL_KV_BLOCK, .stride = CPU_ATTEND_PART,
                           .n = WTL_KV_BLOCK / 2, .n_stretches = b1 - b0, .columns = t->block + b0,
                           .offset = t->layout.values + (size_t)c * column_bytes, .step = column_bytes,
                           .ahead = ahead, .ahead_offset = (size_t)c * column_bytes};
    multiply_tile(R, NC, in, unit, NULL, t->out + (size_t)row * t->padded + c * 16, t->padded);
}

// R rows and the blocks b0 .. b1 - 1 that they look into. In inner0 .. inner1 - 1 all of them see every position; elsewhere
// what a row does not see is masked, which changes no bit of it: that adds zeros and compares with -Inf.
typedef struct row_group {
    int32_t row, R;
    int32_t b0, inner0, inner1, b1;
} row_group;

static row_group find_group(const cpu_attend_tile *t, int32_t row, int R) {
    const int32_t last = row + R - 1, lo = t->first[row], hi = t->end[last];
    row_group g = {.row = row, .R = R, .b0 = lo / WTL_KV_BLOCK, .b1 = (hi + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK};
    if (g.b1 < g.b0) g.b1 = g.b0;
    g.inner0 = (t->first[last] + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
    g.inner1 = t->end[row] / WTL_KV_BLOCK;
    if (g.inner0 > g.b1) g.inner0 = g.b1;
    if (g.inner1 < g.inner0) g.inner1 = g.inner0;
    for (int32_t b = g.b0; b < g.b1; b++) assert(t->block[b]);
    return g;
}

// The largest visible score in blocks b .. stop - 1, lane by lane.
CPU_INLINE vec top_scores(const bool masked, const float *scores, int32_t b, int32_t stop, int32_t first, int32_t end, vec top) {
    for (; b < stop; b++) {
        CPU_UNROLL for (int v = 0; v < COLUMN_VECS; v++) {
            const int32_t p = b * WTL_KV_BLOCK + v * CPU_LANES;
            vec s = v_load(scores + p);
            if (masked) s = v_if_between(s, first - p, end - p, v_set1(-INFINITY));
            top = v_max(s, top);
        }
    }
    return top;
}

// Sums of a row's softmax, lane by lane.
typedef struct soft_sums {
    vec total, weights, top;
} soft_sums;

// Scores of blocks b .. stop - 1 become weights times value steps, 0 where the row does not look.
CPU_INLINE soft_sums soften_blocks(const bool masked, const cpu_attend_tile *t, float *scores, int32_t b, int32_t stop,
                                   int32_t row, soft_sums sums) {
    const vec scale = v_set1(t->q_scale[row]), shift = v_set1(-t->max[row]);
    for (; b < stop; b++) {
        const float *steps = (const float *)(const void *)(t->block[b] + t->layout.value_scales);
        CPU_UNROLL for (int v = 0; v < COLUMN_VECS; v++) {
            const int32_t p = b * WTL_KV_BLOCK + v * CPU_LANES;
            vec e = v_exp2(v_fma(v_load(scores + p), scale, shift)), weight = v_mul(e, v_load(steps + v * CPU_LANES));
            if (masked) {
                e = v_if_between(e, t->first[row] - p, t->end[row] - p, v_zero());
                weight = v_if_between(weight, t->first[row] - p, t->end[row] - p, v_zero());
            }
            v_store(scores + p, weight);
            sums.total = v_add(sums.total, e);
            sums.weights = v_add(sums.weights, weight);
            sums.top = v_max(weight, sums.top);
        }
    }
    return sums;
}

// Softmax of a group, each pass over all rows, so that one row's chain of reductions hides behind the others' work. Sets
// max and sum, turns scores into whole numbers of unit[r], at most CPU_FIXED_MAX, whose sum times per_sum is at most 1.
// A row that sees nothing: -Inf, 0 and 0.
static void soften_group(const cpu_attend_tile *t, const row_group *g, float per_sum, float *unit) {
    const int32_t row = g->row;
    for (int r = 0; r < g->R; r++) {
        const float *scores = t->scores + r * CPU_ATTEND_PART;
        const int32_t first = t->first[row + r], end = t->end[row + r];
        vec top = top_scores(true, scores, g->b0, g->inner0, first, end, v_set1(-INFINITY));
        top = top_scores(false, scores, g->inner0, g->inner1, first, end, top);
        top = top_scores(true, scores, g->inner1, g->b1, first, end, top);
        t->max[row + r] = first < end ? v_top(top) * t->q_scale[row + r] : -INFINITY;
    }
    for (int r = 0; r < g->R; r++) {
        float *scores = t->scores + r * CPU_ATTEND_PART;
        soft_sums sums = {v_zero(), v_zero(), v_zero()};
        sums = soften_blocks(true, t, scores, g->b0, g->inner0, row + r, sums);
        sums = soften_blocks(false, t, scores, g->inner0, g->inner1, row + r, sums);
        sums = soften_blocks(true, t, scores, g->inner1, g->b1, row + r, sums);
        t->sum[row + r] = v_sum(sums.total);
        const float by_sum = v_sum(sums.weights) * per_sum, by_top = v_top(sums.top) * (1.0f / CPU_FIXED_MAX);
        unit[r] = by_sum < by_top ? by_top : by_sum; // NaN stays
    }
    for (int r = 0; r < g->R; r++) {
        const vec per_unit = v_set1(unit[r] >= 0x1p-100f ? 1.0f / unit[r] : 0.0f);
        const float *scores = t->scores + r * CPU_ATTEND_PART;
        int16_t *weights = (int16_t *)(void *)t->values + r * CPU_ATTEND_PART;
        const int32_t end = g->b1 * WTL_KV_BLOCK;
        int32_t p = g->b0 * WTL_KV_BLOCK;
#if V_STORES_TWO_I16
        for (; p + 2 * CPU_LANES <= end; p += 2 * CPU_LANES)
            v_store_two_i16(weights + p, v_mul(v_load(scores + p), per_unit), v_mul(v_load(scores + p + CPU_LANES), per_unit));
#endif
        for (; p < end; p += CPU_LANES) v_store_i16(weights + p, v_mul(v_load(scores + p), per_unit));
    }
}

// What is fetched while keys or values of block b are read. Here those of block b + TILE_COLUMNS; with the last keys the first values, with the
// last of those the next partition's keys.
typedef struct read_ahead {
    const uint8_t *keys[CPU_ATTEND_BLOCKS], *values[CPU_ATTEND_BLOCKS];
} read_ahead;

static void find_ahead(const cpu_attend_tile *t, const row_group *g, read_ahead *out) {
    const int32_t step = TILE_COLUMNS;
    for (int32_t b = g->b0; b < g->b1; b++) {
        const int32_t then = b + step, over = then < g->b1 ? 0 : (then - g->b1) % step;
        const bool more = then < g->b1;
        const uint8_t *values = t->block[g->b0 + over < g->b1 ? g->b0 + over : g->b0] + t->layout.values;
        out->keys[b] = more ? t->block[then] : values;
        out->values[b] = more ? t->block[then] + t->layout.values : t->next[over] ? t->next[over] : values;
    }
}

// Fetches the steps of keys and values of up to n blocks from b on; they lie behind each other.
CPU_INLINE void fetch_steps(const cpu_attend_tile *t, const row_group *g, int32_t b, int32_t n) {
    for (const int32_t end = b + n < g->b1 ? b + n : g->b1; b < end; b++) {
        __builtin_prefetch(t->block[b] + t->layout.key_scales, 0, 2);
        __builtin_prefetch(t->block[b] + t->layout.value_scales, 0, 2);
    }
}

// R rows from `row` on through the partition.
CPU_INLINE void fixed_group(const int R, const cpu_attend_tile *t, int32_t row) {
    const row_group g = find_group(t, row, R);
    const int32_t n_columns = t->padded / 16;
    const bool fetch = row == 0; // the rows after these find it in the cache
    float unit[TILE_ROWS_MAX];
    read_ahead ahead;
    int32_t b = g.b0, c = 0;
    if (fetch) {
        find_ahead(t, &g, &ahead);
        fetch_steps(t, &g, b, 4);
    }
    for (; b + TILE_COLUMNS <= g.b1; b += TILE_COLUMNS) {
        if (fetch) fetch_steps(t, &g, b + 4, TILE_COLUMNS);
        score_columns(R, TILE_COLUMNS, t, row, b, fetch ? ahead.keys + b : NULL);
    }
    for (; b < g.b1; b++) score_columns(R, 1, t, row, b, fetch ? ahead.keys + b : NULL);
    soften_group(t, &g, 1.0f / CPU_FIXED_WEIGHT_SUM, unit);
    const uint8_t *const *values_ahead = fetch ? ahead.values + g.b0 : NULL;
    for (; c + TILE_COLUMNS <= n_columns; c += TILE_COLUMNS) weigh_columns(R, TILE_COLUMNS, t, row, g.b0, g.b1, c, unit, values_ahead);
    for (; c < n_columns; c++) weigh_columns(R, 1, t, row, g.b0, g.b1, c, unit, values_ahead);
}

static void fixed_part(const cpu_attend_tile *t) {
    int32_t row = 0, n = t->n_rows;
#if CPU_LANES >= 8
    for (; n - row >= 6; row += 6) fixed_group(6, t, row);
    for (; n - row >= 4; row += 4) fixed_group(4, t, row);
    for (; n - row >= 3; row += 3) fixed_group(3, t, row);
#endif
    for (; n - row >= 2; row += 2) fixed_group(2, t, row);
    for (; n - row >= 1; row++) fixed_group(1, t, row);
}

// The steps of queries take in log2 e and the scale of the scores, so that exponents are of base 2.
static void fixed_query(const cpu_attend_tile *t, int32_t row, const float *q, float scale) {
    const float step = fixed_step(q, t->head_dim, INFINITY, CPU_FIXED_MAX, CPU_FIXED_NORM);
    const vec per_step = v_set1(fixed_per_step(step));
    int16_t *to = (int16_t *)(void *)(t->q + (size_t)row * t->padded);
    for (int32_t i = 0; i < t->head_dim; i += CPU_LANES) v_store_i16(to + i, v_mul(fixed_load(q, i, t->head_dim, INFINITY), per_step));
    t->q_scale[row] = step * scale * 1.44269504f;
}

// Both sides are brought to the larger maximum. A side with maximum -Inf has sum and weights 0 and adds nothing.
static void fixed_merge(cpu_attend_state into, cpu_attend_state from, int32_t n_rows, int32_t padded) {
    for (int32_t r0 = 0; r0 < n_rows; r0 += CPU_LANES) {
        const int32_t rows = n_rows - r0 < CPU_LANES ? n_rows - r0 : CPU_LANES;
        const vec old = v_load_part(into.max + r0, rows), new = v_load_part(from.max + r0, rows), top = v_max(old, new);
        const vec shift = v_max(v_set1(-FLT_MAX), top); // two times -Inf: 0 and not NaN
        const vec old_factor = v_exp2(v_sub(old, shift)), new_factor = v_exp2(v_sub(new, shift));
        float a[CPU_LANES], b[CPU_LANES];
        v_store(a, old_factor);
        v_store(b, new_factor);
        const vec sum = v_fma(v_load_part(into.sum + r0, rows), old_factor, v_mul(v_load_part(from.sum + r0, rows), new_factor));
        v_store_part(into.sum + r0, sum, rows);
        v_store_part(into.max + r0, top, rows);
        for (int32_t r = 0; r < rows; r++) {
            float *out = into.out + (size_t)(r0 + r) * padded;
            const float *part = from.out + (size_t)(r0 + r) * padded;
            const vec x = v_set1(a[r]), y = v_set1(b[r]);
            for (int32_t i = 0; i < padded; i += CPU_LANES) v_store(out + i, v_fma(v_load(out + i), x, v_mul(v_load(part + i), y)));
        }
    }
}
