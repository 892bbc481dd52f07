// Routes about the server itself: health, models, properties, slots, metrics. Shapes as llama-server's, so that its clients keep working.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/serve/metrics.h"
#include "tools/serve/server.h"

enum { SLOTS_MAX = 256 };

void route_health(server *s, http_call *call) {
    const int state = atomic_load(&s->state);
    if (state == SERVER_READY) {
        server_reply_json(call, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    const char *message = state == SERVER_LOADING ? "Loading model" : state == SERVER_DRAINING ? "this server is shutting down" : s->failure;
    http_set_header(call, "Retry-After", state == SERVER_LOADING ? "2" : "10");
    server_reply_json(call, 503, json_pack("{s:{s:s, s:s, s:i}}", "error", "message", message, "type", "unavailable_error", "code", 503));
}

void route_models(server *s, http_call *call) {
    const wtl_engine_info e = wtl_engine_describe(s->engine);
    const wtl_vocab_info v = wtl_vocab_describe(wtl_engine_vocab(s->engine));
    json_t *meta = json_pack("{s:i, s:i, s:i, s:i, s:I, s:I, s:i, s:s, s:s}", "vocab_type", strcmp(v.model, "gpt2") == 0 ? 2 : 1, "n_vocab", (int)e.n_vocab,
                             "n_ctx_train", (int)e.n_ctx_train, "n_embd", (int)e.n_embd, "n_params", (json_int_t)e.n_params, "size", (json_int_t)e.file_bytes, "n_ctx",
                             (int)wtl_batch_n_ctx(s->batch), "architecture", e.arch, "backend", e.backend);
    json_t *model = json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", s->model_id, "object", "model", "created", (json_int_t)s->created_s, "owned_by", "wattle", "meta", meta);
    server_reply_json(call, 200, json_pack("{s:s, s:[o]}", "object", "list", "data", model));
}

static json_t *generation_settings(const server *s) {
    json_t *params = json_pack("{s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:i, s:I, s:[], s:b, s:I}", "temperature", 0.8, "top_k", 40, "top_p", 0.95, "min_p", 0.05,
                               "presence_penalty", 0.0, "frequency_penalty", 0.0, "repeat_penalty", 1.0, "repeat_last_n", 64, "n_predict",
                               (json_int_t)s->options.n_predict, "stop", "ignore_eos", 0, "max_tokens", (json_int_t)s->options.n_predict);
    return json_pack("{s:i, s:i, s:b, s:b, s:o}", "id", 0, "n_ctx", (int)wtl_batch_n_ctx(s->batch), "speculative", 0, "is_processing", 0, "params", params);
}

static json_t *text_or_empty(const char *text, size_t len) {
    json_t *value = text ? json_stringn(text, len) : NULL;
    return value ? value : json_string("");
}

// How the vocabulary spells one of its control tokens.
static json_t *spelling(const server *s, int32_t token) {
    size_t len = 0;
    const char *text = token >= 0 ? wtl_token_spelling(wtl_engine_vocab(s->engine), token, &len) : NULL;
    return text_or_empty(text, len);
}

void route_props(server *s, http_call *call) {
    const wtl_chat_info chat = wtl_chat_describe(s->chat);
    const wtl_vocab_info v = wtl_vocab_describe(wtl_engine_vocab(s->engine));
    const wtl_batch_state state = wtl_batch_state_of(s->batch, NULL, 0, NULL);
    json_t *props = json_pack("{s:o, s:i, s:s, s:s, s:o, s:s, s:b, s:o, s:o, s:s, s:{s:b, s:b}, s:{s:b, s:b}, s:b}", "default_generation_settings",
                              generation_settings(s), "total_slots", (int)state.n_parallel, "model_alias", s->model_id, "model_path", s->model_path, "chat_template",
                              text_or_empty(chat.source, chat.source ? strlen(chat.source) : 0), "chat_template_name", chat.name, "chat_template_fallback",
                              (int)chat.fallback, "bos_token", spelling(s, v.bos), "eos_token", spelling(s, v.eos), "build_info", "wattle " WTL_VERSION_TEXT,
                              "modalities", "vision", 0, "audio", 0, "chat_template_caps", "supports_system_role", (int)chat.takes_system, "supports_tools",
                              (int)chat.takes_tools, "webui", !s->options.no_webui);
    server_reply_json(call, 200, props);
}

void route_slots(server *s, http_call *call) {
    wtl_batch_slot slots[SLOTS_MAX];
    size_t n = 0;
    if (!s->options.slots) {
        server_error(call, 501, "not_supported_error", "this server was started with --no-slots", NULL, NULL);
        return;
    }
    const wtl_batch_state state = wtl_batch_state_of(s->batch, slots, SLOTS_MAX, &n);
    if (n > SLOTS_MAX) n = SLOTS_MAX;
    json_t *list = json_array();
    const int n_ctx = wtl_batch_n_ctx(s->batch);
    for (int32_t i = 0; list && i < state.n_parallel; i++) {
        const bool busy = (size_t)i < n;
        const wtl_batch_slot slot = busy ? slots[i] : (wtl_batch_slot){0};
        json_array_append_new(list, json_pack("{s:i, s:o, s:i, s:b, s:b, s:i, s:i, s:i, s:i, s:[{s:b, s:i}]}", "id", (int)i, "id_task",
                                              busy ? json_integer((json_int_t)slot.request) : json_integer(-1), "n_ctx", n_ctx, "speculative", 0, "is_processing",
                                              (int)busy, "n_ctx_used", (int)slot.n_ctx_used, "n_prompt_tokens", (int)slot.n_prompt_tok, "n_prompt_tokens_processed",
                                              (int)slot.n_prompt_done, "choice", (int)slot.choice, "next_token", "has_next_token", (int)busy, "n_decoded",
                                              (int)slot.n_decoded));
    }
    const char *fail = http_query(call, "fail_on_no_slot"); // load balancers ask so
    if (fail && *fail && n >= (size_t)state.n_parallel) {
        json_decref(list);
        server_error(call, 503, "unavailable_error", "no slot available", NULL, NULL);
        return;
    }
    server_reply_json(call, 200, list);
}

void route_metrics(server *s, http_call *call) {
    size_t len = 0;
    const char *names = http_query(call, "names"); // "all": also the aliases, whose colons promtool does not like
    char *text = server_metrics_text(s, names && strcmp(names, "all") == 0, &len);
    if (text) http_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
    else server_error(call, 500, NULL, "out of memory for the metrics", NULL, NULL);
    free(text);
}
