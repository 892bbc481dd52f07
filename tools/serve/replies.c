// Answers in one piece. See api_error.h and server.h.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve/api_error.h"
#include "tools/serve/server.h"

static const char NO_MEMORY[] = "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,\"code\":null}}";

void api_error_send(http_call *call, const api_error *e) {
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", e->retry_after_s);
    if (e->retry_after_s > 0) http_set_header(call, "Retry-After", seconds);
    server_reply_json(call, e->status, api_error_json(e));
}

void server_error(http_call *call, int status, const char *type, const char *message, const char *param, const char *code) {
    api_error e;
    api_fail(&e, status, param, "%s", message);
    e.type = type;
    e.code = code;
    api_error_send(call, &e);
}

void server_reply_json(http_call *call, int status, json_t *object) {
    char *body = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(object);
    if (body) http_reply(call, status, "application/json; charset=utf-8", body, strlen(body));
    else http_reply(call, 500, "application/json; charset=utf-8", NO_MEMORY, sizeof NO_MEMORY - 1);
    free(body);
}
