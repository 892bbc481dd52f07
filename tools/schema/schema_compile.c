// JSON to nodes. See schema_private.h for which file does what.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/schema/schema_private.h"

static bool compile_into(schema_compiler *c, uint16_t id, const json_t *schema);

// ---- Trouble and memory --------------------------------------------------------------------------------------------------------
bool schema_fail(schema_compiler *c, const char *keyword, const char *format, ...) {
    if (c->failed) return false;
    c->failed = true;
    const size_t mark = keyword ? schema_enter(c, keyword) : c->path_len;
    va_list args;
    va_start(args, format);
    const int n = snprintf(c->e->message, sizeof c->e->message, "%.160s ", c->path_len ? c->e->path + 1 : "the schema");
    if (n > 0) vsnprintf(c->e->message + n, sizeof c->e->message - (size_t)n, format, args);
    va_end(args);
    (void)mark; // the path stays where it failed
    return false;
}

bool schema_no_memory(schema_compiler *c) {
    if (!c->failed) snprintf(c->e->message, sizeof c->e->message, "out of memory for a JSON schema");
    c->e->no_memory |= !c->failed;
    c->failed = true;
    return false;
}

bool schema_grow(schema_compiler *c, void **list, size_t *cap, size_t n, size_t size) {
    if (n <= *cap) return true;
    const size_t more = 2 * *cap + n;
    void *grown = realloc(*list, more * size);
    if (!grown) return schema_no_memory(c);
    *list = grown;
    *cap = more;
    return true;
}

bool schema_burn(schema_compiler *c) {
    if (c->fuel == 0) return schema_fail(c, NULL, "is too large when written out");
    c->fuel--;
    return true;
}

size_t schema_enter(schema_compiler *c, const char *step) {
    const size_t mark = c->path_len, room = sizeof c->e->path - mark;
    const int n = snprintf(c->e->path + mark, room, ".%s", step);
    c->path_len = n > 0 && (size_t)n < room ? mark + (size_t)n : sizeof c->e->path - 1;
    return mark;
}

void schema_leave(schema_compiler *c, size_t mark) {
    if (c->failed) return;
    c->path_len = mark;
    c->e->path[mark] = '\0';
}

static bool new_node(schema_compiler *c, uint16_t *id) {
    json_schema *s = c->s;
    if (s->n_nodes == NODES_MAX) return schema_fail(c, NULL, "is too large: more than %d parts", NODES_MAX);
    if (!schema_grow(c, (void **)&s->nodes, &s->cap_nodes, s->n_nodes + 1, sizeof *s->nodes)) return false;
    s->nodes[s->n_nodes] = (schema_node){.types = TYPE_ANY, .pattern = -1, .max_length = UINT32_MAX, .max_items = NO_LIMIT16, .items = NODE_ANY, .additional = NODE_ANY};
    *id = (uint16_t)s->n_nodes++;
    return true;
}

static bool add_alternative(schema_compiler *c, uint16_t id) {
    json_schema *s = c->s;
    if (s->n_alternatives == ALTERNATIVES_MAX) return schema_fail(c, NULL, "has too many alternatives, at most %d", ALTERNATIVES_MAX);
    if (!schema_grow(c, (void **)&s->alternatives, &s->cap_alternatives, s->n_alternatives + 1, sizeof *s->alternatives)) return false;
    s->alternatives[s->n_alternatives++] = id;
    return true;
}

static bool compile(schema_compiler *c, const json_t *schema, uint16_t *id) {
    if (json_is_true(schema) || (json_is_object(schema) && json_object_size(schema) == 0)) return *id = NODE_ANY, true;
    if (json_is_false(schema)) return *id = NODE_NEVER, true;
    return new_node(c, id) && compile_into(c, *id, schema);
}

static bool compile_step(schema_compiler *c, const char *step, const json_t *schema, uint16_t *id) {
    const size_t mark = schema_enter(c, step);
    const bool ok = compile(c, schema, id);
    schema_leave(c, mark);
    return ok;
}

// ---- Keywords that cannot be kept ------------------------------------------------------------------------------------------------
static bool refuse(schema_compiler *c, const json_t *schema) {
    static const char *const names[] = {"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties", "propertyNames", "minProperties",
                                        "maxProperties", "contains", "minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_object_get(schema, names[i])) return schema_fail(c, names[i], "is not supported");
    const json_t *unique = json_object_get(schema, "uniqueItems"), *multiple = json_object_get(schema, "multipleOf");
    if (unique && !json_is_false(unique)) return schema_fail(c, "uniqueItems", "is not supported");
    if (multiple && !(schema_types(schema) == TYPE_INTEGER && json_number_value(multiple) == 1)) return schema_fail(c, "multipleOf", "is not supported");
    return true;
}

// ---- References and alternatives -------------------------------------------------------------------------------------------------
static bool target_node(schema_compiler *c, const json_t *target, uint16_t *id) {
    for (size_t i = 0; i < c->n_targets; i++)
        if (c->targets[i] == target) return *id = c->target_nodes[i], true;
    if (!new_node(c, id) || !schema_grow(c, (void **)&c->targets, &c->cap_targets, c->n_targets + 1, sizeof *c->targets) ||
        !schema_grow(c, (void **)&c->target_nodes, &c->cap_target_nodes, c->n_targets + 1, sizeof *c->target_nodes))
        return false;
    c->targets[c->n_targets] = target;
    c->target_nodes[c->n_targets++] = *id;
    return compile_into(c, *id, target);
}

// The node becomes a choice of alternatives, which are written behind each other.
static bool make_union(schema_compiler *c, uint16_t id, const uint16_t *ids, size_t n) {
    c->s->nodes[id].is_union = true;
    c->s->nodes[id].first_alternative = (uint32_t)c->s->n_alternatives;
    c->s->nodes[id].n_alternatives = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        if (!add_alternative(c, ids[i])) return false;
    return true;
}

// What stands beside a keyword and has a meaning; NULL: failed. *n: how much.
static json_t *beside(schema_compiler *c, const json_t *schema, const char *keyword, size_t *n) {
    const char *key;
    json_t *value, *rest = schema_own(c, json_object());
    json_object_foreach((json_t *)schema, key, value) {
        if (rest && strcmp(key, keyword) != 0 && !schema_is_annotation(key) && json_object_set(rest, key, value) != 0) return schema_no_memory(c), NULL;
    }
    *n = json_object_size(rest);
    return rest;
}

static bool compile_reference(schema_compiler *c, uint16_t id, const json_t *schema) {
    size_t n;
    const json_t *rest = beside(c, schema, "$ref", &n), *reference = json_object_get(schema, "$ref");
    if (!rest) return false;
    if (!json_is_string(reference)) return schema_fail(c, "$ref", "must be a string");
    if (n > 0) {
        const json_t *merged = schema_merge(c, schema, json_true());
        return merged && compile_into(c, id, merged);
    }
    const json_t *target = schema_resolve(c, json_string_value(reference));
    uint16_t to;
    return target && target_node(c, target, &to) && make_union(c, id, &to, 1);
}

static bool compile_all_of(schema_compiler *c, uint16_t id, const json_t *schema) {
    size_t n;
    const json_t *list = json_object_get(schema, "allOf"), *merged = beside(c, schema, "allOf", &n);
    if (!json_is_array(list) || json_array_size(list) == 0) return schema_fail(c, "allOf", "must be a list, not empty");
    for (size_t i = 0; merged && i < json_array_size(list); i++) merged = schema_merge(c, merged, json_array_get(list, i));
    return merged && compile_into(c, id, merged);
}

// oneOf means "exactly one": its branches must surely exclude each other. Where a discriminator says which key tells them apart, every branch has it.
static bool check_exclusive(schema_compiler *c, const json_t *const *branches, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (!schema_exclude(c, branches[i], branches[k], 0))
                return schema_fail(c, "oneOf", "has branches %zu and %zu that one value might fit both: give them different types, or a required key with different constants, or use anyOf", k, i);
    return true;
}

static bool compile_branches(schema_compiler *c, const char *keyword, const json_t *rest, const json_t *name, const json_t **branches, uint16_t *ids, size_t n) {
    char step[48];
    for (size_t i = 0; i < n; i++) {
        snprintf(step, sizeof step, "%s.%zu", keyword, i);
        const size_t mark = schema_enter(c, step);
        if (rest) branches[i] = schema_merge(c, rest, branches[i]);
        if (branches[i] && json_is_string(name)) {
            const json_t *required = schema_own(c, json_pack("{s:[O]}", "required", name));
            branches[i] = required ? schema_merge(c, branches[i], required) : NULL;
        }
        if (!branches[i] || !compile(c, branches[i], &ids[i])) return false;
        schema_leave(c, mark);
    }
    return true;
}

static bool compile_union(schema_compiler *c, uint16_t id, const json_t *schema, const char *keyword) {
    enum { BRANCHES_MAX = JSON_WALK_BRANCHES };
    size_t n_beside;
    const json_t *list = json_object_get(schema, keyword), *rest = beside(c, schema, keyword, &n_beside);
    const size_t n = json_array_size(list);
    if (!rest) return false;
    if (n == 0) return schema_fail(c, keyword, "must be a list, not empty");
    if (n > BRANCHES_MAX) return schema_fail(c, keyword, "has too many branches, at most %d", BRANCHES_MAX);
    const json_t **branches = calloc(n, sizeof *branches);
    uint16_t *ids = calloc(n, sizeof *ids);
    bool ok = branches && ids ? true : schema_no_memory(c);
    for (size_t i = 0; ok && i < n; i++) branches[i] = json_array_get(list, i);
    const json_t *name = strcmp(keyword, "oneOf") == 0 ? json_object_get(json_object_get(schema, "discriminator"), "propertyName") : NULL;
    ok = ok && compile_branches(c, keyword, n_beside ? rest : NULL, name, branches, ids, n);
    if (ok && strcmp(keyword, "oneOf") == 0) ok = check_exclusive(c, branches, n);
    ok = ok && make_union(c, id, ids, n);
    free(branches);
    free(ids);
    return ok;
}

// ---- Plain types -----------------------------------------------------------------------------------------------------------------
static bool read_count(schema_compiler *c, const json_t *schema, const char *name, uint32_t most, uint32_t *out) {
    const json_t *value = json_object_get(schema, name);
    if (!value) return true;
    const double number = json_number_value(value);
    if (!json_is_number(value) || number < 0 || number != floor(number)) return schema_fail(c, name, "must be a whole number, not negative");
    if (number > most && strncmp(name, "min", 3) == 0) return schema_fail(c, name, "must be at most %u", most);
    *out = number > most ? most : (uint32_t)number; // a smaller maximum takes nothing that is wrong
    return true;
}

static bool read_string(schema_compiler *c, const json_t *schema, schema_node *node) {
    const json_t *pattern = json_object_get(schema, "pattern");
    if (!read_count(c, schema, "minLength", 1 << 24, &node->min_length) || !read_count(c, schema, "maxLength", UINT32_MAX - 1, &node->max_length)) return false;
    if (node->min_length > node->max_length) return schema_fail(c, "minLength", "is more than maxLength");
    if (!pattern || !(node->types & TYPE_STRING)) return true;
    if (!json_is_string(pattern)) return schema_fail(c, "pattern", "must be a string");
    const char *reason;
    schema_pattern *p = schema_pattern_compile(json_string_value(pattern), json_string_length(pattern), node->min_length, node->max_length, &reason);
    if (!p) return reason ? schema_fail(c, "pattern", "%s", reason) : schema_no_memory(c);
    if (!schema_grow(c, (void **)&c->s->patterns, &c->s->cap_patterns, c->s->n_patterns + 1, sizeof *c->s->patterns)) {
        schema_pattern_free(p);
        return false;
    }
    c->n_bytes += p->n_states * p->n_classes;
    node->pattern = (int32_t)c->s->n_patterns;
    c->s->patterns[c->s->n_patterns++] = p;
    if (c->n_bytes > 1 << 21) return schema_fail(c, "pattern", "is one of too many large ones");
    node->min_length = 0;
    node->max_length = UINT32_MAX;
    return true;
}

static bool read_items(schema_compiler *c, const json_t *schema, schema_node *node) {
    uint32_t min = 0, max = NO_LIMIT16;
    const json_t *items = json_object_get(schema, "items"), *prefix = json_object_get(schema, "prefixItems");
    if (!read_count(c, schema, "minItems", NO_LIMIT16 - 1, &min) || !read_count(c, schema, "maxItems", NO_LIMIT16, &max)) return false;
    if (min > max) return schema_fail(c, "minItems", "is more than maxItems");
    if (json_is_array(items)) { // as it was written before 2020-12
        prefix = items;
        items = json_object_get(schema, "additionalItems");
    }
    if (prefix && !json_is_array(prefix)) return schema_fail(c, "prefixItems", "must be a list");
    const size_t n = json_array_size(prefix);
    uint16_t *ids = calloc(n + 1, sizeof *ids);
    bool ok = ids ? true : schema_no_memory(c);
    for (size_t i = 0; ok && i < n; i++) {
        char step[48];
        snprintf(step, sizeof step, "prefixItems.%zu", i);
        ok = compile_step(c, step, json_array_get(prefix, i), &ids[i]);
    }
    if (ok && items) ok = compile_step(c, "items", items, &node->items);
    node->first_prefix = (uint32_t)c->s->n_alternatives;
    node->n_prefix = (uint32_t)n;
    for (size_t i = 0; ok && i < n; i++) ok = add_alternative(c, ids[i]);
    free(ids);
    node->min_items = (uint16_t)min;
    node->max_items = (uint16_t)max;
    return ok;
}

// Properties in the schema's order, then required ones that it does not describe. The keys' list is made along the way.
static bool collect_properties(schema_compiler *c, const json_t *schema, schema_node *node, const json_t *keys, uint16_t *ids) {
    const json_t *described = json_object_get(schema, "properties");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const char *key = json_string_value(json_array_get(keys, i));
        const json_t *value = json_object_get(described, key);
        char step[96];
        snprintf(step, sizeof step, "properties.%.60s", key);
        ids[i] = node->additional;
        if (value && !compile_step(c, step, value, &ids[i])) return false;
    }
    return true;
}

static json_t *list_keys(schema_compiler *c, const json_t *schema) {
    const json_t *described = json_object_get(schema, "properties"), *required = json_object_get(schema, "required");
    json_t *keys = schema_own(c, json_array()), *value;
    const char *key;
    if (described && !json_is_object(described)) return schema_fail(c, "properties", "must be an object"), NULL;
    if (required && !json_is_array(required)) return schema_fail(c, "required", "must be a list of names"), NULL;
    json_object_foreach((json_t *)described, key, value) {
        if (!keys || json_array_append_new(keys, json_string(key)) != 0) return schema_no_memory(c), NULL;
    }
    for (size_t i = 0; keys && i < json_array_size(required); i++) {
        json_t *name = json_array_get(required, i);
        if (!json_is_string(name)) return schema_fail(c, "required", "must be a list of names"), NULL;
        bool known = json_object_get(described, json_string_value(name)) != NULL;
        for (size_t k = json_object_size(described); k < json_array_size(keys) && !known; k++) known = json_equal(json_array_get(keys, k), name);
        if (!known && json_array_append(keys, name) != 0) return schema_no_memory(c), NULL;
    }
    return keys;
}

static bool is_required(const json_t *schema, const json_t *key) {
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++)
        if (json_equal(json_array_get(required, i), key)) return true;
    return false;
}

static bool read_properties(schema_compiler *c, const json_t *schema, schema_node *node) {
    json_schema *s = c->s;
    const json_t *additional = json_object_get(schema, "additionalProperties");
    json_t *keys = list_keys(c, schema);
    if (!keys) return false;
    const size_t n = json_array_size(keys);
    if (n > PROPERTIES_MAX) return schema_fail(c, "properties", "has too many keys, at most %d", PROPERTIES_MAX);
    if (additional && !compile_step(c, "additionalProperties", additional, &node->additional)) return false;
    uint16_t *ids = calloc(n + 1, sizeof *ids);
    bool ok = ids ? collect_properties(c, schema, node, keys, ids) : schema_no_memory(c);
    if (!additional && json_object_get(schema, "properties")) node->additional = NODE_NEVER; // required ones beside them have their node by now
    ok = ok && schema_grow(c, (void **)&s->properties, &s->cap_properties, s->n_properties + n, sizeof *s->properties);
    node->first_property = (uint32_t)s->n_properties;
    node->n_properties = (uint32_t)n;
    node->first_key = (uint32_t)s->n_words;
    for (size_t i = 0; ok && i < n; i++) ok = schema_add_word(c, json_array_get(keys, i), (uint16_t)i, true);
    if (ok) {
        schema_sort_words(s, node->first_key, n);
        for (size_t i = n; i-- > 0;) {
            const bool required = is_required(schema, json_array_get(keys, i));
            const uint16_t later = i + 1 < n ? s->properties[node->first_property + i + 1].next_required : (uint16_t)n;
            s->properties[node->first_property + i] = (schema_property){ids[i], required, required ? (uint16_t)i : later};
        }
        s->n_properties += n;
    }
    free(ids);
    return ok;
}

// ---- Literals --------------------------------------------------------------------------------------------------------------------
static size_t characters(const json_t *text) {
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(text); i++) n += ((uint8_t)json_string_value(text)[i] & 0xc0) != 0x80;
    return n;
}

// Whether a literal is one of the node's other keywords' values too; those of maps and lists must not be there.
static bool literal_fits(const schema_compiler *c, const schema_node *node, const json_t *value) {
    const uint8_t type = schema_type_of(value);
    if (!(node->types & type) && !(type == TYPE_INTEGER && (node->types & TYPE_NUMBER))) return false;
    if (json_is_number(value)) return schema_number_inside(node, json_number_value(value));
    if (type != TYPE_STRING) return true;
    if (node->pattern >= 0) return schema_pattern_fits(c->s->patterns[node->pattern], json_string_value(value), json_string_length(value));
    const size_t n = characters(value);
    return n >= node->min_length && n <= node->max_length;
}

static bool read_literals(schema_compiler *c, const json_t *schema, schema_node *node) {
    static const char *const deep[] = {"properties", "required", "additionalProperties", "items", "prefixItems", "additionalItems", "minItems", "maxItems"};
    const json_t *one = json_object_get(schema, "const"), *list = json_object_get(schema, "enum");
    if (list && (!json_is_array(list) || json_array_size(list) == 0)) return schema_fail(c, "enum", "must be a list, not empty");
    const size_t n = one ? 1 : json_array_size(list);
    node->is_enum = true;
    node->first_word = (uint32_t)c->s->n_words;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = one ? one : json_array_get(list, i);
        for (size_t k = 0; (json_is_array(value) || json_is_object(value)) && k < sizeof deep / sizeof *deep; k++)
            if (json_object_get(schema, deep[k])) return schema_fail(c, one ? "const" : "enum", "has lists or objects, which is not supported beside \"%s\"", deep[k]);
        bool listed = !one || !list;
        for (size_t k = 0; k < json_array_size(list) && !listed; k++) listed = json_equal(json_array_get(list, k), value);
        if (listed && literal_fits(c, node, value) && !schema_add_word(c, value, 0, false)) return false;
    }
    node->n_words = (uint32_t)(c->s->n_words - node->first_word);
    if (c->s->n_words > UINT16_MAX) return schema_fail(c, "enum", "has too many values");
    schema_sort_words(c->s, node->first_word, node->n_words);
    return node->n_words > 0 || schema_fail(c, one ? "const" : "enum", "leaves no value beside the other keywords");
}

// ---- A schema --------------------------------------------------------------------------------------------------------------------
static bool read_type(schema_compiler *c, const json_t *schema, schema_node *node) {
    static const struct {
        const char *name;
        uint8_t types;
    } hints[] = {{"properties", TYPE_MAP}, {"required", TYPE_MAP}, {"additionalProperties", TYPE_MAP}, {"items", TYPE_LIST}, {"prefixItems", TYPE_LIST}, {"minItems", TYPE_LIST},
                 {"maxItems", TYPE_LIST}, {"pattern", TYPE_STRING}, {"minLength", TYPE_STRING}, {"maxLength", TYPE_STRING}, {"minimum", TYPE_NUMBER}, {"maximum", TYPE_NUMBER},
                 {"exclusiveMinimum", TYPE_NUMBER}, {"exclusiveMaximum", TYPE_NUMBER}};
    const json_t *type = json_object_get(schema, "type");
    uint8_t hinted = 0;
    node->types = schema_types(schema);
    if (node->types & TYPE_NUMBER) node->types &= (uint8_t)~TYPE_INTEGER;
    if (type && !node->types && json_is_array(type) && json_array_size(type) == 0) return true; // merged away: no value
    if (type && !node->types) return schema_fail(c, "type", "must name types of JSON: null, boolean, integer, number, string, array, object");
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (json_object_get(schema, hints[i].name)) hinted |= hints[i].types;
    const bool literal = json_object_get(schema, "const") || json_object_get(schema, "enum");
    if (!type) node->types = hinted && !literal ? hinted : TYPE_ANY;
    return true;
}

static bool compile_plain(schema_compiler *c, uint16_t id, const json_t *schema) {
    schema_node node = c->s->nodes[id]; // what is compiled inside moves the nodes
    const bool literal = json_object_get(schema, "const") || json_object_get(schema, "enum");
    bool ok = refuse(c, schema) && read_type(c, schema, &node) && read_string(c, schema, &node) && schema_read_bounds(c, schema, &node);
    if (ok && literal) ok = read_literals(c, schema, &node);
    else if (ok && (node.types & TYPE_LIST)) ok = read_items(c, schema, &node);
    if (ok && !literal && (node.types & TYPE_MAP)) ok = read_properties(c, schema, &node);
    c->s->nodes[id] = node;
    return ok;
}

static bool compile_into(schema_compiler *c, uint16_t id, const json_t *schema) {
    if (!schema_burn(c)) return false;
    if (json_is_boolean(schema)) {
        const uint16_t to = json_is_true(schema) ? NODE_ANY : NODE_NEVER;
        return make_union(c, id, &to, 1);
    }
    if (!json_is_object(schema)) return schema_fail(c, NULL, "must be an object or a boolean");
    if (c->depth == DEPTH_MAX) return schema_fail(c, NULL, "is nested too deep, at most %d levels", DEPTH_MAX);
    c->depth++;
    bool ok;
    if (json_object_get(schema, "$ref")) ok = compile_reference(c, id, schema);
    else if (json_object_get(schema, "allOf")) ok = compile_all_of(c, id, schema);
    else if (json_object_get(schema, "anyOf")) ok = compile_union(c, id, schema, "anyOf");
    else if (json_object_get(schema, "oneOf")) ok = compile_union(c, id, schema, "oneOf");
    else ok = compile_plain(c, id, schema);
    c->depth--;
    return ok;
}

json_schema *json_schema_compile(const json_t *schema, json_schema_error *e) {
    *e = (json_schema_error){0};
    schema_compiler c = {.s = calloc(1, sizeof *c.s), .root = schema, .made = json_array(), .fuel = FUEL, .e = e};
    uint16_t any, never, root = 0;
    bool ok = c.s && c.made ? true : schema_no_memory(&c);
    ok = ok && new_node(&c, &any) && new_node(&c, &never);
    if (ok) c.s->nodes[never].types = 0;
    ok = ok && target_node(&c, schema, &root);
    if (ok) c.s->root = root;
    ok = ok && schema_finish(&c);
    json_decref(c.made);
    free(c.targets);
    free(c.target_nodes);
    if (ok) return c.s;
    json_schema_free(c.s);
    return NULL;
}

void json_schema_free(json_schema *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_words; i++) free(s->words[i].bytes);
    for (size_t i = 0; i < s->n_patterns; i++) schema_pattern_free(s->patterns[i]);
    free(s->nodes);
    free(s->words);
    free(s->properties);
    free(s->alternatives);
    free(s->patterns);
    free(s);
}
