// The public vocabulary of runtime/wattle.h: a tokenizer and the text of the chat template. Also the public name of the UTF-8 stream.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/vocab.h"

#include <string.h>

#include "runtime/base/alloc.h"

enum { TEMPLATE_LIMIT_BYTES = 1 << 20 };

struct wtl_vocab {
    wtl_tokenizer *tokenizer;
    char *chat_template; // terminated; NULL: the file has none
};

_Static_assert((int)WTL_ADD_SPECIAL == (int)TOKENIZER_ADD_SPECIAL, "flags are passed through");
_Static_assert((int)WTL_PARSE_SPECIAL == (int)TOKENIZER_PARSE_SPECIAL, "flags are passed through");
_Static_assert(sizeof(wtl_text_stream) == sizeof(wtl_utf8_stream), "one state under two names");

static wtl_status read_template(const gguf_file *file, char **out, wtl_error *err) {
    const char *key = "tokenizer.chat_template";
    gguf_str text;
    wtl_status status = gguf_get_str(file, key, &text, err);
    if (status == WTL_ERR_NOT_FOUND) return WTL_OK;
    if (status) return status;
    if (text.len > TEMPLATE_LIMIT_BYTES)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s holds %zu bytes, more than the %d that a template may have", gguf_path(file), key, text.len, (int)TEMPLATE_LIMIT_BYTES);
    if (text.len && memchr(text.s, 0, text.len)) return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s holds a zero byte", gguf_path(file), key);
    *out = wtl_strndup(text.s, text.len);
    return *out ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a chat template of %zu bytes", text.len);
}

wtl_status vocab_from_file(const gguf_file *file, wtl_vocab **out, wtl_error *err) {
    *out = NULL;
    wtl_vocab *vocab = wtl_calloc(1, sizeof *vocab);
    if (!vocab) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a vocabulary");
    wtl_status status = tokenizer_open(file, &vocab->tokenizer, err);
    if (!status) status = read_template(file, &vocab->chat_template, err);
    if (status) wtl_vocab_close(&vocab);
    *out = vocab;
    return status;
}

const wtl_tokenizer *vocab_tokenizer(const wtl_vocab *vocab) { return vocab->tokenizer; }

wtl_status wtl_vocab_open(const char *path, wtl_vocab **out, wtl_error *err) {
    if (!out) return wtl_fail(err, WTL_ERR_INVALID, "wtl_vocab_open needs a place for the vocabulary");
    *out = NULL;
    if (!path) return wtl_fail(err, WTL_ERR_INVALID, "wtl_vocab_open needs a path");
    gguf_file *file = NULL;
    wtl_status status = gguf_open(path, &file, err);
    if (!status) status = vocab_from_file(file, out, err);
    gguf_close(&file);
    return status;
}

void wtl_vocab_close(wtl_vocab **vocab) {
    if (!vocab || !*vocab) return;
    tokenizer_close(&(*vocab)->tokenizer);
    wtl_free((*vocab)->chat_template);
    wtl_free(*vocab);
    *vocab = NULL;
}

static void copy_ids(const wtl_tokens *tokens, int32_t *ids, size_t cap, size_t *n) {
    size_t fits = tokens->n < cap ? tokens->n : cap;
    if (fits) memcpy(ids, tokens->ids, fits * sizeof *ids);
    *n = tokens->n;
}

wtl_status vocab_encode_untrusted(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, const wtl_span *untrusted,
                                  size_t n_untrusted, wtl_tokens *out, wtl_error *err) {
    tokenizer_span *spans = wtl_calloc(n_untrusted, sizeof *spans);
    if (!spans) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu untrusted spans", n_untrusted);
    for (size_t i = 0; i < n_untrusted; i++) spans[i] = (tokenizer_span){untrusted[i].begin, untrusted[i].end};
    wtl_status status = tokenizer_encode_untrusted(vocab->tokenizer, text, len, flags, spans, n_untrusted, out, err);
    wtl_free(spans);
    return status;
}

wtl_status wtl_tokenize(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, int32_t *ids, size_t cap,
                        size_t *n, wtl_error *err) {
    if (!vocab || !n || (!ids && cap) || (!text && len))
        return wtl_fail(err, WTL_ERR_INVALID, "wtl_tokenize needs a vocabulary, a text and a place for the count");
    wtl_tokens tokens = {0};
    wtl_status status = tokenizer_encode(vocab->tokenizer, text, len, flags, &tokens, err);
    if (!status) copy_ids(&tokens, ids, cap, n);
    tokens_free(&tokens);
    return status;
}

wtl_status wtl_tokenize_untrusted(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, const wtl_span *untrusted,
                                  size_t n_untrusted, int32_t *ids, size_t cap, size_t *n, wtl_error *err) {
    if (!vocab || !n || (!ids && cap) || (!text && len) || (!untrusted && n_untrusted))
        return wtl_fail(err, WTL_ERR_INVALID, "wtl_tokenize_untrusted needs a vocabulary, a text, its spans and a place for the count");
    wtl_tokens tokens = {0};
    wtl_status status = vocab_encode_untrusted(vocab, text, len, flags, untrusted, n_untrusted, &tokens, err);
    if (!status) copy_ids(&tokens, ids, cap, n);
    tokens_free(&tokens);
    return status;
}

const char *wtl_token_bytes(const wtl_vocab *vocab, int32_t id, bool with_special, size_t *len) {
    gguf_str piece = tokenizer_piece(vocab->tokenizer, id, with_special);
    *len = piece.len;
    return piece.s;
}

const char *wtl_token_spelling(const wtl_vocab *vocab, int32_t id, size_t *len) {
    gguf_str text = tokenizer_token_text(vocab->tokenizer, id);
    *len = text.len;
    return text.s;
}

const char *wtl_vocab_chat_template(const wtl_vocab *vocab) { return vocab->chat_template; }

bool wtl_token_is_end(const wtl_vocab *vocab, int32_t id) { return tokenizer_is_end(vocab->tokenizer, id); }

wtl_vocab_info wtl_vocab_describe(const wtl_vocab *vocab) {
    const wtl_tokenizer *t = vocab->tokenizer;
    return (wtl_vocab_info){.model = tokenizer_model_name(t),
                            .pre = tokenizer_pre_name(t),
                            .n_vocab = tokenizer_n_vocab(t),
                            .bos = tokenizer_bos(t),
                            .eos = tokenizer_eos(t),
                            .adds_bos = tokenizer_adds_bos(t),
                            .adds_eos = tokenizer_adds_eos(t)};
}

size_t wtl_text_push(wtl_text_stream *state, const char *bytes, size_t len, char *out, size_t cap) {
    wtl_utf8_stream inner;
    memcpy(&inner, state, sizeof inner);
    size_t n = utf8_stream_push(&inner, bytes, len, out, cap);
    memcpy(state, &inner, sizeof inner);
    return n;
}

size_t wtl_text_finish(wtl_text_stream *state, char *out, size_t cap) {
    wtl_utf8_stream inner;
    memcpy(&inner, state, sizeof inner);
    size_t n = utf8_stream_finish(&inner, out, cap);
    memcpy(state, &inner, sizeof inner);
    return n;
}
