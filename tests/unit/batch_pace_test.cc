// The model of a step's time against machines with a known law, under a made-up clock.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/batch_pace.h"

namespace {

// A machine: nanoseconds of a step.
struct Law {
    double step = 8e6, decode = 0.6e6, prompt = 0.25e6, million = 2e6, noise = 0.05;
    double ns(const batch_load &l) const { return step + decode * l.n_decode + prompt * l.n_prompt + million * (double)l.kv_positions * 1e-6; }
    uint64_t took(const batch_load &l, std::mt19937 &rng) const {
        return (uint64_t)(ns(l) * std::exp(std::normal_distribution<double>(0, noise)(rng)));
    }
};

batch_pace cautious() {
    batch_pace p;
    batch_pace_open(&p, 40e6, 4e6, 10e6);
    return p;
}

// As the batch does: the most rows of a prompt with n_past tokens that keep the step under the target, at least 16.
batch_load plan(const batch_pace &p, int n_decode, int n_past, double target_ns) {
    batch_load best = {n_decode, 16, (uint64_t)n_decode * 8000};
    for (int rows = 16; rows <= std::min(512, batch_pace_most_rows(&p)); rows++) {
        batch_load l = {n_decode, rows, (uint64_t)n_decode * 8000 + (uint64_t)rows * 30 * (uint64_t)(n_past + rows / 2)};
        if (rows > 16 && batch_pace_ns(&p, &l) > target_ns) break;
        best = l;
    }
    return best;
}

TEST(BatchPace, FirstChunksAreShortAndTheTargetIsReachedAndKept) {
    for (unsigned seed = 1; seed <= 12; seed++) {
        std::mt19937 rng(seed);
        const Law law;
        batch_pace p = cautious();
        const double target = 0.9 * 100e6;
        EXPECT_EQ(plan(p, 4, 0, target).n_prompt, 16);
        double worst = 0, mean_rows = 0;
        const int n = 300, settled = 30;
        for (int i = 0; i < n; i++) {
            const batch_load l = plan(p, 1 + (int)(rng() % 8), (int)(rng() % 4000), target);
            const uint64_t took = law.took(l, rng);
            EXPECT_LT((double)took, 140e6) << "step " << i << ", seed " << seed;
            batch_pace_learn(&p, &l, took);
            if (i < settled) continue;
            worst = std::max(worst, (double)took);
            mean_rows += l.n_prompt / (double)(n - settled);
        }
        EXPECT_LT(worst, 125e6) << "seed " << seed;
        EXPECT_GT(mean_rows, 120) << "seed " << seed; // the law leaves room for about 190
    }
}

TEST(BatchPace, LongDecodingDoesNotMakeItForgetPrompts) {
    std::mt19937 rng(3);
    const Law law;
    batch_pace p = cautious();
    for (int i = 0; i < 100; i++) {
        const batch_load l = plan(p, 4, (int)(rng() % 2000), 90e6);
        batch_pace_learn(&p, &l, law.took(l, rng));
    }
    for (int i = 0; i < 100000; i++) {
        const batch_load l = {1 + (int32_t)(rng() % 4), 0, 5000 + rng() % 200000};
        batch_pace_learn(&p, &l, law.took(l, rng));
        ASSERT_TRUE(std::isfinite(p.cost[0]) && std::isfinite(p.doubt[2][2]));
    }
    const batch_load l = plan(p, 4, 1000, 90e6);
    EXPECT_GT(l.n_prompt, 60);
    EXPECT_LT(law.ns(l), 130e6);
}

TEST(BatchPace, OneStepThatWasHeldUpMovesLittle) {
    std::mt19937 rng(4);
    const Law law;
    batch_pace p = cautious();
    batch_load l = {};
    for (int i = 0; i < 200; i++) {
        l = plan(p, 4, 500, 90e6);
        batch_pace_learn(&p, &l, law.took(l, rng));
    }
    const double before = batch_pace_ns(&p, &l);
    batch_pace_learn(&p, &l, (uint64_t)30e9);
    EXPECT_LT(batch_pace_ns(&p, &l), 1.3 * before);
}

TEST(BatchPace, FollowsAMachineThatSlowsDownAndRecovers) {
    std::mt19937 rng(5);
    Law law;
    batch_pace p = cautious();
    auto run = [&](int steps) {
        double last = 0;
        for (int i = 0; i < steps; i++) {
            const batch_load l = plan(p, 4, (int)(rng() % 1000), 90e6);
            const uint64_t took = law.took(l, rng);
            batch_pace_learn(&p, &l, took);
            last = (double)took;
        }
        return last;
    };
    run(100);
    law.step *= 3, law.decode *= 3, law.prompt *= 3, law.million *= 3;
    EXPECT_LT(run(150), 125e6);
    law.step /= 3, law.decode /= 3, law.prompt /= 3, law.million /= 3;
    run(400);
    EXPECT_GT(plan(p, 4, 500, 90e6).n_prompt, 120);
}

TEST(BatchPace, LongContextsShortenTheChunk) {
    std::mt19937 rng(6);
    Law law;
    law.million = 8e6;
    batch_pace p = cautious();
    for (int i = 0; i < 300; i++) {
        const batch_load l = plan(p, 2, (int)(rng() % 8000), 90e6);
        batch_pace_learn(&p, &l, law.took(l, rng));
    }
    const batch_load near = plan(p, 2, 0, 90e6), far = plan(p, 2, 8000, 90e6);
    EXPECT_GT(near.n_prompt, 2 * far.n_prompt);
    EXPECT_LT(law.ns(near), 115e6);
    EXPECT_LT(law.ns(far), 115e6);
}

TEST(BatchPace, PromptsKeepAQuarterOfAStepThatDecodesWouldFill) {
    std::mt19937 rng(8);
    const Law law;
    batch_pace p = cautious();
    for (int i = 0; i < 300; i++) {
        const batch_load l = {(int32_t)(rng() % 33), (int32_t)(rng() % 65), 5000 + rng() % 200000};
        batch_pace_learn(&p, &l, law.took(l, rng));
    }
    for (int n_decode : {1, 8, 32, 64}) {
        const batch_load decodes = {n_decode, 0, (uint64_t)n_decode * 8000};
        const double alone = law.ns(decodes);
        for (double target : {1.0, 10e6, 25e6, 90e6}) {
            const double limit = batch_pace_limit_ns(&p, &decodes, target);
            EXPECT_GE(limit, target);
            EXPECT_GT(limit, 1.15 * alone) << n_decode; // a third more, but for the noise of what was learned
            EXPECT_LT(limit, std::max(target * 1.001, 1.5 * alone)) << n_decode;
        }
    }
}

TEST(BatchPace, CostsAreNeverNegative) {
    std::mt19937 rng(7);
    batch_pace p = cautious();
    for (int i = 0; i < 3000; i++) {
        const batch_load l = {(int32_t)(rng() % 9), (int32_t)(rng() % 513), rng() % 100000000};
        batch_pace_learn(&p, &l, rng() % 1000000000);
        for (double c : p.cost) ASSERT_GE(c, 0);
        for (int k = 0; k < BATCH_PACE_TERMS; k++) ASSERT_GE(p.doubt[k][k], -1e-3 * p.first_doubt[k]);
    }
}

} // namespace
