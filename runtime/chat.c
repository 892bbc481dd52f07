// Chats: a compiled template beside a vocabulary; conversations rendered and tokenised. See chat.h.
//
// Which bytes are trusted is decided here and in the template engine: what the template's author wrote, the spellings of the model's own
// tokens, and the role of a message where it is one of the words that every API knows (templates build "<|user|>" from it). All else of
// the input is untrusted. Tokens come from wtl_tokenize_untrusted's rules; nothing here looks at the text between.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "models/chat_template/chat_template.h"
#include "runtime/base/alloc.h"
#include "runtime/chat_builtin.h"
#include "runtime/vocab.h"

// ---- Input ---------------------------------------------------------------------------------------------------------
struct wtl_chat_input {
    jinja_values *values;
    uint32_t depth; // open maps and lists
    bool role_next; // the value of the "role" of a message comes
};

wtl_status wtl_chat_input_open(wtl_chat_input **out, wtl_error *err) {
    if (!out) return wtl_fail(err, WTL_ERR_INVALID, "wtl_chat_input_open needs a place for the input");
    *out = NULL;
    wtl_chat_input *in = wtl_calloc(1, sizeof *in);
    if (!in) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the input of a chat template");
    wtl_status status = jinja_values_open(&in->values, err);
    if (status) wtl_chat_input_close(&in);
    *out = in;
    return status;
}

void wtl_chat_input_close(wtl_chat_input **in) {
    if (!in || !*in) return;
    jinja_values_close(&(*in)->values);
    wtl_free(*in);
    *in = NULL;
}

void wtl_chat_begin_map(wtl_chat_input *in) {
    in->depth++;
    in->role_next = false;
    jinja_begin_map(in->values);
}

void wtl_chat_begin_list(wtl_chat_input *in) {
    in->depth++;
    in->role_next = false;
    jinja_begin_list(in->values);
}

void wtl_chat_end(wtl_chat_input *in) {
    if (in->depth) in->depth--;
    jinja_end(in->values);
}

void wtl_chat_key(wtl_chat_input *in, const char *key, size_t len) {
    in->role_next = in->depth == 3 && len == 4 && memcmp(key, "role", 4) == 0; // root, list of messages, message
    jinja_key(in->values, key, len);
}

static bool is_known_role(const char *text, size_t len) {
    static const char *const roles[] = {"user", "assistant", "system", "developer", "tool", "function", "ipython"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strlen(roles[i]) == len && memcmp(roles[i], text, len) == 0) return true;
    return false;
}

void wtl_chat_text(wtl_chat_input *in, const char *text, size_t len) {
    bool trusted = in->role_next && is_known_role(text, len);
    in->role_next = false;
    jinja_text(in->values, text, len, trusted);
}

void wtl_chat_int(wtl_chat_input *in, int64_t value) { jinja_int(in->values, value); }
void wtl_chat_real(wtl_chat_input *in, double value) { jinja_real(in->values, value); }
void wtl_chat_bool(wtl_chat_input *in, bool value) { jinja_bool(in->values, value); }
void wtl_chat_null(wtl_chat_input *in) { jinja_null(in->values); }

// ---- Opening -------------------------------------------------------------------------------------------------------
struct wtl_chat {
    const wtl_vocab *vocab;
    jinja_template *compiled;
    jinja_values *globals;
    char *source, *name;
    char reason[320];
    const char *stop;
    bool fallback, thinks, takes_system, takes_tools;
};

const char *wtl_chat_builtin(size_t i) {
    const chat_builtin *builtin = chat_builtin_at(i);
    return builtin ? builtin->name : NULL;
}

static wtl_status unknown_name(const char *name, wtl_error *err) {
    char names[256] = "";
    size_t n = 0;
    for (size_t i = 0; wtl_chat_builtin(i) && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", wtl_chat_builtin(i));
    return wtl_fail(err, WTL_ERR_INVALID, "there is no built-in chat template \"%.64s\"; there are %s", name, names);
}

static void explain_fallback(wtl_chat *chat, const chat_builtin *builtin) {
    chat->fallback = true;
    if (builtin->marks[0])
        snprintf(chat->reason, sizeof chat->reason,
                 "this model has no chat template (a base model?): its vocabulary has %s, so the built-in template \"%s\" is used", builtin->marks[0], builtin->name);
    else
        snprintf(chat->reason, sizeof chat->reason,
                 "this model has no chat template (a base model?) and no tokens for turns: the built-in template \"%s\" is used, lines of User: and Assistant:",
                 builtin->name);
}

// The end of a turn as text, where the model has no token for it.
static void set_stop(wtl_chat *chat, const chat_builtin *builtin) {
    const wtl_tokenizer *t = vocab_tokenizer(chat->vocab);
    if (builtin->end && !tokenizer_is_end(t, tokenizer_special(t, builtin->end))) chat->stop = builtin->end;
}

// Which template, under which name. source and name are borrowed.
static wtl_status choose(wtl_chat *chat, const wtl_chat_options *o, const char **source, size_t *len, const char **name, wtl_error *err) {
    const char *own = wtl_vocab_chat_template(chat->vocab);
    if (o->source || (own && *own && !o->name)) {
        *source = o->source ? o->source : own;
        *len = o->source ? o->source_len : strlen(own);
        *name = !o->source ? "model" : o->source_name ? o->source_name : "template";
        return WTL_OK;
    }
    const chat_builtin *builtin = o->name ? chat_builtin_find(o->name) : chat_builtin_for(vocab_tokenizer(chat->vocab));
    if (!builtin) return unknown_name(o->name ? o->name : "", err);
    if (!o->name) explain_fallback(chat, builtin);
    set_stop(chat, builtin);
    *source = builtin->source;
    *len = strlen(builtin->source);
    *name = builtin->name;
    return WTL_OK;
}

static void put_token(jinja_values *v, const char *key, const wtl_tokenizer *t, int32_t id, bool always) {
    if (id < 0 && !always) return;
    gguf_str text = tokenizer_token_text(t, id); // "" for -1
    jinja_key(v, key, strlen(key));
    jinja_text(v, text.s, text.len, true);
}

// What templates may count on, as in the Python stack: tools and documents are null unless given.
static wtl_status make_globals(wtl_chat *chat, wtl_error *err) {
    const wtl_tokenizer *t = vocab_tokenizer(chat->vocab);
    wtl_status status = jinja_values_open(&chat->globals, err);
    if (status) return status;
    jinja_values *v = chat->globals;
    jinja_begin_map(v);
    put_token(v, "bos_token", t, tokenizer_bos(t), true);
    put_token(v, "eos_token", t, tokenizer_eos(t), true);
    put_token(v, "unk_token", t, tokenizer_unk(t), false);
    put_token(v, "pad_token", t, tokenizer_pad(t), false);
    jinja_key(v, "tools", strlen("tools"));
    jinja_null(v);
    jinja_key(v, "documents", strlen("documents"));
    jinja_null(v);
    jinja_end(v);
    return jinja_values_check(v, err);
}

static void put_message(wtl_chat_input *in, const char *role, const char *content) {
    wtl_chat_begin_map(in);
    wtl_chat_key(in, "role", strlen("role"));
    wtl_chat_text(in, role, strlen(role));
    wtl_chat_key(in, "content", strlen("content"));
    wtl_chat_text(in, content, strlen(content));
    wtl_chat_end(in);
}

static wtl_status render_text(const wtl_chat *chat, const wtl_chat_input *in, jinja_output *out, wtl_error *err) {
    wtl_status status = jinja_values_check(in->values, err);
    return status ? status : jinja_render(chat->compiled, in->values, chat->globals, NULL, NULL, out, err);
}

// Renders a small conversation with a system message; a template that refuses it or leaves it out takes none.
static wtl_status probe_system(wtl_chat *chat, wtl_error *err) {
    static const char sign[] = "wattle-probes-the-system-message";
    wtl_chat_input *in;
    wtl_status status = wtl_chat_input_open(&in, err);
    if (status) return status;
    wtl_chat_begin_map(in);
    wtl_chat_key(in, "messages", strlen("messages"));
    wtl_chat_begin_list(in);
    put_message(in, "system", sign);
    put_message(in, "user", "Hi");
    wtl_chat_end(in);
    wtl_chat_key(in, "add_generation_prompt", strlen("add_generation_prompt"));
    wtl_chat_bool(in, true);
    wtl_chat_end(in);
    jinja_output out = {0};
    wtl_error ignored;
    status = render_text(chat, in, &out, &ignored);
    chat->takes_system = status == WTL_OK && strstr(out.text, sign);
    if (status == WTL_OK) jinja_output_free(&out);
    wtl_chat_input_close(&in);
    return status == WTL_ERR_NO_MEMORY ? wtl_fail(err, status, "out of memory while trying the chat template") : WTL_OK;
}

static wtl_status open_chat(wtl_chat *chat, const wtl_chat_options *options, wtl_error *err) {
    const char *source = NULL, *name = NULL;
    size_t len = 0;
    wtl_status status = choose(chat, options, &source, &len, &name, err);
    if (status) return status;
    chat->source = wtl_strndup(source, len);
    chat->name = wtl_strndup(name, strlen(name));
    if (!chat->source || !chat->name) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a chat template of %zu bytes", len);
    const char *called = strcmp(name, "model") == 0 && !options->source ? "the model's chat template" : name;
    status = jinja_compile(called, source, len, &chat->compiled, err);
    if (!status) status = make_globals(chat, err);
    if (status) return status;
    chat->thinks = strstr(chat->source, "<think>") || strstr(chat->source, "</think>");
    chat->takes_tools = jinja_mentions(chat->compiled, "tools");
    return probe_system(chat, err);
}

wtl_status wtl_chat_open(const wtl_chat_options *options, wtl_chat **out, wtl_error *err) {
    if (!out) return wtl_fail(err, WTL_ERR_INVALID, "wtl_chat_open needs a place for the chat");
    *out = NULL;
    if (!options || (!options->engine && !options->vocab)) return wtl_fail(err, WTL_ERR_INVALID, "wtl_chat_open needs an engine or a vocabulary");
    if (options->name && options->source) return wtl_fail(err, WTL_ERR_INVALID, "wtl_chat_open takes a template's name or its source, not both");
    wtl_chat *chat = wtl_calloc(1, sizeof *chat);
    if (!chat) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a chat");
    chat->vocab = options->vocab ? options->vocab : wtl_engine_vocab(options->engine);
    wtl_status status = open_chat(chat, options, err);
    if (status) wtl_chat_close(&chat);
    *out = chat;
    return status;
}

void wtl_chat_close(wtl_chat **chat) {
    if (!chat || !*chat) return;
    jinja_template_free(&(*chat)->compiled);
    jinja_values_close(&(*chat)->globals);
    wtl_free((*chat)->source);
    wtl_free((*chat)->name);
    wtl_free(*chat);
    *chat = NULL;
}

wtl_chat_info wtl_chat_describe(const wtl_chat *chat) {
    return (wtl_chat_info){.name = chat->name,
                           .source = chat->source,
                           .fallback = chat->fallback,
                           .reason = chat->reason,
                           .think_open = chat->thinks ? "<think>" : NULL,
                           .think_close = chat->thinks ? "</think>" : NULL,
                           .stop = chat->stop,
                           .takes_system = chat->takes_system,
                           .takes_tools = chat->takes_tools};
}

// ---- Rendering -----------------------------------------------------------------------------------------------------
static wtl_status copy_output(const jinja_output *from, wtl_chat_prompt *to, wtl_error *err) {
    to->text = wtl_strndup(from->text, from->len);
    to->untrusted = wtl_calloc(from->n_tainted, sizeof *to->untrusted);
    if (!to->text || !to->untrusted) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a prompt of %zu bytes", from->len);
    to->text_len = from->len;
    to->n_untrusted = from->n_tainted;
    for (size_t i = 0; i < from->n_tainted; i++) to->untrusted[i] = (wtl_span){from->tainted[i].begin, from->tainted[i].end};
    return WTL_OK;
}

// BOS in front once: where the model wants it and the template did not write it.
static wtl_status tokenise(const wtl_chat *chat, wtl_chat_prompt *prompt, wtl_error *err) {
    const wtl_tokenizer *t = vocab_tokenizer(chat->vocab);
    wtl_tokens tokens = {0};
    bool adds_bos = tokenizer_adds_bos(t);
    wtl_status status = adds_bos ? tokens_push(&tokens, tokenizer_bos(t), err) : WTL_OK;
    if (!status)
        status = vocab_encode_untrusted(chat->vocab, prompt->text, prompt->text_len, WTL_PARSE_SPECIAL, prompt->untrusted, prompt->n_untrusted, &tokens, err);
    if (status) {
        tokens_free(&tokens);
        return status;
    }
    if (adds_bos && tokens.n > 1 && tokens.ids[1] == tokens.ids[0]) memmove(tokens.ids, tokens.ids + 1, --tokens.n * sizeof *tokens.ids);
    prompt->tokens = tokens.ids;
    prompt->n_tokens = tokens.n;
    return WTL_OK;
}

// The template's own opening tag stands at the end; one that a message ends with is no such thing.
static bool ends_in_thought(const wtl_chat_prompt *prompt) {
    static const char tag[] = "<think>";
    size_t n = prompt->text_len, len = sizeof tag - 1;
    while (n && isspace((unsigned char)prompt->text[n - 1])) n--;
    if (n < len || memcmp(prompt->text + n - len, tag, len) != 0) return false;
    for (size_t i = prompt->n_untrusted; i-- > 0 && prompt->untrusted[i].end > n - len;)
        if (prompt->untrusted[i].begin < n) return false;
    return true;
}

wtl_status wtl_chat_render(const wtl_chat *chat, const wtl_chat_input *in, wtl_chat_prompt *out, wtl_error *err) {
    if (!chat || !in || !out) return wtl_fail(err, WTL_ERR_INVALID, "wtl_chat_render needs a chat, an input and a place for the prompt");
    jinja_output rendered = {0};
    wtl_chat_prompt prompt = {0};
    wtl_status status = render_text(chat, in, &rendered, err);
    if (status) return status;
    status = copy_output(&rendered, &prompt, err);
    jinja_output_free(&rendered);
    if (!status) status = tokenise(chat, &prompt, err);
    if (status) {
        wtl_chat_prompt_free(&prompt);
        return status;
    }
    prompt.thinks = chat->thinks && ends_in_thought(&prompt);
    *out = prompt;
    return WTL_OK;
}

void wtl_chat_prompt_free(wtl_chat_prompt *prompt) {
    if (!prompt) return;
    wtl_free(prompt->text);
    wtl_free(prompt->untrusted);
    wtl_free(prompt->tokens);
    *prompt = (wtl_chat_prompt){0};
}
