// `wattle run --chat`: the text of the command line as the user message of a chat.
//
// Owns the chat and its prompt. Says a fallback aloud. Used by cmd_run.c only; conversations of several turns are `wattle chat`'s.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_RUN_CHAT_H
#define WTL_TOOLS_RUN_CHAT_H

#include "runtime/chat.h"
#include "tools/cli.h"

typedef struct run_chat_options {
    bool chat;
    const char *system;        // NULL: no system message
    const char *chat_template; // a built-in name or a file; NULL: the model's own
} run_chat_options;

#define CLI_OPTIONS_CHAT(options) \
    {.name = "chat", .kind = CLI_FLAG, .value = &(options)->chat, .help = "the text is a message to the model: put it into the model's chat template"}, \
    {.name = "system", .kind = CLI_STRING, .value = &(options)->system, .arg = "TEXT", .help = "with --chat: a system message in front"}, \
    {.name = "chat-template", .kind = CLI_STRING, .value = &(options)->chat_template, .arg = "NAME|FILE", \
     .help = "with --chat: a built-in template (chatml, gemma, llama3, ...) or a Jinja file (default: the model's own)"}

typedef struct run_chat {
    wtl_chat *chat;
    wtl_chat_prompt prompt;
} run_chat;

// Opens the template and renders the message; adds the template's stop text, borrowed from the chat, to stops. CLI_GO or an exit code.
int run_chat_open(run_chat *chat, const run_chat_options *options, const wtl_engine *engine, const cli_text *text, cli_list *stops);
// Name of the template in use; NULL: this is no chat.
const char *run_chat_template(const run_chat *chat);
void run_chat_close(run_chat *chat); // accepts an empty one

#endif
