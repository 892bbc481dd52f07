// Energy of windows and their bounds: coverage on sensors whose truth is known, width, terms, gaps, edges.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "simulated_sensor.h"

using namespace simulated;

namespace {

const double lengths_s[] = {0.05, 0.1, 0.2, 0.5, 1, 2, 5};

struct Audit {
    size_t n = 0, covered = 0, unavailable = 0;
    std::vector<double> widths;
    double coverage() const { return n ? (double)covered / (double)n : 0; }
    double median() {
        std::sort(widths.begin(), widths.end());
        return widths.empty() ? INFINITY : widths[widths.size() / 2];
    }
};

Audit audit(const tel_track *track, const Device &d, double window_s, size_t n, std::mt19937_64 &random) {
    Audit a;
    std::uniform_real_distribution<double> start(0.4, d.length_s() - 0.4 - window_s);
    for (size_t i = 0; i < n; i++) {
        double t0 = start(random), t1 = t0 + window_s;
        tel_energy e = tel_track_energy(track, at_ns(t0), at_ns(t1));
        if (e.status == TEL_UNAVAILABLE) {
            a.unavailable++;
            continue;
        }
        double truth_uj = d.energy(t0, t1) * 1e6;
        a.n++;
        bool inside = std::fabs((double)e.energy_uj - truth_uj) <= (double)e.bound_uj;
        a.covered += inside;
        a.widths.push_back((double)e.bound_uj / (double)e.energy_uj);
    }
    return a;
}

struct Case {
    const char *name, *card;
    double step_s, window_s;
};
const Case cases[] = {{"full-window board", "NVIDIA GeForce RTX 4090", 0.1, 0.1},
                      {"part-time board", "NVIDIA H100 PCIe", 0.1, 0.025},
                      {"unknown board that sees all", "", 0.1, 0.1},
                      {"unknown board that sees a quarter", "", 0.1, 0.025},
                      {"Volta", "Tesla V100-SXM2-16GB", 0.02, 0.01}};
const Load loads[] = {Load::square, Load::telegraph, Load::llm, Load::levels};

// At the worst gain and offset that the tables promise to cover, on loads of every shape, every recording, every length.
TEST(Window, CoversTheTruthOnSimulatedBoards) {
    std::mt19937_64 random(20261122);
    auto uniform = [&](double a, double b) { return std::uniform_real_distribution<double>(a, b)(random); };
    for (const Case &c : cases)
        for (Load load : loads)
            for (int corner = 0; corner < 4; corner++) {
                double low = uniform(50, 120), high = low + uniform(80, 300);
                Sensor s = {c.step_s, c.window_s, uniform(0, 0.008), c.step_s > 0.05 ? uniform(0.005, 0.02) : 0.005};
                s.gain = corner & 1 ? 0.92 : 1.08;
                s.offset_w = corner & 2 ? -23 : 23;
                Device d = make_device(load, 9, low, high, random, uniform(0.05, 0.4), uniform(0.3, 0.7));
                tel_track *track = watch(d, s, tel_card_by_name(c.card), nullptr, random);
                ASSERT_NE(track, nullptr);
                for (double w : lengths_s) {
                    Audit a = audit(track, d, w, 300, random);
                    EXPECT_EQ(a.unavailable, 0u) << c.name;
                    EXPECT_GE(a.coverage(), 0.99) << c.name << ", load " << (int)load << ", gain " << s.gain << ", offset " << s.offset_w << ", window " << w;
                }
                tel_track_close(&track);
            }
}

// A load whose period is the sensor's step: every reading shows the same mean, and windows of half a step are off by all of the swing.
TEST(Window, CoversLoadsLockedToTheSensor) {
    std::mt19937_64 random(7);
    for (double period : {0.0995, 0.1, 0.1005, 0.05, 0.2})
        for (double duty : {0.3, 0.5, 0.7}) {
            Device d = make_device(Load::square, 9, 120, 450, random, period, duty);
            Sensor s;
            s.gain = 0.95;
            tel_track *track = watch(d, s, tel_card_by_name("NVIDIA GeForce RTX 3090"), nullptr, random);
            for (double w : lengths_s) {
                Audit a = audit(track, d, w, 400, random);
                EXPECT_GE(a.coverage(), 0.99) << "period " << period << ", duty " << duty << ", window " << w;
            }
            tel_track_close(&track);
        }
}

TEST(Window, IsNotLazilyWide) {
    std::mt19937_64 random(11);
    Device d = make_device(Load::square, 12, 135, 460, random);
    Sensor s;
    s.gain = 0.945;
    tel_track *track = watch(d, s, tel_card_by_name("NVIDIA GeForce RTX 3090"), nullptr, random);
    double at_02 = audit(track, d, 0.2, 1000, random).median(), at_5 = audit(track, d, 5, 1000, random).median();
    EXPECT_LE(at_02, 0.31); // the recorded board itself: e2e, at most 0.30
    EXPECT_LE(at_5, 0.15);
    tel_track_close(&track);

    tel_calibration calibration = {};
    calibration.gain = 0.945;
    calibration.gain_error = 0.011;
    calibration.offset_error_w = 1.2;
    track = watch(d, s, tel_card_by_name("NVIDIA GeForce RTX 3090"), &calibration, random);
    Audit a = audit(track, d, 5, 1000, random);
    EXPECT_LE(a.median(), 0.08);
    EXPECT_GE(a.coverage(), 0.99);
    tel_track_close(&track);
}

// A driver's energy counter: steps of 100 ms, one to two of them late.
TEST(Window, CoversACounterThatLags) {
    std::mt19937_64 random(3);
    for (double lag : {0.0, 0.05, 0.1, 0.2})
        for (Load load : loads) {
            Device d = make_device(load, 9, 60, 300, random, 0.3);
            Sensor s = {0.1, 0.1, lag, 0.02};
            s.counter = true;
            s.gain = 0.95;
            tel_track *track = watch(d, s, tel_card_gpu_counter(), nullptr, random);
            for (double w : lengths_s) {
                Audit a = audit(track, d, w, 300, random);
                EXPECT_GE(a.coverage(), 0.99) << "lag " << lag << ", load " << (int)load << ", window " << w;
            }
            tel_track_close(&track);
        }
}

// A package counter with steps of a millisecond, read every 20: narrow.
TEST(Window, CpuCounterIsNarrow) {
    std::mt19937_64 random(5);
    Device d = make_device(Load::llm, 9, 20, 90, random);
    Sensor s = {0.001, 0.001, 0, 0.02};
    s.counter = true;
    tel_card card = *tel_card_counter();
    card.gain_frac = 0;
    tel_track *track = watch(d, s, &card, nullptr, random);
    Audit short_windows = audit(track, d, 0.2, 500, random), long_windows = audit(track, d, 2, 500, random);
    EXPECT_GE(short_windows.coverage(), 0.99);
    EXPECT_GE(long_windows.coverage(), 0.99);
    EXPECT_LE(short_windows.median(), 0.10);
    EXPECT_LE(long_windows.median(), 0.01);
    tel_track_close(&track);
}

// ---- By hand ------------------------------------------------------------------------------------------------------
struct Track {
    tel_series series = {};
    tel_track *track = nullptr;
    explicit Track(tel_series_kind kind, const tel_card *card, tel_method method = TEL_METHOD_COUNTER, double low = 0, double high = 0) {
        tel_series_options s = {};
        s.kind = kind;
        s.uj_per_unit = 1;
        s.capacity = 1024;
        tel_track_options t = {};
        t.card = card;
        t.kind = kind;
        t.method = method;
        t.scope = TEL_SCOPE_CPU_PACKAGE;
        t.source = "test";
        t.low_factor = low;
        t.high_factor = high;
        t.capacity = 1024;
        EXPECT_EQ(tel_series_init(&series, &s), TEL_OK);
        EXPECT_EQ(tel_track_open(&t, &track), TEL_OK);
    }
    ~Track() {
        tel_track_close(&track);
        tel_series_free(&series);
    }
    void push(double t_s, double value) {
        tel_series_push_at(&series, at_ns(t_s), (uint64_t)value);
        tel_track_update(track, &series);
    }
    tel_energy energy(double t0, double t1) { return tel_track_energy(track, at_ns(t0), at_ns(t1)); }
};

TEST(Window, TheHighestPowerFollowsFromTheLimitOnly) {
    Track t(TEL_SERIES_COUNTER, tel_card_exact());
    for (int i = 0; i <= 50; i++) t.push(i * 0.02, i * 1e6);
    EXPECT_EQ(tel_track_trust(t.track).peak_uw, 0) << "what was seen says nothing about what can be";
    Track board(TEL_SERIES_POWER, tel_card_by_name("NVIDIA GeForce RTX 3090"));
    EXPECT_NEAR(tel_track_trust(board.track).peak_uw, 1.35 * 350e6, 1);
}

TEST(Window, SteadyCounterIsExact) {
    Track t(TEL_SERIES_COUNTER, tel_card_exact());
    for (int i = 0; i <= 100; i++) t.push(i * 0.02, i * 0.02 * 50e6); // 50 W
    tel_energy e = t.energy(0.5, 1.5);
    EXPECT_EQ(e.status, TEL_MEASURED);
    EXPECT_NEAR((double)e.energy_uj, 50e6, 1e5);
    EXPECT_LE(e.bound_uj, 600000u);
    EXPECT_DOUBLE_EQ(e.coverage_frac, 1);
}

TEST(Window, TermsAddUpToTheBound) {
    std::mt19937_64 random(1);
    for (const Case &c : cases) {
        Device d = make_device(Load::levels, 6, 50, 300, random);
        Sensor s = {c.step_s, c.window_s, 0.004, 0.005};
        tel_track *track = watch(d, s, tel_card_by_name(c.card), nullptr, random);
        for (int i = 0; i < 50; i++) {
            double t0 = 0.5 + i * 0.05;
            tel_energy e = tel_track_energy(track, at_ns(t0), at_ns(t0 + 0.33));
            ASSERT_NE(e.status, TEL_UNAVAILABLE);
            const tel_terms &m = e.terms;
            EXPECT_EQ(e.bound_uj, m.step_uj + m.lag_uj + m.latency_uj + m.unseen_uj + m.gain_uj + m.offset_uj + m.gap_uj + m.model_uj + m.idle_uj + m.attribution_uj);
            EXPECT_LE(e.low_uj, e.energy_uj);
            EXPECT_GE(e.high_uj, e.energy_uj);
            EXPECT_LE(e.high_uj - e.energy_uj, e.bound_uj + 2);
            EXPECT_LE(e.energy_uj - e.low_uj, e.bound_uj + 2);
            EXPECT_EQ(e.status, e.bound_uj > e.energy_uj / 2 ? TEL_BELOW_RESOLUTION : TEL_MEASURED);
        }
        tel_track_close(&track);
    }
}

TEST(Window, OutsideOfTheReadingsIsUnavailableNotZero) {
    Track t(TEL_SERIES_COUNTER, tel_card_exact());
    EXPECT_EQ(t.energy(0, 1).status, TEL_UNAVAILABLE);
    EXPECT_NE(t.energy(0, 1).reason, nullptr);
    for (int i = 0; i <= 50; i++) t.push(i * 0.02, i * 1e6);
    EXPECT_EQ(t.energy(-0.5, 0.5).status, TEL_UNAVAILABLE);
    EXPECT_EQ(t.energy(0.5, 1.5).status, TEL_UNAVAILABLE);
    EXPECT_EQ(t.energy(0.5, 0.5).status, TEL_UNAVAILABLE);
    EXPECT_EQ(t.energy(0.6, 0.5).status, TEL_UNAVAILABLE);
    EXPECT_EQ(t.energy(0.2, 0.8).status, TEL_MEASURED);
}

// A reset in the middle: counted, and its time carries a bound that reaches from no power to the most that the device shows.
TEST(Window, GapIsCountedAndBounded) {
    Track t(TEL_SERIES_COUNTER, tel_card_exact());
    double joules = 0;
    for (int i = 0; i <= 100; i++, joules += 1e6) t.push(i * 0.02, 5e9 + joules);
    tel_series_fault(&t.series, at_ns(2.1), TEL_FAULT_VANISHED);
    for (int i = 0; i <= 100; i++) t.push(2.5 + i * 0.02, i * 1e6);
    tel_energy e = t.energy(1.0, 4.0); // 150 J, of which 25 J lie in the gap
    EXPECT_EQ(e.n_gaps, 1u);
    EXPECT_LT(e.coverage_frac, 0.86);
    EXPECT_GT(e.coverage_frac, 0.80);
    EXPECT_GE(e.terms.gap_uj, 20000000u);
    EXPECT_LE(e.low_uj, 126000000u);
    EXPECT_GE(e.high_uj, 150000000u);
    EXPECT_EQ(t.energy(2.1, 2.4).status, TEL_UNAVAILABLE) << "nothing was read in there";
    EXPECT_EQ(t.energy(3.0, 4.0).n_gaps, 0u);
}

TEST(Window, ModelledCarriesItsInterval) {
    Track t(TEL_SERIES_COUNTER, tel_card_exact(), TEL_METHOD_MODELLED, 1.0 / 3, 3);
    for (int i = 0; i <= 100; i++) t.push(i * 0.02, i * 1e6);
    tel_energy e = t.energy(0.5, 1.5);
    EXPECT_EQ(e.status, TEL_MODELLED);
    EXPECT_NEAR((double)e.high_uj, 3.0 * (double)e.energy_uj, 1e6);
    EXPECT_NEAR((double)e.low_uj, (double)e.energy_uj / 3, 1e6);
    EXPECT_GE(e.bound_uj, e.high_uj - e.energy_uj - 2);
}

// Moments read at jittered times are a sample: their error shrinks with the root of their number.
TEST(Window, MomentsNarrowWithTheirNumber) {
    std::mt19937_64 random(9);
    Track t(TEL_SERIES_POWER, tel_card_instant(), TEL_METHOD_INTEGRATED);
    std::uniform_real_distribution<double> jitter(0.75, 1.25);
    Device d = make_device(Load::square, 40, 5, 30, random, 0.033);
    size_t n = 0;
    for (double s = 0; s < 39.9 && n < 1000; s += 0.04 * jitter(random), n++) t.push(s, d.watts[(size_t)(s * 1000)] * 1e6);
    size_t covered = 0;
    for (int i = 0; i < 200; i++) {
        double t0 = 2 + i * 0.1;
        tel_energy e = t.energy(t0, t0 + 10);
        covered += std::fabs((double)e.energy_uj - d.energy(t0, t0 + 10) * 1e6) <= (double)e.bound_uj;
        EXPECT_LE((double)e.bound_uj, 0.45 * (double)e.energy_uj);
    }
    EXPECT_GE(covered, 198u);
}

TEST(Window, EdgesTelescopeAndRise) {
    std::mt19937_64 random(4);
    Device d = make_device(Load::llm, 9, 40, 250, random);
    for (const Case &c : cases) {
        Sensor s = {c.step_s, c.window_s, 0.004, 0.005};
        tel_track *track = watch(d, s, tel_card_by_name(c.card), nullptr, random);
        std::vector<tel_edge> edges(4096), tail(4096);
        edges.resize(tel_track_edges(track, 0, edges.data(), edges.size()));
        ASSERT_GT(edges.size(), 50u);
        for (size_t i = 1; i < edges.size(); i++) {
            EXPECT_GT(edges[i].t_ns, edges[i - 1].t_ns);
            EXPECT_GE(edges[i].total_uj, edges[i - 1].total_uj);
            EXPECT_GE(edges[i].unseen_uj, edges[i - 1].unseen_uj);
        }
        // Windows between edges are differences of their totals.
        tel_energy e = tel_track_energy(track, edges[10].t_ns, edges[40].t_ns);
        EXPECT_NEAR((double)e.energy_uj, (double)(edges[40].total_uj - edges[10].total_uj), 2);
        tail.resize(tel_track_edges(track, edges[10].t_ns, tail.data(), 5));
        ASSERT_EQ(tail.size(), 5u);
        EXPECT_EQ(tail[0].t_ns, edges[11].t_ns);
        EXPECT_EQ(tel_track_edges(track, edges.back().t_ns, tail.data(), 5), 0u);
        EXPECT_EQ(tel_track_settled(track), edges.back().t_ns);
        tel_track_close(&track);
    }
}

// A constant reading never changes, and yet time goes on: its updates are put where they must have been.
TEST(Window, ConstantReadingSettles) {
    Track t(TEL_SERIES_POWER, tel_card_by_name("NVIDIA GeForce RTX 3090"), TEL_METHOD_INTEGRATED);
    for (int i = 0; i < 20; i++) t.push(i * 0.1, 100e6 + (i < 8 ? i * 1e5 : 0));
    for (int i = 0; i < 300; i++) t.push(2 + i * 0.01, 100e6);
    EXPECT_GT(tel_track_settled(t.track), at_ns(4.6));
    tel_energy e = t.energy(3, 4);
    EXPECT_NEAR((double)e.energy_uj, 100e6, 1e6);
}

// ---- Cards --------------------------------------------------------------------------------------------------------
TEST(Card, IsFoundByWholeWords) {
    EXPECT_EQ(tel_card_by_name("NVIDIA A100-PCIE-40GB")->kind, TEL_CARD_PART_TIME);
    EXPECT_EQ(tel_card_by_name("NVIDIA A10")->kind, TEL_CARD_FULL_WINDOW);
    EXPECT_EQ(tel_card_by_name("NVIDIA H100 PCIe")->kind, TEL_CARD_PART_TIME);
    EXPECT_EQ(tel_card_by_name("NVIDIA H200")->kind, TEL_CARD_PART_TIME);
    EXPECT_DOUBLE_EQ(tel_card_by_name("NVIDIA GeForce RTX 3090")->limit_w, 350);
    EXPECT_DOUBLE_EQ(tel_card_by_name("NVIDIA GeForce RTX 3090 Ti")->limit_w, 450);
    EXPECT_EQ(tel_card_by_name("nvidia geforce rtx 3090")->kind, TEL_CARD_FULL_WINDOW);
    EXPECT_EQ(tel_card_by_name("Tesla K40m")->kind, TEL_CARD_AVERAGED);
    EXPECT_EQ(tel_card_by_name("Some Board")->kind, TEL_CARD_UNKNOWN);
    EXPECT_EQ(tel_card_by_name("")->kind, TEL_CARD_UNKNOWN);
    EXPECT_EQ(tel_card_by_name(nullptr)->kind, TEL_CARD_UNKNOWN);
}

} // namespace
