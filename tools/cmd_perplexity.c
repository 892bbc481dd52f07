// `wattle perplexity`: how well a model predicts a text, and its log-probabilities for comparison with other engines.
//
// The text is one sequence where it fits the context, else chunks that each start fresh (with BOS where the model adds one).
// Every token after the first of a chunk is scored. Probabilities are computed in double from the float logits.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/wattle.h"
#include "tools/cli.h"
#include "tools/thread_profile.h"

enum { LOGITS_BYTES = 32 << 20, MIN_ROWS = 8, MAX_ROWS = 128 }; // logits held at once decide the rows of a step

typedef struct perplexity {
    const char *model, *prompt, *file, *backend, *kv, *logits_out;
    int64_t chunk_tok, threads, logits_top, logits_every;
    bool json;

    char *model_path;
    cli_text text;
    wtl_engine *engine;
    wtl_session *session;
    int32_t *tokens; // [n_tokens] of the whole text
    size_t n_tokens;
    wtl_entry *entries; // [rows]
    int32_t rows, n_vocab, bos;
    int32_t *top_ids;   // [logits_top] heap, then sorted
    FILE *out;

    double nll_sum, nll_square_sum;
    uint64_t n_scored, n_chunks, n_run, step_ns;
} perplexity;

static void close_all(perplexity *p) {
    if (p->out) fclose(p->out);
    wtl_session_close(&p->session);
    wtl_engine_close(&p->engine);
    cli_text_free(&p->text);
    free(p->model_path);
    free(p->tokens);
    free(p->entries);
    free(p->top_ids);
}

static int parse(perplexity *p, int argc, char **argv) {
    const cli_option options[] = {
        CLI_OPTION_MODEL(&p->model),
        CLI_OPTION_PROMPT(&p->prompt),
        CLI_OPTION_FILE(&p->file),
        {.name = "ctx-size", .letter = 'c', .kind = CLI_INT, .value = &p->chunk_tok, .arg = "N", .min = 4, .max = 2147483647,
         .help = "score chunks of N tokens, each from a fresh start (default: the whole text, or the model's context)"},
        CLI_OPTION_THREADS(&p->threads),
        CLI_OPTION_BACKEND(&p->backend),
        CLI_OPTION_KV(&p->kv),
        {.name = "logits-out", .kind = CLI_STRING, .value = &p->logits_out, .arg = "FILE", .help = "write log-probabilities, one JSON object a line"},
        {.name = "logits-top", .kind = CLI_INT, .value = &p->logits_top, .arg = "N", .min = 1, .max = 1 << 20, .help = "the N likeliest tokens of each position (default 256)"},
        {.name = "logits-every", .kind = CLI_INT, .value = &p->logits_every, .arg = "N", .min = 1, .max = 1 << 20, .help = "of every Nth position (default 4)"},
        CLI_OPTION_JSON(&p->json),
    };
    const cli_command command = {.name = "perplexity", .summary = "measure how well a model predicts a text", .operands = "",
                                 .options = options, .n_options = CLI_COUNT(options),
                                 .notes = "Perplexity is per token: it ranks models of one vocabulary only. Names of control tokens in the text become those tokens.\n\nexample:\n  wattle perplexity -f book.txt -c 2048\n"};
    int n_operands = 0;
    return cli_parse(&command, argc, argv, NULL, 0, &n_operands);
}

// ---- Setting up --------------------------------------------------------------------------------------------------
static int tokenize(perplexity *p, wtl_error *err) {
    size_t cap = p->text.len + 8;
    for (;;) {
        free(p->tokens);
        p->tokens = malloc(cap * sizeof *p->tokens);
        if (!p->tokens) return cli_fail("out of memory for a text of %zu bytes", p->text.len);
        if (wtl_tokenize(wtl_engine_vocab(p->engine), p->text.bytes, p->text.len, WTL_ADD_SPECIAL | WTL_PARSE_SPECIAL, p->tokens, cap,
                         &p->n_tokens, err) != WTL_OK)
            return cli_fail("%s", err->message);
        if (p->n_tokens <= cap) break;
        cap = p->n_tokens;
    }
    if (p->n_tokens < 2) return cli_fail("the text has %zu token%s: at least 2 are needed", p->n_tokens, p->n_tokens == 1 ? "" : "s");
    return CLI_GO;
}

static int open_all(perplexity *p, wtl_error *err) {
    wtl_engine_options engine = {.model_path = p->model_path, .backend = p->backend};
    char reason[THREADS_REASON];
    thread_profile_apply(p->threads, &engine, reason);
    if (wtl_engine_open(&engine, &p->engine, err) != WTL_OK) return cli_fail("%s", err->message);
    int code = tokenize(p, err);
    if (code != CLI_GO) return code;
    wtl_engine_info info = wtl_engine_describe(p->engine);
    wtl_vocab_info vocab = wtl_vocab_describe(wtl_engine_vocab(p->engine));
    p->n_vocab = info.n_vocab;
    p->bos = vocab.adds_bos ? vocab.bos : -1;
    if (p->chunk_tok == 0) p->chunk_tok = info.n_ctx_train;
    if (p->chunk_tok > info.n_ctx_train) return cli_fail("-c %lld: this model's context is %d", (long long)p->chunk_tok, info.n_ctx_train);
    if ((uint64_t)p->chunk_tok > p->n_tokens) p->chunk_tok = (int64_t)p->n_tokens;

    int64_t rows = LOGITS_BYTES / ((int64_t)sizeof(float) * p->n_vocab);
    p->rows = (int32_t)(rows < MIN_ROWS ? MIN_ROWS : rows > MAX_ROWS ? MAX_ROWS : rows);
    p->entries = calloc((size_t)p->rows, sizeof *p->entries);
    if (p->logits_top > p->n_vocab) p->logits_top = p->n_vocab;
    p->top_ids = calloc((size_t)p->logits_top, sizeof *p->top_ids);
    if (!p->entries || !p->top_ids) return cli_fail("out of memory");
    wtl_session_options session = {.n_ctx = (int32_t)p->chunk_tok, .n_batch = p->rows, .n_logits_max = p->rows, .kv_type = kv_type_of(p->kv)};
    if (wtl_session_open(p->engine, &session, &p->session, err) != WTL_OK) return cli_fail("%s", err->message);
    if (p->logits_out && !(p->out = fopen(p->logits_out, "w"))) return cli_fail("%s: %s", p->logits_out, strerror(errno));
    return CLI_GO;
}

// ---- Probabilities -----------------------------------------------------------------------------------------------
// Log of the sum of exp(logits[0..n)), in double. Not finite when a logit is NaN.
static double log_sum_exp(const float *logits, int32_t n) {
    float top = logits[0];
    for (int32_t i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += exp((double)logits[i] - (double)top);
    return (double)top + log(sum);
}

static bool likelier(const float *x, int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); }

// Heap of ids whose root is the least likely one kept.
static void sift_down(const float *x, int32_t *heap, int64_t n, int64_t i) {
    int32_t moved = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && likelier(x, heap[child], heap[child + 1])) child++;
        if (!likelier(x, moved, heap[child])) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

// The k likeliest ids of x[0..n), likeliest first.
static void select_top(const float *x, int32_t n, int32_t *ids, int64_t k) {
    for (int32_t i = 0; i < n; i++) {
        if (i < k) {
            ids[i] = i;
            if (i == k - 1)
                for (int64_t j = k / 2; j-- > 0;) sift_down(x, ids, k, j);
        } else if (x[i] > x[ids[0]]) {
            ids[0] = i;
            sift_down(x, ids, k, 0);
        }
    }
    for (int64_t left = k - 1; left > 0; left--) { // the root goes behind what is left: descending order
        int32_t worst = ids[0];
        ids[0] = ids[left];
        ids[left] = worst;
        sift_down(x, ids, left, 0);
    }
}

static int write_logits(perplexity *p, size_t pos, const float *logits, double lse) {
    select_top(logits, p->n_vocab, p->top_ids, p->logits_top);
    fprintf(p->out, "{\"pos\": %zu, \"token\": %d, \"ids\": [", pos, p->tokens[pos]);
    for (int64_t i = 0; i < p->logits_top; i++) fprintf(p->out, i ? ", %d" : "%d", p->top_ids[i]);
    fputs("], \"logprobs\": [", p->out);
    for (int64_t i = 0; i < p->logits_top; i++) fprintf(p->out, i ? ", %.7g" : "%.7g", (double)logits[p->top_ids[i]] - lse);
    fputs("]}\n", p->out);
    return ferror(p->out) ? cli_fail("%s: cannot be written: %s", p->logits_out, strerror(errno)) : CLI_GO;
}

// ---- Scoring -----------------------------------------------------------------------------------------------------
// One step's rows: logits of the tokens at start..start + n of the text. scored: the next token belongs to the chunk.
static int score_rows(perplexity *p, size_t start, int32_t n, size_t chunk_end, int32_t first_row) {
    for (int32_t i = 0; i < n; i++) {
        size_t pos = start + (size_t)i;
        const float *logits = wtl_session_logits(p->session, first_row + i);
        double lse = log_sum_exp(logits, p->n_vocab);
        if (!isfinite(lse)) return cli_fail("token %zu: the model's logits are not numbers", pos);
        if (pos + 1 < chunk_end) {
            double nll = lse - (double)logits[p->tokens[pos + 1]];
            p->nll_sum += nll;
            p->nll_square_sum += nll * nll;
            p->n_scored++;
        }
        if (p->out && pos % (size_t)p->logits_every == 0) {
            int code = write_logits(p, pos, logits, lse);
            if (code != CLI_GO) return code;
        }
    }
    return CLI_GO;
}

// Tokens [begin, end) of the text as one sequence. with_bos: a BOS that is not in the text goes first; its prediction of the
// chunk's first token is not scored, as the text's own first token is not.
static int score_chunk(perplexity *p, size_t begin, size_t end, bool with_bos, wtl_error *err) {
    int32_t seq;
    if (wtl_seq_open(p->session, &seq, err) != WTL_OK) return cli_fail("%s", err->message);
    for (size_t at = begin; at < end;) {
        int32_t n = 0, extra = with_bos && at == begin;
        if (extra) p->entries[n++] = (wtl_entry){.token = p->bos, .seq = seq, .want_logits = true};
        size_t first = at;
        while (n < p->rows && at < end) p->entries[n++] = (wtl_entry){.token = p->tokens[at++], .seq = seq, .want_logits = true};
        uint64_t start = cli_now_ns();
        if (wtl_session_step(p->session, p->entries, n, err) != WTL_OK) return cli_fail("%s", err->message);
        p->step_ns += cli_now_ns() - start;
        p->n_run += (uint64_t)n;
        int code = score_rows(p, first, n - extra, end, extra);
        if (code != CLI_GO) return code;
        if (cli_draws(STDERR_FILENO)) fprintf(stderr, "\r%zu of %zu tokens", at, p->n_tokens);
        if (cli_interrupted()) return cli_fail("interrupted after %zu of %zu tokens", at, p->n_tokens), CLI_INTERRUPTED;
    }
    wtl_seq_close(p->session, seq);
    p->n_chunks++;
    return CLI_GO;
}

static int score_all(perplexity *p, wtl_error *err) {
    size_t chunk = (size_t)p->chunk_tok, begin = 0;
    while (begin < p->n_tokens) {
        bool with_bos = begin > 0 && p->bos >= 0;
        size_t room = chunk - with_bos, end = p->n_tokens - begin < room ? p->n_tokens : begin + room;
        if (end - begin < 2) break; // nothing to score
        int code = score_chunk(p, begin, end, with_bos, err);
        if (code != CLI_GO) return code;
        begin = end;
    }
    if (cli_draws(STDERR_FILENO)) fputs("\r\033[K", stderr);
    if (p->n_scored == 0) return cli_fail("chunks of %zu tokens leave nothing to score: raise -c", chunk);
    FILE *out = p->out;
    p->out = NULL;
    if (out && fclose(out) != 0) return cli_fail("%s: cannot be written: %s", p->logits_out, strerror(errno));
    return CLI_GO;
}

static int report(const perplexity *p) {
    double n = (double)p->n_scored, mean = p->nll_sum / n, variance = n > 1 ? (p->nll_square_sum / n - mean * mean) * n / (n - 1) : 0;
    double ppl = exp(mean), stderr_nll = sqrt(variance > 0 ? variance / n : 0), seconds = (double)p->step_ns / 1e9;
    double rate = seconds > 0 ? (double)p->n_run / seconds : 0;
    wtl_engine_info info = wtl_engine_describe(p->engine);
    if (!p->json) {
        cli_printf("perplexity %.4f +- %.4f (mean negative log-likelihood %.6f +- %.6f over %llu tokens)\n", ppl, ppl * stderr_nll, mean,
                   stderr_nll, (unsigned long long)p->n_scored);
        cli_printf("%llu tokens in %llu chunk%s of at most %lld, %.1f tokens/s, %s\n", (unsigned long long)p->n_run, (unsigned long long)p->n_chunks,
                   p->n_chunks == 1 ? "" : "s", (long long)p->chunk_tok, rate, info.backend);
        return CLI_OK;
    }
    json_t *o = json_pack("{s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:s}", "mean_nll", mean, "mean_nll_stderr", stderr_nll,
                          "perplexity", ppl, "perplexity_stderr", ppl * stderr_nll, "scored_tokens", (json_int_t)p->n_scored, "tokens",
                          (json_int_t)p->n_tokens, "chunks", (json_int_t)p->n_chunks, "chunk_tokens", (json_int_t)p->chunk_tok, "seconds", seconds,
                          "tokens_per_second", rate, "model", p->model_path, "backend", info.backend);
    if (!o) return cli_fail("out of memory, or the perplexity is no finite number (mean negative log-likelihood %g)", mean);
    cli_put_json(o);
    json_decref(o);
    return CLI_OK;
}

int cmd_perplexity(int argc, char **argv) {
    perplexity p = {.logits_top = 256, .logits_every = 4};
    wtl_error err = {0};
    int code = parse(&p, argc, argv);
    if (code == CLI_GO) code = cli_text_read(p.prompt, p.file, &p.text);
    if (code == CLI_GO) code = cli_model_path(p.model, &p.model_path);
    if (code == CLI_GO) {
        cli_catch_interrupt();
        code = open_all(&p, &err);
    }
    if (code == CLI_GO) code = score_all(&p, &err);
    if (code == CLI_GO) code = report(&p);
    close_all(&p);
    return cli_finish(code);
}
