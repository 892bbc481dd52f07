// Output heads: their own layout gives matmul and embed the same bits, and head_top gives those of the largest outputs whatever is tried.
//
// The bound is tried where it is tight: weights whose missing bits all pull the product in one direction, against rows whose sketch is higher.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cases.h"
#include "matmul_run.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 4711;

class Head : public testing::TestWithParam<Target> {
  protected:
    bool has_sketch() const { return GetParam().mask == "avx512vnni"; }
};

struct Outputs {
    Host full, top;
    uint64_t read_bytes = 0, all_bytes = 0;
};

Outputs run_head(Rig &rig, const HostWeight &w, const Host &x, int k, Layout layout = {}) {
    Outputs out;
    wtl_matmul a = {};
    const wtl_weight *head = rig.head(w);
    a.x = rig.put(x, layout);
    a.n_parts = 1;
    a.part[0].w = head;
    a.part[0].out = rig.empty(x.rows, w.rows, layout);
    rig.ops()->matmul(rig.stream(), &a);
    out.full = rig.get(a.part[0].out);
    a.part[0].out = rig.empty(x.rows, w.rows, layout);
    rig.stream()->head_bytes = 0;
    rig.ops()->head_top(rig.stream(), &a, k);
    out.top = rig.get(a.part[0].out);
    out.read_bytes = rig.stream()->head_bytes;
    out.all_bytes = head->bytes;
    EXPECT_TRUE(same_bits(rig.get(a.x), x)) << "the op changed x";
    rig.check_memory();
    rig.forget();
    return out;
}

// The k-th largest of a row's numbers; -Inf when there are fewer.
float kth_largest(const Host &m, int row, int k) {
    std::vector<float> v;
    for (int c = 0; c < m.cols; c++)
        if (!std::isnan(m.at(row, c))) v.push_back(m.at(row, c));
    if ((int)v.size() < k) return -INFINITY;
    std::nth_element(v.begin(), v.begin() + (k - 1), v.end(), std::greater<float>());
    return v[k - 1];
}

// Exactly what the contract says. *left_out: share of outputs that were not computed.
testing::AssertionResult keeps_contract(const Outputs &o, int k, double *left_out = nullptr) {
    size_t n_left_out = 0;
    for (int r = 0; r < o.full.rows; r++) {
        const float kth = kth_largest(o.full, r, k);
        for (int c = 0; c < o.full.cols; c++) {
            const float want = o.full.at(r, c), got = o.top.at(r, c);
            if (wtl_bits_from_f32(want) == wtl_bits_from_f32(got)) continue;
            n_left_out++;
            if (std::isnan(want) || want >= kth) return testing::AssertionFailure() << "row " << r << ", output " << c << " of the " << k << " largest: got " << got << ", want " << want << ", the k-th is " << kth;
            if (got != -INFINITY) return testing::AssertionFailure() << "row " << r << ", output " << c << ": got " << got << ", want " << want << " or -inf";
        }
    }
    if (left_out) *left_out = (double)n_left_out / ((double)o.full.rows * o.full.cols);
    return testing::AssertionSuccess();
}

TEST_P(Head, ItsLayoutGivesTheSameBits) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (wtl_dtype dtype : {WTL_DTYPE_Q8_0, WTL_DTYPE_Q6_K, WTL_DTYPE_BF16}) {
        for (const MatmulCase &c : matmul_cases(dtype)) {
            SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << " w [" << c.rows << ", " << c.cols << "], x [" << c.n << "] " << name_of(c.fill) << ", seed " << kSeed);
            HostWeight w = random_weight(random, dtype, c.rows, c.cols, c.codes, c.scales);
            const Host x = random_matrix(random, c.n, c.cols, c.fill), before = random_matrix(random, c.n, c.rows, Fill::Normal);
            const std::vector<float> bias = random_vector(random, c.rows, 0, 1);
            Host out[2], embedded[2];
            std::vector<int32_t> tokens(c.rows);
            std::iota(tokens.begin(), tokens.end(), 0);
            tokens.resize(std::min(c.rows, 128));
            for (int head = 0; head < 2; head++) {
                wtl_matmul a = {};
                const wtl_weight *packed = head ? rig.head(w) : rig.matrix(w);
                a.x = rig.put(x, c.layout);
                a.n_parts = 1;
                a.accumulate = c.accumulate;
                a.part[0] = {packed, c.bias ? rig.vector(bias) : nullptr, c.accumulate ? rig.put(before, c.layout) : rig.empty(c.n, c.rows, c.layout)};
                rig.ops()->matmul(rig.stream(), &a);
                out[head] = rig.get(a.part[0].out);
                wtl_mat rows = rig.empty((int)tokens.size(), c.cols);
                rig.ops()->embed(rig.stream(), packed, rig.ints(tokens), 1.0f, rows);
                embedded[head] = rig.get(rows);
                rig.check_memory();
                rig.forget();
            }
            ASSERT_TRUE(same_bits(out[1], out[0]));
            ASSERT_TRUE(same_bits(embedded[1], embedded[0])) << "embed";
        }
    }
}

TEST_P(Head, TheLargestAreExact) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 1);
    for (int rows : {1, 15, 17, 1100, 4111, 9000}) {
        for (int cols : {32, 96, 640}) {
            for (int n : {1, 2, 3, 4, 5}) {
                for (int k : {1, 2, 40, rows, rows + 7}) {
                    if ((int64_t)rows * cols > 1000000 && (n > 2 || k > 2)) continue; // few are as instructive, and these take long
                    SCOPED_TRACE(testing::Message() << "w [" << rows << ", " << cols << "], n " << n << ", k " << k << ", seed " << kSeed);
                    const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, rows, cols);
                    const Outputs o = run_head(rig, w, random_matrix(random, n, cols, n == 3 ? Fill::Outlier : n == 2 ? Fill::Peaks : Fill::Normal), k, {n - 1, n % 2});
                    double left_out = 0;
                    ASSERT_TRUE(keeps_contract(o, k, &left_out));
                    ASSERT_GT(o.read_bytes, 0u);
                    const bool few = rows / 16 / (k * n) >= 64 && n <= 4;
                    if (!has_sketch()) {
                        ASSERT_EQ(o.read_bytes, o.all_bytes);
                    } else if (few && cols <= 96) {
                        ASSERT_GT(left_out, 0.5) << "nothing was ruled out, or it was not tried";
                        ASSERT_LT(o.read_bytes, o.all_bytes);
                    }
                }
            }
        }
    }
    for (wtl_dtype dtype : {WTL_DTYPE_Q4_0, WTL_DTYPE_Q6_K, WTL_DTYPE_F32}) { // types without a sketch
        const HostWeight w = random_weight(random, dtype, 2000, 256);
        const Outputs o = run_head(rig, w, random_matrix(random, 2, 256, Fill::Normal), 1);
        ASSERT_TRUE(same_bits(o.top, o.full));
        ASSERT_EQ(o.read_bytes, o.all_bytes);
    }
}

TEST_P(Head, AwkwardNumbers) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 2);
    for (Codes codes : {Codes::Random, Codes::AllZero, Codes::AllMax, Codes::Extremes})
        for (Scales scales : {Scales::Normal, Scales::Negative, Scales::Zero, Scales::Subnormal, Scales::Mixed})
            for (Fill fill : {Fill::Normal, Fill::AllEqual, Fill::Huge, Fill::Tiny, Fill::Subnormal, Fill::Zero, Fill::Outlier, Fill::Peaks, Fill::LoudBlock}) {
                SCOPED_TRACE(testing::Message() << "codes " << (int)codes << ", scales " << (int)scales << ", x " << name_of(fill) << ", seed " << kSeed);
                const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, 2203, 64, codes, scales);
                ASSERT_TRUE(keeps_contract(run_head(rig, w, random_matrix(random, 2, 64, fill), 1), 1));
            }
}

// ---- Rows made by hand ----------------------------------------------------------------------------------------------
struct Q8 {
    HostWeight w;
    block_q8_0 *block(int r, int b) { return (block_q8_0 *)(w.bytes.data() + ((size_t)r * (w.cols / 32) + b) * sizeof(block_q8_0)); }
    void set(int r, int k, int code) { block(r, k / 32)->qs[k % 32] = (int8_t)code; }
    int code(int r, int k) { return block(r, k / 32)->qs[k % 32]; }
    Q8(int rows, int cols, float d) {
        w.dtype = WTL_DTYPE_Q8_0;
        w.rows = rows;
        w.cols = cols;
        w.bytes = Guarded((size_t)rows * (cols / 32) * sizeof(block_q8_0));
        for (int r = 0; r < rows; r++)
            for (int b = 0; b < cols / 32; b++) block(r, b)->d = wtl_f16_from_f32(d);
    }
};

// Row `winner` and its panel have the lowest sketches of all, but the winner the missing bits that help most; the sketches of the other panels
// are higher by `share` of what it gains, and their missing bits help nobody. With share < 1 the winner is the largest, and its bound says no more than that it may be.
struct Duel {
    Q8 q;
    Host x;
};
Duel duel(std::mt19937 &random, int rows, int cols, int low_bits, int n_outliers, double share, int winner) {
    const int most = (1 << low_bits) - 1;
    Duel d = {Q8(rows, cols, 0.01f), Host(1, cols)};
    for (int k = 0; k < cols; k++) d.x.at(0, k) = random() % 2 ? 1.0f : -1.0f;
    for (int i = 0; i < n_outliers; i++) d.x.at(0, (int)(random() % cols)) *= 30;
    double gain = 0; // of the winner: mid * sum of |x|
    for (int k = 0; k < cols; k++) gain += 0.5 * most * std::fabs((double)d.x.at(0, k));
    std::vector<int> order(cols);
    std::iota(order.begin(), order.end(), 0);
    for (int r = 0; r < rows; r++) {
        double raised = 0, beside = 0;
        std::shuffle(order.begin(), order.end(), random);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return std::fabs(d.x.at(0, a)) > std::fabs(d.x.at(0, b)); });
        for (int k : order) {
            const float x = d.x.at(0, k);
            int code = 0;
            if (r == winner) {
                code += x > 0 ? most : 0;
            } else {
                const double step = (most + 1) * std::fabs((double)x);
                if (r / 16 != winner / 16 && raised + step <= share * gain) { // a panel is judged as a whole
                    raised += step;
                    code += x > 0 ? most + 1 : -(most + 1);
                }
                const bool up = beside * x <= 0; // beside the middle, where it makes up for the others
                beside += up ? 0.5 * x : -0.5 * x;
                code += most / 2 + up;
            }
            d.q.set(r, k, code);
        }
    }
    return d;
}

TEST_P(Head, TheBoundHoldsWhereItIsTight) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 3);
    for (int low_bits : {2, 3}) { // few panels: a sketch of six bits, many: of five
        for (int n_outliers : {0, 2, 12}) {
            for (double share : {0.3, 0.6, 0.95}) {
                const int rows = low_bits == 2 ? 2000 : 5000, cols = 192, winner = (int)(random() % rows);
                SCOPED_TRACE(testing::Message() << "low bits " << low_bits << ", outliers " << n_outliers << ", share " << share << ", winner " << winner << ", seed " << kSeed);
                Duel d = duel(random, rows, cols, low_bits, n_outliers, share, winner);
                const Outputs o = run_head(rig, d.q.w, d.x, 1);
                for (int r = 0; r < rows; r++)
                    if (r != winner) {
                        ASSERT_GT(o.full.at(0, winner), o.full.at(0, r)) << "the test's own making";
                    }
                ASSERT_TRUE(keeps_contract(o, 1));
            }
        }
    }
}

TEST_P(Head, TiesAreAllExact) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 4);
    const int rows = 3000, cols = 64;
    Q8 q(rows, cols, 0.02f);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < cols; k++) q.set(r, k, 40 - k);
    const Host x = random_matrix(random, 1, cols, Fill::Normal);
    Outputs o = run_head(rig, q.w, x, 1); // all equal
    ASSERT_TRUE(same_bits(o.top, o.full));

    for (int r = 0; r < rows; r++)
        for (int k = 0; k < cols; k++) q.set(r, k, (int)(random() % 61) - 30);
    const std::vector<int> tied = {5, 1700, 2999, 64, 63}; // the second largest, five times
    for (int k = 0; k < cols; k++) {
        for (int r : tied) q.set(r, k, x.at(0, k) > 0 ? 90 : -90);
        q.set(800, k, x.at(0, k) > 0 ? 95 : -95);
    }
    for (int k : {1, 2}) {
        o = run_head(rig, q.w, x, k);
        double left_out = 0;
        ASSERT_TRUE(keeps_contract(o, k, &left_out));
        if (has_sketch()) {
            ASSERT_GT(left_out, 0.9);
        }
    }
}

TEST_P(Head, WhatIsNotANumber) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 5);
    const int rows = 2500, cols = 96;
    const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, rows, cols);
    for (float poison : {(float)NAN, (float)HUGE_VALF, (float)-HUGE_VALF, 3e38f}) {
        for (int at : {0, 50, 95}) {
            Host x = random_matrix(random, 2, cols, Fill::Normal);
            x.at(1, at) = poison;
            SCOPED_TRACE(testing::Message() << poison << " at " << at << ", seed " << kSeed);
            ASSERT_TRUE(keeps_contract(run_head(rig, w, x, 1), 1));
        }
    }
    Q8 large(rows, cols, 0.001f); // products that are finite, sketches that would overflow: all are below 0, so that none would be left
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < cols; k++) large.set(r, k, 60 + (int)(random() % 60));
    const Outputs o = run_head(rig, large.w, Host(1, cols, -2e36f), 1);
    ASSERT_TRUE(std::isfinite(kth_largest(o.full, 0, 1)));
    ASSERT_TRUE(keeps_contract(o, 1));
    for (uint16_t scale : {0x7C00, 0xFC00, 0x7E00}) { // Inf, -Inf, NaN
        Q8 q(rows, cols, 0.01f);
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < cols; k++) q.set(r, k, (int)(random() % 255) - 127);
        q.block(1234, 1)->d = scale;
        q.block(77, 2)->d = scale;
        SCOPED_TRACE(testing::Message() << "scale " << scale << ", seed " << kSeed);
        ASSERT_TRUE(keeps_contract(run_head(rig, q.w, random_matrix(random, 1, cols, Fill::Normal), 1), 1));
    }
}

TEST_P(Head, ThreadsAndCompanyChangeNothing) {
    std::mt19937 random(kSeed + 6);
    const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, 9007, 96);
    const Host x = random_matrix(random, 4, 96, Fill::Normal);
    Host want;
    for (int threads : {1, 2, 5}) {
        Rig::Options options;
        options.n_threads = threads;
        Rig rig(GetParam(), options);
        CHECKER_RIG(rig);
        const Outputs all = run_head(rig, w, x, 2);
        if (threads == 1) want = all.top;
        ASSERT_TRUE(same_bits(all.top, want)) << threads << " threads, seed " << kSeed;
        for (int r = 0; r < x.rows; r++) ASSERT_TRUE(same_bits(run_head(rig, w, x.slice(r, 1), 2).top, want.slice(r, 1))) << "row " << r << " alone, seed " << kSeed;
    }
}

TEST_P(Head, MisuseSticksToTheStream) {
    Rig::Options options;
    options.limits.max_head_rows = 64;
    Rig rig(GetParam(), options);
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + 7);
    for (int k : {0, 1}) {
        const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, k ? 65 : 64, 32); // k == 0, or a row too many
        wtl_matmul a = {};
        a.x = rig.put(random_matrix(random, 1, 32, Fill::Normal));
        a.n_parts = 1;
        a.part[0] = {rig.head(w), nullptr, rig.empty(1, w.rows)};
        rig.ops()->head_top(rig.stream(), &a, k);
        wtl_error err = {};
        EXPECT_EQ(rig.ops()->sync(rig.stream(), &err), WTL_ERR_INVALID) << k;
        EXPECT_EQ(rig.ops()->sync(rig.stream(), &err), WTL_OK);
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, Head, testing::ValuesIn(targets()), [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
