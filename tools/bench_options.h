// The options of `wattle bench`: the table, and what the lists mean.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_OPTIONS_H
#define WTL_TOOLS_BENCH_OPTIONS_H

#include "tools/bench.h"
#include "tools/meter_options.h"

typedef struct bench_options {
    cli_list models, n_prompt, n_gen, pairs, n_depth, n_batch, n_ubatch, type_k, type_v, n_threads, n_parallel;
    int64_t repetitions, delay_s;
    const char *output, *backend, *vs, *plot;
    bool no_warmup, progress, no_limits, limits, profile, compare, calibrate;
    cli_meter meter;
    // After bench_options_read.
    bench_format format;
    bench_params params;
    char *texts[32]; // malloc'ed paths that params points to
    size_t n_texts;
    char *words;     // of bench_options_vary; malloc'ed, the lists point into it
    size_t words_len;
} bench_options;

// Reads the command line and fills format and params. CLI_GO, or an exit code after a message. Free options in every case.
int bench_options_read(bench_options *options, int argc, char **argv, const char **operands, int max_operands, int *n_operands);
// The options of the other side of --vs: `a` with what text says, a model's path or options ("-t 2 -ub 256").
int bench_options_vary(const bench_options *a, const char *text, bench_options *out);
void bench_options_free(bench_options *options);

#endif
