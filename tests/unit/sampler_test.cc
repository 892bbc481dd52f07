// The sampler against a naive implementation: every filter, the penalties' formulas, bias, ties, NaN, the distribution drawn.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/base/alloc.h"
#include "runtime/wattle.h"

namespace {

struct Sampler {
    wtl_sampler *s = nullptr;
    wtl_error err{};
    wtl_status status;
    Sampler(const wtl_sampler_options &o, int32_t n_vocab) { status = wtl_sampler_open(&o, n_vocab, &s, &err); }
    ~Sampler() { wtl_sampler_close(&s); }
    int32_t next(const std::vector<float> &logits) {
        int32_t token = -1;
        EXPECT_EQ(wtl_sampler_next(s, logits.data(), &token, &err), WTL_OK) << err.message;
        return token;
    }
};

std::vector<float> random_logits(int32_t n, uint32_t seed, float spread = 3) {
    std::mt19937 gen(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> x(n);
    for (float &v : x) v = normal(gen);
    return x;
}

// The probabilities that options ask for, by full sort and plain sums.
std::vector<double> naive_probabilities(const wtl_sampler_options &o, const std::vector<float> &x) {
    std::vector<int32_t> order;
    for (int32_t i = 0; i < (int32_t)x.size(); i++)
        if (x[i] > -INFINITY) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
    if (o.top_k > 0 && o.top_k < (int32_t)order.size()) order.resize(o.top_k);
    auto p = [&](int32_t i) { return std::exp((double)x[i] - (double)x[order[0]]); };
    if (o.top_p > 0 && o.top_p < 1) {
        double total = 0, sum = 0;
        for (int32_t i : order) total += p(i);
        size_t n = 0;
        while (n < order.size() && sum < (double)o.top_p * total) sum += p(order[n++]);
        order.resize(n);
    }
    if (o.min_p > 0)
        while (order.size() > 1 && p(order.back()) < (double)o.min_p) order.pop_back();
    std::vector<double> out(x.size(), 0);
    double total = 0;
    for (int32_t i : order) total += out[i] = std::exp(((double)x[i] - (double)x[order[0]]) / (double)o.temperature);
    for (double &v : out) v /= total;
    return out;
}

// Pearson's statistic of draws against p; tokens of probability 0 must never be drawn.
void expect_hits(const std::vector<double> &p, const std::vector<int> &hits) {
    const std::vector<double> &x = p;
    const int n = std::accumulate(hits.begin(), hits.end(), 0);
    double statistic = 0, rest_expected = 0, rest_hits = 0;
    int degrees = -1;
    for (size_t i = 0; i < x.size(); i++) {
        if (p[i] == 0) {
            EXPECT_EQ(hits[i], 0) << "token " << i << " is filtered out";
            continue;
        }
        double expected = p[i] * n;
        if (expected < 5) { // too rare for the statistic: one bucket together
            rest_expected += expected;
            rest_hits += hits[i];
            continue;
        }
        statistic += (hits[i] - expected) * (hits[i] - expected) / expected;
        degrees++;
    }
    if (rest_expected >= 5) {
        statistic += (rest_hits - rest_expected) * (rest_hits - rest_expected) / rest_expected;
        degrees++;
    }
    if (degrees <= 0) return;
    // Mean of chi-square is the degrees of freedom, deviation sqrt(2 * degrees): five deviations with fixed seeds.
    EXPECT_LT(statistic, degrees + 5 * std::sqrt(2.0 * degrees)) << "degrees of freedom " << degrees;
}

void expect_distribution(const wtl_sampler_options &o, const std::vector<float> &x, int n) {
    std::vector<double> p = naive_probabilities(o, x);
    Sampler sampler(o, (int32_t)x.size());
    ASSERT_EQ(sampler.status, WTL_OK) << sampler.err.message;
    std::vector<int> hits(x.size());
    for (int i = 0; i < n; i++) hits[sampler.next(x)]++;
    expect_hits(p, hits);
}

TEST(Sampler, GreedyTakesLowestIdOfTheLargest) {
    wtl_sampler_options o = {};
    for (int32_t n : {1, 2, 15, 16, 17, 255, 256, 257, 1000, 49152}) {
        Sampler s(o, n);
        std::vector<float> x(n, -3.0f);
        EXPECT_EQ(s.next(x), 0);
        x[n - 1] = 1;
        EXPECT_EQ(s.next(x), n - 1);
        x[n / 2] = 1;
        EXPECT_EQ(s.next(x), n / 2);
    }
}

TEST(Sampler, NanNeverWins) {
    for (float temperature : {0.0f, 1.0f}) {
        wtl_sampler_options o = {};
        o.temperature = temperature;
        Sampler s(o, 600);
        std::vector<float> x(600, NAN);
        int32_t token = 77;
        EXPECT_EQ(wtl_sampler_next(s.s, x.data(), &token, &s.err), WTL_ERR_DEVICE);
        EXPECT_EQ(token, 77);
        x[431] = -1e30f;
        for (int i = 0; i < 20; i++) EXPECT_EQ(s.next(x), 431);
        std::fill(x.begin(), x.end(), -INFINITY);
        EXPECT_EQ(wtl_sampler_next(s.s, x.data(), &token, &s.err), WTL_ERR_DEVICE);
        x[3] = INFINITY;
        EXPECT_EQ(s.next(x), 3);
    }
}

TEST(Sampler, EachFilterDrawsTheNaiveDistribution) {
    struct Case {
        float temperature, top_p, min_p;
        int32_t top_k, n_vocab;
    } cases[] = {
        {1, 0, 0, 0, 50},        {0.5f, 0, 0, 0, 50},   {2, 0, 0, 0, 700},      {1, 0, 0, 5, 700},      {1, 0, 0, 1, 700},
        {1, 0.9f, 0, 0, 700},    {1, 0.3f, 0, 0, 3000}, {1, 0.9999f, 0, 0, 700}, {1, 0, 0.05f, 0, 700},  {1, 0, 1, 0, 700},
        {0.8f, 0.95f, 0.05f, 40, 3000}, {1.5f, 0.5f, 0.2f, 100, 3000}, {1, 0.7f, 0.1f, 0, 3000}, {1, 0, 0.1f, 5000, 700},
    };
    uint32_t seed = 1;
    for (const Case &c : cases) {
        wtl_sampler_options o = {};
        o.temperature = c.temperature;
        o.top_p = c.top_p;
        o.min_p = c.min_p;
        o.top_k = c.top_k;
        o.seed = ++seed;
        SCOPED_TRACE(testing::Message() << "seed " << seed << " temperature " << c.temperature << " top_k " << c.top_k << " top_p "
                                        << c.top_p << " min_p " << c.min_p);
        expect_distribution(o, random_logits(c.n_vocab, seed), 20000);
    }
}

TEST(Sampler, NucleusOfFlatLogitsReachesFarIntoTheVocabulary) {
    wtl_sampler_options o = {};
    o.temperature = 1;
    o.top_p = 0.75f;
    o.seed = 5;
    Sampler s(o, 20000);
    std::vector<float> flat(20000, 0.25f);
    int32_t largest = 0;
    for (int i = 0; i < 500; i++) largest = std::max(largest, s.next(flat));
    EXPECT_LT(largest, 15001); // ties keep the lowest ids: exactly three quarters of them
    EXPECT_GT(largest, 14500);
}

TEST(Sampler, TopKOfEqualLogitsKeepsTheLowestIds) {
    wtl_sampler_options o = {};
    o.temperature = 1;
    o.top_k = 5;
    Sampler s(o, 700);
    std::set<int32_t> drawn;
    for (int i = 0; i < 200; i++) drawn.insert(s.next(std::vector<float>(700, 1.0f)));
    EXPECT_EQ(drawn, (std::set<int32_t>{0, 1, 2, 3, 4}));
}

TEST(Sampler, SameSeedSameTokens) {
    wtl_sampler_options o = {};
    o.temperature = 1;
    o.top_k = 40;
    o.top_p = 0.95f;
    o.repeat_penalty = 1.1f;
    o.seed = 42;
    std::vector<int32_t> first, second, other;
    for (std::vector<int32_t> *out : {&first, &second, &other}) {
        o.seed = out == &other ? 43 : 42;
        Sampler s(o, 5000);
        for (uint32_t i = 0; i < 200; i++) out->push_back(s.next(random_logits(5000, i)));
    }
    EXPECT_EQ(first, second);
    EXPECT_NE(first, other);
}

TEST(Sampler, SaysHowManyLogitsDecide) {
    const int32_t n_vocab = 500;
    const wtl_logit_bias bias = {3, 1.0f};
    auto n_top = [&](float temperature, int32_t top_k, float top_p, float repeat = 0, float presence = 0, float frequency = 0, int32_t n_bias = 0) {
        wtl_sampler_options o = {};
        o.temperature = temperature;
        o.top_k = top_k;
        o.top_p = top_p;
        o.min_p = 0.01f;
        o.repeat_penalty = repeat;
        o.presence_penalty = presence;
        o.frequency_penalty = frequency;
        o.bias = &bias;
        o.n_bias = n_bias;
        o.seed = 5;
        Sampler s(o, n_vocab), other(o, n_vocab);
        const int32_t n = wtl_sampler_n_top(s.s);
        for (uint32_t seed = 0; n > 0 && seed < 200; seed++) { // the others may as well not be there
            std::vector<float> x = random_logits(n_vocab, seed, seed % 5 * 0.7f);
            if (seed % 3 == 0)
                for (float &v : x) v = std::round(v); // ties, also at the n-th place
            std::vector<float> sorted = x, few = x;
            std::nth_element(sorted.begin(), sorted.begin() + (n - 1), sorted.end(), std::greater<float>());
            for (float &v : few)
                if (v < sorted[n - 1]) v = -INFINITY;
            EXPECT_EQ(s.next(x), other.next(few)) << "seed " << seed;
        }
        return n;
    };
    EXPECT_EQ(n_top(0, 0, 0), 1);
    EXPECT_EQ(n_top(0, 40, 0.9f), 1);
    EXPECT_EQ(n_top(0.8f, 40, 0.95f), 40);
    EXPECT_EQ(n_top(1.5f, 1, 0), 1);
    EXPECT_EQ(n_top(0.8f, 0, 0.95f), 0);
    EXPECT_EQ(n_top(0.8f, n_vocab, 0.95f), 0);
    EXPECT_EQ(n_top(0.8f, 40, 0.95f, 1.1f), 0);
    EXPECT_EQ(n_top(0, 0, 0, 0, 0.5f), 0);
    EXPECT_EQ(n_top(0.8f, 40, 0, 0, 0, 0.5f), 0);
    EXPECT_EQ(n_top(0, 0, 0, 0, 0, 0, 1), 0);
    wtl_sampler_options greedy = {};
    Sampler s(greedy, n_vocab);
    int32_t token;
    const std::vector<float> x = random_logits(n_vocab, 1);
    ASSERT_EQ(wtl_sampler_next_allowed(s.s, x.data(), [](void *, int32_t id) { return id % 2 == 0; }, nullptr, &token, &s.err), WTL_OK);
    EXPECT_EQ(wtl_sampler_n_top(s.s), 0) << "once some are not allowed any may be the best that is";
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
    wtl_sampler_options o = {};
    o.repeat_penalty = 2;
    o.presence_penalty = 0.5f;
    o.frequency_penalty = 0.25f;
    // Greedy between token 3 (penalised) and token 2 (free): bisection over the logit of token 2 finds the adjusted value.
    auto adjusted = [&](float logit, int times) {
        double low = -100, high = 100;
        for (int i = 0; i < 60; i++) {
            double middle = (low + high) / 2;
            Sampler s(o, 10);
            for (int k = 0; k < times; k++) wtl_sampler_accept(s.s, 3);
            std::vector<float> x(10, -INFINITY);
            x[3] = logit;
            x[2] = (float)middle;
            (s.next(x) == 3 ? low : high) = middle;
        }
        return low;
    };
    EXPECT_NEAR(adjusted(4, 0), 4, 1e-5);
    EXPECT_NEAR(adjusted(4, 1), 4 / 2.0 - 0.5 - 0.25, 1e-5);
    EXPECT_NEAR(adjusted(4, 3), 4 / 2.0 - 0.5 - 0.75, 1e-5);
    EXPECT_NEAR(adjusted(-4, 2), -4 * 2.0 - 0.5 - 0.5, 1e-5);
}

TEST(Sampler, PenaltyWindowForgets) {
    const uint32_t seed = 11;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 gen(seed);
    for (int32_t last_n : {1, 2, 7, 64, -1}) {
        wtl_sampler_options o = {};
        o.frequency_penalty = 1;
        o.penalty_last_n = last_n;
        Sampler s(o, 20);
        std::deque<int32_t> window;
        for (int step = 0; step < 500; step++) {
            // The counts decide: logits are equal, so the lowest id among the rarest in the window is right.
            std::map<int32_t, int> count;
            for (int32_t t : window) count[t]++;
            int32_t want = 0;
            for (int32_t t = 1; t < 20; t++)
                if (count[t] < count[want]) want = t;
            ASSERT_EQ(s.next(std::vector<float>(20, 1.0f)), want) << "last_n " << last_n << " step " << step;
            window.push_back(want);
            int32_t outside = (int32_t)(gen() % 20);
            wtl_sampler_accept(s.s, outside);
            window.push_back(outside);
            while (last_n > 0 && (int32_t)window.size() > last_n) window.pop_front();
        }
    }
}

TEST(Sampler, BiasAddsAndBans) {
    wtl_logit_bias bias[] = {{4, -INFINITY}, {7, 2.5f}};
    wtl_sampler_options o = {};
    o.bias = bias;
    o.n_bias = 2;
    Sampler s(o, 10);
    bias[1].bias = -100; // the sampler has its own copy
    std::vector<float> x(10, 0);
    x[4] = 50;
    x[5] = 2;
    EXPECT_EQ(s.next(x), 7);
    x[5] = 3;
    EXPECT_EQ(s.next(x), 5);
    EXPECT_EQ(x[4], 50); // logits are not changed
}

TEST(Sampler, WrongOptionsAreNamed) {
    auto refused = [](void (*change)(wtl_sampler_options &), const char *name) {
        wtl_sampler_options o = {};
        change(o);
        Sampler s(o, 10);
        EXPECT_EQ(s.status, WTL_ERR_INVALID) << name;
        EXPECT_NE(std::string(s.err.message).find(name), std::string::npos) << s.err.message;
        EXPECT_EQ(s.s, nullptr);
    };
    refused([](wtl_sampler_options &o) { o.temperature = -1; }, "temperature");
    refused([](wtl_sampler_options &o) { o.temperature = NAN; }, "temperature");
    refused([](wtl_sampler_options &o) { o.top_p = 1.5f; }, "top_p");
    refused([](wtl_sampler_options &o) { o.min_p = -0.1f; }, "min_p");
    refused([](wtl_sampler_options &o) { o.top_k = -1; }, "top_k");
    refused([](wtl_sampler_options &o) { o.repeat_penalty = -1; }, "repeat_penalty");
    refused([](wtl_sampler_options &o) { o.penalty_last_n = -2; }, "penalty_last_n");
    static const wtl_logit_bias outside = {10, 1};
    refused([](wtl_sampler_options &o) { o.bias = &outside, o.n_bias = 1; }, "token 10");
}

TEST(Sampler, EveryFailedAllocationIsReported) {
    struct Count {
        int left;
    } count{};
    wtl_logit_bias bias = {1, 1};
    wtl_sampler_options o = {};
    o.temperature = 1;
    o.repeat_penalty = 1.1f;
    o.bias = &bias;
    o.n_bias = 1;
    int n = 0;
    for (wtl_status status = WTL_ERR_NO_MEMORY; status != WTL_OK; n++) {
        count.left = n;
        wtl_alloc_set_hook([](void *user, size_t) { return static_cast<Count *>(user)->left-- > 0; }, &count);
        wtl_sampler *s = nullptr;
        wtl_error err{};
        status = wtl_sampler_open(&o, 100, &s, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        EXPECT_EQ(s != nullptr, status == WTL_OK);
        EXPECT_TRUE(status == WTL_OK || status == WTL_ERR_NO_MEMORY);
        wtl_sampler_close(&s);
    }
    EXPECT_GT(n, 5);
}

// A vocabulary of 262,144 must cost little next to a decode step. The bound is generous: sanitizers and shared machines.
TEST(Sampler, LargeVocabularyIsQuick) {
    std::vector<float> x = random_logits(262144, 3);
    for (int32_t top_k : {0, 40}) {
        for (float temperature : {0.0f, 0.8f}) {
            wtl_sampler_options o = {};
            o.temperature = temperature;
            o.top_k = top_k;
            o.top_p = 0.95f;
            Sampler s(o, 262144);
            auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < 10; i++) s.next(x);
            double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / 10;
            printf("262144 logits, temperature %.1f, top-k %d, top-p 0.95: %.3f ms\n", temperature, top_k, ms);
            EXPECT_LT(ms, 500);
        }
    }
}

// ---- Only allowed tokens ----
struct Gate {
    std::vector<bool> allowed;
    int64_t asked = 0;
    static bool ask(void *user, int32_t token) {
        auto *g = static_cast<Gate *>(user);
        g->asked++;
        return g->allowed[token];
    }
    Gate(int32_t n, uint32_t seed, double share) : allowed(n) {
        std::mt19937 gen(seed);
        for (int32_t i = 0; i < n; i++) allowed[i] = std::uniform_real_distribution<double>(0, 1)(gen) < share;
    }
    std::vector<float> masked(std::vector<float> x) const {
        for (size_t i = 0; i < x.size(); i++)
            if (!allowed[i]) x[i] = -INFINITY;
        return x;
    }
};

TEST(SamplerAllowed, DrawsAsIfTheOthersDidNotExist) {
    struct Case {
        float temperature, top_p, min_p;
        int32_t top_k, n_vocab;
    } cases[] = {
        {1, 0, 0, 0, 50},     {2, 0, 0, 0, 700},     {1, 0, 0, 5, 700},      {0.8f, 0.9f, 0, 40, 700}, {1, 0.9f, 0, 0, 700},
        {1, 0.5f, 0, 0, 700}, {1, 0.3f, 0.1f, 0, 700}, {1, 0, 0.05f, 0, 700}, {0.8f, 0.95f, 0.05f, 40, 3000},
    };
    uint32_t seed = 1;
    for (const Case &c : cases)
        for (double share : {0.9, 0.3, 0.02}) {
            wtl_sampler_options o = {};
            o.temperature = c.temperature;
            o.top_p = c.top_p;
            o.min_p = c.min_p;
            o.top_k = c.top_k;
            o.seed = seed;
            Gate gate(c.n_vocab, seed++, share);
            gate.allowed[c.n_vocab / 2] = gate.allowed[7] = true;
            const std::vector<float> x = random_logits(c.n_vocab, seed);
            Sampler sampler(o, c.n_vocab);
            std::vector<int> hits(c.n_vocab);
            for (int i = 0; i < 2500; i++) {
                int32_t token = -1;
                ASSERT_EQ(wtl_sampler_next_allowed(sampler.s, x.data(), Gate::ask, &gate, &token, &sampler.err), WTL_OK) << sampler.err.message;
                hits[token]++;
            }
            SCOPED_TRACE("temperature " + std::to_string(c.temperature) + " top_p " + std::to_string(c.top_p) + " min_p " + std::to_string(c.min_p) +
                         " top_k " + std::to_string(c.top_k) + " share " + std::to_string(share));
            expect_hits(naive_probabilities(o, gate.masked(x)), hits);
        }
}

TEST(SamplerAllowed, GreedyWalksDown) {
    wtl_sampler_options o = {};
    for (double share : {0.5, 0.01, 0.001}) {
        Gate gate(5000, 3, share);
        gate.allowed[4000] = true;
        const std::vector<float> x = random_logits(5000, 4), masked = gate.masked(x);
        Sampler s(o, 5000);
        int32_t token = -1;
        ASSERT_EQ(wtl_sampler_next_allowed(s.s, x.data(), Gate::ask, &gate, &token, &s.err), WTL_OK);
        EXPECT_EQ(token, std::max_element(masked.begin(), masked.end()) - masked.begin());
    }
}

TEST(SamplerAllowed, FewAreAskedForWhenTheModelKnowsTheRules) {
    // The likely tokens are allowed, as they are when a model writes JSON anyhow.
    std::vector<float> x = random_logits(50000, 5, 1);
    Gate gate(50000, 6, 0.1);
    for (int i = 0; i < 10; i++) {
        x[i * 1000] = 14.0f - (float)i;
        gate.allowed[i * 1000] = i != 3;
    }
    struct Case {
        float temperature, top_p;
        int32_t top_k;
        int64_t most;
    } cases[] = {{0, 0, 0, 2}, {1, 0, 0, 6}, {0.7f, 0.9f, 0, 6000 /* all of them, one draw in ten */}, {0.8f, 0.95f, 40, 60}};
    for (const Case &c : cases) {
        wtl_sampler_options o = {};
        o.temperature = c.temperature;
        o.top_p = c.top_p;
        o.top_k = c.top_k;
        Sampler s(o, 50000);
        gate.asked = 0;
        const int n = 20;
        for (int i = 0; i < n; i++) {
            int32_t token = -1;
            ASSERT_EQ(wtl_sampler_next_allowed(s.s, x.data(), Gate::ask, &gate, &token, &s.err), WTL_OK);
            ASSERT_TRUE(gate.allowed[token]);
        }
        EXPECT_LE(gate.asked, n * c.most) << c.temperature << " " << c.top_p << " " << c.top_k;
    }
}

TEST(SamplerAllowed, AllAllowedIsTheSameAsNext) {
    for (int kind = 0; kind < 3; kind++) {
        wtl_sampler_options o = {};
        o.temperature = 0.9f;
        o.top_k = kind == 0 ? 40 : 0;
        o.top_p = kind == 1 ? 0.9f : 0;
        o.repeat_penalty = 1.2f;
        o.seed = 8;
        Gate gate(900, 7, 1.1);
        Sampler a(o, 900), b(o, 900);
        for (int i = 0; i < 300; i++) {
            const std::vector<float> x = random_logits(900, 100 + i);
            int32_t token = -1;
            ASSERT_EQ(wtl_sampler_next_allowed(a.s, x.data(), Gate::ask, &gate, &token, &a.err), WTL_OK);
            ASSERT_EQ(token, b.next(x)) << kind;
        }
    }
}

TEST(SamplerAllowed, NoneAllowedAndNoNumberAreToldApart) {
    for (int kind = 0; kind < 4; kind++) {
        wtl_sampler_options o = {};
        o.temperature = kind ? 1.0f : 0;
        o.top_k = kind == 1 ? 40 : 0;
        o.top_p = kind == 2 ? 0.9f : 0;
        Gate nothing(600, 1, -1);
        Sampler s(o, 600);
        std::vector<float> x = random_logits(600, 9);
        int32_t token = 77;
        EXPECT_EQ(wtl_sampler_next_allowed(s.s, x.data(), Gate::ask, &nothing, &token, &s.err), WTL_ERR_NOT_FOUND);
        EXPECT_EQ(nothing.asked, 600);
        std::fill(x.begin(), x.end(), NAN);
        EXPECT_EQ(wtl_sampler_next_allowed(s.s, x.data(), Gate::ask, &nothing, &token, &s.err), WTL_ERR_DEVICE);
        EXPECT_EQ(token, 77);
    }
}

} // namespace
