// Series: totals of counters against a known truth, through wraps, resets, failed reads and everything else that counters do.
//
// The machine here is a counter whose true energy is known at every moment. What is asserted of every random schedule: each stretch that the
// series calls observed has exactly its true energy, every other stretch has none, and the total is their sum.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

extern "C" {
#include "telemetry/series.h"
}

namespace {

constexpr uint64_t kMs = 1000000, kSecond = 1000 * kMs;

uint64_t Seed() {
    const char *text = getenv("WTL_TEST_SEED");
    return text ? strtoull(text, nullptr, 10) : 20261122;
}

class Series {
  public:
    explicit Series(tel_series_options o) {
        if (!o.capacity) o.capacity = 65536;
        if (!(o.uj_per_unit > 0)) o.uj_per_unit = 1;
        EXPECT_EQ(tel_series_init(&s, &o), TEL_OK);
    }
    ~Series() { tel_series_free(&s); }
    Series(const Series &) = delete;
    Series &operator=(const Series &) = delete;

    void At(uint64_t t_ns, uint64_t raw) { tel_series_push(&s, t_ns - 1000, t_ns + 1000, raw); }
    void Fault(uint64_t t_ns, tel_fault fault) { tel_series_fault(&s, t_ns, fault); }
    const tel_sample &Last() const { return *tel_series_at(&s, s.n - 1); }
    uint64_t Total() const { return Last().value; }

    tel_series s;
};

tel_series_options Counter(uint64_t range, double uj_per_unit = 1, uint64_t limit_uw = 200000000, uint64_t step_ns = kMs) {
    return {TEL_SERIES_COUNTER, uj_per_unit, range, limit_uw, step_ns, 0};
}

// A counter with a known truth: `truth` units since it was made, latched at every step.
struct Machine {
    uint64_t modulus; // 0: 2^64
    uint64_t truth = 0, offset;
    uint64_t Register() const { return modulus ? (truth % modulus + offset) % modulus : truth + offset; }
    void Set(uint64_t value) { offset = modulus ? (value + modulus - truth % modulus) % modulus : value - truth; }
};

// ---- Arithmetic ---------------------------------------------------------------------------------------------------
TEST(Series, FirstReadingIsABaselineKepler) { // Kepler: the first reading counted the whole counter
    Series c(Counter(262143328850u));
    c.At(kSecond, 123456789);
    EXPECT_EQ(c.Total(), 0u);
    EXPECT_FALSE(c.Last().changed);
    c.At(kSecond + 20 * kMs, 123456789 + 1000);
    EXPECT_EQ(c.Total(), 1000u);
}

TEST(Series, PartsOfAMicrojouleAreCarried) { // perf: 2^-32 J per unit
    const double unit = 1e6 / 4294967296.0;
    Series c(Counter(0, unit));
    uint64_t raw = 77, sum = 0;
    for (int i = 0; i < 20000; i++, raw += 4099, sum += 4099) c.At(kSecond + i * kMs, raw);
    sum -= 4099;
    EXPECT_EQ(c.Total(), (uint64_t)((long double)sum * (long double)unit));
    EXPECT_EQ(c.s.n_gaps, 0u);
}

TEST(Series, WrapsAreFollowedScaphandre280EnergiBridge17) { // ignored there, negative there
    Series c(Counter(65712999613u));
    uint64_t raw = 65712999613u - 500000, t = kSecond;
    c.At(t, raw);
    for (int i = 0; i < 100; i++) c.At(t += 20 * kMs, (raw += 1000000) % 65712999614u);
    EXPECT_EQ(c.Total(), 100000000u);
    EXPECT_EQ(c.s.n_gaps, 0u);
}

TEST(Series, EveryCountAcrossAWrapIsThereZeusRace) { // read by read around the wrap, repeated moments included
    Series c(Counter(999999));
    c.s.options.limit_uw = 1000000; // 1 W: the range is 1 J
    uint64_t raw = 999990;
    c.At(kSecond, raw);
    for (uint64_t i = 1; i <= 20; i++) {
        c.At(kSecond + i * kMs, (raw + i) % 1000000);
        c.At(kSecond + i * kMs, (raw + i) % 1000000);
        EXPECT_EQ(c.Total(), i);
    }
    EXPECT_EQ(c.s.n_gaps, 0u);
}

TEST(Series, AWrapThatCouldHideIsAGapLikwid646) { // missed when nobody looked for long enough
    Series c(Counter(65712999613u)); // at twice 200 W it turns in 164 s
    c.At(kSecond, 1000);
    c.At(kSecond + 20 * kMs, 2000);
    c.At(171 * kSecond, 5000);
    EXPECT_TRUE(c.Last().gap_before);
    EXPECT_EQ(c.Total(), 1000u);
    EXPECT_EQ(c.s.faults[TEL_FAULT_LATE], 1u);
    c.At(171 * kSecond + 20 * kMs, 6000);
    EXPECT_EQ(c.Total(), 2000u);
}

TEST(Series, AFallIsNeverNegativeEnergyCodeCarbon1309) {
    Series c(Counter(0));
    uint64_t raws[] = {5000000, 5100000, 5200000, 4000000, 4100000, 3000000, 3100000};
    uint64_t t = kSecond, last = 0;
    for (uint64_t raw : raws) {
        c.At(t += 20 * kMs, raw);
        EXPECT_GE(c.Total(), last);
        last = c.Total();
    }
    EXPECT_LE(c.Total(), 400000u);
    EXPECT_EQ(c.s.faults[TEL_FAULT_BACKWARDS], 2u);
}

TEST(Series, AWrongRangeIsNot260KilowattsPowerJoular87) { // wraps at 65.7 kJ where 262 kJ are stated
    Series c(Counter(262143328850u));
    c.At(kSecond, 65712999613u - 1000);
    c.At(kSecond + 20 * kMs, 65712999613u);
    c.At(kSecond + 40 * kMs, 1000);
    EXPECT_TRUE(c.Last().gap_before);
    c.At(kSecond + 60 * kMs, 3000);
    EXPECT_EQ(c.Total(), 3000u);
}

TEST(Series, AStepBackIsAGapOnBothSidesAmdsmi115) { // 400 is either a stale reading or a restart
    Series c(Counter(0));
    uint64_t raws[] = {100000, 110000, 60000, 120000, 130000}, t = kSecond;
    for (uint64_t raw : raws) c.At(t += 100 * kMs, raw);
    EXPECT_EQ(c.Total(), 20000u); // 100 to 110, 120 to 130
    EXPECT_EQ(c.s.n_gaps, 2u);
}

TEST(Series, ValuesBeyondTheRangeAreNoReadings) {
    Series c(Counter(1000000000));
    c.At(kSecond, 500);
    c.At(kSecond + 20 * kMs, 2000000000);
    c.At(kSecond + 40 * kMs, 900);
    EXPECT_EQ(c.Total(), 400u);
    EXPECT_EQ(c.s.n_gaps, 1u);
    EXPECT_FALSE(c.Last().gap_before);
}

TEST(Series, AllOnesOfADeadDeviceIsNotTheEndOfTheRange) { // then 51 would be one wrap of a few units
    Series c(Counter(0xFFFFFFFFu));
    c.At(kSecond, 50);
    c.At(kSecond + 20 * kMs, 0xFFFFFFFFu);
    c.At(kSecond + 40 * kMs, 51);
    EXPECT_EQ(c.Total(), 0u);
    c.At(kSecond + 60 * kMs, 53);
    EXPECT_EQ(c.Total(), 2u);
    EXPECT_EQ(c.s.faults[TEL_FAULT_IMPLAUSIBLE], 1u);
}

TEST(Series, ARestartIsAGapAndNoEnergy) {
    Series c(Counter(0, 1000)); // mJ
    uint64_t t = kSecond;
    for (uint64_t raw : {900000, 900010, 3, 13, 23}) c.At(t += 100 * kMs, raw);
    EXPECT_EQ(c.Total(), 30000u);
    EXPECT_EQ(c.s.faults[TEL_FAULT_RESET], 1u);
    EXPECT_EQ(c.s.n_gaps, 1u);
}

TEST(Series, FailedReadsOfACounterThatWentOnLoseNoEnergy) {
    Series c(Counter(262143328850u));
    c.At(kSecond, 1000);
    c.Fault(kSecond + 20 * kMs, TEL_FAULT_READ);
    c.Fault(kSecond + 40 * kMs, TEL_FAULT_READ);
    c.At(kSecond + 60 * kMs, 4000);
    EXPECT_EQ(c.Total(), 3000u);
    EXPECT_FALSE(c.Last().gap_before);
    EXPECT_EQ(c.s.n_gaps, 1u);
    EXPECT_EQ(c.s.faults[TEL_FAULT_READ], 2u);
}

TEST(Series, AfterASuspendOrAVanishedDeviceTheDifferenceSaysNothing) {
    for (tel_fault fault : {TEL_FAULT_SUSPEND, TEL_FAULT_VANISHED}) {
        Series c(Counter(262143328850u));
        c.At(kSecond, 1000);
        c.Fault(kSecond + 20 * kMs, fault);
        c.At(kSecond + 40 * kMs, 3000); // may have restarted and come this far
        EXPECT_TRUE(c.Last().gap_before);
        EXPECT_EQ(c.Total(), 0u);
        c.At(kSecond + 60 * kMs, 3500);
        EXPECT_EQ(c.Total(), 500u);
    }
}

TEST(Series, AFrozenCounterIsAGapUntilItMoves) {
    Series c(Counter(262143328850u));
    uint64_t t = kSecond, raw = 1000;
    for (int i = 0; i < 100; i++) c.At(t += 20 * kMs, raw += 1000);
    EXPECT_EQ(c.Total(), 99000u);
    uint64_t kept = c.s.n;
    for (int i = 0; i < 500; i++) c.At(t += 20 * kMs, raw);
    EXPECT_EQ(c.s.faults[TEL_FAULT_FROZEN], 1u);
    EXPECT_LE(c.s.n, kept + 101); // nothing is kept once it is known: the settled time does not move
    c.At(t += 20 * kMs, raw += 1000);
    EXPECT_TRUE(c.Last().gap_before);
    EXPECT_EQ(c.Total(), 99000u);
    c.At(t += 20 * kMs, raw += 1000);
    EXPECT_EQ(c.Total(), 100000u);
    EXPECT_EQ(c.s.n_gaps, 1u);
}

TEST(Series, ACounterThatNeverMovedIsNotFrozen) { // a device that is off draws nothing
    Series c(Counter(262143328850u));
    for (int i = 1; i < 500; i++) c.At(i * 20 * kMs, 42);
    EXPECT_EQ(c.s.n_gaps, 0u);
    EXPECT_EQ(c.Total(), 0u);
}

TEST(Series, TimeThatStandsOrFallsIsDropped) {
    Series c(Counter(0));
    c.At(kSecond, 1000);
    c.At(kSecond, 2000);
    c.At(kSecond / 2, 3000);
    EXPECT_EQ(c.s.n, 1u);
    c.At(2 * kSecond, 4000);
    EXPECT_EQ(c.Total(), 3000u);
}

TEST(Series, TheStepIsLearnt) {
    Series c(Counter(0, 1000, 300000000, 0));
    std::mt19937_64 rng(Seed());
    uint64_t t = kSecond;
    for (int i = 0; i < 2000; i++) {
        t += (15 + rng() % 11) * kMs;
        c.At(t, t / (100 * kMs) * 10000); // 100 W, every 100 ms
    }
    EXPECT_NEAR((double)c.s.step_ns, 100e6, 12e6);
    EXPECT_EQ(c.s.n_gaps, 0u);
    EXPECT_GT(c.s.min_uw, 75000000u);
    EXPECT_LT(c.s.max_uw, 135000000u);
}

TEST(Series, PowersConstantIsLegalFailedIsAGap) {
    Series p({TEL_SERIES_POWER, 1000, 0, 300000000, 100 * kMs, 0});
    uint64_t t = kSecond;
    for (int i = 0; i < 100; i++) p.At(t += 100 * kMs, 55000);
    EXPECT_EQ(p.s.n_gaps, 0u);
    EXPECT_EQ(p.Last().value, 55000000u);
    p.Fault(t += 100 * kMs, TEL_FAULT_READ);
    p.At(t += 100 * kMs, 56000);
    EXPECT_TRUE(p.Last().gap_before);
    p.At(t += 100 * kMs, 700000); // more than twice 300 W
    p.At(t += 100 * kMs, 57000);
    EXPECT_TRUE(p.Last().gap_before);
    EXPECT_EQ(p.s.max_uw, 57000000u);
    p.At(t += 30 * kSecond, 57000);
    EXPECT_TRUE(p.Last().gap_before);
    EXPECT_EQ(p.s.faults[TEL_FAULT_LATE], 1u);
    EXPECT_EQ(p.s.n_gaps, 3u);
}

TEST(Series, StampedPowersOutliveAFailedRead) { // the device kept them
    Series p({TEL_SERIES_POWER, 1000, 0, 300000000, 100 * kMs, 0});
    uint64_t t = kSecond;
    for (int i = 0; i < 50; i++) tel_series_push_at(&p.s, t += 100 * kMs, 55000 + i % 3);
    p.Fault(t + 50 * kMs, TEL_FAULT_READ);
    tel_series_push_at(&p.s, t += 100 * kMs, 56000);
    EXPECT_FALSE(p.Last().gap_before);
    p.Fault(t + 50 * kMs, TEL_FAULT_READ);
    tel_series_push_at(&p.s, t += 500 * kMs, 56500);
    EXPECT_TRUE(p.Last().gap_before);
}

TEST(Series, ReadTimesAndTheRing) {
    Series c(tel_series_options{TEL_SERIES_COUNTER, 1, 0, 0, kMs, 8});
    for (uint64_t i = 1; i <= 1000; i++) tel_series_push(&c.s, i * kMs, i * kMs + (i % 50 ? 3000 : 90000), i * 10);
    EXPECT_EQ(c.s.n, 8u);
    EXPECT_EQ(c.s.dropped, 992u);
    EXPECT_EQ(c.Total(), 9990u);
    EXPECT_EQ(c.s.n_reads, 1000u);
    EXPECT_NEAR((double)c.s.read_total_ns / 1000, 4740, 1);
    EXPECT_EQ(tel_series_read_p99(&c.s), 131071u); // 2 % are 90 us: the power of two around it
    EXPECT_EQ(tel_series_at(&c.s, 0)->value, 9920u);
}

// ---- Random schedules ---------------------------------------------------------------------------------------------
enum Event { kNone, kFailed, kVanished, kSuspend, kReset, kBackwards, kSpike, kLate, kFrozen, kRepeated, kBeyond, kWrapSoon, kNEvents };

class Schedule {
  public:
    explicit Schedule(uint64_t seed) : rng_(seed) {
        static const double units[] = {1, 1000, 1e6 / 4294967296.0, 61.03515625, 15.2587890625};
        unit_ = units[Below(5)];
        const uint64_t turn_uj[] = {65712999614u, 262143328851u};
        modulus_ = Below(3) ? (uint64_t)((double)turn_uj[Below(2)] / unit_) : 0;
        limit_uw_ = (50 + Below(400)) * 1000000u;
        step_ns_ = Below(2) ? kMs : 100 * kMs;
        series_.reset(new Series(Counter(modulus_ ? modulus_ - 1 : 0, unit_, limit_uw_, step_ns_)));
        machine_ = {modulus_, 0, 0};
        machine_.Set(modulus_ ? Below(modulus_) : Below(1ull << 40));
        power_uw_ = limit_uw_ / 3;
        for (int i = 0; i < 40; i++) Step(), Read(); // the step is known, the counter moves
    }

    void Run(Event event) {
        faults_ += event != kNone && event != kRepeated && event != kWrapSoon;
        switch (event) {
        case kFailed:
            for (uint64_t n = 1 + Below(5); n > 0; n--) Step(), series_->Fault(t_, TEL_FAULT_READ);
            break;
        case kVanished: Step(), series_->Fault(t_, TEL_FAULT_VANISHED); break;
        case kSuspend:
            series_->Fault(t_, TEL_FAULT_SUSPEND);
            if (Below(2)) Restart();
            break;
        case kReset: Step(), Restart(); break;
        case kBackwards: {
            uint64_t before = machine_.Register(), back = 1 + Units((double)Below(5000000)); // below what was read last
            Step();
            if (before > back && before < machine_.Register()) Odd(before - back);
            break;
        }
        case kSpike: Step(), Odd(machine_.Register() / 2 + Units(40000000000.0)); break;
        case kLate:
            if (modulus_) Step(200 * kSecond + Below(2000) * kSecond), Read();
            break;
        case kFrozen: Freeze(); break;
        case kRepeated:
            series_->At(t_, machine_.Register());
            series_->At(t_ - Below(kSecond), machine_.Register() + 5);
            break;
        case kBeyond:
            if (modulus_) Step(), series_->At(t_, modulus_ + Below(1000));
            break;
        case kWrapSoon: // a true wrap after some ordinary readings, reached by a gap of its own
            if (modulus_) series_->Fault(t_, TEL_FAULT_SUSPEND), machine_.Set(modulus_ - Units(3 * (double)limit_uw_ * 1e-3 * 20)), faults_++;
            break;
        default: break;
        }
        for (uint64_t n = 20 + Below(60); n > 0; n--) Step(), Read();
    }

    // Every observed stretch has its true energy, every other none.
    void Check(const char *what) {
        const tel_series &s = series_->s;
        ASSERT_EQ(s.dropped, 0u);
        ASSERT_EQ(truths_.size() >= s.n, true);
        unsigned __int128 known = 0;
        size_t k = 0, lost = 0;
        uint64_t last_truth = 0;
        for (size_t i = 0; i < s.n; i++) {
            const tel_sample *sample = tel_series_at(&s, i);
            while (k < truths_.size() && truths_[k].t_ns != sample->t_ns) k++;
            ASSERT_LT(k, truths_.size()) << what;
            if (i > 0 && !sample->gap_before) known += truths_[k].truth - last_truth;
            if (i > 0 && sample->gap_before) {
                ASSERT_EQ(sample->value, tel_series_at(&s, i - 1)->value) << what << ": a gap has no energy";
                lost++;
            }
            last_truth = truths_[k].truth;
            ASSERT_EQ(sample->value, (uint64_t)((long double)known * (long double)unit_)) << what << " at sample " << i << " of " << s.n;
        }
        ASSERT_LE(lost, 3 * faults_) << what << ": gaps without a fault";
        samples_ = s.n;
        lost_ = lost;
    }

    size_t samples_ = 0, lost_ = 0;

  private:
    struct Truth {
        uint64_t t_ns, truth;
    };

    uint64_t Below(uint64_t n) { return n ? rng_() % n : 0; }
    uint64_t Units(double uj) const { return (uint64_t)(uj / unit_); }

    // Time goes on: the true energy grows, the register follows at the source's steps.
    void Step(uint64_t dt = 0) {
        if (!dt) dt = 15 * kMs + Below(10 * kMs);
        double to = (double)Below(limit_uw_);
        power_uw_ += (to - power_uw_) / 8;
        t_ += dt;
        pending_uj_ += power_uw_ * (double)dt / 1e9;
        if (t_ / step_ns_ == latched_) return;
        latched_ = t_ / step_ns_;
        uint64_t units = Units(pending_uj_);
        pending_uj_ -= (double)units * unit_;
        machine_.truth += units;
    }

    void Read() {
        truths_.push_back({t_, machine_.truth});
        series_->At(t_, machine_.Register());
    }

    // A reading that is not the register's value. Its stretch must never count, so its truth is of no matter.
    void Odd(uint64_t raw) {
        truths_.push_back({t_, machine_.truth});
        series_->At(t_, modulus_ && raw >= modulus_ ? modulus_ - 1 : raw);
    }

    // From zero. A restart of a counter that is about to wrap cannot be told from the wrap: kept apart here.
    void Restart() {
        uint64_t near_end = Units(2.0 * (double)limit_uw_ * 2);
        if (modulus_ && machine_.Register() + near_end > modulus_) return;
        machine_.Set(Below(Units(1000)));
    }

    void Freeze() {
        uint64_t at = machine_.Register(), truth = machine_.truth;
        for (uint64_t until = t_ + 3 * kSecond + Below(3 * kSecond); t_ < until;) {
            Step();
            truths_.push_back({t_, truth});
            series_->At(t_, at);
        }
        if (Below(2)) machine_.Set(at); // did not count while it stood, or did
    }

    std::mt19937_64 rng_;
    double unit_ = 1, power_uw_ = 0, pending_uj_ = 0;
    uint64_t modulus_ = 0, limit_uw_ = 0, step_ns_ = 0, t_ = kSecond, latched_ = 0;
    size_t faults_ = 0;
    std::unique_ptr<Series> series_;
    Machine machine_{};
    std::vector<Truth> truths_;
};

TEST(Series, AThousandFaultsAndNoWrongTotal) {
    uint64_t seed = Seed();
    size_t faults = 0, samples = 0, lost = 0;
    std::mt19937_64 rng(seed);
    for (int round = 0; round < 100; round++) {
        Schedule schedule(seed + (uint64_t)round);
        char what[64];
        snprintf(what, sizeof what, "seed %llu, schedule %d", (unsigned long long)seed, round);
        for (int i = 0; i < 12; i++, faults++) schedule.Run((Event)(1 + rng() % (kNEvents - 1)));
        schedule.Check(what);
        if (HasFatalFailure()) return;
        samples += schedule.samples_;
        lost += schedule.lost_;
    }
    printf("%zu faults in 100 schedules (seed %llu): %zu samples, %zu stretches without energy\n", faults, (unsigned long long)seed, samples, lost);
    EXPECT_GE(faults, 1000u);
}

TEST(Series, WithoutFaultsThereAreNoGaps) {
    for (uint64_t i = 0; i < 30; i++) {
        Schedule schedule(Seed() + 1000 + i);
        for (int k = 0; k < 20; k++) schedule.Run(kNone);
        schedule.Check("no faults");
        if (HasFatalFailure()) return;
        EXPECT_EQ(schedule.lost_, 0u) << "schedule " << i;
    }
}

} // namespace
