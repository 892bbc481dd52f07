// The model source on trees of files: which row of watts, whose CPU time, how many processors, which command would mend it.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

extern "C" {
#include "telemetry/cpu_time.h"
#include "telemetry/cpu_watts.h"
#include "telemetry/source.h"
}

namespace {

// A root with /proc and /sys of its own, removed afterwards.
class Tree {
  public:
    Tree() {
        std::string pattern = testing::TempDir() + "wattle-model-XXXXXX";
        root_ = mkdtemp(pattern.data());
    }
    ~Tree() {
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }
    Tree(const Tree &) = delete;
    void put(const std::string &path, const std::string &text) const {
        std::filesystem::path p = root_ + path;
        std::filesystem::create_directories(p.parent_path());
        std::ofstream(p) << text;
    }
    void remove(const std::string &path) const { std::filesystem::remove_all(root_ + path); }
    const char *root() const { return root_.c_str(); }
    std::string at(const std::string &path) const { return root_ + path; }

  private:
    std::string root_;
};

std::string x86(const std::string &vendor, int family, int model, int stepping, const std::string &flags = "fpu sse2", int n = 2) {
    std::string text;
    for (int i = 0; i < n; i++)
        text += "processor\t: " + std::to_string(i) + "\nvendor_id\t: " + vendor + "\ncpu family\t: " + std::to_string(family) +
                "\nmodel\t\t: " + std::to_string(model) + "\nmodel name\t: Some CPU @ 2.00GHz\nstepping\t: " + std::to_string(stepping) +
                "\nflags\t\t: " + flags + "\n\n";
    return text;
}

std::string arm(const std::string &implementer, std::initializer_list<const char *> parts) {
    std::string text;
    int i = 0;
    for (const char *part : parts)
        text += "processor\t: " + std::to_string(i++) + "\nBogoMIPS\t: 108.00\nCPU implementer\t: " + implementer +
                "\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: " + part + "\nCPU revision\t: 3\n\n";
    return text;
}

uint64_t g_now = 5'000'000'000;
uint64_t Now(void *) { return g_now; }

// The source opened on a tree, read into a series on a clock turned by hand.
class Model {
  public:
    explicit Model(const Tree &tree, double idle_w = 0, double busy_w = 0) {
        env_.root = tree.root();
        env_.nvml_path = env_.replay_path = env_.card = "";
        env_.cpu_idle_w = idle_w;
        env_.cpu_busy_w = busy_w;
        env_.clock.now_ns = Now;
        found_.n = 0;
        result = tel_source_model.open(&env_, &state_, &found_, &error);
        if (result != TEL_OK) return;
        tel_series_options options = {};
        options.kind = domain().kind;
        options.uj_per_unit = domain().uj_per_unit;
        options.limit_uw = domain().limit_uw;
        options.capacity = 64;
        EXPECT_EQ(tel_series_init(&series, &options), TEL_OK);
        open_ = true;
    }
    ~Model() {
        tel_source_model.close(state_);
        if (open_) tel_series_free(&series);
    }
    const tel_domain &domain() const { return found_.items[0]; }
    void read_after(uint64_t ns) {
        g_now += ns;
        tel_source_model.read(state_, &domain(), &series);
    }
    uint64_t last_uj() const { return series.n ? tel_series_at(&series, series.n - 1)->value : 0; }
    tel_result result;
    tel_error error = {};
    tel_series series = {};

  private:
    tel_env env_ = {};
    tel_found found_ = {};
    void *state_ = nullptr;
    bool open_ = false;
};

// ---- Which row -------------------------------------------------------------------------------------------------------

std::string row_of(const std::string &cpuinfo) {
    Tree tree;
    tree.put("/proc/cpuinfo", cpuinfo);
    tel_cpu_id id;
    EXPECT_TRUE(tel_cpu_id_read(tree.root(), &id));
    return tel_cpu_watts_find(&id)->name;
}

TEST(CpuWatts, FindsTheMicroarchitecture) {
    EXPECT_EQ(row_of(x86("GenuineIntel", 6, 85, 4)), "Intel Skylake server");
    EXPECT_EQ(row_of(x86("GenuineIntel", 6, 85, 7)), "Intel Cascade Lake"); // one model number, told apart by the stepping
    EXPECT_EQ(row_of(x86("GenuineIntel", 6, 143, 8)), "Intel Sapphire Rapids");
    EXPECT_EQ(row_of(x86("GenuineIntel", 6, 154, 3)), "Intel Alder Lake mobile");
    EXPECT_EQ(row_of(x86("AuthenticAMD", 25, 17, 1)), "AMD Zen 4 server (EPYC 4th generation)");
    EXPECT_EQ(row_of(x86("AuthenticAMD", 25, 33, 0)), "AMD Zen 3 desktop (Ryzen 5000)");
    EXPECT_EQ(row_of(x86("AuthenticAMD", 23, 49, 0)), "AMD Zen 2 server (EPYC 2nd generation)");
    EXPECT_EQ(row_of(arm("0x41", {"0xd0b", "0xd0b"})), "Arm Cortex-A76");
    EXPECT_EQ(row_of(arm("0x61", {"0x022", "0x023"})), "Apple M series");
    EXPECT_EQ(row_of(arm("0x41", {"0xd03", "0xd08"})), "Arm Cortex-A72"); // small and large cores: the largest, in any order
    EXPECT_EQ(row_of(arm("0x41", {"0xd08", "0xd03"})), "Arm Cortex-A72");
}

TEST(CpuWatts, UnknownIsNamedUnknown) {
    EXPECT_EQ(row_of(x86("GenuineIntel", 6, 9999, 0)), "CPU not in the table");
    EXPECT_EQ(row_of(x86("GenuineIntel", 19, 85, 4)), "CPU not in the table");
    EXPECT_EQ(row_of(x86("MadeUpVendor", 6, 85, 4)), "CPU not in the table");
    EXPECT_EQ(row_of("processor : 0\nvendor_id : GenuineIntel\ncpu family : six\nmodel : 0x\n"), "CPU not in the table");
    EXPECT_EQ(row_of("processor : 0\n:::\n : \nmodel : 99999999999999999999\n"), "CPU not in the table");
    Tree tree;
    tel_cpu_id id;
    EXPECT_FALSE(tel_cpu_id_read(tree.root(), &id));
    EXPECT_STREQ(tel_cpu_watts_find(&id)->name, "CPU not in the table");
}

TEST(CpuWatts, EveryRowIsSane) {
    for (const char *vendor : {"GenuineIntel", "AuthenticAMD", "0x41", "0x61", "0xc0"})
        for (int family : {-1, 6, 23, 25, 26})
            for (int model = 0; model < 0x1000; model++) {
                tel_cpu_id id = {};
                snprintf(id.vendor, sizeof id.vendor, "%s", vendor);
                id.family = family, id.model = model, id.stepping = 5;
                const tel_cpu_watts *row = tel_cpu_watts_find(&id);
                ASSERT_TRUE(row->idle_w > 0.05 && row->busy_w > row->idle_w && row->busy_w < 20 && *row->source) << row->name;
            }
}

// ---- Whose CPU time ---------------------------------------------------------------------------------------------------

void put_version2(const Tree &tree, const std::string &group, const std::string &procs, const std::string &usage_us) {
    tree.put("/proc/self/cgroup", "0::" + group + "\n");
    tree.put("/sys/fs/cgroup" + group + "/cpu.stat", "usage_usec " + usage_us + "\nuser_usec 1\nsystem_usec 2\n");
    tree.put("/sys/fs/cgroup" + group + "/cgroup.events", "populated 1\n");
    tree.put("/sys/fs/cgroup" + group + "/cgroup.procs", procs);
}

std::string self() { return std::to_string(getpid()) + "\n"; }

TEST(CpuTime, GroupOfOurOwn) {
    Tree tree;
    put_version2(tree, "/system.slice/wattle.service", self(), "1500");
    tel_cpu_time t;
    uint64_t ns = 0;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_CGROUP_V2);
    EXPECT_EQ(t.path, tree.at("/sys/fs/cgroup/system.slice/wattle.service/cpu.stat"));
    ASSERT_TRUE(tel_cpu_time_read(&t, &ns));
    EXPECT_EQ(ns, 1'500'000u);
}

TEST(CpuTime, ContainerWithItsInitAndHelpers) {
    Tree tree; // the container's shell started us, and we started 999999
    put_version2(tree, "", "41\n" + self() + "999999\n", "70");
    tree.put("/proc/self/cgroup", "0::/\n");
    tree.put("/proc/" + std::to_string(getpid()) + "/stat", std::to_string(getpid()) + " (a (b) c) S 41 1 1 0\n");
    tree.put("/proc/999999/stat", "999999 (helper) S " + std::to_string(getpid()) + " 1 1 0\n");
    tel_cpu_time t;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_CGROUP_V2);
}

TEST(CpuTime, SharedGroupIsNotBookedOnUs) {
    Tree tree;
    put_version2(tree, "/user.slice/session-2.scope", self() + "4242\n", "1500");
    tree.put("/proc/4242/stat", "4242 (browser) S 1 1 1 0\n");
    tel_cpu_time t;
    uint64_t ns = 0;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_PROCESS);
    EXPECT_TRUE(tel_cpu_time_read(&t, &ns));
    EXPECT_GT(ns, 0u);
}

TEST(CpuTime, RootGroupOfTheMachineIsEverybodys) {
    Tree tree;
    put_version2(tree, "", self(), "1500");
    tree.remove("/sys/fs/cgroup/cgroup.events");
    tree.put("/proc/self/cgroup", "0::/\n");
    tel_cpu_time t;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_PROCESS);
}

TEST(CpuTime, Version1) {
    Tree tree;
    tree.put("/proc/self/cgroup", "9:name=systemd:/x\n3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n");
    tree.put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage", "123456789\n");
    tree.put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cgroup.procs", self());
    tree.put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "150000\n");
    tree.put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    tree.put("/sys/devices/system/cpu/online", "0-7\n");
    tel_cpu_time t;
    uint64_t ns = 0;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_CGROUP_V1);
    EXPECT_DOUBLE_EQ(t.n_usable, 1.5);
    ASSERT_TRUE(tel_cpu_time_read(&t, &ns));
    EXPECT_EQ(ns, 123456789u);
    tree.put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage", "12x\n");
    EXPECT_FALSE(tel_cpu_time_read(&t, &ns));
}

// ---- How many processors ------------------------------------------------------------------------------------------------

TEST(CpuTime, AffinityAndTheSmallestQuotaAbove) {
    Tree tree;
    put_version2(tree, "/a/b", self(), "1");
    tree.put("/sys/devices/system/cpu/online", "0-15\n");
    tree.put("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8\n");
    tel_cpu_time t;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_DOUBLE_EQ(t.n_usable, 5);
    EXPECT_EQ(t.n_online, 16);
    tree.put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_DOUBLE_EQ(t.n_usable, 5);
    tree.put("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    tree.put("/sys/fs/cgroup/a/cpu.max", "250000 100000\n"); // a group above is tighter
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_DOUBLE_EQ(t.n_usable, 2.5);
    tree.put("/sys/fs/cgroup/a/cpu.max", "250000 0\n"); // no such period: not a quota
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_DOUBLE_EQ(t.n_usable, 4);
}

TEST(CpuTime, NothingToReadIsOneProcessor) {
    Tree tree;
    tel_cpu_time t;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_PROCESS);
    EXPECT_DOUBLE_EQ(t.n_usable, 1);
    EXPECT_EQ(t.n_online, 0);
}

TEST(CpuTime, PathsThatClimbOutAreRefused) {
    Tree tree;
    put_version2(tree, "", self(), "9");
    tree.put("/proc/self/cgroup", "0::/../../etc\n");
    tel_cpu_time t;
    tel_cpu_time_find(tree.root(), &t);
    EXPECT_EQ(t.basis, TEL_CPU_PROCESS);
}

// ---- The source -----------------------------------------------------------------------------------------------------------

void put_machine(const Tree &tree) {
    tree.put("/proc/cpuinfo", x86("AuthenticAMD", 25, 17, 1, "fpu sse2 hypervisor"));
    tree.put("/sys/devices/system/cpu/online", "0-1\n");
    tree.put("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n");
    put_version2(tree, "/own", self(), "0");
}

TEST(CpuModel, IdleAndBusyEnergy) {
    Tree tree;
    put_machine(tree);
    Model model(tree);
    ASSERT_EQ(model.result, TEL_OK);
    EXPECT_STREQ(model.domain().name, "cpu");
    EXPECT_EQ(model.domain().method, TEL_METHOD_MODELLED);
    EXPECT_EQ(model.domain().scope, TEL_SCOPE_CPU_PACKAGE);
    EXPECT_STREQ(model.domain().reason, "");
    EXPECT_STREQ(model.domain().device, "AMD Zen 4 server (EPYC 4th generation), 2 of 2 CPUs");
    model.read_after(0);
    model.read_after(1'000'000'000); // one second, both idle: 2 x 0.74 W
    EXPECT_EQ(model.last_uj(), 1'480'000u);
    tree.put("/sys/fs/cgroup/own/cpu.stat", "usage_usec 2000000\n"); // one more, both busy: 2 x 2.28 W
    model.read_after(1'000'000'000);
    EXPECT_EQ(model.last_uj(), 1'480'000u + 4'560'000u);
    EXPECT_EQ(model.series.n_gaps, 0u);
    EXPECT_DOUBLE_EQ(model.domain().low_factor, 1.0 / 3);
    EXPECT_DOUBLE_EQ(model.domain().high_factor, 3);
}

TEST(CpuModel, IdleWattsOnlyForUsableProcessors) {
    Tree tree;
    put_machine(tree);
    tree.put("/sys/devices/system/cpu/online", "0-63\n");
    tree.put("/sys/fs/cgroup/own/cpu.max", "50000 100000\n");
    Model model(tree);
    EXPECT_STREQ(model.domain().device, "AMD Zen 4 server (EPYC 4th generation), 0.5 of 64 CPUs");
    model.read_after(0);
    model.read_after(1'000'000'000);
    EXPECT_EQ(model.last_uj(), 370'000u);
}

TEST(CpuModel, WattsOfTheUser) {
    Tree tree;
    put_machine(tree);
    Model model(tree, 10, 50);
    EXPECT_EQ(std::string(model.domain().device).rfind("Some CPU", 0), 0u);
    EXPECT_DOUBLE_EQ(model.domain().low_factor, 0.75);
    EXPECT_DOUBLE_EQ(model.domain().high_factor, 4.0 / 3);
    model.read_after(0);
    tree.put("/sys/fs/cgroup/own/cpu.stat", "usage_usec 1000000\n"); // one of two processors busy: halfway from 10 to 50 W
    model.read_after(1'000'000'000);
    EXPECT_EQ(model.last_uj(), 30'000'000u);
}

TEST(CpuModel, WrongWattsAreRefused) {
    Tree tree;
    put_machine(tree);
    const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
    for (auto [idle, busy] : {std::pair{50.0, 10.0}, {10.0, 10.0}, {-1.0, 5.0}, {0.0, nan}, {nan, 5.0}, {1.0, inf}, {5.0, 0.0}}) {
        Model model(tree, idle, busy);
        EXPECT_EQ(model.result, TEL_ERR_INVALID) << idle << " " << busy;
        EXPECT_NE(std::string(model.error.message), "");
    }
}

TEST(CpuModel, FailedReadsAndCountersThatFallAreGaps) {
    Tree tree;
    put_machine(tree);
    tree.put("/sys/fs/cgroup/own/cpu.stat", "usage_usec 5000000\n");
    Model model(tree);
    model.read_after(0);
    model.read_after(100'000'000);
    uint64_t before = model.last_uj();
    tree.put("/sys/fs/cgroup/own/cpu.stat", "nothing of use\n");
    model.read_after(100'000'000);
    EXPECT_EQ(model.series.n_gaps, 1u);
    tree.put("/sys/fs/cgroup/own/cpu.stat", "usage_usec 5000000\n");
    model.read_after(100'000'000);
    tree.put("/sys/fs/cgroup/own/cpu.stat", "usage_usec 40\n"); // begins anew: no negative energy, no second count of the old
    model.read_after(100'000'000);
    EXPECT_EQ(model.series.n_gaps, 2u);
    EXPECT_GE(model.last_uj(), before);
    EXPECT_LT(model.last_uj(), before + 1'000'000);
}

// ---- The command that would mend it ------------------------------------------------------------------------------------------

std::string fix_of(const Tree &tree) { return Model(tree).domain().fix; }

TEST(CpuModelFix, VirtualMachineHasNone) {
    Tree tree;
    put_machine(tree);
    EXPECT_EQ(fix_of(tree), "--cpu-watts IDLE,BUSY");
}

TEST(CpuModelFix, DriverOfABareMachine) {
    Tree tree;
    tree.put("/proc/cpuinfo", x86("GenuineIntel", 6, 143, 8));
    EXPECT_EQ(fix_of(tree), "sudo modprobe intel_rapl_msr");
    tree.put("/proc/cpuinfo", arm("0x41", {"0xd0b"})); // nothing to load there
    EXPECT_EQ(fix_of(tree), "--cpu-watts IDLE,BUSY");
}

TEST(CpuModelFix, ParanoidPerf) {
    Tree tree;
    put_machine(tree);
    tree.put("/sys/bus/event_source/devices/power/events/energy-pkg", "event=0x02\n");
    tree.put("/proc/sys/kernel/perf_event_paranoid", "4\n");
    EXPECT_EQ(fix_of(tree), "sudo sysctl kernel.perf_event_paranoid=0");
    tree.put("/proc/sys/kernel/perf_event_paranoid", "0\n");
    EXPECT_EQ(fix_of(tree), "--cpu-watts IDLE,BUSY");
}

TEST(CpuModelFix, CounterOfRoot) {
    if (geteuid() == 0) GTEST_SKIP() << "root may read everything: run the tests as a user to see this one";
    Tree tree;
    put_machine(tree);
    tree.put("/sys/class/powercap/intel-rapl:0/energy_uj", "1\n");
    std::filesystem::permissions(tree.at("/sys/class/powercap/intel-rapl:0/energy_uj"), std::filesystem::perms::none);
    EXPECT_EQ(fix_of(tree), "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj");
}

} // namespace
