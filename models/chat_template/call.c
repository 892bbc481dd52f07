// Calls: arguments to parameters, macros, recursive loops, and the functions that every template has.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"

#define RANGE_MAX 100000 // of Jinja's sandbox

void args_bind(jctx *c, const char *what, const jargs *args, const char *const *names, size_t n, size_t required, jval *out) {
    if (args->n_pos > n) fail_type(c, "%s() takes at most %zu arguments (%zu given)", what, n, args->n_pos);
    for (size_t i = 0; i < n; i++) out[i] = i < args->n_pos ? args->pos[i] : val_missing();
    for (size_t k = 0; k < args->n_kw; k++) {
        size_t i = 0;
        while (i < n && !str_is(args->kw[k].name, names[i])) i++;
        int len = (int)(args->kw[k].name->len < 60 ? args->kw[k].name->len : 60);
        if (i == n) fail_type(c, "%s() got an unexpected keyword argument '%.*s'", what, len, args->kw[k].name->p);
        if (val_given(out[i])) fail_type(c, "%s() got multiple values for argument '%s'", what, names[i]);
        out[i] = args->kw[k].value;
    }
    for (size_t i = 0; i < required; i++)
        if (!val_given(out[i])) fail_type(c, "%s() missing required argument: '%s'", what, names[i]);
}

void args_none(jctx *c, const char *what, const jargs *args) { args_bind(c, what, args, NULL, 0, 0, NULL); }

int64_t arg_int(jctx *c, const char *what, jval v) {
    int64_t i;
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (!val_is_int(v, &i)) fail_type(c, "%s(): '%s' object cannot be interpreted as an integer", what, val_type_name(v));
    return i;
}

jstr *arg_str(jctx *c, const char *what, jval v) {
    if (v.type != V_STR) fail_type(c, "%s() argument must be str, not %s", what, val_type_name(v));
    return v.s;
}

// ---- Macros ----------------------------------------------------------------------------------------------------------------
static jval take_keyword(jctx *c, jargs *left, const jstr *name) {
    for (size_t i = 0; i < left->n_kw; i++) {
        if (!str_same(left->kw[i].name, name)) continue;
        jval v = left->kw[i].value;
        memmove(&left->kw[i], &left->kw[i + 1], (left->n_kw - i - 1) * sizeof *left->kw);
        left->n_kw--;
        return v;
    }
    jinja_charge(c, 1);
    return val_missing();
}

static jval keywords_dict(jctx *c, const jargs *left) {
    jdict *d = dict_new(c);
    for (size_t i = 0; i < left->n_kw; i++) dict_set(c, d, val_str((jstr *)left->kw[i].name), left->kw[i].value);
    return val_dict(d);
}

static void fail_keyword(jctx *c, const jnode *n, const jstr *name) {
    if (str_is(name, "caller")) fail_type(c, "the macro was invoked with two values for the special caller argument. This is most likely a bug.");
    const jstr *macro = n->name;
    fail_type(c, "macro '%.*s' takes no keyword argument '%.*s'", macro ? (int)(macro->len < 60 ? macro->len : 60) : 6, macro ? macro->p : "caller",
              (int)(name->len < 60 ? name->len : 60), name->p);
}

// Parameters, then caller, kwargs and varargs where the body mentions them.
static void bind_macro(jctx *c, const jnode *n, const jargs *args, jscope *scope) {
    static const jstr caller = {.p = "caller", .len = 6, .n_chars = 6}, kwargs = {.p = "kwargs", .len = 6, .n_chars = 6}, varargs = {.p = "varargs", .len = 7, .n_chars = 7};
    jargs left = *args;
    left.kw = jinja_array(c, args->n_kw, sizeof *left.kw);
    if (args->n_kw) memcpy(left.kw, args->kw, args->n_kw * sizeof *left.kw);
    bool found_caller = false;
    for (size_t i = 0; i < n->n; i++) {
        const jstr *name = n->items[i]->name;
        found_caller |= str_same(name, &caller);
        scope_set(c, scope, name, i < args->n_pos ? args->pos[i] : take_keyword(c, &left, name));
    }
    if (n->uses_caller && !found_caller) {
        jval v = take_keyword(c, &left, &caller);
        if (!val_given(v) || v.type == V_NONE) v = val_undefined_hint(c, "No caller defined");
        scope_set(c, scope, &caller, v);
    }
    if (n->uses_kwargs) scope_set(c, scope, &kwargs, keywords_dict(c, &left));
    else if (left.n_kw) fail_keyword(c, n, left.kw[0].name);
    jlist *more = list_new(c, 0);
    for (size_t i = n->n; i < args->n_pos; i++) list_push(c, more, args->pos[i]);
    if (n->uses_varargs) scope_set(c, scope, &varargs, val_tuple(more));
    else if (more->n) fail_type(c, "the macro takes not more than %zu argument(s)", n->n);
}

static jval missing_parameter(jctx *c, const jstr *name) {
    jbuild b;
    build_open(&b, c);
    build_literal(&b, "parameter '");
    build_text(&b, name);
    build_bytes(&b, "' was not provided", sizeof "' was not provided", NULL, TAINT_NONE); // with its end
    return val_undefined_hint(c, b.p);
}

jval macro_call(jctx *c, jmacro *macro, const jargs *args) {
    const jnode *n = macro->node;
    jscope *scope = c->scope;
    jbuild text, *out = c->out;
    build_open(&text, c);
    jinja_enter(c);
    jscope *inner = scope_new(c, macro->scope);
    bind_macro(c, n, args, inner);
    c->scope = inner;
    c->out = &text;
    size_t first_default = n->n - n->n_defaults;
    for (size_t i = 0; i < n->n; i++) {
        if (val_given(inner->vars[i].value)) continue;
        jval v = i >= first_default ? eval(c, n->defaults[i - first_default]) : missing_parameter(c, n->items[i]->name);
        inner->vars[i].value = v;
    }
    exec_body(c, n->b);
    jinja_leave(c);
    c->out = out;
    c->scope = scope;
    return val_str(build_done(&text));
}

// ---- Loops as values -------------------------------------------------------------------------------------------------------
static jval loop_cycle(jctx *c, jval self, const jargs *args) {
    if (!args->n_pos) fail_type(c, "no items for cycling given");
    return args->pos[self.loop->index0 % args->n_pos];
}

static jval loop_changed(jctx *c, jval self, const jargs *args) {
    jlist *l = list_new(c, args->n_pos);
    for (size_t i = 0; i < args->n_pos; i++) list_push(c, l, args->pos[i]);
    jval now = val_tuple(l);
    if (val_given(self.loop->changed) && val_equal(c, self.loop->changed, now)) return val_bool(false);
    self.loop->changed = now;
    return val_bool(true);
}

static jval method_make(jctx *c, jval self, const char *name, jval (*call)(jctx *, jval, const jargs *)) {
    jmethod *m = jinja_alloc(c, sizeof *m);
    *m = (jmethod){.self = self, .name = name, .call = call};
    return (jval){.type = V_METHOD, .method = m};
}

jval loop_attr(jctx *c, jval v, const jstr *name) {
    jloop *l = v.loop;
    int64_t index0 = (int64_t)l->index0;
    bool has;
    if (str_is(name, "index")) return val_int(index0 + 1);
    if (str_is(name, "index0")) return val_int(index0);
    if (str_is(name, "revindex")) return val_int(val_length(c, v, &has) - index0);
    if (str_is(name, "revindex0")) return val_int(val_length(c, v, &has) - index0 - 1);
    if (str_is(name, "length")) return val_int(val_length(c, v, &has));
    if (str_is(name, "first")) return val_bool(index0 == 0);
    if (str_is(name, "last")) return val_bool(!loop_has(c, l, l->index0 + 1));
    if (str_is(name, "depth")) return val_int((int64_t)l->depth0 + 1);
    if (str_is(name, "depth0")) return val_int((int64_t)l->depth0);
    if (str_is(name, "previtem")) return index0 ? l->items->items[index0 - 1] : val_undefined_hint(c, "there is no previous item");
    if (str_is(name, "nextitem")) return loop_has(c, l, l->index0 + 1) ? l->items->items[index0 + 1] : val_undefined_hint(c, "there is no next item");
    if (str_is(name, "cycle")) return method_make(c, v, "cycle", loop_cycle);
    return str_is(name, "changed") ? method_make(c, v, "changed", loop_changed) : val_missing();
}

static jval loop_recurse(jctx *c, const jloop *l, const jargs *args) {
    static const char *const names[] = {"iterable"};
    jval items;
    jflow flow;
    args_bind(c, "loop", args, names, 1, 1, &items);
    if (!l->node->flag) fail_type(c, "The loop must have the 'recursive' marker to be called recursively.");
    return loop_run(c, l->node, l->scope, items, l->depth0 + 1, &flow);
}

// ---- Functions of every template -------------------------------------------------------------------------------------------
static jval call_range(jctx *c, const jargs *args) {
    int64_t v[3] = {0, 0, 1};
    jval given[3];
    static const char *const names[] = {"start", "stop", "step"};
    if (args->n_kw) fail_type(c, "range() takes no keyword arguments");
    args_bind(c, "range", args, names, 3, 1, given);
    for (size_t i = 0; i < args->n_pos; i++) v[i] = arg_int(c, "range", given[i]);
    if (args->n_pos == 1) v[1] = v[0], v[0] = 0;
    if (!v[2]) fail_value(c, "range() arg 3 must not be zero");
    jval r = range_make(c, v[0], v[1], v[2]);
    if (r.range->n > RANGE_MAX) jinja_fail(c, WTL_ERR_FORMAT, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
    return r;
}

static void dict_add(jctx *c, jdict *d, jval from) {
    if (from.type == V_DICT) {
        for (size_t i = 0; i < from.dict->n_entries; i++)
            if (from.dict->entries[i].live) dict_set(c, d, from.dict->entries[i].key, from.dict->entries[i].value);
        return;
    }
    const jlist *pairs = val_items(c, from);
    for (size_t i = 0; i < pairs->n; i++) {
        const jlist *pair = val_items(c, pairs->items[i]);
        if (pair->n != 2) fail_value(c, "dictionary update sequence element #%zu has length %zu; 2 is required", i, pair->n);
        dict_set(c, d, pair->items[0], pair->items[1]);
    }
}

static jdict *dict_of_args(jctx *c, const jargs *args) {
    jdict *d = dict_new(c);
    if (args->n_pos > 1) fail_type(c, "dict expected at most 1 argument, got %zu", args->n_pos);
    if (args->n_pos) dict_add(c, d, args->pos[0]);
    for (size_t i = 0; i < args->n_kw; i++) dict_set(c, d, val_str((jstr *)args->kw[i].name), args->kw[i].value);
    return d;
}

static jval call_dict(jctx *c, const jargs *args) { return val_dict(dict_of_args(c, args)); }
static jval call_namespace(jctx *c, const jargs *args) { return (jval){.type = V_NAMESPACE, .dict = dict_of_args(c, args)}; }

static jval call_raise(jctx *c, const jargs *args) {
    static const char *const names[] = {"message"};
    jval message;
    args_bind(c, "raise_exception", args, names, 1, 1, &message);
    const jstr *s = val_str_of(c, message);
    jinja_fail(c, WTL_ERR_INVALID, "%.*s", (int)(s->len < 400 ? s->len : 400), s->p);
}

static jval call_strftime(jctx *c, const jargs *args) {
    static const char *const names[] = {"format"};
    jval format;
    args_bind(c, "strftime_now", args, names, 1, 1, &format);
    return val_str(format_time(c, arg_str(c, "strftime", format)));
}

static jval call_cycler(jctx *c, const jargs *args) {
    if (args->n_kw) fail_type(c, "cycler() got an unexpected keyword argument");
    if (!args->n_pos) jinja_fail(c, WTL_ERR_FORMAT, "at least one item has to be provided");
    jcycler *cycler = jinja_alloc(c, sizeof *cycler);
    cycler->items = list_new(c, args->n_pos);
    for (size_t i = 0; i < args->n_pos; i++) list_push(c, cycler->items, args->pos[i]);
    return (jval){.type = V_CYCLER, .cycler = cycler};
}

static jval call_joiner(jctx *c, const jargs *args) {
    static const char *const names[] = {"sep"};
    jcycler *joiner = jinja_alloc(c, sizeof *joiner);
    args_bind(c, "joiner", args, names, 1, 0, &joiner->separator);
    if (!val_given(joiner->separator)) joiner->separator = val_str(str_literal(c, ", "));
    return (jval){.type = V_JOINER, .cycler = joiner};
}

const jfunction *find_global(const jstr *name) {
    static const jfunction functions[] = {{"range", call_range}, {"dict", call_dict}, {"namespace", call_namespace}, {"cycler", call_cycler},
                                          {"joiner", call_joiner}, {"raise_exception", call_raise}, {"strftime_now", call_strftime}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (str_is(name, functions[i].name)) return &functions[i];
    return NULL;
}

bool val_callable(jval v) {
    return v.type == V_MACRO || v.type == V_FUNCTION || v.type == V_METHOD || v.type == V_LOOP || v.type == V_JOINER || v.type == V_UNDEFINED;
}

jval val_call(jctx *c, jval callee, const jargs *args) {
    jcycler *joiner;
    jinja_charge(c, 1);
    switch (callee.type) {
    case V_UNDEFINED: fail_undefined(c, callee);
    case V_MACRO: return macro_call(c, callee.macro, args);
    case V_FUNCTION: return callee.function->call(c, args);
    case V_METHOD: return callee.method->call(c, callee.method->self, args);
    case V_LOOP: return loop_recurse(c, callee.loop, args);
    case V_JOINER:
        args_none(c, "joiner", args);
        joiner = callee.cycler;
        if (joiner->used) return joiner->separator;
        joiner->used = true;
        return val_str(str_literal(c, ""));
    default: fail_type(c, "'%s' object is not callable", val_type_name(callee));
    }
}
