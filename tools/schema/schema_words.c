// Literals and keys as they are spelled in a document: in one line, without spaces. Keys with their closing quote, so that none begins another.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/schema_private.h"

// Reals in the shortest form that reads back.
static char *spell(const json_t *value) {
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    for (size_t digits = 15; digits < 17; digits++) {
        char *text = json_dumps(value, flags | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
        const bool same = back && json_equal(back, value);
        json_decref(back);
        if (same || !text) return text;
        free(text);
    }
    return json_dumps(value, flags | JSON_REAL_PRECISION(17));
}

bool schema_add_word(schema_compiler *c, const json_t *value, uint16_t index, bool key) {
    json_schema *s = c->s;
    if (s->n_words == WORDS_MAX) return schema_fail(c, NULL, "has too many literals and keys, at most %d", WORDS_MAX);
    if (!schema_grow(c, (void **)&s->words, &s->cap_words, s->n_words + 1, sizeof *s->words)) return false;
    char *bytes = spell(value);
    if (!bytes) return schema_no_memory(c);
    size_t len = strlen(bytes);
    if (key) memmove(bytes, bytes + 1, len--); // the opening quote
    c->n_bytes += len;
    if (len > WORD_BYTES_MAX || c->n_bytes > 1 << 20) {
        free(bytes);
        return schema_fail(c, NULL, "has literals or keys that are too long");
    }
    s->words[s->n_words++] = (schema_word){.bytes = bytes, .len = (uint16_t)len, .value = index, .number = json_is_number(value)};
    return true;
}

static int by_bytes(const void *a, const void *b) {
    const schema_word *x = a, *y = b;
    const int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    return order ? order : (int)x->len - (int)y->len;
}

void schema_sort_words(json_schema *s, size_t first, size_t n) {
    if (n) qsort(s->words + first, n, sizeof *s->words, by_bytes);
}

// The first of words[first..last) whose byte n is at least c.
static uint16_t bound(const json_schema *s, uint16_t first, uint16_t last, uint32_t n, int c) {
    while (first < last) {
        const uint16_t middle = (uint16_t)((first + last) / 2);
        const schema_word *w = &s->words[middle];
        if (n < w->len && (uint8_t)w->bytes[n] >= c) last = middle;
        else first = (uint16_t)(middle + 1);
    }
    return first;
}

bool schema_narrow(const json_schema *s, uint16_t *first, uint16_t *last, uint32_t n, uint8_t c) {
    const uint16_t from = bound(s, *first, *last, n, c), to = bound(s, from, *last, n, c + 1);
    *first = from;
    *last = to;
    return from < to;
}
