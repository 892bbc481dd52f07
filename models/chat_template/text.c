// Text: characters, slices, the builder, and the marks that follow every byte.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/value.h"

uint32_t utf8_next(const char *p, size_t len, size_t *i) {
    const unsigned char *s = (const unsigned char *)p + *i;
    size_t left = len - *i;
    uint32_t a = s[0];
    (*i)++;
    if (a < 0x80) return a;
    size_t n = a >= 0xC2 && a < 0xE0 ? 1 : a >= 0xE0 && a < 0xF0 ? 2 : a >= 0xF0 && a < 0xF5 ? 3 : 0;
    if (!n || left <= n) return 0x110000 + a;
    uint32_t cp = a & (0x3Fu >> n);
    for (size_t k = 1; k <= n; k++) {
        if ((s[k] & 0xC0) != 0x80) return 0x110000 + a;
        cp = cp << 6 | (s[k] & 0x3Fu);
    }
    if ((n == 2 && cp < 0x800) || (n == 3 && (cp < 0x10000 || cp > 0x10FFFF))) return 0x110000 + a;
    *i += n;
    return cp;
}

size_t utf8_back(const char *p, size_t i) {
    size_t start = i - 1;
    while (start > 0 && i - start < 4 && ((unsigned char)p[start] & 0xC0) == 0x80) start--;
    size_t end = start;
    utf8_next(p, i, &end);
    return end == i ? start : i - 1;
}

size_t utf8_write(char *out, uint32_t cp) {
    if (cp >= 0x110000) return out[0] = (char)(cp - 0x110000), 1;
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) return out[0] = (char)(0xC0 | cp >> 6), out[1] = (char)(0x80 | (cp & 0x3F)), 2;
    if (cp < 0x10000)
        return out[0] = (char)(0xE0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 0x3F)), out[2] = (char)(0x80 | (cp & 0x3F)), 3;
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

// ---- The builder -----------------------------------------------------------------------------------------------------------
void build_open(jbuild *b, jctx *c) { *b = (jbuild){.c = c}; }

static void build_reserve(jbuild *b, size_t more) {
    jctx *c = b->c;
    if (more > c->output_max || b->len > c->output_max - more) jinja_fail(c, WTL_ERR_LIMIT, "a text is longer than %llu bytes", (unsigned long long)c->output_max);
    if (b->cap - b->len >= more) return;
    size_t cap = b->len + more;
    if (b->cap) cap += cap / 2 < 32 ? 32 : cap / 2;
    char *p = jinja_alloc(c, cap);
    if (b->len) memcpy(p, b->p, b->len);
    b->p = p;
    if (b->mask) {
        uint8_t *mask = jinja_alloc(c, cap);
        memcpy(mask, b->mask, b->len);
        b->mask = mask;
    }
    b->cap = cap;
}

void build_bytes(jbuild *b, const char *p, size_t len, const uint8_t *mask, uint8_t taint) {
    if (!len) return;
    jinja_charge_bytes(b->c, len);
    build_reserve(b, len);
    memcpy(b->p + b->len, p, len);
    if (!b->len && taint != TAINT_MIXED) b->taint = taint;
    else if (b->taint != taint || taint == TAINT_MIXED) {
        if (!b->mask) {
            b->mask = jinja_alloc(b->c, b->cap);
            memset(b->mask, b->taint == TAINT_ALL, b->len);
        }
        b->taint = TAINT_MIXED;
    }
    if (b->taint == TAINT_MIXED) {
        if (taint == TAINT_MIXED) memcpy(b->mask + b->len, mask, len);
        else memset(b->mask + b->len, taint == TAINT_ALL, len);
    }
    b->len += len;
}

void build_part(jbuild *b, const jstr *s, size_t from, size_t to) {
    build_bytes(b, s->p + from, to - from, s->mask ? s->mask + from : NULL, s->taint);
}

void build_text(jbuild *b, const jstr *s) { build_part(b, s, 0, s->len); }

void build_literal(jbuild *b, const char *s) { build_bytes(b, s, strlen(s), NULL, TAINT_NONE); }

void build_char(jbuild *b, uint32_t cp, bool tainted) {
    char out[4];
    size_t n = utf8_write(out, cp);
    build_bytes(b, out, n, NULL, tainted ? TAINT_ALL : TAINT_NONE);
}

void build_fill(jbuild *b, const jstr *s, size_t times) {
    for (size_t i = 0; s->len && i < times; i++) {
        jinja_charge(b->c, 1);
        build_text(b, s);
    }
}

jstr *build_done(jbuild *b) {
    jstr *s = jinja_alloc(b->c, sizeof *s);
    *s = (jstr){.p = b->p ? b->p : "", .len = b->len, .n_chars = SIZE_MAX, .taint = b->taint};
    if (b->taint == TAINT_MIXED) s->mask = b->mask;
    return s;
}

// ---- Texts -----------------------------------------------------------------------------------------------------------------
jstr *str_make(jctx *c, const char *p, size_t len, bool tainted) {
    jstr *s = jinja_alloc(c, sizeof *s);
    *s = (jstr){.p = p, .len = len, .n_chars = SIZE_MAX, .taint = tainted ? TAINT_ALL : TAINT_NONE};
    return s;
}

jstr *str_literal(jctx *c, const char *text) { return str_make(c, text, strlen(text), false); }

jstr *str_part(jctx *c, const jstr *s, size_t from, size_t to) {
    if (from >= to) from = to = 0;
    jstr *part = str_make(c, s->p + from, to - from, s->taint == TAINT_ALL);
    if (s->taint == TAINT_MIXED) {
        part->taint = TAINT_MIXED;
        part->mask = s->mask + from;
    }
    part->markup = s->markup;
    return part;
}

jstr *str_plain(jctx *c, const jstr *s) {
    jstr *plain = str_part(c, s, 0, s->len);
    plain->markup = false;
    return plain;
}

static void buffer_mark(jbuffer *buffer, size_t at, const jstr *s) {
    if (s->taint == TAINT_MIXED) memcpy(buffer->mask + at, s->mask, s->len);
    else memset(buffer->mask + at, s->taint == TAINT_ALL, s->len);
}

// a + b. Where a ends in a buffer with room, only b is copied: the bytes before belong to older texts, which do not change.
jstr *str_concat(jctx *c, const jstr *a, const jstr *b) {
    size_t len = a->len + b->len;
    if (len > c->output_max) jinja_fail(c, WTL_ERR_LIMIT, "a text is longer than %llu bytes", (unsigned long long)c->output_max);
    bool mixed = a->taint == TAINT_MIXED || b->taint == TAINT_MIXED || (a->len && b->len && a->taint != b->taint);
    jbuffer *buffer = a->buffer;
    bool room = buffer && a->p + a->len == buffer->p + buffer->used && buffer->cap - buffer->used >= b->len && (!mixed || buffer->mask);
    if (!room) {
        jinja_charge_bytes(c, a->len);
        buffer = jinja_alloc(c, sizeof *buffer);
        buffer->cap = len < 128 ? len : len * 2;
        buffer->p = jinja_alloc(c, buffer->cap);
        if (mixed) buffer->mask = jinja_alloc(c, buffer->cap);
        memcpy(buffer->p, a->p, a->len);
        if (mixed) buffer_mark(buffer, 0, a);
        buffer->used = a->len;
    }
    jinja_charge_bytes(c, b->len);
    jstr *s = str_make(c, buffer->p + buffer->used - a->len, len, (a->len ? a->taint : b->taint) == TAINT_ALL);
    memcpy(buffer->p + buffer->used, b->p, b->len);
    if (buffer->mask) buffer_mark(buffer, buffer->used, b);
    if (mixed) {
        s->taint = TAINT_MIXED;
        s->mask = buffer->mask + (s->p - buffer->p);
    }
    buffer->used += b->len;
    s->buffer = buffer;
    return s;
}

jstr *str_escape(jctx *c, const jstr *s) {
    jbuild b;
    build_open(&b, c);
    size_t done = 0;
    for (size_t i = 0; i < s->len; i++) {
        const char *by = s->p[i] == '&' ? "&amp;" : s->p[i] == '<' ? "&lt;" : s->p[i] == '>' ? "&gt;" : s->p[i] == '"' ? "&#34;" : s->p[i] == '\'' ? "&#39;" : NULL;
        if (!by) continue;
        build_part(&b, s, done, i);
        build_bytes(&b, by, strlen(by), NULL, str_tainted(s, i, i + 1) ? TAINT_ALL : TAINT_NONE);
        done = i + 1;
    }
    build_part(&b, s, done, s->len);
    jstr *out = build_done(&b);
    out->markup = true;
    return out;
}

bool str_tainted(const jstr *s, size_t from, size_t to) {
    if (s->taint != TAINT_MIXED) return s->taint == TAINT_ALL && from < to;
    return from < to && memchr(s->mask + from, 1, to - from);
}

size_t str_chars(jctx *c, const jstr *s) {
    if (s->n_chars != SIZE_MAX) return s->n_chars;
    jinja_charge_bytes(c, s->len);
    size_t n = 0;
    for (size_t i = 0; i < s->len; n++) utf8_next(s->p, s->len, &i);
    ((jstr *)s)->n_chars = n; // texts of a compiled template were counted when it was compiled
    return n;
}

size_t str_offset(jctx *c, const jstr *s, size_t n_chars) {
    if (n_chars >= str_chars(c, s)) return s->len;
    if (s->n_chars == s->len) return n_chars;
    jinja_charge_bytes(c, n_chars);
    size_t i = 0;
    while (n_chars-- > 0) utf8_next(s->p, s->len, &i);
    return i;
}

bool str_same(const jstr *a, const jstr *b) { return a->len == b->len && !memcmp(a->p, b->p, a->len); }
bool str_is(const jstr *s, const char *literal) { return s->len == strlen(literal) && !memcmp(s->p, literal, s->len); }

int str_compare(const jstr *a, const jstr *b) {
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n ? memcmp(a->p, b->p, n) : 0;
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

size_t str_find(jctx *c, const jstr *s, const jstr *what, size_t from, size_t to) {
    if (from > to || what->len > to - from) return SIZE_MAX;
    jinja_charge_bytes(c, to - from);
    const char *hit = what->len ? memmem(s->p + from, to - from, what->p, what->len) : s->p + from;
    return hit ? (size_t)(hit - s->p) : SIZE_MAX;
}

size_t str_rfind(jctx *c, const jstr *s, const jstr *what, size_t from, size_t to) {
    if (from > to || what->len > to - from) return SIZE_MAX;
    for (size_t i = to - what->len;; i--) {
        if (!memcmp(s->p + i, what->p, what->len)) return i;
        if (i == from) return SIZE_MAX;
        if (i % 64 == 0) jinja_charge(c, 1 + what->len / 64);
    }
}
