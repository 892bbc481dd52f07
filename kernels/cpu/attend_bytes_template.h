// Attention over one partition of a Q8_0 cache for one instruction set: a part of attend_<isa>.c, after the fixed-point one.
//
// Queries are turned (turn.h) and become bytes times a step per 32 dimensions, like keys: each 32 make an exact sum of
// integers, and a score adds these times both steps in ascending order. Weighted sums are turned back at the end. Softmax and whole-numbered weights are those of the fixed-point kernel; the
// weights are scaled, as integers, to the step that 32 dimensions of a position's values have, and weighted sums are exact.
// A byte times a weight of 16 bits is multiplied as a pair of int16. So here too which rows share a tile changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/turn.h"

// Register tiles: rows x vectors, of keys with a sum of integers and one of floats each, of values with a sum of integers.
#define GROUP_QUADS (CPU_BYTES_GROUP / 4)
#if CPU_LANES == 16
#define KEY_VECS_MAX 4
#define KEY_VECS(R) ((R) > 3 ? 2 : 4)
#define VALUE_COLUMNS 2
#else
#define KEY_VECS_MAX 1
#define KEY_VECS(R) 1
#define VALUE_COLUMNS 1
#endif
#define VALUE_VECS_MAX (VALUE_COLUMNS * COLUMN_VECS)

// A query in a row of the tile's q [padded f32]: steps, what undoes the 128 that keys are stored with, numbers.
typedef struct bytes_row {
    float *steps;          // [groups]
    int32_t *starts;       // [groups] -128 * sum of a group's numbers
    iquad_number *numbers; // [quads, 4]
} bytes_row;

static inline bytes_row bytes_row_at(const cpu_attend_tile *t, int32_t row) {
    float *q = t->q + (size_t)row * t->padded;
    const int32_t groups = cpu_kv_groups(t->head_dim);
    return (bytes_row){q, (int32_t *)(void *)(q + groups), (iquad_number *)(void *)(q + 2 * groups)};
}

// The scale of a row takes in log2 e, so that exponents are of base 2.
static void bytes_query(const cpu_attend_tile *t, int32_t row, const float *q, float scale) {
    const bytes_row to = bytes_row_at(t, row);
    for (int32_t g = 0, d = 0; d < t->head_dim; g++, d += CPU_BYTES_GROUP) {
        const int32_t n = t->head_dim - d < CPU_BYTES_GROUP ? t->head_dim - d : CPU_BYTES_GROUP;
        float turned[CPU_BYTES_GROUP];
        if (n == CPU_BYTES_GROUP) turn(q + d, INFINITY, turned);
        const float *x = n == CPU_BYTES_GROUP ? turned : q + d, step = fixed_byte_step(x, n);
        const vec per_step = v_set1(fixed_per_step(step));
        ivec sum = i_zero();
        for (int32_t i = 0; i < n; i += CPU_LANES) {
            const ivec whole = i_round(v_mul(fixed_load(x, i, n, INFINITY), per_step));
            iq_store(to.numbers + d + i, whole);
            sum = i_add(sum, whole);
        }
        to.steps[g] = n == CPU_BYTES_GROUP ? step * (1.0f / TURN_WIDTH) : step;
        to.starts[g] = step > 0.0f ? (int32_t)v_sum(v_from_int(sum)) * -128 : 0;
    }
    t->q_scale[row] = scale * 1.44269504f;
}

// Products of R queries from `row` on with the keys in vectors v0 .. v0 + NV - 1 of the partition.
CPU_INLINE void score_bytes(const int R, const int NV, const cpu_attend_tile *t, int32_t row, int32_t v0, const uint8_t *const *ahead) {
    const int32_t quads = cpu_kv_quads(t->head_dim), b0 = v0 / COLUMN_VECS;
    const size_t inside = (size_t)(v0 % COLUMN_VECS) * CPU_LANES; // a tile is either whole blocks or a part of one
    bytes_row q[TILE_ROWS_MAX];
    vec total[TILE_ROWS_MAX * KEY_VECS_MAX];
    CPU_UNROLL for (int r = 0; r < R; r++) q[r] = bytes_row_at(t, row + r);
    CPU_UNROLL for (int i = 0; i < R * NV; i++) total[i] = v_zero();
    for (int32_t quad = 0, g = 0; quad < quads; g++) {
        const int32_t stop = quad + GROUP_QUADS < quads ? quad + GROUP_QUADS : quads;
        ivec sum[TILE_ROWS_MAX * KEY_VECS_MAX];
        CPU_UNROLL for (int i = 0; i < R * NV; i++) sum[i] = i_set1(q[i / NV].starts[g]);
        for (; quad < stop; quad++) {
            iquad key[KEY_VECS_MAX];
            CPU_UNROLL for (int v = 0; v < NV; v++) {
                key[v] = iq_load(t->block[b0 + v] + (size_t)quad * WTL_KV_BLOCK * 4 + inside * 4);
                if (ahead) __builtin_prefetch(ahead[v] + (size_t)quad * 64, 0, 2);
            }
            CPU_UNROLL for (int r = 0; r < R; r++) {
                const iquad x = iq_set(q[r].numbers + quad * 4);
                CPU_UNROLL for (int v = 0; v < NV; v++) sum[r * NV + v] = iq_dot(sum[r * NV + v], key[v], x);
            }
        }
        CPU_UNROLL for (int v = 0; v < NV; v++) {
            const vec step = v_load_f16((const uint16_t *)(const void *)(t->block[b0 + v] + t->layout.key_scales) + g * WTL_KV_BLOCK + inside);
            CPU_UNROLL for (int r = 0; r < R; r++)
                total[r * NV + v] = v_fma(v_from_int(sum[r * NV + v]), v_mul(step, v_set1(q[r].steps[g])), total[r * NV + v]);
        }
    }
    CPU_UNROLL for (int i = 0; i < R * NV; i++) v_store(t->scores + i / NV * CPU_ATTEND_PART + (v0 + i % NV) * CPU_LANES, total[i]);
}

static inline int16_t *bytes_weights(const cpu_attend_tile *t) { return (int16_t *)(void *)t->values; } // [rows, CPU_ATTEND_PART], then scaled ones

// Weights of R rows for the values of group g.
CPU_INLINE void scale_weights(const int R, const cpu_attend_tile *t, int32_t b0, int32_t b1, int32_t g) {
    const int16_t *from = bytes_weights(t);
    int16_t *to = bytes_weights(t) + TILE_ROWS_MAX * CPU_ATTEND_PART;
    for (int32_t b = b0; b < b1; b++) {
        const int16_t *ratios = (const int16_t *)(const void *)(t->block[b] + t->layout.value_ratios) + g * WTL_KV_BLOCK;
        CPU_UNROLL for (int r = 0; r < R; r++)
            i16_scale_16(from + r * CPU_ATTEND_PART + b * WTL_KV_BLOCK, ratios, to + r * CPU_ATTEND_PART + b * WTL_KV_BLOCK);
    }
}

// Weighted sums of R rows from `row` on over blocks b0 .. b1 - 1 in dimensions 16 c .. 16 (c + NC) - 1 of one group. unit [R].
CPU_INLINE void weigh_bytes(const int R, const int NC, const cpu_attend_tile *t, int32_t row, int32_t b0, int32_t b1, int32_t c,
                            const float *unit, const uint8_t *const *ahead) {
    const int NV = NC * COLUMN_VECS;
    const int16_t *weights = bytes_weights(t) + TILE_ROWS_MAX * CPU_ATTEND_PART;
    const size_t group = (size_t)(c / 2) * CPU_BYTES_VALUES, inside = (size_t)(c % 2) * 32;
    ivec sum[TILE_ROWS_MAX * VALUE_VECS_MAX];
    CPU_UNROLL for (int i = 0; i < R * NV; i++) sum[i] = i_zero();
    for (int32_t b = b0; b < b1; b++) {
        const int8_t *values = (const int8_t *)t->block[b] + t->layout.values + group + inside;
        for (int32_t p = 0; p < WTL_KV_BLOCK; p += 2) {
            ivec value[VALUE_VECS_MAX];
            if (ahead) __builtin_prefetch(ahead[b] + group + (size_t)p * CPU_BYTES_GROUP, 0, 2);
            CPU_UNROLL for (int v = 0; v < NV; v++) value[v] = i_load_i8(values + p * CPU_BYTES_GROUP + v * 2 * CPU_LANES);
            CPU_UNROLL for (int r = 0; r < R; r++) {
                const ivec x = i_pair(weights + r * CPU_ATTEND_PART + b * WTL_KV_BLOCK + p);
                CPU_UNROLL for (int v = 0; v < NV; v++) sum[r * NV + v] = i_dot(sum[r * NV + v], x, value[v]);
            }
        }
    }
    CPU_UNROLL for (int i = 0; i < R * NV; i++)
        v_store(t->out + (size_t)(row + i / NV) * t->padded + c * 16 + i % NV * CPU_LANES, v_mul(v_from_int(sum[i]), v_set1(unit[i / NV])));
}

// Further ahead than with F16, whose blocks are twice as long: with keys the same block's values, with values the next partition's keys.
static void find_far_ahead(const cpu_attend_tile *t, const row_group *g, read_ahead *out) {
    for (int32_t b = g->b0; b < g->b1; b++) {
        out->keys[b] = t->block[b] + t->layout.values;
        out->values[b] = t->next[b] ? t->next[b] : out->keys[b];
    }
}

// R rows from `row` on through the partition. The sum of weights needs no limit: 256 * 32767 * 127 fits into int32.
CPU_INLINE void bytes_group(const int R, const cpu_attend_tile *t, int32_t row) {
    const row_group g = find_group(t, row, R);
    const int NV = KEY_VECS(R);
    const bool fetch = t->n_rows < TILE_ROWS_MAX;
    float unit[TILE_ROWS_MAX];
    read_ahead ahead;
    if (fetch) find_far_ahead(t, &g, &ahead);
    int32_t v = g.b0 * COLUMN_VECS, end = g.b1 * COLUMN_VECS, c = 0, n_columns = t->padded / 16;
    for (; v + NV <= end; v += NV) score_bytes(R, NV, t, row, v, fetch ? ahead.keys + v / COLUMN_VECS : NULL);
    for (; v < end; v++) score_bytes(R, 1, t, row, v, fetch ? ahead.keys + v / COLUMN_VECS : NULL);
    soften_group(t, &g, 0.0f, unit);
    for (; c < n_columns; c += VALUE_COLUMNS) {
        if (c % 2 == 0) scale_weights(R, t, g.b0, g.b1, c / 2);
        const uint8_t *const *values_ahead = fetch && c % 2 == 0 ? ahead.values : NULL;
        if (c + VALUE_COLUMNS <= n_columns) weigh_bytes(R, VALUE_COLUMNS, t, row, g.b0, g.b1, c, unit, values_ahead);
        else weigh_bytes(R, 1, t, row, g.b0, g.b1, c, unit, values_ahead);
    }
}

static void bytes_part(const cpu_attend_tile *t) {
    int32_t row = 0, n = t->n_rows;
#if CPU_LANES >= 8
    for (; n - row >= 6; row += 6) bytes_group(6, t, row);
    for (; n - row >= 4; row += 4) bytes_group(4, t, row);
    for (; n - row >= 3; row += 3) bytes_group(3, t, row);
#endif
    for (; n - row >= 2; row += 2) bytes_group(2, t, row);
    for (; n - row >= 1; row++) bytes_group(1, t, row);
}

static void bytes_finish(const float *sum, const float *from, float *out, int32_t n) {
    const float factor = 1.0f / *sum, turned_factor = factor * (1.0f / TURN_WIDTH);
    int32_t i = 0;
    for (; i + TURN_WIDTH <= n; i += TURN_WIDTH) {
        turn(from + i, INFINITY, out + i);
        for (int32_t j = i; j < i + TURN_WIDTH; j += CPU_LANES) v_store(out + j, v_mul(v_load(out + j), v_set1(turned_factor)));
    }
    attend_finish(sum, from + i, out + i, n - i);
}
