// One value by a format specification: sign, digits, grouping, padding.
// SPDX-License-Identifier: Apache-2.0
#include "models/chat_template/format.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PRECISION_MAX 400

void format_pad(jbuild *b, const format_spec *spec, const jstr *s) {
    const jstr *fill = spec->fill ? spec->fill : str_literal(b->c, " ");
    size_t n = str_chars(b->c, s), more = (size_t)spec->width > n ? (size_t)spec->width - n : 0;
    size_t left = spec->align == '<' ? 0 : spec->align == '^' ? more / 2 : more;
    build_fill(b, fill, left);
    build_text(b, s);
    build_fill(b, fill, more - left);
}

void format_text(jbuild *b, const format_spec *spec, const jstr *s) {
    if (spec->precision >= 0) s = str_part(b->c, s, 0, str_offset(b->c, s, (size_t)spec->precision));
    format_pad(b, spec, s);
}

jstr *format_ascii(jctx *c, const jstr *s) {
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        char out[16];
        if (cp < 0x80) {
            build_part(&b, s, from, i);
            continue;
        }
        int n = cp < 0x100 ? snprintf(out, sizeof out, "\\x%02x", cp) : cp < 0x10000 ? snprintf(out, sizeof out, "\\u%04x", cp) : snprintf(out, sizeof out, "\\U%08x", cp);
        build_bytes(&b, out, (size_t)n, NULL, str_tainted(s, from, i) ? TAINT_ALL : TAINT_NONE);
    }
    return build_done(&b);
}

static size_t int_digits(char *out, uint64_t v, unsigned base, bool upper) {
    char reversed[70];
    size_t n = 0;
    do reversed[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[v % base];
    while ((v /= base));
    for (size_t i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    out[n] = '\0';
    return n;
}

// Digits without a sign into `out`; the prefix (0x) goes to `prefix`. An integer's precision is a least number of digits.
static void int_text(const format_spec *spec, uint64_t v, char *out, const char **prefix) {
    char type = spec->type;
    unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    char digits[70];
    size_t n = int_digits(digits, v, base, type == 'X'), zeros = spec->precision > (int)n ? (size_t)spec->precision - n : 0;
    if (zeros > PRECISION_MAX) zeros = PRECISION_MAX;
    memset(out, '0', zeros);
    memcpy(out + zeros, digits, n + 1);
    *prefix = !spec->alternate || base == 10 ? "" : type == 'x' ? "0x" : type == 'X' ? "0X" : type == 'o' ? "0o" : "0b";
}

static void real_text(const format_spec *spec, double f, char *out, size_t cap) {
    char type = spec->type, c_format[16];
    int precision = spec->precision < 0 ? 6 : spec->precision > PRECISION_MAX ? PRECISION_MAX : spec->precision;
    if (!isfinite(f)) {
        snprintf(out, cap, isnan(f) ? (isupper(type) ? "NAN" : "nan") : isupper(type) ? "INF" : "inf");
        return;
    }
    if (type == '\0' && spec->precision < 0) {
        real_repr(out, f);
        return;
    }
    if (type == '%') f *= 100;
    char letter = type == '%' ? 'f' : type == '\0' || type == 'n' ? 'g' : type;
    snprintf(c_format, sizeof c_format, spec->alternate ? "%%#.*%c" : "%%.*%c", letter);
    if (precision == 0 && (type == '\0')) precision = 1;
    snprintf(out, cap, c_format, precision, f);
    if (type == '\0' && !strpbrk(out, ".e")) strcat(out, ".0");
    if (type == '%') strcat(out, "%");
}

// The whole digits in groups, separators between, with leading zeros up to `width` characters when zero-padded.
static void write_grouped(jbuild *b, const char *digits, char grouping, size_t group, size_t width) {
    size_t whole = strspn(digits, group == 4 ? "0123456789abcdefABCDEF" : "0123456789"), rest = strlen(digits) - whole, zeros = 0;
    while (grouping && whole + zeros + (whole + zeros - 1) / group + rest < width) zeros++;
    for (size_t i = 0, n = whole + zeros; i < n; i++) {
        build_char(b, (uint32_t)(unsigned char)(i < zeros ? '0' : digits[i - zeros]), false);
        if (n - i > 1 && (n - i - 1) % group == 0) build_char(b, (uint32_t)grouping, false);
    }
    build_literal(b, digits + whole);
}

void format_number(jbuild *b, const format_spec *spec, jval v) {
    char digits[1200];
    const char *prefix = "";
    bool real = v.type == V_REAL || (spec->type && strchr("eEfFgG%", spec->type)), negative;
    double f;
    int64_t i;
    if (real) {
        val_is_number(v, &f);
        negative = signbit(f) && !isnan(f);
        real_text(spec, fabs(f), digits, sizeof digits - 8);
    } else {
        val_is_int(v, &i);
        negative = i < 0;
        int_text(spec, negative ? 0 - (uint64_t)i : (uint64_t)i, digits, &prefix);
    }
    const char *sign = negative ? "-" : spec->sign == '+' ? "+" : spec->sign == ' ' ? " " : "";
    jbuild number, head;
    build_open(&head, b->c);
    build_literal(&head, sign);
    build_literal(&head, prefix);
    size_t width = (size_t)spec->width, used = head.len;
    bool inner = spec->align == '=' || (!spec->align && spec->zero);
    build_open(&number, b->c);
    if (spec->grouping) write_grouped(&number, digits, spec->grouping, strchr("xXob", spec->type) && spec->type ? 4 : 3, inner && spec->zero && width > used ? width - used : 0);
    else build_literal(&number, digits);
    const jstr *fill = spec->fill ? spec->fill : str_literal(b->c, spec->zero ? "0" : " ");
    if (inner) {
        jstr *h = build_done(&head);
        build_text(b, h);
        if (width > used + number.len) build_fill(b, fill, width - used - number.len);
        build_text(b, build_done(&number));
        return;
    }
    build_text(&head, build_done(&number));
    format_spec outer = *spec;
    outer.fill = fill;
    if (!outer.align) outer.align = '>';
    format_pad(b, &outer, build_done(&head));
}
