// hwmon chips and batteries on made-up trees: which channel counts, under which key, and what a read gives.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/telemetry/sysfs_tree.h"

namespace {

using sysfs::Choice;
using sysfs::Opened;
using sysfs::Series;
using sysfs::Tree;

const std::vector<const tel_source *> kHwmon = {&tel_source_hwmon};

std::string chip(int n) { return "sys/class/hwmon/hwmon" + std::to_string(n) + "/"; }

void gpu(const Tree &tree, int n, const std::string &name, const std::string &pci) {
    tree.write(chip(n) + "name", name + "\n");
    tree.write("sys/devices/pci0000:00/" + pci + "/vendor", "0x1002\n");
    tree.link(chip(n) + "device", "../../../devices/pci0000:00/" + pci);
}

void vram(const Tree &tree, const std::string &pci) {
    tree.write("sys/devices/pci0000:00/" + pci + "/mem_info_vram_total", "17163091968\n");
}

const tel_domain *by_key(Opened &o, const std::string &key) {
    for (size_t i = 0; i < o.n(); i++)
        if (key == o.found().items[i].key) return &o.found().items[i];
    return nullptr;
}

TEST(Hwmon, AmdgpuBoardByItsPciAddress) {
    Tree tree;
    gpu(tree, 3, "amdgpu", "0000:03:00.0");
    vram(tree, "0000:03:00.0");
    tree.write(chip(3) + "power1_label", "PPT\n"); // boards have it too
    tree.write(chip(3) + "power1_average", "33000000\n");
    tree.write(chip(3) + "power1_input", "35000000\n");
    tree.write(chip(3) + "in0_input", "900\n");
    Opened o(tel_source_hwmon, tree);
    ASSERT_EQ(o.n(), 1u) << "one channel, read as an average";
    const tel_domain *d = &o.found().items[0];
    EXPECT_STREQ(d->key, "gpu_board:0000:03:00.0");
    EXPECT_EQ(d->scope, TEL_SCOPE_GPU_BOARD);
    EXPECT_EQ(d->kind, TEL_SERIES_POWER);
    EXPECT_NE(std::string(d->path).find("power1_average"), std::string::npos);
    Series series(d);
    o.read(d, &series.s);
    EXPECT_EQ(series.last(), 33000000u);
    tree.remove(chip(3) + "power1_average");
    o.read(d, &series.s);
    EXPECT_EQ(series.s.faults[TEL_FAULT_VANISHED], 1u);
}

TEST(Hwmon, AmdgpuInsideAProcessorContainsThePackage) {
    for (int sign = 0; sign < 3; sign++) {
        Tree tree;
        gpu(tree, 0, "amdgpu", "0000:c4:00.0");
        tree.write(chip(0) + "power1_input", "11000000\n");
        if (sign > 0) vram(tree, "0000:c4:00.0"); // what the firmware set aside
        if (sign == 1) tree.write(chip(0) + "in1_input", "730\n");
        if (sign == 2) tree.write(chip(0) + "power1_label", "slowPPT\n");
        Choice alone(kHwmon, tree);
        ASSERT_EQ(alone.n_counting, 1u) << sign;
        EXPECT_EQ(alone.list[0].domain->scope, TEL_SCOPE_MODULE);
        tree.zone("intel-rapl:0", "package-0", 1000);
        Choice both({&tel_source_powercap, &tel_source_hwmon}, tree);
        EXPECT_EQ(both.counting(), "package-0/powercap");
        EXPECT_EQ(both.reason("amdgpu-0000:c4:00.0" + std::string(sign == 2 ? "-slowPPT" : ""), "hwmon"),
                  "contains the joules of package-0 of powercap");
    }
}

TEST(Hwmon, I915IsFollowedModulo32Bits) {
    Tree tree;
    gpu(tree, 1, "i915", "0000:03:00.0");
    tree.write(chip(1) + "energy1_input", "4294000000\n");
    Opened o(tel_source_hwmon, tree);
    const tel_domain *d = by_key(o, "gpu_board:0000:03:00.0");
    ASSERT_NE(d, nullptr);
    EXPECT_EQ(d->range, 0xffffffffu);
    for (uint64_t after :
         {uint64_t{32704}, uint64_t{4295000000}}) { // a counter of 32 bits, and one that the driver widens: 1,000,000 uJ more
        Series series(d);
        tree.write(chip(1) + "energy1_input", "4294000000\n");
        o.now_ns += 100000000;
        o.read(d, &series.s);
        tree.write(chip(1) + "energy1_input", after);
        o.now_ns += 100000000;
        o.read(d, &series.s);
        EXPECT_EQ(series.last(), 1000000u) << after;
        EXPECT_EQ(series.s.n_gaps, 0u);
    }
    tree.write(chip(1) + "energy1_input", "5000000000\n");
    Opened wide(tel_source_hwmon, tree);
    EXPECT_EQ(wide.found().items[0].range, 0u) << "beyond 32 bits already";
}

TEST(Hwmon, I915TilesAreParts) {
    Tree tree;
    gpu(tree, 0, "i915", "0000:03:00.0");
    tree.write(chip(0) + "energy1_input", "100\n");
    gpu(tree, 1, "i915_gt0", "0000:03:00.0");
    tree.write(chip(1) + "energy1_input", "60\n");
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.counting(), "i915-0000:03:00.0/hwmon");
    EXPECT_EQ(choice.reason("i915_gt0-0000:03:00.0", "hwmon"), "its joules are inside i915-0000:03:00.0");
}

TEST(Hwmon, XeCardThatStaysAtZeroGivesWayToThePackage) {
    Tree tree;
    gpu(tree, 0, "xe", "0000:03:00.0");
    tree.write(chip(0) + "energy1_label", "card\n");
    tree.write(chip(0) + "energy2_label", "pkg\n");
    tree.write(chip(0) + "energy2_input", "123456\n");
    tree.write(chip(0) + "energy1_input", "200000\n");
    EXPECT_EQ(Choice(kHwmon, tree).counting(), "xe-0000:03:00.0-card/hwmon");
    tree.write(chip(0) + "energy1_input", "0\n");
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.counting(), "xe-0000:03:00.0-pkg/hwmon");
    EXPECT_EQ(choice.list[0].domain->range, 0u);
    EXPECT_NE(choice.reason("xe-0000:03:00.0-card", "hwmon").find("stands at 0"), std::string::npos);
}

TEST(Hwmon, PowerMeterIsTheNodeAndCountsAlone) {
    Tree tree;
    tree.write(chip(0) + "name", "power_meter\n");
    tree.write(chip(0) + "power1_average", "250000000\n");
    tree.write(chip(0) + "power1_average_interval", "1000\n");
    Choice alone(kHwmon, tree);
    EXPECT_EQ(alone.counting(), "power_meter/hwmon");
    EXPECT_EQ(alone.list[0].domain->scope, TEL_SCOPE_NODE);
    EXPECT_EQ(alone.list[0].domain->step_ns, 1000000000u);
    tree.zone("intel-rapl:0", "package-0", 1000);
    EXPECT_EQ(Choice({&tel_source_powercap, &tel_source_hwmon}, tree).counting(), "package-0/powercap");
    tree.zone("intel-rapl:0", "psys", 1000);
    Choice wholes({&tel_source_powercap, &tel_source_hwmon}, tree);
    EXPECT_EQ(wholes.counting(), "psys/powercap");
    EXPECT_EQ(wholes.reason("power_meter", "hwmon"), "the same joules as psys of powercap");
}

TEST(Hwmon, Ina3221SupplyIsVoltageTimesCurrent) {
    Tree tree;
    tree.write(chip(1) + "name", "ina3221\n");
    const char *labels[] = {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"};
    for (int i = 1; i <= 3; i++) {
        tree.write(chip(1) + "in" + std::to_string(i) + "_label", labels[i - 1]);
        tree.write(chip(1) + "in" + std::to_string(i) + "_input", "5000\n");
        tree.write(chip(1) + "curr" + std::to_string(i) + "_input", std::to_string(1000 * i) + "\n");
    }
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.counting(), "ina3221-VDD_IN/hwmon");
    EXPECT_EQ(choice.reason("ina3221-VDD_SOC", "hwmon"), "its joules are inside ina3221-VDD_IN");
    Opened o(tel_source_hwmon, tree);
    const tel_domain *d = by_key(o, "board");
    ASSERT_NE(d, nullptr);
    Series series(d);
    o.read(d, &series.s);
    EXPECT_EQ(series.last(), 5000000u); // 5 V x 1 A
    tree.write(chip(1) + "curr1_input", "-20\n");
    o.read(d, &series.s);
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], 1u);
}

TEST(Hwmon, RailsWithoutASupplyDoNotCount) {
    Tree tree;
    tree.write(chip(1) + "name", "ina3221\n");
    for (int i = 1; i <= 2; i++) {
        tree.write(chip(1) + "in" + std::to_string(i) + "_label", i == 1 ? "VDD_GPU_SOC" : "VIN_SYS_5V0");
        tree.write(chip(1) + "in" + std::to_string(i) + "_input", "5000\n");
        tree.write(chip(1) + "curr" + std::to_string(i) + "_input", "1000\n");
    }
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.n_counting, 0u);
    EXPECT_EQ(choice.reason("ina3221-VDD_GPU_SOC", "hwmon"), "it is not known what this sensor covers");
    EXPECT_TRUE(choice.list[0].readable);
}

TEST(Hwmon, Ina219AloneIsTheBoard) {
    Tree tree;
    tree.write(chip(0) + "name", "ina219\n");
    tree.write(chip(0) + "power1_input", "5100000\n");
    tree.write(chip(0) + "curr1_input", "1000\n");
    tree.write(chip(0) + "in1_input", "5100\n");
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.counting(), "ina219/hwmon");
    EXPECT_EQ(choice.list.size(), 1u) << "power and current are one channel";
}

TEST(Hwmon, ArmServersAndAmdSockets) {
    Tree tree;
    tree.write(chip(0) + "name", "apm_xgene\n");
    tree.write(chip(0) + "power1_label", "CPU power\n");
    tree.write(chip(0) + "power1_input", "30000000\n");
    tree.write(chip(0) + "power2_label", "IO power\n");
    tree.write(chip(0) + "power2_input", "9000000\n");
    EXPECT_EQ(Choice(kHwmon, tree).counting(), "apm_xgene-CPU_power/hwmon");

    Tree amd;
    amd.write(chip(0) + "name", "amd_energy\n");
    for (int i = 1; i <= 8; i++) {
        const std::string n = std::to_string(i);
        amd.write(chip(0) + "energy" + n + "_label", i <= 6 ? "Ecore00" + n + "\n" : "Esocket" + std::to_string(i - 7) + "\n");
        amd.write(chip(0) + "energy" + n + "_input", "1000\n");
    }
    Choice sockets(kHwmon, amd);
    EXPECT_EQ(sockets.n_counting, 2u);
    EXPECT_EQ(sockets.list.size(), 2u);
    EXPECT_STREQ(sockets.list[1].domain->key, "cpu_package:1");
    amd.zone("intel-rapl:0", "package-0", 5);
    Choice both({&tel_source_powercap, &tel_source_hwmon}, amd);
    EXPECT_EQ(both.counting(), "package-0/powercap amd_energy-Esocket1/hwmon");
}

TEST(Hwmon, UnknownChipsAreListedAndDoNotCount) {
    Tree tree;
    tree.write(chip(0) + "name", "corsairpsu\n");
    tree.write(chip(0) + "power1_input", "90000000\n");
    tree.write(chip(1) + "name", "scmi_sensors\n");
    tree.write(chip(1) + "energy1_label", "A53_energy\n");
    tree.write(chip(1) + "energy1_input", "7\n");
    tree.write(chip(2) + "name", "nvme\n");
    tree.write(chip(2) + "temp1_input", "40000\n");
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.n_counting, 0u);
    EXPECT_EQ(choice.list.size(), 2u);
}

TEST(Hwmon, UnreadableChannelSaysWhich) {
    Tree tree;
    gpu(tree, 0, "amdgpu", "0000:03:00.0");
    vram(tree, "0000:03:00.0");
    tree.write(chip(0) + "power1_average", "n/a\n");
    Choice choice(kHwmon, tree);
    EXPECT_EQ(choice.n_counting, 0u);
    EXPECT_EQ(choice.reason("amdgpu-0000:03:00.0", "hwmon"), "amdgpu: power1_average does not hold a number");
}

TEST(Hwmon, RootOnlyChannelNamesTheCommand) {
    Tree tree;
    tree.write(chip(0) + "name", "amd_energy\n");
    tree.write(chip(0) + "energy1_label", "Esocket0\n");
    tree.write(chip(0) + "energy1_input", "5\n");
    tree.close_to_others(chip(0) + "energy1_input");
    sysfs::NotRoot other;
    if (!other.ok) GTEST_SKIP() << "cannot become another user here";
    Choice choice(kHwmon, tree);
    ASSERT_EQ(choice.list.size(), 1u);
    EXPECT_EQ(choice.n_counting, 0u);
    EXPECT_EQ(choice.reason("amd_energy-Esocket0", "hwmon"), "amd_energy: energy1_input may not be read by this user");
    EXPECT_EQ(std::string(choice.list[0].domain->fix), "sudo chmod a+r " + tree.path(chip(0) + "energy1_input"));
}

// ---- battery ------------------------------------------------------------------------------------------------------

void battery(const Tree &tree, const std::string &name, const std::string &status) {
    const std::string dir = "sys/class/power_supply/" + name + "/";
    tree.write(dir + "status", status + "\n");
    tree.write(dir + "current_now", "1500000\n"); // 1.5 A x 12 V
    tree.write(dir + "voltage_now", "12000000\n");
}

TEST(Battery, DischargingIsTheWholeMachine) {
    Tree tree;
    battery(tree, "BAT0", "Discharging");
    Opened o(tel_source_battery, tree);
    const tel_domain *d = o.domain("BAT0");
    ASSERT_NE(d, nullptr);
    ASSERT_STREQ(d->reason, "");
    EXPECT_EQ(d->scope, TEL_SCOPE_BATTERY);
    Series series(d);
    o.read(d, &series.s);
    EXPECT_EQ(series.last(), 18000000u);
    tree.zone("intel-rapl:0", "package-0", 1000);
    Choice choice({&tel_source_powercap, &tel_source_battery}, tree);
    EXPECT_EQ(choice.counting(), "package-0/powercap");
    EXPECT_EQ(choice.reason("BAT0", "battery"), "contains the joules of package-0 of powercap");
}

TEST(Battery, OnMainsThereIsAReason) {
    for (const char *status : {"Charging", "Full", "Not charging", "Unknown"}) {
        Tree tree;
        battery(tree, "BAT0", status);
        Choice choice({&tel_source_battery}, tree);
        EXPECT_EQ(choice.n_counting, 0u);
        EXPECT_NE(choice.reason("BAT0", "battery").find("on mains power"), std::string::npos) << status;
    }
}

TEST(Battery, BecomesSilentWhileItCharges) {
    Tree tree;
    battery(tree, "BAT1", "Discharging");
    tree.write("sys/class/power_supply/BAT1/power_now", "-9000000\n"); // preferred; some drivers give a sign
    Opened o(tel_source_battery, tree);
    const tel_domain *d = o.domain("BAT1");
    Series series(d);
    o.read(d, &series.s);
    EXPECT_EQ(series.last(), 9000000u);
    tree.write("sys/class/power_supply/BAT1/status", "Charging\n");
    for (int i = 0; i < 5; i++) o.read(d, &series.s);
    EXPECT_EQ(series.s.n, 1u);
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], 1u) << "the stretch on mains is one gap";
    tree.write("sys/class/power_supply/BAT1/status", "Discharging\n");
    o.read(d, &series.s);
    ASSERT_EQ(series.s.n, 2u);
    EXPECT_TRUE(tel_series_at(&series.s, 1)->gap_before);
    tree.remove("sys/class/power_supply/BAT1");
    o.read(d, &series.s);
    EXPECT_EQ(series.s.faults[TEL_FAULT_VANISHED], 1u);
}

TEST(Battery, TwoBatteriesAddUp) {
    Tree tree;
    battery(tree, "BAT0", "Discharging");
    battery(tree, "BAT1", "Discharging");
    EXPECT_EQ(Choice({&tel_source_battery}, tree).counting(), "BAT0/battery BAT1/battery");
}

} // namespace
