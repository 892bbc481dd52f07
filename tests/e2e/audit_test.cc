// `wattle meters audit`: the stated bounds hold in every window length, and are not lazily wide - on recordings of boards beside a better
// meter, and on made-up ones with the gains and offsets that were seen on boards.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/e2e/energy_rig.h"

namespace {

const std::string traces = std::string(WTL_SHARED_DATA) + "/gpu-power-traces/";

struct Audit {
    std::vector<double> window, coverage, width; // of the rows
    double width_at(double seconds) const {
        for (size_t i = 0; i < window.size(); i++)
            if (window[i] == seconds) return width[i];
        ADD_FAILURE() << "no windows of " << seconds << " s";
        return 1e9;
    }
};

// Runs it and checks what holds for all: the fields, and that the truth is inside in 99 % of the windows of every length.
Audit audit(const std::string &sensor, const std::string &truth, std::vector<std::string> more, size_t n_lengths) {
    std::vector<std::string> args = {"meters", "audit", "--json", "--sensor", sensor, "--truth", truth};
    args.insert(args.end(), more.begin(), more.end());
    RunResult r = run_wattle(args);
    Audit a;
    EXPECT_EQ(r.code, 0) << r.err;
    if (r.code != 0) return a;
    Json json(r.out);
    size_t i;
    json_t *row = nullptr;
    json_array_foreach(json.at("windows"), i, row) {
        for (const char *field : {"window_s", "n", "coverage_frac", "median_rel_half_width", "p95_rel_half_width", "bias_frac", "naive_p99_error_frac"})
            EXPECT_TRUE(json_is_number(json_object_get(row, field))) << field << " in " << r.out;
        a.window.push_back(json_number_value(json_object_get(row, "window_s")));
        a.coverage.push_back(json_number_value(json_object_get(row, "coverage_frac")));
        a.width.push_back(json_number_value(json_object_get(row, "median_rel_half_width")));
        EXPECT_GE(a.coverage.back(), 0.99) << a.window.back() << " s, " << sensor;
        EXPECT_GT(json_number_value(json_object_get(row, "n")), 1000);
    }
    EXPECT_EQ(a.window.size(), n_lengths) << r.out;
    return a;
}

void print(const char *name, const Audit &a) {
    std::printf("%s:", name);
    for (size_t i = 0; i < a.window.size(); i++) std::printf("  %.2f s %.2f %% +- %.1f %%", a.window[i], 100 * a.coverage[i], 100 * a.width[i]);
    std::printf("\n");
}

class Recording : public testing::TestWithParam<std::pair<const char *, const char *>> {
  protected:
    void SetUp() override {
        if (!std::filesystem::exists(traces + GetParam().first)) GTEST_SKIP() << "the recordings are not here: " << traces;
    }
    std::string file(const char *name) const { return traces + GetParam().first + "/" + name; }
    bool part_time() const { return GetParam().first[0] == 'A'; }
};

TEST_P(Recording, BoundHoldsAndIsNotLazy) {
    for (const char *seed : {"1", "2", "3"}) {
        Audit a = audit(file("sensor.csv"), file("meter.csv"), {"--seed", seed, "--card", GetParam().second}, 7);
        print(GetParam().second, a);
        EXPECT_LE(a.width_at(0.2), part_time() ? 1.0 : 0.30);
        if (!part_time()) {
            EXPECT_LE(a.width_at(5), 0.15);
        }
    }
}

TEST_P(Recording, BoundHoldsWithoutTheNameOfTheCard) {
    for (const char *seed : {"1", "2", "3"}) print("no card", audit(file("sensor.csv"), file("meter.csv"), {"--seed", seed}, 7));
}

TEST_P(Recording, CalibrationNarrowsIt) {
    TempDir dir;
    RunResult r = run_wattle({"meters", "calibrate", "--sensor", file("sensor.csv"), "--truth", file("meter.csv"), "--domain", "gpu-0", "--device", GetParam().second,
                              "--output", dir.path("cal.txt")});
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char *seed : {"1", "2", "3"}) {
        Audit a = audit(file("sensor.csv"), file("meter.csv"), {"--seed", seed, "--card", GetParam().second, "--calibration", dir.path("cal.txt")}, 7);
        print("calibrated", a);
        if (!part_time()) {
            EXPECT_LE(a.width_at(5), 0.08);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Boards, Recording,
                         testing::Values(std::make_pair("RTX3090-50-50", "NVIDIA GeForce RTX 3090"), std::make_pair("A100-50-50", "NVIDIA A100-PCIE-40GB")),
                         [](const auto &info) { return std::string(info.index ? "A100" : "Rtx3090"); });

struct Board {
    const char *name, *card, *sensor;
};

class MadeUp : public testing::TestWithParam<std::tuple<Board, const char *>> {};

TEST_P(MadeUp, BoundHoldsForTheGainsAndOffsetsThatWereSeen) {
    const auto &[board, shape] = GetParam();
    TempDir dir;
    unsigned seed = 10;
    for (const char *wrong : {"--gain 0.92 --offset-w 22", "--gain 1.08 --offset-w -22", "--gain 0.92 --offset-w -22", "--gain 1.08 --offset-w 22"}) {
        Trace t = make_trace(dir, shape, ++seed, 14, std::string("--kind power --idle-w 60 --busy-w 320 ") + board.sensor + " " + wrong);
        Audit named = audit(t.sensor, t.truth, {"--card", board.card, "--windows", "1500"}, 7);
        print(wrong, named);
        audit(t.sensor, t.truth, {"--windows", "1500"}, 7);
    }
}

// Boards on which nobody measured an error: the widest are assumed, and these are the widest.
INSTANTIATE_TEST_SUITE_P(Boards, MadeUp,
                         testing::Combine(testing::Values(Board{"FullWindow", "NVIDIA GeForce RTX 4090", "--step-ms 100 --window-ms 100"},
                                                          Board{"PartTime", "NVIDIA H100 PCIe", "--step-ms 100 --window-ms 25"}),
                                          testing::Values("levels", "square", "llm", "sine")),
                         [](const auto &info) { return std::string(std::get<0>(info.param).name) + std::get<1>(info.param); });

TEST(AuditFiles, BadOnesAreOneSentence) {
    TempDir dir;
    const std::string head = "t_us,instant_mw\n", good = dir.write("good.csv", [] {
        std::string s = "t_us,power_mw\n";
        for (int i = 0; i < 3000; i++) s += std::to_string(1000 * i) + ",50000\n";
        return s;
    }());
    const std::string readings = [] {
        std::string s;
        for (int i = 0; i < 300; i++) s += std::to_string(10000 * i) + "," + std::to_string(50000 + i % 7) + "\n";
        return s;
    }();
    auto check = [&](const char *name, const std::string &text, std::vector<std::string> parts) {
        const std::string path = dir.write(name, text);
        parts.push_back(name);
        expect_sentence(run_wattle({"meters", "audit", "--sensor", path, "--truth", good}), 1, parts);
    };
    check("cut.csv", head + readings + "3000000,5", {"line 302"});
    check("column.csv", "t_us,current_ma\n" + readings, {"line 1", "instant_mw"});
    check("text.csv", head + "1000,50000\n2000,much\n", {"line 3"});
    check("time.csv", head + "2000,50000\n1000,50000\n", {"line 3", "t_us"});
    check("empty.csv", "", {});
    check("head.csv", head, {});
    const std::string late = dir.write("late.csv", head + "9000000000,50000\n9000010000,50000\n9000020000,50001\n");
    expect_sentence(run_wattle({"meters", "audit", "--sensor", late, "--truth", good}), 1, {"late.csv", "good.csv", "overlap"});
    expect_sentence(run_wattle({"meters", "audit", "--sensor", dir.path("absent.csv"), "--truth", good}), 1, {"absent.csv"});
    expect_sentence(run_wattle({"meters", "audit", "--sensor", dir.write("s.csv", head + readings), "--truth", dir.write("t.csv", "t_us,power_w\n1,1\n")}), 1, {"t.csv", "power_mw"});
}

} // namespace
