// A batch that one thread steps while others submit, cancel and ask. Run under ThreadSanitizer too.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <mutex>
#include <thread>

#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

TEST(Batch, ManyThreadsSubmitCancelAndAsk) {
    const Engine &engine = engine_of("llama");
    wtl_batch_options o = small(engine, 4, 96, 32);
    o.n_queue = 12;
    Batch b(o);
    std::atomic<int> alive{0};
    std::atomic<bool> done{false};
    constexpr int kThreads = 4, kEach = 25;
    auto client = [&](int who) {
        std::mt19937 rng(100 + who);
        std::vector<std::unique_ptr<Ask>> mine;
        const std::string user = "client " + std::to_string(who % 3);
        for (int i = 0; i < kEach; i++) {
            mine.emplace_back(new Ask(random_tokens(rng, 1 + (int)(rng() % 50)), 1 + (int)(rng() % 8), rng() % 5 ? 1 : 2));
            Ask &a = *mine.back();
            a.request.user_key = user.c_str();
            a.on_token = [&alive](const wtl_batch_token &t) {
                if (t.last) alive--;
                return true;
            };
            alive++;
            uint64_t id = 0;
            wtl_error err = {};
            for (;;) {
                const wtl_status status = wtl_batch_submit(b.b, &a.request, &id, &err);
                if (status == WTL_OK) break;
                EXPECT_EQ(status, WTL_ERR_BUSY) << err.message;
                std::this_thread::yield();
            }
            wtl_batch_facts f;
            wtl_batch_slot slots[8];
            size_t n;
            if (wtl_batch_facts_of(b.b, id, &f)) {
                EXPECT_EQ(f.n_prompt_tok, (int)a.prompt.size());
            }
            const wtl_batch_state s = wtl_batch_state_of(b.b, slots, 8, &n);
            EXPECT_LE(s.n_running, 4);
            EXPECT_LE(s.n_waiting, 12 + 4) << "the queue, and whoever has given up a place"; // n_parallel at most
            if (rng() % 4 == 0) wtl_batch_cancel(b.b, id);
        }
        for (auto &a : mine)
            while (!a->over) std::this_thread::yield();
    };
    std::thread stepper([&] {
        while (!done) {
            bool ran;
            wtl_error err = {};
            EXPECT_EQ(wtl_batch_step(b.b, &ran, &err), WTL_OK) << err.message;
            if (!ran) wtl_batch_wait(b.b, 10000000000);
        }
    });
    std::vector<std::thread> clients;
    for (int i = 0; i < kThreads; i++) clients.emplace_back(client, i);
    for (auto &t : clients) t.join();
    done = true;
    wtl_batch_wake(b.b);
    stepper.join();
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(b.state().n_running, 0);
    EXPECT_EQ(b.state().n_waiting, 0);
}

} // namespace
