// Tool calls in replies, however the text is cut: what is text, what is a call, and what only looks like one.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
extern "C" {
#include "tools/serve/reply_calls.h"
}

namespace {

using std::string;

// "text|name(arguments)|name(arguments)"
string split(reply_syntax syntax, const string &text, size_t piece, string *while_open = nullptr) {
    json_t *names = json_pack("[s, s]", "f", "g");
    reply_calls c{};
    c.syntax = syntax;
    c.names = names;
    for (size_t i = 0; i < text.size(); i += piece) reply_calls_push(&c, text.data() + i, std::min(piece, text.size() - i));
    if (while_open) *while_open = string(c.content.bytes ? c.content.bytes : "", c.content.len);
    reply_calls_finish(&c);
    EXPECT_FALSE(c.failed);
    string out(c.content.bytes ? c.content.bytes : "", c.content.len);
    for (size_t i = 0; i < c.n_calls; i++) {
        out += string("|") + c.calls[i].name + "(" + c.calls[i].arguments + ")";
        EXPECT_GE(strlen(c.calls[i].id), 9u);
        for (size_t k = 0; k < i; k++) EXPECT_STRNE(c.calls[i].id, c.calls[k].id);
    }
    reply_calls_free(&c);
    json_decref(names);
    return out;
}

void check(reply_syntax syntax, const string &text, const string &wanted) {
    for (size_t piece : {1, 2, 3, 7, 1000}) EXPECT_EQ(split(syntax, text, piece), wanted) << text << " in pieces of " << piece;
}

TEST(ReplyCalls, Tags) {
    check(CALLS_TAGS, "", "");
    check(CALLS_TAGS, "Just text < and <tool_ and so on ", "Just text < and <tool_ and so on ");
    check(CALLS_TAGS, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, \"é\"]}}\n</tool_call>", "|f({\"a\":[1,2.5,\"é\"]})");
    check(CALLS_TAGS, "Let me look.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"other\",\"arguments\":\"{\\\"b\\\":1}\"}</tool_call>\n", "Let me look.|f({})|other({\"b\":1})");
    check(CALLS_TAGS, "<tool_call>{\"name\":\"f\"}</tool_call> and then", " and then|f({})");
    check(CALLS_TAGS, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "|f({})") ;
    check(CALLS_TAGS, "<tool_call>{\"name\":\"f\",\"argum", "<tool_call>{\"name\":\"f\",\"argum");
    check(CALLS_TAGS, "<tool_call>call f</tool_call>.", "<tool_call>call f</tool_call>.");
    check(CALLS_TAGS, "<tool_call>{\"nom\":\"f\"}</tool_call>", "<tool_call>{\"nom\":\"f\"}</tool_call>");
    check(CALLS_TAGS, "<tool_call></tool_call>", "<tool_call></tool_call>");
    check(CALLS_TAGS, "<tool_call>[]</tool_call>", "<tool_call>[]</tool_call>");
    check(CALLS_TAGS, "<tool_call>{\"name\":5}</tool_call>", "<tool_call>{\"name\":5}</tool_call>");
}

TEST(ReplyCalls, List) {
    check(CALLS_LIST, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"arguments\": {}}]", "|f({\"a\":1})|g({})");
    check(CALLS_LIST, "[TOOL_CALLS]{\"name\": \"f\", \"arguments\": {}}", "|f({})");
    check(CALLS_LIST, "I see [TOOL] and [TOOL_CALLS] nothing", "I see [TOOL] and[TOOL_CALLS] nothing");
}

TEST(ReplyCalls, Bare) {
    check(CALLS_BARE, " {\"name\": \"f\", \"parameters\": {\"a\": 1}} ", "|f({\"a\":1})");
    check(CALLS_BARE, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\"}", "|f({})|g({})");
    check(CALLS_BARE, "{\"name\": \"Ada\", \"age\": 36}", "{\"name\": \"Ada\", \"age\": 36}");
    check(CALLS_BARE, "{\"name\": \"f\"} is a call", "{\"name\": \"f\"} is a call");
    check(CALLS_BARE, "Hello {\"name\": \"f\"}", "Hello {\"name\": \"f\"}");
    check(CALLS_BARE, "  <|py", "  <|py");
    check(CALLS_BARE, "{", "{");
}

TEST(ReplyCalls, TextIsNotHeldBack) {
    string open;
    split(CALLS_TAGS, "One two <b", 1, &open);
    EXPECT_EQ(open, "One two <b");
    split(CALLS_TAGS, "One two <tool", 1, &open);
    EXPECT_EQ(open, "One two");
    split(CALLS_BARE, "Hello", 1, &open);
    EXPECT_EQ(open, "Hello");
    split(CALLS_BARE, "{\"name\":\"Ada\"}", 1, &open);
    EXPECT_EQ(open, "");
}

} // namespace
