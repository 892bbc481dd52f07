// `wattle bench --vs`: two models or two settings, interleaved A B A B, and the ratio of neighbours.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_VS_H
#define WTL_TOOLS_BENCH_VS_H

#include "tools/bench_options.h"

// The tests of `a` against those of `b`, one by one; there must be as many. settings.repetitions pairs of each. An exit code.
int bench_vs_command(const bench_options *a, const bench_options *b, const bench_settings *settings);

#endif
