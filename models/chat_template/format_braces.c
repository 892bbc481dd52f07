// str.format(): fields by position, by name, with attributes and items through the sandbox, conversions and format specifications.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/format.h"

typedef struct braces {
    jctx *c;
    const jargs *args;
    int64_t automatic; // next automatic position; -1 after an explicit one
    int level;
    bool markup; // values are escaped
} braces;

static void write_format(braces *x, jbuild *b, const jstr *f);

static jval field_root(braces *x, const jstr *name) {
    int64_t i;
    bool big;
    bool digits = name->len > 0;
    for (size_t k = 0; k < name->len; k++) digits = digits && name->p[k] >= '0' && name->p[k] <= '9';
    if (!name->len) {
        if (x->automatic < 0) fail_value(x->c, "cannot switch from manual field specification to automatic field numbering");
        i = x->automatic++;
    } else if (digits && parse_int(name, 10, &i, &big)) {
        if (x->automatic > 0) fail_value(x->c, "cannot switch from automatic field numbering to manual field specification");
        x->automatic = -1;
    } else {
        for (size_t k = 0; k < x->args->n_kw; k++)
            if (str_same(x->args->kw[k].name, name)) return x->args->kw[k].value;
        fail_value(x->c, "the format names an argument that is not given");
    }
    if (i < 0 || (uint64_t)i >= x->args->n_pos) fail_value(x->c, "Replacement index %lld out of range for positional args tuple", (long long)i);
    return x->args->pos[i];
}

// name(.attr | [key])*
static jval field_value(braces *x, const jstr *field) {
    jctx *c = x->c;
    size_t i = 0;
    while (i < field->len && field->p[i] != '.' && field->p[i] != '[') i++;
    jval v = field_root(x, str_part(c, field, 0, i));
    while (i < field->len) {
        bool item = field->p[i] == '[';
        size_t from = ++i;
        if (!item && field->p[from - 1] != '.') fail_value(c, "Only '.' or '[' may follow ']' in format field specifier");
        while (i < field->len && (item ? field->p[i] != ']' : field->p[i] != '.' && field->p[i] != '[')) i++;
        const jstr *name = str_part(c, field, from, i);
        if (!name->len) fail_value(c, "Empty attribute in format string");
        if (item && i++ >= field->len) fail_value(c, "Missing ']' in format string");
        int64_t number;
        bool big;
        if (!item) v = val_attr(c, v, name);
        else v = val_item(c, v, name->p[0] >= '0' && name->p[0] <= '9' && parse_int(name, 10, &number, &big) ? val_int(number) : val_str((jstr *)name));
    }
    return v;
}

static int spec_number(jctx *c, const jstr *s, size_t *i) {
    int64_t n = 0;
    for (; *i < s->len && s->p[*i] >= '0' && s->p[*i] <= '9'; ++*i)
        if ((n = n * 10 + (s->p[*i] - '0')) > FORMAT_WIDTH_MAX) fail_value(c, "Too many decimal digits in format string");
    return (int)n;
}

// [[fill]align][sign][#][0][width][grouping][.precision][type]
static format_spec spec_parse(jctx *c, const jstr *s) {
    format_spec spec = {.precision = -1};
    size_t i = 0, first = 0;
    if (s->len) utf8_next(s->p, s->len, &first);
    if (first && first < s->len && strchr("<>=^", s->p[first]) && s->p[first]) {
        spec.fill = str_part(c, s, 0, first);
        spec.align = s->p[first];
        i = first + 1;
    } else if (s->len && s->p[0] && strchr("<>=^", s->p[0])) spec.align = s->p[i++];
    if (i < s->len && s->p[i] && strchr("+- ", s->p[i])) spec.sign = s->p[i++];
    if (i < s->len && s->p[i] == '#') spec.alternate = true, i++;
    if (i < s->len && s->p[i] == '0') {
        spec.zero = true, i++;
        if (!spec.fill) spec.fill = str_literal(c, "0");
    }
    spec.width = spec_number(c, s, &i);
    if (i < s->len && (s->p[i] == ',' || s->p[i] == '_')) spec.grouping = s->p[i++];
    if (i < s->len && s->p[i] == '.') {
        size_t from = ++i;
        spec.precision = spec_number(c, s, &i);
        if (from == i) fail_value(c, "Format specifier missing precision");
    }
    if (i < s->len) spec.type = s->p[i++];
    if (i < s->len) fail_value(c, "Invalid format specifier");
    return spec;
}

static void write_value(jctx *c, jbuild *b, jval v, const jstr *spec_text) {
    format_spec spec = spec_parse(c, spec_text);
    if (!spec_text->len) {
        val_write(b, v);
        return;
    }
    bool integer = v.type == V_INT || v.type == V_BOOL, number = integer || v.type == V_REAL;
    if (number) {
        if (spec.type == 'c' && integer) {
            int64_t cp = arg_int(c, "format", v);
            jbuild one;
            if (cp < 0 || cp >= 0x110000) fail_value(c, "%%c arg not in range(0x110000)");
            build_open(&one, c);
            build_char(&one, (uint32_t)cp, true);
            if (!spec.align) spec.align = '<';
            format_pad(b, &spec, build_done(&one));
            return;
        }
        const char *legal = integer ? "bdoxXneEfFgG%" : "eEfFgG%n";
        if (spec.type && !strchr(legal, spec.type)) fail_value(c, "Unknown format code '%c' for object of type '%s'", spec.type >= ' ' ? spec.type : '?', val_type_name(v));
        if (integer && spec.precision >= 0 && !strchr("eEfFgG%", spec.type ? spec.type : 'd')) fail_value(c, "Precision not allowed in integer format specifier");
        if (integer && spec.type == 'n') spec.type = 'd';
        format_number(b, &spec, v);
        return;
    }
    if (v.type != V_STR) fail_type(c, "unsupported format string passed to %s.__format__", val_type_name(v));
    if ((spec.type && spec.type != 's') || spec.sign || spec.alternate || spec.grouping || spec.align == '=') fail_value(c, "Invalid format specifier for a text");
    if (!spec.align) spec.align = '<';
    format_text(b, &spec, v.s);
}

// What stands between the braces, [from, to) of f.
static void write_field(braces *x, jbuild *b, const jstr *f, size_t from, size_t to) {
    size_t end = from, bracket = 0;
    while (end < to && (bracket || (f->p[end] != ':' && f->p[end] != '!'))) {
        if (f->p[end] == '[') bracket = 1;
        if (f->p[end] == ']') bracket = 0;
        end++;
    }
    jval v = field_value(x, str_part(x->c, f, from, end));
    if (end < to && f->p[end] == '!') {
        char conversion = end + 1 < to ? f->p[end + 1] : '\0';
        end += 2;
        if (conversion != 's' && conversion != 'r' && conversion != 'a') fail_value(x->c, "Unknown conversion specifier");
        if (end < to && f->p[end] != ':') fail_value(x->c, "expected ':' after conversion specifier");
        jstr *s = conversion == 's' ? val_str_of(x->c, v) : val_repr_of(x->c, v);
        v = val_str(conversion == 'a' ? format_ascii(x->c, s) : s);
    }
    jbuild spec;
    build_open(&spec, x->c);
    if (end < to) {
        if (++x->level > 2) fail_value(x->c, "Max string recursion exceeded");
        write_format(x, &spec, str_part(x->c, f, end + 1, to));
        x->level--;
    }
    if (!x->markup || (v.type == V_STR && v.s->markup)) {
        write_value(x->c, b, v, build_done(&spec));
        return;
    }
    jbuild plain;
    build_open(&plain, x->c);
    write_value(x->c, &plain, v, build_done(&spec));
    build_text(b, str_escape(x->c, build_done(&plain)));
}

static void write_format(braces *x, jbuild *b, const jstr *f) {
    for (size_t i = 0; i < f->len; i++) {
        char ch = f->p[i];
        if (ch != '{' && ch != '}') {
            size_t from = i;
            while (i + 1 < f->len && f->p[i + 1] != '{' && f->p[i + 1] != '}') i++;
            build_part(b, f, from, i + 1);
            continue;
        }
        if (i + 1 < f->len && f->p[i + 1] == ch && x->level <= 1) {
            build_part(b, f, i, i + 1);
            i++;
            continue;
        }
        if (ch == '}') fail_value(x->c, "Single '}' encountered in format string");
        size_t from = i + 1, open = 1;
        for (i = from; i < f->len && open; i++) open += (size_t)(f->p[i] == '{') - (size_t)(f->p[i] == '}');
        if (open) fail_value(x->c, "expected '}' before end of string");
        i--;
        jinja_charge(x->c, 1 + (i - from) / 16);
        write_field(x, b, f, from, i);
    }
}

jstr *format_braces(jctx *c, const jstr *format, const jargs *args) {
    braces x = {.c = c, .args = args, .level = 1, .markup = format->markup};
    jbuild b;
    build_open(&b, c);
    write_format(&x, &b, format);
    jstr *out = build_done(&b);
    out->markup = format->markup;
    return out;
}
