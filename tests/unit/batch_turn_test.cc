// Whose prompt goes on next: little work before much, equal shares between users, and how long the longest prompt can be made to wait.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

struct Crowd {
    Batch &b;
    std::mt19937 rng{9};
    std::vector<std::unique_ptr<Ask>> asks;
    std::vector<const Ask *> started, read; // in this order
    explicit Crowd(Batch &batch) : b(batch) {}
    Ask &add(const char *user, const Tokens &prompt, int max_tokens = 1, int n_choices = 1) {
        asks.emplace_back(new Ask(prompt, max_tokens, n_choices));
        Ask &a = *asks.back();
        a.request.user_key = user;
        a.on_progress = [this, &a](const wtl_batch_facts &f) {
            if (f.n_prefilled_tok == 0) started.push_back(&a);
            if (f.n_prefilled_tok + f.n_cached_tok == f.n_prompt_tok) read.push_back(&a);
        };
        b.submit(a);
        return a;
    }
    Ask &add(const char *user, int n_prompt, int max_tokens = 1) { return add(user, random_tokens(rng, n_prompt), max_tokens); }
    static int place(const std::vector<const Ask *> &in, const Ask &a) { return (int)(std::find(in.begin(), in.end(), &a) - in.begin()); }
    uint64_t n_read() { return b.state().n_prompt_tok; }
};

TEST(BatchTurn, AShortPromptIsReadBeforeTheRestOfALongOneThatRuns) {
    Batch b(small(engine_of("llama"), 4, 512, 32));
    Crowd c(b);
    Ask &large = c.add("", 300);
    b.step();
    EXPECT_EQ(large.facts.n_prefilled_tok, 32);
    Ask &small_one = c.add("", 20);
    b.step();
    EXPECT_EQ(small_one.replies[0].tokens.size(), 1u); // its whole prompt
    EXPECT_EQ(large.facts.n_prefilled_tok, 44);        // what was left of the step
    b.drain();
}

TEST(BatchTurn, ThoseThatWaitStartByWhatIsLeftToRead) {
    Batch b(small(engine_of("llama"), 2, 256, 64));
    Crowd c(b);
    Ask &first = c.add("", 100, 8);
    b.drain();
    Tokens next = first.prompt;
    next.insert(next.end(), first.replies[0].tokens.begin(), first.replies[0].tokens.end());
    const Tokens words = random_tokens(c.rng, 12);
    next.insert(next.end(), words.begin(), words.end());
    Ask &busy = c.add("", random_tokens(c.rng, 5), 3, 2); // takes both places
    b.step();
    Ask &middle = c.add("", 60), &shorter = c.add("", 30), &turn = c.add("", next), &tiny = c.add("", 2); // turn: 120 tokens, 13 not cached
    b.drain();
    EXPECT_EQ(c.started, (std::vector<const Ask *>{&first, &busy, &tiny, &turn, &shorter, &middle}));
    EXPECT_GT(turn.last_facts.n_cached_tok, 100);
}

// A long prompt that begins like a short one is hurried on as far as the short one needs it.
TEST(BatchTurn, WhoWaitsForAPrefixLendsItsPlaceToTheOneThatReadsIt) {
    Batch b(small(engine_of("llama"), 4, 512, 32));
    Crowd c(b);
    Tokens head = random_tokens(c.rng, 96), tail = random_tokens(c.rng, 200);
    Tokens prompt = head;
    prompt.insert(prompt.end(), tail.begin(), tail.end());
    Ask &maker = c.add("", prompt);
    b.step();
    Ask &middle = c.add("", 120);
    head.insert(head.end(), 10, 7);
    Ask &waits = c.add("", head);
    b.drain();
    EXPECT_EQ(c.read, (std::vector<const Ask *>{&waits, &middle, &maker}));
    EXPECT_EQ(waits.last_facts.n_prefilled_tok, 10);
}

TEST(BatchTurn, OfEqualPromptsTheOlderGoesFirst) {
    Batch b(small(engine_of("llama"), 4, 256, 16));
    Crowd c(b);
    std::vector<const Ask *> want;
    for (int i = 0; i < 10; i++) want.push_back(&c.add("", 40));
    b.drain();
    EXPECT_EQ(c.read, want);
}

TEST(BatchTurn, AmongUsersServedEquallyTheShorterGoesFirst) {
    Batch b(small(engine_of("llama"), 4, 256, 16));
    Crowd c(b);
    Ask &large = c.add("a", 60), &small_one = c.add("b", 16);
    b.step();
    EXPECT_EQ(small_one.replies[0].tokens.size(), 1u);
    EXPECT_EQ(large.facts.n_prefilled_tok, 0);
    b.drain();
}

// A user who always has short prompts does not take more than an equal share from one with a long prompt.
TEST(BatchTurn, ShortPromptsBuyNoMoreThanAShare) {
    Batch b(small(engine_of("llama"), 4, 512, 32));
    Crowd c(b);
    Ask &large = c.add("long", 450);
    const uint64_t before = c.n_read();
    while (large.replies[0].tokens.empty()) {
        for (int i = 0; i < 3; i++) c.add("short", 12);
        b.step();
        const int of_long = large.facts.n_prefilled_tok, of_short = (int)(c.n_read() - before) - of_long;
        ASSERT_LE(of_short, of_long + 2 * 64) << "of the long prompt";
    }
    EXPECT_GT(c.n_read() - before, 700u); // the others were not starved either
    b.drain();
}

// The promise of batch_turn.c: 4 rows for each of its own and of older ones, and four turns.
struct Old {
    int n_prompt, n_before; // of it; of an older one of the same user
};
class BatchAging : public testing::TestWithParam<Old> {};

TEST_P(BatchAging, ALongPromptIsReadInBoundedTimeWhateverArrives) {
    const Old p = GetParam();
    const int n_batch = 32;
    wtl_batch_options o = small(engine_of("llama"), 8, 512, n_batch);
    Batch b(o);
    Crowd c(b);
    const Ask *before = p.n_before ? &c.add("", p.n_before) : nullptr;
    Ask &old = c.add("", p.n_prompt);
    const uint64_t at = c.n_read();
    int passed = 0;
    while (old.replies[0].tokens.empty()) {
        for (int i = 0; i < 3; i++) c.add("", 15); // more than a step reads
        b.step();
        ASSERT_LE(c.n_read() - at, 4u * (unsigned)(p.n_prompt + p.n_before) + 4 * 64 + n_batch) << old.facts.n_prefilled_tok;
        passed = (int)c.read.size();
    }
    EXPECT_GT(15 * passed, 2 * (p.n_prompt + p.n_before)); // and the short ones did pass it
    if (before) {
        EXPECT_LT(Crowd::place(c.read, *before), Crowd::place(c.read, old));
    }
    b.drain();
}

INSTANTIATE_TEST_SUITE_P(Some, BatchAging, testing::Values(Old{100, 0}, Old{450, 0}, Old{200, 300}),
                         [](const auto &info) { return std::to_string(info.param.n_prompt) + "_behind_" + std::to_string(info.param.n_before); });

// Where places are what is scarce, tiny prompts pass a long one that waits at most twice n_parallel times.
TEST(BatchTurn, ALongPromptThatWaitsForAPlaceIsPassedOnlySoOften) {
    const int n_parallel = 3;
    Batch b(small(engine_of("llama"), n_parallel, 256, 64));
    Crowd c(b);
    for (int i = 0; i < n_parallel; i++) c.add("", 2, 20 + i);
    b.step();
    Ask &old = c.add("", 150);
    while (Crowd::place(c.started, old) == (int)c.started.size()) {
        c.add("", 2, 4);
        c.add("", 2, 5);
        ASSERT_TRUE(b.step());
        ASSERT_LE((int)c.started.size(), n_parallel + 2 * n_parallel + 1);
    }
    EXPECT_EQ(Crowd::place(c.started, old), n_parallel + 2 * n_parallel);
    b.drain();
}

// Another user's prompts do not count as passing: a full share is all that patience buys.
TEST(BatchTurn, WaitingLongBuysNoPlaceFromUsersServedLess) {
    Batch b(small(engine_of("llama"), 1, 256, 64));
    Crowd c(b);
    c.add("greedy", 200, 50);
    b.drain();
    Ask &busy = c.add("greedy", 150, 3);
    b.step();
    Ask &waits = c.add("greedy", 150, 3);
    std::vector<const Ask *> others;
    for (int i = 0; i < 8; i++) others.push_back(&c.add("modest", 2, 1));
    b.drain();
    EXPECT_LT(Crowd::place(c.started, *others.back()), Crowd::place(c.started, waits)) << Crowd::place(c.started, busy);
}

TEST(BatchTurn, PromptsGetTheLeastOfRowsHoweverLateTheDecodesAre) {
    wtl_batch_options o = small(engine_of("llama"), 4, 512, 64);
    o.max_itl_ns = 1; // never kept
    Batch b(o);
    Crowd c(b);
    for (int i = 0; i < 3; i++) c.add("", 3, 200);
    b.step();
    Ask &large = c.add("", 300);
    for (int before = 0; large.replies[0].tokens.empty(); before = large.facts.n_prefilled_tok) {
        b.step();
        ASSERT_GE(large.facts.n_prefilled_tok, std::min(300, before + 16));
    }
    b.drain();
}

} // namespace
