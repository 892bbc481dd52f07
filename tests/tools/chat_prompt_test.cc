// Conversations as JSON to prompts: what is adapted, what is refused, which template an option means.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>

#include "tests/support/tiny_vocab.h"

extern "C" {
#include "tools/chat_prompt.h"
}

namespace {

const char kShow[] = "{% for m in messages %}[{{ m.role }}:{{ m.content if m.content is not none else 'NULL' }}]{% endfor %}{{ '+' if add_generation_prompt }}{{ extra }}";

class ChatPrompt : public testing::Test {
  protected:
    void SetUp() override {
        TempFile file(TinyBpe().writer("gpt2", "gpt-2").build());
        wtl_error err;
        ASSERT_EQ(wtl_vocab_open(file.path(), &vocab_, &err), WTL_OK) << err.message;
    }
    void TearDown() override { wtl_vocab_close(&vocab_); }

    // The rendered text, or the error's words behind "error: ".
    std::string render(const std::string &source, const std::string &messages, const std::string &variables = "", bool generation = true) {
        wtl_chat_options o = {};
        o.vocab = vocab_;
        o.source = source.data();
        o.source_len = source.size();
        wtl_chat *chat = nullptr;
        wtl_error err = {};
        EXPECT_EQ(wtl_chat_open(&o, &chat, &err), WTL_OK) << err.message;
        json_t *list = json_loads(messages.c_str(), JSON_DECODE_ANY, nullptr), *extra = variables.empty() ? nullptr : json_loads(variables.c_str(), 0, nullptr);
        wtl_chat_prompt prompt = {};
        status_ = chat_prompt_from_json(chat, list, extra, generation, &prompt, &err);
        std::string out = status_ ? std::string("error: ") + err.message : std::string(prompt.text, prompt.text_len);
        wtl_chat_prompt_free(&prompt);
        json_decref(list);
        json_decref(extra);
        wtl_chat_close(&chat);
        return out;
    }
    wtl_vocab *vocab_ = nullptr;
    wtl_status status_ = WTL_OK;
};

TEST_F(ChatPrompt, ContentIsFlattened) {
    EXPECT_EQ(render(kShow, R"([{"role":"user","content":"Hi"}])"), "[user:Hi]+");
    EXPECT_EQ(render(kShow, R"([{"role":"user","content":"Hi"}])", "", false), "[user:Hi]");
    EXPECT_EQ(render(kShow, R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])"), "[user:a\nb]+");
    EXPECT_EQ(render(kShow, R"([{"role":"user","content":[]}])"), "[user:]+");
    EXPECT_EQ(render(kShow, R"([{"role":"assistant","content":null},{"role":"user","content":null}])"), "[assistant:NULL][user:]+");
    EXPECT_EQ(render(kShow, R"([{"role":"assistant","tool_calls":[]}])"), "[assistant:]+");
}

TEST_F(ChatPrompt, KeysKeepTheirOrderAndVariablesArrive) {
    EXPECT_EQ(render("{{ messages[0] | tojson }}", R"([{"z":1,"role":"user","a":[2.5,true,null,{"y":1,"b":2}],"content":"c"}])"),
              R"({"z": 1, "role": "user", "a": [2.5, true, null, {"y": 1, "b": 2}], "content": "c"})");
    EXPECT_EQ(render(kShow, R"([{"role":"user","content":"Hi"}])", R"({"extra":"!","messages":[],"add_generation_prompt":false})"), "[user:Hi]+!");
    EXPECT_EQ(render("{{ tools[0].function.name }}", R"([{"role":"user","content":"Hi"}])", R"({"tools":[{"function":{"name":"f"}}]})"), "f");
}

TEST_F(ChatPrompt, ArgumentsOfCallsAreObjectsWhereTemplatesWantThem) {
    const std::string call = R"([{"role":"user","content":"Hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": 2}"}}]}])";
    const std::string a = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.";
    EXPECT_EQ(render(a + "arguments | tojson }}{% endfor %}{% endfor %}", call), R"({"b": 1, "a": 2})");
    EXPECT_EQ(render(a + "name + c.function.arguments }}{% endfor %}{% endfor %}", call), R"(f{"b": 1, "a": 2})"); // wants the text
    const std::string no_object = R"([{"role":"assistant","content":"x","tool_calls":[{"function":{"name":"f","arguments":"not JSON"}}]}])";
    EXPECT_EQ(render(a + "arguments }}{% endfor %}{% endfor %}", no_object), "not JSON");
    // It fails either way: the words are those of the first attempt.
    EXPECT_NE(render(a + "arguments + 1 }}{% endfor %}{% endfor %}", call).find("error: template, line 1"), std::string::npos);
}

TEST_F(ChatPrompt, SystemMessagesMoveWhereTheTemplateTakesNone) {
    const std::string none = std::string("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}") + kShow;
    EXPECT_EQ(render(none, R"([{"role":"system","content":"S"},{"role":"user","content":"Hi"}])"), "[user:S\nHi]+");
    EXPECT_EQ(render(none, R"([{"role":"system","content":[{"type":"text","text":"S"}]},{"role":"system","content":"T"},{"role":"user","content":[]}])"), "[user:S\nT\n]+");
    EXPECT_EQ(render(none, R"([{"role":"system","content":"S"},{"role":"assistant","content":"A"}])"), "[user:S][assistant:A]+");
    EXPECT_EQ(render(none, R"([{"role":"user","content":"Hi"},{"role":"system","content":"S"}])"), "[user:Hi][user:S]+");
    EXPECT_EQ(render(kShow, R"([{"role":"system","content":"S"},{"role":"user","content":"Hi"}])"), "[system:S][user:Hi]+");
    EXPECT_EQ(render(kShow, R"([{"role":"developer","content":"S"},{"role":"user","content":"Hi"}])"), "[system:S][user:Hi]+");
    EXPECT_EQ(render(std::string(kShow) + "{# developer #}", R"([{"role":"developer","content":"S"}])"), "[developer:S]+");
}

TEST_F(ChatPrompt, WhatIsWrongIsNamed) {
    const std::pair<const char *, const char *> cases[] = {
        {"{}", "messages is no list"},
        {"[]", "messages is empty"},
        {R"([{"role":"user","content":"a"}, 7])", "messages[1] is no object"},
        {R"([{"content":"a"}])", "messages[0] has no role"},
        {R"([{"role":7,"content":"a"}])", "messages[0].role is no text"},
        {R"([{"role":"user"}])", "messages[0] has no content"},
        {R"([{"role":"user","content":7}])", "messages[0].content is neither a text nor a list of text parts"},
        {R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])", "messages[0].content[0] is of type \"image_url\": only text is supported"},
        {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0] is no {"},
        {R"([{"role":"user","content":["a"]}])", "messages[0].content[0] is no {"},
        {R"([{"role":"assistant","content":"a","tool_calls":7}])", "messages[0].tool_calls is no list"},
        {R"([{"role":"assistant","content":"a","tool_calls":[7]}])", "messages[0].tool_calls holds something else"},
    };
    for (auto [messages, words] : cases) {
        EXPECT_NE(render(kShow, messages).find(words), std::string::npos) << render(kShow, messages);
        EXPECT_EQ(status_, WTL_ERR_INVALID) << messages;
    }
    std::string deep = std::string(200, '[') + std::string(200, ']');
    EXPECT_NE(render(kShow, R"([{"role":"user","content":"a","x":)" + deep + "}]").find("nested deeper"), std::string::npos);
    EXPECT_EQ(status_, WTL_ERR_LIMIT);
    EXPECT_NE(render("{{ raise_exception('own words') }}", R"([{"role":"user","content":"a"}])").find("own words"), std::string::npos);
    EXPECT_EQ(status_, WTL_ERR_INVALID);
}

} // namespace
