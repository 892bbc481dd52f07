// One answer of `wattle chat`: conversation -> prompt -> what the KV cache has of it -> prefill -> tokens -> joules.
//
// The session keeps prefixes: an answer prefills only what is new since the turn before, and a conversation that is loaded, cut or asked again
// finds whatever is still in memory. Owned by cmd_chat.c; one thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CHAT_TURN_H
#define WTL_TOOLS_CHAT_TURN_H

#include "runtime/chat.h"
#include "tools/run_energy.h"
#include "tools/sampling_options.h"

typedef struct chat_machine { // opened once, borrowed by every turn
    const wtl_engine *engine;
    wtl_session *session;
    const wtl_chat *chat;
    energy_desk *desk;
    bool terminal; // progress and text go to a person: control bytes of the model are made visible
} chat_machine;

typedef struct chat_turn_options {
    cli_sampling sampling;
    int64_t n_predict;  // -1: until the model ends or the context is full
    double max_joules;  // 0: no budget
} chat_turn_options;

typedef struct chat_answer {
    char *text;              // malloc'ed, UTF-8, terminated; what was written
    size_t len;
    const char *stop_reason; // as in wtl run: "end", "stop", "length", "context", "energy", "interrupted"
    int32_t n_prompt, n_cached, n_tokens; // tokens holds the end token not
    uint64_t prefill_ns, decode_ns;
    int32_t decode_steps;
    wtl_energy_report energy;
    uint64_t request;        // in the desk's energy, to be forgotten by the caller; 0: none
} chat_answer;

// Writes the answer to standard output as it comes. CLI_GO (also when interrupted); CLI_FAILED after a message: the conversation can go on.
int chat_turn(const chat_machine *machine, const json_t *messages, const chat_turn_options *options, chat_answer *out);
void chat_answer_free(chat_answer *answer);

#endif
