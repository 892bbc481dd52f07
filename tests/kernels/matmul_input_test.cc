// A matmul that makes its x itself, by a norm, or lets one result through the other: the bits of the two ops, one after the other.
// SPDX-License-Identifier: Apache-2.0
#include "matmul_run.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 4711;

class MatmulInput : public testing::TestWithParam<Target> {};

std::vector<Host> run(Rig &rig, const Host &x, const std::vector<float> &weight, const std::vector<const HostWeight *> &weights, bool together, bool in_place, Layout layout) {
    wtl_matmul a = {};
    const wtl_mat from = rig.put(x, layout);
    a.x = in_place ? from : rig.empty(x.rows, x.cols, layout);
    if (together) a.input = {WTL_INPUT_RMS_NORM, from, rig.vector(weight), 1e-5f};
    else rig.ops()->rms_norm(rig.stream(), from, rig.vector(weight), 1e-5f, a.x);
    a.n_parts = (int32_t)weights.size();
    for (size_t i = 0; i < weights.size(); i++) {
        a.part[i].w = rig.matrix(*weights[i]);
        a.part[i].out = rig.empty(x.rows, weights[i]->rows, layout);
    }
    rig.ops()->matmul(rig.stream(), &a);
    std::vector<Host> out;
    for (size_t i = 0; i < weights.size(); i++) out.push_back(rig.get(a.part[i].out));
    EXPECT_TRUE(in_place || same_bits(rig.get(from), x)) << "the op changed what x is made from";
    rig.check_memory();
    rig.forget();
    return out;
}

// Packed weights alone, weights of floats alone, and both, which want x as a whole.
TEST_P(MatmulInput, SameBitsAsTheOpsApart) {
    std::mt19937 random(kSeed);
    const int cols = 512;
    const HostWeight packed = random_weight(random, WTL_DTYPE_Q4_1, 45, cols), other = random_weight(random, WTL_DTYPE_Q6_K, 32, cols);
    const HostWeight floats = random_weight(random, WTL_DTYPE_F16, 20, cols);
    const std::vector<std::vector<const HostWeight *>> companies = {{&packed, &other}, {&floats}, {&packed, &floats, &other}};
    for (int n_threads : {1, 3}) {
        Rig::Options options;
        options.n_threads = n_threads;
        Rig rig(GetParam(), options);
        CHECKER_RIG(rig);
        for (int n : {1, 7, 40, 100}) {
            const Host x = random_matrix(random, n, cols, Fill::Outlier);
            const std::vector<float> weight = random_vector(random, cols, 1, 0.5f);
            for (const auto &weights : companies) {
                SCOPED_TRACE(testing::Message() << n_threads << " threads, n " << n << ", " << weights.size() << " parts, seed " << kSeed);
                const std::vector<Host> want = run(rig, x, weight, weights, false, false, {});
                for (bool in_place : {false, true}) {
                    const std::vector<Host> got = run(rig, x, weight, weights, true, in_place, {3, 1});
                    for (size_t i = 0; i < want.size(); i++) ASSERT_TRUE(same_bits(got[i], want[i])) << "part " << i << (in_place ? ", in place" : "");
                }
            }
        }
    }
}

Host run_gated(Rig &rig, const Host &x, const HostWeight &gate, const HostWeight &up, wtl_act act, bool together, Layout layout) {
    wtl_matmul a = {};
    a.x = rig.put(x, layout);
    a.n_parts = 2;
    a.part[0] = {rig.matrix(gate), nullptr, rig.empty(x.rows, gate.rows, layout)};
    a.part[1] = {rig.matrix(up), nullptr, rig.empty(x.rows, up.rows, layout)};
    a.gated = together, a.act = act;
    rig.ops()->matmul(rig.stream(), &a);
    if (!together) rig.ops()->glu(rig.stream(), a.part[0].out, a.part[1].out, act, a.part[0].out);
    const Host out = rig.get(a.part[0].out);
    rig.check_memory();
    rig.forget();
    return out;
}

// One type for both, with and without minima and two scales a block, types that differ, floats; a last panel that is not full; one span
// of a panel and several; tiles of all widths and several rounds of them.
TEST_P(MatmulInput, GatedHasTheBitsOfAMatmulAndAGlu) {
    std::mt19937 random(kSeed);
    const std::pair<wtl_dtype, wtl_dtype> types[] = {{WTL_DTYPE_Q4_1, WTL_DTYPE_Q4_1}, {WTL_DTYPE_Q8_0, WTL_DTYPE_Q8_0}, {WTL_DTYPE_Q4_K, WTL_DTYPE_Q4_K},
                                                     {WTL_DTYPE_Q6_K, WTL_DTYPE_Q6_K}, {WTL_DTYPE_Q4_K, WTL_DTYPE_Q6_K}, {WTL_DTYPE_F16, WTL_DTYPE_F16},
                                                     {WTL_DTYPE_Q4_1, WTL_DTYPE_F16}};
    for (int n_threads : {1, 3}) {
        Rig::Options options;
        options.n_threads = n_threads;
        Rig rig(GetParam(), options);
        CHECKER_RIG(rig);
        for (auto [gate_type, up_type] : types) {
            for (auto [rows, cols] : {std::pair(45, 256), std::pair(16, 1536), std::pair(200, 512)}) {
                const HostWeight gate = random_weight(random, gate_type, rows, cols), up = random_weight(random, up_type, rows, cols);
                for (int n : {1, 2, 3, 5, 8, 9, 16, 23, 25, 40, 100}) {
                    const Host x = random_matrix(random, n, cols, Fill::Outlier);
                    const wtl_act act = n % 2 ? WTL_ACT_SILU : WTL_ACT_GELU_TANH;
                    const Host want = run_gated(rig, x, gate, up, act, false, {}), got = run_gated(rig, x, gate, up, act, true, {3, 1});
                    ASSERT_TRUE(same_bits(got, want)) << n_threads << " threads, types " << gate_type << " and " << up_type << ", " << rows << " x " << cols << ", n " << n << ", seed " << kSeed;
                }
            }
        }
    }
}

// The stream refuses what does not fit together, and does nothing.
TEST_P(MatmulInput, ShapesThatDoNotFitAreRefused) {
    if (GetParam().backend == "ref") GTEST_SKIP() << "ref trusts its callers";
    std::mt19937 random(kSeed);
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    const HostWeight w = random_weight(random, WTL_DTYPE_Q8_0, 16, 64);
    const HostWeight other = random_weight(random, WTL_DTYPE_Q8_0, 32, 64);
    for (int wrong = 0; wrong < 6; wrong++) {
        wtl_matmul a = {};
        a.x = rig.empty(3, 64, {});
        if (wrong < 2) a.input = {WTL_INPUT_RMS_NORM, rig.empty(wrong == 0 ? 2 : 3, 64, {}), rig.vector(std::vector<float>(wrong == 1 ? 96 : 64, 1.0f)), 1e-5f};
        a.gated = wrong >= 2;
        a.n_parts = a.gated && wrong != 2 ? 2 : 1;
        a.accumulate = wrong == 3;
        a.part[0] = {rig.matrix(w), wrong == 4 ? rig.vector(std::vector<float>(16, 1.0f)) : nullptr, rig.empty(3, 16, {})};
        const HostWeight &second = wrong == 5 ? other : w;
        a.part[1] = {rig.matrix(second), nullptr, rig.empty(3, second.rows, {})};
        rig.ops()->matmul(rig.stream(), &a);
        wtl_error err = {};
        EXPECT_EQ(rig.ops()->sync(rig.stream(), &err), WTL_ERR_INVALID) << wrong;
        rig.forget();
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatmulInput, testing::ValuesIn(targets()), [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
