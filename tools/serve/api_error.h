// What is wrong with a request: found while reading it, sent once. server_error and server_reply_json are declared in server.h.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_API_ERROR_H
#define WTL_TOOLS_SERVE_API_ERROR_H

#include <jansson.h>

#include "tools/serve/http.h"

typedef struct api_error {
    int status;       // of HTTP; 0: nothing wrong
    char message[640];
    char param[256];  // the parameter, "" for none: "messages[1].content"
    const char *type; // static; NULL: by status
    const char *code; // static; NULL: none
    int64_t n_prompt_tok, n_ctx; // both > 0: a prompt that is too long
    int32_t retry_after_s;       // > 0: header Retry-After
} api_error;

// Fills *e and returns false. param may be NULL.
bool api_fail(api_error *e, int status, const char *param, const char *format, ...) __attribute__((format(printf, 4, 5)));
json_t *api_error_json(const api_error *e); // {"error": {...}}
void api_error_send(http_call *call, const api_error *e);
const char *api_error_type(int status); // of the error object when none is named

#endif
