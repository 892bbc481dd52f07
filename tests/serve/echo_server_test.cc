// echo with logprobs, over HTTP with a tiny model: the prompt's tokens in front, the first without a logprob, the others with what the model gave
// them: the same figures as when it chooses them itself.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

using std::string;

const json_t *choice_of(Json &answer, size_t i = 0) { return json_array_get(answer.at("choices"), i); }
const json_t *column(const json_t *choice, const char *name) { return json_object_get(json_object_get(choice, "logprobs"), name); }

TEST(EchoServer, LogprobsOfThePromptAreThoseOfItsReply) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none", "-np", "2", "--deterministic"});
    // 60 tokens, chosen greedily and as a prompt: more than one step has room for.
    HttpReply r = server.post("/v1/completions", R"({"prompt":[104,105,33],"max_tokens":60,"temperature":0,"ignore_eos":true,"logprobs":2})");
    ASSERT_EQ(r.status, 200) << r.body;
    Json reply(r.body);
    json_t *prompt = json_pack("[i, i, i]", 104, 105, 33);
    // Tokens are single bytes here, so their spelling would do; the native route names the ids.
    r = server.post("/completion", R"({"prompt":[104,105,33],"n_predict":60,"temperature":0,"ignore_eos":true,"return_tokens":true})");
    Json native(r.body);
    json_array_extend(prompt, (json_t *)native.at("tokens"));
    ASSERT_EQ(json_array_size(prompt), 63u) << r.body;
    char *text = json_dumps(prompt, JSON_COMPACT);
    for (int round = 0; round < 2; round++) { // the second time its prefix is cached
        r = server.post("/v1/completions", string(R"({"prompt":)") + text + R"(,"max_tokens":3,"temperature":0,"ignore_eos":true,"logprobs":2,"echo":true})");
        ASSERT_EQ(r.status, 200) << r.body;
        Json echoed(r.body);
        const json_t *got = column(choice_of(echoed), "token_logprobs"), *top = column(choice_of(echoed), "top_logprobs");
        ASSERT_EQ(json_array_size(got), 66u);
        ASSERT_EQ(json_array_size(top), 66u);
        EXPECT_TRUE(json_is_null(json_array_get(got, 0)));
        EXPECT_TRUE(json_is_null(json_array_get(top, 0)));
        EXPECT_TRUE(json_is_real(json_array_get(got, 1)));
        EXPECT_GE(json_object_size(json_array_get(top, 1)), 1u);
        const json_t *chosen = column(choice_of(reply), "token_logprobs");
        for (size_t i = 0; i < 60; i++)
            EXPECT_EQ(json_real_value(json_array_get(got, 3 + i)), json_real_value(json_array_get(chosen, i))) << "token " << i;
        EXPECT_EQ(echoed.number("usage.prompt_tokens"), 63);
        EXPECT_EQ(echoed.number("usage.prompt_tokens_details.cached_tokens"), 0);
        EXPECT_EQ(json_integer_value(json_array_get(column(choice_of(echoed), "text_offset"), 2)), 2);
    }
    free(text);
    json_decref(prompt);
}

TEST(EchoServer, NothingButThePrompt) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    HttpReply r = server.post("/v1/completions", R"({"prompt":["hello","ab"],"max_tokens":0,"logprobs":0,"echo":true,"n":2})");
    ASSERT_EQ(r.status, 200) << r.body;
    Json answer(r.body);
    ASSERT_EQ(json_array_size(answer.at("choices")), 4u);
    EXPECT_STREQ(json_string_value(json_object_get(choice_of(answer, 1), "text")), "hello");
    EXPECT_STREQ(json_string_value(json_object_get(choice_of(answer, 3), "text")), "ab");
    EXPECT_EQ(json_array_size(column(choice_of(answer, 1), "token_logprobs")), 6u) << "with the token that begins every text: " << r.body;
    EXPECT_EQ(json_array_size(column(choice_of(answer, 3), "tokens")), 3u) << r.body;
    EXPECT_STREQ(json_string_value(json_object_get(choice_of(answer, 0), "finish_reason")), "length");
    EXPECT_EQ(answer.number("usage.completion_tokens"), 0);
    r = server.post("/v1/completions", R"({"prompt":"hello","max_tokens":2,"logprobs":1,"echo":true,"stream":true,"ignore_eos":true})");
    ASSERT_EQ(r.status, 200) << r.body;
    EXPECT_NE(r.body.find("\"text\":\"hello"), string::npos) << r.body;
    EXPECT_NE(r.body.find("\"token_logprobs\":[null,"), string::npos) << r.body;
}

} // namespace
