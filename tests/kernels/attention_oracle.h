// Attention of one query row in double from the definition, with the bound that a kernel working in f32 has to keep.
//
// A score q.k scale is off by d = c sqrt(head_dim) eps scale sum|q k|, so a probability is off by a factor of 1 + 2 max d
// (numerator and normaliser) plus the rounding of the exponent's argument; the weighted sum adds SUM(n keys).
//
// KV16: an F16 cache holds 16 bits a number, as f16 or as a whole number of steps (backend.h), and what is multiplied with
// that may be rounded to 16 bits too. Each such rounding is independent of the others, so they add like a random walk: the
// bound allows three times the root of the sum of their squares (5 sigma of a uniform error), for whichever is coarser.
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

inline double square(double x) { return x * x; }

// Half a step of fixed point for x [n]: at most `most` steps, norm at most `norm` steps.
inline double half_step(const float *x, int n, double most, double norm) {
    double top = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        double v = std::fmin(std::fabs((double)x[i]), 65504.0);
        top = std::fmax(top, v);
        squares += v * v;
    }
    return std::fmax(top / most, std::sqrt(squares) / norm) / 2;
}

// What storing x as 16 bits may change.
inline double stored_error(float x, double half) { return std::fmax(std::fabs((double)x) * 0x1p-11, half) + 0x1p-25; }

// Whose roundings count: Exact is the definition over what an f16 or f32 cache holds, Any allows KV16 where the cache is F16.
enum class Storage { Exact, Any };

// Squares of what rounding the weights p [n] of positions first .. first + n - 1 may change in each of the outputs [dim].
inline std::vector<double> weight_error(const AttentionCase &c, const Sequence &s, int first, int kv, const std::vector<double> &p) {
    std::vector<double> squares((size_t)c.head_dim);
    int n = (int)p.size();
    for (int from = 0, to; from < n; from = to) {
        to = std::min(n, ((first + from) / 256 + 1) * 256 - first); // rounded together: partitions of 256 positions
        std::vector<double> step((size_t)n);
        double top = 0, sum = 0;
        for (int i = from; i < to; i++) {
            step[i] = 2 * half_step(s.v.row(first + i) + kv, c.head_dim, 16383, HUGE_VAL);
            top = std::fmax(top, p[i] * step[i]);
            sum += p[i] * step[i];
        }
        double half_unit = std::fmax(top / 32767, sum / 130000) / 2;
        for (int i = from; i < to; i++)
            for (int d = 0; d < c.head_dim && step[i] > 0; d++) squares[d] += square(half_unit * s.v.at(first + i, kv + d) / step[i]);
    }
    return squares;
}

// Adds one row [n_heads * head_dim] to want and bound.
inline void attend_by_definition(const AttentionCase &c, const Sequence &s, int position, float scale, Storage storage,
                                 Host &want, std::vector<double> &bound) {
    const bool any = storage == Storage::Any && c.dtype == WTL_DTYPE_F16;
    auto held = [&](float x) { return any ? std::fmin(std::fmax(x, -65504.0f), 65504.0f) : stored(c.dtype, x); };
    int dim = c.head_dim, first = c.window > 0 ? std::max(0, position - c.window + 1) : 0, n = position - first + 1;
    for (int h = 0; h < c.n_heads_kv * c.group; h++) {
        const float *q = s.q.row(position) + h * dim;
        int kv = h / c.group * dim;
        std::vector<double> score((size_t)n), p((size_t)n), score_error((size_t)n);
        double top = -HUGE_VAL, error = 0, total = 0, q_half = half_step(q, dim, 32767, 46300);
        for (int i = 0; i < n; i++) {
            double magnitude = 0, rounded = 0, k_half = half_step(s.k.row(first + i) + kv, dim, 32767, 46300);
            for (int d = 0; d < dim; d++) {
                float k = held(s.k.at(first + i, kv + d));
                double product = (double)q[d] * k;
                rounded += square(q[d] * stored_error(k, k_half)) + square(k * q_half);
                score[i] += product * scale;
                magnitude += std::fabs(product) * scale;
            }
            top = std::max(top, score[i]);
            error = std::max(error, kAttention.c * std::sqrt(dim) * kEps * magnitude);
            if (any) score_error[i] = std::sqrt(rounded) * scale;
        }
        for (int i = 0; i < n; i++) total += p[i] = std::exp(score[i] - top);
        for (double &weight : p) weight /= total;
        std::vector<double> out((size_t)dim), spread((size_t)dim), sum((size_t)dim), rounded((size_t)dim);
        if (any) rounded = weight_error(c, s, first, kv, p);
        double mean_factor = 0;
        for (int i = 0; i < n; i++) {
            double weight = p[i], factor = 2 * error + kEps * (std::fabs(score[i] - top) + 8) + (any ? 1e-5 : 0);
            double v_half = half_step(s.v.row(first + i) + kv, dim, 16383, HUGE_VAL);
            mean_factor += weight * factor;
            for (int d = 0; d < dim; d++) {
                double v = held(s.v.at(first + i, kv + d));
                if (any) rounded[d] += square(weight * stored_error((float)v, v_half));
                out[d] += weight * v;
                sum[d] += weight * std::fabs(v);
                spread[d] += weight * std::fabs(v) * factor;
            }
        }
        for (int i = 0; i < n && any; i++) // a wrong score moves weight between its v and all the others
            for (int d = 0; d < dim; d++) rounded[d] += square(p[i] * score_error[i] * (held(s.v.at(first + i, kv + d)) - out[d]));
        for (int d = 0; d < dim; d++) {
            want.v.push_back((float)out[d]);
            // exp of less than -87 may be flushed to zero: 1e-37 of the largest weight each
            bound.push_back(spread[d] + mean_factor * std::fabs(out[d]) + sum_bound(kAttention, n, sum[d]) + 3 * std::sqrt(rounded[d]) +
                            n * 1e-36 * (c.fill == Fill::Outlier ? 1e4 : 10.0) * (sum[d] > 0));
        }
    }
    want.rows++;
}

} // namespace checker
#endif
