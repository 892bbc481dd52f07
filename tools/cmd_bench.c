// `wattle bench`: speed and joules of models on this machine, as rows that llama-bench's readers understand.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/bench_limits.h"
#include "tools/bench_options.h"

typedef struct bench {
    bench_options options;
    bench_case *cases; // [n_cases]
    size_t n_cases;
    tel_meter *meter;
    bench_model model;
    bench_roofs roofs;
    bench_printer printer;
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

static int run_case(bench *b, size_t i) {
    bench_settings settings = {.repetitions = (int32_t)b->options.repetitions, .no_warmup = b->options.no_warmup, .progress = b->options.progress,
                               .delay_s = b->options.delay_s, .case_index = i, .n_cases = b->n_cases, .meter = b->meter,
                               .no_meter = "the meter is switched off (--meter none)"};
    bench_result result = {0};
    bench_limit limit = {0};
    const bool reference = b->options.backend && strcmp(b->options.backend, "ref") == 0;
    int code = bench_model_open(&b->model, &b->cases[i], b->options.backend);
    if (code == CLI_GO && !b->options.no_limits) code = bench_roof(&b->roofs, &b->model, reference, &limit);
    if (code == CLI_GO) code = bench_run(&b->model, &b->cases[i], &settings, &result);
    result.limit = limit;
    if (result.n_samples && (code == CLI_GO || code == CLI_INTERRUPTED)) {
        json_t *row = bench_row(&b->model, &result);
        if (row) bench_print_row(&b->printer, row);
        else code = cli_fail("out of memory for the row of a test");
        note_use(b, &result.use);
        json_decref(row);
    }
    bench_result_free(&result);
    return code;
}

static int run_cases(bench *b) {
    int code = open_meter(b);
    if (code != CLI_GO) return code;
    choose_columns(b);
    for (size_t i = 0; i < b->n_cases && code == CLI_GO; i++) {
        code = cli_interrupted() ? CLI_INTERRUPTED : run_case(b, i);
        if (!cli_flush()) return CLI_OK; // a full disk, which cli_finish reports, or a reader that left
    }
    if (b->printer.n_rows || code == CLI_INTERRUPTED) bench_print_end(&b->printer);
    warn_of_use(b);
    return code == CLI_GO ? CLI_OK : code;
}

static int run_tests(bench *b) {
    int code = bench_cases(&b->options.params, &b->cases, &b->n_cases);
    if (code == CLI_GO) code = bench_cases_check(b->cases, b->n_cases);
    return code == CLI_GO ? run_cases(b) : code;
}

int cmd_bench(int argc, char **argv) {
    bench b = {.options = {.repetitions = 5}};
    int n_operands = 0;
    int code = bench_options_read(&b.options, argc, argv, NULL, 0, &n_operands);
    if (code == CLI_GO) {
        cli_catch_interrupt();
        code = b.options.limits ? bench_limits_command(&b.options.params.n_threads, b.options.format) : run_tests(&b);
    }
    bench_model_close(&b.model);
    tel_meter_close(&b.meter);
    free(b.cases);
    bench_options_free(&b.options);
    return cli_finish(code);
}
