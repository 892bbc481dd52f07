// `wattle meters calibrate`: finds gain and offset of one sensor against something better, and writes the file that --calibration takes.
//
// Three ways to the pairs: a list, two recordings, or a conversation beside a wall meter. A wall meter sees the whole machine through its power
// supply, so only differences between load and idle say something about one part of it: these fix the gain and leave the offset unknown.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/meter_options.h"
#include "tools/meters.h"
#include "tools/meters_pairs.h"
#include "tools/quantity.h"

static const char notes[] =
    "What it finds: reading = gain x truth + offset, for one domain, and what remains unknown of both. Ways to the pairs:\n\n"
    "  --points FILE              lines `reading_w,truth_w`, averages over the same time, at several loads (from a meter in the\n"
    "                             device's own supply line: what it sees must be what the sensor sees)\n"
    "  --sensor S.csv --truth M.csv\n"
    "                             two recordings with the same clock: columns t_us and instant_mw, power_mw or average_mw\n"
    "  neither                    asks, step by step: idle, load, idle, each with the watts on your wall meter\n\n"
    "A wall meter also sees the power supply and the rest of the machine. So only differences count: what load adds at the wall, times the\n"
    "efficiency of the power supply, is taken for what the sensor should have added. That fixes the gain; the offset stays unknown. Let\n"
    "the load be one that loads this device and nothing else, and leave everything else as it is (screen, disks, fans).\n\n"
    "examples:\n"
    "  wattle meters calibrate --domain package-0 --output calibration.txt\n"
    "  wattle meters calibrate --sensor sensor.csv --truth meter.csv --domain gpu-0 --device \"NVIDIA GeForce RTX 3090\" --output gpu.txt\n"
    "  wattle meters --calibration calibration.txt\n";

typedef struct request {
    const char *points, *sensor, *truth, *column, *output, *domain, *device;
    double seconds, efficiency;
    bool force, json;
    cli_meter meter;
} request;

// ---- The conversation ----------------------------------------------------------------------------------------------

// One line of standard input without its end. False: there is no more.
static bool ask(const char *question, char *answer, size_t cap) {
    fputs(question, stderr);
    fflush(stderr);
    if (!fgets(answer, (int)cap, stdin)) return false;
    answer[strcspn(answer, "\r\n")] = '\0';
    return true;
}

static bool ask_watts(double *watts) {
    char answer[64], *end;
    while (ask("  average watts on the wall meter during these seconds: ", answer, sizeof answer)) {
        *watts = strtod(answer, &end);
        end += strspn(end, " wW");
        if (*answer && !*end && isfinite(*watts) && *watts > 0) return true;
        fputs("  a number of watts, please, for example 87.5\n", stderr);
    }
    return false;
}

static int sample_watts(tel_meter *meter, size_t domain, double seconds, double *watts) {
    meters_sum sum = {0};
    uint64_t start = tel_meter_now(meter);
    for (double gone = 0; gone < seconds && meters_sleep(0.1); gone = (double)(tel_meter_now(meter) - start) / 1e9)
        if (cli_draws(STDERR_FILENO)) fprintf(stderr, "\r  sampling, %.0f s left \033[K", seconds - gone);
    if (cli_draws(STDERR_FILENO)) fputs("\r\033[K", stderr);
    if (cli_interrupted()) return CLI_INTERRUPTED;
    meters_sum_follow(&sum, meter, domain);
    meters_sum from = {0};
    tel_edge edge;
    if (tel_meter_edges(meter, domain, start, &edge, 1) == 1) from = (meters_sum){.begun = true, .first = edge, .mark = edge, .last = sum.last};
    meters_joules joules = meters_sum_total(&from, meter, domain);
    if (!joules.known || joules.seconds < seconds / 4) return cli_fail("calibrate: the sensor resolved too little in %g s; try more --seconds", seconds);
    *watts = joules.value / joules.seconds;
    return CLI_GO;
}

static int no_answer(void) {
    if (cli_interrupted()) return CLI_INTERRUPTED;
    return cli_wrong("calibrate: no answer: this way needs somebody at the terminal; --points FILE needs nobody");
}

// What the sensor and the wall meter say in one state of the machine.
static int ask_state(tel_meter *meter, size_t domain, const request *r, const char *question, double *reading, double *wall) {
    char line[16];
    if (!ask(question, line, sizeof line)) return no_answer();
    int code = sample_watts(meter, domain, r->seconds, reading);
    if (code != CLI_GO) return code;
    fprintf(stderr, "  the sensor says %.2f W\n", *reading);
    return ask_watts(wall) ? CLI_GO : no_answer();
}

static int find_domain(tel_meter *meter, const char *name, size_t *index, tel_domain_info *info) {
    size_t n = tel_meter_n_counting(meter);
    for (size_t i = 0; i < n; i++) {
        *info = tel_meter_domain(meter, i);
        *index = i;
        if (name ? strcmp(info->name, name) == 0 : info->method == TEL_METHOD_COUNTER || info->method == TEL_METHOD_INTEGRATED) break;
        if (i + 1 == n) n = 0;
    }
    if (n == 0) return cli_fail(name ? "calibrate: no domain %s counts here (`wattle meters` lists them)" : "calibrate: no sensor can be read here (`wattle meters` says why)%s", name ? name : "");
    if (info->method == TEL_METHOD_MODELLED) return cli_fail("calibrate: %s is modelled: give its watts with --cpu-watts IDLE,BUSY instead", info->name);
    return CLI_GO;
}

static int talk(const request *r, tel_calibration *fit, meters_pairs *pairs) {
    tel_meter *meter = NULL;
    size_t domain = 0;
    tel_domain_info info = {0};
    double reading[3], wall[3];
    int code = cli_meter_open("calibrate", &r->meter, &meter);
    if (code != CLI_GO) return code;
    cli_catch_interrupt();
    if ((code = find_domain(meter, r->domain, &domain, &info)) != CLI_GO) goto done;
    snprintf(fit->domain, sizeof fit->domain, "%s", info.name);
    if (!r->device) snprintf(fit->device, sizeof fit->device, "%s", info.device);
    fprintf(stderr, "calibrating %s (%s). Each state is sampled for %g s; read the wall meter's average over the same time.\n", info.name, info.source, r->seconds);
    static const char *const questions[] = {"1 of 3: bring the machine to idle, then press Enter ", "2 of 3: load this device steadily, then press Enter ",
                                            "3 of 3: idle again, then press Enter "};
    for (int i = 0; i < 3; i++)
        if ((code = ask_state(meter, domain, r, questions[i], &reading[i], &wall[i])) != CLI_GO) goto done;
    pairs->points = calloc(2, sizeof *pairs->points);
    if (!pairs->points) code = cli_fail("out of memory");
    for (int i = 0; pairs->points && i < 2; i++) { // load against the idle before and after; the supply's efficiency is known to about 5 %
        double added = (wall[1] - wall[2 * i]) * r->efficiency;
        if (added <= 0 && code == CLI_GO) code = cli_fail("calibrate: the wall meter showed no more under load than idle");
        pairs->points[pairs->n++] = (tel_calibration_point){reading[1] - reading[2 * i], added, 0.05 * fabs(added)};
    }
done:
    tel_meter_close(&meter);
    return code;
}

// ---- Result --------------------------------------------------------------------------------------------------------

static void print_fit(const request *r, const tel_calibration *fit, const meters_pairs *pairs) {
    if (r->json) {
        json_t *object = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:I}", "domain", fit->domain, "device", fit->device, "gain", fit->gain, "offset_w",
                                   fit->offset_w, "gain_error", fit->gain_error, "offset_error_w", fit->offset_error_w, "n_points", (json_int_t)pairs->n);
        if (!object) object = json_pack("{s:n}", "domain");
        bool recorded = pairs->step_s > 0;
        json_object_set_new(object, "step_s", recorded ? json_real(pairs->step_s) : json_null());
        json_object_set_new(object, "window_s", recorded ? json_real(pairs->window_s) : json_null());
        json_object_set_new(object, "lag_s", recorded ? json_real(pairs->lag_s) : json_null());
        json_object_set_new(object, "output", r->output ? json_string(r->output) : json_null());
        cli_put_json(object);
        json_decref(object);
        return;
    }
    char step[QUANTITY_TEXT], window[QUANTITY_TEXT], lag[QUANTITY_TEXT];
    if (pairs->step_s > 0)
        cli_printf("the sensor: a new value every %s, each the mean of %s that ended %s before\n", quantity_text(pairs->step_s, "s", step),
                   quantity_text(pairs->window_s, "s", window), pairs->lag_s > 0 ? quantity_text(pairs->lag_s, "s", lag) : "0 s");
    cli_printf("%s: reading = %.4f x truth %c %.2f W, from %zu points\n", fit->domain, fit->gain, fit->offset_w < 0 ? '-' : '+', fabs(fit->offset_w), pairs->n);
    cli_printf("unknown after that (99 %%): gain +- %.4f, offset +- %.2f W\n", fit->gain_error, fit->offset_error_w);
    if (r->output) cli_printf("written to %s; use it with --calibration %s or WTL_CALIBRATION\n", r->output, r->output);
    else cli_printf("not written anywhere: --output FILE does\n");
}

static int check_words(const request *r) {
    if (r->points && (r->sensor || r->truth)) return cli_wrong("calibrate: --points goes with no --sensor or --truth");
    if (!r->sensor != !r->truth) return cli_wrong("calibrate: --sensor and --truth go together");
    if (r->column && !r->sensor) return cli_wrong("calibrate: --column names a column of --sensor FILE");
    if (r->points && !r->domain) return cli_wrong("calibrate: --domain NAME is needed: which domain are these figures of (`wattle meters` lists them)?");
    if (r->output && !r->force && access(r->output, F_OK) == 0)
        return cli_wrong("calibrate: %s is there already: another name, or --force to replace it", r->output);
    return CLI_GO;
}

static int calibrate(const request *r) {
    tel_calibration fit = {0};
    meters_pairs pairs = {0};
    tel_error err = {0};
    const char *domain = r->domain ? r->domain : r->sensor ? "gpu-0" : NULL; // what a table of powers is called when it is played back
    if (domain) snprintf(fit.domain, sizeof fit.domain, "%s", domain);
    if (r->device) snprintf(fit.device, sizeof fit.device, "%s", r->device);
    int code = r->points ? meters_pairs_from_list(r->points, &pairs) : r->sensor ? meters_pairs_from_recordings(r->sensor, r->truth, r->column, &pairs) :
               talk(r, &fit, &pairs);
    if (code == CLI_GO && tel_calibration_fit(pairs.points, pairs.n, &fit, &err)) code = cli_fail("calibrate: %s", err.message);
    if (code == CLI_GO && r->output && tel_calibration_save(r->output, &fit, 1, &err)) code = cli_fail("calibrate: %s", err.message);
    if (code == CLI_GO) print_fit(r, &fit, &pairs);
    meters_pairs_free(&pairs);
    return cli_finish(code == CLI_GO ? CLI_OK : code);
}

int meters_calibrate(int argc, char **argv) {
    request r = {.seconds = 20, .efficiency = 0.9};
    const cli_option options[] = {
        {.name = "points", .kind = CLI_STRING, .value = &r.points, .arg = "FILE", .help = "pairs, one per line: reading_w,truth_w[,truth_error_w]"},
        {.name = "sensor", .kind = CLI_STRING, .value = &r.sensor, .arg = "FILE", .help = "recording of the sensor"},
        {.name = "truth", .kind = CLI_STRING, .value = &r.truth, .arg = "FILE", .help = "recording of the better meter over the same time"},
        {.name = "column", .kind = CLI_STRING, .value = &r.column, .arg = "NAME", .help = "column of --sensor to calibrate, in mW (default: instant_mw, power_mw or average_mw)"},
        {.name = "domain", .kind = CLI_STRING, .value = &r.domain, .arg = "NAME", .help = "domain that is calibrated, as `wattle meters` calls it (--sensor: gpu-0 unless given)"},
        {.name = "device", .kind = CLI_STRING, .value = &r.device, .arg = "NAME", .help = "device that it is, kept in the file"},
        {.name = "seconds", .letter = 's', .kind = CLI_FLOAT, .value = &r.seconds, .arg = "S", .min = 0.5, .max = 3600,
         .help = "how long each state is sampled (default 20)"},
        {.name = "efficiency", .kind = CLI_FLOAT, .value = &r.efficiency, .arg = "X", .min = 0.5, .max = 1,
         .help = "of the power supply under that load (default 0.9; 5 % of error is allowed for)"},
        {.name = "output", .letter = 'o', .kind = CLI_STRING, .value = &r.output, .arg = "FILE", .help = "write the calibration there"},
        {.name = "force", .kind = CLI_FLAG, .value = &r.force, .help = "replace --output if it is there"},
        CLI_OPTION_JSON(&r.json),
        CLI_OPTIONS_METER(&r.meter),
    };
    const cli_command command = {.name = "meters calibrate",
                                 .summary = "find gain and offset of a sensor",
                                 .operands = "",
                                 .notes = notes,
                                 .options = options,
                                 .n_options = CLI_COUNT(options)};
    int n_words = 0, code = cli_parse(&command, argc, argv, NULL, 0, &n_words);
    if (code == CLI_GO) code = check_words(&r);
    return code == CLI_GO ? calibrate(&r) : code;
}
