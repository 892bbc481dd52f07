// The methods of str. Results keep the marks of the text they are made of.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/methods.h"

#define BIND(what, n, required, ...) args_bind(c, what, args, (const char *const[]){__VA_ARGS__}, n, required, v)

static jstr *text_or_null(jctx *c, const char *what, jval v) { return val_given(v) && v.type != V_NONE ? arg_str(c, what, v) : NULL; }

// Other texts that come into a markup text are escaped first.
static jstr *like(jctx *c, jval self, jstr *s) { return self.s->markup && !s->markup ? str_escape(c, s) : s; }

static jval strip(jctx *c, jval self, const jargs *args, bool left, bool right) {
    jval v[1];
    BIND("strip", 1, 0, "chars");
    return val_str(str_strip(c, self.s, text_or_null(c, "strip", v[0]), left, right));
}
static jval m_strip(jctx *c, jval self, const jargs *args) { return strip(c, self, args, true, true); }
static jval m_lstrip(jctx *c, jval self, const jargs *args) { return strip(c, self, args, true, false); }
static jval m_rstrip(jctx *c, jval self, const jargs *args) { return strip(c, self, args, false, true); }

static jval split(jctx *c, jval self, const jargs *args, jlist *(*how)(jctx *, const jstr *, const jstr *, int64_t)) {
    jval v[2];
    BIND("split", 2, 0, "sep", "maxsplit");
    return val_list(how(c, self.s, text_or_null(c, "split", v[0]), val_given(v[1]) ? arg_int(c, "split", v[1]) : -1));
}
static jval m_split(jctx *c, jval self, const jargs *args) { return split(c, self, args, str_split); }
static jval m_rsplit(jctx *c, jval self, const jargs *args) { return split(c, self, args, str_rsplit); }

static jval m_splitlines(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("splitlines", 1, 0, "keepends");
    return val_list(str_lines(c, self.s, val_true(c, v[0])));
}

// [start, stop) in characters, as byte offsets; false: start lies beyond the end.
static bool range_of(jctx *c, const jstr *s, jval start, jval stop, size_t *from, size_t *to) {
    int64_t n = (int64_t)str_chars(c, s), a = val_given(start) && start.type != V_NONE ? arg_int(c, "find", start) : 0;
    int64_t b = val_given(stop) && stop.type != V_NONE ? arg_int(c, "find", stop) : n;
    if (a < 0) a = a + n < 0 ? 0 : a + n;
    if (b < 0) b = b + n < 0 ? 0 : b + n;
    if (b > n) b = n;
    if (a > n || a > b) return false;
    *from = str_offset(c, s, (size_t)a);
    *to = str_offset(c, s, (size_t)b);
    return true;
}

static jval affix(jctx *c, jval self, const jargs *args, bool at_end) {
    jval v[3];
    size_t from, to;
    BIND(at_end ? "endswith" : "startswith", 3, 1, "prefix", "start", "end");
    if (v[0].type != V_STR && v[0].type != V_TUPLE)
        fail_type(c, "%s first arg must be str or a tuple of str, not %s", at_end ? "endswith" : "startswith", val_type_name(v[0]));
    bool inside = range_of(c, self.s, v[1], v[2], &from, &to);
    jlist one = {.items = v, .n = 1}, *l = v[0].type == V_STR ? &one : v[0].list;
    for (size_t i = 0; i < l->n; i++) {
        const jstr *what = l->items[i].s;
        jinja_charge(c, 1);
        if (l->items[i].type != V_STR) fail_type(c, "tuple for %s must only contain str, not %s", at_end ? "endswith" : "startswith", val_type_name(l->items[i]));
        if (inside && what->len <= to - from && !memcmp(self.s->p + (at_end ? to - what->len : from), what->p, what->len)) return val_bool(true);
    }
    return val_bool(false);
}
static jval m_startswith(jctx *c, jval self, const jargs *args) { return affix(c, self, args, false); }
static jval m_endswith(jctx *c, jval self, const jargs *args) { return affix(c, self, args, true); }

static jval m_replace(jctx *c, jval self, const jargs *args) {
    jval v[3];
    if (args->n_kw) fail_type(c, "str.replace() takes no keyword arguments");
    BIND("replace", 3, 2, "old", "new", "count");
    jstr *old = arg_str(c, "replace", v[0]), *by = arg_str(c, "replace", v[1]);
    return val_str(str_replace(c, self.s, like(c, self, old), like(c, self, by), val_given(v[2]) ? arg_int(c, "replace", v[2]) : -1));
}

static jval find(jctx *c, jval self, const jargs *args, bool last, bool must) {
    jval v[3];
    size_t from, to, hit = SIZE_MAX;
    BIND("find", 3, 1, "sub", "start", "end");
    const jstr *what = arg_str(c, "find", v[0]);
    if (range_of(c, self.s, v[1], v[2], &from, &to)) hit = last ? str_rfind(c, self.s, what, from, to) : str_find(c, self.s, what, from, to);
    if (hit == SIZE_MAX && must) fail_value(c, "substring not found");
    return val_int(hit == SIZE_MAX ? -1 : (int64_t)str_chars(c, str_part(c, self.s, 0, hit)));
}
static jval m_find(jctx *c, jval self, const jargs *args) { return find(c, self, args, false, false); }
static jval m_rfind(jctx *c, jval self, const jargs *args) { return find(c, self, args, true, false); }
static jval m_index(jctx *c, jval self, const jargs *args) { return find(c, self, args, false, true); }
static jval m_rindex(jctx *c, jval self, const jargs *args) { return find(c, self, args, true, true); }

static jval m_count(jctx *c, jval self, const jargs *args) {
    jval v[3];
    size_t from, to, hit;
    int64_t n = 0;
    BIND("count", 3, 1, "sub", "start", "end");
    const jstr *what = arg_str(c, "count", v[0]);
    if (!range_of(c, self.s, v[1], v[2], &from, &to)) return val_int(0);
    if (!what->len) return val_int((int64_t)str_chars(c, str_part(c, self.s, from, to)) + 1);
    for (; (hit = str_find(c, self.s, what, from, to)) != SIZE_MAX; n++) {
        jinja_charge(c, 1);
        from = hit + what->len;
    }
    return val_int(n);
}

static jval m_join(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("join", 1, 1, "iterable");
    jlist *items = val_items(c, v[0]), *texts = list_new(c, items->n);
    for (size_t i = 0; i < items->n; i++) {
        if (items->items[i].type != V_STR) fail_type(c, "sequence item %zu: expected str instance, %s found", i, val_type_name(items->items[i]));
        list_push(c, texts, val_str(like(c, self, items->items[i].s)));
    }
    jstr *out = str_join(c, self.s, texts);
    out->markup = self.s->markup;
    return val_str(out);
}

static jval change(jctx *c, jval self, const jargs *args, jstr *(*how)(jctx *, const jstr *), const char *name) {
    args_none(c, name, args);
    return val_str(how(c, self.s));
}
static jval m_upper(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_upper, "upper"); }
static jval m_lower(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_lower, "lower"); }
static jval m_title(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_title, "title"); }
static jval m_capitalize(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_capitalize, "capitalize"); }
static jval m_swapcase(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_swapcase, "swapcase"); }
static jval m_casefold(jctx *c, jval self, const jargs *args) { return change(c, self, args, str_casefold, "casefold"); }

static jval partition(jctx *c, jval self, const jargs *args, bool last) {
    jval v[1];
    BIND("partition", 1, 1, "sep");
    const jstr *s = self.s, *sep = arg_str(c, "partition", v[0]);
    if (!sep->len) fail_value(c, "empty separator");
    size_t hit = last ? str_rfind(c, s, sep, 0, s->len) : str_find(c, s, sep, 0, s->len), end = hit + sep->len;
    if (hit == SIZE_MAX) hit = end = last ? 0 : s->len;
    jlist *l = list_new(c, 3);
    list_push(c, l, val_str(str_part(c, s, 0, hit)));
    list_push(c, l, val_str(str_part(c, s, hit, end)));
    list_push(c, l, val_str(str_part(c, s, end, s->len)));
    return val_tuple(l);
}
static jval m_partition(jctx *c, jval self, const jargs *args) { return partition(c, self, args, false); }
static jval m_rpartition(jctx *c, jval self, const jargs *args) { return partition(c, self, args, true); }

static jval m_removeprefix(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("removeprefix", 1, 1, "prefix");
    const jstr *s = self.s, *what = arg_str(c, "removeprefix", v[0]);
    bool is = s->len >= what->len && !memcmp(s->p, what->p, what->len);
    return val_str(str_part(c, s, is ? what->len : 0, s->len));
}

static jval m_removesuffix(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("removesuffix", 1, 1, "suffix");
    const jstr *s = self.s, *what = arg_str(c, "removesuffix", v[0]);
    bool is = s->len >= what->len && !memcmp(s->p + s->len - what->len, what->p, what->len);
    return val_str(str_part(c, s, 0, is ? s->len - what->len : s->len));
}

typedef enum { PAD_LEFT, PAD_RIGHT, PAD_BOTH } pad_side;
static jval pad(jctx *c, jval self, const jargs *args, pad_side side) {
    jval v[2];
    BIND("just", 2, 1, "width", "fillchar");
    int64_t width = arg_int(c, "just", v[0]), n = (int64_t)str_chars(c, self.s), more = width > n ? width - n : 0;
    const jstr *fill = val_given(v[1]) ? arg_str(c, "just", v[1]) : str_literal(c, " ");
    if (str_chars(c, fill) != 1) fail_type(c, "The fill character must be exactly one character long");
    if (side == PAD_BOTH) return val_str(str_center(c, self.s, width, fill));
    jbuild b;
    build_open(&b, c);
    if (side == PAD_LEFT) build_fill(&b, fill, (size_t)more);
    build_text(&b, self.s);
    if (side == PAD_RIGHT) build_fill(&b, fill, (size_t)more);
    return val_str(build_done(&b));
}
static jval m_rjust(jctx *c, jval self, const jargs *args) { return pad(c, self, args, PAD_LEFT); }
static jval m_ljust(jctx *c, jval self, const jargs *args) { return pad(c, self, args, PAD_RIGHT); }
static jval m_center(jctx *c, jval self, const jargs *args) { return pad(c, self, args, PAD_BOTH); }

static jval m_zfill(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("zfill", 1, 1, "width");
    const jstr *s = self.s;
    int64_t width = arg_int(c, "zfill", v[0]), n = (int64_t)str_chars(c, s);
    size_t sign = s->len && (s->p[0] == '+' || s->p[0] == '-');
    jbuild b;
    build_open(&b, c);
    build_part(&b, s, 0, sign);
    build_fill(&b, str_literal(c, "0"), width > n ? (size_t)(width - n) : 0);
    build_part(&b, s, sign, s->len);
    return val_str(build_done(&b));
}

static jval m_expandtabs(jctx *c, jval self, const jargs *args) {
    jval v[1];
    BIND("expandtabs", 1, 0, "tabsize");
    int64_t size = val_given(v[0]) ? arg_int(c, "expandtabs", v[0]) : 8, column = 0;
    const jstr *s = self.s, *space = str_literal(c, " ");
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        if (cp == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            build_fill(&b, space, (size_t)n);
            column += n;
            continue;
        }
        jinja_charge(c, 1);
        build_part(&b, s, from, i);
        column = cp == '\n' || cp == '\r' ? 0 : column + 1;
    }
    return val_str(build_done(&b));
}

// Every character of a text that is not empty.
static jval all_of(jctx *c, jval self, const jargs *args, bool (*is)(uint32_t)) {
    args_none(c, "is...", args);
    jinja_charge_bytes(c, self.s->len * 8);
    for (size_t i = 0; i < self.s->len;)
        if (!is(utf8_next(self.s->p, self.s->len, &i))) return val_bool(false);
    return val_bool(self.s->len != 0);
}
static bool is_alnum(uint32_t cp) { return cp_alpha(cp) || cp_decimal(cp) || cp_digit(cp) || cp_numeric(cp); }
static bool is_numeric(uint32_t cp) { return cp_numeric(cp) || cp_digit(cp); }
static bool is_ascii(uint32_t cp) { return cp < 0x80; }
static jval m_isalpha(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, cp_alpha); }
static jval m_isalnum(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, is_alnum); }
static jval m_isdecimal(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, cp_decimal); }
static jval m_isdigit(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, cp_digit); }
static jval m_isnumeric(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, is_numeric); }
static jval m_isspace(jctx *c, jval self, const jargs *args) { return all_of(c, self, args, cp_space); }
static jval m_isascii(jctx *c, jval self, const jargs *args) { return self.s->len ? all_of(c, self, args, is_ascii) : val_bool(true); }
static jval m_isprintable(jctx *c, jval self, const jargs *args) { return self.s->len ? all_of(c, self, args, cp_printable) : val_bool(true); }

static jval cased(jctx *c, jval self, const jargs *args, bool (*good)(uint32_t), bool (*bad)(uint32_t)) {
    bool any = false;
    args_none(c, "is...", args);
    jinja_charge_bytes(c, self.s->len * 8);
    for (size_t i = 0; i < self.s->len;) {
        uint32_t cp = utf8_next(self.s->p, self.s->len, &i);
        if (bad(cp) || cp_title(cp)) return val_bool(false);
        any |= good(cp);
    }
    return val_bool(any);
}
static jval m_isupper(jctx *c, jval self, const jargs *args) { return cased(c, self, args, cp_upper, cp_lower); }
static jval m_islower(jctx *c, jval self, const jargs *args) { return cased(c, self, args, cp_lower, cp_upper); }

static jval m_istitle(jctx *c, jval self, const jargs *args) {
    bool any = false, inside = false;
    args_none(c, "istitle", args);
    jinja_charge_bytes(c, self.s->len * 8);
    for (size_t i = 0; i < self.s->len;) {
        uint32_t cp = utf8_next(self.s->p, self.s->len, &i);
        bool up = cp_upper(cp) || cp_title(cp), low = cp_lower(cp);
        if ((up && inside) || (low && !inside)) return val_bool(false);
        inside = up || low;
        any |= inside;
    }
    return val_bool(any);
}

static jval m_isidentifier(jctx *c, jval self, const jargs *args) {
    args_none(c, "isidentifier", args);
    jinja_charge_bytes(c, self.s->len * 8);
    for (size_t i = 0; i < self.s->len;) {
        bool first = i == 0;
        uint32_t cp = utf8_next(self.s->p, self.s->len, &i);
        if (cp != '_' && !cp_alpha(cp) && (first || !cp_decimal(cp))) return val_bool(false);
    }
    return val_bool(self.s->len != 0);
}

static jval m_format(jctx *c, jval self, const jargs *args) { return val_str(format_braces(c, self.s, args)); }

static jval m_format_map(jctx *c, jval self, const jargs *args) {
    if (args->n_kw || args->n_pos != 1 || args->pos[0].type != V_DICT) fail_type(c, "format_map() takes exactly one mapping");
    const jdict *d = args->pos[0].dict;
    jargs named = {.kw = jinja_array(c, d->n, sizeof *named.kw)};
    for (size_t i = 0; i < d->n_entries; i++)
        if (d->entries[i].live && d->entries[i].key.type == V_STR) named.kw[named.n_kw++] = (struct jkeyword){d->entries[i].key.s, d->entries[i].value};
    return val_str(format_braces(c, self.s, &named));
}

static jval not_here(jctx *c, jval self, const jargs *args) {
    (void)args;
    (void)self;
    fail_type(c, "this method of 'str' is not supported");
}

const method_entry text_methods[] = {{"capitalize", m_capitalize, false}, {"casefold", m_casefold, false}, {"center", m_center, false}, {"count", m_count, false},
                                     {"encode", not_here, false}, {"endswith", m_endswith, false}, {"expandtabs", m_expandtabs, false}, {"find", m_find, false},
                                     {"format", m_format, false}, {"format_map", m_format_map, false}, {"index", m_index, false}, {"isalnum", m_isalnum, false},
                                     {"isalpha", m_isalpha, false}, {"isascii", m_isascii, false}, {"isdecimal", m_isdecimal, false}, {"isdigit", m_isdigit, false},
                                     {"isidentifier", m_isidentifier, false}, {"islower", m_islower, false}, {"isnumeric", m_isnumeric, false},
                                     {"isprintable", m_isprintable, false}, {"isspace", m_isspace, false}, {"istitle", m_istitle, false}, {"isupper", m_isupper, false},
                                     {"join", m_join, false}, {"ljust", m_ljust, false}, {"lower", m_lower, false}, {"lstrip", m_lstrip, false},
                                     {"maketrans", not_here, false}, {"partition", m_partition, false}, {"removeprefix", m_removeprefix, false},
                                     {"removesuffix", m_removesuffix, false}, {"replace", m_replace, false}, {"rfind", m_rfind, false}, {"rindex", m_rindex, false},
                                     {"rjust", m_rjust, false}, {"rpartition", m_rpartition, false}, {"rsplit", m_rsplit, false}, {"rstrip", m_rstrip, false},
                                     {"split", m_split, false}, {"splitlines", m_splitlines, false}, {"startswith", m_startswith, false}, {"strip", m_strip, false},
                                     {"swapcase", m_swapcase, false}, {"title", m_title, false}, {"translate", not_here, false}, {"upper", m_upper, false},
                                     {"zfill", m_zfill, false}, {NULL, NULL, false}};
