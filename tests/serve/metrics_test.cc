// GET /metrics as Prometheus reads it: form, names, conservation, and promtool's opinion.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <set>

#include "tests/serve/server_rig.h"
#include "tests/support/tiny_model.h"

namespace {

// "name{a=\"b\"}" -> value. Fails on anything that is no comment and no sample.
std::map<std::string, double> samples(const std::string &text) {
    std::map<std::string, double> out;
    std::set<std::string> typed;
    std::stringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("# TYPE ", 0) == 0) {
            EXPECT_TRUE(typed.insert(line.substr(7, line.find(' ', 7) - 7)).second) << "twice: " << line;
            continue;
        }
        if (line.rfind("# HELP ", 0) == 0) continue;
        size_t at = line.rfind(' ');
        EXPECT_NE(at, std::string::npos) << line;
        if (at == std::string::npos) continue;
        char *end;
        double value = strtod(line.c_str() + at + 1, &end);
        EXPECT_EQ(*end, 0) << line;
        EXPECT_TRUE(out.emplace(line.substr(0, at), value).second) << "twice: " << line;
        std::string name = line.substr(0, line.find_first_of("{ "));
        for (const char *tail : {"_bucket", "_sum", "_count"})
            if (!typed.count(name) && name.size() > strlen(tail) && name.compare(name.size() - strlen(tail), std::string::npos, tail) == 0)
                name.resize(name.size() - strlen(tail));
        EXPECT_TRUE(typed.count(name)) << "no TYPE before " << line;
    }
    return out;
}

class Metrics : public testing::Test {
  protected:
    static void SetUpTestSuite() {
        model = new TinyModel({});
        server = new ServerRig(model->path(), {"--alias", "a\"b\\c\nd", "--meter", "simulated:20"});
        for (int i = 0; i < 3; i++) {
            HttpReply r = server->post("/v1/completions", R"({"prompt": "some words to begin with, long enough for a block of cache or two", "max_tokens": 8, "temperature": 0, "ignore_eos": true})");
            ASSERT_EQ(r.status, 200) << r.body;
        }
        server->await({"\"event\": \"answer\""}, 2);
    }
    static void TearDownTestSuite() {
        delete server;
        delete model;
    }
    static std::string text() { return server->get("/metrics").body; }
    static std::string with_aliases() { return server->get("/metrics?names=all").body; }
    static TinyModel *model;
    static ServerRig *server;
};
TinyModel *Metrics::model;
ServerRig *Metrics::server;
const std::string kModel = "model=\"a\\\"b\\\\c\\nd\"";

TEST_F(Metrics, HasTheTypeOfTheTextFormat) {
    HttpReply r = server->get("/metrics");
    EXPECT_EQ(r.headers["content-type"].rfind("text/plain; version=0.0.4", 0), 0u);
}

TEST_F(Metrics, EverySampleIsWellFormedAndNamedOnce) { EXPECT_GT(samples(with_aliases()).size(), 100u); }

TEST_F(Metrics, CountsTheAnswers) {
    auto m = samples(with_aliases());
    EXPECT_EQ(m.at("wattle_requests_total{" + kModel + ",outcome=\"length\"}"), 3);
    for (const char *none : {"end", "stop", "context", "energy", "aborted", "error"})
        EXPECT_EQ(m.at("wattle_requests_total{" + kModel + ",outcome=\"" + none + "\"}"), 0) << none;
    EXPECT_EQ(m.at("wattle_tokens_total{" + kModel + ",kind=\"completion\"}"), 24);
    EXPECT_LE(m.at("wattle_draft_tokens_total{" + kModel + ",kind=\"accepted\"}"), m.at("wattle_draft_tokens_total{" + kModel + ",kind=\"tried\"}"));
    const double fresh = m.at("wattle_tokens_total{" + kModel + ",kind=\"prompt_new\"}"), cached = m.at("wattle_tokens_total{" + kModel + ",kind=\"prompt_cached\"}");
    EXPECT_GT(fresh, 0);
    EXPECT_EQ(std::fmod(fresh + cached, 3), 0); // three times the same prompt
    EXPECT_EQ(m.at("wattle_requests_running{" + kModel + "}"), 0);
    EXPECT_EQ(m.at("wattle_requests_waiting{" + kModel + "}"), 0);
    EXPECT_EQ(m.at("llamacpp:tokens_predicted_total"), 24);
    EXPECT_EQ(m.at("llamacpp:prompt_tokens_total"), fresh);
    EXPECT_EQ(m.at("llamacpp:requests_processing"), 0);
    EXPECT_EQ(m.at("llamacpp:requests_deferred"), 0);
    EXPECT_EQ(m.at("vllm:generation_tokens_total{model_name=" + kModel.substr(6) + "}"), 24);
    EXPECT_EQ(m.at("vllm:prompt_tokens_total{model_name=" + kModel.substr(6) + "}"), fresh + cached);
    EXPECT_EQ(m.at("vllm:num_requests_running{model_name=" + kModel.substr(6) + "}"), 0);
    EXPECT_GT(m.at("wattle_cpu_seconds_total{phase=\"decode\"}"), 0);
}

TEST_F(Metrics, HistogramsAreCumulativeAndComplete) {
    auto m = samples(text());
    for (const char *name : {"wattle_time_to_first_token_seconds", "wattle_time_per_output_token_seconds", "wattle_joules_per_output_token", "wattle_request_duration_seconds"}) {
        std::map<double, double> buckets;
        const std::string head = std::string(name) + "_bucket{" + kModel + ",le=\"";
        for (auto &[key, value] : m)
            if (key.rfind(head, 0) == 0) buckets[strtod(key.c_str() + head.size(), nullptr)] = value; // "+Inf" reads as infinity
        ASSERT_GT(buckets.size(), 5u) << name;
        double before = 0;
        for (auto &[bound, n] : buckets) {
            EXPECT_GE(n, before) << name << " le " << bound;
            before = n;
        }
        EXPECT_TRUE(std::isinf(buckets.rbegin()->first));
        EXPECT_EQ(before, 3) << name;
        EXPECT_EQ(m.at(std::string(name) + "_count{" + kModel + "}"), 3);
        EXPECT_GT(m.at(std::string(name) + "_sum{" + kModel + "}"), 0);
    }
}

TEST_F(Metrics, JoulesAddUpToWhatTheSourceCounted) {
    auto sum_of = [](const std::map<std::string, double> &m, const std::string &words) {
        double sum = 0;
        for (auto &[key, value] : m)
            if (key.rfind("wattle_energy_joules_total{", 0) == 0 && key.find(words) != std::string::npos) sum += value;
        return sum;
    };
    // The figures of two moments enclose those of one between them.
    double low = sum_of(samples(text()), ""), high;
    Json energy(server->get("/v1/energy").body);
    auto m = samples(text());
    high = sum_of(m, "");
    json_t *domain = json_array_get(energy.at("since_start.domains"), 0);
    ASSERT_NE(domain, nullptr);
    auto of = [&](const char *name) { return json_number_value(json_object_get(domain, name)); };
    EXPECT_GE(of("source_joules"), low - 1e-5);
    EXPECT_LE(of("source_joules"), high + 1e-5);
    EXPECT_NEAR(of("requests_joules") + of("idle_joules") + of("unattributed_joules"), of("source_joules"), 1e-5);
    EXPECT_GT(sum_of(m, "phase=\"decode\""), 0);
    EXPECT_GT(sum_of(m, "phase=\"prefill\""), 0);
    EXPECT_NEAR(sum_of(m, "phase=\"prefill\"") + sum_of(m, "phase=\"decode\""), of("requests_joules"), 1e-5); // nothing runs any more
}

TEST(MetricsWithoutAMeter, HaveNoJoulesRatherThanNone) {
    TinyModel model({});
    ServerRig server(model.path(), {"--meter", "none"});
    ASSERT_EQ(server.post("/v1/completions", R"({"prompt": "a", "max_tokens": 2})").status, 200);
    server.await({"\"event\": \"answer\""});
    std::string text = server.get("/metrics").body;
    EXPECT_EQ(text.find("\nwattle_energy_joules_total{"), std::string::npos);
    EXPECT_EQ(text.find("\nwattle_power_watts{"), std::string::npos);
    EXPECT_NE(text.find("\nwattle_telemetry_status{status=\"unavailable\"} 1\n"), std::string::npos);
    EXPECT_NE(text.find("\nwattle_joules_per_output_token_count"), std::string::npos);
    auto m = samples(text);
    double n_unknown = 0;
    for (auto &[key, value] : m) n_unknown += key.rfind("wattle_requests_without_joules_total", 0) == 0 ? value : 0;
    EXPECT_EQ(n_unknown, 1);
}

// What promtool says, and its exit code.
std::pair<int, std::string> promtool(const std::string &metrics) {
    TempDir dir;
    std::string file = dir.write("metrics", metrics), said = dir.path("said");
    int code = system(("promtool check metrics <" + file + " >" + said + " 2>&1").c_str());
    return {code, read_whole(said)};
}

TEST_F(Metrics, PromtoolAgrees) {
    if (system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool (Debian package prometheus) is not there";
    auto [code, said] = promtool(text());
    EXPECT_EQ(code, 0) << said;
}

// The names of other servers hold colons, which is all that promtool has against them.
TEST_F(Metrics, PromtoolHasOnlyColonsAgainstTheAliases) {
    if (system("command -v promtool >/dev/null") != 0) GTEST_SKIP() << "promtool (Debian package prometheus) is not there";
    auto [code, said] = promtool(server->get("/metrics?names=all").body);
    std::stringstream lines(said);
    int n = 0;
    for (std::string line; std::getline(lines, line); n++) {
        EXPECT_TRUE(line.rfind("llamacpp:", 0) == 0 || line.rfind("vllm:", 0) == 0) << line;
        EXPECT_NE(line.find("should not contain ':'"), std::string::npos) << line;
    }
    EXPECT_GT(n, 10) << said;
}

} // namespace
