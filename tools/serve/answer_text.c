// The bytes of an answer: events of a stream, the body in one piece. See answer_state.h.
//
// Written directly rather than through a tree: an event leaves for every token of every reply. Each function appends to a->out.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/serve/answer_state.h"

static bool is_native(const answer *a) { return a->request.kind == API_COMPLETION; }

static void put_key(answer *a, const char *key, const char *text) {
    text_printf(&a->out, "\"%s\":", key);
    text_put_string(&a->out, text, strlen(text));
}

// `"id":...,"choices":[` of OpenAI's objects, behind the opening brace.
static void put_head(answer *a, bool chunk) {
    const char *object = a->request.kind == API_CHAT ? (chunk ? "chat.completion.chunk" : "chat.completion") : "text_completion";
    put_key(a, "id", a->id);
    text_printf(&a->out, ",\"object\":\"%s\",\"created\":%lld,", object, (long long)a->created_s);
    put_key(a, "model", a->model);
    text_printf(&a->out, ",\"system_fingerprint\":\"wattle-%s\",\"choices\":[", wtl_version());
}

static void begin_event(answer *a) {
    text_puts(&a->out, "data: {");
    if (!is_native(a)) put_head(a, true);
}

// extra: an object whose members go beside what is there.
static void put_extra(answer *a, const json_t *extra) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)extra, key, value) {
        text_printf(&a->out, ",\"%s\":", key);
        text_put_json(&a->out, value);
    }
}

static void end_event(answer *a) {
    text_puts(&a->out, "}\n\n");
}

// Running counts: tokens only, joules come once, at the end.
static void put_running_usage(answer *a) {
    if (!a->request.continuous_usage) return;
    const long long n_prompt = answer_prompt_tok(a), n = a->n_decoded;
    text_printf(&a->out, ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld}", n_prompt, n, n_prompt + n);
}

static void put_token_ids(answer *a, const answer_choice *c, size_t from) {
    text_puts(&a->out, "[");
    for (size_t i = from; a->request.return_tokens && i < c->n_tokens; i++) text_printf(&a->out, "%s%d", i > from ? "," : "", c->tokens[i].id);
    text_puts(&a->out, "]");
}

// logprobs of the tokens that were not sent yet, which then count as sent.
static void put_new_logprobs(answer *a, answer_choice *c) {
    const size_t from = c->tokens_sent;
    answer_put_logprobs(a, c, from, c->n_tokens, c->offset_chars);
    if (a->request.n_top_logprobs < 0) return;
    c->offset_chars += answer_token_chars(a, c, from, c->n_tokens);
}

// ---- Events ----------------------------------------------------------------------------------------------------------------------
void answer_put_role(answer *a, size_t i) {
    answer_choice *c = &a->choices[i];
    if (c->begun) return;
    c->begun = true;
    if (a->request.kind != API_CHAT) return;
    begin_event(a);
    text_printf(&a->out, "{\"index\":%zu,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]", i);
    put_running_usage(a);
    end_event(a);
}

static void put_native_text(answer *a, answer_choice *c, size_t i, const char *text, size_t len) {
    text_printf(&a->out, "\"index\":%zu,\"content\":", i);
    text_put_string(&a->out, text, len);
    text_puts(&a->out, ",\"tokens\":");
    put_token_ids(a, c, c->tokens_sent);
    text_printf(&a->out, ",\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":%lld,\"tokens_evaluated\":%lld", (long long)a->n_decoded, (long long)answer_prompt_tok(a));
    if (a->request.n_top_logprobs < 0) return;
    text_puts(&a->out, ",\"completion_probabilities\":");
    put_new_logprobs(a, c);
}

// One event with text; the tokens that are not sent yet go with it unless more text follows.
static void put_text(answer *a, size_t i, const char *field, const char *text, size_t len, bool with_tokens) {
    answer_choice *c = &a->choices[i];
    begin_event(a);
    if (is_native(a)) {
        put_native_text(a, c, i, text, len);
    } else {
        text_printf(&a->out, a->request.kind == API_CHAT ? "{\"index\":%zu,\"delta\":{\"%s\":" : "{\"index\":%zu,\"%s\":", i, field);
        text_put_string(&a->out, text, len);
        text_puts(&a->out, a->request.kind == API_CHAT ? "},\"logprobs\":" : ",\"logprobs\":");
        if (with_tokens) put_new_logprobs(a, c);
        else text_puts(&a->out, "null");
        text_puts(&a->out, ",\"finish_reason\":null}]");
        put_running_usage(a);
    }
    end_event(a);
    if (with_tokens) c->tokens_sent = c->n_tokens;
}

const text_buffer *answer_content(const answer_choice *c) { return c->calls.syntax ? &c->calls.content : &c->text.content; }

// {"id", "type", "function": {"name", "arguments"}}; in a stream with its index in front.
static void put_call(answer *a, const reply_call *call) {
    put_key(a, "id", call->id);
    text_puts(&a->out, ",\"type\":\"function\",\"function\":{");
    put_key(a, "name", call->name);
    text_puts(&a->out, ",");
    put_key(a, "arguments", call->arguments);
    text_puts(&a->out, "}}");
}

// A call is sent in one piece, when it is whole.
static void put_new_calls(answer *a, size_t i) {
    answer_choice *c = &a->choices[i];
    for (; c->calls_sent < c->calls.n_calls && !c->failed; c->calls_sent++) {
        begin_event(a);
        text_printf(&a->out, "{\"index\":%zu,\"delta\":{\"tool_calls\":[{\"index\":%zu,", i, c->calls_sent);
        put_call(a, &c->calls.calls[c->calls_sent]);
        text_puts(&a->out, "]},\"logprobs\":null,\"finish_reason\":null}]");
        put_running_usage(a);
        end_event(a);
    }
}

void answer_put_new_text(answer *a, size_t i) {
    answer_choice *c = &a->choices[i];
    const char *field = a->request.kind == API_CHAT ? "content" : "text";
    const text_buffer *content = answer_content(c);
    const size_t n_reasoning = c->text.reasoning.len - c->reasoning_sent, n_content = content->len - c->content_sent;
    if (n_reasoning + n_content == 0) {
        put_new_calls(a, i);
        return;
    }
    answer_put_role(a, i);
    if (n_reasoning) put_text(a, i, "reasoning_content", c->text.reasoning.bytes + c->reasoning_sent, n_reasoning, n_content == 0);
    if (n_content) put_text(a, i, field, content->bytes + c->content_sent, n_content, true);
    c->reasoning_sent += n_reasoning;
    c->content_sent += n_content;
    put_new_calls(a, i);
}

// finish_reason and what we know beside it, behind the text of a choice.
static void put_end(answer *a, const answer_choice *c) {
    text_printf(&a->out, ",\"finish_reason\":\"%s\",\"stop_reason\":\"%s\"}", answer_finish_reason(c), answer_finish_name(c->finish));
}

static const char *native_stop_type(wtl_finish finish) {
    return finish == WTL_FINISH_END ? "eos" : finish == WTL_FINISH_STOP ? "word" : finish == WTL_FINISH_NONE ? "none" : "limit";
}

static void put_settings(answer *a) {
    const api_request *r = &a->request;
    text_printf(&a->out, ",\"generation_settings\":{\"n_predict\":%lld,\"seed\":%lld,\"temperature\":%g,\"top_k\":%lld,\"top_p\":%g,\"min_p\":%g", 
                r->max_tokens ? (long long)r->max_tokens : -1, (long long)r->seed, r->temperature, (long long)r->top_k, r->top_p, r->min_p);
    text_printf(&a->out, ",\"repeat_penalty\":%g,\"repeat_last_n\":%lld,\"presence_penalty\":%g,\"frequency_penalty\":%g,\"n_probs\":%lld", r->repeat_penalty,
                (long long)r->repeat_last_n, r->presence_penalty, r->frequency_penalty, r->n_top_logprobs > 0 ? (long long)r->n_top_logprobs : 0);
    text_printf(&a->out, ",\"ignore_eos\":%s,\"stream\":%s,\"stop\":[", r->ignore_eos ? "true" : "false", r->stream ? "true" : "false");
    for (size_t i = 0; i < r->n_stops; i++) {
        if (i) text_puts(&a->out, ",");
        text_put_string(&a->out, r->stops[i], strlen(r->stops[i]));
    }
    text_puts(&a->out, "]}");
}

// llama-server's object of a whole choice; in a stream it comes last and its text was sent.
static void put_native(answer *a, size_t i, bool with_text) {
    answer_choice *c = &a->choices[i];
    const wtl_batch_facts facts = answer_facts(a);
    text_printf(&a->out, "\"index\":%zu,\"content\":", i);
    text_put_string(&a->out, c->text.content.bytes, with_text ? c->text.content.len : 0);
    text_puts(&a->out, ",\"tokens\":");
    put_token_ids(a, c, with_text ? 0 : c->tokens_sent);
    text_puts(&a->out, ",\"id_slot\":-1,\"stop\":true,");
    put_key(a, "id", a->id);
    text_puts(&a->out, ",");
    put_key(a, "model", a->model);
    text_printf(&a->out, ",\"tokens_predicted\":%d,\"tokens_evaluated\":%d,\"tokens_cached\":%d,\"truncated\":false", facts.n_decoded_tok, facts.n_prompt_tok,
                facts.n_cached_tok);
    text_printf(&a->out, ",\"stop_type\":\"%s\",\"stop_reason\":\"%s\",", native_stop_type(c->finish), answer_finish_name(c->finish));
    put_key(a, "stopping_word", c->text.stopped ? c->text.stopped : "");
    if (a->request.n_top_logprobs >= 0 && with_text) {
        text_puts(&a->out, ",\"completion_probabilities\":");
        answer_put_logprobs(a, c, 0, c->n_tokens, 0);
    }
    put_settings(a);
}

void answer_put_finish(answer *a, size_t i, const json_t *extra) {
    answer_choice *c = &a->choices[i];
    begin_event(a);
    if (is_native(a)) {
        put_native(a, i, false);
    } else {
        text_printf(&a->out, a->request.kind == API_CHAT ? "{\"index\":%zu,\"delta\":{},\"logprobs\":" : "{\"index\":%zu,\"text\":\"\",\"logprobs\":", i);
        if (c->tokens_sent < c->n_tokens) put_new_logprobs(a, c);
        else text_puts(&a->out, "null");
        put_end(a, c);
        text_puts(&a->out, "]");
        if (!json_object_get(extra, "usage")) put_running_usage(a);
    }
    c->tokens_sent = c->n_tokens;
    put_extra(a, extra);
    end_event(a);
}

void answer_put_usage(answer *a, const json_t *extra) {
    begin_event(a);
    text_puts(&a->out, "]");
    put_extra(a, extra);
    end_event(a);
}

void answer_put_error(answer *a) {
    json_t *error = api_error_json(&a->error);
    text_puts(&a->out, "data: ");
    text_put_json(&a->out, error);
    text_puts(&a->out, "\n\n");
    json_decref(error);
}

void answer_put_done(answer *a) {
    if (!is_native(a)) text_puts(&a->out, "data: [DONE]\n\n");
}

// ---- In one piece ------------------------------------------------------------------------------------------------------------------
static void put_message(answer *a, const answer_choice *c) {
    const text_buffer *content = answer_content(c);
    text_puts(&a->out, "\"message\":{\"role\":\"assistant\",\"content\":");
    if (c->calls.n_calls && content->len == 0) text_puts(&a->out, "null");
    else text_put_string(&a->out, content->bytes, content->len);
    if (c->text.reasoning.len) {
        text_puts(&a->out, ",\"reasoning_content\":");
        text_put_string(&a->out, c->text.reasoning.bytes, c->text.reasoning.len);
    }
    for (size_t i = 0; i < c->calls.n_calls; i++) {
        text_puts(&a->out, i ? ",{" : ",\"tool_calls\":[{");
        put_call(a, &c->calls.calls[i]);
    }
    text_puts(&a->out, c->calls.n_calls ? "]}" : "}");
}

void answer_put_body(answer *a, const json_t *extra) {
    text_puts(&a->out, "{");
    if (is_native(a)) {
        put_native(a, 0, true);
    } else {
        put_head(a, false);
        for (size_t i = 0; i < a->n_choices; i++) {
            const answer_choice *c = &a->choices[i];
            text_printf(&a->out, "%s{\"index\":%zu,", i ? "," : "", i);
            if (a->request.kind == API_CHAT) {
                put_message(a, c);
            } else {
                text_puts(&a->out, "\"text\":");
                text_put_string(&a->out, c->text.content.bytes, c->text.content.len);
            }
            text_puts(&a->out, ",\"logprobs\":");
            answer_put_logprobs(a, c, 0, c->n_tokens, c->offset_chars);
            put_end(a, c);
        }
        text_puts(&a->out, "]");
    }
    put_extra(a, extra);
    text_puts(&a->out, "}");
}
