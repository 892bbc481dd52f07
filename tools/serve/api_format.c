// What a reply must look like: response_format in OpenAI's and in llama-server's forms, and llama-server's json_schema.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "tools/serve/api_params.h"

json_schema *api_compile_schema(const json_t *schema, const char *name, api_error *e) {
    json_schema_error why;
    json_schema *compiled = json_schema_compile(schema, &why);
    if (compiled) return compiled;
    if (why.no_memory) {
        api_fail(e, 500, NULL, "out of memory");
        return NULL;
    }
    char place[sizeof e->param];
    snprintf(place, sizeof place, "%s%s", name, why.path);
    api_fail(e, 400, place, "%s: %s", name, why.message);
    return NULL;
}

static bool set_schema(api_request *r, const json_t *schema, const char *name, api_error *e) {
    if (!json_is_object(schema) && !json_is_boolean(schema)) return api_fail(e, 400, name, "%s must be a JSON schema, an object", name);
    r->rule = (reply_rule){.schema = api_compile_schema(schema, name, e), .before = "", .after = ""};
    return r->rule.schema != NULL;
}

// {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}; llama-server also takes the schema beside the type.
static bool schema_format(api_request *r, const json_t *format, api_error *e) {
    const json_t *named = api_get(format, "json_schema"), *direct = api_get(format, "schema");
    if (named && !json_is_object(named)) return api_fail(e, 400, "response_format.json_schema", "response_format.json_schema must be an object");
    if (named) return set_schema(r, api_get(named, "schema"), "response_format.json_schema.schema", e);
    if (direct) return set_schema(r, direct, "response_format.schema", e);
    return api_fail(e, 400, "response_format.json_schema", "response_format.json_schema is missing");
}

static bool any_map(api_request *r, api_error *e) {
    json_t *schema = json_pack("{s:s}", "type", "object");
    const bool ok = schema ? set_schema(r, schema, "response_format", e) : api_fail(e, 500, NULL, "out of memory");
    json_decref(schema);
    return ok;
}

bool api_read_format(api_request *r, api_error *e) {
    const json_t *format = api_get(r->root, "response_format"), *schema = api_get(r->root, "json_schema");
    const char *type = "text";
    if (format && !json_is_object(format)) return api_fail(e, 400, "response_format", "response_format must be an object");
    if (format && !api_read_text(api_get(format, "type"), "response_format.type", 64, &type, e)) return false;
    const bool object = strcmp(type, "json_object") == 0, with_schema = strcmp(type, "json_schema") == 0;
    if (!object && !with_schema && strcmp(type, "text") != 0)
        return api_fail(e, 400, "response_format.type", "response_format.type must be \"text\", \"json_object\" or \"json_schema\"");
    if (schema && (object || with_schema)) return api_fail(e, 400, "json_schema", "json_schema and response_format cannot be given together");
    if (schema) return set_schema(r, schema, "json_schema", e);
    if (with_schema || (object && api_get(format, "schema"))) return schema_format(r, format, e);
    return !object || any_map(r, e);
}
