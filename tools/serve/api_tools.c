// Tools of a request, and the rule of a reply that calls them. See api_tools.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/api_tools.h"

#include <stdio.h>
#include <string.h>

#include "tools/serve/api_params.h"

enum { TOOLS_MAX = REPLY_CALLS_MAX, NAME_BYTES = 128 };

reply_syntax api_call_syntax(const wtl_chat_info *chat) {
    if (!chat->takes_tools) return CALLS_NONE;
    return strstr(chat->source, "<tool_call>") ? CALLS_TAGS : strstr(chat->source, "[TOOL_CALLS]") ? CALLS_LIST : CALLS_BARE;
}

// Llama 3's templates call the arguments "parameters".
static const char *arguments_key(const wtl_chat_info *chat, reply_syntax syntax) {
    return syntax == CALLS_BARE && strstr(chat->source, "<|start_header_id|>") && strstr(chat->source, "\"parameters\"") ? "parameters" : "arguments";
}

// ---- Reading -------------------------------------------------------------------------------------------------------------------
static bool read_tool(api_request *r, const json_t *tool, size_t i, api_error *e) {
    char place[64];
    const char *name = "";
    const json_t *function = api_get(tool, "function"), *type = api_get(tool, "type"), *parameters = api_get(function, "parameters");
    snprintf(place, sizeof place, "tools[%zu].type", i);
    if (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0) return api_fail(e, 400, place, "%s must be \"function\"", place);
    snprintf(place, sizeof place, "tools[%zu].function", i);
    if (!json_is_object(function)) return api_fail(e, 400, place, "%s must be an object", place);
    snprintf(place, sizeof place, "tools[%zu].function.parameters", i);
    if (parameters && !json_is_object(parameters)) return api_fail(e, 400, place, "%s must be a JSON schema, an object", place);
    snprintf(place, sizeof place, "tools[%zu].function.name", i);
    if (!api_read_text(api_get(function, "name"), place, NAME_BYTES, &name, e)) return false;
    if (!*name) return api_fail(e, 400, place, "%s must not be empty", place);
    return json_array_append(r->tool_names, api_get(function, "name")) == 0 || api_fail(e, 500, NULL, "out of memory");
}

typedef struct tool_choice {
    bool none, must;
    const json_t *name; // the one function; NULL: any
} tool_choice;

static bool read_choice(const api_request *r, tool_choice *out, api_error *e) {
    const json_t *value = api_get(r->root, "tool_choice"), *name = api_get(api_get(value, "function"), "name");
    const char *word = json_string_value(value);
    *out = (tool_choice){.none = word && strcmp(word, "none") == 0, .must = word && strcmp(word, "required") == 0};
    if (!value || out->none || out->must || (word && strcmp(word, "auto") == 0)) return true;
    if (word || !json_is_string(name))
        return api_fail(e, 400, "tool_choice", "tool_choice must be \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ...}}");
    *out = (tool_choice){.must = true, .name = name};
    for (size_t i = 0; i < json_array_size(r->tool_names); i++)
        if (json_equal(json_array_get(r->tool_names, i), name)) return true;
    return api_fail(e, 400, "tool_choice.function.name", "tool_choice names \"%.80s\", which is none of the tools", json_string_value(name));
}

// ---- The schema of calls -------------------------------------------------------------------------------------------------------
// References inside a tool's parameters mean these; in the whole they lie deeper.
static bool rebase(json_t *schema, const char *prefix) {
    const char *key;
    json_t *value;
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(schema); i++) ok = rebase(json_array_get(schema, i), prefix);
    json_object_foreach(schema, key, value) {
        const char *reference = json_string_value(value);
        if (!ok || strcmp(key, "enum") == 0 || strcmp(key, "const") == 0) continue;
        if (strcmp(key, "$ref") == 0 && reference && reference[0] == '#') ok = json_object_set_new(schema, key, json_sprintf("%s%s", prefix, reference + 1)) == 0;
        else ok = rebase(value, prefix);
    }
    return ok;
}

static json_t *parameters_of(const api_request *r, size_t i) {
    const json_t *parameters = api_get(api_get(json_array_get(api_get(r->root, "tools"), i), "function"), "parameters");
    return parameters ? json_deep_copy(parameters) : json_pack("{s:s, s:{}}", "type", "object", "properties");
}

static json_t *call_schema(const char *key, json_t *name, const char *reference) {
    return json_pack("{s:s, s:{s:{s:O}, s:{s:s}}, s:[s, s], s:b}", "type", "object", "properties", "name", "const", name, key, "$ref", reference, "required", "name", key,
                     "additionalProperties", 0);
}

// Whether each tool's parameters can be kept, with the place in its own words. NULL choice: all.
static bool check_parameters(const api_request *r, const json_t *only, api_error *e) {
    for (size_t i = 0; i < json_array_size(r->tool_names); i++) {
        if (only && !json_equal(json_array_get(r->tool_names, i), only)) continue;
        char place[64];
        snprintf(place, sizeof place, "tools[%zu].function.parameters", i);
        json_t *parameters = parameters_of(r, i);
        json_schema *schema = parameters ? api_compile_schema(parameters, place, e) : NULL;
        json_decref(parameters);
        if (!schema) return parameters ? false : api_fail(e, 500, NULL, "out of memory");
        json_schema_free(schema);
    }
    return true;
}

// One call, or a list of them; NULL: no memory.
static json_t *calls_schema(const api_request *r, const json_t *only, const char *key, bool list, bool several) {
    json_t *choices = json_array(), *shared = json_object();
    bool ok = choices && shared;
    for (size_t i = 0; ok && i < json_array_size(r->tool_names); i++) {
        char name[32], reference[48];
        if (only && !json_equal(json_array_get(r->tool_names, i), only)) continue;
        snprintf(name, sizeof name, "t%zu", i);
        snprintf(reference, sizeof reference, "#/$defs/%s", name);
        json_t *parameters = parameters_of(r, i);
        ok = parameters && rebase(parameters, reference) && json_object_set(shared, name, parameters) == 0 &&
             json_array_append_new(choices, call_schema(key, json_array_get(r->tool_names, i), reference)) == 0;
        json_decref(parameters);
    }
    json_t *call = ok ? json_pack("{s:O}", "anyOf", choices) : NULL;
    json_t *all = !call ? NULL : list ? json_pack("{s:s, s:O, s:i, s:i}", "type", "array", "items", call, "minItems", 1, "maxItems", several ? REPLY_CALLS_MAX : 1) : json_incref(call);
    if (all && json_object_set(all, "$defs", shared) != 0) ok = false;
    json_decref(call);
    json_decref(choices);
    json_decref(shared);
    return all;
}

static bool make_rule(api_request *r, const wtl_chat_info *chat, const tool_choice *choice, api_error *e) {
    const bool several = !choice->name && !json_is_false(api_get(r->root, "parallel_tool_calls"));
    const char *open = reply_calls_open(r->syntax), *close = reply_calls_close(r->syntax);
    json_t *schema = calls_schema(r, choice->name, arguments_key(chat, r->syntax), r->syntax == CALLS_LIST, several);
    if (!schema) return api_fail(e, 500, NULL, "out of memory");
    r->rule = (reply_rule){.schema = api_compile_schema(schema, "tools", e), .start = choice->must ? NULL : open, .before = choice->must ? open : "", .after = close,
                           .again = several && *close};
    json_decref(schema);
    return r->rule.schema != NULL;
}

bool api_read_tools(api_request *r, const wtl_chat_info *chat, api_error *e) {
    const json_t *tools = api_get(r->root, "tools"), *parallel = api_get(r->root, "parallel_tool_calls");
    tool_choice choice;
    bool ignored;
    r->tool_names = json_array();
    if (!r->tool_names) return api_fail(e, 500, NULL, "out of memory");
    if (tools && !json_is_array(tools)) return api_fail(e, 400, "tools", "tools must be a list");
    if (json_array_size(tools) > TOOLS_MAX) return api_fail(e, 400, "tools", "tools has %zu tools, at most %d", json_array_size(tools), TOOLS_MAX);
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (!read_tool(r, json_array_get(tools, i), i, e)) return false;
    if (parallel && !api_read_bool(parallel, "parallel_tool_calls", &ignored, e)) return false;
    if (!read_choice(r, &choice, e)) return false;
    if (choice.none) return true;
    if (json_array_size(tools) == 0) return !choice.must || api_fail(e, 400, "tool_choice", "tool_choice needs tools");
    if (!chat) return true;
    if (!chat->takes_tools)
        return api_fail(e, 400, "tools", "the chat template of this server (\"%.80s\") does not take tools; `wattle serve --chat-template FILE` gives it one that does", chat->name);
    if (r->rule.schema) return api_fail(e, 400, "tools", "tools cannot be given together with a response_format, unless tool_choice is \"none\"");
    r->syntax = api_call_syntax(chat);
    if (choice.must) return check_parameters(r, choice.name, e) && make_rule(r, chat, &choice, e);
    api_error unkept = {0}; // a call that the model makes of itself is kept in form where its parameters can be
    return *reply_calls_open(r->syntax) && check_parameters(r, NULL, &unkept) ? make_rule(r, chat, &choice, e) : unkept.status != 500 || api_fail(e, 500, NULL, "out of memory");
}
