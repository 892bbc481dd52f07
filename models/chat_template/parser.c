// The parser's statements: bodies, targets of assignments, and the tree of a whole template.
// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "models/chat_template/ast.h"

// ---- Tokens ----------------------------------------------------------------------------------------------------------------
const jtoken *parse_look(const jparser *p) { return &p->tokens.items[p->pos + 1 < p->tokens.n ? p->pos + 1 : p->pos]; }

const jtoken *parse_next(jparser *p) {
    const jtoken *t = parse_peek(p);
    p->c->at = t->at;
    if (t->kind != T_EOF) p->pos++;
    return t;
}

bool parse_skip(jparser *p, jtoken_kind kind) {
    if (parse_peek(p)->kind != kind) return false;
    parse_next(p);
    return true;
}

bool parse_is_name(const jtoken *t, const char *name) { return t->kind == T_NAME && str_is(t->text, name); }

bool parse_skip_name(jparser *p, const char *name) {
    if (!parse_is_name(parse_peek(p), name)) return false;
    parse_next(p);
    return true;
}

void parse_fail(jparser *p, const jtoken *t, const char *format, ...) {
    char words[300];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    p->c->at = t->at;
    jinja_fail(p->c, WTL_ERR_FORMAT, "%s", words);
}

const jtoken *parse_expect(jparser *p, jtoken_kind kind, const char *what) {
    const jtoken *t = parse_peek(p);
    char words[64];
    if (t->kind == kind) return parse_next(p);
    if (t->kind == T_EOF) parse_fail(p, t, "unexpected end of template, expected '%s'.", what);
    parse_fail(p, t, "expected token '%s', got '%s'", what, token_words(t, words));
}

void parse_expect_name(jparser *p, const char *name) {
    if (!parse_is_name(parse_peek(p), name)) parse_expect(p, T_EOF, name);
    parse_next(p);
}

jnode *node_new(jparser *p, jnode_kind kind, uint32_t at) {
    jinja_charge(p->c, 1);
    jnode *n = jinja_alloc(p->c, sizeof *n);
    n->kind = kind;
    n->at = at;
    return n;
}

void nodes_push(jparser *p, jnodes *l, jnode *node) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 2;
        jnode **items = jinja_array(p->c, cap, sizeof *items);
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = node;
}

// ---- Targets ---------------------------------------------------------------------------------------------------------------
static void check_target(jparser *p, jnode *n, bool param) {
    static const char *const kinds[] = {[N_CONST] = "const", [N_LIST] = "list", [N_DICT] = "dict"};
    if (n->kind == N_TUPLE) {
        jinja_enter(p->c);
        for (size_t i = 0; i < n->n; i++) check_target(p, n->items[i], param);
        jinja_leave(p->c);
        return;
    }
    p->c->at = n->at;
    if (n->kind != N_NAME) jinja_fail(p->c, WTL_ERR_FORMAT, "can't assign to '%s'", n->kind <= N_DICT && kinds[n->kind] ? kinds[n->kind] : "expression");
    if (!param && p->in_loops && str_is(n->name, "loop")) jinja_fail(p->c, WTL_ERR_FORMAT, "Can't assign to special loop variable in for-loop target");
}

jnode *parse_target(jparser *p, const char *end_name, bool with_namespace, bool param) {
    jnode *n;
    if (with_namespace && parse_look(p)->kind == T_DOT) {
        const jtoken *t = parse_expect(p, T_NAME, "name");
        parse_next(p);
        n = node_new(p, N_NS_TARGET, t->at);
        n->name = t->text;
        n->attr = parse_expect(p, T_NAME, "name")->text;
        return n;
    }
    n = parse_tuple(p, TUPLE_NAMES, end_name, false);
    check_target(p, n, param);
    return n;
}

const jstr *parse_target_name(jparser *p, bool param) {
    const jtoken *t = parse_expect(p, T_NAME, "name");
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (parse_is_name(t, constants[i])) parse_fail(p, t, "can't assign to 'name'");
    if (!param && p->in_loops && parse_is_name(t, "loop")) parse_fail(p, t, "Can't assign to special loop variable in for-loop target");
    return t->text;
}

// ---- Bodies ----------------------------------------------------------------------------------------------------------------
static jnode *parse_statement(jparser *p, const jtoken *t);

static bool ends_here(const jparser *p, const char *const *ends) {
    for (size_t i = 0; ends && ends[i]; i++)
        if (parse_is_name(parse_peek(p), ends[i])) return true;
    return false;
}

// Up to one of the tags in ends, whose name is then the current token; the whole template when ends is NULL.
static jnode *parse_body(jparser *p, const char *const *ends) {
    jnodes l = {0};
    jnode *body = node_new(p, N_BODY, parse_peek(p)->at), *n;
    jinja_enter(p->c);
    for (;;) {
        const jtoken *t = parse_next(p);
        if (t->kind == T_EOF) {
            if (ends) parse_fail(p, t, "Unexpected end of template. Jinja was looking for the following tags: '%s'%s%s%s.", ends[0], ends[1] ? " or '" : "", ends[1] ? ends[1] : "", ends[1] ? "'" : "");
            break;
        }
        if (t->kind == T_DATA) {
            n = node_new(p, N_DATA, t->at);
            n->value = val_str(t->text);
        } else if (t->kind == T_VARIABLE_BEGIN) {
            n = node_new(p, N_PRINT, t->at);
            n->a = parse_tuple(p, TUPLE_PLAIN, NULL, false);
            parse_expect(p, T_VARIABLE_END, "end of print statement");
        } else {
            if (ends_here(p, ends)) break;
            n = parse_statement(p, parse_peek(p));
            parse_expect(p, T_BLOCK_END, "end of statement block");
        }
        nodes_push(p, &l, n);
    }
    jinja_leave(p->c);
    body->items = l.items;
    body->n = l.n;
    return body;
}

static jnode *parse_until(jparser *p, const char *const *ends) {
    parse_skip(p, T_COLON);
    parse_expect(p, T_BLOCK_END, "end of statement block");
    return parse_body(p, ends);
}

static jnode *parse_block(jparser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    jnode *body = parse_until(p, ends);
    parse_next(p);
    return body;
}

// A body in which loops of the outside cannot be left and filters must exist.
typedef struct outside {
    bool can_break, soft;
} outside;
static outside set_outside(jparser *p, bool can_break, bool soft) {
    outside before = {p->can_break, p->soft};
    p->can_break = can_break;
    p->soft = soft;
    return before;
}

static jnode *parse_if(jparser *p, uint32_t at) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jnode *first = NULL, **link = &first;
    for (;;) {
        outside before = set_outside(p, p->can_break, true);
        jnode *n = *link = node_new(p, N_IF, at);
        n->a = parse_tuple(p, TUPLE_NO_COND, NULL, false);
        n->b = parse_until(p, ends);
        const jtoken *t = parse_next(p);
        if (parse_is_name(t, "else")) n->d = parse_block(p, "endif");
        p->soft = before.soft;
        if (!parse_is_name(t, "elif")) return first;
        link = &n->d;
        at = t->at;
    }
}

static jnode *parse_for(jparser *p, uint32_t at) {
    static const char *const ends[] = {"endfor", "else", NULL};
    jnode *n = node_new(p, N_FOR, at);
    p->in_loops++;
    n->target = parse_target(p, "in", false, false);
    parse_expect_name(p, "in");
    n->a = parse_tuple(p, TUPLE_NO_COND, "recursive", false);
    outside before = set_outside(p, true, false);
    if (parse_skip_name(p, "if")) n->test = parse_expression(p, true);
    n->flag = parse_skip_name(p, "recursive");
    n->b = parse_until(p, ends);
    p->can_break = before.can_break && !n->flag;
    if (parse_is_name(parse_next(p), "else")) n->d = parse_block(p, "endfor");
    set_outside(p, before.can_break, before.soft);
    p->in_loops--;
    return n;
}

static jnode *parse_set(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_SET, at);
    n->target = parse_target(p, NULL, true, false);
    if (parse_skip(p, T_ASSIGN)) return n->a = parse_tuple(p, TUPLE_PLAIN, NULL, false), n;
    n->kind = N_SET_BLOCK;
    outside before = set_outside(p, p->can_break, false);
    n->a = parse_filters(p, NULL, false);
    n->b = parse_block(p, "endset");
    p->soft = before.soft;
    return n;
}

static void parse_signature(jparser *p, jnode *n) {
    jnodes names = {0}, defaults = {0};
    parse_expect(p, T_LPAREN, "(");
    while (parse_peek(p)->kind != T_RPAREN) {
        if (names.n) parse_expect(p, T_COMMA, ",");
        jnode *param = node_new(p, N_NAME, parse_peek(p)->at);
        param->name = parse_target_name(p, true);
        for (size_t i = 0; i < names.n; i++)
            if (str_same(names.items[i]->name, param->name)) parse_fail(p, parse_peek(p), "duplicate argument in a macro's definition");
        nodes_push(p, &names, param);
        if (parse_skip(p, T_ASSIGN)) nodes_push(p, &defaults, parse_expression(p, true));
        else if (defaults.n) parse_fail(p, parse_peek(p), "non-default argument follows default argument");
    }
    parse_next(p);
    n->items = names.items;
    n->n = names.n;
    n->defaults = defaults.items;
    n->n_defaults = defaults.n;
}

static bool has_param(const jnode *n, const char *name, size_t *index) {
    for (*index = 0; *index < n->n; ++*index)
        if (str_is(n->items[*index]->name, name)) return true;
    return false;
}

static void parse_macro_body(jparser *p, jnode *n, const char *end) {
    struct jmacro_use use = {.outer = p->macro};
    p->macro = &use;
    n->b = parse_block(p, end);
    p->macro = use.outer;
    size_t i;
    n->uses_kwargs = use.kwargs && !has_param(n, "kwargs", &i);
    n->uses_varargs = use.varargs && !has_param(n, "varargs", &i);
    n->uses_caller = use.caller;
    p->c->at = n->at;
    if (use.caller && has_param(n, "caller", &i) && n->n - i > n->n_defaults)
        jinja_fail(p->c, WTL_ERR_FORMAT, "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.");
}

static jnode *parse_macro(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_MACRO, at);
    n->name = parse_target_name(p, false);
    outside before = set_outside(p, false, false);
    parse_signature(p, n);
    parse_macro_body(p, n, "endmacro");
    set_outside(p, before.can_break, before.soft);
    return n;
}

static jnode *parse_call_block(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_CALL_BLOCK, at);
    if (parse_peek(p)->kind == T_LPAREN) parse_signature(p, n);
    n->a = parse_expression(p, true);
    p->c->at = at;
    if (n->a->kind != N_CALL) jinja_fail(p->c, WTL_ERR_FORMAT, "expected call");
    outside before = set_outside(p, false, false);
    parse_macro_body(p, n, "endcall");
    set_outside(p, before.can_break, before.soft);
    return n;
}

static jnode *parse_with(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_WITH, at);
    jnodes targets = {0}, values = {0};
    while (parse_peek(p)->kind != T_BLOCK_END) {
        if (targets.n) parse_expect(p, T_COMMA, ",");
        nodes_push(p, &targets, parse_target(p, NULL, false, true));
        parse_expect(p, T_ASSIGN, "=");
        nodes_push(p, &values, parse_expression(p, true));
    }
    n->items = targets.items;
    n->n = targets.n;
    n->defaults = values.items;
    n->n_defaults = values.n;
    bool soft = p->soft;
    p->soft = false;
    n->b = parse_block(p, "endwith");
    p->soft = soft;
    return n;
}

static jnode *parse_filter_block(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_FILTER_BLOCK, at);
    bool soft = p->soft;
    p->soft = false;
    n->a = parse_filters(p, NULL, true);
    n->b = parse_block(p, "endfilter");
    p->soft = soft;
    return n;
}

static jnode *parse_print(jparser *p, uint32_t at) {
    jnode *body = node_new(p, N_BODY, at);
    jnodes l = {0};
    while (parse_peek(p)->kind != T_BLOCK_END) {
        if (l.n) parse_expect(p, T_COMMA, ",");
        jnode *n = node_new(p, N_PRINT, parse_peek(p)->at);
        n->a = parse_expression(p, true);
        nodes_push(p, &l, n);
    }
    body->items = l.items;
    body->n = l.n;
    return body;
}

static jnode *parse_named_block(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_BLOCK, at);
    const jtoken *name = parse_expect(p, T_NAME, "name");
    n->flag = parse_skip_name(p, "scoped");
    parse_skip_name(p, "required");
    if (parse_peek(p)->kind == T_SUB) parse_fail(p, parse_peek(p), "Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an underscore instead.");
    outside before = set_outside(p, false, false);
    n->b = parse_block(p, "endblock");
    set_outside(p, before.can_break, before.soft);
    char words[64];
    parse_skip_name(p, token_words(name, words));
    return n;
}

// {% generation %}: the part of a turn that the model writes. It has a scope of its own and is printed like anything else.
static jnode *parse_generation(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_SCOPE, at);
    outside before = set_outside(p, false, false);
    n->b = parse_block(p, "endgeneration");
    set_outside(p, before.can_break, before.soft);
    return n;
}

static jnode *parse_unsupported(jparser *p, const jtoken *t) {
    jnode *n = node_new(p, N_UNSUPPORTED, t->at);
    n->value = val_str(t->text);
    while (parse_peek(p)->kind != T_BLOCK_END && parse_peek(p)->kind != T_EOF) parse_next(p);
    return n;
}

static jnode *parse_autoescape(jparser *p, uint32_t at) {
    jnode *n = node_new(p, N_SCOPE, at);
    n->a = parse_expression(p, true);
    n->b = parse_block(p, "endautoescape");
    return n;
}

static jnode *parse_break(jparser *p, const jtoken *t) {
    if (!p->can_break) parse_fail(p, t, "'%s' outside loop", parse_is_name(t, "break") ? "break" : "continue");
    return node_new(p, parse_is_name(t, "break") ? N_BREAK : N_CONTINUE, t->at);
}

static jnode *parse_statement(jparser *p, const jtoken *t) {
    static const struct {
        const char *name;
        jnode *(*parse)(jparser *p, uint32_t at);
    } statements[] = {{"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro}, {"call", parse_call_block}, {"with", parse_with},
                      {"filter", parse_filter_block}, {"print", parse_print}, {"block", parse_named_block}, {"generation", parse_generation}, {"autoescape", parse_autoescape}};
    static const char *const unsupported[] = {"extends", "include", "import", "from"};
    if (t->kind != T_NAME) parse_fail(p, t, "tag name expected");
    parse_next(p);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (parse_is_name(t, statements[i].name)) return statements[i].parse(p, t->at);
    if (parse_is_name(t, "break") || parse_is_name(t, "continue")) return parse_break(p, t);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (parse_is_name(t, unsupported[i])) return parse_unsupported(p, t);
    char words[64];
    parse_fail(p, t, "Encountered unknown tag '%s'.", token_words(t, words));
}

jnode *parser_run(jctx *c, jtokens tokens, jdict *names) {
    jparser p = {.c = c, .tokens = tokens, .names = names};
    jnode *body = parse_body(&p, NULL);
    char words[64];
    if (p.unknown) parse_fail(&p, p.unknown, "No %s named '%s'.", p.unknown_is_test ? "test" : "filter", token_words(p.unknown, words));
    return body;
}
