// Methods of lists, tuples, dicts, cyclers, and the table of all methods by type.
//
// Jinja's immutable sandbox refuses methods that change a list or dict, but for list.pop and list.clear, which its list forgets; so do we.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "models/chat_template/methods.h"

// ---- Lists and tuples ------------------------------------------------------------------------------------------------------
static jval seq_count(jctx *c, jval self, const jargs *args) {
    jval what;
    int64_t n = 0;
    args_bind(c, "count", args, (const char *const[]){"value"}, 1, 1, &what);
    for (size_t i = 0; i < self.list->n; i++) n += val_equal(c, self.list->items[i], what);
    return val_int(n);
}

static size_t clamp_index(jctx *c, jval v, size_t n, size_t fallback) {
    if (!val_given(v)) return fallback;
    int64_t i = arg_int(c, "index", v);
    if (i < 0) i += (int64_t)n;
    return i < 0 ? 0 : i > (int64_t)n ? n : (size_t)i;
}

static jval seq_index(jctx *c, jval self, const jargs *args) {
    jval v[3];
    args_bind(c, "index", args, (const char *const[]){"value", "start", "stop"}, 3, 1, v);
    size_t n = self.list->n, to = clamp_index(c, v[2], n, n);
    for (size_t i = clamp_index(c, v[1], n, 0); i < to; i++)
        if (val_equal(c, self.list->items[i], v[0])) return val_int((int64_t)i);
    fail_value(c, "the value is not in the %s", val_type_name(self));
}

static jlist *list_copy(jctx *c, const jlist *from) {
    jlist *l = list_new(c, from->n);
    for (size_t i = 0; i < from->n; i++) list_push(c, l, from->items[i]);
    return l;
}

static jval list_copy_method(jctx *c, jval self, const jargs *args) {
    args_none(c, "copy", args);
    return val_list(list_copy(c, self.list));
}

// The items move to new room: walks over the old ones may be under way.
static void list_replace(jlist *l, const jlist *by) { *l = *by; }

static jval list_pop(jctx *c, jval self, const jargs *args) {
    jval index;
    args_bind(c, "pop", args, (const char *const[]){"index"}, 1, 0, &index);
    int64_t n = (int64_t)self.list->n, i = val_given(index) ? arg_int(c, "pop", index) : -1;
    if (!n) fail_value(c, "pop from empty list");
    if (i < 0) i += n;
    if (i < 0 || i >= n) fail_value(c, "pop index out of range");
    jval v = self.list->items[i];
    jinja_charge(c, (uint64_t)(n - i));
    memmove(&self.list->items[i], &self.list->items[i + 1], (size_t)(n - i - 1) * sizeof v);
    self.list->n--;
    return v;
}

static jval list_clear(jctx *c, jval self, const jargs *args) {
    args_none(c, "clear", args);
    self.list->n = 0;
    return val_none();
}

static jval list_append(jctx *c, jval self, const jargs *args) {
    jval v;
    args_bind(c, "append", args, (const char *const[]){"object"}, 1, 1, &v);
    list_push(c, self.list, v);
    return val_none();
}

static jval list_extend(jctx *c, jval self, const jargs *args) {
    jval v;
    args_bind(c, "extend", args, (const char *const[]){"iterable"}, 1, 1, &v);
    const jlist *more = list_copy(c, val_items(c, v));
    for (size_t i = 0; i < more->n; i++) list_push(c, self.list, more->items[i]);
    return val_none();
}

static jval list_insert(jctx *c, jval self, const jargs *args) {
    jval v[2];
    args_bind(c, "insert", args, (const char *const[]){"index", "object"}, 2, 2, v);
    size_t at = clamp_index(c, v[0], self.list->n, 0);
    list_push(c, self.list, v[1]);
    jinja_charge(c, self.list->n - at);
    memmove(&self.list->items[at + 1], &self.list->items[at], (self.list->n - at - 1) * sizeof(jval));
    self.list->items[at] = v[1];
    return val_none();
}

static jval list_remove(jctx *c, jval self, const jargs *args) {
    int64_t i = seq_index(c, self, args).i;
    jval at = val_int(i);
    list_pop(c, self, &(jargs){.pos = &at, .n_pos = 1});
    return val_none();
}

static jval list_reverse(jctx *c, jval self, const jargs *args) {
    args_none(c, "reverse", args);
    jlist *l = list_new(c, self.list->n);
    for (size_t i = self.list->n; i-- > 0;) list_push(c, l, self.list->items[i]);
    list_replace(self.list, l);
    return val_none();
}

static jval list_sort(jctx *c, jval self, const jargs *args) {
    jval reverse;
    args_bind(c, "sort", args, (const char *const[]){"reverse"}, 1, 0, &reverse);
    jlist *l = list_copy(c, self.list);
    val_sort(c, l->items, self.list->items, l->n, val_true(c, reverse));
    list_replace(self.list, l);
    return val_none();
}

// ---- Dicts -----------------------------------------------------------------------------------------------------------------
static jval dict_get_method(jctx *c, jval self, const jargs *args) {
    jval v[2];
    if (args->n_kw) fail_type(c, "dict.get() takes no keyword arguments");
    args_bind(c, "get", args, (const char *const[]){"key", "default"}, 2, 1, v);
    jval *found = dict_get(c, self.dict, v[0]);
    return found ? *found : val_given(v[1]) ? v[1] : val_none();
}

static jval view_make(jctx *c, jval self, const jargs *args, jview_kind kind, const char *name) {
    args_none(c, name, args);
    jview *view = jinja_alloc(c, sizeof *view);
    *view = (jview){.dict = self.dict, .kind = kind};
    return (jval){.type = V_VIEW, .view = view};
}

static jval dict_keys(jctx *c, jval self, const jargs *args) { return view_make(c, self, args, VIEW_KEYS, "keys"); }
static jval dict_values(jctx *c, jval self, const jargs *args) { return view_make(c, self, args, VIEW_VALUES, "values"); }
static jval dict_items(jctx *c, jval self, const jargs *args) { return view_make(c, self, args, VIEW_ITEMS, "items"); }

static jval dict_copy(jctx *c, jval self, const jargs *args) {
    args_none(c, "copy", args);
    return find_global(&(jstr){.p = "dict", .len = 4, .n_chars = 4})->call(c, &(jargs){.pos = &self, .n_pos = 1});
}

static jval dict_pop(jctx *c, jval self, const jargs *args) {
    jval v[2];
    args_bind(c, "pop", args, (const char *const[]){"key", "default"}, 2, 1, v);
    jval *found = dict_get(c, self.dict, v[0]);
    if (!found && !val_given(v[1])) fail_value(c, "the key is not in the dict");
    jval value = found ? *found : v[1];
    dict_remove(c, self.dict, v[0]);
    return value;
}

static jval dict_popitem(jctx *c, jval self, const jargs *args) {
    args_none(c, "popitem", args);
    for (size_t i = self.dict->n_entries; i-- > 0;) {
        jentry *e = &self.dict->entries[i];
        jinja_charge(c, 1);
        if (!e->live) continue;
        dict_remove(c, self.dict, e->key);
        return pair_make(c, e->key, e->value);
    }
    fail_value(c, "popitem(): dictionary is empty");
}

static jval dict_clear(jctx *c, jval self, const jargs *args) {
    args_none(c, "clear", args);
    *self.dict = (jdict){0};
    return val_none();
}

static jval dict_setdefault(jctx *c, jval self, const jargs *args) {
    jval v[2];
    args_bind(c, "setdefault", args, (const char *const[]){"key", "default"}, 2, 1, v);
    jval *found = dict_get(c, self.dict, v[0]);
    if (found) return *found;
    if (!val_given(v[1])) v[1] = val_none();
    dict_set(c, self.dict, v[0], v[1]);
    return v[1];
}

static jval dict_update(jctx *c, jval self, const jargs *args) {
    const jdict *more = find_global(&(jstr){.p = "dict", .len = 4, .n_chars = 4})->call(c, args).dict;
    for (size_t i = 0; i < more->n_entries; i++)
        if (more->entries[i].live) dict_set(c, self.dict, more->entries[i].key, more->entries[i].value);
    return val_none();
}

// ---- Cyclers, numbers ------------------------------------------------------------------------------------------------------
static jval cycler_next(jctx *c, jval self, const jargs *args) {
    args_none(c, "next", args);
    jval v = self.cycler->items->items[self.cycler->pos];
    self.cycler->pos = (self.cycler->pos + 1) % self.cycler->items->n;
    return v;
}

static jval cycler_reset(jctx *c, jval self, const jargs *args) {
    args_none(c, "reset", args);
    self.cycler->pos = 0;
    return val_none();
}

static jval real_is_integer(jctx *c, jval self, const jargs *args) {
    args_none(c, "is_integer", args);
    return val_bool(isfinite(self.f) && self.f == floor(self.f));
}

static jval not_here(jctx *c, jval self, const jargs *args) {
    (void)args;
    fail_type(c, "this method of '%s' is not supported", val_type_name(self));
}

// ---- The table -------------------------------------------------------------------------------------------------------------
static const method_entry list_methods[] = {{"append", list_append, true}, {"clear", list_clear, false}, {"copy", list_copy_method, false}, {"count", seq_count, false},
                                            {"extend", list_extend, true}, {"index", seq_index, false}, {"insert", list_insert, true}, {"pop", list_pop, false},
                                            {"remove", list_remove, true}, {"reverse", list_reverse, true}, {"sort", list_sort, true}, {NULL, NULL, false}};
static const method_entry tuple_methods[] = {{"count", seq_count, false}, {"index", seq_index, false}, {NULL, NULL, false}};
static const method_entry dict_methods[] = {{"clear", dict_clear, true}, {"copy", dict_copy, false}, {"fromkeys", not_here, false}, {"get", dict_get_method, false},
                                            {"items", dict_items, false}, {"keys", dict_keys, false}, {"pop", dict_pop, true}, {"popitem", dict_popitem, true},
                                            {"setdefault", dict_setdefault, true}, {"update", dict_update, true}, {"values", dict_values, false}, {NULL, NULL, false}};
static const method_entry cycler_methods[] = {{"next", cycler_next, false}, {"reset", cycler_reset, false}, {"current", not_here, false}, {NULL, NULL, false}};
static const method_entry real_methods[] = {{"is_integer", real_is_integer, false}, {NULL, NULL, false}};

jmethod *find_method(jctx *c, jval self, const jstr *name, bool *unsafe) {
    const method_entry *e = NULL;
    switch (self.type) {
    case V_STR: e = text_methods; break;
    case V_LIST: e = list_methods; break;
    case V_TUPLE: e = tuple_methods; break;
    case V_DICT: e = dict_methods; break;
    case V_CYCLER: e = cycler_methods; break;
    case V_REAL: e = real_methods; break;
    default: return NULL;
    }
    while (e->name && !str_is(name, e->name)) e++;
    if (!e->name) return NULL;
    *unsafe = e->changes && !c->may_mutate;
    jmethod *m = jinja_alloc(c, sizeof *m);
    *m = (jmethod){.self = self, .name = e->name, .call = e->call};
    return m;
}
