// Joules of requests in a batch, from a made-up counter that follows the real clock at constant power.
// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <thread>

#include "runtime/energy_private.h"
#include "tests/support/batch_world.h"

extern "C" work_shape engine_work_shape(const wtl_engine *engine, wtl_kv_type kv_type); // runtime/engine.h

namespace {

using namespace batch_world;

// A counter with an edge every 100 us, 20 W.
struct Meter {
    static constexpr uint64_t kStepNs = 100000;
    static constexpr double kWatts = 20;
    uint64_t start_ns = wtl_clock_ns();
    wtl_energy *energy = nullptr;
    tel_edge edge(uint64_t i) const {
        tel_edge e = {};
        e.t_ns = start_ns + i * kStepNs;
        e.total_uj = (uint64_t)(kWatts * (double)(i * kStepNs) * 1e-3);
        return e;
    }
    explicit Meter(const Engine &engine) {
        energy_setup setup = {};
        setup.machine.n_domains = 1;
        setup.machine.user = this;
        setup.machine.now_ns = [](void *) { return wtl_clock_ns(); };
        setup.machine.edges = [](void *user, size_t, uint64_t after, tel_edge *out, size_t cap) {
            const auto *m = static_cast<Meter *>(user);
            const uint64_t last = (wtl_clock_ns() - m->start_ns) / kStepNs;
            size_t n = 0;
            for (uint64_t i = after < m->start_ns ? 0 : (after - m->start_ns) / kStepNs + 1; i <= last && n < cap; i++) out[n++] = m->edge(i);
            return n;
        };
        setup.machine.trust = [](void *, size_t) { return tel_trust{0, 0, 1, 1, 1, 0}; };
        setup.machine.info = [](void *, size_t) {
            tel_domain_info i = {};
            i.name = "package-0";
            i.source = "simulated";
            i.scope = TEL_SCOPE_CPU_PACKAGE;
            i.method = TEL_METHOD_COUNTER;
            i.counts = true;
            i.step_ns = kStepNs;
            return i;
        };
        setup.shape = engine_work_shape(engine.e, WTL_KV_F16);
        setup.fit_key = "tiny";
        setup.no_meter = "none";
        wtl_error err = {};
        EXPECT_EQ(energy_open(&setup, &energy, &err), WTL_OK) << err.message;
    }
    ~Meter() { wtl_energy_close(&energy); }
    // Books until the request has settled, which it does some edges after its last step.
    bool settle(uint64_t request) {
        const uint64_t give_up = wtl_clock_ns() + 20000000000;
        do energy_on_poll(energy);
        while (!wtl_energy_settle(energy, request, 1000000) && wtl_clock_ns() < give_up);
        return wtl_energy_settle(energy, request, 0);
    }
};

TEST(BatchEnergy, RequestsAndIdleAndUnattributedAreTheSource) {
    for (const char *arch : {"llama", "gemma3"}) {
        const Engine &engine = engine_of(arch);
        Meter meter(engine);
        std::mt19937 rng(1);
        std::vector<std::unique_ptr<Ask>> asks;
        {
            wtl_batch_options o = small(engine, 4, 128, 32);
            o.energy = meter.energy;
            Batch b(o);
            for (int i = 0; i < 12; i++) {
                asks.emplace_back(new Ask(random_tokens(rng, 5 + (int)(rng() % 60)), 4 + (int)(rng() % 20), i % 4 ? 1 : 2));
                b.submit(*asks[i]);
            }
            for (int i = 0; b.step(); i++) {
                if (i % 3 == 0) energy_on_poll(meter.energy);
                if (i == 6) wtl_batch_cancel(b.b, asks[1]->id);
            }
        }
        uint64_t sum = 0;
        for (auto &a : asks) {
            ASSERT_TRUE(a->over);
            if (!a->last_facts.energy) {
                EXPECT_EQ(a->replies[0].finish, WTL_FINISH_CANCELLED);
                continue;
            }
            EXPECT_TRUE(meter.settle(a->last_facts.energy)) << "it was not ended";
            wtl_energy_report r;
            ASSERT_TRUE(wtl_energy_report_of(meter.energy, a->last_facts.energy, &r));
            EXPECT_TRUE(r.settled);
            EXPECT_EQ(r.prefill.n_tok, a->last_facts.n_prefilled_tok);
            EXPECT_EQ(r.prefill.n_cached_tok, a->last_facts.n_cached_tok);
            // Every choice's first token comes from the prompt's logits, every other one was fed once.
            if (a->replies[0].finish == WTL_FINISH_LENGTH) {
                EXPECT_EQ(r.decode.n_tok, a->last_facts.n_decoded_tok - (int)a->replies.size());
            }
        }
        for (auto &a : asks) {
            wtl_energy_report r;
            if (a->last_facts.energy && wtl_energy_report_of(meter.energy, a->last_facts.energy, &r)) sum += r.total.energy_uj;
        }
        const wtl_energy_totals t = wtl_energy_totals_of(meter.energy, 0);
        EXPECT_EQ(t.requests_uj + t.idle_uj + t.unattributed_uj, t.source_uj);
        EXPECT_EQ(sum, t.requests_uj);
        EXPECT_GT(sum, t.source_uj / 4); // most of the time something ran
    }
}

TEST(BatchEnergy, ABudgetEndsTheRequestAndNoOther) {
    const Engine &engine = engine_of("llama");
    Meter meter(engine);
    wtl_batch_options o = small(engine, 2, 512);
    o.energy = meter.energy;
    o.n_draft = -1; // the steps below are one token each
    Batch b(o);
    std::mt19937 rng(2);
    Ask frugal(random_tokens(rng, 10), 400, 1), free_one(random_tokens(rng, 10), 40), broke(random_tokens(rng, 10), 400, 2);
    frugal.request.max_uj = 1e12;
    b.submit(frugal);
    b.submit(free_one);
    for (int i = 0; i < 5; i++) b.step();
    EXPECT_GT(frugal.replies[0].tokens.size(), 0u);
    for (int i = 0; i < 60; i++) b.step();
    EXPECT_TRUE(free_one.over);
    EXPECT_FALSE(frugal.over); // far from its limit
    wtl_batch_cancel(b.b, frugal.id);
    b.step();
    broke.request.max_uj = 1; // less than any step takes
    b.submit(broke);
    for (int i = 0; i < 400 && !broke.over; i++) {
        b.step();
        energy_on_poll(meter.energy);
        std::this_thread::sleep_for(std::chrono::milliseconds(1)); // steps of a model this small are over before the counter moves
    }
    EXPECT_EQ(broke.replies[0].finish, WTL_FINISH_ENERGY);
    EXPECT_EQ(broke.replies[1].finish, WTL_FINISH_ENERGY);
    EXPECT_LT(broke.replies[0].tokens.size(), 350u);
    Ask after(random_tokens(rng, 10), 5);
    b.submit(after);
    b.drain();
    EXPECT_EQ(after.replies[0].tokens, alone(engine, after, 0, 512));
}

TEST(BatchEnergy, WhoIsCancelledInTheQueueNeverBegan) {
    const Engine &engine = engine_of("llama");
    Meter meter(engine);
    wtl_batch_options o = small(engine, 1);
    o.energy = meter.energy;
    Batch b(o);
    std::mt19937 rng(3);
    Ask first(random_tokens(rng, 10), 20), queued(random_tokens(rng, 10), 20), cut(random_tokens(rng, 10), 20);
    b.submit(first);
    b.submit(queued);
    b.step();
    wtl_batch_cancel(b.b, queued.id);
    b.drain();
    EXPECT_NE(first.last_facts.energy, 0u);
    EXPECT_EQ(queued.last_facts.energy, 0u);
    b.submit(cut);
    b.step();
    wtl_batch_cancel(b.b, cut.id);
    b.drain();
    EXPECT_TRUE(meter.settle(cut.last_facts.energy));
    wtl_energy_report r;
    ASSERT_TRUE(wtl_energy_report_of(meter.energy, cut.last_facts.energy, &r));
    EXPECT_GT(r.total.energy_uj, 0u);
}

// A request that gave up its place for a while has one record: its waiting costs nothing, what it reads again is its own and no new token.
TEST(BatchEnergy, APauseIsNobodysAndReadingAgainIsNoNewToken) {
    const Engine &engine = engine_of("llama");
    Meter meter(engine);
    std::mt19937 rng(9);
    Ask held(random_tokens(rng, 30), 40), newcomer(random_tokens(rng, 10), 30);
    {
        wtl_batch_options o = small(engine, 1, 128, 32);
        o.energy = meter.energy;
        o.no_prefix_cache = true;
        o.n_draft = -1;
        Batch b(o);
        b.submit(held);
        for (int i = 0; i < 10; i++) b.step();
        const uint64_t other_begins = wtl_clock_ns();
        EXPECT_TRUE(wtl_batch_hold(b.b, held.id, true));
        b.submit(newcomer);
        b.drain();
        ASSERT_TRUE(newcomer.over);
        const uint64_t other_ns = wtl_clock_ns() - other_begins;
        EXPECT_TRUE(wtl_batch_hold(b.b, held.id, false));
        b.drain();
        ASSERT_TRUE(held.over);
        EXPECT_GT(held.last_facts.n_reread_tok, 30);
        const uint64_t id = held.last_facts.energy;
        ASSERT_TRUE(meter.settle(id));
        wtl_energy_report r;
        ASSERT_TRUE(wtl_energy_report_of(meter.energy, id, &r));
        EXPECT_EQ(r.prefill.n_tok, 30);
        EXPECT_EQ(r.decode.n_tok, 39) << "the first one comes from the prompt";
        EXPECT_GT(r.decode.macs, 0u);
        // From its first step to its last, less what the other took, at most.
        const double whole_s = (double)(r.end_ns - r.start_ns) * 1e-9, own_s = whole_s - (double)other_ns * 1e-9;
        EXPECT_NE(r.total.status, TEL_UNAVAILABLE);
        EXPECT_LT((double)r.total.energy_uj * 1e-6 - (double)r.total.bound_uj * 1e-6, Meter::kWatts * (own_s + 0.002));
        EXPECT_GT((double)r.total.energy_uj * 1e-6 + (double)r.total.bound_uj * 1e-6, Meter::kWatts * own_s * 0.5);
    }
    const wtl_energy_totals t = wtl_energy_totals_of(meter.energy, 0);
    EXPECT_EQ(t.requests_uj + t.idle_uj + t.unattributed_uj, t.source_uj);
}

} // namespace
