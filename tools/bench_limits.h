// The machine's limits for `wattle bench`: measured once per number of threads, printed by --limits.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_LIMITS_H
#define WTL_TOOLS_BENCH_LIMITS_H

#include "runtime/limits.h"
#include "tools/bench.h"

enum { BENCH_ROOFS_MAX = 32 };

typedef struct bench_roofs { // zero-initialise
    wtl_limits known[BENCH_ROOFS_MAX];
    size_t n;
} bench_roofs;

// What the machine allows with that many threads and weights of the model's kind. Measures (half a second) what is not known yet.
// CLI_GO, or CLI_FAILED after a message.
int bench_roof(bench_roofs *roofs, const bench_model *model, bool reference, bench_limit *out);

// `wattle bench --limits`: with 1 thread and with all, or with those asked for. An exit code.
int bench_limits_command(const bench_list *threads, bench_format format);

#endif
