// What an answer holds, shared by answer.c (its life; threads and owners are there), answer_text.c and answer_logprobs.c (events and bodies) and
// answer_usage.c (counts, times, joules). All but the first are pure: they read this and write JSON, so tests fill it by hand.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_ANSWER_STATE_H
#define WTL_TOOLS_SERVE_ANSWER_STATE_H

#include "runtime/batch.h"
#include "tools/serve/api_request.h"
#include "tools/serve/reply_text.h"

typedef struct answer_token { // one token of the text
    int32_t id;
    float logprob; // NAN: there is none (the prompt's first)
    uint32_t n_top;
    size_t top;     // first of its n_top in `tops`
    size_t at_byte; // of the text, where it begins
} answer_token;

typedef struct answer_choice {
    reply_text text;
    reply_guard guard; // with a rule
    reply_calls calls; // with tools: what of text.content is a call
    size_t n_fed;      // bytes of text.content that went there
    size_t calls_sent;
    size_t content_sent, reasoning_sent, tokens_sent; // streamed so far
    answer_token *tokens; // [n_tokens]: kept with logprobs or return_tokens
    size_t n_tokens, cap_tokens;
    size_t n_echoed;         // the first of them are the prompt's
    wtl_token_logprob *tops; // [n_tops]
    size_t n_tops, cap_tops;
    size_t offset_chars; // completions: characters of text in front of tokens[tokens_sent], echo included
    int64_t n_reasoning_tok;
    wtl_finish finish;   // NONE: goes on
    bool begun;          // the role was sent
    bool failed;         // out of memory
} answer_choice;

typedef struct answer_part { // one prompt: one request of the batch
    struct answer *owner;
    size_t index;
    int32_t n_prompt_tok;
    uint64_t request; // of the batch; 0: not submitted
    size_t n_open;    // choices that go on
    wtl_batch_facts facts;    // when it has ended
    wtl_energy_report report; // when it has settled
} answer_part;

typedef struct answer {
    api_request request;
    api_prompts prompts;
    answer_part *parts;     // [n_parts]
    answer_choice *choices; // [n_parts * request.n]
    size_t n_parts, n_choices, n_open;
    size_t last_choice;     // the one that ended last
    int64_t n_decoded;      // tokens chosen so far
    bool streams;           // the event stream has begun
    bool held;              // its reader lags: its requests may pause
    api_error error;        // status 0: none
    char id[40];
    int64_t created_s;
    const char *model;      // borrowed from the server
    const wtl_vocab *vocab;
    bool has_tags;          // reasoning is told apart
    text_buffer out;        // an event being written
} answer;

// ---- answer_usage.c -------------------------------------------------------------------------------------------------------
int64_t answer_prompt_tok(const answer *a);
// The sum of all parts.
wtl_batch_facts answer_facts(const answer *a);
void answer_report(const answer *a, wtl_energy_report *out);
const char *answer_finish_name(wtl_finish finish); // "end", "stop", "length", "context", "energy", "aborted", "error"
const char *answer_finish_reason(const answer_choice *c); // OpenAI's: "stop", "length", "tool_calls"
// Counts and joules. energy: the energy object, borrowed. NULL: out of memory.
json_t *answer_usage(const answer *a, json_t *energy);
json_t *answer_timings(const answer *a);

// The text beside tool calls.
const text_buffer *answer_content(const answer_choice *c);

// ---- answer_text.c: appends to a->out ----------------------------------------------------------------------------------------
void answer_put_role(answer *a, size_t choice);   // chat: the first delta
void answer_put_new_text(answer *a, size_t choice); // what was released since the last call, as zero to two events
// The finish event of a choice. extra: what goes beside "choices" (usage, timings, energy), merged in; NULL: nothing.
void answer_put_finish(answer *a, size_t choice, const json_t *extra);
void answer_put_usage(answer *a, const json_t *extra); // the event without choices
void answer_put_error(answer *a);
void answer_put_done(answer *a);
void answer_put_body(answer *a, const json_t *extra);  // the whole answer, not streamed

// Logprobs of tokens[from..to) of a choice, in the form of the request's kind: a JSON value. answer_logprobs.c
void answer_put_logprobs(answer *a, const answer_choice *c, size_t from, size_t to, size_t offset_chars);
size_t answer_token_chars(const answer *a, const answer_choice *c, size_t from, size_t to); // characters of their text

#endif
