// The prefix tree under thousands of random operations in tiny pools, against naive answers: what a table shows must be the KV of
// exactly the sequence's tokens, what is found must be the longest prefix that any path of the tree offers, and the oldest goes first.
//
// Memory is simulated: a position of a block holds a hash of all tokens up to it, as real KV depends on all of them.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "runtime/kvcache_private.h"

namespace {

constexpr int kBlock = WTL_KV_BLOCK;
using Tokens = std::vector<int32_t>;

uint64_t next_value(uint64_t before, int32_t token) { return (before + (uint64_t)token + 1) * 6364136223846793005u + 1442695040888963407u; }

class World {
    using Cached = std::tuple<int, int, uint64_t>; // block, node, content

  public:
    explicit World(const kvcache_options &o) : options(o) {
        EXPECT_EQ(kvcache_open(&o, &c, nullptr), WTL_OK);
        for (int g = 0; g < o.n_groups; g++) memory_[g].resize((size_t)kvcache_group_blocks(&o, g) * kBlock);
    }
    ~World() { kvcache_close(&c); }
    kvcache_options options;
    kvcache *c = nullptr;
    std::map<int, Tokens> seqs;
    std::vector<Tokens> known; // whatever became findable at some time

    wtl_status append(int seq, const Tokens &more) {
        kvcache_copy copies[WTL_KV_GROUPS_MAX];
        int32_t n_copies = 0;
        wtl_status status = kvcache_reserve(c, seq, (int32_t)more.size(), copies, &n_copies, nullptr);
        if (status) return status;
        for (int i = 0; i < n_copies; i++) {
            auto &m = memory_[copies[i].group];
            std::copy_n(m.begin() + copies[i].src * kBlock, kBlock, m.begin() + copies[i].dst * kBlock);
        }
        Tokens &t = seqs[seq];
        const size_t past = t.size();
        t.insert(t.end(), more.begin(), more.end());
        for (int g = 0; g < options.n_groups; g++) {
            const std::vector<int32_t> table = table_of(seq, g, (int)t.size());
            uint64_t value = 0;
            for (size_t p = 0; p < t.size(); p++) {
                value = next_value(value, t[p]);
                if (p >= past) memory_[g][(size_t)table[p / kBlock] * kBlock + p % kBlock] = value;
            }
        }
        kvcache_commit(c, seq, more.data(), (int32_t)more.size());
        known.emplace_back(t.begin(), t.begin() + (long)(t.size() / kBlock * kBlock));
        return WTL_OK;
    }
    void close(int seq) {
        known.push_back(seqs[seq]);
        kvcache_seq_close(c, seq);
        seqs.erase(seq);
    }

    // ---- Naive answers ----
    // Longest prefix that some path of nodes offers to all groups.
    int longest(const Tokens &query) const {
        if (query.size() < 2) return 0;
        const int limit = std::min((int)query.size() - 1, options.n_ctx);
        int best = 0;
        std::vector<int> path;
        std::function<void(int)> visit = [&](int parent) {
            const int d = (int)path.size();
            for (int id = c->nodes[parent].first_child; id >= 0; id = c->nodes[id].next_sibling) {
                const kv_node &n = c->nodes[id];
                path.push_back(id);
                int k = 0;
                while (k < n.n_tok && d * kBlock + k < limit && n.tokens[k] == query[(size_t)(d * kBlock + k)]) {
                    k++;
                    if (usable(path, d * kBlock + k)) best = std::max(best, d * kBlock + k);
                }
                if (k == kBlock) visit(id);
                path.pop_back();
            }
        };
        visit(c->root);
        return best;
    }
    int longest_known(const Tokens &query) const {
        int best = 0;
        for (const Tokens &t : known) {
            int k = 0;
            while (k < (int)t.size() && k + 1 < (int)query.size() && t[(size_t)k] == query[(size_t)k]) k++;
            best = std::max(best, k);
        }
        return best;
    }

    // ---- What must hold after every operation ----
    void check() {
        for (auto &s : seqs) {
            ASSERT_EQ(kvcache_seq_length(c, s.first), (int)s.second.size());
            for (int g = 0; g < options.n_groups; g++) check_visible(s.first, s.second, g);
            if (HasFatal()) return;
        }
        for (int g = 0; g < options.n_groups; g++) {
            check_pool(g);
            if (HasFatal()) return;
        }
        check_nodes();
        if (!HasFatal()) check_ages();
    }

  private:
    // Ages of cached blocks: every list ascends by when its blocks were last let go of, and what was evicted was older than what stayed.
    void check_ages() {
        const int op = ++n_checks_;
        for (int g = 0; g < options.n_groups; g++) {
            std::map<Cached, int> now; // -> when let go of
            int last = -1, evicted_newest = -1, kept_oldest = op + 1;
            const kv_pool &p = c->pool[g];
            for (int b = p.oldest; b >= 0; b = p.newer[b]) {
                const Cached key = {b, p.owner[b], identity(p.owner[b])};
                auto before = ages_[g].find(key);
                int age = before == ages_[g].end() ? op : before->second;
                // A window block may be taken over and slide out in one step, or be evicted and come back: then its node is held.
                const bool may_be_new = g > 0 && c->pool[0].refs[p.owner[b]] > 0;
                if (may_be_new && age < last) age = op;
                ASSERT_GE(age, last) << "group " << g << " block " << b;
                last = age;
                now[key] = age;
                if (!may_be_new) kept_oldest = std::min(kept_oldest, age);
            }
            for (auto &old : ages_[g]) {
                const auto [block, node, content] = old.first;
                const bool node_lives = c->pool[0].owner[node] == node && identity(node) == content;
                if (node_lives && c->pool[0].refs[node] > 0) continue; // may have been evicted whole, and computed again
                if (g == 0 ? !node_lives : node_lives && c->nodes[node].block[g] != block) evicted_newest = std::max(evicted_newest, old.second);
            }
            ASSERT_LE(evicted_newest, kept_oldest) << "group " << g << ": something newer was evicted";
            ages_[g] = now;
        }
    }

    static bool HasFatal() { return testing::Test::HasFatalFailure(); }
    std::vector<int32_t> table_of(int seq, int g, int n) {
        std::vector<int32_t> table((size_t)slots_for(n));
        kvcache_table(c, seq, g, n, table.data());
        return table;
    }
    bool usable(const std::vector<int> &path, int n) const {
        for (int g = 0; g < options.n_groups; g++)
            for (int p = options.window[g] ? std::max(0, n - options.window[g] + 1) : 0; p < n; p++)
                if (c->nodes[path[(size_t)(p / kBlock)]].block[g] < 0) return false;
        return true;
    }
    void check_visible(int seq, const Tokens &t, int g) {
        const int n = (int)t.size(), w = options.window[g], from = w ? std::max(0, n - w + 1) : 0;
        const std::vector<int32_t> table = table_of(seq, g, n);
        uint64_t value = 0;
        for (int p = 0; p < n; p++) {
            value = next_value(value, t[(size_t)p]);
            if (p < from) continue;
            ASSERT_GE(table[(size_t)(p / kBlock)], 0) << "sequence " << seq << " group " << g << " position " << p;
            ASSERT_EQ(memory_[g][(size_t)(table[(size_t)(p / kBlock)] * kBlock + p % kBlock)], value) << "sequence " << seq << " group " << g << " position " << p;
        }
    }
    void check_pool(int g) {
        const kv_pool &p = c->pool[g];
        std::vector<int> refs((size_t)p.n_blocks), seen((size_t)p.n_blocks);
        for (auto &s : seqs) {
            const kv_span &span = c->seqs[s.first].span[g];
            ASSERT_EQ(span.end, slots_for((int)s.second.size()));
            for (int i = span.first; i < span.end; i++) refs[(size_t)span.blocks[i]]++;
        }
        for (int i = 0; i < p.n_free; i++) {
            seen[(size_t)p.free_list[i]]++;
            ASSERT_EQ(p.owner[p.free_list[i]], -1);
        }
        int n_cached = 0, before = -1;
        for (int b = p.oldest; b >= 0; before = b, b = p.newer[b], n_cached++) {
            seen[(size_t)b]++;
            ASSERT_EQ(p.older[b], before);
            ASSERT_GE(p.owner[b], 0);
            ASSERT_EQ(refs[(size_t)b], 0);
        }
        ASSERT_EQ(p.newest, before);
        ASSERT_EQ(n_cached, p.n_cached);
        for (int b = 0; b < p.n_blocks; b++) {
            ASSERT_EQ(refs[(size_t)b], p.refs[b]) << "group " << g << " block " << b;
            ASSERT_EQ(seen[(size_t)b], refs[(size_t)b] == 0) << "group " << g << " block " << b << " is lost, or in two lists";
        }
    }
    void check_nodes() {
        std::vector<int> owned(WTL_KV_GROUPS_MAX);
        std::map<int, int> place; // of a cached node on group 0's list
        int at = 0;
        for (int b = c->pool[0].oldest; b >= 0; b = c->pool[0].newer[b]) place[b] = at++;
        std::function<void(int, uint64_t)> visit = [&](int parent, uint64_t value) {
            int before = -1;
            for (int id = c->nodes[parent].first_child; id >= 0; before = id, id = c->nodes[id].next_sibling) {
                const kv_node &n = c->nodes[id];
                ASSERT_EQ(n.parent, parent);
                ASSERT_EQ(n.prev_sibling, before);
                ASSERT_EQ(n.block[0], id);
                ASSERT_TRUE(n.n_tok > 0 && n.n_tok <= kBlock);
                if (n.n_tok == kBlock) {
                    ASSERT_EQ(tree_find(c, parent, n.tokens), id);
                } else {
                    ASSERT_EQ(n.first_child, -1);
                }
                if (parent != c->root && place.count(parent)) {
                    ASSERT_TRUE(place.count(id)) << "a held block behind a cached one";
                    ASSERT_LT(place[id], place[parent]);
                }
                uint64_t v = value;
                for (int i = 0; i < n.n_tok; i++) {
                    v = next_value(v, n.tokens[i]);
                    for (int g = 0; g < options.n_groups; g++) {
                        if (n.block[g] < 0) continue;
                        ASSERT_EQ(memory_[g][(size_t)(n.block[g] * kBlock + i)], v) << "node " << id << " group " << g;
                    }
                }
                for (int g = 0; g < options.n_groups; g++)
                    if (n.block[g] >= 0) {
                        ASSERT_EQ(c->pool[g].owner[n.block[g]], id);
                        owned[(size_t)g]++;
                    }
                visit(id, v);
                if (HasFatal()) return;
            }
        };
        visit(c->root, 0);
        for (int g = 0; g < options.n_groups; g++) {
            const kv_pool &p = c->pool[g];
            ASSERT_EQ(std::count_if(p.owner, p.owner + p.n_blocks, [](int o) { return o >= 0; }), owned[(size_t)g]);
        }
    }
    uint64_t identity(int id) const { // of a node: all tokens up to its end
        std::vector<int> chain;
        for (int n = id; n != c->root; n = c->nodes[n].parent) chain.push_back(n);
        uint64_t v = 0;
        for (size_t i = chain.size(); i-- > 0;)
            for (int j = 0; j < c->nodes[chain[i]].n_tok; j++) v = next_value(v, c->nodes[chain[i]].tokens[j]);
        return v;
    }
    std::vector<uint64_t> memory_[WTL_KV_GROUPS_MAX];
    std::map<Cached, int> ages_[WTL_KV_GROUPS_MAX];
    int n_checks_ = 0;
};

kvcache_options make_options(int n_groups, int n_ctx, int n_seq, int n_extra) {
    kvcache_options o = {};
    o.n_groups = n_groups;
    if (n_groups > 1) o.window[1] = 24;
    o.n_ctx = n_ctx;
    o.n_seq_max = n_seq;
    o.n_batch = 40;
    o.keep_prefixes = true;
    o.n_extra_blocks = n_extra;
    return o;
}

// Random operations of a few users whose prompts begin alike. Two kinds of token, so that chance prefixes are frequent.
class Play {
  public:
    Play(const kvcache_options &o, unsigned seed) : w(o), rng_(seed) {
        for (int i = 0; i < 3; i++) bases_.push_back(random(pick(70)));
    }
    World w;
    int n_found = 0, n_limit = 0;

    void step(bool exact) {
        std::vector<int> alive;
        for (auto &s : w.seqs) alive.push_back(s.first);
        const int what = pick(12), n_seq = w.options.n_seq_max;
        if (alive.empty() || (what < 3 && (int)alive.size() < n_seq)) open(exact);
        else if (what == 3 && (int)alive.size() < n_seq) fork(alive[(size_t)pick((int)alive.size())]);
        else if (what < 6) rewind(alive[(size_t)pick((int)alive.size())]);
        else if (what < 8) w.close(alive[(size_t)pick((int)alive.size())]);
        else append(alive[(size_t)pick((int)alive.size())]);
    }

  private:
    int pick(int n) { return n ? (int)(rng_() % (unsigned)n) : 0; }
    Tokens random(int n) {
        Tokens t((size_t)n);
        for (int32_t &x : t) x = (int32_t)(rng_() % 8 == 0);
        return t;
    }
    // Some beginning of what was there once, or of a common prompt, with something else behind.
    Tokens prompt() {
        const Tokens &from = !w.known.empty() && pick(3) ? w.known[w.known.size() - 1 - (size_t)pick((int)std::min<size_t>(w.known.size(), 40))]
                                                         : bases_[(size_t)pick(3)];
        Tokens t(from.begin(), from.begin() + (pick(2) ? (int)from.size() : pick((int)from.size() + 1)));
        const Tokens more = random(pick(20));
        t.insert(t.end(), more.begin(), more.end());
        if ((int)t.size() > w.options.n_ctx) t.resize((size_t)w.options.n_ctx);
        return t;
    }
    void open(bool exact) {
        const Tokens t = prompt();
        const int want = w.longest(t);
        ASSERT_EQ(kvcache_find_prefix(w.c, t.data(), t.size()), want);
        if (exact) {
            ASSERT_EQ(want, w.longest_known(t));
        }
        int32_t seq = -1, n_cached = -1;
        ASSERT_EQ(kvcache_seq_open_prefix(w.c, t.data(), t.size(), &seq, &n_cached, nullptr), WTL_OK);
        ASSERT_EQ(n_cached, want);
        n_found += n_cached > 0;
        w.seqs[seq].assign(t.begin(), t.begin() + n_cached);
        w.check();
        if (testing::Test::HasFatalFailure()) return;
        const Tokens rest(t.begin() + n_cached, t.end());
        if (!rest.empty() && pick(4)) feed(seq, rest);
    }
    void fork(int src) {
        const Tokens &t = w.seqs[src];
        const int n = pick((int)t.size() + 1);
        int32_t seq;
        const wtl_status status = kvcache_seq_fork(w.c, src, n, &seq, nullptr);
        n_limit += status == WTL_ERR_LIMIT;
        if (status == WTL_ERR_LIMIT) return;
        ASSERT_EQ(status, WTL_OK);
        w.seqs[seq] = Tokens(t.begin(), t.begin() + n);
    }
    void rewind(int seq) {
        Tokens &t = w.seqs[seq];
        const int n = pick(3) ? std::max(0, (int)t.size() - pick(KVCACHE_REWIND_TOK)) : pick((int)t.size() + 1);
        const wtl_status status = kvcache_seq_rewind(w.c, seq, n, nullptr);
        n_limit += status == WTL_ERR_LIMIT;
        if (status != WTL_OK) {
            ASSERT_EQ(status, WTL_ERR_LIMIT);
            return;
        }
        if (n < (int)t.size()) w.known.push_back(t);
        t.resize((size_t)n);
    }
    void append(int seq) { feed(seq, random(1 + pick(40))); }
    // The positions of n_ctx always fit: as long as all sequences stay within it together, no step may meet a full cache.
    void feed(int seq, Tokens more) {
        size_t held = 0;
        for (auto &s : w.seqs) held += s.second.size();
        const size_t room = (size_t)w.options.n_ctx - std::min((size_t)w.options.n_ctx, held);
        more.resize(std::min({more.size(), room, (size_t)w.options.n_batch}));
        if (more.empty()) return;
        ASSERT_EQ(w.append(seq, more), WTL_OK) << "held " << held;
    }
    std::mt19937 rng_;
    std::vector<Tokens> bases_;
};

void play(const kvcache_options &o, unsigned seeds, int ops, bool exact) {
    int found = 0;
    uint64_t evicted = 0;
    for (unsigned seed = 1; seed <= seeds; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Play p(o, seed);
        for (int op = 0; op < ops; op++) {
            SCOPED_TRACE(testing::Message() << "operation " << op);
            p.step(exact);
            if (testing::Test::HasFatalFailure()) return;
            p.w.check();
            if (testing::Test::HasFatalFailure()) return;
        }
        while (!p.w.seqs.empty()) p.w.close(p.w.seqs.begin()->first);
        p.w.check();
        for (int g = 0; g < o.n_groups; g++) {
            const kvcache_usage u = kvcache_group_usage(p.w.c, g);
            EXPECT_EQ(u.n_used, 0);
            EXPECT_EQ(u.n_cached + u.n_free, kvcache_group_blocks(&o, g));
            evicted += u.n_evicted;
        }
        found += p.n_found;
    }
    EXPECT_GT(found, (int)seeds * ops / 30) << "hardly anything was found";
    if (exact) EXPECT_EQ(evicted, 0u);
    else EXPECT_GT(evicted, seeds * 20u) << "hardly anything was evicted";
}

TEST(PrefixTree, RandomOperationsInATinyPool) { play(make_options(1, 160, 4, 0), 12, 1500, false); }
TEST(PrefixTree, RandomOperationsWithAWindowInATinyPool) { play(make_options(2, 160, 4, 3), 12, 1500, false); }
TEST(PrefixTree, RandomOperationsOfOneSequenceThatFillsThePool) { play(make_options(2, 64, 1, 0), 12, 1500, false); }
// The window's pool is much smaller than the other: nodes keep losing their window block.
TEST(PrefixTree, RandomOperationsWhereWindowBlocksAreLostFirst) {
    play(make_options(2, 480, 1, 0), 6, 1500, false);
    play(make_options(2, 480, 2, 4), 6, 1500, false);
}
TEST(PrefixTree, RandomOperationsInAMiddlingPool) { play(make_options(2, 200, 5, 20), 6, 1500, false); }
// Nothing is ever lost: what is found is the longest common beginning with anything that was there.
TEST(PrefixTree, WithMemoryForAllEveryCommonBeginningIsFound) {
    play(make_options(1, 160, 4, 4000), 4, 250, true);
    play(make_options(2, 160, 4, 4000), 4, 250, true);
}

Tokens iota(int from, int n) {
    Tokens t((size_t)n);
    for (int i = 0; i < n; i++) t[(size_t)i] = from + i;
    return t;
}
int open(World &w, const Tokens &t, int *n_cached) {
    int32_t seq = -1, n = -1;
    EXPECT_EQ(kvcache_seq_open_prefix(w.c, t.data(), t.size(), &seq, &n, nullptr), WTL_OK);
    w.seqs[seq] = Tokens(t.begin(), t.begin() + n);
    *n_cached = n;
    return seq;
}

TEST(PrefixTree, LiveSequencesShareAndComputingTwiceTakesNoMemoryTwice) {
    World w(make_options(2, 400, 4, 0));
    int a, b, n;
    a = open(w, iota(0, 100), &n);
    b = open(w, iota(0, 100), &n);
    ASSERT_EQ(n, 0);
    ASSERT_EQ(w.append(a, iota(0, 36)), WTL_OK);
    ASSERT_EQ(w.append(b, iota(0, 36)), WTL_OK); // the same blocks, computed beside
    w.check();
    EXPECT_EQ(kvcache_group_usage(w.c, 0).n_used, 2 + 2); // two shared ones, two tails
    open(w, iota(0, 100), &n);
    EXPECT_EQ(n, 32) << "tails of sequences that go on are not offered";
    w.close(a);
    open(w, iota(0, 100), &n);
    EXPECT_EQ(n, 36);
    EXPECT_EQ(kvcache_find_prefix(w.c, iota(0, 36).data(), 36), 35) << "the last token is left for its logits";
    EXPECT_EQ(kvcache_find_prefix(w.c, iota(0, 1).data(), 1), 0);
    EXPECT_EQ(kvcache_find_prefix(w.c, nullptr, 0), 0);
    w.check();
}

TEST(PrefixTree, AFarRewindFindsWhatSlidOutWhileItIsThere) {
    World w(make_options(2, 400, 1, 100));
    int n, s = open(w, iota(0, 300), &n);
    for (int i = 0; i < 300; i += 30) ASSERT_EQ(w.append(s, iota(i, 30)), WTL_OK);
    ASSERT_EQ(kvcache_seq_rewind(w.c, s, 100, nullptr), WTL_OK);
    w.seqs[s].resize(100);
    w.check();
    ASSERT_EQ(w.append(s, iota(7, 20)), WTL_OK);
    w.check();
    World small(make_options(2, 400, 1, 0));
    s = open(small, iota(0, 300), &n);
    for (int i = 0; i < 300; i += 30) ASSERT_EQ(small.append(s, iota(i, 30)), WTL_OK);
    EXPECT_EQ(kvcache_seq_rewind(small.c, s, 100, nullptr), WTL_ERR_LIMIT);
    small.check();
}

TEST(PrefixTree, EndsGoBeforeBeginningsAndTheLeastRecentlyUsedFirst) {
    World w(make_options(1, 96, 1, 4)); // ten blocks
    int n;
    w.append(open(w, iota(0, 64), &n), iota(0, 64));       // four blocks
    w.close(0);
    w.append(open(w, iota(1000, 48), &n), iota(1000, 48)); // three
    w.close(0);
    open(w, iota(0, 33), &n); // used again: two of the first four
    EXPECT_EQ(n, 32);
    w.close(0);
    auto found = [&](int from, int len) { return kvcache_find_prefix(w.c, iota(from, len).data(), (size_t)len); };
    w.append(open(w, iota(5000, 80), &n), iota(5000, 80)); // five blocks: three are free, two must go
    EXPECT_EQ(found(0, 65), 32);
    EXPECT_EQ(found(1000, 49), 48);
    w.append(0, iota(6000, 16)); // the end of the second
    EXPECT_EQ(found(0, 65), 32);
    EXPECT_EQ(found(1000, 49), 32);
    w.check();
}

} // namespace
