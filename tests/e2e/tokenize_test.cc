// `wattle tokenize` as a person uses it, over vocabulary-only files made here.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/e2e/run_binary.h"
#include "tests/support/tiny_vocab.h"

namespace {

class Tokenize : public testing::Test {
  protected:
    std::string path(const GgufWriter &w, const std::string &name) {
        std::vector<uint8_t> bytes = w.build();
        return dir_.write(name, std::string(bytes.begin(), bytes.end()));
    }
    std::string bpe() { return path(TinyBpe().writer("gpt2", "gpt-2"), "bpe.gguf"); }
    std::string spm() { return path(TinySpm().writer("llama", ""), "spm.gguf"); }
    TempDir dir_;
};

std::string Id(int32_t id) { return std::to_string(id); }

TEST_F(Tokenize, PrintsIds) {
    TinyVocab v = TinyBpe();
    RunResult r = run_wattle({"tokenize", "-m", bpe(), "-p", "hello w"});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, Id(v.find("hello")) + " " + Id(v.find(ByteLevel(" w"))) + "\n");
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe()}, with_input("hello w")).out, r.out);
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe(), "-f", dir_.write("text", "hello w")}).out, r.out);
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe()}, with_input("")).out, "\n");
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe()}, with_input(std::string("\0a", 2))).out, "0 97\n");
}

TEST_F(Tokenize, SpecialTokens) {
    TinyVocab v = TinySpm();
    std::string hello = Id(v.find("\xE2\x96\x81hello"));
    EXPECT_EQ(run_wattle({"tokenize", "-m", spm(), "-p", "hello</s>"}).out, "1 " + hello + " 2\n");
    RunResult plain = run_wattle({"tokenize", "-m", spm(), "-p", "hello</s>", "--no-special"});
    EXPECT_EQ(plain.out.rfind(hello + " ", 0), 0u) << plain.out;
    EXPECT_GT(plain.out.size(), hello.size() + 8);
}

TEST_F(Tokenize, PiecesAreQuoted) {
    RunResult r = run_wattle({"tokenize", "-m", bpe(), "-p", "a\"\n\xC3\xA9\xE4\xB8\xAD\\<|im_end|>", "--pieces"});
    TinyVocab v = TinyBpe();
    EXPECT_EQ(r.out, "97\t\"a\"\n34\t\"\\\"\"\n10\t\"\\n\"\n" + Id(v.find(ByteLevel("\xC3\xA9"))) +
                         "\t\"\xC3\xA9\"\n228\t\"\\xE4\"\n184\t\"\\xB8\"\n173\t\"\\xAD\"\n92\t\"\\\\\"\n" + Id(v.find("<|im_end|>")) + "\t\"<|im_end|>\"\n");
}

TEST_F(Tokenize, Json) {
    RunResult r = run_wattle({"tokenize", "-m", bpe(), "-p", "a\xE4\xB8\xAD", "--json", "--pieces"});
    EXPECT_EQ(r.out, "{\"n\":4,\"ids\":[97,228,184,173],\"pieces\":[\"a\",[228],[184],[173]]}\n");
    Json plain(run_wattle({"tokenize", "-m", bpe(), "-p", "ab", "--json"}).out);
    EXPECT_EQ(plain.integers("ids"), (std::vector<int64_t>{97, 98}));
    EXPECT_EQ(plain.number("n"), 2);
}

TEST_F(Tokenize, Refusals) {
    expect_sentence(run_wattle({"tokenize", "-m", bpe()}, with_input("ab\xFF")), 1, {"standard input", "byte 2"});
    expect_sentence(run_wattle({"tokenize", "-m", dir_.path("none.gguf"), "-p", "x"}), 1, {"none.gguf"});
    expect_sentence(run_wattle({"tokenize", "-m", dir_.write("empty.gguf", ""), "-p", "x"}), 1, {"empty.gguf"});
    expect_sentence(run_wattle({"tokenize", "-m", path(GgufWriter().str("general.architecture", "llama"), "a.gguf"), "-p", "x"}), 1, {"a.gguf", "tokenizer.ggml.model"});
    expect_sentence(run_wattle({"tokenize", "-m", path(TinyBpe().writer("gpt2", "new"), "b.gguf"), "-p", "x"}), 1, {"\"new\"", "known are", "gpt-2"});
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe(), "-p", "x"}, with_full_output()).code, 1);
    EXPECT_EQ(run_wattle({"tokenize", "-m", bpe(), "-p", "x", "extra"}).code, 2);
}

} // namespace
