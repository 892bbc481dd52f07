// For the comparison with the Python implementation: reads lines {"schema", "seed", "n", "texts": [...]}, writes lines
// {"documents": [n random documents that the walk lets through], "takes": [whether each text is one]} or {"error", "path"}.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/schema/json_schema.h"

enum { DOCUMENT_MAX = 2000, LONG = 200 };

static uint64_t random_next(uint64_t *state) { // splitmix64
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// Prefers what makes structure and readable text, and ends of what has grown long.
static int pick(json_walk *walk, size_t len, uint64_t *state) {
    static const char liked[] = "\"}],:{[0123456789.-aetrufnslbcxyAB ", closing[] = "\"}]";
    char all[256], some[256], ends[8];
    size_t n_all = 0, n_some = 0, n_ends = 0;
    for (int c = 1; c < 256; c++) {
        const char byte = (char)c;
        if (!json_walk_allows(walk, &byte, 1, NULL)) continue;
        all[n_all++] = byte;
        if (strchr(liked, c)) some[n_some++] = byte;
        if (strchr(closing, c)) ends[n_ends++] = byte;
    }
    if (n_all == 0) return -1;
    const uint64_t r = random_next(state);
    if (len > LONG && n_ends && r % 8) return (unsigned char)ends[(r >> 8) % n_ends];
    if (n_some && r % 16) return (unsigned char)some[(r >> 8) % n_some];
    return (unsigned char)all[(r >> 8) % n_all];
}

static json_t *random_document(const json_schema *schema, uint64_t *state) {
    json_walk *walk = json_walk_new(schema);
    char text[DOCUMENT_MAX];
    size_t len = 0;
    int c = 0;
    while (walk && len < DOCUMENT_MAX && !json_walk_complete(walk)) {
        if (json_walk_may_end(walk) && random_next(state) % 3 == 0) break;
        c = pick(walk, len, state);
        if (c < 0) break;
        text[len] = (char)c;
        json_walk_push(walk, &text[len++], 1, NULL);
    }
    json_t *out = walk && json_walk_may_end(walk) ? json_stringn(text, len) : c < 0 ? json_string("a dead end") : json_null();
    json_walk_free(walk);
    return out;
}

static bool takes(const json_schema *schema, const json_t *text) {
    json_walk *walk = json_walk_new(schema);
    const bool good = walk && json_walk_push(walk, json_string_value(text), json_string_length(text), NULL) && json_walk_may_end(walk);
    json_walk_free(walk);
    return good;
}

static json_t *answer(const json_t *job) {
    json_schema_error e;
    json_schema *schema = json_schema_compile(json_object_get(job, "schema"), &e);
    if (!schema) return json_pack("{s:s, s:s}", "error", e.message, "path", e.path);
    uint64_t state = (uint64_t)json_integer_value(json_object_get(job, "seed"));
    const json_t *texts = json_object_get(job, "texts");
    json_t *documents = json_array(), *taken = json_array();
    for (json_int_t i = json_integer_value(json_object_get(job, "n")); i > 0; i--) json_array_append_new(documents, random_document(schema, &state));
    for (size_t i = 0; i < json_array_size(texts); i++) json_array_append_new(taken, json_boolean(takes(schema, json_array_get(texts, i))));
    json_schema_free(schema);
    return json_pack("{s:o, s:o}", "documents", documents, "takes", taken);
}

int main(void) {
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        json_t *job = json_loads(line, JSON_ALLOW_NUL, NULL), *out = job ? answer(job) : json_pack("{s:s}", "error", "no JSON");
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(out);
        json_decref(job);
    }
    free(line);
    return 0;
}
