// Places of several users: who has more than another who waits gives one up, and nothing of its replies changes.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

wtl_batch_options plain(const Engine &engine, int n_parallel) {
    wtl_batch_options o = small(engine, n_parallel, 128, 64);
    o.n_draft = -1; // a token of a reply a step: the tests count them
    return o;
}

struct Users {
    Batch b;
    std::mt19937 rng{1};
    const Engine &engine;
    std::vector<std::unique_ptr<Ask>> asks;
    explicit Users(const Engine &e, wtl_batch_options o) : b(o), engine(e) {}

    Ask &submit(const char *user, int n_prompt, int max_tokens, int n_choices = 1) {
        return submit_text(user, random_tokens(rng, n_prompt), max_tokens, n_choices);
    }
    Ask &submit_text(const char *user, const std::vector<int32_t> &prompt, int max_tokens, int n_choices = 1) {
        asks.emplace_back(new Ask(prompt, max_tokens, n_choices));
        asks.back()->request.user_key = user;
        asks.back()->request.sampling.temperature = 1.0f;
        asks.back()->request.sampling.seed = asks.size();
        b.submit(*asks.back());
        return *asks.back();
    }
    void steps(int n) {
        for (int i = 0; i < n; i++) b.step();
    }
    void expect_replies() {
        for (size_t i = 0; i < asks.size(); i++)
            for (size_t c = 0; c < asks[i]->replies.size(); c++) EXPECT_EQ(asks[i]->replies[c].tokens, alone(engine, *asks[i], (int)c, 128)) << i << ", choice " << c;
    }
};

size_t n_told(const Ask &a) { return a.replies[0].tokens.size(); }

TEST(BatchPlaces, WhoWaitsGetsOneOfAUserWithMore) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        Users u(engine, plain(engine, 4));
        for (int i = 0; i < 6; i++) u.submit("many", 10 + i, 60);
        u.steps(8);
        ASSERT_EQ(u.b.state().n_running, 4);
        Ask &one = u.submit("one", 12, 5);
        u.steps(1);
        EXPECT_EQ(n_told(one), 1u) << "its prompt is read at once";
        EXPECT_EQ(u.b.state().n_pauses, 1u);
        const size_t youngest = n_told(*u.asks[3]), oldest = n_told(*u.asks[0]);
        u.steps(4);
        EXPECT_TRUE(one.over);
        EXPECT_EQ(n_told(*u.asks[3]), youngest) << "the youngest has yielded";
        EXPECT_EQ(n_told(*u.asks[0]), oldest + 4);
        u.steps(2);
        EXPECT_GT(n_told(*u.asks[3]), youngest) << "and goes on before those that never ran";
        u.b.drain();
        u.expect_replies();
        EXPECT_EQ(u.b.state().n_pauses, 1u);
        EXPECT_EQ(u.b.state().kv.n_used, 0u);
    }
}

TEST(BatchPlaces, SharesBecomeEqualAndStaySo) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 4));
    for (int i = 0; i < 6; i++) u.submit("first", 10, 60);
    u.steps(8);
    for (int i = 0; i < 6; i++) u.submit("second", 10, 60);
    u.steps(12);
    int begun = 0;
    for (int i = 6; i < 12; i++) begun += n_told(*u.asks[(size_t)i]) > 0;
    EXPECT_EQ(begun, 2);
    EXPECT_EQ(u.b.state().n_pauses, 2u);
    u.steps(20);
    EXPECT_EQ(u.b.state().n_pauses, 2u) << "nobody takes a place back";
    u.b.drain();
    u.expect_replies();
}

TEST(BatchPlaces, NobodyYieldsToAnEqual) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 2));
    u.submit("a", 10, 30);
    u.submit("b", 10, 30);
    u.steps(4);
    Ask &third = u.submit("c", 10, 5);
    u.steps(10);
    EXPECT_EQ(n_told(third), 0u) << "a and b have one place each";
    u.b.drain();
    EXPECT_EQ(u.b.state().n_pauses, 0u);
    u.expect_replies();
}

// The place that was given up is not taken back by the same user's next request, however little of that is left to read.
TEST(BatchPlaces, WhatWasGivenUpGoesToWhoHasFewer) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 2));
    for (int i = 0; i < 4; i++) u.submit("many", 2, 40);
    u.steps(2);
    Ask &one = u.submit("one", 30, 5);
    u.steps(2);
    EXPECT_GE(n_told(one), 1u);
    u.steps(3);
    EXPECT_EQ(u.b.state().n_pauses, 1u);
    u.b.drain();
    u.expect_replies();
}

// Rows count before places: who has had more of the machine so far waits, even with fewer places.
TEST(BatchPlaces, WhoWasServedMoreGetsNoPlaceOfOthers) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 4));
    u.submit("long", 60, 60);
    for (int i = 0; i < 3; i++) u.submit("short", 2, 60);
    u.steps(4);
    ASSERT_EQ(u.b.state().n_running, 4);
    Ask &second = u.submit("long", 10, 5);
    u.steps(5);
    EXPECT_EQ(u.b.state().n_pauses, 0u);
    EXPECT_EQ(n_told(second), 0u);
    for (int k = 0; k < 60 && !n_told(second); k++) u.steps(1);
    EXPECT_EQ(u.b.state().n_pauses, 1u) << "by now the others have had as much";
    u.b.drain();
    u.expect_replies();
}

// A place is not what it waits for while somebody reads the prefix that it will find cached then.
TEST(BatchPlaces, WhoWaitsForAPrefixTakesNoPlace) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = plain(engine, 3);
    o.n_batch = 32;
    Users u(engine, o);
    u.submit("many", 5, 60);
    u.submit("many", 5, 60);
    u.steps(4);
    std::vector<int32_t> prompt = random_tokens(u.rng, 100);
    u.submit_text("many", prompt, 20);
    u.steps(1);
    prompt.push_back(1);
    Ask &one = u.submit_text("one", prompt, 5);
    u.steps(1);
    EXPECT_EQ(u.b.state().n_pauses, 0u);
    for (int k = 0; k < 20 && !n_told(one); k++) u.steps(1);
    EXPECT_EQ(u.b.state().n_pauses, 1u);
    EXPECT_GE(one.last_facts.n_cached_tok, 64);
    u.b.drain();
    u.expect_replies();
}

// A request with two choices takes two places or none; who gives keeps as many as who gets then has.
TEST(BatchPlaces, ChoicesCountAsPlaces) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 4));
    u.submit("a", 10, 40);
    u.submit("a", 10, 40);
    u.submit("a", 10, 40, 2);
    u.steps(4);
    Ask &two = u.submit("b", 10, 5, 2), &one = u.submit("c", 10, 5);
    u.steps(2);
    EXPECT_EQ(n_told(two), 2u) << "the request of two has yielded";
    EXPECT_EQ(n_told(one), 1u) << "and one of those that were left";
    EXPECT_EQ(u.b.state().n_pauses, 2u);
    u.submit("d", 10, 5);
    u.steps(2);
    EXPECT_EQ(u.b.state().n_pauses, 2u) << "a has one place, and b's two go together";
    u.b.drain();
    u.expect_replies();
}

// Where one request is not enough nobody yields: two would give way, or one over and over.
TEST(BatchPlaces, NobodyYieldsForWhatDoesNotFitThen) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 4));
    for (int i = 0; i < 4; i++) u.submit("a", 10, 30);
    u.steps(4);
    u.submit("b", 10, 5, 2);
    u.steps(10);
    EXPECT_EQ(u.b.state().n_pauses, 0u);
    u.b.drain();
    EXPECT_EQ(u.b.state().n_pauses, 0u);
    u.expect_replies();
}

// Once others have passed a large request often enough nothing starts before it, so nobody yields for others either.
TEST(BatchPlaces, NobodyYieldsWhileAnOlderRequestMayNotBePassed) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 4));
    for (int i = 0; i < 4; i++) u.submit("a", 10, 110);
    u.steps(4);
    Ask &large = u.submit("b", 10, 5, 4);
    for (int i = 0; i < 11; i++) {
        u.submit("c", 10, 3);
        u.steps(8);
    }
    EXPECT_EQ(u.b.state().n_pauses, 8u) << "two for each place";
    EXPECT_EQ(n_told(large), 0u);
    u.b.drain();
    u.expect_replies();
}

TEST(BatchPlaces, WithoutACacheOrAnotherUserNobodyYields) {
    const Engine &engine = engine_of("llama");
    for (bool cache : {true, false}) {
        wtl_batch_options o = plain(engine, 2);
        o.no_prefix_cache = !cache;
        Users u(engine, o);
        for (int i = 0; i < 3; i++) u.submit("many", 10, 30);
        u.steps(4);
        u.submit(cache ? "many" : "one", 10, 5);
        u.b.drain();
        EXPECT_EQ(u.b.state().n_pauses, 0u) << "all would have to be read again, or it is the same user's";
        u.expect_replies();
    }
}

// One after the other, as a client does it, beside a user who fills all places and the queue: none of its requests waits for a reply to end.
TEST(BatchPlaces, AStreamOfShortRequestsIsNeverHeldUp) {
    const Engine &engine = engine_of("llama");
    Users u(engine, plain(engine, 3));
    for (int i = 0; i < 12; i++) u.submit("many", 10, 100);
    u.steps(10);
    for (int i = 0; i < 12; i++) {
        Ask &one = u.submit("one", 10, 3);
        for (int k = 0; k < 12 && !one.over; k++) u.steps(1);
        EXPECT_TRUE(one.over) << i;
    }
    u.b.drain();
    u.expect_replies();
}

TEST(BatchPlaces, ManyUsersAtRandomLoseNothing) {
    for (uint32_t seed : {1u, 2u, 3u, 4u}) {
        const Engine &engine = engine_of(seed % 2 ? "llama" : "gemma3");
        wtl_batch_options o = small(engine, 4, 128, 32); // with guesses
        Users u(engine, o);
        u.rng.seed(seed);
        static const char *const names[] = {"a", "b", "c", "d"};
        for (int i = 0; i < 16; i++) {
            u.submit(names[u.rng() % 2 ? 0 : u.rng() % 4], 1 + (int)(u.rng() % 60), 20 + (int)(u.rng() % 40), u.rng() % 4 ? 1 : 2);
            u.steps((int)(u.rng() % 6));
        }
        u.b.drain();
        EXPECT_GT(u.b.state().n_pauses, 0u) << seed;
        EXPECT_LT(u.b.state().n_pauses, 60u) << seed;
        u.expect_replies();
        EXPECT_EQ(u.b.state().kv.n_used, 0u);
    }
}

} // namespace
