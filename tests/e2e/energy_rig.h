// Traces with a known truth for end-to-end tests of energy: made by make_power_trace or recorded, and the joules of any window of them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_ENERGY_RIG_H
#define WTL_TESTS_ENERGY_RIG_H

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

// Slow enough that hundreds of its tokens last longer than a sensor's step; weights quick to make.
inline const TinyModel &slow_model() {
    static const TinyModel model([] {
        TinyOptions o;
        o.n_layers = 4;
        o.n_embd = 512;
        o.n_heads = 8;
        o.n_heads_kv = 4;
        o.n_ff = 1024;
        o.n_ctx = 8192;
        return o;
    }());
    return model;
}

// Mean powers of adjoining stretches, each stamped at its middle.
class Truth {
  public:
    explicit Truth(const std::string &path) {
        std::ifstream in(path);
        std::string line;
        std::vector<double> at, watts;
        std::getline(in, line);
        for (double t, mw; in >> t && in.ignore() && in >> mw;) {
            at.push_back(t / 1e6);
            watts.push_back(mw / 1e3);
        }
        EXPECT_GT(at.size(), 2u) << path;
        if (at.size() < 2) return;
        edge_.push_back(at[0] - (at[1] - at[0]) / 2);
        joules_.push_back(0);
        for (size_t i = 0; i < at.size(); i++) {
            edge_.push_back(i + 1 < at.size() ? (at[i] + at[i + 1]) / 2 : at[i] + (at[i] - at[i - 1]) / 2);
            joules_.push_back(joules_.back() + watts[i] * (edge_[i + 1] - edge_[i]));
        }
    }
    double begin() const { return edge_.front(); }
    double end() const { return edge_.back(); }
    double joules(double t0, double t1) const { return until(t1) - until(t0); }

  private:
    double until(double t) const {
        size_t i = (size_t)(std::upper_bound(edge_.begin(), edge_.end(), t) - edge_.begin());
        if (i == 0) return 0;
        if (i == edge_.size()) return joules_.back();
        return joules_[i - 1] + (joules_[i] - joules_[i - 1]) * (t - edge_[i - 1]) / (edge_[i] - edge_[i - 1]);
    }
    std::vector<double> edge_, joules_;
};

struct Trace {
    std::string sensor, truth;
};

// `more`: further words for make_power_trace.
inline Trace make_trace(const TempDir &dir, const std::string &shape, unsigned seed, double seconds, const std::string &more = "--kind counter") {
    Trace t = {dir.path("sensor-" + shape + std::to_string(seed) + ".csv"), dir.path("truth-" + shape + std::to_string(seed) + ".csv")};
    const std::string command = std::string(WTL_MAKE_POWER_TRACE) + " --shape " + shape + " --seed " + std::to_string(seed) + " --seconds " +
                                std::to_string(seconds) + " --sensor " + t.sensor + " --truth " + t.truth + " " + more;
    EXPECT_EQ(system(command.c_str()), 0) << command;
    return t;
}

inline std::string words(int n) {
    std::string text;
    for (int i = 0; i < n; i++) text += "word number " + std::to_string(i) + " is here ";
    return text;
}

#endif
