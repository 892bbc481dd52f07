// ref against formulas written out once more, independently, in long double: at most the last bit may differ.
// Every other backend is judged by ref, so this file (with dequant_test.cc and AttentionRef) is what ref is judged by.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cases.h"
#include "matmul_run.h"
#include "tolerance.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 31;

// One f32 rounding of a result whose terms have the given magnitude and were summed in double.
double rounded_once(long double want, long double magnitude) {
    return (double)(fabsl(want) * (long double)kEps + magnitude * 1e-14L) + kSmallest;
}

TEST(Oracle, Matmul) {
    Rig rig({"ref", ""});
    std::mt19937 random(kSeed);
    for (wtl_dtype dtype : runnable_types()) {
        for (const MatmulCase &c : matmul_cases(dtype)) {
            if (c.rows * c.cols * c.n > 200000) continue; // time
            SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << " [" << c.rows << ", " << c.cols << "], n "
                                            << c.n << ", " << name_of(c.fill) << ", seed " << kSeed);
            HostWeight w = random_weight(random, dtype, c.rows, c.cols, c.codes, c.scales);
            MatmulProblem p;
            p.x = random_matrix(random, c.n, c.cols, c.fill);
            p.accumulate = c.accumulate;
            p.layout = c.layout;
            p.parts = {{&w, c.bias ? random_vector(random, c.rows, 0, 1) : std::vector<float>(),
                        c.accumulate ? random_matrix(random, c.n, c.rows, Fill::Normal) : Host()}};
            Host want(c.n, c.rows);
            std::vector<double> bound;
            for (int i = 0; i < c.n; i++)
                for (int r = 0; r < c.rows; r++) {
                    long double sum = 0, magnitude = 0;
                    for (int k = 0; k < c.cols; k++) {
                        long double product = (long double)p.x.at(i, k) * w.value.at(r, k);
                        sum += product;
                        magnitude += fabsl(product);
                    }
                    if (c.bias) sum += p.parts[0].bias[r];
                    if (c.accumulate) sum += p.parts[0].before.at(i, r);
                    want.at(i, r) = (float)sum;
                    bound.push_back(rounded_once(sum, magnitude));
                }
            ASSERT_TRUE(within(run_matmul(rig, p)[0], want, bound));
        }
    }
}

TEST(Oracle, RmsNormAndGlu) {
    Rig rig({"ref", ""});
    std::mt19937 random(kSeed);
    for (const RowsCase &c : rows_cases()) {
        SCOPED_TRACE(testing::Message() << c.n << " x " << c.cols << ", " << name_of(c.fill) << ", seed " << kSeed);
        Host x = random_matrix(random, c.n, c.cols, c.fill), up = random_matrix(random, c.n, c.cols, Fill::Normal);
        std::vector<float> weight = random_vector(random, c.cols, 1, 0.5f);
        Host norm(c.n, c.cols), silu = norm, gelu = norm;
        std::vector<double> norm_bound, silu_bound, gelu_bound;
        for (int r = 0; r < c.n; r++) {
            long double mean = 0;
            for (int i = 0; i < c.cols; i++) mean += (long double)x.at(r, i) * x.at(r, i) / c.cols;
            for (int i = 0; i < c.cols; i++) {
                long double g = x.at(r, i), u = up.at(r, i), n = g / sqrtl(mean + (long double)1e-5f) * weight[i];
                long double s = g * u / (1 + expl(-g));
                long double inner = sqrtl(2 / 3.14159265358979323846264338328L) * (g + 0.044715L * g * g * g);
                long double t = 0.5L * g * u * (1 + tanhl(inner));
                norm.at(r, i) = (float)n;
                silu.at(r, i) = (float)s;
                gelu.at(r, i) = (float)t;
                norm_bound.push_back(rounded_once(n, fabsl(n)));
                silu_bound.push_back(rounded_once(s, fabsl(s)));
                gelu_bound.push_back(rounded_once(t, fabsl(g * u)));
            }
        }
        wtl_mat out = rig.empty(c.n, c.cols), in = rig.put(x), second = rig.put(up);
        rig.ops()->rms_norm(rig.stream(), in, rig.vector(weight), 1e-5f, out);
        ASSERT_TRUE(within(rig.get(out), norm, norm_bound)) << "rms_norm";
        rig.ops()->glu(rig.stream(), in, second, WTL_ACT_SILU, out);
        ASSERT_TRUE(within(rig.get(out), silu, silu_bound)) << "silu";
        rig.ops()->glu(rig.stream(), in, second, WTL_ACT_GELU_TANH, out);
        ASSERT_TRUE(within(rig.get(out), gelu, gelu_bound)) << "gelu";
        rig.ops()->add(rig.stream(), in, second, out);
        Host sum = x;
        for (size_t i = 0; i < sum.v.size(); i++) sum.v[i] += up.v[i];
        ASSERT_TRUE(same_bits(rig.get(out), sum)) << "add";
        rig.forget();
    }
}

// Rotation as multiplication of complex numbers; the angle by its definition.
TEST(Oracle, Rope) {
    Rig rig({"ref", ""});
    std::mt19937 random(kSeed);
    for (const RopeCase &c : rope_cases()) {
        SCOPED_TRACE(testing::Message() << "heads " << c.n_heads << " of " << c.head_dim << ", n_rot " << c.n_rot
                                        << ", style " << c.style << ", seed " << kSeed);
        std::vector<float> factors = random_vector(random, c.n_rot / 2, 4, 1);
        Host x = random_matrix(random, c.n, c.n_heads * c.head_dim, Fill::Normal), want = x;
        std::vector<int32_t> positions;
        for (int i = 0; i < c.n; i++) positions.push_back(i * 1009);
        wtl_rope rope = {c.n_rot, c.base, c.scale, c.factors ? rig.vector(factors) : nullptr};
        wtl_mat table = rig.empty(c.n, c.n_rot), m = rig.put(x);
        rig.ops()->rope_table(rig.stream(), rig.ints(positions), &rope, table);
        rig.ops()->rope(rig.stream(), m, c.n_heads, c.style, table);
        for (int r = 0; r < c.n; r++)
            for (int h = 0; h < c.n_heads; h++)
                for (int j = 0; j < c.n_rot / 2; j++) {
                    long double angle = (long double)positions[r] * c.scale / powl(c.base, 2.0L * j / c.n_rot);
                    if (c.factors) angle /= factors[j];
                    int a = h * c.head_dim + (c.style == WTL_ROPE_ADJACENT ? 2 * j : j);
                    int b = h * c.head_dim + (c.style == WTL_ROPE_ADJACENT ? 2 * j + 1 : j + c.n_rot / 2);
                    long double re = x.at(r, a), im = x.at(r, b);
                    want.at(r, a) = (float)(re * cosl(angle) - im * sinl(angle));
                    want.at(r, b) = (float)(re * sinl(angle) + im * cosl(angle));
                }
        // The table's entries are f32: half an ulp of cos and sin, times the pair.
        std::vector<double> bound(x.v.size(), 4 * kEps * 4.0);
        ASSERT_TRUE(within(rig.get(m), want, bound));
        rig.forget();
    }
}

} // namespace
} // namespace checker
