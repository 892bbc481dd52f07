// The meter: opening by options, asking, the sampling thread, comparison of sources, suspend. Time is turned by hand where it can be.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

extern "C" {
#include "telemetry/meter.h"
}

namespace {

constexpr uint64_t kMs = 1000000, kSecond = 1000 * kMs;

struct Clock {
    std::atomic<uint64_t> now_ns{7 * kSecond};
    static uint64_t Now(void *user) { return static_cast<Clock *>(user)->now_ns; }
};

struct Open {
    explicit Open(const char *source, Clock *clock = nullptr, bool manual = true, uint64_t interval_ns = 0) {
        tel_options o = {};
        o.source = source;
        o.manual = manual;
        o.interval_ns = interval_ns;
        if (clock) o.clock = {Clock::Now, clock};
        result = tel_meter_open(&o, &m, &err);
    }
    ~Open() { tel_meter_close(&m); }
    tel_meter *m = nullptr;
    tel_error err = {};
    tel_result result;
};

void Go(const Open &open, Clock *clock, int rounds, uint64_t step_ns = 20 * kMs) {
    for (int i = 0; i < rounds; i++) {
        clock->now_ns += step_ns;
        tel_meter_poll(open.m);
    }
}

struct File {
    explicit File(const std::string &text) {
        char pattern[] = "/tmp/wattle-meter-XXXXXX";
        int fd = mkstemp(pattern);
        if (fd >= 0) close(fd);
        path = pattern;
        std::ofstream(path) << text;
        source = "replay:" + path;
    }
    ~File() { std::filesystem::remove(path); }
    std::string path, source;
};

// ---- Opening ------------------------------------------------------------------------------------------------------
TEST(Meter, NoneHasNoDomainAndNoNumber) {
    Open none("none", nullptr, false);
    ASSERT_EQ(none.result, TEL_OK);
    EXPECT_EQ(tel_meter_n_domains(none.m), 0u);
    tel_energy e = tel_meter_energy(none.m, 0, 0, 1);
    EXPECT_EQ(e.status, TEL_UNAVAILABLE);
    EXPECT_NE(e.reason, nullptr);
    tel_meter_poll(none.m);
    tel_meter_poke(none.m);
    EXPECT_STREQ(tel_meter_domain(none.m, 3).name, "");
}

TEST(Meter, OptionsThatAreWrongAreRefusedWithASentence) {
    for (const char *source : {"nonsense", "simulated:", "simulated:cpu:", "simulated:cpu:5", "simulated:cpu:5,x", "simulated:cpu:-1,5", "simulated:cpu:5,0", "replay:"}) {
        Open open(source);
        EXPECT_EQ(open.result, TEL_ERR_INVALID) << source;
        EXPECT_EQ(open.m, nullptr);
        EXPECT_NE(open.err.message[0], 0);
    }
    tel_meter *m = nullptr;
    tel_options o = {};
    o.source = "simulated:5";
    o.calibration_path = "/nonexistent/calibration";
    EXPECT_NE(tel_meter_open(&o, &m, nullptr), TEL_OK);
    EXPECT_EQ(m, nullptr);
    tel_meter_close(&m);
    tel_meter_close(nullptr);
}

TEST(Meter, WithoutAnySourceRequireFailsAndAutoSaysWhy) {
    tel_options o = {};
    o.sysfs_root = "/nonexistent";
    o.nvml_path = "/nonexistent/libnvidia-ml.so.1";
    o.source = "powercap";
    o.manual = true;
    tel_meter *m = nullptr;
    tel_error err = {};
    EXPECT_EQ(tel_meter_open(&o, &m, &err), TEL_ERR_UNAVAILABLE);
    EXPECT_NE(err.message[0], 0);
}

// ---- Asking -------------------------------------------------------------------------------------------------------
TEST(Meter, AConstantPowerIsItsEnergy) {
    Clock clock;
    Open open("simulated:100", &clock);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    ASSERT_EQ(tel_meter_n_counting(open.m), 1u);
    EXPECT_EQ(tel_meter_energy(open.m, 0, 7 * kSecond, 8 * kSecond).status, TEL_UNAVAILABLE);
    Go(open, &clock, 500);
    uint64_t settled = tel_meter_settled(open.m, 0);
    EXPECT_GT(settled, 16 * kSecond);
    for (uint64_t w : {50 * kMs, 200 * kMs, 1 * kSecond, 5 * kSecond}) {
        tel_energy e = tel_meter_energy(open.m, 0, settled - w - 33 * kMs, settled - 33 * kMs);
        ASSERT_NE(e.status, TEL_UNAVAILABLE) << e.reason;
        EXPECT_EQ(e.method, TEL_METHOD_SIMULATED);
        double truth = (double)w / 10; // 100 W for w ns, in uJ
        EXPECT_LE((double)e.low_uj, truth + 1);
        EXPECT_GE((double)e.high_uj, truth - 1);
    }
    tel_edge edges[16];
    size_t n = tel_meter_edges(open.m, 0, 10 * kSecond, edges, 16);
    ASSERT_EQ(n, 16u);
    for (size_t i = 1; i < n; i++) EXPECT_NEAR((double)(edges[i].total_uj - edges[i - 1].total_uj), (double)(edges[i].t_ns - edges[i - 1].t_ns) / 10, 2e5);
    tel_domain_info info = tel_meter_domain(open.m, 0);
    EXPECT_TRUE(info.power_known);
    EXPECT_NEAR((double)info.power_uw, 100e6, 5e6);
    EXPECT_EQ(info.n_reads, 500u);
    EXPECT_STREQ(info.reason, "");
    EXPECT_EQ(tel_meter_energy(open.m, 0, 1, 2).status, TEL_UNAVAILABLE);
    EXPECT_EQ(tel_meter_energy(open.m, 1, 8 * kSecond, 9 * kSecond).status, TEL_UNAVAILABLE);
}

TEST(Meter, ASuspendIsAGapInWhatHangsOnThisMachineOnly) {
    Clock clock;
    Open open("simulated:100", &clock);
    ASSERT_EQ(open.result, TEL_OK);
    static uint64_t suspended;
    suspended = 3 * kSecond;
    open.m->suspended_ns = [] { return suspended; };
    open.m->last_suspended_ns = suspended;
    Go(open, &clock, 10);
    suspended += 5 * kSecond;
    Go(open, &clock, 10);
    EXPECT_EQ(tel_meter_domain(open.m, 0).n_gaps, 0u); // made up: it did not sleep
    tel_source real = tel_source_simulated; // the same, but not known as made up
    open.m->domains[0].source = &real;
    suspended += 5 * kMs; // clocks' noise
    Go(open, &clock, 1);
    EXPECT_EQ(tel_meter_domain(open.m, 0).n_gaps, 0u);
    suspended += 5 * kSecond;
    Go(open, &clock, 10);
    EXPECT_EQ(tel_meter_domain(open.m, 0).n_gaps, 1u);
    EXPECT_EQ(open.m->domains[0].series.faults[TEL_FAULT_SUSPEND], 1u);
    open.m->domains[0].source = &tel_source_simulated;
}

// Two sources of one package; the second says `factor` times what the first does.
std::string TwoSources(double factor) {
    std::string text = "# wattle recording 1\n";
    for (const char *name : {"package-0", "package-0b"})
        text += "# domain " + std::string(name) + " scope=cpu_package kind=counter unit=uJ scale=1 step_ns=1000000 limit_uw=200000000 sensor=exact key=\"cpu_package:0\"\n";
    text += "t_us,domain,value,read_ns\n";
    for (int i = 0; i < 1000; i++) {
        std::string t = std::to_string(i * 20000);
        text += t + ",0," + std::to_string(i * 1000000) + ",\n" + t + ",1," + std::to_string((uint64_t)((double)i * 1000000 * (i < 500 ? 1 : factor) + (i < 500 ? 0 : 500e6 * (1 - factor)))) + ",\n";
    }
    return text;
}

TEST(Meter, SourcesThatContradictEachOtherAreDisputed) {
    for (double factor : {1.0, 1.5}) {
        Clock clock;
        File file(TwoSources(factor));
        Open open(file.source.c_str(), &clock);
        ASSERT_EQ(open.result, TEL_OK) << open.err.message;
        ASSERT_EQ(tel_meter_n_domains(open.m), 2u);
        ASSERT_EQ(tel_meter_n_counting(open.m), 1u);
        Go(open, &clock, 1000);
        tel_energy agreed = tel_meter_energy(open.m, 0, 8 * kSecond, 15 * kSecond), late = tel_meter_energy(open.m, 0, 20 * kSecond, 25 * kSecond);
        EXPECT_EQ(agreed.status, TEL_MEASURED);
        EXPECT_EQ(late.status, factor > 1 ? TEL_DISPUTED : TEL_MEASURED) << factor;
        EXPECT_NEAR((double)late.energy_uj, 250e6, 2e6); // still the chosen source's value
    }
}

// ---- Waiting ------------------------------------------------------------------------------------------------------
// A counter with a row every 20 ms for 20 s, and its value at each.
std::string CounterRows(const char *step, const std::function<uint64_t(int)> &value, int n = 1000) {
    std::string text = "# wattle recording 1\n# domain package-0 scope=cpu_package kind=counter unit=uJ scale=1 " + std::string(step) +
                       "limit_uw=200000000 sensor=exact key=\"cpu_package:0\"\nt_us,domain,value,read_ns\n";
    for (int i = 0; i < n; i++) text += std::to_string(i * 20000) + ",0," + std::to_string(value(i)) + ",\n";
    return text;
}

TEST(Meter, ACounterThatStandsStillIsNotWaitedFor) {
    Clock clock;
    File file(CounterRows("step_ns=1000000 ", [](int i) { return (uint64_t)(i < 100 ? i : i < 500 ? 100 : i - 400) * 1000000; }));
    Open open(file.source.c_str(), &clock);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    auto stalled = [&](uint64_t ago_ns) { return tel_meter_stalled(open.m, 0, clock.now_ns - ago_ns); };
    for (int i = 0; i < 190; i++) { // moving for 2 s, standing for almost as long
        Go(open, &clock, 1);
        EXPECT_FALSE(stalled(5 * kMs)) << "after " << i * 20 << " ms";
    }
    Go(open, &clock, 50); // for 2.8 s
    EXPECT_TRUE(stalled(5 * kMs));
    EXPECT_FALSE(stalled(0)) << "it was not read after that moment";
    EXPECT_FALSE(stalled(3500 * kMs)) << "that moment has settled";
    clock.now_ns += 10 * kMs;
    EXPECT_FALSE(stalled(5 * kMs)) << "nor after that one";
    EXPECT_TRUE(stalled(15 * kMs));
    EXPECT_TRUE(tel_meter_stalled(open.m, 1, 0)) << "no such domain";
    Go(open, &clock, 300); // moves again from 10 s on
    EXPECT_FALSE(stalled(5 * kMs));
}

TEST(Meter, ACounterThatNeverMovedIsNotWaitedFor) {
    Clock clock;
    File file(CounterRows("", [](int) { return uint64_t{7}; }));
    Open open(file.source.c_str(), &clock);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    Go(open, &clock, 99);
    EXPECT_FALSE(tel_meter_stalled(open.m, 0, clock.now_ns - 5 * kMs)) << "it may be slow";
    Go(open, &clock, 10);
    EXPECT_TRUE(tel_meter_stalled(open.m, 0, clock.now_ns - 5 * kMs));
}

TEST(Meter, SlowSensorsAreWaitedFor) {
    Clock clock;
    for (int per_step : {50, 90}) { // 1 s, 1.8 s, as some batteries; nobody said so
        File file(CounterRows("", [=](int i) { return (uint64_t)(i / per_step) * 10000000; }));
        Open open(file.source.c_str(), &clock);
        ASSERT_EQ(open.result, TEL_OK) << open.err.message;
        for (int i = 0; i < 990; i++) {
            Go(open, &clock, 1);
            ASSERT_FALSE(tel_meter_stalled(open.m, 0, clock.now_ns - 5 * kMs)) << "after " << i * 20 << " ms";
        }
    }
}

TEST(Meter, ASourceThatHasEndedIsNotWaitedFor) {
    Clock clock;
    File file(CounterRows("step_ns=1000000 ", [](int i) { return (uint64_t)i * 1000000; }, 10));
    Open open(file.source.c_str(), &clock);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    Go(open, &clock, 8);
    EXPECT_FALSE(tel_meter_stalled(open.m, 0, clock.now_ns));
    Go(open, &clock, 5);
    EXPECT_TRUE(tel_meter_stalled(open.m, 0, clock.now_ns));
}

// ---- Pace ---------------------------------------------------------------------------------------------------------
TEST(Meter, NoIntervalIsSoLongThatAWrapIsMissed) {
    // Turns in 0.5 s at twice 200 W.
    File file("# wattle recording 1\n# domain a scope=cpu_package kind=counter scale=1 range=199999999 limit_uw=200000000 key=\"cpu_package:0\"\n"
              "t_us,domain,value,read_ns\n0,0,5,\n20000,0,9,\n");
    Open open(file.source.c_str(), nullptr, true, 60 * kSecond);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    EXPECT_LE(tel_meter_observer(open.m).interval_ns, 125 * kMs);
}

TEST(Meter, SlowReadsSlowTheSamplingDown) {
    Clock clock;
    Open open("simulated:100", &clock);
    ASSERT_EQ(open.result, TEL_OK);
    meter_domain *d = &open.m->domains[0];
    d->typical_ns = 1000;
    meter_pace(open.m);
    EXPECT_EQ(d->every_ns, 20 * kMs);
    d->typical_ns = 2400000; // as an NVML energy counter
    meter_pace(open.m);
    EXPECT_LE((double)d->typical_ns / (double)d->every_ns, 0.005);
    EXPECT_LE(d->every_ns, 1 * kSecond);
    d->typical_ns = 900 * kMs;
    meter_pace(open.m);
    EXPECT_EQ(d->every_ns, 10 * kSecond); // no slower than this, whatever it costs
}

// ---- The callback and the thread ----------------------------------------------------------------------------------
TEST(Meter, TheCallbackComesAfterEveryRound) {
    Clock clock;
    Open open("simulated:100", &clock);
    int calls = 0;
    tel_meter_on_poll(open.m, [](void *user) { ++*static_cast<int *>(user); }, &calls);
    Go(open, &clock, 5);
    EXPECT_EQ(calls, 5);
    tel_meter_on_poll(open.m, nullptr, nullptr);
    Go(open, &clock, 5);
    EXPECT_EQ(calls, 5);
    tel_meter_poke(open.m); // nothing: manual
}

struct Counting {
    tel_meter *m;
    std::atomic<int> calls{0};
};

TEST(Meter, TheThreadSamplesWhileOthersAsk) {
    Open open("simulated:cpu:5,20", nullptr, false, 2 * kMs);
    ASSERT_EQ(open.result, TEL_OK) << open.err.message;
    Counting counting{open.m};
    tel_meter_on_poll(
        open.m,
        [](void *user) {
            auto *c = static_cast<Counting *>(user);
            tel_meter_settled(c->m, 0); // asking is allowed here
            c->calls++;
        },
        &counting);
    std::atomic<bool> stop{false};
    std::thread asker([&] {
        uint64_t last = 0;
        while (!stop) {
            uint64_t settled = tel_meter_settled(open.m, 0);
            EXPECT_GE(settled, last);
            last = settled;
            tel_meter_energy(open.m, 0, settled > 10 * kMs ? settled - 10 * kMs : 0, settled);
            tel_meter_domain(open.m, 0);
            tel_meter_observer(open.m);
            tel_meter_poke(open.m);
            std::this_thread::sleep_for(std::chrono::microseconds(300));
        }
    });
    for (int i = 0; i < 20; i++) {
        tel_meter_poll(open.m);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    stop = true;
    asker.join();
    tel_meter_on_poll(open.m, nullptr, nullptr);
    int calls = counting.calls;
    EXPECT_GE(calls, 21);
    std::this_thread::sleep_for(std::chrono::milliseconds(8));
    EXPECT_EQ(counting.calls, calls); // none runs once the removal has returned
    tel_observer o = tel_meter_observer(open.m);
    EXPECT_GT(o.n_reads, 20u);
    EXPECT_GT(o.cpu_ns, 0u);
    EXPECT_EQ(o.interval_ns, 2 * kMs);
}

TEST(Meter, ClosingAndPokingDoNotWaitForTheInterval) {
    auto begin = std::chrono::steady_clock::now();
    {
        Open open("simulated:100", nullptr, false, 8 * kSecond);
        ASSERT_EQ(open.result, TEL_OK);
        EXPECT_EQ(tel_meter_domain(open.m, 0).n_reads, 1u); // the first reading is made by opening
    }
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
    Open open("simulated:100", nullptr, false, 40 * kMs); // a poke is answered after a quarter of it
    tel_meter_poke(open.m);
    uint64_t reads = 1;
    for (int i = 0; i < 400 && reads < 2; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        reads = tel_meter_domain(open.m, 0).n_reads;
    }
    EXPECT_GE(reads, 2u);
}

TEST(Meter, AForkedChildHasReasonsNotHangs) {
    Open open("simulated:100", nullptr, false, 2 * kMs);
    ASSERT_EQ(open.result, TEL_OK);
    pid_t child = fork();
    if (child == 0) {
        tel_energy e = tel_meter_energy(open.m, 0, 1, 2);
        bool good = e.status == TEL_UNAVAILABLE && e.reason && tel_meter_settled(open.m, 0) == 0;
        tel_meter_poll(open.m);
        tel_meter_poke(open.m);
        tel_meter_close(&open.m);
        _exit(good && !open.m ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

} // namespace
