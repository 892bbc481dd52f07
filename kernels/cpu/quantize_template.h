// Quantising a column block by block: the text of quantize_scalar.c, quantize_avx2.c and quantize_neon.c.
//
// The including file sets QUANTIZE_NAME(measure or quantize) and defines, for a block x [32]:
//   largest_of(x): its largest magnitude; magnitudes compare like integers, NaN and Inf above all numbers
//   above(x, limit): bit i for |x[i]| > limit; a NaN is never above, nothing is above a NaN
//   round_block(x, largest, act): q to nearest, d, s, neg and neg_low
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/cpu/cpu_quantize.h"

void QUANTIZE_NAME(measure)(cpu_column *c) {
    float *largest = cpu_note(c, 0), *steps = cpu_note(c, 1);
    for (int32_t b = 0; b < c->n_blocks; b++) {
        largest[b] = largest_of(c->x + 32 * (ptrdiff_t)b);
        steps[b] = cpu_step_of(largest[b]);
    }
    c->limit = cpu_outlier_limit(steps, c->n_blocks);
}

// Bits of the outliers in block b.
static uint32_t outliers_of(const cpu_column *c, int32_t b, float limit) {
    return cpu_note(c, 1)[b] * 128 > limit ? above(c->x + 32 * (ptrdiff_t)b, limit) : 0; // 128, not 127: steps are rounded
}

static int32_t count_outliers(const cpu_column *c, float limit) {
    int32_t found = 0;
    for (int32_t b = 0; b < c->n_blocks; b++) found += __builtin_popcount(outliers_of(c, b, limit));
    return found;
}

// A block with zeros for its outliers.
static void round_rest(const float *x, uint32_t outliers, cpu_act *act) {
    float rest[32];
    memcpy(rest, x, sizeof rest);
    for (; outliers; outliers &= outliers - 1) rest[__builtin_ctz(outliers)] = 0;
    round_block(rest, largest_of(rest), act);
}

int32_t QUANTIZE_NAME(quantize)(const cpu_column *c, int32_t max_outliers, cpu_outlier *out) {
    const float *largest = cpu_note(c, 0);
    float limit = c->limit;
    while (count_outliers(c, limit) > max_outliers) limit *= 2;
    int32_t found = 0;
    for (int32_t b = 0; b < c->n_blocks; b++) {
        const uint32_t outliers = outliers_of(c, b, limit);
        const float *x = c->x + 32 * (ptrdiff_t)b;
        cpu_act *act = c->acts + (ptrdiff_t)b * c->stride;
        if (outliers) round_rest(x, outliers, act);
        else round_block(x, largest[b], act);
        cpu_put_outliers(c, b, outliers, out + found);
        found += __builtin_popcount(outliers);
    }
    return found;
}
