// Lists, dicts in order of insertion with a hash index, ranges, and walking anything that Python can walk.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "models/chat_template/ast.h"

#define INDEX_FROM 9 // smaller dicts are searched in order

jlist *list_new(jctx *c, size_t cap) {
    jlist *l = jinja_alloc(c, sizeof *l);
    if (cap) l->items = jinja_array(c, cap, sizeof *l->items);
    l->cap = cap;
    return l;
}

void list_push(jctx *c, jlist *l, jval v) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        jval *items = jinja_array(c, cap, sizeof *items);
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    jinja_charge(c, 1);
    l->items[l->n++] = v;
}

jval pair_make(jctx *c, jval a, jval b) {
    jlist *l = list_new(c, 2);
    l->items[0] = a;
    l->items[1] = b;
    l->n = 2;
    return val_tuple(l);
}

// ---- Dicts -----------------------------------------------------------------------------------------------------------------
static uint64_t hash_bytes(const char *p, size_t len) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return h ^ h >> 29;
}

bool val_hashable(jctx *c, jval v) {
    jinja_charge(c, 1);
    if (v.type == V_TUPLE) {
        bool all = true;
        jinja_enter(c);
        for (size_t i = 0; all && i < v.list->n; i++) all = val_hashable(c, v.list->items[i]);
        jinja_leave(c);
        return all;
    }
    return v.type != V_LIST && v.type != V_DICT && v.type != V_VIEW && v.type != V_MISSING;
}

static uint64_t hash_value(jctx *c, jval v) {
    uint64_t h = 7;
    switch (v.type) {
    case V_STR: jinja_charge_bytes(c, v.s->len); return hash_bytes(v.s->p, v.s->len);
    case V_BOOL: return (uint64_t)v.b * 0x9E3779B97F4A7C15u;
    case V_INT: return (uint64_t)v.i * 0x9E3779B97F4A7C15u;
    case V_REAL:
        if (v.f == floor(v.f) && fabs(v.f) < 9e18) return (uint64_t)(int64_t)v.f * 0x9E3779B97F4A7C15u;
        return hash_bytes((const char *)&v.f, sizeof v.f);
    case V_TUPLE:
        jinja_enter(c);
        for (size_t i = 0; i < v.list->n; i++) h = h * 31 + hash_value(c, v.list->items[i]);
        jinja_leave(c);
        return h;
    case V_RANGE: return hash_bytes((const char *)v.range, sizeof *v.range);
    case V_UNDEFINED:
    case V_NONE: return v.type;
    default: return (uint64_t)(uintptr_t)v.p * 0x9E3779B97F4A7C15u;
    }
}

static uint64_t hash_key(jctx *c, jval key) {
    if (!val_hashable(c, key)) fail_type(c, "unhashable type: '%s'", val_type_name(key));
    return hash_value(c, key);
}

jdict *dict_new(jctx *c) { return jinja_alloc(c, sizeof(jdict)); }

static void index_add(jctx *c, jdict *d, size_t entry) {
    size_t mask = d->index_cap - 1, at = (size_t)(d->entries[entry].hash >> 7 ^ d->entries[entry].hash) & mask;
    while (d->index[at]) {
        jinja_charge(c, 1);
        at = (at + 1) & mask;
    }
    d->index[at] = (uint32_t)(entry + 1);
}

static void dict_grow(jctx *c, jdict *d) {
    size_t cap = d->cap ? d->cap * 2 : 4;
    if (cap > UINT32_MAX / 4) jinja_fail(c, WTL_ERR_LIMIT, "a dict is too large");
    jentry *entries = jinja_array(c, cap, sizeof *entries);
    if (d->n_entries) memcpy(entries, d->entries, d->n_entries * sizeof *entries);
    d->entries = entries;
    d->cap = cap;
    if (cap < INDEX_FROM - 1) return;
    d->index_cap = cap * 2;
    d->index = jinja_array(c, d->index_cap, sizeof *d->index);
    for (size_t i = 0; i < d->n_entries; i++) index_add(c, d, i);
}

static jentry *dict_find(jctx *c, const jdict *d, jval key, uint64_t hash) {
    if (!d->index) {
        for (size_t i = 0; i < d->n_entries; i++)
            if (d->entries[i].live && d->entries[i].hash == hash && val_equal(c, d->entries[i].key, key)) return &d->entries[i];
        return NULL;
    }
    size_t mask = d->index_cap - 1, at = (size_t)(hash >> 7 ^ hash) & mask;
    for (; d->index[at]; at = (at + 1) & mask) {
        jentry *e = &d->entries[d->index[at] - 1];
        jinja_charge(c, 1);
        if (e->live && e->hash == hash && val_equal(c, e->key, key)) return e;
    }
    return NULL;
}

void dict_set(jctx *c, jdict *d, jval key, jval value) {
    jinja_charge(c, 1);
    uint64_t hash = hash_key(c, key);
    jentry *e = dict_find(c, d, key, hash);
    if (e) {
        e->value = value;
        return;
    }
    if (d->n_entries == d->cap) dict_grow(c, d);
    d->entries[d->n_entries++] = (jentry){.key = key, .value = value, .hash = hash, .live = true};
    d->n++;
    if (d->index) index_add(c, d, d->n_entries - 1);
}

jval *dict_get(jctx *c, const jdict *d, jval key) {
    uint64_t hash = hash_key(c, key);
    jentry *e = dict_find(c, d, key, hash);
    return e ? &e->value : NULL;
}

jval *dict_get_text(jctx *c, const jdict *d, const jstr *key) { return dict_get(c, d, val_str((jstr *)key)); }

jval *dict_get_literal(jctx *c, const jdict *d, const char *key) {
    jstr s = {.p = key, .len = strlen(key), .n_chars = SIZE_MAX};
    return dict_get_text(c, d, &s);
}

bool dict_remove(jctx *c, jdict *d, jval key) {
    jentry *e = dict_find(c, d, key, hash_key(c, key));
    if (!e) return false;
    e->live = false;
    d->n--;
    return true;
}

// ---- Ranges and iteration --------------------------------------------------------------------------------------------------
jval range_make(jctx *c, int64_t start, int64_t stop, int64_t step) {
    jrange *r = jinja_alloc(c, sizeof *r);
    *r = (jrange){.start = start, .stop = stop, .step = step};
    uint64_t span = 0, by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 && start < stop) span = (uint64_t)stop - (uint64_t)start;
    if (step < 0 && start > stop) span = (uint64_t)start - (uint64_t)stop;
    uint64_t n = span ? (span - 1) / by + 1 : 0;
    r->n = n > INT64_MAX ? INT64_MAX : (int64_t)n;
    return (jval){.type = V_RANGE, .range = r};
}

jval range_item(const jrange *r, int64_t i) { return val_int((int64_t)((uint64_t)r->start + (uint64_t)i * (uint64_t)r->step)); }

jval iter_make(jctx *c, jlist *items, const char *kind) {
    jiter *it = jinja_alloc(c, sizeof *it);
    it->items = items;
    it->kind = kind;
    return (jval){.type = V_ITER, .iter = it};
}

bool val_iterable(jval v) {
    return v.type == V_UNDEFINED || (v.type >= V_STR && v.type <= V_RANGE) || v.type == V_LOOP;
}

static jlist *text_items(jctx *c, const jstr *s) {
    jlist *l = list_new(c, str_chars(c, s));
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        utf8_next(s->p, s->len, &i);
        jstr *part = str_part(c, s, from, i);
        part->markup = false;
        list_push(c, l, val_str(part));
    }
    return l;
}

static jlist *view_items(jctx *c, const jdict *d, jview_kind kind) {
    jlist *l = list_new(c, d->n);
    for (size_t i = 0; i < d->n_entries; i++) {
        const jentry *e = &d->entries[i];
        if (e->live) list_push(c, l, kind == VIEW_KEYS ? e->key : kind == VIEW_VALUES ? e->value : pair_make(c, e->key, e->value));
    }
    return l;
}

jlist *val_items(jctx *c, jval v) {
    jlist *l;
    switch (v.type) {
    case V_LIST:
    case V_TUPLE: return v.list;
    case V_UNDEFINED: return list_new(c, 0);
    case V_STR: return text_items(c, v.s);
    case V_DICT: return view_items(c, v.dict, VIEW_KEYS);
    case V_VIEW: return view_items(c, v.view->dict, v.view->kind);
    case V_RANGE:
        l = list_new(c, (size_t)v.range->n);
        for (int64_t i = 0; i < v.range->n; i++) list_push(c, l, range_item(v.range, i));
        return l;
    case V_ITER:
        l = list_new(c, 0);
        l->n = l->cap = v.iter->items->n - v.iter->pos;
        if (l->n) l->items = v.iter->items->items + v.iter->pos; // an empty list has no array to point into
        v.iter->pos = v.iter->items->n;
        return l;
    default: fail_type(c, "'%s' object is not iterable", val_type_name(v));
    }
}

int64_t val_length(jctx *c, jval v, bool *has) {
    *has = true;
    switch (v.type) {
    case V_UNDEFINED: return 0;
    case V_STR: return (int64_t)str_chars(c, v.s);
    case V_LIST:
    case V_TUPLE: return (int64_t)v.list->n;
    case V_DICT: return (int64_t)v.dict->n;
    case V_VIEW: return (int64_t)v.view->dict->n;
    case V_RANGE: return v.range->n;
    case V_LOOP:
        loop_has(c, v.loop, SIZE_MAX);
        return (int64_t)v.loop->items->n;
    default: *has = false; return 0;
    }
}
