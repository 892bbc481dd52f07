// What observing costs: a stamp on the step path, the sampling thread, and the tokens per second of a real model with and without both.
//
// observer_cost [-s SECONDS] [-r ROUNDS] [-f FAKE_NVML_LIBRARY] [MODEL].  Three tables; the exit status is 1 when a sampling thread
// takes more than half a percent of one core. -f: libfake_nvml.so of the build folder, read with 2.4 ms a call. A powercap tree is made
// in a temporary folder. Rounds with and without a meter alternate, so that the drift of the machine falls on both.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/energy.h"

static const double BUDGET_FRAC = 0.005;
enum { CALLS = 200000, SEQS_MAX = 32, ROUNDS_MAX = 100, DECODED = 64 };

static wtl_engine *open_engine(const char *model) {
    wtl_engine *engine = NULL;
    wtl_error err;
    const wtl_engine_options options = {.model_path = model};
    if (wtl_engine_open(&options, &engine, &err) == WTL_OK) return engine;
    fprintf(stderr, "observer_cost: %s\n", err.message);
    exit(2);
}

// ---- The stamp ------------------------------------------------------------------------------------------------------

static double clock_ns_per_read(void) {
    volatile uint64_t sink = 0;
    uint64_t took = 0;
    for (int i = 0; i < CALLS; i++) { // timed one by one, as the stamps are
        const uint64_t t0 = wtl_clock_ns();
        sink += wtl_cpu_time_ns();
        took += wtl_clock_ns() - t0;
    }
    return (double)took / CALLS;
}

static double stamp_ns(wtl_energy *energy, int n_seqs, bool begins) {
    wtl_seq_work seqs[SEQS_MAX] = {0};
    uint64_t ids[SEQS_MAX];
    const wtl_energy_request request = {.n_prompt_tok = 1};
    for (int i = 0; i < n_seqs; i++) {
        ids[i] = wtl_energy_begin(energy, &request);
        seqs[i] = (wtl_seq_work){.seq = i, .n_new_tok = 1, .macs = 1000, .kv_read_bytes = 1000};
    }
    wtl_step_work work = {.n_seqs = n_seqs, .seqs = seqs, .weight_bytes = 1000};
    uint64_t took = 0;
    for (int i = 0; i < CALLS / n_seqs; i++) {
        const uint64_t t0 = wtl_clock_ns();
        work.start_ns = t0 - 10;
        work.end_ns = t0 - 1;
        if (begins) wtl_energy_step_begin(energy);
        wtl_energy_step(energy, &work, ids);
        took += wtl_clock_ns() - t0;
    }
    for (int i = 0; i < n_seqs; i++) {
        wtl_energy_end(energy, ids[i]);
        wtl_energy_forget(energy, ids[i]);
    }
    return (double)took / (CALLS / n_seqs);
}

static void time_stamps(const char *model) {
    wtl_engine *engine = open_engine(model);
    tel_meter *meter = NULL;
    const tel_options options = {.source = "simulated:30"};
    wtl_energy *energy = NULL;
    if (tel_meter_open(&options, &meter, NULL) != TEL_OK) exit(2);
    const wtl_energy_options eo = {.meter = meter, .engine = engine, .n_stamps = 1 << 21}; // so many steps in no time are not dropped
    if (wtl_energy_open(&eo, &energy, NULL) != WTL_OK) exit(2);
    const double cpu = clock_ns_per_read();
    printf("| sequences | a stamp | of it the CPU clock | the rest | beginning and stamp |\n|---|---|---|---|---|\n");
    for (int n = 1; n <= SEQS_MAX; n = n == 1 ? 8 : n * 4) {
        const double stamp = stamp_ns(energy, n, false), both = stamp_ns(energy, n, true);
        printf("| %d | %.0f ns | %.0f ns | %.0f ns | %.0f ns |\n", n, stamp, cpu, stamp > cpu ? stamp - cpu : 0, both);
    }
    wtl_energy_close(&energy);
    tel_meter_close(&meter);
    wtl_engine_close(&engine);
}

// ---- The sampling thread --------------------------------------------------------------------------------------------

static bool put(const char *root, const char *path, const char *text) {
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *c = full + strlen(root) + 1; (c = strchr(c, '/')); c++) {
        *c = 0;
        mkdir(full, 0777);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    return f && fputs(text, f) >= 0 && fclose(f) == 0;
}

// What can be told from outside: all CPU time of this process while it sleeps is the sampling thread's.
static bool watch(const char *name, const tel_options *options, double seconds, const char *counter) {
    tel_meter *meter = NULL;
    tel_error err = {0};
    if (tel_meter_open(options, &meter, &err) != TEL_OK) {
        printf("| %s | - | - | - | - | - | %s |\n", name, err.message);
        return true;
    }
    const tel_observer before = tel_meter_observer(meter);
    const uint64_t cpu = wtl_cpu_time_ns(), from = wtl_clock_ns(), until = from + (uint64_t)(seconds * 1e9);
    uint64_t own_ns = 0;
    for (uint64_t uj = 0, now; (now = wtl_clock_ns()) < until; uj += 300000) { // the counter moves, as real ones do
        struct timespec a, b;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
        char text[32];
        snprintf(text, sizeof text, "%llu\n", (unsigned long long)uj);
        if (counter) put(options->sysfs_root, counter, text);
        usleep(10000);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
        own_ns += (uint64_t)((b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec);
    }
    const double wall = (double)(wtl_clock_ns() - from), all = (double)(wtl_cpu_time_ns() - cpu);
    const tel_observer o = tel_meter_observer(meter);
    const double share = (double)(o.cpu_ns - before.cpu_ns) / wall, outside = (all - (double)own_ns) / wall;
    printf("| %s | %.3f %% | %.3f %% | %llu | %.0f us | %.0f us | %.0f ms |\n", name, 100 * share, 100 * outside, (unsigned long long)(o.n_reads - before.n_reads),
           (double)o.read_mean_ns / 1e3, (double)o.read_p99_ns / 1e3, (double)o.interval_ns / 1e6);
    tel_meter_close(&meter);
    return share <= BUDGET_FRAC;
}

static bool watch_all(double seconds, const char *fake) {
    char root[] = "/tmp/observer_cost_XXXXXX", script[64];
    static const char COUNTER[] = "/sys/class/powercap/intel-rapl:0/energy_uj";
    bool good = true;
    printf("\n| meter | one core, as it says | as seen from outside | reads | mean | p99 | interval |\n|---|---|---|---|---|---|---|\n");
    good &= watch("simulated:30", &(tel_options){.source = "simulated:30"}, seconds, NULL);
    good &= watch("simulated:cpu:20,15", &(tel_options){.source = "simulated:cpu:20,15"}, seconds, NULL);
    good &= watch("model", &(tel_options){.source = "model"}, seconds, NULL);
    if (mkdtemp(root) && put(root, COUNTER, "1\n") && put(root, "/sys/class/powercap/intel-rapl:0/name", "package-0\n") &&
        put(root, "/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n"))
        good &= watch("powercap", &(tel_options){.source = "powercap", .sysfs_root = root}, seconds, COUNTER);
    if (fake) {
        put(root, "/nvml.script", "clock monotonic\ndevice\n latency_us 2400\n");
        snprintf(script, sizeof script, "%s/nvml.script", root);
        setenv("WTL_FAKE_NVML_SCRIPT", script, 1);
        good &= watch("nvml, 2.4 ms a call", &(tel_options){.source = "nvml", .nvml_path = fake}, seconds, NULL);
    }
    static const char *const made[] = {"/nvml.script", "/sys/class/powercap/intel-rapl:0/energy_uj", "/sys/class/powercap/intel-rapl:0/name",
                                       "/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "/sys/class/powercap/intel-rapl:0", "/sys/class/powercap",
                                       "/sys/class", "/sys", ""};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s%s", root, made[i]);
        remove(path);
    }
    return good;
}

// ---- Tokens per second ----------------------------------------------------------------------------------------------

static double decode_rate(const wtl_engine *engine, const char *source) {
    tel_meter *meter = NULL;
    wtl_energy *energy = NULL;
    wtl_session *session = NULL;
    wtl_error err;
    int32_t seq;
    const tel_options options = {.source = source};
    const wtl_session_options so = {.n_ctx = DECODED + 16};
    if (source && tel_meter_open(&options, &meter, NULL) != TEL_OK) exit(2);
    const wtl_energy_options eo = {.meter = meter, .engine = engine};
    if (source && wtl_energy_open(&eo, &energy, NULL) != WTL_OK) exit(2);
    if (wtl_session_open(engine, &so, &session, &err) != WTL_OK || wtl_seq_open(session, &seq, &err) != WTL_OK) exit(2);
    const wtl_energy_request request = {.n_prompt_tok = 1};
    const uint64_t id = energy ? wtl_energy_begin(energy, &request) : 0;
    uint64_t from = 0;
    for (int i = 0; i < DECODED + 8; i++) {
        if (i == 8) from = wtl_clock_ns(); // after a warm-up
        const wtl_entry entry = {.token = 100 + i, .seq = seq, .want_logits = true};
        if (energy) wtl_energy_step_begin(energy);
        if (wtl_session_step(session, &entry, 1, &err) != WTL_OK) exit(2);
        const wtl_step_work work = wtl_session_work(session);
        if (energy) wtl_energy_step(energy, &work, &id);
    }
    const double rate = DECODED / ((double)(wtl_clock_ns() - from) * 1e-9);
    wtl_session_close(&session);
    wtl_energy_close(&energy);
    tel_meter_close(&meter);
    return rate;
}

static int ascending(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static void compare_rates(const char *model, int rounds) {
    static const char *const sources[] = {"simulated:cpu:20,15", "model"};
    wtl_engine *engine = open_engine(model);
    printf("\n| meter | tokens/s without | with | ratio, median of %d rounds | 10th to 90th percentile |\n|---|---|---|---|---|\n", rounds);
    for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
        double ratio[ROUNDS_MAX], without[ROUNDS_MAX], with[ROUNDS_MAX];
        for (int r = 0; r < rounds; r++) {
            const bool first = r % 2; // who goes first alternates
            if (first) with[r] = decode_rate(engine, sources[s]);
            without[r] = decode_rate(engine, NULL);
            if (!first) with[r] = decode_rate(engine, sources[s]);
            ratio[r] = with[r] / without[r];
        }
        qsort(ratio, (size_t)rounds, sizeof *ratio, ascending);
        qsort(with, (size_t)rounds, sizeof *with, ascending);
        qsort(without, (size_t)rounds, sizeof *without, ascending);
        printf("| %s | %.1f | %.1f | %.3f | %.3f to %.3f |\n", sources[s], without[rounds / 2], with[rounds / 2], ratio[rounds / 2], ratio[rounds / 10],
               ratio[rounds - 1 - rounds / 10]);
    }
    wtl_engine_close(&engine);
}

int main(int argc, char **argv) {
    double seconds = 5;
    int rounds = 10, c;
    const char *fake = NULL;
    while ((c = getopt(argc, argv, "s:r:f:")) != -1) {
        if (c == 's') seconds = atof(optarg);
        else if (c == 'r') rounds = atoi(optarg);
        else if (c == 'f') fake = optarg;
        else return 2;
    }
    if (optind < argc - 1 || rounds < 1 || rounds > ROUNDS_MAX || !(seconds > 0)) {
        fprintf(stderr, "usage: observer_cost [-s 5] [-r 10] [-f FAKE_NVML_LIBRARY] [MODEL]\n");
        return 2;
    }
    const char *model = optind < argc ? argv[optind] : NULL;
    if (model) time_stamps(model);
    const bool good = watch_all(seconds, fake);
    if (model) compare_rates(model, rounds);
    return good ? 0 : 1;
}
