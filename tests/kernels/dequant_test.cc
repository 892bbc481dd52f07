// ref_dequantize_row against blocks whose f32 values an independent implementation computed (tests/fixtures/README.md).
// Every type is EXACT: the products are exact in f32 or rounded in the format's order, so no ulp is given away.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "kernels/ref/ref.h"

namespace {

struct Vectors {
    wtl_dtype dtype;
    std::vector<uint8_t> blocks;
    std::vector<float> expected;
};

uint32_t read_u32(std::istream &in) {
    uint8_t b[4] = {};
    in.read((char *)b, 4);
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

std::vector<Vectors> read_vectors() {
    std::ifstream in(WTL_FIXTURES "/dequant_vectors.bin", std::ios::binary);
    char magic[8] = {};
    in.read(magic, 8);
    EXPECT_EQ(std::memcmp(magic, "WTLDEQ1", 8), 0) << "tests/fixtures/dequant_vectors.bin is missing or damaged";
    std::vector<Vectors> all;
    while (in.peek() != EOF) {
        Vectors v;
        v.dtype = (wtl_dtype)read_u32(in);
        v.expected.resize(read_u32(in));
        v.blocks.resize(read_u32(in));
        in.read((char *)v.blocks.data(), (std::streamsize)v.blocks.size());
        in.read((char *)v.expected.data(), (std::streamsize)(v.expected.size() * sizeof(float)));
        if (!in) break;
        all.push_back(v);
    }
    return all;
}

TEST(Dequantize, EveryTypeMatchesTheFixtureBitForBit) {
    std::set<wtl_dtype> seen;
    for (const Vectors &v : read_vectors()) {
        const wtl_dtype_info *info = wtl_dtype_get(v.dtype);
        seen.insert(v.dtype);
        uint64_t bytes = 0;
        ASSERT_TRUE(wtl_dtype_row_bytes(v.dtype, v.expected.size(), &bytes));
        ASSERT_EQ(bytes, v.blocks.size()) << info->name;
        std::vector<float> got(v.expected.size(), NAN);
        ref_dequantize_row(v.dtype, v.blocks.data(), got.data(), (int64_t)got.size());
        for (size_t i = 0; i < got.size(); i++)
            ASSERT_EQ(wtl_bits_from_f32(got[i]), wtl_bits_from_f32(v.expected[i]))
                << info->name << " weight " << i << ": got " << got[i] << ", want " << v.expected[i];
    }
    for (uint32_t id = 0; id < WTL_DTYPE_ID_END; id++) {
        if (wtl_dtype_get(id)->can_run && id != WTL_DTYPE_F32) {
            EXPECT_TRUE(seen.count((wtl_dtype)id)) << "no vectors for " << wtl_dtype_get(id)->name;
        }
    }
}

TEST(Dequantize, FloatsMayLieAtAnyAddress) {
    const float values[3] = {1.5f, -0.0f, 3e-39f};
    uint8_t odd[13];
    std::memcpy(odd + 1, values, sizeof values);
    float got[3];
    ref_dequantize_row(WTL_DTYPE_F32, odd + 1, got, 3);
    EXPECT_EQ(std::memcmp(got, values, sizeof values), 0);
    const uint16_t halves[2] = {0x3C00, 0xC000};
    std::memcpy(odd + 1, halves, sizeof halves);
    ref_dequantize_row(WTL_DTYPE_F16, odd + 1, got, 2);
    EXPECT_EQ(got[0], 1.0f);
    EXPECT_EQ(got[1], -2.0f);
    ref_dequantize_row(WTL_DTYPE_BF16, odd + 1, got, 2);
    EXPECT_EQ(got[0], wtl_f32_from_bits(0x3C000000u));
}

TEST(Dequantize, NoBlocksTouchNothing) { ref_dequantize_row(WTL_DTYPE_Q4_K, nullptr, nullptr, 0); }

} // namespace
