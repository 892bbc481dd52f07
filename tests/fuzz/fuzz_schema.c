// Fuzz entry of the schema compiler and its automaton: a schema, a line break, and bytes that choose a document's way through it.
//
// fuzz_schema() is shared by the libFuzzer program (WTL_LIBFUZZER) and by the replay in the ordinary tests. What is checked beside memory: an
// error has words; what is tried changes nothing; there are no dead ends; what is complete is read by the JSON reader.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/json_schema.h"

int fuzz_schema(const uint8_t *data, size_t bytes); // 1: the schema compiled, 2: a document was completed too

enum { DOCUMENT_MAX = 400 };

// The byte that `choice` picks among those that may come; -1: only the end may.
static int pick(json_walk *walk, unsigned choice) {
    char allowed[256];
    unsigned n = 0;
    for (int c = 0; c < 256; c++) {
        const char byte = (char)c;
        if (json_walk_allows(walk, &byte, 1, NULL)) allowed[n++] = byte;
    }
    if (n == 0 && !json_walk_may_end(walk)) abort(); // a dead end
    return n ? (uint8_t)allowed[choice % n] : -1;
}

static void check_document(const char *text, size_t len) {
    json_t *value = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    if (!value) abort();
    json_decref(value);
}

static int follow(const json_schema *schema, const uint8_t *choices, size_t n) {
    json_walk *walk = json_walk_new(schema);
    char text[DOCUMENT_MAX];
    size_t len = 0;
    if (!walk) abort();
    while (len < DOCUMENT_MAX && !json_walk_complete(walk)) {
        const int c = pick(walk, len < n ? choices[len] : (unsigned)(len * 31));
        if (c < 0) break;
        text[len] = (char)c;
        if (!json_walk_push(walk, &text[len], 1, NULL)) abort(); // it was allowed
        len++;
    }
    const bool whole = json_walk_may_end(walk);
    if (json_walk_complete(walk) && !whole) abort();
    if (whole) check_document(text, len);
    size_t taken = 0;
    json_walk_restart(walk);
    if (!json_walk_push(walk, text, len, &taken) || taken != len) abort(); // in one piece as byte by byte
    json_walk_free(walk);
    return whole ? 2 : 1;
}

int fuzz_schema(const uint8_t *data, size_t bytes) {
    const uint8_t *line = bytes ? memchr(data, '\n', bytes) : NULL;
    const size_t n_schema = line ? (size_t)(line - data) : bytes;
    json_t *value = json_loadb((const char *)data, n_schema, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!value) return 0;
    json_schema_error e;
    json_schema *schema = json_schema_compile(value, &e);
    json_decref(value);
    if (!schema && (!e.message[0] || e.no_memory)) abort();
    const int result = schema ? follow(schema, line ? line + 1 : NULL, line ? bytes - n_schema - 1 : 0) : 0;
    json_schema_free(schema);
    return result;
}

#ifdef WTL_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_schema(data, bytes);
    return 0;
}
#endif
