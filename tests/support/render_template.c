// Renders templates for the differential test: one JSON object a line in, one out.
//   in:  {"template": "...", "values": {...}, "now": "YYYY-MM-DDTHH:MM:SS" or null}   texts of values are untrusted
//   out: {"text": "...", "tainted": [[begin, end], ...]} or {"error": "...", "status": "WTL_ERR_..."}
// SPDX-License-Identifier: Apache-2.0
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat_template/chat_template.h"

static void put(jinja_values *v, json_t *json) {
    const char *key;
    size_t key_len, i;
    json_t *item;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        jinja_begin_map(v);
        json_object_keylen_foreach(json, key, key_len, item) {
            jinja_key(v, key, key_len);
            put(v, item);
        }
        jinja_end(v);
        break;
    case JSON_ARRAY:
        jinja_begin_list(v);
        json_array_foreach(json, i, item) put(v, item);
        jinja_end(v);
        break;
    case JSON_STRING: jinja_text(v, json_string_value(json), json_string_length(json), false); break;
    case JSON_INTEGER: jinja_int(v, json_integer_value(json)); break;
    case JSON_REAL: jinja_real(v, json_real_value(json)); break;
    case JSON_NULL: jinja_null(v); break;
    default: jinja_bool(v, json_is_true(json));
    }
}

static json_t *error_object(wtl_status status, const wtl_error *err) {
    json_t *text = json_string(err->message);
    if (!text) text = json_string("the message is not UTF-8");
    return json_pack("{s:o, s:s}", "error", text, "status", wtl_status_name(status));
}

static json_t *output_object(const jinja_output *out) {
    json_t *spans = json_array(), *text = json_stringn(out->text, out->len);
    for (size_t i = 0; i < out->n_tainted; i++)
        json_array_append_new(spans, json_pack("[I, I]", (json_int_t)out->tainted[i].begin, (json_int_t)out->tainted[i].end));
    if (!text) return json_pack("{s:s, s:s}", "error", "the output is not UTF-8", "status", "output");
    return json_pack("{s:o, s:o}", "text", text, "tainted", spans);
}

static json_t *render(json_t *job) {
    json_t *source = json_object_get(job, "template"), *values_json = json_object_get(job, "values");
    const char *now_text = json_string_value(json_object_get(job, "now"));
    struct tm now = {.tm_isdst = -1};
    wtl_error err = {.status = WTL_OK};
    if (now_text && sscanf(now_text, "%d-%d-%dT%d:%d:%d", &now.tm_year, &now.tm_mon, &now.tm_mday, &now.tm_hour, &now.tm_min, &now.tm_sec) == 6) {
        now.tm_year -= 1900;
        now.tm_mon -= 1;
        mktime(&now); // the weekday
    } else now_text = NULL;
    jinja_template *tmpl = NULL;
    jinja_values *values = NULL;
    jinja_output out = {0};
    json_t *result = NULL;
    wtl_status status = jinja_compile("template", json_string_value(source) ? json_string_value(source) : "", json_string_length(source), &tmpl, &err);
    if (!status) status = jinja_values_open(&values, &err);
    if (!status) {
        put(values, values_json);
        status = jinja_render(tmpl, values, NULL, now_text ? &now : NULL, NULL, &out, &err);
    }
    result = status ? error_object(status, &err) : output_object(&out);
    jinja_output_free(&out);
    jinja_values_close(&values);
    jinja_template_free(&tmpl);
    return result;
}

int main(void) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, stdin)) >= 0) {
        json_error_t err;
        json_t *job = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, &err);
        json_t *result = job ? render(job) : json_pack("{s:s, s:s}", "error", err.text, "status", "input");
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(result);
        json_decref(job);
    }
    free(line);
    return 0;
}
