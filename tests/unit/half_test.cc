// Half-precision conversions of kernels/dtype.c, exhaustively from 16 bits and against the compiler's _Float16.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "kernels/tensor.h"

namespace {

bool is_nan16(uint16_t h) { return (h & 0x7C00) == 0x7C00 && (h & 0x03FF); }
bool is_nan_bf16(uint16_t h) { return (h & 0x7F80) == 0x7F80 && (h & 0x007F); }

// Value of an f16 from the definition of IEEE binary16, in double.
double f16_by_definition(uint16_t h) {
    int exponent = (h >> 10) & 31, mantissa = h & 1023;
    double magnitude = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
    if (exponent == 31) magnitude = HUGE_VAL;
    return h & 0x8000 ? -magnitude : magnitude;
}

TEST(HalfF16, EveryValueIsWhatTheFormatSays) {
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = wtl_f32_from_f16(h);
        if (is_nan16(h)) {
            EXPECT_TRUE(std::isnan(f)) << std::hex << u;
        } else {
            EXPECT_EQ((double)f, f16_by_definition(h)) << std::hex << u;
            EXPECT_EQ(std::signbit(f), (h & 0x8000) != 0) << std::hex << u;
        }
    }
}

TEST(HalfF16, EveryValueRoundTrips) {
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u, back = wtl_f16_from_f32(wtl_f32_from_f16(h));
        if (is_nan16(h))
            EXPECT_TRUE(is_nan16(back)) << std::hex << u;
        else
            EXPECT_EQ(back, h) << std::hex << u;
    }
}

// Midpoints between neighbours go to the even one, one f32 step to either side goes to the nearer one.
TEST(HalfF16, TiesGoToEven) {
    for (uint32_t u = 0; u < 0x7BFF; u++) {
        float middle = (float)((f16_by_definition((uint16_t)u) + f16_by_definition((uint16_t)(u + 1))) / 2); // exact
        uint16_t even = (uint16_t)(u % 2 ? u + 1 : u);
        EXPECT_EQ(wtl_f16_from_f32(middle), even) << std::hex << u;
        EXPECT_EQ(wtl_f16_from_f32(-middle), even | 0x8000) << std::hex << u;
        EXPECT_EQ(wtl_f16_from_f32(std::nextafterf(middle, 0.0f)), u) << std::hex << u;
        EXPECT_EQ(wtl_f16_from_f32(std::nextafterf(middle, 1e9f)), u + 1) << std::hex << u;
    }
}

TEST(HalfF16, TopOfTheRangeRoundsToInfFrom65520) {
    EXPECT_EQ(wtl_f16_from_f32(65504.0f), 0x7BFF);
    EXPECT_EQ(wtl_f16_from_f32(std::nextafterf(65520.0f, 0.0f)), 0x7BFF);
    EXPECT_EQ(wtl_f16_from_f32(65520.0f), 0x7C00);
    EXPECT_EQ(wtl_f16_from_f32(-3e38f), 0xFC00);
    EXPECT_EQ(wtl_f16_from_f32(HUGE_VALF), 0x7C00);
    EXPECT_EQ(wtl_f16_from_f32(0x1p-25f), 0x0000); // half the smallest subnormal: tie to even zero
    EXPECT_EQ(wtl_f16_from_f32(0x1.8p-25f), 0x0001);
    EXPECT_EQ(wtl_f16_from_f32(-0.0f), 0x8000);
}

#ifdef __FLT16_MAX__
#if defined(__aarch64__)
using CompilerHalf = __fp16; // the name that every C++ compiler for Arm knows
#else
using CompilerHalf = _Float16;
#endif
TEST(HalfF16, AgreesWithTheCompilerOnRandomBits) {
    const uint32_t seed = 20240601;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    for (int i = 0; i < 3000000; i++) {
        uint32_t bits = random();
        if (i % 2) bits = (bits & 0x8FFFFFFFu) | (0x30000000u + (random() % 0x18000000u)); // around f16's range
        float f = wtl_f32_from_bits(bits);
        CompilerHalf expected = (CompilerHalf)f;
        uint16_t expected_bits, got = wtl_f16_from_f32(f);
        std::memcpy(&expected_bits, &expected, 2);
        if (std::isnan(f))
            ASSERT_TRUE(is_nan16(got)) << std::hex << bits;
        else
            ASSERT_EQ(got, expected_bits) << std::hex << bits;
    }
}
#endif

TEST(HalfBf16, EveryValueRoundTripsAndIsTheUpperHalf) {
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = wtl_f32_from_bf16(h);
        if (is_nan_bf16(h)) {
            EXPECT_TRUE(std::isnan(f) && is_nan_bf16(wtl_bf16_from_f32(f))) << std::hex << u;
        } else {
            EXPECT_EQ(wtl_bits_from_f32(f), u << 16);
            EXPECT_EQ(wtl_bf16_from_f32(f), h) << std::hex << u;
        }
    }
}

TEST(HalfBf16, RoundsToNearestEven) {
    for (uint32_t u = 0; u < 0x7F80; u++) {
        uint16_t even = (uint16_t)(u % 2 ? u + 1 : u);
        EXPECT_EQ(wtl_bf16_from_f32(wtl_f32_from_bits(u << 16 | 0x8000)), even) << std::hex << u;
        EXPECT_EQ(wtl_bf16_from_f32(wtl_f32_from_bits(u << 16 | 0x7FFF)), u) << std::hex << u;
        EXPECT_EQ(wtl_bf16_from_f32(wtl_f32_from_bits(u << 16 | 0x8001)), u + 1) << std::hex << u;
        EXPECT_EQ(wtl_bf16_from_f32(wtl_f32_from_bits(u << 16 | 0x80008000u)), even | 0x8000) << std::hex << u;
    }
}

TEST(HalfBf16, NanWhosePayloadIsInTheLowerHalfStaysNan) {
    EXPECT_TRUE(is_nan_bf16(wtl_bf16_from_f32(wtl_f32_from_bits(0x7F800001u))));
    EXPECT_TRUE(is_nan_bf16(wtl_bf16_from_f32(wtl_f32_from_bits(0xFF80FFFFu))));
    EXPECT_TRUE(is_nan16(wtl_f16_from_f32(wtl_f32_from_bits(0x7F800001u))));
}

} // namespace
