// What every backend promises outside of its arithmetic: memory, weights, failures, allocations.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstring>

#include "attention_run.h"
#include "matmul_run.h"
#include "runtime/base/alloc.h"

namespace checker {
namespace {

class Backend : public testing::TestWithParam<Target> {};

TEST_P(Backend, TableIsComplete) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    const void *entries[offsetof(wtl_backend_ops, host_reads) / sizeof(void *)];
    std::memcpy(entries, rig.ops(), sizeof entries);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) EXPECT_NE(entries[i], nullptr) << "entry " << i;
    EXPECT_EQ(rig.ops()->name, GetParam().backend);
    std::string description = rig.ops()->describe(rig.backend());
    EXPECT_NE(description.find(GetParam().mask.empty() ? GetParam().backend : GetParam().mask), std::string::npos)
        << description;
}

TEST_P(Backend, MemoryIsZeroedAndAligned) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    for (size_t bytes : {(size_t)1, (size_t)100, (size_t)4096, (size_t)5000001}) {
        void *p = nullptr;
        ASSERT_EQ(rig.ops()->alloc(rig.backend(), bytes, &p, nullptr), WTL_OK);
        EXPECT_EQ((uintptr_t)p % 64, 0u);
        std::vector<uint8_t> host(bytes, 1);
        rig.ops()->download(rig.stream(), host.data(), p, bytes);
        EXPECT_EQ(host, std::vector<uint8_t>(bytes, 0));
        std::fill(host.begin(), host.end(), (uint8_t)7);
        rig.ops()->upload(rig.stream(), p, host.data(), bytes);
        void *q = nullptr;
        ASSERT_EQ(rig.ops()->alloc(rig.backend(), bytes, &q, nullptr), WTL_OK);
        rig.ops()->copy(rig.stream(), q, p, bytes);
        std::vector<uint8_t> back(bytes);
        rig.ops()->download(rig.stream(), back.data(), q, bytes);
        EXPECT_EQ(back, host);
        rig.ops()->free(rig.backend(), p, bytes);
        rig.ops()->free(rig.backend(), q, bytes);
    }
    rig.ops()->free(rig.backend(), nullptr, 10);
    rig.ops()->weight_free(rig.backend(), nullptr);
    rig.ops()->stream_close(nullptr);
    wtl_error err = {};
    void *untouched = &err;
    EXPECT_EQ(rig.ops()->alloc(rig.backend(), (size_t)1 << 60, &untouched, &err), WTL_ERR_NO_MEMORY);
    EXPECT_EQ(untouched, &err);
}

TEST_P(Backend, WeightsSayWhatTheyAre) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(1);
    for (wtl_dtype dtype : runnable_types()) {
        HostWeight w = random_weight(random, dtype, 19, 512);
        const wtl_weight *prepared = rig.matrix(w);
        EXPECT_EQ(prepared->dtype, dtype);
        EXPECT_EQ(prepared->rows, 19);
        EXPECT_EQ(prepared->cols, 512);
        EXPECT_GE(prepared->bytes, w.bytes.size() * 9 / 10) << wtl_dtype_get(dtype)->name;
        EXPECT_LE(prepared->bytes, w.bytes.size() * 2) << wtl_dtype_get(dtype)->name;
    }
}

// A weight that does not borrow its source must live on when the source is gone, also for vectors of other types.
TEST_P(Backend, WeightsOutliveASourceTheyDoNotBorrow) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(2);
    Host x = random_matrix(random, 1, 256, Fill::Normal);
    HostWeight gain = random_weight(random, WTL_DTYPE_BF16, 1, 256);
    Host value = gain.value;
    wtl_tensor tensor = gain.tensor();
    wtl_weight *w = nullptr;
    ASSERT_EQ(rig.ops()->weight_prepare(rig.backend(), &tensor, WTL_WEIGHT_VECTOR, &w, nullptr), WTL_OK);
    EXPECT_FALSE(w->borrows_source);
    gain = HostWeight(); // unmapped
    wtl_mat out = rig.empty(1, 256), want = rig.empty(1, 256);
    rig.ops()->rms_norm(rig.stream(), rig.put(x), w, 1e-6f, out);
    rig.ops()->rms_norm(rig.stream(), rig.put(x), rig.vector(value.v), 1e-6f, want);
    EXPECT_TRUE(same_bits(rig.get(out), rig.get(want)));
    rig.ops()->weight_free(rig.backend(), w);

    HostWeight matrix = random_weight(random, WTL_DTYPE_Q4_1, 20, 256), again = random_weight(random, WTL_DTYPE_Q4_1, 20, 256);
    tensor = matrix.tensor();
    ASSERT_EQ(rig.ops()->weight_prepare(rig.backend(), &tensor, WTL_WEIGHT_MATRIX, &w, nullptr), WTL_OK);
    if (!w->borrows_source) matrix = HostWeight();
    wtl_matmul a = {};
    a.x = rig.put(x);
    a.n_parts = 1;
    a.part[0].w = w;
    a.part[0].out = rig.empty(1, 20);
    rig.ops()->matmul(rig.stream(), &a);
    rig.get(a.part[0].out);
    rig.ops()->weight_free(rig.backend(), w);
}

TEST_P(Backend, RefusesWhatCannotRun) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    Guarded data(4096);
    auto refused = [&](wtl_tensor t, wtl_weight_use use, wtl_status want) {
        wtl_weight *w = nullptr;
        wtl_error err = {};
        EXPECT_EQ(rig.ops()->weight_prepare(rig.backend(), &t, use, &w, &err), want) << err.message;
        EXPECT_EQ(w, nullptr);
        EXPECT_NE(err.message[0], '\0');
        rig.ops()->weight_free(rig.backend(), w);
    };
    refused({data.data(), WTL_DTYPE_IQ2_XXS, 1, 256, 66, false}, WTL_WEIGHT_MATRIX, WTL_ERR_UNSUPPORTED);
    refused({data.data(), WTL_DTYPE_I32, 1, 4, 16, false}, WTL_WEIGHT_VECTOR, WTL_ERR_UNSUPPORTED);
    refused({data.data(), (wtl_dtype)4, 1, 32, 18, false}, WTL_WEIGHT_MATRIX, WTL_ERR_UNSUPPORTED);
    refused({data.data(), WTL_DTYPE_Q4_0, 1, 33, 36, false}, WTL_WEIGHT_MATRIX, WTL_ERR_INVALID);
    refused({data.data(), WTL_DTYPE_F32, 2, 4, 16, false}, WTL_WEIGHT_VECTOR, WTL_ERR_INVALID);
}

// One step through every op that a forward pass uses.
void whole_step(Rig &rig, const wtl_weight *w, const wtl_weight *gain, const AttentionCase &c, std::vector<wtl_mat> &m,
                wtl_kv &kv, wtl_rows &rows, const int32_t *tokens) {
    const wtl_backend_ops *ops = rig.ops();
    wtl_stream *s = rig.stream();
    wtl_rope rope = {64, 10000.0f, 1.0f, nullptr};
    ops->embed(s, w, tokens, 1.0f, m[0]);
    ops->rms_norm(s, m[0], gain, 1e-6f, m[1]);
    wtl_matmul a = {};
    a.x = m[1];
    a.n_parts = 1;
    a.part[0].w = w;
    a.part[0].out = m[2];
    ops->matmul(s, &a);
    ops->rope_table(s, rows.positions, &rope, m[3]);
    ops->rope(s, m[2], 4, WTL_ROPE_HALVES, m[3]);
    ops->kv_write(s, m[4], m[4], &kv, &rows);
    wtl_attention attention = {m[2], m[1], kv, c.n_heads_kv * c.group, 0.125f, 0};
    ops->attention(s, &attention, &rows);
    ops->glu(s, m[1], m[2], WTL_ACT_SILU, m[1]);
    ops->add(s, m[1], m[2], m[1]);
    ops->gather_rows(s, m[1], rows.seqs, m[0]);
}

struct Count {
    long n = 0, fail_at = -1;
};
bool count_hook(void *user, size_t) {
    Count *count = (Count *)user;
    return count->n++ != count->fail_at;
}

TEST_P(Backend, OpsAllocateNothing) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    std::mt19937 random(3);
    AttentionCase c = {1, 4, 64, WTL_DTYPE_F16, 0, {}};
    HostWeight host = random_weight(random, WTL_DTYPE_Q4_K, 256, 256);
    const wtl_weight *w = rig.matrix(host), *gain = rig.vector(random_vector(random, 256, 1, 0.1f));
    for (int n : {1, 40}) {
        std::vector<int32_t> positions, seqs((size_t)n, 0), table = {2, 0, 1};
        for (int i = 0; i < n; i++) positions.push_back(i);
        wtl_kv kv = {{WTL_DTYPE_F16, 1, 64}, nullptr, 0, 0, rig.ints(table), 3};
        kv.block_bytes = rig.ops()->kv_layer_bytes(&kv.shape);
        kv.base = rig.bytes(3 * kv.block_bytes, 0);
        wtl_rows rows = {n, 1, n, rig.ints(positions), rig.ints(seqs)};
        std::vector<wtl_mat> m = {rig.empty(n, 256), rig.empty(n, 256), rig.empty(n, 256), rig.empty(n, 64),
                                  rig.put(random_matrix(random, n, 64, Fill::Normal))};
        const int32_t *tokens = rig.ints(positions);
        Count count;
        wtl_alloc_set_hook(count_hook, &count);
        whole_step(rig, w, gain, c, m, kv, rows, tokens);
        wtl_status status = rig.ops()->sync(rig.stream(), nullptr);
        wtl_alloc_set_hook(nullptr, nullptr);
        EXPECT_EQ(status, WTL_OK);
        EXPECT_EQ(count.n, 0) << "n " << n;
    }
}

// The n-th allocation fails, for n = 0, 1, 2, ... until everything succeeds: a code each time, no leak, no crash.
TEST_P(Backend, EveryFailedAllocationIsReported) {
    {
        Rig rig(GetParam());
        CHECKER_RIG(rig);
    }
    std::mt19937 random(4);
    HostWeight host = random_weight(random, WTL_DTYPE_Q4_1, 40, 256), gain = random_weight(random, WTL_DTYPE_F32, 1, 256);
    wtl_backend_options options = {3, true, GetParam().mask.empty() ? nullptr : GetParam().mask.c_str()};
    wtl_stream_limits limits = {40, 256, 4, 64, 100, 0};
    for (long fail_at = 0;; fail_at++) {
        ASSERT_LT(fail_at, 1000);
        Count count;
        count.fail_at = fail_at;
        wtl_alloc_set_hook(count_hook, &count);
        wtl_backend *be = nullptr;
        wtl_stream *s = nullptr;
        wtl_weight *w = nullptr, *v = nullptr;
        wtl_error err = {};
        void *p = nullptr;
        wtl_tensor tensor = host.tensor(), vector = gain.tensor();
        wtl_status status = GetParam().backend == "ref" ? ref_backend_open(&options, &be, &err)
                                                        : cpu_backend_open(&options, &be, &err);
        if (status == WTL_OK) status = be->ops->stream_open(be, &limits, &s, &err);
        if (status == WTL_OK) status = be->ops->weight_prepare(be, &tensor, WTL_WEIGHT_MATRIX, &w, &err);
        if (status == WTL_OK) status = be->ops->weight_prepare(be, &vector, WTL_WEIGHT_VECTOR, &v, &err);
        if (status == WTL_OK) status = be->ops->alloc(be, 1000, &p, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        if (be) {
            be->ops->free(be, p, 1000);
            be->ops->weight_free(be, v);
            be->ops->weight_free(be, w);
            be->ops->stream_close(s);
            be->ops->close(be);
        }
        if (status == WTL_OK) {
            EXPECT_LE(count.n, fail_at);
            break;
        }
        EXPECT_EQ(status, WTL_ERR_NO_MEMORY) << "allocation " << fail_at << ": " << err.message;
        EXPECT_NE(err.message[0], '\0');
    }
}

TEST(BackendRef, AnOpBeyondTheLimitsSticksUntilSync) {
    Rig::Options options;
    options.limits = {2, 64, 1, 64, 16, 64};
    Rig rig({"ref", ""}, options);
    std::mt19937 random(5);
    HostWeight host = random_weight(random, WTL_DTYPE_F32, 4, 100);
    wtl_matmul a = {};
    a.x = rig.put(Host(1, 100, 1.0f));
    a.n_parts = 1;
    a.part[0].w = rig.matrix(host);
    a.part[0].out = rig.put(Host(1, 4, 5.0f));
    rig.ops()->matmul(rig.stream(), &a);
    wtl_error err = {};
    EXPECT_EQ(rig.ops()->sync(rig.stream(), &err), WTL_ERR_INVALID);
    EXPECT_NE(err.message[0], '\0');
    EXPECT_EQ(rig.ops()->sync(rig.stream(), nullptr), WTL_OK);
    EXPECT_TRUE(same_bits(rig.get(a.part[0].out), Host(1, 4, 5.0f)));
}

TEST(BackendCpu, AnUnknownMaskIsRefusedWithTheNames) {
    wtl_backend_options options = {1, true, "avx9000"};
    wtl_backend *be = nullptr;
    wtl_error err = {};
    wtl_status status = cpu_backend_open(&options, &be, &err);
    EXPECT_EQ(status, WTL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("scalar"), std::string::npos) << err.message;
}

INSTANTIATE_TEST_SUITE_P(Targets, Backend, testing::ValuesIn(targets()),
                         [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
