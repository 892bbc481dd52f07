// Tools over HTTP with a tiny model of random weights: requests reach the template, calls that are a must have the form of their parameters.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

using std::string;

const char *const kTools = R"("tools":[{"type":"function","function":{"name":"weather","description":"Weather at a place","parameters":{"type":"object","properties":{)"
                           R"("city":{"type":"string","maxLength":12},"unit":{"$ref":"#/$defs/unit"}},"required":["city","unit"],"$defs":{"unit":{"enum":["C","F"]}}}}},)"
                           R"({"type":"function","function":{"name":"now","description":"The time","parameters":{"type":"object","properties":{}}}}])";

string ask(const string &more) {
    return R"({"messages":[{"role":"user","content":"hello"}],"max_tokens":400,"temperature":1.3,"top_k":0,"top_p":1,)" + string(kTools) + more + "}";
}

void check_arguments(const string &name, const string &text) {
    json_t *arguments = json_loads(text.c_str(), 0, nullptr);
    ASSERT_TRUE(json_is_object(arguments)) << text;
    if (name == "weather") {
        EXPECT_TRUE(json_is_string(json_object_get(arguments, "city"))) << text;
        const char *unit = json_string_value(json_object_get(arguments, "unit"));
        EXPECT_TRUE(unit && (!strcmp(unit, "C") || !strcmp(unit, "F"))) << text;
    } else {
        EXPECT_EQ(name, "now");
        EXPECT_EQ(json_object_size(arguments), 0u) << text;
    }
    json_decref(arguments);
}

// The calls of the first choice, checked. Returns their number.
size_t check_calls(const HttpReply &r) {
    EXPECT_EQ(r.status, 200) << r.body;
    Json answer(r.body);
    const json_t *choice = json_array_get(answer.at("choices"), 0), *calls = json_object_get(json_object_get(choice, "message"), "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        EXPECT_STREQ(json_string_value(json_object_get(json_array_get(calls, i), "type")), "function");
        check_arguments(json_string_value(json_object_get(function, "name")), json_string_value(json_object_get(function, "arguments")));
    }
    if (json_array_size(calls)) {
        EXPECT_TRUE(json_is_null(json_object_get(json_object_get(choice, "message"), "content"))) << r.body;
    }
    return json_array_size(calls);
}

class ToolsServer : public testing::TestWithParam<const char *> {};

TEST_P(ToolsServer, CallsThatAreAMust) {
    TinyOptions o;
    o.n_ctx = 2048;
    TinyModel model(o);
    ServerRig server(model.path(), {"--meter", "none", "--chat-template", string(WTL_SOURCE_DIR "/tests/chat_template/") + GetParam()});
    size_t n_whole = 0;
    for (int seed = 1; seed <= 5; seed++) { // several calls may go on until max_tokens: then the reply was cut
        HttpReply r = server.post("/v1/chat/completions", ask(R"(,"tool_choice":"required","parallel_tool_calls":false,"seed":)" + std::to_string(seed)));
        EXPECT_EQ(check_calls(r), 1u) << r.body;
        EXPECT_NE(r.body.find("\"finish_reason\":\"tool_calls\""), string::npos) << r.body;
        r = server.post("/v1/chat/completions", ask(R"(,"tool_choice":"required","seed":)" + std::to_string(seed)));
        n_whole += check_calls(r) > 0;
    }
    EXPECT_GT(n_whole, 0u);
    HttpReply r = server.post("/v1/chat/completions", ask(R"(,"tool_choice":{"type":"function","function":{"name":"weather"}})"));
    EXPECT_EQ(check_calls(r), 1u) << r.body;
    EXPECT_NE(r.body.find("\"name\":\"weather\""), string::npos) << r.body;
    r = server.post("/v1/chat/completions", ask(R"(,"tool_choice":"required","parallel_tool_calls":false,"stream":true)"));
    ASSERT_EQ(r.status, 200) << r.body;
    EXPECT_NE(r.body.find("\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\""), string::npos) << r.body;
    EXPECT_NE(r.body.find("\"finish_reason\":\"tool_calls\""), string::npos) << r.body;
    r = server.post("/v1/chat/completions", ask(R"(,"tool_choice":"none")"));
    EXPECT_EQ(check_calls(r), 0u) << r.body;
    r = server.post("/v1/chat/completions", ask(""));
    EXPECT_EQ(r.status, 200) << r.body;
}

INSTANTIATE_TEST_SUITE_P(Templates, ToolsServer, testing::Values("family_hermes.jinja", "family_mistral.jinja", "family_llama3_tools.jinja", "family_qwen_think.jinja"),
                         [](const auto &info) { return string(info.param, strchr(info.param, '.') - info.param); });

TEST(ToolsServerOnce, TheTemplateSeesToolsCallsAndResults) {
    TinyOptions o;
    o.n_ctx = 2048;
    TinyModel model(o);
    ServerRig server(model.path(), {"--meter", "none", "--chat-template", WTL_SOURCE_DIR "/tests/chat_template/family_hermes.jinja"});
    const string talk = R"({"messages":[{"role":"user","content":"Rain?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},)"
                        R"({"role":"tool","tool_call_id":"call_1","content":"wet"}],)" + string(kTools);
    HttpReply r = server.post("/apply-template", talk + "}");
    ASSERT_EQ(r.status, 200) << r.body;
    const string prompt = Json(r.body).text("prompt");
    for (const char *words : {"Functions:\n{\"name\": \"weather\"", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>", "<tool_response>\nwet\n</tool_response>"})
        EXPECT_NE(prompt.find(words), string::npos) << words << " in " << prompt;
    r = server.post("/apply-template", talk + R"(,"tool_choice":"none"})");
    EXPECT_EQ(Json(r.body).text("prompt").find("weather\", \"description"), string::npos) << r.body;
    r = server.post("/v1/chat/completions", talk + R"(,"max_tokens":4})");
    EXPECT_EQ(r.status, 200) << r.body;
}

TEST(ToolsServerOnce, ATemplateWithoutToolsSaysSo) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none", "--chat-template", "chatml"});
    HttpReply r = server.post("/v1/chat/completions", ask(""));
    EXPECT_EQ(r.status, 400) << r.body;
    EXPECT_EQ(Json(r.body).text("error.param"), "tools");
    EXPECT_NE(Json(r.body).text("error.message").find("\"chatml\""), string::npos) << r.body;
    EXPECT_EQ(server.post("/v1/chat/completions", ask(R"(,"tool_choice":"none")")).status, 200);
}

} // namespace
