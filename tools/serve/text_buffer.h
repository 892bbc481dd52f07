// Bytes that grow: events and bodies are written into it piece by piece.
//
// Memory that runs out sets `failed` and drops what follows, so a writer checks once, at the end. Zero-initialise; text_free empties it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_TEXT_BUFFER_H
#define WTL_TOOLS_SERVE_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

typedef struct text_buffer {
    char *bytes; // [cap] of large_bytes.h; not terminated
    size_t len, cap;
    bool failed;
} text_buffer;

bool text_reserve(text_buffer *b, size_t more); // room for `more` bytes behind len
void text_put(text_buffer *b, const char *bytes, size_t len);
void text_puts(text_buffer *b, const char *text);
void text_printf(text_buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3))); // at most 255 bytes
void text_put_string(text_buffer *b, const char *utf8, size_t len); // as a JSON string, with its quotes
void text_put_real(text_buffer *b, double value);                   // as a JSON number; what is no finite number: null
void text_put_json(text_buffer *b, const json_t *value);            // in one line; NULL (out of memory) fails the buffer
void text_free(text_buffer *b);

#endif
