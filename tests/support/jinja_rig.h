// Rendering templates in tests: values from JSON, output with its marks.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_SUPPORT_JINJA_RIG_H
#define WTL_TESTS_SUPPORT_JINJA_RIG_H

#include <jansson.h>

#include <ctime>
#include <string>

#include "models/chat_template/chat_template.h"

namespace jinja_rig {

struct Rendered {
    wtl_status status = WTL_OK;
    std::string text, marks, error; // marks: 't' where a byte of text is tainted, '.' elsewhere
};

inline void Put(jinja_values *v, json_t *json, bool trusted) {
    const char *key;
    size_t len, i;
    json_t *item;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        jinja_begin_map(v);
        json_object_keylen_foreach(json, key, len, item) {
            jinja_key(v, key, len);
            Put(v, item, trusted);
        }
        jinja_end(v);
        break;
    case JSON_ARRAY:
        jinja_begin_list(v);
        json_array_foreach(json, i, item) Put(v, item, trusted);
        jinja_end(v);
        break;
    case JSON_STRING: jinja_text(v, json_string_value(json), json_string_length(json), trusted); break;
    case JSON_INTEGER: jinja_int(v, json_integer_value(json)); break;
    case JSON_REAL: jinja_real(v, json_real_value(json)); break;
    case JSON_NULL: jinja_null(v); break;
    default: jinja_bool(v, json_is_true(json));
    }
}

inline std::tm Now() { // Thursday, 2024-07-04 15:06:07
    std::tm now = {};
    now.tm_year = 124, now.tm_mon = 6, now.tm_mday = 4, now.tm_hour = 15, now.tm_min = 6, now.tm_sec = 7, now.tm_wday = 4, now.tm_yday = 185;
    return now;
}

inline Rendered Take(wtl_status status, jinja_output *out, const wtl_error &err) {
    Rendered r;
    r.status = status;
    if (status) r.error = err.message;
    else r.text.assign(out->text, out->len);
    r.marks.assign(r.text.size(), '.');
    for (size_t i = 0; i < out->n_tainted; i++) r.marks.replace(out->tainted[i].begin, out->tainted[i].end - out->tainted[i].begin, out->tainted[i].end - out->tainted[i].begin, 't');
    jinja_output_free(out);
    return r;
}

inline Rendered Render(const std::string &source, json_t *json, const jinja_limits *limits = nullptr, bool trusted = false) {
    jinja_template *tmpl = nullptr;
    jinja_values *values = nullptr;
    jinja_output out = {};
    wtl_error err = {};
    std::tm now = Now();
    wtl_status status = jinja_compile("test", source.data(), source.size(), &tmpl, &err);
    if (!status) status = jinja_values_open(&values, &err);
    if (!status) {
        Put(values, json, trusted);
        status = jinja_render(tmpl, values, nullptr, &now, limits, &out, &err);
    }
    Rendered r = Take(status, &out, err);
    jinja_values_close(&values);
    jinja_template_free(&tmpl);
    return r;
}

inline Rendered Render(const std::string &source, const std::string &json_text = "{}", const jinja_limits *limits = nullptr, bool trusted = false) {
    json_t *json = json_loadb(json_text.data(), json_text.size(), 0, nullptr);
    Rendered r = Render(source, json, limits, trusted);
    json_decref(json);
    return r;
}

} // namespace jinja_rig

#endif
