// Truth, equality, order, membership, arithmetic and stable sorting, as Python's.
// Integers are 64 bit: what would be longer in Python is an error here.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "models/chat_template/ast.h"

bool val_is_int(jval v, int64_t *out) {
    if (v.type != V_INT && v.type != V_BOOL) return false;
    *out = v.type == V_INT ? v.i : v.b;
    return true;
}

bool val_is_number(jval v, double *out) {
    int64_t i;
    if (v.type == V_REAL) return *out = v.f, true;
    if (!val_is_int(v, &i)) return false;
    *out = (double)i;
    return true;
}

bool val_true(jctx *c, jval v) {
    bool has;
    switch (v.type) {
    case V_UNDEFINED:
    case V_MISSING:
    case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_REAL: return v.f != 0;
    case V_STR: return v.s->len != 0;
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_RANGE:
    case V_LOOP: return val_length(c, v, &has) != 0;
    default: return true;
    }
}

// ---- Equality and order ----------------------------------------------------------------------------------------------------
// -1, 0, 1, or 2 where either is not a number.
static int compare_numbers(jval a, jval b) {
    int64_t i, j;
    double x = 0, y = 0;
    if (val_is_int(a, &i) && val_is_int(b, &j)) return (i > j) - (i < j);
    val_is_number(a, &x);
    val_is_number(b, &y);
    if (isnan(x) || isnan(y)) return 2;
    // A 64-bit integer against a float: exact where the float is in range.
    if (val_is_int(a, &i) && fabs(y) < 9.2e18) return i != (int64_t)y ? (i > (int64_t)y) - (i < (int64_t)y) : (0 > y - trunc(y)) - (0 < y - trunc(y));
    if (val_is_int(b, &j) && fabs(x) < 9.2e18) return -compare_numbers(b, a);
    return (x > y) - (x < y);
}

static bool both_numbers(jval a, jval b) {
    double x;
    return val_is_number(a, &x) && val_is_number(b, &x);
}

static bool equal_lists(jctx *c, const jlist *a, const jlist *b) {
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!val_equal(c, a->items[i], b->items[i])) return false;
    return true;
}

static bool equal_dicts(jctx *c, const jdict *a, const jdict *b) {
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n_entries; i++) {
        if (!a->entries[i].live) continue;
        const jval *other = dict_get(c, b, a->entries[i].key);
        if (!other || !val_equal(c, a->entries[i].value, *other)) return false;
    }
    return true;
}

static bool equal_ranges(const jrange *a, const jrange *b) {
    return a->n == b->n && (!a->n || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

bool val_equal(jctx *c, jval a, jval b) {
    jinja_charge(c, 1);
    if (both_numbers(a, b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return false;
    if (a.type == V_STR) {
        if (a.s->len != b.s->len) return false;
        jinja_charge_bytes(c, a.s->len);
        return str_same(a.s, b.s);
    }
    if (a.type == V_NONE || a.type == V_UNDEFINED || a.type == V_MISSING) return true;
    if (a.type == V_RANGE) return equal_ranges(a.range, b.range);
    if (a.p == b.p) return true;
    if (a.type != V_LIST && a.type != V_TUPLE && a.type != V_DICT) return false;
    jinja_enter(c);
    bool same = a.type == V_DICT ? equal_dicts(c, a.dict, b.dict) : equal_lists(c, a.list, b.list);
    jinja_leave(c);
    return same;
}

// `is`: small values have no address here, so equal ones of one type are the same.
bool val_same(jval a, jval b) {
    if (a.type != b.type) return false;
    if (a.type == V_NONE) return true;
    if (a.type == V_BOOL) return a.b == b.b;
    if (a.type == V_INT) return a.i == b.i;
    if (a.type == V_REAL) return a.f == b.f;
    if (a.type == V_STR) return str_same(a.s, b.s);
    return a.p == b.p;
}

static _Noreturn void fail_order(jctx *c, jval a, jval b, const char *op) {
    if (a.type == V_UNDEFINED) fail_undefined(c, a);
    if (b.type == V_UNDEFINED) fail_undefined(c, b);
    bool swapped = op[0] == '>'; // val_less() gets b < a then
    fail_type(c, "'%s' not supported between instances of '%s' and '%s'", op, val_type_name(swapped ? b : a), val_type_name(swapped ? a : b));
}

// a < b; with op "<=" or ">=" also where they are equal.
bool val_less(jctx *c, jval a, jval b, const char *op) {
    bool or_equal = op[1] == '=';
    jinja_charge(c, 1);
    if (both_numbers(a, b)) {
        int order = compare_numbers(a, b);
        return order == -1 || (or_equal && order == 0);
    }
    if (a.type != b.type) fail_order(c, a, b, op);
    if (a.type == V_STR) {
        jinja_charge_bytes(c, a.s->len < b.s->len ? a.s->len : b.s->len);
        int order = str_compare(a.s, b.s);
        return order < 0 || (or_equal && !order);
    }
    if (a.type != V_LIST && a.type != V_TUPLE) fail_order(c, a, b, op);
    jinja_enter(c);
    size_t i = 0, n = a.list->n < b.list->n ? a.list->n : b.list->n;
    while (i < n && val_equal(c, a.list->items[i], b.list->items[i])) i++;
    bool less = i < n ? val_less(c, a.list->items[i], b.list->items[i], op) : a.list->n < b.list->n || (or_equal && a.list->n == b.list->n);
    jinja_leave(c);
    return less;
}

bool val_contains(jctx *c, jval in, jval item) {
    if (in.type == V_STR) {
        if (item.type != V_STR) fail_type(c, "'in <string>' requires string as left operand, not %s", val_type_name(item));
        return str_find(c, in.s, item.s, 0, in.s->len) != SIZE_MAX;
    }
    if (in.type == V_DICT) return dict_get(c, in.dict, item) != NULL;
    if (in.type == V_VIEW && in.view->kind == VIEW_KEYS) return dict_get(c, in.view->dict, item) != NULL;
    if (!val_iterable(in)) fail_type(c, "argument of type '%s' is not iterable", val_type_name(in));
    const jlist *l = val_items(c, in);
    for (size_t i = 0; i < l->n; i++)
        if (val_equal(c, l->items[i], item)) return true;
    return false;
}

// ---- Arithmetic ------------------------------------------------------------------------------------------------------------
static _Noreturn void fail_overflow(jctx *c) { fail_value(c, "the result is an integer of more than 64 bits, which is not supported"); }
static _Noreturn void fail_zero(jctx *c, const char *words) { jinja_fail(c, WTL_ERR_FORMAT, "%s", words); }

static jval int_power(jctx *c, int64_t a, int64_t b) {
    int64_t result = 1;
    if (b < 0) {
        if (!a) fail_zero(c, "0.0 cannot be raised to a negative power");
        return val_real(pow((double)a, (double)b));
    }
    if (a == 0 || a == 1) return val_int(b ? a : 1);
    if (a == -1) return val_int(b % 2 ? -1 : 1);
    for (; b > 0; b--)
        if (__builtin_mul_overflow(result, a, &result)) fail_overflow(c);
    return val_int(result);
}

static int64_t floor_div(jctx *c, int64_t a, int64_t b) {
    if (!b) fail_zero(c, "integer division or modulo by zero");
    if (a == INT64_MIN && b == -1) fail_overflow(c);
    return a / b - (a % b && (a < 0) != (b < 0));
}

static int64_t floor_mod(jctx *c, int64_t a, int64_t b) {
    if (!b) fail_zero(c, "integer modulo by zero");
    if (b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static jval int_binary(jctx *c, int op, int64_t a, int64_t b) {
    int64_t r;
    switch (op) {
    case T_ADD: if (__builtin_add_overflow(a, b, &r)) fail_overflow(c); return val_int(r);
    case T_SUB: if (__builtin_sub_overflow(a, b, &r)) fail_overflow(c); return val_int(r);
    case T_MUL: if (__builtin_mul_overflow(a, b, &r)) fail_overflow(c); return val_int(r);
    case T_DIV: if (!b) fail_zero(c, "division by zero"); return val_real((double)a / (double)b);
    case T_FLOORDIV: return val_int(floor_div(c, a, b));
    case T_MOD: return val_int(floor_mod(c, a, b));
    default: return int_power(c, a, b);
    }
}

static double real_mod(double a, double b) {
    double r = fmod(a, b);
    if (r != 0) return (b < 0) != (r < 0) ? r + b : r;
    return copysign(0.0, b);
}

static double real_floor_div(double a, double b) {
    double mod = fmod(a, b), div = (a - mod) / b;
    if (mod != 0 && (b < 0) != (mod < 0)) div -= 1.0;
    if (div == 0) return copysign(0.0, a / b);
    double down = floor(div);
    return div - down > 0.5 ? down + 1.0 : down;
}

static jval real_binary(jctx *c, int op, double a, double b) {
    switch (op) {
    case T_ADD: return val_real(a + b);
    case T_SUB: return val_real(a - b);
    case T_MUL: return val_real(a * b);
    case T_DIV: if (b == 0) fail_zero(c, "float division by zero"); return val_real(a / b);
    case T_FLOORDIV: if (b == 0) fail_zero(c, "float floor division by zero"); return val_real(real_floor_div(a, b));
    case T_MOD: if (b == 0) fail_zero(c, "float modulo"); return val_real(real_mod(a, b));
    default: break;
    }
    if (a == 0 && b < 0) fail_zero(c, "0.0 cannot be raised to a negative power");
    if (a < 0 && isfinite(b) && b != floor(b)) fail_value(c, "the result is a complex number, which is not supported");
    double r = pow(a, b);
    if (isinf(r) && isfinite(a) && isfinite(b)) fail_value(c, "Numerical result out of range");
    return val_real(r);
}

static jval repeat(jctx *c, jval v, int64_t times) {
    if (times < 0) times = 0;
    if (v.type == V_STR) {
        jbuild b;
        build_open(&b, c);
        build_fill(&b, v.s, (size_t)times);
        jstr *s = build_done(&b);
        s->markup = v.s->markup;
        return val_str(s);
    }
    jlist *l = list_new(c, 0);
    for (int64_t i = 0; v.list->n && i < times; i++)
        for (size_t k = 0; k < v.list->n; k++) list_push(c, l, v.list->items[k]);
    return v.type == V_TUPLE ? val_tuple(l) : val_list(l);
}

static jval add_lists(jctx *c, jval a, jval b) {
    jlist *l = list_new(c, a.list->n + b.list->n);
    for (size_t i = 0; i < a.list->n; i++) list_push(c, l, a.list->items[i]);
    for (size_t i = 0; i < b.list->n; i++) list_push(c, l, b.list->items[i]);
    return a.type == V_TUPLE ? val_tuple(l) : val_list(l);
}

static jval add_texts(jctx *c, jstr *a, jstr *b) {
    bool markup = a->markup || b->markup;
    if (markup && !a->markup) a = str_escape(c, a);
    if (markup && !b->markup) b = str_escape(c, b);
    jstr *s = str_concat(c, a, b);
    s->markup = markup;
    return val_str(s);
}

static bool is_sequence(jval v) { return v.type == V_STR || v.type == V_LIST || v.type == V_TUPLE; }

jval val_binary(jctx *c, int op, jval a, jval b) {
    static const char *const words[] = {[T_ADD] = "+", [T_SUB] = "-", [T_MUL] = "*", [T_DIV] = "/", [T_FLOORDIV] = "//", [T_MOD] = "%", [T_POW] = "** or pow()"};
    int64_t i, j;
    double x = 0, y = 0;
    if (val_is_int(a, &i) && val_is_int(b, &j)) return int_binary(c, op, i, j);
    if (val_is_number(a, &x) && val_is_number(b, &y)) return real_binary(c, op, x, y);
    if (a.type == V_STR && op == T_MOD) return val_str(format_percent(c, a.s, b));
    if (a.type == V_UNDEFINED) fail_undefined(c, a);
    if (b.type == V_UNDEFINED) fail_undefined(c, b);
    if (op == T_MUL && is_sequence(a) && val_is_int(b, &j)) return repeat(c, a, j);
    if (op == T_MUL && is_sequence(b) && val_is_int(a, &i)) return repeat(c, b, i);
    if (op == T_ADD && a.type == b.type && a.type == V_STR) return add_texts(c, a.s, b.s);
    if (op == T_ADD && a.type == b.type && is_sequence(a)) return add_lists(c, a, b);
    if (op == T_ADD && a.type == V_STR) fail_type(c, "can only concatenate str (not \"%s\") to str", val_type_name(b));
    fail_type(c, "unsupported operand type(s) for %s: '%s' and '%s'", words[op], val_type_name(a), val_type_name(b));
}

jval val_negate(jctx *c, jval v) {
    int64_t i;
    if (v.type == V_REAL) return val_real(-v.f);
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (!val_is_int(v, &i)) fail_type(c, "bad operand type for unary -: '%s'", val_type_name(v));
    if (i == INT64_MIN) fail_overflow(c);
    return val_int(-i);
}

jval val_positive(jctx *c, jval v) {
    int64_t i;
    if (v.type == V_REAL) return v;
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (!val_is_int(v, &i)) fail_type(c, "bad operand type for unary +: '%s'", val_type_name(v));
    return val_int(i);
}

// ---- Sorting: merges bottom up, so that equal items keep their order ---------------------------------------------------------
void val_sort(jctx *c, jval *items, jval *keys, size_t n, bool reverse) {
    size_t *from = jinja_array(c, n, sizeof *from), *to = jinja_array(c, n, sizeof *to);
    for (size_t i = 0; i < n; i++) from[i] = i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t left = 0; left < n; left += 2 * width) {
            size_t mid = left + width < n ? left + width : n, end = mid + width < n ? mid + width : n, i = left, j = mid;
            for (size_t k = left; k < end; k++) {
                bool right = i >= mid || (j < end && (reverse ? val_less(c, keys[from[i]], keys[from[j]], "<") : val_less(c, keys[from[j]], keys[from[i]], "<")));
                to[k] = right ? from[j++] : from[i++];
            }
        }
        size_t *swap = from;
        from = to;
        to = swap;
    }
    jval *sorted = jinja_array(c, n, sizeof *sorted);
    for (size_t i = 0; i < n; i++) sorted[i] = items[from[i]];
    if (n) memcpy(items, sorted, n * sizeof *items);
}
