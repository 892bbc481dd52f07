// Reference RMS norm: out = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019), in double, rounded once.
// out may be x: a row's mean is complete before its first element is written.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/ref/ref.h"

// x, out [n, cols]; weight [cols]. A per-head norm comes as a view with cols = head_dim and one row per head.
void ref_rms_norm(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out) {
    (void)s;
    const float *gain = ref_vector(weight);
    for (int32_t r = 0; r < x.rows; r++) {
        const float *in = ref_mat_row(x, r);
        float *to = ref_mat_row(out, r);
        double squares = 0.0;
        for (int32_t c = 0; c < x.cols; c++) squares += (double)in[c] * (double)in[c];
        double root = sqrt(squares / (double)x.cols + (double)eps);
        for (int32_t c = 0; c < x.cols; c++) to[c] = (float)((double)in[c] / root * (double)gain[c]);
    }
}
