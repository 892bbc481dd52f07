// Reference rotary position embedding (Su et al. 2021): angles in double, pairs adjacent or in halves.
//
// The table is made once per step and serves all layers of one base. Frequency factors are Llama 3.1's divisors of the
// frequencies (tensor rope_freqs).
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/ref/ref.h"

// positions [n_rows]; table [n_rows, n_rot]: n_rot/2 cosines, then n_rot/2 sines of
// angle_j = position * freq_scale * freq_base^(-2j/n_rot) / freq_factors[j]
void ref_rope_table(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table) {
    (void)s;
    int32_t pairs = rope->n_rot / 2;
    const float *factors = rope->freq_factors ? ref_vector(rope->freq_factors) : NULL;
    for (int32_t j = 0; j < pairs; j++) {
        double frequency = (double)rope->freq_scale * pow((double)rope->freq_base, -2.0 * j / (double)rope->n_rot);
        if (factors) frequency /= (double)factors[j];
        for (int32_t r = 0; r < table.rows; r++) {
            double angle = (double)positions[r] * frequency;
            ref_mat_row(table, r)[j] = (float)cos(angle);
            ref_mat_row(table, r)[j + pairs] = (float)sin(angle);
        }
    }
}

// (a, b) -> (a cos - b sin, a sin + b cos)
static void rotate(float *a, float *b, double cosine, double sine) {
    double x = (double)*a, y = (double)*b;
    *a = (float)(x * cosine - y * sine);
    *b = (float)(x * sine + y * cosine);
}

// x [n_rows, n_heads * head_dim], table [n_rows, n_rot]. Dimensions from n_rot on pass through.
void ref_rope(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table) {
    (void)s;
    int32_t head_dim = x.cols / n_heads, pairs = table.cols / 2;
    for (int32_t r = 0; r < x.rows; r++) {
        const float *angles = ref_mat_row(table, r);
        for (int32_t h = 0; h < n_heads; h++) {
            float *head = ref_mat_row(x, r) + h * head_dim;
            for (int32_t j = 0; j < pairs; j++) {
                float *a = style == WTL_ROPE_ADJACENT ? head + 2 * j : head + j;
                float *b = style == WTL_ROPE_ADJACENT ? a + 1 : a + pairs;
                rotate(a, b, (double)angles[j], (double)angles[j + pairs]);
            }
        }
    }
}
