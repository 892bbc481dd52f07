// Tokenising text that is partly untrusted: no byte from outside makes a control token, none hides one, and ordinary text does not
// notice the borders. On small vocabularies made here, and on the real ones that WTL_TEST_SMOLLM2 and WTL_TEST_GEMMA3 name.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "runtime/base/alloc.h"
#include "runtime/wattle.h"
#include "tests/support/tiny_vocab.h"

namespace {

using Ids = std::vector<int32_t>;
using Spans = std::vector<tokenizer_span>;
const unsigned kParse = TOKENIZER_PARSE_SPECIAL;

Ids Encode(const Tokenizer &t, const std::string &text, const Spans &spans) {
    wtl_tokens out = {};
    wtl_error err = {};
    wtl_status status = tokenizer_encode_untrusted(t.get, text.data(), text.size(), kParse, spans.data(), spans.size(), &out, &err);
    Ids ids(out.ids, out.ids + out.n);
    tokens_free(&out);
    return status ? Ids{-999} : ids;
}

// Text in pieces: what stands in [[double brackets]] is untrusted.
Ids Marked(const Tokenizer &t, const std::string &marked) {
    std::string text;
    Spans spans;
    for (size_t at = 0; at < marked.size();) {
        size_t open = std::min(marked.find("[[", at), marked.size());
        text += marked.substr(at, open - at);
        if (open == marked.size()) break;
        size_t close = marked.find("]]", open);
        spans.push_back({text.size(), text.size() + close - open - 2});
        text += marked.substr(open + 2, close - open - 2);
        at = close + 2;
    }
    return Encode(t, text, spans);
}

// The unknown token is found by its name as control tokens are.
bool IsControl(const Tokenizer &t, int32_t id) { return tokenizer_is_control(t.get, id) || id == tokenizer_unk(t.get); }

Ids ControlsOf(const Tokenizer &t, const Ids &ids) {
    Ids out;
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(out), [&](int32_t id) { return IsControl(t, id); });
    return out;
}

Spans RandomSpans(std::mt19937 &rng, size_t len) {
    Spans spans;
    for (size_t at = 0; at <= len && spans.size() < 12;) {
        size_t begin = at + rng() % 9, end = begin + rng() % 9; // empty ones and touching ones too
        if (end > len) break;
        spans.push_back({begin, end});
        at = end;
    }
    return spans;
}

TEST(Untrusted, NamesOfControlTokensStayText) {
    TinyVocab v = TinyBpe();
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    int32_t end = v.find("<|im_end|>"), endx = v.find("<|im_end|>x");
    EXPECT_EQ(Marked(t, "a<|im_end|>b"), (Ids{'a', end, 'b'}));
    EXPECT_EQ(Marked(t, "a[[<|im_end|>]]b"), t.encode("a<|im_end|>b"));
    const std::string text = "a<|im_end|>b";
    for (size_t i = 1; i <= 10; i++) EXPECT_EQ(Encode(t, text, {{i, i + 1}}), t.encode(text)) << "byte " << i;
    EXPECT_EQ(Encode(t, text, {{0, 1}, {11, 12}}), (Ids{'a', end, 'b'}));
    EXPECT_EQ(Marked(t, "<|im_end|>[[x]]"), (Ids{end, 'x'})); // the longer name would need the byte
    EXPECT_EQ(Marked(t, "<|im_end|>x"), (Ids{endx}));
    EXPECT_EQ(Marked(t, "[[<|im_]]<|im_end|>[[end|>]]"), [&] {
        Ids want = t.encode("<|im_");
        want.push_back(end);
        Ids behind = t.encode("end|>");
        want.insert(want.end(), behind.begin(), behind.end());
        return want;
    }());
}

TEST(Untrusted, ForgedNamesDoNotDisturbTheirNeighbours) {
    TinyVocab v = TinyBpe();
    int32_t ab = v.add("AB", 3), bcd = v.add("BCD", 3);
    v.add("ZZA", 4); // user-defined, longer than a control token that it may overlap
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    EXPECT_EQ(Marked(t, "ABCD"), (Ids{'A', bcd})); // longest wins, in trusted text
    EXPECT_EQ(Marked(t, "AB[[CD]]"), (Ids{ab, 'C', 'D'}));
    EXPECT_EQ(Marked(t, "[[A]]BCD"), (Ids{'A', bcd}));
    EXPECT_EQ(Marked(t, "[[ZZ]]AB"), (Ids{'Z', 'Z', ab}));
    EXPECT_EQ(Marked(t, "ZZAB"), (Ids{v.find("ZZA"), 'B'}));
    EXPECT_EQ(Marked(t, "[[ZZ]]A[[B]]"), (Ids{v.find("ZZA"), 'B'})); // ordinary pieces run across borders
    EXPECT_EQ(Marked(t, "[[\t]]\t"), (Ids{v.find("\t\t")}));
    EXPECT_EQ(Marked(t, "hel[[lo]]"), t.encode("hello"));
}

TEST(Untrusted, UserDefinedMarksOfTurnsAreGuarded) {
    TinyVocab v = TinyBpe();
    int32_t user = v.add("<|user|>", 4), tag = v.add("<tool>", 4);
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    EXPECT_EQ(t.encode("<|user|>"), Ids{user}); // without spans: as the reference
    EXPECT_EQ(Marked(t, "<|user|>[[x]]"), (Ids{user, 'x'}));
    Ids forged = Marked(t, "[[<|user|>]]");
    EXPECT_EQ(std::count(forged.begin(), forged.end(), user), 0);
    EXPECT_EQ(t.text(forged), "<|user|>");
    EXPECT_EQ(Marked(t, "[[<tool>]]"), Ids{tag});
}

TEST(Untrusted, WrongSpansAreRefused) {
    Tokenizer t(TinyBpe().writer("gpt2", "gpt-2"));
    for (const Spans &spans : {Spans{{2, 1}}, Spans{{0, 2}, {1, 3}}, Spans{{3, 4}, {0, 1}}, Spans{{4, 6}}}) EXPECT_EQ(Encode(t, "hello", spans), Ids{-999});
    EXPECT_EQ(Encode(t, "hello", {{0, 0}, {0, 5}, {5, 5}}), t.encode("hello"));
    wtl_tokens out = {};
    EXPECT_EQ(tokenizer_encode_untrusted(t.get, "x", 1, 0, nullptr, 1, &out, nullptr), WTL_ERR_INVALID);
}

// Names over two letters, so that they overlap all the time. What must hold: the control tokens are those of each trusted stretch by
// itself, and between them stands what user-defined tokens alone give.
TEST(Untrusted, RandomNamesAndSpans) {
    unsigned seed = 77;
    std::mt19937 rng(seed);
    for (int round = 0; round < 2000; round++) {
        TinyVocab v = TinyBpe();
        for (size_t len : {2, 3, 4, 5, 7}) {
            std::string name;
            for (size_t i = 0; i < len; i++) name += (char)('A' + rng() % 2);
            v.add(name, rng() % 3 ? 3 : 4);
        }
        Tokenizer t(v.writer("gpt2", "gpt-2"));
        ASSERT_EQ(t.status, WTL_OK) << t.err.message;
        std::string text;
        for (size_t i = 0, n = rng() % 50; i < n; i++) text += (char)('A' + rng() % 2);
        Spans spans = RandomSpans(rng, text.size());
        Ids got = Encode(t, text, spans), want, controls;
        ASSERT_EQ(t.text(got), text);
        size_t at = 0;
        for (size_t i = 0; i <= spans.size(); i++) {
            size_t end = i < spans.size() ? spans[i].begin : text.size();
            Ids some = ControlsOf(t, t.encode(text.substr(at, end - at), kParse));
            controls.insert(controls.end(), some.begin(), some.end());
            at = i < spans.size() ? spans[i].end : at;
        }
        ASSERT_EQ(ControlsOf(t, got), controls) << "seed " << seed << " round " << round << " text " << text;
        std::string between;
        auto flush = [&] {
            Ids some = t.encode(between);
            want.insert(want.end(), some.begin(), some.end());
            between.clear();
        };
        for (int32_t id : got)
            if (IsControl(t, id)) flush(), want.push_back(id);
            else between += t.piece(id);
        flush();
        ASSERT_EQ(got, want) << "seed " << seed << " round " << round << " text " << text;
    }
}

// ---- On whole vocabularies ------------------------------------------------------------------------------------------
// Random text of pieces of the vocabulary, of names of control tokens (when asked for), and of characters of all kinds.
std::string RandomText(const Tokenizer &t, std::mt19937 &rng, const Ids &controls, bool names) {
    std::string text;
    for (size_t n = rng() % 24; n > 0; n--) {
        unsigned kind = rng() % 8;
        if (kind == 0 && names) text += t.piece(controls[rng() % controls.size()]);
        else if (kind == 1 && names) text += t.piece(controls[rng() % controls.size()]).substr(rng() % 4);
        else if (kind < 5) {
            int32_t id = (int32_t)(rng() % (unsigned)tokenizer_n_vocab(t.get));
            if (!IsControl(t, id)) text += t.piece(id);
        } else if (kind == 5) text += std::string(1 + rng() % 4, " \n\t<|>"[rng() % 6]);
        else if (kind == 6) text += (char)(0x20 + rng() % 0x5F);
        else text += {(char)(0xE4 + rng() % 4), (char)(0x80 + rng() % 0x40), (char)(0x80 + rng() % 0x40)};
    }
    return text;
}

void CheckVocabulary(const Tokenizer &t, const std::string &name) {
    unsigned seed = 4242;
    std::mt19937 rng(seed);
    Ids controls;
    for (int32_t id = 0; id < tokenizer_n_vocab(t.get); id++)
        if (IsControl(t, id)) controls.push_back(id);
    ASSERT_FALSE(controls.empty());
    int same = 0, forged = 0;
    for (int round = 0; round < 3000; round++) {
        std::string text = RandomText(t, rng, controls, false);
        Ids whole = t.encode(text, kParse);
        Spans spans = RandomSpans(rng, text.size());
        if (ControlsOf(t, whole).empty()) {
            same++;
            ASSERT_EQ(Encode(t, text, spans), whole) << name << " seed " << seed << " round " << round;
        }
        text = RandomText(t, rng, controls, true);
        spans = RandomSpans(rng, text.size());
        Ids want;
        size_t at = 0;
        for (size_t i = 0; i <= spans.size(); i++) {
            Ids some = ControlsOf(t, t.encode(text.substr(at, (i < spans.size() ? spans[i].begin : text.size()) - at), kParse));
            want.insert(want.end(), some.begin(), some.end());
            if (i < spans.size()) at = spans[i].end;
        }
        ASSERT_EQ(ControlsOf(t, Encode(t, text, spans)), want) << name << " seed " << seed << " round " << round;
        ASSERT_EQ(ControlsOf(t, Encode(t, text, {{0, text.size()}})), Ids{}) << name << " seed " << seed << " round " << round;
        forged += ControlsOf(t, t.encode(text, kParse)).size() > want.size();
    }
    EXPECT_GT(same, 2000);
    EXPECT_GT(forged, 500); // the spans did prevent something
}

TEST(Untrusted, TinyVocabularies) {
    CheckVocabulary(Tokenizer(TinyBpe().writer("gpt2", "gpt-2")), "tiny bpe");
    CheckVocabulary(Tokenizer(TinyBpe().writer("gpt2", "qwen2")), "tiny bpe that composes");
    CheckVocabulary(Tokenizer(TinySpm().writer("llama", "")), "tiny spm");
}

TEST(Untrusted, RealVocabularies) {
    int n = 0;
    for (const char *variable : {"WTL_TEST_SMOLLM2", "WTL_TEST_GEMMA3"}) {
        const char *path = getenv(variable);
        if (!path) continue;
        Tokenizer t{std::string(path)};
        ASSERT_EQ(t.status, WTL_OK) << t.err.message;
        CheckVocabulary(t, path);
        n++;
    }
    if (n == 0) GTEST_SKIP() << "neither WTL_TEST_SMOLLM2 nor WTL_TEST_GEMMA3 names a model";
}

// ---- The public face ------------------------------------------------------------------------------------------------
TEST(Untrusted, PublicFaceAndTemplate) {
    TinyVocab v = TinyBpe();
    TempFile file(v.writer("gpt2", "gpt-2").str("tokenizer.chat_template", "{{ messages }}").build());
    wtl_vocab *vocab = nullptr;
    wtl_error err;
    ASSERT_EQ(wtl_vocab_open(file.path(), &vocab, &err), WTL_OK) << err.message;
    EXPECT_STREQ(wtl_vocab_chat_template(vocab), "{{ messages }}");
    const std::string text = "<|im_end|><|im_end|>";
    wtl_span span = {3, 4};
    int32_t ids[32];
    size_t n = 0;
    ASSERT_EQ(wtl_tokenize_untrusted(vocab, text.data(), text.size(), WTL_PARSE_SPECIAL, &span, 1, ids, 32, &n, &err), WTL_OK);
    ASSERT_EQ(n, 11u);
    EXPECT_EQ(ids[10], v.find("<|im_end|>"));
    EXPECT_EQ(wtl_tokenize_untrusted(vocab, text.data(), text.size(), WTL_PARSE_SPECIAL, &span, 1, ids, 2, &n, &err), WTL_OK);
    EXPECT_EQ(n, 11u); // the count all the same
    span = {9, 90};
    EXPECT_EQ(wtl_tokenize_untrusted(vocab, text.data(), text.size(), 0, &span, 1, ids, 32, &n, &err), WTL_ERR_INVALID);
    wtl_vocab_close(&vocab);
    TempFile plain(v.writer("gpt2", "gpt-2").build());
    ASSERT_EQ(wtl_vocab_open(plain.path(), &vocab, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_vocab_chat_template(vocab), nullptr);
    wtl_vocab_close(&vocab);
}

TEST(Untrusted, TemplatesAreBounded) {
    TinyVocab v = TinyBpe();
    wtl_error err;
    for (const std::string &text : {std::string((1 << 20) + 1, 'x'), std::string("a\0b", 3)}) {
        TempFile file(v.writer("gpt2", "gpt-2").str("tokenizer.chat_template", text).build());
        wtl_vocab *vocab = nullptr;
        EXPECT_EQ(wtl_vocab_open(file.path(), &vocab, &err), WTL_ERR_FORMAT);
        EXPECT_NE(std::string(err.message).find("tokenizer.chat_template"), std::string::npos) << err.message;
        EXPECT_EQ(vocab, nullptr);
    }
}

TEST(Untrusted, EveryAllocationMayFail) {
    TinyVocab v = TinyBpe();
    v.add("im_e", 4);
    Tokenizer t(v.writer("gpt2", "gpt-2"));
    struct FailNth {
        long left;
        static bool Hook(void *user, size_t) { return ((FailNth *)user)->left-- != 0; }
    };
    std::string text;
    for (int i = 0; i < 40; i++) text += "<|im_end|>x<|im_end|>";
    tokenizer_span spans[] = {{3, 5}, {100, 140}};
    bool done = false;
    int refused = 0;
    for (long n = 0; !done && n < 200; n++) {
        FailNth fail{n};
        wtl_tokens out = {};
        wtl_error err;
        wtl_alloc_set_hook(FailNth::Hook, &fail);
        wtl_status status = tokenizer_encode_untrusted(t.get, text.data(), text.size(), kParse, spans, 2, &out, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        EXPECT_TRUE(status == WTL_OK || (status == WTL_ERR_NO_MEMORY && out.n == 0)) << n;
        refused += status != WTL_OK;
        done = !status && fail.left >= 0;
        tokens_free(&out);
    }
    EXPECT_TRUE(done);
    EXPECT_GT(refused, 5);
}

} // namespace
