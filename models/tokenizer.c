// The tokenizer's public face: facts, pieces, and one encode call from special tokens down to ids.
//
// A call cuts the text at special tokens and hands what lies between to byte-level BPE or SentencePiece-style merging.
// All its memory is its own, so calls on different threads do not meet.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"

void tokens_free(wtl_tokens *tokens) {
    if (!tokens) return;
    wtl_free(tokens->ids);
    memset(tokens, 0, sizeof *tokens);
}

wtl_status tokens_push(wtl_tokens *tokens, int32_t id, wtl_error *err) {
    wtl_status status = tokens_reserve(tokens, 1, err);
    if (!status) tokens->ids[tokens->n++] = id;
    return status;
}

// ---- Encoding ----------------------------------------------------------------------------------------------------
#define CACHE_ENTRIES_MAX 8192

static void encoder_free(token_encoder *e) {
    wtl_free(e->symbols);
    token_heap_free(&e->heap);
    wtl_free(e->cache);
    pretokenizer_scan_close(&e->scan);
    wtl_free(e->text);
}

// n_special tokens cut the text into at most one more fragment, each of which may get a space in front.
static wtl_status encoder_init(token_encoder *e, size_t len, size_t n_special) {
    uint32_t entries = 64;
    while (entries < CACHE_ENTRIES_MAX && entries < len / 16) entries *= 2;
    e->cache = wtl_calloc(entries, sizeof *e->cache);
    e->cache_mask = entries - 1;
    if (!e->cache) return wtl_fail(e->err, WTL_ERR_NO_MEMORY, "out of memory for tokenising %zu bytes", len);
    if (e->tokenizer->is_bpe) return pretokenizer_scan_open(e->tokenizer->pre, &e->scan, e->err);
    e->text = wtl_malloc(len + n_special + 1);
    if (!e->text) return wtl_fail(e->err, WTL_ERR_NO_MEMORY, "out of memory for tokenising %zu bytes", len);
    return WTL_OK;
}

static wtl_status encode_fragment(token_encoder *e, const char *text, size_t len, bool after_special) {
    if (len == 0) return WTL_OK;
    if (e->tokenizer->is_bpe) return bpe_encode(e, text, len);
    return spm_encode(e, text, len, after_special && e->tokenizer->add_space_prefix);
}

static wtl_status encode_between(token_encoder *e, const char *text, size_t len, const special_match *found, size_t n) {
    size_t at = 0;
    wtl_status status = WTL_OK;
    for (size_t i = 0; !status && i < n; i++) {
        status = encode_fragment(e, text + at, found[i].at - at, true);
        if (!status) status = tokens_push(e->out, (int32_t)found[i].id, e->err);
        at = found[i].at + found[i].len;
    }
    // Every fragment stands at the start of the text or behind a special token.
    return status ? status : encode_fragment(e, text + at, len - at, true);
}

static bool spans_in_order(const tokenizer_span *spans, size_t n, size_t len) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].begin < at || spans[i].end < spans[i].begin || spans[i].end > len) return false;
        at = spans[i].end;
    }
    return true;
}

wtl_status tokenizer_encode(const wtl_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                            wtl_tokens *out, wtl_error *err) {
    return tokenizer_encode_untrusted(tokenizer, text, len, flags, NULL, 0, out, err);
}

wtl_status tokenizer_encode_untrusted(const wtl_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                                      const tokenizer_span *untrusted, size_t n_untrusted, wtl_tokens *out, wtl_error *err) {
    if (!tokenizer || !out || (!text && len))
        return wtl_fail(err, WTL_ERR_INVALID, "tokenizer_encode needs a tokenizer, a text and a list to append to");
    if (len > INT32_MAX) return wtl_fail(err, WTL_ERR_LIMIT, "text of %zu bytes is longer than 2^31 - 1", len);
    if (!untrusted ? n_untrusted > 0 : !spans_in_order(untrusted, n_untrusted, len))
        return wtl_fail(err, WTL_ERR_INVALID, "the untrusted spans are not ascending, disjoint and inside the text of %zu bytes", len);
    const size_t n_before = out->n;
    const special_set set = flags & TOKENIZER_PARSE_SPECIAL ? SPECIAL_ALL : SPECIAL_USER_DEFINED;
    token_encoder e = {.tokenizer = tokenizer, .out = out, .err = err};
    special_match *found = NULL;
    size_t n_found = 0;
    wtl_status status = WTL_OK;
    if ((flags & TOKENIZER_ADD_SPECIAL) && tokenizer->add_bos && tokenizer->bos >= 0)
        status = tokens_push(out, tokenizer->bos, err);
    if (!status && len) {
        status = special_find(&tokenizer->special, text, len, set, untrusted, n_untrusted, &found, &n_found, err);
        if (!status) status = encoder_init(&e, len, n_found);
        if (!status) status = encode_between(&e, text, len, found, n_found);
    }
    if (!status && (flags & TOKENIZER_ADD_SPECIAL) && tokenizer->add_eos && tokenizer->eos >= 0)
        status = tokens_push(out, tokenizer->eos, err);
    wtl_free(found);
    encoder_free(&e);
    if (status) out->n = n_before;
    return status;
}

// ---- Facts -------------------------------------------------------------------------------------------------------
static bool in_vocab(const wtl_tokenizer *t, int32_t id) { return t && id >= 0 && id < t->n_vocab; }

gguf_str tokenizer_piece(const wtl_tokenizer *t, int32_t id, bool with_special) {
    if (!in_vocab(t, id)) return (gguf_str){"", 0};
    if (!with_special && (t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN)) return (gguf_str){"", 0};
    const token_info *info = &t->table.tokens[id];
    return (gguf_str){t->table.bytes + info->piece, info->piece_len};
}

gguf_str tokenizer_token_text(const wtl_tokenizer *t, int32_t id) {
    if (!in_vocab(t, id)) return (gguf_str){"", 0};
    const token_info *info = &t->table.tokens[id];
    return (gguf_str){t->table.bytes + info->text, info->text_len};
}

int32_t tokenizer_n_vocab(const wtl_tokenizer *t) { return t->n_vocab; }
int32_t tokenizer_bos(const wtl_tokenizer *t) { return t->bos; }
int32_t tokenizer_eos(const wtl_tokenizer *t) { return t->eos; }
int32_t tokenizer_unk(const wtl_tokenizer *t) { return t->unk; }
int32_t tokenizer_pad(const wtl_tokenizer *t) { return t->pad; }

int32_t tokenizer_special(const wtl_tokenizer *t, const char *spelling) {
    uint32_t id = special_trie_find(&t->special, spelling, strlen(spelling));
    return id == SYMBOL_NONE ? -1 : (int32_t)id;
}

bool tokenizer_adds_bos(const wtl_tokenizer *t) { return t->add_bos && t->bos >= 0; }
bool tokenizer_adds_eos(const wtl_tokenizer *t) { return t->add_eos && t->eos >= 0; }
bool tokenizer_is_control(const wtl_tokenizer *t, int32_t id) { return in_vocab(t, id) && t->types[id] == TOKEN_CONTROL; }
bool tokenizer_is_end(const wtl_tokenizer *t, int32_t id) { return in_vocab(t, id) && (t->flags[id] & TOKENIZER_TOKEN_ENDS); }
const char *tokenizer_model_name(const wtl_tokenizer *t) { return t->is_bpe ? "gpt2" : "llama"; }
const char *tokenizer_pre_name(const wtl_tokenizer *t) { return t->is_bpe ? pretokenizer_of(t->pre)->name : ""; }
