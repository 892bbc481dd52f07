// Where the time of a step goes, and how near each operation is to what the machine allows. See bench_profile.h.
//
// An operation is held against two roofs: bytes against memory reads, multiply-adds of matrices against the arithmetic of the weights, those of
// attention against that of the KV cache: the time that the machine would take at its best for each kind, of the time that passed. The nearer
// roof is the one that it hangs from. Small operands stay in the caches, so that shares of memory above 100 % are possible.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_profile.h"

#include <stdio.h>
#include <string.h>

#include "runtime/profile.h"
#include "tools/bench_rows.h"

enum { OPS_MAX = 32 };

static json_t *real_or_null(bool known, double value) { return known ? json_real(value) : json_null(); }

// Percent of ns that the multiply-adds would take at the machine's limits; negative when there are none or a limit is unknown.
static double compute_share(const wtl_op_profile *op, const bench_limit *limit, double ns) {
    const uint64_t of_weights = op->macs - op->int8_macs - op->int16_macs - op->f32_macs;
    const struct {
        uint64_t macs;
        double gmac_per_s;
    } kinds[] = {{of_weights, limit->gmac_per_s}, {op->int8_macs, limit->int8_gmac_per_s}, {op->int16_macs, limit->int16_gmac_per_s}, {op->f32_macs, limit->f32_gmac_per_s}};
    double least_ns = 0;
    for (size_t i = 0; i < CLI_COUNT(kinds); i++) {
        if (kinds[i].macs && !(kinds[i].gmac_per_s > 0)) return -1;
        if (kinds[i].macs) least_ns += (double)kinds[i].macs / kinds[i].gmac_per_s;
    }
    return op->macs ? 100 * least_ns / ns : -1;
}

static json_t *op_json(const wtl_op_profile *op, const wtl_profile *totals, const bench_limit *limit) {
    const double ns = op->ns ? (double)op->ns : 1, gbs = (double)op->bytes / ns, gmacs = (double)op->macs / ns;
    const double compute = compute_share(op, limit, ns), steps = (double)totals->n_steps;
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "op", op->name, "time_share", ns / (double)totals->step_ns, "ns_per_step", ns / steps,
                     "calls_per_step", (double)op->n_calls / steps, "bytes_per_step", (double)op->bytes / steps, "macs_per_step", (double)op->macs / steps,
                     "gb_per_s", gbs, "gmac_per_s", gmacs, "pct_bandwidth", real_or_null(limit->read_gb_per_s > 0, 100 * gbs / limit->read_gb_per_s),
                     "pct_compute", real_or_null(compute >= 0, compute));
}

static json_t *report_json(const bench_bout *bout, const bench_limit *limit) {
    wtl_op_profile ops[OPS_MAX];
    wtl_profile totals = {0};
    size_t n = wtl_session_profile(bout->session, &totals, ops, OPS_MAX);
    if (n > OPS_MAX) n = OPS_MAX;
    if (!totals.n_steps || !totals.step_ns) return NULL;
    json_t *list = json_array();
    double explained = 0;
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, op_json(&ops[i], &totals, limit));
        explained += (double)ops[i].ns;
    }
    char name[64];
    return json_pack("{s:s, s:o, s:s, s:I, s:f, s:f, s:o, s:o, s:o, s:o}", "test", bench_case_name(&bout->at, name, sizeof name), "model_filename", cli_json_text(bout->model->path),
                     "engine", bout->model->info.backend, "n_steps", (json_int_t)totals.n_steps, "ns_per_step", (double)totals.step_ns / (double)totals.n_steps,
                     "explained_frac", explained / (double)totals.step_ns, "limit_gb_per_s", real_or_null(limit->read_gb_per_s > 0, limit->read_gb_per_s), "limit_gmac_per_s",
                     real_or_null(limit->gmac_per_s > 0, limit->gmac_per_s), "limit_int16_gmac_per_s", real_or_null(limit->int16_gmac_per_s > 0, limit->int16_gmac_per_s), "ops", list);
}

static bool has_steps(const bench_bout *bout) {
    wtl_profile totals = {0};
    wtl_session_profile(bout->session, &totals, NULL, 0);
    return totals.n_steps > 0;
}

int bench_profile_case(const bench_model *model, const bench_case *c, const bench_settings *settings, const bench_limit *limit, json_t *out) {
    bench_bout bout = {0};
    bench_result ignored = {0};
    uint64_t ns;
    int code = bench_bout_open(&bout, model, c, true);
    if (code == CLI_GO) code = bench_bout_depth(&bout);
    if (code == CLI_GO && !settings->no_warmup) code = bench_bout_once(&bout, NULL, &ns);
    const bool warm = code == CLI_GO;
    if (warm) wtl_session_profile_reset(bout.session);
    for (int32_t r = 0; r < settings->repetitions && code == CLI_GO; r++) code = bench_bout_once(&bout, &ignored, &ns);
    if (code == CLI_GO || (code == CLI_INTERRUPTED && warm && has_steps(&bout))) { // the steps that were done before Ctrl-C count
        json_t *report = report_json(&bout, limit);
        if (!report || json_array_append_new(out, report) != 0) code = cli_fail("out of memory for a profile");
    }
    bench_bout_close(&bout);
    return code;
}

// ---- The table ------------------------------------------------------------------------------------------------------
static void share_text(const json_t *op, const char *name, char text[16]) {
    if (bench_has(op, name)) snprintf(text, 16, "%.0f %%", bench_number(op, name));
    else snprintf(text, 16, "-");
}

static void print_op(const json_t *op) {
    char memory[16], compute[16];
    share_text(op, "pct_bandwidth", memory);
    share_text(op, "pct_compute", compute);
    cli_printf("| %-24s | %5.1f %% | %9.3f | %6.0f | %9.2f | %9.3f | %7.1f | %6s | %8.1f | %6s |\n", bench_text(op, "op"), 100 * bench_number(op, "time_share"),
               bench_number(op, "ns_per_step") / 1e6, bench_number(op, "calls_per_step"), bench_number(op, "bytes_per_step") / 1e6, bench_number(op, "macs_per_step") / 1e9,
               bench_number(op, "gb_per_s"), memory, bench_number(op, "gmac_per_s"), compute);
}

static void print_report(const json_t *report) {
    const json_t *op;
    size_t i;
    const double ns = bench_number(report, "ns_per_step"), explained = bench_number(report, "explained_frac");
    double bytes = 0, macs = 0;
    cli_printf("\n%s, %s, %s: %.3f ms a step (%.0f steps)", bench_text(report, "model_filename"), bench_text(report, "test"), bench_text(report, "engine"), ns / 1e6,
               bench_number(report, "n_steps"));
    if (bench_has(report, "limit_gb_per_s"))
        cli_printf("; memory %.1f GB/s, %.0f GMAC/s, of 16-bit numbers %.0f", bench_number(report, "limit_gb_per_s"), bench_number(report, "limit_gmac_per_s"),
                   bench_number(report, "limit_int16_gmac_per_s"));
    cli_printf("\n\n");
    cli_printf("| %-24s | %7s | %9s | %6s | %9s | %9s | %7s | %6s | %8s | %6s |\n", "per step", "time", "ms", "calls", "MB", "GMAC", "GB/s", "limit", "GMAC/s", "limit");
    cli_printf("| ------------------------ | ------: | --------: | -----: | --------: | --------: | ------: | -----: | -------: | -----: |\n");
    json_array_foreach(json_object_get(report, "ops"), i, op) {
        print_op(op);
        bytes += bench_number(op, "bytes_per_step");
        macs += bench_number(op, "macs_per_step");
    }
    cli_printf("| %-24s | %5.1f %% | %9.3f | %6s | %9.2f | %9.3f | %7.1f | %6s | %8.1f | %6s |\n", "all of these", 100 * explained, explained * ns / 1e6, "", bytes / 1e6,
               macs / 1e9, bytes / ns, "", macs / ns, "");
}

void bench_profile_print(const json_t *reports, bench_format format) {
    const json_t *report;
    size_t i;
    if (format == BENCH_JSON) {
        cli_put_json(reports);
        return;
    }
    json_array_foreach(reports, i, report) print_report(report);
}
