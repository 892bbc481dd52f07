// `wattle bench --plot FILE.svg`: tokens/s, and joules a token where known, over what varies.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_PLOT_H
#define WTL_TOOLS_BENCH_PLOT_H

#include "tools/bench.h"

// Whether path can be written and gnuplot run: asked before anything is measured. CLI_GO, or CLI_FAILED after a message.
int bench_plot_check(const char *path);
// Draws rows into path. CLI_GO, or CLI_FAILED after a message.
int bench_plot(const json_t *rows, const char *path);
// The script for gnuplot that draws them on its standard output, malloc'ed; NULL when out of memory.
char *bench_plot_script(const json_t *rows);

#endif
