// Attributes, items and slices by the sandbox's rules: object.name tries Python's attributes first and items second, object[key] the
// other way round; what neither has is undefined, and methods that would change a list or dict are refused when they are called.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"

static bool is_private(const jstr *name) { return name->len && name->p[0] == '_'; }

static jval group_attr(const jlist *l, const jstr *name) {
    if (str_is(name, "grouper")) return l->items[0];
    return str_is(name, "list") ? l->items[1] : val_missing();
}

static jval macro_attr(jctx *c, const jmacro *m, const jstr *name) {
    const jnode *n = m->node;
    if (str_is(name, "name")) return n->kind == N_MACRO ? val_str((jstr *)n->name) : val_none();
    if (str_is(name, "catch_kwargs")) return val_bool(n->uses_kwargs);
    if (str_is(name, "catch_varargs")) return val_bool(n->uses_varargs);
    if (str_is(name, "caller")) return val_bool(n->uses_caller);
    if (!str_is(name, "arguments")) return val_missing();
    jlist *l = list_new(c, n->n);
    for (size_t i = 0; i < n->n; i++) list_push(c, l, val_str((jstr *)n->items[i]->name));
    return val_tuple(l);
}

// What Python's getattr() gives, V_MISSING where it fails.
static jval python_attr(jctx *c, jval object, const jstr *name) {
    jval v = val_missing();
    if (object.type == V_NAMESPACE) {
        jval *found = dict_get_text(c, object.dict, name);
        if (!found) return v;
        return is_private(name) ? val_unsafe(c, object, name) : *found;
    }
    if (name->len > 4 && !memcmp(name->p, "__", 2) && !memcmp(name->p + name->len - 2, "__", 2)) return val_unsafe(c, object, name);
    if (object.type == V_LOOP) v = loop_attr(c, object, name);
    else if (object.type == V_MACRO) v = macro_attr(c, object.macro, name);
    else if (object.type == V_TUPLE && object.list->group) v = group_attr(object.list, name);
    else if (object.type == V_RANGE && (str_is(name, "start") || str_is(name, "stop") || str_is(name, "step")))
        return val_int(str_is(name, "start") ? object.range->start : str_is(name, "stop") ? object.range->stop : object.range->step);
    if (val_given(v)) return v;
    bool unsafe = false;
    jmethod *m = find_method(c, object, name, &unsafe);
    if (unsafe) return val_unsafe(c, object, name);
    if (!m) return v;
    if (object.type == V_CYCLER && str_is(name, "current")) return object.cycler->items->items[object.cycler->pos];
    return (jval){.type = V_METHOD, .method = m};
}

static size_t list_index(jval key, size_t n, bool *found) {
    int64_t i = 0;
    *found = val_is_int(key, &i);
    if (i < 0) i += (int64_t)n;
    *found = *found && i >= 0 && i < (int64_t)n;
    return (size_t)i;
}

// What Python's object[key] gives, V_MISSING where it fails with a TypeError or LookupError.
static jval python_item(jctx *c, jval object, jval key) {
    bool found;
    size_t i;
    jval *v;
    switch (object.type) {
    case V_DICT:
        v = val_hashable(c, key) ? dict_get(c, object.dict, key) : NULL;
        return v ? *v : val_missing();
    case V_LIST:
    case V_TUPLE:
        i = list_index(key, object.list->n, &found);
        return found ? object.list->items[i] : val_missing();
    case V_RANGE:
        i = list_index(key, (size_t)object.range->n, &found);
        return found ? range_item(object.range, (int64_t)i) : val_missing();
    case V_STR: {
        if (key.type != V_INT && key.type != V_BOOL) return val_missing();
        i = list_index(key, str_chars(c, object.s), &found);
        if (!found) return val_missing();
        size_t from = str_offset(c, object.s, i), to = from;
        utf8_next(object.s->p, object.s->len, &to);
        return val_str(str_part(c, object.s, from, to));
    }
    default: return val_missing();
    }
}

jval val_attr(jctx *c, jval object, const jstr *name) {
    if (object.type == V_UNDEFINED) fail_undefined(c, object);
    jval key = val_str((jstr *)name), v = python_attr(c, object, name);
    if (!val_given(v)) v = python_item(c, object, key);
    return val_given(v) ? v : val_undefined_attr(c, object, key);
}

jval val_item(jctx *c, jval object, jval key) {
    if (object.type == V_UNDEFINED) fail_undefined(c, object);
    jval v = python_item(c, object, key);
    if (!val_given(v) && key.type == V_STR) v = python_attr(c, object, key.s);
    return val_given(v) ? v : val_undefined_attr(c, object, key);
}

// "a.b.0" of the filters that take an attribute: parts that are digits are numbers.
jval val_path(jctx *c, jval object, jval attribute, jval fallback) {
    if (attribute.type == V_NONE) return object;
    jlist *parts = list_new(c, 1);
    jstr dot = {.p = ".", .len = 1, .n_chars = 1};
    if (attribute.type == V_STR) parts = str_split(c, attribute.s, &dot, -1);
    else list_push(c, parts, attribute);
    for (size_t i = 0; i < parts->n; i++) {
        jval part = parts->items[i];
        bool digits = part.type == V_STR && part.s->len > 0, big;
        for (size_t k = 0; digits && k < part.s->len; k++) digits = part.s->p[k] >= '0' && part.s->p[k] <= '9';
        int64_t number;
        if (digits && parse_int(part.s, 10, &number, &big)) part = val_int(number);
        object = val_item(c, object, part);
        if (object.type == V_UNDEFINED && val_given(fallback) && fallback.type != V_NONE) object = fallback;
    }
    return object;
}

// ---- Slices ----------------------------------------------------------------------------------------------------------------
static int64_t slice_int(jctx *c, jval v, int64_t fallback) {
    int64_t i;
    if (v.type == V_NONE) return fallback;
    if (!val_is_int(v, &i)) fail_type(c, "slice indices must be integers or None or have an __index__ method");
    return i;
}

typedef struct slice {
    int64_t start, step, n;
} slice;

static slice slice_resolve(jctx *c, int64_t len, jval start, jval stop, jval step_value) {
    int64_t step = slice_int(c, step_value, 1);
    if (!step) fail_value(c, "slice step cannot be zero");
    if (step < -INT64_MAX) step = -INT64_MAX;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    int64_t a = slice_int(c, start, INT64_MIN), b = slice_int(c, stop, INT64_MIN);
    if (start.type == V_NONE) a = step < 0 ? high : low;
    else if (a < 0) a = a + len < low ? low : a + len;
    else if (a > high) a = high;
    if (stop.type == V_NONE) b = step < 0 ? low : high;
    else if (b < 0) b = b + len < low ? low : b + len;
    else if (b > high) b = high;
    int64_t n = step > 0 ? (a < b ? (b - a - 1) / step + 1 : 0) : (b < a ? (a - b - 1) / -step + 1 : 0);
    return (slice){a, step, n};
}

static jval slice_text(jctx *c, jstr *s, slice part) {
    if (part.step == 1) {
        size_t from = str_offset(c, s, (size_t)part.start), to = str_offset(c, s, (size_t)(part.start + part.n));
        return val_str(str_part(c, s, from, to));
    }
    jlist *chars = val_items(c, val_str(s));
    jbuild b;
    build_open(&b, c);
    for (int64_t i = 0; i < part.n; i++) build_text(&b, chars->items[part.start + i * part.step].s);
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return val_str(out);
}

jval val_slice(jctx *c, jval object, jval start, jval stop, jval step) {
    if (object.type == V_UNDEFINED) fail_undefined(c, object);
    if (object.type == V_DICT) fail_type(c, "unhashable type: 'slice'");
    bool has;
    if (object.type != V_STR && object.type != V_LIST && object.type != V_TUPLE && object.type != V_RANGE)
        fail_type(c, "'%s' object is not subscriptable", val_type_name(object));
    slice part = slice_resolve(c, val_length(c, object, &has), start, stop, step);
    if (object.type == V_STR) return slice_text(c, object.s, part);
    if (object.type == V_RANGE) {
        int64_t by, length, stop_at, from = range_item(object.range, part.start).i;
        if (__builtin_mul_overflow(object.range->step, part.step, &by) || __builtin_mul_overflow(by, part.n, &length) || __builtin_add_overflow(from, length, &stop_at))
            fail_value(c, "the slice of a range has bounds of more than 64 bits, which is not supported");
        return range_make(c, from, stop_at, by);
    }
    jlist *l = list_new(c, (size_t)part.n);
    for (int64_t i = 0; i < part.n; i++) list_push(c, l, object.list->items[part.start + i * part.step]);
    return object.type == V_TUPLE ? val_tuple(l) : val_list(l);
}
