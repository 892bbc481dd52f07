// Damaged trees: random bytes as the content of every file, and files replaced by folders or missing. Whatever is found or read
// then: no crash, nothing that counts without having been read, no sample that the file does not hold. The seed is fixed and
// printed on failure.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/telemetry/sysfs_tree.h"

namespace {

using sysfs::FakePerf;
using sysfs::Opened;
using sysfs::Series;
using sysfs::Tree;

const std::vector<const tel_source *> kSources = {&tel_source_perf, &tel_source_powercap, &tel_source_hwmon, &tel_source_battery};

struct Machine : Tree {
    std::vector<std::string> files;
    Machine() {
        power_pmu("0,1");
        int config = 1;
        for (const char *event : {"cores", "pkg", "ram", "gpu", "psys"}) power_event(event, config++);
        cpu(0, 0);
        cpu(1, 1);
        zone("intel-rapl:0", "package-0", 123456);
        zone("intel-rapl:0:0", "dram", 2345);
        zone("intel-rapl:1", "psys", 999999);
        zone("intel-rapl:2", "package-1", 654321);
        zone("intel-rapl-mmio:0", "package-0", 5);
        const struct { const char *name, *file, *text; } chips[] = {
            {"amdgpu", "power1_average", "33000000"}, {"xe", "energy1_input", "5000"},   {"i915", "energy1_input", "700"},
            {"power_meter", "power1_average", "9"},   {"ina3221", "curr1_input", "100"}, {"amd_energy", "energy1_input", "44"}};
        int n = 0;
        for (const auto &c : chips) {
            const std::string dir = "sys/class/hwmon/hwmon" + std::to_string(n++) + "/";
            write(dir + "name", c.name);
            write(dir + c.file, c.text);
            write(dir + "in1_input", "5000");
            write(dir + "in1_label", "VDD_IN");
            write(dir + "energy1_label", "Esocket0");
            write(dir + "power1_average_interval", "1000");
        }
        for (const char *file : {"status", "power_now", "current_now", "voltage_now", "model_name"})
            write(std::string("sys/class/power_supply/BAT0/") + file, *file == 's' ? "Discharging\n" : "12000000\n");
        for (const auto &entry : std::filesystem::recursive_directory_iterator(root()))
            if (entry.is_regular_file()) files.push_back(entry.path().string().substr(root().size() + 1));
        std::sort(files.begin(), files.end());
    }
};

std::string garbage(std::mt19937 &rng) {
    static const char *const likely[] = {"-1",
                                         "18446744073709551616",
                                         "99999999999999999999999999",
                                         "1e308",
                                         "nan",
                                         "0x10",
                                         "\n\n",
                                         " ",
                                         "1 2",
                                         "0-4000000000",
                                         "event=0x",
                                         "package-99999",
                                         "package--1",
                                         "%s%n%s",
                                         "../../../etc/passwd",
                                         "Esocket99999999999",
                                         "-0",
                                         "5\0006",
                                         "\xff\xfe"};
    std::string text;
    switch (rng() % 3) {
    case 0: return likely[rng() % (sizeof likely / sizeof likely[0])];
    case 1: text.resize(rng() % 64); break;
    default: text.resize(rng() % 8192); break;
    }
    for (char &c : text) c = (char)rng();
    return text;
}

// What every domain must satisfy, however damaged the tree.
void check_domain(const tel_domain &d) {
    for (const char *text : {d.name, d.unit ? d.unit : "no unit"}) EXPECT_STRNE(text, "");
    EXPECT_LT(strnlen(d.name, sizeof d.name), sizeof d.name);
    EXPECT_LT(strnlen(d.key, sizeof d.key), sizeof d.key);
    EXPECT_LT(strnlen(d.reason, sizeof d.reason), sizeof d.reason);
    EXPECT_EQ(strchr(d.key, ' '), nullptr) << d.key;
    if (d.reason[0]) return;
    EXPECT_TRUE(std::isfinite(d.uj_per_unit) && d.uj_per_unit > 0) << d.name;
}

void open_and_read(const Tree &tree) {
    for (const tel_source *source : kSources) {
        Opened o(*source, tree);
        EXPECT_EQ(o.result, TEL_OK);
        for (size_t i = 0; i < o.n(); i++) {
            const tel_domain &d = o.found().items[i];
            check_domain(d);
            if (d.reason[0]) continue;
            Series series(&d);
            for (int k = 0; k < 3; k++) {
                o.now_ns += 100000000;
                o.read(&d, &series.s);
            }
            EXPECT_GT(series.s.n + series.s.n_gaps, 0u) << d.name << " was neither read nor failed";
        }
    }
}

TEST(SysfsFuzz, RandomBytesInEveryFile) {
    const unsigned seed = 7;
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 rng(seed);
    Machine tree;
    FakePerf perf(tree);
    for (int config = 1; config <= 5; config++)
        for (int cpu : {0, 1}) perf.moves((uint64_t)config, cpu);
    for (int trial = 0; trial < 30; trial++) {
        for (const std::string &file : tree.files) tree.write(file, garbage(rng));
        open_and_read(tree);
    }
}

TEST(SysfsFuzz, OneDamagedFileNeverMakesGarbageCount) {
    const unsigned seed = 11;
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 rng(seed);
    Machine tree;
    FakePerf perf(tree);
    for (int config = 1; config <= 5; config++)
        for (int cpu : {0, 1}) perf.moves((uint64_t)config, cpu);
    for (const std::string &file : tree.files) {
        SCOPED_TRACE(file);
        std::ifstream in(tree.path(file), std::ios::binary);
        const std::string before((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
        in.close();
        const int damage = (int)(rng() % 3);
        if (damage == 0) tree.write(file, garbage(rng));
        if (damage >= 1) tree.remove(file);
        if (damage == 2) std::filesystem::create_directories(tree.path(file));
        open_and_read(tree);
        if (damage == 2) tree.remove(file);
        tree.write(file, before);
    }
}

// While sampling: whatever a counter's file turns into, the series only takes numbers that stood there.
TEST(SysfsFuzz, GarbageWhileReadingIsAFaultNotASample) {
    const unsigned seed = 13;
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 rng(seed);
    Tree tree;
    tree.zone("intel-rapl:0", "package-0", 1000);
    Opened o(tel_source_powercap, tree);
    const tel_domain *d = o.domain("package-0");
    Series series(d);
    uint64_t energy = 1000, n_bad = 0;
    for (int i = 0; i < 400; i++) {
        o.now_ns += 10000000;
        const bool bad = rng() % 2;
        std::string text = garbage(rng);
        if (bad && text.find_first_of("0123456789") != std::string::npos) text = "x" + text;
        energy += 100000; // 10 W
        tree.write(sysfs::Tree::zone_file("intel-rapl:0", "energy_uj"), bad ? text : std::to_string(energy) + "\n");
        o.read(d, &series.s);
        n_bad += bad;
    }
    EXPECT_EQ(series.s.faults[TEL_FAULT_READ], n_bad);
    EXPECT_LE(series.last(), energy);
}

} // namespace
