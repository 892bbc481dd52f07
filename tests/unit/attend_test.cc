// Attention of the cpu backend: against a direct evaluation in double, and to the bit against itself when the prompt is cut
// differently, the company changes, the blocks lie elsewhere, or the threads are more or fewer. Unused memory is NaN.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/support/checked_build.h"

namespace {

struct Shape {
    int heads_kv, group, head_dim, window;
    wtl_dtype dtype;
    int heads() const { return heads_kv * group; }
};

std::ostream &operator<<(std::ostream &os, const Shape &s) {
    return os << s.heads_kv << "x" << s.group << " heads of " << s.head_dim << ", window " << s.window << ", dtype "
              << s.dtype;
}

struct Sequence {
    int n;
    std::vector<float> q, k, v;  // [n, heads * head_dim], [n, heads_kv * head_dim]
    std::vector<int32_t> blocks; // pool index of each 16 positions
    std::vector<float> out;
    int done = 0;
};

std::vector<float> random_floats(std::mt19937 &rng, size_t n, float scale) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> out(n);
    for (float &x : out) x = normal(rng);
    return out;
}

Sequence make_sequence(std::mt19937 &rng, const Shape &s, int n) {
    Sequence out;
    out.n = n;
    out.q = random_floats(rng, (size_t)n * s.heads() * s.head_dim, 2.0f);
    out.k = random_floats(rng, (size_t)n * s.heads_kv * s.head_dim, 1.0f);
    out.v = random_floats(rng, (size_t)n * s.heads_kv * s.head_dim, 1.0f);
    return out;
}

class Machine {
public:
    Machine(const char *mask, int threads, const Shape &s, int max_kv) : shape(s) {
        wtl_backend_options options = {};
        options.n_threads = threads;
        options.cpu_mask = mask;
        wtl_error err;
        if (cpu_backend_open(&options, &be, &err) != WTL_OK) return;
        wtl_stream_limits limits = {1024, 1024, s.heads(), s.head_dim, max_kv, 0};
        if (be->ops->stream_open(be, &limits, &stream, &err) != WTL_OK) return;
        kv_shape = {s.dtype, s.heads_kv, s.head_dim};
        layer_bytes = be->ops->kv_layer_bytes(&kv_shape);
        block_bytes = 2 * layer_bytes; // the other layer stays garbage
        pool_bytes = block_bytes * n_blocks;
        void *p = nullptr;
        if (be->ops->alloc(be, pool_bytes, &p, &err) != WTL_OK) return;
        pool = (uint8_t *)p;
        memset(pool, 0xFF, pool_bytes);
        ok = true;
    }
    ~Machine() {
        if (pool) be->ops->free(be, pool, pool_bytes);
        if (stream) be->ops->stream_close(stream);
        if (be) be->ops->close(be);
    }
    void place(std::mt19937 &rng, std::vector<Sequence *> seqs) {
        std::vector<int32_t> free_blocks(n_blocks);
        for (int i = 0; i < n_blocks; i++) free_blocks[i] = i;
        std::shuffle(free_blocks.begin(), free_blocks.end(), rng);
        for (Sequence *q : seqs) {
            q->done = 0;
            q->out.assign(q->q.size(), NAN);
            q->blocks.clear();
            for (int i = 0; i < (q->n + 15) / 16; i++) {
                q->blocks.push_back(free_blocks.back());
                free_blocks.pop_back();
            }
        }
    }
    // The next counts[i] rows of each sequence, in one step.
    void step(std::vector<Sequence *> seqs, std::vector<int> counts) {
        int stride = 0, n = 0;
        size_t q_cols = (size_t)shape.heads() * shape.head_dim, k_cols = (size_t)shape.heads_kv * shape.head_dim;
        for (Sequence *q : seqs) stride = std::max(stride, (int)q->blocks.size());
        std::vector<int32_t> table(stride * seqs.size(), -1), positions, ids;
        std::vector<float> q, k, v;
        int kv_len_max = 0;
        for (size_t s = 0; s < seqs.size(); s++) {
            Sequence &x = *seqs[s];
            int from = x.done, to = x.done + counts[s];
            int first = shape.window > 0 ? std::max(0, from - shape.window + 1) : 0;
            for (int b = first / 16; b * 16 < to; b++) table[s * stride + b] = x.blocks[b];
            for (int p = from; p < to; p++) positions.push_back(p), ids.push_back((int)s);
            q.insert(q.end(), x.q.begin() + from * q_cols, x.q.begin() + to * q_cols);
            k.insert(k.end(), x.k.begin() + from * k_cols, x.k.begin() + to * k_cols);
            v.insert(v.end(), x.v.begin() + from * k_cols, x.v.begin() + to * k_cols);
            n += counts[s];
            kv_len_max = std::max(kv_len_max, to);
        }
        std::vector<float> out(q.size(), NAN);
        auto mat = [&](std::vector<float> &m, size_t cols) { return wtl_mat{m.data(), n, (int)cols, (int)cols}; };
        wtl_kv kv = {kv_shape, pool, block_bytes, layer_bytes, table.data(), stride};
        wtl_rows rows = {n, (int)seqs.size(), kv_len_max, positions.data(), ids.data()};
        be->ops->kv_write(stream, mat(k, k_cols), mat(v, k_cols), &kv, &rows);
        wtl_attention a = {mat(q, q_cols), mat(out, q_cols), kv, shape.heads(), 1.0f / std::sqrt((float)shape.head_dim),
                           shape.window};
        be->ops->attention(stream, &a, &rows);
        be->ops->sync(stream, nullptr);
        size_t row = 0;
        for (size_t s = 0; s < seqs.size(); s++) {
            memcpy(&seqs[s]->out[seqs[s]->done * q_cols], &out[row * q_cols], counts[s] * q_cols * sizeof(float));
            row += counts[s];
            seqs[s]->done += counts[s];
        }
    }
    void run(Sequence &x, std::vector<int> chunks) {
        for (size_t i = 0; x.done < x.n; i++) step({&x}, {std::min(chunks[i % chunks.size()], x.n - x.done)});
    }

    static const int n_blocks = 160;
    bool ok = false;
    Shape shape;
    wtl_backend *be = nullptr;
    wtl_stream *stream = nullptr;
    wtl_kv_shape kv_shape;
    size_t layer_bytes = 0, block_bytes = 0, pool_bytes = 0;
    uint8_t *pool = nullptr;
};

// Largest |got - want| over every row in units of the row's sum of weight * |v|; for F16 |v| is its head's largest, because
// 16 bits a number may be shared out over the head.
double worst_error(const Shape &s, const Sequence &x) {
    double worst = 0.0;
    for (int p = 0; p < x.n; p += 1 + x.n / 97) {
        for (int h = 0; h < s.heads(); h++) {
            int first = s.window > 0 ? std::max(0, p - s.window + 1) : 0, kvh = h / s.group;
            std::vector<double> score(p + 1);
            double top = -INFINITY, total = 0.0;
            auto at = [&](int t) { return ((size_t)t * s.heads_kv + kvh) * s.head_dim; };
            const float *q = &x.q[((size_t)p * s.heads() + h) * s.head_dim];
            for (int t = first; t <= p; t++) {
                for (int d = 0; d < s.head_dim; d++) score[t] += (double)q[d] * x.k[at(t) + d];
                score[t] *= (double)(1.0f / std::sqrt((float)s.head_dim));
                top = std::max(top, score[t]);
            }
            std::vector<double> largest(p + 1);
            for (int t = first; t <= p; t++) {
                total += score[t] = std::exp(score[t] - top);
                for (int d = 0; d < s.head_dim; d++) largest[t] = std::max(largest[t], (double)std::fabs(x.v[at(t) + d]));
            }
            for (int d = 0; d < s.head_dim; d++) {
                double want = 0.0, size = 0.0;
                for (int t = first; t <= p; t++) {
                    const double weight = score[t] / total, v = x.v[at(t) + d];
                    want += weight * v;
                    size += weight * (s.dtype == WTL_DTYPE_F32 ? std::fabs(v) : largest[t]);
                }
                double error = std::fabs(x.out[((size_t)p * s.heads() + h) * s.head_dim + d] - want) / size;
                if (!(error <= worst)) worst = error; // NaN too
            }
        }
    }
    return worst;
}

std::vector<const char *> masks() {
    std::vector<const char *> out;
    for (const char *mask : {"scalar", "avx2", "avx512vnni", "neon_dotprod"}) { // sets with attention kernels of their own
        wtl_backend_options options = {};
        options.cpu_mask = mask;
        wtl_backend *be = nullptr;
        if (cpu_backend_open(&options, &be, nullptr) != WTL_OK) continue;
        be->ops->close(be);
        out.push_back(mask);
    }
    return out;
}

const Shape shapes[] = {
    {3, 3, 64, 0, WTL_DTYPE_F16},  {1, 4, 256, 0, WTL_DTYPE_F16}, {1, 4, 256, 100, WTL_DTYPE_F16},
    {2, 1, 80, 300, WTL_DTYPE_F16}, {1, 7, 20, 0, WTL_DTYPE_F16},  {2, 2, 64, 33, WTL_DTYPE_F32},
    {4, 1, 96, 0, WTL_DTYPE_F32},  {1, 6, 6, 1, WTL_DTYPE_F32},   {2, 8, 128, 256, WTL_DTYPE_F16},
    {3, 3, 64, 0, WTL_DTYPE_Q8_0}, {1, 4, 256, 100, WTL_DTYPE_Q8_0}, {2, 1, 80, 300, WTL_DTYPE_Q8_0}, {1, 7, 20, 0, WTL_DTYPE_Q8_0},
};

TEST(Attend, RowsAreTheirOwn) {
    unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    const int n = kChecked ? 90 : 285; // more than a partition, and a multiple of 15; the work grows with its square
    for (const char *mask : masks()) {
        for (const Shape &s : shapes) {
            SCOPED_TRACE(testing::Message() << mask << ", " << s);
            std::mt19937 rng(seed);
            Sequence x = make_sequence(rng, s, n), other = make_sequence(rng, s, n);
            std::vector<float> want;
            for (int threads = 1; threads <= 3; threads++) {
                Machine m(mask, threads, s, 1024);
                ASSERT_TRUE(m.ok);
                for (std::vector<int> chunks : {std::vector<int>{n}, {1}, {37}, {256, 1, 3}, {16, 5, 160}, {31, 33}}) {
                    if (chunks[0] == 1 && threads != 2) continue;
                    m.place(rng, {&x});
                    memset(m.pool, 0xFF, m.pool_bytes);
                    m.run(x, chunks);
                    if (want.empty()) {
                        want = x.out;
                        EXPECT_LT(worst_error(s, x), s.dtype == WTL_DTYPE_F16 ? 4e-4 : s.dtype == WTL_DTYPE_F32 ? 6e-6 : 5e-2); // 16 bits a number, 8 bits
                    }
                    ASSERT_EQ(memcmp(want.data(), x.out.data(), want.size() * sizeof(float)), 0)
                        << threads << " threads, chunks of " << chunks[0];
                }
                // Beside another sequence, at different speeds.
                m.place(rng, {&x, &other});
                memset(m.pool, 0xFF, m.pool_bytes);
                m.step({&other, &x}, {20, n / 3 * 2});
                for (int i = 0; i < n / 15; i++) m.step({&x, &other}, {5, i % 3 + 1});
                ASSERT_EQ(memcmp(want.data(), x.out.data(), want.size() * sizeof(float)), 0) << "in company";
            }
        }
    }
}

// A NaN or Inf in one position reaches every row that sees it and no other.
TEST(Attend, NotANumberStaysWithThoseWhoSeeIt) {
    std::mt19937 rng(7);
    for (const char *mask : masks()) {
        for (Shape s : {Shape{1, 3, 64, 0, WTL_DTYPE_F16}, Shape{1, 3, 64, 40, WTL_DTYPE_F32}, Shape{1, 3, 64, 0, WTL_DTYPE_Q8_0},
                        Shape{1, 3, 40, 40, WTL_DTYPE_Q8_0}}) {
            for (auto [poison, in_key] : {std::pair(NAN, false), std::pair(INFINITY, false), std::pair(NAN, true)}) {
                SCOPED_TRACE(testing::Message() << mask << ", " << s << ", " << poison << (in_key ? " in a key" : " in a value"));
                Sequence clean = make_sequence(rng, s, 300), x = clean;
                const int bad = 261;
                (in_key ? x.k : x.v)[(size_t)bad * s.head_dim + 3] = poison;
                Machine m(mask, 2, s, 512);
                ASSERT_TRUE(m.ok);
                m.place(rng, {&clean, &x});
                m.run(clean, {300});
                m.run(x, {300});
                size_t cols = (size_t)s.heads() * s.head_dim;
                for (int p = 0; p < 300; p++) {
                    bool sees = p >= bad && (s.window == 0 || p - bad < s.window);
                    if (!sees) {
                        ASSERT_EQ(memcmp(&clean.out[p * cols], &x.out[p * cols], cols * sizeof(float)), 0) << p;
                    } else if (s.dtype != WTL_DTYPE_F32 && !std::isnan(poison)) {
                        ASSERT_TRUE(std::isfinite(x.out[p * cols + 3])) << p; // saturated at 65504
                    } else {
                        ASSERT_FALSE(std::isfinite(x.out[p * cols + 3])) << p;
                    }
                }
            }
        }
    }
}

// Scores far beyond the range of exp: the largest wins, nothing overflows.
TEST(Attend, HugeScores) {
    std::mt19937 rng(9);
    for (const char *mask : masks()) {
        for (wtl_dtype dtype : {WTL_DTYPE_F16, WTL_DTYPE_Q8_0}) {
            Shape s = {1, 2, 64, 0, dtype};
            Sequence x = make_sequence(rng, s, 520);
            for (float &q : x.q) q *= 3000.0f;
            Machine m(mask, 2, s, 1024);
            ASSERT_TRUE(m.ok);
            m.place(rng, {&x});
            m.run(x, {520});
            for (float y : x.out) ASSERT_TRUE(std::isfinite(y)) << mask << ", dtype " << dtype;
        }
    }
}

} // namespace
