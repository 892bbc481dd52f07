// Tokens and the syntax tree. Both are made once, in the arena of the compiled template, and never change afterwards.
//
// One node type for everything: which fields a kind uses stands beside the kind. Statement bodies are N_BODY nodes.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_AST_H
#define WTL_MODELS_CHAT_TEMPLATE_AST_H

#include "models/chat_template/value.h"

typedef enum jtoken_kind {
    T_EOF, T_DATA, T_VARIABLE_BEGIN, T_VARIABLE_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INTEGER, T_FLOAT,
    T_ADD, T_SUB, T_MUL, T_DIV, T_FLOORDIV, T_MOD, T_POW, T_TILDE, T_EQ, T_NE, T_LT, T_LTEQ, T_GT, T_GTEQ,
    T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON, T_LPAREN, T_RPAREN, T_LBRACKET, T_RBRACKET, T_LBRACE, T_RBRACE,
} jtoken_kind;

typedef struct jtoken {
    jtoken_kind kind;
    uint32_t at;  // byte offset
    jstr *text;   // data, names, strings
    int64_t i;
    double f;
} jtoken;
typedef struct jtokens {
    jtoken *items;
    size_t n, cap;
} jtokens;

// c->source must have \n line ends only. Fails with FORMAT.
jtokens lexer_run(jctx *c);
const char *token_words(const jtoken *t, char out[64]); // for messages

typedef enum jnode_kind {
    // Expressions
    N_CONST,    // value
    N_NAME,     // name
    N_LIST, N_TUPLE, // items
    N_DICT,     // items: key, value, key, value
    N_AND, N_OR, // a, b
    N_NOT, N_NEGATE, N_POSITIVE, // a
    N_BINARY,   // op (a jtoken_kind), a, b
    N_CONCAT,   // items
    N_COMPARE,  // a, items: right sides, ops beside them
    N_COND,     // a if b else d (or NULL)
    N_ATTR,     // a.name
    N_ITEM,     // a[b]
    N_SLICE,    // a[items[0]:items[1]:items[2]], each may be NULL
    N_CALL,     // a, args
    N_FILTER,   // a (NULL: the text of a block), name, filter, args
    N_TEST,     // a, name, test, args
    // Statements
    N_BODY,     // items
    N_DATA,     // value: text
    N_PRINT,    // a
    N_IF,       // a: condition, b: body, d: else branch (N_IF or N_BODY) or NULL
    N_FOR,      // target, a: what is walked, b: body, d: else or NULL, test or NULL, flag: recursive
    N_SET,      // target, a
    N_SET_BLOCK, // target, b: body, a: filters or NULL
    N_MACRO,    // name, items: parameter names, defaults, b: body, uses_...
    N_CALL_BLOCK, // a: the call, the rest as N_MACRO
    N_FILTER_BLOCK, // a: filters, b
    N_WITH,     // items: targets, defaults: values, b
    N_BLOCK,    // b, flag: sees the variables around it
    N_SCOPE,    // b; a: must be false (autoescape), or NULL
    N_BREAK, N_CONTINUE,
    N_NS_TARGET, // name.attr, as a target of set
    N_UNSUPPORTED, // value: what it is; fails when it is reached
} jnode_kind;

enum { CMP_IN = 100, CMP_NOT_IN }; // further ops of N_COMPARE

typedef struct jcall_args {
    jnode **pos;
    size_t n_pos;
    jnode **kw_values;
    const jstr **kw_names;
    size_t n_kw;
    jnode *dyn_args, *dyn_kwargs;
} jcall_args;

struct jnode {
    jnode_kind kind;
    uint32_t at;
    int op;
    bool flag, uses_caller, uses_kwargs, uses_varargs;
    jval value;
    const jstr *name, *attr;
    jnode *a, *b, *d, *target, *test;
    jnode **items;
    int *ops;
    size_t n;
    jnode **defaults;
    size_t n_defaults;
    jcall_args args;
    const jfilter *filter;
    const jtest *is_test;
};

// Parses what the tokens say; names gets every variable that the code mentions.
jnode *parser_run(jctx *c, jtokens tokens, jdict *names);

// ---- Between the parser's two files ----------------------------------------------------------------------------------------
typedef struct jparser {
    jctx *c;
    jtokens tokens;
    size_t pos;
    jdict *names;
    uint32_t in_loops;  // for statements around this place, for assignments to `loop`
    bool can_break;
    bool soft;          // in the branches of an if: unknown filters fail only when they are reached
    struct jmacro_use {
        struct jmacro_use *outer;
        bool caller, kwargs, varargs;
    } *macro;
    const jtoken *unknown; // the first unknown filter or test that fails the compilation
    bool unknown_is_test;
} jparser;

static inline const jtoken *parse_peek(const jparser *p) { return &p->tokens.items[p->pos]; }
const jtoken *parse_look(const jparser *p);            // the token after this one
const jtoken *parse_next(jparser *p);                  // takes this one
bool parse_skip(jparser *p, jtoken_kind kind);         // takes it if it is one
bool parse_is_name(const jtoken *t, const char *name);
bool parse_skip_name(jparser *p, const char *name);
const jtoken *parse_expect(jparser *p, jtoken_kind kind, const char *what);
void parse_expect_name(jparser *p, const char *name);
_Noreturn void parse_fail(jparser *p, const jtoken *t, const char *format, ...) __attribute__((format(printf, 3, 4)));
jnode *node_new(jparser *p, jnode_kind kind, uint32_t at);
typedef struct jnodes {
    jnode **items;
    size_t n, cap;
} jnodes;
void nodes_push(jparser *p, jnodes *l, jnode *node);
jnode *parse_expression(jparser *p, bool with_cond);
jnode *parse_primary(jparser *p);
typedef enum { TUPLE_PLAIN, TUPLE_NAMES, TUPLE_NO_COND } jtuple_mode;
jnode *parse_tuple(jparser *p, jtuple_mode mode, const char *end_name, bool parentheses);
jnode *parse_filters(jparser *p, jnode *subject, bool inline_start);
jnode *parse_target(jparser *p, const char *end_name, bool with_namespace, bool param);
const jstr *parse_target_name(jparser *p, bool param);

// Rendering (exec.c, eval.c, call.c).
typedef enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } jflow;
jflow exec_body(jctx *c, const jnode *body);
jval eval(jctx *c, const jnode *node);
void eval_args(jctx *c, const jcall_args *a, jargs *out);
jval eval_filter(jctx *c, const jnode *node, jval subject);
void scope_set(jctx *c, jscope *scope, const jstr *name, jval value);
jscope *scope_new(jctx *c, jscope *parent);
void assign(jctx *c, const jnode *target, jval value);
jval macro_call(jctx *c, jmacro *macro, const jargs *args);
bool loop_has(jctx *c, jloop *loop, size_t index); // whether there is such an item; walks on as far as needed
jval loop_run(jctx *c, const jnode *node, jscope *scope, jval items, uint32_t depth0, jflow *flow);

#endif
