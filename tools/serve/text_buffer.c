// Bytes that grow. See text_buffer.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/text_buffer.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tools/serve/large_bytes.h"

bool text_reserve(text_buffer *b, size_t more) {
    if (b->failed) return false;
    if (more <= b->cap - b->len) return true;
    size_t cap = more > SIZE_MAX / 4 || b->cap > SIZE_MAX / 4 ? 0 : 2 * b->cap + more + 64;
    char *grown = cap ? large_resize(b->bytes, b->cap, cap) : NULL;
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->bytes = grown;
    b->cap = cap;
    return true;
}

void text_put(text_buffer *b, const char *bytes, size_t len) {
    if (len == 0 || !text_reserve(b, len)) return;
    memcpy(b->bytes + b->len, bytes, len);
    b->len += len;
}

void text_puts(text_buffer *b, const char *text) { text_put(b, text, strlen(text)); }

void text_printf(text_buffer *b, const char *format, ...) {
    char piece[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof piece) b->failed = true;
    else text_put(b, piece, (size_t)n);
}

void text_put_string(text_buffer *b, const char *utf8, size_t len) {
    if (len == 0) {
        text_put(b, "\"\"", 2);
        return;
    }
    text_put(b, "\"", 1);
    size_t plain = 0; // start of the bytes that need no escape
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)utf8[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        text_put(b, utf8 + plain, i - plain);
        plain = i + 1;
        if (c == '"' || c == '\\') text_printf(b, "\\%c", c);
        else if (c == '\n') text_put(b, "\\n", 2);
        else text_printf(b, "\\u%04x", c);
    }
    text_put(b, utf8 + plain, len - plain);
    text_put(b, "\"", 1);
}

void text_put_real(text_buffer *b, double value) {
    if (isfinite(value)) text_printf(b, "%.9g", value);
    else text_put(b, "null", 4);
}

static int put_piece(const char *bytes, size_t len, void *buffer) {
    text_put(buffer, bytes, len);
    return ((text_buffer *)buffer)->failed ? -1 : 0;
}

void text_put_json(text_buffer *b, const json_t *value) {
    if (!value || json_dump_callback(value, put_piece, b, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) != 0) b->failed = true;
}

void text_free(text_buffer *b) {
    large_free(b->bytes, b->cap);
    *b = (text_buffer){0};
}
