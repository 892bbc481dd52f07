// What several methods and filters do with text: strip, split, replace, join, centre, numbers read from text.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat_template/value.h"

static bool in_set(const jstr *s, size_t from, size_t to, const jstr *chars) {
    size_t i = from;
    if (!chars) return cp_space(utf8_next(s->p, s->len, &i));
    for (size_t k = 0; k < chars->len;) {
        size_t start = k;
        utf8_next(chars->p, chars->len, &k);
        if (k - start == to - from && !memcmp(chars->p + start, s->p + from, to - from)) return true;
    }
    return false;
}

// chars NULL: whitespace.
jstr *str_strip(jctx *c, const jstr *s, const jstr *chars, bool left, bool right) {
    size_t from = 0, to = s->len;
    while (left && from < to) {
        size_t i = from;
        utf8_next(s->p, s->len, &i);
        if (!in_set(s, from, i, chars)) break;
        jinja_charge(c, 1 + (chars ? chars->len / 16 : 0));
        from = i;
    }
    while (right && to > from) {
        size_t i = utf8_back(s->p, to);
        if (!in_set(s, i, to, chars)) break;
        jinja_charge(c, 1 + (chars ? chars->len / 16 : 0));
        to = i;
    }
    return str_part(c, s, from, to);
}

static jstr *replace_nothing(jctx *c, const jstr *s, const jstr *by, int64_t count) {
    jbuild b;
    build_open(&b, c);
    size_t i = 0;
    while (count != 0 && i <= s->len) {
        build_text(&b, by);
        if (count > 0) count--;
        if (i == s->len) return build_done(&b);
        size_t from = i;
        utf8_next(s->p, s->len, &i);
        jinja_charge(c, 1);
        build_part(&b, s, from, i);
    }
    build_part(&b, s, i, s->len);
    return build_done(&b);
}

jstr *str_replace(jctx *c, const jstr *s, const jstr *old, const jstr *by, int64_t count) {
    jstr *out;
    if (!old->len) out = replace_nothing(c, s, by, count);
    else {
        jbuild b;
        build_open(&b, c);
        size_t done = 0, hit;
        while (count != 0 && (hit = str_find(c, s, old, done, s->len)) != SIZE_MAX) {
            jinja_charge(c, 1);
            build_part(&b, s, done, hit);
            build_text(&b, by);
            done = hit + old->len;
            if (count > 0) count--;
        }
        build_part(&b, s, done, s->len);
        out = build_done(&b);
    }
    out->markup = s->markup;
    return out;
}

static void push_part(jctx *c, jlist *l, const jstr *s, size_t from, size_t to) { list_push(c, l, val_str(str_part(c, s, from, to))); }

static size_t skip_spaces(const jstr *s, size_t i, bool spaces) {
    while (i < s->len) {
        size_t next = i;
        if (cp_space(utf8_next(s->p, s->len, &next)) != spaces) break;
        i = next;
    }
    return i;
}

static size_t back_spaces(const jstr *s, size_t i, bool spaces) {
    while (i > 0) {
        size_t start = utf8_back(s->p, i), k = start;
        if (cp_space(utf8_next(s->p, s->len, &k)) != spaces) break;
        i = start;
    }
    return i;
}

// sep NULL: at runs of whitespace. max < 0: all.
jlist *str_split(jctx *c, const jstr *s, const jstr *sep, int64_t max) {
    jlist *l = list_new(c, 0);
    size_t i = 0, hit;
    if (!sep) {
        jinja_charge_bytes(c, s->len);
        for (i = skip_spaces(s, 0, true); i < s->len; i = skip_spaces(s, i, true)) {
            size_t end = max == 0 ? s->len : skip_spaces(s, i, false);
            push_part(c, l, s, i, end);
            if (max > 0) max--;
            i = end;
        }
        return l;
    }
    if (!sep->len) fail_value(c, "empty separator");
    while (max != 0 && (hit = str_find(c, s, sep, i, s->len)) != SIZE_MAX) {
        push_part(c, l, s, i, hit);
        i = hit + sep->len;
        if (max > 0) max--;
    }
    push_part(c, l, s, i, s->len);
    return l;
}

jlist *str_rsplit(jctx *c, const jstr *s, const jstr *sep, int64_t max) {
    jlist *l = list_new(c, 0);
    size_t end = s->len, hit;
    if (!sep) {
        jinja_charge_bytes(c, s->len);
        for (end = back_spaces(s, end, true); end > 0; end = back_spaces(s, end, true)) {
            size_t start = max == 0 ? 0 : back_spaces(s, end, false);
            push_part(c, l, s, start, end);
            if (max == 0) break;
            if (max > 0) max--;
            end = start;
        }
    } else {
        if (!sep->len) fail_value(c, "empty separator");
        while (max != 0 && (hit = str_rfind(c, s, sep, 0, end)) != SIZE_MAX) {
            push_part(c, l, s, hit + sep->len, end);
            end = hit;
            if (max > 0) max--;
        }
        push_part(c, l, s, 0, end);
    }
    for (size_t i = 0; i < l->n / 2; i++) {
        jval swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
    return l;
}

static bool line_end(uint32_t cp) { return (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029; }

jlist *str_lines(jctx *c, const jstr *s, bool keep_ends) {
    jlist *l = list_new(c, 0);
    size_t from = 0;
    jinja_charge_bytes(c, s->len);
    for (size_t i = 0; i < s->len;) {
        size_t at = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        if (!line_end(cp)) continue;
        if (cp == '\r' && i < s->len && s->p[i] == '\n') i++;
        push_part(c, l, s, from, keep_ends ? i : at);
        from = i;
    }
    if (from < s->len) push_part(c, l, s, from, s->len);
    return l;
}

jstr *str_center(jctx *c, const jstr *s, int64_t width, const jstr *fill) {
    int64_t n = (int64_t)str_chars(c, s);
    if (width <= n) return str_part(c, s, 0, s->len);
    int64_t pad = width - n, left = pad / 2 + (pad & width & 1);
    jbuild b;
    build_open(&b, c);
    build_fill(&b, fill, (size_t)left);
    build_text(&b, s);
    build_fill(&b, fill, (size_t)(pad - left));
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}

// Items must be text already.
jstr *str_join(jctx *c, const jstr *sep, jlist *items) {
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < items->n; i++) {
        if (i) build_text(&b, sep);
        build_text(&b, items->items[i].s);
    }
    return build_done(&b);
}

// ---- Numbers in text -------------------------------------------------------------------------------------------------------
static int digit(char ch) { return ch >= '0' && ch <= '9' ? ch - '0' : (ch | 0x20) >= 'a' && (ch | 0x20) <= 'z' ? (ch | 0x20) - 'a' + 10 : 99; }

static void trim_number(const jstr *s, size_t *from, size_t *to) {
    *from = skip_spaces(s, 0, true);
    *to = back_spaces(s, s->len, true);
}

// int(s, base): signs, prefixes, underscores between digits.
bool parse_int(const jstr *s, int64_t base, int64_t *out, bool *too_big) {
    size_t i, to;
    *too_big = false;
    *out = 0;
    trim_number(s, &i, &to);
    bool negative = i < to && s->p[i] == '-';
    if (i < to && (s->p[i] == '-' || s->p[i] == '+')) i++;
    char kind = i + 1 < to && s->p[i] == '0' ? (char)(s->p[i + 1] | 0x20) : '\0';
    int64_t prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    bool zero_only = false;
    if (prefix && (base == 0 || base == prefix)) {
        base = prefix;
        i += 2;
        if (i < to && s->p[i] == '_') i++;
    } else if (base == 0) {
        base = 10;
        zero_only = i < to && s->p[i] == '0';
    }
    if (i >= to || digit(s->p[i]) >= base) return false;
    for (; i < to; i++) {
        if (s->p[i] == '_' && i + 1 < to && s->p[i - 1] != '_') continue;
        int d = digit(s->p[i]);
        if (d >= base || s->p[i] == '_') return false;
        if (zero_only && d) return false;
        if (__builtin_mul_overflow(*out, base, out) || (negative ? __builtin_sub_overflow(*out, (int64_t)d, out) : __builtin_add_overflow(*out, (int64_t)d, out))) *too_big = true;
    }
    return true;
}

static bool real_word(const char *p, size_t n, double *out) {
    static const struct {
        const char *word;
        double value;
    } words[] = {{"inf", INFINITY}, {"infinity", INFINITY}, {"nan", NAN}};
    for (size_t k = 0; k < 3; k++) {
        if (strlen(words[k].word) != n) continue;
        size_t i = 0;
        while (i < n && (p[i] | 0x20) == words[k].word[i]) i++;
        if (i == n) return *out = words[k].value, true;
    }
    return false;
}

// float(s): no hexadecimal, underscores between digits, inf and nan by name.
bool parse_real(jctx *c, const jstr *s, double *out) {
    size_t from, to, n = 0, digits = 0;
    trim_number(s, &from, &to);
    if (from >= to) return false;
    jinja_charge_bytes(c, to - from);
    bool sign = s->p[from] == '-' || s->p[from] == '+';
    if (real_word(s->p + from + sign, to - from - sign, out)) {
        if (s->p[from] == '-') *out = -*out;
        return true;
    }
    char *text = jinja_alloc(c, to - from + 1), *end;
    for (size_t i = from; i < to; i++) {
        char ch = s->p[i];
        bool is_digit = ch >= '0' && ch <= '9';
        if (ch == '_' && i > from && i + 1 < to && digit(s->p[i - 1]) < 10 && digit(s->p[i + 1]) < 10) continue;
        if (!is_digit && !strchr("+-.eE", ch)) return false;
        if (!ch) return false;
        digits += is_digit;
        text[n++] = ch;
    }
    if (!digits) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}
