// Joules of the built server beside a replayed counter whose truth is known: bounds that hold, sums that add up, joules that are not known,
// budgets, clients that leave, labels.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/energy_rig.h"
#include "tests/e2e/serve_rig.h"

namespace {

const double kWatts = 30, kRipple = 1.001; // each millisecond of a trace is within 0.5 %, a tenth of a second far within 0.1 %

// A counter in 1 ms steps beside a constant power: the truth of any stretch is its length times the power, wherever the recording begins.
Trace constant_trace(const TempDir &dir, double seconds) {
    return make_trace(dir, "levels", 1, seconds, "--kind counter --idle-w 30 --busy-w 30");
}

// The settled figure; GET /v1/energy/{id} is asked until it is one.
std::shared_ptr<json_t> settled(const ServerRig &server, const std::string &id) {
    std::shared_ptr<json_t> o;
    EXPECT_TRUE(eventually([&] {
        o = parse_json(server.get("/v1/energy/" + id).body);
        return json_is_true(dig(o.get(), "energy.settled"));
    })) << id;
    return o;
}

std::shared_ptr<json_t> ask(const ServerRig &server, int n_prompt, int max_tokens, const std::string &more = "") {
    HttpReply r = server.post("/v1/chat/completions", chat_body(says("user", std::string((size_t)n_prompt, 'x')), "\"ignore_eos\": true, \"max_tokens\": " + std::to_string(max_tokens) + more));
    EXPECT_EQ(r.status, 200) << r.body;
    return parse_json(r.body);
}

// Requests, idle time and what nobody asked for are all that the source counted.
void expect_conserved(const ServerRig &server) {
    auto totals = parse_json(server.get("/v1/energy").body);
    auto of = [&](const char *name) { return dig_number(totals.get(), std::string("since_start.domains.0.") + name); };
    EXPECT_GT(of("source_joules"), 0);
    EXPECT_GT(of("requests_joules"), 0);
    EXPECT_NEAR(of("requests_joules") + of("idle_joules") + of("unattributed_joules"), of("source_joules"), 2e-6);
}

double pause_seconds(json_t *energy) { return dig_number(energy, "phases.prefill.pause_seconds") + dig_number(energy, "phases.decode.pause_seconds"); }
double busy_seconds(json_t *energy) { return dig_number(energy, "phases.prefill.busy_seconds") + dig_number(energy, "phases.decode.busy_seconds"); }

TEST(ServeEnergy, ARequestAloneHoldsTheTruth) {
    TempDir dir;
    Trace trace = constant_trace(dir, 120);
    ServerRig server(slow_model().path(), {"--meter", "replay:" + trace.sensor, "-t", "1", "--chat-template", "chatml"});
    for (int i = 0; i < 3; i++) {
        auto o = ask(server, 60 + 40 * i, 80 + 40 * i);
        auto late = settled(server, dig_text(o.get(), "id"));
        json_t *e = dig(late.get(), "energy");
        EXPECT_EQ(dig_text(e, "status"), "measured");
        EXPECT_EQ(dig_text(e, "method"), "replayed");
        // Alone it has all that flows in its steps and in the pauses between them, whether the idle power is known (later) or not (at first).
        const double low = dig_number(e, "low_joules"), high = dig_number(e, "high_joules"), own = busy_seconds(e) + pause_seconds(e);
        const double span = dig_number(e, "clock.end_seconds") - dig_number(e, "clock.start_seconds"), truth = kWatts * own;
        EXPECT_TRUE(std::fabs(span - own) < 1e-6 || span - own > 1) << "of " << span << " s only a pause of more than a second is missing, not " << span - own;
        EXPECT_LE(low, truth * kRipple);
        EXPECT_GE(high * kRipple, truth);
        EXPECT_LE(dig_number(e, "bound_joules"), 0.5 * dig_number(e, "energy_joules")) << "a bound that says something";
        EXPECT_GT(low, 0);
        EXPECT_LE(low, dig_number(e, "energy_joules"));
        EXPECT_GE(high, dig_number(e, "energy_joules"));
    }
    expect_conserved(server);
}

TEST(ServeEnergy, RequestsTogetherShareWhatTheSourceCounted) {
    TempDir dir;
    Trace trace = constant_trace(dir, 120);
    ServerRig server(slow_model().path(), {"--meter", "replay:" + trace.sensor, "-np", "4", "--chat-template", "chatml"});
    std::vector<std::string> ids(6);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < ids.size(); i++)
        threads.emplace_back([&, i] { ids[i] = dig_text(ask(server, 40 + 30 * (int)i, 60 + 20 * (int)i, i % 2 ? ", \"n\": 1" : "").get(), "id"); });
    for (auto &t : threads) t.join();
    double low = 0, sum = 0, high = 0, begin = 1e300, end = 0, longest = 0;
    for (const std::string &id : ids) {
        auto o = settled(server, id);
        json_t *e = dig(o.get(), "energy");
        const std::string status = dig_text(e, "status"); // requests this short may be small beside the bound
        EXPECT_TRUE(status == "measured" || status == "below_resolution") << status;
        low += dig_number(e, "low_joules");
        sum += dig_number(e, "energy_joules");
        high += dig_number(e, "high_joules");
        begin = std::min(begin, dig_number(e, "clock.start_seconds"));
        end = std::max(end, dig_number(e, "clock.end_seconds"));
        longest = std::max(longest, busy_seconds(e));
    }
    EXPECT_LE(low, kWatts * (end - begin)) << "no more than flowed while they ran";
    EXPECT_GE(high, kWatts * longest) << "no less than while one of them was at work";
    auto totals = parse_json(server.get("/v1/energy").body);
    EXPECT_NEAR(dig_number(totals.get(), "since_start.domains.0.requests_joules"), sum, 1e-5);
    expect_conserved(server);
}

// The same beside powers that change all the time: the books still close, and no request is negative.
TEST(ServeEnergy, AddsUpBesideAChangingLoad) {
    TempDir dir;
    Trace trace = make_trace(dir, "llm", 4, 120);
    ServerRig server(slow_model().path(), {"--meter", "replay:" + trace.sensor, "-np", "4", "--settle-ms", "0", "--chat-template", "chatml"});
    std::vector<std::string> ids(6);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < ids.size(); i++) threads.emplace_back([&, i] { ids[i] = dig_text(ask(server, 50, 60).get(), "id"); });
    for (auto &t : threads) t.join();
    double sum = 0;
    for (const std::string &id : ids) {
        auto o = settled(server, id);
        EXPECT_GT(dig_number(o.get(), "energy.energy_joules"), 0);
        sum += dig_number(o.get(), "energy.energy_joules");
    }
    expect_conserved(server);
    EXPECT_NEAR(dig_number(parse_json(server.get("/v1/energy").body).get(), "since_start.domains.0.requests_joules"), sum, 1e-5);
}

TEST(ServeEnergy, WithoutAMeterIsNullWithAReason) {
    TinyModel model(chat_options());
    ServerRig server(model.path(), {"--meter", "none"});
    auto o = ask(server, 10, 4);
    for (const char *path : {"usage.energy_joules", "usage.energy.energy_joules", "usage.energy.energy_kwh", "usage.energy.low_joules", "usage.energy.high_joules", "usage.energy.bound_joules",
                             "usage.energy.avg_power_watts", "usage.prompt_tokens_details.energy_joules", "usage.completion_tokens_details.energy_joules",
                             "usage.energy.phases.prefill.joules", "usage.energy.phases.decode.joules", "usage.energy.dynamic_joules", "usage.energy.idle_joules"})
        EXPECT_TRUE(json_is_null(dig(o.get(), path))) << path;
    EXPECT_EQ(dig_text(o.get(), "usage.energy.status"), "unavailable");
    EXPECT_NE(dig_text(o.get(), "usage.energy.reason").find("--meter none"), std::string::npos);
    auto totals = parse_json(server.get("/v1/energy").body);
    EXPECT_EQ(dig_text(totals.get(), "since_start.status"), "unavailable");
    EXPECT_NE(dig_text(totals.get(), "since_start.reason"), "");
    EXPECT_EQ(json_array_size(dig(totals.get(), "since_start.domains")), 0u);
    EXPECT_EQ(dig(o.get(), "usage.energy.cost"), nullptr);
    EXPECT_EQ(dig(o.get(), "usage.energy.carbon"), nullptr);
}

TEST(ServeEnergy, ABudgetEndsTheAnswer) {
    ServerRig server(slow_model().path(), slow_args({"--meter", "simulated:50", "--chat-template", "chatml"}));
    auto o = ask(server, 10, 4000, ", \"max_joules\": 8");
    EXPECT_EQ(dig_text(o.get(), "choices.0.finish_reason"), "length");
    EXPECT_EQ(dig_text(o.get(), "choices.0.stop_reason"), "energy");
    EXPECT_LT(dig_number(o.get(), "usage.completion_tokens"), 4000);
    EXPECT_GT(dig_number(o.get(), "usage.energy_joules"), 1);
    EXPECT_NE(server.await({"\"event\": \"answer\"", "\"energy\""}), "");
    EXPECT_EQ(server.post("/v1/chat/completions", chat_body(says("user", "x"), "\"max_joules\": -1")).status, 400);
}

// Clients that leave: in the middle of a stream, and in the queue.
TEST(ServeEnergy, WhoLeavesIsBooked) {
    TinyModel model(slow_options());
    ServerRig server(model.path(), slow_args({"--meter", "simulated:20", "-np", "1", "--drain", "0"}));
    {
        const std::string body = R"({"prompt": "a", "max_tokens": 8000, "ignore_eos": true, "user": )";
        HttpClient running(server.port()), waiting(server.port());
        running.send("POST", "/v1/completions", body + "\"ann\"}");
        ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_running") == 1; }));
        waiting.send("POST", "/v1/completions", body + "\"bob\"}", {"X-Conversation-Id: c-7"});
        ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_waiting") == 1; }));
        waiting.leave();
        ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_waiting") == 0; }));
    }
    ASSERT_TRUE(eventually([&] { return metric(server.get("/metrics").body, "wattle_requests_running") == 0; })) << "within a step";
    EXPECT_NE(server.await({"\"event\": \"answer\"", "aborted"}, 1), "") << server.log();
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait_exit(), 0);
    RunResult rows = run_wattle({"ledger", "--export", "jsonl", "--since", "all", "--ledger", server.ledger()});
    std::stringstream lines(rows.out);
    int n = 0;
    for (std::string line; std::getline(lines, line); n++) {
        auto row = parse_json(line);
        EXPECT_EQ(dig_text(row.get(), "outcome"), "aborted") << line;
        if (dig_text(row.get(), "user") == "ann") {
            EXPECT_GT(dig_number(row.get(), "total_uj"), 0) << line;
        } else {
            EXPECT_EQ(dig_text(row.get(), "user"), "bob") << line;
            EXPECT_EQ(dig_text(row.get(), "conversation"), "c-7") << line;
            EXPECT_TRUE(json_is_null(dig(row.get(), "total_uj"))) << line;
        }
    }
    EXPECT_EQ(n, 2) << rows.out << rows.err;
}

} // namespace
