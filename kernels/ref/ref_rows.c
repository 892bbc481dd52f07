// Reference ops that work row by row or element by element: embed, gather_rows, add, glu.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

// tokens [n], w [n_vocab, cols], out [n, cols]: out = scale * w[token]; the one product is rounded to f32.
void ref_embed(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out) {
    (void)s;
    for (int32_t r = 0; r < out.rows; r++) {
        assert(tokens[r] >= 0 && tokens[r] < w->rows);
        float *to = ref_mat_row(out, r);
        ref_dequantize_row(w->dtype, ref_weight_row(w, tokens[r]), to, w->cols);
        for (int32_t c = 0; c < w->cols; c++) to[c] *= scale;
    }
}

// row_ids [out.rows], x [any, cols], out [n, cols]
void ref_gather_rows(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out) {
    (void)s;
    for (int32_t r = 0; r < out.rows; r++) {
        assert(row_ids[r] >= 0 && row_ids[r] < x.rows);
        memcpy(ref_mat_row(out, r), ref_mat_row(x, row_ids[r]), (size_t)out.cols * sizeof(float));
    }
}

// a, b, out [n, cols]
void ref_add(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out) {
    (void)s;
    for (int32_t r = 0; r < out.rows; r++)
        for (int32_t c = 0; c < out.cols; c++) ref_mat_row(out, r)[c] = ref_mat_row(a, r)[c] + ref_mat_row(b, r)[c];
}

// SiLU: x / (1 + e^-x)
static double silu(double x) { return x / (1.0 + exp(-x)); }

// GELU, tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Hendrycks and Gimpel 2016.
static double gelu_tanh(double x) {
    const double sqrt_2_over_pi = 0.79788456080286535588;
    return 0.5 * x * (1.0 + tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x)));
}

// gate, up, out [n, cols]
void ref_glu(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out) {
    (void)s;
    for (int32_t r = 0; r < out.rows; r++) {
        for (int32_t c = 0; c < out.cols; c++) {
            double g = (double)ref_mat_row(gate, r)[c], u = (double)ref_mat_row(up, r)[c];
            ref_mat_row(out, r)[c] = (float)((act == WTL_ACT_SILU ? silu(g) : gelu_tanh(g)) * u);
        }
    }
}
