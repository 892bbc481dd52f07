// Tool calls in the text of a reply: told apart from what is said beside them.
//
// Text goes in as it is released (reply_text.h); what surely is no part of a call comes out in `content`, calls in `calls` when they are whole. What
// looks like a call and is none (no JSON, no name) stays text. However the text is cut, the same comes out. Plain state, one thread at a
// time.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_REPLY_CALLS_H
#define WTL_TOOLS_SERVE_REPLY_CALLS_H

#include "tools/serve/text_buffer.h"

typedef enum reply_syntax {
    CALLS_NONE,   // text is text
    CALLS_TAGS,   // <tool_call>{"name": ..., "arguments": {...}}</tool_call>, one or more
    CALLS_LIST,   // [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...] up to the end
    CALLS_BARE,   // the whole text is {"name": ..., "parameters" or "arguments": {...}}, of a tool that the request names
} reply_syntax;

enum { REPLY_CALLS_MAX = 128 };
const char *reply_calls_open(reply_syntax syntax);  // "<tool_call>", "[TOOL_CALLS]"; "" for none
const char *reply_calls_close(reply_syntax syntax); // "</tool_call>"; ""

typedef struct reply_call { // all malloc'ed and terminated
    char *id, *name;
    char *arguments; // a JSON text
} reply_call;

typedef struct reply_calls {
    // Set at the beginning.
    reply_syntax syntax;
    const json_t *names;  // borrowed: list of the tools' names
    // Read by the owner.
    text_buffer content;
    reply_call *calls;    // [n_calls]
    size_t n_calls;
    bool failed;          // out of memory
    // Inside.
    text_buffer raw;      // all text so far
    size_t at;            // raw[0..at) is decided
    int place;
} reply_calls;

void reply_calls_push(reply_calls *c, const char *text, size_t len);
void reply_calls_finish(reply_calls *c); // nothing follows
void reply_calls_free(reply_calls *c);

#endif
