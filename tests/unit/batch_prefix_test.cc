// What a batch makes of prefixes: next turns, prompts in common, answers made again, with the same tokens as without.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

Tokens operator+(Tokens a, const Tokens &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

TEST(BatchPrefix, TheNextTurnOfAChatPrefillsOnlyWhatIsNew) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        Batch b(small(engine, 2, 256));
        std::mt19937 rng(1);
        Ask first(random_tokens(rng, 50), 20);
        b.submit(first);
        b.drain();
        EXPECT_EQ(first.last_facts.n_cached_tok, 0);
        Ask second(first.prompt + first.replies[0].tokens + random_tokens(rng, 15), 20);
        b.submit(second);
        b.drain();
        const int held = 69; // all but the last token chosen, which was never fed
        EXPECT_GE(second.last_facts.n_cached_tok, held / 16 * 16) << arch;
        EXPECT_LE(second.last_facts.n_cached_tok, held) << arch;
        EXPECT_EQ(second.last_facts.n_cached_tok + second.last_facts.n_prefilled_tok, 85);
        EXPECT_EQ(second.replies[0].tokens, alone(engine, second, 0, 256)) << arch;
        EXPECT_EQ(b.state().n_cached_tok, (uint64_t)second.last_facts.n_cached_tok);
        EXPECT_EQ(b.state().n_prompt_tok, 50u + (uint64_t)second.last_facts.n_prefilled_tok);
        EXPECT_GT(b.state().kv.n_cached, 0u);
    }
}

TEST(BatchPrefix, APromptInCommonIsPrefilledOnceEvenWhenAllArriveTogether) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 8, 256, 512));
    std::mt19937 rng(2);
    const Tokens system = random_tokens(rng, 96);
    std::vector<std::unique_ptr<Ask>> asks;
    for (int i = 0; i < 8; i++) {
        asks.emplace_back(new Ask(system + random_tokens(rng, 10), 5));
        const std::string user = "user " + std::to_string(i);
        asks[i]->request.user_key = user.c_str();
        b.submit(*asks[i]);
        asks[i]->request.user_key = nullptr;
    }
    b.drain();
    int prefilled = 0;
    for (auto &a : asks) {
        prefilled += a->last_facts.n_prefilled_tok;
        EXPECT_EQ(a->replies[0].tokens, alone(engine, *a, 0, 256));
    }
    EXPECT_EQ(prefilled, 96 + 8 * 10);
}

TEST(BatchPrefix, WhoWaitsForAPrefixIsNotStuckWhenItsMakerLeaves) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 4, 256, 16));
    std::mt19937 rng(3);
    const Tokens system = random_tokens(rng, 128);
    Ask maker(system + random_tokens(rng, 10), 5), waits(system + random_tokens(rng, 10), 5);
    maker.request.user_key = "a";
    waits.request.user_key = "b";
    b.submit(maker);
    b.submit(waits);
    b.step();
    b.step();
    EXPECT_EQ(b.state().n_running, 1);
    EXPECT_EQ(maker.facts.n_prefilled_tok, 32);
    EXPECT_TRUE(wtl_batch_cancel(b.b, maker.id));
    b.drain();
    EXPECT_EQ(waits.last_facts.n_cached_tok, 32); // what there was
    EXPECT_EQ(waits.replies[0].tokens, alone(engine, waits, 0, 256));
}

TEST(BatchPrefix, SwitchedOffNothingIsFound) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = small(engine, 2, 256);
    o.no_prefix_cache = true;
    Batch b(o);
    std::mt19937 rng(4);
    const Tokens prompt = random_tokens(rng, 80);
    Ask one(prompt, 5), two(prompt, 5), three(prompt, 5);
    b.submit(one);
    b.submit(two);
    b.drain();
    b.submit(three);
    b.drain();
    EXPECT_EQ(b.state().n_cached_tok, 0u);
    EXPECT_EQ(b.state().n_prompt_tok, 240u);
    EXPECT_EQ(one.replies[0].tokens, three.replies[0].tokens);
}

TEST(BatchPrefix, TheCacheNeverTakesWhatIsSetAsideForWhoRuns) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        wtl_batch_options o = small(engine, 3, 128, 32);
        wtl_session_options so = {};
        so.n_ctx = 256;
        so.n_seq_max = 3;
        so.n_batch = 32;
        so.n_logits_max = 3;
        wtl_memory memory;
        ASSERT_EQ(wtl_session_memory(engine.e, &so, &memory, nullptr), WTL_OK);
        o.kv_bytes = memory.kv_bytes;
        Batch b(o);
        std::mt19937 rng(5);
        std::vector<std::unique_ptr<Ask>> asks;
        std::vector<Tokens> chats(6, Tokens());
        for (int round = 0; round < 12; round++) {
            const size_t first = asks.size();
            for (int i = 0; i < 3; i++) {
                Tokens &chat = chats[rng() % chats.size()];
                if (chat.size() > 80) chat.clear();
                chat = chat + random_tokens(rng, 1 + (int)(rng() % 30));
                asks.emplace_back(new Ask(chat, 1 + (int)(rng() % 15), 1 + (int)(rng() % 2)));
                b.submit(*asks.back());
            }
            b.drain();
            for (size_t i = first; i < asks.size(); i++)
                for (size_t c = 0; c < asks[i]->replies.size(); c++) {
                    ASSERT_EQ(asks[i]->replies[c].finish, WTL_FINISH_LENGTH) << asks[i]->replies[c].error;
                    ASSERT_EQ(asks[i]->replies[c].tokens, alone(engine, *asks[i], (int)c, 128)) << arch << " round " << round;
                }
        }
        EXPECT_GT(b.state().n_cached_tok, 0u);
        EXPECT_GT(b.state().kv.evicted, 0u);
    }
}

TEST(BatchPrefix, WhatWasSavedIsFoundByAnotherBatch) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(6);
    Ask one(random_tokens(rng, 80), 5), two(one.prompt, 5);
    char path[] = "/tmp/wattle_batch_XXXXXX";
    const int file = mkstemp(path);
    ASSERT_GE(file, 0);
    close(file);
    uint64_t saved = 0, loaded = 0;
    {
        Batch b(small(engine, 2, 256));
        b.submit(one);
        b.drain();
        one.batch = nullptr;
        ASSERT_EQ(wtl_batch_save(b.b, path, &saved, &b.err), WTL_OK) << b.err.message;
    }
    Batch b(small(engine, 2, 256));
    ASSERT_EQ(wtl_batch_load(b.b, path, &loaded, &b.err), WTL_OK) << b.err.message;
    remove(path);
    EXPECT_EQ(saved, loaded);
    EXPECT_GE(loaded, 80u);
    b.submit(two);
    b.drain();
    EXPECT_GE(two.last_facts.n_cached_tok, 64);
    EXPECT_EQ(two.replies[0].tokens, one.replies[0].tokens);
}

} // namespace
