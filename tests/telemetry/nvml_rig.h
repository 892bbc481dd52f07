// A look-alike NVIDIA driver for tests: a script, a clock that is turned by hand, the source opened on it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_NVML_RIG_H
#define WTL_TESTS_NVML_RIG_H

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

extern "C" {
#include "telemetry/source.h"
}

class NvmlRig : public ::testing::Test {
  protected:
    void SetUp() override {
        char folder[] = "/tmp/wtl_nvml_XXXXXX";
        ASSERT_NE(mkdtemp(folder), nullptr);
        root_ = folder;
        setenv("WTL_FAKE_NVML_SCRIPT", (root_ + "/script").c_str(), 1);
        setenv("WTL_FAKE_NVML_LOG", (root_ + "/log").c_str(), 1);
        SetTime(100 * 1000000ull);
    }
    void TearDown() override {
        CloseSource();
        if (library_) dlclose(library_);
        EXPECT_EQ(system(("rm -rf '" + root_ + "'").c_str()), 0);
    }

    // Puts the script in place; text gets "clock virtual" before it unless it says otherwise.
    void Script(const std::string &text, const char *library = WTL_FAKE_NVML) {
        std::ofstream(root_ + "/script") << (text.rfind("clock", 0) == 0 ? "" : "clock virtual\n") << text;
        path_ = library;
        if (!library_) library_ = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(library_, nullptr) << dlerror();
        ASSERT_EQ(Call<int (*)()>("fake_nvml_reload")(), 0);
        SetTime(now_us_);
    }
    template <typename F> F Call(const char *name) { return reinterpret_cast<F>(dlsym(library_, name)); }
    void SetTime(uint64_t us) {
        now_us_ = us;
        if (library_) Call<void (*)(uint64_t)>("fake_nvml_set_time_us")(us);
    }
    void Advance(uint64_t us) { SetTime(now_us_ + us); }
    double TruthUj(uint64_t from_us, uint64_t to_us, unsigned board = 0) {
        auto truth = Call<double (*)(unsigned, uint64_t)>("fake_nvml_truth_uj");
        return truth(board, to_us) - truth(board, from_us);
    }
    unsigned OpenCount() { return Call<unsigned (*)()>("fake_nvml_open_count")(); }

    void OpenSource(bool real_clock = false) {
        CloseSource();
        tel_env env{};
        env.root = root_.c_str();
        env.nvml_path = path_.c_str();
        env.replay_path = env.card = "";
        env.clock.now_ns = real_clock ? RealNow : VirtualNow;
        env.clock.user = this;
        found_ = std::make_unique<tel_found>();
        ASSERT_EQ(tel_source_nvml.open(&env, &state_, found_.get(), nullptr), TEL_OK);
    }
    void CloseSource() {
        for (auto &s : series_) tel_series_free(s.get());
        series_.clear();
        if (state_) tel_source_nvml.close(state_);
        state_ = nullptr;
    }
    size_t n() const { return found_->n; }
    const tel_domain &domain(size_t i) const { return found_->items[i]; }

    // The series of one domain, as meter.c makes it.
    tel_series *Series(size_t i, size_t capacity = 4096) {
        series_.push_back(std::make_unique<tel_series>());
        tel_series_options options{};
        options.kind = domain(i).kind;
        options.uj_per_unit = domain(i).uj_per_unit;
        options.range = domain(i).range;
        options.limit_uw = domain(i).limit_uw;
        options.step_ns = domain(i).step_ns;
        options.capacity = capacity;
        EXPECT_EQ(tel_series_init(series_.back().get(), &options), TEL_OK);
        return series_.back().get();
    }
    void Read(size_t i, tel_series *series) { tel_source_nvml.read(state_, &domain(i), series); }
    void ReadFor(size_t i, tel_series *series, uint64_t us, uint64_t every_us) {
        for (uint64_t end = now_us_ + us; now_us_ < end;) {
            Advance(every_us);
            Read(i, series);
        }
    }

    static uint64_t VirtualNow(void *user) { return static_cast<NvmlRig *>(user)->now_us_ * 1000; }
    static uint64_t RealNow(void *user) { return tel_monotonic_ns() - static_cast<NvmlRig *>(user)->slept_ns_; }

    std::string root_, path_ = WTL_FAKE_NVML;
    uint64_t now_us_ = 0, slept_ns_ = 0; // slept: the meter's clock stood still so long, as in a suspend
    void *library_ = nullptr, *state_ = nullptr;
    std::unique_ptr<tel_found> found_;
    std::vector<std::unique_ptr<tel_series>> series_;
};

#endif
