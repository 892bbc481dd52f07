// One answer. See chat_turn.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/chat_turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/chat_prompt.h"
#include "tools/run_output.h"

// Shorter prompts are read before anybody wonders.
static const int32_t PROGRESS_TOK = 256;

typedef struct turn {
    const chat_machine *m;
    const chat_turn_options *o;
    chat_answer *answer;
    wtl_sampler *sampler;
    run_output output;
    cli_list stops;
    run_energy joules;
    int32_t seq;      // -1: none
    bool told;        // a progress line stands on the terminal
    bool began;       // something was stamped or could have been: there is an energy request
    wtl_error err;
} turn;

// ---- Prompt -------------------------------------------------------------------------------------------------------
static int open_sampler(turn *t, const wtl_chat_prompt *prompt) {
    wtl_sampler_options options = cli_sampler_options(&t->o->sampling);
    if (wtl_sampler_open(&options, wtl_engine_describe(t->m->engine).n_vocab, &t->sampler, &t->err) != WTL_OK) return cli_fail("%s", t->err.message);
    for (size_t i = 0; i < prompt->n_tokens; i++) wtl_sampler_accept(t->sampler, prompt->tokens[i]);
    return CLI_GO;
}

static void say_progress(turn *t) {
    const int32_t done = wtl_seq_length(t->m->session, t->seq);
    if (!t->m->terminal || t->answer->n_prompt - t->answer->n_cached < PROGRESS_TOK || !cli_draws(STDERR_FILENO)) return;
    const bool dim = cli_dims(STDERR_FILENO);
    fprintf(stderr, "\r\033[2K%sreading: %d of %d tokens%s", dim ? "\033[2m" : "", done, t->answer->n_prompt, dim ? "\033[0m" : "");
    fflush(stderr);
    t->told = true;
}

static void clear_progress(turn *t) {
    if (t->told) fputs("\r\033[2K", stderr);
    t->told = false;
}

static bool on_chunk(void *user, const wtl_step_work *work) {
    (void)work;
    say_progress(user);
    return !cli_interrupted();
}

static int prefill(turn *t, const wtl_chat_prompt *prompt) {
    chat_answer *a = t->answer;
    wtl_session *session = t->m->session;
    const int32_t n_ctx = wtl_session_n_ctx(session);
    a->n_prompt = (int32_t)prompt->n_tokens;
    if (prompt->n_tokens >= (size_t)n_ctx)
        return cli_fail("the conversation has %zu tokens and the context holds %d: /new begins another one; a larger -c holds more (the model was trained for %d)",
                        prompt->n_tokens, n_ctx, wtl_engine_describe(t->m->engine).n_ctx_train);
    if (wtl_seq_open_prefix(session, prompt->tokens, prompt->n_tokens, &t->seq, &a->n_cached, &t->err) != WTL_OK) return cli_fail("%s", t->err.message);
    int code = run_energy_begin(&t->joules, t->m->desk, t->o->max_joules, a->n_prompt, a->n_cached);
    if (code != CLI_GO) return code;
    t->began = true;
    const uint64_t start = cli_now_ns();
    say_progress(t);
    wtl_status status = run_energy_prefill(&t->joules, session, t->seq, prompt->tokens + a->n_cached, prompt->n_tokens - (size_t)a->n_cached, on_chunk, t, &t->err);
    a->prefill_ns = cli_now_ns() - start;
    clear_progress(t);
    if (status == WTL_ERR_CANCELLED) return CLI_GO;
    return status == WTL_OK ? CLI_GO : cli_fail("%s", t->err.message);
}

// ---- Tokens -------------------------------------------------------------------------------------------------------
// True: the reply is over, and answer->stop_reason says why.
static bool over(turn *t, const char *reason) {
    t->answer->stop_reason = reason;
    return true;
}

static bool take_token(turn *t, int32_t token) {
    chat_answer *a = t->answer;
    const wtl_vocab *vocab = wtl_engine_vocab(t->m->engine);
    if (wtl_token_is_end(vocab, token)) return over(t, "end");
    size_t len;
    const char *bytes = wtl_token_bytes(vocab, token, false, &len);
    run_output_push(&t->output, bytes, len);
    a->n_tokens++;
    if (t->output.stopped) return over(t, "stop");
    if (t->o->n_predict > 0 && a->n_tokens >= t->o->n_predict) return over(t, "length");
    if (wtl_seq_length(t->m->session, t->seq) >= wtl_session_n_ctx(t->m->session)) return over(t, "context");
    return false;
}

static int decode(turn *t) {
    chat_answer *a = t->answer;
    if (t->o->n_predict == 0) return over(t, "length"), CLI_GO;
    uint64_t first_ns = 0;
    int code = CLI_GO;
    while (code == CLI_GO) {
        if (cli_interrupted() || !cli_flush()) { // or nobody takes the text
            over(t, "interrupted");
            break;
        }
        if (t->joules.spent) {
            over(t, "energy");
            break;
        }
        int32_t token;
        if (wtl_sampler_next(t->sampler, wtl_session_logits(t->m->session, 0), &token, &t->err) != WTL_OK) code = cli_fail("%s", t->err.message);
        if (!first_ns) first_ns = cli_now_ns();
        if (code != CLI_GO || take_token(t, token)) break;
        if (t->output.no_memory) code = cli_fail("out of memory after %d tokens", a->n_tokens);
        wtl_entry entry = {.token = token, .seq = t->seq, .want_logits = true, .n_top = wtl_sampler_n_top(t->sampler)};
        if (code == CLI_GO && run_energy_step(&t->joules, t->m->session, &entry, &t->err) != WTL_OK) code = cli_fail("%s", t->err.message);
        if (code != CLI_GO) break;
        a->decode_steps++;
    }
    if (first_ns) a->decode_ns = cli_now_ns() - first_ns;
    run_output_finish(&t->output);
    return code;
}

// ---- All of it ----------------------------------------------------------------------------------------------------
static int answer(turn *t, const json_t *messages) {
    wtl_chat_prompt prompt = {0};
    if (chat_prompt_from_json(t->m->chat, messages, NULL, true, &prompt, &t->err) != WTL_OK) return cli_fail("%s", t->err.message);
    const char *stop = wtl_chat_describe(t->m->chat).stop;
    if (stop) t->stops.items[t->stops.n++] = stop;
    t->output = (run_output){.stops = &t->stops, .stream = true, .visible_controls = t->m->terminal};
    int code = open_sampler(t, &prompt);
    if (code == CLI_GO) code = prefill(t, &prompt);
    wtl_chat_prompt_free(&prompt);
    return code == CLI_GO ? decode(t) : code;
}

int chat_turn(const chat_machine *machine, const json_t *messages, const chat_turn_options *options, chat_answer *out) {
    *out = (chat_answer){.stop_reason = "error"};
    turn t = {.m = machine, .o = options, .answer = out, .seq = -1};
    int code = answer(&t, messages);
    clear_progress(&t);
    if (t.seq >= 0) wtl_seq_close(machine->session, t.seq); // what it holds stays findable
    if (t.output.len && (t.output.text[t.output.len - 1] != '\n')) cli_put("\n", 1);
    cli_flush(); // the reader has the text while the meter catches up
    if (t.began) run_energy_end(&t.joules, &out->energy);
    out->request = t.joules.request;
    out->len = t.output.len;
    out->text = realloc(t.output.text, out->len + 1);
    if (out->text) out->text[out->len] = '\0';
    else free(t.output.text);
    if (!out->text) code = cli_fail("out of memory for the answer");
    wtl_sampler_close(&t.sampler);
    return code;
}

void chat_answer_free(chat_answer *answer) {
    free(answer->text);
    *answer = (chat_answer){0};
}
