// Names and values of one request or answer, copied, in order of arrival. Small numbers: looked up one by one.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/serve/http_internal.h"

static char *copy(const char *text, size_t len) {
    char *to = malloc(len + 1);
    if (!to) return NULL;
    if (len > 0) memcpy(to, text, len);
    to[len] = '\0';
    return to;
}

bool http_pairs_add(http_pairs *pairs, const char *name, size_t name_len, const char *value, size_t value_len) {
    if (pairs->n == pairs->cap) {
        size_t cap = pairs->cap ? pairs->cap * 2 : 16;
        http_pair *at = realloc(pairs->at, cap * sizeof *at);
        if (!at) return false;
        pairs->at = at;
        pairs->cap = cap;
    }
    http_pair pair = {copy(name, name_len), copy(value, value_len)};
    if (!pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return false;
    }
    pairs->at[pairs->n++] = pair;
    return true;
}

const char *http_pairs_get(const http_pairs *pairs, const char *name, bool any_case) {
    for (size_t i = 0; i < pairs->n; i++)
        if ((any_case ? strcasecmp(pairs->at[i].name, name) : strcmp(pairs->at[i].name, name)) == 0) return pairs->at[i].value;
    return NULL;
}

void http_pairs_free(http_pairs *pairs) {
    for (size_t i = 0; i < pairs->n; i++) {
        free(pairs->at[i].name);
        free(pairs->at[i].value);
    }
    free(pairs->at);
    *pairs = (http_pairs){0};
}
