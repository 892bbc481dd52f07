// The books: exact sums whatever happens, stamps across threads, the file of fits, reports without a meter, memory that runs out.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <thread>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/energy_record.h"
#include "tests/support/energy_sim.h"
#include "tests/support/checked_build.h"

using namespace energy_sim;

namespace {

uint64_t sum_of(const std::vector<energy_rank> &ranks) {
    uint64_t sum = 0;
    for (const energy_rank &r : ranks) sum += r.part;
    return sum;
}

TEST(EnergySplit, PartsSumToTheWholeForAnyWeights) {
    std::mt19937_64 rng(11);
    for (int round = 0; round < 20000; round++) {
        const size_t n = 1 + rng() % 40;
        std::vector<energy_rank> ranks(n);
        std::vector<size_t> order(n);
        double all = 0;
        for (energy_rank &r : ranks) {
            r.weight = rng() % 4 ? std::exp((double)(rng() % 60) - 30) : 0;
            all += r.weight;
        }
        const uint64_t total = rng() >> (rng() % 64);
        energy_split(total, ranks.data(), n, order.data());
        ASSERT_EQ(sum_of(ranks), total) << "round " << round;
        if (total > 1ull << 50 || all <= 0) continue;
        for (const energy_rank &r : ranks) ASSERT_LE(std::fabs((double)r.part - (double)total * r.weight / all), 1 + 1e-3);
    }
}

TEST(EnergySplit, UnitsLeftOverGoToTheLargestRemainders) {
    energy_rank ranks[3] = {{1.4, 0, 0}, {1.35, 0, 0}, {7.25, 0, 0}};
    size_t order[3];
    energy_split(10, ranks, 3, order);
    EXPECT_EQ(ranks[0].part, 2u);
    EXPECT_EQ(ranks[1].part, 1u);
    EXPECT_EQ(ranks[2].part, 7u);
}

TEST(EnergySplit, IdleGoesByTimeAndDynamicByCost) {
    energy_claim claims[2] = {};
    claims[0].x[0] = 3;
    claims[0].busy_ns = 25e6;
    claims[1].x[1] = 1;
    claims[1].busy_ns = 25e6;
    energy_rank ranks[3];
    size_t order[3];
    const double theta[3] = {1, 1, 1};
    const energy_interval v = {5000000, 100e6, 10e6};
    const energy_rest rest = energy_split_interval(&v, theta, claims, 2, ranks, order);
    EXPECT_EQ(rest.idle_uj, 500000u); // half of the time nothing ran
    EXPECT_EQ(rest.unattributed_uj, 0u);
    EXPECT_EQ(claims[0].idle_uj, 250000u);
    EXPECT_EQ(claims[0].dynamic_uj, 3000000u);
    EXPECT_EQ(claims[1].dynamic_uj, 1000000u);
}

TEST(EnergyFit, FindsCoefficientsAndTakesOutTheIdlePower) {
    std::mt19937_64 rng(3);
    std::uniform_real_distribution<double> u(0, 1);
    energy_fit fit = {};
    for (int i = 0; i < 2000; i++) {
        const double x[3] = {u(rng), 4 * u(rng), u(rng)}, length = 1e8;
        energy_fit_add(&fit, x, length, 1e6 * (2 * x[0] + 0.5 * x[1] + 6 * x[2]) + 0.01 * length, 0);
    }
    const double prior[3] = {1, 1, 1};
    const energy_model m = energy_fit_solve(&fit, 0.01, prior);
    EXPECT_TRUE(m.known);
    const double truth[3] = {2e6, 0.5e6, 6e6};
    for (int j = 0; j < 3; j++) {
        const double unit[3] = {j == 0 ? 1.0 : 0, j == 1 ? 1.0 : 0, j == 2 ? 1.0 : 0}, sd = energy_model_sd(&m, unit);
        EXPECT_NEAR(m.theta[j], truth[j], 0.03 * truth[j]) << "coefficient " << j;
        EXPECT_LT(std::fabs(m.theta[j] - truth[j]), 2.6 * sd) << "coefficient " << j;
    }
    EXPECT_LT(m.residual_frac, 0.02);
}

TEST(EnergyFit, CoefficientsAreNeverNegative) {
    energy_fit fit = {};
    for (int i = 1; i < 500; i++) { // more multiply-adds, fewer joules
        const double x[3] = {1, (double)(i % 50), 0};
        energy_fit_add(&fit, x, 1, 1000 - 10 * x[1], 0);
    }
    const double prior[3] = {1000, 1, 1};
    const energy_model m = energy_fit_solve(&fit, 0, prior);
    EXPECT_GT(m.theta[0], 0);
    EXPECT_EQ(m.theta[1], 0);
    EXPECT_GE(m.theta[2], 0);
}

// ---- Sums -----------------------------------------------------------------------------------------------------------

void expect_exact(Machine &m, wtl_energy *e, const Server &s, uint64_t seed) {
    const wtl_energy_totals t = wtl_energy_totals_of(e, 0);
    ASSERT_EQ(t.source_uj, t.requests_uj + t.idle_uj + t.unattributed_uj) << "seed " << seed;
    uint64_t last = 0, requests = 0;
    for (const tel_edge &edge : m.edges)
        if (edge.t_ns == t.until_ns) last = edge.total_uj;
    ASSERT_EQ(t.source_uj, last - m.edges.front().total_uj) << "seed " << seed;
    for (const auto &r : s.requests) {
        wtl_energy_report report;
        ASSERT_TRUE(wtl_energy_report_of(e, r->id, &report));
        if (report.total.status == TEL_UNAVAILABLE) continue;
        requests += report.total.energy_uj;
        uint64_t parts = report.new_prompt.energy_uj;
        if (report.cached.status != TEL_UNAVAILABLE) parts += report.cached.energy_uj;
        if (report.prefill.n_tok) {
            ASSERT_EQ(report.prefill.energy.energy_uj, parts);
        }
        if (report.decode.n_tok) parts += report.decode.energy.energy_uj;
        ASSERT_EQ(report.total.energy_uj, parts) << "prefill and decode are all of it";
        ASSERT_EQ(report.total.energy_uj, report.dynamic.energy_uj + report.idle.energy_uj);
    }
    ASSERT_EQ(requests, t.requests_uj) << "seed " << seed;
}

TEST(Energy, SumsAreExactOnRandomSchedulesWithAbortsAndGaps) {
    for (uint64_t seed = 100; seed < 120; seed++) {
        Machine m(seed);
        m.sensor.step_ns = seed % 2 ? 1000000 : 100000000;
        Open open(m);
        Server server(m);
        random_schedule(server, 3);
        m.blind = true; // reads fail while requests run
        for (int i = 0; i < 3; i++) {
            Request r = {};
            r.n_prompt = 50;
            r.n_decode = 30;
            r.stop_after = i == 1 ? 5 : -1;
            server.admit(r);
        }
        for (int i = 0; i < 20; i++) server.step();
        m.blind = false;
        server.drain();
        m.rest(1000000000);
        expect_exact(m, open.e, server, seed);
    }
}

TEST(Energy, DroppedStampsAreCountedAndTheirJoulesStayUnattributed) {
    Machine m(5);
    Open open(m, nullptr, 64);
    Server server(m);
    m.rest(2000000000);
    Request r = {};
    r.n_prompt = 100;
    r.n_decode = 400;
    server.admit(r);
    m.next_poll_ns = m.now_ns + 2000000000; // the sampling thread is late: 64 slots hold 32 steps
    server.drain();
    m.rest(1000000000);
    wtl_energy_report report;
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &report));
    EXPECT_GT(report.dropped_stamps, 100u);
    const wtl_energy_totals t = wtl_energy_totals_of(open.e, 0);
    EXPECT_EQ(t.source_uj, t.requests_uj + t.idle_uj + t.unattributed_uj);
    EXPECT_GT((double)t.unattributed_uj * 1e-6, 0.3 * server.requests[0]->truth.total());
    const wtl_energy_fit fit = wtl_energy_fit_of(open.e, 0);
    EXPECT_NEAR(fit.idle_w, 12, 0.5) << "lost stamps are not idleness";
}

TEST(Energy, StepsOfNobodyStayUnattributed) {
    Machine m(6);
    Open open(m);
    m.rest(2000000000);
    Request nobody = {};
    nobody.n_prompt = 10;
    nobody.n_decode = 200;
    for (int i = 0; i < 200; i++) run_step(m, small_shape(), {{&nobody, 1}});
    m.rest(1000000000);
    const wtl_energy_totals t = wtl_energy_totals_of(open.e, 0);
    EXPECT_EQ(t.requests_uj, 0u);
    EXPECT_NEAR((double)t.unattributed_uj * 1e-6, nobody.truth.total(), 0.1 * nobody.truth.total());
}

TEST(Energy, ForgottenRequestsStayInTheTotals) {
    Machine m(7);
    Open open(m);
    Server server(m);
    m.rest(2000000000);
    Request r = {};
    r.n_prompt = 40;
    r.n_decode = 100;
    server.admit(r);
    server.drain();
    const Request &q = *server.requests[0];
    wtl_energy_forget(open.e, q.id); // before its last joules are booked
    wtl_energy_report report;
    EXPECT_FALSE(wtl_energy_report_of(open.e, q.id, &report));
    m.rest(1000000000);
    const wtl_energy_totals t = wtl_energy_totals_of(open.e, 0);
    EXPECT_NEAR((double)t.requests_uj * 1e-6, q.truth.total(), 0.1 * q.truth.total());
    EXPECT_EQ(t.source_uj, t.requests_uj + t.idle_uj + t.unattributed_uj);
}

// ---- Reports --------------------------------------------------------------------------------------------------------

TEST(Energy, LiveReportsAreMarkedAndContainTheTruth) {
    Machine m(8);
    m.sensor.step_ns = 100000000;
    Open open(m);
    Server server(m);
    m.rest(2000000000);
    for (int i = 0; i < 3; i++) {
        Request r = {};
        r.n_prompt = 200;
        r.n_decode = 150;
        server.admit(r);
    }
    int n = 0, inside = 0;
    while (server.step()) {
        const Request &r = *server.requests[0];
        wtl_energy_report report;
        ASSERT_TRUE(wtl_energy_report_of(open.e, r.id, &report));
        EXPECT_TRUE(r.done || !report.settled);
        if (report.total.status == TEL_UNAVAILABLE) continue;
        n++;
        const double truth = r.truth.total() * 1e6;
        inside += truth >= (double)report.total.low_uj && truth <= (double)report.total.high_uj;
    }
    EXPECT_GT(n, 100);
    EXPECT_GE((double)inside / n, 0.99);
}

TEST(Energy, WithoutIdlePowerOnlyTheTotalIsKnown) {
    Machine m(9);
    Open open(m);
    Server server(m);
    Request r = {};
    r.n_prompt = 40;
    r.n_decode = 100;
    server.admit(r);
    server.drain();
    m.rest(60000000); // too short to be taken for idle
    wtl_energy_report report;
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &report));
    EXPECT_EQ(report.total.status, TEL_MEASURED);
    EXPECT_EQ(report.dynamic.status, TEL_UNAVAILABLE);
    EXPECT_NE(report.dynamic.reason, nullptr);
    m.rest(2000000000);
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &report));
    const Truth &t = server.requests[0]->truth;
    EXPECT_NE(report.dynamic.status, TEL_UNAVAILABLE) << "known afterwards";
    EXPECT_NEAR((double)report.idle.energy_uj * 1e-6, t.idle[0] + t.idle[1], 0.05 * t.total());
}

// One request with pauses as long as its steps, before the idle power is known and after: all of its time is its own.
TEST(Energy, PausesBetweenStepsAreTheRequestsWhateverIsKnownOfIdlePower) {
    Machine m(21);
    Open open(m);
    Server server(m);
    server.longest_pause_ns = 12000000;
    for (int i = 0; i < 2; i++) {
        const bool idle_known = wtl_energy_fit_of(open.e, 0).idle_known;
        EXPECT_EQ(idle_known, i > 0);
        const double idle_before = (double)wtl_energy_totals_of(open.e, 0).idle_uj;
        const uint64_t start = m.now_ns;
        Request r = {};
        r.n_prompt = 300;
        r.n_decode = 200;
        server.admit(r);
        server.drain();
        const double whole = m.joules_at(m.stepped_ns) - m.joules_at(start);
        m.rest(200000000);
        wtl_energy_report q;
        ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests.back()->id, &q));
        EXPECT_TRUE(q.settled);
        const double busy = (double)(q.prefill.busy_ns + q.decode.busy_ns), all = (double)(q.end_ns - q.start_ns);
        EXPECT_LT(busy, 0.7 * all);
        EXPECT_NEAR(busy + (double)(q.prefill.pause_ns + q.decode.pause_ns), all, 10) << "no time is missing";
        EXPECT_NEAR(server.requests.back()->truth.total(), whole, 1e-6);
        EXPECT_NEAR((double)q.total.energy_uj * 1e-6, whole, (double)q.total.bound_uj * 1e-6);
        EXPECT_NEAR((double)q.total.energy_uj * 1e-6, whole, 0.02 * whole);
        EXPECT_LT((double)q.total.bound_uj * 1e-6, 0.1 * whole);
        EXPECT_LT((double)wtl_energy_totals_of(open.e, 0).idle_uj - idle_before, 0.45 * 12e6) << "idle is what lies before and after";
        if (i > 0) {
            EXPECT_NEAR((double)q.idle.energy_uj * 1e-6, 12e-9 * all, 0.02 * 12e-9 * all);
        }
        m.rest(2000000000);
    }
    const wtl_energy_totals t = wtl_energy_totals_of(open.e, 0);
    EXPECT_EQ(t.source_uj, t.requests_uj + t.idle_uj + t.unattributed_uj);
}

TEST(Energy, ALongPauseIsNobodys) {
    Machine m(22);
    Open open(m);
    Server server(m);
    m.rest(2000000000);
    Request r = {};
    r.n_prompt = 300;
    r.n_decode = 100;
    server.admit(r);
    for (int i = 0; i < 50; i++) server.step();
    const double idle_before = (double)wtl_energy_totals_of(open.e, 0).idle_uj;
    m.rest(4000000000);
    EXPECT_GT((double)wtl_energy_totals_of(open.e, 0).idle_uj - idle_before, 3.9 * 12e6) << "books do not wait for its next step";
    server.drain();
    m.rest(500000000);
    wtl_energy_report q;
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &q));
    EXPECT_NEAR((double)q.total.energy_uj * 1e-6, server.requests[0]->truth.total(), (double)q.total.bound_uj * 1e-6);
    EXPECT_LT((double)q.total.bound_uj, 0.3 * (double)q.total.energy_uj);
    const uint64_t own_ns = q.prefill.busy_ns + q.prefill.pause_ns + q.decode.busy_ns + q.decode.pause_ns;
    EXPECT_NEAR((double)(q.end_ns - q.start_ns - own_ns), 4e9, 2e5) << "and told: it is missing";
}

// A prompt of one short step inside an interval of a slow counter: next to nothing is known, but never more than the whole and the machine allow.
TEST(Energy, AShortPhaseIsNoWiderThanTheWholeAndItsTimeAllow) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        Machine m(seed);
        m.sensor.step_ns = 100000000;
        m.limit_told = seed % 2;
        Open open(m);
        Server server(m);
        m.rest((uint64_t)pick(m.rng, 300, 1000) * 1000000);
        Request r = {};
        r.n_prompt = pick(m.rng, 4, 40);
        r.n_decode = pick(m.rng, 10, 200);
        server.admit(r);
        server.drain();
        m.rest(1500000000);
        wtl_energy_report q;
        const Truth &t = server.requests[0]->truth;
        ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &q));
        const tel_energy &p = q.prefill.energy;
        EXPECT_GE(t.prefill() * 1e6, (double)p.low_uj) << seed;
        EXPECT_LE(t.prefill() * 1e6, (double)p.high_uj) << seed;
        EXPECT_LE(p.high_uj, std::max(p.energy_uj, q.total.high_uj - q.decode.energy.low_uj) + 1) << seed;
        EXPECT_LE(q.decode.energy.high_uj, std::max(q.decode.energy.energy_uj, q.total.high_uj - p.low_uj) + 1) << seed;
        const double pause_s = 1e-4, most_uj = m.max_w * 1e6 * ((double)q.prefill.busy_ns * 1e-9 + pause_s) + 1;
        if (m.limit_told) {
            EXPECT_LE((double)p.high_uj, std::max((double)p.energy_uj, most_uj)) << seed;
        }
        for (const tel_energy *e : {&q.total, &q.prefill.energy, &q.decode.energy, &q.dynamic, &q.prefill.dynamic, &q.decode.dynamic, &q.idle}) {
            const tel_terms &k = e->terms;
            EXPECT_EQ(e->bound_uj, k.step_uj + k.lag_uj + k.latency_uj + k.unseen_uj + k.gain_uj + k.offset_uj + k.gap_uj + k.model_uj + k.idle_uj + k.attribution_uj);
            EXPECT_EQ(e->bound_uj, std::max(e->high_uj - e->energy_uj, e->energy_uj - e->low_uj));
            EXPECT_LE(e->low_uj, e->energy_uj);
        }
    }
}

tel_energy record_between(uint64_t low_uj, uint64_t uj, uint64_t high_uj) {
    tel_energy e = {};
    e.status = TEL_MEASURED;
    e.method = TEL_METHOD_COUNTER;
    e.energy_uj = uj;
    e.low_uj = low_uj;
    e.high_uj = high_uj;
    e.bound_uj = std::max(uj - low_uj, high_uj - uj);
    e.terms.attribution_uj = e.bound_uj / 2;
    e.terms.step_uj = e.bound_uj - e.bound_uj / 2;
    return e;
}

TEST(Energy, APartIsNoMoreThanTheWholeWithoutTheOther) {
    const tel_energy whole = record_between(4000, 5000, 6000);
    tel_energy a = record_between(0, 300, 596000), b = record_between(4200, 4700, 5200);
    energy_record_part(&whole, &a, &b);
    EXPECT_EQ(a.low_uj, 0u);
    EXPECT_EQ(a.high_uj, 1800u);
    EXPECT_EQ(a.bound_uj, 1500u);
    EXPECT_EQ(a.terms.attribution_uj, 0u);
    EXPECT_EQ(a.terms.step_uj, 1500u);
    EXPECT_EQ(a.status, TEL_BELOW_RESOLUTION);
    EXPECT_EQ(b.low_uj, 4200u) << "what the other part is known by before, not after";
    EXPECT_EQ(b.high_uj, 5200u);
    b = record_between(0, 4700, 90000);
    a = record_between(200, 300, 400);
    energy_record_part(&whole, &a, &b);
    EXPECT_EQ(b.low_uj, 3600u);
    EXPECT_EQ(b.high_uj, 5800u);
    EXPECT_EQ(b.bound_uj, 1100u);
    EXPECT_EQ(b.status, TEL_MEASURED);
    const tel_energy absent = tel_energy_unavailable("nothing ran", nullptr), before = a;
    tel_energy c = absent;
    energy_record_part(&whole, &a, &c);
    EXPECT_EQ(a.high_uj, before.high_uj);
    EXPECT_EQ(c.status, TEL_UNAVAILABLE);
}

// On a machine of which nothing is known yet: what one may have of the other's is no more than the other has.
TEST(Energy, SplittingGivesNobodyMoreThanTheOthersHave) {
    Machine m(31);
    m.limit_told = false;
    Open open(m);
    Server server(m);
    m.rest(2000000000);
    for (int n_prompt : {1, 250}) { // next to one decode stands one prefill, for a quarter of a second
        Request r = {};
        r.n_prompt = n_prompt;
        r.n_decode = 2;
        server.admit(r);
    }
    server.drain();
    m.rest(1000000000);
    wtl_energy_report q[2];
    for (size_t i = 0; i < 2; i++) ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[i]->id, &q[i]));
    for (size_t i = 0; i < 2; i++) {
        const tel_energy &own = q[i].total;
        EXPECT_LE(own.high_uj, own.energy_uj + (own.bound_uj - own.terms.attribution_uj) + q[1 - i].total.energy_uj + 2) << i;
        EXPECT_NEAR((double)own.energy_uj * 1e-6, server.requests[i]->truth.total(), (double)own.bound_uj * 1e-6);
    }
}

// Two take turns in steps of a few milliseconds, and only one of them has pauses, in which the machine works hard.
TEST(Energy, WhosePausesTheyWereIsInTheBounds) {
    Machine m(32);
    m.sensor.step_ns = 50000;
    m.law.noise = 0.005;
    Open open(m);
    m.rest(2000000000);
    Request r[2] = {};
    for (int cycle = 0; cycle < 3; cycle++) {
        for (Request &q : r) {
            q = Request{};
            q.n_prompt = 8;
            q.n_decode = 200;
            wtl_energy_request info = {};
            info.n_prompt_tok = q.n_prompt;
            q.id = wtl_energy_begin(open.e, &info);
            run_step(m, small_shape(), {{&q, 8}});
        }
        for (int i = 0; i < 200; i++) {
            m.pass(8000000, 8e-3 * (m.law.idle_w + 30));
            run_step(m, small_shape(), {{&r[0], 1}});
            run_step(m, small_shape(), {{&r[1], 1}});
        }
        for (Request &q : r) wtl_energy_end(open.e, q.id);
        m.rest(1000000000);
    }
    for (const Request &one : r) {
        wtl_energy_report q;
        ASSERT_TRUE(wtl_energy_report_of(open.e, one.id, &q));
        EXPECT_GE(one.truth.total() * 1e6, (double)q.total.low_uj);
        EXPECT_LE(one.truth.total() * 1e6, (double)q.total.high_uj);
    }
}

TEST(Energy, ModelledDomainsKeepTheirWideInterval) {
    Machine m(10);
    m.method = TEL_METHOD_MODELLED;
    m.low_factor = 1.0 / 3;
    m.high_factor = 3;
    Open open(m);
    Server server(m);
    m.rest(2000000000);
    Request r = {};
    r.n_prompt = 40;
    r.n_decode = 100;
    server.admit(r);
    server.drain();
    m.rest(1000000000);
    wtl_energy_report report;
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &report));
    EXPECT_EQ(report.total.status, TEL_MODELLED);
    EXPECT_LE((double)report.total.low_uj, (double)report.total.energy_uj / 3 + 1);
    EXPECT_GE((double)report.total.high_uj, (double)report.total.energy_uj * 3 - 3);
    EXPECT_GT(report.total.terms.model_uj, report.total.energy_uj);
}

TEST(Energy, WithoutAMeterThereAreFactsAndAReason) {
    Machine m(12);
    Open open(m, nullptr, 64, 0);
    Server server(m);
    Request r = {};
    r.n_prompt = 300;
    r.n_cached = 100;
    r.n_decode = 500;
    server.admit(r);
    server.drain(); // far more steps than the ring holds
    wtl_energy_report report;
    ASSERT_TRUE(wtl_energy_report_of(open.e, server.requests[0]->id, &report));
    EXPECT_TRUE(report.settled);
    EXPECT_EQ(report.dropped_stamps, 0u);
    EXPECT_EQ(report.prefill.n_tok, 200);
    EXPECT_EQ(report.prefill.n_cached_tok, 100);
    EXPECT_EQ(report.decode.n_tok, 500);
    EXPECT_EQ(report.decode.weight_bytes, 500 * 143000000ull);
    EXPECT_GT(report.decode.busy_ns, 0u);
    EXPECT_EQ(report.total.status, TEL_UNAVAILABLE);
    EXPECT_STREQ(report.total.reason, "no meter in this test");
    EXPECT_EQ(wtl_energy_forecast_of(open.e, 10, 0, 10).total.status, TEL_UNAVAILABLE);
}

TEST(Energy, ForecastsContainWhatHappens) {
    Machine m(13);
    Open open(m);
    Server server(m);
    server.chunk = 512;
    EXPECT_EQ(wtl_energy_forecast_of(open.e, 100, 0, 100).total.status, TEL_UNAVAILABLE);
    m.rest(2000000000);
    std::mt19937_64 rng(13);
    for (int i = 0; i < 12; i++) {
        Request r = {};
        r.n_prompt = pick(rng, 50, 1000);
        r.n_cached = i % 3 == 2 ? r.n_prompt / 2 : 0;
        r.n_decode = pick(rng, 50, 400);
        const wtl_energy_forecast f = wtl_energy_forecast_of(open.e, r.n_prompt, r.n_cached, r.n_decode);
        server.admit(r);
        server.drain();
        m.rest(300000000);
        if (!i) continue;
        const Truth &t = server.requests.back()->truth;
        ASSERT_EQ(f.total.status, TEL_MODELLED);
        EXPECT_GE(t.total() * 1e6, (double)f.total.low_uj);
        EXPECT_LE(t.total() * 1e6, (double)f.total.high_uj);
        EXPECT_GE(t.decode() * 1e6, (double)f.decode.low_uj);
        EXPECT_LE(t.decode() * 1e6, (double)f.decode.high_uj);
        EXPECT_NEAR((double)(f.prefill_ns + f.decode_ns) * 1e-9, t.last_s - t.first_s, 0.25 * (t.last_s - t.first_s));
    }
}

// ---- Ring -----------------------------------------------------------------------------------------------------------

TEST(EnergyRing, StampsArriveWholeAndInOrderAcrossThreads) {
    energy_ring *ring = energy_ring_open(256);
    ASSERT_NE(ring, nullptr);
    constexpr int kSteps = 30000;
    std::atomic<bool> done{false};
    std::thread producer([&] {
        std::mt19937_64 rng(1);
        std::vector<wtl_seq_work> seqs(8);
        std::vector<uint64_t> ids(8);
        for (int i = 1; i <= kSteps; i++) {
            wtl_step_work w = {};
            w.n_seqs = 1 + (int32_t)(rng() % 8);
            w.seqs = seqs.data();
            w.start_ns = (uint64_t)i * 10;
            w.end_ns = w.start_ns + 5;
            w.weight_bytes = (uint64_t)i;
            for (int k = 0; k < w.n_seqs; k++) {
                seqs[(size_t)k].macs = (uint64_t)(i * 100 + k);
                ids[(size_t)k] = (uint64_t)i;
            }
            energy_ring_push(ring, &w, ids.data(), 0);
            if (i % 64 == 0) std::this_thread::yield();
        }
        done = true;
    });
    uint64_t at = 0, last = 0, steps = 0, until, last_dropped = 0;
    bool good = true;
    for (bool more = true; more;) {
        more = !done;
        const uint64_t head = energy_ring_head(ring);
        while (at < head) {
            const energy_stamp step = energy_ring_slot(ring, at)->step;
            good = good && step.weight_bytes > last && step.n_dropped >= last_dropped;
            good = good && step.n_dropped - last_dropped == step.weight_bytes - last - 1; // every missing step is counted
            for (int k = 0; k < step.n_seqs; k++) {
                energy_seq_stamp *q = &energy_ring_slot(ring, at + 1 + (uint64_t)k)->seq;
                good = good && q->request == step.weight_bytes && q->macs == step.weight_bytes * 100 + (uint64_t)k;
                q->phase = ENERGY_DECODE; // the consumer may write what it holds
            }
            last = step.weight_bytes;
            last_dropped = step.n_dropped;
            at += 1 + (uint64_t)step.n_seqs;
            steps++;
            energy_ring_release(ring, at);
        }
    }
    producer.join();
    EXPECT_TRUE(good);
    EXPECT_EQ(steps + energy_ring_dropped(ring, &until), (uint64_t)kSteps);
    energy_ring_close(ring);
}

TEST(Energy, StepsPollsAndReportsMayRunOnThreeThreads) {
    Machine m(14);
    Open open(m, nullptr, 0, 0); // no domains: the simulated curve is not made for threads
    std::atomic<bool> done{false};
    std::thread sampler([&] {
        while (!done) energy_on_poll(open.e);
    });
    std::atomic<uint64_t> shared{0};
    std::thread asker([&] {
        wtl_energy_report report;
        while (!done)
            if (shared) wtl_energy_report_of(open.e, shared, &report);
    });
    for (int round = 0; round < 20; round++) {
        wtl_energy_request info = {};
        info.n_prompt_tok = 4;
        const uint64_t id = wtl_energy_begin(open.e, &info);
        shared = id;
        wtl_seq_work seq = {};
        seq.n_new_tok = seq.n_logits = 1;
        wtl_step_work w = {};
        w.n_seqs = 1;
        w.seqs = &seq;
        for (int i = 0; i < 200; i++) {
            w.start_ns = wtl_clock_ns();
            w.end_ns = w.start_ns + 100;
            wtl_energy_step(open.e, &w, &id);
        }
        wtl_energy_end(open.e, id);
        EXPECT_TRUE(wtl_energy_settle(open.e, id, 1000000000));
        wtl_energy_report report;
        ASSERT_TRUE(wtl_energy_report_of(open.e, id, &report));
        EXPECT_EQ(report.prefill.n_tok + report.decode.n_tok, 200);
        shared = 0;
        wtl_energy_forget(open.e, id);
    }
    done = true;
    sampler.join();
    asker.join();
}

TEST(Energy, WhoWantsToKnowIsToldOfEveryBooking) {
    Machine m(15);
    Open open(m);
    int told = 0;
    wtl_energy_on_booked(open.e, [](void *user) { ++*(int *)user; }, &told);
    for (int i = 1; i <= 3; i++) {
        energy_on_poll(open.e);
        EXPECT_EQ(told, i);
    }
    wtl_energy_on_booked(open.e, nullptr, nullptr);
    energy_on_poll(open.e);
    EXPECT_EQ(told, 3);
}

TEST(Energy, AStampCostsLessThanTwoMicroseconds) {
    Machine m(15);
    Open open(m, nullptr, 1 << 17, 1);
    wtl_energy_request info = {};
    const uint64_t id = wtl_energy_begin(open.e, &info);
    wtl_seq_work seq = {};
    seq.n_new_tok = 1;
    wtl_step_work w = {};
    w.n_seqs = 1;
    w.seqs = &seq;
    double best = 1e9, clock = 1e9;
    for (int round = 0; round < 20; round++) {
        const uint64_t t0 = wtl_clock_ns();
        for (int i = 0; i < 2000; i++) wtl_energy_step(open.e, &w, &id);
        const uint64_t t1 = wtl_clock_ns();
        uint64_t sink = 0;
        for (int i = 0; i < 2000; i++) sink += wtl_cpu_time_ns();
        const uint64_t t2 = wtl_clock_ns() + (sink & 0);
        best = std::min(best, (double)(t1 - t0) / 2000);
        clock = std::min(clock, (double)(t2 - t1) / 2000);
    }
    std::printf("a stamp of one sequence: %.0f ns, of which the CPU clock %.0f ns\n", best, clock);
    EXPECT_LT(best - clock, kChecked ? 20000 : 2000);
}

// ---- File -----------------------------------------------------------------------------------------------------------

struct TempFile {
    std::string path = testing::TempDir() + "energy_fit_" + std::to_string(getpid());
    TempFile() { std::remove(path.c_str()); }
    ~TempFile() { std::remove(path.c_str()); }
    std::string text() const {
        std::ifstream f(path);
        return std::string(std::istreambuf_iterator<char>(f), {});
    }
    void write(const std::string &s) const { std::ofstream(path) << s; }
};

wtl_energy_fit learn(const TempFile &file, uint64_t seed) {
    Machine m(seed);
    Open open(m, file.path.c_str());
    Server server(m);
    random_schedule(server, 3);
    return wtl_energy_fit_of(open.e, 0);
}

wtl_energy_fit loaded(const TempFile &file) {
    Machine m(1);
    Open open(m, file.path.c_str());
    return wtl_energy_fit_of(open.e, 0);
}

TEST(EnergyStore, AFitComesBackFromItsFile) {
    TempFile file;
    const wtl_energy_fit before = learn(file, 21), after = loaded(file);
    ASSERT_TRUE(after.fitted);
    EXPECT_EQ(after.n_intervals, before.n_intervals);
    EXPECT_NEAR(after.uj_per_gb, before.uj_per_gb, 1e-3 * before.uj_per_gb);
    EXPECT_NEAR(after.uj_per_gmac, before.uj_per_gmac, 1e-3 * before.uj_per_gmac);
    EXPECT_TRUE(after.idle_known);
    EXPECT_NEAR(after.idle_w, before.idle_w, 1e-6);
    EXPECT_GE(after.idle_spread_w, before.idle_spread_w);
}

TEST(EnergyStore, AShortQuietStretchBeforeClosingIsKept) {
    TempFile file;
    {
        Machine m(26);
        Open open(m, file.path.c_str());
        m.rest(400000000); // less than a sample
        EXPECT_FALSE(wtl_energy_fit_of(open.e, 0).idle_known);
    }
    const wtl_energy_fit fit = loaded(file);
    ASSERT_TRUE(fit.idle_known);
    EXPECT_NEAR(fit.idle_w, 12, fit.idle_spread_w);
}

TEST(EnergyStore, LinesOfOthersAreKept) {
    TempFile file;
    learn(file, 22);
    std::string mine = file.text();
    Machine m(23);
    energy_setup setup = {};
    setup.machine = m.seam();
    setup.shape = small_shape();
    setup.fit_path = file.path.c_str();
    setup.fit_key = "another model";
    ASSERT_EQ(energy_open(&setup, &m.energy, nullptr), WTL_OK);
    EXPECT_FALSE(wtl_energy_fit_of(m.energy, 0).fitted) << "of another model";
    m.rest(2000000000);
    wtl_energy_close(&m.energy);
    const std::string both = file.text();
    EXPECT_NE(both.find(mine), std::string::npos);
    EXPECT_GT(both.size(), mine.size());
    EXPECT_TRUE(loaded(file).fitted);
}

TEST(EnergyStore, DamagedFilesAreIgnored) {
    TempFile file;
    learn(file, 24);
    const std::string good = file.text();
    std::mt19937_64 rng(24);
    for (int round = 0; round < 300; round++) {
        std::string bad = good;
        if (round % 3 == 0) bad.resize(rng() % (good.size() - 1));
        else bad[rng() % (bad.size() - 1)] ^= (char)(1 + rng() % 127);
        file.write(bad);
        EXPECT_FALSE(loaded(file).fitted) << "round " << round;
    }
    file.write(std::string(3 << 20, 'x'));
    EXPECT_FALSE(loaded(file).fitted);
    file.write(good);
    EXPECT_TRUE(loaded(file).fitted);
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

int64_t refuse_at = -1, seen;
bool Hook(void *, size_t) { return seen++ != refuse_at; }

TEST(Energy, OpeningSurvivesEveryRefusedAllocation) {
    TempFile file;
    learn(file, 25);
    Machine m(25);
    energy_setup setup = {};
    setup.machine = m.seam();
    setup.shape = small_shape();
    setup.fit_path = file.path.c_str();
    setup.fit_key = "small 1 sim";
    int failed = 0;
    wtl_alloc_set_hook(Hook, nullptr);
    for (refuse_at = 0;; refuse_at++) {
        seen = 0;
        wtl_energy *e = nullptr;
        wtl_error err = {};
        const wtl_status status = energy_open(&setup, &e, &err);
        const bool refused = seen > refuse_at;
        const wtl_energy_request info = {};
        if (status) {
            EXPECT_EQ(status, WTL_ERR_NO_MEMORY);
            EXPECT_EQ(e, nullptr);
            failed++;
        } else {
            seen = refuse_at; // the next one fails: the request then runs without energy
            EXPECT_EQ(wtl_energy_begin(e, &info), 0u);
            EXPECT_NE(wtl_energy_begin(e, &info), 0u);
        }
        wtl_energy_close(&e);
        if (!refused) break;
        ASSERT_LT(refuse_at, 100);
    }
    wtl_alloc_set_hook(nullptr, nullptr);
    EXPECT_GE(failed, 9);
}

} // namespace
