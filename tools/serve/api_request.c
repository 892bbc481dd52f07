// Parameters of a request: one table for the plain ones, a function for each that has a form of its own. See api_request.h.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools/cli.h"
#include "tools/serve/api_params.h"
#include "tools/serve/api_tools.h"

typedef enum param_kind { P_BOOL, P_INT, P_REAL, P_TEXT } param_kind;

typedef struct param {
    const char *name;
    param_kind kind;
    size_t offset;  // of a bool, int64_t, double, or const char * in api_request
    double min, max;
} param;

#define FIELD(field) offsetof(api_request, field)
static const param PARAMS[] = {
    {"stream", P_BOOL, FIELD(stream), 0, 0},
    {"ignore_eos", P_BOOL, FIELD(ignore_eos), 0, 0},
    {"return_tokens", P_BOOL, FIELD(return_tokens), 0, 0},
    {"temperature", P_REAL, FIELD(temperature), 0, 100},
    {"top_p", P_REAL, FIELD(top_p), 0, 1},
    {"min_p", P_REAL, FIELD(min_p), 0, 1},
    {"top_k", P_INT, FIELD(top_k), -1, INT32_MAX},
    {"repetition_penalty", P_REAL, FIELD(repeat_penalty), 0.01, 100},
    {"repeat_penalty", P_REAL, FIELD(repeat_penalty), 0.01, 100},
    {"repeat_last_n", P_INT, FIELD(repeat_last_n), -1, 1 << 20},
    {"presence_penalty", P_REAL, FIELD(presence_penalty), -100, 100},
    {"frequency_penalty", P_REAL, FIELD(frequency_penalty), -100, 100},
    {"n", P_INT, FIELD(n), 1, API_CHOICES_MAX},
    {"user", P_TEXT, FIELD(user), 0, API_LABEL_BYTES},
    {"max_joules", P_REAL, FIELD(max_joules), 0, 1e9},
    // The last one that is given counts.
    {"n_predict", P_INT, FIELD(max_tokens), -1, INT32_MAX},
    {"max_tokens", P_INT, FIELD(max_tokens), -1, INT32_MAX},
    {"max_completion_tokens", P_INT, FIELD(max_tokens), -1, INT32_MAX},
};

// ---- Values -------------------------------------------------------------------------------------------------------------------
json_t *api_get(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bool api_read_bool(const json_t *value, const char *name, bool *out, api_error *e) {
    if (!json_is_boolean(value)) return api_fail(e, 400, name, "%s must be true or false", name);
    *out = json_is_true(value);
    return true;
}

bool api_read_real(const json_t *value, const char *name, double min, double max, double *out, api_error *e) {
    if (!json_is_number(value)) return api_fail(e, 400, name, "%s must be a number", name);
    const double number = json_number_value(value);
    if (!(number >= min && number <= max)) return api_fail(e, 400, name, "%s must be between %g and %g", name, min, max);
    *out = number;
    return true;
}

bool api_read_int(const json_t *value, const char *name, double min, double max, int64_t *out, api_error *e) {
    const bool whole = json_is_real(value) && fabs(json_real_value(value)) < 9007199254740992.0 && floor(json_real_value(value)) == json_real_value(value);
    if (!json_is_integer(value) && !whole) return api_fail(e, 400, name, "%s must be a whole number", name);
    const int64_t number = whole ? (int64_t)json_real_value(value) : (int64_t)json_integer_value(value);
    if ((double)number < min || (double)number > max) return api_fail(e, 400, name, "%s must be between %.0f and %.0f", name, min, max);
    *out = number;
    return true;
}

// A text without NUL: it is used as a C string.
bool api_read_text(const json_t *value, const char *name, size_t max_bytes, const char **out, api_error *e) {
    if (!json_is_string(value)) return api_fail(e, 400, name, "%s must be a string", name);
    const size_t len = json_string_length(value);
    if (len > max_bytes) return api_fail(e, 400, name, "%s is too long: %zu bytes, at most %zu", name, len, max_bytes);
    if (strlen(json_string_value(value)) != len) return api_fail(e, 400, name, "%s must not contain a NUL character", name);
    *out = json_string_value(value);
    return true;
}

json_t *api_body_object(const char *body, size_t len, api_error *e) {
    json_error_t where;
    json_t *root = json_loadb(body ? body : "", len, JSON_ALLOW_NUL, &where);
    if (!root && json_error_code(&where) == json_error_out_of_memory) api_fail(e, 500, NULL, "out of memory");
    else if (!root) api_fail(e, 400, NULL, "the body is not JSON: %s (line %d, column %d)", where.text, where.line, where.column);
    if (!root || json_is_object(root)) return root;
    json_decref(root);
    api_fail(e, 400, NULL, "the body must be a JSON object");
    return NULL;
}

// ---- Parameters with a form of their own -----------------------------------------------------------------------------------------
static bool read_plain(api_request *r, api_error *e) {
    for (size_t i = 0; i < CLI_COUNT(PARAMS); i++) {
        const param *p = &PARAMS[i];
        const json_t *value = api_get(r->root, p->name);
        void *field = (char *)r + p->offset;
        bool ok = true;
        if (!value) continue;
        if (p->kind == P_BOOL) ok = api_read_bool(value, p->name, field, e);
        else if (p->kind == P_INT) ok = api_read_int(value, p->name, p->min, p->max, field, e);
        else if (p->kind == P_REAL) ok = api_read_real(value, p->name, p->min, p->max, field, e);
        else ok = api_read_text(value, p->name, (size_t)p->max, field, e);
        if (!ok) return false;
    }
    return true;
}

static bool read_length(api_request *r, const api_limits *limits, api_error *e) {
    static const char *const names[] = {"max_completion_tokens", "max_tokens", "n_predict"};
    if (r->max_tokens == 0 && r->kind == API_COMPLETIONS && json_is_true(api_get(r->root, "echo")) && api_get(r->root, "max_tokens")) {
        r->prompt_only = true;
        r->max_tokens = 1; // what is set aside
        return true;
    }
    for (size_t i = 0; r->max_tokens == 0 && i < CLI_COUNT(names); i++)
        if (api_get(r->root, names[i])) return api_fail(e, 400, names[i], "%s must be at least 1, or -1 for no limit", names[i]);
    if (r->max_tokens == 0) r->max_tokens = limits->n_predict;
    if (r->max_tokens < 0) r->max_tokens = 0;
    if (r->max_tokens > INT32_MAX) r->max_tokens = INT32_MAX;
    return true;
}

static bool read_seed(api_request *r, api_error *e) {
    const json_t *value = api_get(r->root, "seed");
    r->seed = -1;
    if (value && !api_read_int(value, "seed", -9.3e18, 9.3e18, &r->seed, e)) return false;
    if (r->seed != -1) return true;
    uint64_t drawn = 0;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) drawn = cli_now_ns();
    r->seed = (int64_t)(drawn >> 11); // 53 bits: exact in every JSON reader
    return true;
}

static bool add_stop(api_request *r, const json_t *value, api_error *e) {
    const char *text = "";
    if (!api_read_text(value, "stop", API_STOP_BYTES, &text, e)) return false;
    if (!*text) return true; // ends nothing; some clients send it when their field is empty
    if (r->n_stops == API_STOPS_MAX) return api_fail(e, 400, "stop", "stop has too many strings, at most %d", API_STOPS_MAX);
    r->stops[r->n_stops++] = text;
    return true;
}

static bool read_stop(api_request *r, api_error *e) {
    const json_t *value = api_get(r->root, "stop");
    if (!value) return true;
    if (json_is_string(value)) return add_stop(r, value, e);
    if (!json_is_array(value)) return api_fail(e, 400, "stop", "stop must be a string or a list of strings");
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!add_stop(r, json_array_get(value, i), e)) return false;
    return true;
}

static bool read_logprobs(api_request *r, api_error *e) {
    static const double most = 20;
    const json_t *logprobs = api_get(r->root, "logprobs"), *top = api_get(r->root, "top_logprobs"), *n_probs = api_get(r->root, "n_probs");
    r->n_top_logprobs = -1;
    if (r->kind == API_COMPLETION) { // n_probs: 0: none
        if (n_probs && !api_read_int(n_probs, "n_probs", 0, most, &r->n_top_logprobs, e)) return false;
        if (r->n_top_logprobs == 0) r->n_top_logprobs = -1;
        return true;
    }
    if (json_is_boolean(logprobs)) r->n_top_logprobs = json_is_true(logprobs) ? 0 : -1;
    else if (logprobs && r->kind == API_CHAT) return api_fail(e, 400, "logprobs", "logprobs must be true or false");
    else if (logprobs && !api_read_int(logprobs, "logprobs", 0, most, &r->n_top_logprobs, e)) return false;
    if (!top || r->kind != API_CHAT) return true;
    int64_t n;
    if (!api_read_int(top, "top_logprobs", 0, most, &n, e)) return false;
    if (r->n_top_logprobs < 0 && n > 0) return api_fail(e, 400, "top_logprobs", "top_logprobs needs logprobs to be true");
    if (r->n_top_logprobs >= 0) r->n_top_logprobs = n;
    return true;
}

static bool read_stream_options(api_request *r, api_error *e) {
    const json_t *options = api_get(r->root, "stream_options");
    if (!options) return true;
    if (!json_is_object(options)) return api_fail(e, 400, "stream_options", "stream_options must be an object");
    const json_t *usage = api_get(options, "include_usage"), *running = api_get(options, "continuous_usage_stats");
    if (usage && !api_read_bool(usage, "stream_options.include_usage", &r->include_usage, e)) return false;
    return !running || api_read_bool(running, "stream_options.continuous_usage_stats", &r->continuous_usage, e);
}

static bool refuse_unsupported(const api_request *r, api_error *e) {
    static const char *const names[] = {"grammar", "suffix"};
    for (size_t i = 0; i < CLI_COUNT(names); i++) {
        const json_t *value = api_get(r->root, names[i]);
        if (value && !(json_is_string(value) && json_string_length(value) == 0)) return api_fail(e, 400, names[i], "%s is not supported", names[i]);
    }
    const json_t *best_of = api_get(r->root, "best_of");
    if (best_of && (!json_is_integer(best_of) || json_integer_value(best_of) != r->n))
        return api_fail(e, 400, "best_of", "best_of is not supported but as the same number as n");
    return true;
}

// ---- Labels, chat, prompt -----------------------------------------------------------------------------------------------------
static bool read_conversation(api_request *r, api_error *e) {
    const json_t *value = api_get(r->root, "conversation"), *metadata = api_get(r->root, "metadata");
    const char *name = "conversation";
    if (json_is_object(value)) value = api_get(value, name = "id");
    if (!value && json_is_object(metadata)) value = api_get(metadata, name = "conversation_id");
    return !value || api_read_text(value, name, API_LABEL_BYTES, &r->conversation, e);
}

bool api_read_variables(const json_t *body, json_t **out, api_error *e) {
    json_t *tools = api_get(body, "tools"), *choice = api_get(body, "tool_choice"), *more = api_get(body, "chat_template_kwargs");
    if (tools && !json_is_array(tools)) return api_fail(e, 400, "tools", "tools must be a list");
    if (more && !json_is_object(more)) return api_fail(e, 400, "chat_template_kwargs", "chat_template_kwargs must be an object");
    *out = more ? json_copy(more) : json_object();
    if (!*out) return api_fail(e, 500, NULL, "out of memory");
    const bool none = json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0;
    if (json_array_size(tools) && !none) json_object_set(*out, "tools", tools); // templates ask whether there are any
    if (choice) json_object_set(*out, "tool_choice", choice);
    return true;
}

static bool read_input(api_request *r, const api_limits *limits, api_error *e) {
    if (r->kind == API_CHAT) {
        r->messages = api_get(r->root, "messages");
        if (!json_is_array(r->messages)) return api_fail(e, 400, "messages", "messages must be a list of messages");
        if (json_array_size(r->messages) == 0) return api_fail(e, 400, "messages", "messages must not be empty");
        return api_read_variables(r->root, &r->variables, e) && api_read_tools(r, limits->chat, e);
    }
    r->prompt = api_get(r->root, "prompt");
    if (!r->prompt) return api_fail(e, 400, "prompt", "prompt is missing");
    const json_t *echo = api_get(r->root, "echo");
    if (r->kind == API_COMPLETIONS && echo && !api_read_bool(echo, "echo", &r->echo, e)) return false;
    return true;
}

static bool read_all(api_request *r, const api_limits *limits, api_error *e) {
    if (!read_plain(r, e) || !read_length(r, limits, e) || !read_seed(r, e) || !read_stop(r, e) || !read_logprobs(r, e) || !read_stream_options(r, e) ||
        !api_read_format(r, e) || !refuse_unsupported(r, e) || !read_conversation(r, e) || !read_input(r, limits, e) || !api_read_bias(r, limits, e))
        return false;
    if (!api_get(r->root, "max_joules")) return true;
    if (r->max_joules <= 0) return api_fail(e, 400, "max_joules", "max_joules must be more than 0");
    if (!limits->has_energy) return api_fail(e, 400, "max_joules", "max_joules needs a source of energy, and this server has none (`wattle meters` says why)");
    return true;
}

bool api_request_parse(api_kind kind, const api_limits *limits, const char *body, size_t len, api_request *out, api_error *e) {
    *e = (api_error){0};
    *out = (api_request){.kind = kind, .n = 1, .temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05, .repeat_penalty = 1, .repeat_last_n = 64};
    out->root = api_body_object(body, len, e);
    if (out->root && read_all(out, limits, e)) return true;
    api_request_free(out);
    return false;
}

void api_request_free(api_request *r) {
    json_schema_free(r->rule.schema);
    json_decref(r->tool_names);
    json_decref(r->variables);
    json_decref(r->root);
    free(r->bias);
    *r = (api_request){0};
}

wtl_sampler_options api_request_sampling(const api_request *r) {
    const bool penalties = r->repeat_last_n != 0; // 0 is "off" here and "default" there
    return (wtl_sampler_options){.temperature = (float)r->temperature,
                                 .top_k = r->top_k > 0 ? (int32_t)r->top_k : 0,
                                 .top_p = r->top_p > 1e-6 ? (float)r->top_p : 1e-6f, // 0: the likeliest alone; there it would be "off"
                                 .min_p = (float)r->min_p,
                                 .repeat_penalty = penalties ? (float)r->repeat_penalty : 1,
                                 .presence_penalty = penalties ? (float)r->presence_penalty : 0,
                                 .frequency_penalty = penalties ? (float)r->frequency_penalty : 0,
                                 .penalty_last_n = (int32_t)r->repeat_last_n,
                                 .seed = (uint64_t)r->seed,
                                 .bias = r->bias,
                                 .n_bias = (int32_t)r->n_bias};
}
