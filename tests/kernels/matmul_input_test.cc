// A matmul that makes its x itself, norm or gated activation: the bits of the two ops, one after the other.
// SPDX-License-Identifier: Apache-2.0
#include "matmul_run.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 4711;

class MatmulInput : public testing::TestWithParam<Target> {};

// What an input is made of, and the op that it stands for.
struct Source {
    wtl_input_kind kind;
    wtl_act act;
    Host from, up;
    std::vector<float> weight;

    void apart(Rig &rig, wtl_mat from_mat, wtl_mat up_mat, wtl_mat out) const {
        if (kind == WTL_INPUT_RMS_NORM) rig.ops()->rms_norm(rig.stream(), from_mat, rig.vector(weight), 1e-5f, out);
        else rig.ops()->glu(rig.stream(), from_mat, up_mat, act, out);
    }
    wtl_input input(Rig &rig, wtl_mat from_mat, wtl_mat up_mat) const {
        wtl_input in = {};
        in.kind = kind, in.from = from_mat, in.act = act, in.eps = 1e-5f;
        if (kind == WTL_INPUT_GLU) in.up = up_mat;
        else in.weight = rig.vector(weight);
        return in;
    }
};

std::vector<Host> run(Rig &rig, const Source &source, const std::vector<const HostWeight *> &weights, bool together, bool in_place, Layout layout) {
    wtl_matmul a = {};
    const wtl_mat from = rig.put(source.from, layout), up = rig.put(source.up, layout);
    a.x = in_place ? from : rig.empty(source.from.rows, source.from.cols, layout);
    if (together) a.input = source.input(rig, from, up);
    else source.apart(rig, from, up, a.x);
    a.n_parts = (int32_t)weights.size();
    for (size_t i = 0; i < weights.size(); i++) {
        a.part[i].w = rig.matrix(*weights[i]);
        a.part[i].out = rig.empty(source.from.rows, weights[i]->rows, layout);
    }
    rig.ops()->matmul(rig.stream(), &a);
    std::vector<Host> out;
    for (size_t i = 0; i < weights.size(); i++) out.push_back(rig.get(a.part[i].out));
    EXPECT_TRUE(same_bits(rig.get(up), source.up)) << "the op changed up";
    EXPECT_TRUE(in_place || same_bits(rig.get(from), source.from)) << "the op changed what x is made from";
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
            for (auto [kind, act] : {std::pair(WTL_INPUT_RMS_NORM, WTL_ACT_SILU), std::pair(WTL_INPUT_GLU, WTL_ACT_SILU), std::pair(WTL_INPUT_GLU, WTL_ACT_GELU_TANH)}) {
                const Source source = {kind, act, random_matrix(random, n, cols, Fill::Outlier), random_matrix(random, n, cols, Fill::Normal), random_vector(random, cols, 1, 0.5f)};
                for (const auto &weights : companies) {
                    SCOPED_TRACE(testing::Message() << n_threads << " threads, n " << n << ", kind " << kind << ", act " << act << ", " << weights.size() << " parts, seed " << kSeed);
                    const std::vector<Host> want = run(rig, source, weights, false, false, {});
                    for (bool in_place : {false, true}) {
                        const std::vector<Host> got = run(rig, source, weights, true, in_place, {3, 1});
                        for (size_t i = 0; i < want.size(); i++) ASSERT_TRUE(same_bits(got[i], want[i])) << "part " << i << (in_place ? ", in place" : "");
                    }
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
    for (int wrong = 0; wrong < 3; wrong++) {
        wtl_matmul a = {};
        a.x = rig.empty(3, 64, {});
        a.input.kind = wrong < 2 ? WTL_INPUT_GLU : WTL_INPUT_RMS_NORM;
        a.input.from = rig.empty(wrong == 0 ? 2 : 3, 64, {});
        a.input.up = rig.empty(3, wrong == 1 ? 32 : 64, {});
        a.input.weight = rig.vector(std::vector<float>(96, 1.0f));
        a.n_parts = 1;
        a.part[0].w = rig.matrix(w);
        a.part[0].out = rig.empty(3, 16, {});
        rig.ops()->matmul(rig.stream(), &a);
        wtl_error err = {};
        EXPECT_EQ(rig.ops()->sync(rig.stream(), &err), WTL_ERR_INVALID) << wrong;
        rig.forget();
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatmulInput, testing::ValuesIn(targets()), [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
