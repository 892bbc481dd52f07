// The builder of input values: a flat list of events, checked as they come, turned into values by each rendering.
//
// Nothing recurses on the way in. A first mistake is kept and everything after it is ignored, so that callers check once.
// SPDX-License-Identifier: Apache-2.0
#include "models/chat_template/values.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define VALUES_DEPTH_MAX 100

typedef enum { E_MAP, E_LIST, E_END, E_KEY, E_TEXT, E_INT, E_REAL, E_BOOL, E_NULL } event_kind;
typedef struct event {
    uint8_t kind;
    bool trusted;
    union {
        int64_t i;
        double f;
        size_t offset; // of a text in the pool
    };
    size_t len;
} event;

struct jinja_values {
    event *events;
    size_t n, cap;
    char *pool;
    size_t pool_len, pool_cap;
    bool in_map[VALUES_DEPTH_MAX];
    unsigned depth;
    bool have_key, done;
    wtl_error err;
};

wtl_status jinja_values_open(jinja_values **out, wtl_error *err) {
    *out = wtl_calloc(1, sizeof **out);
    return *out ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory");
}

void jinja_values_close(jinja_values **values) {
    jinja_values *v = *values;
    *values = NULL;
    if (!v) return;
    wtl_free(v->events);
    wtl_free(v->pool);
    wtl_free(v);
}

static void mistake(jinja_values *v, wtl_status status, const char *words) {
    if (!v->err.status) wtl_fail(&v->err, status, "%s", words);
}

static bool grow(void **p, size_t *cap, size_t need, size_t bytes) {
    size_t cap_new = *cap ? *cap : 64, total;
    while (cap_new < need)
        if (!wtl_mul_size(cap_new, 2, &cap_new)) return false;
    if (cap_new == *cap) return true;
    if (!wtl_mul_size(cap_new, bytes, &total)) return false;
    void *grown = wtl_realloc(*p, total);
    if (!grown) return false;
    *p = grown;
    *cap = cap_new;
    return true;
}

static event *add(jinja_values *v, event_kind kind) {
    if (v->err.status) return NULL;
    if (!grow((void **)&v->events, &v->cap, v->n + 1, sizeof *v->events)) return mistake(v, WTL_ERR_NO_MEMORY, "out of memory"), NULL;
    event *e = &v->events[v->n++];
    *e = (event){.kind = (uint8_t)kind};
    return e;
}

static event *add_text(jinja_values *v, event_kind kind, const char *text, size_t len) {
    size_t need;
    if (v->err.status) return NULL;
    if (!wtl_add_size(v->pool_len, len, &need) || !grow((void **)&v->pool, &v->pool_cap, need, 1)) return mistake(v, WTL_ERR_NO_MEMORY, "out of memory"), NULL;
    event *e = add(v, kind);
    if (!e) return NULL;
    if (len) memcpy(v->pool + v->pool_len, text, len);
    e->offset = v->pool_len;
    e->len = len;
    v->pool_len = need;
    return e;
}

// Whether a value may stand here.
static bool place_value(jinja_values *v) {
    if (v->err.status) return false;
    if (v->done || !v->depth) return mistake(v, WTL_ERR_INVALID, "a value stands outside the root map"), false;
    if (v->in_map[v->depth - 1] && !v->have_key) return mistake(v, WTL_ERR_INVALID, "a value in a map has no key"), false;
    v->have_key = false;
    return true;
}

static void begin(jinja_values *v, bool map) {
    if (v->err.status) return;
    bool root = !v->depth && !v->done && map;
    if (!root && !place_value(v)) return;
    if (v->depth == VALUES_DEPTH_MAX) {
        mistake(v, WTL_ERR_LIMIT, "values are nested deeper than 100 levels");
        return;
    }
    add(v, map ? E_MAP : E_LIST);
    v->in_map[v->depth++] = map;
}

void jinja_begin_map(jinja_values *v) { begin(v, true); }
void jinja_begin_list(jinja_values *v) { begin(v, false); }

void jinja_end(jinja_values *v) {
    if (v->err.status) return;
    if (!v->depth || v->have_key) {
        mistake(v, WTL_ERR_INVALID, v->depth ? "a map ends behind a key" : "nothing is open that could end");
        return;
    }
    add(v, E_END);
    v->done = --v->depth == 0;
}

void jinja_key(jinja_values *v, const char *key, size_t len) {
    if (v->err.status) return;
    if (!v->depth || !v->in_map[v->depth - 1] || v->have_key) {
        mistake(v, WTL_ERR_INVALID, "a key stands outside a map or behind another key");
        return;
    }
    add_text(v, E_KEY, key, len);
    v->have_key = true;
}

void jinja_text(jinja_values *v, const char *text, size_t len, bool trusted) {
    if (!place_value(v)) return;
    event *e = add_text(v, E_TEXT, text, len);
    if (e) e->trusted = trusted;
}

void jinja_int(jinja_values *v, int64_t value) {
    event *e = place_value(v) ? add(v, E_INT) : NULL;
    if (e) e->i = value;
}

void jinja_real(jinja_values *v, double value) {
    event *e = place_value(v) ? add(v, E_REAL) : NULL;
    if (e) e->f = value;
}

void jinja_bool(jinja_values *v, bool value) {
    event *e = place_value(v) ? add(v, E_BOOL) : NULL;
    if (e) e->i = value;
}

void jinja_null(jinja_values *v) {
    if (place_value(v)) add(v, E_NULL);
}

wtl_status jinja_values_check(const jinja_values *v, wtl_error *err) {
    if (v->err.status) return wtl_fail(err, v->err.status, "%s", v->err.message);
    return v->done ? WTL_OK : wtl_fail(err, WTL_ERR_INVALID, "the values' root map is not complete");
}

// Keys are tainted: they come from outside as texts do, except names of the root map, which are only looked up.
static jval load_scalar(jctx *c, const jinja_values *v, const event *e) {
    switch (e->kind) {
    case E_TEXT: return val_str(str_make(c, v->pool + e->offset, e->len, !e->trusted));
    case E_INT: return val_int(e->i);
    case E_REAL: return val_real(e->f);
    case E_BOOL: return val_bool(e->i != 0);
    default: return val_none();
    }
}

jval values_load(jctx *c, const jinja_values *v) {
    jval open[VALUES_DEPTH_MAX], key[VALUES_DEPTH_MAX], value = val_none();
    unsigned depth = 0;
    for (size_t i = 0; i < v->n; i++) {
        const event *e = &v->events[i];
        jinja_charge(c, 1);
        if (e->kind == E_KEY) {
            key[depth - 1] = val_str(str_make(c, v->pool + e->offset, e->len, true));
            continue;
        }
        if (e->kind == E_MAP || e->kind == E_LIST) {
            open[depth++] = e->kind == E_MAP ? val_dict(dict_new(c)) : val_list(list_new(c, 0));
            continue;
        }
        value = e->kind == E_END ? open[--depth] : load_scalar(c, v, e);
        if (depth && open[depth - 1].type == V_DICT) dict_set(c, open[depth - 1].dict, key[depth - 1], value);
        else if (depth) list_push(c, open[depth - 1].list, value);
    }
    return value;
}
