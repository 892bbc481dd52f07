// Attention of one query row in double from the definition, with the bound that a kernel working in f32 has to keep.
//
// A score q.k scale is off by d = c sqrt(head_dim) eps scale sum|q k|, so a probability is off by a factor of 1 + 2 max d
// (numerator and normaliser) plus the rounding of the exponent's argument; the weighted sum adds SUM(n keys).
//
// KV16: an F16 cache holds 16 bits a number, as f16 or as a whole number of steps (backend.h), and what is multiplied with
// that may be rounded to 16 bits too. Each such rounding is independent of the others, so they add like a random walk: the
// bound allows three times the root of the sum of their squares (5 sigma of a uniform error), for whichever is coarser.
//
// KV8: the same for a Q8_0 cache, whose numbers and queries are bytes times a step per 32, of the numbers or of the numbers
// turned by the Hadamard matrix over its norm, which mixes errors but keeps the sum of their squares. Where scores may be off by more than a
// tenth, probabilities are not linear in that any more: each may then grow by e to its own error and to what the normaliser
// may lose by, and these add up in the worst way. Numbers that are all equal are rounded alike: no random walk.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_ATTENTION_ORACLE_H
#define WTL_TESTS_ATTENTION_ORACLE_H

#include <cmath>

#include "attention_run.h"
#include "tolerance.h"

namespace checker {

constexpr int kGroup = 32; // numbers that share a step of bytes

inline float saturated(float x) { return std::isnan(x) ? x : std::fmin(std::fmax(x, -65504.0f), 65504.0f); }

// Largest magnitude of x [n] as it is stored.
inline double largest(const float *x, int n) {
    double top = 0;
    for (int i = 0; i < n; i++) top = std::fmax(top, std::fabs((double)saturated(x[i])));
    return top;
}

// x [n] as a cache of the ref backend holds it.
inline std::vector<float> stored(wtl_dtype dtype, const float *x, int n) {
    std::vector<float> out(x, x + n);
    for (int i = 0; i < n && dtype == WTL_DTYPE_F16; i++) out[i] = wtl_f32_from_f16(wtl_f16_from_f32(saturated(x[i])));
    for (int from = 0; from < n && dtype == WTL_DTYPE_Q8_0; from += kGroup) {
        int count = std::min(kGroup, n - from);
        float least = (float)largest(x + from, count) / 127, step = wtl_f32_from_f16(wtl_f16_from_f32(least));
        if (step < least) step = wtl_f32_from_f16((uint16_t)(wtl_f16_from_f32(least) + 1));
        for (int i = from; i < from + count; i++) out[i] = step > 0 ? step * std::nearbyint(saturated(x[i]) / step) : 0;
    }
    return out;
}

inline double square(double x) { return x * x; }

// Half a step of fixed point for x [n]: at most `most` steps, norm at most `norm` steps.
inline double half_step(const float *x, int n, double most, double norm) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += square(saturated(x[i]));
    return std::fmax(largest(x, n) / most, std::sqrt(squares) / norm) / 2;
}

enum class Part { Query, Key, Value };

// The step of bytes for x [n] of n <= 32, kept as it is or turned, whichever is coarser.
inline double byte_step(const float *x, int n) {
    double top = largest(x, n), turned[kGroup];
    if (n < kGroup) return top / 127;
    for (int i = 0; i < kGroup; i++) turned[i] = saturated(x[i]) / std::sqrt(kGroup);
    for (int apart = 1; apart < kGroup; apart *= 2)
        for (int i = 0; i < kGroup; i++)
            if (!(i & apart)) {
                double a = turned[i], b = turned[i + apart];
                turned[i] = a + b;
                turned[i + apart] = a - b;
            }
    for (double y : turned) top = std::fmax(top, std::fabs(y));
    return top / 127;
}

inline double head_byte_step(const float *x, int n) {
    double step = 0;
    for (int from = 0; from < n; from += kGroup) step = std::fmax(step, byte_step(x + from, std::min(kGroup, n - from)));
    return step;
}

// What rounding may change in each of x [n].
inline std::vector<double> rounding(wtl_dtype dtype, Part part, const float *x, int n) {
    std::vector<double> out((size_t)n);
    const bool kept = part != Part::Query; // in the cache, where f16 has its say
    if (dtype == WTL_DTYPE_F16) {
        const double half = part == Part::Value ? half_step(x, n, 16383, HUGE_VAL) : half_step(x, n, 32767, 46300);
        for (int i = 0; i < n; i++) out[i] = kept ? std::fmax(std::fabs((double)saturated(x[i])) * 0x1p-11, half) + 0x1p-25 : half;
    }
    const double finest = dtype == WTL_DTYPE_Q8_0 && part == Part::Value ? head_byte_step(x, n) / 32767 : 0;
    for (int from = 0; from < n && dtype == WTL_DTYPE_Q8_0; from += kGroup) {
        const int to = std::min(n, from + kGroup);
        const double step = byte_step(x + from, to - from);
        for (int i = from; i < to; i++) out[i] = 1.001 * ((kept ? step * (1 + 0x1p-10) + 0x1p-24 : step) + finest) / 2;
    }
    return out;
}

// Whose roundings count: Exact is the definition over what ref's cache holds, Any allows KV16 where the cache is F16, KV8 where it is Q8_0.
enum class Storage { Exact, Any };

// Squares of what rounding the weights p [n] of positions first .. first + n - 1 may change in each of the outputs [dim].
inline std::vector<double> weight_error(const AttentionCase &c, const Sequence &s, int first, int kv, const std::vector<double> &p) {
    std::vector<double> squares((size_t)c.head_dim);
    const bool bytes = c.dtype == WTL_DTYPE_Q8_0; // rounded once more for every 32, and not limited by their sum
    int n = (int)p.size();
    for (int from = 0, to; from < n; from = to) {
        to = std::min(n, ((first + from) / 256 + 1) * 256 - first); // rounded together: partitions of 256 positions
        std::vector<double> step((size_t)n);
        double top = 0, sum = 0;
        for (int i = from; i < to; i++) {
            const float *v = s.v.row(first + i) + kv;
            step[i] = bytes ? head_byte_step(v, c.head_dim) : largest(v, c.head_dim) / 16383;
            top = std::fmax(top, p[i] * step[i]);
            sum += p[i] * step[i];
        }
        double half_unit = std::fmax(top / 32767, bytes ? 0 : sum / 130000) / 2;
        for (int i = from; i < to; i++)
            for (int d = 0; d < c.head_dim && step[i] > 0; d++)
                squares[d] += bytes ? 2 * square(half_unit * 127) : square(half_unit * s.v.at(first + i, kv + d) / step[i]);
    }
    return squares;
}

// What wrong scores may change in each of the outputs [dim]: weight moves between a position's v and all the others. p, error [n].
inline std::vector<double> moved_weight(const std::vector<double> &p, const std::vector<double> &error, const std::vector<std::vector<float>> &v,
                                        const std::vector<double> &out) {
    const bool linear = 3 * *std::max_element(error.begin(), error.end()) < 0.1;
    std::vector<double> moved(out.size());
    double grown = 0;
    for (size_t i = 0; i < p.size(); i++) grown += p[i] * std::exp(3 * error[i]);
    for (size_t i = 0; i < p.size(); i++) {
        double weight = linear ? p[i] * error[i] : std::fmin(1, p[i] * std::expm1(3 * error[i] + std::log(grown)));
        for (size_t d = 0; d < out.size(); d++) moved[d] += linear ? square(weight * (v[i][d] - out[d])) : weight * std::fabs(v[i][d] - out[d]);
    }
    for (double &x : moved) x = linear ? 3 * std::sqrt(x) : x;
    return moved;
}

// Adds one row [n_heads * head_dim] to want and bound.
inline void attend_by_definition(const AttentionCase &c, const Sequence &s, int position, float scale, Storage storage,
                                 Host &want, std::vector<double> &bound) {
    const bool any = storage == Storage::Any && c.dtype != WTL_DTYPE_F32, alike = any && c.fill == Fill::AllEqual;
    int dim = c.head_dim, first = c.window > 0 ? std::max(0, position - c.window + 1) : 0, n = position - first + 1;
    auto held = [&](const float *x) {
        std::vector<float> row = any ? std::vector<float>(x, x + dim) : stored(c.dtype, x, dim);
        for (float &y : row) y = any ? saturated(y) : y;
        return row;
    };
    for (int h = 0; h < c.n_heads_kv * c.group; h++) {
        const float *q = s.q.row(position) + h * dim;
        int kv = h / c.group * dim;
        std::vector<double> score((size_t)n), p((size_t)n), score_error((size_t)n), q_error = rounding(c.dtype, Part::Query, q, dim);
        double top = -HUGE_VAL, error = 0, total = 0;
        for (int i = 0; i < n; i++) {
            double magnitude = 0, rounded = 0;
            std::vector<float> k = held(s.k.row(first + i) + kv);
            std::vector<double> k_error = rounding(c.dtype, Part::Key, s.k.row(first + i) + kv, dim);
            for (int d = 0; d < dim; d++) {
                double product = (double)q[d] * k[d];
                rounded += square(q[d] * k_error[d]) + square(k[d] * q_error[d]);
                score[i] += product * scale;
                magnitude += std::fabs(product) * scale;
            }
            top = std::max(top, score[i]);
            error = std::max(error, kAttention.c * std::sqrt(dim) * kEps * magnitude);
            score_error[i] = std::sqrt(rounded) * scale;
        }
        for (int i = 0; i < n; i++) total += p[i] = std::exp(score[i] - top);
        for (double &weight : p) weight /= total;
        std::vector<double> out((size_t)dim), spread((size_t)dim), sum((size_t)dim), rounded((size_t)dim), moved((size_t)dim);
        std::vector<std::vector<float>> v;
        if (any) rounded = weight_error(c, s, first, kv, p);
        double mean_factor = 0;
        for (int i = 0; i < n; i++) {
            double weight = p[i], factor = 2 * error + kEps * (std::fabs(score[i] - top) + 8) + (any ? 1e-5 : 0);
            v.push_back(held(s.v.row(first + i) + kv));
            std::vector<double> v_error = rounding(c.dtype, Part::Value, s.v.row(first + i) + kv, dim);
            mean_factor += weight * factor;
            for (int d = 0; d < dim; d++) {
                rounded[d] += square(weight * v_error[d]);
                out[d] += weight * v[i][d];
                sum[d] += weight * std::fabs(v[i][d]);
                spread[d] += weight * (std::fabs(v[i][d]) * factor + (alike ? v_error[d] : 0));
            }
        }
        if (any) moved = moved_weight(p, score_error, v, out);
        for (int d = 0; d < dim; d++) {
            want.v.push_back((float)out[d]);
            // exp of less than -87 may be flushed to zero: 1e-37 of the largest weight each
            bound.push_back(spread[d] + mean_factor * std::fabs(out[d]) + sum_bound(kAttention, n, sum[d]) + (any ? 3 * std::sqrt(rounded[d]) : 0) +
                            moved[d] + n * 1e-36 * (c.fill == Fill::Outlier ? 1e4 : 10.0) * (sum[d] > 0));
        }
    }
    want.rows++;
}

} // namespace checker
#endif
