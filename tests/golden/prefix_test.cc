// The prefix cache on real models: logits behind a cached prefix are the bits of a fresh session, at random cut points.
//
// Needs WTL_TEST_SMOLLM2, WTL_TEST_GEMMA3. The prompt is longer than Gemma's window of 512 positions.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/support/sessions.h"

namespace {

class PrefixReal : public testing::TestWithParam<const char *> {};

TEST_P(PrefixReal, CachedAndFreshGiveTheSameBits) {
    const char *path = getenv(GetParam());
    if (!path) GTEST_SKIP() << GetParam() << " is not set to the model's path";
    const unsigned seed = 11;
    std::mt19937 rng(seed);
    Engine engine(path, 2);
    const Tokens tokens = random_tokens(rng, 640, engine.n_vocab());
    wtl_session_options o = prefix_options(1024, 2, 128, (uint64_t)64 << 20);
    o.n_logits_max = 8;
    auto last_logits = [&](Session &s, int seq, const Tokens &t, int n_past) {
        wtl_error err = {};
        EXPECT_EQ(wtl_session_prefill(s.s, seq, t.data() + n_past, t.size() - (size_t)n_past, nullptr, nullptr, &err), WTL_OK) << err.message;
        const float *l = wtl_session_logits(s.s, 0);
        return l ? Logits(l, l + s.n_vocab) : Logits();
    };
    Session session(engine, o);
    int n;
    int seq = session.open_prefix(tokens, &n);
    const Logits want = last_logits(session, seq, tokens, 0);
    wtl_seq_close(session.s, seq);
    seq = session.open_prefix(tokens, &n); // an answer that is made again: all but one token are there
    EXPECT_EQ(n, 639);
    EXPECT_TRUE(same_bits(last_logits(session, seq, tokens, n), want));
    wtl_seq_close(session.s, seq);
    for (size_t cut : {(size_t)(1 + rng() % 40), (size_t)(200 + rng() % 300), (size_t)(530 + rng() % 100)}) {
        Tokens other(tokens.begin(), tokens.begin() + (long)cut);
        do other.resize(cut), other.push_back((int32_t)(rng() % (unsigned)engine.n_vocab()));
        while (other[cut] == tokens[cut]);
        for (int32_t t : random_tokens(rng, 20, engine.n_vocab())) other.push_back(t);
        seq = session.open_prefix(other, &n);
        EXPECT_EQ((size_t)n, cut) << "seed " << seed;
        const Logits got = last_logits(session, seq, other, n);
        wtl_seq_close(session.s, seq);
        o.keep_prefixes = false;
        Session fresh(engine, o);
        int none;
        EXPECT_TRUE(same_bits(got, last_logits(fresh, fresh.open_prefix(other, &none), other, 0))) << "seed " << seed << " cut " << cut;
        EXPECT_EQ(none, 0);
    }
}
INSTANTIATE_TEST_SUITE_P(Models, PrefixReal, testing::Values("WTL_TEST_SMOLLM2", "WTL_TEST_GEMMA3"));

} // namespace
