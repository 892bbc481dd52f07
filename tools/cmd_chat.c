// `wattle chat`: a conversation on the terminal, or through a pipe. Answers go to standard output, all else to standard error.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "tools/chat_command.h"
#include "tools/chat_line.h"
#include "tools/chat_prompt.h"
#include "tools/folders.h"
#include "tools/thread_profile.h"

typedef struct chat_options {
    const char *model, *backend, *kv, *system, *chat_template, *load;
    int64_t threads, context, kv_memory_mib;
    bool no_history, no_energy;
    energy_desk_options energy;
} chat_options;

typedef struct chat {
    chat_options options;
    chat_desk desk; // conversation and settings
    char *model_path, *history;
    wtl_engine *engine;
    wtl_session *session;
    wtl_chat *templates;
    energy_desk energy;
    chat_line *lines;
    char conversation[17]; // label in the ledger: random, hexadecimal
    bool ascii;
} chat;

static void chat_close(chat *c) {
    chat_line_close(c->lines);
    energy_desk_close(&c->energy);
    wtl_chat_close(&c->templates);
    wtl_session_close(&c->session);
    wtl_engine_close(&c->engine);
    chat_talk_close(&c->desk.talk);
    free(c->model_path);
    free(c->history);
}

static int parse(chat *c, int argc, char **argv) {
    chat_options *o = &c->options;
    chat_turn_options *t = &c->desk.options;
    const cli_option options[] = {
        CLI_OPTION_MODEL(&o->model),
        {.name = "system", .letter = 's', .kind = CLI_STRING, .value = &o->system, .arg = "TEXT", .help = "system prompt"},
        {.name = "load", .kind = CLI_STRING, .value = &o->load, .arg = "FILE", .help = "go on with a conversation that /save has written"},
        {.name = "chat-template", .kind = CLI_STRING, .value = &o->chat_template, .arg = "FILE|NAME", .help = "instead of the model's own: a Jinja file, or a built-in one"},
        {.name = "n-predict", .letter = 'n', .kind = CLI_INT, .value = &t->n_predict, .arg = "N", .min = -1, .max = 2147483647,
         .help = "at most N tokens an answer; -1: until the model ends or the context is full (default)"},
        {.name = "ctx-size", .letter = 'c', .kind = CLI_INT, .value = &o->context, .arg = "N", .min = 1, .max = 2147483647,
         .help = "positions for the conversation (default: the model's, at most 8192)"},
        CLI_OPTIONS_SAMPLING(&t->sampling),
        CLI_OPTION_THREADS(&o->threads),
        CLI_OPTION_BACKEND(&o->backend),
        CLI_OPTION_KV(&o->kv),
        {.name = "kv-memory", .kind = CLI_INT, .value = &o->kv_memory_mib, .arg = "MIB", .min = 0, .max = 1 << 24,
         .help = "memory for conversations besides the current one, so that going back to them is cheap (default 256)"},
        {.name = "max-joules", .kind = CLI_FLOAT, .value = &t->max_joules, .arg = "X", .min = 0.001, .max = 1e9, .help = "end an answer when it has taken X joules"},
        {.name = "no-energy", .kind = CLI_FLAG, .value = &o->no_energy, .help = "no line about energy below the answers"},
        {.name = "no-history", .kind = CLI_FLAG, .value = &o->no_history, .help = "keep no file of what was typed"},
        CLI_OPTIONS_ENERGY(&o->energy),
    };
    const cli_command command = {
        .name = "chat", .summary = "talk with a model, and see what each answer takes", .operands = "", .options = options, .n_options = CLI_COUNT(options),
        .notes = "Type a message; /help lists the commands. Ctrl-C stops an answer and keeps the conversation, Ctrl-D ends.\n"
                 "Through a pipe every line is a message (a backslash at its end goes on in the next line), answers go to\n"
                 "standard output, everything else to standard error.\n\n"
                 "examples:\n"
                 "  wattle chat --system \"You answer in one sentence.\"\n"
                 "  printf 'What is the largest ocean on Earth?\\nAnd the second largest?\\n' | wattle chat --temp 0\n"};
    int n_operands = 0;
    return cli_parse(&command, argc, argv, NULL, 0, &n_operands);
}

// ---- Setting up ---------------------------------------------------------------------------------------------------
static char *history_path(void) {
    char *dir = folder_state(), *path = NULL;
    if (dir && (folder_make(dir, 0700, NULL, 0) != 0 || asprintf(&path, "%s/chat_history", dir) < 0)) path = NULL;
    free(dir);
    return path;
}

static int open_conversation(chat *c) {
    char err[CHAT_TALK_ERR];
    if (!chat_talk_open(&c->desk.talk, c->options.system)) return cli_fail("out of memory for the conversation");
    if (c->options.load && !chat_talk_load(&c->desk.talk, c->options.load, err)) return cli_fail("--load: %s", err);
    if (c->options.load && c->options.system && !chat_talk_set_system(&c->desk.talk, c->options.system)) return cli_fail("out of memory for the conversation");
    uint64_t random = cli_now_ns();
    if (getrandom(&random, sizeof random, 0) != sizeof random) random ^= (uint64_t)getpid() << 32;
    snprintf(c->conversation, sizeof c->conversation, "%016llx", (unsigned long long)random);
    return CLI_GO;
}

static int open_model(chat *c) {
    const chat_options *o = &c->options;
    wtl_error err = {0};
    wtl_engine_options engine = {.model_path = c->model_path, .backend = o->backend};
    char reason[THREADS_REASON];
    thread_profile_apply(o->threads, &engine, reason);
    if (wtl_engine_open(&engine, &c->engine, &err) != WTL_OK) return cli_fail("%s", err.message);
    wtl_session_options session = {.n_ctx = (int32_t)o->context, .kv_type = kv_type_of(o->kv), .keep_prefixes = true,
                                   .cache_bytes = (uint64_t)o->kv_memory_mib << 20};
    if (wtl_session_open(c->engine, &session, &c->session, &err) != WTL_OK) return cli_fail("%s", err.message);
    if (chat_prompt_open(c->engine, o->chat_template, &c->templates, &err) != WTL_OK) return cli_fail("%s", err.message);
    wtl_chat_info info = wtl_chat_describe(c->templates);
    if (info.fallback) cli_warn("%s", info.reason);
    const char *name = strrchr(c->model_path, '/');
    c->desk.model = name ? name + 1 : c->model_path;
    return energy_desk_open(&c->energy, c->engine);
}

static int set_up(chat *c) {
    int code = cli_model_path(c->options.model, &c->model_path);
    if (code == CLI_GO) code = open_conversation(c);
    if (code == CLI_GO) code = energy_desk_begin(&c->energy, "chat", &c->options.energy);
    if (code == CLI_GO) code = open_model(c);
    if (code != CLI_GO) return code;
    c->desk.show_energy = !c->options.no_energy;
    c->desk.scopes = energy_desk_scopes(&c->energy);
    c->history = c->options.no_history ? NULL : history_path();
    c->lines = chat_line_open(c->history);
    if (!c->lines) return cli_fail("the terminal cannot be edited on: out of memory");
    if (chat_line_is_terminal(c->lines)) cli_note("%s. /help lists the commands, Ctrl-D ends.", c->desk.model);
    cli_catch_interrupt();
    return CLI_GO;
}

// ---- Talking ------------------------------------------------------------------------------------------------------
static void say_line(const chat *c, const chat_answer *answer) {
    char line[1024];
    chat_energy_line(answer, c->ascii, line, sizeof line);
    cli_note("%s", line);
}

// Answers what the conversation ends with. CLI_FAILED when no answer could be given: the question is then taken back.
static int answer(chat *c) {
    const bool terminal = isatty(STDOUT_FILENO);
    const chat_machine machine = {.engine = c->engine, .session = c->session, .chat = c->templates, .desk = &c->energy, .terminal = terminal};
    const int64_t arrived_ms = cli_unix_ms();
    chat_answer a;
    int code = chat_turn(&machine, c->desk.talk.messages, &c->desk.options, &a);
    c->desk.options.sampling.seed = (int64_t)((uint64_t)(c->desk.options.sampling.seed + 1) % (uint64_t)CLI_SEED_MAX);
    if (a.n_prompt > 0 && (a.n_tokens > 0 || code == CLI_GO)) {
        energy_desk_entry entry = {.kind = "chat", .model = c->desk.model, .backend = wtl_engine_describe(c->engine).backend, .outcome = a.stop_reason,
                                   .conversation = c->conversation, .arrived_ms = arrived_ms};
        energy_desk_book(&c->energy, &entry, &a.energy);
    }
    if (code == CLI_GO) {
        if (a.n_tokens > 0 || strcmp(a.stop_reason, "interrupted") != 0) chat_talk_add(&c->desk.talk, "assistant", a.text, a.len);
        else chat_talk_drop(&c->desk.talk, "user"); // stopped before anything was said
        chat_account(&c->desk, &a);
        if (c->desk.show_energy) say_line(c, &a);
    } else {
        chat_talk_drop(&c->desk.talk, "user");
    }
    if (terminal) cli_put("\n", 1);
    cli_flush();
    wtl_energy_forget(c->energy.energy, a.request);
    chat_answer_free(&a);
    return code;
}

// Whether a signal ends the chat. On a terminal Ctrl-C does not: it stops an answer, drops a message, or came between the two.
static bool ends_by_signal(const chat *c) { return cli_interrupted() && (!chat_line_is_terminal(c->lines) || !cli_resume()); }

// One line: a command, or a message and its answer. CLI_GO: go on.
static int take(chat *c, const char *text) {
    chat_next next = CHAT_AGAIN;
    if (text[0] == '/' && text[1] != '/') next = chat_command(&c->desk, text);
    else if (!chat_talk_add(&c->desk.talk, "user", text + (text[0] == '/'), strlen(text) - (text[0] == '/')))
        return cli_warn("the message is no UTF-8 text, or memory is short: it was not sent"), CLI_GO;
    if (next == CHAT_QUIT) return CLI_OK;
    if (next == CHAT_GO_ON) return CLI_GO;
    const int code = answer(c);
    if (!cli_flush()) return CLI_OK; // nobody reads any more
    if (ends_by_signal(c)) return CLI_INTERRUPTED;
    return code == CLI_GO || chat_line_is_terminal(c->lines) ? CLI_GO : code;
}

static int talk(chat *c) {
    int dropped = 0;
    for (;;) {
        char *text = NULL;
        chat_line_kind kind = chat_line_read(c->lines, &text);
        int code = CLI_GO;
        if (cli_interrupted() && !ends_by_signal(c) && kind == CHAT_LINE_END) kind = CHAT_LINE_DROPPED;
        if (kind == CHAT_LINE_END) code = CLI_OK;
        if (kind == CHAT_LINE_FAILED) code = CLI_FAILED;
        if (kind == CHAT_LINE_DROPPED && ++dropped == 2) cli_note("Ctrl-D or /quit ends the chat");
        if (kind == CHAT_LINE_TEXT) {
            dropped = 0;
            if (text[strspn(text, " \t\n")]) code = take(c, text);
        }
        free(text);
        if (ends_by_signal(c) && (code == CLI_GO || code == CLI_OK)) code = CLI_INTERRUPTED;
        if (code != CLI_GO) return code;
    }
}

int cmd_chat(int argc, char **argv) {
    chat c = {.options = {.kv_memory_mib = 256}, .desk.options = {.n_predict = -1, .sampling = cli_sampling_defaults()}};
    int code = parse(&c, argc, argv);
    if (code == CLI_GO) code = set_up(&c);
    if (code == CLI_GO) code = talk(&c);
    chat_close(&c);
    return cli_finish(code);
}
