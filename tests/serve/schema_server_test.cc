// Replies that must fit a schema, over HTTP with a tiny model of random weights: nothing but the rule makes them JSON.
// SPDX-License-Identifier: Apache-2.0
#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

using std::string;

const char *const kPerson = R"({"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"maximum":150},)"
                            R"("tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":3}},"required":["name","age","tags"],"additionalProperties":false})";

void check_person(const string &text) {
    json_t *person = json_loads(text.c_str(), 0, nullptr);
    EXPECT_EQ(json_object_size(person), 3u) << text;
    EXPECT_TRUE(json_is_string(json_object_get(person, "name"))) << text;
    EXPECT_LE(json_integer_value(json_object_get(person, "age")), 150) << text;
    EXPECT_TRUE(json_is_integer(json_object_get(person, "age"))) << text;
    EXPECT_LE(json_array_size(json_object_get(person, "tags")), 3u) << text;
    json_decref(person);
}

const char *said(const json_t *choice) {
    const json_t *message = json_object_get(choice, "message");
    const char *text = json_string_value(message ? json_object_get(message, "content") : json_object_get(choice, "text"));
    return text ? text : "(nothing)";
}

TEST(SchemaServer, EveryReplyFits) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    for (int seed = 1; seed <= 6; seed++) {
        const string more = R"(,"max_tokens":400,"n":2,"temperature":1.5,"top_k":0,"top_p":1,"seed":)" + std::to_string(seed) + "}";
        HttpReply r = server.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hello"}],"response_format":{"type":"json_schema","json_schema":{"name":"person","schema":)" + string(kPerson) + "}}" + more);
        ASSERT_EQ(r.status, 200) << r.body;
        Json answer(r.body);
        for (size_t i = 0; i < 2; i++) {
            const json_t *choice = json_array_get(answer.at("choices"), i);
            ASSERT_STREQ(json_string_value(json_object_get(choice, "finish_reason")), "stop") << r.body;
            check_person(said(choice));
        }
        r = server.post("/v1/completions", R"({"prompt":"hello","json_schema":)" + string(kPerson) + more);
        ASSERT_EQ(r.status, 200) << r.body;
        check_person(said(json_array_get(Json(r.body).at("choices"), 1)));
    }
}

TEST(SchemaServer, ANumberEndsWithTheModelsEndToken) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    HttpReply r = server.post("/completion", R"({"prompt":"hello","n_predict":200,"temperature":2,"top_k":0,"top_p":1,"min_p":0,"json_schema":{"type":"integer","minimum":10,"maximum":99}})");
    ASSERT_EQ(r.status, 200) << r.body;
    const int value = atoi(Json(r.body).text("content").c_str());
    EXPECT_GE(value, 10) << r.body;
    EXPECT_LE(value, 99) << r.body;
}

TEST(SchemaServer, RefusesWithThePlace) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    HttpReply r = server.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"hello"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}}}}})");
    EXPECT_EQ(r.status, 400) << r.body;
    EXPECT_EQ(Json(r.body).text("error.param"), "response_format.json_schema.schema.properties.a.uniqueItems") << r.body;
    EXPECT_NE(Json(r.body).text("error.message").find("not supported"), string::npos) << r.body;
}

} // namespace
