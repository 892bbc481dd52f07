// Means, spreads and paired ratios.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_STATS_H
#define WTL_TOOLS_BENCH_STATS_H

#include <stddef.h>

double bench_mean(const double *x, size_t n);  // 0 for none
double bench_stddev(const double *x, size_t n); // of a sample (n - 1); 0 for fewer than two

typedef struct bench_ratio {
    double ratio, low, high; // low, high: 95 % confidence; both NaN for fewer than two samples
} bench_ratio;
// Geometric mean of b[i] / a[i] with Student's interval of the logarithms: what the two have in common (a machine that slows down)
// cancels in every pair. All values positive.
bench_ratio bench_paired_ratio(const double *a, const double *b, size_t n);
// Ratio of the means of two independent samples, with Welch's interval of the logarithms (delta method). Positive values.
bench_ratio bench_means_ratio(const double *a, size_t n_a, const double *b, size_t n_b);

#endif
