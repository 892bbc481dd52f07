// The life of an answer.
//
// Owners. An answer is counted: one reference for the route while it submits, one for every part (a request of the batch) from its submission
// until its joules have settled. Whoever drops the last one writes the last bytes, which ends the call, and frees the answer. So the route may find the
// answer gone when it lets go, and so may everybody else. gone and caught_up have no reference: they are never called once the call has been ended.
//
// Threads. The route (a lane) holds the lock while it submits and begins the stream, so that no event overtakes the head; a client that leaves meanwhile
// is heard when all is submitted. on_token (engine) takes the lock,
// appends to texts, writes what may leave, never waits for a reader or a meter. settled (finisher) fills its own part only.
// Locks: answer, then batch or http; nobody holds those while calling here.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools/serve/answer.h"
#include "tools/serve/answer_state.h"

static const double UJ_PER_JOULE = 1e6;

typedef struct live_answer {
    answer a; // first: a pointer to it is one to the whole
    server *s;
    http_call *call;
    pthread_mutex_t lock;
    atomic_int refs;
} live_answer;

static live_answer *live(answer *a) { return (live_answer *)a; }

static void answer_free(answer *a) {
    if (!a) return;
    for (size_t i = 0; a->choices && i < a->n_choices; i++) {
        reply_text_free(&a->choices[i].text);
        reply_guard_free(&a->choices[i].guard);
        reply_calls_free(&a->choices[i].calls);
        free(a->choices[i].tokens);
        free(a->choices[i].tops);
    }
    free(a->choices);
    free(a->parts);
    text_free(&a->out);
    api_prompts_free(&a->prompts);
    api_request_free(&a->request);
    pthread_mutex_destroy(&live(a)->lock);
    free(a);
}

// ---- Tokens ----------------------------------------------------------------------------------------------------------------------
static bool grow(void **list, size_t *cap, size_t n, size_t size) {
    if (n <= *cap) return true;
    const size_t more = 2 * *cap + n;
    void *grown = realloc(*list, more * size);
    if (!grown) return false;
    *list = grown;
    *cap = more;
    return true;
}

static void keep_token(answer *a, answer_choice *c, const wtl_batch_token *t) {
    if (a->request.n_top_logprobs < 0 && !a->request.return_tokens) return;
    const size_t n_top = a->request.n_top_logprobs > 0 && t->n_top > 0 ? (size_t)t->n_top : 0;
    if (!grow((void **)&c->tokens, &c->cap_tokens, c->n_tokens + 1, sizeof *c->tokens) || !grow((void **)&c->tops, &c->cap_tops, c->n_tops + n_top, sizeof *c->tops)) {
        c->failed = true;
        return;
    }
    c->tokens[c->n_tokens++] = (answer_token){.id = t->token, .logprob = t->logprob, .n_top = (uint32_t)n_top, .top = c->n_tops, .at_byte = c->text.text_len};
    for (size_t i = 0; i < n_top; i++)
        if (t->top[i].token >= 0) c->tops[c->n_tops++] = t->top[i];
    c->tokens[c->n_tokens - 1].n_top = (uint32_t)(c->n_tops - c->tokens[c->n_tokens - 1].top);
}

// ---- Text ------------------------------------------------------------------------------------------------------------------------
// Bytes of a token that are text. Think tags and the markers of tool calls are that even where the model has them as control tokens.
static const char *text_of(const answer *a, const answer_choice *c, int32_t id, size_t *len) {
    const char *bytes = wtl_token_bytes(a->vocab, id, false, len);
    if (*len || (!a->has_tags && !a->request.syntax)) return bytes;
    size_t n;
    const char *special = wtl_token_bytes(a->vocab, id, true, &n);
    const char *tags[] = {a->has_tags ? c->text.think_open : "", a->has_tags ? c->text.think_close : "", reply_calls_open(a->request.syntax), reply_calls_close(a->request.syntax)};
    for (size_t i = 0; i < CLI_COUNT(tags); i++)
        if (n > 0 && n == strlen(tags[i]) && memcmp(special, tags[i], n) == 0) return *len = n, special;
    return bytes;
}

static void feed_calls(answer_choice *c) {
    if (!c->calls.syntax) return;
    reply_calls_push(&c->calls, c->text.content.bytes + c->n_fed, c->text.content.len - c->n_fed);
    c->n_fed = c->text.content.len;
    c->failed |= c->calls.failed;
}

// Adds a token to its choice. The choice's end as far as the text decides it.
static wtl_finish take_token(answer *a, answer_choice *c, const wtl_batch_token *t) {
    size_t len;
    const char *bytes = text_of(a, c, t->token, &len);
    keep_token(a, c, t);
    reply_text_push(&c->text, bytes, len);
    feed_calls(c);
    c->n_reasoning_tok += c->text.thinking;
    c->failed |= reply_text_failed(&c->text);
    if (c->text.stopped) return WTL_FINISH_STOP;
    if (!a->request.rule.schema || t->finish) return WTL_FINISH_NONE;
    reply_guard_push(&c->guard, bytes, len); // it was allowed
    return reply_guard_complete(&c->guard) ? WTL_FINISH_END : WTL_FINISH_NONE;
}

static bool allows(void *user, int32_t choice, int32_t token) {
    const answer_part *p = user;
    const answer *a = p->owner;
    answer_choice *c = &a->choices[p->index * (size_t)a->request.n + (size_t)choice];
    if (wtl_token_is_end(a->vocab, token)) return !a->request.ignore_eos && reply_guard_may_end(&c->guard);
    size_t len;
    const char *bytes = text_of(a, c, token, &len);
    return len > 0 && reply_guard_allows(&c->guard, bytes, len);
}

// Nothing of a stop string is reported, nor its tokens.
static void end_text(answer_choice *c) {
    reply_text_finish(&c->text);
    feed_calls(c);
    if (c->calls.syntax) reply_calls_finish(&c->calls);
    c->failed |= reply_text_failed(&c->text) | c->calls.failed;
    while (c->n_tokens > c->tokens_sent && c->n_tokens > c->n_echoed && c->text.stopped && c->tokens[c->n_tokens - 1].at_byte >= c->text.text_len) c->n_tokens--;
}

// ---- The end ---------------------------------------------------------------------------------------------------------------------
// Usage, joules, times: what goes beside the choices.
static json_t *make_extra(answer *a, bool timings) {
    wtl_energy_report report;
    answer_report(a, &report);
    json_t *energy = server_energy_json(live(a)->s, &report);
    json_t *extra = json_pack("{s:o, s:O}", "usage", energy ? answer_usage(a, energy) : NULL, "energy", energy);
    json_decref(energy);
    if (extra && timings) json_object_set_new(extra, "timings", answer_timings(a));
    return extra;
}

static void end_stream(answer *a) {
    const bool apart = a->request.include_usage && a->request.kind != API_COMPLETION;
    json_t *extra = a->error.status ? NULL : make_extra(a, !apart);
    if (!a->error.status && (!extra || a->out.failed)) api_fail(&a->error, 500, NULL, "out of memory");
    text_free(&a->out);
    if (a->error.status) answer_put_error(a);
    else if (apart) answer_put_usage(a, extra);
    else answer_put_finish(a, a->last_choice, extra);
    answer_put_done(a);
    if (!a->out.failed) http_stream_write(live(a)->call, a->out.bytes, a->out.len);
    http_stream_end(live(a)->call);
    json_decref(extra);
}

static void end_reply(answer *a) {
    json_t *extra = a->error.status ? NULL : make_extra(a, true);
    a->out.len = 0;
    if (extra) answer_put_body(a, extra);
    if (!a->error.status && (!extra || a->out.failed)) api_fail(&a->error, 500, NULL, "out of memory");
    if (a->error.status) api_error_send(live(a)->call, &a->error);
    else http_reply(live(a)->call, 200, "application/json; charset=utf-8", a->out.bytes, a->out.len);
    json_decref(extra);
}

static void let_go(answer *a) {
    if (atomic_fetch_sub(&live(a)->refs, 1) != 1) return;
    if (a->streams) end_stream(a);
    else end_reply(a);
    answer_free(a);
}

static void settled(void *user, const wtl_energy_report *report) {
    answer_part *p = user;
    p->report = *report;
    let_go(p->owner);
}

static const char *part_finish(const answer *a, const answer_part *p) {
    const answer_choice *choices = a->choices + p->index * (size_t)a->request.n;
    for (int64_t i = 0; i < a->request.n; i++)
        if (choices[i].finish == WTL_FINISH_CANCELLED || choices[i].finish == WTL_FINISH_ERROR) return answer_finish_name(choices[i].finish);
    return answer_finish_name(choices[0].finish);
}

// Without the lock: the answer may be gone when this returns.
static void finish_part(answer *a, answer_part *p) {
    const wtl_batch_facts *f = &p->facts;
    const uint64_t now_ns = cli_now_ns();
    server_outcome outcome = {.kind = a->request.kind == API_CHAT ? "chat" : "completion", .finish = part_finish(a, p), .user = a->request.user,
                              .conversation = a->request.conversation, .peer = http_peer(live(a)->call), .facts = *f};
    outcome.arrived_ms = cli_unix_ms() - (int64_t)((f->arrived_ns && f->arrived_ns < now_ns ? now_ns - f->arrived_ns : 0) / 1000000);
    if (p->index == 0) snprintf(outcome.id, sizeof outcome.id, "%s", a->id);
    else snprintf(outcome.id, sizeof outcome.id, "%.33s-%u", a->id, (unsigned)(p->index % 1000)); // ids are unique in the ledger
    server_finish(live(a)->s, &outcome, settled, p);
}

// ---- Events from the engine ----------------------------------------------------------------------------------------------------------
// Without a reference: from a client that left. Everything else follows from the CANCELLED events.
static void cancel_parts(answer *a) {
    for (size_t i = 0; i < a->n_parts; i++)
        if (a->parts[i].request) wtl_batch_cancel(live(a)->s->batch, a->parts[i].request);
}

static void gone(void *user) {
    answer *a = user;
    pthread_mutex_lock(&live(a)->lock);
    cancel_parts(a);
    pthread_mutex_unlock(&live(a)->lock);
}

// Each of them: they share one reader.
static void hold_parts(answer *a, bool held) {
    a->held = held;
    for (size_t i = 0; i < a->n_parts; i++)
        if (a->parts[i].request) wtl_batch_hold(live(a)->s->batch, a->parts[i].request, held);
}

static void caught_up(void *user) {
    answer *a = user;
    pthread_mutex_lock(&live(a)->lock);
    hold_parts(a, false);
    pthread_mutex_unlock(&live(a)->lock);
}

static void note_trouble(answer *a, const answer_choice *c, const wtl_batch_token *t) {
    if (a->error.status) return;
    if (c->failed || a->out.failed) api_fail(&a->error, 500, NULL, "out of memory");
    else if (t->finish == WTL_FINISH_ERROR) api_fail(&a->error, 500, NULL, "%s", t->error ? t->error->message : "the model failed");
    else if (t->finish == WTL_FINISH_CANCELLED) api_fail(&a->error, 503, NULL, "this server is shutting down"); // a client that left reads no answer
}

static void stream_event(answer *a, size_t i, bool ended) {
    if (!a->streams || a->error.status) return;
    a->out.len = 0;
    answer_put_role(a, i);
    answer_put_new_text(a, i);
    const bool all = a->n_open == 0, apart = a->request.include_usage && a->request.kind != API_COMPLETION;
    if (ended && (!all || apart)) {
        json_t *extra = all ? json_pack("{s:o}", "timings", answer_timings(a)) : NULL;
        answer_put_finish(a, i, extra);
        json_decref(extra);
    }
    if (!a->out.failed && a->out.len) http_stream_write(live(a)->call, a->out.bytes, a->out.len);
    if (!a->held && http_stream_lags(live(a)->call)) hold_parts(a, true);
}

static void end_choice(answer *a, answer_part *p, answer_choice *c, size_t i, wtl_finish finish) {
    c->finish = finish;
    end_text(c);
    p->n_open--;
    a->n_open--;
    a->last_choice = i;
}

static bool on_token(void *user, const wtl_batch_token *t) {
    answer_part *p = user;
    answer *a = p->owner;
    pthread_mutex_lock(&live(a)->lock);
    const size_t i = p->index * (size_t)a->request.n + (size_t)t->choice;
    answer_choice *c = &a->choices[i];
    wtl_finish finish = t->finish;
    if (t->token >= 0) a->n_decoded++;
    if (t->token >= 0 && finish != WTL_FINISH_END) {
        const wtl_finish own = take_token(a, c, t);
        if (own) finish = own;
    }
    note_trouble(a, c, t);
    if (a->error.status && !finish) finish = WTL_FINISH_ERROR;
    if (finish) end_choice(a, p, c, i, finish);
    const bool over = p->n_open == 0;
    if (over) wtl_batch_facts_of(live(a)->s->batch, t->request, &p->facts);
    stream_event(a, i, finish != WTL_FINISH_NONE);
    pthread_mutex_unlock(&live(a)->lock);
    if (over) finish_part(a, p);
    return finish == WTL_FINISH_NONE;
}

// A token of the prompt, for echo with logprobs: stands in front of every choice of it.
static void echo_token(answer *a, const answer_part *p, const wtl_batch_token *t) {
    answer_choice *choices = a->choices + p->index * (size_t)a->request.n;
    for (int64_t i = 0; i < a->request.n; i++) {
        keep_token(a, &choices[i], t);
        choices[i].n_echoed = choices[i].n_tokens;
    }
}

static void on_prompt(void *user, const wtl_batch_token *t) {
    answer_part *p = user;
    answer *a = p->owner;
    pthread_mutex_lock(&live(a)->lock);
    echo_token(a, p, t);
    pthread_mutex_unlock(&live(a)->lock);
}

// ---- The beginning -----------------------------------------------------------------------------------------------------------------
static void make_id(answer *a) {
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    unsigned char drawn[24];
    if (getrandom(drawn, sizeof drawn, 0) != sizeof drawn) memset(drawn, 0, sizeof drawn);
    const uint64_t now_ns = cli_now_ns(); // also tells answers apart where there are no random numbers
    for (size_t i = 0; i < 8; i++) drawn[i] ^= (unsigned char)(now_ns >> 8 * i);
    int n = snprintf(a->id, sizeof a->id, "%s", a->request.kind == API_CHAT ? "chatcmpl-" : "cmpl-");
    for (size_t i = 0; i < sizeof drawn && n < 33; i++) a->id[n++] = letters[drawn[i] % (sizeof letters - 1)];
    a->id[n] = '\0';
}

// False: out of memory.
static bool begin_choices(answer *a) {
    const wtl_chat_info chat = a->request.kind == API_CHAT ? wtl_chat_describe(live(a)->s->chat) : (wtl_chat_info){0};
    a->has_tags = chat.think_open && chat.think_close;
    if (a->prompts.thinks) a->request.rule.reasoning = chat.think_close;
    if (chat.stop && *chat.stop) a->request.stops[a->request.n_stops++] = chat.stop; // there is room for one more
    for (size_t i = 0; i < a->n_choices; i++) {
        answer_choice *c = &a->choices[i];
        const text_buffer *echo = a->prompts.echo ? &a->prompts.echo[i / (size_t)a->request.n] : NULL;
        c->text = (reply_text){.stops = a->request.stops, .n_stops = a->request.n_stops, .think_open = chat.think_open, .think_close = chat.think_close,
                               .thinks = a->prompts.thinks};
        reply_text_begin(&c->text);
        c->calls = (reply_calls){.syntax = a->request.syntax, .names = a->request.tool_names};
        for (size_t k = 0; echo && a->request.n_top_logprobs < 0 && k < echo->len; k++) c->offset_chars += ((unsigned char)echo->bytes[k] & 0xc0) != 0x80;
        if (echo) text_put(&c->text.content, echo->bytes, echo->len);
        if (a->request.rule.schema && !reply_guard_begin(&c->guard, &a->request.rule)) return false;
    }
    return true;
}

static answer *answer_new(server *s, http_call *call, api_request *request, api_prompts *prompts) {
    live_answer *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    answer *a = &l->a;
    l->s = s;
    l->call = call;
    *a = (answer){.request = *request, .prompts = *prompts, .n_parts = prompts->n, .created_s = cli_unix_ms() / 1000,
                  .model = s->model_id, .vocab = wtl_engine_vocab(s->engine), .n_choices = prompts->n * (size_t)request->n};
    *request = (api_request){0};
    *prompts = (api_prompts){0};
    pthread_mutex_init(&live(a)->lock, NULL);
    atomic_init(&live(a)->refs, 1);
    a->n_open = a->n_choices;
    a->parts = calloc(a->n_parts, sizeof *a->parts);
    a->choices = calloc(a->n_choices, sizeof *a->choices);
    if (!a->parts || !a->choices) {
        answer_free(a);
        return NULL;
    }
    for (size_t i = 0; i < a->n_parts; i++) {
        answer_part *p = &a->parts[i];
        *p = (answer_part){.owner = a, .index = i, .n_prompt_tok = (int32_t)a->prompts.tokens[i].n, .n_open = (size_t)a->request.n};
    }
    make_id(a);
    if (begin_choices(a)) return a;
    answer_free(a);
    return NULL;
}

static void refuse(answer *a, wtl_status status, const wtl_error *err) {
    api_error *e = &a->error;
    if (status == WTL_ERR_BUSY) {
        const uint64_t wait_s = wtl_batch_state_of(live(a)->s->batch, NULL, 0, NULL).wait_estimate_ns / 1000000000 + 1;
        api_fail(e, 503, NULL, "%s", err->message);
        e->type = "overloaded_error";
        e->code = "queue_full";
        e->retry_after_s = wait_s < 60 ? (int32_t)wait_s : 60;
    } else {
        api_fail(e, status == WTL_ERR_INVALID || status == WTL_ERR_LIMIT ? 400 : 500, NULL, "%s", err->message);
    }
}

// The prompt must leave room for a token. Said here, where both numbers are known.
static bool fits(answer *a, const answer_part *p) {
    const int32_t n_ctx = wtl_batch_n_ctx(live(a)->s->batch);
    if (p->n_prompt_tok < n_ctx) return true;
    return api_fail_too_long(&a->error, a->request.kind == API_CHAT ? "messages" : "prompt", false, p->n_prompt_tok, n_ctx);
}

static bool submit(answer *a, answer_part *p) {
    const api_request *r = &a->request;
    const bool echoes = r->echo && r->n_top_logprobs >= 0;
    const wtl_batch_request request = {.tokens = a->prompts.tokens[p->index].ids, .n_tokens = a->prompts.tokens[p->index].n, .sampling = api_request_sampling(r),
                                       .max_tokens = (int32_t)r->max_tokens, .n_choices = (int32_t)r->n, .n_top_logprobs = (int32_t)r->n_top_logprobs,
                                       .ignore_eos = r->ignore_eos, .user_key = r->user ? r->user : http_peer(live(a)->call), .max_uj = r->max_joules * UJ_PER_JOULE,
                                       .arrived_ns = http_arrived_ns(live(a)->call), .allows = r->rule.schema ? allows : NULL, .on_token = on_token, .user = p,
                                       .on_prompt = echoes ? on_prompt : NULL, .prompt_only = r->prompt_only};
    const wtl_batch_token first = {.token = request.tokens[0], .logprob = NAN};
    wtl_error err = {0};
    if (echoes) echo_token(a, p, &first);
    atomic_fetch_add(&live(a)->refs, 1);
    const wtl_status status = wtl_batch_submit(live(a)->s->batch, &request, &p->request, &err);
    if (status == WTL_OK) return true;
    atomic_fetch_sub(&live(a)->refs, 1); // never the last: the route has one
    refuse(a, status, &err);
    return false;
}

static void begin_stream(answer *a) {
    http_set_header(live(a)->call, "Cache-Control", "no-cache");
    http_set_header(live(a)->call, "X-Accel-Buffering", "no"); // nginx would collect events
    http_on_caught_up(live(a)->call, caught_up, a);
    http_stream_begin(live(a)->call, 200, "text/event-stream");
    a->streams = true;
}

// A long conversation need not stay in memory while its reply is written. Labels and stop strings stay.
static void drop_input(answer *a) {
    static const char *const keys[] = {"messages", "prompt", "tools", "chat_template_kwargs", "logit_bias"};
    for (size_t i = 0; i < CLI_COUNT(keys); i++) json_object_del(a->request.root, keys[i]);
    json_decref(a->request.variables);
    a->request.messages = a->request.prompt = a->request.variables = NULL;
    api_prompts_free(&a->prompts);
}

void answer_start(server *s, http_call *call, api_request *request, api_prompts *prompts) {
    answer *a = answer_new(s, call, request, prompts);
    if (!a) {
        api_request_free(request);
        api_prompts_free(prompts);
        server_error(call, 500, NULL, "out of memory", NULL, NULL);
        return;
    }
    pthread_mutex_lock(&live(a)->lock);
    bool ok = true;
    for (size_t i = 0; ok && i < a->n_parts; i++) ok = fits(a, &a->parts[i]);
    if (ok && !http_on_gone(call, gone, a)) ok = api_fail(&a->error, 503, NULL, "the client has left");
    for (size_t i = 0; ok && i < a->n_parts; i++) ok = submit(a, &a->parts[i]);
    if (ok && a->request.stream) begin_stream(a);
    if (!ok) cancel_parts(a); // of several prompts the first may run
    drop_input(a);
    pthread_mutex_unlock(&live(a)->lock);
    let_go(a);
}
