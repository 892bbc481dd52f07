// Program make_power_trace: a made-up device whose true power is known at every millisecond, and what a sensor of it would have said.
//
// Writes two files. The truth (t_us,power_mw): mean power of every millisecond, stamped at its middle. The sensor: a counter of energy
// in the form of our own recordings (1 ms steps of whole microjoules), or a table of powers as tools for GPU boards write it: every
// `step` one mean of the `window` before it, with gain and offset, seen up to 5 ms later, read about every 15 ms. Fixed by the seed.
//   make_power_trace --seconds 20 --shape llm --kind counter --sensor SENSOR.csv --truth TRUTH.csv
// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

typedef struct options {
    double seconds, idle_w, busy_w, step_ms, window_ms, gain, offset_w;
    uint64_t seed;
    const char *shape, *kind, *sensor, *truth;
} options;

// xorshift64*: the same trace for the same seed everywhere.
static double next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * 0x2545F4914F6CDD1Dull) >> 11) / 9007199254740992.0;
}

// ---- Shapes: watts[n], one per millisecond, between idle and busy ----------------------------------------------------
static void levels(const options *o, uint64_t *random, double *watts, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t length = 80 + (size_t)(1500 * next_random(random));
        double level = o->idle_w + (o->busy_w - o->idle_w) * next_random(random);
        for (; length-- && i < n; i++) watts[i] = level;
    }
}

// 50 to 900 ms at each of two powers, a period of its own for every seed.
static void square(const options *o, uint64_t *random, double *watts, size_t n) {
    size_t high = 50 + (size_t)(850 * next_random(random)), low = 50 + (size_t)(850 * next_random(random));
    for (size_t i = 0; i < n; i++) watts[i] = i % (high + low) < high ? o->busy_w : o->idle_w;
}

static void sine(const options *o, uint64_t *random, double *watts, size_t n) {
    double period = 300 + 4000 * next_random(random), phase = 2 * PI * next_random(random);
    for (size_t i = 0; i < n; i++) watts[i] = o->idle_w + (o->busy_w - o->idle_w) * (0.5 + 0.5 * sin(2 * PI * (double)i / period + phase));
}

// Rests, prompts at full power, replies at a lower power with a ripple from token to token.
static void llm(const options *o, uint64_t *random, double *watts, size_t n) {
    double swing = o->busy_w - o->idle_w;
    for (size_t i = 0; i < n;) {
        size_t rest = 200 + (size_t)(800 * next_random(random)), prompt = 100 + (size_t)(900 * next_random(random));
        size_t reply = 500 + (size_t)(3000 * next_random(random)), token = 8 + (size_t)(20 * next_random(random));
        double full = 0.9 + 0.1 * next_random(random), part = 0.5 + 0.2 * next_random(random);
        for (size_t k = 0; k < rest && i < n; k++) watts[i++] = o->idle_w;
        for (size_t k = 0; k < prompt && i < n; k++) watts[i++] = o->idle_w + full * swing;
        for (size_t k = 0; k < reply && i < n; k++) watts[i++] = o->idle_w + (part + (k % token < token / 4 ? -0.1 : 0.03)) * swing;
    }
}

static bool make_shape(const options *o, double *watts, size_t n) {
    static const struct {
        const char *name;
        void (*make)(const options *o, uint64_t *random, double *watts, size_t n);
    } shapes[] = {{"levels", levels}, {"square", square}, {"llm", llm}, {"sine", sine}};
    uint64_t random = (o->seed + 1) * 0x9E3779B97F4A7C15ull;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (strcmp(o->shape, shapes[i].name) != 0) continue;
        shapes[i].make(o, &random, watts, n);
        for (size_t k = 0; k < n; k++) watts[k] = round(1000 * watts[k] * (1 + 0.01 * (next_random(&random) - 0.5))) / 1000; // whole milliwatts
        return true;
    }
    return false;
}

// ---- Sensors -------------------------------------------------------------------------------------------------------
static void put_counter(FILE *out, const options *o, const double *watts, size_t n) {
    fprintf(out, "# wattle recording 1\n");
    fprintf(out, "# domain package-0 scope=cpu_package source=synthetic kind=counter unit=uJ scale=1 step_ns=1000000 sensor=exact limit_uw=%.0f device=\"synthetic %s\"\n",
            1.2e6 * o->busy_w, o->shape);
    fprintf(out, "t_us,domain,value,read_ns\n");
    uint64_t total_uj = 1000000;
    for (size_t i = 0; i <= n; i++) {
        fprintf(out, "%zu.000,0,%" PRIu64 ",1000\n", 1000 * i, total_uj);
        if (i < n) total_uj += (uint64_t)llround(1000 * watts[i]); // whole milliwatts for a millisecond are whole microjoules
    }
}

// sum[i]: joules * 1000 of the first i milliseconds.
static double mean_w(const double *sum, size_t n, double from_ms, double to_ms) {
    double ends[2] = {fmax(0, from_ms), fmax(0, to_ms)}, at[2];
    for (int k = 0; k < 2; k++) {
        size_t i = (size_t)ends[k];
        at[k] = i >= n ? sum[n] : sum[i] + (ends[k] - (double)i) * (sum[i + 1] - sum[i]);
    }
    return ends[1] > ends[0] ? (at[1] - at[0]) / (ends[1] - ends[0]) : 0;
}

static bool put_power(FILE *out, const options *o, const double *watts, size_t n) {
    double *sum = malloc((n + 1) * sizeof *sum);
    if (!sum) return false;
    sum[0] = 0;
    for (size_t i = 0; i < n; i++) sum[i + 1] = sum[i] + watts[i];
    uint64_t random = (o->seed + 1000) * 0x9E3779B97F4A7C15ull;
    fprintf(out, "t_us,instant_mw,sm_mhz\n");
    double shown_ms = 2 + 3 * next_random(&random); // the reading is late by this
    for (double t = o->step_ms + 5; t < (double)n; t += 10 + 10 * next_random(&random)) {
        double end = floor((t - shown_ms) / o->step_ms) * o->step_ms;
        double shown = o->gain * mean_w(sum, n, end - o->window_ms, end) + o->offset_w;
        fprintf(out, "%.0f,%.0f,1500\n", 1000 * t, 1000 * fmax(0, shown));
    }
    free(sum);
    return true;
}

static void put_truth(FILE *out, const double *watts, size_t n) {
    fprintf(out, "t_us,power_mw\n");
    for (size_t i = 0; i < n; i++) fprintf(out, "%zu,%.0f\n", 1000 * i + 500, 1000 * watts[i]);
}

// ---- Options -------------------------------------------------------------------------------------------------------
static bool parse(options *o, int argc, char **argv) {
    const struct {
        const char *name;
        double *number;
        const char **text;
    } table[] = {{"seconds", &o->seconds, NULL}, {"idle-w", &o->idle_w, NULL}, {"busy-w", &o->busy_w, NULL}, {"step-ms", &o->step_ms, NULL},
                 {"window-ms", &o->window_ms, NULL}, {"gain", &o->gain, NULL}, {"offset-w", &o->offset_w, NULL}, {"shape", NULL, &o->shape},
                 {"kind", NULL, &o->kind}, {"sensor", NULL, &o->sensor}, {"truth", NULL, &o->truth}};
    enum { N = sizeof table / sizeof table[0] };
    struct option names[N + 2] = {{"seed", required_argument, NULL, N}};
    for (int i = 0; i < N; i++) names[i + 1] = (struct option){table[i].name, required_argument, NULL, i};
    for (int i; (i = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        char *end = optarg;
        if (i == '?') return false;
        if (i < N && table[i].text) {
            *table[i].text = optarg;
            continue;
        }
        if (i == N) o->seed = strtoull(optarg, &end, 10);
        else *table[i].number = strtod(optarg, &end);
        if (*end || end == optarg) return false;
    }
    bool positive = o->seconds >= 0.1 && o->seconds <= 3600 && o->idle_w >= 0 && o->busy_w >= o->idle_w && o->busy_w <= 1e5 && o->step_ms >= 5 && o->window_ms >= 1;
    return positive && o->sensor && o->truth && optind == argc && (strcmp(o->kind, "counter") == 0 || strcmp(o->kind, "power") == 0);
}

int main(int argc, char **argv) {
    options o = {.seconds = 20, .idle_w = 15, .busy_w = 60, .step_ms = 100, .window_ms = 100, .gain = 1, .seed = 1, .shape = "levels", .kind = "counter"};
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: make_power_trace --sensor OUT.csv --truth TRUTH.csv [--kind counter|power] [--shape levels|square|llm|sine]\n"
                        "  [--seconds S] [--seed N] [--idle-w W] [--busy-w W] and for --kind power [--step-ms T] [--window-ms T] [--gain G] [--offset-w W]\n");
        return 2;
    }
    size_t n = (size_t)(o.seconds * 1000);
    double *watts = calloc(n, sizeof *watts);
    FILE *sensor = fopen(o.sensor, "w"), *truth = fopen(o.truth, "w");
    bool ok = watts && sensor && truth && make_shape(&o, watts, n);
    if (ok) put_truth(truth, watts, n);
    if (ok && strcmp(o.kind, "counter") == 0) put_counter(sensor, &o, watts, n);
    else ok = ok && put_power(sensor, &o, watts, n);
    if (sensor && fclose(sensor)) ok = false;
    if (truth && fclose(truth)) ok = false;
    free(watts);
    if (!ok) fprintf(stderr, "make_power_trace: %s or %s cannot be written, or the shape %s is not known\n", o.sensor, o.truth, o.shape);
    return ok ? 0 : 1;
}
