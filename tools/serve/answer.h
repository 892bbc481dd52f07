// One answer in flight: from a checked request to its last byte.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_ANSWER_H
#define WTL_TOOLS_SERVE_ANSWER_H

#include "tools/serve/api_request.h"
#include "tools/serve/server.h"

// Submits everything and answers the call: now with an error, or later from the engine's and the finisher's threads. Takes what request
// and prompts own and leaves them empty. Thread: any, inside the route; not for a call that was answered.
void answer_start(server *s, http_call *call, api_request *request, api_prompts *prompts);

#endif
