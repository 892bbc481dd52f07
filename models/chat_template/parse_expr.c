// The parser's expressions, in the order of precedence of Jinja's grammar.
//
// Every path that can nest passes parse_expression() or parse_unary(), which count depth. Long chains (a + b + c) are loops here but
// left-deep trees for the evaluator, which counts its own depth.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"

static jnode *parse_unary(jparser *p, bool with_filter);
static jnode *parse_postfix(jparser *p, jnode *node);

static jnode *binary(jparser *p, jnode_kind kind, int op, jnode *a, jnode *b, uint32_t at) {
    jnode *n = node_new(p, kind, at);
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static void take_items(jnode *n, const jnodes *l) {
    n->items = l->items;
    n->n = l->n;
}

static jnode *parse_chain(jparser *p, jnode *(*operand)(jparser *), jtoken_kind first, jtoken_kind last) {
    jnode *left = operand(p);
    while (parse_peek(p)->kind >= first && parse_peek(p)->kind <= last) {
        const jtoken *t = parse_next(p);
        left = binary(p, N_BINARY, (int)t->kind, left, operand(p), t->at);
    }
    return left;
}

static jnode *parse_operand(jparser *p) { return parse_unary(p, true); }
static jnode *parse_pow(jparser *p) { return parse_chain(p, parse_operand, T_POW, T_POW); }
static jnode *parse_product(jparser *p) { return parse_chain(p, parse_pow, T_MUL, T_MOD); }

static jnode *parse_concat(jparser *p) {
    uint32_t at = parse_peek(p)->at;
    jnodes l = {0};
    do nodes_push(p, &l, parse_product(p));
    while (parse_skip(p, T_TILDE));
    if (l.n == 1) return l.items[0];
    jnode *n = node_new(p, N_CONCAT, at);
    take_items(n, &l);
    return n;
}

static jnode *parse_sum(jparser *p) { return parse_chain(p, parse_concat, T_ADD, T_SUB); }

static int compare_op(jparser *p) {
    const jtoken *t = parse_peek(p);
    if (t->kind >= T_EQ && t->kind <= T_GTEQ) return parse_next(p), (int)t->kind;
    if (parse_skip_name(p, "in")) return CMP_IN;
    if (!parse_is_name(t, "not") || !parse_is_name(parse_look(p), "in")) return 0;
    parse_next(p);
    parse_next(p);
    return CMP_NOT_IN;
}

static jnode *parse_compare(jparser *p) {
    uint32_t at = parse_peek(p)->at;
    jnode *left = parse_sum(p);
    jnodes l = {0};
    int *ops = NULL, op;
    size_t cap = 0;
    while ((op = compare_op(p))) {
        if (l.n == cap) {
            int *grown = jinja_array(p->c, cap ? cap * 2 : 4, sizeof *grown);
            if (cap) memcpy(grown, ops, cap * sizeof *ops);
            ops = grown;
            cap = cap ? cap * 2 : 4;
        }
        ops[l.n] = op;
        nodes_push(p, &l, parse_sum(p));
    }
    if (!l.n) return left;
    jnode *n = node_new(p, N_COMPARE, at);
    n->a = left;
    n->ops = ops;
    take_items(n, &l);
    return n;
}

static jnode *parse_not(jparser *p) {
    const jtoken *t = parse_peek(p);
    if (!parse_skip_name(p, "not")) return parse_compare(p);
    jinja_enter(p->c);
    jnode *n = node_new(p, N_NOT, t->at);
    n->a = parse_not(p);
    jinja_leave(p->c);
    return n;
}

static jnode *parse_and(jparser *p) {
    jnode *left = parse_not(p);
    for (uint32_t at = parse_peek(p)->at; parse_skip_name(p, "and"); at = parse_peek(p)->at) left = binary(p, N_AND, 0, left, parse_not(p), at);
    return left;
}

static jnode *parse_or(jparser *p) {
    jnode *left = parse_and(p);
    for (uint32_t at = parse_peek(p)->at; parse_skip_name(p, "or"); at = parse_peek(p)->at) left = binary(p, N_OR, 0, left, parse_and(p), at);
    return left;
}

// a if b else c, where c may be absent. Inside, unknown filters fail only when they are reached.
static jnode *parse_cond(jparser *p) {
    const jtoken *unknown = p->unknown;
    jnode *left = parse_or(p);
    for (;;) {
        uint32_t at = parse_peek(p)->at;
        if (!parse_skip_name(p, "if")) return left;
        jnode *n = node_new(p, N_COND, at);
        n->a = left;
        n->b = parse_or(p);
        if (parse_skip_name(p, "else")) {
            jinja_enter(p->c);
            n->d = parse_cond(p);
            jinja_leave(p->c);
        }
        p->unknown = unknown;
        left = n;
    }
}

jnode *parse_expression(jparser *p, bool with_cond) {
    jinja_enter(p->c);
    jnode *n = with_cond ? parse_cond(p) : parse_or(p);
    jinja_leave(p->c);
    return n;
}

static jnode *parse_unary(jparser *p, bool with_filter) {
    const jtoken *t = parse_peek(p);
    jnode *n;
    jinja_enter(p->c);
    if (t->kind == T_SUB || t->kind == T_ADD) {
        parse_next(p);
        n = node_new(p, t->kind == T_SUB ? N_NEGATE : N_POSITIVE, t->at);
        n->a = parse_unary(p, false);
    } else n = parse_primary(p);
    n = parse_postfix(p, n);
    if (with_filter) n = parse_filters(p, n, false);
    jinja_leave(p->c);
    return n;
}

static void mention(jparser *p, const jstr *name) {
    dict_set(p->c, p->names, val_str((jstr *)name), val_none());
    for (struct jmacro_use *m = p->macro; m; m = m->outer) {
        m->caller |= str_is(name, "caller");
        m->kwargs |= str_is(name, "kwargs");
        m->varargs |= str_is(name, "varargs");
    }
}

static jnode *parse_name(jparser *p, const jtoken *t) {
    jnode *n = node_new(p, N_CONST, t->at);
    if (parse_is_name(t, "true") || parse_is_name(t, "True")) n->value = val_bool(true);
    else if (parse_is_name(t, "false") || parse_is_name(t, "False")) n->value = val_bool(false);
    else if (parse_is_name(t, "none") || parse_is_name(t, "None")) n->value = val_none();
    else {
        n->kind = N_NAME;
        n->name = t->text;
        mention(p, t->text);
    }
    return n;
}

static jnode *parse_strings(jparser *p, const jtoken *t) {
    jnode *n = node_new(p, N_CONST, t->at);
    if (parse_peek(p)->kind != T_STRING) return n->value = val_str(t->text), n;
    jbuild b;
    build_open(&b, p->c);
    build_text(&b, t->text);
    while (parse_peek(p)->kind == T_STRING) build_text(&b, parse_next(p)->text);
    n->value = val_str(build_done(&b));
    str_chars(p->c, n->value.s);
    return n;
}

static jnode *parse_list(jparser *p, const jtoken *t) {
    jnodes l = {0};
    while (parse_peek(p)->kind != T_RBRACKET) {
        if (l.n) parse_expect(p, T_COMMA, ",");
        if (parse_peek(p)->kind == T_RBRACKET) break;
        nodes_push(p, &l, parse_expression(p, true));
    }
    parse_expect(p, T_RBRACKET, "]");
    jnode *n = node_new(p, N_LIST, t->at);
    take_items(n, &l);
    return n;
}

static jnode *parse_dict(jparser *p, const jtoken *t) {
    jnodes l = {0};
    while (parse_peek(p)->kind != T_RBRACE) {
        if (l.n) parse_expect(p, T_COMMA, ",");
        if (parse_peek(p)->kind == T_RBRACE) break;
        nodes_push(p, &l, parse_expression(p, true));
        parse_expect(p, T_COLON, ":");
        nodes_push(p, &l, parse_expression(p, true));
    }
    parse_expect(p, T_RBRACE, "}");
    jnode *n = node_new(p, N_DICT, t->at);
    take_items(n, &l);
    return n;
}

jnode *parse_primary(jparser *p) {
    const jtoken *t = parse_next(p);
    jnode *n;
    char words[64];
    switch (t->kind) {
    case T_NAME: return parse_name(p, t);
    case T_STRING: return parse_strings(p, t);
    case T_INTEGER:
    case T_FLOAT:
        n = node_new(p, N_CONST, t->at);
        n->value = t->kind == T_INTEGER ? val_int(t->i) : val_real(t->f);
        return n;
    case T_LPAREN:
        jinja_enter(p->c);
        n = parse_tuple(p, TUPLE_PLAIN, NULL, true);
        jinja_leave(p->c);
        parse_expect(p, T_RPAREN, ")");
        return n;
    case T_LBRACKET: return parse_list(p, t);
    case T_LBRACE: return parse_dict(p, t);
    default: parse_fail(p, t, "unexpected '%s'", token_words(t, words));
    }
}

static bool tuple_ends(const jparser *p, const char *end_name) {
    const jtoken *t = parse_peek(p);
    return t->kind == T_VARIABLE_END || t->kind == T_BLOCK_END || t->kind == T_RPAREN || (end_name && parse_is_name(t, end_name));
}

jnode *parse_tuple(jparser *p, jtuple_mode mode, const char *end_name, bool parentheses) {
    uint32_t at = parse_peek(p)->at;
    jnodes l = {0};
    bool is_tuple = false;
    for (;;) {
        if (l.n) parse_expect(p, T_COMMA, ",");
        if (tuple_ends(p, end_name)) break;
        nodes_push(p, &l, mode == TUPLE_NAMES ? parse_primary(p) : parse_expression(p, mode == TUPLE_PLAIN));
        if (parse_peek(p)->kind != T_COMMA) break;
        is_tuple = true;
    }
    char words[64];
    if (!is_tuple && l.n) return l.items[0];
    if (!is_tuple && !parentheses) parse_fail(p, parse_peek(p), "Expected an expression, got '%s'", token_words(parse_peek(p), words));
    jnode *n = node_new(p, N_TUPLE, at);
    take_items(n, &l);
    return n;
}

// ---- Behind a value: subscripts, calls, filters, tests ---------------------------------------------------------------------
static bool slice_ends(const jparser *p) { return parse_peek(p)->kind == T_RBRACKET || parse_peek(p)->kind == T_COMMA; }

static jnode *parse_subscript(jparser *p, jnode *object, uint32_t at) {
    jnode *parts[3] = {NULL, NULL, NULL}, *n;
    if (parse_peek(p)->kind == T_RBRACKET) { // x[] is x[()]
        n = binary(p, N_ITEM, 0, object, node_new(p, N_TUPLE, at), at);
        return parse_next(p), n;
    }
    if (parse_peek(p)->kind != T_COLON) parts[0] = parse_expression(p, true);
    if (parse_peek(p)->kind == T_COLON) {
        parse_next(p);
        if (parse_peek(p)->kind != T_COLON && !slice_ends(p)) parts[1] = parse_expression(p, true);
        if (parse_skip(p, T_COLON) && !slice_ends(p)) parts[2] = parse_expression(p, true);
        n = node_new(p, N_SLICE, at);
        n->a = object;
        n->items = jinja_array(p->c, 3, sizeof *n->items);
        memcpy(n->items, parts, sizeof parts);
        n->n = 3;
        parse_expect(p, T_RBRACKET, "]");
        return n;
    }
    if (parse_peek(p)->kind != T_COMMA) {
        parse_expect(p, T_RBRACKET, "]");
        return binary(p, N_ITEM, 0, object, parts[0], at);
    }
    jnodes l = {0};
    nodes_push(p, &l, parts[0]);
    while (parse_peek(p)->kind != T_RBRACKET) {
        parse_expect(p, T_COMMA, ",");
        nodes_push(p, &l, parse_expression(p, true));
    }
    parse_next(p);
    jnode *tuple = node_new(p, N_TUPLE, at);
    take_items(tuple, &l);
    return binary(p, N_ITEM, 0, object, tuple, at);
}

static jnode *parse_dot(jparser *p, jnode *object, uint32_t at) {
    const jtoken *t = parse_next(p);
    if (t->kind == T_NAME) {
        jnode *n = binary(p, N_ATTR, 0, object, NULL, at);
        n->name = t->text;
        return n;
    }
    if (t->kind != T_INTEGER) parse_fail(p, t, "expected name or number");
    jnode *key = node_new(p, N_CONST, t->at);
    key->value = val_int(t->i);
    return binary(p, N_ITEM, 0, object, key, at);
}

static void parse_keyword(jparser *p, jnodes *values, const jstr ***names, size_t *cap) {
    const jtoken *t = parse_next(p);
    parse_next(p);
    if (values->n == *cap) {
        const jstr **grown = jinja_array(p->c, *cap ? *cap * 2 : 4, sizeof *grown);
        if (*cap) memcpy(grown, *names, *cap * sizeof *grown);
        *names = grown;
        *cap = *cap ? *cap * 2 : 4;
    }
    for (size_t i = 0; i < values->n; i++)
        if (str_same((*names)[i], t->text)) parse_fail(p, t, "keyword argument repeated: %.*s", (int)(t->text->len < 60 ? t->text->len : 60), t->text->p);
    (*names)[values->n] = t->text;
    nodes_push(p, values, parse_expression(p, true));
}

static void parse_args(jparser *p, jcall_args *out) {
    const jtoken *open = parse_expect(p, T_LPAREN, "(");
    jnodes pos = {0}, values = {0};
    size_t cap = 0;
    bool comma = false;
    while (parse_peek(p)->kind != T_RPAREN) {
        if (comma) {
            parse_expect(p, T_COMMA, ",");
            if (parse_peek(p)->kind == T_RPAREN) break;
        }
        comma = true;
        const jtoken *t = parse_peek(p);
        bool keyword = t->kind == T_NAME && parse_look(p)->kind == T_ASSIGN;
        bool legal = t->kind == T_MUL ? !out->dyn_args && !out->dyn_kwargs : t->kind == T_POW || keyword ? !out->dyn_kwargs : !out->dyn_args && !out->dyn_kwargs && !values.n;
        if (!legal) parse_fail(p, open, "invalid syntax for function call expression");
        if (t->kind == T_MUL) parse_next(p), out->dyn_args = parse_expression(p, true);
        else if (t->kind == T_POW) parse_next(p), out->dyn_kwargs = parse_expression(p, true);
        else if (keyword) parse_keyword(p, &values, &out->kw_names, &cap);
        else nodes_push(p, &pos, parse_expression(p, true));
    }
    parse_expect(p, T_RPAREN, ")");
    out->pos = pos.items;
    out->n_pos = pos.n;
    out->kw_values = values.items;
    out->n_kw = values.n;
}

static jnode *parse_call(jparser *p, jnode *callee) {
    jnode *n = binary(p, N_CALL, 0, callee, NULL, parse_peek(p)->at);
    parse_args(p, &n->args);
    return n;
}

static jnode *parse_postfix(jparser *p, jnode *node) {
    for (;;) {
        const jtoken *t = parse_peek(p);
        jinja_charge(p->c, 1);
        if (t->kind == T_DOT) parse_next(p), node = parse_dot(p, node, t->at);
        else if (t->kind == T_LBRACKET) parse_next(p), node = parse_subscript(p, node, t->at);
        else if (t->kind == T_LPAREN) node = parse_call(p, node);
        else return node;
    }
}

// a.b.c: a dotted name of a filter or test; none is registered, so only the message matters.
static const jstr *dotted_name(jparser *p) {
    const jstr *name = parse_expect(p, T_NAME, "name")->text;
    jstr dot = {.p = ".", .len = 1, .n_chars = 1};
    while (parse_skip(p, T_DOT)) name = str_concat(p->c, str_concat(p->c, name, &dot), parse_expect(p, T_NAME, "name")->text);
    str_chars(p->c, name);
    return name;
}

static void note_unknown(jparser *p, const jtoken *t, bool is_test) {
    if (p->soft || p->unknown) return;
    p->unknown = t;
    p->unknown_is_test = is_test;
}

static jnode *parse_filter(jparser *p, jnode *subject) {
    const jtoken *t = parse_peek(p);
    jnode *n = binary(p, N_FILTER, 0, subject, NULL, t->at);
    n->name = dotted_name(p);
    n->filter = find_filter(n->name);
    if (!n->filter) note_unknown(p, t, false);
    if (parse_peek(p)->kind == T_LPAREN) parse_args(p, &n->args);
    return n;
}

static jnode *parse_test(jparser *p, jnode *subject) {
    const jtoken *is = parse_next(p), *t;
    bool negated = parse_skip_name(p, "not");
    t = parse_peek(p);
    jnode *n = binary(p, N_TEST, 0, subject, NULL, is->at);
    n->name = dotted_name(p);
    n->is_test = find_test(n->name);
    if (!n->is_test) note_unknown(p, t, true);
    const jtoken *next = parse_peek(p);
    if (next->kind == T_LPAREN) parse_args(p, &n->args);
    else if (next->kind >= T_NAME && next->kind <= T_FLOAT ? !parse_is_name(next, "else") && !parse_is_name(next, "or") && !parse_is_name(next, "and")
                                                           : next->kind == T_LBRACKET || next->kind == T_LBRACE) {
        if (parse_is_name(next, "is")) parse_fail(p, next, "You cannot chain multiple tests with is");
        jnodes l = {0};
        nodes_push(p, &l, parse_postfix(p, parse_primary(p)));
        n->args.pos = l.items;
        n->args.n_pos = l.n;
    }
    return negated ? binary(p, N_NOT, 0, n, NULL, is->at) : n;
}

jnode *parse_filters(jparser *p, jnode *node, bool inline_start) {
    if (inline_start) node = parse_filter(p, node);
    for (;;) {
        const jtoken *t = parse_peek(p);
        jinja_charge(p->c, 1);
        if (t->kind == T_PIPE) parse_next(p), node = parse_filter(p, node);
        else if (parse_is_name(t, "is") && !inline_start && node) node = parse_test(p, node);
        else if (t->kind == T_LPAREN && !inline_start && node) node = parse_call(p, node);
        else return node;
    }
}
