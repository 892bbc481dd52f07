// Speed of the engine on one model: prefill of N tokens, decode of N tokens, one JSON object a line with llama-bench's names.
//
// engine_bench MODEL [-t 1,2] [-p 512] [-n 128] [-r 5].  One warm-up, then the repetitions; random tokens, as llama-bench does.
// compare_peer.py runs it interleaved with the same measurement of llama.cpp.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/wattle.h"

typedef struct bench {
    wtl_engine *engine;
    wtl_session *session;
    wtl_engine_info info;
    uint32_t random;
} bench;

static void check(wtl_status status, const wtl_error *err) {
    if (!status) return;
    fprintf(stderr, "engine_bench: %s\n", err->message);
    exit(1);
}

static int32_t random_token(bench *b) {
    b->random = b->random * 1103515245u + 12345u;
    return (int32_t)((b->random >> 8) % (uint32_t)b->info.n_vocab);
}

static void feed(bench *b, int32_t seq, int n, int chunk) {
    wtl_entry entries[512];
    wtl_error err;
    for (int done = 0; done < n;) {
        int k = n - done < chunk ? n - done : chunk;
        for (int i = 0; i < k; i++) entries[i] = (wtl_entry){.token = random_token(b), .seq = seq, .want_logits = i == k - 1};
        check(wtl_session_step(b->session, entries, k, &err), &err);
        done += k;
    }
}

static void run_test(bench *b, const char *model, int threads, int n_prompt, int n_gen, int repetitions) {
    wtl_error err;
    int n = n_prompt ? n_prompt : n_gen;
    double sum = 0, best = 0, cpu = 0;
    for (int r = 0; r <= repetitions; r++) {
        int32_t seq;
        check(wtl_seq_open(b->session, &seq, &err), &err);
        uint64_t cpu0 = wtl_cpu_time_ns(), t0 = wtl_clock_ns();
        feed(b, seq, n, n_prompt ? 512 : 1);
        double seconds = (double)(wtl_clock_ns() - t0) * 1e-9;
        wtl_seq_close(b->session, seq);
        if (r == 0) continue; // warm-up
        double rate = n / seconds;
        sum += rate;
        if (rate > best) best = rate;
        cpu += (double)(wtl_cpu_time_ns() - cpu0) * 1e-9 / n;
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"engine\": \"wattle %s (%s)\", \"model_filename\": \"%s\", \"n_threads\": %d, \"n_prompt\": %d, \"n_gen\": %d, "
           "\"avg_ts\": %.2f, \"max_ts\": %.2f, \"cpu_s_per_token\": %.7f, \"rss_bytes\": %ld}\n",
           wtl_version(), b->info.backend, strrchr(model, '/') ? strrchr(model, '/') + 1 : model, threads, n_prompt, n_gen,
           sum / repetitions, best, cpu / repetitions, usage.ru_maxrss * 1024L);
    fflush(stdout);
}

int main(int argc, char **argv) {
    const char *threads = "1,2";
    int n_prompt = 512, n_gen = 128, repetitions = 5, c;
    while ((c = getopt(argc, argv, "t:p:n:r:")) != -1) {
        if (c == 't') threads = optarg;
        else if (c == 'p') n_prompt = atoi(optarg);
        else if (c == 'n') n_gen = atoi(optarg);
        else if (c == 'r') repetitions = atoi(optarg);
        else return 2;
    }
    if (optind != argc - 1 || repetitions < 1) {
        fprintf(stderr, "usage: engine_bench [-t 1,2] [-p 512] [-n 128] [-r 5] MODEL\n");
        return 2;
    }
    for (const char *t = threads; *t; t += strcspn(t, ",") + (t[strcspn(t, ",")] == ',')) {
        wtl_error err;
        bench b = {.random = 12345};
        const wtl_engine_options eo = {.model_path = argv[optind], .n_threads = atoi(t)};
        check(wtl_engine_open(&eo, &b.engine, &err), &err);
        b.info = wtl_engine_describe(b.engine);
        const wtl_session_options so = {.n_ctx = (n_prompt > n_gen ? n_prompt : n_gen) + 8};
        check(wtl_session_open(b.engine, &so, &b.session, &err), &err);
        if (n_prompt) run_test(&b, argv[optind], atoi(t), n_prompt, 0, repetitions);
        if (n_gen) run_test(&b, argv[optind], atoi(t), 0, n_gen, repetitions);
        wtl_session_close(&b.session);
        wtl_engine_close(&b.engine);
    }
    return 0;
}
