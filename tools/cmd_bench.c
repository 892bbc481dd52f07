// `wattle bench`: speed and joules of models on this machine, as rows that llama-bench's readers understand.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/bench_calibrate.h"
#include "tools/bench_compare.h"
#include "tools/bench_limits.h"
#include "tools/bench_options.h"
#include "tools/bench_plot.h"
#include "tools/bench_profile.h"
#include "tools/bench_vs.h"

typedef struct bench {
    bench_options options;
    bench_case *cases; // [n_cases]
    size_t n_cases;
    tel_meter *meter;
    bench_model model;
    bench_roofs roofs;
    bench_printer printer;
    json_t *rows;        // all of them, for --plot; NULL: not wanted
    size_t n_busy;       // tests during which others used the machine
    bench_use worst_use; // of those
} bench;

static int open_meter(bench *b) {
    const char *source = b->options.meter.source;
    int code = cli_meter_open("bench", &b->options.meter, &b->meter);
    if (code == CLI_GO && b->options.progress) cli_note("bench: energy: %s", source ? source : tel_meter_explain(b->meter));
    return code;
}

static bool several(const bench_list *list, int32_t usual) { return list->n > 1 || (list->n == 1 && list->values[0] != usual); }

static void choose_columns(bench *b) {
    const bench_params *p = &b->options.params;
    b->printer = (bench_printer){.format = b->options.format, .show_batch = several(&p->n_batch, 2048), .show_ubatch = several(&p->n_ubatch, 512),
                                 .show_kv = p->n_type_k > 0 || p->n_type_v > 0, .energy = tel_meter_n_counting(b->meter) > 0};
}

static void note_use(bench *b, const bench_use *use) {
    char text[160];
    if (!bench_use_warning(use, text, sizeof text)) return;
    b->n_busy++;
    if (use->others_frac + use->steal_frac > b->worst_use.others_frac + b->worst_use.steal_frac) b->worst_use = *use;
}

static void warn_of_use(const bench *b) {
    char text[160];
    if (b->n_busy) cli_warn("in %zu of %zu tests %s (the worst of them): these figures are too low", b->n_busy, b->n_cases, bench_use_warning(&b->worst_use, text, sizeof text));
}

static bench_settings settings_of(const bench *b, size_t i) {
    return (bench_settings){.repetitions = (int32_t)b->options.repetitions, .no_warmup = b->options.no_warmup, .progress = b->options.progress,
                            .delay_s = b->options.delay_s, .case_index = i, .n_cases = b->n_cases, .meter = b->meter,
                            .no_meter = "the meter is switched off (--meter none)"};
}

// The model of a test, and what the machine allows with its threads.
static int prepare(bench *b, size_t i, bench_limit *limit) {
    const bool reference = b->options.backend && strcmp(b->options.backend, "ref") == 0;
    const int code = bench_model_open(&b->model, &b->cases[i], b->options.backend);
    return code == CLI_GO && !b->options.no_limits ? bench_roof(&b->roofs, &b->model, reference, limit) : code;
}

static int run_case(bench *b, size_t i) {
    const bench_settings settings = settings_of(b, i);
    bench_result result = {0};
    bench_limit limit = {0};
    int code = prepare(b, i, &limit);
    if (code == CLI_GO) code = bench_run(&b->model, &b->cases[i], &settings, &result);
    result.limit = limit;
    if (result.n_samples && (code == CLI_GO || code == CLI_INTERRUPTED)) {
        json_t *row = bench_row(&b->model, &result);
        if (row) bench_print_row(&b->printer, row);
        if (!row || (b->rows && json_array_append(b->rows, row) != 0)) code = cli_fail("out of memory for the row of a test");
        note_use(b, &result.use);
        json_decref(row);
    }
    bench_result_free(&result);
    return code;
}

static int run_cases(bench *b) {
    int code = b->options.plot ? bench_plot_check(b->options.plot) : CLI_GO;
    if (code == CLI_GO && b->options.plot && !(b->rows = json_array())) code = cli_fail("out of memory for the plot");
    if (code == CLI_GO) code = open_meter(b);
    if (code != CLI_GO) return code;
    choose_columns(b);
    for (size_t i = 0; i < b->n_cases && code == CLI_GO; i++) {
        code = cli_interrupted() ? CLI_INTERRUPTED : run_case(b, i);
        if (!cli_flush()) return CLI_OK; // a full disk, which cli_finish reports, or a reader that left
    }
    if (b->printer.n_rows || code == CLI_INTERRUPTED) bench_print_end(&b->printer);
    warn_of_use(b);
    if (b->rows && json_array_size(b->rows) && (code == CLI_GO || code == CLI_INTERRUPTED)) {
        const int drawn = bench_plot(b->rows, b->options.plot);
        if (drawn != CLI_GO) return drawn;
    }
    return code == CLI_GO ? CLI_OK : code;
}

static int profile_cases(bench *b) {
    if (b->options.format != BENCH_MD && b->options.format != BENCH_JSON) return cli_wrong("bench: --profile prints md or json");
    json_t *reports = json_array();
    int code = reports ? CLI_GO : cli_fail("out of memory for the profiles");
    for (size_t i = 0; i < b->n_cases && code == CLI_GO; i++) {
        const bench_settings settings = settings_of(b, i);
        bench_limit limit = {0};
        code = prepare(b, i, &limit);
        if (code == CLI_GO) code = bench_profile_case(&b->model, &b->cases[i], &settings, &limit, reports);
    }
    if (code == CLI_GO || code == CLI_INTERRUPTED) bench_profile_print(reports, b->options.format);
    json_decref(reports);
    return code == CLI_GO ? CLI_OK : code;
}

static int run_versus(bench *b) {
    bench_options other;
    int code = bench_options_vary(&b->options, b->options.vs, &other);
    if (code == CLI_GO) code = open_meter(b);
    if (code == CLI_GO) {
        const bench_settings settings = settings_of(b, 0);
        code = bench_vs_command(&b->options, &other, &settings);
    }
    bench_options_free(&other);
    return code;
}

// Runs it, and says so when others used the machine meanwhile.
static int watched(bench *b, int (*work)(bench *b)) {
    char text[160];
    const bench_moment before = bench_moment_now();
    const int code = work(b);
    const bench_moment after = bench_moment_now();
    const bench_use use = bench_use_between(&before, &after);
    if (code == CLI_OK && bench_use_warning(&use, text, sizeof text)) cli_warn("%s: these figures are too low", text);
    return code;
}

static int run_tests(bench *b) {
    int code = bench_cases(&b->options.params, &b->cases, &b->n_cases);
    if (code == CLI_GO) code = bench_cases_check(b->cases, b->n_cases);
    if (code != CLI_GO) return code;
    return b->options.profile ? watched(b, profile_cases) : run_cases(b);
}

static int dispatch(bench *b, const char *const operands[2], int n_operands) {
    const bench_options *o = &b->options;
    if (o->compare && n_operands != 2) return cli_wrong("bench: --compare needs two files: wattle bench --compare A.json B.json");
    if (!o->compare && n_operands) return cli_wrong("bench: unexpected word '%s'; try `wattle bench --help`", operands[0]);
    if (o->limits + o->profile + o->compare + o->calibrate + (o->vs != NULL) > 1) return cli_wrong("bench: --limits, --profile, --compare, --calibrate and --vs exclude each other");
    if (o->plot && (o->limits || o->profile || o->compare || o->calibrate || o->vs)) return cli_wrong("bench: --plot draws plain tests, without --limits, --profile, --compare, --calibrate and --vs");
    cli_catch_interrupt();
    if (o->compare) return bench_compare_command(operands[0], operands[1], o->format);
    if (o->limits) return bench_limits_command(&o->params.n_threads, o->format);
    if (o->calibrate) return bench_calibrate_command(o->params.models[0], o->format);
    return o->vs ? watched(b, run_versus) : run_tests(b);
}

int cmd_bench(int argc, char **argv) {
    bench b = {.options = {.repetitions = 5}};
    const char *operands[2];
    int n_operands = 0;
    int code = bench_options_read(&b.options, argc, argv, operands, 2, &n_operands);
    if (code == CLI_GO) code = dispatch(&b, operands, n_operands);
    bench_model_close(&b.model);
    tel_meter_close(&b.meter);
    json_decref(b.rows);
    free(b.cases);
    bench_options_free(&b.options);
    return cli_finish(code);
}
