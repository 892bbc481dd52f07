// `wattle bench --plot`: which axis, what is quoted, and what happens without gnuplot.
// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"
extern "C" {
#include "tools/bench_plot.h"
}

namespace {

using std::string;
using std::vector;

struct Row {
    int prompt, gen, depth = 0, threads = 2;
    double joules = -1;
    string type_k = "f16", method = "modelled";
};

string script(const vector<Row> &rows, const string &model = "/m/a.gguf", const string &other_model = "") {
    json_t *all = json_array();
    for (const Row &r : rows)
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o, s:s}", "model_filename", &r != &rows[0] && !other_model.empty() ? other_model.c_str() : model.c_str(),
                                             "type_k", r.type_k.c_str(), "joules_method", r.method.c_str(), "n_prompt", r.prompt, "n_gen", r.gen,
                                             "n_depth", r.depth, "n_threads", r.threads, "n_batch", 2048, "n_ubatch", 512, "avg_ts", 100.0 + r.depth, "stddev_ts", 1.0,
                                             "joules_per_token", r.joules < 0 ? json_null() : json_real(r.joules), "joules_status", r.joules < 0 ? "unavailable" : r.method == "modelled" ? "modelled" : "measured"));
    char *text = bench_plot_script(all);
    string out = text ? text : "";
    free(text);
    json_decref(all);
    return out;
}

bool has(const string &text, const string &part) { return text.find(part) != string::npos; }

TEST(BenchPlot, TheAxisIsWhatVaries) {
    const string depth = script({{0, 8, 0}, {0, 8, 512}, {64, 0, 0}, {64, 0, 512}});
    EXPECT_TRUE(has(depth, "set xlabel 'tokens in the KV cache before'")) << depth;
    EXPECT_TRUE(has(depth, "$line0 << END\n0 100 1 ?\n512 612 1 ?\nEND")) << depth;
    EXPECT_TRUE(has(depth, "'a.gguf, reply'")) << depth;
    EXPECT_TRUE(has(depth, "'a.gguf, prompt'")) << depth;
    EXPECT_FALSE(has(depth, "joules")) << depth;
    const string threads = script({{64, 0, 0, 1}, {64, 0, 0, 2}, {128, 0, 0, 1}, {128, 0, 0, 2}});
    EXPECT_TRUE(has(threads, "set xlabel 'threads'")) << threads;
    EXPECT_TRUE(has(threads, "n_prompt 128'")) << threads;
    EXPECT_TRUE(has(script({{64, 0}, {128, 0}}), "set xlabel 'tokens of the prompt'"));
    const string joules = script({{0, 8, 0, 2, 0.25}, {0, 8, 64, 2, -1}});
    EXPECT_TRUE(has(joules, "0 100 1 0.25\n64 164 1 ?\n")) << joules;
    EXPECT_TRUE(has(joules, "joules a token (modelled)")) << joules;
    EXPECT_TRUE(has(script({{0, 8, 0, 2, 0.25, "f16", "simulated"}, {0, 8, 64, 2, 0.5, "f16", "simulated"}}), "joules a token (simulated)"));
    EXPECT_TRUE(has(script({{0, 8, 0, 2, 0.25, "f16", "counter"}, {0, 8, 64, 2, 0.5, "f16", "counter"}}), "joules a token'"));
}

TEST(BenchPlot, APromptIsNoReplyOfNoTokens) {
    const string one_each = script({{512, 0}, {0, 128}}), several = script({{64, 0}, {128, 0}, {0, 8}, {16, 4}});
    EXPECT_TRUE(has(one_each, "$line0 << END\n512 100")) << one_each;
    EXPECT_TRUE(has(one_each, "$line1 << END\n128 100")) << one_each;
    EXPECT_TRUE(has(one_each, "set xlabel 'tokens of the prompt, or decoded'")) << one_each;
    EXPECT_TRUE(has(several, "$line0 << END\n64 100 1 ?\n128 100")) << several;
    EXPECT_TRUE(has(several, "$line1 << END\n8 100")) << several;
    EXPECT_TRUE(has(several, "$line2 << END\n16 100")) << several;
}

TEST(BenchPlot, WhatDiffersIsNotOneLine) {
    const string kv = script({{0, 8, 0, 2, -1, "f16"}, {0, 8, 64, 2, -1, "f16"}, {0, 8, 0, 2, -1, "q8_0"}, {0, 8, 64, 2, -1, "q8_0"}});
    EXPECT_TRUE(has(kv, "'a.gguf, reply, KV f16'")) << kv;
    EXPECT_TRUE(has(kv, "'a.gguf, reply, KV q8_0'")) << kv;
    const string folders = script({{0, 8}, {0, 8, 64}}, "/q4/model.gguf", "/q8/model.gguf");
    EXPECT_TRUE(has(folders, "'/q4/model.gguf, reply'")) << folders;
    EXPECT_TRUE(has(folders, "'/q8/model.gguf, reply'")) << folders;
}

TEST(BenchPlot, NothingInANameIsRun) {
    const string text = script({{0, 8}}, "/m/it's `touch x`\n\"$(y)\".gguf");
    EXPECT_TRUE(has(text, "'it''s `touch x`?\"$(y)\".gguf, reply'")) << text; // in single quotes nothing is expanded
}

TEST(BenchPlot, WithAndWithoutGnuplot) {
    TempDir dir;
    TinyModel model({});
    const vector<string> words = {"bench", "-m", model.path(), "-p", "8", "-n", "0", "-d", "0,8", "-r", "2", "--no-limits", "--plot", dir.path("out file.svg")};
    expect_sentence(run_wattle(words, with_env({"PATH=" + dir.path()})), 1, {"gnuplot", "not installed"});
    expect_sentence(run_wattle({"bench", "-p", "4", "-n", "0", "-r", "1", "-m", model.path(), "--plot", dir.path("absent/x.svg")}), 1, {"absent/x.svg cannot be written"});
    dir.write("gnuplot", "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\ncat \"$1\" >" + dir.path("seen") + "\necho drawing\n", true);
    RunResult r = run_wattle(words, with_env({"PATH=" + dir.path() + ":/usr/bin:/bin"}));
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(read_whole(dir.path("seen")), "set terminal svg"));
    EXPECT_EQ(read_whole(dir.path("out file.svg")), "drawing\n");
    vector<string> full = words;
    full.back() = "/dev/full";
    r = run_wattle(full, with_env({"PATH=" + dir.path() + ":/usr/bin:/bin"}));
    EXPECT_EQ(r.code, 1);
    EXPECT_TRUE(has(r.err, "/dev/full cannot be written: No space left")) << r.err;
    dir.write("gnuplot", "#!/bin/sh\n", true); // content, and no drawing
    r = run_wattle(words, with_env({"PATH=" + dir.path() + ":/usr/bin:/bin"}));
    EXPECT_EQ(r.code, 1);
    EXPECT_TRUE(has(r.err, "--plot: gnuplot drew nothing")) << r.err;
    EXPECT_EQ(read_whole(dir.path("out file.svg")), "drawing\n"); // the one before stays
    dir.write("gnuplot", "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho cannot draw >&2\nexit 3\n", true);
    r = run_wattle(words, with_env({"PATH=" + dir.path() + ":/usr/bin:/bin"}));
    EXPECT_EQ(r.code, 1);
    EXPECT_TRUE(has(r.err, "gnuplot ended with 3: cannot draw")) << r.err;
    EXPECT_TRUE(has(r.out, "| pp8 @ d8") || has(r.out, "pp8 @ d8 |")) << r.out; // the table is not lost
    if (system("command -v gnuplot >/dev/null") != 0) GTEST_SKIP() << "gnuplot is not installed";
    ASSERT_EQ(run_wattle(words).code, 0);
    EXPECT_TRUE(has(read_whole(dir.path("out file.svg")), "<svg"));
}

} // namespace
