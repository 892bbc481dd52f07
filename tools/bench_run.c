// Runs one test: a session, sequences, a warm-up, repetitions. See bench.h.
//
// As llama-bench does it: random tokens, no sampling, the whole prompt once as a warm-up and one token for replies; what lies at the depth
// is prefilled before the clock starts. Sequences at a depth are kept and forked for each repetition, which copies nothing but a begun block.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/bench.h"

// Counters of GPUs run up to a quarter of a second late.
static const uint64_t SETTLE_NS = 1500000000;

// ---- Sequences ------------------------------------------------------------------------------------------------------
static int32_t min_int(int32_t a, int32_t b) { return a < b ? a : b; }

static int bout_fail(bench_bout *b) { return cli_fail("%s", b->err.message); }

int bench_bout_open(bench_bout *b, const bench_model *model, const bench_case *c, bool profile) {
    const int32_t n = c->n_parallel, chunk = min_int(c->n_batch, c->n_ubatch);
    const wtl_vocab_info vocab = wtl_vocab_describe(wtl_engine_vocab(model->engine));
    *b = (bench_bout){.at = *c, .model = model, .n_entries = chunk > n ? chunk : n, .n_vocab = vocab.n_vocab, .bos = vocab.adds_bos ? vocab.bos : -1, .random = 12345};
    const int64_t length = (int64_t)c->n_depth + c->n_prompt + c->n_gen;
    const wtl_session_options options = {.n_ctx = (int32_t)(length * n > INT32_MAX ? INT32_MAX : length * n), .n_seq_max = c->n_depth ? 2 * n : n,
                                         .n_batch = b->n_entries, .n_logits_max = n, .kv_type = c->kv_type, .profile = profile,
                                         .n_threads = c->n_session_threads};
    b->entries = malloc((size_t)b->n_entries * sizeof *b->entries);
    b->bases = malloc((size_t)n * sizeof *b->bases);
    b->seqs = malloc((size_t)n * sizeof *b->seqs);
    if (!b->entries || !b->bases || !b->seqs) return cli_fail("out of memory for %d sequences", n);
    for (int32_t i = 0; i < n; i++) b->bases[i] = b->seqs[i] = -1;
    return wtl_session_open(model->engine, &options, &b->session, &b->err) == WTL_OK ? CLI_GO : bout_fail(b);
}

void bench_bout_close(bench_bout *b) {
    wtl_session_close(&b->session);
    free(b->entries);
    free(b->bases);
    free(b->seqs);
    *b = (bench_bout){0};
}

// The multiplier and increment of C's own example of a generator; the low bits of such are not random.
static int32_t random_token(bench_bout *b) {
    b->random = b->random * 1103515245u + 12345u;
    return (int32_t)((b->random >> 8) % (uint32_t)b->n_vocab);
}

static void add_work(bench_bout *b, bench_result *sum) {
    if (!sum) return;
    const wtl_step_work work = wtl_session_work(b->session);
    sum->weight_bytes += work.weight_bytes;
    sum->kv_bytes += work.kv_read_bytes + work.kv_written_bytes;
    sum->macs += work.macs;
}

static int step(bench_bout *b, int32_t n_entries, bench_result *sum) {
    if (cli_interrupted()) return CLI_INTERRUPTED;
    if (wtl_session_step(b->session, b->entries, n_entries, &b->err) != WTL_OK) return bout_fail(b);
    add_work(b, sum);
    return CLI_GO;
}

// n tokens of every sequence, one sequence behind the other, in steps as large as n_batch and n_ubatch allow.
static int prefill(bench_bout *b, const int32_t *seqs, int32_t n, bench_result *sum) {
    const int32_t chunk = min_int(b->at.n_batch, b->at.n_ubatch);
    int32_t filled = 0;
    for (int32_t s = 0; s < b->at.n_parallel; s++) {
        const bool fresh = wtl_seq_length(b->session, seqs[s]) == 0;
        for (int32_t i = 0; i < n; i++) {
            const int32_t token = i == 0 && fresh && b->bos >= 0 ? b->bos : random_token(b);
            b->entries[filled++] = (wtl_entry){.token = token, .seq = seqs[s], .want_logits = i == n - 1};
            if (filled < chunk && !(i == n - 1 && s == b->at.n_parallel - 1)) continue;
            const int code = step(b, filled, sum);
            if (code != CLI_GO) return code;
            filled = 0;
        }
    }
    return CLI_GO;
}

static int decode(bench_bout *b, int32_t n, bench_result *sum) {
    for (int32_t i = 0; i < n; i++) {
        for (int32_t s = 0; s < b->at.n_parallel; s++) b->entries[s] = (wtl_entry){.token = random_token(b), .seq = b->seqs[s], .want_logits = true};
        const int code = step(b, b->at.n_parallel, sum);
        if (code != CLI_GO) return code;
    }
    return CLI_GO;
}

int bench_bout_depth(bench_bout *b) {
    if (!b->at.n_depth || b->bases[0] >= 0) return CLI_GO;
    for (int32_t i = 0; i < b->at.n_parallel; i++)
        if (wtl_seq_open(b->session, &b->bases[i], &b->err) != WTL_OK) return bout_fail(b);
    return prefill(b, b->bases, b->at.n_depth, NULL);
}

static void close_seqs(bench_bout *b) {
    for (int32_t i = 0; i < b->at.n_parallel; i++) {
        if (b->seqs[i] >= 0) wtl_seq_close(b->session, b->seqs[i]);
        b->seqs[i] = -1;
    }
}

static int open_seqs(bench_bout *b) {
    for (int32_t i = 0; i < b->at.n_parallel; i++) {
        const wtl_status status = b->at.n_depth ? wtl_seq_fork(b->session, b->bases[i], b->at.n_depth, &b->seqs[i], &b->err)
                                                : wtl_seq_open(b->session, &b->seqs[i], &b->err);
        if (status != WTL_OK) return bout_fail(b);
    }
    return CLI_GO;
}

int bench_bout_once(bench_bout *b, bench_result *sum, uint64_t *ns) {
    int code = open_seqs(b);
    const uint64_t cpu = bench_own_cpu_ns(), start = cli_now_ns();
    if (code == CLI_GO && b->at.n_prompt) code = prefill(b, b->seqs, b->at.n_prompt, sum);
    if (code == CLI_GO) code = decode(b, sum ? b->at.n_gen : min_int(b->at.n_gen, 1), sum);
    *ns = cli_now_ns() - start;
    if (sum) sum->cpu_ns += bench_own_cpu_ns() - cpu;
    close_seqs(b);
    return code;
}

// ---- Energy ---------------------------------------------------------------------------------------------------------
static void wait_settled(tel_meter *meter, uint64_t until_ns) {
    const uint64_t deadline = cli_now_ns() + SETTLE_NS;
    for (size_t i = 0; i < tel_meter_n_counting(meter); i++) {
        while (tel_meter_settled(meter, i) < until_ns && !tel_meter_stalled(meter, i, until_ns) && cli_now_ns() < deadline) {
            const struct timespec nap = {.tv_nsec = 5000000};
            tel_meter_poke(meter);
            nanosleep(&nap, NULL);
        }
    }
}

tel_energy bench_energy(const bench_settings *settings, uint64_t from_ns, uint64_t to_ns) {
    const tel_meter *meter = settings->meter;
    if (!meter || tel_meter_n_counting(meter) == 0) return tel_energy_unavailable(settings->no_meter, "wattle meters");
    wait_settled(settings->meter, to_ns);
    tel_energy sum = tel_meter_energy(meter, 0, from_ns, to_ns);
    for (size_t i = 1; i < tel_meter_n_counting(meter); i++) {
        const tel_energy one = tel_meter_energy(meter, i, from_ns, to_ns);
        sum = tel_energy_add(&sum, &one);
    }
    return sum;
}

// ---- The whole test ---------------------------------------------------------------------------------------------------
static void say(const bench_settings *s, const char *what, int32_t repetition) {
    if (!s->progress) return;
    if (repetition) cli_note("bench: test %zu/%zu: %s %d/%d", s->case_index + 1, s->n_cases, what, repetition, s->repetitions);
    else cli_note("bench: test %zu/%zu: %s", s->case_index + 1, s->n_cases, what);
}

// Sleeps in small pieces, so that Ctrl-C is heard.
static void cool_off(int64_t seconds) {
    const uint64_t end = cli_now_ns() + (uint64_t)seconds * 1000000000u;
    while (cli_now_ns() < end && !cli_interrupted()) {
        const struct timespec nap = {.tv_nsec = 20000000};
        nanosleep(&nap, NULL);
    }
}

static int warm_up(bench_bout *bout, const bench_settings *s) {
    uint64_t ns;
    int code = CLI_GO;
    if (bout->at.n_depth) say(s, "filling the depth", 0);
    code = bench_bout_depth(bout);
    if (code != CLI_GO || s->no_warmup) return code;
    say(s, "warming up", 0);
    return bench_bout_once(bout, NULL, &ns);
}

static int repeat(bench_bout *bout, const bench_settings *s, bench_result *out) {
    int code = CLI_GO;
    double mhz = 0;
    bench_result done = {0}; // without the work of a repetition that was interrupted
    const bench_moment before = bench_moment_now();
    uint64_t last = before.wall_ns;
    for (int32_t r = 0; r < s->repetitions && code == CLI_GO; r++) {
        say(s, "repetition", r + 1);
        code = bench_bout_once(bout, &done, &out->samples_ns[r]);
        if (code != CLI_GO) break;
        last = cli_now_ns();
        out->n_samples++;
        out->cpu_ns = done.cpu_ns;
        out->weight_bytes = done.weight_bytes;
        out->kv_bytes = done.kv_bytes;
        out->macs = done.macs;
        mhz += bench_cpu_mhz();
    }
    const bench_moment after = bench_moment_now();
    out->use = bench_use_between(&before, &after);
    if (out->n_samples) out->use.mhz = mhz / (double)out->n_samples;
    out->energy_ns = last - before.wall_ns;
    if (out->n_samples) out->energy = bench_energy(s, before.wall_ns, last);
    return code;
}

void bench_test_time(bench_result *result) {
    const time_t now = time(NULL);
    struct tm utc;
    strftime(result->test_time, sizeof result->test_time, "%FT%TZ", gmtime_r(&now, &utc));
}

int bench_run(const bench_model *model, const bench_case *c, const bench_settings *s, bench_result *out) {
    bench_bout bout = {0};
    *out = (bench_result){.at = *c, .samples_ns = calloc((size_t)s->repetitions, sizeof *out->samples_ns)};
    out->at.n_threads = model->info.n_threads;
    if (!out->samples_ns) return cli_fail("out of memory for %d repetitions", s->repetitions);
    bench_test_time(out);
    say(s, "starting", 0);
    int code = bench_bout_open(&bout, model, c, false);
    if (code == CLI_GO && s->delay_s) cool_off(s->delay_s);
    if (code == CLI_GO) code = warm_up(&bout, s);
    if (code == CLI_GO) code = repeat(&bout, s, out);
    out->rss_bytes = bench_rss_bytes();
    bench_bout_close(&bout);
    return code;
}

void bench_result_free(bench_result *result) {
    free(result->samples_ns);
    *result = (bench_result){0};
}
