// logit_bias in its three forms: {"token id": bias}, [[token id, bias or false], ...], [["text", bias or false], ...]: every token of the text.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "tools/serve/api_params.h"

static const char NAME[] = "logit_bias";
static const double MOST = 1000; // beyond it no logit matters

static bool add(api_request *r, const api_limits *limits, int64_t token, const json_t *bias, api_error *e) {
    if (token < 0 || token >= limits->n_vocab)
        return api_fail(e, 400, NAME, "logit_bias names token %lld, and this model has 0 to %d", (long long)token, limits->n_vocab - 1);
    double value = -INFINITY;
    if (json_is_true(bias)) return api_fail(e, 400, NAME, "a bias in logit_bias must be a number, or false to ban the token");
    if (!json_is_false(bias) && !api_read_real(bias, "a bias in logit_bias", -MOST, MOST, &value, e)) return api_fail(e, 400, NAME, "a bias in logit_bias must be a number between -1000 and 1000, or false");
    if (r->n_bias == API_BIAS_MAX) return api_fail(e, 400, NAME, "logit_bias has too many tokens, at most %d", API_BIAS_MAX);
    if ((r->n_bias & (r->n_bias - 1)) == 0) { // a power of two: full
        wtl_logit_bias *grown = realloc(r->bias, (r->n_bias ? 2 * r->n_bias : 1) * sizeof *grown);
        if (!grown) return api_fail(e, 500, NULL, "out of memory");
        r->bias = grown;
    }
    r->bias[r->n_bias++] = (wtl_logit_bias){.token = (int32_t)token, .bias = (float)value};
    return true;
}

static bool add_text(api_request *r, const api_limits *limits, const json_t *text, const json_t *bias, api_error *e) {
    if (!limits->vocab) return api_fail(e, 400, NAME, "logit_bias with text is not supported here");
    api_tokens tokens;
    bool ok = api_tokenize(limits->vocab, json_string_value(text), json_string_length(text), 0, &tokens, e);
    for (size_t i = 0; ok && i < tokens.n; i++) ok = add(r, limits, tokens.ids[i], bias, e);
    api_tokens_free(&tokens);
    return ok;
}

static bool add_pair(api_request *r, const api_limits *limits, const json_t *pair, api_error *e) {
    const json_t *what = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || (!json_is_integer(what) && !json_is_string(what)))
        return api_fail(e, 400, NAME, "an entry of logit_bias must be [token, bias]");
    if (json_is_string(what)) return add_text(r, limits, what, bias, e);
    return add(r, limits, json_integer_value(what), bias, e);
}

bool api_read_bias(api_request *r, const api_limits *limits, api_error *e) {
    json_t *value = api_get(r->root, NAME);
    if (!value) return true;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!add_pair(r, limits, json_array_get(value, i), e)) return false;
        return true;
    }
    if (!json_is_object(value)) return api_fail(e, 400, NAME, "logit_bias must be an object of token ids, or a list");
    const char *key;
    json_t *bias;
    json_object_foreach(value, key, bias) {
        char *end = NULL;
        errno = 0;
        const long long token = strtoll(key, &end, 10);
        if (end == key || *end || errno) return api_fail(e, 400, NAME, "logit_bias has the key \"%.40s\", which is no token id", key);
        if (!add(r, limits, token, bias, e)) return false;
    }
    return true;
}
