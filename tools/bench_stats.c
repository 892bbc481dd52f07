// See bench_stats.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_stats.h"

#include <math.h>

double bench_mean(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    return n ? sum / (double)n : 0;
}

double bench_stddev(const double *x, size_t n) {
    const double mean = bench_mean(x, n);
    double sum = 0;
    if (n < 2) return 0;
    for (size_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

// 97.5 % point of Student's t. Table of the small ones; above, the first terms of the expansion around the normal (Fisher and Cornish 1960).
static double student(double freedom) {
    static const double table[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281};
    const size_t n = sizeof table / sizeof *table;
    if (freedom < 1) return table[0];
    if (freedom < (double)n) { // between two rows the longer interval
        return table[(size_t)freedom - 1];
    }
    const double z = 1.959964, z3 = z * z * z, z5 = z3 * z * z;
    return z + (z3 + z) / (4 * freedom) + (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom * freedom);
}

static bench_ratio around(double log_ratio, double half) { return (bench_ratio){exp(log_ratio), exp(log_ratio - half), exp(log_ratio + half)}; }

bench_ratio bench_paired_ratio(const double *a, const double *b, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += log(b[i] / a[i]);
    const double mean = n ? sum / (double)n : NAN;
    for (size_t i = 0; i < n; i++) squares += (log(b[i] / a[i]) - mean) * (log(b[i] / a[i]) - mean);
    if (n < 2) return (bench_ratio){exp(mean), NAN, NAN};
    return around(mean, student((double)(n - 1)) * sqrt(squares / (double)(n - 1) / (double)n));
}

bench_ratio bench_means_ratio(const double *a, size_t n_a, const double *b, size_t n_b) {
    const double mean_a = bench_mean(a, n_a), mean_b = bench_mean(b, n_b), log_ratio = log(mean_b / mean_a);
    if (n_a < 2 || n_b < 2) return (bench_ratio){exp(log_ratio), NAN, NAN};
    const double rel_a = bench_stddev(a, n_a) / mean_a, rel_b = bench_stddev(b, n_b) / mean_b;
    const double va = rel_a * rel_a / (double)n_a, vb = rel_b * rel_b / (double)n_b;
    if (va + vb == 0) return around(log_ratio, 0);
    const double freedom = (va + vb) * (va + vb) / (va * va / (double)(n_a - 1) + vb * vb / (double)(n_b - 1)); // Welch 1947
    return around(log_ratio, student(freedom) * sqrt(va + vb));
}
