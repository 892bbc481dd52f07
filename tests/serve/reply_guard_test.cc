// Rules of replies: reasoning, free text, markers and documents behind each other, however the bytes are cut.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <jansson.h>

#include <string>
extern "C" {
#include "tools/serve/reply_guard.h"
}

namespace {

using std::string;

struct Rule {
    reply_rule rule{};
    Rule(const char *reasoning, const char *start, const char *before, const char *after, bool again,
         const char *schema = R"({"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"]})") {
        json_schema_error e;
        json_t *value = json_loads(schema, 0, nullptr);
        rule.schema = json_schema_compile(value, &e);
        rule.reasoning = reasoning, rule.start = start, rule.before = before, rule.after = after, rule.again = again;
        json_decref(value);
    }
    ~Rule() { json_schema_free(rule.schema); }
    // "no", or "on" / "end" (may end) / "done", in pieces of so many bytes.
    string judge(const string &text, size_t piece) const {
        reply_guard g;
        reply_guard_begin(&g, &rule);
        string verdict;
        for (size_t i = 0; i < text.size() && verdict.empty(); i += piece) {
            const string part = text.substr(i, piece);
            if (reply_guard_complete(&g) || !reply_guard_allows(&g, part.data(), part.size())) verdict = "no";
            else reply_guard_push(&g, part.data(), part.size());
        }
        if (verdict.empty()) verdict = reply_guard_complete(&g) ? "done" : reply_guard_may_end(&g) ? "end" : "on";
        reply_guard_free(&g);
        return verdict;
    }
};

void check(const Rule &rule, const string &text, const string &verdict) {
    for (size_t piece : {1, 2, 3, 5, 7}) EXPECT_EQ(rule.judge(text, piece), verdict) << text << " in pieces of " << piece;
}

TEST(ReplyGuard, ADocumentAlone) {
    Rule rule(nullptr, nullptr, "", "", false);
    check(rule, R"({"a":true})", "done");
    check(rule, R"({"a":tr)", "on");
    check(rule, R"({"b)", "no");
    check(rule, R"({"a":true} )", "no");
    check(Rule(nullptr, nullptr, "", "", false, R"({"type":"integer"})"), "12", "end");
}

TEST(ReplyGuard, BehindReasoning) {
    Rule rule("</think>", nullptr, "", "", false);
    check(rule, "so {\"b\" <</thin</think>\n\n{\"a\":true}", "done");
    check(rule, "so </think>", "on");
    check(rule, "so", "on");
    check(rule, "</think>x", "no");
}

TEST(ReplyGuard, OneOrSeveralCalls) {
    Rule several(nullptr, nullptr, "<c>", "</c>", true), one(nullptr, nullptr, "<c>", "</c>", false);
    const string call = "<c>\n{\"a\":true}\n</c>";
    check(several, call, "end");
    check(several, call + "\n" + call, "end");
    check(several, call + "\n<c>", "on");
    check(several, call + "\n\n\n\n\n<c>", "no");
    check(several, call + "x", "no");
    check(several, "{", "no");
    check(several, "<c>{\"a\":true}</x", "no");
    check(one, call, "done");
    check(one, call + "\n", "no");
}

TEST(ReplyGuard, FreeTextThatMayTurnIntoCalls) {
    Rule rule("</t>", "<c>", "", "</c>", true);
    check(rule, "hm", "end");
    check(rule, "hm</t>", "end");
    check(rule, "hm<c>x</t>Hello <c <<c>{\"b", "no");
    check(rule, "hm</t>Hello <c>{\"a\":true}</c>", "end");
    check(rule, "hm</t>Hello <c>{\"a\":true}</c> and <c>{\"a\":false}</c> bye", "end");
    check(rule, "hm</t><c>{\"a\":true}</c> and <c>{\"a\":1", "no");
    check(rule, "hm</t><c>", "on");
}

} // namespace
