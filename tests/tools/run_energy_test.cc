// The steps of `wattle run` and `wattle chat` as the energy object hears of them, with a made-up counter whose clock can run ahead.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "runtime/base/clock.h"
#include "runtime/energy_private.h"
#include "tests/support/tiny_model.h"
extern "C" {
#include "runtime/engine.h"
#include "tools/run_energy.h"
}

namespace {

// 20 W, an edge every millisecond. While watched, whoever announces a step meets a telemetry thread that looks in the middle of it, forty
// seconds after it began: longer than the books wait for a request that says nothing.
struct Machine {
    static constexpr uint64_t kEdgeNs = 1000000, kLateNs = 40000000000;
    uint64_t start_ns = wtl_clock_ns(), ahead_ns = 0, booked_ns = 0;
    wtl_energy *energy = nullptr;
    bool watched = false;
    int n_announced = 0;

    uint64_t now() {
        if (watched) {
            watched = false;
            n_announced++;
            ahead_ns = kLateNs;
            energy_on_poll(energy);
            ahead_ns = 0;
            booked_ns = wtl_energy_totals_of(energy, 0).until_ns;
            EXPECT_LE(booked_ns, wtl_clock_ns()) << "the step that runs was booked as an idle machine";
            watched = true;
        }
        return wtl_clock_ns() + ahead_ns;
    }
    size_t edges(uint64_t after_ns, tel_edge *out, size_t cap) const {
        const uint64_t last = (wtl_clock_ns() + ahead_ns - start_ns) / kEdgeNs;
        size_t n = 0;
        for (uint64_t i = after_ns < start_ns ? 0 : (after_ns - start_ns) / kEdgeNs + 1; i <= last && n < cap; i++) {
            out[n] = {};
            out[n].t_ns = start_ns + i * kEdgeNs;
            out[n++].total_uj = i * 20000;
        }
        return n;
    }
    explicit Machine(const wtl_engine *engine) {
        energy_setup setup = {};
        setup.machine.n_domains = 1;
        setup.machine.user = this;
        setup.machine.now_ns = [](void *user) { return static_cast<Machine *>(user)->now(); };
        setup.machine.edges = [](void *user, size_t, uint64_t after_ns, tel_edge *out, size_t cap) { return static_cast<Machine *>(user)->edges(after_ns, out, cap); };
        setup.machine.trust = [](void *, size_t) { return tel_trust{0, 0, 1, 1, 1, 0}; };
        setup.machine.info = [](void *, size_t) {
            tel_domain_info i = {};
            i.name = "package-0";
            i.source = "simulated";
            i.scope = TEL_SCOPE_CPU_PACKAGE;
            i.method = TEL_METHOD_COUNTER;
            i.counts = true;
            i.step_ns = kEdgeNs;
            return i;
        };
        setup.shape = engine_work_shape(engine, WTL_KV_F16);
        setup.fit_key = "tiny";
        setup.no_meter = "none";
        wtl_error err = {};
        EXPECT_EQ(energy_open(&setup, &energy, &err), WTL_OK) << err.message;
    }
    ~Machine() { wtl_energy_close(&energy); }
};

struct RunEnergy : testing::Test {
    TinyModel model{TinyOptions()};
    wtl_engine *engine = nullptr;
    wtl_session *session = nullptr;
    wtl_error err = {};
    int32_t seq = -1;
    void SetUp() override {
        wtl_engine_options o = {};
        o.model_path = model.path();
        o.n_threads = 1;
        ASSERT_EQ(wtl_engine_open(&o, &engine, &err), WTL_OK) << err.message;
        wtl_session_options so = {};
        so.n_ctx = 128;
        so.n_batch = 16;
        ASSERT_EQ(wtl_session_open(engine, &so, &session, &err), WTL_OK) << err.message;
        ASSERT_EQ(wtl_seq_open(session, &seq, &err), WTL_OK);
    }
    void TearDown() override {
        wtl_session_close(&session);
        wtl_engine_close(&engine);
    }
};

bool go_on(void *, const wtl_step_work *) { return true; }

TEST_F(RunEnergy, NoStepIsTakenForAnIdleMachineHoweverLongItLasts) {
    Machine machine(engine);
    energy_desk desk = {};
    desk.energy = machine.energy;
    run_energy joules;
    ASSERT_EQ(run_energy_begin(&joules, &desk, 0, 40, 0), CLI_GO);
    const std::vector<int32_t> prompt(40, 5);
    machine.watched = true;
    EXPECT_EQ(run_energy_prefill(&joules, session, seq, prompt.data(), prompt.size(), go_on, nullptr, &err), WTL_OK) << err.message;
    EXPECT_EQ(machine.n_announced, 3) << "chunks of 16, 16 and 8";
    for (int i = 0; i < 5; i++) {
        const wtl_entry entry = {7, seq, true, 0};
        EXPECT_EQ(run_energy_step(&joules, session, &entry, &err), WTL_OK) << err.message;
    }
    EXPECT_EQ(machine.n_announced, 8);
    machine.watched = false;
    wtl_energy_report r;
    for (int i = 0; i < 1000 && !wtl_energy_settle(machine.energy, joules.request, 0); i++) {
        if (!i) wtl_energy_end(machine.energy, joules.request);
        struct timespec nap = {0, 1000000};
        nanosleep(&nap, nullptr);
        energy_on_poll(machine.energy);
    }
    run_energy_end(&joules, &r);
    EXPECT_TRUE(r.settled);
    EXPECT_EQ(r.prefill.n_tok, 40);
    EXPECT_EQ(r.decode.n_tok, 5);
    const double busy_uj = 20 * (double)(r.prefill.busy_ns + r.decode.busy_ns) * 1e-3;
    EXPECT_GE((double)r.total.energy_uj + (double)r.total.bound_uj, busy_uj * 0.99);
}

// A step that fails runs no more: what comes after it is booked.
TEST_F(RunEnergy, AStepThatFailedIsOver) {
    Machine machine(engine);
    energy_desk desk = {};
    desk.energy = machine.energy;
    run_energy joules;
    ASSERT_EQ(run_energy_begin(&joules, &desk, 0, 40, 0), CLI_GO);
    const wtl_entry wrong = {-1, seq, true, 0};
    EXPECT_EQ(run_energy_step(&joules, session, &wrong, &err), WTL_ERR_INVALID);
    EXPECT_EQ(run_energy_prefill(&joules, session, seq, &wrong.token, 1, go_on, nullptr, &err), WTL_ERR_INVALID);
    wtl_energy_end(machine.energy, joules.request);
    const uint64_t failed_ns = wtl_clock_ns();
    for (int i = 0; i < 1000 && wtl_energy_totals_of(machine.energy, 0).until_ns <= failed_ns; i++) {
        struct timespec nap = {0, 1000000};
        nanosleep(&nap, nullptr);
        energy_on_poll(machine.energy);
    }
    EXPECT_GT(wtl_energy_totals_of(machine.energy, 0).until_ns, failed_ns);
}

} // namespace
