// Row kernels for one instruction set: the text of vec_scalar.c, vec_avx2.c and vec_avx512vnni.c.
//
// The including file sets CPU_LANES and CPU_VEC_TABLE (the name of its cpu_vec_kernels). Every element depends on its own
// inputs and its place in the row alone, sums are taken in one fixed order; alignment and company change nothing.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attend.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/turn.h"

#include <math.h>
#include <string.h>

// x, weight, out [n]. Squares are summed in double: exact enough for any length, and no magnitude overflows.
static void row_rms_norm(const float *x, const float *weight, float eps, float *out, int32_t n) {
    vec_f64 sum[2] = {v_zero_f64(), v_zero_f64()};
    int32_t i = 0;
    for (; i + 2 * CPU_LANES <= n; i += 2 * CPU_LANES) {
        sum[0] = v_square_f64_at(x + i, sum[0]);
        sum[1] = v_square_f64_at(x + i + CPU_LANES, sum[1]);
    }
    for (; i < n; i += CPU_LANES)
        sum[0] = v_square_f64(n - i < CPU_LANES ? v_load_part(x + i, n - i) : v_load(x + i), sum[0]);
    double mean = (v_sum_f64(sum[0]) + v_sum_f64(sum[1])) / n;
    vec scale = v_set1((float)(1.0 / sqrt(mean + (double)eps)));
    for (i = 0; i + CPU_LANES <= n; i += CPU_LANES)
        v_store(out + i, v_mul(v_mul(v_load(x + i), scale), v_load(weight + i)));
    if (i < n) {
        vec last = v_mul(v_mul(v_load_part(x + i, n - i), scale), v_load_part(weight + i, n - i));
        v_store_part(out + i, last, n - i);
    }
}

// a, b, out [n]
static void row_add(const float *a, const float *b, float *out, int32_t n) {
    int32_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) v_store(out + i, v_add(v_load(a + i), v_load(b + i)));
    if (i < n) v_store_part(out + i, v_add(v_load_part(a + i, n - i), v_load_part(b + i, n - i)), n - i);
}

CPU_INLINE vec silu(vec x) { return v_times_sigmoid(x, x); }

// 0.5 x (1 + tanh u) = x / (1 + e^-2u) with u = sqrt(2 / pi) (x + 0.044715 x^3)
CPU_INLINE vec gelu_tanh(vec x) {
    vec cubic = v_fma(v_mul(x, x), v_set1(0.044715f), v_set1(1.0f));
    return v_times_sigmoid(x, v_mul(v_mul(x, v_set1(1.5957691216f)), cubic));
}

CPU_INLINE void row_glu_of(const bool gelu, const float *gate, const float *up, float *out, int32_t n) {
    int32_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) {
        vec g = v_load(gate + i);
        v_store(out + i, v_mul(gelu ? gelu_tanh(g) : silu(g), v_load(up + i)));
    }
    if (i < n) {
        vec g = v_load_part(gate + i, n - i);
        v_store_part(out + i, v_mul(gelu ? gelu_tanh(g) : silu(g), v_load_part(up + i, n - i)), n - i);
    }
}

// gate, up, out [n]
static void row_glu(const float *gate, const float *up, wtl_act act, float *out, int32_t n) {
    if (act == WTL_ACT_GELU_TANH) row_glu_of(true, gate, up, out, n);
    else row_glu_of(false, gate, up, out, n);
}

// pairs [n_columns]; out [n_columns, n_rows]
static void row_glu_panels(const float (*pairs)[2][16], int32_t n_columns, int32_t n_rows, wtl_act act, float *out, int32_t stride) {
    for (int32_t c = 0; c < n_columns; c++, out += stride) {
        if (act == WTL_ACT_GELU_TANH) row_glu_of(true, pairs[c][0], pairs[c][1], out, n_rows);
        else row_glu_of(false, pairs[c][0], pairs[c][1], out, n_rows);
    }
}

// x [n_heads, head_dim], cos_sin [n_rot]: pairs (i, i + n_rot/2)
static void row_rope_halves(float *x, int32_t n_heads, int32_t head_dim, const float *cos_sin, int32_t n_rot) {
    int32_t half = n_rot / 2;
    for (int32_t h = 0; h < n_heads; h++) {
        float *a = x + (size_t)h * head_dim, *b = a + half;
        int32_t i = 0;
        for (; i + CPU_LANES <= half; i += CPU_LANES) {
            vec c = v_load(cos_sin + i), s = v_load(cos_sin + half + i), xa = v_load(a + i), xb = v_load(b + i);
            v_store(a + i, v_sub(v_mul(xa, c), v_mul(xb, s)));
            v_store(b + i, v_add(v_mul(xb, c), v_mul(xa, s)));
        }
        for (; i < half; i++) {
            float c = cos_sin[i], s = cos_sin[half + i], xa = a[i], xb = b[i];
            a[i] = xa * c - xb * s;
            b[i] = xb * c + xa * s;
        }
    }
}

// x [n_heads, head_dim], cos_sin [n_rot]: pairs (2i, 2i+1)
static void row_rope_adjacent(float *x, int32_t n_heads, int32_t head_dim, const float *cos_sin, int32_t n_rot) {
    int32_t half = n_rot / 2, i = 0;
    for (; i + CPU_LANES / 2 <= half; i += CPU_LANES / 2) {
        vec c = v_load_twice(cos_sin + i), s = v_negate_even(v_load_twice(cos_sin + half + i));
        for (int32_t h = 0; h < n_heads; h++) {
            float *p = x + (size_t)h * head_dim + 2 * i;
            vec v = v_load(p);
            v_store(p, v_add(v_mul(v, c), v_mul(v_swap_pairs(v), s)));
        }
    }
    for (; i < half; i++) {
        float c = cos_sin[i], s = cos_sin[half + i];
        for (int32_t h = 0; h < n_heads; h++) {
            float *p = x + (size_t)h * head_dim + 2 * i, even = p[0], odd = p[1];
            p[0] = even * c - odd * s;
            p[1] = odd * c + even * s;
        }
    }
}

static void row_rope(float *x, int32_t n_heads, int32_t head_dim, const float *cos_sin, int32_t n_rot,
                     wtl_rope_style style) {
    if (style == WTL_ROPE_HALVES) row_rope_halves(x, n_heads, head_dim, cos_sin, n_rot);
    else row_rope_adjacent(x, n_heads, head_dim, cos_sin, n_rot);
}

#define F16_MAX 65504.0f // what is beyond is clipped, as in f16

// One head's k, v [head_dim] into slot `slot` of its part of a block; see attend.h.
static void head_store_fixed(const float *k, const float *v, int32_t head_dim, uint8_t *part, cpu_kv_layout layout, int32_t slot) {
    int16_t *keys = (int16_t *)(void *)part + slot * 2, *values = (int16_t *)(void *)(part + layout.values) + slot / 2 * 32;
    int16_t piece[CPU_LANES];
    const float key_step = fixed_step(k, head_dim, F16_MAX, CPU_FIXED_MAX, CPU_FIXED_NORM);
    const float value_step = fixed_step(v, head_dim, F16_MAX, CPU_FIXED_VALUE_MAX, INFINITY);
    const vec keys_per_step = v_set1(fixed_per_step(key_step)), values_per_step = v_set1(fixed_per_step(value_step));
    memcpy(part + layout.key_scales + (size_t)slot * sizeof(float), &key_step, sizeof key_step);
    memcpy(part + layout.value_scales + (size_t)slot * sizeof(float), &value_step, sizeof value_step);
    for (int32_t d = 0; d < head_dim; d += CPU_LANES) {
        int32_t n = head_dim - d < CPU_LANES ? head_dim - d : CPU_LANES;
        v_store_i16(piece, v_mul(fixed_load(k, d, head_dim, F16_MAX), keys_per_step));
        for (int32_t i = 0; i < n; i += 2) memcpy(keys + (size_t)(d + i) * WTL_KV_BLOCK, piece + i, 2 * sizeof piece[0]);
        v_store_i16_beside(values + (size_t)(d / 16) * 16 * WTL_KV_BLOCK + d % 16 * 2, slot % 2,
                           v_mul(fixed_load(v, d, head_dim, F16_MAX), values_per_step), n);
    }
}

// The smallest f16 that is at least x >= 0; NaN stays.
static uint16_t f16_at_least(float x) {
    const uint16_t h = wtl_f16_from_f32(x);
    return wtl_f32_from_f16(h) < x ? (uint16_t)(h + 1) : h;
}

// x [n] of n <= 32 as it is rounded to bytes: turned where it is a whole group.
static void bytes_turn(const float *x, int32_t n, float out[CPU_BYTES_GROUP]) {
    if (n == CPU_BYTES_GROUP) turn(x, F16_MAX, out);
    else for (int32_t i = 0; i < n; i += CPU_LANES) v_store(out + i, fixed_load(x, i, n, F16_MAX));
}

// x [n] of n <= 32 in whole numbers of step.
static void bytes_of(const float *x, int32_t n, float step, int16_t out[CPU_BYTES_GROUP]) {
    const vec per_step = v_set1(fixed_per_step(step));
    for (int32_t i = 0; i < n; i += CPU_LANES) v_store_i16(out + i, v_mul(v_load(x + i), per_step));
}

// keys [quads, 16 slots, 4] from the slot's first byte on, steps [groups, 16] from the slot's
static void head_store_keys(const float *k, int32_t head_dim, uint8_t *keys, uint8_t *steps) {
    float turned[CPU_BYTES_GROUP];
    int16_t piece[CPU_BYTES_GROUP] = {0};
    uint8_t quads[CPU_BYTES_GROUP];
    for (int32_t d = 0; d < head_dim; d += CPU_BYTES_GROUP, steps += WTL_KV_BLOCK * sizeof(uint16_t)) {
        const int32_t n = head_dim - d < CPU_BYTES_GROUP ? head_dim - d : CPU_BYTES_GROUP;
        bytes_turn(k + d, n, turned);
        const uint16_t step = f16_at_least(fixed_byte_step(turned, n));
        memcpy(steps, &step, sizeof step);
        bytes_of(turned, n, wtl_f32_from_f16(step), piece);
        for (int32_t i = 0; i < CPU_BYTES_GROUP; i++) quads[i] = (uint8_t)(piece[i] + 128);
        for (int32_t i = 0; i < n; i += 4) memcpy(keys + (size_t)((d + i) / 4) * WTL_KV_BLOCK * 4, quads + i, 4);
    }
}

// Whole numbers of 1/32768 of a head's step that are at least `step`; 0 where the head's is 0 or NaN.
static int16_t ratio_at_least(float step, float head_step) {
    if (!(head_step > 0.0f)) return 0;
    const float ratio = ceilf(step / head_step * 32768.0f);
    return (int16_t)(ratio < 32767.0f ? ratio : 32767.0f);
}

// The first pass finds the head's step, 32767 parts of which are the largest group's; the second one turns once more, which
// is cheaper than a place to keep heads of any size.
static void head_store_values(const float *v, int32_t head_dim, uint8_t *part, cpu_kv_layout layout, int32_t slot) {
    float turned[CPU_BYTES_GROUP], step = 0.0f;
    int16_t piece[CPU_BYTES_GROUP];
    for (int32_t d = 0; d < head_dim; d += CPU_BYTES_GROUP) {
        const int32_t n = head_dim - d < CPU_BYTES_GROUP ? head_dim - d : CPU_BYTES_GROUP;
        bytes_turn(v + d, n, turned);
        const float own = fixed_byte_step(turned, n) * (32768.0f / 32767.0f);
        step = own <= step ? step : own + 0.0f * step; // NaN stays
    }
    memcpy(part + layout.value_scales + (size_t)slot * sizeof step, &step, sizeof step);
    for (int32_t d = 0, g = 0; d < head_dim; d += CPU_BYTES_GROUP, g++) {
        const int32_t n = head_dim - d < CPU_BYTES_GROUP ? head_dim - d : CPU_BYTES_GROUP;
        bytes_turn(v + d, n, turned);
        const int16_t ratio = ratio_at_least(fixed_byte_step(turned, n), step);
        memcpy(part + layout.value_ratios + ((size_t)g * WTL_KV_BLOCK + (size_t)slot) * sizeof ratio, &ratio, sizeof ratio);
        bytes_of(turned, n, step * (float)ratio * 0x1p-15f, piece);
        uint8_t *to = part + layout.values + (size_t)g * CPU_BYTES_VALUES + (size_t)(slot / 2 * 2 * CPU_BYTES_GROUP + slot % 2);
        for (int32_t i = 0; i < n; i++) to[2 * i] = (uint8_t)piece[i];
    }
}

// As head_store_fixed, in bytes.
static void head_store_bytes(const float *k, const float *v, int32_t head_dim, uint8_t *part, cpu_kv_layout layout, int32_t slot) {
    head_store_keys(k, head_dim, part + slot * 4, part + layout.key_scales + (size_t)slot * sizeof(uint16_t));
    head_store_values(v, head_dim, part, layout, slot);
}

static void head_store_f32(const float *k, const float *v, int32_t head_dim, uint8_t *part, cpu_kv_layout layout, int32_t slot) {
    float *keys = (float *)(void *)part + slot, *values = (float *)(void *)(part + layout.values);
    for (int32_t d = 0; d < head_dim; d++) keys[(size_t)d * WTL_KV_BLOCK] = k[d];
    memcpy(values + (size_t)slot * cpu_kv_padded(head_dim), v, (size_t)head_dim * sizeof v[0]);
}

// Fetches what one position's numbers of a head go into: a cache line for a few of them, most of them of keys.
static void fetch_slot(const uint8_t *part, cpu_kv_layout layout, int32_t slot) {
    for (size_t i = 0; i < layout.values; i += 64) __builtin_prefetch(part + i, 1, 3);
    for (size_t i = layout.values + (size_t)(slot / 2) * 64; i < layout.key_scales; i += 32 * WTL_KV_BLOCK) __builtin_prefetch(part + i, 1, 3);
    for (size_t i = layout.key_scales; i < layout.bytes; i += 64) __builtin_prefetch(part + i, 1, 3);
}

static void row_kv_store(const wtl_kv_shape *shape, const float *k, const float *v, uint8_t *layer_block, int32_t slot,
                         const uint8_t *next_block, int32_t next_slot) {
    const cpu_kv_layout layout = cpu_kv_head_layout(shape);
    for (int32_t h = 0, n = shape->head_dim; h < shape->n_heads_kv; h++, k += n, v += n, layer_block += layout.bytes) {
        if (next_block && shape->dtype != WTL_DTYPE_F32) fetch_slot(next_block + (size_t)h * layout.bytes, layout, next_slot);
        if (shape->dtype == WTL_DTYPE_F32) head_store_f32(k, v, n, layer_block, layout, slot);
        else if (shape->dtype == WTL_DTYPE_Q8_0) head_store_bytes(k, v, n, layer_block, layout, slot);
        else head_store_fixed(k, v, n, layer_block, layout, slot);
    }
}

const cpu_vec_kernels CPU_VEC_TABLE = {
    .rms_norm = row_rms_norm, .add = row_add, .glu = row_glu, .glu_panels = row_glu_panels, .rope = row_rope, .kv_store = row_kv_store,
};
