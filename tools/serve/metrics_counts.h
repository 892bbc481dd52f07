// Inside of the metrics: the counters, shared by the counting (metrics.c) and the text (metrics_text.c).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_METRICS_COUNTS_H
#define WTL_TOOLS_SERVE_METRICS_COUNTS_H

#include "tools/serve/metrics.h"

enum { METRICS_BUCKETS = 12, METRICS_OUTCOMES = 7 };

extern const char *const metrics_outcomes[METRICS_OUTCOMES];
// Upper bounds of buckets, fixed: histograms of several servers and of all times add up.
extern const double metrics_seconds[METRICS_BUCKETS], metrics_short_seconds[METRICS_BUCKETS], metrics_joules[METRICS_BUCKETS];

typedef struct metrics_histogram {
    const double *bounds;            // [METRICS_BUCKETS], ascending
    uint64_t n[METRICS_BUCKETS + 1]; // of each bucket alone; the last: beyond all bounds
    double sum;
} metrics_histogram;
void metrics_observe(metrics_histogram *histogram, double value);

typedef struct metrics_counts {
    uint64_t outcome[METRICS_OUTCOMES];
    uint64_t prefill_ns, decode_ns; // of ended answers: from start to first token, from first token to last
    metrics_histogram ttft, tpot, total, joules;
    uint64_t avoided_uj, n_unknown, n_refused;
} metrics_counts;
metrics_counts metrics_copy(server_metrics *metrics);

#endif
