// How the next token is chosen: the options that `run` and `chat` share.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SAMPLING_OPTIONS_H
#define WTL_TOOLS_SAMPLING_OPTIONS_H

#include "runtime/wattle.h"
#include "tools/cli.h"

typedef struct cli_sampling {
    int64_t top_k, last_n, seed;
    double temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
} cli_sampling;

cli_sampling cli_sampling_defaults(void); // the seed is random
// last_n 0 switches the penalties off.
wtl_sampler_options cli_sampler_options(const cli_sampling *sampling);

#define CLI_SEED_MAX 9007199254740991.0 // 2^53 - 1: exact in every JSON reader

#define CLI_OPTIONS_SAMPLING(s) \
    {.name = "temp", .kind = CLI_FLOAT, .value = &(s)->temp, .arg = "X", .max = 100, .help = "temperature; 0: always the likeliest token (default 0.8)"}, \
    {.name = "top-k", .kind = CLI_INT, .value = &(s)->top_k, .arg = "N", .max = 2147483647, .help = "keep the N likeliest tokens; 0: all (default 40)"}, \
    {.name = "top-p", .kind = CLI_FLOAT, .value = &(s)->top_p, .arg = "X", .min = 1e-6, .max = 1, .help = "keep the likeliest that together reach X; 1: all (default 0.95)"}, \
    {.name = "min-p", .kind = CLI_FLOAT, .value = &(s)->min_p, .arg = "X", .max = 1, .help = "drop tokens below X times the likeliest; 0: none (default 0.05)"}, \
    {.name = "repeat-penalty", .kind = CLI_FLOAT, .value = &(s)->repeat_penalty, .arg = "X", .min = 0.01, .max = 100, .help = "divides the logit of recent tokens; 1: off (default 1)"}, \
    {.name = "presence-penalty", .kind = CLI_FLOAT, .value = &(s)->presence_penalty, .arg = "X", .min = -100, .max = 100, .help = "taken off the logit of recent tokens (default 0)"}, \
    {.name = "frequency-penalty", .kind = CLI_FLOAT, .value = &(s)->frequency_penalty, .arg = "X", .min = -100, .max = 100, .help = "taken off once per recent occurrence (default 0)"}, \
    {.name = "repeat-last-n", .kind = CLI_INT, .value = &(s)->last_n, .arg = "N", .min = -1, .max = 1 << 20, .help = "tokens that count as recent; -1: all, 0: none (default 64)"}, \
    {.name = "seed", .kind = CLI_INT, .value = &(s)->seed, .arg = "N", .max = CLI_SEED_MAX, .help = "same seed, same text (default: random, printed)"}

#endif
