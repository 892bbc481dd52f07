// SentencePiece-style merging: neighbours whose concatenation is a token merge, the best score first, leftmost on ties.
//
// The vocabulary writes a space as U+2581; here both are the byte ' ' on either side, so text is not rewritten for it.
// The algorithm knows no words: it merges over the whole text. But where no token holds two characters side by side,
// nothing can ever merge across them, and the text is cut there: the same result from short, cacheable pieces.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"

#define OTHER_PAIRS_BITS 21
#define SPACE_MARK "\xE2\x96\x81"

// ---- Which characters stand side by side in tokens -----------------------------------------------------------------
// A character as its bytes in one word; an ill-formed byte is a character of its own.
static uint32_t char_code(const char *s, uint32_t len) {
    uint32_t code = 0;
    memcpy(&code, s, len);
    return code;
}

static size_t other_pair_bit(uint32_t a, uint32_t b) {
    uint64_t h = ((uint64_t)a << 32 | b) * UINT64_C(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    return (size_t)((h * UINT64_C(0xD6E8FEB86659FD93)) >> (64 - OTHER_PAIRS_BITS));
}

static bool may_merge(const wtl_tokenizer *t, uint32_t a, uint32_t b) {
    size_t bit = (size_t)a * 128 + b;
    if ((a | b) < 128) return t->ascii_pairs[bit / 64] >> (bit % 64) & 1;
    bit = other_pair_bit(a, b);
    return t->other_pairs[bit / 64] >> (bit % 64) & 1;
}

static uint32_t next_char(const char *s, size_t len) {
    if ((uint8_t)s[0] < 0x80) return 1;
    uint32_t n = utf8_char_len(s, len);
    return n ? n : 1;
}

static void note_pairs(wtl_tokenizer *t, const char *piece, size_t len) {
    uint32_t before = 0;
    for (size_t i = 0; i < len;) {
        uint32_t n = next_char(piece + i, len - i), code = char_code(piece + i, n);
        if (i > 0) {
            size_t bit = (size_t)before * 128 + code;
            if ((before | code) < 128) t->ascii_pairs[bit / 64] |= UINT64_C(1) << (bit % 64);
            else bit = other_pair_bit(before, code), t->other_pairs[bit / 64] |= UINT64_C(1) << (bit % 64);
        }
        before = code;
        i += n;
    }
}

// ---- Opening -----------------------------------------------------------------------------------------------------
// Order-preserving map from float to integer, turned round: the best score gets the smallest key. NaN is worst.
static uint32_t score_key(float score) {
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    if (score != score) return SYMBOL_NONE - 1;
    uint32_t ascending = bits & 0x80000000U ? ~bits : bits | 0x80000000U;
    return SYMBOL_NONE - 1 - ascending;
}

static wtl_status read_scores(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    const char *key = "tokenizer.ggml.scores";
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is missing", gguf_path(file), key);
    if (kv->type != GGUF_ARRAY || kv->count < (uint64_t)t->n_vocab)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s does not hold a number for each of the %d tokens",
                        gguf_path(file), key, (int)t->n_vocab);
    for (int32_t i = 0; i < t->n_vocab; i++) {
        float score;
        if (!gguf_elem_f32(kv, (uint64_t)i, &score))
            return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s holds no numbers", gguf_path(file), key);
        t->score_keys[i] = score_key(score);
    }
    return WTL_OK;
}

wtl_status spm_open(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    t->score_keys = wtl_malloc((size_t)t->n_vocab * sizeof *t->score_keys);
    t->other_pairs = wtl_calloc(((size_t)1 << OTHER_PAIRS_BITS) / 64, sizeof *t->other_pairs);
    if (!t->score_keys || !t->other_pairs)
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the scores of %d tokens", (int)t->n_vocab);
    wtl_status status = read_scores(t, file, err);
    if (status) return status;
    for (size_t i = 0; i < 256; i++) t->byte_symbols[i] = SYMBOL_NONE;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        const token_info *info = &t->table.tokens[i];
        const char *piece = t->table.bytes + info->piece;
        if (t->types[i] == TOKEN_BYTE && info->piece_len == 1) t->byte_symbols[(uint8_t)piece[0]] = (uint32_t)i;
        if (t->flags[i] & TOKENIZER_TOKEN_MERGEABLE) note_pairs(t, piece, info->piece_len);
    }
    for (unsigned i = 0; i < 128; i++) {
        char c = (char)i;
        t->ascii_symbols[i] = token_table_find(&t->table, &c, 1);
    }
    return WTL_OK;
}

void spm_close(wtl_tokenizer *t) {
    wtl_free(t->score_keys);
    wtl_free(t->other_pairs);
    t->score_keys = NULL;
    t->other_pairs = NULL;
}

// ---- Encoding ----------------------------------------------------------------------------------------------------
static void score_rule(const wtl_tokenizer *t, const char *piece, merge_symbol *l, const merge_symbol *r) {
    uint32_t id = token_table_find(&t->table, piece + l->at, (size_t)l->len + r->len);
    if (id == SYMBOL_NONE) return;
    l->key = t->score_keys[id];
    l->merged = id;
}

// What is no token goes out byte by byte; without byte tokens, one unknown token stands for the character.
static wtl_status emit(token_encoder *e, const char *piece, const merge_symbol *s) {
    const wtl_tokenizer *t = e->tokenizer;
    wtl_status status = tokens_reserve(e->out, s->id == SYMBOL_NONE ? 4 : 1, e->err);
    if (status) return status;
    int32_t *ids = e->out->ids;
    if (s->id != SYMBOL_NONE) {
        ids[e->out->n++] = (int32_t)s->id;
        return WTL_OK;
    }
    // A lone space is the byte string U+2581 in the reference.
    const char *bytes = piece[s->at] == ' ' ? SPACE_MARK : piece + s->at;
    uint32_t n = piece[s->at] == ' ' ? 3 : s->len;
    bool complete = true;
    for (uint32_t i = 0; i < n; i++) complete = complete && t->byte_symbols[(uint8_t)bytes[i]] != SYMBOL_NONE;
    if (!complete) {
        if (t->unk >= 0) ids[e->out->n++] = t->unk;
        return WTL_OK;
    }
    for (uint32_t i = 0; i < n; i++) ids[e->out->n++] = (int32_t)t->byte_symbols[(uint8_t)bytes[i]];
    return WTL_OK;
}

static wtl_status encode_piece(token_encoder *e, const char *piece, size_t len) {
    const wtl_tokenizer *t = e->tokenizer;
    uint32_t hash = 0, n = 0;
    bool found;
    wtl_status status = cache_get(e, piece, len, &hash, &found);
    if (status || found) return status;
    if (!merge_reserve(e, len)) return wtl_fail(e->err, WTL_ERR_NO_MEMORY, "out of memory for a piece of %zu bytes", len);
    for (uint32_t i = 0; i < len; n++) {
        uint32_t chars = next_char(piece + i, len - i);
        uint8_t c = (uint8_t)piece[i];
        uint32_t id = c < 128 ? t->ascii_symbols[c] : token_table_find(&t->table, piece + i, chars);
        e->symbols[n] = (merge_symbol){.at = i, .len = chars, .id = id};
        i += chars;
    }
    size_t at = e->out->n;
    status = merge_run(e, piece, n, score_rule);
    for (uint32_t i = 0; !status && i != SYMBOL_NONE; i = e->symbols[i].next) status = emit(e, piece, &e->symbols[i]);
    if (!status) cache_put(e, piece, len, hash, at);
    return status;
}

// Copies text behind e->text[0..n_text) with U+2581 as ' '.
static const char *append_text(token_encoder *e, const char *text, size_t len, bool space_prefix, size_t *n) {
    char *start = e->text + e->n_text, *p = start;
    if (space_prefix) *p++ = ' ';
    for (size_t i = 0; i < len;) {
        const char *mark = memchr(text + i, SPACE_MARK[0], len - i);
        size_t run = mark ? (size_t)(mark - text) - i : len - i;
        memcpy(p, text + i, run);
        p += run;
        i += run;
        if (i == len) break;
        bool is_space = len - i >= 3 && memcmp(text + i, SPACE_MARK, 3) == 0;
        *p++ = is_space ? ' ' : text[i];
        i += is_space ? 3 : 1;
    }
    *n = (size_t)(p - start);
    e->n_text += *n;
    return start;
}

wtl_status spm_encode(token_encoder *e, const char *text, size_t len, bool space_prefix) {
    size_t n, start = 0;
    const char *s = append_text(e, text, len, space_prefix, &n);
    wtl_status status = WTL_OK;
    uint32_t before = 0;
    for (size_t i = 0; !status && i < n;) {
        uint32_t chars = next_char(s + i, n - i), code = char_code(s + i, chars);
        if (i > start && !may_merge(e->tokenizer, before, code)) {
            status = encode_piece(e, s + start, i - start);
            start = i;
        }
        before = code;
        i += chars;
    }
    if (!status && start < n) status = encode_piece(e, s + start, n - start);
    return status;
}
