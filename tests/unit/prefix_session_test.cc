// The prefix cache of a session: the same bits as without one, exact counts, memory as announced.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "tests/support/sessions.h"
#include "tests/support/vector_sets.h"

namespace {

using Case = std::tuple<const char *, const char *, wtl_kv_type>; // architecture, instruction set, KV type

class PrefixBits : public testing::TestWithParam<Case> {
  protected:
    static constexpr int kVocab = TinyModel::kVocab;
    void SetUp() override {
        const char *mask = std::get<1>(GetParam());
        for (int i = 0; i < CPU_ISA_COUNT; i++)
            if (!strcmp(mask, cpu_isa_name((cpu_isa)i)) && !cpu_isa_available((cpu_isa)i)) GTEST_SKIP() << "this machine has no " << mask;
        env_.reset(new ScopedEnv("WTL_CPU_MASK", mask));
        TinyOptions o;
        o.arch = std::get<0>(GetParam());
        o.type = WTL_DTYPE_Q4_1;
        o.n_layers = 2;
        model_.reset(new TinyModel(o));
    }
    // Logits of every position, from a session that has seen nothing else.
    std::vector<Logits> fresh(const Engine &engine, const Tokens &tokens) {
        wtl_session_options o = prefix_options(256, 1, 256, 0, std::get<2>(GetParam()));
        o.keep_prefixes = false;
        Session session(engine, o);
        int n;
        return session.run(session.open_prefix(tokens, &n), tokens, 0, tokens.size());
    }
    void converse(int threads, const wtl_session_options &o, unsigned seed);
    std::unique_ptr<ScopedEnv> env_;
    std::unique_ptr<TinyModel> model_;
};

// Random conversations: prompts that begin like something earlier, cut anywhere, read in chunks, some closed and some left open.
void PrefixBits::converse(int threads, const wtl_session_options &o, unsigned seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << threads << " threads");
    std::mt19937 rng(seed);
    Engine engine(model_->path(), threads);
    Session session(engine, o);
    std::vector<Tokens> findable = {random_tokens(rng, 60, kVocab)};
    std::map<int, Tokens> open;
    int hits = 0;
    for (int round = 0; round < 14; round++) {
        const Tokens &like = findable[rng() % findable.size()];
        Tokens tokens(like.begin(), like.begin() + (long)(rng() % 3 ? like.size() : rng() % (like.size() + 1)));
        if (tokens.size() > 70) tokens.resize(70);
        for (int32_t t : random_tokens(rng, 1 + rng() % 20, kVocab)) tokens.push_back(t);
        int n_cached;
        const int found = wtl_session_find_prefix(session.s, tokens.data(), tokens.size());
        const int seq = session.open_prefix(tokens, &n_cached);
        ASSERT_EQ(n_cached, found);
        ASSERT_LT((size_t)n_cached, tokens.size());
        if (round && session.usage().evicted == 0) {
            size_t best = 0;
            for (const Tokens &t : findable) best = std::max(best, std::min(common_length(t, tokens), tokens.size() - 1));
            ASSERT_EQ((size_t)n_cached, best);
        }
        if (round == 0) findable.clear();
        hits += n_cached > 0;
        const std::vector<Logits> want = fresh(engine, tokens);
        for (size_t at = (size_t)n_cached; at < tokens.size();) {
            const size_t to = std::min({tokens.size(), at + 1 + rng() % 24, at + (size_t)o.n_batch});
            const std::vector<Logits> got = session.run(seq, tokens, at, to);
            ASSERT_EQ(got.size(), to - at);
            for (size_t i = at; i < to; i++) ASSERT_TRUE(same_bits(got[i - at], want[i])) << "round " << round << " position " << i << ", " << n_cached << " cached";
            at = to;
        }
        open[seq] = tokens;
        findable.emplace_back(tokens.begin(), tokens.begin() + (long)(tokens.size() / 16 * 16));
        while ((int)open.size() == o.n_seq_max || (!open.empty() && rng() % 2)) {
            findable.push_back(open.begin()->second);
            wtl_seq_close(session.s, open.begin()->first);
            open.erase(open.begin());
        }
    }
    EXPECT_GE(hits, 5);
}

TEST_P(PrefixBits, LogitsBehindACachedPrefixAreTheSame) {
    for (int threads = 1; threads <= 2; threads++) converse(threads, prefix_options(512, 3, 64, 64 << 20, std::get<2>(GetParam())), 3 + (unsigned)threads);
}

TEST_P(PrefixBits, AlsoWhenBlocksAreEvictedAllTheTime) {
    const wtl_session_options o = prefix_options(320, 2, 32, 0, std::get<2>(GetParam())); // the window's pool is the smaller one
    for (int threads = 1; threads <= 2; threads++) converse(threads, o, 20 + (unsigned)threads);
}

std::string case_name(const testing::TestParamInfo<Case> &info) {
    return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param) + (std::get<2>(info.param) == WTL_KV_F32 ? "_f32" : std::get<2>(info.param) == WTL_KV_F16 ? "_f16" : "_q8_0");
}
INSTANTIATE_TEST_SUITE_P(Models, PrefixBits,
                         testing::Combine(testing::Values("llama", "gemma3"), testing::ValuesIn(vector_sets()),
                                          testing::Values(WTL_KV_F16, WTL_KV_F32, WTL_KV_Q8_0)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Scalar, PrefixBits,
                         testing::Combine(testing::Values("llama", "gemma3"), testing::Values("scalar"), testing::Values(WTL_KV_F16, WTL_KV_Q8_0)), case_name);

struct Prefix : testing::Test {
    Prefix() : model(options()), engine(model.path()) {}
    static TinyOptions options() {
        TinyOptions o;
        o.arch = "gemma3";
        return o;
    }
    TinyModel model;
    Engine engine;
};

TEST_F(Prefix, MemoryIsAsAnnouncedAndUsageAddsUp) {
    const uint64_t layer = 2 * 2 * (64 * 2 + 4) * 16; // K and V, two heads of 64, 16 bits a number and a scale, a block's positions
    wtl_session_options o = prefix_options(128, 2, 32, 0);
    wtl_memory none = {}, some = {}, off = {};
    ASSERT_EQ(wtl_session_memory(engine.e, &o, &none, nullptr), WTL_OK);
    o.cache_bytes = 10 * 3 * layer + 100; // ten blocks of three layers, and not quite enough for another
    ASSERT_EQ(wtl_session_memory(engine.e, &o, &some, nullptr), WTL_OK);
    EXPECT_EQ(some.kv_bytes - none.kv_bytes, 10 * 3 * layer);
    EXPECT_EQ(some.scratch_bytes, none.scratch_bytes);
    Session session(engine, o);
    wtl_kv_usage u = session.usage();
    EXPECT_EQ(u.bytes, some.kv_bytes);
    EXPECT_EQ(u.n_used + u.n_cached + u.evicted, 0u);
    const uint64_t n_blocks = u.n_free;
    const Tokens tokens(70, 7);
    int n, seq = session.open_prefix(tokens, &n);
    session.run(seq, tokens, 0, 30);
    u = session.usage();
    EXPECT_EQ(u.n_used, 4u); // two blocks in each of two groups
    EXPECT_EQ(u.n_free, n_blocks - 4);
    wtl_seq_close(session.s, seq);
    u = session.usage();
    EXPECT_EQ(u.n_used, 0u);
    EXPECT_EQ(u.n_cached, 4u);
    EXPECT_EQ(wtl_session_find_prefix(session.s, tokens.data(), 70), 30);
    const wtl_kv_usage again = session.usage();
    EXPECT_EQ(memcmp(&again, &u, sizeof u), 0) << "looking changed something";

    o.keep_prefixes = false;
    ASSERT_EQ(wtl_session_memory(engine.e, &o, &off, nullptr), WTL_OK);
    EXPECT_EQ(off.kv_bytes, none.kv_bytes) << "cache_bytes without a cache";
    o.keep_prefixes = true;
    o.cache_bytes = UINT64_MAX;
    wtl_error err = {};
    EXPECT_EQ(wtl_session_memory(engine.e, &o, &off, &err), WTL_ERR_LIMIT);
}

TEST_F(Prefix, WithoutKeepPrefixesNothingIsFound) {
    wtl_session_options o = prefix_options(128, 2, 32, 1 << 20);
    o.keep_prefixes = false;
    Session session(engine, o);
    const Tokens tokens(40, 7);
    int n, seq = session.open_prefix(tokens, &n);
    EXPECT_EQ(n, 0);
    session.run(seq, tokens, 0, 32);
    EXPECT_EQ(wtl_session_find_prefix(session.s, tokens.data(), 40), 0);
    wtl_seq_close(session.s, seq);
    EXPECT_EQ(session.usage().n_cached, 0u);
    session.open_prefix(tokens, &n);
    EXPECT_EQ(n, 0);
    session.open_prefix(tokens, &n);
    int32_t third = -1, cached = -1;
    EXPECT_EQ(wtl_seq_open_prefix(session.s, tokens.data(), 40, &third, &cached, nullptr), WTL_ERR_LIMIT);
    EXPECT_EQ(third, -1);
    EXPECT_EQ(cached, -1);
}

long resident_bytes() {
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &pages, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident * 4096;
}

TEST_F(Prefix, ALargeCacheIsResidentOnlyWhereItIsUsed) {
    if (!resident_bytes()) GTEST_SKIP() << "no /proc/self/statm here";
    const long before = resident_bytes();
    Session session(engine, prefix_options(128, 2, 32, (uint64_t)1 << 30));
    const Tokens tokens(64, 7);
    int n;
    for (int i = 0; i < 20; i++) {
        const int seq = session.open_prefix(tokens, &n);
        session.run(seq, tokens, (size_t)n, std::min<size_t>(64, (size_t)n + 32));
        wtl_seq_close(session.s, seq);
    }
    EXPECT_LT(resident_bytes() - before, 128L << 20);
    EXPECT_GT(session.usage().bytes, 1u << 30);
}

int64_t refuse_at = -1, allocations_seen; // the allocation that fails, -1: none
bool limited(void *, size_t) { return allocations_seen++ != refuse_at; }

TEST_F(Prefix, OpeningForkingAndDecodingAllocateNothing) {
    Session session(engine, prefix_options(128, 3, 64, 0));
    refuse_at = -1;
    allocations_seen = 0;
    wtl_alloc_set_hook(limited, nullptr);
    Tokens tokens(60, 3);
    for (int i = 0; i < 30; i++) {
        tokens[(size_t)(i * 2)] = i;
        int32_t seq = -1, n = -1, fork = -1;
        EXPECT_EQ(wtl_seq_open_prefix(session.s, tokens.data(), tokens.size(), &seq, &n, nullptr), WTL_OK);
        EXPECT_EQ(wtl_session_prefill(session.s, seq, tokens.data() + n, tokens.size() - (size_t)n, nullptr, nullptr, nullptr), WTL_OK);
        EXPECT_EQ(wtl_seq_fork(session.s, seq, 50, &fork, nullptr), WTL_OK);
        const wtl_entry e[2] = {{i, seq, true, 0}, {i, fork, true, 0}};
        EXPECT_EQ(wtl_session_step(session.s, e, 2, nullptr), WTL_OK);
        EXPECT_EQ(wtl_seq_rewind(session.s, seq, 55, nullptr), WTL_OK);
        wtl_seq_close(session.s, seq);
        wtl_seq_close(session.s, fork);
    }
    wtl_alloc_set_hook(nullptr, nullptr);
    EXPECT_EQ(allocations_seen, 0);
    EXPECT_GT(session.usage().evicted, 0u);
}

TEST_F(Prefix, EveryFailedAllocationOfOpeningIsACleanRefusal) {
    int64_t n = 0;
    for (;; n++) {
        wtl_session *session = nullptr;
        wtl_error err = {};
        refuse_at = n;
        allocations_seen = 0;
        const wtl_session_options o = prefix_options(64, 2, 16, 1 << 20);
        wtl_alloc_set_hook(limited, nullptr);
        const wtl_status status = wtl_session_open(engine.e, &o, &session, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        wtl_session_close(&session);
        if (allocations_seen <= n) {
            EXPECT_EQ(status, WTL_OK) << err.message;
            break;
        }
        ASSERT_EQ(status, WTL_ERR_NO_MEMORY) << "allocation " << n << ": " << err.message;
    }
    EXPECT_GT(n, 10);
}

} // namespace
