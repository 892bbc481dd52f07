// Runs tests of two settings in turns. See bench_vs.h.
//
// Both models are open at once and every repetition of A is followed by one of B, so that whatever the machine does in the meantime falls on
// both; the ratio is taken within each pair, and its interval from the spread of the pairs. The same model with the same threads is opened once.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_vs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench_compare.h"
#include "tools/bench_rows.h"
#include "tools/bench_stats.h"

typedef struct side {
    const bench_options *options;
    bench_case *cases;
    size_t n_cases;
    bench_model own;          // empty when it is the other side's
    const bench_model *model;
    bench_bout bout;
    bench_result result;
    uint64_t *from_ns, *to_ns; // [repetitions] windows of the repetitions, for the joules
} side;

// ---- One test -------------------------------------------------------------------------------------------------------
static bool same_backend(const char *a, const char *b) { return strcmp(a ? a : "cpu", b ? b : "cpu") == 0; }

static int open_models(side *a, side *b, size_t i) {
    const bench_case *x = &a->cases[i], *y = &b->cases[i];
    int code = bench_model_open(&a->own, x, a->options->backend);
    a->model = b->model = &a->own;
    if (code != CLI_GO || (strcmp(x->model, y->model) == 0 && x->n_threads == y->n_threads && same_backend(a->options->backend, b->options->backend))) return code;
    b->model = &b->own;
    return bench_model_open(&b->own, y, b->options->backend);
}

static int begin(side *s, size_t i, const bench_settings *settings) {
    uint64_t ns;
    const size_t n = (size_t)settings->repetitions;
    s->result = (bench_result){.at = s->cases[i], .samples_ns = calloc(n, sizeof *s->result.samples_ns)};
    s->result.at.n_threads = s->model->info.n_threads;
    s->from_ns = calloc(n, sizeof *s->from_ns);
    s->to_ns = calloc(n, sizeof *s->to_ns);
    if (!s->result.samples_ns || !s->from_ns || !s->to_ns) return cli_fail("out of memory for %zu repetitions", n);
    bench_test_time(&s->result);
    int code = bench_bout_open(&s->bout, s->model, &s->cases[i], false);
    if (code == CLI_GO) code = bench_bout_depth(&s->bout);
    return code == CLI_GO && !settings->no_warmup ? bench_bout_once(&s->bout, NULL, &ns) : code;
}

static void end(side *s) {
    bench_bout_close(&s->bout);
    bench_result_free(&s->result);
    free(s->from_ns);
    free(s->to_ns);
    s->from_ns = s->to_ns = NULL;
}

static int once(side *s, int32_t r) {
    bench_result *sum = &s->result;
    s->from_ns[r] = cli_now_ns();
    const int code = bench_bout_once(&s->bout, sum, &sum->samples_ns[r]);
    s->to_ns[r] = cli_now_ns();
    return code;
}

// The sums of a pair that was interrupted are not kept.
static int run_pairs(side *a, side *b, const bench_settings *settings) {
    int code = CLI_GO;
    for (int32_t r = 0; r < settings->repetitions && code == CLI_GO; r++) {
        const bench_result kept_a = a->result, kept_b = b->result;
        if (settings->progress) cli_note("bench: test %zu/%zu: pair %d/%d", settings->case_index + 1, settings->n_cases, r + 1, settings->repetitions);
        code = once(a, r);
        if (code == CLI_GO) code = once(b, r);
        if (code == CLI_GO) {
            a->result.n_samples++;
            b->result.n_samples++;
        } else {
            a->result = kept_a;
            b->result = kept_b;
        }
    }
    return code;
}

static void add_energy(side *s, const bench_settings *settings) {
    for (size_t r = 0; r < s->result.n_samples; r++) {
        const tel_energy one = bench_energy(settings, s->from_ns[r], s->to_ns[r]);
        s->result.energy = r ? tel_energy_add(&s->result.energy, &one) : one;
        s->result.energy_ns += s->to_ns[r] - s->from_ns[r];
    }
}

static json_t *pair_report(const side *a, const side *b, const bench_use *use) {
    const size_t n = a->result.n_samples;
    double *x = calloc(n + 1, sizeof *x), *y = calloc(n + 1, sizeof *y);
    bench_ratio ratio = {NAN, NAN, NAN};
    for (size_t i = 0; x && y && i < n; i++) {
        x[i] = bench_tokens(&a->result.at) / (double)a->result.samples_ns[i];
        y[i] = bench_tokens(&b->result.at) / (double)b->result.samples_ns[i];
    }
    if (x && y) ratio = bench_paired_ratio(x, y, n);
    free(x);
    free(y);
    char name_a[64], name_b[64], text[160];
    const char *busy = bench_use_warning(use, text, sizeof text);
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:s?}", "test_a", bench_case_name(&a->result.at, name_a, sizeof name_a), "test_b",
                     bench_case_name(&b->result.at, name_b, sizeof name_b), "a", bench_row(a->model, &a->result), "b", bench_row(b->model, &b->result), "ratio",
                     isfinite(ratio.ratio) ? json_real(ratio.ratio) : json_null(), "low", isfinite(ratio.low) ? json_real(ratio.low) : json_null(), "high",
                     isfinite(ratio.high) ? json_real(ratio.high) : json_null(), "n_pairs", (json_int_t)n, "busy", busy);
}

static int run_test(side *a, side *b, size_t i, const bench_settings *settings, json_t *out) {
    int code = open_models(a, b, i);
    if (code == CLI_GO) code = begin(a, i, settings);
    if (code == CLI_GO) code = begin(b, i, settings);
    if (code == CLI_GO) {
        const bench_moment before = bench_moment_now();
        code = run_pairs(a, b, settings);
        const bench_moment after = bench_moment_now();
        bench_use use = bench_use_between(&before, &after);
        use.mhz = bench_cpu_mhz();
        a->result.use = b->result.use = use;
        if (a->result.n_samples) {
            add_energy(a, settings);
            add_energy(b, settings);
            json_t *report = pair_report(a, b, &use);
            if (!report || json_array_append_new(out, report) != 0) code = cli_fail("out of memory for a comparison");
        }
    }
    end(a);
    end(b);
    return code;
}

// ---- The table --------------------------------------------------------------------------------------------------------
static void print_report(const json_t *rows_a, const json_t *report) {
    const json_t *a = json_object_get(report, "a"), *b = json_object_get(report, "b");
    const char *test_b = strcmp(bench_text(report, "test_a"), bench_text(report, "test_b")) ? bench_text(report, "test_b") : "";
    char label[BENCH_LABEL_TEXT], ratio[16], interval[48], joules_a[BENCH_JOULES_TEXT], joules_b[BENCH_JOULES_TEXT], saved[BENCH_JOULES_TEXT];
    bench_row_label(rows_a, a, label, sizeof label);
    bench_ratio_text(report, ratio, interval);
    bench_joules_text(a, joules_a, sizeof joules_a);
    bench_joules_text(b, joules_b, sizeof joules_b);
    bench_joules_ratio_text(a, b, saved, sizeof saved);
    cli_printf("| %s%s%s | %.2f | %.2f | %s | %s | %.0f | %s | %s | %s |\n", label, *test_b ? " : " : "", test_b, bench_number(a, "avg_ts"), bench_number(b, "avg_ts"), ratio,
               interval, bench_number(report, "n_pairs"), joules_a, joules_b, saved);
}

static void print_reports(const json_t *reports) {
    const json_t *report, *first = json_array_get(reports, 0);
    size_t i;
    char differences[BENCH_DIFFERENCES_TEXT];
    json_t *rows_a = json_array();
    json_array_foreach(reports, i, report) json_array_append(rows_a, json_object_get(report, "a"));
    if (!first || !rows_a) {
        json_decref(rows_a);
        return;
    }
    bench_differences(json_object_get(first, "a"), json_object_get(first, "b"), differences, sizeof differences);
    cli_printf("A: %s, %s\nB: %s\n\n", bench_text(json_object_get(first, "a"), "model_type"), bench_text(json_object_get(first, "a"), "engine"),
               *differences ? differences : "the same settings as A");
    cli_printf("| test | A t/s | B t/s | B / A | 95 %% interval | pairs | A J/token | B J/token | B / A |\n");
    cli_printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    json_array_foreach(reports, i, report) print_report(rows_a, report);
    json_decref(rows_a);
}

// ---- All ----------------------------------------------------------------------------------------------------------------
static int run_all(side *a, side *b, const bench_settings *settings) {
    json_t *reports = json_array();
    int code = reports ? CLI_GO : cli_fail("out of memory for the comparison");
    for (size_t i = 0; i < a->n_cases && code == CLI_GO; i++) {
        bench_settings now = *settings;
        now.case_index = i;
        now.n_cases = a->n_cases;
        code = run_test(a, b, i, &now, reports);
    }
    if (code == CLI_GO || code == CLI_INTERRUPTED) {
        if (a->options->format == BENCH_JSON) cli_put_json(reports);
        else print_reports(reports);
    }
    json_decref(reports);
    return code == CLI_GO ? CLI_OK : code;
}

int bench_vs_command(const bench_options *options_a, const bench_options *options_b, const bench_settings *settings) {
    side a = {.options = options_a}, b = {.options = options_b};
    if (options_a->format != BENCH_MD && options_a->format != BENCH_JSON) return cli_wrong("bench: --vs prints md or json");
    int code = bench_cases(&options_a->params, &a.cases, &a.n_cases);
    if (code == CLI_GO) code = bench_cases(&options_b->params, &b.cases, &b.n_cases);
    if (code == CLI_GO && a.n_cases != b.n_cases)
        code = cli_wrong("bench: --vs %s: A has %zu tests and B %zu; there must be as many of one as of the other", options_a->vs, a.n_cases, b.n_cases);
    if (code == CLI_GO) code = bench_cases_check(a.cases, a.n_cases);
    if (code == CLI_GO) code = bench_cases_check(b.cases, b.n_cases);
    if (code == CLI_GO) code = run_all(&a, &b, settings);
    bench_model_close(&a.own);
    bench_model_close(&b.own);
    free(a.cases);
    free(b.cases);
    return code;
}
