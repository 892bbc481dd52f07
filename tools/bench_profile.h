// `wattle bench --profile`: the roofline report of every test, operation by operation.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_PROFILE_H
#define WTL_TOOLS_BENCH_PROFILE_H

#include "tools/bench.h"

// One test, as often as settings say, added to `out` (an array) as an object; printed by bench_profile_print. CLI_GO, CLI_FAILED after a
// message, or CLI_INTERRUPTED.
int bench_profile_case(const bench_model *model, const bench_case *c, const bench_settings *settings, const bench_limit *limit, json_t *out);
void bench_profile_print(const json_t *reports, bench_format format); // md or json

#endif
