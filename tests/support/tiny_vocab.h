// Two small vocabularies in GGUF form, for tests that need no file: byte-level BPE and SentencePiece-style.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_TINY_VOCAB_H
#define WTL_TESTS_TINY_VOCAB_H

#include <memory>
#include <string>
#include <vector>

#include "models/tokenizer.h"
#include "tests/support/gguf_writer.h"

// A byte as byte-level vocabularies write it, by the rule that defines the alphabet: printable Latin-1 as itself, the
// other 68 bytes in order from U+0100.
inline std::string ByteLevel(const std::string &bytes) {
    std::string out;
    for (unsigned char c : bytes) {
        auto own = [](unsigned b) { return (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD); };
        unsigned code = c;
        if (!own(c)) {
            code = 256;
            for (unsigned b = 0; b < c; b++) code += !own(b);
        }
        if (code < 0x80) out += (char)code;
        else out += {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 0x3F))};
    }
    return out;
}

struct TinyVocab {
    std::vector<std::string> tokens;
    std::vector<int32_t> types;
    std::vector<float> scores;
    std::vector<std::string> merges;

    int32_t add(const std::string &token, int32_t type = 1, float score = 0) {
        tokens.push_back(token);
        types.push_back(type);
        scores.push_back(score);
        return (int32_t)tokens.size() - 1;
    }
    int32_t find(const std::string &token) const {
        for (size_t i = 0; i < tokens.size(); i++)
            if (tokens[i] == token) return (int32_t)i;
        return -1;
    }
    // A merge of two byte strings and the token it makes.
    void merge(const std::string &left, const std::string &right) {
        merges.push_back(ByteLevel(left) + " " + ByteLevel(right));
        if (find(ByteLevel(left + right)) < 0) add(ByteLevel(left + right));
    }
    GgufWriter writer(const std::string &model, const std::string &pre) const {
        GgufWriter w;
        w.str("general.architecture", "llama").str("tokenizer.ggml.model", model);
        if (!pre.empty()) w.str("tokenizer.ggml.pre", pre);
        w.strs("tokenizer.ggml.tokens", tokens).array("tokenizer.ggml.token_type", GGUF_I32, types);
        if (model == "llama") w.array("tokenizer.ggml.scores", GGUF_F32, scores);
        else w.strs("tokenizer.ggml.merges", merges);
        return w;
    }
};

// Ids 0..255 are the bytes; then merges; then <|end|> (control), <|endx|> (control), "\t\t" (user-defined).
inline TinyVocab TinyBpe() {
    TinyVocab v;
    for (int b = 0; b < 256; b++) v.add(ByteLevel(std::string(1, (char)b)));
    const char *pairs[][2] = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}, {"o", "r"}, {" w", "or"},
                              {"l", "d"}, {"a", "a"}, {"aa", "aa"}, {"\xC3", "\xA9"}, {" ", " "}, {"  ", "  "}, {"'", "s"}};
    for (auto &p : pairs) v.merge(p[0], p[1]);
    v.add("<|im_end|>", 3);
    v.add("<|im_end|>x", 3);
    v.add("\t\t", 4);
    v.add("\t\t\t", 4);
    return v;
}

// <unk>, <s>, </s>, 256 bytes, then characters and words with scores.
inline TinyVocab TinySpm() {
    TinyVocab v;
    v.add("<unk>", 2);
    v.add("<s>", 3);
    v.add("</s>", 3);
    char name[8];
    for (int b = 0; b < 256; b++) {
        snprintf(name, sizeof name, "<0x%02X>", b);
        v.add(name, 6);
    }
    for (const char *c : {"\xE2\x96\x81", "a", "b", "c", "e", "h", "l", "o", "\xC3\xA9"}) v.add(c, 1, -100);
    v.add("ab", 1, -2);
    v.add("bc", 1, -1);
    v.add("abc", 1, -3);
    v.add("aa", 1, -5);
    v.add("aaaa", 1, -6);
    v.add("he", 1, -7);
    v.add("ll", 1, -7);
    v.add("hell", 1, -8);
    v.add("hello", 1, -9);
    v.add("\xE2\x96\x81hello", 1, -10);
    v.add("\xE2\x96\x81\xE2\x96\x81", 1, -4);
    v.add("<tag>", 4);
    return v;
}

// A tokenizer over a file in memory that is closed again at once: nothing may be borrowed from it.
class Tokenizer {
  public:
    explicit Tokenizer(const GgufWriter &w) : Tokenizer(w.build()) {}
    explicit Tokenizer(std::vector<uint8_t> bytes) {
        gguf_file *file = nullptr;
        status = gguf_open_memory(bytes.data(), bytes.size(), "memory.gguf", &file, &err);
        if (!status) status = tokenizer_open(file, &get, &err);
        gguf_close(&file);
    }
    explicit Tokenizer(const std::string &path) {
        gguf_file *file = nullptr;
        status = gguf_open(path.c_str(), &file, &err);
        if (!status) status = tokenizer_open(file, &get, &err);
        gguf_close(&file);
    }
    ~Tokenizer() { tokenizer_close(&get); }
    Tokenizer(const Tokenizer &) = delete;
    Tokenizer &operator=(const Tokenizer &) = delete;

    std::vector<int32_t> encode(const std::string &text, unsigned flags = 0) const {
        wtl_tokens out = {};
        wtl_error e = {};
        wtl_status s = tokenizer_encode(get, text.data(), text.size(), flags, &out, &e);
        std::vector<int32_t> ids(out.ids, out.ids + out.n);
        tokens_free(&out);
        if (s) ids.assign(1, -999);
        return ids;
    }
    std::string piece(int32_t id, bool with_special = true) const {
        gguf_str s = tokenizer_piece(get, id, with_special);
        return std::string(s.s, s.len);
    }
    std::string text(const std::vector<int32_t> &ids) const {
        std::string out;
        for (int32_t id : ids) out += piece(id);
        return out;
    }
    wtl_tokenizer *get = nullptr;
    wtl_status status = WTL_OK;
    wtl_error err = {};
};

#endif
