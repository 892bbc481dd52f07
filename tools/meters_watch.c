// `wattle meters --watch` and `--record`: live watts of every counting domain, one line each redrawn on a terminal, one line per interval in a
// pipe, and the totals with their bound at the end. A recording takes everything that the sources say while it runs.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/meters.h"
#include "tools/quantity.h"

enum { BAR = 24, DOMAINS_MAX = 64 };

typedef struct watch {
    tel_meter *meter;
    const meters_run *run;
    size_t n;
    tel_domain_info info[DOMAINS_MAX];
    meters_sum sums[DOMAINS_MAX];
    meters_joules laps[DOMAINS_MAX];
    double peak_w; // the bars' full length
    bool redraw, drawn;
    uint64_t start_ns;
} watch;

static bool is_modelled(const watch *w, size_t i) { return w->info[i].method == TEL_METHOD_MODELLED; }

static void take_lap(watch *w) {
    for (size_t i = 0; i < w->n; i++) {
        meters_sum_follow(&w->sums[i], w->meter, i);
        meters_joules lap = meters_sum_lap(&w->sums[i], w->meter, i);
        w->laps[i] = lap;
        if (lap.known) w->peak_w = fmax(w->peak_w, lap.value / lap.seconds);
    }
}

// ---- Lines ---------------------------------------------------------------------------------------------------------

static void draw(watch *w) {
    if (w->drawn) cli_printf("\033[%zuA", w->n);
    cli_printf("\033[?7l"); // cut at the edge of a narrow terminal: lines that wrap would not be met again
    w->drawn = true;
    for (size_t i = 0; i < w->n; i++) {
        char text[METERS_TEXT], total_text[METERS_TEXT], bar[BAR + 1];
        const meters_joules *lap = &w->laps[i];
        meters_joules total = meters_sum_total(&w->sums[i], w->meter, i);
        double watts = lap->known ? lap->value / lap->seconds : 0;
        int filled = w->peak_w > 0 ? (int)(BAR * watts / w->peak_w + 0.5) : 0;
        for (int k = 0; k < BAR; k++) bar[k] = k < filled ? '#' : '.';
        bar[BAR] = '\0';
        meters_text(lap, lap->known ? 1 / lap->seconds : 1, "W", is_modelled(w, i), text);
        meters_text(&total, 1, "J", is_modelled(w, i), total_text);
        cli_printf("\r\033[K%-14.14s %s  %-26s  since start %s\n", w->info[i].name, bar, text, total.known ? total_text : "-");
    }
    cli_printf("\033[?7h");
}

static void print_line(const watch *w) {
    cli_printf("%.1f s", (double)(cli_now_ns() - w->start_ns) / 1e9);
    for (size_t i = 0; i < w->n; i++) {
        char text[METERS_TEXT];
        const meters_joules *lap = &w->laps[i];
        cli_printf("  %s %s", w->info[i].name, meters_text(lap, lap->known ? 1 / lap->seconds : 1, "W", is_modelled(w, i), text));
    }
    cli_printf("\n");
}

static json_t *json_joules(const meters_joules *joules, double scale, const char *value_key, const char *unit) {
    char low[32], high[32];
    snprintf(low, sizeof low, "low_%s", unit);
    snprintf(high, sizeof high, "high_%s", unit);
    json_t *object = json_object();
    json_object_set_new(object, value_key, joules->known ? json_real(joules->value * scale) : json_null());
    json_object_set_new(object, low, joules->known ? json_real(joules->low * scale) : json_null());
    json_object_set_new(object, high, joules->known ? json_real(joules->high * scale) : json_null());
    json_object_set_new(object, "reason", joules->known ? json_null() : json_string("the source resolved nothing new"));
    return object;
}

static void print_json_line(const watch *w, bool totals) {
    json_t *domains = json_array();
    for (size_t i = 0; i < w->n; i++) {
        meters_joules j = totals ? meters_sum_total(&w->sums[i], w->meter, i) : w->laps[i];
        json_t *object = json_joules(&j, totals || !j.known ? 1 : 1 / j.seconds, totals ? "energy_joules" : "power_watts", totals ? "joules" : "watts");
        json_object_set_new(object, "name", json_string(w->info[i].name));
        json_object_set_new(object, "source", json_string(w->info[i].source));
        json_object_set_new(object, "method", json_string(tel_method_name(w->info[i].method)));
        json_object_set_new(object, "seconds", j.known ? json_real(j.seconds) : json_null());
        json_object_set_new(object, "n_gaps", json_integer(j.gaps));
        json_array_append_new(domains, object);
    }
    json_t *object = json_pack("{s:f, s:b, s:o}", "elapsed_s", (double)(cli_now_ns() - w->start_ns) / 1e9, "total", totals, "domains", domains);
    cli_put_json(object);
    json_decref(object);
}

static void show(watch *w) {
    if (w->run->json) print_json_line(w, false);
    else if (w->redraw) draw(w);
    else print_line(w);
    cli_flush();
}

static void print_totals(const watch *w) {
    if (w->run->json) {
        print_json_line(w, true);
        return;
    }
    for (size_t i = 0; i < w->n; i++) {
        char text[METERS_TEXT], mean[METERS_TEXT];
        meters_joules total = meters_sum_total(&w->sums[i], w->meter, i);
        if (!total.known) {
            cli_printf("%s: no energy: the source resolved nothing in that time\n", w->info[i].name);
            continue;
        }
        meters_text(&total, 1, "J", is_modelled(w, i), text);
        meters_text(&total, 1 / total.seconds, "W", is_modelled(w, i), mean);
        cli_printf("%s: %s in %.1f s, %s%s", w->info[i].name, text, total.seconds, mean, is_modelled(w, i) ? ", modelled" : "");
        if (total.gaps) cli_printf(", %" PRIu32 " gap%s", total.gaps, total.gaps == 1 ? "" : "s");
        cli_printf("\n");
    }
}

// ---- Run -----------------------------------------------------------------------------------------------------------

// Until the time is over or somebody interrupts. Line k is due k intervals after the start, so that lines do not drift.
static void loop(watch *w) {
    const meters_run *run = w->run;
    for (uint64_t k = 1;; k++) {
        double due = (double)k * run->interval_s;
        bool whole = run->seconds <= 0 || due <= run->seconds * 1.0001; // a shorter rest at the end gets no line of its own
        double gone = (double)(cli_now_ns() - w->start_ns) / 1e9, until = whole ? due : run->seconds;
        bool on = meters_sleep(until > gone ? until - gone : 0);
        take_lap(w);
        if (run->watch && whole && on) show(w);
        if (!whole || !on || !cli_flush() || (run->seconds > 0 && due >= run->seconds)) return;
    }
}

int meters_watch(tel_meter *meter, const meters_run *run) {
    watch *w = calloc(1, sizeof *w);
    if (!w) return cli_fail("out of memory");
    *w = (watch){.meter = meter, .run = run, .n = tel_meter_n_counting(meter), .redraw = cli_draws(STDOUT_FILENO), .start_ns = cli_now_ns()};
    if (w->n > DOMAINS_MAX) w->n = DOMAINS_MAX;
    for (size_t i = 0; i < w->n; i++) w->info[i] = tel_meter_domain(meter, i);
    tel_recording *recording = NULL;
    tel_error err = {0};
    int code = CLI_OK;
    if (w->n == 0) code = cli_fail("meters: nothing to watch: no domain counts (`wattle meters` says why)");
    else if (run->record && tel_recording_open(meter, run->record, &recording, &err)) code = cli_fail("meters: %s", err.message);
    if (code == CLI_OK) {
        if (!run->watch && !run->json) cli_note(run->seconds > 0 ? "recording for %.1f s" : "recording until Ctrl-C", run->seconds);
        loop(w);
        uint64_t rows = recording ? tel_recording_rows(recording) : 0;
        if (recording && tel_recording_close(&recording, &err)) code = cli_fail("meters: %s", err.message);
        print_totals(w);
        if (run->record && !run->json) cli_printf("%s: %" PRIu64 " rows; `wattle meters --meter replay:%s` plays it back\n", run->record, rows, run->record);
    }
    free(w);
    return code;
}
