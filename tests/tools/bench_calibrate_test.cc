// `wattle bench --calibrate` and who uses what it found.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"
extern "C" {
#include "tools/bench_calibrate.h"
}

namespace {

using std::string;
using std::vector;

TEST(BenchCalibrate, CountsToTry) {
    auto counts = [](int32_t n_cores) {
        int32_t c[CALIBRATE_COUNTS_MAX];
        const size_t n = calibrate_counts(n_cores, c);
        return vector<int32_t>(c, c + n);
    };
    EXPECT_EQ(counts(1), (vector<int32_t>{1}));
    EXPECT_EQ(counts(2), (vector<int32_t>{1, 2}));
    EXPECT_EQ(counts(3), (vector<int32_t>{1, 2, 3}));
    EXPECT_EQ(counts(8), (vector<int32_t>{1, 2, 3, 4, 6, 8}));
    EXPECT_EQ(counts(10), (vector<int32_t>{1, 2, 3, 4, 6, 8, 10}));
    for (int32_t n : {64, 96, 1000, 1024}) {
        const vector<int32_t> c = counts(n);
        EXPECT_EQ(c.front(), 1);
        EXPECT_EQ(c.back(), n);
        for (size_t i = 1; i < c.size(); i++) EXPECT_LT(c[i - 1], c[i]) << n;
    }
}

TEST(BenchCalibrate, FewestThatAreFastEnough) {
    const double grows[] = {10, 19, 27}, flat[] = {100, 102, 101}, falls[] = {50, 30}, late[] = {10, 20, 19.9};
    EXPECT_EQ(calibrate_choose(grows, 3), 2u);
    EXPECT_EQ(calibrate_choose(flat, 3), 0u); // 2 % are not worth another core's energy
    EXPECT_EQ(calibrate_choose(falls, 2), 0u);
    EXPECT_EQ(calibrate_choose(late, 3), 1u);
    EXPECT_EQ(calibrate_choose(grows, 1), 0u);
}

struct Home {
    TempDir dir;
    TinyModel model{[] {
        TinyOptions o;
        o.type = WTL_DTYPE_Q4_0;
        return o;
    }()};
    RunResult run(vector<string> words, vector<string> env = {}) {
        env.push_back("XDG_STATE_HOME=" + dir.path());
        return run_wattle(words, with_env(env));
    }
    RunResult reply(vector<string> more = {}) {
        vector<string> words = {"run", "-m", model.path(), "-p", "hello", "-n", "2", "--json", "--meter", "none", "--ledger", "none"};
        words.insert(words.end(), more.begin(), more.end());
        return run(words);
    }
    string file() { return dir.path("wattle/threads.json"); }
};

TEST(BenchCalibrate, IsKeptAndUsedAndExplained) {
    Home home;
    Json before(home.reply().out);
    EXPECT_NE(before.text("threads.reason").find("physical cores"), string::npos);
    RunResult r = home.run({"bench", "-m", home.model.path(), "--calibrate", "-o", "json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json j(r.out);
    EXPECT_EQ(j.text("file"), home.file());
    const double cores = j.number("cores");
    EXPECT_GE(j.number("prefill_threads"), 1);
    EXPECT_LE(j.number("prefill_threads"), cores);
    EXPECT_LE(j.number("decode_threads"), cores);
    EXPECT_NE(j.text("reason").find("replies with"), string::npos) << j.text("reason");
    EXPECT_EQ(json_integer_value(json_object_get(json_array_get(j.at("measured"), json_array_size(j.at("measured")) - 1), "threads")), (json_int_t)cores);
    Json after(home.reply().out);
    EXPECT_NE(after.text("threads.reason").find("calibrated here on 2"), string::npos) << after.text("threads.reason");
    EXPECT_EQ(after.number("threads.decode"), j.number("decode_threads"));
    Json asked(home.reply({"-t", "1"}).out);
    EXPECT_EQ(asked.text("threads.reason"), "-t says so");
    EXPECT_EQ(asked.number("threads.prefill"), 1);
    // The same text whatever the threads.
    EXPECT_EQ(Json(home.reply({"--temp", "0"}).out).text("text"), Json(home.reply({"--temp", "0", "-t", "1"}).out).text("text"));
}

TEST(BenchCalibrate, AProfileOfAnotherMachineOrADamagedOneDoesNotCount) {
    Home home;
    std::filesystem::create_directories(home.dir.path("wattle"));
    const char *const bad[] = {"", "{", "[]", "{}", R"({"cpu": "x", "cores": 0, "prefill_threads": 1, "decode_threads": 1, "time": "", "reason": ""})",
                               R"({"cpu": "x", "cores": 2, "prefill_threads": 3, "decode_threads": 1, "time": "", "reason": ""})",
                               R"({"cpu": "x", "cores": 1e9, "prefill_threads": -1, "decode_threads": "1", "time": 5, "reason": null})"};
    for (const char *text : bad) {
        home.dir.write("wattle/threads.json", text);
        RunResult r = home.reply();
        ASSERT_EQ(r.code, 0) << r.err;
        EXPECT_NE(Json(r.out).text("threads.reason").find("is damaged"), string::npos) << text;
    }
    home.dir.write("wattle/threads.json", R"({"cpu": "another", "cores": 64, "prefill_threads": 64, "decode_threads": 8, "time": "2026-01-01", "reason": "r"})");
    Json other(home.reply().out);
    EXPECT_NE(other.text("threads.reason").find("of a machine with 64 cores"), string::npos) << other.text("threads.reason");
    EXPECT_LT(other.number("threads.prefill"), 64);
}

TEST(BenchCalibrate, WhereNothingCanBeKept) {
    Home home;
    home.dir.write("wattle", "a file where the folder should be");
    RunResult r = home.run({"bench", "-m", home.model.path(), "--calibrate"});
    EXPECT_EQ(r.code, 1);
    EXPECT_NE(r.err.find("wattle"), string::npos) << r.err;
    expect_sentence(home.run({"bench", "--calibrate", "--limits"}), 2, {"exclude each other"});
    expect_sentence(home.run({"bench", "--calibrate", "-m", "/nowhere/a.gguf"}), 1, {"/nowhere/a.gguf"});
}

} // namespace
