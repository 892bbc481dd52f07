// Replay: what files are taken, what is refused and how, and that a recording played back gives what was recorded.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

extern "C" {
#include "telemetry/replay_parse.h"
#include "telemetry/telemetry.h"
}

namespace {

constexpr uint64_t kMs = 1000000, kSecond = 1000 * kMs;

class Replay : public ::testing::Test {
  protected:
    void SetUp() override {
        char pattern[] = "/tmp/wattle-replay-XXXXXX";
        ASSERT_NE(mkdtemp(pattern), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::string Write(const std::string &text, const char *name = "file.csv") {
        std::string path = folder_ + "/" + name;
        std::ofstream(path, std::ios::binary) << text;
        return path;
    }

    std::string folder_;
};

struct Clock {
    uint64_t now_ns = 5 * kSecond;
    static uint64_t Now(void *user) { return static_cast<Clock *>(user)->now_ns; }
};

struct Meter {
    Meter(const std::string &source, Clock *clock, const char *card = nullptr) {
        tel_options o = {};
        o.source = source.c_str();
        o.card = card;
        o.manual = true;
        o.clock = {Clock::Now, clock};
        result = tel_meter_open(&o, &m, &err);
    }
    ~Meter() { tel_meter_close(&m); }
    tel_meter *m = nullptr;
    tel_error err = {};
    tel_result result;
};

std::vector<tel_edge> Edges(const tel_meter *m, size_t i) {
    std::vector<tel_edge> edges(200000);
    edges.resize(tel_meter_edges(m, i, 0, edges.data(), edges.size()));
    return edges;
}

// What the parser says of a text; "" when it takes it.
std::string Refusal(const std::string &text) {
    replay_file file;
    tel_error err = {};
    FILE *in = fmemopen(const_cast<char *>(text.data()), text.size() ? text.size() : 1, "r");
    if (text.empty()) fgetc(in);
    tel_result result = tel_replay_parse(in, "f.csv", &file, &err);
    fclose(in);
    tel_replay_free(&file);
    EXPECT_EQ(result != TEL_OK, err.message[0] != 0);
    return result ? err.message : "";
}

const char kHead[] = "# wattle recording 1\n"
                     "# domain package-0 scope=cpu_package source=powercap kind=counter unit=uJ scale=1 range=262143328850 step_ns=1000000 "
                     "limit_uw=200000000 device=\"a CPU\" key=\"cpu_package:0\"\n"
                     "t_us,domain,value,read_ns\n";

// ---- Files --------------------------------------------------------------------------------------------------------
TEST_F(Replay, TablesOfPowersAreTaken) {
    EXPECT_EQ(Refusal("t_us,power_mw\n0,1000\n10,2000\n"), "");
    EXPECT_EQ(Refusal("t_us,instant_mw,average_mw,sm_mhz\r\n-20.5,1000,7,8\r\n10,2000.25,7,N/A\r\n"), "");
    EXPECT_EQ(Refusal("sm_mhz,average_mw,t_us\n1,1000,0\n"), "");
}

TEST_F(Replay, WhatIsWrongIsNamedWithLineAndField) {
    const struct {
        const char *text, *message;
    } cases[] = {
        {"t_us,power_mw\n0,1000\n10,2000", "line 3: the last line has no end"},
        {"t_us,power_mw\n0,1000\n10\n", "line 3: 1 fields where there are 2 columns"},
        {"t_us,power_mw\n0,1000\n10,1,2\n", "line 3: 3 fields"},
        {"t_us,power_mw\n0,1000\n-1,1000\n", "line 3: t_us falls"},
        {"t_us,power_mw\nx,1000\n", "line 2: t_us is \"x\""},
        {"t_us,power_mw\n0,-5\n", "line 2: power_mw is \"-5\""},
        {"t_us,power_mw\n0,1e5\n", "line 2: power_mw is \"1e5\""},
        {"t_us,power_mw\n0,99999999999999999999\n", "line 2: power_mw"},
        {"t_us,power_mw\n999999999999999999,5\n", "line 2: t_us"},
        {"t_us,power_mw\n0,\n", "line 2: power_mw is \"\""},
        {"t_us,power_mw\n", "no rows"},
        {"t_us,volts\n0,1\n", "none of the columns"},
        {"hello\n", "no column t_us"},
        {"# wattle recording 2\n", "another version"},
        {"# wattle recording 1\nt_us,domain,value,read_ns\n0,0,1,\n", "without domains"},
        {"# wattle recording 1\n# domain a scope=node kind=counter\n", "no scale"},
        {"# wattle recording 1\n# domain a scope=moon scale=1\n", "scope is \"moon\""},
        {"# wattle recording 1\n# domain a scope=node scale=0\n", "scale is \"0\""},
        {"# wattle recording 1\n# domain a scope=node scale=1 step_ns=1\n", "step_ns is \"1\""},
        {"# wattle recording 1\n# domain a scope=node scale=nan\n", "scale is \"nan\""},
        {"# wattle recording 1\n# domain a scope=node scale=1 device=\"x\n", "not a field=value"},
        {"# wattle recording 1\n# domain a scope=node scale=1 colour=red\n", "colour is \"red\""},
        {"# wattle recording 1\n# domain a scope=node scale=1\n0,0,1,\n", "expected the line t_us,domain,value,read_ns"},
    };
    for (const auto &c : cases) EXPECT_NE(Refusal(c.text).find(c.message), std::string::npos) << c.text << " gave: " << Refusal(c.text);
    const struct {
        const char *rows, *message;
    } rows[] = {
        {"0,0,1\n", "line 4: not four fields"},      {"0,1,1,\n", "line 4: domain is \"1\""},       {"0,0,-1,\n", "line 4: value is \"-1\""},
        {"0,0,!odd,\n", "line 4: value is \"!odd\""}, {"0,0,1,x\n", "line 4: read_ns is \"x\""},     {"5,0,1,\n4,0,2,\n", "line 5: t_us falls"},
        {"0.1234,0,1,\n", "line 4: t_us is"},         {"0,0,18446744073709551616,\n", "line 4: value"}, {"0,0,1,2,3\n", "line 4: not four fields"},
    };
    for (const auto &c : rows) EXPECT_NE(Refusal(std::string(kHead) + c.rows).find(c.message), std::string::npos) << c.rows << " gave: " << Refusal(std::string(kHead) + c.rows);
    EXPECT_EQ(Refusal(std::string(kHead) + "0,0,18446744073709551615,\n5,0,!read,7\n3.125,0,7,9\n"), "");
    EXPECT_NE(Refusal(std::string("t_us,power_mw\n0,1\0,\n", 20)).find("a byte 0"), std::string::npos);
    EXPECT_NE(Refusal("t_us,power_mw\n0," + std::string(5000, '1') + "\n").find("line 2: longer than"), std::string::npos);
    EXPECT_NE(Refusal("").find("empty"), std::string::npos);
}

TEST_F(Replay, AMissingFileIsNotFound) {
    Clock clock;
    Meter meter("replay:" + folder_ + "/none.csv", &clock);
    EXPECT_EQ(meter.result, TEL_ERR_NOT_FOUND);
    EXPECT_NE(std::string(meter.err.message).find("none.csv"), std::string::npos);
    Meter broken("replay:" + Write("t_us,power_mw\n0,a\n"), &clock);
    EXPECT_EQ(broken.result, TEL_ERR_FORMAT);
    EXPECT_EQ(broken.m, nullptr);
}

// ---- Playing back -------------------------------------------------------------------------------------------------
TEST_F(Replay, ACounterComesBackWithItsEnergy) {
    std::string text = kHead;
    for (int i = 0; i <= 300; i++) text += std::to_string(i * 20000) + ",0," + std::to_string(262143000000u + (uint64_t)i * 1000000) + ",2000\n";
    // 50 W, through the end of the range.
    size_t at;
    for (uint64_t v = 262143000000u; v <= 262143000000u + 300 * 1000000u; v += 1000000)
        if (v > 262143328850u && (at = text.find("," + std::to_string(v) + ",")) != std::string::npos)
            text.replace(at, std::to_string(v).size() + 2, "," + std::to_string(v - 262143328851u) + ",");
    Clock clock;
    Meter meter("replay:" + Write(text), &clock);
    ASSERT_EQ(meter.result, TEL_OK) << meter.err.message;
    ASSERT_EQ(tel_meter_n_counting(meter.m), 1u);
    tel_domain_info info = tel_meter_domain(meter.m, 0);
    EXPECT_EQ(info.replay_zero_ns, 5000000000);
    EXPECT_EQ(info.method, TEL_METHOD_REPLAYED);
    EXPECT_STREQ(info.device, "a CPU");
    clock.now_ns += 3 * kSecond;
    tel_meter_poll(meter.m);
    EXPECT_LE(tel_meter_settled(meter.m, 0), clock.now_ns); // what has not happened yet is not known
    EXPECT_GE(tel_meter_settled(meter.m, 0), clock.now_ns - 40 * kMs);
    tel_energy e = tel_meter_energy(meter.m, 0, 6 * kSecond, 7 * kSecond);
    EXPECT_EQ(e.status, TEL_MEASURED);
    EXPECT_NEAR((double)e.energy_uj, 50e6, 5);
    EXPECT_EQ(tel_meter_energy(meter.m, 0, 7 * kSecond, 9 * kSecond).status, TEL_UNAVAILABLE);
    clock.now_ns += 100 * kSecond;
    tel_meter_poll(meter.m);
    e = tel_meter_energy(meter.m, 0, 6 * kSecond, 12 * kSecond);
    ASSERT_EQ(e.status, TEL_UNAVAILABLE);
    EXPECT_STREQ(e.reason, "the recording has ended");
    EXPECT_NEAR((double)tel_meter_energy(meter.m, 0, 6 * kSecond, 10 * kSecond).energy_uj, 200e6, 5);
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_gaps, 0u);
}

TEST_F(Replay, RecordedGpusComeBack) {
    std::string path = WTL_SHARED_DATA "/gpu-power-traces/RTX3090-50-50/sensor.csv";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "the recordings of GPU power are not beside this tree";
    Clock clock;
    Meter meter("replay:" + path, &clock, "NVIDIA GeForce RTX 3090");
    ASSERT_EQ(meter.result, TEL_OK) << meter.err.message;
    EXPECT_EQ(tel_meter_domain(meter.m, 0).replay_zero_ns, 5000000000 + 181245000);
    EXPECT_STREQ(tel_meter_domain(meter.m, 0).sensor, "full-window");
    clock.now_ns += 3600 * kSecond;
    tel_meter_poll(meter.m); // 1690 rows at once
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_samples, 1690u);
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_gaps, 0u);
}

TEST_F(Replay, MoreRowsThanASeriesHoldsComeAtOnce) {
    std::string text = "t_us,power_mw\n";
    for (int i = 0; i < 30000; i++) text += std::to_string(i * 1000) + "," + std::to_string(50000 + i % 7) + "\n";
    Clock clock;
    Meter meter("replay:" + Write(text), &clock);
    ASSERT_EQ(meter.result, TEL_OK) << meter.err.message;
    clock.now_ns += 60 * kSecond;
    tel_meter_poll(meter.m);
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_samples, 30000u);
    EXPECT_GE(tel_meter_settled(meter.m, 0), (5 + 29) * kSecond);
}

// A step of a nanosecond and then nothing for seconds: silent updates in between would be counted for minutes.
TEST_F(Replay, TimesOfNoSensorCostNoMinutes) {
    std::string text = "t_us,power_mw\n";
    for (int i = 0; i < 70; i++) text += "0.0" + std::to_string(10 + i) + "," + std::to_string(1000 + i) + "\n";
    for (int i = 1; i < 20; i++) text += std::to_string(i * 1900000) + "," + std::to_string(5 + i) + "\n";
    Clock clock;
    Meter meter("replay:" + Write(text), &clock);
    ASSERT_EQ(meter.result, TEL_OK) << meter.err.message;
    clock.now_ns += 3600 * kSecond;
    tel_meter_poll(meter.m);
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_samples, 89u);
}

// ---- Recording ----------------------------------------------------------------------------------------------------
// Two domains with everything odd that a source can deliver.
std::string OddRecording(uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::string text = "# wattle recording 1\n"
                       "# domain package-0 scope=cpu_package source=powercap kind=counter unit=uJ scale=15.2587890625 range=4294967295 step_ns=1000000 "
                       "limit_uw=200000000 device=\"a CPU\" key=\"cpu_package:0\"\n"
                       "# domain gpu-0 scope=gpu_board source=nvml kind=power unit=mW scale=1000 device=\"NVIDIA GeForce RTX 3090\" key=\"gpu_board:0\"\n"
                       "t_us,domain,value,read_ns\n";
    uint64_t raw = 4294967295u - 900000;
    static const char *const faults[] = {"read", "vanished", "suspend"};
    for (uint64_t t_us = 1000; t_us < 12000000; t_us += 15000 + rng() % 10000) {
        raw += rng() % 200000;
        if (rng() % 40 == 0) raw = rng() % 1000;
        std::string time = std::to_string(t_us) + "." + std::to_string(100 + rng() % 900);
        if (rng() % 30 == 0) text += time + ",0,!" + faults[rng() % 3] + ",\n";
        else text += time + ",0," + std::to_string(raw % 4294967296u) + "," + std::to_string(1000 + rng() % 300000) + "\n";
        if (rng() % 50 == 0) text += time + ",1,!read,\n";
        else text += time + ",1," + std::to_string(100000 + rng() % 200000) + ",\n";
    }
    return text;
}

TEST_F(Replay, ARecordingOfAReplayIsTheSame) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
        std::string first = Write(OddRecording(seed), "first.csv"), second = folder_ + "/second.csv";
        Clock clock, again;
        Meter live("replay:" + first, &clock);
        ASSERT_EQ(live.result, TEL_OK) << live.err.message;
        tel_recording *recording = nullptr;
        ASSERT_EQ(tel_recording_open(live.m, second.c_str(), &recording, nullptr), TEL_OK);
        tel_recording *twice = nullptr;
        EXPECT_EQ(tel_recording_open(live.m, "/tmp/x", &twice, nullptr), TEL_ERR_INVALID);
        for (int i = 0; i < 700; i++, clock.now_ns += 20 * kMs) tel_meter_poll(live.m);
        uint64_t rows = tel_recording_rows(recording);
        ASSERT_EQ(tel_recording_close(&recording, nullptr), TEL_OK);
        EXPECT_GT(rows, 1000u);
        Meter played("replay:" + second, &again);
        ASSERT_EQ(played.result, TEL_OK) << played.err.message;
        for (int i = 0; i < 700; i++, again.now_ns += 20 * kMs) tel_meter_poll(played.m);
        ASSERT_EQ(tel_meter_n_counting(played.m), 2u);
        for (size_t d = 0; d < 2; d++) {
            tel_domain_info a = tel_meter_domain(live.m, d), b = tel_meter_domain(played.m, d);
            EXPECT_STREQ(a.name, b.name);
            EXPECT_STREQ(a.device, b.device);
            EXPECT_STREQ(a.sensor, b.sensor);
            EXPECT_EQ(a.scope, b.scope);
            EXPECT_EQ(a.n_samples, b.n_samples);
            EXPECT_EQ(a.n_gaps, b.n_gaps);
            EXPECT_GT(a.n_gaps, 5u);
            EXPECT_EQ(a.read_mean_ns, b.read_mean_ns);
            std::vector<tel_edge> left = Edges(live.m, d), right = Edges(played.m, d);
            ASSERT_EQ(left.size(), right.size()) << "seed " << seed;
            ASSERT_GT(left.size(), 50u);
            for (size_t i = 0; i < left.size(); i++) {
                ASSERT_EQ(left[i].t_ns, right[i].t_ns) << i;
                ASSERT_EQ(left[i].total_uj, right[i].total_uj) << i;
                ASSERT_EQ(left[i].unseen_uj, right[i].unseen_uj) << i;
                ASSERT_EQ(left[i].gaps, right[i].gaps) << i;
            }
        }
    }
}

TEST_F(Replay, AFullDiskEndsTheRecordingNotTheSampling) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
    Clock clock;
    Meter meter("simulated:100", &clock);
    ASSERT_EQ(meter.result, TEL_OK);
    tel_recording *recording = nullptr;
    tel_error err = {};
    ASSERT_EQ(tel_recording_open(meter.m, "/dev/full", &recording, &err), TEL_ERR_IO);
    EXPECT_NE(std::string(err.message).find("/dev/full"), std::string::npos);
    EXPECT_EQ(tel_recording_open(meter.m, (folder_ + "/no/such").c_str(), &recording, &err), TEL_ERR_NOT_FOUND);
    EXPECT_EQ(recording, nullptr);
    // A file that may not grow beyond some rows.
    std::string path = folder_ + "/short.csv";
    rlimit before, small = {600, 600};
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    auto old = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    ASSERT_EQ(tel_recording_open(meter.m, path.c_str(), &recording, &err), TEL_OK) << err.message;
    for (int i = 0; i < 100; i++, clock.now_ns += 20 * kMs) tel_meter_poll(meter.m);
    EXPECT_EQ(tel_recording_close(&recording, &err), TEL_ERR_IO);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, old);
    EXPECT_EQ(tel_meter_domain(meter.m, 0).n_reads, 100u);
    Meter cut("replay:" + path, &clock); // ends at a whole row
    EXPECT_TRUE(cut.result == TEL_OK || std::string(cut.err.message).find("no rows") != std::string::npos) << cut.err.message;
}

TEST_F(Replay, WhatWasNoMeasurementStaysNone) {
    Clock clock, again;
    std::string path = folder_ + "/s.csv";
    {
        Meter meter("simulated:100", &clock);
        tel_recording *recording = nullptr;
        ASSERT_EQ(tel_recording_open(meter.m, path.c_str(), &recording, nullptr), TEL_OK);
        for (int i = 0; i < 100; i++, clock.now_ns += 20 * kMs) tel_meter_poll(meter.m);
        ASSERT_EQ(tel_recording_close(&recording, nullptr), TEL_OK);
    }
    Meter played("replay:" + path, &again);
    ASSERT_EQ(played.result, TEL_OK) << played.err.message;
    EXPECT_EQ(tel_meter_domain(played.m, 0).method, TEL_METHOD_SIMULATED);
}

} // namespace
