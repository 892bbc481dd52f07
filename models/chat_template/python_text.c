// str() and repr() as Python writes them, and the sentences for undefined values.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat_template/ast.h"

const char *val_type_name(jval v) {
    static const char *const names[] = {"missing", "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple", "dict", "dict_items", "generator",
                                        "range", "Namespace", "Macro", "function", "method", "LoopContext", "Cycler", "Joiner"};
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.type == V_VIEW) return views[v.view->kind];
    if (v.type == V_ITER) return v.iter->kind;
    if (v.type == V_STR && v.s->markup) return "Markup";
    return names[v.type];
}

// ---- Undefined -------------------------------------------------------------------------------------------------------------
static jval undefined_make(jctx *c, const char *hint, jval object, jval name, bool unsafe) {
    jundef *u = jinja_alloc(c, sizeof *u);
    *u = (jundef){.hint = hint, .object = object, .name = name, .unsafe = unsafe};
    return (jval){.type = V_UNDEFINED, .undef = u};
}

jval val_undefined_name(jctx *c, const jstr *name) { return undefined_make(c, NULL, val_missing(), val_str((jstr *)name), false); }
jval val_undefined_hint(jctx *c, const char *hint) { return undefined_make(c, hint, val_missing(), val_missing(), false); }
jval val_undefined_attr(jctx *c, jval object, jval name) { return undefined_make(c, NULL, object, name, false); }
jval val_unsafe(jctx *c, jval object, const jstr *name) { return undefined_make(c, NULL, object, val_str((jstr *)name), true); }

static const char *object_name(jval v, char out[64]) {
    snprintf(out, 64, "%s object", val_type_name(v));
    return v.type == V_NONE ? "None" : out;
}

void fail_undefined(jctx *c, jval v) {
    const jundef *u = v.undef;
    char object[64];
    if (u->hint) jinja_fail(c, WTL_ERR_FORMAT, "%s", u->hint);
    const jstr *name = val_repr_of(c, u->name);
    int len = (int)(name->len < 100 ? name->len : 100);
    if (u->unsafe) jinja_fail(c, WTL_ERR_FORMAT, "access to attribute %.*s of '%s' object is unsafe.", len, name->p, val_type_name(u->object));
    if (!val_given(u->object)) jinja_fail(c, WTL_ERR_FORMAT, "%.*s is undefined", len, name->p);
    object_name(u->object, object);
    const char *what = u->object.type == V_NONE ? "None" : object;
    if (u->name.type == V_STR) jinja_fail(c, WTL_ERR_FORMAT, "'%s' has no attribute %.*s", what, len, name->p);
    jinja_fail(c, WTL_ERR_FORMAT, "%s has no element %.*s", what, len, name->p);
}

void fail_type(jctx *c, const char *format, ...) {
    char words[300];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    jinja_fail(c, WTL_ERR_FORMAT, "%s", words);
}

void fail_value(jctx *c, const char *format, ...) {
    char words[300];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    jinja_fail(c, WTL_ERR_FORMAT, "%s", words);
}

// ---- repr ------------------------------------------------------------------------------------------------------------------
// The shortest digits that read back; an exponent from 1e16 up and below 1e-4.
size_t real_repr(char out[40], double f) {
    if (isnan(f)) return (size_t)snprintf(out, 40, "nan");
    if (isinf(f)) return (size_t)snprintf(out, 40, f < 0 ? "-inf" : "inf");
    char digits[40];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) return (size_t)snprintf(out, 40, "%s", digits); // Python's form is C's: at least two digits
    int decimals = precision - exponent;
    return (size_t)snprintf(out, 40, "%.*f", decimals > 0 ? decimals : 1, f);
}

static void write_hex(jbuild *b, uint32_t cp, bool tainted) {
    char out[16];
    int n = cp < 0x100 ? snprintf(out, sizeof out, "\\x%02x", cp) : cp < 0x10000 ? snprintf(out, sizeof out, "\\u%04x", cp) : snprintf(out, sizeof out, "\\U%08x", cp);
    build_bytes(b, out, (size_t)n, NULL, tainted ? TAINT_ALL : TAINT_NONE);
}

static void write_text_repr(jbuild *b, const jstr *s) {
    char quote = memchr(s->p, '\'', s->len) && !memchr(s->p, '"', s->len) ? '"' : '\'';
    bool all = str_tainted(s, 0, s->len);
    if (s->markup) build_literal(b, "Markup(");
    build_char(b, (uint32_t)quote, all);
    size_t done = 0;
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        if (cp != '\\' && cp != (uint32_t)quote && (cp >= 0x110000 || cp_printable(cp))) continue;
        bool tainted = str_tainted(s, from, i);
        uint8_t taint = tainted ? TAINT_ALL : TAINT_NONE;
        build_part(b, s, done, from);
        done = i;
        if (cp == '\n') build_bytes(b, "\\n", 2, NULL, taint);
        else if (cp == '\r') build_bytes(b, "\\r", 2, NULL, taint);
        else if (cp == '\t') build_bytes(b, "\\t", 2, NULL, taint);
        else if (cp == '\\' || cp == (uint32_t)quote) {
            build_bytes(b, "\\", 1, NULL, taint);
            build_char(b, cp, tainted);
        } else write_hex(b, cp, tainted);
    }
    build_part(b, s, done, s->len);
    build_char(b, (uint32_t)quote, all);
    if (s->markup) build_literal(b, ")");
}

static void write_list(jbuild *b, const jlist *l, const char *open, const char *close, bool tuple) {
    build_literal(b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) build_literal(b, ", ");
        val_write_repr(b, l->items[i]);
    }
    if (tuple && l->n == 1) build_literal(b, ",");
    build_literal(b, close);
}

static void write_dict(jbuild *b, const jdict *d) {
    bool first = true;
    build_literal(b, "{");
    for (size_t i = 0; i < d->n_entries; i++) {
        if (!d->entries[i].live) continue;
        if (!first) build_literal(b, ", ");
        first = false;
        val_write_repr(b, d->entries[i].key);
        build_literal(b, ": ");
        val_write_repr(b, d->entries[i].value);
    }
    build_literal(b, "}");
}

static void write_range(jbuild *b, const jrange *r) {
    char out[100];
    int n = r->step == 1 ? snprintf(out, sizeof out, "range(%lld, %lld)", (long long)r->start, (long long)r->stop)
                         : snprintf(out, sizeof out, "range(%lld, %lld, %lld)", (long long)r->start, (long long)r->stop, (long long)r->step);
    build_bytes(b, out, (size_t)n, NULL, TAINT_NONE);
}

// What has an address in Python's repr has none here.
static void write_object(jbuild *b, jval v) {
    char out[100];
    bool has;
    if (v.type == V_LOOP) snprintf(out, sizeof out, "<LoopContext %zu/%lld>", v.loop->index0 + 1, (long long)val_length(b->c, v, &has));
    else if (v.type == V_FUNCTION) snprintf(out, sizeof out, "<function %s>", v.function->name);
    else if (v.type == V_METHOD) snprintf(out, sizeof out, "<built-in method %s of %s object>", v.method->name, val_type_name(v.method->self));
    else snprintf(out, sizeof out, "<%s object>", val_type_name(v));
    if (v.type != V_MACRO) {
        build_literal(b, out);
        return;
    }
    build_literal(b, "<Macro ");
    if (v.macro->node->name) write_text_repr(b, v.macro->node->name);
    else build_literal(b, "anonymous");
    build_literal(b, ">");
}

static void write_scalar(jbuild *b, jval v) {
    char out[40];
    if (v.type == V_INT) snprintf(out, sizeof out, "%lld", (long long)v.i);
    else if (v.type == V_REAL) real_repr(out, v.f);
    build_literal(b, v.type == V_UNDEFINED ? "Undefined" : v.type == V_NONE ? "None" : v.type == V_BOOL ? (v.b ? "True" : "False") : out);
}

void val_write_repr(jbuild *b, jval v) {
    jctx *c = b->c;
    jinja_charge(c, 1);
    jinja_enter(c);
    switch (v.type) {
    case V_STR: write_text_repr(b, v.s); break;
    case V_LIST: write_list(b, v.list, "[", "]", false); break;
    case V_TUPLE: write_list(b, v.list, "(", ")", true); break;
    case V_DICT: write_dict(b, v.dict); break;
    case V_NAMESPACE:
        build_literal(b, "<Namespace ");
        write_dict(b, v.dict);
        build_literal(b, ">");
        break;
    case V_VIEW:
        build_literal(b, val_type_name(v));
        write_list(b, val_items(c, v), "([", "])", false);
        break;
    case V_RANGE: write_range(b, v.range); break;
    case V_UNDEFINED:
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_REAL: write_scalar(b, v); break;
    default: write_object(b, v);
    }
    jinja_leave(c);
}

void val_write(jbuild *b, jval v) {
    if (v.type == V_STR) build_text(b, v.s);
    else if (v.type != V_UNDEFINED) val_write_repr(b, v);
}

jstr *val_str_of(jctx *c, jval v) {
    jbuild b;
    if (v.type == V_STR) return v.s;
    build_open(&b, c);
    val_write(&b, v);
    return build_done(&b);
}

jstr *val_repr_of(jctx *c, jval v) {
    jbuild b;
    build_open(&b, c);
    val_write_repr(&b, v);
    return build_done(&b);
}
