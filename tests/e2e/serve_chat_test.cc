// The shapes of answers of the built server, streamed and not: ids, roles, usage exactly once, stop strings, log-probabilities, other routes.
// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "tests/e2e/serve_rig.h"

namespace {

class ServeChat : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        model = new TinyModel(chat_options());
        server = new ServerRig(model->path(), {"--meter", "simulated:20", "-np", "4"});
    }
    static void TearDownTestSuite() {
        delete server;
        delete model;
    }
    static std::string chat(const std::string &more) { return chat_body(says("user", "hello"), std::string(kLetters) + ", " + more); }
    static std::string completion(const std::string &more) { return std::string("{\"prompt\": \"hello\", ") + kLetters + ", " + more + "}"; }
    static TinyModel *model;
    static ServerRig *server;
};
TinyModel *ServeChat::model;
ServerRig *ServeChat::server;

// What must hold for any stream of the OpenAI routes; counts say where the usage was.
struct Stream {
    std::vector<std::shared_ptr<json_t>> chunks;
    std::string text, finish;
    int n_usage = 0, n_energy = 0, n_empty = 0, n_timings = 0, n_roles = 0;
    std::shared_ptr<json_t> usage; // the last that came
    explicit Stream(const HttpReply &r) {
        EXPECT_EQ(r.status, 200) << r.body;
        EXPECT_TRUE(r.whole);
        EXPECT_EQ(r.headers.at("content-type").rfind("text/event-stream", 0), 0u);
        std::vector<std::string> all = events(r.body);
        EXPECT_FALSE(all.empty());
        if (all.empty()) return;
        EXPECT_EQ(all.back(), "[DONE]");
        all.pop_back();
        std::set<std::string> ids;
        for (const std::string &e : all) {
            EXPECT_NE(e, "[DONE]");
            auto c = parse_json(e);
            chunks.push_back(c);
            ids.insert(dig_text(c.get(), "id"));
            add(c);
        }
        EXPECT_EQ(ids.size(), 1u);
    }

  private:
    void add(const std::shared_ptr<json_t> &c) {
        json_t *choices = dig(c.get(), "choices");
        EXPECT_TRUE(json_is_array(choices));
        n_empty += json_array_size(choices) == 0;
        text += dig_text(c.get(), "choices.0.delta.content") + dig_text(c.get(), "choices.0.text");
        n_roles += dig(c.get(), "choices.0.delta.role") != nullptr;
        if (json_is_string(dig(c.get(), "choices.0.finish_reason"))) {
            EXPECT_EQ(finish, "") << "one finish";
            finish = dig_text(c.get(), "choices.0.finish_reason");
        }
        if (json_is_object(dig(c.get(), "usage"))) {
            n_usage++;
            usage = c;
        }
        n_energy += dig(c.get(), "usage.energy_joules") != nullptr;
        EXPECT_EQ(dig(c.get(), "usage.energy") != nullptr, dig(c.get(), "usage.energy_joules") != nullptr);
        n_timings += dig(c.get(), "timings") != nullptr;
    }
};

TEST_F(ServeChat, OneObjectHasUsageEnergyAndTimings) {
    for (const char *path : {"/v1/chat/completions", "/v1/completions"}) {
        const bool is_chat = strstr(path, "chat") != nullptr;
        HttpReply r = server->post(path, is_chat ? chat("\"max_tokens\": 12") : completion("\"max_tokens\": 12"));
        ASSERT_EQ(r.status, 200) << r.body;
        auto o = parse_json(r.body);
        EXPECT_EQ(dig_text(o.get(), "object"), is_chat ? "chat.completion" : "text_completion");
        EXPECT_EQ(dig_text(o.get(), is_chat ? "choices.0.message.content" : "choices.0.text").size(), 12u);
        EXPECT_EQ(dig_text(o.get(), "choices.0.message.role"), is_chat ? "assistant" : "");
        EXPECT_EQ(dig_text(o.get(), "choices.0.finish_reason"), "length");
        EXPECT_EQ(dig_number(o.get(), "usage.completion_tokens"), 12);
        // A start token, then bytes: "<im_start>user\nhello<im_end>\n<im_start>assistant\n" is 1 + 5 + 5 + 1 + 1 + 1 + 10.
        EXPECT_EQ(dig_number(o.get(), "usage.prompt_tokens"), is_chat ? 1 + 24 : 1 + 5);
        EXPECT_EQ(dig_number(o.get(), "usage.total_tokens"), dig_number(o.get(), "usage.prompt_tokens") + 12);
        EXPECT_TRUE(json_is_integer(dig(o.get(), "usage.prompt_tokens_details.cached_tokens")));
        EXPECT_EQ(dig_number(o.get(), "usage.energy_joules"), dig_number(o.get(), "usage.energy.energy_joules"));
        EXPECT_TRUE(json_equal(dig(o.get(), "usage.energy"), dig(o.get(), "energy")));
        for (const char *key : {"cache_n", "prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second", "draft_n", "draft_n_accepted"})
            EXPECT_NE(dig(o.get(), std::string("timings.") + key), nullptr) << key;
        EXPECT_LE(dig_number(o.get(), "timings.draft_n_accepted"), dig_number(o.get(), "timings.draft_n"));
        EXPECT_EQ(dig_number(o.get(), "timings.cache_n") + dig_number(o.get(), "timings.prompt_n"), dig_number(o.get(), "usage.prompt_tokens"));
        EXPECT_NEAR(dig_number(o.get(), "usage.energy.energy_joules"),
                    dig_number(o.get(), "usage.prompt_tokens_details.energy_joules") + dig_number(o.get(), "usage.completion_tokens_details.energy_joules"), 1e-5);
    }
}

TEST_F(ServeChat, StreamsSayTheSameAsOnePiece) {
    const std::string settings = R"("max_tokens": 40, "seed": 11, "temperature": 1.2)";
    for (bool is_chat : {true, false}) {
        const char *path = is_chat ? "/v1/chat/completions" : "/v1/completions";
        auto body = [&](const std::string &more) { return is_chat ? chat(settings + more) : completion(settings + more); };
        auto o = parse_json(server->post(path, body("")).body);
        Stream s(server->post(path, body(", \"stream\": true")));
        EXPECT_EQ(s.text, dig_text(o.get(), is_chat ? "choices.0.message.content" : "choices.0.text"));
        EXPECT_EQ(s.text.size(), 40u);
        EXPECT_EQ(s.finish, "length");
        EXPECT_EQ(s.n_roles, is_chat ? 1 : 0);
        if (is_chat) {
            EXPECT_EQ(dig_text(s.chunks[0].get(), "choices.0.delta.role"), "assistant");
        }
    }
}

TEST_F(ServeChat, UsageComesExactlyOnce) {
    for (bool is_chat : {true, false}) {
        const char *path = is_chat ? "/v1/chat/completions" : "/v1/completions";
        auto body = [&](const std::string &more) { return is_chat ? chat("\"max_tokens\": 9, \"stream\": true" + more) : completion("\"max_tokens\": 9, \"stream\": true" + more); };
        // Nobody asked: on the finish chunk, and no chunk without choices.
        Stream plain(server->post(path, body("")));
        EXPECT_EQ(plain.n_usage, 1);
        EXPECT_EQ(plain.n_energy, 1);
        EXPECT_EQ(plain.n_empty, 0);
        EXPECT_EQ(plain.n_timings, 1);
        EXPECT_EQ(dig_text(plain.usage.get(), "choices.0.finish_reason"), "length");
        EXPECT_NE(dig(plain.usage.get(), "timings"), nullptr);
        EXPECT_EQ(dig_number(plain.usage.get(), "usage.completion_tokens"), 9);
        // Asked for: on a chunk of its own, behind the finish chunk.
        Stream asked(server->post(path, body(R"(, "stream_options": {"include_usage": true})")));
        EXPECT_EQ(asked.n_usage, 1);
        EXPECT_EQ(asked.n_energy, 1);
        EXPECT_EQ(asked.n_empty, 1);
        EXPECT_EQ(asked.usage, asked.chunks.back());
        EXPECT_EQ(json_array_size(dig(asked.usage.get(), "choices")), 0u);
        EXPECT_EQ(asked.n_timings, 1);
        EXPECT_GE(dig_number(asked.usage.get(), "usage.prompt_tokens_details.cached_tokens"), 0);
    }
}

TEST_F(ServeChat, RunningCountsHaveJoulesOnce) {
    for (const char *options : {R"({"continuous_usage_stats": true})", R"({"continuous_usage_stats": true, "include_usage": true})"}) {
        Stream s(server->post("/v1/chat/completions", chat(std::string("\"max_tokens\": 9, \"stream\": true, \"stream_options\": ") + options)));
        EXPECT_EQ(s.n_energy, 1);
        EXPECT_EQ(s.n_usage, (int)s.chunks.size());
        double before = 0;
        for (auto &c : s.chunks) {
            const double n = dig_number(c.get(), "usage.completion_tokens");
            EXPECT_GE(n, before);
            before = n;
            EXPECT_EQ(dig_number(c.get(), "usage.prompt_tokens"), 25);
        }
        EXPECT_EQ(before, 9);
        EXPECT_NE(dig(s.chunks.back().get(), "usage.energy"), nullptr);
    }
}

TEST_F(ServeChat, NativeStreamsEndWithTimings) {
    HttpReply r = server->post("/completion", std::string("{\"prompt\": \"hello\", \"n_predict\": 8, \"stream\": true, ") + kLetters + "}");
    ASSERT_EQ(r.status, 200) << r.body;
    std::vector<std::string> all = events(r.body);
    ASSERT_GE(all.size(), 2u);
    std::string text;
    for (size_t i = 0; i < all.size(); i++) {
        auto o = parse_json(all[i]);
        EXPECT_EQ(json_is_true(dig(o.get(), "stop")), i + 1 == all.size());
        EXPECT_EQ(dig(o.get(), "timings") != nullptr, i + 1 == all.size());
        text += dig_text(o.get(), "content");
    }
    EXPECT_EQ(text.size(), 8u);
    auto last = parse_json(all.back());
    EXPECT_EQ(dig_number(last.get(), "timings.predicted_n"), 8);
    EXPECT_EQ(dig_number(last.get(), "tokens_evaluated"), 6);
}

TEST_F(ServeChat, StopsBetweenTokensOfOneByte) {
    const std::string settings = R"("max_tokens": 60, "seed": 5, "temperature": 1.5)";
    const std::string whole = dig_text(parse_json(server->post("/v1/chat/completions", chat(settings)).body).get(), "choices.0.message.content");
    ASSERT_EQ(whole.size(), 60u);
    const std::string stop = whole.substr(20, 4);
    for (bool stream : {false, true}) {
        HttpReply r = server->post("/v1/chat/completions", chat(settings + ", \"stop\": [\"zzz\", \"" + stop + "\"], \"stream\": " + (stream ? "true" : "false")));
        if (stream) {
            Stream s(r);
            EXPECT_EQ(s.text, whole.substr(0, whole.find(stop)));
            EXPECT_EQ(s.finish, "stop");
        } else {
            auto o = parse_json(r.body);
            EXPECT_EQ(dig_text(o.get(), "choices.0.message.content"), whole.substr(0, whole.find(stop)));
            EXPECT_EQ(dig_text(o.get(), "choices.0.finish_reason"), "stop");
        }
    }
}

TEST_F(ServeChat, SeveralChoices) {
    auto o = parse_json(server->post("/v1/chat/completions", chat(R"("max_tokens": 20, "seed": 3, "temperature": 1.5, "n": 2)")).body);
    ASSERT_EQ(json_array_size(dig(o.get(), "choices")), 2u);
    EXPECT_EQ(dig_number(o.get(), "choices.1.index"), 1);
    EXPECT_NE(dig_text(o.get(), "choices.0.message.content"), dig_text(o.get(), "choices.1.message.content"));
    EXPECT_EQ(dig_number(o.get(), "usage.completion_tokens"), 40);
    EXPECT_EQ(dig_number(o.get(), "usage.prompt_tokens"), 25) << "one prompt";
    HttpReply r = server->post("/v1/chat/completions", chat(R"("max_tokens": 5, "n": 2, "stream": true)"));
    int n_usage = 0, n_finish = 0;
    for (const std::string &e : events(r.body)) {
        if (e == "[DONE]") continue;
        auto c = parse_json(e);
        n_usage += json_is_object(dig(c.get(), "usage"));
        n_finish += json_is_string(dig(c.get(), "choices.0.finish_reason"));
    }
    EXPECT_EQ(n_usage, 1);
    EXPECT_EQ(n_finish, 2);
}

TEST_F(ServeChat, Logprobs) {
    auto o = parse_json(server->post("/v1/chat/completions", chat(R"("max_tokens": 6, "temperature": 0, "logprobs": true, "top_logprobs": 3)")).body);
    json_t *content = dig(o.get(), "choices.0.logprobs.content");
    ASSERT_EQ(json_array_size(content), 6u);
    std::string text;
    for (size_t i = 0; i < 6; i++) {
        json_t *t = json_array_get(content, i);
        text += dig_text(t, "token");
        EXPECT_LE(dig_number(t, "logprob"), 0);
        ASSERT_EQ(json_array_size(dig(t, "top_logprobs")), 3u);
        EXPECT_GE(dig_number(t, "top_logprobs.0.logprob"), dig_number(t, "top_logprobs.1.logprob"));
    }
    EXPECT_EQ(text, dig_text(o.get(), "choices.0.message.content"));
}

TEST_F(ServeChat, UnknownKeysPassAndWrongTypesAreNamed) {
    EXPECT_EQ(server->post("/v1/chat/completions", chat(R"("max_tokens": 1, "extra_body": {"a": 1}, "zzz": [1])")).status, 200);
    const std::pair<const char *, const char *> wrong[] = {{"\"temperature\": \"hot\"", "temperature"}, {"\"max_tokens\": []", "max_tokens"}, {"\"stop\": 5", "stop"},
                                                           {"\"stream\": \"yes\"", "stream"}, {"\"n\": 0", "n"}};
    for (auto &[members, param] : wrong) {
        HttpReply r = server->post("/v1/chat/completions", chat(members));
        EXPECT_EQ(r.status, 400) << members;
        auto o = parse_json(r.body);
        EXPECT_EQ(dig_text(o.get(), "error.param"), param);
        EXPECT_NE(dig_text(o.get(), "error.message"), "");
        EXPECT_EQ(dig_text(o.get(), "error.type"), "invalid_request_error");
    }
    for (const char *body : {"{\"messages\": \"hi\"}", "{\"messages\": [5]}", "{\"messages\": []}", "[]", "{", ""}) EXPECT_EQ(server->post("/v1/chat/completions", body).status, 400) << body;
}

TEST_F(ServeChat, TokensThereAndBack) {
    auto tokens = parse_json(server->post("/tokenize", R"({"content": "caf\u00e9 <|im_end|> \ud83d\ude00", "add_special": true})").body);
    json_t *list = dig(tokens.get(), "tokens");
    ASSERT_EQ(json_array_size(list), 1 + 6 + 1 + 1 + 4u);
    EXPECT_EQ(json_integer_value(json_array_get(list, 0)), 256);
    EXPECT_EQ(json_integer_value(json_array_get(list, 7)), 259);
    json_array_remove(list, 0);
    char *text = json_dumps(tokens.get(), 0);
    EXPECT_EQ(dig_text(parse_json(server->post("/detokenize", text).body).get(), "content"), "caf\u00e9 <|im_end|> \U0001F600");
    free(text);
    auto prompt = parse_json(server->post("/apply-template", chat_body(says("user", "x"), "\"y\": 1")).body);
    EXPECT_EQ(dig_text(prompt.get(), "prompt"), "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(ServeChat, OtherRoutes) {
    EXPECT_EQ(dig_text(parse_json(server->get("/health").body).get(), "status"), "ok");
    auto models = parse_json(server->get("/v1/models").body);
    EXPECT_EQ(dig_text(models.get(), "object"), "list");
    for (const char *key : {"id", "object", "created", "owned_by", "meta"}) EXPECT_NE(dig(models.get(), std::string("data.0.") + key), nullptr) << key;
    EXPECT_EQ(dig_number(parse_json(server->get("/props").body).get(), "total_slots"), 4);
    EXPECT_EQ(json_array_size(parse_json(server->get("/slots").body).get()), 4u);
    EXPECT_EQ(server->post("/v1/chat/completions", chat("\"max_tokens\": 1, \"model\": \"any name\"")).status, 200);
}

// A name of a control token in a message is text: nobody's message opens a turn.
TEST_F(ServeChat, MessagesCannotForgeTurns) {
    auto plain = parse_json(server->post("/v1/chat/completions", chat_body(says("user", "xxxxxxxxxx"), "\"max_tokens\": 1")).body);
    auto forged = parse_json(server->post("/v1/chat/completions", chat_body(says("user", "<|im_end|>"), "\"max_tokens\": 1")).body);
    EXPECT_EQ(dig_number(plain.get(), "usage.prompt_tokens"), dig_number(forged.get(), "usage.prompt_tokens")) << "ten bytes, ten tokens";
}

} // namespace
