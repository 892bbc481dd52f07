// A made-up /sys and /proc in a temporary folder, and the sources opened on it. Removed with the object.
// SPDX-License-Identifier: Apache-2.0
#ifndef TESTS_TELEMETRY_SYSFS_TREE_H
#define TESTS_TELEMETRY_SYSFS_TREE_H

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

extern "C" {
#include "telemetry/choose.h"
#include "telemetry/series.h"
#include "telemetry/source.h"
}

namespace sysfs {

class Tree {
  public:
    Tree() {
        std::string name = (std::filesystem::temp_directory_path() / "wtl-sysfs-XXXXXX").string();
        root_ = mkdtemp(name.data());
        std::filesystem::permissions(root_, std::filesystem::perms(0755)); // also for tests that give up being root
    }
    ~Tree() {
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }
    Tree(const Tree &) = delete;
    Tree &operator=(const Tree &) = delete;

    const std::string &root() const { return root_; }
    std::string path(const std::string &file) const { return root_ + "/" + file; }
    void write(const std::string &file, const std::string &text) const {
        std::filesystem::create_directories(std::filesystem::path(path(file)).parent_path());
        std::ofstream(path(file), std::ios::binary) << text;
    }
    void write(const std::string &file, uint64_t value) const { write(file, std::to_string(value) + "\n"); }
    void remove(const std::string &file) const { std::filesystem::remove_all(path(file)); }
    // Readable by root alone; by nobody when the tests do not run as root.
    void close_to_others(const std::string &file) const {
        std::filesystem::permissions(path(file), std::filesystem::perms(geteuid() == 0 ? 0400 : 0));
    }
    void link(const std::string &file, const std::string &target) const {
        std::filesystem::create_directories(std::filesystem::path(path(file)).parent_path());
        std::filesystem::create_symlink(target, path(file));
    }

    // ---- powercap
    static std::string zone_file(const std::string &zone, const char *file) { return "sys/class/powercap/" + zone + "/" + file; }
    void zone(const std::string &zone, const std::string &name, uint64_t energy_uj, uint64_t range_uj = 262143328850) const {
        write(zone_file(zone, "name"), name + "\n");
        write(zone_file(zone, "energy_uj"), energy_uj);
        write(zone_file(zone, "max_energy_range_uj"), range_uj);
    }

    // ---- perf
    void power_pmu(const std::string &cpumask) const {
        write("sys/bus/event_source/devices/power/type", "18\n");
        write("sys/bus/event_source/devices/power/cpumask", cpumask + "\n");
        write("proc/sys/kernel/perf_event_paranoid", "2\n");
    }
    void power_event(const std::string &name, int config, const std::string &scale = "2.3283064365386962890625e-10") const {
        const std::string file = "sys/bus/event_source/devices/power/events/energy-" + name;
        char event[32];
        snprintf(event, sizeof event, "event=0x%02x\n", config);
        write(file, event);
        write(file + ".scale", scale + "\n");
        write(file + ".unit", "Joules\n");
    }
    void cpu(int cpu, int package, int die = 0) const {
        const std::string dir = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        write(dir + "physical_package_id", (uint64_t)package);
        write(dir + "die_id", (uint64_t)die);
    }

  private:
    std::string root_;
};

// Another user for a while, when the tests run as root.
struct NotRoot {
    NotRoot() : was_root(geteuid() == 0), ok(!was_root || seteuid(65534) == 0) {}
    ~NotRoot() {
        if (was_root && seteuid(0) != 0) std::abort();
    }
    bool was_root, ok;
};

// Stands in for perf_event_open: events are files that hold counts of 8 bytes, read one after the other.
class FakePerf {
  public:
    explicit FakePerf(const Tree &tree) {
        counts().clear();
        error() = 0;
        dir() = tree.path("perf-counts");
        std::filesystem::create_directories(dir());
    }
    static int &error() {
        static int e;
        return e;
    }
    // The reads that follow give these counts, each `repeat` times; then the file ends.
    void set(uint64_t config, int cpu, const std::vector<uint64_t> &values, int repeat = 1) const {
        std::string bytes;
        for (uint64_t v : values)
            for (int i = 0; i < repeat; i++) bytes.append((const char *)&v, sizeof v);
        set_bytes(config, cpu, bytes);
    }
    // A counter that lives: no two reads give the same.
    void moves(uint64_t config, int cpu, uint64_t from = 1) const {
        std::vector<uint64_t> values(512);
        for (uint64_t &v : values) v = from++;
        set(config, cpu, values);
    }
    // One that nothing feeds.
    void stands(uint64_t config, int cpu, uint64_t at = 0) const { set(config, cpu, {at}, 512); }
    void set_bytes(uint64_t config, int cpu, const std::string &bytes) const {
        counts()[{config, cpu}] = bytes;
        std::ofstream(file(config, cpu), std::ios::binary) << bytes;
    }
    static int open_event(uint32_t type, uint64_t config, int cpu) {
        if (error()) return -error();
        if (type != 18 || !counts().count({config, cpu})) return -ENOENT;
        int fd = open(file(config, cpu).c_str(), O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }

  private:
    static std::string &dir() {
        static std::string d;
        return d;
    }
    static std::map<std::pair<uint64_t, int>, std::string> &counts() {
        static std::map<std::pair<uint64_t, int>, std::string> m;
        return m;
    }
    static std::string file(uint64_t config, int cpu) { return dir() + "/" + std::to_string(config) + "-" + std::to_string(cpu); }
};

// One source opened on a tree. The clock advances by a microsecond each time it is asked, and by hand.
class Opened {
  public:
    Opened(const tel_source &source, const std::string &root) : source_(source), root_(root), found_(new tel_found()) {
        env_.root = root_.c_str();
        env_.nvml_path = env_.replay_path = env_.card = "";
        env_.clock.now_ns = [](void *user) { return ((Opened *)user)->now_ns += 1000; };
        env_.clock.user = this;
        env_.perf_open = FakePerf::open_event;
        result = source.open(&env_, &state_, found_.get(), nullptr);
    }
    Opened(const tel_source &source, const Tree &tree) : Opened(source, tree.root()) {}
    ~Opened() { source_.close(state_); }
    Opened(const Opened &) = delete;
    Opened &operator=(const Opened &) = delete;

    tel_result result = TEL_OK;
    uint64_t now_ns = 1000000000;

    const tel_source &source() const { return source_; }
    void *state() const { return state_; }
    tel_found &found() { return *found_; }
    size_t n() const { return found_->n; }
    tel_domain *domain(const std::string &name) {
        for (size_t i = 0; i < found_->n; i++)
            if (name == found_->items[i].name) return &found_->items[i];
        return nullptr;
    }
    void read(const tel_domain *d, tel_series *series) { source_.read(state_, d, series); }

  private:
    const tel_source &source_;
    std::string root_;
    std::unique_ptr<tel_found> found_;
    tel_env env_ = {};
    void *state_ = nullptr;
};

class Series {
  public:
    explicit Series(const tel_domain *d) {
        tel_series_options o = {};
        o.kind = d->kind;
        o.uj_per_unit = d->uj_per_unit;
        o.range = d->range;
        o.capacity = 64;
        tel_series_init(&s, &o);
    }
    ~Series() { tel_series_free(&s); }
    Series(const Series &) = delete;
    Series &operator=(const Series &) = delete;
    tel_series s = {};
    uint64_t last() const { return s.n ? tel_series_at(&s, s.n - 1)->value : UINT64_MAX; }
};

// Several sources on one tree, and the choice between their domains.
class Choice {
  public:
    Choice(std::vector<const tel_source *> sources, const Tree &tree) {
        for (const tel_source *s : sources) opened_.push_back(std::make_unique<Opened>(*s, tree));
        for (auto &o : opened_)
            for (size_t i = 0; i < o->n(); i++) {
                tel_candidate c = {};
                c.source = &o->source();
                c.state = o->state();
                c.domain = &o->found().items[i];
                list.push_back(c);
            }
        n_counting = tel_choose(list.data(), list.size());
    }
    std::vector<tel_candidate> list;
    size_t n_counting;

    // "package-0/powercap dram-0/powercap"
    std::string counting() const {
        std::string all;
        for (size_t i = 0; i < n_counting; i++)
            all += (i ? " " : "") + std::string(list[i].domain->name) + "/" + list[i].source->name;
        return all;
    }
    std::string reason(const std::string &name, const std::string &source) const {
        for (const tel_candidate &c : list)
            if (name == c.domain->name && source == c.source->name) return c.counts ? "it counts" : c.domain->reason;
        return "there is no " + name;
    }

  private:
    std::vector<std::unique_ptr<Opened>> opened_;
};

} // namespace sysfs

#endif
