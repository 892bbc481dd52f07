// /tokenize, /detokenize, /apply-template: what the model's vocabulary and template make of text, in llama-server's forms.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "tools/serve/api_chat.h"
#include "tools/serve/api_params.h"

// Others wait in the same lane.
enum { TEXT_LIMIT_BYTES = 1 << 20 };

static json_t *body_of(http_call *call, api_error *e) {
    size_t len;
    const char *body = http_body(call, &len);
    *e = (api_error){0};
    return api_body_object(body, len, e);
}

// A token's text, or its bytes where it is no whole character.
static json_t *piece_json(const wtl_vocab *vocab, int32_t id) {
    size_t len;
    const char *bytes = wtl_token_bytes(vocab, id, true, &len);
    json_t *text = json_stringn(bytes, len);
    if (text) return text;
    json_t *list = json_array();
    for (size_t i = 0; i < len; i++) json_array_append_new(list, json_integer((unsigned char)bytes[i]));
    return list;
}

// Written directly: a tree of a hundred thousand tokens is many times the size of its text.
static void put_tokens(text_buffer *b, const wtl_vocab *vocab, const api_tokens *tokens, bool with_pieces) {
    text_puts(b, "{\"tokens\":[");
    for (size_t i = 0; i < tokens->n; i++) {
        text_printf(b, with_pieces ? "%s{\"id\":%d" : "%s%d", i ? "," : "", tokens->ids[i]);
        if (!with_pieces) continue;
        json_t *piece = piece_json(vocab, tokens->ids[i]);
        text_puts(b, ",\"piece\":");
        text_put_json(b, piece);
        text_puts(b, "}");
        json_decref(piece);
    }
    text_puts(b, "]}");
}

static void reply_tokens(http_call *call, const wtl_vocab *vocab, const api_tokens *tokens, bool with_pieces) {
    text_buffer text = {0};
    put_tokens(&text, vocab, tokens, with_pieces);
    if (text.failed) server_reply_json(call, 500, NULL);
    else http_reply(call, 200, "application/json; charset=utf-8", text.bytes, text.len);
    text_free(&text);
}

static bool read_flag(const json_t *body, const char *name, bool *out, api_error *e) {
    const json_t *value = api_get(body, name);
    return !value || api_read_bool(value, name, out, e);
}

void route_tokenize(server *s, http_call *call) {
    const wtl_vocab *vocab = wtl_engine_vocab(s->engine);
    bool add_special = false, parse_special = true, with_pieces = false;
    api_error e;
    api_tokens tokens = {0};
    json_t *body = body_of(call, &e);
    const json_t *content = api_get(body, "content");
    bool ok = body && read_flag(body, "add_special", &add_special, &e) && read_flag(body, "parse_special", &parse_special, &e) && read_flag(body, "with_pieces", &with_pieces, &e);
    if (ok && content && !json_is_string(content)) ok = api_fail(&e, 400, "content", "content must be a string");
    if (ok && json_string_length(content) > TEXT_LIMIT_BYTES) ok = api_fail(&e, 400, "content", "content is too long: %zu bytes, at most %d", json_string_length(content), TEXT_LIMIT_BYTES);
    const unsigned flags = (add_special ? WTL_ADD_SPECIAL : 0) | (parse_special ? WTL_PARSE_SPECIAL : 0);
    if (ok && content) ok = api_tokenize(vocab, json_string_value(content), json_string_length(content), flags, &tokens, &e);
    if (ok) reply_tokens(call, vocab, &tokens, with_pieces);
    else api_error_send(call, &e);
    api_tokens_free(&tokens);
    json_decref(body);
}

static bool detokenize(const wtl_vocab *vocab, const json_t *tokens, text_buffer *out, api_error *e) {
    const int32_t n_vocab = wtl_vocab_describe(vocab).n_vocab;
    wtl_text_stream state = {0};
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *item = json_array_get(tokens, i);
        const json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= n_vocab) return api_fail(e, 400, "tokens", "tokens[%zu] must be a token, 0 to %d", i, n_vocab - 1);
        size_t len;
        const char *bytes = wtl_token_bytes(vocab, (int32_t)id, true, &len);
        const size_t room = 3 * (len + 4);
        if (text_reserve(out, room)) out->len += wtl_text_push(&state, bytes, len, out->bytes + out->len, room);
    }
    enum { ROOM = 16 };
    if (text_reserve(out, ROOM)) out->len += wtl_text_finish(&state, out->bytes + out->len, ROOM);
    return !out->failed || api_fail(e, 500, NULL, "out of memory");
}

void route_detokenize(server *s, http_call *call) {
    api_error e;
    text_buffer text = {0};
    json_t *body = body_of(call, &e);
    const json_t *tokens = api_get(body, "tokens");
    bool ok = body != NULL;
    if (ok && tokens && !json_is_array(tokens)) ok = api_fail(&e, 400, "tokens", "tokens must be a list of tokens");
    if (ok) ok = detokenize(wtl_engine_vocab(s->engine), tokens, &text, &e);
    if (ok) server_reply_json(call, 200, json_pack("{s:o}", "content", json_stringn(text.bytes ? text.bytes : "", text.len)));
    else api_error_send(call, &e);
    text_free(&text);
    json_decref(body);
}

void route_apply_template(server *s, http_call *call) {
    api_error e;
    wtl_chat_prompt prompt = {0};
    json_t *body = body_of(call, &e);
    json_t *messages = api_get(body, "messages"), *variables = NULL;
    bool ok = body != NULL;
    if (ok && !json_is_array(messages)) ok = api_fail(&e, 400, "messages", "messages must be a list of messages");
    if (ok) ok = api_text_may_fit(wtl_engine_vocab(s->engine), api_text_bytes(messages), wtl_batch_n_ctx(s->batch), "messages", &e);
    if (ok) ok = api_read_variables(body, &variables, &e) && api_render_chat(s, messages, variables, &prompt, &e);
    if (ok) server_reply_json(call, 200, json_pack("{s:o}", "prompt", json_stringn(prompt.text, prompt.text_len)));
    else api_error_send(call, &e);
    wtl_chat_prompt_free(&prompt);
    json_decref(variables);
    json_decref(body);
}
