// Row kernels for one instruction set: the text of vec_scalar.c, vec_avx2.c and vec_avx512vnni.c.
//
// The including file sets CPU_LANES and CPU_VEC_TABLE (the name of its cpu_vec_kernels). Every element depends on its own
// inputs and its place in the row alone, sums are taken in one fixed order; alignment and company change nothing.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attend.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/lanes.h"

#include <math.h>
#include <string.h>

// x, weight, out [n]. Squares are summed in double: exact enough for any length, and no magnitude overflows.
static void row_rms_norm(const float *x, const float *weight, float eps, float *out, int32_t n) {
    vec_f64 sum[2] = {v_zero_f64(), v_zero_f64()};
    int32_t i = 0;
    for (; i + 2 * CPU_LANES <= n; i += 2 * CPU_LANES) {
        sum[0] = v_square_f64(v_load(x + i), sum[0]);
        sum[1] = v_square_f64(v_load(x + i + CPU_LANES), sum[1]);
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

// Largest finite f16; the second operand of v_min and v_max survives a NaN.
CPU_INLINE vec f16_saturated(vec x) { return v_max(v_set1(-65504.0f), v_min(v_set1(65504.0f), x)); }

// One head's k, v [head_dim] into column `slot` of its keys [head_dim, 16] and row `slot` of its values [16, padded].
static void head_store_f16(const float *k, const float *v, int32_t head_dim, uint16_t *keys, uint16_t *values) {
    uint16_t column[CPU_LANES], row[CPU_LANES];
    for (int32_t d = 0; d < head_dim; d += CPU_LANES) {
        int32_t n = head_dim - d < CPU_LANES ? head_dim - d : CPU_LANES;
        v_store_f16(column, f16_saturated(v_load_part(k + d, n)));
        for (int32_t i = 0; i < n; i++) keys[(size_t)(d + i) * WTL_KV_BLOCK] = column[i];
        v_store_f16(row, f16_saturated(v_load_part(v + d, n)));
        memcpy(values + d, row, (size_t)n * sizeof row[0]);
    }
}

static void row_kv_store(const wtl_kv_shape *shape, const float *k, const float *v, uint8_t *layer_block, int32_t slot) {
    size_t head_bytes = cpu_kv_head_bytes(shape), key_bytes = cpu_kv_key_bytes(shape);
    int32_t head_dim = shape->head_dim, padded = cpu_kv_padded(head_dim);
    for (int32_t h = 0; h < shape->n_heads_kv; h++, k += head_dim, v += head_dim, layer_block += head_bytes) {
        if (shape->dtype == WTL_DTYPE_F16) {
            uint16_t *values = (uint16_t *)(void *)(layer_block + key_bytes);
            head_store_f16(k, v, head_dim, (uint16_t *)(void *)layer_block + slot, values + (size_t)slot * padded);
        } else {
            float *keys = (float *)(void *)layer_block + slot, *values = (float *)(void *)(layer_block + key_bytes);
            for (int32_t d = 0; d < head_dim; d++) keys[(size_t)d * WTL_KV_BLOCK] = k[d];
            memcpy(values + (size_t)slot * padded, v, (size_t)head_dim * sizeof v[0]);
        }
    }
}

const cpu_vec_kernels CPU_VEC_TABLE = {
    .rms_norm = row_rms_norm, .add = row_add, .glu = row_glu, .rope = row_rope, .kv_store = row_kv_store,
};
