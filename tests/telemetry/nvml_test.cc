// The source "nvml" on a look-alike driver: which reading is preferred, what is said of boards that cannot be read, what is stored.
// SPDX-License-Identifier: Apache-2.0
#include "tests/telemetry/nvml_rig.h"

#include <sys/stat.h>

#include <cmath>
#include <random>

extern "C" {
#include "telemetry/window.h"
}

namespace {

using Nvml = NvmlRig;
const char *const kReadings[] = {"DeviceGetSamples", "field", "DeviceGetTotalEnergyConsumption", "DeviceGetPowerUsage"};

// ---- In a meter ------------------------------------------------------------------------------------------------------
// As programs open it: no clock given, no thread of the test's own. Reading a board asks for the time before anything else.
TEST_F(Nvml, AMeterWithoutAClockOfItsOwnReadsABoard) {
    Script("clock monotonic\ndevice\n truth constant 100000\n");
    tel_options options{};
    options.source = "nvml";
    options.sysfs_root = root_.c_str();
    options.nvml_path = path_.c_str();
    tel_meter *meter = nullptr;
    tel_error err{};
    ASSERT_EQ(tel_meter_open(&options, &meter, &err), TEL_OK) << err.message;
    EXPECT_EQ(tel_meter_n_counting(meter), 1u);
    EXPECT_STREQ(tel_meter_domain(meter, 0).name, "gpu-0");
    tel_meter_close(&meter);
}

// ---- Choice ---------------------------------------------------------------------------------------------------------
TEST_F(Nvml, FourWaysOfOneBoardInOrder) {
    Script("device\n name NVIDIA GeForce RTX 3090\n pci 0000:C1:00\n limit_mw 350000\n");
    OpenSource();
    ASSERT_EQ(n(), 4u);
    const char *names[] = {"gpu-0", "gpu-0-instant", "gpu-0-counter", "gpu-0-average"}, *units[] = {"mW", "mW", "mJ", "mW"};
    for (size_t i = 0; i < 4; i++) {
        EXPECT_STREQ(domain(i).name, names[i]);
        EXPECT_STREQ(domain(i).unit, units[i]);
        EXPECT_STREQ(domain(i).key, "gpu_board:0000:c1:00.0") << "one key: the same joules; as sysfs writes it";
        EXPECT_STREQ(domain(i).reason, "");
        EXPECT_STREQ(domain(i).device, "NVIDIA GeForce RTX 3090");
        EXPECT_EQ(domain(i).scope, TEL_SCOPE_GPU_BOARD);
        EXPECT_EQ(domain(i).limit_uw, 350000000u);
        EXPECT_EQ(domain(i).uj_per_unit, 1000);
        EXPECT_EQ(domain(i).kind, i == 2 ? TEL_SERIES_COUNTER : TEL_SERIES_POWER);
    }
    EXPECT_EQ(domain(0).step_ns, 20000000u);
    EXPECT_EQ(domain(0).card, tel_card_by_name("RTX 3090"));
    EXPECT_EQ(domain(2).card, tel_card_gpu_counter());
    EXPECT_EQ(domain(3).card, tel_card_averaged());
}

TEST_F(Nvml, EachLevelStepsInWhenTheOneBeforeIsMissing) {
    const char *paths[] = {"GetSamples", "GetFieldValues 186", "GetTotalEnergyConsumption", "GetPowerUsage"};
    std::string script = "device\n";
    for (size_t level = 0; level < 4; level++) {
        Script(script);
        OpenSource();
        ASSERT_EQ(n(), 4 - level);
        EXPECT_STREQ(domain(0).name, "gpu-0");
        EXPECT_NE(strstr(domain(0).path, paths[level]), nullptr) << domain(0).path;
        script += std::string(" fail ") + kReadings[level] + " 3\n";
    }
}

TEST_F(Nvml, ARingThinnerThanTheSensorComesAfterInstant) {
    Script("device\n ring_step_us 400000\n");
    OpenSource();
    EXPECT_NE(strstr(domain(0).path, "186"), nullptr) << domain(0).path;
    EXPECT_STREQ(domain(1).name, "gpu-0-samples");
}

TEST_F(Nvml, PartTimeBoardsTrustTheirCounterLast) {
    Script("device\n name NVIDIA A100-PCIE-40GB\n fail DeviceGetSamples 3\n fail field 3\n");
    OpenSource();
    ASSERT_EQ(n(), 2u);
    EXPECT_NE(strstr(domain(0).path, "GetPowerUsage"), nullptr);
    EXPECT_EQ(domain(0).card->kind, TEL_CARD_PART_TIME) << "GA100: the reading is not an average";
    EXPECT_EQ(domain(1).kind, TEL_SERIES_COUNTER);
}

TEST_F(Nvml, PowerUsageIsAnAverageSinceAmpereButNotOnGa100) {
    const struct {
        const char *name;
        int arch;
        bool average;
    } cases[] = {{"NVIDIA A100-SXM4-80GB", 7, false}, {"NVIDIA A30", 7, false}, {"NVIDIA RTX A1000", 7, true}, {"NVIDIA H100 PCIe", 9, true},
                 {"NVIDIA GeForce RTX 4090", 8, true}, {"Tesla V100-SXM2-16GB", 5, false}, {"NVIDIA GeForce RTX 2080 Ti", 6, false}};
    for (const auto &c : cases) {
        Script(std::string("device\n name ") + c.name + "\n arch " + std::to_string(c.arch) + "\n");
        OpenSource();
        for (size_t i = 0; i < n(); i++)
            EXPECT_EQ(strstr(domain(i).path, "GetPowerUsage") && domain(i).card == tel_card_averaged(),
                      strstr(domain(i).path, "GetPowerUsage") && c.average)
                << c.name;
    }
}

TEST_F(Nvml, TwoBoardsAndTheOnesThatCountComeFirst) {
    Script("device\n pci 0000:01:00\ndevice\n name NVIDIA A100-SXM4-40GB\n pci 10000:e1:00\n mig on\n");
    OpenSource();
    ASSERT_EQ(n(), 8u);
    EXPECT_STREQ(domain(0).name, "gpu-0");
    EXPECT_STREQ(domain(1).name, "gpu-1");
    EXPECT_STREQ(domain(1).key, "gpu_board:10000:e1:00.0");
    EXPECT_EQ(domain(1).card->kind, TEL_CARD_PART_TIME);
    EXPECT_NE(strstr(domain(1).path, "MIG is on: power of the whole board"), nullptr) << domain(1).path;
    EXPECT_EQ(strstr(domain(0).path, "MIG"), nullptr);
}

TEST_F(Nvml, SixteenBoardsFitAndAllCount) {
    std::string script;
    for (int i = 0; i < 16; i++) script += "device\n pci 0000:" + std::to_string(10 + i) + ":00\n";
    Script(script);
    OpenSource();
    ASSERT_EQ(n(), 64u);
    for (int i = 0; i < 16; i++) EXPECT_EQ(domain(i).name, "gpu-" + std::to_string(i));
}

TEST_F(Nvml, ADriverWithoutFieldValuesIsReadByPowerUsage) {
    Script("device\n pci 0000:0a:00\n truth constant 75000\n", WTL_FAKE_NVML_OLD);
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_STREQ(domain(0).name, "gpu-0");
    EXPECT_STREQ(domain(0).key, "gpu_board:0000:0a:00.0");
    EXPECT_EQ(domain(0).card, tel_card_averaged()) << "the architecture is not known: the reading with less to promise";
    tel_series *series = Series(0);
    ReadFor(0, series, 1000000, 100000);
    EXPECT_EQ(tel_series_at(series, 0)->value, 75000000u);
}

// ---- What cannot be read --------------------------------------------------------------------------------------------
TEST_F(Nvml, DriverErrorsBecomeAReasonAndARemedy) {
    const struct {
        int code;
        const char *reason, *fix;
    } cases[] = {{9, "not loaded", "sudo modprobe nvidia"}, {18, "different versions", "sudo modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia && sudo modprobe nvidia"},
                 {4, "no permission", "sudo usermod -aG video,render $USER"}, {17, "cgroup", "docker run --gpus all ..."}, {999, "internal driver error", ""},
                 {12345, "internal driver error", ""}};
    for (const auto &c : cases) {
        Script("fail Init " + std::to_string(c.code) + "\ndevice\n");
        OpenSource();
        ASSERT_EQ(n(), 1u) << c.code;
        EXPECT_NE(strstr(domain(0).reason, c.reason), nullptr) << domain(0).reason;
        EXPECT_STREQ(domain(0).fix, c.fix);
        EXPECT_STREQ(domain(0).key, "");
    }
}

TEST_F(Nvml, ABoardThatCannotBeReadSaysWhyAndTheOthersAreRead) {
    Script("device\n fail DeviceGetHandle 4\ndevice\n name NVIDIA H100\n fail DeviceGetSamples 4\n fail DeviceGetFieldValues 4\n"
           " fail DeviceGetTotalEnergyConsumption 3\n fail DeviceGetPowerUsage 4\ndevice\n");
    OpenSource();
    ASSERT_EQ(n(), 6u);
    EXPECT_STREQ(domain(0).reason, "the GPU cannot be read: no permission (NVML error 4)");
    EXPECT_STREQ(domain(1).reason, "NVIDIA H100 cannot be read: no permission (NVML error 4)");
    EXPECT_STREQ(domain(1).key, "gpu_board:0000:02:00.0");
    EXPECT_STREQ(domain(1).fix, "sudo usermod -aG video,render $USER");
    EXPECT_STREQ(domain(2).reason, "");
    EXPECT_STREQ(domain(2).name, "gpu-2");
}

TEST_F(Nvml, CodeCarbon295UnsupportedBoardIsUnavailableNeverZero) {
    std::string script = "device\n name NVIDIA GeForce 940MX\n";
    for (const char *f : kReadings) script += std::string(" fail ") + f + " 3\n";
    Script(script);
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_STREQ(domain(0).reason, "NVIDIA GeForce 940MX reports neither power nor energy");
    EXPECT_STREQ(domain(0).fix, "");
    // A driver that says 0 W instead of "not supported".
    Script("device\n name NVIDIA GeForce 940MX\n truth constant 0\n counter_start_mj 0\n");
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_NE(strstr(domain(0).reason, "no data"), nullptr) << domain(0).reason;
}

TEST_F(Nvml, CodeCarbon1316NoEnergyCounterStillHasPower) {
    Script("device\n name Tesla P100-PCIE-16GB\n arch 4\n truth constant 26000\n fail DeviceGetTotalEnergyConsumption 3\n fail DeviceGetSamples 3\n");
    OpenSource();
    ASSERT_EQ(n(), 2u);
    tel_series *series = Series(0);
    ReadFor(0, series, 1000000, 50000);
    ASSERT_GT(series->n, 10u);
    EXPECT_EQ(tel_series_at(series, 5)->value, 26000000u);
}

TEST_F(Nvml, WithoutALibraryAWordIsSaidOnlyWhereThereIsACard) {
    path_ = "libwtl-no-such-nvml.so.1";
    OpenSource();
    EXPECT_EQ(n(), 0u);
    ASSERT_EQ(system(("mkdir -p " + root_ + "/sys/bus/pci/devices/0000:00:02.0 " + root_ + "/sys/bus/pci/devices/0000:01:00.0").c_str()), 0);
    std::ofstream(root_ + "/sys/bus/pci/devices/0000:00:02.0/vendor") << "0x8086\n";
    std::ofstream(root_ + "/sys/bus/pci/devices/0000:00:02.0/class") << "0x030000\n";
    std::ofstream(root_ + "/sys/bus/pci/devices/0000:01:00.0/vendor") << "0x10de\n";
    std::ofstream(root_ + "/sys/bus/pci/devices/0000:01:00.0/class") << "0x040300\n"; // its sound part
    OpenSource();
    EXPECT_EQ(n(), 0u);
    std::ofstream(root_ + "/sys/bus/pci/devices/0000:01:00.0/class") << "0x030200\n";
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_STREQ(domain(0).reason, "no NVIDIA driver library");
    EXPECT_STREQ(domain(0).key, "");
    ASSERT_EQ(system(("mkdir -p " + root_ + "/proc/driver/nvidia").c_str()), 0);
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_NE(strstr(domain(0).reason, "beside the loaded driver"), nullptr);
}

TEST_F(Nvml, ANamedLibraryThatIsWrongIsSaid) {
    path_ = root_ + "/nothing.so";
    OpenSource();
    ASSERT_EQ(n(), 1u);
    EXPECT_NE(strstr(domain(0).reason, "nothing.so"), nullptr) << domain(0).reason;
    path_ = "libm.so.6"; // a library, but not this one
    ASSERT_EQ(system(("mkdir -p " + root_ + "/proc/driver/nvidia").c_str()), 0);
    OpenSource();
    ASSERT_EQ(n(), 1u);
}

// ---- Values ---------------------------------------------------------------------------------------------------------
TEST_F(Nvml, EveryValueTypeIsUnderstood) {
    for (const char *type : {"double", "uint", "ulong", "ulonglong", "longlong", "int", "ushort"}) {
        Script(std::string("device\n truth constant 54321\n value_type ") + type + "\n");
        OpenSource();
        ASSERT_EQ(n(), 4u) << type;
        for (size_t i = 0; i < 2; i++) {
            tel_series *series = Series(i);
            ReadFor(i, series, 500000, 100000);
            ASSERT_GT(series->n, 0u) << type;
            EXPECT_EQ(tel_series_at(series, 0)->value, 54321000u) << type;
            EXPECT_EQ(series->n_gaps, 0u);
        }
    }
}

TEST_F(Nvml, ZeroWattsWhileRunningAreAGap) {
    Script("device\n fail DeviceGetSamples 3\n truth square 0 100000 2000000 0.5\n");
    SetTime(100500000);
    OpenSource();
    tel_series *series = Series(0);
    ReadFor(0, series, 4000000, 100000);
    EXPECT_GT(series->faults[TEL_FAULT_READ], 5u);
    EXPECT_GE(series->n_gaps, 1u);
    for (size_t i = 0; i < series->n; i++) EXPECT_GT(tel_series_at(series, i)->value, 0u);
}

TEST_F(Nvml, ReadTimesAreThoseOfTheDriver) {
    Script("clock monotonic\ndevice\n latency_us 2000\n");
    OpenSource(true);
    ASSERT_EQ(n(), 3u) << "the ring is still empty";
    tel_series *series = Series(1); // the counter
    for (int i = 0; i < 5; i++) Read(1, series);
    EXPECT_EQ(series->n_reads, 5u);
    EXPECT_GE(tel_series_read_p99(series), 2000000u);
    EXPECT_GE(tel_series_at(series, 0)->read_ns, 2000000u);
}

TEST_F(Nvml, AMeterWithoutAClockOfItsOwnReadsBoards) {
    Script("clock monotonic\ndevice\n");
    tel_options options = {};
    options.source = "nvml";
    options.nvml_path = WTL_FAKE_NVML;
    tel_meter *meter = nullptr;
    tel_error err = {};
    ASSERT_EQ(tel_meter_open(&options, &meter, &err), TEL_OK) << err.message;
    tel_meter_poll(meter);
    EXPECT_GE(tel_meter_n_counting(meter), 1u);
    tel_meter_close(&meter);
}

// ---- The ring -------------------------------------------------------------------------------------------------------
TEST_F(Nvml, EverySampleOnceWithItsOwnTime) {
    Script("device\n truth square 50000 300000 1000000 0.5\n");
    OpenSource();
    tel_series *series = Series(0);
    Read(0, series);
    const size_t first = series->n;
    EXPECT_EQ(first, 1u) << "the newest one at opening is the first";
    ReadFor(0, series, 2000000, 130000); // not a multiple of anything
    Read(0, series);
    Read(0, series);
    EXPECT_EQ(series->n, first + (now_us_ - 100000000) / 20000);
    EXPECT_EQ(series->n_gaps, 0u);
    for (size_t i = 0; i < series->n; i++) {
        const uint64_t t_us = 100000000 + i * 20000;
        EXPECT_EQ(tel_series_at(series, i)->t_ns, t_us * 1000);
        EXPECT_NEAR((double)tel_series_at(series, i)->value, TruthUj(t_us - 100000, t_us) / 0.1, 1000);
    }
}

TEST_F(Nvml, SamplesThatFellOutOfTheRingAreAGap) {
    Script("device\n");
    OpenSource();
    tel_series *series = Series(0);
    Read(0, series);
    Advance(10000000); // the ring holds 2.4 s
    Read(0, series);
    EXPECT_EQ(series->n, 121u);
    EXPECT_EQ(series->n_gaps, 1u);
    EXPECT_GE(series->faults[TEL_FAULT_LATE], 1u);
    EXPECT_TRUE(tel_series_at(series, 1)->gap_before);
    EXPECT_FALSE(tel_series_at(series, 2)->gap_before);
}

TEST_F(Nvml, SamplesMissingFromAShortRingAreAGap) {
    Script("device\n ring 30\n");
    OpenSource();
    tel_series *series = Series(0);
    ReadFor(0, series, 1000000, 100000);
    Advance(1000000); // the ring holds 0.6 s
    Read(0, series);
    EXPECT_EQ(series->n, 81u);
    EXPECT_EQ(series->n_gaps, 1u);
    EXPECT_TRUE(tel_series_at(series, 51)->gap_before);
}

TEST_F(Nvml, ACallTakesNoMoreThanHalfOfTheSeries) {
    Script("device\n");
    OpenSource();
    tel_series *series = Series(0, 20);
    Read(0, series);
    Advance(1000000);
    size_t calls = 0, before;
    do {
        before = series->dropped + series->n;
        Read(0, series);
        EXPECT_LE(series->dropped + series->n - before, 10u);
        calls++;
    } while (series->dropped + series->n > before);
    EXPECT_EQ(series->dropped + series->n, 51u);
    EXPECT_EQ(series->n_gaps, 0u);
    EXPECT_EQ(calls, 6u);
}

TEST_F(Nvml, StampsOfUnixTimeAndOfTimeSinceBootAreRecognised) {
    for (const char *clock : {"wall", "boot", "meter"}) {
        Script(std::string("clock monotonic\ndevice\n ring_step_us 2000\n stamps ") + clock + "\n");
        usleep(12000);
        OpenSource(true);
        ASSERT_EQ(n(), 4u) << clock;
        tel_series *series = Series(0);
        Read(0, series);
        usleep(12000);
        Read(0, series);
        const uint64_t now = tel_monotonic_ns();
        ASSERT_GE(series->n, 5u) << clock;
        const uint64_t last = tel_series_at(series, series->n - 1)->t_ns;
        EXPECT_LE(last, now);
        EXPECT_GT(last + 50000000, now) << clock;
        EXPECT_EQ(series->n_gaps, 0u);
    }
}

TEST_F(Nvml, StampsOfNoKnownClockAreNotUsed) {
    Script("device\n stamp_shift_us -86400000000\n");
    OpenSource();
    ASSERT_EQ(n(), 3u);
    EXPECT_NE(strstr(domain(0).path, "186"), nullptr);
}

TEST_F(Nvml, AClockThatIsSetWhileRunningIsAGapAndNoGuess) {
    for (const char *shift : {"3600000000", "-3600000000", "700000"}) {
        SetTime(100000000);
        Script("device\n");
        OpenSource();
        tel_series *series = Series(0);
        ReadFor(0, series, 1000000, 100000);
        const size_t before = series->n;
        // The driver's clock jumps and the meter's does not; later it jumps back.
        Script(std::string("device\n stamp_shift_us ") + shift + "\n");
        ReadFor(0, series, 6000000, 100000);
        Script("device\n");
        ReadFor(0, series, 8000000, 100000);
        EXPECT_GT(series->n, before + 100) << shift;
        EXPECT_GE(series->n_gaps, 1u) << shift;
        for (size_t i = 1; i < series->n; i++) {
            EXPECT_LE(tel_series_at(series, i)->t_ns, now_us_ * 1000);
            EXPECT_GT(tel_series_at(series, i)->t_ns, tel_series_at(series, i - 1)->t_ns);
        }
    }
}

TEST_F(Nvml, ASuspendMovesTheStampsAndSamplesGoOn) {
    for (uint64_t slept_before : {0ull, 100000000ull}) { // stamps like the meter's clock at first, and plainly of another one
        Script("clock monotonic\ndevice\n ring_step_us 2000\n stamps boot\n");
        slept_ns_ = slept_before;
        usleep(12000);
        OpenSource(true);
        ASSERT_EQ(n(), 4u);
        tel_series *series = Series(0);
        Read(0, series);
        usleep(80000);
        slept_ns_ += 80000000; // asleep for all of that
        const size_t before = series->n;
        for (int i = 0; i < 4; i++) {
            Read(0, series);
            usleep(8000);
        }
        EXPECT_EQ(series->faults[TEL_FAULT_READ], 1u);
        EXPECT_GT(series->n, before + 4);
        for (size_t i = 1; i < series->n; i++) EXPECT_GT(tel_series_at(series, i)->t_ns, tel_series_at(series, i - 1)->t_ns);
    }
}

TEST_F(Nvml, ASensorThatStopsIsAFault) {
    Script("device\n ring_stop_us 101000000\n");
    OpenSource();
    for (size_t i = 0; i < 2; i++) {
        SetTime(100000000);
        tel_series *series = Series(i);
        ReadFor(i, series, 6000000, 100000);
        EXPECT_EQ(series->faults[TEL_FAULT_FROZEN], 1u) << domain(i).path;
        EXPECT_EQ(series->n_gaps, 1u);
        EXPECT_LT(tel_series_at(series, series->n - 1)->t_ns, 103100000000u);
    }
}

// ---- Counter --------------------------------------------------------------------------------------------------------
TEST_F(Nvml, CounterCountsWhatTheBoardTook) {
    Script("device\n truth square 60000 250000 730000 0.4\n");
    OpenSource();
    tel_series *series = Series(2);
    Read(2, series);
    ReadFor(2, series, 10000000, 50000);
    EXPECT_EQ(tel_series_at(series, 0)->value, 0u) << "what was counted before is not ours";
    EXPECT_NEAR((double)tel_series_at(series, series->n - 1)->value, TruthUj(100000000, now_us_), 2000);
    EXPECT_EQ(series->n_gaps, 0u);
    EXPECT_EQ(series->step_ns, 100000000u);
}

TEST_F(Nvml, CounterThatRestartsIsAGap) {
    Script("device\n counter_reset_us 105000000\n");
    OpenSource();
    tel_series *series = Series(2);
    ReadFor(2, series, 10000000, 50000);
    EXPECT_EQ(series->faults[TEL_FAULT_RESET], 1u);
    EXPECT_EQ(series->n_gaps, 1u);
    EXPECT_LE((double)tel_series_at(series, series->n - 1)->value, TruthUj(100000000, now_us_) + 2000);
}

// ---- Loss -----------------------------------------------------------------------------------------------------------
TEST_F(Nvml, ALostBoardReleasesTheDriverAndIsFoundAgain) {
    for (size_t how = 0; how < 4; how++) {
        SetTime(100000000);
        Script("device\n lost_us 103000000 108000000\n counter_reset_us 107000000\n");
        OpenSource();
        tel_series *series = Series(how);
        ReadFor(how, series, 2900000, 100000);
        EXPECT_EQ(series->n_gaps, 0u);
        EXPECT_EQ(OpenCount(), 1u);
        ReadFor(how, series, 300000, 100000);
        EXPECT_GE(series->faults[TEL_FAULT_VANISHED], 1u);
        EXPECT_EQ(OpenCount(), 0u) << "held open, the driver could not be reloaded";
        const size_t before = series->n;
        ReadFor(how, series, 12000000, 100000);
        EXPECT_GT(series->n, before + 20) << domain(how).path;
        EXPECT_EQ(series->n_gaps, 1u) << domain(how).path;
        EXPECT_EQ(OpenCount(), 1u);
    }
}

TEST_F(Nvml, ALostBoardDoesNotDisturbTheOther) {
    Script("device\n lost_us 103000000 104000000\ndevice\n pci 0000:02:00\n");
    OpenSource();
    tel_series *a = Series(0), *b = Series(1);
    for (int i = 0; i < 100; i++) {
        Advance(100000);
        Read(0, a);
        Read(1, b);
        EXPECT_EQ(OpenCount(), 1u);
    }
    EXPECT_EQ(a->n_gaps, 1u);
    EXPECT_EQ(b->n_gaps, 0u);
    EXPECT_NEAR((double)tel_series_at(a, a->n - 1)->t_ns, 110e9, 1e8);
    EXPECT_EQ(b->n, 501u);
}

TEST_F(Nvml, ADriverThatComesBackInAnotherVersionStaysLostAndIsAskedLessAndLess) {
    Script("fail Init 18 1\ndevice\n lost_us 103000000 104000000\n");
    OpenSource();
    tel_series *series = Series(0);
    ReadFor(0, series, 300000000, 500000);
    EXPECT_EQ(OpenCount(), 0u);
    EXPECT_EQ(series->n_gaps, 1u);
    EXPECT_LT(tel_series_at(series, series->n - 1)->t_ns, 103100000000u);
}

// ---- Faults ---------------------------------------------------------------------------------------------------------
TEST_F(Nvml, RandomFaultsGiveGapsAndNoNumbers) {
    std::mt19937 random(20240607);
    const int codes[] = {2, 3, 4, 10, 13, 20, 21, 27, 999};
    for (int round = 0; round < 40; round++) {
        SetTime(100000000);
        std::string script = "device\n truth square 60000 200000 900000 0.5\n";
        for (const char *f : kReadings)
            for (int k = 0; k < 5; k++)
                script += std::string(" fail ") + f + " " + std::to_string(codes[random() % 9]) + " " + std::to_string(2 + random() % 90) + " " +
                          std::to_string(1 + random() % 5) + "\n";
        Script(script);
        OpenSource();
        for (size_t i = 0; i < n(); i++) {
            SetTime(100000000);
            tel_series *series = Series(i);
            ReadFor(i, series, 10000000, 100000);
            EXPECT_GT(series->faults[TEL_FAULT_READ], 0u);
            ASSERT_GT(series->n, 1u);
            const double seconds = (double)(tel_series_at(series, series->n - 1)->t_ns - tel_series_at(series, 0)->t_ns) / 1e9;
            if (domain(i).kind == TEL_SERIES_COUNTER) {
                EXPECT_LE((double)tel_series_at(series, series->n - 1)->value, 200e6 * (seconds + 0.2)) << "round " << round;
                continue;
            }
            for (size_t k = 0; k < series->n; k++) {
                EXPECT_GE(tel_series_at(series, k)->value, 59900000u) << "round " << round;
                EXPECT_LE(tel_series_at(series, k)->value, 200100000u) << "round " << round;
            }
        }
    }
}

// ---- Windows --------------------------------------------------------------------------------------------------------
struct Track {
    explicit Track(const tel_domain &d) {
        tel_track_options o{};
        o.card = d.card;
        o.kind = d.kind;
        o.scope = d.scope;
        o.method = d.method;
        o.source = "nvml";
        o.step_ns = d.step_ns;
        o.limit_uw = d.limit_uw;
        o.capacity = 4096;
        EXPECT_EQ(tel_track_open(&o, &track), TEL_OK);
    }
    ~Track() { tel_track_close(&track); }
    tel_track *track = nullptr;
};

// Random windows on boards of three classes, each read in every way that it has, against the truth of the script.
struct Board {
    const char *name, *script;
};
class NvmlBound : public Nvml, public ::testing::WithParamInterface<Board> {};

TEST_P(NvmlBound, HoldsInRandomWindows) {
    Script(std::string("device\n name ") + GetParam().name + "\n" + GetParam().script +
           " gain 1.05\n offset_mw 4000\n delay_us 4000\n counter_delay_us 60000\n truth square 70000 290000 613000 0.45\n");
    OpenSource();
    std::mt19937 random(7);
    for (size_t i = 0; i < n(); i++) {
        SetTime(100000000);
        tel_series *series = Series(i, 8192);
        Track track(domain(i));
        for (int k = 0; k < 3000; k++) {
            Advance(7000 + random() % 6000);
            Read(i, series);
            tel_track_update(track.track, series);
        }
        size_t held = 0, windows = 0;
        for (int k = 0; k < 1000; k++) {
            const uint64_t length = 50000 + random() % 2000000, t0 = 102000000 + random() % 20000000;
            const tel_energy e = tel_track_energy(track.track, t0 * 1000, (t0 + length) * 1000);
            if (e.status == TEL_UNAVAILABLE) continue;
            const double truth = TruthUj(t0, t0 + length);
            windows++;
            held += (double)e.low_uj <= truth && truth <= (double)e.high_uj;
        }
        EXPECT_GE(windows, 900u) << domain(i).path;
        EXPECT_GE((double)held, 0.99 * (double)windows) << domain(i).path << ": " << held << " of " << windows;
    }
}
INSTANTIATE_TEST_SUITE_P(Boards, NvmlBound,
                         ::testing::Values(Board{"NVIDIA GeForce RTX 3090", ""},
                                           Board{"NVIDIA A100-PCIE-40GB", " window_us 25000\n average_us 25000\n ring_step_us 100000\n"},
                                           Board{"NVIDIA Something New", " ring 0\n"}),
                         [](const auto &p) { return std::string(p.param.name + 7, 1) + std::to_string(p.index); });

TEST_F(Nvml, PyJoules17MostDeltasAreZeroYetNoWindowIs) {
    Script("device\n truth constant 120000\n counter_delay_us 30000\n");
    OpenSource();
    tel_series *counter = Series(2), *ring = Series(0);
    Track of_counter(domain(2)), of_ring(domain(0));
    size_t zeros = 0, deltas = 0;
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        Advance(10000);
        Read(0, ring);
        Read(2, counter);
        tel_track_update(of_counter.track, counter);
        tel_track_update(of_ring.track, ring);
        const uint64_t value = tel_series_at(counter, counter->n - 1)->value;
        zeros += i > 0 && value == last;
        deltas += i > 0;
        last = value;
    }
    EXPECT_GT(zeros, deltas / 2) << "the defect's precondition";
    std::mt19937 random(17);
    for (int i = 0; i < 200; i++) {
        const uint64_t t0 = 103000000000ull + random() % 5000000000ull, t1 = t0 + 50000000;
        for (tel_track *track : {of_counter.track, of_ring.track}) {
            const tel_energy e = tel_track_energy(track, t0, t1);
            ASSERT_NE(e.status, TEL_UNAVAILABLE) << e.reason;
            EXPECT_GT(e.energy_uj, 0u);
            EXPECT_LE((double)e.low_uj, 6e6) << "120 W over 50 ms";
            EXPECT_GE((double)e.high_uj, 6e6);
        }
    }
}

TEST_F(Nvml, EnergiBridgeStyleDifferencesOfARestartedCounterAreNeverNegative) {
    Script("device\n counter_reset_us 105050000\n truth constant 200000\n");
    OpenSource();
    tel_series *series = Series(2);
    Track track(domain(2));
    uint64_t last = 0;
    for (int i = 0; i < 200; i++) {
        Advance(50000);
        Read(2, series);
        tel_track_update(track.track, series);
        const uint64_t value = tel_series_at(series, series->n - 1)->value;
        EXPECT_GE(value, last);
        EXPECT_LE(value - last, 2u * 20000000);
        last = value;
    }
    const tel_energy e = tel_track_energy(track.track, 103000000000ull, 108000000000ull);
    ASSERT_NE(e.status, TEL_UNAVAILABLE);
    EXPECT_GE(e.n_gaps, 1u);
    EXPECT_LE((double)e.low_uj, 1e9);
    EXPECT_GE((double)e.high_uj, 1e9) << "200 W over 5 s, across the restart";
}

// ---- The look-alike's settings, for those who control power ---------------------------------------------------------
TEST_F(Nvml, SettingsAreKeptWithinTheirRangeAndLogged) {
    Script("device\n limit_range_mw 100000 300000\n fail DeviceSetGpuLockedClocks 4\n");
    OpenSource();
    struct nvml_device_handle *board = nullptr;
    ASSERT_EQ(Call<int (*)(unsigned, nvml_device_handle **)>("nvmlDeviceGetHandleByIndex_v2")(0, &board), 0);
    auto set = Call<int (*)(nvml_device_handle *, unsigned)>("nvmlDeviceSetPowerManagementLimit");
    EXPECT_EQ(set(board, 99999), 2);
    EXPECT_EQ(set(board, 200000), 0);
    unsigned mw = 0;
    EXPECT_EQ(Call<int (*)(nvml_device_handle *, unsigned *)>("nvmlDeviceGetPowerManagementLimit")(board, &mw), 0);
    EXPECT_EQ(mw, 200000u);
    EXPECT_EQ(Call<int (*)(nvml_device_handle *, unsigned, unsigned)>("nvmlDeviceSetGpuLockedClocks")(board, 210, 1200), 4);
    std::ifstream log(root_ + "/log");
    std::string line;
    ASSERT_TRUE(std::getline(log, line));
    EXPECT_EQ(line, "SetPowerManagementLimit 0 200000");
    EXPECT_FALSE(std::getline(log, line));
}

} // namespace
