// Conversations as JSON to prompts. See chat_prompt.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/chat_prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LIMIT = 60, FILE_LIMIT_BYTES = 1 << 20 };

// ---- Templates -----------------------------------------------------------------------------------------------------
static bool is_builtin(const char *name) {
    for (size_t i = 0; wtl_chat_builtin(i); i++)
        if (strcmp(name, wtl_chat_builtin(i)) == 0) return true;
    return false;
}

// The message goes into err, so that its length is bounded there.
static wtl_status no_such_template(const char *name, const char *why, wtl_error *err) {
    char names[256] = "";
    size_t n = 0;
    for (size_t i = 0; wtl_chat_builtin(i) && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", wtl_chat_builtin(i));
    return wtl_fail(err, WTL_ERR_NOT_FOUND, "there is no chat template \"%.200s\": it is no file (%s) and none of %s", name, why, names);
}

static wtl_status read_template(const char *path, char **text, size_t *len, wtl_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) return no_such_template(path, strerror(errno), err);
    char *bytes = malloc(FILE_LIMIT_BYTES + 1);
    wtl_status status = WTL_OK;
    if (bytes) *len = fread(bytes, 1, FILE_LIMIT_BYTES + 1, file);
    if (!bytes) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the chat template %s", path);
    else if (ferror(file)) status = wtl_fail(err, WTL_ERR_IO, "the chat template %s cannot be read: %s", path, strerror(errno));
    else if (*len > FILE_LIMIT_BYTES) status = wtl_fail(err, WTL_ERR_LIMIT, "the chat template %s is longer than %d bytes", path, (int)FILE_LIMIT_BYTES);
    fclose(file);
    if (status) free(bytes);
    else *text = bytes;
    return status;
}

wtl_status chat_prompt_open(const wtl_engine *engine, const char *name_or_file, wtl_chat **out, wtl_error *err) {
    wtl_chat_options options = {.engine = engine};
    char *text = NULL;
    wtl_status status = WTL_OK;
    *out = NULL;
    if (name_or_file && is_builtin(name_or_file)) {
        options.name = name_or_file;
    } else if (name_or_file) {
        status = read_template(name_or_file, &text, &options.source_len, err);
        const char *slash = strrchr(name_or_file, '/');
        options.source = text;
        options.source_name = slash ? slash + 1 : name_or_file;
    }
    if (!status) status = wtl_chat_open(&options, out, err);
    free(text);
    return status;
}

// ---- Values --------------------------------------------------------------------------------------------------------
typedef struct prompt_writer {
    wtl_chat_input *in;
    bool arguments_as_text; // of tool calls: as they came
    bool found_arguments;   // some came as the text of an object
    bool takes_system, knows_developer; // of the template
    json_t *system;         // waiting for the next user message; NULL: none
    size_t message;         // in work, for error sentences
    wtl_error *err;
} prompt_writer;

static wtl_status write_value(prompt_writer *w, const json_t *value, int depth);

static wtl_status write_member(prompt_writer *w, const char *key, const json_t *value, int depth) {
    wtl_chat_key(w->in, key, strlen(key));
    return write_value(w, value, depth);
}

static wtl_status write_list(prompt_writer *w, const json_t *list, int depth) {
    wtl_status status = WTL_OK;
    wtl_chat_begin_list(w->in);
    for (size_t i = 0; !status && i < json_array_size(list); i++) status = write_value(w, json_array_get(list, i), depth + 1);
    wtl_chat_end(w->in);
    return status;
}

static wtl_status write_map(prompt_writer *w, const json_t *map, int depth) {
    wtl_status status = WTL_OK;
    wtl_chat_begin_map(w->in);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        if (!status) status = write_member(w, key, value, depth + 1);
    }
    wtl_chat_end(w->in);
    return status;
}

static wtl_status write_value(prompt_writer *w, const json_t *value, int depth) {
    if (depth > DEPTH_LIMIT) return wtl_fail(w->err, WTL_ERR_LIMIT, "the conversation is nested deeper than %d levels", (int)DEPTH_LIMIT);
    switch (json_typeof(value)) {
    case JSON_OBJECT: return write_map(w, value, depth);
    case JSON_ARRAY: return write_list(w, value, depth);
    case JSON_STRING: wtl_chat_text(w->in, json_string_value(value), json_string_length(value)); break;
    case JSON_INTEGER: wtl_chat_int(w->in, json_integer_value(value)); break;
    case JSON_REAL: wtl_chat_real(w->in, json_real_value(value)); break;
    case JSON_TRUE:
    case JSON_FALSE: wtl_chat_bool(w->in, json_is_true(value)); break;
    case JSON_NULL: wtl_chat_null(w->in); break;
    }
    return WTL_OK;
}

// ---- Messages ------------------------------------------------------------------------------------------------------
static wtl_status wrong(const prompt_writer *w, const char *what) { return wtl_fail(w->err, WTL_ERR_INVALID, "messages[%zu]%s", w->message, what); }

static wtl_status part_text(const prompt_writer *w, size_t i, const json_t *part, const char **text, size_t *len) {
    const json_t *type = json_object_get(part, "type"), *value = json_object_get(part, "text");
    if (json_is_string(type) && strcmp(json_string_value(type), "text") != 0)
        return wtl_fail(w->err, WTL_ERR_INVALID, "messages[%zu].content[%zu] is of type \"%.40s\": only text is supported", w->message, i, json_string_value(type));
    if (!json_is_string(type) || !json_is_string(value))
        return wtl_fail(w->err, WTL_ERR_INVALID, "messages[%zu].content[%zu] is no {\"type\": \"text\", \"text\": \"...\"}", w->message, i);
    *text = json_string_value(value);
    *len = json_string_length(value);
    return WTL_OK;
}

// The text of a content that is a list of parts, malloc'ed.
static wtl_status join_parts(const prompt_writer *w, const json_t *parts, char **out, size_t *out_len) {
    size_t total = 0, n = 0, len;
    const char *text;
    wtl_status status = WTL_OK;
    for (size_t i = 0; !status && i < json_array_size(parts); i++) {
        status = part_text(w, i, json_array_get(parts, i), &text, &len);
        if (!status) total += len + 1;
    }
    if (status) return status;
    char *joined = malloc(total + 1);
    if (!joined) return wtl_fail(w->err, WTL_ERR_NO_MEMORY, "out of memory for a message of %zu bytes", total);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        part_text(w, i, json_array_get(parts, i), &text, &len);
        if (n) joined[n++] = '\n';
        memcpy(joined + n, text, len);
        n += len;
    }
    *out = joined;
    *out_len = n;
    return WTL_OK;
}

// Content as one JSON text; null stays null for assistants. The caller's to release.
static wtl_status flatten(const prompt_writer *w, json_t *content, bool assistant, json_t **out) {
    char *text = NULL;
    size_t len = 0;
    if (json_is_string(content) || (json_is_null(content) && assistant)) {
        *out = json_incref(content);
        return WTL_OK;
    }
    if (!json_is_null(content) && !json_is_array(content)) return wrong(w, ".content is neither a text nor a list of text parts");
    wtl_status status = json_is_array(content) ? join_parts(w, content, &text, &len) : WTL_OK;
    if (status) return status;
    *out = json_stringn(text ? text : "", len); // NULL: no UTF-8 or no memory
    free(text);
    return *out ? WTL_OK : wtl_fail(w->err, WTL_ERR_NO_MEMORY, "out of memory for a message of %zu bytes", len);
}

static wtl_status write_content(prompt_writer *w, json_t *content, const char *role) {
    json_t *flat;
    wtl_status status = flatten(w, content, strcmp(role, "assistant") == 0, &flat);
    if (status) return status;
    if (w->system && json_is_string(flat)) {
        json_t *both = json_sprintf("%s\n%s", json_string_value(w->system), json_string_value(flat));
        json_decref(flat);
        json_decref(w->system);
        w->system = NULL;
        flat = both;
    }
    if (flat) status = write_value(w, flat, 3);
    else status = wtl_fail(w->err, WTL_ERR_NO_MEMORY, "out of memory for a message");
    json_decref(flat);
    return status;
}

// The arguments of a call: the object that their text spells, unless the template wants the text.
static wtl_status write_arguments(prompt_writer *w, const json_t *arguments, int depth) {
    json_t *object = json_is_string(arguments) ? json_loadb(json_string_value(arguments), json_string_length(arguments), 0, NULL) : NULL;
    wtl_status status;
    if (json_is_object(object)) w->found_arguments = true;
    status = write_value(w, json_is_object(object) && !w->arguments_as_text ? object : arguments, depth);
    json_decref(object);
    return status;
}

static wtl_status write_function(prompt_writer *w, const json_t *function) {
    wtl_status status = WTL_OK;
    const char *key;
    json_t *value;
    wtl_chat_begin_map(w->in);
    json_object_foreach((json_t *)function, key, value) {
        if (status) continue;
        wtl_chat_key(w->in, key, strlen(key));
        status = strcmp(key, "arguments") == 0 ? write_arguments(w, value, 5) : write_value(w, value, 5);
    }
    wtl_chat_end(w->in);
    return status;
}

static wtl_status write_call(prompt_writer *w, const json_t *call) {
    wtl_status status = WTL_OK;
    const char *key;
    json_t *value;
    wtl_chat_begin_map(w->in);
    json_object_foreach((json_t *)call, key, value) {
        if (status) continue;
        wtl_chat_key(w->in, key, strlen(key));
        status = strcmp(key, "function") == 0 && json_is_object(value) ? write_function(w, value) : write_value(w, value, 4);
    }
    wtl_chat_end(w->in);
    return status;
}

static wtl_status write_calls(prompt_writer *w, const json_t *calls) {
    if (json_is_null(calls)) return write_value(w, calls, 0);
    if (!json_is_array(calls)) return wrong(w, ".tool_calls is no list");
    wtl_status status = WTL_OK;
    wtl_chat_begin_list(w->in);
    for (size_t i = 0; !status && i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        status = json_is_object(call) ? write_call(w, call) : wrong(w, ".tool_calls holds something else than objects");
    }
    wtl_chat_end(w->in);
    return status;
}

static wtl_status check_message(const prompt_writer *w, const json_t *message) {
    const json_t *role = json_object_get(message, "role");
    if (!json_is_object(message)) return wrong(w, " is no object");
    if (!json_is_string(role)) return wrong(w, role ? ".role is no text" : " has no role");
    bool calls = strcmp(json_string_value(role), "assistant") == 0 && json_object_get(message, "tool_calls");
    return json_object_get(message, "content") || calls ? WTL_OK : wrong(w, " has no content");
}

static wtl_status write_message(prompt_writer *w, const json_t *message, const char *role) {
    wtl_status status = WTL_OK;
    const char *key;
    json_t *value;
    wtl_chat_begin_map(w->in);
    json_object_foreach((json_t *)message, key, value) {
        if (status) continue;
        wtl_chat_key(w->in, key, strlen(key));
        if (strcmp(key, "content") == 0) status = write_content(w, value, role);
        else if (strcmp(key, "tool_calls") == 0) status = write_calls(w, value);
        else if (strcmp(key, "role") == 0) wtl_chat_text(w->in, role, strlen(role));
        else status = write_value(w, value, 3);
    }
    wtl_chat_end(w->in);
    return status;
}

// A system message that the template would refuse or drop waits for the next user message.
static wtl_status keep_system(prompt_writer *w, const json_t *message) {
    json_t *flat, *old = w->system;
    wtl_status status = flatten(w, json_object_get(message, "content"), false, &flat);
    if (status) return status;
    w->system = old ? json_sprintf("%s\n%s", json_string_value(old), json_string_value(flat)) : json_incref(flat);
    json_decref(old);
    json_decref(flat);
    return w->system ? WTL_OK : wtl_fail(w->err, WTL_ERR_NO_MEMORY, "out of memory for a system message");
}

// What still waits, as a user message of its own.
static void write_system(prompt_writer *w) {
    if (!w->system) return;
    wtl_chat_begin_map(w->in);
    wtl_chat_key(w->in, "role", strlen("role"));
    wtl_chat_text(w->in, "user", strlen("user"));
    wtl_chat_key(w->in, "content", strlen("content"));
    wtl_chat_text(w->in, json_string_value(w->system), json_string_length(w->system));
    wtl_chat_end(w->in);
    json_decref(w->system);
    w->system = NULL;
}

static wtl_status write_messages(prompt_writer *w, const json_t *messages) {
    wtl_status status = WTL_OK;
    for (w->message = 0; !status && w->message < json_array_size(messages); w->message++) {
        const json_t *message = json_array_get(messages, w->message);
        status = check_message(w, message);
        if (status) break;
        const char *role = json_string_value(json_object_get(message, "role"));
        if (strcmp(role, "developer") == 0 && !w->knows_developer) role = "system";
        if (strcmp(role, "system") == 0 && !w->takes_system) {
            status = keep_system(w, message);
            continue;
        }
        if (strcmp(role, "user") != 0) write_system(w);
        status = write_message(w, message, role);
    }
    if (!status) write_system(w);
    json_decref(w->system);
    w->system = NULL;
    return status;
}

// ---- The whole -----------------------------------------------------------------------------------------------------
static wtl_status write_all(prompt_writer *w, const json_t *messages, const json_t *variables, bool add_generation_prompt) {
    wtl_status status = WTL_OK;
    const char *key;
    json_t *value;
    wtl_chat_begin_map(w->in);
    json_object_foreach((json_t *)variables, key, value) {
        if (!status && strcmp(key, "messages") != 0 && strcmp(key, "add_generation_prompt") != 0) status = write_member(w, key, value, 1);
    }
    wtl_chat_key(w->in, "messages", strlen("messages"));
    wtl_chat_begin_list(w->in);
    if (!status) status = write_messages(w, messages);
    wtl_chat_end(w->in);
    wtl_chat_key(w->in, "add_generation_prompt", strlen("add_generation_prompt"));
    wtl_chat_bool(w->in, add_generation_prompt);
    wtl_chat_end(w->in);
    return status;
}

static wtl_status render(const wtl_chat *chat, prompt_writer *w, const json_t *messages, const json_t *variables, bool add_generation_prompt, wtl_chat_prompt *out) {
    wtl_status status = wtl_chat_input_open(&w->in, w->err);
    if (!status) status = write_all(w, messages, variables, add_generation_prompt);
    if (!status) status = wtl_chat_render(chat, w->in, out, w->err);
    wtl_chat_input_close(&w->in);
    return status;
}

wtl_status chat_prompt_from_json(const wtl_chat *chat, const json_t *messages, const json_t *variables, bool add_generation_prompt,
                                 wtl_chat_prompt *out, wtl_error *err) {
    if (!json_is_array(messages)) return wtl_fail(err, WTL_ERR_INVALID, "messages is no list");
    if (json_array_size(messages) == 0) return wtl_fail(err, WTL_ERR_INVALID, "messages is empty");
    if (variables && !json_is_object(variables)) return wtl_fail(err, WTL_ERR_INVALID, "the template's variables are no object");
    wtl_error local;
    wtl_chat_info info = wtl_chat_describe(chat);
    prompt_writer w = {.err = err ? err : &local, .takes_system = info.takes_system, .knows_developer = strstr(info.source, "developer")};
    wtl_status status = render(chat, &w, messages, variables, add_generation_prompt, out);
    if (status != WTL_ERR_FORMAT || !w.found_arguments) return status;
    wtl_error second;
    w.err = &second;
    w.arguments_as_text = true;
    if (render(chat, &w, messages, variables, add_generation_prompt, out) == WTL_OK) return WTL_OK;
    return status; // err still holds the words of the first attempt
}
