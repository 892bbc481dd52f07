// Which threads are worth starting: hardware threads of one core, efficiency cores, affinity and control groups, on the /sys and /proc of machines made up here.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "kernels/cpu/cores.h"
#include "tests/telemetry/sysfs_tree.h"

namespace {

using std::string;
using std::to_string;

class Machine {
  public:
    // n logical cores in cores of `per_core`, numbered as Linux does: the second threads of all cores come after the first ones.
    explicit Machine(int n, int per_core = 1) {
        const int cores = n / per_core;
        for (int cpu = 0; cpu < n; cpu++) {
            string siblings;
            for (int t = 0; t < per_core; t++) siblings += (t ? "," : "") + to_string(cpu % cores + t * cores);
            cpu_file(cpu, "topology/thread_siblings_list", siblings);
            allow(cpu);
        }
    }
    void cpu_file(int cpu, const string &name, const string &text) const { put("sys/devices/system/cpu/cpu" + to_string(cpu) + "/" + name, text); }
    void put(const string &file, const string &text) const { tree_.write(file, text + "\n"); }
    void remove(const string &file) const { tree_.remove(file); }
    void allow(int cpu, bool yes = true) { allowed_.member[cpu] = yes; }
    void allow_only(std::initializer_list<int> cpus) {
        allowed_ = {};
        for (int cpu : cpus) allow(cpu);
    }
    int threads() const { return cpu_default_threads_at(tree_.root().c_str(), &allowed_); }
    int usable() const { return cpu_usable_cores_at(tree_.root().c_str(), &allowed_); }

  private:
    sysfs::Tree tree_;
    cpu_core_set allowed_ = {};
};

TEST(Cores, DefaultsAreSane) {
    EXPECT_GE(cpu_default_threads(), 1);
    EXPECT_LE(cpu_default_threads(), cpu_usable_cores());
    EXPECT_LE(cpu_usable_cores(), static_cast<int32_t>(std::thread::hardware_concurrency()));
}

TEST(Cores, ThreadsOfOneCoreCountOnce) {
    const Machine four_of_two(8, 2), plain(6);
    EXPECT_EQ(four_of_two.threads(), 4);
    EXPECT_EQ(four_of_two.usable(), 8);
    EXPECT_EQ(plain.threads(), 6);
}

TEST(Cores, AffinityLeavesWhatItAllows) {
    Machine m(8, 2);
    m.allow_only({0, 1, 5}); // 1 and 5 share a core
    EXPECT_EQ(m.threads(), 2);
    EXPECT_EQ(m.usable(), 3);
    m.allow_only({7}); // the second thread of a core whose first one is not ours
    EXPECT_EQ(m.threads(), 1);
}

TEST(Cores, WithoutTopologyEachLogicalCoreCounts) {
    const Machine m(4, 2);
    m.remove("sys");
    EXPECT_EQ(m.threads(), 4);
}

TEST(Cores, EfficiencyCoresOfIntelAreLeftOut) { // two performance cores of two threads, four efficiency cores
    Machine m(8);
    for (int cpu : {0, 1}) m.cpu_file(cpu, "topology/thread_siblings_list", "0-1");
    for (int cpu : {2, 3}) m.cpu_file(cpu, "topology/thread_siblings_list", "2-3");
    m.put("sys/devices/cpu_core/cpus", "0-3");
    m.put("sys/devices/cpu_atom/cpus", "4-7");
    for (int cpu = 0; cpu < 8; cpu++) m.cpu_file(cpu, "cpu_capacity", cpu < 4 ? "1024" : "700"); // newer kernels tell it too
    EXPECT_EQ(m.threads(), 2);
    EXPECT_EQ(m.usable(), 8);
    m.allow_only({4, 5, 6}); // nothing but efficiency cores: these then
    EXPECT_EQ(m.threads(), 3);
}

TEST(Cores, LittleCoresAreLeftOut) { // four little, three middle, one large, as in a telephone
    Machine m(8);
    for (int cpu = 0; cpu < 8; cpu++) m.cpu_file(cpu, "cpu_capacity", cpu < 4 ? "312" : cpu < 7 ? "871" : "1024");
    EXPECT_EQ(m.threads(), 4);
    m.allow_only({0, 1, 2});
    EXPECT_EQ(m.threads(), 3);
    m.allow_only({2, 3, 4});
    EXPECT_EQ(m.threads(), 1);
}

TEST(Cores, CapacitiesThatMeanNothingAreIgnored) {
    Machine m(4);
    for (int cpu = 0; cpu < 4; cpu++) m.cpu_file(cpu, "cpu_capacity", "many");
    EXPECT_EQ(m.threads(), 4);
    m.cpu_file(0, "cpu_capacity", "1024");
    m.remove("sys/devices/system/cpu/cpu3/cpu_capacity"); // not of all: nothing can be compared
    EXPECT_EQ(m.threads(), 4);
}

TEST(Cores, QuotaIsRoundedDown) {
    const Machine m(8);
    m.put("proc/self/cgroup", "0::/user.slice/shell");
    m.put("sys/fs/cgroup/user.slice/shell/cpu.max", "350000 100000");
    EXPECT_EQ(m.threads(), 3);
    EXPECT_EQ(m.usable(), 3);
    m.put("sys/fs/cgroup/user.slice/shell/cpu.max", "50000 100000");
    EXPECT_EQ(m.threads(), 1) << "half a core still runs one thread";
    m.put("sys/fs/cgroup/user.slice/shell/cpu.max", "max 100000");
    EXPECT_EQ(m.threads(), 8);
    m.put("sys/fs/cgroup/user.slice/shell/cpu.max", "200000 0");
    EXPECT_EQ(m.threads(), 8) << "no such period";
}

TEST(Cores, QuotaOfAnyGroupAboveCounts) {
    const Machine m(8);
    m.put("proc/self/cgroup", "0::/a/b");
    m.put("sys/fs/cgroup/a/b/cpu.max", "max 100000");
    m.put("sys/fs/cgroup/a/cpu.max", "200000 100000");
    EXPECT_EQ(m.threads(), 2);
}

TEST(Cores, ContainerSeesItsGroupAsTheTop) { // the path is the host's, and is not there
    const Machine m(8);
    m.put("proc/self/cgroup", "0::/docker/0123");
    m.put("sys/fs/cgroup/cpu.max", "250000 100000");
    EXPECT_EQ(m.threads(), 2);
}

TEST(Cores, QuotaOfVersion1) { // CentOS 7 names the pair one way and mounts it the other way, with a link to each
    for (const char *names : {"cpu", "cpu,cpuacct", "cpuacct,cpu"}) {
        const Machine m(8);
        m.put("proc/self/cgroup", string("9:cpuset:/\n4:") + names + ":/jobs\n1:name=systemd:/jobs");
        m.put("sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us", "-1");
        m.put("sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us", "100000");
        EXPECT_EQ(m.threads(), 8) << names;
        m.put("sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us", "300000");
        EXPECT_EQ(m.threads(), 3) << names;
    }
    const Machine mounted_as_named(8);
    mounted_as_named.put("proc/self/cgroup", "4:cpu,cpuacct:/jobs");
    mounted_as_named.put("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "300000");
    mounted_as_named.put("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000");
    EXPECT_EQ(mounted_as_named.threads(), 3);
    mounted_as_named.put("proc/self/cgroup", "4:cpuacct,cpuset:/jobs"); // neither is cpu
    mounted_as_named.put("sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us", "300000");
    mounted_as_named.put("sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us", "100000");
    EXPECT_EQ(mounted_as_named.threads(), 8);
}

TEST(Cores, GarbageMeansNoLimit) {
    const Machine m(3);
    for (const char *text : {"", "0", "0:", "::", "4:cpu", "0::/" /* and no such group */}) {
        m.put("proc/self/cgroup", text);
        EXPECT_EQ(m.threads(), 3) << text;
    }
    m.put("proc/self/cgroup", "0::/" + string(600, 'x'));
    EXPECT_EQ(m.threads(), 3);
    m.put("proc/self/cgroup", "0::/");
    m.put("sys/fs/cgroup/cpu.max", "-3 -4");
    EXPECT_EQ(m.threads(), 3);
    m.put("sys/fs/cgroup/cpu.max", "900000000000000000 1");
    EXPECT_EQ(m.threads(), 3);
    m.cpu_file(0, "topology/thread_siblings_list", "0-999999999,4-");
    EXPECT_EQ(m.threads(), 1) << "a list that names all of them says that they are one core";
}

} // namespace
