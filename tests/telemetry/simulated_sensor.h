// A device whose power is known at every millisecond, and a sensor that looks at it as real ones do: for the tests of bounds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

extern "C" {
#include "telemetry/series.h"
#include "telemetry/window.h"
}

namespace simulated {

// Power in W, one value per millisecond from time 0.
struct Device {
    std::vector<double> watts;
    std::vector<double> joules; // before each millisecond
    void add_up() {
        joules.assign(1, 0);
        for (double w : watts) joules.push_back(joules.back() + w / 1000);
    }
    double length_s() const { return (double)watts.size() / 1000; }
    double until(double t_s) const {
        if (t_s <= 0) return t_s * watts[0];
        double ms = std::min(t_s * 1000, (double)watts.size() - 1e-9);
        size_t i = (size_t)ms;
        return joules[i] + watts[i] * (ms - (double)i) / 1000;
    }
    double energy(double t0_s, double t1_s) const { return until(t1_s) - until(t0_s); }
};

enum class Load { square, telegraph, llm, levels, steady };

// One second of idle, then the load; edges take some milliseconds, as capacitors make them.
inline Device make_device(Load load, double seconds, double low_w, double high_w, std::mt19937_64 &random, double period_s = 0.103, double duty = 0.5) {
    auto uniform = [&](double a, double b) { return std::uniform_real_distribution<double>(a, b)(random); };
    auto exponential = [&](double mean) { return std::exponential_distribution<double>(1 / mean)(random); };
    size_t n = (size_t)(seconds * 1000);
    std::vector<double> x(n, 0.0);
    auto fill = [&](size_t from, size_t len, double v) { for (size_t i = from; i < std::min(n, from + len); i++) x[i] = v; };
    if (load == Load::square) {
        double phase = uniform(0, 1);
        for (size_t i = 0; i < n; i++) x[i] = std::fmod((double)i / 1000 / period_s + phase, 1) < duty;
    } else if (load == Load::steady) {
        fill(0, n, 0.6);
    } else {
        bool on = false;
        for (size_t i = 0; i < n;) {
            size_t len;
            if (load == Load::telegraph) fill(i, len = 1 + (size_t)(exponential(0.1) * 1000), on = !on);
            else if (load == Load::levels) fill(i, len = (size_t)uniform(50, 1500), uniform(0, 1));
            else { // a prompt, then many short steps, then a pause
                size_t prompt = (size_t)uniform(20, 400), reply = (size_t)uniform(200, 2500), step = (size_t)uniform(8, 30);
                fill(i, prompt, 1);
                for (size_t k = 0; k < reply && i + prompt + k < n; k++) x[i + prompt + k] = k % step < step * 6 / 10 ? 0.7 : 0.55;
                len = prompt + reply + (size_t)(exponential(0.4) * 1000);
            }
            i += len;
        }
    }
    fill(0, 1000, 0);
    Device d;
    double y = 0;
    std::normal_distribution<double> noise(0, 1);
    for (double v : x) {
        y += (v - y) / 3;
        d.watts.push_back(std::max(0.0, low_w + (high_w - low_w) * y + noise(random)));
    }
    d.add_up();
    return d;
}

struct Sensor {
    double step_s = 0.1, window_s = 0.1, lag_s = 0.004, poll_s = 0.01;
    double gain = 1, offset_w = 0;
    bool counter = false; // energy in mJ instead of power in mW
    const char *card = "";
};

inline uint64_t at_ns(double t_s) { return (uint64_t)std::llround((t_s + 10) * 1e9); } // 10 s: times before 0 stay positive

// Reads the sensor from -0.45 s to the end of the device into a track.
inline tel_track *watch(const Device &d, const Sensor &s, const tel_card *card, const tel_calibration *calibration, std::mt19937_64 &random) {
    auto uniform = [&](double a, double b) { return std::uniform_real_distribution<double>(a, b)(random); };
    std::normal_distribution<double> jitter(0, 0.0015), noise(0, 0.3);
    tel_series_options series_options = {};
    series_options.kind = s.counter ? TEL_SERIES_COUNTER : TEL_SERIES_POWER;
    series_options.uj_per_unit = 1000;
    series_options.capacity = 4096;
    tel_series series;
    if (tel_series_init(&series, &series_options) != TEL_OK) return nullptr;
    tel_track_options options = {};
    options.card = card;
    options.calibration = calibration;
    options.kind = series_options.kind;
    options.scope = TEL_SCOPE_GPU_BOARD;
    options.method = s.counter ? TEL_METHOD_COUNTER : TEL_METHOD_INTEGRATED;
    options.source = "simulated";
    options.capacity = 16384;
    tel_track *track = nullptr;
    if (tel_track_open(&options, &track) != TEL_OK) return nullptr;
    auto reading = [&](double end) {
        double w = s.counter ? d.until(end) + 1000 : d.energy(end - s.window_s, end) / s.window_s + noise(random);
        return (uint64_t)std::max(0.0, (s.gain * w + (s.counter ? 0 : s.offset_w)) * 1000);
    };
    struct Update {
        double visible_s;
        uint64_t value;
    };
    std::vector<Update> updates;
    double step = s.step_s * uniform(0.985, 1.015);
    for (double end = -0.5 - s.step_s * uniform(1, 2); end < d.length_s(); end += step) {
        double shaken = end + (s.step_s > 0.01 ? jitter(random) : 0);
        updates.push_back({shaken + s.lag_s, reading(shaken)});
    }
    size_t shown = 0;
    for (double t = -0.45; t < d.length_s(); t += s.poll_s * uniform(0.85, 1.3)) {
        while (shown + 1 < updates.size() && updates[shown + 1].visible_s <= t) shown++;
        tel_series_push_at(&series, at_ns(t), updates[shown].value);
        tel_track_update(track, &series);
    }
    tel_series_free(&series);
    return track;
}

} // namespace simulated
