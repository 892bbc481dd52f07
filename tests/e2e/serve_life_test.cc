// The life of the built server beside its answers: full queues, keys, two servers on one ledger, quiet logs, draining, and counters that add up.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/serve_rig.h"

namespace {

const char *const kLong = R"({"prompt": "a", "max_tokens": 8000, "stream": true, "ignore_eos": true})";
const char *const kLongInOnePiece = R"({"prompt": "a", "max_tokens": 8000, "ignore_eos": true})";

TEST(ServeLife, AFullQueueSaysWhenToComeBack) {
    TinyModel model(slow_options());
    ServerRig server(model.path(), slow_args({"--meter", "none", "-np", "1", "--queue", "1", "--drain", "0"}));
    HttpClient running(server.port()), waiting(server.port());
    running.send("POST", "/v1/completions", kLongInOnePiece); // a stream that nobody reads would make room for the other
    ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_running") == 1; }));
    waiting.send("POST", "/v1/completions", kLong);
    ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_waiting") == 1; }));
    HttpReply r = server.post("/v1/completions", kLong);
    EXPECT_EQ(r.status, 503) << r.body;
    EXPECT_GT(atoi(r.headers["retry-after"].c_str()), 0);
    auto o = parse_json(r.body);
    for (const char *key : {"message", "type", "param", "code"}) EXPECT_NE(dig(o.get(), std::string("error.") + key), nullptr) << key << r.body;
    EXPECT_EQ(dig_text(o.get(), "error.code"), "queue_full");
    EXPECT_NE(dig_text(o.get(), "error.message"), "");
    EXPECT_EQ(server.get("/health").status, 200) << "a full queue is no failure";
    running.leave(); // the one that waits has its turn
    EXPECT_TRUE(waiting.read_until("\"text\""));
}

TEST(ServeLife, ADrainFinishesTheStreamAndRefusesTheRest) {
    TinyModel model(slow_options());
    ServerRig server(model.path(), slow_args({"--meter", "none", "--drain", "60"}));
    HttpClient live(server.port()), early(server.port());
    live.send("POST", "/v1/completions", R"({"prompt": "a", "max_tokens": 120, "stream": true, "ignore_eos": true})");
    ASSERT_TRUE(live.read_until("\"text\""));
    server.signal(SIGTERM);
    // A connection made before: 503, or closed; one made later is refused.
    ASSERT_TRUE(eventually([&] { return !HttpClient(server.port()).connected(); }));
    early.send("GET", "/health");
    HttpReply r = early.reply();
    EXPECT_TRUE(r.status == 503 || r.status == 0) << r.body;
    HttpReply whole = live.reply();
    EXPECT_TRUE(whole.whole);
    EXPECT_EQ(events(whole.body).back(), "[DONE]");
    EXPECT_NE(whole.body.find("\"completion_tokens\":120"), std::string::npos);
    EXPECT_EQ(server.wait_exit(), 0);
}

TEST(ServeLife, Keys) {
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "none", "--api-key", "one,two"});
    const std::string body = chat_body(says("user", "x"), "\"max_tokens\": 1");
    for (const char *path : {"/v1/chat/completions", "/v1/completions", "/completion", "/tokenize"}) {
        HttpReply r = server.post(path, body);
        EXPECT_EQ(r.status, 401) << path;
        EXPECT_NE(dig_text(parse_json(r.body).get(), "error.message"), "");
        EXPECT_EQ(server.post(path, body, {"Authorization: Bearer three"}).status, 401);
    }
    for (const char *path : {"/v1/energy", "/props", "/slots", "/metrics", "/v1/energy/x"}) EXPECT_EQ(server.get(path).status, 401) << path;
    EXPECT_EQ(server.get("/health").status, 200);
    EXPECT_EQ(server.post("/v1/chat/completions", body, {"Authorization: Bearer two"}).status, 200);
    EXPECT_EQ(server.log().find("three"), std::string::npos);
    EXPECT_EQ(server.log().find("two"), std::string::npos) << "keys are never logged";
}

TEST(ServeLife, TwoServersWriteOneLedger) {
    TinyModel model(chat_options());
    TempDir home;
    ServerRig::Options o;
    o.home = home.path();
    {
        ServerRig a(model.path(), {"--meter", "simulated:20"}, o), b(model.path(), {"--meter", "simulated:20"}, o);
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; i++)
            threads.emplace_back([&, i] {
                for (int k = 0; k < 3; k++)
                    EXPECT_EQ((i % 2 ? a : b).post("/v1/chat/completions", chat_body(says("user", "x"), "\"max_tokens\": 2, \"ignore_eos\": true, \"user\": \"u" + std::to_string(i) + "\"")).status, 200);
            });
        for (auto &t : threads) t.join();
        EXPECT_TRUE(eventually([&] { return json_array_size(dig(parse_json(a.get("/v1/energy?since=all&by=user").body).get(), "ledger.rows")) == 8; }))
            << "each server shows what both have booked";
    }
    auto sums = parse_json(run_wattle({"ledger", "--json", "--since", "all"}, with_env({"HOME=" + home.path()})).out);
    EXPECT_EQ(dig_number(sums.get(), "total.0.requests"), 24);
    size_t i;
    json_t *row;
    json_array_foreach(dig(sums.get(), "conservation"), i, row) EXPECT_TRUE(json_is_true(json_object_get(row, "adds_up")));
    EXPECT_GT(i, 0u);
}

TEST(ServeLife, LogsHaveNoContents) {
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "none", "--verbose"});
    const std::string secret = "the code is 48151623";
    server.post("/v1/chat/completions", chat_body(says("user", secret), "\"max_tokens\": 4"));
    server.post("/v1/completions", "{\"prompt\": \"" + secret + "\", \"max_tokens\": 4, \"stop\": \"" + secret + "\"}");
    server.post("/tokenize", "{\"content\": \"" + secret + "\"}");
    server.post("/v1/chat/completions", chat_body(says("user", secret), "\"max_tokens\": \"" + secret + "\""));
    server.post("/v1/chat/completions", "{\"messages\": [" + secret);
    EXPECT_NE(server.await({"\"event\": \"answer\""}, 1), "");
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
    EXPECT_EQ(server.log().find("48151623"), std::string::npos) << server.log();
}

// Counters against the requests that were made.
TEST(ServeLife, MetricsAddUp) {
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "simulated:20", "--alias", "tiny"});
    double prompt = 0, completion = 0, cached = 0;
    for (int i = 0; i < 7; i++) {
        auto o = parse_json(server.post("/v1/chat/completions", chat_body(says("user", std::string((size_t)(10 + 20 * (i % 3)), 'x')), std::string(kLetters) + ", \"max_tokens\": " + std::to_string(2 + i))).body);
        prompt += dig_number(o.get(), "usage.prompt_tokens");
        cached += dig_number(o.get(), "usage.prompt_tokens_details.cached_tokens");
        completion += dig_number(o.get(), "usage.completion_tokens");
    }
    server.post("/v1/chat/completions", "{}"); // refused: no answer
    server.await({"\"event\": \"answer\""}, 6);
    const std::string m = server.get("/metrics").body;
    EXPECT_GT(cached, 0);
    EXPECT_EQ(metric(m, "wattle_tokens_total{model=\"tiny\",kind=\"prompt_new\"}"), prompt - cached);
    EXPECT_EQ(metric(m, "wattle_tokens_total{model=\"tiny\",kind=\"prompt_cached\"}"), cached);
    EXPECT_EQ(metric(m, "wattle_tokens_total{model=\"tiny\",kind=\"completion\"}"), completion);
    EXPECT_EQ(metric(m, "wattle_requests_total{model=\"tiny\",outcome=\"length\"}"), 7);
    for (const char *name : {"wattle_time_to_first_token_seconds", "wattle_time_per_output_token_seconds", "wattle_joules_per_output_token"}) {
        EXPECT_EQ(metric(m, std::string(name) + "_count{model=\"tiny\"}"), 7) << name;
        EXPECT_EQ(metric(m, std::string(name) + "_bucket{model=\"tiny\",le=\"+Inf\"}"), 7) << name;
    }
    EXPECT_EQ(metric(m, "wattle_requests_running"), 0);
    EXPECT_EQ(metric(m, "wattle_requests_waiting"), 0);
}

} // namespace
