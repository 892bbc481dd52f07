// Attention over one partition for one instruction set: the text of attend_scalar.c, attend_avx2.c, attend_avx512vnni.c.
//
// The including file sets CPU_LANES and CPU_ATTEND_TABLE. A score is one sum over d in ascending order; a softmax sum
// keeps one accumulator per position modulo CPU_LANES; a weighted sum runs over the row's visible positions in ascending
// order. How many rows share a register tile, and whether K and V are converted once for the tile or while they are
// read, changes none of that, so a row's bits are its own. Positions that a row does not see are never multiplied, not
// even by zero.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attend.h"
#include "kernels/cpu/lanes.h"

#include <math.h>

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
#define WIDE_ROWS 9 // from this many rows K and V are converted to f32 once for all of them

CPU_INLINE vec load_at(const bool f16, const void *p, size_t i) {
    return f16 ? v_load_f16((const uint16_t *)p + i) : v_load((const float *)p + i);
}

// scores[r, 16 b + i] = q[r] . key i of block b, for R rows and NB adjacent blocks. q [R, stride], keys [NB][head_dim, 16].
// soon [NB] or NULL: as many bytes of these as keys are read are fetched into the cache on the way.
CPU_INLINE void score_tile(const int R, const int NB, const bool f16, const float *q, int32_t stride,
                           const void *const *keys, int32_t head_dim, const uint8_t *const *soon, float *scores) {
    vec sum[TILE_ROWS][TILE_BLOCKS * BLOCK_VECS];
    CPU_UNROLL for (int r = 0; r < R; r++) {
        CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) sum[r][v] = v_zero();
    }
    for (int32_t d = 0; d < head_dim; d++) {
        vec key[TILE_BLOCKS * BLOCK_VECS];
        if (soon) {
            __builtin_prefetch(soon[d % NB] + (size_t)(d / NB) * NB * (f16 ? 32 : 64), 0, 2);
        }
        CPU_UNROLL for (int v = 0; v < NB * BLOCK_VECS; v++) {
            key[v] = load_at(f16, keys[v / BLOCK_VECS], (size_t)d * WTL_KV_BLOCK + v % BLOCK_VECS * CPU_LANES);
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

CPU_INLINE void score_rows(const int NB, const bool f16, int R, const float *q, int32_t stride, const void *const *keys,
                           int32_t head_dim, const uint8_t *const *soon, float *scores) {
    switch (R) {
    case 1: score_tile(1, NB, f16, q, stride, keys, head_dim, soon, scores); break;
    case 2: score_tile(2, NB, f16, q, stride, keys, head_dim, soon, scores); break;
#if TILE_ROWS > 2
    case 3: score_tile(3, NB, f16, q, stride, keys, head_dim, soon, scores); break;
    case 4: score_tile(4, NB, f16, q, stride, keys, head_dim, soon, scores); break;
    case 5: score_tile(5, NB, f16, q, stride, keys, head_dim, soon, scores); break;
    default: score_tile(6, NB, f16, q, stride, keys, head_dim, soon, scores); break;
#endif
    }
}

static void score_rows_dispatch(int NB, bool f16, int R, const float *q, int32_t stride, const void *const *keys,
                                int32_t head_dim, const uint8_t *const *soon, float *scores) {
#if TILE_BLOCKS == 2
    if (NB == 2) {
        if (f16) score_rows(2, true, R, q, stride, keys, head_dim, soon, scores);
        else score_rows(2, false, R, q, stride, keys, head_dim, soon, scores);
        return;
    }
#endif
    (void)NB;
    if (f16) score_rows(1, true, R, q, stride, keys, head_dim, soon, scores);
    else score_rows(1, false, R, q, stride, keys, head_dim, soon, scores);
}

// What a few rows want next while they score blocks b .. b + nb - 1: the following keys, at the end the first values.
static const uint8_t *wanted_soon(const cpu_attend_tile *t, int32_t first_block, int32_t b) {
    if (b < CPU_ATTEND_BLOCKS && t->block[b]) return t->block[b];
    return t->block[first_block] ? t->block[first_block] + t->key_bytes : NULL;
}

// F16 keys of a block as f32, in the tile's scratch.
static const float *widen_keys(const cpu_attend_tile *t, const void *keys, int slot) {
    size_t n = (size_t)t->head_dim * WTL_KV_BLOCK;
    float *copy = t->keys + n * slot;
    for (size_t i = 0; i < n; i += CPU_LANES) v_store(copy + i, v_load_f16((const uint16_t *)keys + i));
    return copy;
}

// Scores of every row that looks into blocks b .. b + nb - 1; a block without memory gives -Inf (and comes alone).
static void score_blocks(const cpu_attend_tile *t, int32_t first_block, int32_t b, int nb) {
    int32_t from = b * WTL_KV_BLOCK, to = from + nb * WTL_KV_BLOCK;
    bool wide = t->n_rows >= WIDE_ROWS, f16 = t->f16 && !wide;
    const void *keys[TILE_BLOCKS];
    const uint8_t *soon[TILE_BLOCKS];
    for (int i = 0; i < nb; i++) {
        keys[i] = t->block[b + i];
        if (t->f16 && wide && keys[i]) keys[i] = widen_keys(t, keys[i], i);
        soon[i] = wide ? NULL : wanted_soon(t, first_block, b + nb + i);
    }
    bool fetch = soon[0] && soon[nb - 1];
    for (int32_t r = 0; r < t->n_rows; r += TILE_ROWS) {
        int rows = t->n_rows - r < TILE_ROWS ? t->n_rows - r : TILE_ROWS;
        if (t->end[r + rows - 1] <= from || t->first[r] >= to) continue;
        float *scores = t->scores + (size_t)r * CPU_ATTEND_PART + from;
        if (keys[0]) {
            score_rows_dispatch(nb, f16, rows, t->q + (size_t)r * t->padded, t->padded, keys, t->head_dim,
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
    const void *block[CPU_ATTEND_BLOCKS]; // NULL: no such positions
    int32_t stride;                       // elements between positions
    bool f16;
} value_view;

// out[r, i] += sum over lo <= p < hi of weights[r, p] v[p, at + i], for R rows and i < NV * CPU_LANES. out [R, stride].
CPU_INLINE void weigh_tile(const int R, const int NV, const bool f16, const value_view *values, int32_t at,
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
                value[v] = load_at(f16, values->block[b], (size_t)(lo % WTL_KV_BLOCK) * values->stride + at + v * CPU_LANES);
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

CPU_INLINE void weigh_rows(const int NV, const bool f16, int R, const value_view *values, int32_t at, const float *weights,
                           int32_t lo, int32_t hi, float *out, int32_t stride) {
    switch (R) {
    case 1: weigh_tile(1, NV, f16, values, at, weights, lo, hi, out, stride); break;
    case 2: weigh_tile(2, NV, f16, values, at, weights, lo, hi, out, stride); break;
#if TILE_ROWS > 2
    case 3: weigh_tile(3, NV, f16, values, at, weights, lo, hi, out, stride); break;
    case 4: weigh_tile(4, NV, f16, values, at, weights, lo, hi, out, stride); break;
    case 5: weigh_tile(5, NV, f16, values, at, weights, lo, hi, out, stride); break;
    default: weigh_tile(6, NV, f16, values, at, weights, lo, hi, out, stride); break;
#endif
    }
}

static void weigh_full(int R, const value_view *values, int32_t at, const float *weights, int32_t lo, int32_t hi,
                       float *out, int32_t stride) {
    if (values->f16) weigh_rows(TILE_VECS, true, R, values, at, weights, lo, hi, out, stride);
    else weigh_rows(TILE_VECS, false, R, values, at, weights, lo, hi, out, stride);
}

static void weigh_rest(int R, const value_view *values, int32_t at, const float *weights, int32_t lo, int32_t hi,
                       float *out, int32_t stride) {
    if (values->f16) weigh_rows(1, true, R, values, at, weights, lo, hi, out, stride);
    else weigh_rows(1, false, R, values, at, weights, lo, hi, out, stride);
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
    size_t part_bytes = (size_t)t->head_dim * WTL_KV_BLOCK * (t->f16 ? 2 : 4);
    for (int32_t b = b0; b < b1; b++) {
        const uint8_t *soon = b + 2 < b1 ? values->block[b + 2] : t->next[b1 - 1 - b];
        for (size_t i = 0; soon && i < part_bytes; i += 64) __builtin_prefetch(soon + i, 0, 2);
        weigh_all_rows(t, values, b * WTL_KV_BLOCK, (b + 1) * WTL_KV_BLOCK, 0, t->padded);
    }
}

// Many rows: a chunk of dimensions at a time, converted once.
static void weigh_many(const cpu_attend_tile *t, const value_view *values, int32_t b0, int32_t b1) {
    for (int32_t d = 0; d < t->padded; d += CPU_ATTEND_CHUNK) {
        int32_t dims = t->padded - d < CPU_ATTEND_CHUNK ? t->padded - d : CPU_ATTEND_CHUNK;
        value_view copy = {.stride = CPU_ATTEND_CHUNK, .f16 = false};
        for (int32_t b = b0; b < b1; b++) {
            if (!values->block[b]) continue;
            float *to = t->values + (size_t)b * WTL_KV_BLOCK * CPU_ATTEND_CHUNK;
            copy.block[b] = to;
            for (int32_t p = 0; p < WTL_KV_BLOCK; p++)
                for (int32_t i = 0; i < dims; i += CPU_LANES)
                    v_store(to + p * CPU_ATTEND_CHUNK + i, load_at(t->f16, values->block[b], (size_t)p * t->padded + d + i));
        }
        weigh_all_rows(t, &copy, b0 * WTL_KV_BLOCK, b1 * WTL_KV_BLOCK, d, dims);
    }
}

static void weigh_part(const cpu_attend_tile *t, int32_t b0, int32_t b1) {
    value_view values = {.stride = t->padded, .f16 = t->f16};
    for (int32_t b = b0; b < b1; b++) values.block[b] = t->block[b] ? t->block[b] + t->key_bytes : NULL;
    if (t->n_rows < WIDE_ROWS) weigh_few(t, &values, b0, b1);
    else weigh_many(t, &values, b0, b1);
}

static void attend_part(const cpu_attend_tile *t) {
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

static void attend_scale(const float *from, float scale, float *to, int32_t n, int32_t padded) {
    vec s = v_set1(scale);
    for (int32_t i = 0; i < padded; i += CPU_LANES) {
        vec x = n - i >= CPU_LANES ? v_load(from + i) : n > i ? v_load_part(from + i, n - i) : v_zero();
        v_store(to + i, v_mul(x, s));
    }
}

// Both sides are brought to the larger maximum. A side with maximum -Inf has sum and weights 0 and adds nothing.
static void attend_merge(cpu_attend_state into, float max, float sum, const float *out, int32_t padded) {
    float top = max > *into.max ? max : *into.max, shift = top == -INFINITY ? 0.0f : top, factor[CPU_LANES];
    v_store(factor, v_exp(v_set1(*into.max - shift)));
    float old_factor = factor[0];
    v_store(factor, v_exp(v_set1(max - shift)));
    float new_factor = factor[0];
    *into.max = top;
    *into.sum = *into.sum * old_factor + sum * new_factor;
    vec a = v_set1(old_factor), b = v_set1(new_factor);
    for (int32_t i = 0; i < padded; i += CPU_LANES)
        v_store(into.out + i, v_fma(v_load(into.out + i), a, v_mul(v_load(out + i), b)));
}

static void attend_finish(cpu_attend_state from, float *out, int32_t n) {
    vec sum = v_set1(*from.sum);
    int32_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) v_store(out + i, v_div(v_load(from.out + i), sum));
    if (i < n) v_store_part(out + i, v_div(v_load(from.out + i), sum), n - i);
}

const cpu_attend_kernels CPU_ATTEND_TABLE = {
    .scale = attend_scale, .part = attend_part, .merge = attend_merge, .finish = attend_finish,
};
