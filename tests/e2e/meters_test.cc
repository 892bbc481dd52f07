// `wattle meters` as a person and as a script meet it: the list, JSON, the check's exit codes, watching, recording, calibrating, wrong usage.
// Trees of files under WTL_SYSFS_ROOT stand for machines.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "tests/e2e/run_binary.h"

namespace {

bool has(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

// A machine in a virtual machine: no counter, a processor from the table.
class VirtualMachine : public testing::Test {
  protected:
    VirtualMachine() {
        put("/proc/cpuinfo", "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\nmodel name : AMD EPYC\nstepping : 1\n"
                             "flags : fpu hypervisor\n\n");
        put("/sys/devices/system/cpu/online", "0\n");
    }
    void put(const std::string &path, const std::string &text) {
        std::filesystem::create_directories(std::filesystem::path(tree_.path() + path).parent_path());
        tree_.write(path.substr(1), text);
    }
    // No driver's library either, whatever this machine has.
    RunResult meters(std::vector<std::string> args, std::string input = "") {
        args.insert(args.begin(), "meters");
        RunOptions o = with_env({"WTL_SYSFS_ROOT=" + tree_.path(), "WTL_NVML_PATH=" + tree_.path("no-such-library.so")});
        o.input = std::move(input);
        o.timeout_s = 30;
        return run_wattle(args, o);
    }
    TempDir tree_;
};

using Meters = VirtualMachine;

const json_t *domain_of(const Json &json, const char *name) {
    size_t i;
    json_t *domain;
    json_array_foreach(json.at("domains"), i, domain) {
        const char *text = json_string_value(json_object_get(domain, "name"));
        if (text && strcmp(text, name) == 0) return domain;
    }
    return nullptr;
}

double real_of(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

TEST_F(Meters, ListSaysModelledAndWhy) {
    RunResult r = meters({"--seconds", "0.3"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    EXPECT_TRUE(has(r.out, "AMD Zen 4 server (EPYC 4th generation), 1 of 1 CPUs")) << r.out;
    EXPECT_TRUE(has(r.out, "x 0.33 to 3")) << r.out;
    EXPECT_TRUE(has(r.out, "  ~")) << r.out; // a modelled figure never looks like a measured one
    EXPECT_TRUE(has(r.out, "a model, not a measurement. No counter can be read here; for a narrower one: --cpu-watts IDLE,BUSY")) << r.out;
    EXPECT_TRUE(has(r.out, "does not count:\n")) << r.out;
    EXPECT_TRUE(has(r.out, "(powercap): ")) << r.out;
    EXPECT_TRUE(has(r.out, "of one core\n")) << r.out;
}

TEST_F(Meters, CalibrateTakesNoFigureForAHeading) {
    tree_.write("points.csv", "10,abc\n10,11\n100,105\n");
    expect_sentence(meters({"calibrate", "--domain", "x", "--points", tree_.path("points.csv")}), 1, {"line 1"});
}

TEST_F(Meters, WattsThatAreGivenAreNotAskedFor) {
    RunResult r = meters({"--seconds", "0.1", "--cpu-watts", "5,20"});
    EXPECT_FALSE(has(r.out, "--cpu-watts")) << r.out;
    EXPECT_TRUE(json_is_null(json_object_get(domain_of(Json(meters({"--seconds", "0.1", "--cpu-watts", "5,20", "--json"}).out), "cpu"), "fix")));
}

TEST_F(Meters, AFolderIsNoRecording) {
    expect_sentence(meters({"--meter", "replay:" + tree_.path()}), 1, {tree_.path() + ": cannot be read: Is a directory"});
    expect_sentence(meters({"calibrate", "--domain", "x", "--points", tree_.path()}), 1, {tree_.path() + " cannot be read: Is a directory"});
    expect_sentence(meters({"audit", "--sensor", tree_.path(), "--truth", tree_.path()}), 1, {tree_.path() + " cannot be read: Is a directory"});
}

TEST_F(Meters, CpuWattsNarrowTheModel) {
    RunResult r = meters({"--seconds", "0.3", "--cpu-watts", "10,50"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.out, "x 0.75 to 1.3")) << r.out;
}

TEST_F(Meters, Json) {
    RunResult r = meters({"--seconds", "1.2", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_TRUE(json_is_false(json.at("measured")));
    EXPECT_EQ(json.number("n_counting"), 1);
    const json_t *cpu = domain_of(json, "cpu");
    ASSERT_NE(cpu, nullptr) << r.out;
    EXPECT_STREQ(json_string_value(json_object_get(cpu, "status")), "modelled");
    EXPECT_GT(real_of(cpu, "power_watts"), 0.7); // one processor of 0.74 W idle and 2.28 W busy
    EXPECT_LT(real_of(cpu, "power_watts"), 2.3);
    const json_t *windows = json_object_get(cpu, "windows");
    ASSERT_EQ(json_array_size(windows), 3u);
    const json_t *second = json_array_get(windows, 1), *ten = json_array_get(windows, 2);
    EXPECT_NEAR(real_of(ten, "energy_joules"), 10 * real_of(second, "energy_joules"), 1e-4);
    EXPECT_TRUE(json_is_true(json_object_get(ten, "extrapolated")));
    EXPECT_LT(real_of(second, "low_joules"), 0.4 * real_of(second, "energy_joules"));
    EXPECT_GT(real_of(second, "high_joules"), 2.9 * real_of(second, "energy_joules"));
    EXPECT_GT(json.number("observer.n_reads"), 5);
}

TEST_F(Meters, JsonUnknownIsNullWithReason) {
    RunResult r = meters({"--seconds", "0.05", "--json", "--meter", "simulated:40", "--meter-interval", "60000"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    const json_t *window = json_array_get(json_object_get(json_array_get(json.at("domains"), 0), "windows"), 1);
    EXPECT_TRUE(json_is_null(json_object_get(window, "energy_joules")));
    EXPECT_TRUE(json_is_null(json_object_get(window, "bound_frac")));
    EXPECT_TRUE(json_is_string(json_object_get(window, "reason"))) << r.out;
}

TEST_F(Meters, TenSecondsAreNarrowerThanOneForACounter) {
    RunResult r = meters({"--json", "--meter", "simulated:40"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    const json_t *domain = json_array_get(json.at("domains"), 0), *windows = json_object_get(domain, "windows");
    EXPECT_NEAR(real_of(domain, "power_watts"), 40, 2);
    double share[3];
    for (size_t i = 0; i < 3; i++) share[i] = real_of(json_array_get(windows, i), "bound_frac");
    EXPECT_LT(share[1], share[0]);
    EXPECT_LE(share[2], share[1]);
}

TEST_F(Meters, Check) {
    RunResult r = meters({"--check"});
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(r.out, "energy is not measured: it is modelled from CPU time\n");
    EXPECT_EQ(meters({"--check", "--meter", "simulated:40"}).code, 1); // made up is not measured
    r = meters({"--check", "--meter", "none"});
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(r.out, "energy is not measured: nothing counts\n");
    put("/sys/class/powercap/intel-rapl:0/name", "package-0\n");
    put("/sys/class/powercap/intel-rapl:0/energy_uj", "1000000\n");
    put("/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n");
    r = meters({"--check"});
    EXPECT_EQ(r.code, 0) << r.out << r.err;
    EXPECT_EQ(r.out, "energy is measured: package-0 (powercap)\n");
}

TEST_F(Meters, CheckNamesTheCommand) {
    put("/sys/bus/event_source/devices/power/events/energy-pkg", "event=0x02\n");
    put("/proc/sys/kernel/perf_event_paranoid", "4\n");
    RunResult r = meters({"--check"});
    EXPECT_EQ(r.code, 1);
    EXPECT_EQ(r.out, "energy is not measured: it is modelled from CPU time; to mend it: sudo sysctl kernel.perf_event_paranoid=0\n");
}

// The kernel's own counters stand for RAPL's: a clock that always moves (10 W here), and one that is never fed.
class PowerEvents : public VirtualMachine {
  protected:
    void psys(int config) {
        const std::string dir = "/sys/bus/event_source/devices/power/";
        put("/sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n");
        put(dir + "type", std::to_string(PERF_TYPE_SOFTWARE) + "\n");
        put(dir + "cpumask", "0\n");
        put(dir + "events/energy-psys", "event=0x0" + std::to_string(config) + "\n");
        put(dir + "events/energy-psys.unit", "Joules\n");
        put(dir + "events/energy-psys.scale", "1e-8\n");
    }
    static bool counts_whole_machine() {
        struct perf_event_attr attr = {};
        attr.type = PERF_TYPE_SOFTWARE;
        attr.size = sizeof attr;
        attr.config = PERF_COUNT_SW_DUMMY;
        long fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
        if (fd >= 0) close((int)fd);
        return fd >= 0;
    }
};

TEST_F(PowerEvents, ACounterThatIsNeverFedGivesWayToTheModel) {
    if (!counts_whole_machine()) GTEST_SKIP() << "this user may not count events of the whole machine";
    psys(PERF_COUNT_SW_DUMMY);
    RunResult r = meters({"--seconds", "0.3"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.out, "a model, not a measurement")) << r.out;
    EXPECT_TRUE(has(r.out, "does not count:\n  psys-0 (perf): it did not move in 20 ms: nothing feeds this counter, as in many virtual machines\n")) << r.out;
    r = meters({"--seconds", "0.3", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_TRUE(json_is_false(json.at("measured")));
    EXPECT_TRUE(json_is_true(json_object_get(domain_of(json, "cpu"), "counts")));
    const json_t *dead = domain_of(json, "psys-0");
    ASSERT_NE(dead, nullptr) << r.out;
    EXPECT_TRUE(json_is_false(json_object_get(dead, "counts")));
    EXPECT_STREQ(json_string_value(json_object_get(dead, "reason")), "it did not move in 20 ms: nothing feeds this counter, as in many virtual machines");
    EXPECT_EQ(meters({"--check"}).code, 1);
    expect_sentence(meters({"--meter", "perf"}), 1, {"psys-0 of perf", "nothing feeds this counter"});
}

TEST_F(PowerEvents, ACounterThatMovesIsMeasured) {
    if (!counts_whole_machine()) GTEST_SKIP() << "this user may not count events of the whole machine";
    psys(PERF_COUNT_SW_CPU_CLOCK);
    RunResult r = meters({"--seconds", "1.2", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_TRUE(json_is_true(json.at("measured")));
    const json_t *live = domain_of(json, "psys-0");
    ASSERT_NE(live, nullptr) << r.out;
    EXPECT_TRUE(json_is_true(json_object_get(live, "counts"))) << r.out;
    EXPECT_NEAR(real_of(live, "power_watts"), 10, 1);
}

TEST_F(Meters, NoneListsNothing) {
    RunResult r = meters({"--meter", "none"});
    EXPECT_EQ(r.code, 0);
    EXPECT_TRUE(has(r.out, "no domain counts: energy is not known here\n")) << r.out;
}

TEST_F(Meters, WatchThroughAPipe) {
    RunResult r = meters({"--watch", "--interval", "0.2", "--seconds", "0.4", "--meter", "simulated:40"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 3) << r.out; // two lines and the total
    EXPECT_TRUE(has(r.out, "0.2 s  simulated-0 ")) << r.out;
    EXPECT_FALSE(has(r.out, "\033")) << r.out;
    EXPECT_TRUE(has(r.out, "simulated-0: ")) << r.out;
    EXPECT_TRUE(has(r.out, " J +- ")) << r.out;
}

TEST_F(Meters, WatchMarksModelled) {
    RunResult r = meters({"--watch", "--interval", "0.2", "--seconds", "0.2"});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.out, "cpu ~")) << r.out;
    EXPECT_TRUE(has(r.out, ", modelled\n")) << r.out;
}

TEST_F(Meters, InterruptEndsWithTotals) {
    RunOptions o = with_env({"WTL_SYSFS_ROOT=" + tree_.path()});
    o.interrupt_after_bytes = 1;
    RunResult r = run_wattle({"meters", "--watch", "--interval", "0.1", "--json", "--meter", "simulated:40"}, o);
    EXPECT_EQ(r.code, 0) << r.err;
    std::string last = r.out.substr(r.out.rfind('\n', r.out.size() - 2) + 1);
    Json json(last);
    EXPECT_TRUE(json_is_true(json.at("total"))) << r.out;
    EXPECT_GT(real_of(json_array_get(json.at("domains"), 0), "energy_joules"), 0);
}

// What was recorded gives the same joules when it is played back.
TEST_F(Meters, RecordThenReplay) {
    std::string csv = tree_.path("r.csv");
    RunResult r = meters({"--record", csv, "--seconds", "0.6", "--json", "--meter", "simulated:40"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json live(r.out.substr(r.out.rfind('\n', r.out.size() - 2) + 1));
    RunResult played = meters({"--watch", "--interval", "0.9", "--seconds", "0.9", "--json", "--meter", "replay:" + csv});
    ASSERT_EQ(played.code, 0) << played.err;
    Json replay(played.out.substr(played.out.rfind('\n', played.out.size() - 2) + 1));
    const json_t *a = json_array_get(live.at("domains"), 0), *b = json_array_get(replay.at("domains"), 0);
    EXPECT_STREQ(json_string_value(json_object_get(b, "source")), "replay");
    // The live total may begin a sample before the recording and end one before it.
    EXPECT_NEAR(real_of(a, "energy_joules") / real_of(a, "seconds"), real_of(b, "energy_joules") / real_of(b, "seconds"), 0.5);
    EXPECT_NEAR(real_of(a, "energy_joules"), real_of(b, "energy_joules"), 0.05 * 40 + 0.1);
}

TEST_F(Meters, RecordKeepsAFileThatIsThere) {
    std::string csv = tree_.write("kept.csv", "precious\n");
    expect_sentence(meters({"--record", csv, "--seconds", "0.1"}), 2, {"kept.csv", "--force"});
    EXPECT_EQ(read_whole(csv), "precious\n");
    EXPECT_EQ(meters({"--record", csv, "--seconds", "0.1", "--force"}).code, 0);
    EXPECT_NE(read_whole(csv), "precious\n");
}

// ---- Calibrate -----------------------------------------------------------------------------------------------------------

TEST_F(Meters, CalibrateFromPoints) {
    std::string points = tree_.write("p.csv", "reading_w,truth_w\n# at three loads\n57,60\n114,120\n190,200\n"), out = tree_.path("cal.txt");
    RunResult r = meters({"calibrate", "--points", points, "--domain", "package-0", "--output", out});
    ASSERT_EQ(r.code, 0) << r.err;
    EXPECT_TRUE(has(r.out, "package-0: reading = 0.9500 x truth")) << r.out;
    EXPECT_TRUE(has(read_whole(out), "gain = 0.95\n")) << read_whole(out);
    expect_sentence(meters({"calibrate", "--points", points, "--domain", "package-0", "--output", out}), 2, {"cal.txt", "--force"});
    EXPECT_EQ(meters({"calibrate", "--points", points, "--domain", "package-0", "--output", out, "--force"}).code, 0);
}

TEST_F(Meters, CalibrationIsUsed) {
    std::string file = tree_.write("cal.txt", "domain = simulated-0\ndevice = \ngain = 0.8\noffset_w = 0\ngain_error = 0.01\noffset_error_w = 1\n");
    RunResult r = meters({"--json", "--seconds", "0.3", "--meter", "simulated:40", "--calibration", file});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    const json_t *domain = json_array_get(json.at("domains"), 0);
    EXPECT_TRUE(json_is_true(json_object_get(domain, "calibrated"))) << r.out;
    EXPECT_NEAR(real_of(domain, "power_watts"), 50, 2);
}

// A sensor with 6 % too little and 5 W too much, 100 ms steps that each average the 50 ms before the last 20.
TEST_F(Meters, CalibrateFromRecordings) {
    std::string truth = "t_us,power_mw\n", sensor = "t_us,instant_mw,sm_mhz\n";
    auto watts = [](int ms) { return ms / 700 % 2 ? 260.0 : 80.0 + 40 * (ms / 1400 % 3) + 0.01 * (ms % 97); };
    for (int ms = 0; ms < 9000; ms++) truth += std::to_string(ms * 1000) + "," + std::to_string((int)(1000 * watts(ms))) + "\n";
    double shown = 0;
    for (int ms = 100; ms < 9000; ms += 10) {
        if (ms % 100 == 0) {
            double sum = 0;
            for (int k = ms - 70; k < ms - 20; k++) sum += watts(k);
            shown = 0.94 * sum / 50 + 5;
        }
        sensor += std::to_string(ms * 1000) + "," + std::to_string((int)(1000 * shown)) + ",1500\n";
    }
    RunResult r = meters({"calibrate", "--sensor", tree_.write("s.csv", sensor), "--truth", tree_.write("m.csv", truth), "--domain", "gpu-0", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_NEAR(json.number("gain"), 0.94, json.number("gain_error"));
    EXPECT_NEAR(json.number("offset_w"), 5, json.number("offset_error_w"));
    EXPECT_LT(json.number("gain_error"), 0.03);
    EXPECT_NEAR(json.number("step_s"), 0.1, 0.001);
    EXPECT_NEAR(json.number("window_s"), 0.05, 0.001);
    EXPECT_NEAR(json.number("lag_s"), 0.02, 0.006);
}

// The recordings of a real board: its gain error is about -5.5 %.
TEST_F(Meters, CalibrateFromRealRecordings) {
    std::string folder = std::string(WTL_SHARED_DATA) + "/gpu-power-traces/RTX3090-50-50";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the recordings are not here: " << folder;
    RunResult r = meters({"calibrate", "--sensor", folder + "/sensor.csv", "--truth", folder + "/meter.csv", "--domain", "gpu-0", "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    Json json(r.out);
    EXPECT_NEAR(json.number("gain"), 0.945, 0.02);
    EXPECT_NEAR(json.number("offset_w"), 0, 3);
    EXPECT_NEAR(json.number("step_s"), 0.1, 0.01);
}

TEST_F(Meters, CalibrateAsksAndWantsMoreUnderLoad) {
    std::vector<std::string> args = {"calibrate", "--meter", "simulated:40", "--domain", "simulated-0", "--seconds", "0.5"};
    RunResult r = meters(args, "\n60\n\nmuch\n55\n\n60\n");
    EXPECT_EQ(r.code, 1);
    EXPECT_TRUE(has(r.err, "a number of watts, please")) << r.err;
    EXPECT_TRUE(has(r.err, "showed no more under load than idle")) << r.err;
    r = meters(args); // nobody there
    EXPECT_EQ(r.code, 2);
    EXPECT_TRUE(has(r.err, "--points FILE")) << r.err;
}

TEST_F(Meters, CalibrateRefusesWhatItCannotUse) {
    std::string one = tree_.write("one.csv", "57,60\n"), words = tree_.write("words.csv", "a,b\n57,60\nfoo,120\n"), three = tree_.write("t.csv", "57,60,x\n57,60\n");
    expect_sentence(meters({"calibrate", "--points", one, "--domain", "x"}), 1, {"two points"});
    expect_sentence(meters({"calibrate", "--points", words, "--domain", "x"}), 1, {"words.csv line 3"});
    expect_sentence(meters({"calibrate", "--points", three, "--domain", "x"}), 1, {"t.csv line 1"}); // figures are no heading: none is dropped in silence
    expect_sentence(meters({"calibrate", "--points", tree_.path("absent"), "--domain", "x"}), 1, {"absent"});
    expect_sentence(meters({"calibrate", "--points", one}), 2, {"--domain"});
    expect_sentence(meters({"calibrate", "--sensor", one}), 2, {"--truth"});
    expect_sentence(meters({"calibrate", "--sensor", one, "--truth", one, "--domain", "x"}), 1, {"one.csv", "t_us"});
    expect_sentence(meters({"calibrate"}), 1, {"no sensor can be read"});
    expect_sentence(meters({"calibrate", "--domain", "cpu"}), 1, {"--cpu-watts"});
}

// ---- Wrong usage ----------------------------------------------------------------------------------------------------------

TEST_F(Meters, WrongUsage) {
    expect_sentence(meters({"--meter", "thermometer"}), 2, {"thermometer", "powercap"});
    expect_sentence(meters({"--cpu-watts", "4"}), 2, {"IDLE,BUSY"});
    expect_sentence(meters({"--cpu-watts", "40,4"}), 2, {"busy must be more than idle"});
    expect_sentence(meters({"--cpu-watts", "nan,4"}), 2, {"IDLE,BUSY"});
    expect_sentence(meters({"--check", "--watch"}), 2, {"--check"});
    expect_sentence(meters({"--watch", "--interval", "0"}), 2, {"--interval"});
    expect_sentence(meters({"--json", "calibrate"}), 2, {"comes first"});
    expect_sentence(meters({"extra"}), 2, {"extra"});
    expect_sentence(meters({"--meter", "replay:" + tree_.path("absent.csv")}), 1, {"absent.csv"});
    expect_sentence(meters({"--calibration", tree_.path("absent.txt")}), 1, {"absent.txt"});
    expect_sentence(meters({"--meter", "require"}), 1, {"no energy can be read"});
    expect_sentence(meters({"--watch", "--meter", "none"}), 1, {"nothing to watch"});
}

TEST_F(Meters, HelpHasEveryOption) {
    RunResult r = meters({"--help"});
    EXPECT_EQ(r.code, 0);
    for (const char *word : {"--check", "--watch", "--record", "--meter SOURCE", "WTL_CPU_WATTS", "WTL_METER]", "--calibration", "calibrate", "audit"})
        EXPECT_TRUE(has(r.out, word)) << word;
}

} // namespace
