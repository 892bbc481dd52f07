// Damaged and unsupported model files: one sentence that names file and place, a non-zero exit code.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_model.h"

namespace {

RunResult run_model(const std::string &path) { return run_wattle({"run", "-m", path, "-p", "hello", "-n", "4"}); }

std::string bytes_of(const TinyModel &model) { return read_whole(model.path()); }

TEST(BadModel, MissingEmptyOrNoFile) {
    TempDir dir;
    expect_sentence(run_model(dir.path("absent.gguf")), 1, {"absent.gguf"});
    expect_sentence(run_model(dir.write("empty.gguf", "")), 1, {"empty.gguf"});
    expect_sentence(run_model(dir.path()), 1, {dir.path()});
    expect_sentence(run_model("/dev/null"), 1, {"/dev/null"});
}

TEST(BadModel, WrongMagicAndVersion) {
    TempDir dir;
    TinyModel model({});
    std::string bytes = bytes_of(model);
    bytes[0] = 'X';
    expect_sentence(run_model(dir.write("magic.gguf", bytes)), 1, {"magic.gguf", "GGUF"});
    bytes[0] = 'G';
    bytes[4] = 77;
    expect_sentence(run_model(dir.write("version.gguf", bytes)), 1, {"version.gguf", "77"});
    expect_sentence(run_model(dir.write("text.gguf", std::string(5000, 'a'))), 1, {"text.gguf"});
}

TEST(BadModel, TruncatedAnywhere) {
    TempDir dir;
    TinyModel model({});
    std::string bytes = bytes_of(model);
    for (size_t keep : {size_t(5), size_t(23), size_t(24), size_t(100), size_t(4000), bytes.size() / 2, bytes.size() - 1})
        expect_sentence(run_model(dir.write("cut.gguf", bytes.substr(0, keep))), 1, {"cut.gguf"});
}

TEST(BadModel, HugeCounts) {
    TempDir dir;
    TinyModel model({});
    std::string bytes = bytes_of(model);
    for (size_t at : {size_t(8), size_t(16)}) { // tensor count, key count
        for (uint64_t count : {UINT64_MAX, UINT64_C(1) << 62, UINT64_C(0x7fffffff)}) {
            std::string bad = bytes;
            memcpy(bad.data() + at, &count, sizeof count);
            expect_sentence(run_model(dir.write("huge.gguf", bad)), 1, {"huge.gguf"});
        }
    }
}

TEST(BadModel, UnknownArchitectureIsNamedWithTheKnownOnes) {
    TinyOptions o;
    o.arch = "mamba9";
    expect_sentence(run_model(TinyModel(o).path()), 1, {"mamba9", "llama", "gemma3"});
}

TEST(BadModel, UnsupportedOrUnknownTensorType) {
    TempDir dir;
    TinyModel model({});
    const std::string bytes = bytes_of(model), name = "token_embd.weight";
    const size_t type_at = bytes.find(name) + name.size() + sizeof(uint32_t) + 2 * sizeof(uint64_t); // behind two dimensions
    for (uint32_t type : {16u, 4u, 200u}) { // IQ2_XXS: known but not run; 4: removed from the format; 200: none
        std::string bad = bytes;
        memcpy(bad.data() + type_at, &type, sizeof type);
        expect_sentence(run_model(dir.write("type.gguf", bad)), 1, {"type.gguf", name, type == 16 ? "IQ2_XXS" : std::to_string(type)});
    }
}

TEST(BadModel, KeyOfTheWrongType) {
    GgufWriter w;
    w.u32("general.architecture", 7);
    TempFile file(w.build());
    expect_sentence(run_model(file.path()), 1, {"general.architecture"});
}

} // namespace
