// `wattle run` where energy decides or is missing: budgets, forecasts, --meter require, the model, interrupted runs, and a board behind a
// look-alike of the driver's library.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/e2e/energy_rig.h"

namespace {

bool has(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

class EnergyLimits : public testing::Test {
  protected:
    // No counter and no driver's library, whatever this machine has; a ledger and a fit of its own.
    RunOptions options(std::vector<std::string> env = {}) const {
        env.push_back("XDG_STATE_HOME=" + dir_.path("state"));
        env.push_back("WTL_SYSFS_ROOT=" + dir_.path("empty"));
        bool nvml = false;
        for (const std::string &e : env) nvml |= e.rfind("WTL_NVML_PATH=", 0) == 0;
        if (!nvml) env.push_back("WTL_NVML_PATH=" + dir_.path("no-such-library.so"));
        RunOptions o = with_env(env);
        o.timeout_s = 60;
        return o;
    }
    RunResult run(std::vector<std::string> more, const RunOptions &o) const {
        std::vector<std::string> args = {"run", "-m", slow_model().path(), "--seed", "1", "--ignore-eos"};
        args.insert(args.end(), more.begin(), more.end());
        return run_wattle(args, o);
    }
    RunResult run(std::vector<std::string> more) const { return run(std::move(more), options()); }
    TempDir dir_;
};

TEST_F(EnergyLimits, BudgetEndsTheReply) {
    RunResult r = run({"--json", "-p", words(5), "-n", "6000", "--meter", "simulated:40", "--max-joules", "20"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_EQ(json.text("stop_reason"), "energy");
    // Looked at every 20 ms, on books that are a read or two (20 ms) behind, with the rest predicted: within a tenth of a second's joules.
    std::printf("budget 20 J: took %.3f J\n", json.number("energy.energy_joules"));
    EXPECT_NEAR(json.number("energy.energy_joules"), 20, 4);
    EXPECT_GT(json.number("completion_tokens"), 10);
    EXPECT_LT(json.number("completion_tokens"), 6000);
}

TEST_F(EnergyLimits, BudgetEndsThePrompt) {
    RunResult r = run({"--json", "-p", words(300), "-n", "4", "--meter", "simulated:400", "--max-joules", "20"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_EQ(json.text("stop_reason"), "energy");
    EXPECT_EQ(json.number("completion_tokens"), 0);
    EXPECT_LT(json.number("energy.phases.prefill.tokens"), json.number("prompt_tokens"));
    EXPECT_GT(json.number("energy.energy_joules"), 10);
    EXPECT_EQ(json.text("energy.phases.decode.reason"), "no token was decoded");
}

TEST_F(EnergyLimits, BudgetWithoutAMeterIsRefused) {
    expect_sentence(run({"-p", "a", "--meter", "none", "--max-joules", "5"}), 1, {"--max-joules"});
}

TEST_F(EnergyLimits, ForecastComesTrue) {
    const std::vector<std::string> args = {"--json", "--forecast", "-p", words(40), "-n", "500", "--meter", "simulated:cpu:20,15"};
    int n_said = 0, n_true = 0;
    for (int k = 0; k < 7; k++) {
        RunResult r = run(args);
        ASSERT_EQ(r.code, 0) << r.err;
        Json json(r.out);
        if (k == 0) {
            EXPECT_TRUE(json_is_null(json.at("forecast.total.joules"))) << r.err;
            EXPECT_TRUE(has(json.text("forecast.total.reason"), "measured")) << json.text("forecast.total.reason");
            EXPECT_TRUE(has(r.err, "forecast: unavailable - ")) << r.err;
            continue;
        }
        if (json_is_null(json.at("forecast.total.joules"))) {
            EXPECT_LT(k, 3) << json.text("forecast.total.reason");
            continue;
        }
        const double low = json.number("forecast.total.low_joules"), high = json.number("forecast.total.high_joules"), took = json.number("energy.energy_joules");
        std::printf("forecast %.2f J (%.2f to %.2f), took %.2f\n", json.number("forecast.total.joules"), low, high, took);
        n_said++;
        n_true += took + json.number("energy.bound_joules") >= low && took - json.number("energy.bound_joules") <= high;
        EXPECT_EQ(json.text("forecast.total.status"), "modelled");
    }
    // A forecast is for the machine as it was: other tests beside this one make steps slower, and dearer by the idle watts.
    EXPECT_GE(n_said, 4);
    EXPECT_GE(2 * n_true, n_said + 1) << n_true << " of " << n_said;
}

TEST_F(EnergyLimits, RequireFailsWithoutASource) {
    expect_sentence(run({"-p", "a", "-n", "1", "--meter", "require"}), 1, {"no energy can be read"});
}

TEST_F(EnergyLimits, ModelIsMarkedAndWide) {
    // The tree of a machine that has as many processors as this one.
    std::filesystem::create_directories(dir_.path("empty/sys/devices/system/cpu"));
    dir_.write("empty/sys/devices/system/cpu/online", "0-" + std::to_string(sysconf(_SC_NPROCESSORS_ONLN) - 1) + "\n");
    RunResult r = run({"--json", "-p", words(10), "-n", "300", "--meter", "model", "--cpu-watts", "10,50"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_EQ(json.text("energy.status"), "modelled");
    EXPECT_EQ(json.text("energy.method"), "modelled");
    const double joules = json.number("energy.energy_joules");
    EXPECT_LE(json.number("energy.low_joules"), 0.8 * joules);
    EXPECT_GE(json.number("energy.high_joules"), 1.25 * joules);
    const double watts = json.number("energy.avg_power_watts"); // of this process' share: between idle and all cores busy
    EXPECT_GT(watts, 5);
    EXPECT_LT(watts, 75);
    r = run({"-p", words(10), "-n", "50", "--meter", "model", "--cpu-watts", "10,50"});
    EXPECT_TRUE(has(r.err, "modelled: ")) << r.err;
    EXPECT_TRUE(has(r.err, "~")) << r.err;
}

TEST_F(EnergyLimits, InterruptedRunIsBooked) {
    RunOptions o = options();
    o.interrupt_after_bytes = 600;
    RunResult r = run({"-p", words(10), "-n", "6000", "--meter", "simulated:40"}, o);
    EXPECT_EQ(r.code, 130) << r.err;
    r = run_wattle({"ledger", "--json"}, options());
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    json_t *total = json_array_get(json.at("total"), 0), *row = json_array_get(json.at("conservation"), 0);
    EXPECT_EQ(json_integer_value(json_object_get(total, "requests")), 1) << r.out;
    EXPECT_GT(json_number_value(json_object_get(json_object_get(total, "energy"), "energy_joules")), 1);
    EXPECT_TRUE(json_is_true(json_object_get(row, "adds_up"))) << r.out;
    r = run_wattle({"ledger", "--export", "jsonl"}, options());
    EXPECT_TRUE(has(r.out, "\"interrupted\"")) << r.out;
}

// ---- A board ---------------------------------------------------------------------------------------------------------
class Board : public EnergyLimits {
  protected:
    RunOptions board(const std::string &script) const {
        return options({"WTL_NVML_PATH=" WTL_FAKE_NVML, "WTL_FAKE_NVML_SCRIPT=" + dir_.write("board.txt", script)});
    }
};

TEST_F(Board, IsListed) {
    RunResult r = run_wattle({"meters", "--json", "--seconds", "1"}, board("device\nname NVIDIA GeForce RTX 3090\ntruth constant 200000\n"));
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    json_t *domain = json_array_get(json.at("domains"), 0);
    EXPECT_STREQ(json_string_value(json_object_get(domain, "source")), "nvml") << r.out;
    EXPECT_STREQ(json_string_value(json_object_get(domain, "scope")), "gpu_board");
    EXPECT_STREQ(json_string_value(json_object_get(domain, "status")), "measured");
    EXPECT_NEAR(json_number_value(json_object_get(domain, "power_watts")), 200, 5);
}

TEST_F(Board, RunIsWithinItsBoundOfTheTruth) {
    struct Case {
        const char *script;
        double watts;
    };
    for (const Case &c : {Case{"device\nname NVIDIA GeForce RTX 3090\ntruth constant 200000\n", 200},
                          Case{"device\nname NVIDIA GeForce RTX 3090\ntruth constant 200000\ngain 0.95\noffset_mw 6000\n", 200},
                          Case{"device\nname NVIDIA A100-PCIE-40GB\ntruth square 100000 240000 70000 0.5\nwindow_us 25000\n", 170}}) {
        RunResult r = run({"--json", "-p", words(20), "-n", "500"}, board(c.script));
        ASSERT_EQ(r.code, 0) << r.err;
        Json json(r.out);
        json_t *domain = json_array_get(json.at("energy.domains"), 0);
        EXPECT_STREQ(json_string_value(json_object_get(domain, "source")), "nvml");
        EXPECT_STREQ(json_string_value(json_array_get(json.at("energy.scope"), 0)), "gpu_board");
        EXPECT_NE(json.text("energy.status"), "unavailable") << json.text("energy.reason");
        const double joules = json.number("energy.energy_joules"), bound = json.number("energy.bound_joules");
        const double truth = c.watts * (json.number("energy.clock.end_seconds") - json.number("energy.clock.start_seconds"));
        std::printf("%s, %.1f J +- %.1f, truth %.1f\n", json.text("energy.status").c_str(), joules, bound, truth);
        EXPECT_LE(std::fabs(joules - truth), bound + 0.035 * 70); // a square's phase at the ends
        std::filesystem::remove_all(dir_.path("state")); // another board: another baseline
    }
}

} // namespace
