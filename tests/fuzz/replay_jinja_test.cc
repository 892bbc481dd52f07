// Replays the fuzz corpus of templates in the ordinary tests: every file, then seeded mutations of bytes, words and pieces.
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

extern "C" int fuzz_jinja(const uint8_t *data, size_t bytes);

namespace {

uint64_t EnvNumber(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : fallback;
}

uint64_t current_seed, current_index;

void ReportAbort(int) {
    char line[128];
    int n = snprintf(line, sizeof line, "template replay: seed %llu, execution %llu failed\n", (unsigned long long)current_seed, (unsigned long long)current_index);
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

// Mostly one word in the place of another: random bytes seldom give a template that compiles.
void Change(std::string &text, const std::vector<std::string> &corpus, std::mt19937_64 &rng) {
    static const char *const words[] = {"s", "n", "big", "f", "b", "z", "l", "d", "messages", "foo", "loop", "1", "0", "-1", "9223372036854775807", "1e308", "'a'", "''", "[]", "{}", "()",
                                        "+", "-", "*", "**", "//", "%", "~", "|", ".", "[", "]", "(", ")", ":", ",", "in", "not", "is", "if", "else", "and", "==", "<", "{{", "}}", "{%", "%}", "{#",
                                        "#}", "-%}", "{%-", "upper", "list", "join", "tojson", "sort", "reverse", "replace", "map", "format", "split", "center", "slice", "batch", "round", "range", "items"};
    auto word_at = [&](size_t at, size_t *begin, size_t *end) {
        *begin = *end = at;
        while (*begin > 0 && isalnum((unsigned char)text[*begin - 1])) --*begin;
        while (*end < text.size() && isalnum((unsigned char)text[*end])) ++*end;
        if (*begin == *end && *end < text.size()) ++*end;
    };
    size_t at = text.empty() ? 0 : rng() % text.size(), begin, end;
    word_at(at, &begin, &end);
    switch (rng() % 7) {
    case 0:
        if (!text.empty()) text[at] = (char)rng();
        break;
    case 1: text.erase(begin, end - begin); break;
    case 2: text.insert(begin, text.substr(begin, end - begin)); break;
    case 3: { // a piece of another template
        const std::string &other = corpus[rng() % corpus.size()];
        size_t from = other.empty() ? 0 : rng() % other.size();
        text.insert(at, other.substr(from, rng() % 40));
        break;
    }
    case 4: text.insert(begin, words[rng() % std::size(words)]); break;
    default: text.replace(begin, end - begin, words[rng() % std::size(words)]);
    }
}

TEST(FuzzReplay, Jinja) {
    std::vector<std::string> corpus = ReadCorpus(WTL_SOURCE_DIR "/tests/fuzz/corpus/jinja");
    ASSERT_GE(corpus.size(), 60u) << "the corpus is missing";
    uint64_t seed = current_seed = EnvNumber("WTL_FUZZ_SEED", 20240607), runs = EnvNumber("WTL_FUZZ_RUNS", 50000), compiled = 0, rendered = 0;
    void (*before)(int) = signal(SIGABRT, ReportAbort);
    for (current_index = 0; current_index < runs; current_index++) {
        std::mt19937_64 rng((seed + current_index) * 0x9E3779B97F4A7C15u); // each execution depends on the seed and its number alone
        std::string text = corpus[current_index % corpus.size()];
        if (current_index >= corpus.size())
            for (uint64_t n = 1 + rng() % 3; n > 0; n--) Change(text, corpus, rng);
        std::unique_ptr<uint8_t[]> copy(new uint8_t[text.size()]); // exact size: a read beyond the end is seen
        if (!text.empty()) memcpy(copy.get(), text.data(), text.size());
        int result = fuzz_jinja(copy.get(), text.size());
        compiled += result >= 1;
        rendered += result == 2;
    }
    signal(SIGABRT, before);
    printf("%llu executions (%zu corpus files, seed %llu), %llu compiled, %llu rendered\n", (unsigned long long)runs, corpus.size(), (unsigned long long)seed,
           (unsigned long long)compiled, (unsigned long long)rendered);
    EXPECT_GE(rendered, runs / 10) << "mutations that never render test little";
}

} // namespace
