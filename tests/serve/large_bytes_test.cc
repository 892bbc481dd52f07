// Buffers keep what is in them while they pass between malloc and pages of their own.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

extern "C" {
#include "tools/serve/large_bytes.h"
}

namespace {

TEST(LargeBytes, KeepWhatIsInThem) {
    const size_t sizes[] = {10, 1000, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 3 * LARGE_BYTES + 777, 40 * LARGE_BYTES, 2 * LARGE_BYTES, LARGE_BYTES / 2, LARGE_BYTES, 5};
    char *bytes = nullptr;
    size_t cap = 0;
    for (size_t size : sizes) {
        char *resized = static_cast<char *>(large_resize(bytes, cap, size));
        ASSERT_NE(resized, nullptr);
        bytes = resized;
        for (size_t i = 0; i < (cap < size ? cap : size); i++) ASSERT_EQ(bytes[i], (char)(i * 7)) << size;
        for (size_t i = 0; i < size; i++) bytes[i] = (char)(i * 7);
        cap = size;
    }
    large_free(bytes, cap);
    large_free(nullptr, 0);
}

TEST(LargeBytes, WhatCannotBeHadLeavesThemAlone) {
    for (size_t cap : {(size_t)100, (size_t)LARGE_BYTES}) {
        char *bytes = static_cast<char *>(large_resize(nullptr, 0, cap));
        ASSERT_NE(bytes, nullptr);
        bytes[cap - 1] = 'x';
        EXPECT_EQ(large_resize(bytes, cap, SIZE_MAX / 2), nullptr);
        EXPECT_EQ(bytes[cap - 1], 'x');
        large_free(bytes, cap);
    }
}

} // namespace
