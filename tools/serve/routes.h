// Callbacks of the HTTP layer that are no routes. The table itself is in routes.c; server.h declares what the routes share.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_ROUTES_H
#define WTL_TOOLS_SERVE_ROUTES_H

#include "tools/serve/server.h"

char *server_error_body(void *server, int status, const char *message); // http_options.error_body: the standard error object
void server_too_many(void *server);                                     // http_options.too_many: counted

#endif
