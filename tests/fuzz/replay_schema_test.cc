// Replays the fuzz corpus of JSON schemas in the ordinary tests: every file, then seeded mutations of words and pieces.
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

extern "C" int fuzz_schema(const uint8_t *data, size_t bytes);

namespace {

uint64_t EnvNumber(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : fallback;
}

uint64_t current_seed, current_index;

void ReportAbort(int) {
    char line[128];
    int n = snprintf(line, sizeof line, "schema replay: seed %llu, execution %llu failed\n", (unsigned long long)current_seed, (unsigned long long)current_index);
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

// The whole JSON value or word that begins at or before `at`, roughly: mutations that stay JSON test more.
void Change(std::string &text, const std::vector<std::string> &corpus, std::mt19937_64 &rng) {
    static const char *const values[] = {"true", "false", "null", "0", "1", "-1", "2.5", "1e15", "\"a\"", "\"\"", "\"string\"", "\"integer\"", "\"object\"", "\"array\"", "\"number\"", "{}", "[]",
                                         "{\"$ref\":\"#\"}", "{\"type\":\"string\"}", "{\"const\":1}", "{\"minLength\":2}", "[\"a\"]", "[{}]", "\"^(a|b)*c?$\"", "\"[^x]{2,3}\""};
    static const char *const keys[] = {"type", "properties", "required", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "additionalProperties", "pattern",
                                       "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems", "nullable", "a", "b"};
    const size_t end = std::min(text.find('\n'), text.size()), at = end ? rng() % end : 0;
    switch (rng() % 6) {
    case 0:
        if (!text.empty()) text[rng() % text.size()] = (char)rng();
        break;
    case 1: { // another key behind a brace
        const size_t brace = text.find('{', at);
        if (brace < end) text.insert(brace + 1, std::string("\"") + keys[rng() % std::size(keys)] + "\":" + values[rng() % std::size(values)] + (text[brace + 1] == '}' ? "" : ","));
        break;
    }
    case 2: { // another value behind a colon
        const size_t colon = text.find(':', at), stop = text.find_first_of(",}]", colon);
        if (colon < end && stop < end) text.replace(colon + 1, stop - colon - 1, values[rng() % std::size(values)]);
        break;
    }
    case 3: { // another schema as a value
        const std::string &other = corpus[rng() % corpus.size()];
        const size_t colon = text.find(':', at), stop = text.find_first_of(",}]", colon);
        if (colon < end && stop < end) text.replace(colon + 1, stop - colon - 1, other.substr(0, other.find('\n')));
        break;
    }
    case 4: { // a key renamed
        const size_t quote = text.find("\":", at), begin = quote < end ? text.rfind('"', quote - 1) : std::string::npos;
        if (quote < end && begin != std::string::npos) text.replace(begin + 1, quote - begin - 1, keys[rng() % std::size(keys)]);
        break;
    }
    default: text += (char)rng();
    }
}

TEST(FuzzReplay, Schema) {
    std::vector<std::string> corpus = ReadCorpus(WTL_SOURCE_DIR "/tests/fuzz/corpus/schema");
    ASSERT_GE(corpus.size(), 60u) << "the corpus is missing";
    uint64_t seed = current_seed = EnvNumber("WTL_FUZZ_SEED", 20240607), runs = EnvNumber("WTL_FUZZ_RUNS", 10000), compiled = 0, completed = 0;
    void (*before)(int) = signal(SIGABRT, ReportAbort);
    for (current_index = 0; current_index < runs; current_index++) {
        std::mt19937_64 rng((seed + current_index) * 0x9E3779B97F4A7C15u); // each execution depends on the seed and its number alone
        std::string text = corpus[current_index % corpus.size()];
        if (current_index >= corpus.size())
            for (uint64_t n = 1 + rng() % 4; n > 0; n--) Change(text, corpus, rng);
        std::unique_ptr<uint8_t[]> copy(new uint8_t[text.size()]); // exact size: a read beyond the end is seen
        if (!text.empty()) memcpy(copy.get(), text.data(), text.size());
        int result = fuzz_schema(copy.get(), text.size());
        compiled += result >= 1;
        completed += result == 2;
    }
    signal(SIGABRT, before);
    printf("%llu executions (%zu corpus files, seed %llu), %llu schemas compiled, %llu documents completed\n", (unsigned long long)runs, corpus.size(), (unsigned long long)seed,
           (unsigned long long)compiled, (unsigned long long)completed);
    EXPECT_GE(compiled, runs / 10) << "mutations that never compile test little";
    EXPECT_GE(completed, runs / 50);
}

} // namespace
