// XXH64 against values of the reference implementation (python-xxhash), in one piece and in random pieces.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "runtime/base/xxh64.h"

namespace {

TEST(Xxh64, GivesTheValuesOfTheReference) {
    std::vector<uint8_t> data;
    for (int i = 0; i < 200; i++) data.push_back((uint8_t)(i * 7 + 3));
    const std::pair<size_t, uint64_t> cases[] = {
        {0, 0xEF46DB3751D8E999u},  {1, 0x1F25C8D0BC1F4BB6u},  {3, 0x31D2363F52E564C9u},  {4, 0x9BB64B7D66EE9FDAu},  {7, 0x9A7B149959CE60D8u},
        {8, 0xDAB99D95C6F90092u},  {12, 0xD52E407833AF5133u}, {31, 0xA2AA5F33CC4A6119u}, {32, 0x23C3C17EF790FD97u}, {33, 0x50A7CFC7BA588784u},
        {63, 0x5E3E54B431C7493Cu}, {64, 0x0EB64B3EF6EEB01Fu}, {100, 0xA61F8D4C170FE531u}, {200, 0xA6CB3C09BC829B24u}};
    std::mt19937 rng(1);
    for (auto &c : cases) {
        EXPECT_EQ(xxh64_of(data.data(), c.first), c.second) << c.first << " bytes";
        for (int round = 0; round < 20; round++) {
            xxh64 s;
            xxh64_start(&s, 0);
            for (size_t at = 0; at < c.first;) {
                const size_t n = std::min<size_t>(c.first - at, rng() % 50);
                xxh64_add(&s, data.data() + at, n);
                at += n;
            }
            EXPECT_EQ(xxh64_value(&s), c.second) << c.first << " bytes in pieces";
        }
    }
    EXPECT_EQ(xxh64_of("abc", 3), 0x44BC2CF5AD770999u);
    xxh64 seeded;
    xxh64_start(&seeded, 0x123456789);
    xxh64_add(&seeded, data.data(), data.size());
    EXPECT_EQ(xxh64_value(&seeded), 0x08A3DC270A9E5930u);
}

} // namespace
