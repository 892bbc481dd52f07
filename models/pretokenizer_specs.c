// The pre-tokenizer patterns that GGUF files name in tokenizer.ggml.pre: facts of the models, from their tokenizer files.
//
// Several patterns apply in turn, each to the pieces of the one before; text no pattern matches is a piece as well.
// \s is written \p{White_Space} (PCRE2's own \s also takes U+180E). Case folding follows the references: (?i:...).
// Patterns must not backtrack over a run more than once from each place: a megabyte of one character has to stay linear.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "models/tokenizer_impl.h"

#define WS "\\p{White_Space}"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES WS "+(?!\\P{White_Space})|" WS "+"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" SPACES
// Llama 3 and Qwen 2 differ in how many digits stay together.
#define LLAMA3(digits)                                                                                                 \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES
#define QWEN35                                                                                                         \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" WS           \
                 "*[\\r\\n]+|" SPACES
// Words by case; o200k keeps a contraction with its word, Tekken does not.
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(suffix, digits)                                                                                          \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix           \
    "|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" WS "*[\\r\\n]+|" SPACES

#define DIGITS_3 "\\p{N}{1,3}"
#define FALCON_PUNCTUATION(extra) "[\\p{P}\\$\\+<=>\\^~\\|" extra "]+"
#define CJK_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define CJK_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define BLOOM " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
#define DEEPSEEK_V3                                                                                                    \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                \
    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" WS "*[\\r\\n]+|" SPACES
#define DEEPSEEK_PUNCTUATION                                                                                           \
    "[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+"
// Cased letters as the DeepSeek LLM tokenizer enumerates them.
#define DEEPSEEK_LETTERS                                                                                               \
    "["                                                                                                                \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                    \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"             \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                    \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                  \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                  \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}"                             \
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"                            \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}"                  \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}"                    \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"                             \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"                             \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                   \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}"                  \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"                                 \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"                             \
    "\\x{1E900}-\\x{1E943}"                                                                                            \
    "]+"

#define WHOLE PRETOKENIZER_WHOLE_WORDS
#define BOS PRETOKENIZER_ADD_BOS
#define NFC PRETOKENIZER_NFC

static const pretokenizer_spec specs[] = {
    {"default", 0, {FALCON_PUNCTUATION(""), GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"gpt-2", 0, {GPT2}},
    {"phi-2", 0, {GPT2}},
    {"jais", 0, {GPT2}},
    {"exaone4", 0, {GPT2}},
    {"trillion", 0, {GPT2}},
    {"gigachat", 0, {GPT2}},
    {"mellum", 0, {GPT2}},
    {"granite-docling", 0, {GPT2}},
    {"mpt", NFC, {GPT2}},
    {"olmo", NFC, {GPT2}},
    {"smollm", 0, {"\\p{N}", GPT2}},
    {"starcoder", 0, {"\\p{N}", GPT2}},
    {"refact", 0, {"\\p{N}", GPT2}},
    {"command-r", NFC, {"\\p{N}", GPT2}},
    {"codeshell", 0, {"\\p{N}", GPT2}},
    {"exaone", 0, {"\\p{N}", GPT2}},
    {"minerva-7b", 0, {"\\p{N}", GPT2}},
    {"falcon", 0, {FALCON_PUNCTUATION("`"), GPT2, "[0-9][0-9][0-9]"}},
    {"llama-bpe", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"llama3", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"llama-v3", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"falcon3", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"falcon-h1", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"pixtral", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"lfm2", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"midm-2.0", WHOLE | BOS, {LLAMA3(DIGITS_3)}},
    {"dbrx", 0, {LLAMA3(DIGITS_3)}},
    {"smaug-bpe", 0, {LLAMA3(DIGITS_3)}},
    {"chatglm-bpe", 0, {LLAMA3(DIGITS_3)}},
    {"glm4", 0, {LLAMA3(DIGITS_3)}},
    {"qwen2", NFC, {LLAMA3("\\p{N}")}},
    {"deepseek-r1-qwen", NFC, {LLAMA3("\\p{N}")}},
    {"stablelm2", NFC, {LLAMA3("\\p{N}")}},
    {"megrez", NFC, {LLAMA3("\\p{N}")}},
    {"hunyuan", 0, {LLAMA3("\\p{N}")}},
    {"grok-2", 0, {LLAMA3("\\p{N}")}},
    {"solar-open", 0, {LLAMA3("\\p{N}")}},
    {"qwen35", NFC, {QWEN35}},
    {"deepseek-llm",
     0,
     {"[\\r\\n]", WS "?" DEEPSEEK_LETTERS, WS "?" DEEPSEEK_PUNCTUATION, "(?<!" WS ")" WS "+\\z", CJK_HANGUL, "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\\r\\n]", WS "?\\p{L}+", WS "?\\p{P}+", CJK_HANGUL, "\\p{N}"}},
    {"deepseek-v3", 0, {DIGITS_3, CJK_KANA, DEEPSEEK_V3}},
    {"hunyuan-dense", 0, {DIGITS_3, CJK_KANA, DEEPSEEK_V3}},
    {"tekken", WHOLE | BOS, {CASED("", "\\p{N}")}},
    {"gpt-4o", 0, {CASED(CONTRACTIONS "?", DIGITS_3)}},
    {"o200k", 0, {CASED(CONTRACTIONS "?", DIGITS_3)}},
    {"llama4", 0, {CASED(CONTRACTIONS "?", DIGITS_3)}},
    {"kanana2", 0, {CASED(CONTRACTIONS "?", DIGITS_3)}},
    {"minimax-m2", 0, {CASED(CONTRACTIONS "?", DIGITS_3)}},
    {"bloom", 0, {BLOOM}},
    {"poro-chat", 0, {BLOOM}},
    {"gpt3-finnish", 0, {BLOOM}},
    {"viking", 0, {BLOOM, "\\p{N}"}},
};

const pretokenizer_spec *pretokenizer_find(gguf_str name) {
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        if (strlen(specs[i].name) == name.len && memcmp(specs[i].name, name.s, name.len) == 0) return &specs[i];
    return NULL;
}

static bool same_patterns(const pretokenizer_spec *a, const pretokenizer_spec *b) {
    for (int i = 0; i < PRETOKENIZER_PATTERNS_MAX; i++) {
        if (!a->patterns[i] || !b->patterns[i]) return a->patterns[i] == b->patterns[i];
        if (strcmp(a->patterns[i], b->patterns[i]) != 0) return false;
    }
    return true;
}

size_t pretokenizer_names(bool distinct, char *out, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        size_t first = 0;
        while (!same_patterns(&specs[first], &specs[i])) first++;
        if (distinct && first < i) continue;
        int wrote = snprintf(n < cap ? out + n : NULL, n < cap ? cap - n : 0, "%s%s", i ? ", " : "", specs[i].name);
        n += (size_t)wrote;
    }
    return n;
}
