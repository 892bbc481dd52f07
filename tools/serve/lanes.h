// Two threads that prepare requests, so that no body, however large, holds up the thread that serves everybody.
//
// Reading a body's JSON, rendering and tokenising take as long as the body is large. Small bodies have a lane of their own: nobody's short question
// waits behind another's megabytes. Long ones run at a lower priority than the engine. Each lane is first come, first served, and bounded.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_LANES_H
#define WTL_TOOLS_SERVE_LANES_H

#include "tools/serve/server.h"

enum { SERVER_SMALL_BODY_BYTES = 16 << 10, SERVER_LANE_MAX = 256 }; // a body of the first lane; calls that wait in one at most

bool server_lanes_open(server *s); // sets s->lanes; false: no memory, no thread
// Runs route(s, call) on a lane, or answers 503 when it is full. A call whose client has left meanwhile is ended without the route.
// Owns: the call, from here on. Thread: HTTP.
void server_lanes_run(server *s, http_call *call, void (*route)(server *s, http_call *call));
void server_lanes_close(server *s); // after the HTTP thread has ended and before the batch closes: ends what waits, waits for what runs

#endif
