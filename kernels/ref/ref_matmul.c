// Reference matmul: out = x w^T (+ bias), every weight type, activations as they are.
//
// Each weight row is dequantised once per op and meets all rows of x while it is in the cache. Products and sums are in
// double. Eight independent partial sums keep the adders busy without -ffast-math; they are added pairwise at the end,
// so a row's result depends on nothing but that row and the weight.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/ref/ref.h"

#define LANES 8

static double dot(const double *w, const float *x, int32_t n) {
    double sum[LANES] = {0};
    int32_t k = 0;
    for (; k + LANES <= n; k += LANES)
        for (int lane = 0; lane < LANES; lane++) sum[lane] += w[k + lane] * (double)x[k + lane];
    for (int lane = 0; k < n; k++, lane++) sum[lane] += w[k] * (double)x[k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

// One part: x [n, K], w [rows, K], bias [rows] or NULL, out [n, rows].
static void matmul_part(ref_stream *rs, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, bool accumulate,
                        wtl_mat out) {
    for (int32_t r = 0; r < w->rows; r++) {
        ref_dequantize_row(w->dtype, ref_weight_row(w, r), rs->row, w->cols);
        for (int32_t k = 0; k < w->cols; k++) rs->wide_row[k] = (double)rs->row[k];
        double offset = bias ? (double)ref_vector(bias)[r] : 0.0;
        for (int32_t i = 0; i < x.rows; i++) {
            float *cell = ref_mat_row(out, i) + r;
            double before = accumulate ? (double)*cell : 0.0;
            *cell = (float)(before + (dot(rs->wide_row, ref_mat_row(x, i), w->cols) + offset));
        }
    }
}

void ref_matmul(wtl_stream *s, const wtl_matmul *a) {
    ref_stream *rs = ref_of(s);
    if (!ref_fits(s, a->x.cols <= rs->limits.max_cols && a->x.rows <= rs->limits.max_rows)) return;
    if (a->input.kind == WTL_INPUT_RMS_NORM) ref_rms_norm(s, a->input.from, a->input.weight, a->input.eps, a->x);
    for (int32_t p = 0; p < a->n_parts; p++)
        matmul_part(rs, a->x, a->part[p].w, a->part[p].bias, a->accumulate, a->part[p].out);
    if (a->gated) ref_glu(s, a->part[0].out, a->part[1].out, a->act, a->part[0].out);
}

void ref_head_top(wtl_stream *s, const wtl_matmul *a, int32_t k) {
    const wtl_matmul_part *part = &a->part[0];
    if (!ref_fits(s, k > 0 && a->n_parts == 1 && !part->bias && !a->accumulate && part->w->rows <= ref_of(s)->limits.max_head_rows)) return;
    ref_matmul(s, a); // all are exact
    s->head_bytes += a->part[0].w->bytes;
}
