// Products with F32, F16 and BF16 rows for one instruction set: the text of matmul_float_<isa>.c.
//
// The including file sets CPU_LANES and CPU_FLOAT_TABLE. Each output has one accumulator per column modulo CPU_LANES,
// filled in ascending order, the last part of a row zero-filled, and summed over lanes in one fixed order: how many rows
// of x and w share a register tile changes no bit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_float.h"
#include "kernels/cpu/lanes.h"

#if CPU_LANES == 16
#define TILE_X 4
#else
#define TILE_X 2
#endif
#define TILE_W 4
#define BLOCK_X 64 // rows of x that stay in the second-level cache while w passes by

typedef enum float_kind { KIND_F32, KIND_F16, KIND_BF16 } float_kind;

CPU_INLINE vec load_weight(const float_kind kind, const void *p, size_t i) {
    if (kind == KIND_F16) return v_load_f16((const uint16_t *)p + i);
    if (kind == KIND_BF16) return v_load_bf16((const uint16_t *)p + i);
    return v_load((const float *)p + i);
}

CPU_INLINE vec load_weight_part(const float_kind kind, const void *p, size_t i, int32_t n) {
    if (kind == KIND_F16) return v_load_f16_part((const uint16_t *)p + i, n);
    if (kind == KIND_BF16) return v_load_bf16_part((const uint16_t *)p + i, n);
    return v_load_part((const float *)p + i, n);
}

// dot[a][b] = x[a] . w[b] for NX rows of x and NW rows of w, both [*, n]
CPU_INLINE void dot_tile(const float_kind kind, const int NX, const int NW, const float *x, size_t x_stride, const void *w,
                         size_t w_stride, int32_t n, float dot[TILE_X][TILE_W]) {
    vec sum[TILE_X][TILE_W];
    CPU_UNROLL for (int a = 0; a < NX; a++) {
        CPU_UNROLL for (int b = 0; b < NW; b++) sum[a][b] = v_zero();
    }
    int32_t k = 0;
    for (; k + CPU_LANES <= n; k += CPU_LANES) {
        vec weight[TILE_W];
        CPU_UNROLL for (int b = 0; b < NW; b++) weight[b] = load_weight(kind, w, (size_t)b * w_stride + k);
        CPU_UNROLL for (int a = 0; a < NX; a++) {
            vec value = v_load(x + (size_t)a * x_stride + k);
            CPU_UNROLL for (int b = 0; b < NW; b++) sum[a][b] = v_fma(value, weight[b], sum[a][b]);
        }
    }
    if (k < n) {
        vec weight[TILE_W];
        CPU_UNROLL for (int b = 0; b < NW; b++) weight[b] = load_weight_part(kind, w, (size_t)b * w_stride + k, n - k);
        CPU_UNROLL for (int a = 0; a < NX; a++) {
            vec value = v_load_part(x + (size_t)a * x_stride + k, n - k);
            CPU_UNROLL for (int b = 0; b < NW; b++) sum[a][b] = v_fma(value, weight[b], sum[a][b]);
        }
    }
    CPU_UNROLL for (int a = 0; a < NX; a++) {
        CPU_UNROLL for (int b = 0; b < NW; b++) dot[a][b] = v_sum(sum[a][b]);
    }
}

CPU_INLINE void dot_any(const float_kind kind, int nx, int nw, const float *x, size_t x_stride, const void *w,
                        size_t w_stride, int32_t n, float dot[TILE_X][TILE_W]) {
    if (nx == TILE_X && nw == TILE_W) {
        dot_tile(kind, TILE_X, TILE_W, x, x_stride, w, w_stride, n, dot);
        return;
    }
    if (nw == TILE_W) {
        for (int a = 0; a < nx; a++) dot_tile(kind, 1, TILE_W, x + a * x_stride, x_stride, w, w_stride, n, dot + a);
        return;
    }
    size_t elem_bytes = kind == KIND_F32 ? 4 : 2;
    for (int a = 0; a < nx; a++) {
        for (int b = 0; b < nw; b++) {
            float one[TILE_X][TILE_W];
            const void *row = (const uint8_t *)w + b * w_stride * elem_bytes;
            dot_tile(kind, 1, 1, x + a * x_stride, x_stride, row, w_stride, n, one);
            dot[a][b] = one[0][0];
        }
    }
}

// Four rows of w stay in the cache while rows from .. to - 1 of x pass by.
CPU_INLINE void matmul_block(const float_kind kind, cpu_float_rows w, wtl_mat x, int32_t from, int32_t to,
                             const float *bias, bool accumulate, wtl_mat out) {
    size_t elem_bytes = kind == KIND_F32 ? 4 : 2;
    for (int32_t j = 0; j < w.n_rows; j += TILE_W) {
        const void *rows = (const uint8_t *)w.data + (size_t)j * (size_t)w.cols * elem_bytes;
        int nw = w.n_rows - j < TILE_W ? w.n_rows - j : TILE_W;
        for (int32_t i = from; i < to; i += TILE_X) {
            int nx = to - i < TILE_X ? to - i : TILE_X;
            float dot[TILE_X][TILE_W];
            dot_any(kind, nx, nw, x.data + (size_t)i * x.stride, (size_t)x.stride, rows, (size_t)w.cols, w.cols, dot);
            for (int a = 0; a < nx; a++) {
                float *y = out.data + (size_t)(i + a) * out.stride + j;
                for (int b = 0; b < nw; b++) {
                    float sum = bias ? dot[a][b] + bias[j + b] : dot[a][b];
                    y[b] = accumulate ? y[b] + sum : sum;
                }
            }
        }
    }
}

CPU_INLINE void matmul_kind(const float_kind kind, cpu_float_rows w, wtl_mat x, const float *bias, bool accumulate,
                            wtl_mat out) {
    for (int32_t i = 0; i < x.rows; i += BLOCK_X)
        matmul_block(kind, w, x, i, x.rows - i < BLOCK_X ? x.rows : i + BLOCK_X, bias, accumulate, out);
}

static void float_matmul(cpu_float_rows w, wtl_mat x, const float *bias, bool accumulate, wtl_mat out) {
    if (w.dtype == WTL_DTYPE_F16) matmul_kind(KIND_F16, w, x, bias, accumulate, out);
    else if (w.dtype == WTL_DTYPE_BF16) matmul_kind(KIND_BF16, w, x, bias, accumulate, out);
    else matmul_kind(KIND_F32, w, x, bias, accumulate, out);
}

CPU_INLINE void widen_kind(const float_kind kind, const void *from, size_t n, float *to) {
    size_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES) v_store(to + i, load_weight(kind, from, i));
    if (i < n) v_store_part(to + i, load_weight_part(kind, from, i, (int32_t)(n - i)), (int32_t)(n - i));
}

static void float_widen(cpu_float_rows w, float *to) {
    size_t n = (size_t)w.n_rows * (size_t)w.cols;
    if (w.dtype == WTL_DTYPE_F16) widen_kind(KIND_F16, w.data, n, to);
    else if (w.dtype == WTL_DTYPE_BF16) widen_kind(KIND_BF16, w.data, n, to);
    else widen_kind(KIND_F32, w.data, n, to);
}

const cpu_float_kernels CPU_FLOAT_TABLE = {.matmul = float_matmul, .widen = float_widen};
