// JSON schemas as automata over bytes: which bytes may come next so that a text becomes a document that the schema accepts.
//
// A schema is compiled once (json_schema, immutable, any thread); a walk follows one text through it (one thread at a time). Whatever a walk lets
// through can be completed, and what it calls complete is valid: it accepts a subset of the documents, never more. The subset: keys that the schema
// names come in its order and before others; a schema with "properties" and without "additionalProperties" takes no others; one that has
// keywords of a type and no "type" takes that type only; numbers, white space in a row and nesting are bounded. A keyword that cannot be
// kept is an error that names its place; annotations (title, description, default, examples, format, ...) are ignored. Schemas come from
// requests, so size, depth and patterns are bounded. Knows nothing of tokens or models.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SCHEMA_JSON_SCHEMA_H
#define WTL_TOOLS_SCHEMA_JSON_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

enum {
    JSON_WALK_DEPTH = 64,      // maps and lists inside each other
    JSON_WALK_INT_DIGITS = 18, // of a whole number: it fits 64 bits. With bounds: JSON_WALK_BOUND_DIGITS, fraction included
    JSON_WALK_FRAC_DIGITS = 20,
    JSON_WALK_EXP_DIGITS = 2,
    JSON_WALK_BOUND_DIGITS = 15, // exact in a double
    JSON_WALK_SPACES = 2,        // in a row, and 4 more for every level: room for an indented line
    JSON_WALK_BRANCHES = 256,    // alternatives followed at once; one more is not followed
};

typedef struct json_schema json_schema;
typedef struct json_walk json_walk;

typedef struct json_schema_error {
    bool no_memory;    // else the schema is at fault
    char path[192];    // ".properties.name.pattern"; "" for the schema itself
    char message[320]; // one sentence
} json_schema_error;

// Owns: caller frees; nothing of `schema` is kept. NULL: *e says why. Errors: what the sentence says, or no memory.
json_schema *json_schema_compile(const json_t *schema, json_schema_error *e);
void json_schema_free(json_schema *schema); // accepts NULL

// A walk at the beginning of a text. Owns: caller frees, before the schema. NULL: no memory. restart: to the beginning again.
json_walk *json_walk_new(const json_schema *schema);
void json_walk_restart(json_walk *walk);
void json_walk_free(json_walk *walk); // accepts NULL
// Whether bytes[0..len) may come next. Changes nothing that can be seen. taken: NULL, or how many belong to the document: fewer than len when it is
// complete before their end (with NULL they may not come then).
bool json_walk_allows(json_walk *walk, const char *bytes, size_t len, size_t *taken);
// Goes on by them. False, and nothing has changed: they may not come.
bool json_walk_push(json_walk *walk, const char *bytes, size_t len, size_t *taken);
bool json_walk_may_end(const json_walk *walk);  // what was pushed is a valid document (a number could go on)
bool json_walk_complete(const json_walk *walk); // and nothing may follow

#endif
