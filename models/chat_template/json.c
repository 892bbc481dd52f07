// json.dumps() as Python's, for the tojson filter. All text of a string with any tainted byte is tainted, its quotes too.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/chat_template/value.h"

typedef struct json {
    jbuild b;
    bool ascii, sort;
    const jstr *indent; // NULL: one line
    const jstr *item, *key; // separators
    size_t level;
} json;

static void write_value(json *j, jval v);

static void write_escape(jbuild *b, uint32_t cp, uint8_t taint) {
    char out[16];
    int n;
    const char *short_form = cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : cp == '\t' ? "\\t" : cp == '\b' ? "\\b" : cp == '\f' ? "\\f" : cp == '"' ? "\\\"" : cp == '\\' ? "\\\\" : NULL;
    if (short_form) n = snprintf(out, sizeof out, "%s", short_form);
    else if (cp < 0x10000) n = snprintf(out, sizeof out, "\\u%04x", cp);
    else n = snprintf(out, sizeof out, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + ((cp - 0x10000) & 0x3FF));
    build_bytes(b, out, (size_t)n, NULL, taint);
}

static void write_string(json *j, const jstr *s) {
    uint8_t taint = str_tainted(s, 0, s->len) ? TAINT_ALL : TAINT_NONE;
    size_t done = 0;
    build_bytes(&j->b, "\"", 1, NULL, taint);
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        bool escape = cp < 0x20 || cp == '"' || cp == '\\' || (j->ascii && cp > 0x7E && cp < 0x110000);
        if (!escape) continue;
        build_bytes(&j->b, s->p + done, from - done, NULL, taint);
        write_escape(&j->b, cp, taint);
        done = i;
    }
    build_bytes(&j->b, s->p + done, s->len - done, NULL, taint);
    build_bytes(&j->b, "\"", 1, NULL, taint);
}

static void write_number(json *j, jval v) {
    char out[40];
    if (v.type == V_INT) snprintf(out, sizeof out, "%lld", (long long)v.i);
    else if (isnan(v.f)) snprintf(out, sizeof out, "NaN");
    else if (isinf(v.f)) snprintf(out, sizeof out, v.f < 0 ? "-Infinity" : "Infinity");
    else real_repr(out, v.f);
    build_literal(&j->b, out);
}

static void new_line(json *j) {
    if (!j->indent) return;
    build_literal(&j->b, "\n");
    build_fill(&j->b, j->indent, j->level);
}

static void write_key(json *j, jval key) {
    bool number = key.type == V_INT || key.type == V_REAL;
    if (key.type == V_STR) {
        write_string(j, key.s);
        return;
    }
    if (!number && key.type != V_BOOL && key.type != V_NONE) fail_type(j->b.c, "keys must be str, int, float, bool or None, not %s", val_type_name(key));
    build_literal(&j->b, "\"");
    if (number) write_number(j, key);
    else build_literal(&j->b, key.type == V_NONE ? "null" : key.b ? "true" : "false");
    build_literal(&j->b, "\"");
}

static jlist *entries(json *j, const jdict *d) {
    jctx *c = j->b.c;
    jlist *l = list_new(c, d->n), *keys = list_new(c, d->n);
    for (size_t i = 0; i < d->n_entries; i++) {
        if (!d->entries[i].live) continue;
        list_push(c, l, pair_make(c, d->entries[i].key, d->entries[i].value));
        list_push(c, keys, l->items[l->n - 1]);
    }
    if (j->sort) val_sort(c, l->items, keys->items, l->n, false);
    return l;
}

static void write_list(json *j, const jlist *l, bool map) {
    build_literal(&j->b, map ? "{" : "[");
    j->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i) build_text(&j->b, j->item);
        new_line(j);
        if (map) {
            write_key(j, l->items[i].list->items[0]);
            build_text(&j->b, j->key);
        }
        write_value(j, map ? l->items[i].list->items[1] : l->items[i]);
    }
    j->level--;
    if (l->n) new_line(j);
    build_literal(&j->b, map ? "}" : "]");
}

static void write_value(json *j, jval v) {
    jctx *c = j->b.c;
    jinja_charge(c, 1);
    jinja_enter(c);
    switch (v.type) {
    case V_NONE: build_literal(&j->b, "null"); break;
    case V_BOOL: build_literal(&j->b, v.b ? "true" : "false"); break;
    case V_INT:
    case V_REAL: write_number(j, v); break;
    case V_STR: write_string(j, v.s); break;
    case V_LIST:
    case V_TUPLE: write_list(j, v.list, false); break;
    case V_DICT: write_list(j, entries(j, v.dict), true); break;
    default: fail_type(c, "Object of type %s is not JSON serializable", val_type_name(v));
    }
    jinja_leave(c);
}

static void set_indent(json *j, jval indent) {
    jctx *c = j->b.c;
    int64_t n;
    if (indent.type == V_NONE || !val_given(indent)) return;
    if (indent.type == V_STR) {
        j->indent = indent.s;
        return;
    }
    if (!val_is_int(indent, &n)) fail_type(c, "can't multiply sequence by non-int of type '%s'", val_type_name(indent));
    jbuild b;
    build_open(&b, c);
    build_fill(&b, str_literal(c, " "), n > 0 ? (size_t)n : 0);
    j->indent = build_done(&b);
}

jstr *json_dump(jctx *c, jval v, bool ensure_ascii, jval indent, jval separators, bool sort_keys) {
    json j = {.ascii = ensure_ascii, .sort = sort_keys};
    build_open(&j.b, c);
    set_indent(&j, indent);
    j.item = str_literal(c, j.indent ? "," : ", ");
    j.key = str_literal(c, ": ");
    if (val_given(separators) && separators.type != V_NONE) {
        const jlist *pair = val_items(c, separators);
        if (pair->n != 2) fail_value(c, "separators must be a pair");
        j.item = arg_str(c, "separators", pair->items[0]);
        j.key = arg_str(c, "separators", pair->items[1]);
    }
    write_value(&j, v);
    return build_done(&j.b);
}
