// The text of one reply: token bytes -> whole characters -> up to a stop string -> reasoning and answer apart.
//
// Text is released when no later token can make it part of a stop string; a stop string and what follows it never appear. With think
// tags, what stands inside the first pair goes to `reasoning`, without the white space at its ends, the rest to `content`. However a text is
// cut into tokens, the same two texts come out. Plain state, one thread at a time; used by answers.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_REPLY_TEXT_H
#define WTL_TOOLS_SERVE_REPLY_TEXT_H

#include "runtime/wattle.h"
#include "tools/serve/text_buffer.h"

typedef struct reply_text {
    // Set at the beginning, borrowed.
    const char *const *stops; // [n_stops], none empty
    size_t n_stops;
    const char *think_open, *think_close; // NULL: the chat has none
    bool thinks;               // the prompt ended inside think_open
    // Read by the owner.
    text_buffer content, reasoning; // released so far
    const char *stopped;       // the stop string that was met; NULL: none
    size_t text_len;           // bytes of text so far, as the model wrote it, up to the stop string
    bool thinking;             // the next token may belong to the reasoning
    // Inside.
    wtl_text_stream characters;
    text_buffer raw;           // text_len bytes are valid
    size_t split;              // raw[0..split) is in content or reasoning
    int place;                 // of the tags
} reply_text;

void reply_text_begin(reply_text *t); // after the first block was set in a zeroed struct
void reply_text_push(reply_text *t, const char *bytes, size_t len); // of one token; nothing after a stop string
void reply_text_finish(reply_text *t); // releases what was held back
bool reply_text_failed(const reply_text *t); // out of memory
void reply_text_free(reply_text *t);

#endif
