// Inside of the schema compiler and the walk.
//
//   schema_compile.c  JSON to nodes: types, strings, lists, maps, alternatives
//   schema_merge.c    references, and schemas that hold at once ($ref or anyOf beside other keywords, allOf) made one
//   schema_words.c    literals and keys: spelled, sorted, narrowed byte by byte
//   schema_number.c   bounds of numbers: compiled, and what digits may follow
//   schema_pattern.c  regular expressions to automata over characters
//   schema_need.c     alternatives flattened; which nodes have a document at all, and how deep the shallowest is
//   walk.c            the automaton over bytes; walk_text.c its strings and keys
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SCHEMA_PRIVATE_H
#define WTL_TOOLS_SCHEMA_PRIVATE_H

#include "tools/schema/json_schema.h"

enum {
    TYPE_NULL = 1, TYPE_BOOL = 2, TYPE_INTEGER = 4, TYPE_NUMBER = 8, TYPE_STRING = 16, TYPE_LIST = 32, TYPE_MAP = 64, // NUMBER includes INTEGER
    TYPE_ANY = 1 + 2 + 8 + 16 + 32 + 64,
    NODES_MAX = 8192, PROPERTIES_MAX = 1024, WORDS_MAX = 16384, WORD_BYTES_MAX = 16384, ALTERNATIVES_MAX = 32768, DEPTH_MAX = 48, FUEL = 200000,
    NODE_ANY = 0, NODE_NEVER = 1,
    NO_NEED = 255,  // no document at all
    NO_LIMIT16 = UINT16_MAX,
};

typedef struct schema_word { // a literal, or a key with its closing quote
    char *bytes;      // owned
    uint16_t len;
    uint16_t value;   // key: index of its property
    bool number;      // a literal that the next byte ends
} schema_word;

typedef struct schema_property { // in the schema's order
    uint16_t node;
    bool required;
    uint16_t next_required; // the first required one from here on, or n_properties
} schema_property;

typedef struct schema_pattern { // automaton over characters; state 0 is the beginning
    uint32_t *bounds;  // [n_classes] first character of each class, ascending, the first is 0
    uint16_t *next;    // [n_states * n_classes], PATTERN_DEAD: none that leads to an end
    bool *accepts;     // [n_states]
    uint32_t n_classes, n_states;
} schema_pattern;
enum { PATTERN_DEAD = UINT16_MAX };

typedef struct schema_bounds { // of a number: whole multiples of 10^-n_frac
    int64_t low, high;
    uint8_t n_frac;
    bool set;
} schema_bounds;

typedef struct schema_node {
    bool is_union;
    uint32_t first_alternative, n_alternatives; // union: nodes that are none, after schema_finish
    bool is_enum;
    uint32_t first_word, n_words; // enum: literals, sorted
    uint8_t types;
    uint8_t need, need_list, need_map; // levels that the shallowest document opens; NO_NEED: there is none
    int32_t pattern;              // -1: none; it has the lengths in it
    uint32_t min_length, max_length;
    schema_bounds bounds;
    uint16_t min_items, max_items, items;
    uint32_t first_prefix, n_prefix; // alternatives[]: nodes of the first items
    uint32_t first_property, n_properties, first_key; // n_properties sorted keys from words[first_key]
    uint16_t additional;
} schema_node;

struct json_schema {
    schema_node *nodes;
    schema_word *words;
    schema_property *properties;
    uint16_t *alternatives; // of unions, and prefixes of lists
    schema_pattern **patterns;
    size_t n_nodes, cap_nodes, n_words, cap_words, n_properties, cap_properties, n_alternatives, cap_alternatives, n_patterns, cap_patterns;
    uint16_t root;
    uint32_t max_alternatives; // of one union
};

typedef struct schema_compiler {
    json_schema *s;
    const json_t *root;
    json_t *made;        // list that owns what merging made
    const json_t **targets; // of references
    uint16_t *target_nodes;
    size_t n_targets, cap_targets, cap_target_nodes;
    size_t path_len, fuel, n_bytes;
    int depth;
    json_schema_error *e;
    bool failed;
} schema_compiler;

// All fail with false (or NULL) and a sentence about the place in work.
bool schema_fail(schema_compiler *c, const char *keyword, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool schema_no_memory(schema_compiler *c);
bool schema_grow(schema_compiler *c, void **list, size_t *cap, size_t n, size_t size); // room for n
bool schema_burn(schema_compiler *c); // work: bounded
size_t schema_enter(schema_compiler *c, const char *step); // on the path; leave with what it returned
void schema_leave(schema_compiler *c, size_t mark);

// ---- schema_merge.c --------------------------------------------------------------------------------------------------------
bool schema_is_annotation(const char *keyword);
json_t *schema_own(schema_compiler *c, json_t *made); // kept until the end; NULL: no memory
const json_t *schema_resolve(schema_compiler *c, const char *reference); // NULL: failed
// A schema that accepts what both accept: a new object, or a boolean. Owned by the compiler.
const json_t *schema_merge(schema_compiler *c, const json_t *a, const json_t *b);
bool schema_exclude(schema_compiler *c, const json_t *a, const json_t *b, int depth); // surely no document fits both
uint8_t schema_types(const json_t *schema); // of "type"; 0: it has none or a wrong one
uint8_t schema_type_of(const json_t *value);

// ---- schema_words.c --------------------------------------------------------------------------------------------------------
bool schema_add_word(schema_compiler *c, const json_t *value, uint16_t index, bool key);
void schema_sort_words(json_schema *s, size_t first, size_t n);
// words[*first..*last) begin with the same n bytes: keeps those that go on with c. False: none.
bool schema_narrow(const json_schema *s, uint16_t *first, uint16_t *last, uint32_t n, uint8_t c);

// ---- schema_number.c -------------------------------------------------------------------------------------------------------
bool schema_read_bounds(schema_compiler *c, const json_t *schema, schema_node *node); // only types with a number are changed
bool schema_number_inside(const schema_node *node, double value);
// Whether digits so far (n_int of them whole; behind the point: n_frac) may become a number inside the bounds; they are one.
bool schema_number_reaches(const schema_bounds *b, bool negative, uint64_t digits, uint8_t n_int, uint8_t n_frac, bool in_fraction);
bool schema_number_is(const schema_bounds *b, bool negative, uint64_t digits, uint8_t n_frac);

// ---- schema_pattern.c ------------------------------------------------------------------------------------------------------
// With lengths min..max in characters. *reason: a sentence's end, static, or NULL for no memory. NULL: failed.
schema_pattern *schema_pattern_compile(const char *text, size_t len, uint32_t min, uint32_t max, const char **reason);
void schema_pattern_free(schema_pattern *p);
uint16_t schema_pattern_next(const schema_pattern *p, uint16_t state, uint32_t character);
bool schema_pattern_any(const schema_pattern *p, uint16_t state, uint32_t low, uint32_t high); // some character of low..high may come
bool schema_pattern_fits(const schema_pattern *p, const char *utf8, size_t len);

// ---- schema_need.c ---------------------------------------------------------------------------------------------------------
bool schema_finish(schema_compiler *c);

#endif
