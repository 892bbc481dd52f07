// Guesses from repetition: the same replies as without, in fewer steps; what was guessed wrong leaves no trace.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_private.h"
#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

Tokens repeated(const Tokens &phrase, int times) {
    Tokens all;
    for (int i = 0; i < times; i++) all.insert(all.end(), phrase.begin(), phrase.end());
    return all;
}

// Tries every guess there is, whatever rows cost on this machine.
void trust_all(Batch &b) {
    for (double &hit : b.b->trust.hit) hit = 1;
    batch_pace_open(&b.b->pace, 1e9, 1, 1);
}

TEST(BatchDraft, RepliesAreTheSameInFewerSteps) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        for (const int n_draft : {-1, 1, 7, 15}) {
            wtl_batch_options o = small(engine, 4, 256, 64);
            o.n_draft = n_draft;
            Batch b(o);
            std::mt19937 rng(5);
            uint64_t n_tok = 0;
            for (int round = 0; round < 12; round++) {
                trust_all(b);
                Ask ask(repeated(random_tokens(rng, 3 + round), 4), 40 + round, round % 3 == 2 ? 2 : 1);
                if (round % 2) {
                    ask.request.sampling.temperature = 0.7f;
                    ask.request.sampling.top_k = 5;
                    ask.request.sampling.repeat_penalty = 1.1f;
                    ask.request.sampling.seed = rng();
                }
                if (round % 4 == 0) ask.request.n_top_logprobs = 2;
                b.submit(ask);
                b.drain();
                for (size_t c = 0; c < ask.replies.size(); c++) {
                    EXPECT_EQ(ask.replies[c].tokens, alone(engine, ask, (int)c, 256)) << arch << ", n_draft " << n_draft << ", round " << round;
                    EXPECT_EQ(ask.replies[c].finish, WTL_FINISH_LENGTH);
                    n_tok += ask.replies[c].tokens.size();
                }
                EXPECT_LE(ask.last_facts.n_accepted_tok, ask.last_facts.n_drafted_tok);
            }
            const wtl_batch_state s = b.state();
            EXPECT_EQ(s.n_decoded_tok, n_tok);
            if (n_draft < 0) {
                EXPECT_EQ(s.n_drafted_tok, 0u);
            } else {
                EXPECT_GT(s.n_accepted_tok, n_tok / 20) << arch << ", n_draft " << n_draft;
                EXPECT_GT(s.n_drafted_tok, s.n_accepted_tok) << "some guess must have been wrong, or forgetting was not tested";
            }
        }
    }
}

TEST(BatchDraft, AReplyThatEndsAmongGuessesEndsThere) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(9);
    for (size_t stop_at = 1; stop_at < 30; stop_at++) {
        wtl_batch_options o = small(engine, 2, 256, 64), plain = o;
        plain.n_draft = -1;
        Batch b(o), without(plain);
        trust_all(b);
        const Tokens prompt = repeated(random_tokens(rng, 6), 5);
        Tokens next;
        int cached[2];
        for (Batch *batch : {&without, &b}) {
            Ask ask(prompt, 60);
            ask.on_token = [&](const wtl_batch_token &) { return ask.replies[0].tokens.size() < stop_at; };
            batch->submit(ask);
            batch->drain();
            EXPECT_EQ(ask.replies[0].tokens.size(), stop_at);
            EXPECT_EQ(ask.replies[0].finish, WTL_FINISH_STOP);
            // The next turn finds the same.
            next = prompt;
            next.insert(next.end(), ask.replies[0].tokens.begin(), ask.replies[0].tokens.end());
            next.push_back(7);
            Ask turn(next, 20);
            batch->submit(turn);
            batch->drain();
            cached[batch == &b] = turn.last_facts.n_cached_tok;
            EXPECT_EQ(turn.replies[0].tokens, alone(engine, turn, 0, 256));
        }
        EXPECT_EQ(cached[0], cached[1]) << stop_at;
    }
}

TEST(BatchDraft, WhoCancelsAmongGuessesGetsNoOtherToken) {
    std::mt19937 rng(3);
    uint64_t n_accepted = 0;
    for (size_t at = 1; at < 25; at++) {
        Batch b(small(engine_of("llama"), 2, 256, 64));
        trust_all(b);
        Ask self(repeated(random_tokens(rng, 4), 5), 60);
        self.on_token = [&](const wtl_batch_token &t) {
            if (self.replies[0].tokens.size() == at && t.token >= 0) {
                EXPECT_TRUE(wtl_batch_cancel(b.b, t.request));
            }
            return true;
        };
        b.submit(self);
        b.drain();
        EXPECT_EQ(self.replies[0].tokens.size(), at);
        EXPECT_EQ(self.replies[0].finish, WTL_FINISH_CANCELLED);
        n_accepted += b.state().n_accepted_tok;
    }
    EXPECT_GT(n_accepted, 0u);
}

TEST(BatchDraft, NothingIsGuessedBehindTheLastToken) {
    const Engine &engine = engine_of("gemma3");
    std::mt19937 rng(4);
    for (int n = 1; n < 20; n++) {
        wtl_batch_options o = small(engine, 1, 48, 48);
        Batch b(o);
        trust_all(b);
        Ask ask(repeated(random_tokens(rng, 5), 6), n), full(repeated(random_tokens(rng, 5), 6));
        b.submit(ask);
        b.drain();
        EXPECT_EQ(ask.replies[0].tokens.size(), (size_t)n);
        EXPECT_LE(ask.last_facts.n_decoded_tok - 1, n - 1);
        b.submit(full); // to the end of the context
        b.drain();
        EXPECT_EQ(full.replies[0].finish, WTL_FINISH_CONTEXT) << full.replies[0].error;
        EXPECT_EQ(full.replies[0].tokens, alone(engine, full, 0, 48));
    }
}

// Steps of one row each cannot tell what a row costs from what a step costs.
TEST(BatchDraft, AReplyThatWasAlwaysAloneIsGuessedToo) {
    Batch b(small(engine_of("llama"), 1, 256, 64));
    std::mt19937 rng(8);
    Ask ask(repeated(random_tokens(rng, 5), 8), 60);
    b.submit(ask);
    for (int i = 0; i < 80 && !ask.over; i++) {
        const double learned[BATCH_PACE_TERMS] = {0, 4e6, 1e6, 0}; // all of a step's time seems to be its decode row's
        std::copy(learned, learned + BATCH_PACE_TERMS, b.b->pace.cost);
        b.step();
    }
    EXPECT_TRUE(ask.over);
    EXPECT_GT(b.state().n_drafted_tok, 0u);
}

TEST(BatchDraft, TrustFollowsWhatCameTrue) {
    batch_draft_trust t;
    batch_draft_open(&t);
    const double first = t.hit[3];
    EXPECT_LT(t.hit[1], t.hit[4]);
    batch_draft_learn(&t, 3, 4, 4);
    EXPECT_GT(t.hit[3], first);
    for (int i = 0; i < 40; i++) batch_draft_learn(&t, 3, 4, 0); // three of the four were never looked at
    EXPECT_LT(t.hit[3], 0.05);
    EXPECT_GT(t.hit[3], 0);
    for (int i = 0; i < 40; i++) batch_draft_learn(&t, 3, 2, 1);
    EXPECT_NEAR(t.hit[3], 0.5, 0.1);
}

TEST(BatchDraft, OptionsAreChecked) {
    wtl_error err = {};
    wtl_batch *b = nullptr;
    for (const int n : {-2, 16}) {
        wtl_batch_options o = small(engine_of("llama"), 1);
        o.n_draft = n;
        EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_ERR_INVALID);
        EXPECT_NE(std::string(err.message).find("n_draft"), std::string::npos) << err.message;
    }
}

} // namespace
