// See bench_calibrate.h.
//
// All thread counts are tried in turns, prompt and reply, until two seconds are over: what the machine does meanwhile falls on all of them. A
// count's speed is that of its fastest turn. One engine with all cores serves them all; sessions use fewer of its threads.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_calibrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/thread_profile.h"

enum { PROMPT_TOK = 64, REPLY_TOK = 6, TURNS_MIN = 3 };
static const uint64_t BUDGET_NS = 2000000000;
static const double ENOUGH = 0.97;

size_t calibrate_counts(int32_t n_cores, int32_t counts[CALIBRATE_COUNTS_MAX]) {
    size_t n = 0;
    for (int32_t c = 1; c < n_cores && n + 2 < CALIBRATE_COUNTS_MAX; c *= 2) {
        counts[n++] = c;
        if (c >= 2 && c + c / 2 < n_cores) counts[n++] = c + c / 2;
    }
    counts[n++] = n_cores;
    return n;
}

size_t calibrate_choose(const double *speeds, size_t n) {
    double best = 0;
    for (size_t i = 0; i < n; i++)
        if (speeds[i] > best) best = speeds[i];
    size_t chosen = 0;
    while (chosen + 1 < n && speeds[chosen] < ENOUGH * best) chosen++;
    return chosen;
}

// ---- Measuring --------------------------------------------------------------------------------------------------------
typedef struct calibration {
    bench_model model;
    int32_t counts[CALIBRATE_COUNTS_MAX];
    size_t n;
    double prompt[CALIBRATE_COUNTS_MAX], reply[CALIBRATE_COUNTS_MAX]; // tokens/s
} calibration;

// One turn of one count; keeps the faster speed.
static int take_turn(bench_bout *bout, double tokens, double *speed) {
    bench_result sum = {0};
    uint64_t ns = 0;
    const int code = bench_bout_once(bout, &sum, &ns);
    const double now = tokens * 1e9 / (double)(ns ? ns : 1);
    if (code == CLI_GO && now > *speed) *speed = now;
    return code;
}

static int open_bout(calibration *c, size_t i, bool reply, bench_bout *bout) {
    const bench_case test = {.model = c->model.path, .n_prompt = reply ? 0 : PROMPT_TOK, .n_gen = reply ? REPLY_TOK : 0, .n_batch = PROMPT_TOK, .n_ubatch = PROMPT_TOK,
                             .n_parallel = 1, .n_session_threads = c->counts[i]};
    return bench_bout_open(bout, &c->model, &test, false);
}

static int measure_all(calibration *c, bench_bout *prompts, bench_bout *replies) {
    int code = CLI_GO;
    uint64_t start = 0;
    for (int turn = 0; code == CLI_GO && (turn <= TURNS_MIN || cli_now_ns() - start < BUDGET_NS); turn++) {
        if (turn == 1) { // the first turn was a warm-up
            start = cli_now_ns();
            memset(c->prompt, 0, sizeof c->prompt);
            memset(c->reply, 0, sizeof c->reply);
        }
        for (size_t i = 0; i < c->n && code == CLI_GO; i++) {
            code = take_turn(&prompts[i], PROMPT_TOK, &c->prompt[i]);
            if (code == CLI_GO) code = take_turn(&replies[i], REPLY_TOK, &c->reply[i]);
        }
    }
    return code;
}

static int measure(calibration *c) {
    bench_bout prompts[CALIBRATE_COUNTS_MAX] = {0}, replies[CALIBRATE_COUNTS_MAX] = {0};
    int code = CLI_GO;
    for (size_t i = 0; i < c->n && code == CLI_GO; i++) {
        code = open_bout(c, i, false, &prompts[i]);
        if (code == CLI_GO) code = open_bout(c, i, true, &replies[i]);
    }
    if (code == CLI_GO) code = measure_all(c, prompts, replies);
    for (size_t i = 0; i < c->n; i++) {
        bench_bout_close(&prompts[i]);
        bench_bout_close(&replies[i]);
    }
    return code;
}

// ---- Choosing -----------------------------------------------------------------------------------------------------------
// "replies with 1 thread: 98 % of the speed of 2"
static void reason_of(const calibration *c, const double *speeds, const char *what, char *text, size_t cap) {
    const size_t chosen = calibrate_choose(speeds, c->n);
    size_t best = 0;
    for (size_t i = 1; i < c->n; i++)
        if (speeds[i] > speeds[best]) best = i;
    const int32_t threads = c->counts[chosen];
    if (c->n == 1) snprintf(text, cap, "%s with 1 thread: there is one core", what);
    else if (best == chosen) snprintf(text, cap, "%s with %d thread%s: the fastest, %.2f times one thread", what, threads, threads == 1 ? "" : "s", speeds[best] / speeds[0]);
    else
        snprintf(text, cap, "%s with %d thread%s: %.0f %% of the speed of %d, for less energy", what, threads, threads == 1 ? "" : "s", 100 * speeds[chosen] / speeds[best],
                 c->counts[best]);
}

static void fill_profile(const calibration *c, thread_profile *p) {
    char prompts[128], replies[128];
    const time_t now = time(NULL);
    struct tm utc;
    bench_cpu_name(p->cpu, sizeof p->cpu);
    strftime(p->time, sizeof p->time, "%FT%TZ", gmtime_r(&now, &utc));
    p->n_cores = wtl_cpu_threads();
    p->n_prefill = c->counts[calibrate_choose(c->prompt, c->n)];
    p->n_decode = c->counts[calibrate_choose(c->reply, c->n)];
    reason_of(c, c->prompt, "prompts", prompts, sizeof prompts);
    reason_of(c, c->reply, "replies", replies, sizeof replies);
    snprintf(p->reason, sizeof p->reason, "%s; %s", prompts, replies);
}

// ---- Saying so ----------------------------------------------------------------------------------------------------------
static void print_table(const calibration *c, const thread_profile *p, const char *path) {
    cli_printf("| threads | prompt tokens/s | reply tokens/s |\n| ---: | ---: | ---: |\n");
    for (size_t i = 0; i < c->n; i++) cli_printf("| %d | %.1f | %.1f |\n", c->counts[i], c->prompt[i], c->reply[i]);
    cli_printf("\n%s\nkept in %s for `wattle run`, `chat` and `serve` without -t\n", p->reason, path);
}

static int print_json(const calibration *c, const thread_profile *p, const char *path) {
    json_t *list = json_array();
    for (size_t i = 0; i < c->n; i++)
        json_array_append_new(list, json_pack("{s:i, s:f, s:f}", "threads", (int)c->counts[i], "prompt_ts", c->prompt[i], "reply_ts", c->reply[i]));
    json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:s, s:s, s:o}", "cpu", p->cpu, "cores", (int)p->n_cores, "prefill_threads", (int)p->n_prefill, "decode_threads",
                               (int)p->n_decode, "reason", p->reason, "file", path, "measured", list);
    if (!object) return cli_fail("out of memory for the JSON object");
    cli_put_json(object);
    json_decref(object);
    return CLI_OK;
}

int bench_calibrate_command(const char *model_path, bench_format format) {
    if (format != BENCH_MD && format != BENCH_JSON) return cli_wrong("bench: --calibrate prints md or json");
    calibration c = {0};
    thread_profile profile = {0};
    char *path = NULL;
    const bench_case all = {.model = model_path, .n_threads = wtl_cpu_threads()};
    c.n = calibrate_counts(wtl_cpu_threads(), c.counts);
    const bench_moment before = bench_moment_now();
    int code = bench_model_open(&c.model, &all, NULL);
    if (code == CLI_GO) code = measure(&c);
    const bench_moment after = bench_moment_now();
    const bench_use use = bench_use_between(&before, &after);
    char text[160];
    if (code == CLI_GO && bench_use_warning(&use, text, sizeof text)) cli_warn("%s: calibrate again when it is idle", text);
    if (code == CLI_GO) {
        fill_profile(&c, &profile);
        code = thread_profile_save(&profile, &path);
    }
    if (code == CLI_GO) {
        if (format == BENCH_JSON) code = print_json(&c, &profile, path);
        else print_table(&c, &profile, path), code = CLI_OK;
    }
    bench_model_close(&c.model);
    free(path);
    return code;
}
