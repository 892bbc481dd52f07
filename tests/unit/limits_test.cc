// The machine's limits: every pattern reads every byte once, every thread of the team runs once, figures are possible ones.
// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/limits.h"
#include "kernels/cpu/limits_team.h"
#include "runtime/base/clock.h"
#include "runtime/limits.h"

namespace {

std::vector<const cpu_limit_kernels *> kernels_here() {
    std::vector<const cpu_limit_kernels *> all = {&cpu_limits_scalar};
#if defined(__x86_64__)
    if (cpu_isa_available(CPU_ISA_AVX2)) all.push_back(&cpu_limits_avx2);
    if (cpu_isa_available(CPU_ISA_AVXVNNI)) all.push_back(&cpu_limits_avxvnni);
    if (cpu_isa_available(CPU_ISA_AVX512VNNI)) all.push_back(&cpu_limits_avx512vnni);
#elif defined(__aarch64__)
    if (cpu_isa_available(CPU_ISA_NEON_DOTPROD)) all.push_back(&cpu_limits_neon_dotprod);
    if (cpu_isa_available(CPU_ISA_NEON_I8MM)) all.push_back(&cpu_limits_neon_i8mm);
#endif
    return all;
}

TEST(Limits, EveryPatternReadsEveryByteOnce) {
    printf("seed 3\n");
    std::mt19937 random(3);
    std::vector<uint8_t> piece(CPU_LIMIT_PIECE);
    for (auto &b : piece) b = (uint8_t)random();
    // All 64-bit words folded by exclusive or: a word that is left out, or read twice, shows.
    uint64_t want = 0, word;
    for (size_t i = 0; i < piece.size(); i += 8) {
        memcpy(&word, &piece[i], 8);
        want ^= word;
    }
    for (const cpu_limit_kernels *k : kernels_here())
        for (int streams : {1, 2, 4})
            for (int ahead : {0, 512, 4096})
                for (bool passing : {false, true}) {
                    const cpu_read_pattern p = {ahead, passing, streams};
                    EXPECT_EQ(k->read(piece.data(), &p), want) << k->int8_name << " " << streams << " " << ahead;
                }
}

TEST(Limits, TwiceTheRoundsTakeAboutTwiceTheTime) { // nothing was optimised away
    for (const cpu_limit_kernels *k : kernels_here())
        for (auto kernel : {k->int8, k->f32}) {
            double best[2] = {1e18, 1e18};
            int64_t rounds = 1000;
            EXPECT_EQ(kernel(2 * rounds), 2 * kernel(rounds));
            for (int run = 0; run < 40; run++)
                for (int i = 0; i < 2; i++) {
                    const uint64_t start = wtl_clock_ns();
                    kernel(i ? 4 * rounds : rounds);
                    const double ns = (double)(wtl_clock_ns() - start);
                    if (ns < best[i]) best[i] = ns;
                }
            EXPECT_GT(best[1], 2 * best[0]) << k->int8_name;
            EXPECT_LT(best[1], 8 * best[0]) << k->int8_name;
        }
}

struct Counts {
    std::atomic<int> runs[8] = {};
    std::atomic<int> n{0};
};

TEST(Limits, TheTeamRunsOnEveryThreadAndLeavesTheMaskAsItWas) {
    cpu_set_t before, after;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    for (int n : {1, 2, 5}) {
        limits_team *team = nullptr;
        wtl_error err;
        ASSERT_EQ(limits_team_open(n, &team, &err), WTL_OK);
        Counts counts;
        for (int run = 0; run < 20; run++)
            limits_team_run(team, [](void *ctx, int32_t thread, int32_t n_threads) {
                ((Counts *)ctx)->runs[thread]++;
                ((Counts *)ctx)->n = n_threads;
            }, &counts);
        limits_team_close(&team);
        EXPECT_EQ(team, nullptr);
        EXPECT_EQ(counts.n, n);
        for (int i = 0; i < 8; i++) EXPECT_EQ(counts.runs[i], i < n ? 20 : 0);
    }
    ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
    limits_team *team = nullptr;
    wtl_error err;
    EXPECT_EQ(limits_team_open(0, &team, &err), WTL_ERR_INVALID);
    EXPECT_EQ(limits_team_open(100000, &team, &err), WTL_ERR_INVALID);
    limits_team_close(nullptr);
}

TEST(Limits, FiguresArePossible) {
    wtl_limits l;
    wtl_error err;
    const uint64_t start = wtl_clock_ns();
    ASSERT_EQ(wtl_limits_measure(1, &l, &err), WTL_OK) << err.message;
    EXPECT_LT(wtl_clock_ns() - start, 30ull * 1000000000);
    EXPECT_EQ(l.n_threads, 1);
    EXPECT_GE(l.read_gb_per_s, l.plain_gb_per_s);
    EXPECT_GT(l.plain_gb_per_s, 0.1);
    EXPECT_LT(l.read_gb_per_s, 5000);
    EXPECT_GT(l.int8_gmac_per_s, 0.1);
    EXPECT_LT(l.int8_gmac_per_s, 10000);
    EXPECT_GT(l.int16_gmac_per_s, 0.1);
    EXPECT_LT(l.int16_gmac_per_s, 10000);
    EXPECT_GT(l.f32_gmac_per_s, 0.05);
    EXPECT_NE(strstr(l.read_pattern, "pages"), nullptr) << l.read_pattern;
    EXPECT_GE(l.buffer_bytes, 64u << 20);
    EXPECT_EQ(wtl_limits_measure(-1, &l, &err), WTL_ERR_INVALID);
    setenv("WTL_CPU_MASK", "no-such-set", 1);
    EXPECT_EQ(wtl_limits_measure(1, &l, &err), WTL_ERR_INVALID);
    unsetenv("WTL_CPU_MASK");
}

} // namespace
