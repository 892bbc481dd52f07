// Real models: what is sampled from the few logits that a sampler looks at is what is sampled from all of them.
//
// Needs WTL_TEST_SMOLLM2, WTL_TEST_GEMMA3.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "runtime/batch.h"
#include "tests/support/sessions.h"

namespace {

const char *const kTexts[] = {"The history of the city of Rome begins", "def quicksort(a):\n", "1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3,"};

Tokens tokens_of(const Engine &engine, const char *text) {
    Tokens t(256);
    size_t n = 0;
    wtl_error err = {};
    EXPECT_EQ(wtl_tokenize(wtl_engine_vocab(engine.e), text, strlen(text), WTL_ADD_SPECIAL, t.data(), t.size(), &n, &err), WTL_OK) << err.message;
    t.resize(n);
    return t;
}

std::vector<wtl_sampler_options> ways() {
    wtl_sampler_options greedy = {}, chat = {};
    chat.temperature = 0.8f;
    chat.top_k = 40;
    chat.top_p = 0.95f;
    chat.seed = 17;
    return {greedy, chat};
}

class FewLogitsReal : public testing::TestWithParam<const char *> {
  protected:
    void SetUp() override {
        const char *path = getenv(GetParam());
        if (!path) GTEST_SKIP() << GetParam() << " is not set to the model's path";
        engine_.reset(new Engine(path, 2));
    }
    std::unique_ptr<Engine> engine_;
};

struct Decoded {
    Tokens tokens;
    uint64_t weight_bytes = 0;
};

Decoded decode(const Engine &engine, const Tokens &prompt, const wtl_sampler_options &way, int n, bool all_logits) {
    wtl_session_options o = {};
    o.n_ctx = 1024;
    o.all_logits = all_logits;
    Session session(engine, o);
    wtl_sampler *sampler = nullptr;
    wtl_error err = {};
    int32_t seq = -1, token = -1;
    EXPECT_EQ(wtl_sampler_open(&way, engine.n_vocab(), &sampler, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_seq_open(session.s, &seq, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_session_prefill(session.s, seq, prompt.data(), prompt.size(), nullptr, nullptr, &err), WTL_OK) << err.message;
    Decoded d;
    for (int i = 0; i < n; i++) {
        EXPECT_EQ(wtl_sampler_next(sampler, wtl_session_logits(session.s, 0), &token, &err), WTL_OK) << err.message;
        d.tokens.push_back(token);
        const wtl_entry entry = {token, seq, true, wtl_sampler_n_top(sampler)};
        EXPECT_EQ(wtl_session_step(session.s, &entry, 1, &err), WTL_OK) << err.message;
        d.weight_bytes += wtl_session_work(session.s).weight_bytes;
    }
    wtl_sampler_close(&sampler);
    return d;
}

TEST_P(FewLogitsReal, SampledTokensAreTheSame) {
    const bool sketch = std::string(wtl_engine_describe(engine_->e).backend).find("avx512vnni") != std::string::npos;
    for (const char *text : kTexts)
        for (wtl_sampler_options way : ways()) {
            const Tokens prompt = tokens_of(*engine_, text);
            way.seed += strlen(text);
            const Decoded some = decode(*engine_, prompt, way, 64, false), all = decode(*engine_, prompt, way, 64, true);
            EXPECT_EQ(some.tokens, all.tokens) << text << ", temperature " << way.temperature << ", seed " << way.seed;
            if (sketch) {
                EXPECT_LT((double)some.weight_bytes, 0.97 * (double)all.weight_bytes) << text;
            }
        }
}

Tokens reply(const Engine &engine, const Tokens &prompt, const wtl_sampler_options &way, int n, bool all_logits, int n_draft) {
    wtl_batch_options o = {};
    o.engine = engine.e;
    o.n_parallel = 2;
    o.n_ctx = 512;
    o.n_draft = n_draft;
    o.all_logits = all_logits;
    wtl_batch *batch = nullptr;
    wtl_error err = {};
    EXPECT_EQ(wtl_batch_open(&o, &batch, &err), WTL_OK) << err.message;
    Tokens out;
    wtl_batch_request r = {};
    r.tokens = prompt.data();
    r.n_tokens = prompt.size();
    r.sampling = way;
    r.max_tokens = n;
    r.n_top_logprobs = -1;
    r.ignore_eos = true;
    r.user = &out;
    r.on_token = [](void *user, const wtl_batch_token *t) {
        if (t->token >= 0) static_cast<Tokens *>(user)->push_back(t->token);
        return true;
    };
    uint64_t id = 0;
    EXPECT_EQ(wtl_batch_submit(batch, &r, &id, &err), WTL_OK) << err.message;
    bool ran = true;
    while (ran) EXPECT_EQ(wtl_batch_step(batch, &ran, &err), WTL_OK) << err.message;
    wtl_batch_close(&batch);
    return out;
}

TEST_P(FewLogitsReal, RepliesAreTheSameWithAndWithoutGuesses) {
    for (const char *text : kTexts)
        for (const wtl_sampler_options &way : ways()) {
            const Tokens prompt = tokens_of(*engine_, text), want = reply(*engine_, prompt, way, 48, true, -1);
            EXPECT_EQ(want.size(), 48u);
            for (int n_draft : {-1, 7}) EXPECT_EQ(reply(*engine_, prompt, way, 48, false, n_draft), want) << text << ", temperature " << way.temperature << ", n_draft " << n_draft;
        }
}

INSTANTIATE_TEST_SUITE_P(Models, FewLogitsReal, testing::Values("WTL_TEST_SMOLLM2", "WTL_TEST_GEMMA3"));

} // namespace
