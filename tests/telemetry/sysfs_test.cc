// Small files under a root: what is a number, why there is none, order of names.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cerrno>
#include <clocale>

#include "tests/telemetry/sysfs_tree.h"

extern "C" {
#include "telemetry/sysfs.h"
}

namespace {

TEST(Sysfs, IntegersAreWholeLinesInRange) {
    sysfs::Tree tree;
    const std::pair<const char *, tel_sysfs> cases[] = {{"42\n", TEL_SYSFS_OK},
                                                        {"42", TEL_SYSFS_OK},
                                                        {"  42 \n", TEL_SYSFS_OK},
                                                        {"18446744073709551615\n", TEL_SYSFS_OK},
                                                        {"18446744073709551616\n", TEL_SYSFS_FORMAT},
                                                        {"-1\n", TEL_SYSFS_FORMAT},
                                                        {"+1\n", TEL_SYSFS_FORMAT},
                                                        {"\n", TEL_SYSFS_FORMAT},
                                                        {"", TEL_SYSFS_FORMAT},
                                                        {"4 2\n", TEL_SYSFS_FORMAT},
                                                        {"42x\n", TEL_SYSFS_FORMAT},
                                                        {"0x42\n", TEL_SYSFS_FORMAT},
                                                        {"<not counted>\n", TEL_SYSFS_FORMAT}};
    for (const auto &[text, expected] : cases) {
        tree.write("n", text);
        uint64_t v = 7;
        EXPECT_EQ(tel_sysfs_u64(tree.path("n").c_str(), &v), expected) << text;
        if (expected) {
            EXPECT_EQ(v, 7u) << text;
        }
    }
    tree.write("n", std::string("42\0\n", 4));
    uint64_t v;
    EXPECT_EQ(tel_sysfs_u64(tree.path("n").c_str(), &v), TEL_SYSFS_FORMAT) << "zero byte";
    tree.write("n", std::string(5000, '1'));
    EXPECT_EQ(tel_sysfs_u64(tree.path("n").c_str(), &v), TEL_SYSFS_FORMAT) << "long line";
}

TEST(Sysfs, SaysWhyThereIsNoValue) {
    sysfs::Tree tree;
    tree.write("dir/file", "1");
    uint64_t v;
    EXPECT_EQ(tel_sysfs_u64(tree.path("none").c_str(), &v), TEL_SYSFS_NOT_FOUND);
    EXPECT_EQ(tel_sysfs_u64(tree.path("dir/file/x").c_str(), &v), TEL_SYSFS_NOT_FOUND);
    EXPECT_EQ(tel_sysfs_u64(tree.path("dir").c_str(), &v), TEL_SYSFS_IO);
    EXPECT_EQ(tel_sysfs_u64("", &v), TEL_SYSFS_IO);
    EXPECT_EQ(tel_sysfs_from_errno(EACCES), TEL_SYSFS_PERMISSION);
    EXPECT_EQ(tel_sysfs_from_errno(EPERM), TEL_SYSFS_PERMISSION);
    EXPECT_EQ(tel_sysfs_from_errno(ENODEV), TEL_SYSFS_NOT_FOUND);
    EXPECT_EQ(tel_sysfs_from_errno(EIO), TEL_SYSFS_IO);
}

TEST(Sysfs, DecimalsAreDecimalInAnyLocale) {
    double v = 0;
    const char *before = setlocale(LC_NUMERIC, nullptr);
    const std::string saved = before ? before : "C";
    setlocale(LC_NUMERIC, "de_DE.UTF-8");
    EXPECT_TRUE(tel_parse_double("2.3283064365386962890625e-10", &v));
    EXPECT_EQ(v, 0x1p-32);
    EXPECT_TRUE(tel_parse_double("-1.5", &v));
    EXPECT_EQ(v, -1.5);
    setlocale(LC_NUMERIC, saved.c_str());
    for (const char *bad : {"", ".", "nan", "inf", "0x1p3", "1e", "1e+", "1,5", " 1", "1 ", "1e999", "--1", "1.2.3"})
        EXPECT_FALSE(tel_parse_double(bad, &v)) << bad;
}

TEST(Sysfs, ListsAreSortedByNumber) {
    sysfs::Tree tree;
    for (const char *name : {"hwmon10", "hwmon2", "hwmon1", "other", "hwmon02", "intel-rapl:1", "intel-rapl:0:1", "intel-rapl:0"})
        tree.write(std::string("d/") + name, "");
    tel_sysfs_names names;
    ASSERT_EQ(tel_sysfs_list(tree.path("d").c_str(), "hwmon", &names), TEL_SYSFS_OK);
    ASSERT_EQ(names.n, 4u);
    EXPECT_STREQ(names.name[0], "hwmon1");
    EXPECT_STREQ(names.name[3], "hwmon10");
    tel_sysfs_names_free(&names);
    ASSERT_EQ(tel_sysfs_list(tree.path("d").c_str(), "intel", &names), TEL_SYSFS_OK);
    ASSERT_EQ(names.n, 3u);
    EXPECT_STREQ(names.name[1], "intel-rapl:0:1");
    tel_sysfs_names_free(&names);
    EXPECT_EQ(tel_sysfs_list(tree.path("nowhere").c_str(), nullptr, &names), TEL_SYSFS_NOT_FOUND);
    EXPECT_EQ(names.n, 0u);
}

TEST(Sysfs, CpuLists) {
    int cpus[8];
    size_t n;
    ASSERT_TRUE(tel_parse_cpus("0-2,8", cpus, 8, &n));
    EXPECT_EQ(std::vector<int>(cpus, cpus + n), (std::vector<int>{0, 1, 2, 8}));
    ASSERT_TRUE(tel_parse_cpus("0-7", cpus, 8, &n));
    EXPECT_EQ(n, 8u);
    for (const char *bad : {"", ",", "1,", "0-8", "3-1", "a", "0-", "-1", "99999999", "0-2,3-9", "1;2"})
        EXPECT_FALSE(tel_parse_cpus(bad, cpus, 8, &n)) << bad;
}

TEST(Sysfs, PathsThatDoNotFitAreEmpty) {
    char path[TEL_SYSFS_PATH];
    EXPECT_TRUE(tel_sysfs_path(path, "%s/x", "a"));
    EXPECT_FALSE(tel_sysfs_path(path, "%s/x", std::string(600, 'a').c_str()));
    EXPECT_STREQ(path, "");
}

TEST(Sysfs, AFifoInPlaceOfAFileDoesNotWait) {
    sysfs::Tree tree;
    ASSERT_EQ(mkfifo(tree.path("fifo").c_str(), 0600), 0);
    uint64_t v;
    EXPECT_NE(tel_sysfs_u64(tree.path("fifo").c_str(), &v), TEL_SYSFS_OK);
}

} // namespace
