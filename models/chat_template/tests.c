// The tests behind `is`.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/chat_template/ast.h"

static void no_args(jctx *c, const jargs *args) { args_none(c, "test", args); }

static jval other(jctx *c, const jargs *args) {
    jval v;
    args_bind(c, "test", args, (const char *const[]){"other"}, 1, 1, &v);
    return v;
}

static bool remainder_is(jctx *c, jval v, jval by, int64_t want) { return val_equal(c, val_binary(c, T_MOD, v, by), val_int(want)); }

static bool t_odd(jctx *c, jval v, const jargs *args) { return no_args(c, args), remainder_is(c, v, val_int(2), 1); }
static bool t_even(jctx *c, jval v, const jargs *args) { return no_args(c, args), remainder_is(c, v, val_int(2), 0); }
static bool t_divisibleby(jctx *c, jval v, const jargs *args) { return remainder_is(c, v, other(c, args), 0); }
static bool t_defined(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type != V_UNDEFINED; }
static bool t_undefined(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_UNDEFINED; }
static bool t_filter(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_STR && find_filter(v.s); }
static bool t_test(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_STR && find_test(v.s); }
static bool t_none(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_NONE; }
static bool t_boolean(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_BOOL; }
static bool t_false(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_BOOL && !v.b; }
static bool t_true(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_BOOL && v.b; }
static bool t_integer(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_INT; }
static bool t_float(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_REAL; }
static bool t_number(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_INT || v.type == V_REAL || v.type == V_BOOL; }
static bool t_string(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_STR; }
static bool t_mapping(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_DICT; }
static bool t_iterable(jctx *c, jval v, const jargs *args) { return no_args(c, args), val_iterable(v); }
static bool t_callable(jctx *c, jval v, const jargs *args) { return no_args(c, args), val_callable(v); }
static bool t_escaped(jctx *c, jval v, const jargs *args) { return no_args(c, args), v.type == V_STR && v.s->markup; }
static bool t_sequence(jctx *c, jval v, const jargs *args) {
    no_args(c, args);
    return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE || v.type == V_DICT || v.type == V_RANGE || v.type == V_UNDEFINED;
}
static bool t_sameas(jctx *c, jval v, const jargs *args) { return val_same(v, other(c, args)); }
static bool t_in(jctx *c, jval v, const jargs *args) { return val_contains(c, other(c, args), v); }
static bool t_eq(jctx *c, jval v, const jargs *args) { return val_equal(c, v, other(c, args)); }
static bool t_ne(jctx *c, jval v, const jargs *args) { return !val_equal(c, v, other(c, args)); }
static bool t_gt(jctx *c, jval v, const jargs *args) { return val_less(c, other(c, args), v, ">"); }
static bool t_ge(jctx *c, jval v, const jargs *args) { return val_less(c, other(c, args), v, ">="); }
static bool t_lt(jctx *c, jval v, const jargs *args) { return val_less(c, v, other(c, args), "<"); }
static bool t_le(jctx *c, jval v, const jargs *args) { return val_less(c, v, other(c, args), "<="); }

static bool case_is(jctx *c, jval v, const jargs *args, const char *name) {
    no_args(c, args);
    bool unsafe = false;
    const jstr method = {.p = name, .len = strlen(name), .n_chars = strlen(name)};
    jmethod *m = find_method(c, val_str(val_str_of(c, v)), &method, &unsafe);
    return m && m->call(c, m->self, &(jargs){0}).b;
}
static bool t_lower(jctx *c, jval v, const jargs *args) { return case_is(c, v, args, "islower"); }
static bool t_upper(jctx *c, jval v, const jargs *args) { return case_is(c, v, args, "isupper"); }

const jtest *find_test(const jstr *name) {
    static const jtest tests[] = {
        {"odd", t_odd}, {"even", t_even}, {"divisibleby", t_divisibleby}, {"defined", t_defined}, {"undefined", t_undefined}, {"filter", t_filter}, {"test", t_test},
        {"none", t_none}, {"boolean", t_boolean}, {"false", t_false}, {"true", t_true}, {"integer", t_integer}, {"float", t_float}, {"lower", t_lower},
        {"upper", t_upper}, {"string", t_string}, {"mapping", t_mapping}, {"number", t_number}, {"sequence", t_sequence}, {"iterable", t_iterable},
        {"callable", t_callable}, {"sameas", t_sameas}, {"escaped", t_escaped}, {"in", t_in}, {"==", t_eq}, {"eq", t_eq}, {"equalto", t_eq}, {"!=", t_ne}, {"ne", t_ne},
        {">", t_gt}, {"gt", t_gt}, {"greaterthan", t_gt}, {"ge", t_ge}, {">=", t_ge}, {"<", t_lt}, {"lt", t_lt}, {"lessthan", t_lt}, {"<=", t_le}, {"le", t_le}};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_is(name, tests[i].name)) return &tests[i];
    return NULL;
}
