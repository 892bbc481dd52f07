// The routes that generate: body -> request, conversation or prompt -> tokens, then an answer takes over. They run on a lane (lanes.h) and return
// at once; reading the body, rendering and tokenising is all the work they do.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/chat_prompt.h"
#include "tools/serve/answer.h"
#include "tools/serve/api_chat.h"

bool api_render_chat(const server *s, const json_t *messages, const json_t *variables, wtl_chat_prompt *out, api_error *e) {
    wtl_error err = {0};
    const wtl_status status = chat_prompt_from_json(s->chat, messages, variables, true, out, &err);
    if (status == WTL_OK) return true;
    // What the template refuses is the client's to mend, what runs out of memory is not. A message's sentence begins with its place.
    const size_t place = strncmp(err.message, "messages", 8) == 0 ? strcspn(err.message, " :") : 0;
    api_fail(e, status == WTL_ERR_NO_MEMORY ? 500 : 400, place ? NULL : "messages", "%s", err.message);
    const bool of_type = strstr(err.message, " is of type ") != NULL; // the place is a part of a message, its type is what is wrong
    if (place && place < 64) snprintf(e->param, sizeof e->param, "%.*s%s", (int)place, err.message, of_type ? ".type" : "");
    return false;
}

static bool prompts_alloc(api_prompts *p, size_t n, bool echo, api_error *e) {
    *p = (api_prompts){.tokens = calloc(n, sizeof *p->tokens), .echo = echo ? calloc(n, sizeof *p->echo) : NULL, .n = n};
    if (p->tokens && (p->echo || !echo)) return true;
    free(p->tokens);
    free(p->echo);
    *p = (api_prompts){0};
    return api_fail(e, 500, NULL, "out of memory");
}

// ---- What is sampled from -----------------------------------------------------------------------------------------------------------
static bool chat_prompts(const server *s, const api_request *r, api_prompts *out, api_error *e) {
    wtl_chat_prompt prompt = {0};
    if (!api_render_chat(s, r->messages, r->variables, &prompt, e)) return false;
    bool ok = prompts_alloc(out, 1, false, e);
    if (ok && prompt.n_tokens == 0) ok = api_fail(e, 400, "messages", "the conversation has no tokens");
    if (ok) {
        out->thinks = prompt.thinks;
        out->tokens[0].ids = malloc(prompt.n_tokens * sizeof *prompt.tokens); // its own copy: a prompt is freed as a whole
        out->tokens[0].n = prompt.n_tokens;
        if (out->tokens[0].ids) memcpy(out->tokens[0].ids, prompt.tokens, prompt.n_tokens * sizeof *prompt.tokens);
        else ok = api_fail(e, 500, NULL, "out of memory");
    }
    wtl_chat_prompt_free(&prompt);
    return ok;
}

static bool check_count(const api_request *r, size_t n, api_error *e) {
    if (n * (size_t)r->n > API_CHOICES_MAX) return api_fail(e, 400, "prompt", "prompt and n ask for %zu choices, at most %d", n * (size_t)r->n, API_CHOICES_MAX);
    if (n > 1 && r->kind == API_COMPLETION) return api_fail(e, 400, "prompt", "several prompts are not supported here: /v1/completions takes them");
    if (r->n > 1 && r->kind == API_COMPLETION) return api_fail(e, 400, "n", "n is not supported here: /v1/completions takes it");
    if (n > 1 && r->max_joules > 0) return api_fail(e, 400, "max_joules", "max_joules is not supported with several prompts");
    return true;
}

static bool text_prompts(const server *s, const api_request *r, api_prompts *out, api_error *e) {
    const wtl_vocab *vocab = wtl_engine_vocab(s->engine);
    size_t n;
    if (!api_prompt_count(r->prompt, &n, e) || n > API_CHOICES_MAX) return e->status ? false : api_fail(e, 400, "prompt", "prompt has %zu prompts, at most %d", n, API_CHOICES_MAX);
    if (!check_count(r, n, e) || !prompts_alloc(out, n, r->echo, e)) return false;
    for (size_t i = 0; i < n; i++) {
        if (!api_prompt_tokens(vocab, r->prompt, i, &out->tokens[i], e)) return false;
        if (r->echo && !api_prompt_text(vocab, r->prompt, i, &out->tokens[i], &out->echo[i])) return api_fail(e, 500, NULL, "out of memory");
    }
    return true;
}

// ---- Routes ------------------------------------------------------------------------------------------------------------------------
static void generate(server *s, http_call *call, api_kind kind) {
    const wtl_vocab *vocab = wtl_engine_vocab(s->engine);
    const wtl_chat_info chat = wtl_chat_describe(s->chat);
    const api_limits limits = {.vocab = vocab, .chat = &chat, .n_vocab = wtl_vocab_describe(vocab).n_vocab, .n_predict = s->options.n_predict,
                               .has_energy = s->desk.meter && tel_meter_n_counting(s->desk.meter) > 0};
    size_t len;
    const char *body = http_body(call, &len);
    api_request request;
    api_error e;
    api_prompts prompts = {0};
    bool ok = api_request_parse(kind, &limits, body, len, &request, &e);
    if (ok && request.n > s->options.n_parallel && s->options.n_parallel > 0)
        ok = api_fail(&e, 400, "n", "n is %lld, and this server runs %lld replies at once", (long long)request.n, (long long)s->options.n_parallel);
    if (ok && !request.conversation) { // a label that does not fit the ledger is left out
        const char *header = http_header(call, "X-Conversation-Id");
        if (header && *header && strlen(header) <= API_LABEL_BYTES && json_object_set_new(request.root, "\nconversation", json_string(header)) == 0)
            request.conversation = json_string_value(json_object_get(request.root, "\nconversation")); // lives as long as the request
    }
    const json_t *input = ok && kind == API_CHAT ? request.messages : request.prompt;
    if (ok) ok = api_text_may_fit(vocab, api_text_bytes(input), wtl_batch_n_ctx(s->batch), kind == API_CHAT ? "messages" : "prompt", &e);
    if (ok) ok = kind == API_CHAT ? chat_prompts(s, &request, &prompts, &e) : text_prompts(s, &request, &prompts, &e);
    if (ok) {
        answer_start(s, call, &request, &prompts);
        return;
    }
    api_error_send(call, &e);
    api_prompts_free(&prompts);
    api_request_free(&request);
}

void route_chat_completions(server *s, http_call *call) { generate(s, call, API_CHAT); }
void route_completions(server *s, http_call *call) { generate(s, call, API_COMPLETIONS); }
void route_completion(server *s, http_call *call) { generate(s, call, API_COMPLETION); }
