// matmul of every target against ref: classes SUM and QUANT of tolerance.h over the cases of cases.h.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cases.h"
#include "matmul_run.h"
#include "tolerance.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 7101;

std::string words(wtl_dtype dtype, const MatmulCase &c) {
    std::ostringstream s;
    s << wtl_dtype_get(dtype)->name << " w [" << c.rows << ", " << c.cols << "], x [" << c.n << ", " << c.cols << "], x "
      << name_of(c.fill) << ", codes " << (int)c.codes << ", scales " << (int)c.scales << ", gap " << c.layout.gap
      << ", offset " << c.layout.offset << (c.bias ? ", bias" : "") << (c.accumulate ? ", accumulate" : "") << ", seed "
      << kSeed;
    return s.str();
}

// x rounded to int8 per 32 values as the contract says, and the part of |x| that may legitimately come out otherwise.
struct Quantised {
    Host x;      // what is multiplied
    Host step;   // of each value; 0 for outliers
    Host unsure; // one step where a tie is too close to call, the whole magnitude where the block counts as tiny
};

float step_of(float amax) { return (double)amax < kQuantTiny ? 0.0f : amax / 127.0f; }

// Largest magnitude of 32 values among those up to limit.
float block_amax(const Host &x, int r, int first, float limit) {
    float amax = 0;
    for (int c = first; c < first + 32; c++)
        if (std::fabs(x.at(r, c)) <= limit) amax = std::fmax(amax, std::fabs(x.at(r, c)));
    return amax;
}

// Magnitudes above it are the row's outliers.
float outlier_limit(const Host &x, int r) {
    float sum = 0;
    for (int first = 0; first < x.cols; first += 32) sum += step_of(block_amax(x, r, first, INFINITY));
    float limit = std::fmax(kOutlierFactor * 127 * (sum / (float)(x.cols / 32)), (float)kQuantTiny);
    auto above = [&] {
        int n = 0;
        for (int c = 0; c < x.cols; c++) n += std::fabs(x.at(r, c)) > limit;
        return n;
    };
    while (above() > x.cols / 16) limit *= 2;
    return limit;
}

Quantised quantise(const Host &x) {
    Quantised q = {Host(x.rows, x.cols), Host(x.rows, x.cols), Host(x.rows, x.cols)};
    for (int r = 0; r < x.rows; r++) {
        const float limit = outlier_limit(x, r);
        for (int c = 0; c < x.cols; c++) {
            const float step = step_of(block_amax(x, r, c / 32 * 32, limit)), value = x.at(r, c);
            if (std::fabs(value) > limit) {
                q.x.at(r, c) = value;
                continue;
            }
            double scaled = step > 0 ? (double)value / (double)step : 0.0;
            bool close = std::fabs(scaled - std::floor(scaled) - 0.5) < kQuantTie;
            q.x.at(r, c) = (float)(std::nearbyint(scaled) * (double)step);
            q.step.at(r, c) = step;
            q.unsure.at(r, c) = step == 0 ? std::fabs(value) : close ? step : 0.0f;
        }
    }
    return q;
}

// sum_k |a[i, k]| b[r, k] for all i, r, plus what bias and accumulation add when `terms` is set.
Host sums(const Host &a, const Host &b, const MatmulPart *terms, bool accumulate) {
    Host out(a.rows, b.rows);
    for (int i = 0; i < a.rows; i++)
        for (int r = 0; r < b.rows; r++) {
            double lanes[4] = {};
            for (int k = 0; k < a.cols; k++) lanes[k % 4] += (double)(std::fabs(a.at(i, k)) * std::fabs(b.at(r, k)));
            double sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
            if (terms && !terms->bias.empty()) sum += std::fabs(terms->bias[r]);
            if (terms && accumulate) sum += std::fabs(terms->before.at(i, r));
            out.at(i, r) = (float)sum;
        }
    return out;
}

std::vector<double> bounds(const Host &magnitude, int n_terms) {
    std::vector<double> bound;
    for (float m : magnitude.v) bound.push_back(sum_bound(kMatmul, n_terms, m));
    return bound;
}

void add_to(std::vector<double> &bound, const Host &extra, double factor) {
    for (size_t i = 0; i < bound.size(); i++) bound[i] += factor * extra.v[i];
}

testing::AssertionResult check_exact_x(const Host &got, const Host &want, const MatmulProblem &p, size_t part) {
    const HostWeight &w = *p.parts[part].w;
    return within(got, want, bounds(sums(p.x, w.magnitude, &p.parts[part], p.accumulate), w.cols + 2));
}

testing::AssertionResult check_quantised_x(Rig &ref, const Host &got, const Host &want, const MatmulProblem &p,
                                           size_t part) {
    const HostWeight &w = *p.parts[part].w;
    Quantised q = quantise(p.x);
    MatmulProblem rounded = p;
    rounded.x = q.x;
    rounded.parts = {p.parts[part]};
    std::vector<double> sum = bounds(sums(q.x, w.magnitude, &p.parts[part], p.accumulate), w.cols + 2), tight = sum;
    Host unsure = sums(q.unsure, w.value, nullptr, false);
    add_to(tight, unsure, 1.0);
    auto result = within(got, run_matmul(ref, rounded)[0], tight);
    if (!result) return result << " [against the dot product with x in int8]";
    add_to(sum, sums(q.step, w.value, nullptr, false), 0.5 + kQuantTie);
    add_to(sum, unsure, 1.0);
    return within(got, want, sum) << " [against the exact product]";
}

// The whole op is judged by one class: x as it is, or x in int8.
testing::AssertionResult check(Rig &ref, const std::vector<Host> &got, const std::vector<Host> &want,
                               const MatmulProblem &p) {
    for (size_t i = 0; i < got.size(); i++) {
        auto exact = check_exact_x(got[i], want[i], p, i);
        if (exact) continue;
        if (!is_quantised(p.parts[i].w->dtype)) return exact << ", part " << i;
        auto rounded = check_quantised_x(ref, got[i], want[i], p, i);
        if (!rounded) return rounded << ", part " << i;
    }
    return testing::AssertionSuccess();
}

class Matmul : public testing::TestWithParam<std::tuple<Target, wtl_dtype>> {
  protected:
    Target target() const { return std::get<0>(GetParam()); }
    wtl_dtype dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(Matmul, EveryCaseMatchesRef) {
    Rig ref({"ref", ""}), rig(target());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed + dtype());
    for (const MatmulCase &c : matmul_cases(dtype())) {
        SCOPED_TRACE(words(dtype(), c));
        HostWeight w = random_weight(random, dtype(), c.rows, c.cols, c.codes, c.scales);
        MatmulProblem p;
        p.x = random_matrix(random, c.n, c.cols, c.fill);
        p.accumulate = c.accumulate;
        p.layout = c.layout;
        p.parts = {{&w, c.bias ? random_vector(random, c.rows, 0, 1) : std::vector<float>(),
                    c.accumulate ? random_matrix(random, c.n, c.rows, Fill::Normal) : Host()}};
        ASSERT_TRUE(check(ref, run_matmul(rig, p), run_matmul(ref, p), p));
    }
}

TEST_P(Matmul, PoisonStaysInItsRow) {
    Rig rig(target());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    HostWeight w = random_weight(random, dtype(), 37, 256);
    for (int n : {1, 5, 13, 33}) {
        MatmulProblem p;
        p.x = random_matrix(random, n, 256, Fill::Normal);
        p.parts = {{&w, {}, {}}};
        Host clean = run_matmul(rig, p)[0];
        for (float poison : {NAN, -NAN, HUGE_VALF, -HUGE_VALF}) {
            for (int col : {0, 77, 255}) {
                int victim = (col + n / 2) % n;
                SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype())->name << ", n " << n << ", " << poison
                                                << " in row " << victim << ", col " << col << ", seed " << kSeed);
                MatmulProblem bad = p;
                bad.x.at(victim, col) = poison;
                // x with a NaN does not compare equal to itself by value, but its bits do
                Host got = run_matmul(rig, bad)[0];
                bool seen = false;
                for (int r = 0; r < got.cols; r++) seen |= !std::isfinite(got.at(victim, r));
                ASSERT_TRUE(seen) << "the poisoned row came out finite";
                for (int r = 0; r < got.cols; r++) got.at(victim, r) = clean.at(victim, r);
                ASSERT_TRUE(same_bits(got, clean)) << "other rows changed";
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, Matmul,
                         testing::Combine(testing::ValuesIn(targets()), testing::ValuesIn(runnable_types())),
                         [](const auto &info) {
                             return std::get<0>(info.param).name() + "_" + wtl_dtype_get(std::get<1>(info.param))->name;
                         });

// Three parts of different types share x; each must come out as it would alone.
class MatmulParts : public testing::TestWithParam<Target> {};

TEST_P(MatmulParts, DifferentTypesShareX) {
    Rig ref({"ref", ""}), rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    std::vector<wtl_dtype> types = runnable_types();
    for (size_t i = 0; i < types.size(); i++) {
        for (int n : {1, 3, 9, 40}) {
            wtl_dtype picked[3] = {types[i], types[(i + 4) % types.size()], types[(i + 7) % types.size()]};
            SCOPED_TRACE(testing::Message() << wtl_dtype_get(picked[0])->name << ", " << wtl_dtype_get(picked[1])->name
                                            << ", " << wtl_dtype_get(picked[2])->name << ", n " << n << ", seed " << kSeed);
            HostWeight w[3] = {random_weight(random, picked[0], 48, 512), random_weight(random, picked[1], 16, 512),
                               random_weight(random, picked[2], 21, 512)};
            MatmulProblem p;
            p.x = random_matrix(random, n, 512, Fill::Normal);
            p.parts = {{&w[0], random_vector(random, 48, 0, 1), {}}, {&w[1], {}, {}}, {&w[2], random_vector(random, 21, 0, 1), {}}};
            std::vector<Host> got = run_matmul(rig, p);
            ASSERT_TRUE(check(ref, got, run_matmul(ref, p), p));
            for (size_t part = 0; part < 3; part++) {
                MatmulProblem alone = p;
                alone.parts = {p.parts[part]};
                ASSERT_TRUE(same_bits(run_matmul(rig, alone)[0], got[part])) << "part " << part << " depends on its company";
            }
        }
    }
}

// With BLAS allowed, long prompts on float weights take another path: same class SUM.
TEST_P(MatmulParts, FloatWeightsWithBlasAllowed) {
    Rig::Options options;
    options.deterministic = false;
    options.n_threads = 2;
    Rig ref({"ref", ""}), rig(GetParam(), options);
    CHECKER_RIG(rig);
    std::mt19937 random(kSeed);
    for (wtl_dtype dtype : {WTL_DTYPE_F32, WTL_DTYPE_F16, WTL_DTYPE_BF16}) {
        for (int n : {1, 31, 32, 33, 64, 100}) {
            for (bool accumulate : {false, true}) {
                SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << ", n " << n << ", seed " << kSeed);
                HostWeight w = random_weight(random, dtype, 130, 577);
                MatmulProblem p;
                p.x = random_matrix(random, n, 577, Fill::Normal);
                p.accumulate = accumulate;
                p.layout = {3, 1};
                p.parts = {{&w, random_vector(random, 130, 0, 1), random_matrix(random, n, 130, Fill::Normal)}};
                ASSERT_TRUE(check(ref, run_matmul(rig, p), run_matmul(ref, p), p));
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, MatmulParts, testing::ValuesIn(targets()),
                         [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
