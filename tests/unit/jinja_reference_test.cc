// Templates against what the real Jinja made of them (fixtures/jinja_cases.json), and the words of errors.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/support/jinja_rig.h"

using jinja_rig::Render;
using jinja_rig::Rendered;

namespace {

TEST(JinjaReference, SameBytesAsJinja) {
    json_error_t json_err;
    json_t *data = json_load_file(WTL_FIXTURES "/jinja_cases.json", JSON_ALLOW_NUL, &json_err);
    ASSERT_NE(data, nullptr) << json_err.text;
    size_t i;
    json_t *item, *cases = json_object_get(data, "cases"), *values = json_object_get(data, "values");
    ASSERT_GT(json_array_size(cases), 550u);
    json_array_foreach(cases, i, item) {
        json_t *source = json_array_get(item, 0), *want = json_array_get(item, 1);
        std::string tmpl(json_string_value(source), json_string_length(source));
        Rendered r = Render(tmpl, values);
        if (json_is_null(want)) EXPECT_NE(r.status, WTL_OK) << tmpl << "\ngave " << r.text;
        else {
            EXPECT_EQ(r.status, WTL_OK) << tmpl << "\n" << r.error;
            EXPECT_EQ(r.text, std::string(json_string_value(want), json_string_length(want))) << tmpl;
        }
    }
    json_decref(data);
}

TEST(JinjaErrors, NameLineAndColumn) {
    struct {
        const char *source, *error;
    } cases[] = {{"a\n{% if %}", "test, line 2, column 7: Expected an expression, got 'end of statement block'"},
                 {"{{ x.y.z }}", "test, line 1, column 5: 'x' is undefined"},
                 {"ü {{ 1 +\n  'a' }}", "test, line 1, column 8: unsupported operand type(s) for +: 'int' and 'str'"},
                 {"{{ {}.a.b }}", "test, line 1, column 8: 'dict object' has no attribute 'a'"},
                 {"{{ 1 | nope }}", "test, line 1, column 8: No filter named 'nope'."},
                 {"\r\n\r\n{{ [].append(1) }}", "test, line 3, column 13: access to attribute 'append' of 'list' object is unsafe."},
                 {"{% for x in y %}", "test, line 1, column 17: Unexpected end of template. Jinja was looking for the following tags: 'endfor' or 'else'."}};
    for (const auto &c : cases) {
        Rendered r = Render(c.source);
        EXPECT_EQ(r.status, WTL_ERR_FORMAT) << c.source;
        EXPECT_EQ(r.error, c.error);
    }
    Rendered r = Render("{{ raise_exception('only ' ~ 'this') }}");
    EXPECT_EQ(r.status, WTL_ERR_INVALID);
    EXPECT_EQ(r.error, "only this");
}

TEST(JinjaErrors, IntegersBeyond64BitsAreRefused) {
    for (const char *source : {"{{ 9223372036854775807 + 1 }}", "{{ 2 ** 64 }}", "{{ 99999999999999999999 }}", "{{ '99999999999999999999'|int }}", "{{ 1e30|int }}",
                               "{{ (-9223372036854775807 - 1) // -1 }}", "{{ 4611686018427387904 * 2 }}", "{{ -(-9223372036854775807 - 1) }}"})
        EXPECT_EQ(Render(source).status, WTL_ERR_FORMAT) << source;
}

TEST(JinjaApi, GlobalsMentionsAndMutation) {
    jinja_template *t = nullptr;
    jinja_values *values = nullptr, *globals = nullptr;
    jinja_output out = {};
    wtl_error err = {};
    std::string source = "{{ bos }}{{ x }}{% if tools is defined %}{{ tools }}{% endif %}";
    ASSERT_EQ(jinja_compile("t", source.data(), source.size(), &t, &err), WTL_OK);
    EXPECT_TRUE(jinja_mentions(t, "tools"));
    EXPECT_FALSE(jinja_mentions(t, "documents"));
    EXPECT_FALSE(jinja_mentions(t, "too"));
    ASSERT_EQ(jinja_values_open(&values, &err), WTL_OK);
    ASSERT_EQ(jinja_values_open(&globals, &err), WTL_OK);
    jinja_begin_map(values), jinja_key(values, "x", 1), jinja_text(values, "<s>", 3, false), jinja_end(values);
    jinja_begin_map(globals), jinja_key(globals, "bos", 3), jinja_text(globals, "<s>", 3, true), jinja_key(globals, "x", 1), jinja_text(globals, "no", 2, true), jinja_end(globals);
    jinja_rig::Rendered r = jinja_rig::Take(jinja_render(t, values, globals, nullptr, nullptr, &out, &err), &out, err);
    EXPECT_EQ(r.text, "<s><s>") << r.error;
    EXPECT_EQ(r.marks, "...ttt");
    jinja_values_close(&values);
    jinja_values_close(&globals);
    jinja_template_free(&t);
    jinja_limits limits = {};
    limits.may_mutate = true;
    EXPECT_EQ(Render("{% set l = [2] %}{% set _ = l.append(1) %}{{ l }}{% set _ = l.sort() %}{{ l }}{% set d = {} %}{% set _ = d.update({'a': 1}, b=2) %}{{ d.pop('a') }}{{ d }}", "{}", &limits).text,
              "[2, 1][1, 2]1{'b': 2}");
}

TEST(JinjaApi, ValuesRefuseWhatIsNoMap) {
    wtl_error err = {};
    auto check = [&](auto write) {
        jinja_values *v = nullptr;
        EXPECT_EQ(jinja_values_open(&v, &err), WTL_OK);
        write(v);
        wtl_status status = jinja_values_check(v, &err);
        jinja_values_close(&v);
        return status;
    };
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_end(v); }), WTL_OK);
    EXPECT_EQ(check([](jinja_values *) {}), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_list(v); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_int(v, 1); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_key(v, "a", 1), jinja_end(v); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_key(v, "a", 1), jinja_key(v, "a", 1); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_end(v), jinja_end(v); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) { jinja_begin_map(v), jinja_end(v), jinja_begin_map(v); }), WTL_ERR_INVALID);
    EXPECT_EQ(check([](jinja_values *v) {
                  jinja_begin_map(v), jinja_key(v, "a", 1);
                  for (int i = 0; i < 200; i++) jinja_begin_list(v);
              }),
              WTL_ERR_LIMIT);
}

} // namespace
