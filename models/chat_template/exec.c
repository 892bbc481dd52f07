// Statements: scopes, assignments, branches, loops, and text captured by blocks.
//
// Scopes nest as Jinja's do: a loop's body, with, call, filter and set blocks have one of their own, an if has none. A macro sees the
// scope in which it was defined, as it is when it is called.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"

jscope *scope_new(jctx *c, jscope *parent) {
    jscope *scope = jinja_alloc(c, sizeof *scope);
    scope->parent = parent;
    return scope;
}

void scope_set(jctx *c, jscope *scope, const jstr *name, jval value) {
    jinja_charge(c, 1);
    for (size_t i = 0; i < scope->n; i++) {
        if (!str_same(scope->vars[i].name, name)) continue;
        scope->vars[i].value = value;
        return;
    }
    if (scope->n == scope->cap) {
        size_t cap = scope->cap ? scope->cap * 2 : 4;
        struct jvar *vars = jinja_array(c, cap, sizeof *vars);
        if (scope->n) memcpy(vars, scope->vars, scope->n * sizeof *vars);
        scope->vars = vars;
        scope->cap = cap;
    }
    scope->vars[scope->n++] = (struct jvar){name, value};
}

static void assign_attr(jctx *c, const jnode *target, jval value) {
    jnode name = {.kind = N_NAME, .at = target->at, .name = target->name};
    jval space = eval(c, &name);
    if (space.type != V_NAMESPACE) jinja_fail(c, WTL_ERR_FORMAT, "cannot assign attribute on non-namespace object");
    dict_set(c, space.dict, val_str((jstr *)target->attr), value);
}

void assign(jctx *c, const jnode *target, jval value) {
    if (target->kind == N_NAME) {
        scope_set(c, c->scope, target->name, value);
        return;
    }
    if (target->kind == N_NS_TARGET) {
        assign_attr(c, target, value);
        return;
    }
    c->at = target->at;
    if (!val_iterable(value)) fail_type(c, "cannot unpack non-iterable %s object", val_type_name(value));
    jlist *items = val_items(c, value);
    if (items->n < target->n) fail_value(c, "not enough values to unpack (expected %zu, got %zu)", target->n, items->n);
    if (items->n > target->n) fail_value(c, "too many values to unpack (expected %zu)", target->n);
    jinja_enter(c);
    for (size_t i = 0; i < target->n; i++) assign(c, target->items[i], items->items[i]);
    jinja_leave(c);
}

// ---- Loops -----------------------------------------------------------------------------------------------------------------
static bool loop_lets(jctx *c, const jloop *loop, jval item) {
    if (!loop->node->test) return true;
    jscope *before = c->scope;
    c->scope = scope_new(c, loop->scope);
    assign(c, loop->node->target, item);
    bool lets = val_true(c, eval(c, loop->node->test));
    c->scope = before;
    return lets;
}

bool loop_has(jctx *c, jloop *loop, size_t index) {
    while (loop->items->n <= index && loop->next < loop->source->n) {
        jval item = loop->source->items[loop->next++];
        if (loop_lets(c, loop, item)) list_push(c, loop->items, item);
    }
    return index < loop->items->n;
}

// Runs the statement's body for each item, printing to c->out. Its else part runs when no round came to its end: Jinja's own rule, so a
// break or continue in the only round counts as none.
static jflow run_rounds(jctx *c, const jnode *n, jscope *around, jval walked, uint32_t depth0) {
    static const jstr loop_name = {.p = "loop", .len = 4, .n_chars = 4};
    jloop *loop = jinja_alloc(c, sizeof *loop);
    *loop = (jloop){.source = val_items(c, walked), .items = list_new(c, 0), .depth0 = depth0, .node = n, .scope = around, .changed = val_missing()};
    bool completed = false;
    for (size_t i = 0; loop_has(c, loop, i); i++) {
        loop->index0 = i;
        c->scope = scope_new(c, around);
        scope_set(c, c->scope, &loop_name, (jval){.type = V_LOOP, .loop = loop});
        assign(c, n->target, loop->items->items[i]);
        jflow flow = exec_body(c, n->b);
        if (flow == FLOW_BREAK) break;
        if (flow == FLOW_ON) completed = true;
    }
    c->scope = around;
    if (completed || !n->d) return FLOW_ON;
    c->scope = scope_new(c, around);
    jflow flow = exec_body(c, n->d);
    c->scope = around;
    return flow;
}

jval loop_run(jctx *c, const jnode *n, jscope *around, jval walked, uint32_t depth0, jflow *flow) {
    jscope *scope = c->scope;
    jbuild text, *out = c->out;
    build_open(&text, c);
    c->out = &text;
    jinja_enter(c);
    *flow = run_rounds(c, n, around, walked, depth0);
    jinja_leave(c);
    c->out = out;
    c->scope = scope;
    return val_str(build_done(&text));
}

// ---- Blocks that capture -----------------------------------------------------------------------------------------------------
static jflow capture(jctx *c, const jnode *body, jval *text) {
    jbuild b, *out = c->out;
    jscope *scope = c->scope;
    build_open(&b, c);
    c->out = &b;
    c->scope = scope_new(c, scope);
    jflow flow = exec_body(c, body);
    c->scope = scope;
    c->out = out;
    *text = val_str(build_done(&b));
    return flow;
}

static jflow exec_set_block(jctx *c, const jnode *n) {
    jval text;
    jflow flow = capture(c, n->b, &text);
    if (flow != FLOW_ON) return flow;
    if (n->a) text = eval_filter(c, n->a, text);
    assign(c, n->target, text);
    return FLOW_ON;
}

static jflow exec_filter_block(jctx *c, const jnode *n) {
    jval text;
    jflow flow = capture(c, n->b, &text);
    if (flow == FLOW_ON) val_write(c->out, eval_filter(c, n->a, text));
    return flow;
}

static jval macro_make(jctx *c, const jnode *n) {
    jmacro *macro = jinja_alloc(c, sizeof *macro);
    *macro = (jmacro){.node = n, .scope = c->scope};
    return (jval){.type = V_MACRO, .macro = macro};
}

static void exec_call_block(jctx *c, const jnode *n) {
    static const jstr caller_name = {.p = "caller", .len = 6, .n_chars = 6};
    jval caller = macro_make(c, n), callee = eval(c, n->a->a);
    jargs args;
    eval_args(c, &n->a->args, &args);
    struct jkeyword *kw = jinja_array(c, args.n_kw + 1, sizeof *kw);
    if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    for (size_t i = 0; i < args.n_kw; i++)
        if (str_same(kw[i].name, &caller_name)) fail_type(c, "got multiple values for keyword argument 'caller'");
    kw[args.n_kw++] = (struct jkeyword){&caller_name, caller};
    args.kw = kw;
    c->at = n->a->at;
    val_write(c->out, val_call(c, callee, &args));
}

static jflow in_scope(jctx *c, const jnode *body, jscope *scope) {
    jscope *before = c->scope;
    c->scope = scope;
    jflow flow = exec_body(c, body);
    c->scope = before;
    return flow;
}

static jflow exec_with(jctx *c, const jnode *n) {
    jscope *inner = scope_new(c, c->scope), *outer = c->scope;
    for (size_t i = 0; i < n->n; i++) {
        jval value = eval(c, n->defaults[i]);
        c->scope = inner;
        assign(c, n->items[i], value);
        c->scope = outer;
    }
    return in_scope(c, n->b, inner);
}

static jflow exec_if(jctx *c, const jnode *n) {
    for (; n && n->kind == N_IF; n = n->d)
        if (val_true(c, eval(c, n->a))) return exec_body(c, n->b);
    return n ? exec_body(c, n) : FLOW_ON;
}

static jflow exec_for(jctx *c, const jnode *n) {
    jflow flow = FLOW_ON;
    jval walked = eval(c, n->a);
    c->at = n->at;
    if (n->flag) val_write(c->out, loop_run(c, n, c->scope, walked, 0, &flow));
    else flow = run_rounds(c, n, c->scope, walked, 0);
    return flow;
}

static jflow exec(jctx *c, const jnode *n) {
    c->at = n->at;
    jinja_charge(c, 1);
    switch (n->kind) {
    case N_BODY: return exec_body(c, n);
    case N_DATA: build_text(c->out, n->value.s); return FLOW_ON;
    case N_PRINT: val_write(c->out, eval(c, n->a)); return FLOW_ON;
    case N_IF: return exec_if(c, n);
    case N_FOR: return exec_for(c, n);
    case N_SET: assign(c, n->target, eval(c, n->a)); return FLOW_ON;
    case N_SET_BLOCK: return exec_set_block(c, n);
    case N_MACRO: scope_set(c, c->scope, n->name, macro_make(c, n)); return FLOW_ON;
    case N_CALL_BLOCK: exec_call_block(c, n); return FLOW_ON;
    case N_FILTER_BLOCK: return exec_filter_block(c, n);
    case N_WITH: return exec_with(c, n);
    case N_BLOCK: return in_scope(c, n->b, scope_new(c, n->flag ? c->scope : c->root));
    case N_SCOPE:
        if (n->a && val_true(c, eval(c, n->a))) jinja_fail(c, WTL_ERR_FORMAT, "automatic escaping is not supported");
        return in_scope(c, n->b, scope_new(c, c->scope));
    case N_BREAK: return FLOW_BREAK;
    case N_CONTINUE: return FLOW_CONTINUE;
    default: jinja_fail(c, WTL_ERR_FORMAT, "{%% %.*s %%} is not supported: there are no other templates", (int)n->value.s->len, n->value.s->p);
    }
}

jflow exec_body(jctx *c, const jnode *body) {
    jflow flow = FLOW_ON;
    jinja_enter(c);
    for (size_t i = 0; i < body->n && flow == FLOW_ON; i++) flow = exec(c, body->items[i]);
    jinja_leave(c);
    return flow;
}
