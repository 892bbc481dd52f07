// Arena, failure, and the counters that bound a compilation or a rendering.
// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/chat_template/value.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define CHUNK_BYTES ((size_t)16 << 10)

struct jchunk {
    jchunk *next;
    size_t used, cap;
    _Alignas(16) char data[];
};

// Lines end at \n (the source's line ends were made so); columns count characters from 1.
static void place(const jctx *c, size_t *line, size_t *column) {
    size_t i = 0;
    *line = *column = 1;
    while (i < c->at && i < c->source_len) {
        bool newline = c->source[i] == '\n';
        utf8_next(c->source, c->source_len, &i);
        *line += newline;
        *column = newline ? 1 : *column + 1;
    }
}

void jinja_fail(jctx *c, wtl_status status, const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t line, column;
    place(c, &line, &column);
    c->status = status;
    if (status == WTL_ERR_INVALID) wtl_fail(c->err, status, "%s", text);
    else wtl_fail(c->err, status, "%.80s, line %zu, column %zu: %s", c->name, line, column, text);
    longjmp(c->escape, 1);
}

void jinja_charge(jctx *c, uint64_t steps) {
    if (steps > c->fuel) jinja_fail(c, WTL_ERR_LIMIT, "the template takes too many steps");
    c->fuel -= steps;
}

void jinja_charge_bytes(jctx *c, size_t bytes) { jinja_charge(c, bytes / 64); }

void jinja_enter(jctx *c) {
    if (c->depth >= c->depth_max) jinja_fail(c, WTL_ERR_LIMIT, "nested deeper than %u levels", (unsigned)c->depth_max);
    c->depth++;
}

void *jinja_alloc(jctx *c, size_t bytes) {
    size_t size, total;
    if (!wtl_align_size(bytes ? bytes : 1, 16, &size)) jinja_fail(c, WTL_ERR_LIMIT, "a value is too large");
    jchunk *chunk = c->chunks;
    if (!chunk || chunk->cap - chunk->used < size) {
        size_t cap = size > CHUNK_BYTES / 4 ? size : CHUNK_BYTES;
        if (!wtl_add_size(cap, sizeof(jchunk), &total) || total > c->memory_left) jinja_fail(c, WTL_ERR_LIMIT, "the template needs too much memory");
        chunk = wtl_malloc(total);
        if (!chunk) jinja_fail(c, WTL_ERR_NO_MEMORY, "out of memory");
        c->memory_left -= total;
        chunk->used = 0;
        chunk->cap = cap;
        // A chunk of one large value goes behind the current one, which still has room.
        bool behind = cap == size && c->chunks;
        chunk->next = behind ? c->chunks->next : c->chunks;
        if (behind) c->chunks->next = chunk;
        else c->chunks = chunk;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += size;
    return memset(p, 0, bytes);
}

void *jinja_array(jctx *c, size_t count, size_t bytes) {
    size_t total;
    if (!wtl_mul_size(count, bytes, &total)) jinja_fail(c, WTL_ERR_LIMIT, "a value is too large");
    return jinja_alloc(c, total);
}

void jinja_free_all(jctx *c) {
    for (jchunk *chunk = c->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        wtl_free(chunk);
    }
    c->chunks = NULL;
}
