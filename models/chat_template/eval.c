// Expressions to values. Every evaluation is a step and a level of depth; c->at says where the template stands when something fails.
// SPDX-License-Identifier: Apache-2.0
#include "models/chat_template/ast.h"

static jval eval_name(jctx *c, const jnode *n) {
    for (const jscope *scope = c->scope; scope; scope = scope->parent) {
        jinja_charge(c, 1);
        for (size_t i = scope->n; i-- > 0;) {
            if (!str_same(scope->vars[i].name, n->name)) continue;
            if (!val_given(scope->vars[i].value)) return val_undefined_name(c, n->name);
            return scope->vars[i].value;
        }
    }
    jval *v = c->variables ? dict_get_text(c, c->variables->dict, n->name) : NULL;
    if (!v && c->globals) v = dict_get_text(c, c->globals->dict, n->name);
    if (v) return *v;
    const jfunction *f = find_global(n->name);
    return f ? (jval){.type = V_FUNCTION, .function = f} : val_undefined_name(c, n->name);
}

static jlist *eval_items(jctx *c, const jnode *n) {
    jlist *l = list_new(c, n->n);
    for (size_t i = 0; i < n->n; i++) list_push(c, l, eval(c, n->items[i]));
    return l;
}

static jval eval_dict(jctx *c, const jnode *n) {
    jdict *d = dict_new(c);
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        jval key = eval(c, n->items[i]), value = eval(c, n->items[i + 1]);
        c->at = n->at;
        dict_set(c, d, key, value);
    }
    return val_dict(d);
}

static jval eval_concat(jctx *c, const jnode *n) {
    jstr *all = NULL;
    for (size_t i = 0; i < n->n; i++) {
        jstr *part = val_str_of(c, eval(c, n->items[i]));
        all = all ? str_concat(c, all, part) : part;
    }
    return val_str(all->markup ? str_plain(c, all) : all);
}

static bool compare(jctx *c, int op, jval a, jval b) {
    switch (op) {
    case CMP_IN: return val_contains(c, b, a);
    case CMP_NOT_IN: return !val_contains(c, b, a);
    case T_EQ: return val_equal(c, a, b);
    case T_NE: return !val_equal(c, a, b);
    case T_LT: return val_less(c, a, b, "<");
    case T_GT: return val_less(c, b, a, ">");
    case T_LTEQ: return val_less(c, a, b, "<=");
    default: return val_less(c, b, a, ">=");
    }
}

static jval eval_compare(jctx *c, const jnode *n) {
    jval left = eval(c, n->a);
    for (size_t i = 0; i < n->n; i++) {
        jval right = eval(c, n->items[i]);
        c->at = n->at;
        if (!compare(c, n->ops[i], left, right)) return val_bool(false);
        left = right;
    }
    return val_bool(true);
}

static jval eval_slice(jctx *c, const jnode *n) {
    jval object = eval(c, n->a), part[3];
    for (int i = 0; i < 3; i++) part[i] = n->items[i] ? eval(c, n->items[i]) : val_none();
    c->at = n->at;
    return val_slice(c, object, part[0], part[1], part[2]);
}

static void add_keyword(jctx *c, jargs *out, const jstr *name, jval value) {
    for (size_t i = 0; i < out->n_kw; i++)
        if (str_same(out->kw[i].name, name)) fail_type(c, "got multiple values for keyword argument '%.*s'", (int)(name->len < 60 ? name->len : 60), name->p);
    jinja_charge(c, 1 + out->n_kw);
    out->kw[out->n_kw++] = (struct jkeyword){name, value};
}

static void add_dyn_kwargs(jctx *c, jargs *out, jval v) {
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (v.type != V_DICT) fail_type(c, "argument after ** must be a mapping, not %s", val_type_name(v));
    struct jkeyword *kw = jinja_array(c, out->n_kw + v.dict->n, sizeof *kw);
    for (size_t i = 0; i < out->n_kw; i++) kw[i] = out->kw[i];
    out->kw = kw;
    for (size_t i = 0; i < v.dict->n_entries; i++) {
        const jentry *e = &v.dict->entries[i];
        if (!e->live) continue;
        if (e->key.type != V_STR) fail_type(c, "keywords must be strings");
        add_keyword(c, out, e->key.s, e->value);
    }
}

void eval_args(jctx *c, const jcall_args *a, jargs *out) {
    *out = (jargs){.n_pos = a->n_pos};
    jlist *more = NULL;
    if (a->n_pos) out->pos = jinja_array(c, a->n_pos, sizeof *out->pos);
    for (size_t i = 0; i < a->n_pos; i++) out->pos[i] = eval(c, a->pos[i]);
    if (a->n_kw) out->kw = jinja_array(c, a->n_kw, sizeof *out->kw);
    for (size_t i = 0; i < a->n_kw; i++) out->kw[out->n_kw++] = (struct jkeyword){a->kw_names[i], eval(c, a->kw_values[i])};
    if (a->dyn_args) {
        more = val_items(c, eval(c, a->dyn_args));
        jval *pos = jinja_array(c, a->n_pos + more->n, sizeof *pos);
        for (size_t i = 0; i < a->n_pos; i++) pos[i] = out->pos[i];
        for (size_t i = 0; i < more->n; i++) pos[a->n_pos + i] = more->items[i];
        out->pos = pos;
        out->n_pos += more->n;
    }
    if (a->dyn_kwargs) add_dyn_kwargs(c, out, eval(c, a->dyn_kwargs));
}

static jval eval_call(jctx *c, const jnode *n) {
    jval callee = eval(c, n->a);
    jargs args;
    eval_args(c, &n->args, &args);
    c->at = n->at;
    return val_call(c, callee, &args);
}

// subject: the text of a block for a filter that has nothing before it.
jval eval_filter(jctx *c, const jnode *n, jval subject) {
    jargs args;
    jinja_enter(c);
    if (n->a && n->a->kind == N_FILTER) subject = eval_filter(c, n->a, subject);
    else if (n->a) subject = eval(c, n->a);
    eval_args(c, &n->args, &args);
    c->at = n->at;
    if (!n->filter) jinja_fail(c, WTL_ERR_FORMAT, "No filter named '%.*s' found.", (int)(n->name->len < 60 ? n->name->len : 60), n->name->p);
    jinja_charge(c, 1);
    jval v = n->filter->call(c, subject, &args);
    jinja_leave(c);
    c->at = n->at;
    return v;
}

static jval eval_test(jctx *c, const jnode *n) {
    jval v = eval(c, n->a);
    jargs args;
    eval_args(c, &n->args, &args);
    c->at = n->at;
    if (!n->is_test) jinja_fail(c, WTL_ERR_FORMAT, "No test named '%.*s' found.", (int)(n->name->len < 60 ? n->name->len : 60), n->name->p);
    return val_bool(n->is_test->call(c, v, &args));
}

static jval eval_cond(jctx *c, const jnode *n) {
    if (val_true(c, eval(c, n->b))) return eval(c, n->a);
    if (n->d) return eval(c, n->d);
    return val_undefined_hint(c, "the inline if-expression evaluated to false and no else section was defined.");
}

static jval eval_node(jctx *c, const jnode *n) {
    jval a, b;
    switch (n->kind) {
    case N_CONST: return n->value;
    case N_NAME: return eval_name(c, n);
    case N_LIST: return val_list(eval_items(c, n));
    case N_TUPLE: return val_tuple(eval_items(c, n));
    case N_DICT: return eval_dict(c, n);
    case N_AND: a = eval(c, n->a); return val_true(c, a) ? eval(c, n->b) : a;
    case N_OR: a = eval(c, n->a); return val_true(c, a) ? a : eval(c, n->b);
    case N_NOT: return val_bool(!val_true(c, eval(c, n->a)));
    case N_NEGATE: a = eval(c, n->a); c->at = n->at; return val_negate(c, a);
    case N_POSITIVE: a = eval(c, n->a); c->at = n->at; return val_positive(c, a);
    case N_BINARY: a = eval(c, n->a); b = eval(c, n->b); c->at = n->at; return val_binary(c, n->op, a, b);
    case N_CONCAT: return eval_concat(c, n);
    case N_COMPARE: return eval_compare(c, n);
    case N_COND: return eval_cond(c, n);
    case N_ATTR: a = eval(c, n->a); c->at = n->at; return val_attr(c, a, n->name);
    case N_ITEM: a = eval(c, n->a); b = eval(c, n->b); c->at = n->at; return val_item(c, a, b);
    case N_SLICE: return eval_slice(c, n);
    case N_CALL: return eval_call(c, n);
    case N_FILTER: return eval_filter(c, n, val_none());
    default: return eval_test(c, n);
    }
}

jval eval(jctx *c, const jnode *n) {
    c->at = n->at;
    jinja_charge(c, 1);
    jinja_enter(c);
    jval v = eval_node(c, n);
    jinja_leave(c);
    return v;
}
