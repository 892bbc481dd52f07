// What reading the output head in part is worth: decodes the same reply in two sessions in turns, one with all logits of every step, one with
// those that the sampler looks at.
//
//   head_bench MODEL [THREADS [TOKENS [ROUNDS [TEXT]]]]
// Greedy, then temperature 0.8 with top-k 40 and top-p 0.95. Prints tokens/s of both, sampling included, the median ratio of neighbours and
// the bytes of weights that a step read. Fails when the tokens differ.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/wattle.h"

enum { ROUNDS_MAX = 64, TOKENS_MAX = 1024 };

static void check(wtl_status status, const wtl_error *err) {
    if (status == WTL_OK) return;
    fprintf(stderr, "head_bench: %s\n", err->message);
    exit(1);
}

typedef struct side {
    wtl_session *session;
    int32_t tokens[TOKENS_MAX];
    uint64_t ns, weight_bytes;
} side;

static void decode(side *s, const wtl_engine *engine, const int32_t *prompt, int32_t n_prompt, int n, wtl_sampler_options options) {
    wtl_error err;
    int32_t seq;
    wtl_sampler *sampler;
    check(wtl_sampler_open(&options, wtl_vocab_describe(wtl_engine_vocab(engine)).n_vocab, &sampler, &err), &err);
    check(wtl_seq_open(s->session, &seq, &err), &err);
    check(wtl_session_prefill(s->session, seq, prompt, (size_t)n_prompt, NULL, NULL, &err), &err);
    s->weight_bytes = 0;
    const uint64_t start = wtl_clock_ns();
    for (int i = 0; i < n; i++) {
        check(wtl_sampler_next(sampler, wtl_session_logits(s->session, 0), &s->tokens[i], &err), &err);
        const wtl_entry entry = {.token = s->tokens[i], .seq = seq, .want_logits = true, .n_top = wtl_sampler_n_top(sampler)};
        check(wtl_session_step(s->session, &entry, 1, &err), &err);
        s->weight_bytes += wtl_session_work(s->session).weight_bytes;
    }
    s->ns = wtl_clock_ns() - start;
    wtl_seq_close(s->session, seq);
    wtl_sampler_close(&sampler);
}

static int by_value(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static void compare(const char *name, side *sides, const wtl_engine *engine, const int32_t *prompt, int32_t n_prompt, int n, int rounds, wtl_sampler_options options) {
    double ratio[ROUNDS_MAX];
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
    for (int r = -1; r < rounds; r++) { // the first warms up
        for (int i = 0; i < 2; i++) decode(&sides[i], engine, prompt, n_prompt, n, options);
        if (memcmp(sides[0].tokens, sides[1].tokens, (size_t)n * sizeof(int32_t)) != 0) {
            fprintf(stderr, "head_bench: %s: the tokens differ\n", name);
            exit(1);
        }
        if (r < 0) continue;
        ratio[r] = (double)sides[0].ns / (double)sides[1].ns;
        for (int i = 0; i < 2; i++) best[i] = sides[i].ns < best[i] ? sides[i].ns : best[i];
    }
    qsort(ratio, (size_t)rounds, sizeof *ratio, by_value);
    printf("%-24s all %7.2f tokens/s, some %7.2f; ratio median %.3f, quartiles %.3f to %.3f; MB a step %.1f, %.1f (%.3f)\n", name,
           1e9 * n / (double)best[0], 1e9 * n / (double)best[1], ratio[rounds / 2], ratio[rounds / 4], ratio[rounds * 3 / 4],
           (double)sides[0].weight_bytes / n * 1e-6, (double)sides[1].weight_bytes / n * 1e-6, (double)sides[1].weight_bytes / (double)sides[0].weight_bytes);
}

int main(int argc, char **argv) {
    wtl_error err;
    const int threads = argc > 2 ? atoi(argv[2]) : 0, n = argc > 3 ? atoi(argv[3]) : 64, rounds = argc > 4 ? atoi(argv[4]) : 12;
    const char *text = argc > 5 ? argv[5] : "The history of the city of Rome begins";
    if (argc < 2 || n < 1 || n > TOKENS_MAX || rounds < 1 || rounds > ROUNDS_MAX) return fprintf(stderr, "head_bench MODEL [THREADS [TOKENS [ROUNDS [TEXT]]]]\n"), 2;
    wtl_engine *engine;
    const wtl_engine_options options = {.model_path = argv[1], .n_threads = threads};
    check(wtl_engine_open(&options, &engine, &err), &err);
    int32_t prompt[256];
    size_t n_prompt;
    check(wtl_tokenize(wtl_engine_vocab(engine), text, strlen(text), WTL_ADD_SPECIAL, prompt, 256, &n_prompt, &err), &err);
    side *sides = calloc(2, sizeof *sides);
    for (int i = 0; i < 2; i++) {
        const wtl_session_options session = {.n_ctx = 2048, .all_logits = i == 0};
        check(wtl_session_open(engine, &session, &sides[i].session, &err), &err);
    }
    compare("greedy", sides, engine, prompt, (int32_t)n_prompt, n, rounds, (wtl_sampler_options){0});
    compare("top-k 40, top-p 0.95", sides, engine, prompt, (int32_t)n_prompt, n, rounds,
            (wtl_sampler_options){.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = 11});
    for (int i = 0; i < 2; i++) wtl_session_close(&sides[i].session);
    wtl_engine_close(&engine);
    free(sides);
    return 0;
}
