// The table of filters, and those of single values: numbers, defaults, JSON.
// SPDX-License-Identifier: Apache-2.0
#include "models/chat_template/filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "models/chat_template/ast.h"

const jfilter *find_filter(const jstr *name) {
    static const jfilter filters[] = {
        {"abs", f_abs}, {"attr", f_attr}, {"batch", f_batch}, {"capitalize", f_capitalize}, {"center", f_center}, {"count", f_length}, {"d", f_default},
        {"default", f_default}, {"dictsort", f_dictsort}, {"e", f_escape}, {"escape", f_escape}, {"first", f_first}, {"float", f_float},
        {"forceescape", f_forceescape}, {"format", f_format}, {"groupby", f_groupby}, {"indent", f_indent}, {"int", f_int}, {"items", f_items}, {"join", f_join},
        {"last", f_last}, {"length", f_length}, {"list", f_list}, {"lower", f_lower}, {"map", f_map}, {"max", f_max}, {"min", f_min}, {"reject", f_reject},
        {"rejectattr", f_rejectattr}, {"replace", f_replace}, {"reverse", f_reverse}, {"round", f_round}, {"safe", f_safe}, {"select", f_select},
        {"selectattr", f_selectattr}, {"slice", f_slice}, {"sort", f_sort}, {"string", f_string}, {"sum", f_sum}, {"title", f_title}, {"tojson", f_tojson},
        {"trim", f_trim}, {"truncate", f_truncate}, {"unique", f_unique}, {"upper", f_upper}, {"urlencode", f_urlencode}, {"wordcount", f_wordcount}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (str_is(name, filters[i].name)) return &filters[i];
    return NULL;
}

jval f_abs(jctx *c, jval v, const jargs *args) {
    args_none(c, "abs", args);
    if (v.type == V_REAL) return val_real(fabs(v.f));
    int64_t i;
    if (!val_is_int(v, &i)) fail_type(c, "bad operand type for abs(): '%s'", val_type_name(v));
    return i < 0 ? val_negate(c, v) : val_int(i);
}

jval f_attr(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("attr", 1, "name");
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    const jstr *name = arg_str(c, "attr", out[0]);
    if (v.type == V_DICT) { // attributes only, not items
        bool unsafe = false;
        if (!find_method(c, v, name, &unsafe)) return val_undefined_attr(c, v, out[0]);
    }
    return val_attr(c, v, name);
}

jval f_default(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("default", 0, "default_value", "boolean");
    bool use = v.type == V_UNDEFINED || (arg_flag(c, out[1]) && !val_true(c, v));
    return !use ? v : val_given(out[0]) ? out[0] : val_str(str_literal(c, ""));
}

jval f_string(jctx *c, jval v, const jargs *args) {
    args_none(c, "string", args);
    return val_str(val_str_of(c, v));
}

static int64_t int_of_real(jctx *c, double f) {
    if (isnan(f)) fail_value(c, "cannot convert float NaN to integer");
    if (isinf(f)) fail_value(c, "cannot convert float infinity to integer");
    if (fabs(f) >= 9.2233720368547758e18) fail_value(c, "the result is an integer of more than 64 bits, which is not supported");
    return (int64_t)f;
}

jval f_int(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("int", 0, "default", "base");
    jval fallback = val_given(out[0]) ? out[0] : val_int(0);
    int64_t i;
    double f;
    bool too_big = false;
    if (val_is_int(v, &i)) return val_int(i);
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (v.type == V_REAL) return isnan(v.f) ? fallback : val_int(int_of_real(c, v.f));
    if (v.type != V_STR) return fallback;
    int64_t base = val_given(out[1]) ? arg_int(c, "int", out[1]) : 10;
    bool legal = base == 0 || (base >= 2 && base <= 36);
    jinja_charge_bytes(c, v.s->len * 8);
    if (legal && parse_int(v.s, base, &i, &too_big)) {
        if (too_big) fail_value(c, "the result is an integer of more than 64 bits, which is not supported");
        return val_int(i);
    }
    return parse_real(c, v.s, &f) && !isnan(f) ? val_int(int_of_real(c, f)) : fallback;
}

jval f_float(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("float", 0, "default");
    double f;
    if (val_is_number(v, &f) || (v.type == V_STR && parse_real(c, v.s, &f))) return val_real(f);
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    return val_given(out[0]) ? out[0] : val_real(0.0);
}

// Python's round(): to even, of the exact decimal value.
static jval round_common(jctx *c, jval v, int64_t precision) {
    int64_t i, unit = 1;
    if (v.type == V_UNDEFINED) fail_undefined(c, v);
    if (val_is_int(v, &i)) {
        if (precision >= 0) return val_int(i);
        if (precision < -18) return val_int(0);
        for (; precision < 0; precision++) unit *= 10;
        int64_t down;
        if (__builtin_mul_overflow(i / unit - (i % unit < 0), unit, &down)) fail_value(c, "the result is an integer of more than 64 bits, which is not supported");
        int64_t rest = i - down, twice = rest > unit - rest ? 1 : rest == unit - rest ? 0 : -1;
        bool up = twice > 0 || (twice == 0 && down / unit % 2 != 0);
        return up ? val_binary(c, T_ADD, val_int(down), val_int(unit)) : val_int(down);
    }
    if (v.type != V_REAL) fail_type(c, "type %s doesn't define __round__ method", val_type_name(v));
    if (!isfinite(v.f) || precision > 323) return v;
    if (precision < -308) return val_real(copysign(0.0, v.f));
    char text[700];
    if (precision >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)precision, v.f);
        return val_real(strtod(text, NULL));
    }
    double scale = pow(10.0, (double)-precision), x = v.f / scale, r = round(x);
    if (fabs(x - r) == 0.5) r = 2.0 * round(x / 2.0);
    return val_real(r * scale);
}

jval f_round(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("round", 0, "precision", "method");
    int64_t precision = val_given(out[0]) ? arg_int(c, "round", out[0]) : 0;
    const jstr *method = val_given(out[1]) ? arg_str(c, "round", out[1]) : NULL;
    double f;
    if (!method || str_is(method, "common")) return round_common(c, v, precision);
    bool up = str_is(method, "ceil");
    if (!up && !str_is(method, "floor")) fail_value(c, "method must be common, ceil or floor");
    jval scale = val_binary(c, T_POW, val_int(10), val_int(precision)), scaled = val_binary(c, T_MUL, v, scale);
    if (!val_is_number(scaled, &f)) fail_type(c, "must be real number, not %s", val_type_name(v));
    jval whole = scaled.type == V_REAL ? val_int(int_of_real(c, up ? ceil(f) : floor(f))) : scaled;
    return val_binary(c, T_DIV, whole, scale);
}

jval f_tojson(jctx *c, jval v, const jargs *args) {
    FILTER_BIND("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
    return val_str(json_dump(c, v, arg_flag(c, out[0]), out[1], out[2], arg_flag(c, out[3])));
}
