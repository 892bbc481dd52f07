// Conversations of requests to prompts; shared by the routes that take "messages".
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_API_CHAT_H
#define WTL_TOOLS_SERVE_API_CHAT_H

#include "tools/serve/api_request.h"
#include "tools/serve/server.h"

// Renders with add_generation_prompt. False: *e says why and names the message. *out: wtl_chat_prompt_free.
bool api_render_chat(const server *s, const json_t *messages, const json_t *variables, wtl_chat_prompt *out, api_error *e);

#endif
