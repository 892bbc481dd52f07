// The joules of `wattle run` against a known truth: a played-back sensor whose true power at every millisecond is known.
//
// What a request alone has taken is all that the machine drew from the begin of its first step to the end of its last; prefill ends where
// decode begins. The truth is the same sum over the true power, at the times that the JSON gives. The power of the trace has nothing to do with what the run
// does: the hardest case for the borders of phases, which lie inside the sensor's intervals.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/e2e/energy_rig.h"

namespace {

const char *smollm() { return getenv("WTL_TEST_SMOLLM2"); }

const double kLeastWatts = 14.9, kMostWatts = 60.4; // of the traces: 15 to 60 W, and half a per cent

struct Figure {
    double joules = 0, bound = 0, low = 0, high = 0, truth = 0;
    double nobodys = 0; // seconds of pauses of more than a second, which a machine with much else to do may make; wherever they were
    double width() const { return bound / joules; }
    bool inside() const { // all are rounded to microjoules
        const double least = nobodys * kLeastWatts, most = nobodys * kMostWatts;
        return truth - least >= low - 2e-6 && truth - most <= high + 2e-6;
    }
};

struct Shown {
    Figure total, prefill, decode;
    double seconds = 0;
    std::string status, method;
};

Shown figures(const Json &json, const Truth &truth) {
    Shown s;
    const double zero = json_number_value(json_object_get(json_array_get(json.at("energy.domains"), 0), "recording_zero_seconds"));
    const double start = json.number("energy.clock.start_seconds") - zero, decode = json.number("energy.clock.first_decode_seconds") - zero;
    const double end = json.number("energy.clock.end_seconds") - zero;
    auto own = [&](const std::string &name) {
        return json.number("energy.phases." + name + ".busy_seconds") + json.number("energy.phases." + name + ".pause_seconds");
    };
    auto phase = [&](const char *path, const char *value, double from, double to, double own) {
        Figure f;
        f.joules = json.number(std::string(path) + value);
        f.bound = json.number(std::string(path) + "bound_joules");
        f.low = json.number(std::string(path) + "low_joules");
        f.high = json.number(std::string(path) + "high_joules");
        f.truth = truth.joules(from, to);
        f.nobodys = to - from - own;
        EXPECT_TRUE(f.nobodys < 1e-6 || f.nobodys > 1) << path << " lacks " << f.nobodys << " s";
        return f;
    };
    s.total = phase("energy.", "energy_joules", start, end, own("prefill") + own("decode"));
    s.prefill = phase("energy.phases.prefill.", "joules", start, decode, own("prefill"));
    s.decode = phase("energy.phases.decode.", "joules", decode, end, own("decode"));
    s.seconds = end - start;
    s.status = json.text("energy.status");
    s.method = json.text("energy.method");
    EXPECT_LT(end, truth.end()) << "the run outlived the trace";
    EXPECT_GE(start, truth.begin()) << "the run was there before the trace";
    EXPECT_TRUE(json_is_true(json.at("energy.settled")));
    return s;
}

void print(const std::string &name, const Shown &s) {
    auto one = [](const char *what, const Figure &f) {
        std::printf("  %s %.3f J +- %.3f (%.1f %%; %.3f to %.3f), truth %.3f;", what, f.joules, f.bound, 100 * f.width(), f.low, f.high, f.truth);
    };
    std::printf("%s, %.2f s:", name.c_str(), s.seconds);
    one("total", s.total);
    one("prefill", s.prefill);
    one("decode", s.decode);
    std::printf("\n");
}

void expect_inside(const Shown &s) {
    EXPECT_TRUE(s.total.inside()) << s.total.joules << " +- " << s.total.bound << ", truth " << s.total.truth;
    EXPECT_NEAR(s.prefill.joules + s.decode.joules, s.total.joules, 1e-5); // every microjoule in one phase
    EXPECT_EQ(s.method, "replayed");
}

// Though the power of the trace may jump inside the one interval that holds the border of the phases, and the work does not say so.
void expect_phases_inside(const Shown &s) {
    expect_inside(s);
    EXPECT_TRUE(s.prefill.inside()) << s.prefill.joules << ": " << s.prefill.low << " to " << s.prefill.high << ", truth " << s.prefill.truth;
    EXPECT_TRUE(s.decode.inside()) << s.decode.joules << ": " << s.decode.low << " to " << s.decode.high << ", truth " << s.decode.truth;
}

RunResult run(const TempDir &home, const char *model, const std::string &sensor, std::vector<std::string> more) {
    std::vector<std::string> args = {"run", "-m", model, "--json", "--seed", "1", "--ignore-eos", "--meter", "replay:" + sensor};
    args.insert(args.end(), more.begin(), more.end());
    return run_wattle(args, with_env({"XDG_STATE_HOME=" + home.path("state")}));
}

// Requests, idle and what nobody took of the ledger's rows make up the source's joules, and `n` requests are in it.
void expect_ledger(const TempDir &home, int n, double least_joules) {
    RunResult r = run_wattle({"ledger", "--json"}, with_env({"XDG_STATE_HOME=" + home.path("state")}));
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    json_t *total = json_array_get(json.at("total"), 0), *row = json_array_get(json.at("conservation"), 0);
    EXPECT_EQ(json_integer_value(json_object_get(total, "requests")), n) << r.out;
    auto uj = [&](const char *name) { return json_integer_value(json_object_get(row, name)); };
    EXPECT_TRUE(json_is_true(json_object_get(row, "adds_up"))) << r.out;
    EXPECT_EQ(uj("source_uj"), uj("requests_uj") + uj("idle_uj") + uj("unattributed_uj"));
    EXPECT_GE((double)uj("requests_uj") / 1e6, least_joules - 1e-5);
}

class Shapes : public testing::TestWithParam<std::tuple<const char *, unsigned>> {};

TEST_P(Shapes, RunOnTheTinyModelIsWithinItsBound) {
    const auto [shape, seed] = GetParam();
    TempDir dir;
    const Trace trace = make_trace(dir, shape, seed, 30);
    // The second run has the idle baseline that the first one left.
    double joules = 0;
    for (int k = 0; k < 2; k++) {
        RunResult r = run(dir, slow_model().path(), trace.sensor, {"-p", words(20), "-n", "400"});
        ASSERT_EQ(r.code, 0) << r.err;
        const Shown s = figures(Json(r.out), Truth(trace.truth));
        print(std::string(shape) + " seed " + std::to_string(seed), s);
        expect_phases_inside(s);
        joules += s.total.joules;
        if (s.seconds < 1) continue;
        EXPECT_LE(s.total.width(), 0.05);
        EXPECT_EQ(s.status, "measured");
    }
    expect_ledger(dir, 2, joules);
}

TEST_P(Shapes, RunOnARealModelIsWithinItsBound) {
    if (!smollm()) GTEST_SKIP() << "WTL_TEST_SMOLLM2 does not name a model file";
    const auto [shape, seed] = GetParam();
    TempDir dir;
    const Trace trace = make_trace(dir, shape, seed + 100, 90);
    RunResult r = run(dir, smollm(), trace.sensor, {"-p", words(190), "-n", "150"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_GT(json.number("prompt_tokens"), 1000);
    const Shown s = figures(json, Truth(trace.truth));
    print(std::string(shape) + " seed " + std::to_string(seed + 100), s);
    expect_phases_inside(s);
    EXPECT_LE(s.total.width(), 0.05);
    EXPECT_LE(s.prefill.width(), 0.15);
    EXPECT_LE(s.decode.width(), 0.15);
    EXPECT_EQ(s.status, "measured");
    expect_ledger(dir, 1, s.total.joules);
}

INSTANTIATE_TEST_SUITE_P(Traces, Shapes, testing::Combine(testing::Values("levels", "square", "llm", "sine"), testing::Values(1u)),
                         [](const auto &info) { return std::string(std::get<0>(info.param)) + std::to_string(std::get<1>(info.param)); });

// The sensor was read before the better meter ran: without these rows.
std::string from_zero(const std::string &path) {
    std::ifstream in(path);
    std::string all, line;
    while (std::getline(in, line))
        if (line[0] != '-') all += line + "\n";
    return all;
}

// Seven seconds of a real board; the run must fit into them.
TEST(EnergyRun, RecordedBoardWithItsNameIsWithinItsBound) {
    const std::string folder = std::string(WTL_SHARED_DATA) + "/gpu-power-traces/RTX3090-50-50";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the recordings are not here: " << folder;
    TempDir dir;
    for (int k = 0; k < 2; k++) {
        RunResult r = run(dir, slow_model().path(), dir.write("sensor.csv", from_zero(folder + "/sensor.csv")), {"-p", words(20), "-n", "700", "--card", "NVIDIA GeForce RTX 3090"});
        ASSERT_EQ(r.code, 0) << r.err;
        Json json(r.out);
        const Shown s = figures(json, Truth(folder + "/meter.csv"));
        print("RTX 3090", s);
        expect_inside(s);
        EXPECT_STREQ(json_string_value(json_array_get(json.at("energy.scope"), 0)), "gpu_board");
    }
}

TEST(EnergyRun, SummarySaysReplayed) {
    TempDir dir;
    const Trace trace = make_trace(dir, "llm", 3, 20);
    RunResult r = run_wattle({"run", "-m", slow_model().path(), "-p", words(5), "-n", "300", "--ignore-eos", "--meter", "replay:" + trace.sensor},
                             with_env({"XDG_STATE_HOME=" + dir.path("state")}));
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("replayed"), std::string::npos) << r.err;
}

} // namespace
