// Readers of the ledger, each on a thread of its own: a file that grew for years takes longer to sum than any token may wait.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_QUERIES_H
#define WTL_TOOLS_SERVE_QUERIES_H

#include "tools/serve/server.h"

enum { SERVER_QUERIES_MAX = 4 }; // at once

bool server_queries_open(server *s); // sets s->queries; false: no memory
// Runs work(s, user) on its own thread. False: too many run, or no thread; work was not called. Thread: any.
bool server_queries_start(server *s, void (*work)(server *s, void *user), void *user);
void server_queries_close(server *s); // waits for those that run

#endif
