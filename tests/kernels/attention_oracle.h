// Attention of one query row in double from the definition, with the bound that a kernel working in f32 has to keep.
//
// A score q.k scale is off by d = c sqrt(head_dim) eps scale sum|q k|, so a probability is off by a factor of 1 + 2 max d
// (numerator and normaliser) plus the rounding of the exponent's argument; the weighted sum adds SUM(n keys).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_ATTENTION_ORACLE_H
#define WTL_TESTS_ATTENTION_ORACLE_H

#include <cmath>

#include "attention_run.h"
#include "tolerance.h"

namespace checker {

inline float stored(wtl_dtype dtype, float x) {
    if (dtype == WTL_DTYPE_F32 || std::isnan(x)) return x;
    return wtl_f32_from_f16(wtl_f16_from_f32(std::fmin(std::fmax(x, -65504.0f), 65504.0f)));
}

// Adds one row [n_heads * head_dim] to want and bound.
inline void attend_by_definition(const AttentionCase &c, const Sequence &s, int position, float scale, Host &want,
                                 std::vector<double> &bound) {
    int dim = c.head_dim, first = c.window > 0 ? std::max(0, position - c.window + 1) : 0, n = position - first + 1;
    for (int h = 0; h < c.n_heads_kv * c.group; h++) {
        const float *q = s.q.row(position) + h * dim;
        int kv = h / c.group * dim;
        std::vector<double> score((size_t)n), p((size_t)n);
        double top = -HUGE_VAL, error = 0, total = 0;
        for (int i = 0; i < n; i++) {
            double magnitude = 0;
            for (int d = 0; d < dim; d++) {
                double product = (double)q[d] * stored(c.dtype, s.k.at(first + i, kv + d));
                score[i] += product * scale;
                magnitude += std::fabs(product) * scale;
            }
            top = std::max(top, score[i]);
            error = std::max(error, kAttention.c * std::sqrt(dim) * kEps * magnitude);
        }
        for (int i = 0; i < n; i++) total += p[i] = std::exp(score[i] - top);
        std::vector<double> out((size_t)dim), spread((size_t)dim), sum((size_t)dim);
        double mean_factor = 0;
        for (int i = 0; i < n; i++) {
            double weight = p[i] / total, factor = 2 * error + kEps * (std::fabs(score[i] - top) + 8);
            mean_factor += weight * factor;
            for (int d = 0; d < dim; d++) {
                double v = stored(c.dtype, s.v.at(first + i, kv + d));
                out[d] += weight * v;
                sum[d] += weight * std::fabs(v);
                spread[d] += weight * std::fabs(v) * factor;
            }
        }
        for (int d = 0; d < dim; d++) {
            want.v.push_back((float)out[d]);
            // exp of less than -87 may be flushed to zero: 1e-37 of the largest weight each
            bound.push_back(spread[d] + mean_factor * std::fabs(out[d]) + sum_bound(kAttention, n, sum[d]) +
                            n * 1e-36 * (c.fill == Fill::Outlier ? 1e4 : 10.0) * (sum[d] > 0));
        }
    }
    want.rows++;
}

} // namespace checker
#endif
