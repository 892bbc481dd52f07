// The life of a server: listening, loading, serving, draining. See server_life.c; the options come from cmd_serve.c.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_SERVER_LIFE_H
#define WTL_TOOLS_SERVE_SERVER_LIFE_H

#include "tools/serve/server.h"

// Runs until a signal ends it, and everything is closed. Returns the exit code of the program.
// Owns: nothing; the strings of options must outlive it. Thread: main, before any other was started.
int server_run(const server_options *options);

#endif
