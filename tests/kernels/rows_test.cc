// Row-wise and elementwise ops of every target against ref: embed, gather_rows, rms_norm, rope_table, rope, glu, add.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cases.h"
#include "tolerance.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 4203;

std::string words(const RowsCase &c) {
    std::ostringstream s;
    s << "[" << c.n << ", " << c.cols << "], " << name_of(c.fill) << ", gap " << c.layout.gap << ", offset "
      << c.layout.offset << (c.in_place ? ", in place" : "") << ", seed " << kSeed;
    return s.str();
}

// |ref| times a factor plus the absolute part.
std::vector<double> relative(const Tolerance &t, double n, const Host &want) {
    std::vector<double> bound;
    for (float x : want.v) bound.push_back(sum_bound(t, n, std::fabs((double)x)));
    return bound;
}

class Rows : public testing::TestWithParam<Target> {};

Host run_norm(Rig &rig, const Host &x, const std::vector<float> &weight, float eps, const RowsCase &c) {
    wtl_mat in = rig.put(x, c.layout), out = c.in_place ? in : rig.empty(x.rows, x.cols, c.layout);
    rig.ops()->rms_norm(rig.stream(), in, rig.vector(weight), eps, out);
    Host got = rig.get(out);
    rig.check_memory();
    rig.forget();
    return got;
}

TEST_P(Rows, RmsNorm) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (const RowsCase &c : rows_cases()) {
        SCOPED_TRACE(words(c));
        Host x = random_matrix(random, c.n, c.cols, c.fill);
        std::vector<float> weight = random_vector(random, c.cols, 1.0f, 0.5f);
        for (float eps : {1e-5f, 1e-6f}) {
            Host want = run_norm(ref, x, weight, eps, c);
            // The mean's error halves under the root; four roundings follow.
            ASSERT_TRUE(within(run_norm(rig, x, weight, eps, c), want,
                               relative(kRmsNorm, std::fmax(16.0, c.cols / 4.0), want)));
        }
    }
}

Host run_glu(Rig &rig, const Host &gate, const Host &up, wtl_act act, const RowsCase &c, bool into_up) {
    wtl_mat g = rig.put(gate, c.layout), u = rig.put(up, c.layout);
    wtl_mat out = !c.in_place ? rig.empty(gate.rows, gate.cols, c.layout) : into_up ? u : g;
    rig.ops()->glu(rig.stream(), g, u, act, out);
    Host got = rig.get(out);
    rig.check_memory();
    rig.forget();
    return got;
}

// SiLU relative to itself; GELU relative to its two terms x/2 and x/2 tanh, which cancel for negative x.
std::vector<double> glu_bounds(const Host &gate, const Host &up, const Host &want, wtl_act act) {
    std::vector<double> bound;
    for (size_t i = 0; i < gate.v.size(); i++) {
        double terms = std::fabs((double)gate.v[i] * (double)up.v[i]);
        double magnitude = act == WTL_ACT_SILU ? std::fabs((double)want.v[i]) : terms;
        // e^-x is at most FLT_MAX: results below x u / FLT_MAX may be flushed or clamped.
        bound.push_back(sum_bound(kGlu, 2, magnitude) + 8 * (double)FLT_MIN * terms);
    }
    return bound;
}

TEST_P(Rows, Glu) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (wtl_act act : {WTL_ACT_SILU, WTL_ACT_GELU_TANH}) {
        for (const RowsCase &c : rows_cases()) {
            SCOPED_TRACE(words(c) + (act == WTL_ACT_SILU ? ", silu" : ", gelu"));
            Host gate = random_matrix(random, c.n, c.cols, c.fill), up = random_matrix(random, c.n, c.cols, Fill::Normal);
            for (float &g : gate.v) g *= 3.0f;
            Host want = run_glu(ref, gate, up, act, c, false);
            std::vector<double> bound = glu_bounds(gate, up, want, act);
            ASSERT_TRUE(within(run_glu(rig, gate, up, act, c, false), want, bound));
            ASSERT_TRUE(within(run_glu(rig, gate, up, act, c, true), want, bound));
        }
    }
}

// The whole range of the exponential, also where it over- and underflows.
TEST_P(Rows, GluOverTheRangeOfExp) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    Host gate(1, 40001), up(1, 40001, 1.0f);
    for (int c = 0; c < gate.cols; c++) gate.at(0, c) = (float)(c - 20000) * 0.0065f; // -130 .. 130
    RowsCase dense = {1, gate.cols};
    for (wtl_act act : {WTL_ACT_SILU, WTL_ACT_GELU_TANH}) {
        Host want = run_glu(ref, gate, up, act, dense, false);
        EXPECT_TRUE(within(run_glu(rig, gate, up, act, dense, false), want, glu_bounds(gate, up, want, act)));
    }
}

TEST_P(Rows, AddIsExact) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (const RowsCase &c : rows_cases()) {
        SCOPED_TRACE(words(c));
        Host a = random_matrix(random, c.n, c.cols, c.fill), b = random_matrix(random, c.n, c.cols, Fill::Outlier);
        for (int target = 0; target < 3; target++) { // a new matrix, a, b
            auto run = [&](Rig &r) {
                wtl_mat ma = r.put(a, c.layout), mb = r.put(b, c.layout);
                wtl_mat out = target == 0 ? r.empty(c.n, c.cols, c.layout) : target == 1 ? ma : mb;
                r.ops()->add(r.stream(), ma, mb, out);
                Host got = r.get(out);
                r.check_memory();
                r.forget();
                return got;
            };
            ASSERT_TRUE(same_bits(run(rig), run(ref)));
        }
    }
}

TEST_P(Rows, GatherRowsIsExact) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (const RowsCase &c : rows_cases()) {
        SCOPED_TRACE(words(c));
        Host x = random_matrix(random, c.n, c.cols, c.fill);
        x.at(c.n - 1, 0) = NAN; // copies keep every bit
        std::vector<int32_t> ids;
        for (int i = 0; i < 2 * c.n; i++) ids.push_back((int32_t)(random() % c.n));
        Host want((int)ids.size(), c.cols);
        for (size_t i = 0; i < ids.size(); i++)
            std::copy(x.row(ids[i]), x.row(ids[i]) + c.cols, &want.at((int)i, 0));
        wtl_mat out = rig.empty(want.rows, c.cols, c.layout);
        rig.ops()->gather_rows(rig.stream(), rig.put(x, c.layout), rig.ints(ids), out);
        ASSERT_TRUE(same_bits(rig.get(out), want));
        rig.check_memory();
        rig.forget();
    }
}

TEST_P(Rows, EmbedDequantisesExactly) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (wtl_dtype dtype : runnable_types()) {
        int block = (int)wtl_dtype_get(dtype)->block_weights;
        for (int cols : {block, 3 * block, 5 * 256}) {
            for (int rows : {1, 5, 16, 50}) {
                HostWeight w = random_weight(random, dtype, rows, cols, Codes::Random, Scales::Mixed);
                std::vector<int32_t> tokens = {rows - 1, 0};
                for (int i = 0; i < 9; i++) tokens.push_back((int32_t)(random() % rows));
                for (float scale : {1.0f, 25.2982f}) {
                    SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << " [" << rows << ", " << cols
                                                    << "], scale " << scale << ", seed " << kSeed);
                    Host want((int)tokens.size(), cols);
                    std::vector<double> bound;
                    for (size_t i = 0; i < tokens.size(); i++)
                        for (int c = 0; c < cols; c++) {
                            want.at((int)i, c) = w.value.at(tokens[i], c) * scale;
                            bound.push_back(sum_bound(kEmbed, 2, (double)w.magnitude.at(tokens[i], c) * scale));
                        }
                    wtl_mat out = rig.empty(want.rows, cols, {4, 0});
                    rig.ops()->embed(rig.stream(), rig.matrix(w), rig.ints(tokens), scale, out);
                    Host got = rig.get(out);
                    if (scale == 1.0f) {
                        ASSERT_TRUE(same_bits(got, want));
                    } else {
                        ASSERT_TRUE(within(got, want, bound));
                    }
                    rig.check_memory();
                    rig.forget();
                }
            }
        }
    }
}

wtl_rope rope_of(Rig &rig, const RopeCase &c, const std::vector<float> &factors) {
    wtl_rope rope = {};
    rope.n_rot = c.n_rot;
    rope.freq_base = c.base;
    rope.freq_scale = c.scale;
    rope.freq_factors = c.factors ? rig.vector(factors) : nullptr;
    return rope;
}

std::vector<int32_t> positions_of(int n) {
    const int32_t edges[] = {0, 1, 131071, 7, 511, 512, 8191, 32767};
    std::vector<int32_t> p;
    for (int i = 0; i < n; i++) p.push_back(edges[i % 8] + i / 8);
    return p;
}

TEST_P(Rows, RopeTable) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (const RopeCase &c : rope_cases()) {
        SCOPED_TRACE(testing::Message() << "n " << c.n << ", n_rot " << c.n_rot << ", base " << c.base);
        std::vector<float> factors = random_vector(random, c.n_rot / 2, 4.0f, 1.0f);
        auto run = [&](Rig &r) {
            wtl_rope rope = rope_of(r, c, factors);
            wtl_mat table = r.empty(c.n, c.n_rot, c.layout);
            r.ops()->rope_table(r.stream(), r.ints(positions_of(c.n)), &rope, table);
            Host got = r.get(table);
            r.check_memory();
            r.forget();
            return got;
        };
        Host want = run(ref);
        ASSERT_TRUE(within(run(rig), want, relative(kRopeTable, 1, want)));
    }
}

TEST_P(Rows, Rope) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (const RopeCase &c : rope_cases()) {
        SCOPED_TRACE(testing::Message() << "n " << c.n << ", heads " << c.n_heads << " of " << c.head_dim << ", n_rot "
                                        << c.n_rot << ", style " << c.style << ", seed " << kSeed);
        Host x = random_matrix(random, c.n, c.n_heads * c.head_dim, Fill::Outlier), table(c.n, c.n_rot);
        for (int r = 0; r < c.n; r++)
            for (int j = 0; j < c.n_rot / 2; j++) {
                table.at(r, j) = (float)std::cos(r * 1.7 + j);
                table.at(r, j + c.n_rot / 2) = (float)std::sin(r * 1.7 + j);
            }
        auto run = [&](Rig &r) {
            wtl_mat m = r.put(x, c.layout);
            r.ops()->rope(r.stream(), m, c.n_heads, c.style, r.put(table, c.layout));
            Host got = r.get(m);
            r.check_memory();
            r.forget();
            return got;
        };
        Host want = run(ref);
        std::vector<double> bound;
        for (int r = 0; r < c.n; r++)
            for (int i = 0; i < x.cols; i++) {
                int in_head = i % c.head_dim, head = i - in_head;
                if (in_head >= c.n_rot) {
                    ASSERT_EQ(want.at(r, i), x.at(r, i));
                    bound.push_back(0);
                    continue;
                }
                bool adjacent = c.style == WTL_ROPE_ADJACENT;
                int j = adjacent ? in_head / 2 : in_head % (c.n_rot / 2);
                double a = x.at(r, head + (adjacent ? 2 * j : j)), b = x.at(r, head + (adjacent ? 2 * j + 1 : j + c.n_rot / 2));
                bound.push_back(sum_bound(kRope, 2, std::fabs(a) + std::fabs(b)));
            }
        ASSERT_TRUE(within(run(rig), want, bound));
    }
}

// NaN or Inf in one row: that row comes out poisoned somewhere, every other row keeps its bits.
TEST_P(Rows, PoisonStaysInItsRow) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    Host x = random_matrix(random, 5, 100, Fill::Normal), up = random_matrix(random, 5, 100, Fill::Normal);
    std::vector<float> weight = random_vector(random, 100, 1, 0.1f);
    RowsCase dense = {5, 100};
    auto all = [&](const Host &in, bool second) {
        std::vector<Host> out;
        if (!second) out.push_back(run_norm(rig, in, weight, 1e-6f, dense));
        for (wtl_act act : {WTL_ACT_SILU, WTL_ACT_GELU_TANH})
            out.push_back(second ? run_glu(rig, x, in, act, dense, false) : run_glu(rig, in, up, act, dense, false));
        return out;
    };
    for (bool second : {false, true}) {
        std::vector<Host> clean = all(second ? up : x, second);
        for (float poison : {NAN, -NAN, HUGE_VALF, -HUGE_VALF}) {
            for (int col : {0, 50, 99}) {
                SCOPED_TRACE(testing::Message() << poison << " in col " << col << (second ? " of up" : ""));
                Host bad = second ? up : x;
                bad.at(2, col) = poison;
                std::vector<Host> got = all(bad, second);
                for (size_t i = 0; i < got.size(); i++) {
                    bool seen = false;
                    for (int c = 0; c < 100; c++) {
                        seen |= !std::isfinite(got[i].at(2, c));
                        got[i].at(2, c) = clean[i].at(2, c);
                    }
                    // SiLU and GELU of -Inf may be their limit, 0
                    bool limit = !second && poison == -HUGE_VALF && i > 0;
                    EXPECT_TRUE(seen || limit) << "the poisoned row came out finite from op " << i;
                    EXPECT_TRUE(same_bits(got[i], clean[i])) << "other rows changed in op " << i;
                }
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, Rows, testing::ValuesIn(targets()), [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
