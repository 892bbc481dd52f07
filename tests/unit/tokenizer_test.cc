// The tokenizer over small vocabularies made here: merging, special tokens, defaults, refusals, failing allocations.
// SPDX-License-Identifier: Apache-2.0
#include "models/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "tests/support/tiny_vocab.h"

namespace {

using Ids = std::vector<int32_t>;
const unsigned kAdd = TOKENIZER_ADD_SPECIAL, kParse = TOKENIZER_PARSE_SPECIAL;

int32_t IdOf(const TinyVocab &v, const std::string &bytes) { return v.find(ByteLevel(bytes)); }

// ---- Byte-level BPE ---------------------------------------------------------------------------------------------
TEST(Bpe, MergesByRank) {
    TinyVocab v = TinyBpe();
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    ASSERT_EQ(t.status, WTL_OK) << t.err.message;
    EXPECT_EQ(t.encode("hello"), Ids{IdOf(v, "hello")});
    EXPECT_EQ(t.encode("hello world"), (Ids{IdOf(v, "hello"), IdOf(v, " wor"), IdOf(v, "ld")}));
    EXPECT_EQ(t.encode("aaaaaaa"), (Ids{IdOf(v, "aaaa"), IdOf(v, "aa"), 'a'}));
    EXPECT_EQ(t.encode("h\xC3\xA9"), (Ids{'h', IdOf(v, "\xC3\xA9")}));
    EXPECT_EQ(t.encode("it's"), (Ids{'i', 't', IdOf(v, "'s")}));
    EXPECT_EQ(t.encode(""), Ids{});
    EXPECT_EQ(t.encode(std::string("\0", 1)), Ids{0});
}

// The list that short pieces scan and the heap of long ones must agree.
TEST(Bpe, LongPiecesMergeAsShortOnes) {
    TinyVocab v = TinyBpe();
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    for (size_t n : {47, 48, 49, 50, 51, 200, 4097}) {
        Ids want(n / 4, IdOf(v, "aaaa"));
        if (n % 4 >= 2) want.push_back(IdOf(v, "aa"));
        if (n % 2) want.push_back('a');
        EXPECT_EQ(t.encode(std::string(n, 'a')), want) << n;
    }
    std::string text;
    Ids want;
    for (int i = 0; i < 100; i++) {
        text += "hellold";
        want.insert(want.end(), {IdOf(v, "hello"), IdOf(v, "ld")});
    }
    EXPECT_EQ(t.encode(text), want);
}

TEST(Bpe, MergesThroughStringsTheVocabularyLacks) {
    TinyVocab v = TinyBpe();
    v.merges.insert(v.merges.begin(), {"x y", "xy z"}); // "xy" and "xyz" are no tokens
    int32_t xyzw = v.add("xyzw");
    v.merges.push_back("xyz w");
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    ASSERT_EQ(t.status, WTL_OK) << t.err.message;
    EXPECT_EQ(t.encode("xyzw"), Ids{xyzw});
    EXPECT_EQ(t.encode("xyz"), (Ids{'x', 'y', 'z'}));
}

TEST(Bpe, TakesWholeWordsWhereTheModelDoes) {
    TinyVocab v = TinyBpe();
    int32_t word = v.add("qqq"); // no merge leads there
    EXPECT_EQ(Tokenizer(v.writer("gpt2", "llama-bpe")).encode("qqq"), Ids{word});
    EXPECT_EQ(Tokenizer(v.writer("gpt2", "gpt-2")).encode("qqq"), (Ids{'q', 'q', 'q'}));
}

TEST(Bpe, TokenisesInvalidUtf8ByteByByte) {
    Tokenizer t(TinyBpe().writer("gpt2", "gpt-2"));
    EXPECT_EQ(t.encode("\xFF\x80h"), (Ids{0xFF, 0x80, 'h'}));
    EXPECT_EQ(t.encode("\xC3h\xED\xA0\x80"), (Ids{0xC3, 'h', 0xED, 0xA0, 0x80})); // cut off, and a surrogate
    EXPECT_EQ(t.encode("\xC3\xA9\xC3"), (Ids{t.encode("\xC3\xA9")[0], 0xC3}));
}

TEST(Bpe, DropsBytesTheVocabularyLacks) {
    TinyVocab v = TinyBpe();
    v.tokens[3] = "three";
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    ASSERT_EQ(t.status, WTL_OK);
    EXPECT_EQ(t.encode("a\3b"), (Ids{'a', 'b'}));
}

TEST(Bpe, ComposesWhereTheModelDoes) {
    TinyVocab v = TinyBpe();
    Ids composed{IdOf(v, "\xC3\xA9")};
    EXPECT_EQ(Tokenizer(v.writer("gpt2", "qwen2")).encode("e\xCC\x81"), composed);
    EXPECT_EQ(Tokenizer(v.writer("gpt2", "gpt-2")).encode("e\xCC\x81"), (Ids{'e', 0xCC, 0x81}));
    // A run of marks that would take quadratic time to order stays as it is.
    std::string marks;
    for (int i = 0; i < 50000; i++) marks += "\xCC\x81\xCC\xA7";
    uint64_t start = wtl_clock_ns();
    Tokenizer qwen(v.writer("gpt2", "qwen2"));
    EXPECT_EQ(qwen.text(qwen.encode(marks)), marks);
    EXPECT_LT(wtl_clock_ns() - start, 20'000'000'000u);
}

// ---- SentencePiece-style ----------------------------------------------------------------------------------------
TEST(Spm, MergesTheBestScoreFirst) {
    TinyVocab v = TinySpm();
    Tokenizer t(v.writer("llama", "").boolean("tokenizer.ggml.add_space_prefix", 0));
    ASSERT_EQ(t.status, WTL_OK) << t.err.message;
    EXPECT_EQ(t.encode("abc"), Ids{v.find("abc")});           // bc first, then a + bc
    EXPECT_EQ(t.encode("aba"), (Ids{v.find("ab"), v.find("a")}));
    EXPECT_EQ(t.encode("aaa"), (Ids{v.find("aa"), v.find("a")})); // leftmost on ties
    EXPECT_EQ(t.encode("hello hello"), (Ids{v.find("hello"), v.find("\xE2\x96\x81hello")}));
    EXPECT_EQ(t.encode("h\xE2\x96\x81h"), t.encode("h h"));
    EXPECT_EQ(t.encode("z\n"), (Ids{v.find("<0x7A>"), v.find("<0x0A>")}));
    EXPECT_EQ(t.encode("\xE4\xB8\xAD"), (Ids{v.find("<0xE4>"), v.find("<0xB8>"), v.find("<0xAD>")}));
    EXPECT_EQ(t.encode("a\xFF\xC3" "b"), (Ids{v.find("a"), v.find("<0xFF>"), v.find("<0xC3>"), v.find("b")}));
}

TEST(Spm, LongPiecesMergeAsShortOnes) {
    TinyVocab v = TinySpm();
    Tokenizer t(v.writer("llama", "").boolean("tokenizer.ggml.add_space_prefix", 0));
    for (size_t n : {47, 48, 49, 50, 51, 200, 4099}) {
        Ids want(n / 4, v.find("aaaa"));
        if (n % 4 >= 2) want.push_back(v.find("aa"));
        if (n % 2) want.push_back(v.find("a"));
        EXPECT_EQ(t.encode(std::string(n, 'a')), want) << n;
    }
}

TEST(Spm, PutsASpaceInFrontAndBehindSpecialTokens) {
    TinyVocab v = TinySpm();
    Tokenizer t(v.writer("llama", ""));
    int32_t hello = v.find("\xE2\x96\x81hello"), s = v.find("<s>"), tag = v.find("<tag>");
    EXPECT_EQ(t.encode("hello"), Ids{hello});
    EXPECT_EQ(t.encode(""), Ids{});
    EXPECT_EQ(t.encode("hello", kAdd), (Ids{s, hello}));
    EXPECT_EQ(t.encode("hello<s>hello", kParse), (Ids{hello, s, hello}));
    EXPECT_EQ(t.encode("hello<tag>hello"), (Ids{hello, tag, hello}));
    EXPECT_EQ(t.encode(" hello"), (Ids{v.find("\xE2\x96\x81\xE2\x96\x81"), v.find("hello")}));
}

TEST(Spm, UsesTheUnknownTokenWithoutByteTokens) {
    TinyVocab v = TinySpm();
    for (auto &type : v.types)
        if (type == 6) type = 3;
    Tokenizer t(v.writer("llama", "").boolean("tokenizer.ggml.add_space_prefix", 0));
    EXPECT_EQ(t.encode("a\xE4\xB8\xAD"), (Ids{v.find("a"), 0}));
}

TEST(Spm, SurvivesScoresThatAreNoNumbers) {
    TinyVocab v = TinySpm();
    for (size_t i = 260; i < v.scores.size(); i++) v.scores[i] = i % 2 ? NAN : INFINITY;
    Tokenizer t(v.writer("llama", ""));
    EXPECT_EQ(t.text(t.encode("aaaabcabchello")), " aaaabcabchello");
}

// ---- Special tokens ---------------------------------------------------------------------------------------------
TEST(Special, ControlTokensOnlyWhenAskedFor) {
    TinyVocab v = TinyBpe();
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    int32_t end = v.find("<|im_end|>");
    EXPECT_EQ(t.encode("a<|im_end|>b", kParse), (Ids{'a', end, 'b'}));
    Ids plain = t.encode("a<|im_end|>b");
    EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
    EXPECT_EQ(t.text(plain), "a<|im_end|>b");
    EXPECT_EQ(t.encode("a\t\tb"), (Ids{'a', v.find("\t\t"), 'b'})); // user-defined: always
}

TEST(Special, PlainTextNeverBecomesAControlToken) {
    TinyVocab v = TinyBpe();
    int32_t control = v.add("zz", 3);
    v.merges.push_back("z z");
    Tokenizer bpe(v.writer("gpt2", "llama-bpe"));
    EXPECT_EQ(bpe.encode("zz"), (Ids{'z', 'z'}));
    EXPECT_EQ(bpe.encode("zz", kParse), Ids{control});
    TinyVocab s = TinySpm();
    s.add("ac", 3, 5);
    Tokenizer spm(s.writer("llama", "").boolean("tokenizer.ggml.add_space_prefix", 0));
    EXPECT_EQ(spm.encode("ac"), (Ids{s.find("a"), s.find("c")}));
}

TEST(Special, LongestWinsWhereverItStands) {
    TinyVocab v = TinyBpe();
    int32_t abc = v.add("ABC", 3), cdef = v.add("CDEF", 3), de = v.add("DE", 3);
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    EXPECT_EQ(t.encode("ABCDEF", kParse), (Ids{'A', 'B', cdef}));
    EXPECT_EQ(t.encode("ABCDE", kParse), (Ids{abc, de}));
    EXPECT_EQ(t.encode("<|im_end|>x<|im_end|>", kParse), (Ids{v.find("<|im_end|>x"), v.find("<|im_end|>")}));
    EXPECT_EQ(t.encode("\t\t\t\t\t"), (Ids{v.find("\t\t\t"), v.find("\t\t")}));
}

// The reference partition, word for word: each token in order of length over what is still text.
Ids SlowPartition(const std::vector<std::string> &names, const std::string &text) {
    std::vector<int> taken(text.size(), -1);
    std::vector<size_t> order(names.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return names[a].size() > names[b].size(); });
    for (size_t k : order)
        for (size_t at = 0; at + names[k].size() <= text.size(); at++) {
            bool fits = text.compare(at, names[k].size(), names[k]) == 0;
            for (size_t i = 0; fits && i < names[k].size(); i++) fits = taken[at + i] < 0;
            for (size_t i = 0; fits && i < names[k].size(); i++) taken[at + i] = i == 0 ? (int)k : 1000;
        }
    Ids out;
    for (size_t i = 0; i < text.size(); i++)
        if (taken[i] < 0) out.push_back(-1);
        else if (taken[i] < 1000) out.push_back(taken[i]);
    return out;
}

TEST(Special, PartitionsAsTheReference) {
    unsigned seed = 20240607;
    std::mt19937 rng(seed);
    for (int round = 0; round < 300; round++) {
        TinyVocab v = TinyBpe();
        std::vector<std::string> names;
        int32_t first = (int32_t)v.tokens.size();
        for (size_t len : {1, 2, 3, 4, 5, 7}) { // one of each length: the order of equals is nowhere defined
            std::string name;
            for (size_t i = 0; i < len; i++) name += (char)('A' + rng() % 2);
            names.push_back(name);
            v.add(name, 4);
        }
        names.erase(names.begin()); // a single letter would take all
        v.types[first] = 1;
        v.tokens[first] = "unreachable";
        first++;
        Tokenizer t(v.writer("gpt2", "gpt-2"));
        ASSERT_EQ(t.status, WTL_OK) << t.err.message;
        std::string text;
        for (size_t i = 0, n = rng() % 40; i < n; i++) text += (char)('A' + rng() % 2);
        Ids got;
        for (int32_t id : t.encode(text)) {
            if (id >= first) got.push_back(id - first);
            else got.insert(got.end(), t.piece(id).size(), -1);
        }
        ASSERT_EQ(got, SlowPartition(names, text)) << "seed " << seed << " round " << round << " text " << text;
    }
}

// ---- Facts ------------------------------------------------------------------------------------------------------
TEST(Facts, DefaultsFollowTheModel) {
    Tokenizer bpe(TinyBpe().writer("gpt2", "gpt-2")), llama3(TinyBpe().writer("gpt2", "llama-bpe").u32("tokenizer.ggml.bos_token_id", 7)),
        spm(TinySpm().writer("llama", ""));
    EXPECT_FALSE(tokenizer_adds_bos(bpe.get));
    EXPECT_EQ(tokenizer_bos(bpe.get), -1);
    EXPECT_TRUE(tokenizer_adds_bos(llama3.get));
    EXPECT_EQ(llama3.encode("h", kAdd), (Ids{7, 'h'}));
    EXPECT_TRUE(tokenizer_adds_bos(spm.get));
    EXPECT_FALSE(tokenizer_adds_eos(spm.get));
    EXPECT_EQ(tokenizer_bos(spm.get), 1);
    EXPECT_EQ(tokenizer_eos(spm.get), 2);
    EXPECT_STREQ(tokenizer_model_name(spm.get), "llama");
    EXPECT_STREQ(tokenizer_pre_name(spm.get), "");
    EXPECT_STREQ(tokenizer_pre_name(llama3.get), "llama-bpe");
    EXPECT_STREQ(tokenizer_pre_name(Tokenizer(TinyBpe().writer("gpt2", "")).get), "default");
    Tokenizer both(TinySpm().writer("llama", "").boolean("tokenizer.ggml.add_bos_token", 0).boolean("tokenizer.ggml.add_eos_token", 1));
    EXPECT_EQ(both.encode("", kAdd), Ids{2});
}

TEST(Facts, EndsAndPieces) {
    TinyVocab v = TinyBpe();
    int32_t normal = v.add("<|end|>"), eot = v.add("<e>", 3);
    Tokenizer t(v.writer("gpt2", "gpt-2").u32("tokenizer.ggml.eos_token_id", 5).i32("tokenizer.ggml.eot_token_id", eot));
    EXPECT_TRUE(tokenizer_is_end(t.get, 5));
    EXPECT_TRUE(tokenizer_is_end(t.get, eot));
    EXPECT_TRUE(tokenizer_is_end(t.get, v.find("<|im_end|>")));
    EXPECT_FALSE(tokenizer_is_end(t.get, normal)); // not a control token
    for (int32_t id : {-1, (int32_t)v.tokens.size(), INT32_MAX, INT32_MIN}) {
        EXPECT_FALSE(tokenizer_is_end(t.get, id));
        EXPECT_FALSE(tokenizer_is_control(t.get, id));
        EXPECT_EQ(t.piece(id), "");
        EXPECT_EQ(tokenizer_token_text(t.get, id).len, 0u);
    }
    EXPECT_EQ(t.piece(v.find("<|im_end|>"), false), "");
    EXPECT_EQ(t.piece(v.find("<|im_end|>"), true), "<|im_end|>");
    EXPECT_EQ(t.piece(' '), " ");
    gguf_str spelled = tokenizer_token_text(t.get, ' ');
    EXPECT_EQ(std::string(spelled.s, spelled.len), "\xC4\xA0");
    Tokenizer spm(TinySpm().writer("llama", ""));
    EXPECT_EQ(spm.piece(3 + 10), "\n");
    EXPECT_EQ(spm.piece(TinySpm().find("\xE2\x96\x81hello")), " hello");
}

// Harmony-like dialects: <|end|> closes a message, not the reply.
TEST(Facts, EndOfMessageIsNotEndOfReplyWhereBothExist) {
    TinyVocab v = TinyBpe();
    int32_t end = v.add("<|end|>", 3);
    EXPECT_TRUE(tokenizer_is_end(Tokenizer(v.writer("gpt2", "gpt-4o")).get, end));
    v.add("<|return|>", 3);
    v.add("<|call|>", 3);
    EXPECT_FALSE(tokenizer_is_end(Tokenizer(v.writer("gpt2", "gpt-4o")).get, end));
}

// ---- Refusals ---------------------------------------------------------------------------------------------------
void ExpectRefusal(const GgufWriter &w, wtl_status status, const char *words) {
    Tokenizer t(w);
    EXPECT_EQ(t.status, status) << words;
    EXPECT_EQ(t.get, nullptr);
    EXPECT_NE(std::string(t.err.message).find(words), std::string::npos) << t.err.message;
}

TEST(Refusals, NameTheKey) {
    TinyVocab b = TinyBpe(), s = TinySpm();
    ExpectRefusal(GgufWriter().str("general.architecture", "llama"), WTL_ERR_FORMAT, "tokenizer.ggml.model");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "bert"), WTL_ERR_UNSUPPORTED, "\"bert\"; known are gpt2, llama");
    ExpectRefusal(b.writer("gpt2", "no-such"), WTL_ERR_UNSUPPORTED, "\"no-such\"; known are default, gpt-2");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "llama"), WTL_ERR_FORMAT, "tokenizer.ggml.tokens is missing");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "llama").strs("tokenizer.ggml.tokens", {}), WTL_ERR_FORMAT, "tokenizer.ggml.tokens");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "llama").u32("tokenizer.ggml.tokens", 3), WTL_ERR_FORMAT, "tokenizer.ggml.tokens");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "llama").strs("tokenizer.ggml.tokens", {"a"}), WTL_ERR_FORMAT, "tokenizer.ggml.scores");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "gpt2").strs("tokenizer.ggml.tokens", {"a"}), WTL_ERR_FORMAT, "tokenizer.ggml.merges");
    ExpectRefusal(GgufWriter().str("tokenizer.ggml.model", "gpt2").strs("tokenizer.ggml.tokens", {"a"}).u32("tokenizer.ggml.merges", 1), WTL_ERR_FORMAT, "tokenizer.ggml.merges");
    ExpectRefusal(GgufWriter().u32("tokenizer.ggml.model", 1), WTL_ERR_FORMAT, "tokenizer.ggml.model");
    ExpectRefusal(s.writer("llama", "").u32("tokenizer.ggml.bos_token_id", (uint32_t)s.tokens.size()), WTL_ERR_FORMAT, "tokenizer.ggml.bos_token_id");
    ExpectRefusal(s.writer("llama", "").i32("tokenizer.ggml.eos_token_id", -7), WTL_ERR_FORMAT, "tokenizer.ggml.eos_token_id");
    ExpectRefusal(s.writer("llama", "").str("tokenizer.ggml.add_bos_token", "yes"), WTL_ERR_FORMAT, "tokenizer.ggml.add_bos_token");
    s.types.pop_back();
    ExpectRefusal(s.writer("llama", ""), WTL_ERR_FORMAT, "tokenizer.ggml.token_type");
}

TEST(Refusals, OddVocabulariesOpen) {
    TinyVocab v = TinyBpe();
    v.merges.insert(v.merges.begin(), {"", " ", "a", "a ", " a", "a b c", "\xFF \xFE", "\xE4\xB8\xAD x", "a a"});
    v.add("");
    v.add("a", 1);          // a second one of the same
    v.add("\xE4\xB8\xAD");  // outside the alphabet
    v.add("odd", 77);
    Tokenizer t(v.writer("gpt2", "gpt-2").u32("tokenizer.ggml.eos_token_id", UINT32_MAX));
    ASSERT_EQ(t.status, WTL_OK) << t.err.message;
    EXPECT_EQ(tokenizer_eos(t.get), -1);
    EXPECT_EQ(t.text(t.encode("abc a")), "abc a");
    EXPECT_EQ(t.piece(v.find("\xE4\xB8\xAD")), "\xE4\xB8\xAD");
}

TEST(Refusals, BadArguments) {
    Tokenizer t(TinyBpe().writer("gpt2", "gpt-2"));
    wtl_tokens out = {};
    wtl_error err;
    EXPECT_EQ(tokenizer_encode(t.get, nullptr, 1, 0, &out, &err), WTL_ERR_INVALID);
    EXPECT_EQ(tokenizer_encode(t.get, nullptr, 0, 0, &out, &err), WTL_OK);
    EXPECT_EQ(tokenizer_encode(t.get, "x", (size_t)INT32_MAX + 1, 0, &out, &err), WTL_ERR_LIMIT);
    EXPECT_EQ(out.n, 0u);
    tokenizer_close(nullptr);
    tokens_free(nullptr);
}

// ---- Allocation failure -----------------------------------------------------------------------------------------
struct FailNth {
    long left;
    static bool Hook(void *user, size_t) { return ((FailNth *)user)->left-- != 0; }
};

void FailEveryAllocation(const GgufWriter &w, const std::string &text) {
    std::vector<uint8_t> bytes = w.build();
    gguf_file *file = nullptr;
    wtl_error err;
    ASSERT_EQ(gguf_open_memory(bytes.data(), bytes.size(), "memory.gguf", &file, &err), WTL_OK);
    bool opened = false, done = false;
    int refused = 0;
    for (long n = 0; !done && n < 5000; n++) {
        FailNth fail{n};
        wtl_alloc_set_hook(FailNth::Hook, &fail);
        wtl_tokenizer *t = reinterpret_cast<wtl_tokenizer *>(1);
        wtl_tokens out = {};
        wtl_status status = tokenizer_open(file, &t, &err);
        opened = !status;
        if (status) {
            EXPECT_EQ(t, nullptr);
            EXPECT_EQ(status, WTL_ERR_NO_MEMORY) << n << ": " << err.message;
        } else {
            status = tokenizer_encode(t, text.data(), text.size(), kAdd | kParse, &out, &err);
            EXPECT_TRUE(status == WTL_OK || (status == WTL_ERR_NO_MEMORY && out.n == 0)) << n << ": " << err.message;
        }
        wtl_alloc_set_hook(nullptr, nullptr);
        refused += status != WTL_OK;
        done = opened && !status && fail.left >= 0; // nothing was refused any more
        tokens_free(&out);
        tokenizer_close(&t);
    }
    EXPECT_TRUE(done);
    EXPECT_GT(refused, 10);
    gguf_close(&file);
}

TEST(AllocationFailure, Bpe) {
    TinyVocab v = TinyBpe();
    v.merges.push_back("x y");
    FailEveryAllocation(v.writer("gpt2", "qwen2"),
                        "hello<|im_end|>x e\xCC\x81 \t\t\t\t \xFF 123 " + std::string(100, 'a') + std::string(300, ' '));
}
TEST(AllocationFailure, Spm) {
    FailEveryAllocation(TinySpm().writer("llama", ""), "hello <s><tag> \xE4\xB8\xAD\xFF" + std::string(200, 'a'));
}

// ---- UTF-8 stream -----------------------------------------------------------------------------------------------
std::string Stream(const std::string &in, size_t step, bool finish = true) {
    wtl_utf8_stream s = {};
    std::string out;
    std::vector<char> buf(3 * (in.size() + 4));
    for (size_t i = 0; i < in.size(); i += step) {
        size_t n = std::min(step, in.size() - i);
        out.append(buf.data(), utf8_stream_push(&s, in.data() + i, n, buf.data(), 3 * (n + 4)));
    }
    if (finish) out.append(buf.data(), utf8_stream_finish(&s, buf.data(), buf.size()));
    return out;
}

TEST(Utf8Stream, NeverSplitsACharacter) {
    std::string text = "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\xA6\x99z";
    for (size_t step = 1; step <= text.size(); step++) EXPECT_EQ(Stream(text, step), text);
    EXPECT_EQ(Stream(text.substr(0, 8), 1, false), text.substr(0, 6));
}

TEST(Utf8Stream, ReplacesMaximalSubparts) {
    const std::string r = "\xEF\xBF\xBD";
    // The example of Unicode 15, table 3-8.
    std::string in = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
    std::string want = "a" + r + r + r + "b" + r + "c" + r + r + "d";
    for (size_t step = 1; step <= in.size(); step++) EXPECT_EQ(Stream(in, step), want) << step;
    EXPECT_EQ(Stream("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 1), r + r + r + r + r + r + r + r + "A"); // table 3-9
    EXPECT_EQ(Stream("\xED\xA0\x80\xF4\x91\x92\x93\xFF\x41", 2), r + r + r + r + r + r + r + r + "A"); // table 3-10
    EXPECT_EQ(Stream("\xE4\xB8", 1), r);
    EXPECT_EQ(Stream("\xE4\xB8", 1, false), "");
}

TEST(Utf8Stream, DoesNotDependOnTheCuts) {
    unsigned seed = 99;
    std::mt19937 rng(seed);
    const unsigned char parts[] = {0x41, 0x80, 0xBF, 0xC2, 0xE0, 0xA0, 0xED, 0xF0, 0x90, 0xF4, 0x8F, 0xFF};
    for (int i = 0; i < 20000; i++) {
        std::string in;
        for (size_t n = rng() % 12; n > 0; n--) in += (char)parts[rng() % sizeof parts];
        std::string whole = Stream(in, in.size() + 1);
        ASSERT_EQ(Stream(in, 1), whole) << "seed " << seed << " round " << i;
        ASSERT_EQ(Stream(in, 3), whole) << "seed " << seed << " round " << i;
        ASSERT_EQ(Stream(whole, 2), whole);
    }
}

} // namespace
