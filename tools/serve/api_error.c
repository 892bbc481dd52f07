// The standard error object {"error": {"message", "type", "param", "code"}}. See api_error.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/api_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *api_error_type(int status) {
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {403, "permission_error"}, {404, "not_found_error"},   {429, "rate_limit_error"},
                 {501, "not_supported_error"},  {503, "unavailable_error"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status) return types[i].type;
    return status >= 500 ? "server_error" : "invalid_request_error";
}

bool api_fail(api_error *e, int status, const char *param, const char *format, ...) {
    *e = (api_error){.status = status};
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    if (param) snprintf(e->param, sizeof e->param, "%s", param);
    return false;
}

// A message may quote what a client sent, cut at any byte.
static json_t *lenient_string(const char *text) {
    json_t *string = json_string(text);
    if (string) return string;
    char plain[sizeof((api_error *)NULL)->message];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof plain; n++) plain[n] = (unsigned char)text[n] < 0x80 ? text[n] : '?';
    plain[n] = '\0';
    return json_string(plain);
}

static json_t *string_or_null(const char *text) { return text && *text ? lenient_string(text) : json_null(); }

json_t *api_error_json(const api_error *e) {
    json_t *inner = json_pack("{s:o, s:s, s:o, s:o}", "message", lenient_string(e->message), "type", e->type ? e->type : api_error_type(e->status), "param",
                              string_or_null(e->param), "code", string_or_null(e->code));
    if (inner && e->n_prompt_tok > 0 && e->n_ctx > 0) {
        json_object_set_new(inner, "n_prompt_tokens", json_integer(e->n_prompt_tok));
        json_object_set_new(inner, "n_ctx", json_integer(e->n_ctx));
    }
    return json_pack("{s:o}", "error", inner);
}
