// Filters of sequences. What is a generator in Python is walked at once here but behaves like one: once through, always true, no length.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"
#include "models/chat_template/filters.h"

jval fold_case(jctx *c, jval v, bool case_sensitive) { return !case_sensitive && v.type == V_STR ? val_str(str_lower(c, v.s)) : v; }

static jlist *copy(jctx *c, jval v) {
    const jlist *from = val_items(c, v);
    jlist *l = list_new(c, from->n);
    for (size_t i = 0; i < from->n; i++) list_push(c, l, from->items[i]);
    return l;
}

jval f_length(jctx *c, jval v, const jargs *args) {
    bool has;
    args_none(c, "len", args);
    int64_t n = val_length(c, v, &has);
    if (!has) fail_type(c, "object of type '%s' has no len()", val_type_name(v));
    return val_int(n);
}

jval f_list(jctx *c, jval v, const jargs *args) {
    args_none(c, "list", args);
    return val_list(copy(c, v));
}

jval f_items(jctx *c, jval v, const jargs *args) {
    args_none(c, "items", args);
    if (v.type == V_UNDEFINED) return iter_make(c, list_new(c, 0), "generator");
    if (v.type != V_DICT) fail_type(c, "Can only get item pairs from a mapping.");
    jview view = {.dict = v.dict, .kind = VIEW_ITEMS};
    return iter_make(c, val_items(c, (jval){.type = V_VIEW, .view = &view}), "generator");
}

jval f_first(jctx *c, jval v, const jargs *args) {
    args_none(c, "first", args);
    if (v.type == V_ITER) return v.iter->pos < v.iter->items->n ? v.iter->items->items[v.iter->pos++] : val_undefined_hint(c, "No first item, sequence was empty.");
    const jlist *l = val_items(c, v);
    return l->n ? l->items[0] : val_undefined_hint(c, "No first item, sequence was empty.");
}

jval f_last(jctx *c, jval v, const jargs *args) {
    args_none(c, "last", args);
    if (v.type == V_ITER || v.type == V_LOOP) fail_type(c, "'%s' object is not reversible", val_type_name(v));
    const jlist *l = val_items(c, v);
    return l->n ? l->items[l->n - 1] : val_undefined_hint(c, "No last item, sequence was empty.");
}

static jlist *reversed(jctx *c, const jlist *from) {
    jlist *l = list_new(c, from->n);
    for (size_t i = from->n; i-- > 0;) list_push(c, l, from->items[i]);
    return l;
}

jval f_reverse(jctx *c, jval v, const jargs *args) {
    args_none(c, "reverse", args);
    if (v.type == V_STR) return val_slice(c, v, val_none(), val_none(), val_int(-1));
    jlist *l = reversed(c, val_items(c, v));
    if (v.type == V_ITER || v.type == V_UNDEFINED) return val_list(l);
    return iter_make(c, l, v.type == V_LIST ? "list_reverseiterator" : v.type == V_DICT ? "dict_reversekeyiterator" : "reversed");
}

// "a,b.c": one path, or several at commas.
static jval multi_key(jctx *c, jval item, jval attribute, bool case_sensitive) {
    if (attribute.type != V_STR) return fold_case(c, val_path(c, item, attribute, val_missing()), case_sensitive);
    jstr comma = {.p = ",", .len = 1, .n_chars = 1};
    const jlist *paths = str_split(c, attribute.s, &comma, -1);
    jlist *keys = list_new(c, paths->n);
    for (size_t i = 0; i < paths->n; i++) list_push(c, keys, fold_case(c, val_path(c, item, paths->items[i], val_missing()), case_sensitive));
    return val_list(keys);
}

jval f_sort(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("sort", 0, "reverse", "case_sensitive", "attribute");
    jlist *l = copy(c, v), *keys = list_new(c, l->n);
    for (size_t i = 0; i < l->n; i++) list_push(c, keys, multi_key(c, l->items[i], arg_or_none(out[2]), arg_flag(c, out[1])));
    val_sort(c, l->items, keys->items, l->n, arg_flag(c, out[0]));
    return val_list(l);
}

jval f_dictsort(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("dictsort", 0, "case_sensitive", "by", "reverse");
    const jstr *by = val_given(out[1]) ? arg_str(c, "dictsort", out[1]) : NULL;
    bool by_value = by && str_is(by, "value");
    if (by && !by_value && !str_is(by, "key")) fail_value(c, "You can only sort by either \"key\" or \"value\"");
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (v.type != V_DICT) fail_type(c, "'%s' object has no attribute 'items'", val_type_name(v));
    jview view = {.dict = v.dict, .kind = VIEW_ITEMS};
    jlist *l = val_items(c, (jval){.type = V_VIEW, .view = &view}), *keys = list_new(c, l->n);
    for (size_t i = 0; i < l->n; i++) list_push(c, keys, fold_case(c, l->items[i].list->items[by_value], arg_flag(c, out[0])));
    val_sort(c, l->items, keys->items, l->n, arg_flag(c, out[2]));
    return val_list(l);
}

jval f_unique(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("unique", 0, "case_sensitive", "attribute");
    const jlist *from = val_items(c, v);
    jlist *l = list_new(c, 0);
    jdict *seen = dict_new(c);
    for (size_t i = 0; i < from->n; i++) {
        jval key = fold_case(c, val_path(c, from->items[i], arg_or_none(out[1]), val_missing()), arg_flag(c, out[0]));
        if (dict_get(c, seen, key)) continue;
        dict_set(c, seen, key, val_none());
        list_push(c, l, from->items[i]);
    }
    return iter_make(c, l, "generator");
}

static jval extreme(jctx *c, jval v, const jargs *args, bool max) {
    FILTER_BIND(max ? "max" : "min", 0, "case_sensitive", "attribute");
    const jlist *l = val_items(c, v);
    if (!l->n) return val_undefined_hint(c, "No aggregated item, sequence was empty.");
    jval best = l->items[0], best_key = fold_case(c, val_path(c, best, arg_or_none(out[1]), val_missing()), arg_flag(c, out[0]));
    for (size_t i = 1; i < l->n; i++) {
        jval key = fold_case(c, val_path(c, l->items[i], arg_or_none(out[1]), val_missing()), arg_flag(c, out[0]));
        if (!(max ? val_less(c, best_key, key, ">") : val_less(c, key, best_key, "<"))) continue;
        best = l->items[i];
        best_key = key;
    }
    return best;
}
jval f_max(jctx *c, jval v, const jargs *args) { return extreme(c, v, args, true); }
jval f_min(jctx *c, jval v, const jargs *args) { return extreme(c, v, args, false); }

jval f_sum(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("sum", 0, "attribute", "start");
    const jlist *l = val_items(c, v);
    jval total = val_given(out[1]) ? out[1] : val_int(0);
    if (total.type == V_STR) fail_type(c, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < l->n; i++) total = val_binary(c, T_ADD, total, val_path(c, l->items[i], arg_or_none(out[0]), val_missing()));
    return total;
}

jval f_batch(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("batch", 1, "linecount", "fill_with");
    const jlist *from = val_items(c, v);
    int64_t size = arg_int(c, "batch", out[0]);
    jlist *l = list_new(c, 0), *row = NULL;
    for (size_t i = 0; i < from->n; i++) {
        if (!row || (int64_t)row->n == size) {
            row = list_new(c, 0);
            list_push(c, l, val_list(row));
        }
        list_push(c, row, from->items[i]);
    }
    while (row && val_given(out[1]) && out[1].type != V_NONE && (int64_t)row->n < size) list_push(c, row, out[1]);
    return iter_make(c, l, "generator");
}

jval f_slice(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("slice", 1, "slices", "fill_with");
    const jlist *from = val_items(c, v);
    int64_t slices = arg_int(c, "slice", out[0]), n = (int64_t)from->n, at = 0;
    if (!slices) fail_value(c, "integer division or modulo by zero");
    jlist *l = list_new(c, 0);
    for (int64_t i = 0; i < slices; i++) {
        int64_t take = n / slices + (i < n % slices);
        jlist *part = list_new(c, 0);
        for (int64_t k = 0; k < take; k++) list_push(c, part, from->items[at++]);
        if (val_given(out[1]) && out[1].type != V_NONE && i >= n % slices) list_push(c, part, out[1]);
        list_push(c, l, val_list(part));
    }
    return iter_make(c, l, "generator");
}

jval f_groupby(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("groupby", 1, "attribute", "default", "case_sensitive");
    bool exact = arg_flag(c, out[2]);
    jlist *l = copy(c, v), *keys = list_new(c, l->n), *groups = list_new(c, 0);
    for (size_t i = 0; i < l->n; i++) {
        jval key = fold_case(c, val_path(c, l->items[i], out[0], out[1]), exact);
        list_push(c, keys, key);
    }
    jlist *pairs = list_new(c, l->n);
    for (size_t i = 0; i < l->n; i++) list_push(c, pairs, pair_make(c, keys->items[i], l->items[i]));
    val_sort(c, pairs->items, keys->items, pairs->n, false);
    for (size_t i = 0; i < pairs->n;) {
        jval key = pairs->items[i].list->items[0];
        jlist *members = list_new(c, 0);
        jval first = pairs->items[i].list->items[1];
        for (; i < pairs->n && val_equal(c, pairs->items[i].list->items[0], key); i++) list_push(c, members, pairs->items[i].list->items[1]);
        jval group = pair_make(c, exact ? key : val_path(c, first, out[0], out[1]), val_list(members));
        group.list->group = true;
        list_push(c, groups, group);
    }
    return val_list(groups);
}

// ---- map, select, reject -----------------------------------------------------------------------------------------------------
static jargs rest_of(const jargs *args, size_t from) {
    return (jargs){.pos = args->pos + from, .n_pos = args->n_pos - from, .kw = args->kw, .n_kw = args->n_kw};
}

static jval map_attributes(jctx *c, const jlist *items, const jargs *args) {
    jval out[2];
    args_bind(c, "map", args, (const char *const[]){"attribute", "default"}, 2, 1, out);
    jlist *l = list_new(c, items->n);
    for (size_t i = 0; i < items->n; i++) list_push(c, l, val_path(c, items->items[i], out[0], out[1]));
    return iter_make(c, l, "generator");
}

static bool has_keyword(const jargs *args, const char *name) {
    for (size_t i = 0; i < args->n_kw; i++)
        if (str_is(args->kw[i].name, name)) return true;
    return false;
}

jval f_map(jctx *c, jval v, const jargs *args) {
    jlist *l = list_new(c, 0);
    if (!val_true(c, v)) return iter_make(c, l, "generator");
    const jlist *items = val_items(c, v);
    if (!args->n_pos && has_keyword(args, "attribute")) return map_attributes(c, items, args);
    if (!args->n_pos) fail_value(c, "map requires a filter argument");
    const jstr *name = arg_str(c, "map", args->pos[0]);
    const jfilter *filter = find_filter(name);
    if (!filter) jinja_fail(c, WTL_ERR_FORMAT, "No filter named '%.*s'.", (int)(name->len < 60 ? name->len : 60), name->p);
    jargs rest = rest_of(args, 1);
    jinja_enter(c);
    for (size_t i = 0; i < items->n; i++) list_push(c, l, filter->call(c, items->items[i], &rest));
    jinja_leave(c);
    return iter_make(c, l, "generator");
}

static jval choose(jctx *c, jval v, const jargs *args, bool keep, bool by_attribute) {
    jlist *l = list_new(c, 0);
    if (!val_true(c, v)) return iter_make(c, l, "generator");
    const jlist *items = val_items(c, v);
    if (by_attribute && !args->n_pos) fail_value(c, "Missing parameter for attribute name");
    const jtest *test = NULL;
    jargs rest = {0};
    if (args->n_pos > by_attribute) {
        const jstr *name = arg_str(c, "select", args->pos[by_attribute]);
        test = find_test(name);
        if (!test) jinja_fail(c, WTL_ERR_FORMAT, "No test named '%.*s'.", (int)(name->len < 60 ? name->len : 60), name->p);
        rest = rest_of(args, 1 + by_attribute);
    }
    for (size_t i = 0; i < items->n; i++) {
        jval item = by_attribute ? val_path(c, items->items[i], args->pos[0], val_missing()) : items->items[i];
        if ((test ? test->call(c, item, &rest) : val_true(c, item)) == keep) list_push(c, l, items->items[i]);
    }
    return iter_make(c, l, "generator");
}
jval f_select(jctx *c, jval v, const jargs *args) { return choose(c, v, args, true, false); }
jval f_reject(jctx *c, jval v, const jargs *args) { return choose(c, v, args, false, false); }
jval f_selectattr(jctx *c, jval v, const jargs *args) { return choose(c, v, args, true, true); }
jval f_rejectattr(jctx *c, jval v, const jargs *args) { return choose(c, v, args, false, true); }
