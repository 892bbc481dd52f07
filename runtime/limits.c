// The machine's limits, as kernels/cpu measures them. See limits.h.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/limits.h"

#include <stdio.h>

#include "kernels/cpu/limits.h"

static void describe_pattern(const cpu_limits *l, char *text, size_t cap) {
    size_t n = (size_t)snprintf(text, cap, "%s pages", l->huge_pages ? "huge" : "4 KiB");
    if (l->pattern.streams > 1 && n < cap) n += (size_t)snprintf(text + n, cap - n, ", %d streams", l->pattern.streams);
    if (l->pattern.ahead && n < cap)
        snprintf(text + n, cap - n, ", prefetching %d bytes ahead%s", l->pattern.ahead, l->pattern.passing ? " past the caches" : "");
    else if (n < cap) snprintf(text + n, cap - n, ", no prefetching");
}

wtl_status wtl_limits_measure(int32_t n_threads, wtl_limits *out, wtl_error *err) {
    cpu_limits found;
    if (n_threads == 0) n_threads = cpu_default_threads();
    const wtl_status status = cpu_limits_measure(n_threads, NULL, &found, err);
    if (status) return status;
    *out = (wtl_limits){.n_threads = n_threads, .read_gb_per_s = found.read_gbs, .plain_gb_per_s = found.plain_gbs, .int8_gmac_per_s = found.int8_gmacs,
                        .int16_gmac_per_s = found.int16_gmacs, .f32_gmac_per_s = found.f32_gmacs, .int8_arithmetic = found.int8_name,
                        .int16_arithmetic = found.int16_name, .f32_arithmetic = found.f32_name, .buffer_bytes = found.buffer_bytes};
    describe_pattern(&found, out->read_pattern, sizeof out->read_pattern);
    return WTL_OK;
}
