// Replays the GGUF fuzz corpus in the ordinary tests: every file, then seeded mutations, 200,000 executions together.
//
// Mutation i depends on the seed and i alone. WTL_FUZZ_SEED sets another seed, WTL_FUZZ_RUNS another count; when a
// sanitizer stops the program, the last line says which execution it was and where its input was written.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
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

extern "C" int fuzz_gguf(const uint8_t *data, size_t bytes);
extern "C" void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

namespace {

using Bytes = std::vector<uint8_t>;

const Bytes *current; // the input being executed, for the death callback
uint64_t current_index, current_seed;

void ReportDeath() {
    std::string path = (std::filesystem::temp_directory_path() / "wattle-fuzz-gguf-crash").string();
    if (FILE *out = fopen(path.c_str(), "wb")) {
        if (current) fwrite(current->data(), 1, current->size(), out);
        fclose(out);
    }
    fprintf(stderr, "execution %llu of seed %llu failed; its input is in %s\n", (unsigned long long)current_index,
            (unsigned long long)current_seed, path.c_str());
}

std::vector<Bytes> ReadCorpus(const std::string &folder) {
    std::vector<std::filesystem::path> paths;
    if (std::filesystem::is_directory(folder))
        for (const auto &entry : std::filesystem::directory_iterator(folder)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end()); // the order of a directory is not the same everywhere
    std::vector<Bytes> corpus;
    for (const auto &path : paths) {
        std::ifstream in(path, std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    return corpus;
}

class Mutator {
  public:
    Mutator(const std::vector<Bytes> &corpus, uint64_t seed) : corpus_(corpus), rng_(seed) {}

    Bytes Next() {
        Bytes b = corpus_[Below(corpus_.size())];
        for (uint64_t n = 1 + Below(4); n > 0; n--) Change(b);
        return b;
    }

  private:
    uint64_t Below(uint64_t n) { return n ? rng_() % n : 0; }

    void Change(Bytes &b) {
        size_t at = Below(b.size());
        switch (Below(8)) {
        case 0: // one bit
            if (!b.empty()) b[at] ^= (uint8_t)(1u << Below(8));
            break;
        case 1: // one byte
            if (!b.empty()) b[at] = (uint8_t)Below(256);
            break;
        case 2: b.resize(at); break; // cut
        case 3: Overwrite(b, at, Interesting(), 8); break;
        case 4: Overwrite(b, at, Interesting(), 4); break;
        case 5: // remove a piece
            b.erase(b.begin() + (long)at, b.begin() + (long)(at + Below(std::min<uint64_t>(b.size() - at, 32) + 1)));
            break;
        case 6: // repeat a piece, perhaps a whole key
            if (b.size() < 8192) {
                Bytes piece(b.begin() + (long)at, b.begin() + (long)(at + Below(std::min<uint64_t>(b.size() - at, 64) + 1)));
                b.insert(b.begin() + (long)Below(b.size() + 1), piece.begin(), piece.end());
            }
            break;
        default: Splice(b, at); break;
        }
    }

    // Sizes and counts near the edges that arithmetic trips over.
    uint64_t Interesting() {
        static const uint64_t values[] = {0,          1,           2,          3,          7,          8,           31,         32,
                                          33,         255,         256,        65535,      65536,      0x7FFFFFFF,  0x80000000, 0xFFFFFFFF,
                                          1ull << 32, 1ull << 40,  1ull << 60, 1ull << 61, 1ull << 62, INT64_MAX,   1ull << 63, UINT64_MAX,
                                          UINT64_MAX - 7, UINT64_MAX - 31};
        uint64_t v = values[Below(std::size(values))];
        return Below(3) ? v : Below(64);
    }

    static void Overwrite(Bytes &b, size_t at, uint64_t value, size_t width) {
        if (b.size() >= at + width) memcpy(b.data() + at, &value, width);
    }

    // The head of one file with the tail of another.
    void Splice(Bytes &b, size_t at) {
        const Bytes &other = corpus_[Below(corpus_.size())];
        size_t from = Below(other.size());
        b.resize(at);
        b.insert(b.end(), other.begin() + (long)from, other.end());
    }

    const std::vector<Bytes> &corpus_;
    std::mt19937_64 rng_;
};

uint64_t EnvNumber(const char *name, uint64_t fallback) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : fallback;
}

// From an exact-size heap block, so that a read beyond the end is seen.
int Execute(const Bytes &input) {
    current = &input;
    std::unique_ptr<uint8_t[]> copy(new uint8_t[input.size()]);
    if (!input.empty()) memcpy(copy.get(), input.data(), input.size());
    int result = fuzz_gguf(copy.get(), input.size());
    current = nullptr;
    return result;
}

TEST(FuzzReplay, Gguf) {
    std::vector<Bytes> corpus = ReadCorpus(WTL_SOURCE_DIR "/tests/fuzz/corpus/gguf");
    ASSERT_GE(corpus.size(), 50u) << "the corpus is missing";
    uint64_t seed = current_seed = EnvNumber("WTL_FUZZ_SEED", 20240607), runs = EnvNumber("WTL_FUZZ_RUNS", 200000), readable = 0;
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(ReportDeath);
    for (current_index = 0; current_index < runs; current_index++) {
        if (current_index < corpus.size()) {
            readable += (uint64_t)Execute(corpus[current_index]);
            continue;
        }
        // Mixed, so that neighbouring executions do not share their random numbers.
        Mutator mutator(corpus, (seed + current_index) * 0x9E3779B97F4A7C15u);
        readable += (uint64_t)Execute(mutator.Next());
    }
    printf("%llu executions (%zu corpus files, seed %llu), %llu of them readable files\n", (unsigned long long)runs, corpus.size(),
           (unsigned long long)seed, (unsigned long long)readable);
    EXPECT_GE(readable, runs / 100) << "mutations that never give a readable file test little";
}

} // namespace
