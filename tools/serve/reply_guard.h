// What a reply must look like while it is written: which bytes may come next. A rule says it for all choices, a guard follows one.
//
// A reply is: reasoning up to its closing tag, where it begins with some; free text up to `start`, if there is one (what a model says until it calls a
// tool); then documents of a schema, each between `before` and `after`. White space may stand in front of those two. Whatever a guard lets
// through can be completed.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_REPLY_GUARD_H
#define WTL_TOOLS_SERVE_REPLY_GUARD_H

#include "tools/schema/json_schema.h"

typedef struct reply_rule {
    json_schema *schema;  // owned; NULL: no rule, everything may come
    const char *reasoning; // static: its closing tag; NULL: the reply begins without
    const char *start;    // static: free text goes up to it, or to the reply's end; NULL: no free text
    const char *before, *after; // static; "": nothing
    bool again;           // behind `after` more may follow: free text, or another document
} reply_rule;

typedef struct reply_guard {
    const reply_rule *rule; // borrowed
    json_walk *walk;        // owned
    const char *until;      // free text goes up to here
    uint8_t phase;
    uint8_t n_space;
    uint32_t n; // bytes of start, before or after so far
} reply_guard;

bool reply_guard_begin(reply_guard *g, const reply_rule *rule); // false: no memory
void reply_guard_free(reply_guard *g);
bool reply_guard_allows(reply_guard *g, const char *bytes, size_t len); // len > 0
void reply_guard_push(reply_guard *g, const char *bytes, size_t len);   // allowed ones
bool reply_guard_may_end(const reply_guard *g);
bool reply_guard_complete(const reply_guard *g);

#endif
