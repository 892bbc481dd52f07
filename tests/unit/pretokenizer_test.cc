// Pre-tokenizer patterns: against pieces cut by another regular-expression engine, and against texts made to be slow.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <jansson.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "models/tokenizer_impl.h"
#include "runtime/base/clock.h"

namespace {

using Pieces = std::vector<std::string>;

struct Pre {
    explicit Pre(const std::string &name, bool jit = true) {
        const pretokenizer_spec *spec = pretokenizer_find({name.data(), name.size()});
        if (spec && pretokenizer_open(spec, jit, &pre, &err) == WTL_OK) pretokenizer_scan_open(pre, &scan, &err);
    }
    ~Pre() {
        pretokenizer_scan_close(&scan);
        pretokenizer_close(&pre);
    }
    static wtl_status Sink(void *user, const char *piece, size_t len) {
        static_cast<Pieces *>(user)->emplace_back(piece, len);
        return WTL_OK;
    }
    static wtl_status Count(void *user, const char *, size_t len) {
        *static_cast<size_t *>(user) += len;
        return WTL_OK;
    }
    Pieces run(const std::string &text) {
        std::vector<char> exact(text.begin(), text.end()); // ASan sees a read behind the end
        Pieces out;
        EXPECT_EQ(pretokenizer_run(scan, exact.data(), exact.size(), Sink, &out, &err), WTL_OK) << err.message;
        return out;
    }
    pretokenizer *pre = nullptr;
    pretokenizer_scan *scan = nullptr;
    wtl_error err = {};
};

std::vector<std::string> Names() {
    std::string all(8192, '\0');
    all.resize(pretokenizer_names(false, &all[0], all.size()));
    std::vector<std::string> names;
    for (size_t at = 0, end; at < all.size(); at = end + 2) {
        end = std::min(all.find(", ", at), all.size());
        names.push_back(all.substr(at, end - at));
    }
    return names;
}

TEST(Pretokenizer, CutsAsTheReference) {
    json_error_t error;
    json_t *cases = json_load_file(WTL_FIXTURES "/pretokenizer_cases.json", 0, &error);
    ASSERT_NE(cases, nullptr) << error.text;
    const char *name;
    json_t *list;
    size_t n = 0;
    json_object_foreach(cases, name, list) {
        Pre jit(name), plain(name, false);
        ASSERT_NE(jit.scan, nullptr) << name << ": " << jit.err.message;
        size_t i;
        json_t *item;
        json_array_foreach(list, i, item) {
            Pieces want;
            std::string text;
            size_t k;
            json_t *piece;
            json_array_foreach(item, k, piece) {
                want.emplace_back(json_string_value(piece), json_string_length(piece));
                text += want.back();
            }
            EXPECT_EQ(jit.run(text), want) << name << " case " << i;
            EXPECT_EQ(plain.run(text), want) << name << " case " << i << " without the JIT";
            n++;
        }
    }
    json_decref(cases);
    EXPECT_GT(n, 400u);
}

TEST(Pretokenizer, EveryNameOpens) {
    std::vector<std::string> names = Names();
    EXPECT_GT(names.size(), 40u);
    for (const char *known : {"gpt-2", "smollm", "starcoder", "refact", "llama-bpe", "llama3", "llama-v3", "qwen2", "qwen35", "deepseek-llm", "deepseek-coder",
                              "deepseek-v3", "falcon", "mpt", "olmo", "dbrx", "smaug-bpe", "tekken", "gpt-4o", "o200k", "llama4", "default", "bloom", "poro-chat",
                              "gpt3-finnish", "viking", "exaone", "jais", "chatglm-bpe", "command-r"})
        EXPECT_NE(std::find(names.begin(), names.end(), known), names.end()) << known;
    for (const auto &name : names) {
        Pre pre(name);
        ASSERT_NE(pre.scan, nullptr) << name << ": " << pre.err.message;
        std::string joined;
        for (const auto &piece : pre.run("It's 12345 caf\xC3\xA9s\r\n\r\n  x!")) joined += piece;
        EXPECT_EQ(joined, "It's 12345 caf\xC3\xA9s\r\n\r\n  x!") << name;
    }
    EXPECT_EQ(pretokenizer_find({"gpt", 3}), nullptr);
    EXPECT_EQ(pretokenizer_find({"", 0}), nullptr);
}

std::string Repeat(const std::string &s, size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += s;
    return out;
}

// Quadratic work on texts of this length would take minutes. No text may be lost either.
TEST(Pretokenizer, StaysLinear) {
    const size_t size = 1 << 17;
    std::vector<std::string> texts;
    for (const char *s : {"a", "A", " ", "\n", "\t", "7", "!", "'", "'s", "aA", "a ", " \n", "\r\n ", "1a", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x99\x82",
                          "\xCC\x81", "\xE3\x80\x80", "A\xCC\x81", " '", "\xC7\x85", "\xD9\xA3", "/", "\x01"}) {
        texts.push_back(Repeat(s, size));
        texts.push_back(Repeat(s, size) + "x");
        texts.push_back("(" + Repeat(s, size) + "\n");
    }
    std::set<std::string> seen; // many names share their patterns
    for (const auto &name : Names()) {
        Pre pre(name);
        ASSERT_NE(pre.scan, nullptr);
        std::string patterns;
        for (const char *p : pretokenizer_of(pre.pre)->patterns) patterns += p ? p : "";
        if (!seen.insert(patterns).second) continue;
        uint64_t start = wtl_clock_ns();
        for (const auto &text : texts) {
            size_t covered = 0;
            ASSERT_EQ(pretokenizer_run(pre.scan, text.data(), text.size(), Pre::Count, &covered, &pre.err), WTL_OK);
            ASSERT_EQ(covered, text.size()) << name;
        }
        EXPECT_LT(wtl_clock_ns() - start, 60'000'000'000u) << name;
    }
}

} // namespace
