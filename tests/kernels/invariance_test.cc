// Batch invariance: a row's bits depend on that row alone, not on threads, company, chunking, or where it lies in memory.
// SPDX-License-Identifier: Apache-2.0
#include "attention_run.h"
#include "matmul_run.h"
#include "tests/support/checked_build.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 555;

// ref runs on one thread and is slow: it only has to show that its rows are independent. Sanitizers look for what is read and written
// where it should not be, and a cut between two threads or three shows that.
std::vector<int> thread_counts(const Target &t) {
    if (kChecked && t.backend != "ref") return {1, 3};
    return t.backend == "ref" ? std::vector<int>{1} : std::vector<int>{1, 2, 3, 5};
}
std::vector<int> chunks(const Target &t, int n_threads) {
    if (t.backend == "ref") return {530, 16};
    return n_threads > 2 ? std::vector<int>{530, 64, 16} : std::vector<int>{530, 64, 16, 7, 1};
}

Rig::Options threads(int n) {
    Rig::Options options;
    options.n_threads = n;
    return options;
}

MatmulProblem rows_of(const MatmulProblem &p, int first, int n) {
    MatmulProblem part = p;
    part.x = p.x.slice(first, n);
    for (MatmulPart &m : part.parts)
        if (p.accumulate) m.before = m.before.slice(first, n);
    return part;
}

class Invariance : public testing::TestWithParam<Target> {};

TEST_P(Invariance, Matmul) {
    std::mt19937 random(kSeed);
    for (wtl_dtype dtype : runnable_types()) {
        int cols = wtl_dtype_get(dtype)->block_weights == 256 ? 512 : 576, n = 70;
        HostWeight w = random_weight(random, dtype, 83, cols), w2 = random_weight(random, WTL_DTYPE_Q8_0, 20, cols);
        MatmulProblem p;
        p.x = random_matrix(random, n, cols, Fill::Outlier);
        p.accumulate = true;
        p.parts = {{&w, random_vector(random, 83, 0, 1), random_matrix(random, n, 83, Fill::Normal)},
                   {&w2, {}, random_matrix(random, n, 20, Fill::Normal)}};
        std::vector<Host> whole;
        for (int n_threads : thread_counts(GetParam())) {
            Rig rig(GetParam(), threads(n_threads));
            CHECKER_RIG(rig);
            SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << ", " << n_threads << " threads, seed " << kSeed);
            std::vector<Host> all = run_matmul(rig, p);
            if (whole.empty()) whole = all;
            for (size_t i = 0; i < 2; i++) ASSERT_TRUE(same_bits(all[i], whole[i])) << "threads matter, part " << i;
            // Groups of every size up to the largest tile and one more, at changing alignment, cover the rows again and again.
            for (int size : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 33, 64}) {
                int first = size == 1 ? 0 : (size * 7) % (n - size);
                for (int at = first; at + size <= n; at += size == 1 ? 1 : n) {
                    MatmulProblem group = rows_of(p, at, size);
                    group.layout = {at % 4, at % 3};
                    std::vector<Host> got = run_matmul(rig, group);
                    for (size_t i = 0; i < 2; i++)
                        ASSERT_TRUE(same_bits(got[i], whole[i].slice(at, size)))
                            << "rows " << at << ".." << at + size - 1 << " alone, part " << i;
                }
            }
        }
    }
}

// More rows than go by with one unpacking of a panel, and panels longer than what is unpacked at a time.
TEST_P(Invariance, MatmulOfManyRows) {
    std::mt19937 random(kSeed);
    const int cols = 1536, n = 300;
    const auto many = [](int n_threads) {
        Rig::Options options = threads(n_threads);
        options.limits.max_rows = n;
        return options;
    };
    for (wtl_dtype dtype : {WTL_DTYPE_Q4_1, WTL_DTYPE_Q8_0, WTL_DTYPE_Q2_K, WTL_DTYPE_Q4_K, WTL_DTYPE_Q6_K}) {
        SCOPED_TRACE(testing::Message() << wtl_dtype_get(dtype)->name << ", seed " << kSeed);
        const HostWeight w = random_weight(random, dtype, 83, cols); // an odd number of panels
        MatmulProblem p;
        p.x = random_matrix(random, n, cols, Fill::Outlier);
        p.accumulate = true;
        p.parts = {{&w, random_vector(random, 83, 0, 1), random_matrix(random, n, 83, Fill::Normal)}};
        Host whole;
        for (int n_threads : thread_counts(GetParam())) {
            Rig rig(GetParam(), many(n_threads));
            CHECKER_RIG(rig);
            const Host all = run_matmul(rig, p)[0];
            if (!whole.rows) whole = all;
            ASSERT_TRUE(same_bits(all, whole)) << n_threads << " threads";
        }
        Rig rig(GetParam(), many(1));
        for (auto [at, size] : {std::pair(0, 1), std::pair(255, 8), std::pair(250, 20), std::pair(13, 270)}) {
            ASSERT_TRUE(same_bits(run_matmul(rig, rows_of(p, at, size))[0], whole.slice(at, size))) << "rows " << at << ".." << at + size - 1 << " alone";
        }
    }
}

// Sets that differ in nothing but how an exact product of integers is made.
TEST(InvarianceOfSets, MatmulGivesTheSameBits) {
    for (auto [one, other] : {std::pair("avx2", "avxvnni"), std::pair("neon_dotprod", "neon_i8mm")}) {
        bool here = false;
        for (const Target &t : targets()) here |= t.mask == one;
        if (!here) continue;
        Rig a({"cpu", one}), b({"cpu", other});
        CHECKER_RIG(a);
        CHECKER_RIG(b);
        std::mt19937 random(kSeed);
        for (wtl_dtype dtype : runnable_types()) {
            HostWeight w = random_weight(random, dtype, 45, 768);
            for (int n = 1; n <= 9; n++) {
                SCOPED_TRACE(testing::Message() << one << " and " << other << ", " << wtl_dtype_get(dtype)->name << ", n " << n << ", seed " << kSeed);
                MatmulProblem p;
                p.x = random_matrix(random, n, 768, Fill::Outlier);
                p.parts = {{&w, random_vector(random, 45, 0, 1), {}}};
                ASSERT_TRUE(same_bits(run_matmul(a, p)[0], run_matmul(b, p)[0]));
            }
        }
    }
}

// One op applied to all rows and to slices of them.
template <class Op> void check_rows(const Target &target, const Host &x, Op op) {
    Host whole;
    for (int n_threads : thread_counts(target)) {
        Rig rig(target, threads(n_threads));
        CHECKER_RIG(rig);
        SCOPED_TRACE(testing::Message() << n_threads << " threads, seed " << kSeed);
        Host all = op(rig, 0, x.rows, Layout());
        if (whole.v.empty()) whole = all;
        ASSERT_TRUE(same_bits(all, whole)) << "threads matter";
        for (int size : {1, 3, 8, 17})
            for (int at = 0; at + size <= x.rows; at += size + 5)
                ASSERT_TRUE(same_bits(op(rig, at, size, {at % 4, at % 3}), whole.slice(at, size)))
                    << "rows " << at << " and " << size - 1 << " more";
    }
}

Host finish(Rig &rig, wtl_mat out) {
    Host got = rig.get(out);
    rig.forget();
    return got;
}

TEST_P(Invariance, RowOps) {
    std::mt19937 random(kSeed);
    for (int cols : {64, 576, 641}) {
        SCOPED_TRACE(testing::Message() << "cols " << cols);
        Host x = random_matrix(random, 40, cols, Fill::Outlier), y = random_matrix(random, 40, cols, Fill::Normal);
        std::vector<float> weight = random_vector(random, cols, 1, 0.5f);
        check_rows(GetParam(), x, [&](Rig &rig, int at, int n, Layout layout) {
            wtl_mat out = rig.empty(n, cols, layout);
            rig.ops()->rms_norm(rig.stream(), rig.put(x.slice(at, n), layout), rig.vector(weight), 1e-6f, out);
            return finish(rig, out);
        });
        for (wtl_act act : {WTL_ACT_SILU, WTL_ACT_GELU_TANH})
            check_rows(GetParam(), x, [&](Rig &rig, int at, int n, Layout layout) {
                wtl_mat out = rig.empty(n, cols, layout);
                rig.ops()->glu(rig.stream(), rig.put(x.slice(at, n), layout), rig.put(y.slice(at, n), layout), act, out);
                return finish(rig, out);
            });
    }
}

TEST_P(Invariance, Rope) {
    std::mt19937 random(kSeed);
    Host x = random_matrix(random, 40, 3 * 64, Fill::Normal);
    std::vector<int32_t> positions;
    for (int i = 0; i < 40; i++) positions.push_back(i * 37);
    for (wtl_rope_style style : {WTL_ROPE_ADJACENT, WTL_ROPE_HALVES}) {
        check_rows(GetParam(), x, [&](Rig &rig, int at, int n, Layout layout) {
            wtl_rope rope = {64, 10000.0f, 1.0f, nullptr};
            wtl_mat table = rig.empty(n, 64, layout), m = rig.put(x.slice(at, n), layout);
            rig.ops()->rope_table(rig.stream(), rig.ints({positions.begin() + at, positions.begin() + at + n}), &rope, table);
            rig.ops()->rope(rig.stream(), m, 3, style, table);
            return finish(rig, m);
        });
    }
}

TEST_P(Invariance, EmbedAndGather) {
    std::mt19937 random(kSeed);
    HostWeight w = random_weight(random, WTL_DTYPE_Q4_K, 50, 512);
    Host x = random_matrix(random, 40, 512, Fill::Normal);
    std::vector<int32_t> tokens;
    for (int i = 0; i < 40; i++) tokens.push_back((i * 7) % 50);
    check_rows(GetParam(), x, [&](Rig &rig, int at, int n, Layout layout) {
        wtl_mat out = rig.empty(n, 512, layout);
        rig.ops()->embed(rig.stream(), rig.matrix(w), rig.ints({tokens.begin() + at, tokens.begin() + at + n}), 3.3f, out);
        return finish(rig, out);
    });
}

// All positions of one sequence, prefilled in chunks of `chunk` rows; the other sequences of the bench keep it company:
// each step also takes one row or a few of every other sequence that has any left.
Host prefill(Rig &rig, const AttentionCase &c, const std::vector<Sequence> &sequences, int chunk) {
    KvBench bench(rig, c, sequences, kSeed + (uint32_t)chunk);
    std::vector<int> at(sequences.size(), 0);
    Host out(0, c.n_heads_kv * c.group * c.head_dim);
    while (at[0] < sequences[0].length()) {
        std::vector<StepRows> step;
        for (int s = (int)sequences.size() - 1; s >= 0; s--) {
            int n = std::min(s == 0 ? chunk : 1 + (s * 5 + at[0]) % 9, sequences[s].length() - at[s]);
            if (n > 0) step.push_back({s, at[s], n});
            at[s] += n;
        }
        bench.write(step);
        Host got = bench.attend(step);
        int n = step.back().n; // sequence 0 comes last
        Host mine = got.slice(got.rows - n, n);
        out.v.insert(out.v.end(), mine.v.begin(), mine.v.end());
        out.rows += n;
    }
    rig.check_memory();
    rig.forget();
    return out;
}

TEST_P(Invariance, AttentionInAnyChunksAndCompany) {
    const AttentionCase cases[] = {
        {3, 3, 64, WTL_DTYPE_F16, 0, {}},  {1, 4, 256, WTL_DTYPE_F16, 100, {}}, {1, 4, 64, WTL_DTYPE_F32, 0, {}},
        {2, 1, 80, WTL_DTYPE_F16, 33, {}}, {1, 3, 128, WTL_DTYPE_F32, 512, {}},
        {3, 3, 64, WTL_DTYPE_Q8_0, 0, {}}, {1, 4, 256, WTL_DTYPE_Q8_0, 100, {}}, {1, 7, 80, WTL_DTYPE_Q8_0, 33, {}},
    };
    const int longest = kChecked ? 280 : 530; // more than one partition, or two; the work grows with its square
    for (const AttentionCase &c : cases) {
        std::vector<Sequence> alone = {random_sequence(c, kSeed, longest)}, company = alone;
        for (int i = 1; i < 6; i++) company.push_back(random_sequence(c, kSeed + (uint32_t)i, 20 + longest / 9 * i));
        Host whole;
        for (int n_threads : thread_counts(GetParam())) {
            Rig::Options options = threads(n_threads);
            options.limits.max_rows = 640;
            Rig rig(GetParam(), options);
            CHECKER_RIG(rig);
            for (int chunk : chunks(GetParam(), n_threads)) {
                SCOPED_TRACE(testing::Message() << wtl_dtype_get(c.dtype)->name << ", head_dim " << c.head_dim
                                                << ", window " << c.window << ", chunks of " << chunk << ", " << n_threads
                                                << " threads, seed " << kSeed);
                Host got = prefill(rig, c, alone, chunk);
                if (whole.v.empty()) whole = got;
                ASSERT_TRUE(same_bits(got, whole)) << "alone";
                ASSERT_TRUE(same_bits(prefill(rig, c, company, chunk), whole)) << "in company";
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, Invariance, testing::ValuesIn(targets()),
                         [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
