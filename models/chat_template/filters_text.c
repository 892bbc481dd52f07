// Filters that give text.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "models/chat_template/filters.h"

static jval change(jctx *c, jval v, const jargs *args, const char *name, jstr *(*how)(jctx *, const jstr *)) {
    args_none(c, name, args);
    return val_str(how(c, val_str_of(c, v)));
}
jval f_upper(jctx *c, jval v, const jargs *args) { return change(c, v, args, "upper", str_upper); }
jval f_lower(jctx *c, jval v, const jargs *args) { return change(c, v, args, "lower", str_lower); }
jval f_title(jctx *c, jval v, const jargs *args) { return change(c, v, args, "title", str_title_filter); }
jval f_capitalize(jctx *c, jval v, const jargs *args) { return change(c, v, args, "capitalize", str_capitalize); }
jval f_forceescape(jctx *c, jval v, const jargs *args) { return change(c, v, args, "forceescape", str_escape); }

jval f_escape(jctx *c, jval v, const jargs *args) {
    args_none(c, "escape", args);
    return v.type == V_STR && v.s->markup ? v : val_str(str_escape(c, val_str_of(c, v)));
}

jval f_safe(jctx *c, jval v, const jargs *args) {
    args_none(c, "safe", args);
    const jstr *s = val_str_of(c, v);
    jstr *markup = str_part(c, s, 0, s->len);
    markup->markup = true;
    return val_str(markup);
}

jval f_trim(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("trim", 0, "chars");
    const jstr *chars = val_given(out[0]) && out[0].type != V_NONE ? arg_str(c, "strip", out[0]) : NULL;
    return val_str(str_strip(c, val_str_of(c, v), chars, true, true));
}

jval f_replace(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("replace", 2, "old", "new", "count");
    int64_t count = val_given(out[2]) && out[2].type != V_NONE ? arg_int(c, "replace", out[2]) : -1;
    const jstr *s = str_plain(c, val_str_of(c, v));
    return val_str(str_replace(c, s, val_str_of(c, out[0]), val_str_of(c, out[1]), count));
}

jval f_center(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("center", 0, "width");
    return val_str(str_center(c, val_str_of(c, v), val_given(out[0]) ? arg_int(c, "center", out[0]) : 80, str_literal(c, " ")));
}

jval f_join(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("join", 0, "d", "attribute");
    jstr *sep = val_given(out[0]) ? val_str_of(c, out[0]) : str_literal(c, "");
    jlist *items = val_items(c, v), *texts = list_new(c, items->n);
    for (size_t i = 0; i < items->n; i++) {
        jval item = val_given(out[1]) && out[1].type != V_NONE ? val_path(c, items->items[i], out[1], val_missing()) : items->items[i];
        list_push(c, texts, val_str(val_str_of(c, item)));
    }
    return val_str(str_join(c, sep, texts));
}

jval f_indent(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("indent", 0, "width", "first", "blank");
    jbuild pad, b;
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    const jstr *s = arg_str(c, "indent", v), *by = val_given(out[0]) && out[0].type == V_STR ? out[0].s : NULL;
    if (!by) {
        int64_t width = val_given(out[0]) ? arg_int(c, "indent", out[0]) : 4;
        build_open(&pad, c);
        build_fill(&pad, str_literal(c, " "), width > 0 ? (size_t)width : 0);
        by = build_done(&pad);
    }
    bool first = arg_flag(c, out[1]), blank = arg_flag(c, out[2]);
    const jlist *lines = str_lines(c, str_concat(c, s, str_literal(c, "\n")), false);
    build_open(&b, c);
    for (size_t i = 0; i < lines->n; i++) {
        const jstr *line = lines->items[i].s;
        if (i) build_literal(&b, "\n");
        if (i ? blank || line->len : first) build_text(&b, by);
        build_text(&b, line);
    }
    jstr *text = build_done(&b);
    text->markup = s->markup;
    return val_str(text);
}

jval f_truncate(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("truncate", 0, "length", "killwords", "end", "leeway");
    int64_t length = val_given(out[0]) ? arg_int(c, "truncate", out[0]) : 255, leeway = val_given(out[3]) && out[3].type != V_NONE ? arg_int(c, "truncate", out[3]) : 5;
    const jstr *end = val_given(out[2]) ? arg_str(c, "truncate", out[2]) : str_literal(c, "..."), *s;
    int64_t end_chars = (int64_t)str_chars(c, end);
    if (length < end_chars) fail_value(c, "expected length >= %lld, got %lld", (long long)end_chars, (long long)length);
    if (leeway < 0) fail_value(c, "expected leeway >= 0, got %lld", (long long)leeway);
    if (v.type == V_UNDEFINED) return v; // its length is 0
    s = arg_str(c, "truncate", v);
    int64_t n = (int64_t)str_chars(c, s);
    if (n <= length || n - length <= leeway) return v;
    const jstr *head = str_part(c, s, 0, str_offset(c, s, (size_t)(length - end_chars)));
    jstr space = {.p = " ", .len = 1, .n_chars = 1};
    size_t cut = arg_flag(c, out[1]) ? SIZE_MAX : str_rfind(c, head, &space, 0, head->len);
    return val_str(str_concat(c, str_part(c, head, 0, cut == SIZE_MAX ? head->len : cut), end));
}

jval f_wordcount(jctx *c, jval v, const jargs *args) {
    args_none(c, "wordcount", args);
    const jstr *s = val_str_of(c, v);
    int64_t n = 0;
    bool inside = false;
    jinja_charge_bytes(c, s->len * 8);
    for (size_t i = 0; i < s->len;) {
        uint32_t cp = utf8_next(s->p, s->len, &i);
        bool word = cp == '_' || cp_alpha(cp) || cp_decimal(cp) || cp_numeric(cp);
        n += word && !inside;
        inside = word;
    }
    return val_int(n);
}

jval f_format(jctx *c, jval v, const jargs *args) {
    if (args->n_pos && args->n_kw) fail_value(c, "can't handle positional and keyword arguments at the same time");
    if (args->n_kw) {
        jdict *d = dict_new(c);
        for (size_t i = 0; i < args->n_kw; i++) dict_set(c, d, val_str((jstr *)args->kw[i].name), args->kw[i].value);
        return val_str(format_percent(c, val_str_of(c, v), val_dict(d)));
    }
    jlist *l = list_new(c, args->n_pos);
    for (size_t i = 0; i < args->n_pos; i++) list_push(c, l, args->pos[i]);
    return val_str(format_percent(c, val_str_of(c, v), val_tuple(l)));
}

static void quote(jbuild *b, const jstr *s, bool query) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s->len; i++) {
        unsigned char ch = (unsigned char)s->p[i];
        bool plain = (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') || (ch && strchr("_.-~", ch)) || (ch == '/' && !query);
        char out[3] = {'%', hex[ch >> 4], hex[ch & 15]};
        uint8_t taint = str_tainted(s, i, i + 1) ? TAINT_ALL : TAINT_NONE;
        jinja_charge(b->c, 1);
        if (plain) build_part(b, s, i, i + 1);
        else if (ch == ' ' && query) build_bytes(b, "+", 1, NULL, taint);
        else build_bytes(b, out, 3, NULL, taint);
    }
}

jval f_urlencode(jctx *c, jval v, const jargs *args) {
    args_none(c, "urlencode", args);
    jbuild b;
    build_open(&b, c);
    if (v.type == V_STR || !val_iterable(v)) {
        quote(&b, val_str_of(c, v), false);
        return val_str(build_done(&b));
    }
    jview view = {.dict = v.dict, .kind = VIEW_ITEMS};
    const jlist *pairs = val_items(c, v.type == V_DICT ? (jval){.type = V_VIEW, .view = &view} : v);
    for (size_t i = 0; i < pairs->n; i++) {
        const jlist *pair = val_items(c, pairs->items[i]);
        if (pair->n != 2) fail_value(c, "urlencode needs pairs");
        if (i) build_literal(&b, "&");
        quote(&b, val_str_of(c, pair->items[0]), true);
        build_literal(&b, "=");
        quote(&b, val_str_of(c, pair->items[1]), true);
    }
    return val_str(build_done(&b));
}
