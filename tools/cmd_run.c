// `wattle run`: one prompt, one reply. Text goes to standard output as it comes, the summary to standard error.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/wattle.h"
#include "telemetry/telemetry.h"
#include "tools/cli.h"
#include "tools/run_chat.h"
#include "tools/run_energy.h"
#include "tools/run_output.h"
#include "tools/run_report.h"
#include "tools/sampling_options.h"
#include "tools/thread_profile.h"

// At most; it ends when a baseline is known: a tenth of a second of settling and half a second of sample, in edges as late as the sensor gives them.
static const uint64_t BASELINE_NS = 1500000000;

typedef struct run_options {
    const char *model, *prompt, *file, *backend, *kv;
    int64_t n_predict, threads, context;
    cli_sampling sampling;
    bool ignore_eos, deterministic, json, no_stream, forecast;
    cli_list stops;
    run_chat_options chat;
    energy_desk_options energy;
    double max_joules; // 0: no budget
} run_options;

// What one run holds. Empty first; run_close frees whatever is there.
typedef struct run {
    run_options options;
    cli_text text;
    char *model_path;
    wtl_engine *engine;
    wtl_session *session;
    wtl_sampler *sampler;
    run_chat chat;
    int32_t *prompt; // [n_prompt]
    size_t n_prompt;
    int32_t *reply;  // [report.completion_tok], room for reply_cap
    size_t reply_cap;
    int32_t seq;
    uint64_t first_ns; // when the first token had been chosen and written; 0: none yet
    energy_desk desk;
    run_energy joules;
    int64_t arrived_ms; // Unix time
    json_t *forecast;
    char threads_reason[THREADS_REASON];
    run_output output;
    run_report report;
} run;

static void run_close(run *r) {
    energy_desk_close(&r->desk);
    json_decref(r->forecast);
    run_output_free(&r->output);
    wtl_sampler_close(&r->sampler);
    wtl_session_close(&r->session);
    run_chat_close(&r->chat);
    wtl_engine_close(&r->engine);
    cli_text_free(&r->text);
    free(r->model_path);
    free(r->prompt);
    free(r->reply);
}

static int parse(run_options *o, int argc, char **argv) {
    const cli_option options[] = {
        CLI_OPTION_MODEL(&o->model),
        CLI_OPTION_PROMPT(&o->prompt),
        CLI_OPTION_FILE(&o->file),
        CLI_OPTIONS_CHAT(&o->chat),
        {.name = "n-predict", .letter = 'n', .kind = CLI_INT, .value = &o->n_predict, .arg = "N", .min = -1, .max = 2147483647,
         .help = "at most N tokens; -1: until the model ends or the context is full (default 256)"},
        {.name = "ctx-size", .letter = 'c', .kind = CLI_INT, .value = &o->context, .arg = "N", .min = 1, .max = 2147483647,
         .help = "positions for prompt and reply (default: the model's, at most 8192)"},
        CLI_OPTIONS_SAMPLING(&o->sampling),
        {.name = "stop", .kind = CLI_LIST, .value = &o->stops, .arg = "TEXT", .help = "end before this text; may be given up to 32 times"},
        {.name = "ignore-eos", .kind = CLI_FLAG, .value = &o->ignore_eos, .help = "go on after a token that ends the reply"},
        CLI_OPTION_THREADS(&o->threads),
        CLI_OPTION_BACKEND(&o->backend),
        CLI_OPTION_KV(&o->kv),
        {.name = "deterministic", .kind = CLI_FLAG, .value = &o->deterministic, .help = "logits do not depend on the batch for F32, F16 and BF16 weights either (slower prompts)"},
        CLI_OPTION_JSON(&o->json),
        {.name = "max-joules", .kind = CLI_FLOAT, .value = &o->max_joules, .arg = "X", .min = 0.001, .max = 1e9, .help = "end the reply when it has taken X joules"},
        {.name = "forecast", .kind = CLI_FLAG, .value = &o->forecast, .help = "say first what this will take, from earlier runs of this model here"},
        CLI_OPTIONS_ENERGY(&o->energy),
        {.name = "no-stream", .kind = CLI_FLAG, .value = &o->no_stream, .help = "print the text at the end"},
    };
    const cli_command command = {
        .name = "run", .summary = "write text with a model", .operands = "", .options = options, .n_options = CLI_COUNT(options),
        .notes = "Text goes to standard output, a summary to standard error. The prompt is not repeated; without --chat it is continued\n"
                 "as it stands. Ctrl-C ends after the current token (exit code 130), a second one at once.\n\n"
                 "examples:\n"
                 "  wattle run --chat -p \"Why is the sky blue?\"\n"
                 "  wattle run -p \"The capital of France is\" -n 16 --temp 0\n"
                 "  wattle run -m model.gguf -f prompt.txt --json\n"};
    int n_operands = 0;
    return cli_parse(&command, argc, argv, NULL, 0, &n_operands);
}

// ---- Setting up --------------------------------------------------------------------------------------------------
static int tokenize_text(run *r, wtl_error *err) {
    const wtl_vocab *vocab = wtl_engine_vocab(r->engine);
    wtl_vocab_info info = wtl_vocab_describe(vocab);
    unsigned flags = WTL_ADD_SPECIAL | WTL_PARSE_SPECIAL;
    size_t cap = r->text.len + 8;
    for (;;) {
        free(r->prompt);
        r->prompt = malloc(cap * sizeof *r->prompt);
        if (!r->prompt) return cli_fail("out of memory for a prompt of %zu bytes", r->text.len);
        if (wtl_tokenize(vocab, r->text.bytes, r->text.len, flags, r->prompt, cap, &r->n_prompt, err) != WTL_OK) return cli_fail("%s", err->message);
        if (r->n_prompt <= cap) break;
        cap = r->n_prompt;
    }
    if (info.adds_eos && r->n_prompt > 0 && r->prompt[r->n_prompt - 1] == info.eos) r->n_prompt--; // the reply comes before it
    return CLI_GO;
}

static int tokenize_chat(run *r) {
    int code = run_chat_open(&r->chat, &r->options.chat, r->engine, &r->text, &r->options.stops);
    if (code != CLI_GO) return code;
    r->n_prompt = r->chat.prompt.n_tokens;
    r->prompt = malloc((r->n_prompt + 1) * sizeof *r->prompt);
    if (!r->prompt) return cli_fail("out of memory for a prompt of %zu tokens", r->n_prompt);
    if (r->n_prompt) memcpy(r->prompt, r->chat.prompt.tokens, r->n_prompt * sizeof *r->prompt);
    return CLI_GO;
}

static int tokenize_prompt(run *r, wtl_error *err) {
    int code = r->options.chat.chat ? tokenize_chat(r) : tokenize_text(r, err);
    if (code != CLI_GO || r->n_prompt > 0) return code;
    int32_t bos = wtl_vocab_describe(wtl_engine_vocab(r->engine)).bos;
    if (bos < 0) return cli_fail("the prompt is empty and this model has no token to begin with");
    r->prompt[0] = bos;
    r->n_prompt = 1;
    return CLI_GO;
}

static int open_sampler(run *r, wtl_error *err) {
    wtl_sampler_options options = cli_sampler_options(&r->options.sampling);
    if (wtl_sampler_open(&options, wtl_engine_describe(r->engine).n_vocab, &r->sampler, err) != WTL_OK) return cli_fail("%s", err->message);
    for (size_t i = 0; i < r->n_prompt; i++) wtl_sampler_accept(r->sampler, r->prompt[i]);
    return CLI_GO;
}

static int open_all(run *r, wtl_error *err) {
    const run_options *o = &r->options;
    uint64_t start = cli_now_ns();
    wtl_engine_options engine = {.model_path = r->model_path, .backend = o->backend, .deterministic = o->deterministic};
    thread_profile_apply(o->threads, &engine, r->threads_reason);
    if (wtl_engine_open(&engine, &r->engine, err) != WTL_OK) return cli_fail("%s", err->message);
    r->report.load_ns = cli_now_ns() - start;

    int code = tokenize_prompt(r, err);
    if (code != CLI_GO) return code;
    wtl_session_options session = {.n_ctx = (int32_t)o->context, .kv_type = kv_type_of(o->kv)};
    if (wtl_session_open(r->engine, &session, &r->session, err) != WTL_OK) return cli_fail("%s", err->message);
    int32_t n_ctx = wtl_session_n_ctx(r->session);
    if (r->n_prompt > (size_t)n_ctx)
        return cli_fail("the prompt has %zu tokens and the context holds %d: shorten the prompt or raise -c (the model allows %d)", r->n_prompt,
                        n_ctx, wtl_engine_describe(r->engine).n_ctx_train);
    if (wtl_seq_open(r->session, &r->seq, err) != WTL_OK) return cli_fail("%s", err->message);
    return open_sampler(r, err);
}

// ---- Generating --------------------------------------------------------------------------------------------------
static bool keep_prefilling(void *user, const wtl_step_work *work) {
    (void)user, (void)work;
    return !cli_interrupted();
}

static int prefill(run *r, wtl_error *err) {
    uint64_t start = cli_now_ns();
    wtl_status status = run_energy_prefill(&r->joules, r->session, r->seq, r->prompt, r->n_prompt, keep_prefilling, NULL, err);
    r->report.prefill_ns = cli_now_ns() - start;
    r->report.prompt_tok = (int64_t)r->n_prompt;
    r->report.prompt_done_tok = wtl_seq_length(r->session, r->seq);
    if (status == WTL_OK || status == WTL_ERR_CANCELLED) return CLI_GO;
    return cli_fail("%s", err->message);
}

static bool remember(run *r, int32_t token) {
    size_t n = (size_t)r->report.completion_tok;
    if (n == r->reply_cap) {
        size_t cap = r->reply_cap ? 2 * r->reply_cap : 256;
        int32_t *grown = realloc(r->reply, cap * sizeof *grown);
        if (!grown) return false;
        r->reply = grown;
        r->reply_cap = cap;
    }
    r->reply[n] = token;
    r->report.completion_tok++;
    return true;
}

static int end_reply(run *r, const char *reason) {
    r->report.stop_reason = reason;
    return CLI_GO;
}

// One token after another until something ends the reply; report.stop_reason says what.
static int decode(run *r, wtl_error *err) {
    const wtl_vocab *vocab = wtl_engine_vocab(r->engine);
    run_report *report = &r->report;
    int32_t n_ctx = wtl_session_n_ctx(r->session);
    int64_t limit = r->options.n_predict;
    if (limit == 0) return end_reply(r, "length");
    for (;;) {
        if (cli_interrupted() || !cli_flush()) return end_reply(r, "interrupted"); // or nobody takes the text
        if (r->joules.spent) return end_reply(r, "energy");
        int32_t token;
        if (wtl_sampler_next(r->sampler, wtl_session_logits(r->session, 0), &token, err) != WTL_OK) return cli_fail("%s", err->message);
        bool ends = !r->options.ignore_eos && wtl_token_is_end(vocab, token);
        if (!ends) {
            size_t len;
            const char *bytes = wtl_token_bytes(vocab, token, false, &len);
            run_output_push(&r->output, bytes, len);
            if (!remember(r, token) || r->output.no_memory) return cli_fail("out of memory after %lld tokens", (long long)report->completion_tok);
        }
        if (!r->first_ns) r->first_ns = cli_now_ns();
        if (ends) return end_reply(r, "end");
        if (r->output.stopped) return end_reply(r, "stop");
        if (limit > 0 && report->completion_tok >= limit) return end_reply(r, "length");
        if (wtl_seq_length(r->session, r->seq) >= n_ctx) return end_reply(r, "context");
        wtl_entry entry = {.token = token, .seq = r->seq, .want_logits = true, .n_top = wtl_sampler_n_top(r->sampler)};
        if (run_energy_step(&r->joules, r->session, &entry, err) != WTL_OK) return cli_fail("%s", err->message);
        report->decode_steps++;
    }
}

static int finish(run *r) {
    run_report *report = &r->report;
    wtl_engine_info info = wtl_engine_describe(r->engine);
    if (r->first_ns) {
        report->ttft_ns = r->first_ns - cli_start_ns();
        report->decode_ns = cli_now_ns() - r->first_ns;
    }
    run_output_finish(&r->output);
    if (!r->options.json && !r->options.no_stream) cli_flush(); // the reader has the text while the meter catches up
    run_energy_end(&r->joules, &report->energy);
    report->meter = r->desk.meter;
    report->scopes = energy_desk_scopes(&r->desk);
    report->forecast = r->forecast;
    report->model = r->model_path;
    report->chat_template = run_chat_template(&r->chat);
    report->arch = info.arch;
    report->backend = info.backend;
    report->seed = r->options.sampling.seed;
    report->text = r->output.text;
    report->text_len = r->output.len;
    report->tokens = r->reply;
    if (r->options.json) {
        json_t *object = run_report_json(report);
        if (!object) return cli_fail("out of memory for the JSON object");
        json_object_set_new(object, "threads", thread_profile_json(r->engine, r->threads_reason));
        cli_put_json(object);
        json_decref(object);
    } else {
        if (r->options.no_stream) cli_put(report->text, report->text_len);
        if (report->text_len == 0 || report->text[report->text_len - 1] != '\n') cli_put("\n", 1);
        if (cli_flush()) run_report_summary(report);
    }
    const char *name = strrchr(r->model_path, '/');
    energy_desk_entry entry = {.kind = "run", .model = name ? name + 1 : r->model_path, .backend = report->backend, .outcome = report->stop_reason, .arrived_ms = r->arrived_ms};
    energy_desk_book(&r->desk, &entry, &report->energy);
    energy_desk_baseline(&r->desk, BASELINE_NS, !r->options.json && isatty(STDERR_FILENO));
    return cli_interrupted() ? CLI_INTERRUPTED : CLI_OK;
}

static int work(run *r) {
    wtl_error err = {0};
    int code = cli_text_read(r->options.prompt, r->options.file, &r->text);
    if (code == CLI_GO) code = cli_model_path(r->options.model, &r->model_path);
    if (code != CLI_GO) return code;
    if (!r->options.chat.chat && (r->options.chat.system || r->options.chat.chat_template)) cli_warn("--system and --chat-template do nothing without --chat");
    cli_catch_interrupt();
    r->arrived_ms = cli_unix_ms();
    code = energy_desk_begin(&r->desk, "run", &r->options.energy);
    if (code == CLI_GO) code = open_all(r, &err);
    if (code == CLI_GO) code = energy_desk_open(&r->desk, r->engine);
    if (code == CLI_GO && r->options.forecast) {
        int64_t room = wtl_session_n_ctx(r->session) - (int64_t)r->n_prompt, n = r->options.n_predict;
        r->forecast = run_energy_forecast(&r->desk, (int32_t)r->n_prompt, (int32_t)(n < 0 || n > room ? room : n));
    }
    if (code == CLI_GO) code = run_energy_begin(&r->joules, &r->desk, r->options.max_joules, (int32_t)r->n_prompt, 0);
    if (code != CLI_GO) return code;
    r->output.stops = &r->options.stops;
    r->output.stream = !r->options.json && !r->options.no_stream;
    code = prefill(r, &err);
    if (code == CLI_GO) code = decode(r, &err);
    return code == CLI_GO ? finish(r) : code;
}

int cmd_run(int argc, char **argv) {
    run r = {.options = {.n_predict = 256, .sampling = cli_sampling_defaults()}};
    int code = parse(&r.options, argc, argv);
    if (code == CLI_GO) code = work(&r);
    run_close(&r);
    return cli_finish(code);
}
