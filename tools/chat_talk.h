// A conversation: its messages as the OpenAI API writes them, in memory and in a file.
//
// The file is JSON: {"wattle_chat": 1, "model": ..., "messages": [{"role", "content"}, ...]}; other programs may write it. Loading checks all
// of it before anything is replaced; saving replaces the file at once or not at all. Owned by cmd_chat.c; one thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CHAT_TALK_H
#define WTL_TOOLS_CHAT_TALK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct chat_talk {
    json_t *messages; // array; the system message, if any, is the first
} chat_talk;

enum { CHAT_TALK_ERR = 512 };

bool chat_talk_open(chat_talk *talk, const char *system); // system: NULL: none. False: out of memory
void chat_talk_close(chat_talk *talk);
bool chat_talk_clear(chat_talk *talk);                     // all but the system message
bool chat_talk_set_system(chat_talk *talk, const char *text); // "" removes it
const char *chat_talk_system(const chat_talk *talk);       // "" when there is none
bool chat_talk_add(chat_talk *talk, const char *role, const char *text, size_t len); // text is UTF-8
// Drops the last message when it has that role.
bool chat_talk_drop(chat_talk *talk, const char *role);
size_t chat_talk_turns(const chat_talk *talk); // messages of the user

// False and a sentence that names the file and what is wrong.
bool chat_talk_save(const chat_talk *talk, const char *path, const char *model, char err[CHAT_TALK_ERR]);
bool chat_talk_load(chat_talk *talk, const char *path, char err[CHAT_TALK_ERR]);

#endif
