// Time stamps of the NVIDIA driver on the meter's clock, with clocks made up.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

extern "C" {
#include "telemetry/nvml_stamps.h"
}

namespace {

const uint64_t kSecond = 1000000000ull, kUnix = 1700000000ull * kSecond;

// The meter's clock at t seconds after 1000; boot runs `slept` ahead, Unix time is off by `set`.
nvml_now At(double t, double slept = 0, double set = 0) {
    const uint64_t meter = 1000 * kSecond + (uint64_t)(t * 1e9);
    return {meter, kUnix + (uint64_t)((int64_t)(t * 1e9) + (int64_t)(set * 1e9)), meter + (uint64_t)(slept * 1e9)};
}

TEST(NvmlStamps, TheClockIsRecognised) {
    nvml_stamps s{};
    nvml_now now = At(0, 500);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.wall_ns / 1000 - 15000));
    EXPECT_EQ(s.base, NVML_BASE_WALL);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.boot_ns / 1000 - 15000));
    EXPECT_EQ(s.base, NVML_BASE_BOOT);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.meter_ns / 1000 - 15000));
    EXPECT_EQ(s.base, NVML_BASE_METER);
    EXPECT_FALSE(tel_nvml_stamps_recognise(&s, &now, 0));
    EXPECT_FALSE(tel_nvml_stamps_recognise(&s, &now, UINT64_MAX));
    EXPECT_FALSE(tel_nvml_stamps_recognise(&s, &now, now.meter_ns / 1000 - 60000000)) << "a minute old";
    EXPECT_FALSE(tel_nvml_stamps_recognise(&s, &now, now.meter_ns / 1000 + 60000000)) << "a minute ahead";
    EXPECT_EQ(s.base, NVML_BASE_UNKNOWN);
}

TEST(NvmlStamps, SlewedUnixTimeIsFollowed) {
    nvml_stamps s{};
    nvml_now now = At(0);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.wall_ns / 1000));
    for (int i = 1; i <= 1000; i++) {
        now = At(i, 0, i * 500e-6);
        ASSERT_TRUE(tel_nvml_stamps_anchor(&s, &now));
        uint64_t t = 0;
        ASSERT_TRUE(tel_nvml_stamps_map(&s, &now, now.wall_ns / 1000 - 10000, &t));
        EXPECT_NEAR((double)(now.meter_ns - t), 10e6, 2000);
    }
}

TEST(NvmlStamps, AClockThatWasSetMakesOlderStampsWorthless) {
    for (double set : {3600.0, -3600.0, 0.05, -0.05}) {
        nvml_stamps s{};
        nvml_now now = At(0);
        ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.wall_ns / 1000));
        const uint64_t old_us = now.wall_ns / 1000;
        now = At(0.1, 0, set);
        EXPECT_FALSE(tel_nvml_stamps_anchor(&s, &now)) << set;
        EXPECT_EQ(s.base, NVML_BASE_UNKNOWN);
        now = At(0.2, 0, set);
        ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.wall_ns / 1000));
        uint64_t t = 0;
        if (set > 0) {
            EXPECT_FALSE(tel_nvml_stamps_map(&s, &now, old_us, &t)) << "before the jump";
        }
        EXPECT_TRUE(tel_nvml_stamps_map(&s, &now, now.wall_ns / 1000 - 1000, &t));
        EXPECT_EQ(t, now.meter_ns - 1000000);
    }
}

TEST(NvmlStamps, TimeSinceBootRunsOnThroughASuspend) {
    nvml_stamps s{};
    nvml_now now = At(0, 7);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.boot_ns / 1000));
    ASSERT_EQ(s.base, NVML_BASE_BOOT);
    now = At(0.1, 607);
    EXPECT_FALSE(tel_nvml_stamps_anchor(&s, &now));
}

// Before the first suspend the two are equal, and only a suspend shows which one it was.
TEST(NvmlStamps, MeterAndBootAreToldApartByTheFirstSuspend) {
    nvml_stamps s{};
    nvml_now now = At(0);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.boot_ns / 1000));
    EXPECT_EQ(s.base, NVML_BASE_METER);
    now = At(1, 600);
    EXPECT_TRUE(tel_nvml_stamps_anchor(&s, &now));
    EXPECT_TRUE(tel_nvml_stamps_ahead(&s, &now, now.boot_ns / 1000));
    tel_nvml_stamps_forget(&s, &now);
    now = At(1.1, 600);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.boot_ns / 1000));
    EXPECT_EQ(s.base, NVML_BASE_BOOT);
}

TEST(NvmlStamps, OnlyNewerStampsAndNoneAhead) {
    nvml_stamps s{};
    nvml_now now = At(10);
    ASSERT_TRUE(tel_nvml_stamps_recognise(&s, &now, now.meter_ns / 1000));
    s.last_us = now.meter_ns / 1000 - 5000;
    uint64_t t = 0;
    EXPECT_FALSE(tel_nvml_stamps_map(&s, &now, s.last_us, &t));
    EXPECT_TRUE(tel_nvml_stamps_map(&s, &now, s.last_us + 1, &t));
    EXPECT_FALSE(tel_nvml_stamps_map(&s, &now, now.meter_ns / 1000 + 1000000, &t));
    EXPECT_FALSE(tel_nvml_stamps_map(&s, &now, UINT64_MAX, &t));
    ASSERT_TRUE(tel_nvml_stamps_map(&s, &now, now.meter_ns / 1000 + 10, &t)) << "rounding";
    EXPECT_EQ(t, now.meter_ns);
}

} // namespace
