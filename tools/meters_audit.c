// `wattle meters audit`: does the stated bound hold? A recorded sensor is played back through the meter, as it would have been read live, and
// random windows are held against a better meter that ran beside it.
//
// The figures come from tel_meter_energy() on a meter whose clock is turned by hand: source, integration and bound are those of every other
// command. Only the naive figure, for comparison, is computed here.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "telemetry/telemetry.h"
#include "tools/cli.h"
#include "tools/meters.h"
#include "tools/power_csv.h"

static const double lengths_s[] = {0.05, 0.1, 0.2, 0.5, 1, 2, 5};
static const double MARGIN_S = 0.4;    // windows stay away from the recording's ends by this much
static const double POLL_S = 0.02;     // turns of the clock
static const double START_S = 1;       // clock at opening, so that nothing happens at 0

typedef struct audit_row {
    double window_s;
    size_t n, n_unavailable, n_covered, n_below;
    double median, p95, bias, naive_p99;
} audit_row;

typedef struct audit {
    const char *sensor, *truth, *card, *calibration;
    int64_t windows, seed;
    bool json;
    power_csv readings, truths;
    tel_meter *meter;
    uint64_t now_ns;
    tel_domain_info domain;
    audit_row rows[CLI_COUNT(lengths_s)];
    size_t n_rows;
} audit;

static uint64_t clock_ns(void *user) { return ((const audit *)user)->now_ns; }

// xorshift64*: the same windows for the same seed everywhere.
static double next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * 0x2545F4914F6CDD1Dull) >> 11) / 9007199254740992.0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// p in 0..1 of n sorted values, n > 0.
static double quantile(const double *sorted, size_t n, double p) {
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static int play(audit *a) {
    char *source = malloc(strlen(a->sensor) + sizeof "replay:");
    if (!source) return cli_fail("out of memory");
    strcpy(stpcpy(source, "replay:"), a->sensor);
    double length_s = a->readings.t_s[a->readings.n - 1] - a->readings.t_s[0];
    tel_options options = {.source = source, .card = a->card, .calibration_path = a->calibration, .manual = true, .clock = {clock_ns, a},
                           .history_ns = (uint64_t)((length_s + 10) * 1e9)};
    a->now_ns = (uint64_t)(START_S * 1e9);
    tel_error err = {0};
    tel_result result = tel_meter_open(&options, &a->meter, &err);
    free(source);
    if (result != TEL_OK) return cli_fail("%s", err.message);
    if (tel_meter_n_counting(a->meter) < 1) return cli_fail("%s: %s", a->sensor, tel_meter_explain(a->meter));
    for (double t = 0; t < length_s + 1; t += POLL_S) {
        a->now_ns = (uint64_t)((START_S + t) * 1e9);
        tel_meter_poll(a->meter);
        if (cli_interrupted()) return CLI_INTERRUPTED;
    }
    a->domain = tel_meter_domain(a->meter, 0);
    return CLI_GO;
}

static int audit_length(audit *a, double window_s, double from_s, double to_s, uint64_t *random) {
    audit_row row = {.window_s = window_s};
    size_t count = (size_t)a->windows;
    double *widths = malloc(count * sizeof *widths), *naive = malloc(count * sizeof *naive), value_sum = 0, truth_sum = 0;
    if (!widths || !naive) {
        free(widths);
        free(naive);
        return cli_fail("out of memory for %zu windows", count);
    }
    for (size_t i = 0; i < count; i++) {
        double t0 = from_s + next_random(random) * (to_s - from_s - window_s), t1 = t0 + window_s;
        uint64_t t0_ns = (uint64_t)((double)a->domain.replay_zero_ns + t0 * 1e9), t1_ns = (uint64_t)((double)a->domain.replay_zero_ns + t1 * 1e9);
        tel_energy e = tel_meter_energy(a->meter, 0, t0_ns, t1_ns);
        if (e.status == TEL_UNAVAILABLE || e.energy_uj == 0) {
            row.n_unavailable++;
            continue;
        }
        double value = (double)e.energy_uj / 1e6, bound = (double)e.bound_uj / 1e6, truth = power_csv_energy(&a->truths, t0, t1);
        row.n_covered += fabs(value - truth) <= bound;
        row.n_below += e.status == TEL_BELOW_RESOLUTION;
        widths[row.n] = bound / value;
        naive[row.n++] = fabs(power_csv_held(&a->readings, t0, t1) - truth) / truth;
        value_sum += value;
        truth_sum += truth;
    }
    if (row.n) {
        qsort(widths, row.n, sizeof *widths, by_value);
        qsort(naive, row.n, sizeof *naive, by_value);
        row.median = quantile(widths, row.n, 0.5);
        row.p95 = quantile(widths, row.n, 0.95);
        row.naive_p99 = quantile(naive, row.n, 0.99);
        row.bias = value_sum / truth_sum - 1;
    }
    free(widths);
    free(naive);
    a->rows[a->n_rows++] = row;
    return CLI_GO;
}

static int measure(audit *a) {
    double from = fmax(a->truths.edge_s[0], a->readings.t_s[0]) + MARGIN_S;
    double to = fmin(a->truths.edge_s[a->truths.n], a->readings.t_s[a->readings.n - 1]) - MARGIN_S;
    uint64_t random = ((uint64_t)a->seed + 1) * 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < CLI_COUNT(lengths_s) && lengths_s[i] < to - from; i++) {
        int code = audit_length(a, lengths_s[i], from, to, &random);
        if (code != CLI_GO) return code;
    }
    if (a->n_rows == 0) return cli_fail("%s and %s overlap by %.2f s: too short for the shortest window (%.2f s and %.1f s at each end)",
                                        a->sensor, a->truth, fmax(0, to - from + 2 * MARGIN_S), lengths_s[0], MARGIN_S);
    return CLI_GO;
}

static int print_json(const audit *a) {
    json_t *windows = json_array();
    for (size_t i = 0; i < a->n_rows; i++) {
        const audit_row *r = &a->rows[i];
        json_t *row = json_pack("{s:f, s:I, s:I}", "window_s", r->window_s, "n", (json_int_t)r->n, "n_unavailable", (json_int_t)r->n_unavailable);
        const struct {
            const char *name;
            double value;
        } figures[] = {{"coverage_frac", r->n ? (double)r->n_covered / (double)r->n : 0}, {"median_rel_half_width", r->median},
                       {"p95_rel_half_width", r->p95}, {"bias_frac", r->bias}, {"naive_p99_error_frac", r->naive_p99},
                       {"below_resolution_frac", r->n ? (double)r->n_below / (double)r->n : 0}};
        for (size_t k = 0; k < CLI_COUNT(figures); k++) json_object_set_new(row, figures[k].name, r->n ? json_real(figures[k].value) : json_null());
        json_array_append_new(windows, row);
    }
    json_t *object = json_pack("{s:s, s:s, s:s?, s:s, s:b, s:f, s:I, s:o}", "sensor", a->sensor, "truth", a->truth, "card", a->card, "sensor_class",
                               a->domain.sensor, "calibrated", (int)a->domain.calibrated, "step_s", (double)a->domain.step_ns / 1e9, "seed",
                               (json_int_t)a->seed, "windows", windows);
    if (!object) return cli_fail("out of memory for the JSON object");
    cli_put_json(object);
    json_decref(object);
    return CLI_OK;
}

static int print_table(const audit *a) {
    cli_printf("%s against %s\n", a->sensor, a->truth);
    cli_printf("sensor class %s (%s), %s, updates every %.1f ms\n\n", a->domain.sensor, a->card ? a->card : "no card named",
               a->domain.calibrated ? "calibrated" : "not calibrated", (double)a->domain.step_ns / 1e6);
    cli_printf("%8s %7s %9s %13s %9s %8s %11s\n", "window", "n", "covered", "half width", "95 %", "bias", "naive 99 %");
    for (size_t i = 0; i < a->n_rows; i++) {
        const audit_row *r = &a->rows[i];
        if (r->n) cli_printf("%6.2f s %7zu %7.2f %% %11.1f %% %7.1f %% %6.1f %% %9.1f %%\n", r->window_s, r->n, 100 * (double)r->n_covered / (double)r->n,
                             100 * r->median, 100 * r->p95, 100 * r->bias, 100 * r->naive_p99);
        else cli_printf("%6.2f s %7zu  no window could be resolved\n", r->window_s, r->n);
        if (r->n && r->n_unavailable) cli_printf("%16zu windows could not be resolved\n", r->n_unavailable);
    }
    cli_printf("\ncovered: share of windows in which the truth lies within value +- bound; half width: median of bound / value\n");
    cli_printf("naive: readings times time without a bound; its error in the worst hundredth of the windows\n");
    return CLI_OK;
}

static int parse(audit *a, int argc, char **argv) {
    const cli_option options[] = {
        {.name = "sensor", .kind = CLI_STRING, .value = &a->sensor, .arg = "FILE", .help = "what the sensor said: CSV with t_us and instant_mw, average_mw or power_mw"},
        {.name = "truth", .kind = CLI_STRING, .value = &a->truth, .arg = "FILE", .help = "what a better meter said at the same time: CSV with t_us and power_mw"},
        {.name = "card", .kind = CLI_STRING, .value = &a->card, .arg = "NAME", .help = "name of the device (\"NVIDIA A100-PCIE-40GB\"); without it the widest errors are assumed"},
        {.name = "calibration", .kind = CLI_STRING, .value = &a->calibration, .arg = "FILE", .help = "gain and offset of the sensor, from `wattle meters calibrate`"},
        {.name = "windows", .kind = CLI_INT, .value = &a->windows, .arg = "N", .min = 1, .max = 1000000, .help = "random windows of each length (default 2000)"},
        {.name = "seed", .kind = CLI_INT, .value = &a->seed, .arg = "K", .max = 9007199254740991.0, .help = "same seed, same windows (default 1)"},
        CLI_OPTION_JSON(&a->json),
    };
    const cli_command command = {.name = "meters audit", .summary = "hold the stated bounds against a better meter", .operands = "", .options = options,
                                 .n_options = CLI_COUNT(options),
                                 .notes = "Both recordings need the same time base (t_us, microseconds; it may begin below zero).\n\n"
                                          "example:\n  wattle meters audit --sensor sensor.csv --truth meter.csv --card \"NVIDIA GeForce RTX 3090\""};
    int n_operands = 0;
    int code = cli_parse(&command, argc, argv, NULL, 0, &n_operands);
    if (code != CLI_GO) return code;
    if (!a->sensor) return cli_wrong("meters audit: --sensor FILE is missing: the recording of the sensor");
    if (!a->truth) return cli_wrong("meters audit: --truth FILE is missing: the recording of a better meter");
    return CLI_GO;
}

int meters_audit(int argc, char **argv) {
    static const char *const sensor_columns[] = {"instant_mw", "average_mw", "power_mw", NULL}, *const truth_columns[] = {"power_mw", NULL};
    audit a = {.windows = 2000, .seed = 1};
    int code = parse(&a, argc, argv);
    if (code == CLI_GO) cli_catch_interrupt();
    if (code == CLI_GO) code = power_csv_read(a.sensor, sensor_columns, &a.readings);
    if (code == CLI_GO) code = power_csv_read(a.truth, truth_columns, &a.truths);
    if (code == CLI_GO) code = play(&a);
    if (code == CLI_GO) code = measure(&a);
    if (code == CLI_GO) code = a.json ? print_json(&a) : print_table(&a);
    tel_meter_close(&a.meter);
    power_csv_free(&a.readings);
    power_csv_free(&a.truths);
    return code;
}
