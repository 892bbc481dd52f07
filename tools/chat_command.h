// The commands inside `wattle chat`: "/help", "/save FILE", "/set temp 0.2". Owned by cmd_chat.c.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CHAT_COMMAND_H
#define WTL_TOOLS_CHAT_COMMAND_H

#include "tools/chat_talk.h"
#include "tools/chat_turn.h"

typedef struct chat_desk { // everything that a command may look at or change
    chat_talk talk;
    chat_turn_options options;
    const char *model;     // for saved conversations
    bool show_energy;      // the line below each answer
    // Sums over this conversation, for /energy. Modelled joules are never added to measured ones.
    uint64_t n_answers, n_measured, n_modelled, n_unknown, measured_uj, modelled_uj;
    wtl_energy_report last;
    bool has_last;
    const char *scopes;
} chat_desk;

typedef enum chat_next { CHAT_GO_ON, CHAT_QUIT, CHAT_AGAIN } chat_next; // AGAIN: the last question is to be answered once more

// line begins with "/". Says what it did, or what is wrong, on standard error.
chat_next chat_command(chat_desk *desk, const char *line);

// Counts an answer, and writes the line below it: "42 tokens · 9.1 J ±0.7 · ...".
void chat_account(chat_desk *desk, const chat_answer *answer);
// What the line says, without colour. ascii: no "·" and "±".
void chat_energy_line(const chat_answer *answer, bool ascii, char *out, size_t cap);

#endif
