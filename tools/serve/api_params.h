// Reading single values of a request's body; between api_request.c and its neighbours. All fail with a sentence that names the parameter.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_API_PARAMS_H
#define WTL_TOOLS_SERVE_API_PARAMS_H

#include "tools/serve/api_request.h"

json_t *api_get(const json_t *object, const char *key); // borrowed; NULL: absent or null
bool api_read_bool(const json_t *value, const char *name, bool *out, api_error *e);
bool api_read_int(const json_t *value, const char *name, double min, double max, int64_t *out, api_error *e);
bool api_read_real(const json_t *value, const char *name, double min, double max, double *out, api_error *e);
bool api_read_text(const json_t *value, const char *name, size_t max_bytes, const char **out, api_error *e);

// What the template sees besides the messages: chat_template_kwargs, tools, tool_choice. *out: a new object.
bool api_read_variables(const json_t *body, json_t **out, api_error *e);
bool api_read_format(api_request *r, api_error *e); // response_format, json_schema: api_format.c
// A schema of the parameter `name`. NULL: *e names the place inside it.
json_schema *api_compile_schema(const json_t *schema, const char *name, api_error *e);
bool api_read_bias(api_request *r, const api_limits *limits, api_error *e); // logit_bias: api_bias.c

#endif
