// See bench_limits.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_limits.h"

// A thread count's limits, measured at most once; beyond the room for them they are measured again each time.
static int limits_of(bench_roofs *roofs, int32_t n_threads, wtl_limits *out) {
    wtl_error err = {0};
    for (size_t i = 0; i < roofs->n; i++) {
        if (roofs->known[i].n_threads != n_threads) continue;
        *out = roofs->known[i];
        return CLI_GO;
    }
    if (wtl_limits_measure(n_threads, out, &err) != WTL_OK) return cli_fail("%s", err.message);
    if (roofs->n < BENCH_ROOFS_MAX) roofs->known[roofs->n++] = *out;
    return CLI_GO;
}

int bench_roof(bench_roofs *roofs, const bench_model *model, bool reference, bench_limit *out) {
    wtl_limits l;
    const int code = limits_of(roofs, model->info.n_threads, &l);
    if (code != CLI_GO) return code;
    const bool floats = model->float_weights || reference;
    *out = (bench_limit){.read_gb_per_s = l.read_gb_per_s, .gmac_per_s = floats ? l.f32_gmac_per_s : l.int8_gmac_per_s,
                         .int8_gmac_per_s = l.int8_gmac_per_s, .int16_gmac_per_s = l.int16_gmac_per_s, .f32_gmac_per_s = l.f32_gmac_per_s,
                         .arithmetic = floats ? l.f32_arithmetic : l.int8_arithmetic};
    return CLI_GO;
}

static json_t *limits_json(const wtl_limits *l) {
    return json_pack("{s:i, s:f, s:f, s:s, s:f, s:s, s:f, s:s, s:f, s:s, s:I}", "n_threads", (int)l->n_threads, "read_gb_per_s", l->read_gb_per_s, "plain_read_gb_per_s",
                     l->plain_gb_per_s, "read_pattern", l->read_pattern, "int8_gmac_per_s", l->int8_gmac_per_s, "int8_arithmetic", l->int8_arithmetic,
                     "int16_gmac_per_s", l->int16_gmac_per_s, "int16_arithmetic", l->int16_arithmetic,
                     "f32_gmac_per_s", l->f32_gmac_per_s, "f32_arithmetic", l->f32_arithmetic, "buffer_bytes", (json_int_t)l->buffer_bytes);
}

static void print_rows(const wtl_limits *limits, size_t n) {
    char cpu[128];
    cli_printf("%s; memory reads of %.0f MB, the best of many patterns; multiply-adds with all operands in registers\n\n", bench_cpu_name(cpu, sizeof cpu),
               (double)limits[0].buffer_bytes / 1e6);
    cli_printf("| threads | memory GB/s | plain GB/s | int8 GMAC/s | int16 GMAC/s | f32 GMAC/s | best way to read |\n| ---: | ---: | ---: | ---: | ---: | ---: | --- |\n");
    for (size_t i = 0; i < n; i++)
        cli_printf("| %d | %.1f | %.1f | %.0f | %.0f | %.0f | %s |\n", limits[i].n_threads, limits[i].read_gb_per_s, limits[i].plain_gb_per_s, limits[i].int8_gmac_per_s,
                   limits[i].int16_gmac_per_s, limits[i].f32_gmac_per_s, limits[i].read_pattern);
    cli_printf("\nplain: 4 KiB pages without prefetching; int8: %s; int16: %s; f32: %s\n", limits[0].int8_arithmetic,
               limits[0].int16_arithmetic, limits[0].f32_arithmetic);
}

static int print_limits(const wtl_limits *limits, size_t n, bench_format format) {
    if (format == BENCH_MD) {
        print_rows(limits, n);
        return CLI_OK;
    }
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(all, limits_json(&limits[i]));
    const bool good = all && json_array_size(all) == n;
    if (good) cli_put_json(all);
    json_decref(all);
    return good ? CLI_OK : cli_fail("out of memory for the limits");
}

int bench_limits_command(const bench_list *threads, bench_format format) {
    wtl_limits limits[BENCH_LIST_MAX];
    wtl_error err = {0};
    size_t n = 0;
    if (format != BENCH_MD && format != BENCH_JSON) return cli_wrong("bench: --limits prints md or json");
    const bench_moment before = bench_moment_now();
    for (size_t i = 0; i < (threads->n ? threads->n : 2) && !cli_interrupted(); i++) {
        const int32_t asked = threads->n ? threads->values[i] : i == 0 ? 1 : 0;
        if (wtl_limits_measure(asked, &limits[n], &err) != WTL_OK) return cli_fail("%s", err.message);
        if (threads->n || i == 0 || limits[n].n_threads != 1) n++; // all threads of a machine with one core: the same again
    }
    const bench_moment after = bench_moment_now();
    const bench_use use = bench_use_between(&before, &after);
    char text[160];
    if (bench_use_warning(&use, text, sizeof text)) cli_warn("%s: limits may be higher", text);
    const int code = n ? print_limits(limits, n, format) : CLI_OK;
    return cli_interrupted() ? CLI_INTERRUPTED : code;
}
