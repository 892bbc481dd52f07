// Byte-level BPE: bytes of a pre-token are merged pair by pair, the merge of lowest rank first.
//
// Vocabularies write bytes as printable characters (byte-level alphabet of GPT-2); here everything is plain bytes.
// Merges are found by the pair of symbols. A merge whose parts or result the vocabulary lacks still takes part, through a
// symbol above n_vocab; such a symbol leaves as its single bytes.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

// The alphabet: printable Latin-1 bytes stand for themselves, the others follow from U+0100 on in order.
static bool is_own_character(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// Byte of a code point below U+0144, -1 when it stands for none.
static int byte_of(unsigned code) {
    if (code < 256) return is_own_character(code) ? (int)code : -1;
    // U+0100..U+0143 are 0x00-0x20, 0x7F-0xA0 and 0xAD.
    unsigned k = code - 256;
    if (k <= 0x20) return (int)k;
    if (k < 0x20 + 1 + 34) return (int)(0x7F + k - 0x21);
    return k == 0x43 ? 0xAD : -1;
}

size_t bpe_decode(const char *text, size_t len, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned c = (uint8_t)text[i];
        if (c >= 0x80) { // two-byte characters are all the alphabet has
            if (c < 0xC2 || c > 0xC5 || i + 1 == len || ((uint8_t)text[i + 1] & 0xC0) != 0x80) return SIZE_MAX;
            c = (c & 0x1F) << 6 | ((uint8_t)text[++i] & 0x3F);
        }
        int byte = byte_of(c);
        if (byte < 0) return SIZE_MAX;
        out[n++] = (char)byte;
    }
    return n;
}

// ---- Merges ------------------------------------------------------------------------------------------------------
static bpe_pair *pair_slot(const wtl_tokenizer *t, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t at = (h ^ h >> 32) & t->pair_mask;; at = (at + 1) & t->pair_mask) {
        bpe_pair *p = &t->pairs[at];
        if (p->left == SYMBOL_NONE || (p->left == left && p->right == right)) return p;
    }
}

// One line of tokenizer.ggml.merges, decoded: two byte strings, side by side.
typedef struct merge_line {
    char *bytes;
    size_t n_left, n_both;
    uint32_t hash_left, hash_right, hash_both;
} merge_line;

// Lines that can never apply (no second part, characters outside the alphabet) are left empty.
static void decode_line(const wtl_tokenizer *t, gguf_str line, merge_line *m) {
    m->n_both = 0;
    const char *space = line.len > 1 ? memchr(line.s + 1, ' ', line.len - 1) : NULL;
    if (!space) return;
    size_t left_len = (size_t)(space - line.s), right_len = line.len - left_len - 1;
    size_t n_left = bpe_decode(line.s, left_len, m->bytes);
    if (n_left == SIZE_MAX || right_len == 0) return;
    size_t n_right = bpe_decode(space + 1, right_len, m->bytes + n_left);
    if (n_right == SIZE_MAX) return;
    m->n_left = n_left;
    m->n_both = n_left + n_right;
    m->hash_left = token_hash(m->bytes, n_left);
    m->hash_right = token_hash(m->bytes + n_left, n_right);
    m->hash_both = token_hash(m->bytes, m->n_both);
    token_table_announce(&t->table, m->hash_left);
    token_table_announce(&t->table, m->hash_right);
    token_table_announce(&t->table, m->hash_both);
}

// Most vocabularies number the results of their merges in order: the one after the last is a good guess.
static uint32_t merged_symbol(wtl_tokenizer *t, const merge_line *m, uint32_t guess) {
    if (guess < (uint32_t)t->n_vocab && (t->flags[guess] & TOKENIZER_TOKEN_MERGEABLE)) {
        const token_info *info = &t->table.tokens[guess];
        if (info->piece_len == m->n_both && memcmp(t->table.bytes + info->piece, m->bytes, m->n_both) == 0) return guess;
    }
    return token_table_intern(&t->table, m->bytes, m->n_both, m->hash_both);
}

static bool add_merge(wtl_tokenizer *t, const merge_line *m, uint32_t rank, uint32_t *last) {
    if (m->n_both == 0) return true;
    uint32_t left = token_table_intern(&t->table, m->bytes, m->n_left, m->hash_left);
    uint32_t right = token_table_intern(&t->table, m->bytes + m->n_left, m->n_both - m->n_left, m->hash_right);
    uint32_t merged = merged_symbol(t, m, *last + 1);
    *last = merged;
    if (left == SYMBOL_NONE || right == SYMBOL_NONE || merged == SYMBOL_NONE) return false;
    bpe_pair *p = pair_slot(t, left, right);
    if (p->left == SYMBOL_NONE) *p = (bpe_pair){left, right, rank, merged}; // of equal lines the first one counts
    return true;
}

static bool add_merges(wtl_tokenizer *t, const gguf_str *lines, size_t n, char *scratch, size_t longest) {
    merge_line ring[TOKEN_LOOKAHEAD];
    uint32_t last = 0;
    for (size_t i = 0; i < TOKEN_LOOKAHEAD; i++) ring[i].bytes = scratch + i * longest;
    for (size_t i = 0; i < n + TOKEN_LOOKAHEAD; i++) {
        merge_line *m = &ring[i % TOKEN_LOOKAHEAD];
        if (i >= TOKEN_LOOKAHEAD && !add_merge(t, m, (uint32_t)(i - TOKEN_LOOKAHEAD), &last)) return false;
        if (i < n) decode_line(t, lines[i], m);
    }
    return true;
}

static wtl_status read_merges(wtl_tokenizer *t, const gguf_str *lines, size_t n, wtl_error *err) {
    size_t longest = 1, size = 64, bytes;
    for (size_t i = 0; i < n; i++)
        if (lines[i].len > longest) longest = lines[i].len;
    while (size < 2 * n) size *= 2;
    t->pairs = wtl_malloc(size * sizeof *t->pairs);
    t->pair_mask = size - 1;
    char *scratch = wtl_mul_size(longest, TOKEN_LOOKAHEAD, &bytes) ? wtl_malloc(bytes) : NULL;
    bool ok = t->pairs && scratch;
    if (t->pairs) memset(t->pairs, 0xFF, size * sizeof *t->pairs);
    for (int byte = 0; ok && byte < 256; byte++) {
        char c = (char)byte;
        t->byte_symbols[byte] = token_table_intern(&t->table, &c, 1, token_hash(&c, 1));
        ok = t->byte_symbols[byte] != SYMBOL_NONE;
    }
    ok = ok && add_merges(t, lines, n, scratch, longest);
    wtl_free(scratch);
    return ok ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu merges", n);
}

wtl_status bpe_open(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    const char *key = "tokenizer.ggml.merges";
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is missing", gguf_path(file), key);
    if (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING || kv->count >= INT32_MAX)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is no array of strings", gguf_path(file), key);
    size_t n = (size_t)kv->count;
    gguf_str *lines = wtl_calloc(n, sizeof *lines);
    if (!lines) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu merges", n);
    wtl_status status = gguf_array_strings(file, kv, lines, n, err);
    if (!status) status = read_merges(t, lines, n, err);
    wtl_free(lines);
    return status;
}

void bpe_close(wtl_tokenizer *t) {
    pretokenizer_close(&t->pre);
    wtl_free(t->pairs);
    t->pairs = NULL;
}

// ---- Encoding ----------------------------------------------------------------------------------------------------
static void pair_rule(const wtl_tokenizer *t, const char *piece, merge_symbol *l, const merge_symbol *r) {
    (void)piece;
    const bpe_pair *p = pair_slot(t, l->id, r->id);
    if (p->left == SYMBOL_NONE) return;
    l->key = p->rank;
    l->merged = p->merged;
}

// A symbol without a token becomes its bytes. A byte that the vocabulary lacks (some leave control characters out) gives
// no token, as in the reference: an unknown token would often be the one that ends text.
static wtl_status emit(token_encoder *e, uint32_t symbol) {
    const wtl_tokenizer *t = e->tokenizer;
    const token_info *info = &t->table.tokens[symbol];
    bool known = symbol < (uint32_t)t->n_vocab;
    uint32_t n = known ? 1 : info->piece_len;
    wtl_status status = tokens_reserve(e->out, n, e->err);
    for (uint32_t i = 0; !status && i < n; i++) {
        uint32_t id = known ? symbol : t->byte_symbols[(uint8_t)t->table.bytes[info->piece + i]];
        if (id < (uint32_t)t->n_vocab) e->out->ids[e->out->n++] = (int32_t)id;
    }
    return status;
}

static wtl_status merge_piece(token_encoder *e, const char *piece, size_t len) {
    if (!merge_reserve(e, len)) return wtl_fail(e->err, WTL_ERR_NO_MEMORY, "out of memory for a piece of %zu bytes", len);
    for (uint32_t i = 0; i < len; i++) {
        e->symbols[i].at = i;
        e->symbols[i].len = 1;
        e->symbols[i].id = e->tokenizer->byte_symbols[(uint8_t)piece[i]];
    }
    wtl_status status = merge_run(e, piece, len, pair_rule);
    for (uint32_t i = 0; !status && i != SYMBOL_NONE; i = e->symbols[i].next) status = emit(e, e->symbols[i].id);
    return status;
}

static wtl_status encode_piece(void *user, const char *piece, size_t len) {
    token_encoder *e = user;
    const wtl_tokenizer *t = e->tokenizer;
    if (len == 1) return emit(e, t->byte_symbols[(uint8_t)piece[0]]);
    uint32_t hash = 0;
    bool found;
    wtl_status status = cache_get(e, piece, len, &hash, &found);
    if (status || found) return status;
    size_t at = e->out->n;
    uint32_t whole = SYMBOL_NONE;
    if (pretokenizer_of(t->pre)->flags & PRETOKENIZER_WHOLE_WORDS) whole = token_table_find(&t->table, piece, len);
    if (whole < (uint32_t)t->n_vocab) status = emit(e, whole);
    else status = merge_piece(e, piece, len);
    if (!status) cache_put(e, piece, len, hash, at);
    return status;
}

// Well-formed text; composed first where the reference does so.
static wtl_status encode_valid(token_encoder *e, const char *text, size_t len) {
    char *composed = NULL;
    if (pretokenizer_of(e->tokenizer->pre)->flags & PRETOKENIZER_NFC) {
        size_t n;
        wtl_status status = pretokenizer_compose(text, len, &composed, &n, e->err);
        if (status) return status;
        if (composed) {
            text = composed;
            len = n;
        }
    }
    wtl_status status = pretokenizer_run(e->scan, text, len, encode_piece, e, e->err);
    if (composed) cache_clear(e); // its keys point into the composed text
    wtl_free(composed);
    return status;
}

wtl_status bpe_encode(token_encoder *e, const char *text, size_t len) {
    wtl_status status = WTL_OK;
    for (size_t i = 0; !status && i < len;) {
        size_t n = utf8_valid_prefix(text + i, len - i);
        if (n) status = encode_valid(e, text + i, n);
        i += n;
        if (!status && i < len) status = encode_piece(e, text + i++, 1);
    }
    return status;
}
