// Defaults of sampling, and the way to the library's options. See sampling_options.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/sampling_options.h"

#include <sys/random.h>

cli_sampling cli_sampling_defaults(void) {
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint32_t)cli_now_ns();
    return (cli_sampling){.temp = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repeat_penalty = 1, .last_n = 64, .seed = seed};
}

wtl_sampler_options cli_sampler_options(const cli_sampling *s) {
    wtl_sampler_options options = {
        .temperature = (float)s->temp, .top_k = (int32_t)s->top_k, .top_p = (float)s->top_p, .min_p = (float)s->min_p,
        .repeat_penalty = (float)s->repeat_penalty, .presence_penalty = (float)s->presence_penalty, .frequency_penalty = (float)s->frequency_penalty,
        .penalty_last_n = (int32_t)s->last_n, .seed = (uint64_t)s->seed};
    if (s->last_n == 0) options.repeat_penalty = options.presence_penalty = options.frequency_penalty = 0;
    return options;
}
