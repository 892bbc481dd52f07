// Schemas that hold at once, made one: $ref, anyOf and oneOf beside other keywords, allOf. Keyword by keyword, on JSON; what cannot be put into one
// keyword is refused by name. And the opposite question: whether two schemas surely have no document in common (oneOf).
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/schema_private.h"

bool schema_is_annotation(const char *keyword) {
    static const char *const names[] = {"title", "description", "default", "examples", "example", "format", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id", "$anchor",
                                        "$defs", "definitions", "discriminator", "contentEncoding", "contentMediaType", "strict", "name", "id"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(keyword, names[i]) == 0) return true;
    return false;
}

json_t *schema_own(schema_compiler *c, json_t *made) {
    if (!made || json_array_append_new(c->made, made) != 0) return schema_no_memory(c), NULL;
    return made;
}

// ---- References --------------------------------------------------------------------------------------------------------------
// One step of a JSON pointer: ~1 is /, ~0 is ~, %XX a byte. Returns what follows; NULL: malformed or too long.
static const char *pointer_step(const char *at, char *out, size_t cap) {
    size_t n = 0;
    for (; *at && *at != '/'; at++) {
        char c = *at;
        if (c == '~') {
            if (at[1] != '0' && at[1] != '1') return NULL;
            c = *++at == '0' ? '~' : '/';
        } else if (c == '%' && at[1] && at[2]) {
            const char digits[3] = {at[1], at[2], 0};
            c = (char)strtol(digits, NULL, 16);
            at += 2;
        }
        if (n + 1 == cap) return NULL;
        out[n++] = c;
    }
    out[n] = '\0';
    return at;
}

const json_t *schema_resolve(schema_compiler *c, const char *reference) {
    char step[256];
    const json_t *at = c->root;
    if (reference[0] != '#' || (reference[1] && reference[1] != '/')) {
        schema_fail(c, "$ref", "\"%.80s\" is not supported: only references inside the schema are (\"#/$defs/...\")", reference);
        return NULL;
    }
    for (const char *rest = reference + 1; at && *rest == '/';) {
        rest = pointer_step(rest + 1, step, sizeof step);
        if (!rest) at = NULL;
        else if (json_is_array(at)) at = json_array_get(at, (size_t)strtoul(step, NULL, 10));
        else at = json_object_get(at, step);
        if (!rest) break;
    }
    if (!at) schema_fail(c, "$ref", "\"%.80s\" leads nowhere", reference);
    return at;
}

// ---- Types -------------------------------------------------------------------------------------------------------------------
static uint8_t type_named(const char *name) {
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return (uint8_t)(1 << i);
    return 0;
}

uint8_t schema_types(const json_t *schema) {
    const json_t *type = json_object_get(schema, "type");
    uint8_t types = 0;
    if (json_is_string(type)) types = type_named(json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++) {
        const uint8_t one = type_named(json_string_value(json_array_get(type, i)));
        if (!one) return 0;
        types |= one;
    }
    if (types && json_is_true(json_object_get(schema, "nullable"))) types |= TYPE_NULL;
    return types;
}

uint8_t schema_type_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_NULL: return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return TYPE_BOOL;
    case JSON_INTEGER: return TYPE_INTEGER;
    case JSON_REAL: return json_real_value(value) == (double)(int64_t)json_real_value(value) ? TYPE_INTEGER : TYPE_NUMBER;
    case JSON_STRING: return TYPE_STRING;
    case JSON_ARRAY: return TYPE_LIST;
    case JSON_OBJECT: break;
    }
    return TYPE_MAP;
}

static uint8_t common_types(uint8_t a, uint8_t b) {
    if (a & TYPE_NUMBER) a |= TYPE_INTEGER;
    if (b & TYPE_NUMBER) b |= TYPE_INTEGER;
    uint8_t both = a & b;
    if (both & TYPE_NUMBER) both &= (uint8_t)~TYPE_INTEGER;
    return both;
}

static json_t *type_list(uint8_t types) {
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (types >> i & 1) json_array_append_new(list, json_string(names[i]));
    return list;
}

// ---- Merging -----------------------------------------------------------------------------------------------------------------
static json_t *all_of(json_t *a, json_t *b) { return json_pack("{s:[O, O]}", "allOf", a, b); }

static bool put(schema_compiler *c, json_t *out, const char *key, json_t *made) {
    return made && json_object_set_new(out, key, made) == 0 ? true : schema_no_memory(c);
}

static bool same_value(const json_t *a, const json_t *b) { // 1 and 1.0 are one number
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b) : json_equal(a, b);
}

static json_t *united(const json_t *a, const json_t *b) { // lists of names
    json_t *list = json_copy((json_t *)a);
    for (size_t i = 0; list && i < json_array_size(b); i++) {
        bool known = false;
        for (size_t k = 0; k < json_array_size(a) && !known; k++) known = json_equal(json_array_get(a, k), json_array_get(b, i));
        if (!known) json_array_append(list, json_array_get(b, i));
    }
    return list;
}

static json_t *in_both(const json_t *a, const json_t *b) { // lists of values
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(a); i++)
        for (size_t k = 0; k < json_array_size(b); k++)
            if (same_value(json_array_get(a, i), json_array_get(b, k))) {
                json_array_append(list, json_array_get(a, i));
                break;
            }
    return list;
}

static json_t *stricter(const char *key, json_t *a, json_t *b) {
    const bool lower = strncmp(key, "min", 3) == 0 || strcmp(key, "exclusiveMinimum") == 0;
    return json_incref((json_number_value(a) > json_number_value(b)) == lower ? a : b);
}

static bool one_of(const char *key, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(key, names[i]) == 0) return true;
    return false;
}

// A keyword that both have.
static bool merge_keyword(schema_compiler *c, json_t *out, const char *key, json_t *a, json_t *b) {
    static const char *const limits[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems"};
    if (json_equal(a, b)) return put(c, out, key, json_incref(a));
    if (strcmp(key, "required") == 0 && json_is_array(a) && json_is_array(b)) return put(c, out, key, united(a, b));
    if (strcmp(key, "enum") == 0 && json_is_array(a) && json_is_array(b)) return put(c, out, key, in_both(a, b));
    if (strcmp(key, "items") == 0 && !json_is_array(a) && !json_is_array(b)) return put(c, out, key, all_of(a, b));
    if (one_of(key, limits, sizeof limits / sizeof *limits) && json_is_number(a) && json_is_number(b)) return put(c, out, key, stricter(key, a, b));
    if (strcmp(key, "allOf") == 0 && json_is_array(a) && json_is_array(b)) {
        json_t *both = json_copy(a);
        if (both) json_array_extend(both, b);
        return put(c, out, key, both);
    }
    return schema_fail(c, key, "is there twice for the same value, and the two cannot be combined");
}

// Keys that only one side names must satisfy what the other says of additional ones.
static bool merge_properties(schema_compiler *c, json_t *out, const json_t *a, const json_t *b) {
    json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties"), *more_a = json_object_get(a, "additionalProperties"),
           *more_b = json_object_get(b, "additionalProperties"), *value;
    const char *key;
    if (more_a || more_b) {
        json_t *more = !more_a ? json_incref(more_b) : !more_b || json_equal(more_a, more_b) ? json_incref(more_a) : all_of(more_a, more_b);
        if (!put(c, out, "additionalProperties", more)) return false;
    }
    if (!pa && !pb) return true;
    if ((pa && !json_is_object(pa)) || (pb && !json_is_object(pb))) return schema_fail(c, "properties", "must be an object");
    json_t *all = json_object();
    if (!put(c, out, "properties", all)) return false;
    json_object_foreach(pa, key, value) {
        json_t *other = json_object_get(pb, key);
        if (!other) other = more_b;
        if (!put(c, all, key, other && !json_equal(other, value) ? all_of(value, other) : json_incref(value))) return false;
    }
    json_object_foreach(pb, key, value) {
        if (json_object_get(all, key)) continue;
        if (!put(c, all, key, more_a ? all_of(value, more_a) : json_incref(value))) return false;
    }
    return true;
}

static bool merge_objects(schema_compiler *c, json_t *out, const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    const uint8_t types_a = schema_types(a), types_b = schema_types(b);
    if (!merge_properties(c, out, a, b)) return false;
    for (int side = 0; side < 2; side++)
        json_object_foreach((json_t *)(side ? b : a), key, value) {
            json_t *other = json_object_get(side ? a : b, key);
            if (schema_is_annotation(key) || strcmp(key, "properties") == 0 || strcmp(key, "additionalProperties") == 0 || strcmp(key, "nullable") == 0) continue;
            if (side && other) continue;
            if (strcmp(key, "type") == 0 && other && types_a && types_b) {
                if (!put(c, out, key, type_list(common_types(types_a, types_b)))) return false;
            } else if (strcmp(key, "type") == 0 && (side ? types_b : types_a)) {
                if (!put(c, out, key, type_list(side ? types_b : types_a))) return false;
            } else if (!(other ? merge_keyword(c, out, key, value, other) : put(c, out, key, json_incref(value)))) {
                return false;
            }
        }
    return true;
}

// With its reference, if it is one, replaced by what that means.
static const json_t *without_reference(schema_compiler *c, const json_t *schema) {
    for (int i = 0; json_object_get(schema, "$ref"); i++) {
        const char *reference = json_string_value(json_object_get(schema, "$ref"));
        if (!reference || i == 16) return schema_fail(c, "$ref", reference ? "leads in circles" : "must be a string"), NULL;
        const json_t *target = schema_resolve(c, reference);
        json_t *rest = target ? schema_own(c, json_copy((json_t *)schema)) : NULL;
        if (!rest) return NULL;
        json_object_del(rest, "$ref");
        schema = schema_merge(c, target, rest);
        if (!schema) return NULL;
    }
    return schema;
}

const json_t *schema_merge(schema_compiler *c, const json_t *a, const json_t *b) {
    if (!schema_burn(c)) return NULL;
    if (c->depth == DEPTH_MAX) return schema_fail(c, NULL, "is nested too deep, or refers to itself without end"), NULL;
    c->depth++;
    a = without_reference(c, a);
    b = a ? without_reference(c, b) : NULL;
    c->depth--;
    if (!a || !b) return NULL;
    if (json_is_false(a) || json_is_true(b)) return a;
    if (json_is_false(b) || json_is_true(a)) return b;
    if (!json_is_object(a) || !json_is_object(b)) return schema_fail(c, NULL, "must be an object or a boolean"), NULL;
    json_t *out = schema_own(c, json_object());
    return out && merge_objects(c, out, a, b) ? out : NULL;
}

// ---- oneOf -------------------------------------------------------------------------------------------------------------------
// The values that a schema allows at most, as a list; NULL: no list.
static const json_t *values_of(schema_compiler *c, const json_t *schema) {
    const json_t *value = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
    return value ? schema_own(c, json_pack("[O]", value)) : json_is_array(list) ? list : NULL;
}

static bool requires(const json_t *schema, const char *key) {
    const json_t *list = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name && strcmp(name, key) == 0) return true;
    }
    return false;
}

static const json_t *reached(schema_compiler *c, const json_t *schema) { // behind plain references
    for (int i = 0; schema && i < 16 && json_is_string(json_object_get(schema, "$ref")); i++) schema = schema_resolve(c, json_string_value(json_object_get(schema, "$ref")));
    return schema;
}

bool schema_exclude(schema_compiler *c, const json_t *a, const json_t *b, int depth) {
    if (depth > 8 || !schema_burn(c)) return false;
    a = reached(c, a);
    b = reached(c, b);
    if (!json_is_object(a) || !json_is_object(b)) return json_is_false(a) || json_is_false(b);
    const uint8_t types_a = schema_types(a), types_b = schema_types(b);
    if (types_a && types_b && !common_types(types_a, types_b)) return true;
    const json_t *values_a = values_of(c, a), *values_b = values_of(c, b);
    if (values_a && values_b) {
        json_t *both = in_both(values_a, values_b);
        const bool none = json_array_size(both) == 0;
        json_decref(both);
        return none;
    }
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(a, "properties"), key, value) {
        const json_t *other = json_object_get(json_object_get(b, "properties"), key);
        if (types_a == TYPE_MAP && types_b == TYPE_MAP && other && requires(a, key) && requires(b, key) && schema_exclude(c, value, other, depth + 1)) return true;
    }
    return false;
}
