// Calibration: fits with honest remaining errors, and the file.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "telemetry/telemetry.h"

namespace {

std::string scratch(const char *name) { return testing::TempDir() + name + std::to_string(getpid()); }

void write(const std::string &path, const std::string &text) { std::ofstream(path) << text; }

TEST(Calibration, FindsGainAndOffset) {
    std::mt19937_64 random(1);
    std::normal_distribution<double> noise(0, 0.5);
    size_t covered = 0;
    const size_t rounds = 400;
    for (size_t k = 0; k < rounds; k++) {
        double gain = 0.92 + 0.16 * (double)(k % 17) / 16, offset = -20 + (double)(k % 41);
        std::vector<tel_calibration_point> points;
        for (int i = 0; i < 8; i++) {
            double truth = 60 + 30 * i;
            points.push_back({gain * truth + offset + noise(random), truth, 0});
        }
        tel_calibration c = {};
        ASSERT_EQ(tel_calibration_fit(points.data(), points.size(), &c, nullptr), TEL_OK);
        covered += std::fabs(c.gain - gain) <= c.gain_error && std::fabs(c.offset_w - offset) <= c.offset_error_w;
        EXPECT_LT(c.gain_error, 0.03);
        EXPECT_LT(c.offset_error_w, 6);
    }
    EXPECT_GE(covered, rounds * 99 / 100);
}

TEST(Calibration, OneLevelFixesTheGainOnly) {
    tel_calibration_point points[] = {{190, 200, 0}, {200, 210, 0}, {195, 205, 0}};
    tel_calibration c = {};
    ASSERT_EQ(tel_calibration_fit(points, 3, &c, nullptr), TEL_OK);
    EXPECT_NEAR(c.gain, 0.951, 0.002);
    EXPECT_EQ(c.offset_w, 0);
    EXPECT_GT(c.offset_error_w, 10) << "nothing is known of the offset";
}

TEST(Calibration, AnUncertainMeterWidensTheErrors) {
    tel_calibration_point exact[] = {{60, 62, 0}, {200, 210, 0}}, vague[] = {{60, 62, 3}, {200, 210, 3}};
    tel_calibration a = {}, b = {};
    ASSERT_EQ(tel_calibration_fit(exact, 2, &a, nullptr), TEL_OK);
    ASSERT_EQ(tel_calibration_fit(vague, 2, &b, nullptr), TEL_OK);
    EXPECT_GT(b.gain_error, a.gain_error + 0.01);
    EXPECT_GE(b.offset_error_w, a.offset_error_w + 3);
}

TEST(Calibration, RefusesNonsense) {
    tel_error err = {};
    tel_calibration c = {};
    tel_calibration_point one[] = {{60, 62, 0}}, swapped[] = {{60, 200, 0}, {62, 210, 0}}, negative[] = {{60, 62, 0}, {-3, 100, 0}},
                          nan[] = {{60, 62, 0}, {NAN, 100, 0}};
    EXPECT_EQ(tel_calibration_fit(one, 1, &c, &err), TEL_ERR_INVALID);
    EXPECT_EQ(tel_calibration_fit(swapped, 2, &c, &err), TEL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("gain"), std::string::npos);
    EXPECT_EQ(tel_calibration_fit(negative, 2, &c, &err), TEL_ERR_INVALID);
    EXPECT_EQ(tel_calibration_fit(nan, 2, &c, &err), TEL_ERR_INVALID);
}

TEST(Calibration, FileRoundTrip) {
    std::string path = scratch("calibration");
    tel_calibration list[2] = {};
    snprintf(list[0].domain, sizeof list[0].domain, "gpu-0");
    snprintf(list[0].device, sizeof list[0].device, "NVIDIA GeForce RTX 3090");
    list[0].gain = 0.948, list[0].offset_w = -0.7, list[0].gain_error = 0.01, list[0].offset_error_w = 1;
    snprintf(list[1].domain, sizeof list[1].domain, "two\nlines");
    list[1].gain = 1.02, list[1].offset_w = 3, list[1].gain_error = 0.02, list[1].offset_error_w = 2;
    ASSERT_EQ(tel_calibration_save(path.c_str(), list, 2, nullptr), TEL_OK);
    tel_calibration back[2] = {};
    size_t n = 0;
    tel_error err = {};
    ASSERT_EQ(tel_calibration_load(path.c_str(), back, 2, &n, &err), TEL_OK) << err.message;
    ASSERT_EQ(n, 2u);
    EXPECT_STREQ(back[0].device, list[0].device);
    EXPECT_DOUBLE_EQ(back[0].gain, 0.948);
    EXPECT_DOUBLE_EQ(back[1].offset_error_w, 2);
    EXPECT_STREQ(back[1].domain, "two lines");
    ASSERT_EQ(tel_calibration_load(path.c_str(), back, 1, &n, &err), TEL_OK);
    EXPECT_EQ(n, 2u) << "the number in the file, though only one fitted";
    unlink(path.c_str());
}

TEST(Calibration, BadFilesAreNamed) {
    std::string path = scratch("badcalibration");
    tel_calibration list[2];
    size_t n;
    const struct {
        const char *text, *words;
    } cases[] = {{"", "no calibration"},
                 {"domain = a\ngain = 1\n", "lacks"},
                 {"gain = x\n", "line 1"},
                 {"gain = 7\n", "out of range"},
                 {"colour = red\n", "no such field"},
                 {"# comment\n\nnonsense\n", "line 3"},
                 {"domain = a\ngain = 1\noffset_w = nan\n", "line 3"}};
    for (const auto &c : cases) {
        write(path, c.text);
        tel_error err = {};
        EXPECT_EQ(tel_calibration_load(path.c_str(), list, 2, &n, &err), TEL_ERR_FORMAT) << c.text;
        EXPECT_NE(std::string(err.message).find(c.words), std::string::npos) << err.message;
        EXPECT_NE(std::string(err.message).find(path), std::string::npos) << err.message;
    }
    write(path, std::string(2000, 'x'));
    tel_error err = {};
    EXPECT_EQ(tel_calibration_load(path.c_str(), list, 2, &n, &err), TEL_ERR_FORMAT);
    unlink(path.c_str());
    EXPECT_EQ(tel_calibration_load(path.c_str(), list, 2, &n, &err), TEL_ERR_NOT_FOUND);
}

TEST(Calibration, FullDiskKeepsTheOldFile) {
    tel_calibration one = {};
    one.gain = 1;
    tel_error err = {};
    EXPECT_NE(tel_calibration_save("/dev/full/x", &one, 1, &err), TEL_OK);
    EXPECT_NE(tel_calibration_save("/nonexistent/folder/file", &one, 1, &err), TEL_OK);
    EXPECT_NE(err.message[0], '\0');
}

} // namespace
