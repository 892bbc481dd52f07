// Tools of a chat request: "tools", "tool_choice", "parallel_tool_calls". How a model writes a call depends on its template; three ways are known.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_API_TOOLS_H
#define WTL_TOOLS_SERVE_API_TOOLS_H

#include "runtime/chat.h"
#include "tools/serve/api_request.h"

// Which way this template's model writes calls.
reply_syntax api_call_syntax(const wtl_chat_info *chat);
// Reads and checks them. With a choice other than "none" *r learns the syntax, and where calls are a must (or begin with a marker) the rule that
// keeps them in the form of the tools' parameters. False: *e says why; also when the template does not take tools.
bool api_read_tools(api_request *r, const wtl_chat_info *chat, api_error *e);

#endif
