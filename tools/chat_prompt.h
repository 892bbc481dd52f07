// Conversations as JSON to prompts, for every command that chats: `run --chat`, `chat`, `serve`.
//
// Owns nothing but the way from json_t to wtl_chat_input: what a conversation must look like, and which forms of it templates can
// read. Calls nothing that prints: the command says what failed. What a template makes of it is runtime/chat.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CHAT_PROMPT_H
#define WTL_TOOLS_CHAT_PROMPT_H

#include <jansson.h>

#include "runtime/chat.h"

// --chat-template: the name of a built-in template, else a file (bounded, UTF-8); NULL: the model's own, else a fallback
// (wtl_chat_info.fallback: say its reason aloud). Close with wtl_chat_close.
// Errors: NOT_FOUND (neither name nor file: names the built-in ones), IO, LIMIT, and those of wtl_chat_open.
wtl_status chat_prompt_open(const wtl_engine *engine, const char *name_or_file, wtl_chat **out, wtl_error *err);

// Renders messages ([{"role", "content", ...}], in the form of the OpenAI API) with add_generation_prompt and the variables of the object
// `variables` (tools, enable_thinking, ...; may be NULL). All keys of a message are passed on, in order. What is adapted:
// - content as a list of text parts becomes one text, the parts joined with a line break, as llama-server does;
// - null content stays null in assistant messages, is "" in others;
// - a system message goes in front of the next user message where the template takes none; the role "developer" becomes "system" where
//   the template does not know it, both as llama-server does;
// - the arguments of tool calls, a JSON text in that API, are given as the object that most templates expect, and as the text where the
//   template fails with the object.
// *out is the caller's, wtl_chat_prompt_free. Errors: INVALID (the message and key that is wrong: "messages[2].content ..."; or the
// template refused: its words), and those of wtl_chat_render.
wtl_status chat_prompt_from_json(const wtl_chat *chat, const json_t *messages, const json_t *variables, bool add_generation_prompt,
                                 wtl_chat_prompt *out, wtl_error *err);

#endif
