// Attention over one partition of an F32 cache for one instruction set: a part of attend_<isa>.c, which sets CPU_LANES.
//
// A score is one sum over d in ascending order; a softmax sum keeps one accumulator per position modulo CPU_LANES; a
// weighted sum runs over the row's visible positions in ascending order. How many rows share a register tile changes none
// of that, so a row's bits are its own. Positions that a row does not see are never multiplied, not even by zero.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/cpu/attend.h"
#include "kernels/cpu/lanes.h"

// Register tiles: rows x (vectors of keys | vectors of dimensions) accumulators, plus one operand each.
#if CPU_LANES == 16
#define TILE_ROWS 6
#define TILE_BLOCKS 2
#define TILE_VECS 4
#elif CPU_LANES == 8
#define TILE_ROWS 6
#define TILE_BLOCKS 1
#define TILE_VECS 2
#else
#define TILE_ROWS 2
#define TILE_BLOCKS 1
#define TILE_VECS 4
#endif
#define BLOCK_VECS (WTL_KV_BLOCK / CPU_LANES)
#define WIDE_ROWS 9 // from this many rows V is copied once for all of them, a chunk of dimensions at a time

// scores[r, 16 b + i] = q[r] . key i of block b, for R rows and NB adjacent blocks. q [R, stride], keys [NB][head_dim, 16].
// soon [NB] or NULL: as many bytes of these as keys are read are fetched into the cache on the way.
CPU_INLINE void score_tile(const int R, const int NB, const float *q, int32_t stride,
                           const float *const *keys, int32_t head_dim, const uint8_t *const *soon, float *scores) {
    vec sum[TILE_ROWS][TILE_BLOCKS * BLOCK_VECS];
    CPU_UNROLL for (int r = 0; r < R; r++) {
        CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) sum[r][v] = v_zero();
    }
    for (int32_t d = 0; d < head_dim; d++) {
        vec key[TILE_BLOCKS * BLOCK_VECS];
        if (soon) {
            __builtin_prefetch(soon[d % NB] + (size_t)(d / NB) * NB * 64, 0, 2);
        }
        CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) {
            key[v] = v_load(keys[v / BLOCK_VECS] + (size_t)d * WTL_KV_BLOCK + v % BLOCK_VECS * CPU_LANES);
        }
        CPU_UNROLL for (int r = 0; r < R; r++) {
            vec x = v_set1(q[(size_t)r * stride + d]);
            CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) sum[r][v] = v_fma(x, key[v], sum[r][v]);
        }
    }
    CPU_UNROLL for (int r = 0; r < R; r++) {
        CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) v_store(scores + r * CPU_ATTEND_PART + v * CPU_LANES, sum[r][v]);
    }
}

CPU_INLINE void score_rows(const int NB, int R, const float *q, int32_t stride, const float *const *keys,
                           int32_t head_dim, const uint8_t *const *soon, float *scores) {
    switch (R) {
    case 1: score_tile(1, NB, q, stride, keys, head_dim, soon, scores); break;
    case 2: score_tile(2, NB, q, stride, keys, head_dim, soon, scores); break;
#if TILE_ROWS > 2
    case 3: score_tile(3, NB, q, stride, keys, head_dim, soon, scores); break;
    case 4: score_tile(4, NB, q, stride, keys, head_dim, soon, scores); break;
    case 5: score_tile(5, NB, q, stride, keys, head_dim, soon, scores); break;
    default: score_tile(6, NB, q, stride, keys, head_dim, soon, scores); break;
#endif
    }
}

static void score_rows_dispatch(int NB, int R, const float *q, int32_t stride, const float *const *keys,
                                int32_t head_dim, const uint8_t *const *soon, float *scores) {
#if TILE_BLOCKS == 2
    if (NB == 2) {
        score_rows(2, R, q, stride, keys, head_dim, soon, scores);
        return;
    }
#endif
    (void)NB;
    score_rows(1, R, q, stride, keys, head_dim, soon, scores);
}

// What a few rows want next while they score blocks b .. b + nb - 1: the following keys, at the end the first values.
static const uint8_t *wanted_soon(const cpu_attend_tile *t, int32_t first_block, int32_t b) {
    if (b < CPU_ATTEND_BLOCKS && t->block[b]) return t->block[b];
    return t->block[first_block] ? t->block[first_block] + t->layout.values : NULL;
}

// Scores of every row that looks into blocks b .. b + nb - 1; a block without memory gives -Inf (and comes alone).
static void score_blocks(const cpu_attend_tile *t, int32_t first_block, int32_t b, int nb) {
    int32_t from = b * WTL_KV_BLOCK, to = from + nb * WTL_KV_BLOCK;
    const float *keys[TILE_BLOCKS];
    const uint8_t *soon[TILE_BLOCKS];
    for (int i = 0; i < nb; i++) {
        keys[i] = (const float *)(const void *)t->block[b + i];
        soon[i] = t->n_rows >= WIDE_ROWS ? NULL : wanted_soon(t, first_block, b + nb + i);
    }
    bool fetch = soon[0] && soon[nb - 1];
    for (int32_t r = 0; r < t->n_rows; r += TILE_ROWS) {
        int rows = t->n_rows - r < TILE_ROWS ? t->n_rows - r : TILE_ROWS;
        if (t->end[r + rows - 1] <= from || t->first[r] >= to) continue;
        float *scores = t->scores + (size_t)r * CPU_ATTEND_PART + from;
        if (keys[0]) {
            score_rows_dispatch(nb, rows, t->q + (size_t)r * t->padded, t->padded, keys, t->head_dim,
                                fetch ? soon : NULL, scores);
            continue;
        }
        for (int i = 0; i < rows; i++)
            for (int p = 0; p < WTL_KV_BLOCK; p++) scores[i * CPU_ATTEND_PART + p] = -INFINITY;
    }
}

// scores[p] = exp(scores[p] - max) for the visible p, 0 for the others in the same vectors.
// -Inf everywhere counts as maximum 0: weights and sum come out 0, and a merge with that changes nothing.
static void soften_row(float *scores, int32_t first, int32_t end, float *max, float *sum) {
    int32_t from = first / CPU_LANES * CPU_LANES;
    vec top = v_set1(-INFINITY), total = v_zero();
    for (int32_t p = from; p < end; p += CPU_LANES) {
        vec s = v_if_between(v_load(scores + p), first - p, end - p, v_set1(-INFINITY));
        v_store(scores + p, s);
        top = v_max(s, top);
    }
    *max = v_top(top);
    vec shift = v_set1(*max == -INFINITY ? 0.0f : *max);
    for (int32_t p = from; p < end; p += CPU_LANES) {
        vec e = v_exp(v_sub(v_load(scores + p), shift));
        v_store(scores + p, e);
        total = v_add(total, e);
    }
    *sum = v_sum(total);
}

// Values of a partition as the weighted sums read them: position p, chunk of dimensions.
typedef struct value_view {
    const float *block[CPU_ATTEND_BLOCKS]; // NULL: no such positions
    int32_t stride;                        // elements between positions
} value_view;

// out[r, i] += sum over lo <= p < hi of weights[r, p] v[p, at + i], for R rows and i < NV * CPU_LANES. out [R, stride].
CPU_INLINE void weigh_tile(const int R, const int NV, const value_view *values, int32_t at,
                           const float *weights, int32_t lo, int32_t hi, float *out, int32_t stride) {
    vec sum[TILE_ROWS][TILE_VECS];
    CPU_UNROLL for (int r = 0; r < R; r++) {
        CPU_UNROLL for (int v = 0; v < NV; v++) sum[r][v] = v_load(out + (size_t)r * stride + v * CPU_LANES);
    }
    while (lo < hi) {
        int32_t b = lo / WTL_KV_BLOCK, stop = (b + 1) * WTL_KV_BLOCK < hi ? (b + 1) * WTL_KV_BLOCK : hi;
        if (!values->block[b]) lo = stop;
        for (; lo < stop; lo++) {
            vec value[TILE_VECS];
            CPU_UNROLL for (int v = 0; v < NV; v++) {
                value[v] = v_load(values->block[b] + (size_t)(lo % WTL_KV_BLOCK) * values->stride + at + v * CPU_LANES);
            }
            CPU_UNROLL for (int r = 0; r < R; r++) {
                vec w = v_set1(weights[r * CPU_ATTEND_PART + lo]);
                CPU_UNROLL for (int v = 0; v < NV; v++) sum[r][v] = v_fma(w, value[v], sum[r][v]);
            }
        }
    }
    CPU_UNROLL for (int r = 0; r < R; r++) {
        CPU_UNROLL for (int v = 0; v < NV; v++) v_store(out + (size_t)r * stride + v * CPU_LANES, sum[r][v]);
    }
}

CPU_INLINE void weigh_rows(const int NV, int R, const value_view *values, int32_t at, const float *weights,
                           int32_t lo, int32_t hi, float *out, int32_t stride) {
    switch (R) {
    case 1: weigh_tile(1, NV, values, at, weights, lo, hi, out, stride); break;
    case 2: weigh_tile(2, NV, values, at, weights, lo, hi, out, stride); break;
#if TILE_ROWS > 2
    case 3: weigh_tile(3, NV, values, at, weights, lo, hi, out, stride); break;
    case 4: weigh_tile(4, NV, values, at, weights, lo, hi, out, stride); break;
    case 5: weigh_tile(5, NV, values, at, weights, lo, hi, out, stride); break;
    default: weigh_tile(6, NV, values, at, weights, lo, hi, out, stride); break;
#endif
    }
}

static void weigh_full(int R, const value_view *values, int32_t at, const float *weights, int32_t lo, int32_t hi,
                       float *out, int32_t stride) {
    weigh_rows(TILE_VECS, R, values, at, weights, lo, hi, out, stride);
}

static void weigh_rest(int R, const value_view *values, int32_t at, const float *weights, int32_t lo, int32_t hi,
                       float *out, int32_t stride) {
    weigh_rows(1, R, values, at, weights, lo, hi, out, stride);
}

// Dimensions of the view that land in out from d on: whole tiles of TILE_VECS vectors, then single vectors.
static void weigh_dims(const cpu_attend_tile *t, const value_view *values, int32_t r, int R, int32_t lo, int32_t hi,
                       int32_t d, int32_t dims) {
    if (lo >= hi) return;
    const float *weights = t->scores + (size_t)r * CPU_ATTEND_PART;
    float *out = t->out + (size_t)r * t->padded + d;
    int32_t i = 0;
    for (; i + TILE_VECS * CPU_LANES <= dims; i += TILE_VECS * CPU_LANES)
        weigh_full(R, values, i, weights, lo, hi, out + i, t->padded);
    for (; i < dims; i += CPU_LANES) weigh_rest(R, values, i, weights, lo, hi, out + i, t->padded);
}

// Positions lo <= p < hi for rows r .. r + R - 1: together where all of them look, else one row at a time.
static void weigh_range(const cpu_attend_tile *t, const value_view *values, int32_t r, int R, int32_t lo, int32_t hi,
                        int32_t d, int32_t dims) {
    int32_t all_lo = t->first[r + R - 1] > lo ? t->first[r + R - 1] : lo, all_hi = t->end[r] < hi ? t->end[r] : hi;
    if (all_lo > all_hi) all_hi = all_lo;
    for (int i = r; i < r + R; i++) {
        int32_t end = all_lo < t->end[i] ? all_lo : t->end[i];
        weigh_dims(t, values, i, 1, t->first[i] > lo ? t->first[i] : lo, end < hi ? end : hi, d, dims);
    }
    weigh_dims(t, values, r, R, all_lo, all_hi, d, dims);
    for (int i = r; i < r + R; i++) weigh_dims(t, values, i, 1, all_hi, t->end[i] < hi ? t->end[i] : hi, d, dims);
}

static void weigh_all_rows(const cpu_attend_tile *t, const value_view *values, int32_t lo, int32_t hi, int32_t d,
                           int32_t dims) {
    for (int32_t r = 0; r < t->n_rows; r += TILE_ROWS) {
        int R = t->n_rows - r < TILE_ROWS ? t->n_rows - r : TILE_ROWS;
        weigh_range(t, values, r, R, lo, hi, d, dims);
    }
}

// Few rows: block by block in memory order, values two blocks ahead fetched into the cache.
static void weigh_few(const cpu_attend_tile *t, const value_view *values, int32_t b0, int32_t b1) {
    size_t part_bytes = (size_t)t->head_dim * WTL_KV_BLOCK * sizeof(float);
    for (int32_t b = b0; b < b1; b++) {
        const uint8_t *soon = b + 2 < b1 ? (const uint8_t *)values->block[b + 2] : t->next[b1 - 1 - b];
        for (size_t i = 0; soon && i < part_bytes; i += 64) __builtin_prefetch(soon + i, 0, 2);
        weigh_all_rows(t, values, b * WTL_KV_BLOCK, (b + 1) * WTL_KV_BLOCK, 0, t->padded);
    }
}

// Many rows: a chunk of dimensions at a time, brought close together.
static void weigh_many(const cpu_attend_tile *t, const value_view *values, int32_t b0, int32_t b1) {
    for (int32_t d = 0; d < t->padded; d += CPU_ATTEND_CHUNK) {
        int32_t dims = t->padded - d < CPU_ATTEND_CHUNK ? t->padded - d : CPU_ATTEND_CHUNK;
        value_view copy = {.stride = CPU_ATTEND_CHUNK};
        for (int32_t b = b0; b < b1; b++) {
            if (!values->block[b]) continue;
            float *to = t->values + (size_t)b * WTL_KV_BLOCK * CPU_ATTEND_CHUNK;
            copy.block[b] = to;
            for (int32_t p = 0; p < WTL_KV_BLOCK; p++)
                for (int32_t i = 0; i < dims; i += CPU_LANES)
                    v_store(to + p * CPU_ATTEND_CHUNK + i, v_load(values->block[b] + (size_t)p * t->padded + d + i));
        }
        weigh_all_rows(t, &copy, b0 * WTL_KV_BLOCK, b1 * WTL_KV_BLOCK, d, dims);
    }
}

static void weigh_part(const cpu_attend_tile *t, int32_t b0, int32_t b1) {
    value_view values = {.stride = t->padded};
    for (int32_t b = b0; b < b1; b++) values.block[b] = t->block[b] ? (const float *)(const void *)(t->block[b] + t->layout.values) : NULL;
    if (t->n_rows < WIDE_ROWS) weigh_few(t, &values, b0, b1);
    else weigh_many(t, &values, b0, b1);
}

static void f32_part(const cpu_attend_tile *t) {
    int32_t lo = CPU_ATTEND_PART, hi = 0;
    for (int32_t r = 0; r < t->n_rows; r++) {
        t->max[r] = -INFINITY;
        t->sum[r] = 0.0f;
        for (int32_t i = 0; i < t->padded; i += CPU_LANES) v_store(t->out + (size_t)r * t->padded + i, v_zero());
        if (t->first[r] >= t->end[r]) continue;
        if (t->first[r] < lo) lo = t->first[r];
        if (t->end[r] > hi) hi = t->end[r];
    }
    if (lo >= hi) return;
    int32_t b0 = lo / WTL_KV_BLOCK, b1 = (hi + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK;
    for (int32_t b = b0, nb; b < b1; b += nb) {
        nb = TILE_BLOCKS == 2 && b + 1 < b1 && t->block[b] && t->block[b + 1] ? 2 : 1;
        score_blocks(t, b0, b, nb);
    }
    for (int32_t r = 0; r < t->n_rows; r++) {
        if (t->first[r] < t->end[r])
            soften_row(t->scores + (size_t)r * CPU_ATTEND_PART, t->first[r], t->end[r], &t->max[r], &t->sum[r]);
    }
    weigh_part(t, b0, b1);
}

static void f32_query(const cpu_attend_tile *t, int32_t row, const float *q, float scale) {
    vec s = v_set1(scale);
    float *to = t->q + (size_t)row * t->padded;
    for (int32_t i = 0, n = t->head_dim; i < t->padded; i += CPU_LANES) {
        vec x = n - i >= CPU_LANES ? v_load(q + i) : n > i ? v_load_part(q + i, n - i) : v_zero();
        v_store(to + i, v_mul(x, s));
    }
}

// Both sides are brought to the larger maximum. A side with maximum -Inf has sum and weights 0 and adds nothing.
static void f32_merge(cpu_attend_state into, cpu_attend_state from, int32_t n_rows, int32_t padded) {
    for (int32_t r = 0; r < n_rows; r++) {
        float max = from.max[r], top = max > into.max[r] ? max : into.max[r], shift = top == -INFINITY ? 0.0f : top;
        float *out = into.out + (size_t)r * padded, factor[CPU_LANES];
        v_store(factor, v_exp(v_set1(into.max[r] - shift)));
        float old_factor = factor[0];
        v_store(factor, v_exp(v_set1(max - shift)));
        float new_factor = factor[0];
        into.max[r] = top;
        into.sum[r] = into.sum[r] * old_factor + from.sum[r] * new_factor;
        vec a = v_set1(old_factor), b = v_set1(new_factor);
        for (int32_t i = 0; i < padded; i += CPU_LANES)
            v_store(out + i, v_fma(v_load(out + i), a, v_mul(v_load(from.out + (size_t)r * padded + i), b)));
    }
}

static void attend_finish(const float *sum, const float *from, float *out, int32_t n) {
    const vec factor = v_set1(1.0f / *sum);
    int32_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) v_store(out + i, v_mul(v_load(from + i), factor));
    if (i < n) v_store_part(out + i, v_mul(v_load(from + i), factor), n - i);
}
