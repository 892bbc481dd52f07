// Fuzz entry of the tokenizer: any bytes as text, over small vocabularies built here, must come back from their tokens.
//
// The first byte of the input chooses the vocabulary (one per pre-tokenizer, and SentencePiece-style) and the flags; the
// rest is the text. All bytes are tokens, so nothing may be lost. The pieces also go through the UTF-8 stream, whose
// output must not depend on where pieces end.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "models/tokenizer.h"

int fuzz_tokenizer(const uint8_t *data, size_t bytes); // number of tokens

// ---- GGUF in memory ----------------------------------------------------------------------------------------------
typedef struct blob {
    uint8_t bytes[1 << 16];
    size_t n;
} blob;

static void put(blob *b, const void *data, size_t n) {
    if (n > sizeof b->bytes - b->n) abort();
    memcpy(b->bytes + b->n, data, n);
    b->n += n;
}
static void put_u32(blob *b, uint32_t v) { put(b, &v, 4); }
static void put_u64(blob *b, uint64_t v) { put(b, &v, 8); }
static void put_str(blob *b, const char *s, size_t n) {
    put_u64(b, n);
    put(b, s, n);
}
static void put_key(blob *b, const char *key, uint32_t type) {
    put_str(b, key, strlen(key));
    put_u32(b, type);
}
static void put_array(blob *b, const char *key, uint32_t elem, uint64_t n) {
    put_key(b, key, GGUF_ARRAY);
    put_u32(b, elem);
    put_u64(b, n);
}
static void put_text(blob *b, const char *key, const char *value) {
    put_key(b, key, GGUF_STRING);
    put_str(b, value, strlen(value));
}

// A byte as byte-level vocabularies write it.
static size_t byte_level(unsigned byte, char *out) {
    unsigned code = 0, extra = 256;
    for (unsigned b = 0; b <= byte; b++) {
        bool own = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
        code = own ? b : extra++;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xC0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3F));
    return 2;
}

static const char *const bpe_words[] = {"ab", "abab", "th", "the", "\xC4\xA0t", "\xC4\xA0the", "11", "1111", "\xC4\xA0\xC4\xA0", "''"};
static const char *const bpe_merges[] = {"a b", "ab ab", "t h", "th e", "\xC4\xA0 t", "\xC4\xA0t he", "1 1", "11 11", "\xC4\xA0 \xC4\xA0", "' '", "h e", "x y", "xy xy"};
static const char *const spm_words[] = {"a", "b", "ab", "ba", "aba", "\xE2\x96\x81", "\xE2\x96\x81\xE2\x96\x81", "\u2581a", "\xC3\xA9", "\xC3\xA9\xC3\xA9", "\xE4\xB8\xAD\xE4\xB8\xAD"};
static const char *const specials[] = {"<s>", "<sa>", "a<s", "<|end|>", "  \t", "\t\t", "\xC3\xA9!"};
enum { N_BPE = sizeof bpe_words / sizeof *bpe_words, N_SPM = sizeof spm_words / sizeof *spm_words, N_SPECIALS = sizeof specials / sizeof *specials };

static void put_tokens(blob *b, bool bpe) {
    const uint64_t n_words = bpe ? N_BPE : N_SPM, n = 256 + n_words + N_SPECIALS;
    put_array(b, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (unsigned i = 0; i < 256; i++) {
        const char *hex = "0123456789ABCDEF";
        char name[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        put_str(b, name, bpe ? byte_level(i, name) : sizeof name);
    }
    for (unsigned i = 0; i < n_words; i++) put_str(b, (bpe ? bpe_words : spm_words)[i], strlen((bpe ? bpe_words : spm_words)[i]));
    for (unsigned i = 0; i < N_SPECIALS; i++) put_str(b, specials[i], strlen(specials[i]));
    put_array(b, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (unsigned i = 0; i < n; i++) put_u32(b, i < 256 ? (bpe ? 1 : 6) : i < 256 + n_words ? 1 : i % 2 ? 3 : 4);
    if (bpe) {
        put_array(b, "tokenizer.ggml.merges", GGUF_STRING, sizeof bpe_merges / sizeof *bpe_merges);
        for (unsigned i = 0; i < sizeof bpe_merges / sizeof *bpe_merges; i++) put_str(b, bpe_merges[i], strlen(bpe_merges[i]));
        return;
    }
    put_array(b, "tokenizer.ggml.scores", GGUF_F32, n);
    for (unsigned i = 0; i < n; i++) {
        float score = -(float)(i % 5);
        put(b, &score, 4);
    }
}

static wtl_tokenizer *make(const char *pre) {
    blob b = {.n = 0};
    put(&b, "GGUF", 4);
    put_u32(&b, 3);
    put_u64(&b, 0);
    put_u64(&b, 7);
    put_text(&b, "general.architecture", "llama");
    put_text(&b, "tokenizer.ggml.model", pre ? "gpt2" : "llama");
    put_text(&b, "tokenizer.ggml.pre", pre ? pre : "default");
    put_key(&b, "tokenizer.ggml.add_space_prefix", GGUF_BOOL);
    put(&b, "", 1);
    put_tokens(&b, pre != NULL);
    while (b.n % 32) put(&b, "", 1);
    gguf_file *file = NULL;
    wtl_tokenizer *t = NULL;
    wtl_error err;
    if (gguf_open_memory(b.bytes, b.n, "fuzz", &file, &err) || tokenizer_open(file, &t, &err)) abort();
    gguf_close(&file);
    return t;
}

// ---- The check ---------------------------------------------------------------------------------------------------
// Pre-tokenizers that do not compose characters; NULL is SentencePiece-style.
static const char *const pres[] = {NULL, "gpt-2", "smollm", "llama-bpe", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "default", "tekken", "gpt-4o", "bloom", NULL};
enum { N_PRES = sizeof pres / sizeof *pres };
static wtl_tokenizer *tokenizers[N_PRES];

// What SentencePiece-style tokens say: U+2581 and the space are the same to them.
static size_t unmark(uint8_t *text, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n;) {
        bool mark = n - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        text[to++] = mark ? ' ' : text[i];
        i += mark ? 3 : 1;
    }
    return to;
}

int fuzz_tokenizer(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    unsigned which = data[0] % N_PRES, flags = (data[0] / N_PRES) & 3;
    if (!tokenizers[which]) tokenizers[which] = make(pres[which]);
    const wtl_tokenizer *t = tokenizers[which];
    const char *text = (const char *)data + 1;
    size_t len = bytes - 1;
    wtl_tokens out = {0};
    wtl_error err;
    if (tokenizer_encode(t, text, len, flags & TOKENIZER_PARSE_SPECIAL, &out, &err)) abort();

    uint8_t *want = malloc(len + 1), *got = malloc(len + 1);
    char *piecewise = malloc(3 * (len + 4)), *whole = malloc(3 * (len + 4));
    if (!want || !got || !piecewise || !whole) abort();
    memcpy(want, text, len);
    size_t n_want = pres[which] ? len : unmark(want, len), n_got = 0, n_piecewise = 0;
    wtl_utf8_stream stream = {0}, once = {0};
    for (size_t i = 0; i < out.n; i++) {
        gguf_str piece = tokenizer_piece(t, out.ids[i], true);
        if (piece.len > len - n_got) abort();
        memcpy(got + n_got, piece.s, piece.len);
        n_got += piece.len;
        n_piecewise += utf8_stream_push(&stream, piece.s, piece.len, piecewise + n_piecewise, 3 * (len + 4) - n_piecewise);
    }
    if (n_got != n_want || memcmp(got, want, n_got) != 0) abort();
    n_piecewise += utf8_stream_finish(&stream, piecewise + n_piecewise, 3 * (len + 4) - n_piecewise);
    size_t n_whole = utf8_stream_push(&once, (const char *)got, n_got, whole, 3 * (len + 4));
    n_whole += utf8_stream_finish(&once, whole + n_whole, 3 * (len + 4) - n_whole);
    if (n_whole != n_piecewise || memcmp(whole, piecewise, n_whole) != 0) abort();
    int n = (int)out.n;
    tokens_free(&out);
    free(want);
    free(got);
    free(piecewise);
    free(whole);
    return n;
}

#ifdef WTL_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_tokenizer(data, bytes);
    return 0;
}
#endif
