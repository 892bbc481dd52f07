// Replays the tokenizer's fuzz entry in the ordinary tests: 50,000 seeded texts made of awkward parts.
// WTL_FUZZ_SEED sets another seed, WTL_FUZZ_RUNS another count; a failure aborts and the last line printed says where.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

extern "C" int fuzz_tokenizer(const uint8_t *data, size_t bytes);

namespace {

uint64_t EnvNumber(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : fallback;
}

uint64_t current_seed, current_index;

void ReportAbort(int) {
    char line[128];
    int n = snprintf(line, sizeof line, "tokenizer replay: seed %llu, execution %llu failed\n", (unsigned long long)current_seed, (unsigned long long)current_index);
    if (n > 0) fwrite(line, 1, (size_t)n, stderr);
    signal(SIGABRT, SIG_DFL);
    abort();
}

std::string Text(std::mt19937_64 &rng) {
    static const char *const parts[] = {"a", "b", "ab", "the", " the", "x", "xy", " ", "  ", "\t", "\n", "\r\n", "1", "11", "'s", "'", "<s>", "<sa>", "a<s", "<", "<|end|>", "!",
                                        "\xC3\xA9", "\xC3", "\xA9", "\xE4\xB8\xAD", "\xE4\xB8", "\xE2\x96\x81", "\xE2\x96", "\xF0\x9F\x99\x82", "\xF0\x9F", "\xED\xA0\x80", "\xFF",
                                        "\xCC\x81", "\xE3\x80\x80", "\xC2\x85", "\xE1\xA0\x8E", "A", "\xC7\x85"};
    std::string out(1, (char)rng());
    for (size_t n = rng() % 24; n > 0; n--) {
        if (rng() % 8 == 0) out += (char)rng();
        else if (rng() % 32 == 0) out.append(rng() % 90, "a 1"[rng() % 3]);
        else if (rng() % 16 == 0) out += std::string(1, '\0');
        else out += parts[rng() % (sizeof parts / sizeof *parts)];
    }
    return out;
}

TEST(FuzzReplay, Tokenizer) {
    uint64_t seed = current_seed = EnvNumber("WTL_FUZZ_SEED", 20240607), runs = EnvNumber("WTL_FUZZ_RUNS", 50000), tokens = 0;
    void (*before)(int) = signal(SIGABRT, ReportAbort);
    for (current_index = 0; current_index < runs; current_index++) {
        std::mt19937_64 rng((seed + current_index) * 0x9E3779B97F4A7C15u); // each execution depends on the seed and its number alone
        std::string text = Text(rng);
        std::unique_ptr<uint8_t[]> copy(new uint8_t[text.size()]); // exact size: a read beyond the end is seen
        memcpy(copy.get(), text.data(), text.size());
        tokens += (uint64_t)fuzz_tokenizer(copy.get(), text.size());
    }
    signal(SIGABRT, before);
    printf("%llu executions (seed %llu), %llu tokens\n", (unsigned long long)runs, (unsigned long long)seed, (unsigned long long)tokens);
    EXPECT_GT(tokens, runs);
}

} // namespace
