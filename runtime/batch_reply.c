// What comes out of a step: the next token of a choice, its log-probabilities, the events that tell an owner, and ends.
//
// The order at an end: energy is closed, the owner gets the event, then the request is out of sight and its KV is only findable. So an
// owner may ask for facts and joules inside its last call.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/batch_private.h"

static void end_energy(wtl_batch *b, batch_request *r) {
    if (r->energy_ended || !r->facts.energy) return;
    r->energy_ended = true;
    wtl_energy_end(b->options.energy, r->facts.energy);
}

void batch_request_free(batch_request *r) {
    if (!r) return;
    for (int32_t i = 0; i < r->n_choices; i++) {
        wtl_sampler_close(&r->choices[i].sampler);
        wtl_free(r->choices[i].text);
    }
    wtl_free(r->tokens);
    wtl_free(r->bias);
    wtl_free(r);
}

void batch_retire(wtl_batch *b, batch_request *r) {
    batch_lock(b);
    if (r->waiting) batch_unqueue(b, r);
    else if (r->paused) batch_unpause(b, r);
    else batch_unrun(b, r);
    batch_user_drop(b, r->owner);
    batch_unlock(b);
    batch_request_free(r);
}

// Takes what was guessed wrong out of the choice's sequence.
static wtl_status forget_guesses(wtl_batch *b, batch_choice *c, wtl_error *err) {
    const int32_t n_wrong = wtl_seq_length(b->session, c->seq) - c->n_held;
    if (!c->n_held || n_wrong < 1) return WTL_OK;
    c->n_wrong += n_wrong;
    return wtl_seq_forget(b->session, c->seq, c->n_held, err);
}

// What the choice held becomes findable, its place is free.
static void end_choice(wtl_batch *b, batch_choice *c) {
    enum { MEAN_OF = 16 }; // replies that the mean length remembers
    batch_request *r = c->request;
    if (c->ended) return;
    if (c->seq >= 0) {
        (void)forget_guesses(b, c, NULL); // it closes in any case
        if (c->n_wrong && r->facts.energy) wtl_energy_rejected(b->options.energy, r->facts.energy, c->n_wrong);
        wtl_seq_close(b->session, c->seq);
    }
    wtl_sampler_close(&c->sampler);
    batch_lock(b);
    c->seq = -1;
    c->decodes = false;
    c->ended = true;
    r->n_open--;
    if (c->n_decoded > 0) b->reply_tok += (c->n_decoded - b->reply_tok) / MEAN_OF;
    batch_unlock(b);
}

static void leave(wtl_batch *b, batch_request *r) {
    end_energy(b, r);
    batch_lock(b);
    r->gone = true;
    batch_unlock(b);
}

void batch_end_request(wtl_batch *b, batch_request *r, wtl_finish finish, const wtl_error *error) {
    end_energy(b, r);
    for (int32_t i = 0; i < r->n_choices; i++) {
        if (r->choices[i].ended) continue;
        end_choice(b, &r->choices[i]);
        const wtl_batch_token event = {.request = r->id, .choice = i, .token = -1, .finish = finish, .last = r->n_open == 0, .error = error};
        r->ask.on_token(r->ask.user, &event);
    }
    leave(b, r);
}

// ---- Log-probabilities -----------------------------------------------------------------------------------------------------
// Natural log-softmax of the raw logits: of the token, and of the n likeliest (ties: the lower id first). NaN counts as -infinity.
static float log_probabilities(const float *x, int32_t n_vocab, int32_t token, wtl_token_logprob *top, int32_t n) {
    float best = -INFINITY;
    int32_t held = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (!(x[i] > -INFINITY)) continue;
        if (x[i] > best) best = x[i];
        if (held == n && (n == 0 || x[i] <= top[held - 1].logprob)) continue;
        int32_t at = held < n ? held++ : held - 1;
        for (; at > 0 && top[at - 1].logprob < x[i]; at--) top[at] = top[at - 1];
        top[at] = (wtl_token_logprob){i, x[i]};
    }
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        if (x[i] > -INFINITY) sum += (double)expf(x[i] - best);
    const double log_sum = (double)best + log(sum);
    for (int32_t i = 0; i < held; i++) top[i].logprob = (float)((double)top[i].logprob - log_sum);
    for (int32_t i = held; i < n; i++) top[i] = (wtl_token_logprob){-1, -INFINITY};
    return x[token] > -INFINITY ? (float)((double)x[token] - log_sum) : -INFINITY;
}

// ---- The next token --------------------------------------------------------------------------------------------------------
static wtl_finish finish_of(const wtl_batch *b, const batch_choice *c, int32_t token) {
    const batch_request *r = c->request;
    if (!r->ask.ignore_eos && wtl_token_is_end(b->vocab, token)) return WTL_FINISH_END;
    if (c->n_decoded < r->n_reply_max) return WTL_FINISH_NONE;
    return r->ask.max_tokens > 0 && c->n_decoded >= r->ask.max_tokens ? WTL_FINISH_LENGTH : WTL_FINISH_CONTEXT;
}

static bool may_come(void *choice, int32_t token) {
    const batch_choice *c = choice;
    return c->request->ask.allows(c->request->ask.user, c->index, token);
}

static wtl_status sample(batch_choice *c, const float *logits, int32_t *token, wtl_error *err) {
    if (c->request->ask.allows) return wtl_sampler_next_allowed(c->sampler, logits, may_come, c, token, err);
    return wtl_sampler_next(c->sampler, logits, token, err);
}

int32_t batch_n_top(const batch_choice *c) {
    const wtl_batch_request *ask = &c->request->ask;
    return ask->allows || ask->n_top_logprobs >= 0 ? 0 : wtl_sampler_n_top(c->sampler);
}

// Ends one choice without a token; the others of the request go on.
static void fail_choice(wtl_batch *b, batch_choice *c, const wtl_error *error) {
    batch_request *r = c->request;
    end_choice(b, c);
    const bool last = r->n_open == 0;
    if (last) end_energy(b, r);
    const wtl_batch_token event = {.request = r->id, .choice = c->index, .token = -1, .finish = WTL_FINISH_ERROR, .last = last, .error = error};
    r->ask.on_token(r->ask.user, &event);
    if (last) leave(b, r);
}

static void count_token(wtl_batch *b, batch_choice *c, int32_t token, uint64_t now_ns) {
    batch_request *r = c->request;
    batch_lock(b);
    c->text[r->n_prompt + c->n_decoded++] = token;
    r->facts.n_decoded_tok++;
    r->facts.last_token_ns = now_ns;
    if (!r->facts.first_token_ns) r->facts.first_token_ns = now_ns;
    b->totals.n_decoded_tok++;
    batch_unlock(b);
}

static void put_logprobs(wtl_batch *b, const batch_request *r, const float *logits, wtl_batch_token *event) {
    if (r->ask.n_top_logprobs < 0) return;
    event->n_top = r->ask.n_top_logprobs < b->n_vocab ? r->ask.n_top_logprobs : b->n_vocab;
    event->logprob = log_probabilities(logits, b->n_vocab, event->token, b->top, event->n_top);
    event->top = b->top;
}

void batch_forget_guesses(wtl_batch *b, batch_choice *c) {
    wtl_error err = {0};
    if (forget_guesses(b, c, &err)) fail_choice(b, c, &err);
}

void batch_tell_prompt(wtl_batch *b, const batch_request *r, int32_t position, const float *logits) {
    wtl_batch_token event = {.request = r->id, .token = r->tokens[position]};
    put_logprobs(b, r, logits, &event);
    r->ask.on_prompt(r->ask.user, &event);
}

void batch_choose(wtl_batch *b, batch_choice *c, const float *logits, uint64_t now_ns) {
    batch_request *r = c->request;
    wtl_error err = {0};
    int32_t token = -1;
    if (sample(c, logits, &token, &err)) {
        fail_choice(b, c, &err);
        return;
    }
    count_token(b, c, token, now_ns);
    wtl_batch_token event = {.request = r->id, .choice = c->index, .token = token};
    put_logprobs(b, r, logits, &event);
    event.finish = finish_of(b, c, token);
    if (event.finish) end_choice(b, c);
    event.last = r->n_open == 0;
    if (event.last) end_energy(b, r);
    const bool go_on = r->ask.on_token(r->ask.user, &event);
    if (!event.finish && !go_on) end_choice(b, c);
    if (r->n_open == 0) leave(b, r);
}
