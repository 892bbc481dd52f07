// Lists of `wattle bench`, what a busy machine looks like, and the statistics of its ratios.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <random>

#include <gtest/gtest.h>
extern "C" {
#include "tools/bench.h"
#include "tools/bench_stats.h"
}

namespace {

using std::string;
using std::vector;

vector<int> numbers(const string &text, int min = 0, string *why = nullptr) {
    bench_list list = {};
    char reason[200] = "";
    bench_list_add(&list, text.c_str(), min, reason, sizeof reason);
    if (why) *why = reason;
    return vector<int>(list.values, list.values + list.n);
}

TEST(BenchList, NumbersAndRanges) {
    EXPECT_EQ(numbers("7"), (vector<int>{7}));
    EXPECT_EQ(numbers("1,2,4"), (vector<int>{1, 2, 4}));
    EXPECT_EQ(numbers("1-4"), (vector<int>{1, 2, 3, 4}));
    EXPECT_EQ(numbers("128-512+128"), (vector<int>{128, 256, 384, 512}));
    EXPECT_EQ(numbers("1-64*4"), (vector<int>{1, 4, 16, 64}));
    EXPECT_EQ(numbers("1-70*4"), (vector<int>{1, 4, 16, 64})); // the end need not be hit
    EXPECT_EQ(numbers("0,5-6,1-9*3"), (vector<int>{0, 5, 6, 1, 3, 9}));
    EXPECT_EQ(numbers("3-3"), (vector<int>{3}));
    EXPECT_EQ(numbers("1,2,"), (vector<int>{1, 2})); // what a loop of a script writes; llama-bench takes it
}

TEST(BenchList, WrongOnesLeaveNothingAndSayWhy) {
    for (const char *bad : {"", ",", "1,,", ",1", "x", "1x", "-1", "+1", " 1", "1 ", "1-", "1--2", "1-4+", "1-4*", "1-4/2", "4-1", "1-4+0", "1-4*1", "0-4*2", "1.5", "1-4-2",
                            "99999999999", "1-99999999999", "0-1000000"}) {
        string why;
        EXPECT_TRUE(numbers(bad, 0, &why).empty()) << bad;
        EXPECT_NE(why, "") << bad;
    }
    string why;
    EXPECT_TRUE(numbers("1,0", 1, &why).empty());
    EXPECT_NE(why.find("0 is below 1"), string::npos) << why;
    bench_list list = {};
    char reason[200];
    EXPECT_TRUE(bench_list_add(&list, "1,2", 0, reason, sizeof reason));
    EXPECT_FALSE(bench_list_add(&list, "3,x", 0, reason, sizeof reason));
    EXPECT_EQ(list.n, 2u); // the good ones of before stay, the half list is gone
}

TEST(BenchList, Pairs) {
    int32_t a = -1, b = -1;
    char why[200];
    EXPECT_TRUE(bench_pair_parse("512,128", &a, &b, why, sizeof why));
    EXPECT_EQ(a, 512);
    EXPECT_EQ(b, 128);
    EXPECT_TRUE(bench_pair_parse("0,1", &a, &b, why, sizeof why));
    for (const char *bad : {"512", "512,", ",128", "512,128,1", "0,0", "1-2,3", "a,b"}) EXPECT_FALSE(bench_pair_parse(bad, &a, &b, why, sizeof why)) << bad;
}

TEST(BenchCase, OrderAndDefaultsAreLlamaBenchs) {
    bench_params p = {};
    p.models[p.n_models++] = "m";
    bench_case *cases = nullptr;
    size_t n = 0;
    ASSERT_EQ(bench_cases(&p, &cases, &n), CLI_GO);
    ASSERT_EQ(n, 2u);
    char name[64];
    EXPECT_STREQ(bench_case_name(&cases[0], name, sizeof name), "pp512");
    EXPECT_STREQ(bench_case_name(&cases[1], name, sizeof name), "tg128");
    EXPECT_EQ(cases[0].n_batch, 2048);
    EXPECT_EQ(cases[0].n_ubatch, 512);
    free(cases);

    char why[100];
    ASSERT_TRUE(bench_list_add(&p.n_threads, "1,2", 1, why, sizeof why));
    ASSERT_TRUE(bench_list_add(&p.n_depth, "0,64", 0, why, sizeof why));
    ASSERT_TRUE(bench_list_add(&p.n_parallel, "8", 1, why, sizeof why));
    p.pair_prompt[0] = 4;
    p.pair_gen[p.n_pairs++] = 2;
    ASSERT_EQ(bench_cases(&p, &cases, &n), CLI_GO);
    string all;
    for (size_t i = 0; i < n; i++) all += std::to_string(cases[i].n_threads) + ":" + bench_case_name(&cases[i], name, sizeof name) + " ";
    EXPECT_EQ(all, "1:pp512 x8 1:tg128 x8 1:pp4+tg2 x8 1:pp512 @ d64 x8 1:tg128 @ d64 x8 1:pp4+tg2 @ d64 x8 "
                   "2:pp512 x8 2:tg128 x8 2:pp4+tg2 x8 2:pp512 @ d64 x8 2:tg128 @ d64 x8 2:pp4+tg2 @ d64 x8 ");
    free(cases);
}

// A type that no test would have is not left out in silence.
TEST(BenchCase, EveryKvTypeHasItsLikeOnTheOtherSide) {
    struct {
        vector<wtl_kv_type> k, v;
        int code;
        size_t n;
    } const sides[] = {{{WTL_KV_F16, WTL_KV_Q8_0}, {WTL_KV_Q8_0, WTL_KV_F16}, CLI_GO, 2}, {{WTL_KV_F16, WTL_KV_Q8_0}, {}, CLI_USAGE, 0},
                       {{WTL_KV_Q8_0}, {WTL_KV_F16, WTL_KV_F32}, CLI_USAGE, 0}, {{WTL_KV_F16}, {WTL_KV_F16, WTL_KV_F32}, CLI_USAGE, 0}};
    for (const auto &side : sides) {
        bench_params p = {};
        char why[100];
        p.models[p.n_models++] = "m";
        ASSERT_TRUE(bench_list_add(&p.n_gen, "0", 0, why, sizeof why));
        for (wtl_kv_type type : side.k) p.type_k[p.n_type_k++] = type;
        for (wtl_kv_type type : side.v) p.type_v[p.n_type_v++] = type;
        bench_case *cases = nullptr;
        size_t n = 0;
        EXPECT_EQ(bench_cases(&p, &cases, &n), side.code);
        EXPECT_EQ(n, side.n);
        free(cases);
    }
}

TEST(BenchMachine, SharesOfOthers) {
    bench_moment a = {}, b = {};
    ASSERT_TRUE(bench_moment_parse("cpu  100 0 50 1000 10 0 0 5 0 0\n", &a));
    ASSERT_TRUE(bench_moment_parse("cpu  250 0 60 1130 20 0 0 25 0 0\n", &b));
    EXPECT_EQ(b.busy_ticks - a.busy_ticks, 160u);
    EXPECT_EQ(b.all_ticks - a.all_ticks, 320u);
    EXPECT_FALSE(bench_moment_parse("intr 1 2 3 4", &a));
    EXPECT_FALSE(bench_moment_parse("", &a));
    a.known = b.known = true;
    b.wall_ns = 1600000000;
    b.own_cpu_ns = 1280000000; // 128 of the 160 ticks of 10 ms
    if (sysconf(_SC_CLK_TCK) != 100) GTEST_SKIP() << "clock ticks of another length";
    bench_use use = bench_use_between(&a, &b);
    ASSERT_TRUE(use.known);
    EXPECT_NEAR(use.others_frac, 32.0 / 320, 1e-9);
    EXPECT_NEAR(use.steal_frac, 20.0 / 320, 1e-9);
    char text[200];
    ASSERT_NE(bench_use_warning(&use, text, sizeof text), nullptr);
    EXPECT_NE(string(text).find("10 %"), string::npos) << text;
    use.others_frac = 0.01, use.steal_frac = 0.01;
    EXPECT_EQ(bench_use_warning(&use, text, sizeof text), nullptr);
    b.all_ticks = a.all_ticks + 3; // too short to say anything
    EXPECT_FALSE(bench_use_between(&a, &b).known);
}

TEST(BenchStats, MeansAndSpreads) {
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    EXPECT_DOUBLE_EQ(bench_mean(x, 8), 5);
    EXPECT_NEAR(bench_stddev(x, 8), std::sqrt(32.0 / 7), 1e-12);
    EXPECT_EQ(bench_stddev(x, 1), 0);
    EXPECT_EQ(bench_mean(x, 0), 0);
}

// What the pairs share must cancel, and the interval must hold the truth in about 95 of 100 runs.
TEST(BenchStats, PairedRatioCancelsDriftAndCoversTheTruth) {
    printf("seed 11\n");
    std::mt19937_64 random(11);
    std::normal_distribution<double> noise(0, 0.02);
    for (size_t n : {3, 5, 12, 30}) {
        int inside = 0;
        for (int run = 0; run < 2000; run++) {
            double a[30], b[30];
            for (size_t i = 0; i < n; i++) {
                const double drift = 1 + 0.5 * (double)i; // the machine slows down
                a[i] = 100 / drift * std::exp(noise(random));
                b[i] = 130 / drift * std::exp(noise(random));
            }
            const bench_ratio r = bench_paired_ratio(a, b, n);
            EXPECT_NEAR(r.ratio, 1.3, 0.15);
            inside += r.low <= 1.3 && 1.3 <= r.high;
        }
        EXPECT_GT(inside, 2000 * 0.93) << n;
        EXPECT_LT(inside, 2000 * 0.97) << n;
    }
    const double a[] = {1}, b[] = {2};
    EXPECT_DOUBLE_EQ(bench_paired_ratio(a, b, 1).ratio, 2);
    EXPECT_TRUE(std::isnan(bench_paired_ratio(a, b, 1).low));
}

TEST(BenchStats, RatioOfMeansCoversTheTruth) {
    printf("seed 12\n");
    std::mt19937_64 random(12);
    std::normal_distribution<double> noise(0, 1);
    int inside = 0;
    for (int run = 0; run < 2000; run++) {
        double a[5], b[9];
        for (double &x : a) x = 100 + 3 * noise(random);
        for (double &x : b) x = 150 + 2 * noise(random);
        const bench_ratio r = bench_means_ratio(a, 5, b, 9);
        inside += r.low <= 1.5 && 1.5 <= r.high;
    }
    EXPECT_GT(inside, 2000 * 0.93);
    EXPECT_LT(inside, 2000 * 0.985); // degrees of freedom are rounded down: a little long
}

} // namespace
