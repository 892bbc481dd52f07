// Who runs when: turns of users, reservations, bounds, cancelling, what callbacks may do.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

// Requests that note in which order they left the queue.
struct Line {
    std::vector<std::unique_ptr<Ask>> asks;
    std::vector<int> started; // indices
    std::mt19937 rng{5};
    Ask &add(Batch &b, const char *user, int n_prompt, int max_tokens, int n_choices = 1) {
        asks.emplace_back(new Ask(random_tokens(rng, n_prompt), max_tokens, n_choices));
        Ask &a = *asks.back();
        const int index = (int)asks.size() - 1;
        a.on_progress = [this, index](const wtl_batch_facts &f) {
            if (f.n_prefilled_tok == 0) started.push_back(index);
        };
        a.request.user_key = user;
        b.submit(a);
        return a;
    }
    int place(int index) const { return (int)(std::find(started.begin(), started.end(), index) - started.begin()); }
};

TEST(BatchQueue, AUserWithOneRequestIsNextAfterOneWithTwenty) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 2));
    Line line;
    for (int i = 0; i < 20; i++) line.add(b, "many", 10, 6);
    for (int i = 0; i < 3; i++) b.step();
    line.add(b, "one", 10, 6);
    const size_t before = line.started.size();
    EXPECT_EQ(before, 2u);
    b.drain();
    EXPECT_EQ(line.place(20), (int)before);
    for (int i = 1; i < 20; i++) EXPECT_LT(line.place(i - 1), line.place(i)); // within a user first come first served
}

TEST(BatchQueue, TurnsAreCountedInTokens) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 1, 256, 32));
    Line line;
    for (int i = 0; i < 4; i++) line.add(b, "long", 200, 1); // 0..3
    for (int i = 0; i < 16; i++) line.add(b, "short", 49, 1); // 4..19: together about as much
    b.drain();
    // Between two long prompts about four short ones.
    for (int i = 1; i < 4; i++) {
        EXPECT_GE(line.place(i) - line.place(i - 1), 4) << i;
        EXPECT_LE(line.place(i) - line.place(i - 1), 6) << i;
    }
}

TEST(BatchQueue, PromptsOfTwoUsersShareASteps) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 4, 512, 128));
    Line line;
    Ask &giant = line.add(b, "giant", 500, 2);
    Ask &small_one = line.add(b, "small", 60, 2);
    b.step();
    EXPECT_EQ(small_one.replies[0].tokens.size(), 1u); // its whole prompt went into the first step
    EXPECT_GT(giant.facts.n_prefilled_tok, 0);
    b.drain();
    EXPECT_EQ(giant.facts.n_prefilled_tok + giant.facts.n_cached_tok, 500);
}

TEST(BatchQueue, ALargeRequestIsPassedOnlySoOften) {
    const Engine &engine = engine_of("llama");
    const int n_parallel = 4;
    Batch b(small(engine, n_parallel, 128));
    Line line;
    for (int i = 0; i < 4; i++) line.add(b, "crowd", 8, 3 + i); // places get free one at a time
    b.step();
    line.add(b, "large", 8, 10, n_parallel); // index 4: needs all places at once
    for (int i = 0; i < 60; i++) line.add(b, "crowd", 8, 3 + i % 5);
    b.drain();
    EXPECT_GT(line.place(4), 4);                   // some pass it, the places are not left empty
    EXPECT_LE(line.place(4), 4 + 2 * n_parallel + n_parallel);
    for (auto &r : line.asks[4]->replies) EXPECT_EQ(r.tokens.size(), 10u);
}

TEST(BatchQueue, ReservationsHoldSoThatNothingThatRunsFails) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        wtl_batch_options o = small(engine, 6, 128, 24);
        wtl_session_options so = {};
        so.n_ctx = 128 + 32;
        so.n_seq_max = 6;
        so.n_batch = 24;
        so.n_logits_max = 6;
        wtl_memory memory;
        ASSERT_EQ(wtl_session_memory(engine.e, &so, &memory, nullptr), WTL_OK);
        o.kv_bytes = memory.kv_bytes;
        Batch b(o);
        Line line;
        for (int i = 0; i < 40; i++) line.add(b, i % 3 ? "a" : "b", 1 + (int)(line.rng() % 100), line.rng() % 3 ? 1 + (int)(line.rng() % 28) : 0, 1);
        b.drain();
        for (auto &a : line.asks) {
            const Reply &r = a->replies[0];
            EXPECT_TRUE(r.finish == WTL_FINISH_LENGTH || r.finish == WTL_FINISH_CONTEXT) << r.finish << " " << r.error;
            if (!a->request.max_tokens) {
                EXPECT_EQ((int)r.tokens.size(), 128 - (int)a->prompt.size() + 1);
            }
        }
    }
}

TEST(BatchQueue, AFullQueueIsBusyAndOneThatEndedMakesRoom) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = small(engine, 1);
    o.n_queue = 3;
    Batch b(o);
    std::mt19937 rng(1);
    Ask a1(random_tokens(rng, 5), 4), a2(random_tokens(rng, 5), 4), a3(random_tokens(rng, 5), 4), a4(random_tokens(rng, 5), 4);
    b.submit(a1);
    b.submit(a2);
    b.submit(a3);
    EXPECT_EQ(b.state().n_waiting, 3);
    EXPECT_EQ(b.try_submit(a4), WTL_ERR_BUSY);
    EXPECT_STREQ(b.err.message, "3 requests are waiting, and no more may");
    b.step();
    EXPECT_EQ(b.state().n_waiting, 2);
    EXPECT_EQ(b.state().n_running, 1);
    EXPECT_GT(b.state().wait_estimate_ns, 0u);
    b.submit(a4);
    b.drain();
    EXPECT_TRUE(a1.over && a2.over && a3.over && a4.over);
    EXPECT_EQ(b.state().wait_estimate_ns, 0u);
}

TEST(BatchQueue, CancellingTakesEffectBeforeTheNextStep) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 1, 128, 16));
    std::mt19937 rng(2);
    Ask queued(random_tokens(rng, 5), 4), running(random_tokens(rng, 60), 50), other(random_tokens(rng, 5), 4);
    b.submit(running);
    b.step(); // a first chunk of 16 tokens
    b.submit(queued);
    EXPECT_EQ(running.facts.n_prefilled_tok, 16);
    EXPECT_TRUE(wtl_batch_cancel(b.b, queued.id)); // in the queue
    EXPECT_FALSE(queued.over);
    b.step();
    EXPECT_TRUE(queued.over);
    EXPECT_EQ(queued.replies[0].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(queued.last_facts.energy, 0u);
    EXPECT_EQ(queued.last_facts.started_ns, 0u);
    EXPECT_FALSE(wtl_batch_cancel(b.b, queued.id));
    EXPECT_EQ(running.facts.n_prefilled_tok, 32);
    EXPECT_TRUE(wtl_batch_cancel(b.b, running.id)); // in prefill
    EXPECT_TRUE(b.step());
    EXPECT_EQ(running.replies[0].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(running.facts.n_prefilled_tok, 32);
    EXPECT_FALSE(b.step());
    b.submit(other);
    b.step();
    b.step();
    EXPECT_EQ(other.replies[0].tokens.size(), 2u);
    EXPECT_TRUE(wtl_batch_cancel(b.b, other.id)); // in decode
    EXPECT_TRUE(b.step());
    EXPECT_EQ(other.replies[0].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(other.replies[0].tokens.size(), 2u);
    EXPECT_FALSE(wtl_batch_cancel(b.b, other.id));
    EXPECT_FALSE(wtl_batch_cancel(b.b, 12345));
    EXPECT_EQ(b.state().n_running, 0);
}

TEST(BatchQueue, CallbacksMaySubmitAndCancel) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = small(engine, 3);
    o.n_draft = -1; // the victim is to outlive the chain: one token a step
    Batch b(o);
    std::mt19937 rng(3);
    std::vector<std::unique_ptr<Ask>> chain;
    Ask victim(random_tokens(rng, 5), 100);
    b.submit(victim);
    std::function<void()> grow = [&] {
        if (chain.size() == 10) {
            EXPECT_TRUE(wtl_batch_cancel(b.b, victim.id));
            return;
        }
        chain.emplace_back(new Ask(random_tokens(rng, 6), 3));
        chain.back()->on_token = [&](const wtl_batch_token &t) {
            if (t.last) grow();
            return true;
        };
        b.submit(*chain.back());
    };
    grow();
    b.drain();
    EXPECT_EQ(chain.size(), 10u);
    EXPECT_EQ(victim.replies[0].finish, WTL_FINISH_CANCELLED);
}

TEST(BatchQueue, ClosingTellsEveryOneWhoIsLeft) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(4);
    Ask running(random_tokens(rng, 5), 50, 2), waiting(random_tokens(rng, 5), 50), late(random_tokens(rng, 5), 5);
    wtl_status refused = WTL_OK;
    {
        Batch b(small(engine, 2));
        b.submit(running);
        b.submit(waiting);
        b.step();
        b.step();
        waiting.on_token = [&](const wtl_batch_token &) {
            uint64_t id;
            refused = wtl_batch_submit(b.b, &late.request, &id, nullptr);
            return true;
        };
        running.batch = waiting.batch = nullptr;
    }
    EXPECT_EQ(running.replies[0].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(running.replies[1].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(waiting.replies[0].finish, WTL_FINISH_CANCELLED);
    EXPECT_EQ(refused, WTL_ERR_CANCELLED);
}

TEST(BatchQueue, SubmittingSaysWhatItDoesNotTake) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 2, 64));
    std::mt19937 rng(6);
    struct Case {
        const char *says;
        wtl_status status;
        std::function<void(wtl_batch_request &)> spoil;
    };
    static const int32_t strange[] = {1, 260};
    const wtl_logit_bias bias[] = {{999, 1}};
    const Case cases[] = {
        {"empty", WTL_ERR_INVALID, [](auto &r) { r.n_tokens = 0; }},
        {"not in the vocabulary", WTL_ERR_INVALID, [](auto &r) { r.tokens = strange, r.n_tokens = 2; }},
        {"65 tokens and the context holds 64", WTL_ERR_LIMIT, [](auto &r) { r.n_tokens = 65; }},
        {"3 choices", WTL_ERR_LIMIT, [](auto &r) { r.n_choices = 3; }},
        {"n_choices -1", WTL_ERR_INVALID, [](auto &r) { r.n_choices = -1; }},
        {"max_tokens", WTL_ERR_INVALID, [](auto &r) { r.max_tokens = -1; }},
        {"n_top_logprobs 21", WTL_ERR_INVALID, [](auto &r) { r.n_top_logprobs = 21; }},
        {"temperature", WTL_ERR_INVALID, [](auto &r) { r.sampling.temperature = -1; }},
        {"bias", WTL_ERR_INVALID, [&](auto &r) { r.sampling.bias = bias, r.sampling.n_bias = 1; }},
        {"counts no joules", WTL_ERR_INVALID, [](auto &r) { r.max_uj = 5; }},
        {"on_token", WTL_ERR_INVALID, [](auto &r) { r.on_token = nullptr; }},
    };
    for (const Case &c : cases) {
        Ask a(random_tokens(rng, 65), 4);
        a.request.n_tokens = 5;
        c.spoil(a.request);
        EXPECT_EQ(b.try_submit(a), c.status) << c.says;
        EXPECT_NE(std::string(b.err.message).find(c.says), std::string::npos) << b.err.message;
    }
    EXPECT_EQ(b.state().n_waiting, 0);
}

TEST(BatchQueue, OpeningSaysHowMuchMemoryOneContextNeeds) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = small(engine, 2, 256);
    o.kv_bytes = 1000;
    wtl_batch *b = nullptr;
    wtl_error err = {};
    EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_ERR_LIMIT);
    EXPECT_EQ(b, nullptr);
    unsigned long long need = 0;
    const char *at = strstr(err.message, ": ");
    ASSERT_TRUE(at && sscanf(at, ": %llu are needed", &need) == 1) << err.message;
    o.kv_bytes = need - 1;
    EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_ERR_LIMIT);
    o.kv_bytes = need;
    EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_batch_n_ctx(b), 256);
    wtl_batch_close(&b);
    o.n_ctx = 513;
    EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_ERR_LIMIT);
    o.n_ctx = 0;
    o.kv_bytes = 0;
    EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_batch_n_ctx(b), 512);
    wtl_batch_close(&b);
    wtl_batch_close(&b);
    wtl_batch_close(nullptr);
}

TEST(BatchQueue, WaitingUsesNoTimeAndEndsWhenThereIsWork) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 1));
    const uint64_t cpu = wtl_cpu_time_ns(), start = wtl_clock_ns();
    wtl_batch_wait(b.b, 100000000);
    EXPECT_GE(wtl_clock_ns() - start, 90000000u);
    EXPECT_LT(wtl_cpu_time_ns() - cpu, 50000000u);
    wtl_batch_wake(b.b);
    wtl_batch_wait(b.b, 60000000000); // returns at once, or this test never ends
    std::mt19937 rng(7);
    Ask a(random_tokens(rng, 5), 2);
    b.submit(a);
    wtl_batch_wait(b.b, 60000000000);
    b.drain();
}

} // namespace
