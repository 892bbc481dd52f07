// Requests whose owners stop taking tokens: they give up their place when others wait, and lose nothing.
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <thread>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

// A token of a reply a step: the tests count them.
wtl_batch_options plain(const Engine &engine, int n_parallel, int n_ctx = 128, int n_batch = 64) {
    wtl_batch_options o = small(engine, n_parallel, n_ctx, n_batch);
    o.n_draft = -1;
    return o;
}

bool hold(Batch &b, const Ask &a, bool held) { return wtl_batch_hold(b.b, a.id, held); }

std::unique_ptr<Ask> sampled(std::mt19937 &rng, int n_prompt, int max_tokens, int n_choices = 1) {
    std::unique_ptr<Ask> a(new Ask(random_tokens(rng, n_prompt), max_tokens, n_choices));
    a->request.sampling.temperature = 1.0f;
    a->request.sampling.seed = 7;
    a->request.sampling.repeat_penalty = 1.2f;
    a->request.sampling.penalty_last_n = 64;
    return a;
}

void steps(Batch &b, int n) {
    for (int i = 0; i < n; i++) b.step();
}

TEST(BatchHold, AHeldRequestGoesOnWhenItCostsNobodyAnything) {
    const Engine &engine = engine_of("llama");
    Batch b(plain(engine, 2));
    std::mt19937 rng(1);
    Ask held(random_tokens(rng, 10), 20), other(random_tokens(rng, 10), 20);
    b.submit(held);
    steps(b, 3);
    EXPECT_TRUE(hold(b, held, true));
    steps(b, 3);
    EXPECT_EQ(held.replies[0].tokens.size(), 6u) << "nobody else is there";
    b.submit(other);
    steps(b, 1); // carries a prompt and no other reply
    steps(b, 10);
    EXPECT_EQ(other.replies[0].tokens.size(), 11u);
    EXPECT_EQ(held.replies[0].tokens.size(), 7u) << "the other's steps are its own";
    b.drain();
    EXPECT_TRUE(held.over);
    EXPECT_TRUE(other.over);
    EXPECT_EQ(b.state().n_pauses, 0u);
    EXPECT_FALSE(hold(b, held, false)) << "it is gone";
}

// Temperature, penalties and seeds: the sampler's state goes through the pause, and the KV is found again or read again.
TEST(BatchHold, APauseGivesThePlaceAtOnceAndChangesNoToken) {
    for (const char *arch : {"llama", "gemma3"})
        for (bool cache : {true, false}) {
            const Engine &engine = engine_of(arch);
            wtl_batch_options o = plain(engine, 1);
            o.no_prefix_cache = !cache;
            Batch b(o);
            std::mt19937 rng(2);
            auto held = sampled(rng, 37, 60);
            Ask newcomer(random_tokens(rng, 10), 5);
            b.submit(*held);
            steps(b, 21);
            const size_t before = held->replies[0].tokens.size();
            b.submit(newcomer);
            steps(b, 2);
            EXPECT_TRUE(newcomer.replies[0].tokens.empty()) << "the place is taken";
            EXPECT_TRUE(hold(b, *held, true));
            steps(b, 1);
            EXPECT_EQ(newcomer.replies[0].tokens.size(), 1u) << "the next step is the newcomer's";
            EXPECT_EQ(b.state().n_paused, 1);
            b.drain();
            EXPECT_TRUE(newcomer.over);
            EXPECT_EQ(held->replies[0].tokens.size(), before + 2) << "nobody takes its tokens";
            EXPECT_TRUE(hold(b, *held, false));
            b.drain();
            EXPECT_EQ(held->replies[0].tokens, alone(engine, *held, 0, 128)) << arch << cache;
            const wtl_batch_facts &f = held->last_facts;
            EXPECT_EQ(f.n_pauses, 1);
            EXPECT_EQ(f.n_cached_tok, 0);
            EXPECT_EQ(f.n_prefilled_tok, 37);
            EXPECT_EQ(f.n_decoded_tok, 60);
            if (cache) EXPECT_LE(f.n_reread_tok, 16); // a block
            else EXPECT_EQ(f.n_reread_tok, 37 + (int)before + 2 - 1);
            EXPECT_EQ(b.state().n_reread_tok, (uint64_t)f.n_reread_tok);
            EXPECT_EQ(b.state().n_prompt_tok, 47u) << "what is read again is no prompt";
            EXPECT_EQ(b.state().n_paused, 0);
        }
}

TEST(BatchHold, WhatOthersPushedOutOfTheCacheIsReadAgain) {
    const Engine &engine = engine_of("llama");
    Batch b(plain(engine, 1, 128));
    std::mt19937 rng(3);
    auto held = sampled(rng, 40, 50);
    b.submit(*held);
    steps(b, 10);
    hold(b, *held, true);
    for (int i = 0; i < 4; i++) {
        Ask large(random_tokens(rng, 100), 28);
        b.submit(large);
        b.drain();
        EXPECT_TRUE(large.over);
    }
    EXPECT_GT(b.state().kv.evicted, 0u);
    hold(b, *held, false);
    b.drain();
    EXPECT_GT(held->last_facts.n_reread_tok, 32);
    EXPECT_EQ(held->replies[0].tokens, alone(engine, *held, 0, 128));
}

TEST(BatchHold, EveryChoiceGoesOnWhereItWas) {
    for (bool cache : {true, false}) {
        const Engine &engine = engine_of("llama");
        wtl_batch_options o = plain(engine, 3);
        o.no_prefix_cache = !cache;
        Batch b(o);
        std::mt19937 rng(4);
        auto held = sampled(rng, 21, 40, 3);
        held->on_token = [&](const wtl_batch_token &t) { return t.choice != 1 || held->replies[1].tokens.size() < 4; }; // one ends early
        Ask newcomer(random_tokens(rng, 10), 5, 2);
        b.submit(*held);
        steps(b, 12);
        b.submit(newcomer);
        hold(b, *held, true);
        steps(b, 1);
        EXPECT_EQ(b.state().n_paused, 1) << "two places are wanted and one is free";
        b.drain();
        EXPECT_TRUE(newcomer.over);
        hold(b, *held, false);
        b.drain();
        for (int c : {0, 2}) EXPECT_EQ(held->replies[c].tokens, alone(engine, *held, c, 128)) << c << cache;
        EXPECT_EQ(held->replies[1].tokens.size(), 4u);
    }
}

// Choices that share their prompt's blocks hold them apart when they have read it again: that much is set aside before they go on.
TEST(BatchHold, WhatWasSharedIsSetAsideForEachAfterAPause) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = plain(engine, 3, 128, 32);
    wtl_session_options so = {};
    so.n_ctx = 256; // sixteen blocks
    so.n_seq_max = 3;
    so.n_batch = 32;
    so.n_logits_max = 3;
    wtl_memory memory;
    ASSERT_EQ(wtl_session_memory(engine.e, &so, &memory, nullptr), WTL_OK);
    o.kv_bytes = memory.kv_bytes;
    o.no_prefix_cache = true;
    Batch b(o);
    std::mt19937 rng(12);
    auto held = sampled(rng, 96, 20, 2);         // 8 and 2 blocks, 16 after a pause
    Ask other(random_tokens(rng, 60), 36);       // 6
    Ask newcomer(random_tokens(rng, 10), 4);     // 1
    b.submit(other);
    b.submit(*held);
    steps(b, 12);
    EXPECT_EQ(b.state().n_running, 2);
    hold(b, *held, true);
    b.submit(newcomer);
    steps(b, 1);
    EXPECT_EQ(b.state().n_paused, 1);
    hold(b, *held, false);
    b.drain();
    EXPECT_TRUE(newcomer.over);
    EXPECT_EQ(other.replies[0].tokens, alone(engine, other, 0, 128));
    for (int c : {0, 1}) EXPECT_EQ(held->replies[c].tokens, alone(engine, *held, c, 128)) << held->replies[c].error;
}

TEST(BatchHold, AsManyPauseAsRoomIsNeededFor) {
    const Engine &engine = engine_of("llama");
    Batch b(plain(engine, 4));
    std::mt19937 rng(5);
    std::vector<std::unique_ptr<Ask>> held;
    for (int i = 0; i < 4; i++) {
        held.push_back(sampled(rng, 10, 60));
        b.submit(*held[i]);
    }
    steps(b, 4);
    for (auto &a : held) hold(b, *a, true);
    Ask newcomer(random_tokens(rng, 10), 5, 2);
    b.submit(newcomer);
    steps(b, 1);
    EXPECT_EQ(b.state().n_paused, 2);
    EXPECT_EQ(b.state().n_running, 3);
    b.drain();
    for (auto &a : held) hold(b, *a, false);
    b.drain();
    for (auto &a : held) EXPECT_EQ(a->replies[0].tokens, alone(engine, *a, 0, 128));
}

TEST(BatchHold, AReadersPromptIsNotPaused) {
    const Engine &engine = engine_of("llama");
    Batch b(plain(engine, 1, 128, 16));
    std::mt19937 rng(6);
    Ask held(random_tokens(rng, 100), 20), newcomer(random_tokens(rng, 10), 5);
    b.submit(held);
    b.step();
    b.submit(newcomer); // shorter: it would go first, were there a place
    hold(b, held, true);
    steps(b, 3);
    EXPECT_EQ(b.state().n_paused, 0);
    EXPECT_LT(held.facts.n_prefilled_tok, 100);
    b.drain();
    EXPECT_TRUE(newcomer.over);
    hold(b, held, false);
    b.drain();
    EXPECT_EQ(held.last_facts.n_pauses, 1);
    EXPECT_EQ(held.replies[0].tokens, alone(engine, held, 0, 128));
}

TEST(BatchHold, PausedOnesAreCancelledFoundAndClosed) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(7);
    Ask first(random_tokens(rng, 10), 60), second(random_tokens(rng, 10), 60), newcomer(random_tokens(rng, 10), 3);
    {
        Batch b(plain(engine, 2));
        b.submit(first);
        b.submit(second);
        steps(b, 4);
        hold(b, first, true);
        hold(b, second, true);
        Ask wide(random_tokens(rng, 10), 3, 2);
        b.submit(wide);
        b.drain();
        EXPECT_EQ(b.state().n_paused, 2);
        wtl_batch_facts f;
        EXPECT_TRUE(wtl_batch_facts_of(b.b, first.id, &f));
        EXPECT_EQ(f.n_pauses, 1);
        EXPECT_TRUE(wtl_batch_cancel(b.b, first.id));
        b.step();
        EXPECT_EQ(first.replies[0].finish, WTL_FINISH_CANCELLED);
        EXPECT_EQ(b.state().n_paused, 1);
    }
    EXPECT_EQ(second.replies[0].finish, WTL_FINISH_CANCELLED) << "the batch was closed";
}

// Paused ones are no part of the queue: its bound is for those that arrive.
TEST(BatchHold, ThePausedDoNotFillTheQueue) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = plain(engine, 1);
    o.n_queue = 2;
    Batch b(o);
    std::mt19937 rng(8);
    std::vector<std::unique_ptr<Ask>> held;
    for (int i = 0; i < 6; i++) {
        held.push_back(sampled(rng, 10, 30));
        b.submit(*held[i]);
        steps(b, 3);
        hold(b, *held[i], true);
    }
    EXPECT_EQ(b.state().n_paused, 5);
    for (auto &a : held) hold(b, *a, false);
    EXPECT_EQ(b.state().n_waiting, 5);
    Ask newcomer(random_tokens(rng, 10), 3);
    EXPECT_EQ(b.try_submit(newcomer), WTL_ERR_BUSY);
    EXPECT_TRUE(wtl_batch_cancel(b.b, held[5]->id));
    for (int i = 1; i < 4; i++) EXPECT_TRUE(wtl_batch_cancel(b.b, held[i]->id)); // more than the queue holds
    b.drain();
    for (int i : {0, 4}) EXPECT_EQ(held[i]->replies[0].tokens, alone(engine, *held[i], 0, 128)) << i;
}

// Holding and letting go at random: every token is the one that it would have been.
TEST(BatchHold, ManyAtRandomLoseNothing) {
    for (uint32_t seed : {1u, 2u, 3u, 4u, 5u, 6u}) {
        const char *arch = seed % 2 ? "llama" : "gemma3";
        const Engine &engine = engine_of(arch);
        wtl_batch_options o = small(engine, 3, 128, 32);
        o.no_prefix_cache = seed == 5;
        Batch b(o);
        std::mt19937 rng(seed);
        std::vector<std::unique_ptr<Ask>> asks;
        for (int i = 0; i < 14; i++) {
            asks.push_back(sampled(rng, 1 + (int)(rng() % 60), 1 + (int)(rng() % 50), 1 + (int)(rng() % 3)));
            const std::string user = "user " + std::to_string(rng() % 4);
            asks[i]->request.user_key = user.c_str();
            b.submit(*asks[i]);
            asks[i]->request.user_key = nullptr;
            for (int k = (int)(rng() % 8); k > 0; k--) {
                hold(b, *asks[rng() % asks.size()], rng() % 2);
                b.step();
            }
        }
        for (int left = 1, round = 0; left; round++) {
            ASSERT_LT(round, 5000);
            left = 0;
            for (auto &a : asks) {
                left += !a->over;
                hold(b, *a, rng() % 4 == 0);
            }
            b.step();
        }
        EXPECT_GT(b.state().n_pauses, 5u) << seed;
        for (size_t i = 0; i < asks.size(); i++)
            for (size_t c = 0; c < asks[i]->replies.size(); c++)
                EXPECT_EQ(asks[i]->replies[c].tokens, alone(engine, *asks[i], (int)c, 128)) << "seed " << seed << ", request " << i << ", choice " << c;
        EXPECT_EQ(b.state().kv.n_used, 0u);
    }
}

// As a server does it: readers that stop and go on, and newcomers, on threads of their own.
TEST(BatchHold, AnyThreadHoldsAndLetsGo) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 2, 128, 32));
    std::mt19937 rng(10);
    std::vector<std::unique_ptr<Ask>> asks;
    for (int i = 0; i < 8; i++) {
        asks.push_back(sampled(rng, 5 + (int)(rng() % 40), 30));
        b.submit(*asks[i]);
    }
    std::vector<uint64_t> ids;
    for (auto &a : asks) ids.push_back(a->id);
    std::atomic<bool> over{false};
    std::thread readers([&] {
        std::mt19937 own(11);
        while (!over) {
            wtl_batch_hold(b.b, ids[own() % ids.size()], own() % 2);
            wtl_batch_state_of(b.b, nullptr, 0, nullptr);
        }
        for (uint64_t id : ids) wtl_batch_hold(b.b, id, false);
    });
    for (int i = 0; i < 300; i++) {
        b.step();
        std::this_thread::sleep_for(std::chrono::microseconds(100)); // so that the other thread has its turns
    }
    over = true;
    readers.join();
    b.drain();
    EXPECT_GT(b.state().n_pauses, 0u);
    for (auto &a : asks) EXPECT_EQ(a->replies[0].tokens, alone(engine, *a, 0, 128));
}

} // namespace
