// Prompts that are no conversations: text, tokens, or lists of them. See api_request.h.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/serve/api_params.h"

// As llama-server reads them: names of control tokens in the text are those tokens.
static const unsigned FLAGS = WTL_ADD_SPECIAL | WTL_PARSE_SPECIAL;

void api_tokens_free(api_tokens *t) {
    free(t->ids);
    *t = (api_tokens){0};
}

void api_prompts_free(api_prompts *p) {
    for (size_t i = 0; i < p->n; i++) {
        api_tokens_free(&p->tokens[i]);
        if (p->echo) text_free(&p->echo[i]);
    }
    free(p->tokens);
    free(p->echo);
    *p = (api_prompts){0};
}

bool api_tokenize(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, api_tokens *out, api_error *e) {
    *out = (api_tokens){0};
    size_t cap = len + 8;
    for (int tries = 0; tries < 2; tries++) {
        int32_t *ids = cap <= SIZE_MAX / sizeof *ids ? malloc(cap * sizeof *ids) : NULL;
        if (!ids) return api_fail(e, 500, NULL, "out of memory");
        wtl_error err;
        size_t n = 0;
        const wtl_status status = wtl_tokenize(vocab, text, len, flags, ids, cap, &n, &err);
        if (status == WTL_OK && n <= cap) {
            *out = (api_tokens){ids, n, cap};
            return true;
        }
        free(ids);
        if (status != WTL_OK) return api_fail(e, status == WTL_ERR_NO_MEMORY ? 500 : 400, NULL, "%s", err.message);
        cap = n;
    }
    return api_fail(e, 500, NULL, "the text could not be tokenised");
}

bool api_fail_too_long(api_error *e, const char *param, bool at_least, int64_t n_tok, int32_t n_ctx) {
    api_fail(e, 400, param, "the prompt has %s%lld tokens, and the context holds %d, prompt and reply together", at_least ? "at least " : "", (long long)n_tok, n_ctx);
    e->type = "exceed_context_size_error";
    e->code = "context_length_exceeded";
    e->n_prompt_tok = n_tok;
    e->n_ctx = n_ctx;
    return false;
}

bool api_text_may_fit(const wtl_vocab *vocab, size_t len, int32_t n_ctx, const char *param, api_error *e) {
    enum { USUAL_BYTES = 16 }; // tokens are hardly longer on average: below that nothing is to be looked up
    if (len / USUAL_BYTES <= (size_t)n_ctx) return true;
    const int32_t n_vocab = wtl_vocab_describe(vocab).n_vocab;
    size_t longest = 1, n;
    for (int32_t i = 0; i < n_vocab; i++) {
        wtl_token_bytes(vocab, i, true, &n);
        if (n > longest) longest = n;
    }
    return len / longest <= (size_t)n_ctx || api_fail_too_long(e, param, true, (int64_t)(len / longest), n_ctx);
}

size_t api_text_bytes(const json_t *value) {
    size_t sum = json_is_string(value) ? json_string_length(value) : 0;
    for (size_t i = 0; i < json_array_size(value); i++) sum += api_text_bytes(json_array_get(value, i));
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member) sum += api_text_bytes(member);
    return sum;
}

static bool one_prompt(const json_t *prompt) { // a list: does it hold a token?
    for (size_t i = 0; i < json_array_size(prompt); i++)
        if (json_is_integer(json_array_get(prompt, i))) return true;
    return false;
}

bool api_prompt_count(const json_t *prompt, size_t *n, api_error *e) {
    *n = 1;
    if (json_is_string(prompt)) return true;
    if (!json_is_array(prompt)) return api_fail(e, 400, "prompt", "prompt must be a string or a list");
    if (json_array_size(prompt) == 0) return api_fail(e, 400, "prompt", "prompt must not be an empty list");
    if (!one_prompt(prompt)) *n = json_array_size(prompt);
    return true;
}

static bool append(api_tokens *t, const int32_t *ids, size_t n, api_error *e) {
    if (n > t->cap - t->n) {
        const size_t cap = 2 * t->cap + n;
        int32_t *grown = realloc(t->ids, cap * sizeof *grown);
        if (!grown) return api_fail(e, 500, NULL, "out of memory");
        t->ids = grown;
        t->cap = cap;
    }
    for (size_t i = 0; i < n; i++) t->ids[t->n++] = ids[i];
    return true;
}

// Tokens and texts in a row, as llama-server takes them; special tokens are added to a text in front only.
static bool mixed(const wtl_vocab *vocab, const json_t *list, api_tokens *out, api_error *e) {
    const int32_t n_vocab = wtl_vocab_describe(vocab).n_vocab;
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        api_tokens piece = {0};
        if (json_is_integer(item)) {
            const int32_t token = (int32_t)id;
            if (id < 0 || id >= n_vocab) return api_fail(e, 400, "prompt", "prompt[%zu] is %lld, and this model has tokens 0 to %d", i, (long long)id, n_vocab - 1);
            ok = append(out, &token, 1, e);
        } else if (json_is_string(item)) {
            ok = api_tokenize(vocab, json_string_value(item), json_string_length(item), i == 0 ? FLAGS : WTL_PARSE_SPECIAL, &piece, e) &&
                 append(out, piece.ids, piece.n, e);
        } else {
            ok = api_fail(e, 400, "prompt", "prompt[%zu] must be a token or a string", i);
        }
        api_tokens_free(&piece);
    }
    return ok;
}

// The i-th prompt's JSON.
static const json_t *prompt_at(const json_t *prompt, size_t i) { return json_is_array(prompt) && !one_prompt(prompt) ? json_array_get(prompt, i) : prompt; }

bool api_prompt_tokens(const wtl_vocab *vocab, const json_t *prompt, size_t i, api_tokens *out, api_error *e) {
    const json_t *one = prompt_at(prompt, i);
    *out = (api_tokens){0};
    bool ok;
    if (json_is_string(one)) ok = api_tokenize(vocab, json_string_value(one), json_string_length(one), FLAGS, out, e);
    else if (json_is_array(one)) ok = mixed(vocab, one, out, e);
    else ok = api_fail(e, 400, "prompt", "prompt[%zu] must be a string or a list of tokens", i);
    const int32_t bos = wtl_vocab_describe(vocab).bos;
    if (ok && out->n == 0) ok = bos >= 0 ? append(out, &bos, 1, e) : api_fail(e, 400, "prompt", "prompt has no tokens");
    if (!ok) {
        api_tokens_free(out);
        if (e->status == 400 && !e->param[0]) snprintf(e->param, sizeof e->param, "prompt");
    }
    return ok;
}

bool api_prompt_text(const wtl_vocab *vocab, const json_t *prompt, size_t i, const api_tokens *tokens, text_buffer *out) {
    const json_t *one = prompt_at(prompt, i);
    if (json_is_string(one)) {
        text_put(out, json_string_value(one), json_string_length(one));
        return !out->failed;
    }
    wtl_text_stream state = {0};
    for (size_t k = 0; k <= tokens->n; k++) { // one more: what waits for its end
        size_t len = 0;
        const char *bytes = k < tokens->n ? wtl_token_bytes(vocab, tokens->ids[k], true, &len) : "";
        if (!text_reserve(out, 3 * (len + 4))) return false;
        char *end = out->bytes + out->len;
        out->len += k < tokens->n ? wtl_text_push(&state, bytes, len, end, 3 * (len + 4)) : wtl_text_finish(&state, end, 3 * (len + 4));
    }
    return true;
}
