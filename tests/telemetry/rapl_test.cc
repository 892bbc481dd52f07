// RAPL through perf and through powercap on made-up trees: what each zone is, what cannot be read and why, what a read gives.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <thread>

#include "tests/telemetry/sysfs_tree.h"

extern "C" {
#include "telemetry/mirror.h"
#include "telemetry/rapl_perf.h"
}

namespace {

using sysfs::Choice;
using sysfs::FakePerf;
using sysfs::NotRoot;
using sysfs::Opened;
using sysfs::Series;
using sysfs::Tree;

const std::vector<const tel_source *> kRapl = {&tel_source_perf, &tel_source_powercap};

// ---- powercap -----------------------------------------------------------------------------------------------------

TEST(Powercap, OneSocketWithDram) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl:0:0", "core", 400);
    tree.zone("intel-rapl:0:1", "uncore", 10);
    tree.zone("intel-rapl:0:2", "dram", 300);
    Choice choice({&tel_source_powercap}, tree);
    EXPECT_EQ(choice.counting(), "package-0/powercap dram-0/powercap");
    EXPECT_EQ(choice.reason("core-0", "powercap"), "its joules are inside package-0");
    EXPECT_EQ(choice.reason("uncore-0", "powercap"), "its joules are inside package-0");
}

TEST(Powercap, WithoutDram) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "package-0/powercap");
}

TEST(Powercap, PsysBetweenTwoSocketsIsFoundByName_Papi53) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl:1", "psys", 5000);
    tree.zone("intel-rapl:2", "package-1", 2000);
    tree.zone("intel-rapl:0:0", "dram", 10);
    tree.zone("intel-rapl:2:0", "dram", 20);
    Choice choice({&tel_source_powercap}, tree);
    EXPECT_EQ(choice.counting(), "package-0/powercap package-1/powercap dram-0/powercap dram-1/powercap");
    EXPECT_EQ(choice.reason("psys", "powercap"), "contains the joules of package-0");
    EXPECT_STREQ(choice.list[1].domain->key, "cpu_package:1");
    EXPECT_EQ(std::string(choice.list[1].domain->path), tree.path("sys/class/powercap/intel-rapl:2/energy_uj").substr(0, 191));
}

TEST(Powercap, PsysPackageAndCoreAreNotSummed_CodeCarbon950) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl:0:0", "core", 900);
    tree.zone("intel-rapl:1", "psys", 5000);
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "package-0/powercap");
}

TEST(Powercap, PsysCountsWhenItIsAllThereIs) {
    Tree tree;
    tree.zone("intel-rapl:0", "psys", 5000);
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "psys/powercap");
}

TEST(Powercap, MmioTwinIsListedAndNotCounted) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl-mmio:0", "package-0", 1000);
    Opened o(tel_source_powercap, tree);
    ASSERT_EQ(o.n(), 2u);
    EXPECT_NE(std::string(o.found().items[0].reason).find("second view"), std::string::npos);
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "package-0/powercap");
}

TEST(Powercap, MmioAloneIsUsed) {
    Tree tree;
    tree.zone("intel-rapl-mmio:0", "package-0", 1000);
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "package-0/powercap");
}

TEST(Powercap, ZoneWithoutRangeCannotBeFollowed) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.remove(Tree::zone_file("intel-rapl:0", "max_energy_range_uj"));
    Opened o(tel_source_powercap, tree);
    EXPECT_NE(std::string(o.domain("package-0")->reason).find("wraps cannot be followed"), std::string::npos);
    tree.zone("intel-rapl:0", "package-0", 1000, 0);
    EXPECT_NE(std::string(Opened(tel_source_powercap, tree).domain("package-0")->reason), "");
    tree.zone("intel-rapl:0", "package-0", 1000, 999);
    EXPECT_NE(std::string(Opened(tel_source_powercap, tree).domain("package-0")->reason), "");
}

TEST(Powercap, RootOnlyCounterNamesTheCommand) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.close_to_others(Tree::zone_file("intel-rapl:0", "energy_uj"));
    NotRoot other;
    if (!other.ok) GTEST_SKIP() << "cannot become another user here";
    Choice choice({&tel_source_powercap}, tree);
    EXPECT_EQ(choice.n_counting, 0u);
    EXPECT_EQ(choice.reason("package-0", "powercap"), "intel-rapl:0/energy_uj may not be read by this user");
    EXPECT_STREQ(choice.list[0].domain->fix, "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj");
}

TEST(Powercap, NothingThereIsSaid) {
    Tree tree;
    Opened none(tel_source_powercap, tree);
    ASSERT_EQ(none.n(), 1u);
    EXPECT_NE(std::string(none.found().items[0].reason).find("hypervisor"), std::string::npos);
    std::filesystem::create_directories(tree.path("sys/class/powercap"));
    Opened empty(tel_source_powercap, tree);
    ASSERT_EQ(empty.n(), 1u);
    EXPECT_NE(std::string(empty.found().items[0].reason).find("has no zone"), std::string::npos);
    tree.link("sys/class/powercap/intel-rapl:0",
              "../../devices/virtual/powercap/intel-rapl/intel-rapl:0"); // as container runtimes mask it
    Opened masked(tel_source_powercap, tree);
    ASSERT_EQ(masked.n(), 1u);
    EXPECT_NE(std::string(masked.found().items[0].reason).find("container hides"), std::string::npos);
    EXPECT_STREQ(masked.found().items[0].key, "");
}

TEST(Powercap, UnknownZonesDoNotCount) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl:1", "package-x", 1000);
    tree.zone("intel-rapl:2", "package-1-die-", 1000);
    tree.zone("intel-rapl:3", "dram", 1000); // of no package
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).counting(), "package-0/powercap");
}

TEST(Powercap, ReadsFaultsAndTheWrap) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 65000000000, 65712999613);
    Opened o(tel_source_powercap, tree);
    const tel_domain *d = o.domain("package-0");
    ASSERT_STREQ(d->reason, "");
    Series series(d);
    const std::string file = Tree::zone_file("intel-rapl:0", "energy_uj");
    auto read_at = [&](const std::string &text) {
        tree.write(file, text);
        o.now_ns += 100000000; // 0.1 s
        o.read(d, &series.s);
    };
    read_at("65712000000\n");
    EXPECT_EQ(series.last(), 0u);
    read_at("65712500000\n");
    EXPECT_EQ(series.last(), 500000u);
    read_at("300\n"); // 500,000 to the end, 1 over it, 300
    EXPECT_NEAR((double)series.last(), 500000 + 499613 + 301, 1);
    EXPECT_EQ(series.s.n_gaps, 0u);
    read_at("");
    read_at("garbage\n");
    read_at("65712999614\n"); // beyond the range
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], 3u);
    tree.remove(Tree::zone_file("intel-rapl:0", ""));
    o.read(d, &series.s);
    EXPECT_EQ(series.s.faults[TEL_FAULT_VANISHED], 1u);
}

TEST(Powercap, MirroredDiesCountOnce_CodeCarbon1274_CodeCarbon1379) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0-die-0", 0);
    const std::string live = tree.path(Tree::zone_file("intel-rapl:0", "energy_uj"));
    for (int die = 1; die < 4; die++) {
        const std::string zone = "intel-rapl:" + std::to_string(die);
        tree.zone(zone, "package-0-die-" + std::to_string(die), 0);
        tree.remove(Tree::zone_file(zone, "energy_uj"));
        tree.link(Tree::zone_file(zone, "energy_uj"), live);
    }
    std::atomic<bool> stop{false};
    auto write_live = [&](uint64_t v) { // whole or not at all: a reader never sees half a number
        tree.write("live.next", v);
        std::filesystem::rename(tree.path("live.next"), live);
    };
    write_live(1000000000);
    std::thread counter([&] {
        for (uint64_t v = 1000000000; !stop; v += 50000) {
            write_live(v);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    });
    Choice choice({&tel_source_powercap}, tree);
    stop = true;
    counter.join();
    EXPECT_EQ(choice.counting(), "package-0-die-0/powercap");
    EXPECT_EQ(choice.reason("package-0-die-3", "powercap"),
              "shows the counter of package-0-die-0 once more (a die of the same package)");
}

TEST(Powercap, DiesWithCountersOfTheirOwnAllCount) {
    Tree tree;
    tree.zone("intel-rapl:0", "package-0-die-0", 5000000);
    tree.zone("intel-rapl:1", "package-0-die-1", 5000001);
    tree.zone("intel-rapl:2", "package-1-die-0", 0);
    tree.zone("intel-rapl:3", "package-1-die-1", 0); // two counters that stand at 0 say nothing about each other
    EXPECT_EQ(Choice({&tel_source_powercap}, tree).n_counting, 4u);
}

// ---- mirror -------------------------------------------------------------------------------------------------------

TEST(Mirror, GrowthMustBeTheSameSeveralTimes) {
    const tel_mirror_round a[] = {{10, 10}, {20, 20}, {25, 30}, {41, 41}, {55, 55}};
    const tel_mirror_round b[] = {{7, 7}, {17, 17}, {27, 27}, {38, 38}, {52, 52}};
    EXPECT_TRUE(tel_mirror_same(a, b, 5, false)) << "the round in which a moved is left out";
    EXPECT_FALSE(tel_mirror_same(a, b, 4, false)) << "grew only twice";
    const tel_mirror_round other[] = {{7, 7}, {17, 17}, {27, 27}, {38, 38}, {53, 53}};
    EXPECT_FALSE(tel_mirror_same(a, other, 5, false));
    const tel_mirror_round still[] = {{9, 9}, {9, 9}, {9, 9}, {9, 9}, {9, 9}};
    EXPECT_FALSE(tel_mirror_same(still, still, 5, false)) << "a counter that stands still proves nothing";
}

TEST(Mirror, AbsoluteValuesLieBetweenThoseAround) {
    const tel_mirror_round a[] = {{10, 12}, {20, 22}};
    const tel_mirror_round inside[] = {{11, 12}, {22, 22}}, outside[] = {{11, 12}, {23, 24}}, before[] = {{11, 12}, {19, 25}};
    EXPECT_TRUE(tel_mirror_same(a, inside, 2, true));
    EXPECT_FALSE(tel_mirror_same(a, outside, 2, true));
    EXPECT_FALSE(tel_mirror_same(a, before, 2, true));
}

// ---- perf ---------------------------------------------------------------------------------------------------------

struct PerfTree : Tree {
    PerfTree() {
        power_pmu("0,16");
        power_event("pkg", 2);
        power_event("ram", 3);
        cpu(0, 0);
        cpu(16, 1);
    }
};

TEST(Perf, TwoSocketsByTopologyNotByOrder) {
    PerfTree tree;
    tree.power_event("cores", 1);
    tree.power_event("psys", 5, "1.0");
    tree.cpu(0, 1); // CPU 0 lies in package 1
    tree.cpu(16, 0);
    FakePerf perf(tree);
    for (int config : {1, 2, 3, 5})
        for (int cpu : {0, 16}) perf.moves(config, cpu, (uint64_t)(100 * config + cpu));
    Choice choice({&tel_source_perf}, tree);
    EXPECT_EQ(choice.counting(), "package-0/perf package-1/perf dram-0/perf dram-1/perf");
    EXPECT_NE(std::string(choice.list[1].domain->path).find("on CPU 0"), std::string::npos);
    EXPECT_EQ(choice.reason("core-1", "perf"), "its joules are inside package-1");
    EXPECT_EQ(choice.reason("psys-1", "perf"), "contains the joules of package-1");
}

TEST(Perf, AmdHasThePackageOnly) {
    Tree tree;
    tree.power_pmu("0");
    tree.power_event("pkg", 2);
    tree.cpu(0, 0);
    FakePerf perf(tree);
    perf.set(2, 0, {1, 2});
    EXPECT_EQ(Choice({&tel_source_perf}, tree).counting(), "package-0/perf");
}

TEST(Perf, UnitIsWhatScaleSays_CodeCarbon117) {
    PerfTree tree;
    tree.power_event("ram", 3, "1.52587890625e-05"); // 2^-16 J
    FakePerf perf(tree);
    perf.set(2, 0, {0, 5, 5, 5 + (uint64_t{1} << 32)}, 1); // the first two: to see it move
    perf.set(3, 0, {0, 1 << 16}, 1);
    Opened o(tel_source_perf, tree);
    EXPECT_DOUBLE_EQ(o.domain("package-0")->uj_per_unit, 1e6 / 4294967296.0);
    EXPECT_EQ(o.domain("package-0")->range, 0u);
    for (const char *name : {"package-0", "dram-0"}) {
        const tel_domain *d = o.domain(name);
        ASSERT_STREQ(d->reason, "") << name;
        Series series(d);
        o.read(d, &series.s);
        o.now_ns += 100000000;
        o.read(d, &series.s);
        EXPECT_EQ(series.last(), 1000000u) << name << ": one joule";
    }
}

TEST(Perf, EventsWithoutAUsableUnitAreRefused) {
    PerfTree tree;
    FakePerf perf(tree);
    perf.moves(2, 0);
    perf.moves(2, 16);
    const std::string event = "sys/bus/event_source/devices/power/events/energy-pkg";
    for (const char *scale : {"", "nan", "0", "-1", "0x1p-32", "1e9", "2.3e-10 J"}) {
        tree.write(event + ".scale", scale);
        EXPECT_NE(std::string(Opened(tel_source_perf, tree).domain("package-0")->reason), "") << scale;
    }
    tree.power_event("pkg", 2);
    EXPECT_STREQ(Opened(tel_source_perf, tree).domain("package-0")->reason, "");
    tree.write(event + ".unit", "Watts\n");
    EXPECT_NE(std::string(Opened(tel_source_perf, tree).domain("package-0")->reason), "");
    tree.power_event("pkg", 2);
    tree.write(event, "event=0x02,umask=0xff\n");
    EXPECT_NE(std::string(Opened(tel_source_perf, tree).domain("package-0")->reason), "");
}

TEST(Perf, ParanoidKernelNamesTheCommand) {
    PerfTree tree;
    FakePerf perf(tree);
    FakePerf::error() = EACCES;
    Opened o(tel_source_perf, tree);
    const tel_domain *d = o.domain("package-0");
    EXPECT_NE(std::string(d->reason).find("kernel.perf_event_paranoid is 2"), std::string::npos);
    EXPECT_STREQ(d->fix, "sudo sysctl kernel.perf_event_paranoid=0");
    tree.write("proc/sys/kernel/perf_event_paranoid", "-1\n");
    FakePerf::error() = EPERM;
    Opened forbidden(tel_source_perf, tree);
    EXPECT_NE(std::string(forbidden.domain("package-0")->reason).find("security policy"), std::string::npos);
    EXPECT_STREQ(forbidden.domain("package-0")->fix, "") << "lowering it further mends nothing";
    FakePerf::error() = EINVAL;
    EXPECT_NE(std::string(Opened(tel_source_perf, tree).domain("package-0")->reason).find("does not open"), std::string::npos);
}

TEST(Perf, ShortReadIsAFault) {
    PerfTree tree;
    FakePerf perf(tree);
    perf.set_bytes(3, 0, std::string(8, '\1') + "abc");
    Opened o(tel_source_perf, tree);
    const tel_domain *d = o.domain("dram-0");
    Series series(d);
    o.read(d, &series.s);
    o.read(d, &series.s); // 3 bytes
    o.read(d, &series.s); // none
    EXPECT_EQ(series.s.n, 1u);
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], 2u);
}

TEST(Perf, WithoutTheDeviceOrItsTopologyThereIsAReason) {
    Tree empty;
    Opened none(tel_source_perf, empty);
    ASSERT_EQ(none.n(), 1u);
    EXPECT_NE(std::string(none.found().items[0].reason), "");
    PerfTree tree;
    FakePerf perf(tree);
    perf.moves(2, 0);
    perf.moves(2, 16);
    tree.remove("sys/devices/system/cpu/cpu16");
    Choice choice({&tel_source_perf}, tree);
    EXPECT_EQ(choice.counting(), "package-0/perf");
    tree.remove("sys/bus/event_source/devices/power/cpumask");
    EXPECT_EQ(Choice({&tel_source_perf}, tree).n_counting, 0u);
}

TEST(Perf, MirroredDiesCountOnce_CodeCarbon1274_CodeCarbon1379) {
    Tree tree;
    tree.power_pmu("0-2");
    tree.power_event("pkg", 2);
    for (int cpu = 0; cpu < 3; cpu++) tree.cpu(cpu, 0, cpu);
    FakePerf perf(tree);
    // Two reads to see them move, then two a round. Dies 0 and 1 show one counter, opened at different moments; die 2 counts by itself.
    auto rounds = [&](int die, const std::vector<uint64_t> &values) {
        std::vector<uint64_t> reads = {0, 1};
        for (uint64_t v : values) reads.insert(reads.end(), 2, v);
        perf.set(2, die, reads);
    };
    rounds(0, {100, 1200, 2100, 3300, 4100, 5200, 6000, 7000});
    rounds(1, {40, 1140, 2040, 3240, 4040, 5140, 5940, 6940});
    rounds(2, {100, 1190, 2110, 3290, 4100, 5210, 6000, 7000});
    Choice choice({&tel_source_perf}, tree);
    EXPECT_EQ(choice.counting(), "package-0-die-0/perf package-0-die-2/perf");
    EXPECT_NE(choice.reason("package-0-die-1", "perf").find("once more"), std::string::npos);
}

// ---- perf: counters that nothing feeds ------------------------------------------------------------------------------

const char kStill[] = "it did not move in 20 ms: nothing feeds this counter, as in many virtual machines";
const std::vector<const tel_source *> kWithModel = {&tel_source_perf, &tel_source_powercap, &tel_source_model};

// One socket, with a part for everything that its package can have.
struct PulseTree : Tree {
    PulseTree() : perf(*this) {
        power_pmu("0");
        cpu(0, 0);
    }
    void event(const char *name, int config) { power_event(name, config); }
    FakePerf perf;
};

double milliseconds_of(const std::function<void()> &what) {
    const auto begin = std::chrono::steady_clock::now();
    what();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

TEST(PerfPulse, TheModelCountsWhereTheOnlyCounterStandsStill) {
    const std::pair<const char *, const char *> only[] = {{"psys", "psys-0"}, {"pkg", "package-0"}};
    for (const auto &[event, name] : only) {
        PulseTree tree;
        tree.event(event, 5);
        tree.perf.stands(5, 0);
        Choice choice(kWithModel, tree);
        EXPECT_EQ(choice.counting(), "cpu/model") << name;
        EXPECT_EQ(choice.reason(name, "perf"), kStill);
    }
}

TEST(PerfPulse, ACounterThatMovesCountsAndCostsLittle) {
    PulseTree tree;
    tree.event("psys", 5);
    tree.perf.moves(5, 0);
    double fastest = 1e9; // of several: this machine has others on it
    for (int i = 0; i < 5; i++) fastest = std::min(fastest, milliseconds_of([&] { EXPECT_EQ(Choice(kWithModel, tree).counting(), "psys-0/perf"); }));
    EXPECT_LT(fastest, 15);
}

// Looked at after 0, 0.5, 1, 2, 3, 4 and 6 ms: the seventh look.
TEST(PerfPulse, ACounterMayTakeMillisecondsToMove) {
    PulseTree tree;
    tree.event("psys", 5);
    tree.perf.set(5, 0, {7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8});
    EXPECT_EQ(Choice(kWithModel, tree).counting(), "psys-0/perf");
    tree.perf.set(5, 0, {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8}); // at the last look
    EXPECT_EQ(Choice(kWithModel, tree).counting(), "psys-0/perf");
    tree.perf.stands(5, 0, 7);
    EXPECT_GE(milliseconds_of([&] { EXPECT_EQ(Choice(kWithModel, tree).counting(), "cpu/model"); }), 20) << "given up too early";
}

TEST(PerfPulse, PartsAreNotTrustedBesideADeadPackage) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.event("ram", 3);
    tree.event("cores", 1);
    tree.perf.stands(2, 0);
    tree.perf.moves(3, 0);
    tree.perf.moves(1, 0);
    Choice choice(kWithModel, tree);
    EXPECT_EQ(choice.counting(), "cpu/model");
    EXPECT_EQ(choice.reason("package-0", "perf"), kStill);
    EXPECT_EQ(choice.reason("dram-0", "perf"), "package-0 beside it does not move, so this one is not trusted either");
    EXPECT_EQ(choice.reason("core-0", "perf"), "package-0 beside it does not move, so this one is not trusted either");
}

TEST(PerfPulse, PartsMayStandStillBesideALivePackage) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.event("ram", 3);
    tree.event("gpu", 4);
    tree.perf.moves(2, 0);
    tree.perf.stands(3, 0);
    tree.perf.stands(4, 0);
    Choice choice(kWithModel, tree);
    EXPECT_EQ(choice.counting(), "package-0/perf dram-0/perf");
    EXPECT_EQ(choice.reason("igpu-0", "perf"), "its joules are inside package-0");
}

TEST(PerfPulse, NobodyWaitsForPsysBesideALivePackage) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.event("psys", 5);
    tree.perf.moves(2, 0);
    tree.perf.stands(5, 0);
    Choice choice(kWithModel, tree);
    EXPECT_EQ(choice.counting(), "package-0/perf");
    EXPECT_EQ(choice.reason("psys-0", "perf"), "contains the joules of package-0");
}

TEST(PerfPulse, PsysCountsWhereThePackageIsDead) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.event("ram", 3);
    tree.event("psys", 5);
    tree.perf.stands(2, 0);
    tree.perf.moves(3, 0);
    tree.perf.moves(5, 0);
    EXPECT_EQ(Choice(kWithModel, tree).counting(), "psys-0/perf");
    tree.remove("sys/bus/event_source/devices/power/events/energy-pkg");
    tree.perf.moves(3, 0);
    tree.perf.stands(5, 0);
    Choice choice(kWithModel, tree);
    EXPECT_EQ(choice.counting(), "cpu/model");
    EXPECT_EQ(choice.reason("dram-0", "perf"), "psys-0 beside it does not move, so this one is not trusted either");
}

TEST(PerfPulse, OneSocketMayBeDead) {
    Tree tree;
    FakePerf perf(tree);
    tree.power_pmu("0,16");
    tree.power_event("pkg", 2);
    tree.power_event("ram", 3);
    tree.cpu(0, 0);
    tree.power_event("psys", 5);
    tree.cpu(16, 1);
    for (int config : {2, 3}) {
        perf.moves(config, 0);
        perf.stands(config, 16);
    }
    for (int cpu : {0, 16}) perf.stands(5, cpu);
    Choice choice(kWithModel, tree);
    EXPECT_EQ(choice.counting(), "package-0/perf dram-0/perf");
    EXPECT_EQ(choice.reason("package-1", "perf"), kStill);
    EXPECT_EQ(choice.reason("psys-0", "perf"), kStill);
    EXPECT_EQ(choice.reason("dram-1", "perf"), "package-1 beside it does not move, so this one is not trusted either");
}

TEST(PerfPulse, PowercapStandsInForADeadEvent) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.perf.stands(2, 0);
    tree.zone("intel-rapl:0", "package-0", 1000);
    EXPECT_EQ(Choice(kWithModel, tree).counting(), "package-0/powercap");
}

TEST(PerfPulse, AFaultOfReadingIsNoStandstill) {
    PulseTree tree;
    tree.event("pkg", 2);
    tree.perf.set(2, 0, {7, 7}); // then it cannot be read
    Opened o(tel_source_perf, tree);
    EXPECT_STREQ(o.domain("package-0")->reason, "");
    Series series(o.domain("package-0"));
    o.read(o.domain("package-0"), &series.s);
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], 1u);
}

// ---- perf: beside powercap ------------------------------------------------------------------------------------------

TEST(Perf, IsPreferredToPowercapDomainByDomain) {
    PerfTree tree;
    tree.remove("sys/bus/event_source/devices/power/events/energy-ram");
    tree.zone("intel-rapl:0", "package-0", 1000);
    tree.zone("intel-rapl:0:0", "dram", 30);
    tree.zone("intel-rapl:1", "package-1", 2000);
    FakePerf perf(tree);
    perf.moves(2, 0);
    Choice choice(kRapl, tree); // package 1 cannot be opened by perf
    EXPECT_EQ(choice.counting(), "package-0/perf package-1/powercap dram-0/powercap");
    EXPECT_EQ(choice.reason("package-0", "powercap"), "the same joules as package-0 of perf");
}

TEST(Perf, TheSystemCallRefusesNonsense) {
    int fd = tel_perf_open(0xfffffff0u, 0, 0);
    EXPECT_LT(fd, 0);
}

} // namespace
