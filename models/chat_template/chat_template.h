// The template language of chat models: the part of Jinja 2 that real templates use, with Jinja's results byte for byte.
//
// A template is compiled once and rendered any number of times. Values come from a builder (jinja_values) and live in an arena of the
// rendering. Text is tainted or not: what the template's author wrote is trusted, what came in through values is not, and the mark
// follows the bytes through every operation (concatenation, filters, slicing, replace, join, tojson, ...). The output says which bytes
// are tainted, so that the tokenizer recognises control tokens only in the author's text.
//
// Both templates and values are hostile: every rendering has fuel (steps), and bounds on depth, memory and output. Nothing of the host
// can be reached. Syntax and failures name line and column. Thread: a compiled template is immutable; a rendering belongs to one thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_H
#define WTL_MODELS_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- Values: written front to back, like JSON ------------------------------------------------------------------------------
typedef struct jinja_values jinja_values;
wtl_status jinja_values_open(jinja_values **out, wtl_error *err);
void jinja_values_close(jinja_values **values);
void jinja_begin_map(jinja_values *v);
void jinja_begin_list(jinja_values *v);
void jinja_end(jinja_values *v);
void jinja_key(jinja_values *v, const char *key, size_t len);           // of the map that is open
void jinja_text(jinja_values *v, const char *text, size_t len, bool trusted);
void jinja_int(jinja_values *v, int64_t value);
void jinja_real(jinja_values *v, double value);
void jinja_bool(jinja_values *v, bool value);
void jinja_null(jinja_values *v);
// The first mistake since opening (INVALID, LIMIT, NO_MEMORY), or OK when the root map is complete.
wtl_status jinja_values_check(const jinja_values *v, wtl_error *err);

// ---- Templates -------------------------------------------------------------------------------------------------------------
typedef struct jinja_template jinja_template;
// name: what errors call it. trim_blocks and lstrip_blocks are on, keep_trailing_newline is off, loop controls are on: as the usual
// Python stack sets up its sandbox. Errors: FORMAT ("NAME, line 3, column 14: ..."), LIMIT, NO_MEMORY.
wtl_status jinja_compile(const char *name, const char *source, size_t len, jinja_template **out, wtl_error *err);
void jinja_template_free(jinja_template **tmpl);

typedef struct jinja_limits { // 0: the default
    uint64_t fuel;      // steps: nodes evaluated, items walked, bytes copied / 64
    uint32_t depth;     // of nested evaluation and of macros
    uint64_t memory_bytes, output_bytes;
    bool may_mutate;    // lists and dicts may be changed by methods (append, update, ...), as in Jinja's plain sandbox
} jinja_limits;

typedef struct jinja_span {
    size_t begin, end;
} jinja_span;
typedef struct jinja_output {
    char *text; // terminated
    size_t len;
    jinja_span *tainted; // ascending, disjoint, not touching
    size_t n_tainted;
} jinja_output;

// globals: further variables behind those of `values` (bos_token, ...; may be NULL), written with trusted texts. now: for strftime_now, broken down
// local time; NULL: the clock. Owns: *out is the caller's, jinja_output_free.
// Errors: INVALID (raise_exception: its words), FORMAT (a type error, an undefined value used, with line and column), LIMIT, NO_MEMORY.
wtl_status jinja_render(const jinja_template *tmpl, const jinja_values *values, const jinja_values *globals, const struct tm *now,
                        const jinja_limits *limits, jinja_output *out, wtl_error *err);
void jinja_output_free(jinja_output *out);

// Whether the template's code mentions a variable anywhere ("tools").
bool jinja_mentions(const jinja_template *tmpl, const char *variable);

#ifdef __cplusplus
}
#endif
#endif
