// Log-probabilities in the forms of the two OpenAI routes. See answer_state.h.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "tools/serve/answer_state.h"

// A token's bytes as text: what is no whole character becomes U+FFFD, "bytes" has the truth.
static void put_token(answer *a, int32_t id) {
    enum { ROOM = 4096 };
    char text[ROOM];
    size_t len = 0;
    const char *bytes = wtl_token_bytes(a->vocab, id, true, &len);
    wtl_text_stream state = {0};
    if (3 * (len + 4) + 16 > sizeof text) len = sizeof text / 3 - 16;
    size_t n = wtl_text_push(&state, bytes, len, text, sizeof text);
    n += wtl_text_finish(&state, text + n, sizeof text - n);
    text_put_string(&a->out, text, n);
}

static void put_bytes(answer *a, int32_t id) {
    size_t len = 0;
    const char *bytes = wtl_token_bytes(a->vocab, id, true, &len);
    text_puts(&a->out, "[");
    for (size_t i = 0; i < len; i++) text_printf(&a->out, "%s%u", i ? "," : "", (unsigned)(unsigned char)bytes[i]);
    text_puts(&a->out, "]");
}

// -9999 is what that API writes for "impossible": JSON has no infinity.
static void put_logprob(answer *a, float logprob) { text_put_real(&a->out, logprob > -9999 ? (double)logprob : -9999.0); }

static void put_members(answer *a, int32_t id, float logprob) {
    text_printf(&a->out, "\"id\":%d,\"token\":", id);
    put_token(a, id);
    text_puts(&a->out, ",\"logprob\":");
    put_logprob(a, logprob);
    text_puts(&a->out, ",\"bytes\":");
    put_bytes(a, id);
}

static void put_list(answer *a, const answer_choice *c, size_t from, size_t to) {
    text_puts(&a->out, "[");
    for (size_t i = from; i < to; i++) {
        const answer_token *t = &c->tokens[i];
        text_puts(&a->out, i > from ? ",{" : "{");
        put_members(a, t->id, t->logprob);
        text_puts(&a->out, ",\"top_logprobs\":[");
        for (uint32_t k = 0; k < t->n_top; k++) {
            text_puts(&a->out, k ? ",{" : "{");
            put_members(a, c->tops[t->top + k].token, c->tops[t->top + k].logprob);
            text_puts(&a->out, "}");
        }
        text_puts(&a->out, "]}");
    }
    text_puts(&a->out, "]");
}

static size_t chars_of(const char *bytes, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return n;
}

size_t answer_token_chars(const answer *a, const answer_choice *c, size_t from, size_t to) {
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        size_t len = 0;
        const char *bytes = wtl_token_bytes(a->vocab, c->tokens[i].id, false, &len);
        n += chars_of(bytes, len);
    }
    return n;
}

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: four lists of one length.
static void put_columns(answer *a, const answer_choice *c, size_t from, size_t to, size_t offset) {
    text_puts(&a->out, "{\"tokens\":[");
    for (size_t i = from; i < to; i++) {
        if (i > from) text_puts(&a->out, ",");
        put_token(a, c->tokens[i].id);
    }
    text_puts(&a->out, "],\"token_logprobs\":[");
    for (size_t i = from; i < to; i++) {
        if (i > from) text_puts(&a->out, ",");
        if (isnan(c->tokens[i].logprob)) text_puts(&a->out, "null");
        else put_logprob(a, c->tokens[i].logprob);
    }
    text_puts(&a->out, "],\"top_logprobs\":[");
    for (size_t i = from; i < to; i++) {
        const answer_token *t = &c->tokens[i];
        if (i > from) text_puts(&a->out, ",");
        if (isnan(t->logprob)) {
            text_puts(&a->out, "null");
            continue;
        }
        text_puts(&a->out, "{");
        for (uint32_t k = 0; k < t->n_top; k++) {
            if (k) text_puts(&a->out, ",");
            put_token(a, c->tops[t->top + k].token);
            text_puts(&a->out, ":");
            put_logprob(a, c->tops[t->top + k].logprob);
        }
        text_puts(&a->out, "}");
    }
    text_puts(&a->out, "],\"text_offset\":[");
    for (size_t i = from; i < to; i++) {
        text_printf(&a->out, "%s%zu", i > from ? "," : "", offset);
        offset += answer_token_chars(a, c, i, i + 1);
    }
    text_puts(&a->out, "]}");
}

void answer_put_logprobs(answer *a, const answer_choice *c, size_t from, size_t to, size_t offset_chars) {
    if (a->request.n_top_logprobs < 0) {
        text_puts(&a->out, "null");
    } else if (a->request.kind == API_COMPLETIONS) {
        put_columns(a, c, from, to, offset_chars);
    } else if (a->request.kind == API_COMPLETION) {
        put_list(a, c, from, to);
    } else {
        text_puts(&a->out, "{\"content\":");
        put_list(a, c, from, to);
        text_puts(&a->out, ",\"refusal\":null}");
    }
}
