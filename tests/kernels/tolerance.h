// The one table of tolerances: how far a result may lie from the exact one, per op, the same for every backend.
//
// EXACT: equal bits. SUM(n): |got - ref| <= c sqrt(n) eps sum|a_i b_i|, for a sum of n products; the sum of magnitudes is
// of the terms as a kernel adds them, so a weight d q + m counts as |d q| + |m|. QUANT: a matmul that rounds x to int8
// per 32 values with step amax / 127, outliers of the row apart, which keep their value: SUM against the dot product with
// x rounded exactly like that, which no wrong scale survives, plus one step of |w| for each value of x so close to a tie that either neighbour is a correct rounding, and
// always within the worst case sum|w_i| step / 2 of the exact product. floor_abs sqrt(n) is what n roundings of
// subnormal intermediate results may add.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_TOLERANCE_H
#define WTL_TESTS_TOLERANCE_H

#include <cfloat>
#include <cmath>

namespace checker {

struct Tolerance {
    double c;         // factor before sqrt(n) eps sum|a b|
    double floor_abs; // absolute part per rounding: subnormals and, for rope_table, the error of the angle
};

constexpr double kEps = FLT_EPSILON; // 2^-23: two half-ulp roundings
constexpr double kSmallest = 0x1p-149;

// op                             c     absolute part. c is set to about three times the worst case seen, so that one wrong
//                                      block scale or one lost element is far outside.
constexpr Tolerance kMatmul     = {0.5, 2 * kSmallest};
constexpr Tolerance kEmbed      = {1.0, 2 * kSmallest};  // n = 2 terms: d q and m, then scale
constexpr Tolerance kRmsNorm    = {1.0, 2 * kSmallest};  // sum|a b| = |ref|: all terms of the mean are positive
constexpr Tolerance kRopeTable  = {0.5, 1e-9};           // one rounding of a value computed in double
constexpr Tolerance kRope       = {1.0, 2 * kSmallest};
constexpr Tolerance kGlu        = {4.0, 2 * kSmallest};  // vector exp and tanh of a few ulp
constexpr Tolerance kAttention  = {0.25, 4 * kSmallest};  // scores and weighted sum; F16 caches add KV16, Q8_0 ones KV8: attention_oracle.h
// add, gather_rows, embed with scale 1, kv_write: EXACT.

// Activations whose block maximum lies below this may count as zero: 127 / amax would overflow further down.
constexpr double kQuantTiny = 0x1p-110;
// Half-width, in steps, of the zone around a rounding tie in which either neighbour is accepted.
constexpr double kQuantTie = 1e-4;
// What makes an outlier; see matmul in backend.h.
constexpr float kOutlierFactor = 1.6f;

inline double sum_bound(const Tolerance &t, double n, double magnitude) {
    return t.c * std::sqrt(n) * kEps * magnitude + std::sqrt(n) * t.floor_abs;
}

} // namespace checker
#endif
