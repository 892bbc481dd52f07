// KV block bookkeeping against a naive model: every sequence is a list of values, memory is an array of blocks, and whatever a
// sequence can see through its table must be what it wrote, whatever forks, rewinds and closings happened around it.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "runtime/base/alloc.h"
#include "runtime/kvcache.h"

namespace {

constexpr int kBlock = WTL_KV_BLOCK;

struct Cache {
    kvcache *c = nullptr;
    explicit Cache(const kvcache_options &o) { EXPECT_EQ(kvcache_open(&o, &c, nullptr), WTL_OK); }
    ~Cache() { kvcache_close(&c); }
};

// A cache together with the memory that its blocks stand for.
class Model {
  public:
    explicit Model(const kvcache_options &o) : options_(o), cache_(o) {
        for (int g = 0; g < o.n_groups; g++) memory_[g].assign((size_t)kvcache_group_blocks(&o, g) * kBlock, -1);
    }
    kvcache *get() { return cache_.c; }
    std::map<int, std::vector<int>> seqs;

    wtl_status append(int seq, int n) {
        kvcache_copy copies[WTL_KV_GROUPS_MAX];
        int32_t n_copies = 0;
        wtl_status status = kvcache_reserve(get(), seq, n, copies, &n_copies, nullptr);
        if (status) return status;
        for (int i = 0; i < n_copies; i++) {
            auto &m = memory_[copies[i].group];
            std::copy_n(m.begin() + copies[i].src * kBlock, kBlock, m.begin() + copies[i].dst * kBlock);
        }
        auto &tokens = seqs[seq];
        for (int g = 0; g < options_.n_groups; g++) {
            std::vector<int32_t> table = read_table(seq, g, (int)tokens.size() + n);
            for (int i = 0; i < n; i++) {
                int p = (int)tokens.size() + i;
                EXPECT_GE(table[p / kBlock], 0);
                memory_[g][table[p / kBlock] * kBlock + p % kBlock] = next_ + i;
            }
            check_visible(seq, g, table, (int)tokens.size());
        }
        for (int i = 0; i < n; i++) tokens.push_back(next_++);
        kvcache_commit(get(), seq, tokens.data() + tokens.size() - n, n);
        return WTL_OK;
    }

    // Everything that a query at the sequence's next position may see.
    void check(int seq) {
        int n = (int)seqs[seq].size();
        ASSERT_EQ(kvcache_seq_length(get(), seq), n);
        for (int g = 0; g < options_.n_groups; g++) check_visible(seq, g, read_table(seq, g, n), n);
    }

  private:
    std::vector<int32_t> read_table(int seq, int g, int n) {
        std::vector<int32_t> table((size_t)(n + kBlock - 1) / kBlock + 1, -7);
        kvcache_table(get(), seq, g, n, table.data());
        EXPECT_EQ(table.back(), -7) << "table written beyond its end";
        return table;
    }
    void check_visible(int seq, int g, const std::vector<int32_t> &table, int past) {
        const auto &tokens = seqs[seq];
        int w = options_.window[g], from = w ? std::max(0, past - w + 1) : 0;
        for (int p = from; p < past; p++) {
            ASSERT_GE(table[p / kBlock], 0) << "seq " << seq << " group " << g << " position " << p << " past " << past;
            ASSERT_EQ(memory_[g][table[p / kBlock] * kBlock + p % kBlock], tokens[p]) << "seq " << seq << " group " << g << " position " << p;
        }
    }
    kvcache_options options_;
    Cache cache_;
    std::vector<int> memory_[WTL_KV_GROUPS_MAX];
    int next_ = 0;
};

kvcache_options two_groups() {
    kvcache_options o = {};
    o.n_groups = 2;
    o.window[1] = 40;
    o.n_ctx = 400;
    o.n_seq_max = 6;
    o.n_batch = 64;
    return o;
}

TEST(KvCache, RandomForksRewindsAndAppendsKeepEverySequencesContents) {
    for (unsigned seed = 1; seed <= 20; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937 rng(seed);
        Model m(two_groups());
        auto pick = [&](int n) { return (int)(rng() % (unsigned)n); };
        int full = 0, limits = 0;
        for (int op = 0; op < 1500; op++) {
            std::vector<int> alive;
            for (auto &kv : m.seqs) alive.push_back(kv.first);
            int what = pick(10);
            if (alive.empty() || (what == 0 && alive.size() < 6)) {
                int32_t s;
                ASSERT_EQ(kvcache_seq_open(m.get(), &s, nullptr), WTL_OK);
                m.seqs[s] = {};
            } else if (what == 1 && alive.size() < 6) {
                int src = alive[pick((int)alive.size())], n = pick((int)m.seqs[src].size() + 1);
                int32_t s;
                wtl_status status = kvcache_seq_fork(m.get(), src, n, &s, nullptr);
                if (status == WTL_OK) m.seqs[s].assign(m.seqs[src].begin(), m.seqs[src].begin() + n);
                else { ASSERT_EQ(status, WTL_ERR_LIMIT); limits++; }
            } else if (what == 2) {
                int s = alive[pick((int)alive.size())], n = pick((int)m.seqs[s].size() + 1);
                wtl_status status = kvcache_seq_rewind(m.get(), s, n, nullptr);
                if (status == WTL_OK) m.seqs[s].resize(n);
                else { ASSERT_EQ(status, WTL_ERR_LIMIT); limits++; }
            } else if (what == 3) {
                int s = alive[pick((int)alive.size())];
                kvcache_seq_close(m.get(), s);
                m.seqs.erase(s);
            } else {
                int s = alive[pick((int)alive.size())], room = 400 - (int)m.seqs[s].size();
                if (room == 0) continue;
                wtl_status status = m.append(s, 1 + pick(std::min(64, room)));
                if (status) { ASSERT_EQ(status, WTL_ERR_KV_FULL); full++; }
            }
            for (auto &kv : m.seqs) m.check(kv.first);
            if (HasFatalFailure()) return;
        }
        kvcache_options o = two_groups();
        for (auto &kv : m.seqs) kvcache_seq_close(m.get(), kv.first);
        for (int g = 0; g < 2; g++) EXPECT_EQ(kvcache_free_blocks(m.get(), g), kvcache_group_blocks(&o, g)) << "blocks leaked";
        EXPECT_GT(full + limits, 0) << "the test never met a limit";
    }
}

TEST(KvCache, WindowGroupHoldsOnlyWhatCanBeSeen) {
    kvcache_options o = two_groups();
    o.n_seq_max = 1;
    o.n_ctx = 4000;
    Model m(o);
    int32_t s;
    ASSERT_EQ(kvcache_seq_open(m.get(), &s, nullptr), WTL_OK);
    for (int i = 0; i < 60; i++) {
        ASSERT_EQ(m.append(s, 64), WTL_OK);
        int held = kvcache_group_blocks(&o, 1) - kvcache_free_blocks(m.get(), 1);
        EXPECT_LE(held, (40 + KVCACHE_REWIND_TOK) / kBlock + 2);
    }
    EXPECT_LT(kvcache_group_blocks(&o, 1), kvcache_group_blocks(&o, 0) / 10);
}

TEST(KvCache, ShortRewindsAlwaysWorkAndLongOnesAreRefused) {
    Model m(two_groups());
    int32_t s;
    ASSERT_EQ(kvcache_seq_open(m.get(), &s, nullptr), WTL_OK);
    for (int n = 0; n < 300; n++) ASSERT_EQ(m.append(s, 1), WTL_OK);
    wtl_error err = {};
    EXPECT_EQ(kvcache_seq_rewind(m.get(), s, 100, &err), WTL_ERR_LIMIT);
    EXPECT_NE(std::string(err.message).find("forgotten"), std::string::npos) << err.message;
    ASSERT_EQ(kvcache_seq_rewind(m.get(), s, 300 - KVCACHE_REWIND_TOK, &err), WTL_OK) << err.message;
    m.seqs[s].resize(300 - KVCACHE_REWIND_TOK);
    m.check(s);
    ASSERT_EQ(kvcache_seq_rewind(m.get(), s, 0, &err), WTL_OK);
    m.seqs[s].clear();
    ASSERT_EQ(m.append(s, 30), WTL_OK);
    m.check(s);
}

TEST(KvCache, ForkSharesBlocksAndCopiesOnlyTheTail) {
    Model m(two_groups());
    int32_t a, b;
    ASSERT_EQ(kvcache_seq_open(m.get(), &a, nullptr), WTL_OK);
    ASSERT_EQ(m.append(a, 39), WTL_OK);
    int free_before = kvcache_free_blocks(m.get(), 0);
    ASSERT_EQ(kvcache_seq_fork(m.get(), a, 35, &b, nullptr), WTL_OK);
    EXPECT_EQ(kvcache_free_blocks(m.get(), 0), free_before);
    m.seqs[b].assign(m.seqs[a].begin(), m.seqs[a].begin() + 35);
    ASSERT_EQ(m.append(b, 1), WTL_OK);
    EXPECT_EQ(kvcache_free_blocks(m.get(), 0), free_before - 1);
    m.check(a);
    m.check(b);
}

TEST(KvCache, FullPoolLeavesTheSequenceAsItWas) {
    kvcache_options o = {};
    o.n_groups = 1;
    o.n_ctx = 64;
    o.n_seq_max = 2;
    o.n_batch = 64;
    Model m(o);
    int32_t a, b;
    ASSERT_EQ(kvcache_seq_open(m.get(), &a, nullptr), WTL_OK);
    ASSERT_EQ(kvcache_seq_open(m.get(), &b, nullptr), WTL_OK);
    ASSERT_EQ(m.append(a, 60), WTL_OK);
    int free_before = kvcache_free_blocks(m.get(), 0);
    EXPECT_EQ(m.append(b, 40), WTL_ERR_KV_FULL);
    EXPECT_EQ(kvcache_free_blocks(m.get(), 0), free_before);
    EXPECT_EQ(kvcache_seq_length(m.get(), b), 0);
    EXPECT_EQ(m.append(b, 16), WTL_OK);
    EXPECT_EQ(m.append(a, 5), WTL_ERR_LIMIT) << "beyond the context";
}

TEST(KvCache, UnknownSequencesAreRefused) {
    Model m(two_groups());
    int32_t s;
    EXPECT_EQ(kvcache_seq_rewind(m.get(), 0, 0, nullptr), WTL_ERR_INVALID);
    EXPECT_EQ(kvcache_seq_fork(m.get(), -1, 0, &s, nullptr), WTL_ERR_INVALID);
    EXPECT_EQ(kvcache_seq_fork(m.get(), 99, 0, &s, nullptr), WTL_ERR_INVALID);
    EXPECT_EQ(kvcache_seq_length(m.get(), 3), -1);
    for (int i = 0; i < 6; i++) ASSERT_EQ(kvcache_seq_open(m.get(), &s, nullptr), WTL_OK);
    EXPECT_EQ(kvcache_seq_open(m.get(), &s, nullptr), WTL_ERR_LIMIT);
}

} // namespace
