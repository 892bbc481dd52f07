// Hostile templates and values: every loop, depth and size ends in an error, and no failing allocation does harm.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "runtime/base/alloc.h"
#include "tests/support/jinja_rig.h"

using jinja_rig::Render;
using jinja_rig::Rendered;

namespace {

std::string Times(const std::string &s, size_t n) {
    std::string out;
    for (size_t i = 0; i < n; i++) out += s;
    return out;
}

TEST(JinjaHostile, DeepNestingOfSourcesIsRefused) {
    for (const char *unit : {"(", "[", "{", "{a:", "not ", "- ", "a(", "a[", "1 if 1 else ", "a|b(", "1 is eq(", "[1,", "(1,"}) {
        Rendered r = Render("{{ " + Times(unit, 1000000 / std::string(unit).size()));
        EXPECT_TRUE(r.status == WTL_ERR_LIMIT || r.status == WTL_ERR_FORMAT) << unit << r.error;
    }
    for (const char *unit : {"{% if 1 %}", "{% for a in b %}", "{% set a %}", "{% macro a() %}", "{% call a() %}", "{% filter upper %}", "{% with %}", "{% block a %}", "{% generation %}"})
        EXPECT_EQ(Render(Times(unit, 20000)).status, WTL_ERR_LIMIT) << unit;
    EXPECT_EQ(Render("{% for " + Times("(", 100000)).status, WTL_ERR_LIMIT);
}

// Left-deep chains are parsed in a loop and meet the evaluator's own bound.
TEST(JinjaHostile, LongChains) {
    for (const char *unit : {" + 1", " * 1", " and 1", " or 0", " == 1", " ~ 1", "|abs", ".a", "[0]", "()", " is defined"}) {
        Rendered r = Render("{{ 1" + Times(unit, 100000) + " }}");
        EXPECT_TRUE(r.status == WTL_OK || r.status == WTL_ERR_LIMIT || r.status == WTL_ERR_FORMAT) << unit;
    }
    EXPECT_EQ(Render("{{ 1" + Times(" + 1", 100) + " }}").text, "101");
    EXPECT_EQ(Render("{% if 0 %}" + Times("{% elif 0 %}", 10000) + "{% else %}x{% endif %}").text, "x");
    EXPECT_EQ(Render(Times("{{ 1 }}", 100000)).text, std::string(100000, '1'));
}

TEST(JinjaHostile, RenderingIsBounded) {
    const char *sources[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ 'a' * 9000000000000000000 }}", "{{ [1] * 9000000000000000000 }}", "{{ ('a' * 1000000) * 1000000 }}", "{{ '' * 9000000000000000000 ~ [[]] * 900000000000 }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1,2]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s == [ns.s] }}",
        "{% set ns = namespace(s=[], t=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% set ns.t = [ns.t] %}{% endfor %}{{ ns.s < ns.t }}",
        "{% set ns = namespace(s=()) %}{% for i in range(100000) %}{% set ns.s = (ns.s,) %}{% endfor %}{{ {ns.s: 1} }}",
        "{% set ns = namespace(s=()) %}{% for i in range(60) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}",
        "{% set ns = namespace(s=()) %}{% for i in range(60) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {}[ns.s] }}{{ ns.s is in {} }}",
        "{% set ns = namespace(s=[], t=[]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
        "{% set ns = namespace(s=[]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{{ 'a'.center(900000000000) }}", "{{ 'a'.ljust(900000000000) }}", "{{ 'a'.zfill(900000000000) }}", "{{ 'a\tb'.expandtabs(900000000000) }}", "{{ '%999999999999d' % 1 }}", "{{ '{:999999999999}'.format(1) }}",
        "{{ 'a'|indent(900000000000, true) }}", "{{ [[[1]]]|tojson(indent=900000000000) }}", "{{ [1]|batch(900000000000, 1)|list }}", "{{ [1]|slice(900000000000)|list }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in s %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{{ s.replace('', s) }}", "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}", "{% set s = ' ' * 10000000 %}{% for i in range(100000) %}{{ s.strip() }}{% endfor %}",
        "{% set s = 'Σ' * 100000 %}{{ (s ~ 'a').lower()|length * 0 }}{% for i in range(1000) %}{% set _ = s.lower() %}{% endfor %}",
        "{% set l = [1, 2] %}{% set _ = l.append(l) %}{{ l }}", "{% set l = [1] %}{% for x in l %}{% set _ = l.append(1) %}{% endfor %}", "{% set d = {} %}{% set _ = d.update({'a': d}) %}{{ d|tojson }}",
        "{% macro a(n) %}{{ b(n) }}{% endmacro %}{% macro b(n) %}{{ a(n) }}{% endmacro %}{{ a(1) }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}"};
    jinja_limits limits = {};
    limits.fuel = 3000000, limits.memory_bytes = 64 << 20, limits.output_bytes = 16 << 20, limits.may_mutate = true;
    for (const char *source : sources) {
        Rendered r = Render(source, "{}", &limits);
        EXPECT_TRUE(r.status == WTL_ERR_LIMIT || r.status == WTL_ERR_FORMAT) << source << ": " << r.status << " " << r.text.size();
    }
}

TEST(JinjaHostile, EachBoundHolds) {
    jinja_limits limits = {};
    limits.fuel = 1000;
    EXPECT_EQ(Render("{% for i in range(1000) %}{% endfor %}", "{}", &limits).status, WTL_ERR_LIMIT);
    limits = {};
    limits.output_bytes = 100;
    EXPECT_EQ(Render("{{ 'a' * 101 }}", "{}", &limits).status, WTL_ERR_LIMIT);
    EXPECT_EQ(Render("{{ 'a' * 100 }}", "{}", &limits).text.size(), 100u);
    EXPECT_EQ(Render("{% for i in range(101) %}a{% endfor %}", "{}", &limits).status, WTL_ERR_LIMIT);
    limits = {};
    limits.memory_bytes = 100000;
    EXPECT_EQ(Render("{{ range(50000)|list|length }}", "{}", &limits).status, WTL_ERR_LIMIT);
    limits = {};
    limits.depth = 20;
    EXPECT_EQ(Render("{{ [[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]] }}", "{}", &limits).status, WTL_ERR_LIMIT);
}

// A thousand messages of 10 KB, also where the template gathers everything in one text, are no attack.
TEST(JinjaHostile, OrdinaryLargeChatsRender) {
    std::string content(10000, 'x'), json = "{\"messages\": [";
    for (int i = 0; i < 1000; i++) json += std::string(i ? "," : "") + "{\"role\": \"" + (i % 2 ? "assistant" : "user") + "\", \"content\": \" " + content + " \"}";
    json += "]}";
    Rendered direct = Render("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>\\n' }}{% endfor %}", json);
    ASSERT_EQ(direct.status, WTL_OK) << direct.error;
    EXPECT_GT(direct.text.size(), 10000000u);
    Rendered gathered = Render("{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>\\n' %}{% endfor %}{{ ns.s }}", json);
    ASSERT_EQ(gathered.status, WTL_OK) << gathered.error;
    EXPECT_TRUE(gathered.text == direct.text);
    EXPECT_TRUE(gathered.marks == direct.marks);
}

TEST(JinjaHostile, BytesThatAreNotUtf8PassThrough) {
    std::string source = "\xFF{{ '\xC3' ~ 'a\x80" "b'|length }}{{ '\xE2\x82'|upper }}{{ ['\xF0\x9F'] }}";
    EXPECT_EQ(Render(source).text, "\xFF\xC3" "3\xE2\x82['\xF0\x9F']");
}

struct FailNth {
    long left;
    static bool Hook(void *user, size_t) { return static_cast<FailNth *>(user)->left-- != 0; }
};

TEST(JinjaHostile, EveryAllocationMayFail) {
    const char *source = "{% macro m(a) %}<{{ a }}>{% endmacro %}{% for x in l|sort %}{{ m(x)|upper ~ d|tojson }}{{ '%s' % x }}{% endfor %}{{ ('a' * 20000) ~ d }}{% set y %}{{ d.items()|list }}{% endset %}{{ y }}";
    json_t *json = json_loads(R"({"l": ["b", "a"], "d": {"a": 1, "b": [1, 2, {"c": null}]}})", 0, nullptr);
    std::string want = Render(source, json).text;
    ASSERT_GT(want.size(), 20000u);
    int refused = 0;
    bool done = false;
    for (long n = 0; !done && n < 1000; n++) {
        FailNth fail{n};
        wtl_alloc_set_hook(FailNth::Hook, &fail);
        Rendered r = Render(source, json);
        wtl_alloc_set_hook(nullptr, nullptr);
        if (r.status == WTL_OK) EXPECT_EQ(r.text, want);
        else EXPECT_EQ(r.status, WTL_ERR_NO_MEMORY) << r.error;
        refused += r.status != WTL_OK;
        done = fail.left >= 0;
    }
    EXPECT_TRUE(done);
    EXPECT_GT(refused, 10);
    json_decref(json);
}

} // namespace
