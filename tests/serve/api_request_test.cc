// Requests for generation: every parameter with good, bad and null values, and what the error object says of the bad ones.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>
extern "C" {
#include "runtime/chat.h"
#include "tools/serve/api_request.h"
}

namespace {

using std::string;
using std::vector;

const api_limits LIMITS = {nullptr, 1000, -1, true, nullptr};

string body_of(api_kind kind, const string &members) {
    const string input = kind == API_CHAT ? R"("messages":[{"role":"user","content":"Hi"}])" : R"("prompt":"Hi")";
    return "{" + input + (members.empty() ? "" : "," + members) + "}";
}

// A template's description, with the text that tells how calls are written.
wtl_chat_info template_with(const char *source, bool takes_tools) {
    wtl_chat_info info{};
    info.name = "some.jinja";
    info.source = source;
    info.takes_tools = takes_tools;
    return info;
}

// A parsed request that frees itself.
struct Parsed {
    api_request r{};
    api_error e{};
    bool ok;
    Parsed(api_kind kind, const string &body, const api_limits &limits = LIMITS) { ok = api_request_parse(kind, &limits, body.data(), body.size(), &r, &e); }
    ~Parsed() { api_request_free(&r); }
};

TEST(ApiRequest, Defaults) {
    Parsed p(API_CHAT, body_of(API_CHAT, ""));
    ASSERT_TRUE(p.ok) << p.e.message;
    EXPECT_EQ(p.r.max_tokens, 0);
    EXPECT_EQ(p.r.n, 1);
    EXPECT_EQ(p.r.n_top_logprobs, -1);
    EXPECT_EQ(p.r.n_stops, 0u);
    EXPECT_FALSE(p.r.stream || p.r.rule.schema || p.r.ignore_eos || p.r.include_usage);
    const wtl_sampler_options s = api_request_sampling(&p.r);
    EXPECT_FLOAT_EQ(s.temperature, 0.8f);
    EXPECT_EQ(s.top_k, 40);
    EXPECT_FLOAT_EQ(s.top_p, 0.95f);
    EXPECT_FLOAT_EQ(s.min_p, 0.05f);
    EXPECT_EQ(s.penalty_last_n, 64);
    Parsed q(API_CHAT, body_of(API_CHAT, ""));
    EXPECT_NE(p.r.seed, q.r.seed) << "drawn";
    api_limits limits = LIMITS;
    limits.n_predict = 7;
    EXPECT_EQ(Parsed(API_CHAT, body_of(API_CHAT, ""), limits).r.max_tokens, 7);
}

struct Good {
    api_kind kind;
    const char *members;
    std::function<bool(const api_request &)> holds;
};

TEST(ApiRequest, GoodValues) {
    const vector<Good> cases = {
        {API_CHAT, R"("stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true,"x":1})",
         [](auto &r) { return r.stream && r.include_usage && r.continuous_usage; }},
        {API_CHAT, R"("max_tokens":5)", [](auto &r) { return r.max_tokens == 5; }},
        {API_CHAT, R"("max_tokens":5,"max_completion_tokens":6)", [](auto &r) { return r.max_tokens == 6; }},
        {API_CHAT, R"("max_tokens":-1)", [](auto &r) { return r.max_tokens == 0; }},
        {API_CHAT, R"("max_tokens":16.0)", [](auto &r) { return r.max_tokens == 16; }},
        {API_COMPLETION, R"("n_predict":9)", [](auto &r) { return r.max_tokens == 9; }},
        {API_CHAT, R"("temperature":0)", [](auto &r) { return api_request_sampling(&r).temperature == 0; }},
        {API_CHAT, R"("top_p":0)", [](auto &r) { float p = api_request_sampling(&r).top_p; return p > 0 && p < 1e-3f; }},
        {API_CHAT, R"("top_k":-1)", [](auto &r) { return api_request_sampling(&r).top_k == 0; }},
        {API_CHAT, R"("seed":42)", [](auto &r) { return api_request_sampling(&r).seed == 42; }},
        {API_CHAT, R"("seed":-1)", [](auto &r) { return r.seed >= 0; }},
        {API_CHAT, R"("repeat_penalty":1.5,"repeat_last_n":0)", [](auto &r) { return api_request_sampling(&r).repeat_penalty == 1; }},
        {API_CHAT, R"("repetition_penalty":1.5)", [](auto &r) { return api_request_sampling(&r).repeat_penalty == 1.5f; }},
        {API_CHAT, R"("presence_penalty":-2,"frequency_penalty":2)", [](auto &r) { auto s = api_request_sampling(&r); return s.presence_penalty == -2 && s.frequency_penalty == 2; }},
        {API_CHAT, R"("stop":"a")", [](auto &r) { return r.n_stops == 1 && string(r.stops[0]) == "a"; }},
        {API_CHAT, R"("stop":["a","","b"])", [](auto &r) { return r.n_stops == 2 && string(r.stops[1]) == "b"; }},
        {API_CHAT, R"("n":4)", [](auto &r) { return r.n == 4; }},
        {API_CHAT, R"("logprobs":true)", [](auto &r) { return r.n_top_logprobs == 0; }},
        {API_CHAT, R"("logprobs":true,"top_logprobs":3)", [](auto &r) { return r.n_top_logprobs == 3; }},
        {API_CHAT, R"("logprobs":false)", [](auto &r) { return r.n_top_logprobs == -1; }},
        {API_CHAT, R"("logprobs":false,"top_logprobs":0)", [](auto &r) { return r.n_top_logprobs == -1; }},
        {API_COMPLETIONS, R"("logprobs":0)", [](auto &r) { return r.n_top_logprobs == 0; }},
        {API_COMPLETIONS, R"("logprobs":5)", [](auto &r) { return r.n_top_logprobs == 5; }},
        {API_COMPLETION, R"("n_probs":5)", [](auto &r) { return r.n_top_logprobs == 5; }},
        {API_COMPLETION, R"("n_probs":0)", [](auto &r) { return r.n_top_logprobs == -1; }},
        {API_COMPLETIONS, R"("echo":true)", [](auto &r) { return r.echo && !r.prompt_only; }},
        {API_COMPLETIONS, R"("echo":true,"logprobs":1,"max_tokens":0)", [](auto &r) { return r.echo && r.prompt_only && r.n_top_logprobs == 1; }},
        {API_CHAT, R"("logit_bias":{"15":-100,"7":1.5})", [](auto &r) { return r.n_bias == 2 && r.bias[0].token + r.bias[1].token == 22; }},
        {API_CHAT, R"("logit_bias":[[15,false],[7,1]])", [](auto &r) { return r.n_bias == 2 && std::isinf(r.bias[0].bias) && r.bias[1].bias == 1; }},
        {API_CHAT, R"("logit_bias":{})", [](auto &r) { return r.n_bias == 0; }},
        {API_CHAT, R"("ignore_eos":true)", [](auto &r) { return r.ignore_eos; }},
        {API_CHAT, R"("response_format":{"type":"text"})", [](auto &r) { return !r.rule.schema; }},
        {API_CHAT, R"("n":2,"response_format":{"type":"json_object"})", [](auto &r) { return r.rule.schema != nullptr; }},
        {API_CHAT, R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object"}}})", [](auto &r) { return r.rule.schema != nullptr; }},
        {API_CHAT, R"("response_format":{"type":"json_object","schema":{"type":"array"}})", [](auto &r) { return r.rule.schema != nullptr; }},
        {API_COMPLETION, R"("json_schema":{"type":"integer"})", [](auto &r) { return r.rule.schema != nullptr; }},
        {API_CHAT, R"("user":"anna","conversation":"c1")", [](auto &r) { return string(r.user) == "anna" && string(r.conversation) == "c1"; }},
        {API_CHAT, R"("conversation":{"id":"c2"})", [](auto &r) { return string(r.conversation) == "c2"; }},
        {API_CHAT, R"("metadata":{"conversation_id":"c3"})", [](auto &r) { return string(r.conversation) == "c3"; }},
        {API_CHAT, R"("max_joules":2.5)", [](auto &r) { return r.max_joules == 2.5; }},
        {API_CHAT, R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","chat_template_kwargs":{"enable_thinking":false})",
         [](auto &r) { return json_object_size(r.variables) == 3 && json_is_false(json_object_get(r.variables, "enable_thinking")); }},
        {API_CHAT, R"("best_of":1)", [](auto &r) { return r.n == 1; }},
        {API_COMPLETIONS, R"("suffix":"")", [](auto &r) { return r.n == 1; }},
        {API_CHAT, R"("extra_body":{"a":1},"nonsense":[1,2],"model":17,"cache_prompt":false)", [](auto &r) { return r.n == 1; }},
    };
    for (const Good &c : cases) {
        Parsed p(c.kind, body_of(c.kind, c.members));
        ASSERT_TRUE(p.ok) << c.members << ": " << p.e.message;
        EXPECT_TRUE(c.holds(p.r)) << c.members;
    }
}

struct Bad {
    api_kind kind;
    const char *members, *param;
};

TEST(ApiRequest, BadValuesNameTheParameter) {
    const vector<Bad> cases = {
        {API_CHAT, R"("stream":"yes")", "stream"},
        {API_CHAT, R"("stream_options":[])", "stream_options"},
        {API_CHAT, R"("stream_options":{"include_usage":1})", "stream_options.include_usage"},
        {API_CHAT, R"("max_tokens":"5")", "max_tokens"},
        {API_CHAT, R"("max_tokens":0)", "max_tokens"},
        {API_CHAT, R"("max_tokens":-2)", "max_tokens"},
        {API_CHAT, R"("max_tokens":1.5)", "max_tokens"},
        {API_CHAT, R"("max_tokens":99999999999)", "max_tokens"},
        {API_CHAT, R"("max_completion_tokens":[])", "max_completion_tokens"},
        {API_CHAT, R"("temperature":"hot")", "temperature"},
        {API_CHAT, R"("temperature":-1)", "temperature"},
        {API_CHAT, R"("temperature":101)", "temperature"},
        {API_CHAT, R"("temperature":true)", "temperature"},
        {API_CHAT, R"("top_p":1.1)", "top_p"},
        {API_CHAT, R"("min_p":-0.1)", "min_p"},
        {API_CHAT, R"("top_k":1.5)", "top_k"},
        {API_CHAT, R"("top_k":-2)", "top_k"},
        {API_CHAT, R"("seed":"x")", "seed"},
        {API_CHAT, R"("seed":1.5)", "seed"},
        {API_CHAT, R"("repeat_penalty":0)", "repeat_penalty"},
        {API_CHAT, R"("presence_penalty":{})", "presence_penalty"},
        {API_CHAT, R"("frequency_penalty":1e9)", "frequency_penalty"},
        {API_CHAT, R"("stop":5)", "stop"},
        {API_CHAT, R"("stop":["a",5])", "stop"},
        {API_CHAT, R"("stop":"a\u0000b")", "stop"},
        {API_CHAT, R"("n":0)", "n"},
        {API_CHAT, R"("n":129)", "n"},
        {API_CHAT, R"("n":"2")", "n"},
        {API_CHAT, R"("logprobs":3)", "logprobs"},
        {API_CHAT, R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
        {API_CHAT, R"("top_logprobs":2)", "top_logprobs"},
        {API_COMPLETIONS, R"("logprobs":21)", "logprobs"},
        {API_COMPLETIONS, R"("logprobs":"1")", "logprobs"},
        {API_COMPLETIONS, R"("echo":1)", "echo"},
        {API_COMPLETIONS, R"("suffix":"end")", "suffix"},
        {API_CHAT, R"("best_of":2)", "best_of"},
        {API_CHAT, R"("logit_bias":5)", "logit_bias"},
        {API_CHAT, R"("logit_bias":{"x":1})", "logit_bias"},
        {API_CHAT, R"("logit_bias":{"1000":1})", "logit_bias"},
        {API_CHAT, R"("logit_bias":{"-1":1})", "logit_bias"},
        {API_CHAT, R"("logit_bias":{"5":"a"})", "logit_bias"},
        {API_CHAT, R"("logit_bias":{"5":true})", "logit_bias"},
        {API_CHAT, R"("logit_bias":[5])", "logit_bias"},
        {API_CHAT, R"("logit_bias":[["word",5]])", "logit_bias"},
        {API_CHAT, R"("ignore_eos":0)", "ignore_eos"},
        {API_CHAT, R"("response_format":"json")", "response_format"},
        {API_CHAT, R"("response_format":{})", "response_format.type"},
        {API_CHAT, R"("response_format":{"type":"xml"})", "response_format.type"},
        {API_CHAT, R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
        {API_CHAT, R"("response_format":{"type":"json_schema","json_schema":{"name":"x"}})", "response_format.json_schema.schema"},
        {API_CHAT, R"("response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"a":{"uniqueItems":true}}}}})",
         "response_format.json_schema.schema.properties.a.uniqueItems"},
        {API_CHAT, R"("response_format":{"type":"json_object","schema":{"type":"x"}})", "response_format.schema.type"},
        {API_CHAT, R"("response_format":{"type":"json_object"},"json_schema":{})", "json_schema"},
        {API_CHAT, R"("grammar":"root ::= a")", "grammar"},
        {API_COMPLETION, R"("json_schema":"{}")", "json_schema"},
        {API_COMPLETION, R"("json_schema":{"not":{}})", "json_schema.not"},
        {API_CHAT, R"("user":5)", "user"},
        {API_CHAT, R"("conversation":5)", "conversation"},
        {API_CHAT, R"("conversation":{"id":[]})", "id"},
        {API_CHAT, R"("metadata":{"conversation_id":1})", "conversation_id"},
        {API_CHAT, R"("max_joules":0)", "max_joules"},
        {API_CHAT, R"("max_joules":-1)", "max_joules"},
        {API_CHAT, R"("max_joules":"1 J")", "max_joules"},
        {API_CHAT, R"("tools":{})", "tools"},
        {API_CHAT, R"("tools":[{}])", "tools[0].type"},
        {API_CHAT, R"("tools":[{"type":"function"}])", "tools[0].function"},
        {API_CHAT, R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
        {API_CHAT, R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name"},
        {API_CHAT, R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "tools[0].function.parameters"},
        {API_CHAT, R"("tool_choice":"required")", "tool_choice"},
        {API_CHAT, R"("tool_choice":"always")", "tool_choice"},
        {API_CHAT, R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}})", "tool_choice.function.name"},
        {API_CHAT, R"("parallel_tool_calls":1)", "parallel_tool_calls"},
        {API_CHAT, R"("chat_template_kwargs":[])", "chat_template_kwargs"},
    };
    for (const Bad &c : cases) {
        Parsed p(c.kind, body_of(c.kind, c.members));
        EXPECT_FALSE(p.ok) << c.members;
        EXPECT_EQ(p.e.status, 400) << c.members;
        EXPECT_STREQ(p.e.param, c.param) << c.members;
        EXPECT_EQ(p.r.root, nullptr);
        json_t *error = api_error_json(&p.e);
        const json_t *inner = json_object_get(error, "error");
        EXPECT_STREQ(json_string_value(json_object_get(inner, "type")), "invalid_request_error");
        EXPECT_STREQ(json_string_value(json_object_get(inner, "param")), c.param);
        EXPECT_TRUE(json_is_null(json_object_get(inner, "code")));
        // The sentence says which parameter, for those who only read that.
        const string last = string(c.param).substr(string(c.param).rfind('.') + 1);
        EXPECT_NE(string(p.e.message).find(last), string::npos) << p.e.message;
        json_decref(error);
    }
}

TEST(ApiRequest, ToolsAsTheTemplateTakesThem) {
    const string tools = R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"integer"}}}}}])";
    const string odd = R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array","uniqueItems":true}}}])", must = R"(,"tool_choice":"required")";
    const wtl_chat_info none = template_with("chatml", false), tags = template_with("{{tools}}<tool_call>", true), list = template_with("{{tools}}[TOOL_CALLS]", true),
                        bare = template_with("{{tools}}", true);
    const struct {
        const wtl_chat_info *chat;
        string members;
        reply_syntax syntax;
        bool ruled;
        const char *param; // "": it is good
    } cases[] = {
        {&none, tools, CALLS_NONE, false, "tools"},
        {&none, tools + R"(,"tool_choice":"none")", CALLS_NONE, false, ""},
        {&none, R"("tools":[])", CALLS_NONE, false, ""},
        {&tags, tools, CALLS_TAGS, true, ""},
        {&tags, tools + must, CALLS_TAGS, true, ""},
        {&tags, tools + R"(,"tool_choice":"none")", CALLS_NONE, false, ""},
        {&tags, odd, CALLS_TAGS, false, ""},
        {&tags, odd + must, CALLS_TAGS, false, "tools[0].function.parameters.uniqueItems"},
        {&tags, tools + R"(,"response_format":{"type":"json_object"})", CALLS_NONE, false, "tools"},
        {&list, tools + must, CALLS_LIST, true, ""},
        {&bare, tools, CALLS_BARE, false, ""},
        {&bare, tools + must, CALLS_BARE, true, ""},
    };
    for (const auto &c : cases) {
        api_limits limits = LIMITS;
        limits.chat = c.chat;
        Parsed p(API_CHAT, body_of(API_CHAT, c.members), limits);
        EXPECT_EQ(p.ok, !*c.param) << c.members << ": " << p.e.message;
        EXPECT_STREQ(p.e.param, c.param) << c.members;
        if (!p.ok) continue;
        EXPECT_EQ(p.r.syntax, c.syntax) << c.members;
        EXPECT_EQ(p.r.rule.schema != nullptr, c.ruled) << c.members;
    }
}

TEST(ApiRequest, NullIsAbsent) {
    const char *names[] = {"stream", "stream_options", "max_tokens", "max_completion_tokens", "n_predict", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "n",
                           "logprobs", "top_logprobs", "n_probs", "frequency_penalty", "presence_penalty", "repeat_penalty", "repetition_penalty", "repeat_last_n",
                           "logit_bias", "ignore_eos", "response_format", "user", "conversation", "metadata", "max_joules", "tools", "tool_choice", "chat_template_kwargs",
                           "grammar", "json_schema", "suffix", "best_of", "echo", "cache_prompt", "return_tokens"};
    for (api_kind kind : {API_CHAT, API_COMPLETIONS, API_COMPLETION}) {
        string all;
        for (const char *name : names) {
            const string member = string("\"") + name + "\":null";
            Parsed p(kind, body_of(kind, member));
            EXPECT_TRUE(p.ok) << member << ": " << p.e.message;
            all += (all.empty() ? "" : ",") + member;
        }
        Parsed p(kind, body_of(kind, all));
        ASSERT_TRUE(p.ok) << p.e.message;
        EXPECT_FLOAT_EQ((float)p.r.temperature, 0.8f);
        EXPECT_EQ(p.r.max_tokens, 0);
        EXPECT_EQ(p.r.conversation, nullptr);
    }
}

TEST(ApiRequest, Bodies) {
    struct {
        api_kind kind;
        string body;
        const char *param;
    } cases[] = {{API_CHAT, "", ""},
                 {API_CHAT, "{", ""},
                 {API_CHAT, "[1]", ""},
                 {API_CHAT, "\"x\"", ""},
                 {API_CHAT, "{\"messages\":\"\xff\"}", ""},
                 {API_CHAT, "{} x", ""},
                 {API_CHAT, string(100000, '['), ""},
                 {API_CHAT, "{}", "messages"},
                 {API_CHAT, R"({"messages":null})", "messages"},
                 {API_CHAT, R"({"messages":"Hi"})", "messages"},
                 {API_CHAT, R"({"messages":[]})", "messages"},
                 {API_COMPLETIONS, "{}", "prompt"},
                 {API_COMPLETION, R"({"prompt":null})", "prompt"}};
    for (const auto &c : cases) {
        Parsed p(c.kind, c.body);
        EXPECT_FALSE(p.ok) << c.body.substr(0, 50);
        EXPECT_EQ(p.e.status, 400);
        EXPECT_STREQ(p.e.param, c.param) << p.e.message;
    }
}

TEST(ApiRequest, Limits) {
    string stops = R"("stop":[)";
    for (int i = 0; i < API_STOPS_MAX; i++) stops += (i ? ",\"" : "\"") + std::to_string(i) + "\"";
    EXPECT_TRUE(Parsed(API_CHAT, body_of(API_CHAT, stops + "]")).ok);
    EXPECT_FALSE(Parsed(API_CHAT, body_of(API_CHAT, stops + ",\"x\"]")).ok);
    EXPECT_FALSE(Parsed(API_CHAT, body_of(API_CHAT, "\"stop\":\"" + string(API_STOP_BYTES + 1, 'a') + "\"")).ok);
    EXPECT_FALSE(Parsed(API_CHAT, body_of(API_CHAT, "\"user\":\"" + string(API_LABEL_BYTES + 1, 'a') + "\"")).ok);
    api_limits limits = LIMITS;
    limits.has_energy = false;
    Parsed p(API_CHAT, body_of(API_CHAT, R"("max_joules":1)"), limits);
    EXPECT_FALSE(p.ok);
    EXPECT_STREQ(p.e.param, "max_joules");
}

TEST(ApiRequest, Prompts) {
    struct {
        const char *json;
        size_t n; // 0: refused
    } cases[] = {{R"("text")", 1}, {"[1,2,3]", 1}, {R"([1,"b",3])", 1}, {R"(["a","b"])", 2}, {"[[1,2],[3]]", 2}, {"[]", 0}, {"5", 0}, {"{}", 0}};
    for (const auto &c : cases) {
        json_t *prompt = json_loads(c.json, JSON_DECODE_ANY, nullptr);
        size_t n = 99;
        api_error e{};
        EXPECT_EQ(api_prompt_count(prompt, &n, &e), c.n > 0) << c.json;
        if (c.n) {
            EXPECT_EQ(n, c.n) << c.json;
        } else {
            EXPECT_STREQ(e.param, "prompt");
        }
        json_decref(prompt);
    }
}

TEST(ApiRequest, TheErrorObject) {
    api_error e;
    api_fail(&e, 400, "messages", "too long");
    e.type = "exceed_context_size_error";
    e.code = "context_length_exceeded";
    e.n_prompt_tok = 9000;
    e.n_ctx = 8192;
    json_t *object = api_error_json(&e);
    char *text = json_dumps(object, JSON_COMPACT);
    EXPECT_STREQ(text, R"({"error":{"message":"too long","type":"exceed_context_size_error","param":"messages","code":"context_length_exceeded","n_prompt_tokens":9000,"n_ctx":8192}})");
    free(text);
    json_decref(object);
    // A sentence that quotes half a character is still JSON.
    api_fail(&e, 500, nullptr, "bad \xe2\x82");
    object = api_error_json(&e);
    EXPECT_STREQ(json_string_value(json_object_get(json_object_get(object, "error"), "message")), "bad ??");
    EXPECT_STREQ(json_string_value(json_object_get(json_object_get(object, "error"), "type")), "server_error");
    json_decref(object);
    EXPECT_STREQ(api_error_type(401), "authentication_error");
    EXPECT_STREQ(api_error_type(503), "unavailable_error");
    EXPECT_STREQ(api_error_type(413), "invalid_request_error");
}

} // namespace
