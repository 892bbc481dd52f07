// `wattle bench --compare` on written files and `--vs` on a tiny model.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

using std::string;
using std::vector;

// As llama-bench writes it: none of our fields.
string theirs(int n_prompt, int n_gen, int threads, vector<double> ts, const string &model = "/models/a.gguf") {
    double mean = 0;
    string samples;
    for (double t : ts) {
        mean += t / (double)ts.size();
        samples += (samples.empty() ? "" : ", ") + std::to_string(t);
    }
    return R"({"build_commit": "abc", "cpu_info": "cpu", "model_filename": ")" + model + R"(", "model_type": "llama 1B Q4_0", "n_batch": 2048, "n_ubatch": 512, "n_threads": )" +
           std::to_string(threads) + R"(, "type_k": "f16", "type_v": "f16", "flash_attn": -1, "n_prompt": )" + std::to_string(n_prompt) + R"(, "n_gen": )" +
           std::to_string(n_gen) + R"(, "n_depth": 0, "avg_ts": )" + std::to_string(mean) + R"(, "stddev_ts": 1, "samples_ts": [ )" + samples + " ]}";
}

RunResult compare(const string &a, const string &b, vector<string> more = {}) {
    vector<string> words = {"bench", "--compare", a, b};
    words.insert(words.end(), more.begin(), more.end());
    return run_wattle(words);
}

TEST(BenchCompare, PairsTheSameTestsAndSaysWhatDiffers) {
    TempDir dir;
    const string a = dir.write("a.json", "[\n" + theirs(512, 0, 1, {100, 102, 98}) + ",\n" + theirs(512, 0, 2, {200, 202, 198}) + ",\n" + theirs(0, 8, 2, {10}) + "\n]\n");
    // JSON lines, other threads for one of them, another folder of the same file, a test that A has not.
    const string b = dir.write("b.jsonl", theirs(512, 0, 2, {300, 303, 297}, "/elsewhere/a.gguf") + "\n" + theirs(0, 8, 4, {15}) + "\n" + theirs(64, 0, 2, {1}) + "\n");
    RunResult r = compare(a, b, {"-o", "json"});
    ASSERT_EQ(r.code, 0) << r.err;
    json_t *pairs = json_loads(r.out.c_str(), 0, nullptr);
    ASSERT_EQ(json_array_size(pairs), 3u) << r.out;
    auto at = [&](size_t i, const char *field) { return json_object_get(json_array_get(pairs, i), field); };
    // The first row of A takes the only pp512 of B, though its threads differ; the second one finds none left.
    EXPECT_STREQ(json_string_value(at(0, "differs")), "n_threads 1 -> 2");
    EXPECT_NEAR(json_number_value(at(0, "ratio")), 3, 1e-6);
    EXPECT_LT(json_number_value(at(0, "low")), 3);
    EXPECT_GT(json_number_value(at(0, "low")), 2.7);
    EXPECT_TRUE(json_is_null(at(1, "b")));
    EXPECT_TRUE(json_is_null(at(1, "ratio")));
    EXPECT_NEAR(json_number_value(at(2, "ratio")), 1.5, 1e-6);
    EXPECT_TRUE(json_is_null(at(2, "low"))); // one sample has no interval
    json_decref(pairs);
    RunResult table = compare(a, b);
    ASSERT_EQ(table.code, 0) << table.err;
    EXPECT_NE(table.out.find("| pp512, n_threads 1 | 100.00 | 300.00 | 3.000 |"), string::npos) << table.out;
    EXPECT_NE(table.out.find("| tg8 | 10.00 | 15.00 |"), string::npos) << table.out; // the only one in A
    EXPECT_NE(table.out.find("only in " + a + ": pp512"), string::npos) << table.out;
    EXPECT_NE(table.out.find("only in " + b + ": pp64"), string::npos) << table.out;
}

TEST(BenchCompare, RowsCanBeToldApart) {
    TempDir dir;
    const string a = dir.write("a.json", theirs(512, 0, 1, {100}) + theirs(512, 0, 2, {200})), b = dir.write("b.json", theirs(512, 0, 1, {110}) + theirs(512, 0, 2, {220}));
    RunResult r = compare(a, b);
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("| pp512, n_threads 1 | 100.00 | 110.00 | 1.100 |"), string::npos) << r.out;
    EXPECT_NE(r.out.find("| pp512, n_threads 2 | 200.00 | 220.00 | 1.100 |"), string::npos) << r.out;
}

TEST(BenchCompare, WhatIsUnknownIsNoZeroAndFlagsAreValues) {
    TempDir dir;
    string older = theirs(512, 0, 1, {100}); // llama-bench had a flag there once
    older.replace(older.find("\"flash_attn\": -1"), 16, "\"flash_attn\": true");
    string newer = theirs(512, 0, 1, {100});
    newer.replace(newer.find("\"flash_attn\": -1"), 16, "\"flash_attn\": 1");
    RunResult r = compare(dir.write("a.json", older), dir.write("b.json", newer));
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out.find("flash_attn"), string::npos) << r.out;
    const string none = dir.write("none.json", R"({"n_prompt": 512, "n_gen": 0, "avg_ts": 0, "samples_ts": [ ]})");
    r = compare(none, dir.path("b.json"));
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("| pp512 | 0.00 | 100.00 | - | - |"), string::npos) << r.out;
    expect_sentence(compare(dir.path(), dir.path("b.json")), 1, {"directory"});
}

TEST(BenchCompare, DamagedFilesGetASentence) {
    TempDir dir;
    const string good = dir.write("good.json", theirs(512, 0, 1, {100}));
    for (const char *text : {"", "[]", "{", "[1]", "{\"n_prompt\": 1}", "[{}]", "hello", "{\"n_prompt\": \"x\", \"n_gen\": 1, \"avg_ts\": 1}"}) {
        const string bad = dir.write("bad.json", text);
        expect_sentence(compare(good, bad), 1, {bad});
        expect_sentence(compare(bad, good), 1, {bad});
    }
    expect_sentence(compare(good, dir.path("absent.json")), 1, {"absent.json", "No such file"});
    expect_sentence(run_wattle({"bench", "--compare", good}), 2, {"two files"});
    expect_sentence(compare(good, good, {"-o", "sql"}), 2, {"md or json"});
    expect_sentence(compare(good, good, {"--profile"}), 2, {"exclude each other"});
    // Absurd numbers are no crash.
    const string wild = dir.write("wild.json", R"({"n_prompt": 1e300, "n_gen": -5, "avg_ts": 0, "samples_ts": [0, -1, "x"], "n_parallel": -2})");
    EXPECT_EQ(compare(wild, wild).code, 0);
}

TEST(BenchVs, InterleavesAndNamesTheSettings) {
    TinyOptions o;
    o.type = WTL_DTYPE_Q4_0;
    TinyModel model(o);
    auto vs = [&](const string &b, vector<string> more = {}, vector<string> env = {}) {
        vector<string> words = {"bench", "-m", model.path(), "-p", "32", "-n", "4", "-r", "5", "--no-limits", "--vs", b, "-o", "json"};
        words.insert(words.end(), more.begin(), more.end());
        return run_wattle(words, with_env(env));
    };
    RunResult r = vs("-ub 4");
    ASSERT_EQ(r.code, 0) << r.err;
    json_t *reports = json_loads(r.out.c_str(), 0, nullptr);
    ASSERT_EQ(json_array_size(reports), 2u) << r.out;
    json_t *first = json_array_get(reports, 0), *a = json_object_get(first, "a"), *b = json_object_get(first, "b");
    EXPECT_EQ(json_integer_value(json_object_get(first, "n_pairs")), 5);
    EXPECT_EQ(json_integer_value(json_object_get(a, "n_ubatch")), 512);
    EXPECT_EQ(json_integer_value(json_object_get(b, "n_ubatch")), 4);
    EXPECT_EQ(json_integer_value(json_object_get(b, "n_prompt")), 32);
    // The ratio is the geometric mean over the pairs.
    double sum = 0;
    for (size_t i = 0; i < 5; i++)
        sum += std::log(json_number_value(json_array_get(json_object_get(a, "samples_ns"), i)) / json_number_value(json_array_get(json_object_get(b, "samples_ns"), i)));
    EXPECT_NEAR(json_number_value(json_object_get(first, "ratio")), std::exp(sum / 5), 1e-6);
    EXPECT_LT(json_number_value(json_object_get(first, "low")), json_number_value(json_object_get(first, "high")));
    json_decref(reports);
    // What the environment says is A's and B's; what --vs says is B's alone.
    r = vs("-t 1", {}, {"WTL_UBATCH_SIZE=8", "WTL_THREADS=2"});
    ASSERT_EQ(r.code, 0) << r.err;
    reports = json_loads(r.out.c_str(), 0, nullptr);
    first = json_array_get(reports, 0), a = json_object_get(first, "a"), b = json_object_get(first, "b");
    EXPECT_EQ(json_integer_value(json_object_get(a, "n_threads")), 2);
    EXPECT_EQ(json_integer_value(json_object_get(b, "n_threads")), 1);
    EXPECT_EQ(json_integer_value(json_object_get(a, "n_ubatch")), 8);
    EXPECT_EQ(json_integer_value(json_object_get(b, "n_ubatch")), 8);
    json_decref(reports);
    for (const string &b_text : {string(model.path()), string("-ub 4")}) { // A's own option reaches B, before the environment
        r = vs(b_text, {"-t", "1"}, {"WTL_THREADS=2"});
        ASSERT_EQ(r.code, 0) << r.err;
        reports = json_loads(r.out.c_str(), 0, nullptr);
        EXPECT_EQ(json_integer_value(json_object_get(json_object_get(json_array_get(reports, 0), "b"), "n_threads")), 1) << b_text;
        json_decref(reports);
    }
    expect_sentence(vs("-n 1,2,3"), 2, {"2 tests", "4"});
    expect_sentence(vs("-t x"), 2, {"--threads x"});
    expect_sentence(vs("/nowhere/b.gguf"), 1, {"/nowhere/b.gguf"});
    for (const char *fixed : {"-r 9", "-o csv", "--limits", "--no-warmup", "--meter none"}) expect_sentence(vs(fixed), 2, {"--vs", "no option"}); // the same for A and B
    r = vs("-ub 8", {"-t", "1,2", "-n", "0", "-o", "md"});
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char *row : {"| pp32, n_threads 1 |", "| pp32, n_threads 2 |"}) EXPECT_NE(r.out.find(row), string::npos) << r.out;
}

} // namespace
