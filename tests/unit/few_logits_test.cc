// Sessions and batches that ask for a few of the largest logits: these are the bits of all, and whatever is sampled is the same.
//
// The vocabulary is large enough for the output head to be read in part where the instruction set can do that.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <functional>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

const Engine &large_vocabulary(int threads = 2) {
    static TinyModel *model;
    static std::map<int, std::unique_ptr<Engine>> engines;
    if (!model) {
        TinyOptions o;
        o.type = WTL_DTYPE_Q8_0;
        o.n_layers = 1;
        o.n_embd = 64;
        o.n_ff = 64;
        o.n_heads = 1;
        o.n_heads_kv = 1;
        o.head_dim = 64;
        o.n_more_tokens = 6000;
        model = new TinyModel(o);
    }
    auto &slot = engines[threads];
    if (!slot) slot.reset(new Engine(model->path(), threads));
    return *slot;
}

bool has_sketch(const Engine &engine) { return std::string(wtl_engine_describe(engine.e).backend).find("avx512vnni") != std::string::npos; }

struct Session {
    wtl_session *s = nullptr;
    int32_t seq = -1, n_vocab;
    explicit Session(const Engine &engine, bool all_logits) : n_vocab(wtl_engine_describe(engine.e).n_vocab) {
        wtl_session_options o = {};
        wtl_error err = {};
        o.n_ctx = 256;
        o.n_logits_max = 8;
        o.all_logits = all_logits;
        EXPECT_EQ(wtl_session_open(engine.e, &o, &s, &err), WTL_OK) << err.message;
        EXPECT_EQ(wtl_seq_open(s, &seq, &err), WTL_OK);
    }
    ~Session() { wtl_session_close(&s); }
    void step(const std::vector<wtl_entry> &entries) {
        wtl_error err = {};
        ASSERT_EQ(wtl_session_step(s, entries.data(), (int32_t)entries.size(), &err), WTL_OK) << err.message;
    }
    std::vector<float> logits(int i) const {
        const float *l = wtl_session_logits(s, i);
        return std::vector<float>(l, l + n_vocab);
    }
};

// How many are left out; fails when one of the largest is.
int left_out(const std::vector<float> &some, const std::vector<float> &all, int n_top) {
    std::vector<float> sorted = all;
    std::nth_element(sorted.begin(), sorted.begin() + (n_top - 1), sorted.end(), std::greater<float>());
    int n = 0;
    for (size_t i = 0; i < all.size(); i++) {
        if (some[i] == all[i]) continue;
        n++;
        EXPECT_EQ(some[i], -INFINITY);
        EXPECT_LT(all[i], sorted[n_top - 1]) << "token " << i << " is one of the " << n_top;
    }
    return n;
}

TEST(FewLogits, TheLargestOfEveryEntryAreExact) {
    for (int threads : {1, 2}) {
        const Engine &engine = large_vocabulary(threads);
        Session some(engine, false), all(engine, true);
        std::mt19937 rng(3);
        int n_left_out = 0;
        for (int i = 0; i < 40; i++) {
            std::vector<wtl_entry> entries;
            for (int j = 0; j <= i % 4; j++) entries.push_back({(int32_t)(rng() % 6000), some.seq, j != 1, i % 2 ? 1 : 2});
            some.step(entries);
            all.step(entries);
            const wtl_step_work a = wtl_session_work(some.s), b = wtl_session_work(all.s);
            ASSERT_EQ(a.n_logits, b.n_logits);
            int n = 0;
            for (int l = 0; l < a.n_logits; l++) n += left_out(some.logits(l), all.logits(l), i % 2 ? 1 : 2);
            // What was not read is not counted as read.
            EXPECT_EQ(a.weight_bytes < b.weight_bytes, n > 0);
            EXPECT_EQ(a.macs, b.macs);
            n_left_out += n;
        }
        if (has_sketch(engine)) {
            EXPECT_GT(n_left_out, 40 * 3000);
        }
    }
}

TEST(FewLogits, OneEntryThatWantsAllGetsAll) {
    const Engine &engine = large_vocabulary();
    Session some(engine, false), all(engine, true);
    for (auto tops : {std::pair<int, int>{0, 1}, {1, 0}, {0, 0}}) {
        const std::vector<wtl_entry> entries = {{5, some.seq, true, tops.first}, {6, some.seq, false, 0}, {7, some.seq, true, tops.second}};
        some.step(entries);
        all.step(entries);
        for (int l = 0; l < 2; l++) EXPECT_EQ(some.logits(l), all.logits(l));
        EXPECT_EQ(wtl_session_work(some.s).weight_bytes, wtl_session_work(all.s).weight_bytes);
    }
    wtl_error err = {};
    const wtl_entry wrong = {5, some.seq, true, -1};
    EXPECT_EQ(wtl_session_step(some.s, &wrong, 1, &err), WTL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("n_top"), std::string::npos);
    const int32_t tokens[] = {1, 2, 3};
    ASSERT_EQ(wtl_session_prefill(some.s, some.seq, tokens, 3, nullptr, nullptr, &err), WTL_OK);
    for (float l : some.logits(0)) ASSERT_GT(l, -INFINITY) << "a prompt's last logits are all there";
}

TEST(FewLogits, ABatchRepliesAsWithAllLogits) {
    const Engine &engine = large_vocabulary();
    std::mt19937 rng(8);
    for (int n_draft : {-1, 7}) {
        for (int round = 0; round < 16; round++) {
            Tokens prompt;
            const Tokens phrase = random_tokens(rng, 4);
            for (int i = 0; i < 5; i++) prompt.insert(prompt.end(), phrase.begin(), phrase.end());
            const uint64_t seed = rng();
            std::vector<Tokens> replies[2];
            std::vector<std::vector<float>> logprobs[2];
            for (int all_logits = 0; all_logits < 2; all_logits++) {
                wtl_batch_options o = small(engine, 3);
                o.n_draft = n_draft;
                o.all_logits = all_logits;
                Batch b(o);
                Ask first(prompt, 40), second(prompt, 30, round % 2 ? 2 : 1);
                for (Ask *ask : {&first, &second}) {
                    ask->request.sampling.seed = seed;
                    ask->request.sampling.temperature = round % 4 == 0 ? 0.0f : 0.8f;
                    ask->request.sampling.top_k = round % 4 == 1 ? 0 : 1 + round % 3;
                    ask->request.sampling.top_p = 0.9f;
                    ask->request.sampling.repeat_penalty = round % 8 == 3 ? 1.2f : 0.0f;
                }
                if (round % 8 >= 6) second.request.n_top_logprobs = 3; // needs all, and so do steps with it
                if (round % 8 == 5) second.request.allows = [](void *, int32_t, int32_t token) { return token % 3 == 0; };
                b.submit(first);
                b.submit(second);
                b.drain();
                for (const Ask *ask : {&first, &second})
                    for (const Reply &r : ask->replies) {
                        EXPECT_EQ(r.error, "");
                        replies[all_logits].push_back(r.tokens);
                        logprobs[all_logits].push_back(r.logprobs);
                    }
            }
            EXPECT_EQ(replies[0], replies[1]) << "n_draft " << n_draft << ", round " << round;
            EXPECT_EQ(logprobs[0], logprobs[1]) << "n_draft " << n_draft << ", round " << round;
        }
    }
}

} // namespace
