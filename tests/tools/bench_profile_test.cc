// `wattle bench --profile`: the operations explain the step, and count what the step counted.
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

using std::string;
using std::vector;

struct Sums {
    double explained = 0, macs = 0, bytes = 0, shares = 0, calls = 0;
    vector<string> names;
};

// The reports of a run, by test.
vector<Sums> profile(const string &model, vector<string> args) {
    args.insert(args.begin(), {"bench", "--profile", "-m", model, "-o", "json", "--no-limits"});
    RunResult r = run_wattle(args);
    EXPECT_EQ(r.code, 0) << r.err;
    vector<Sums> out;
    json_t *reports = json_loads(r.out.c_str(), 0, nullptr), *report, *op;
    size_t i, k;
    json_array_foreach(reports, i, report) {
        Sums s;
        s.explained = json_number_value(json_object_get(report, "explained_frac"));
        json_array_foreach(json_object_get(report, "ops"), k, op) {
            s.macs += json_number_value(json_object_get(op, "macs_per_step"));
            s.bytes += json_number_value(json_object_get(op, "bytes_per_step"));
            s.shares += json_number_value(json_object_get(op, "time_share"));
            s.calls += json_number_value(json_object_get(op, "calls_per_step"));
            s.names.push_back(json_string_value(json_object_get(op, "op")));
            EXPECT_TRUE(json_is_null(json_object_get(op, "pct_bandwidth"))); // no limits were measured
        }
        out.push_back(s);
    }
    json_decref(reports);
    return out;
}

bool has(const Sums &s, const string &name) { return std::find(s.names.begin(), s.names.end(), name) != s.names.end(); }

TEST(BenchProfile, OperationsExplainTheStepAndCountTheSameWork) {
    for (const char *arch : {"llama", "gemma3"}) {
        TinyOptions o;
        o.arch = arch;
        o.type = WTL_DTYPE_Q4_0;
        o.n_embd = 512, o.n_ff = 1536, o.n_heads = 8;
        TinyModel model(o);
        const vector<Sums> reports = profile(model.path(), {"-p", "64", "-n", "32", "-d", "8", "-r", "20"});
        ASSERT_EQ(reports.size(), 2u);
        EXPECT_GE(reports[0].explained, 0.95) << arch;
        for (const Sums &s : reports) {
            EXPECT_NEAR(s.shares, s.explained, 1e-6);
            EXPECT_LE(s.explained, 1.0);
            for (const char *name : {"matmul q, k, v", "matmul attention output", "matmul gate, up", "matmul down", "matmul head", "attention", "rope"}) EXPECT_TRUE(has(s, name)) << name;
            EXPECT_FALSE(has(s, "matmul, other"));
        }
        // The same tests as rows: multiply-adds of the session's own account, which knows nothing of operations.
        RunResult r = run_wattle({"bench", "-m", model.path(), "-p", "64", "-n", "32", "-d", "8", "-r", "2", "-o", "json", "--no-limits"});
        json_t *rows = json_loads(r.out.c_str(), 0, nullptr);
        ASSERT_EQ(json_array_size(rows), 2u);
        for (size_t i = 0; i < 2; i++) {
            const double ns = json_number_value(json_object_get(json_array_get(rows, i), "avg_ns")), rate = json_number_value(json_object_get(json_array_get(rows, i), "gmac_per_s"));
            const double steps = i == 0 ? 1 : 32, bytes = ns * json_number_value(json_object_get(json_array_get(rows, i), "gb_per_s"));
            EXPECT_NEAR(reports[i].macs * steps, ns * rate, 1e-5 * ns * rate) << arch << " " << i;
            EXPECT_GE(reports[i].bytes * steps, 0.99 * bytes); // activations come on top
        }
        json_decref(rows);
    }
}

// Attention is held against what the machine does with the numbers of the KV cache: 16 bits, with q8_0 and VNNI bytes for one half.
TEST(BenchProfile, AttentionHasAShareOfItsOwnLimit) {
    TinyOptions o;
    o.type = WTL_DTYPE_Q4_0; // the limit of bytes is the matrices' limit
    TinyModel model(o);
    for (const char *kv : {"f16", "q8_0"}) {
        RunResult r = run_wattle({"bench", "-m", model.path(), "-p", "64", "-n", "0", "-r", "5", "-ctk", kv, "-ctv", kv, "--profile", "-o", "json"});
        ASSERT_EQ(r.code, 0) << r.err;
        json_t *reports = json_loads(r.out.c_str(), 0, nullptr), *report = json_array_get(reports, 0), *op;
        size_t i, found = 0;
        auto number = [](json_t *o, const char *name) { return json_number_value(json_object_get(o, name)); };
        json_array_foreach(json_object_get(report, "ops"), i, op) {
            if (string(json_string_value(json_object_get(op, "op"))) != "attention") continue;
            const double by_int16 = 100 * number(op, "gmac_per_s") / number(report, "limit_int16_gmac_per_s"), by_int8 = 100 * number(op, "gmac_per_s") / number(report, "limit_gmac_per_s");
            const bool vnni = string(json_string_value(json_object_get(report, "engine"))).find("vnni") != string::npos;
            EXPECT_GT(by_int16, 0);
            EXPECT_NEAR(number(op, "pct_compute"), string(kv) == "q8_0" && vnni ? (by_int16 + by_int8) / 2 : by_int16, 1e-6) << kv;
            found++;
        }
        EXPECT_EQ(found, 1u);
        json_decref(reports);
    }
}

TEST(BenchProfile, RealModel) {
    const char *model = getenv("WTL_TEST_SMOLLM2");
    if (!model) GTEST_SKIP() << "WTL_TEST_SMOLLM2 is not set";
    for (const Sums &s : profile(model, {"-p", "64", "-n", "16", "-r", "2"})) EXPECT_GE(s.explained, 0.95);
}

TEST(BenchProfile, CtrlCPrintsWhatIsDone) {
    TinyModel model({});
    RunOptions o;
    o.before = {"timeout", "--preserve-status", "-s", "INT", "2"};
    RunResult r = run_wattle({"bench", "--profile", "-m", model.path(), "-p", "64", "-n", "0", "-r", "100000", "--no-limits", "-o", "json"}, o);
    EXPECT_EQ(r.code, 130) << r.err;
    json_t *reports = json_loads(r.out.c_str(), 0, nullptr), *report = json_array_get(reports, 0);
    ASSERT_NE(report, nullptr) << r.out;
    EXPECT_GE(json_integer_value(json_object_get(report, "n_steps")), 1);
    EXPECT_GE(json_number_value(json_object_get(report, "explained_frac")), 0.5);
    json_decref(reports);
}

TEST(BenchProfile, LimitsThatWereNotMeasuredAreNoZeros) {
    TinyModel model({});
    RunResult r = run_wattle({"bench", "--profile", "-m", model.path(), "-p", "16", "-n", "0", "-r", "1", "--no-limits"});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out.find("memory 0.0"), string::npos) << r.out;
    r = run_wattle({"bench", "--profile", "-m", model.path(), "-p", "16", "-n", "0", "-r", "1", "--no-limits", "-o", "json"});
    json_t *reports = json_loads(r.out.c_str(), 0, nullptr), *report = json_array_get(reports, 0);
    for (const char *name : {"limit_gb_per_s", "limit_gmac_per_s", "limit_int16_gmac_per_s"}) EXPECT_TRUE(json_is_null(json_object_get(report, name))) << name;
    json_decref(reports);
}

TEST(BenchProfile, Formats) {
    TinyModel model({});
    RunResult table = run_wattle({"bench", "--profile", "-m", model.path(), "-p", "16", "-n", "0", "-r", "1"});
    EXPECT_EQ(table.code, 0) << table.err;
    EXPECT_NE(table.out.find("| all of these"), string::npos) << table.out;
    EXPECT_NE(table.out.find(" %"), string::npos);
    expect_sentence(run_wattle({"bench", "--profile", "-m", model.path(), "-o", "csv"}), 2, {"--profile", "md or json"});
}

} // namespace
