// "..." % values, as Python formats them. A %c of a number is tainted: a number from outside must not become a control character.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/chat_template/format.h"

typedef struct percent {
    jctx *c;
    const jstr *f;
    size_t i;
    jval args;     // a tuple's items are taken one by one; a mapping is looked up by name
    size_t taken;
    bool used_map;
} percent;

static jval take(percent *p) {
    if (p->args.type == V_TUPLE) {
        if (p->taken >= p->args.list->n) fail_type(p->c, "not enough arguments for format string");
        return p->args.list->items[p->taken++];
    }
    if (p->taken++) fail_type(p->c, "not enough arguments for format string");
    return p->args;
}

static char peek(const percent *p) {
    if (p->i >= p->f->len) fail_value(p->c, "incomplete format");
    return p->f->p[p->i];
}

// (name) behind the percent sign.
static bool take_named(percent *p, jval *v) {
    if (peek(p) != '(') return false;
    size_t from = ++p->i, open = 1;
    if (p->args.type != V_DICT) fail_type(p->c, "format requires a mapping");
    for (; open; p->i++) open += (peek(p) == '(') - (peek(p) == ')');
    jval *found = dict_get_text(p->c, p->args.dict, str_part(p->c, p->f, from, p->i - 1));
    if (!found) fail_value(p->c, "the format names a key that is not there");
    p->used_map = true;
    *v = *found;
    return true;
}

static int number(percent *p) {
    int64_t n = 0;
    if (peek(p) == '*') {
        p->i++;
        n = arg_int(p->c, "*", take(p));
        if (n < -FORMAT_WIDTH_MAX || n > FORMAT_WIDTH_MAX) fail_value(p->c, "width too big");
        return (int)n;
    }
    for (; peek(p) >= '0' && peek(p) <= '9'; p->i++)
        if ((n = n * 10 + (peek(p) - '0')) > FORMAT_WIDTH_MAX) fail_value(p->c, "width too big");
    return (int)n;
}

static void write_char(percent *p, jbuild *b, format_spec *spec, jval v) {
    jbuild one;
    if (v.type == V_STR) {
        if (str_chars(p->c, v.s) != 1) fail_type(p->c, "%%c requires int or char");
        format_pad(b, spec, v.s);
        return;
    }
    int64_t cp;
    if (!val_is_int(v, &cp)) fail_type(p->c, "%%c requires int or char");
    if (cp < 0 || cp >= 0x110000) fail_value(p->c, "%%c arg not in range(0x110000)");
    build_open(&one, p->c);
    build_char(&one, (uint32_t)cp, true);
    format_pad(b, spec, build_done(&one));
}

static void write_number(percent *p, jbuild *b, format_spec *spec, jval v) {
    if (v.type == V_UNDEFINED) fail_undefined(p->c, v);
    bool real = strchr("eEfFgG", spec->type) != NULL;
    double f;
    if (!val_is_number(v, &f)) fail_type(p->c, "%%%c format: a real number is required, not %s", spec->type, val_type_name(v));
    if (!real && v.type == V_REAL) {
        if (strchr("xXo", spec->type)) fail_type(p->c, "%%%c format: an integer is required, not float", spec->type);
        if (!isfinite(v.f) || fabs(v.f) >= 9.2e18) fail_value(p->c, "the number is too large for %%%c", spec->type);
        v = val_int((int64_t)v.f);
    }
    if (spec->type == 'i' || spec->type == 'u') spec->type = 'd';
    if (spec->align == '\0') spec->align = spec->zero ? '=' : '>';
    if (spec->align == '<') spec->zero = false;
    format_number(b, spec, v);
}

static void directive(percent *p, jbuild *b) {
    format_spec spec = {.precision = -1};
    jval v = val_missing();
    bool named = take_named(p, &v);
    for (; strchr("#0- +", peek(p)) && peek(p); p->i++) {
        char flag = peek(p);
        if (flag == '#') spec.alternate = true;
        else if (flag == '0') spec.zero = true;
        else if (flag == '-') spec.align = '<';
        else if (flag == '+' || !spec.sign) spec.sign = flag;
    }
    spec.width = number(p);
    if (spec.width < 0) spec.align = '<', spec.width = -spec.width;
    if (peek(p) == '.') {
        p->i++;
        spec.precision = number(p);
        if (spec.precision < 0) spec.precision = 0;
    }
    if (strchr("hlL", peek(p)) && peek(p)) p->i++;
    spec.type = peek(p);
    p->i++;
    if (spec.type == '%') {
        build_literal(b, "%");
        return;
    }
    if (!spec.type || !strchr("sradiuxXoeEfFgGc", spec.type)) fail_value(p->c, "unsupported format character '%c'", spec.type >= ' ' ? spec.type : '?');
    if (!named) v = take(p);
    if (spec.type == 'c') write_char(p, b, &spec, v);
    else if (strchr("sra", spec.type)) {
        jstr *s = spec.type == 's' ? val_str_of(p->c, v) : val_repr_of(p->c, v);
        if (spec.type == 's' && p->f->markup && !s->markup) s = str_escape(p->c, s);
        format_text(b, &spec, spec.type == 'a' ? format_ascii(p->c, s) : s);
    } else write_number(p, b, &spec, v);
}

jstr *format_percent(jctx *c, const jstr *format, jval args) {
    percent p = {.c = c, .f = format, .args = args};
    jbuild b;
    build_open(&b, c);
    while (p.i < format->len) {
        const char *sign = memchr(format->p + p.i, '%', format->len - p.i);
        size_t stop = sign ? (size_t)(sign - format->p) : format->len;
        build_part(&b, format, p.i, stop);
        p.i = stop;
        if (!sign) break;
        p.i++;
        jinja_charge(c, 1);
        directive(&p, &b);
    }
    bool left = args.type == V_TUPLE ? p.taken < args.list->n : !p.taken && args.type != V_DICT && args.type != V_LIST && args.type != V_RANGE && args.type != V_UNDEFINED;
    if (left && !p.used_map) fail_type(c, "not all arguments converted during string formatting");
    jstr *out = build_done(&b);
    out->markup = format->markup;
    return out;
}
