// Replays the fuzz corpus of recordings in the ordinary tests: every file, then seeded mutations of bytes, fields and lines.
// WTL_FUZZ_SEED sets another seed, WTL_FUZZ_RUNS another count; a failure aborts and the last line printed says which execution it was.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

extern "C" int fuzz_replay(const uint8_t *data, size_t bytes);

namespace {

uint64_t EnvNumber(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : fallback;
}

uint64_t current_seed, current_index;

void ReportAbort(int) {
    char line[128];
    int n = snprintf(line, sizeof line, "recording replay: seed %llu, execution %llu failed\n", (unsigned long long)current_seed, (unsigned long long)current_index);
    if (n > 0) fwrite(line, 1, (size_t)n, stderr);
    signal(SIGABRT, SIG_DFL);
    abort();
}

std::vector<std::string> ReadCorpus(const std::string &folder) {
    std::vector<std::filesystem::path> paths;
    if (std::filesystem::is_directory(folder))
        for (const auto &entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<std::string> corpus;
    for (const auto &path : paths) {
        std::ifstream in(path, std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    return corpus;
}

// Most random bytes make a file unreadable at once, so most changes put one legal field in the place of another.
void Change(std::string &text, std::mt19937_64 &rng) {
    static const char *const fields[] = {"0", "1", "-1", "0.001", "!read", "!vanished", "!suspend", "!late", "18446744073709551615", "262143328850", "4294967295",
                                         "100000000000000", "-100000000000000", "", "350000", "1e9", "x"};
    size_t at = text.empty() ? 0 : rng() % text.size();
    switch (rng() % 6) {
    case 0:
        if (!text.empty()) text[at] = (char)rng();
        break;
    case 1: text.resize(at); break;
    case 2: { // a line again
        size_t begin = text.rfind('\n', at), end = text.find('\n', at);
        if (begin != std::string::npos && end != std::string::npos && end > begin) text.insert(end, text.substr(begin, end - begin));
        break;
    }
    case 3: { // a line less
        size_t begin = text.rfind('\n', at), end = text.find('\n', at);
        if (begin != std::string::npos && end != std::string::npos && end > begin) text.erase(begin, end - begin);
        break;
    }
    case 4: // a digit
        at = text.find_first_of("0123456789", at);
        if (at != std::string::npos) text[at] = (char)('0' + rng() % 10);
        break;
    default: { // a field
        size_t begin = text.find_first_of(",=", at);
        if (begin == std::string::npos) break;
        size_t end = text.find_first_of(", \n", begin + 1);
        if (end != std::string::npos) text.replace(begin + 1, end - begin - 1, fields[rng() % (sizeof fields / sizeof *fields)]);
    }
    }
}

TEST(FuzzReplay, Recording) {
    std::vector<std::string> corpus = ReadCorpus(WTL_SOURCE_DIR "/tests/fuzz/corpus/replay");
    ASSERT_GE(corpus.size(), 15u) << "the corpus is missing";
    uint64_t seed = current_seed = EnvNumber("WTL_FUZZ_SEED", 20240607), runs = EnvNumber("WTL_FUZZ_RUNS", 10000), played = 0;
    void (*before)(int) = signal(SIGABRT, ReportAbort);
    for (current_index = 0; current_index < runs; current_index++) {
        std::mt19937_64 rng((seed + current_index) * 0x9E3779B97F4A7C15u); // each execution depends on the seed and its number alone
        std::string text = corpus[current_index % corpus.size()];
        if (current_index >= corpus.size())
            for (uint64_t n = 1 + rng() % 3; n > 0; n--) Change(text, rng);
        std::unique_ptr<uint8_t[]> copy(new uint8_t[text.size()]); // exact size: a read beyond the end is seen
        if (!text.empty()) memcpy(copy.get(), text.data(), text.size());
        played += (uint64_t)fuzz_replay(copy.get(), text.size());
    }
    signal(SIGABRT, before);
    printf("%llu executions (%zu corpus files, seed %llu), %llu played back\n", (unsigned long long)runs, corpus.size(), (unsigned long long)seed,
           (unsigned long long)played);
    EXPECT_GE(played, runs / 10) << "mutations that are never played back test little";
}

} // namespace
