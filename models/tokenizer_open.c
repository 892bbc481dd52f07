// Reads a vocabulary from GGUF metadata: tokens, their types, the special ids and what to do by default.
//
// Nothing of the file is kept: strings are copied into the token table. Byte-level tokens are stored decoded beside their
// spelling. Control, unknown and byte tokens cannot be found by their bytes, so plain text never turns into them.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define SPACE_MARK "\xE2\x96\x81"

// ---- Tokens ------------------------------------------------------------------------------------------------------
static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// "<0x0A>" to 10; -1 for anything else.
static int byte_token(gguf_str s) {
    if (s.len != 6 || memcmp(s.s, "<0x", 3) != 0 || s.s[5] != '>') return -1;
    int hi = hex_digit(s.s[3]), lo = hex_digit(s.s[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static size_t unmark_spaces(gguf_str s, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {
        bool mark = s.len - i >= 3 && memcmp(s.s + i, SPACE_MARK, 3) == 0;
        out[n++] = mark ? ' ' : s.s[i];
        i += mark ? 3 : 1;
    }
    return n;
}

// Writes the token's bytes as they stand in text to out[spelling.len]. *mergeable: plain text may become this token.
static size_t piece_of(const wtl_tokenizer *t, gguf_str s, uint8_t type, char *out, bool *mergeable) {
    size_t n = SIZE_MAX;
    *mergeable = false;
    if (type == TOKEN_BYTE && byte_token(s) >= 0) {
        out[0] = (char)byte_token(s);
        return 1;
    }
    if (type != TOKEN_CONTROL && type != TOKEN_UNKNOWN && s.len > 0) {
        n = t->is_bpe ? bpe_decode(s.s, s.len, out) : unmark_spaces(s, out);
        *mergeable = n != SIZE_MAX && type != TOKEN_BYTE;
        if (type == TOKEN_USER_DEFINED && t->is_bpe) {
            // User-defined tokens are written as they are; only those that read the same either way can be merged to.
            *mergeable = n == s.len && memcmp(out, s.s, n) == 0;
            n = SIZE_MAX;
        }
        // A raw space never meets the spelling that merging compares with.
        if (!t->is_bpe && memchr(s.s, ' ', s.len)) *mergeable = false;
    }
    if (n == SIZE_MAX) {
        if (s.len) memcpy(out, s.s, s.len);
        n = s.len;
    }
    return n;
}

static void index_tokens(wtl_tokenizer *t) {
    uint32_t hashes[TOKEN_LOOKAHEAD] = {0}, n = (uint32_t)t->table.n_symbols;
    for (uint32_t i = 0; i < n + TOKEN_LOOKAHEAD; i++) {
        uint32_t *slot = &hashes[i % TOKEN_LOOKAHEAD];
        if (i >= TOKEN_LOOKAHEAD && (t->flags[i - TOKEN_LOOKAHEAD] & TOKENIZER_TOKEN_MERGEABLE))
            token_table_index(&t->table, i - TOKEN_LOOKAHEAD, *slot);
        if (i >= n) continue;
        const token_info *info = &t->table.tokens[i];
        *slot = token_hash(t->table.bytes + info->piece, info->piece_len);
        token_table_announce(&t->table, *slot);
    }
}

static wtl_status add_tokens(wtl_tokenizer *t, const gguf_str *spellings, wtl_error *err) {
    size_t total = 0, twice, longest = 1, n = (size_t)t->n_vocab;
    bool fits = true;
    for (size_t i = 0; i < n; i++) {
        fits = fits && wtl_add_size(total, spellings[i].len, &total);
        if (spellings[i].len > longest) longest = spellings[i].len;
    }
    char *piece = wtl_malloc(longest);
    if (!fits || !wtl_mul_size(total, 2, &twice) || !piece || !token_table_reserve(&t->table, n, twice)) {
        wtl_free(piece);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu tokens of %zu bytes", n, total);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        gguf_str s = spellings[i];
        uint8_t type = t->types[i];
        bool mergeable;
        size_t len = piece_of(t, s, type, piece, &mergeable);
        uint32_t text = token_table_append(&t->table, s.s, s.len);
        bool same = len == s.len && memcmp(piece, s.s, len) == 0;
        t->table.tokens[i] = (token_info){text, (uint32_t)s.len, same ? text : token_table_append(&t->table, piece, len),
                                          (uint32_t)len};
        t->table.n_symbols = i + 1;
        if (mergeable) t->flags[i] |= TOKENIZER_TOKEN_MERGEABLE;
        if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN || type == TOKEN_USER_DEFINED)
            ok = special_trie_add(&t->special, s.s, s.len, (uint32_t)i, type == TOKEN_USER_DEFINED);
    }
    wtl_free(piece);
    index_tokens(t);
    return ok ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the special tokens");
}

static wtl_status read_types(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    const char *key = "tokenizer.ggml.token_type";
    memset(t->types, TOKEN_NORMAL, (size_t)t->n_vocab);
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return WTL_OK;
    if (kv->type != GGUF_ARRAY || kv->count < (uint64_t)t->n_vocab)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s does not hold a number for each of the %d tokens",
                        gguf_path(file), key, (int)t->n_vocab);
    for (int32_t i = 0; i < t->n_vocab; i++) {
        int64_t type;
        if (!gguf_elem_i64(kv, (uint64_t)i, &type))
            return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s holds no integers", gguf_path(file), key);
        t->types[i] = type >= TOKEN_UNDEFINED && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_UNDEFINED;
    }
    return WTL_OK;
}

static wtl_status read_tokens(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    const char *key = "tokenizer.ggml.tokens";
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is missing", gguf_path(file), key);
    if (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING || kv->count == 0 || kv->count >= INT32_MAX)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is no array of 1 to 2^31 - 2 strings", gguf_path(file), key);
    size_t n = (size_t)kv->count;
    t->n_vocab = (int32_t)n;
    gguf_str *spellings = wtl_calloc(n, sizeof *spellings);
    t->types = wtl_malloc(n);
    t->flags = wtl_calloc(n, 1);
    wtl_status status = WTL_OK;
    if (!spellings || !t->types || !t->flags)
        status = wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for %zu tokens", n);
    if (!status) status = read_types(t, file, err);
    if (!status) status = gguf_array_strings(file, kv, spellings, n, err);
    if (!status) status = add_tokens(t, spellings, err);
    wtl_free(spellings);
    return status;
}

// ---- Facts -------------------------------------------------------------------------------------------------------
// A token id; absent keys leave *id. All ones (as i32 or u32) means that there is no such token.
static wtl_status read_id(const wtl_tokenizer *t, const gguf_file *file, const char *key, int32_t *id, wtl_error *err) {
    int64_t value;
    wtl_status status = gguf_get_i64(file, key, &value, err);
    if (status == WTL_ERR_NOT_FOUND) return WTL_OK;
    if (status) return status;
    if (value == -1 || value == UINT32_MAX) value = -1;
    else if (value < 0 || value >= t->n_vocab)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key %s is %lld, but the vocabulary has %d tokens", gguf_path(file), key,
                        (long long)value, (int)t->n_vocab);
    *id = (int32_t)value;
    return WTL_OK;
}

static wtl_status read_flag(const gguf_file *file, const char *key, bool *flag, wtl_error *err) {
    wtl_status status = gguf_get_bool(file, key, flag, err);
    return status == WTL_ERR_NOT_FOUND ? WTL_OK : status;
}

static wtl_status read_facts(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    // SentencePiece's own numbering where the file is silent.
    t->bos = !t->is_bpe && t->n_vocab > 1 ? 1 : -1;
    t->eos = !t->is_bpe && t->n_vocab > 2 ? 2 : -1;
    t->unk = t->is_bpe ? -1 : 0;
    t->eot = t->eom = t->pad = -1;
    t->add_space_prefix = !t->is_bpe;
    t->add_bos = t->is_bpe ? (pretokenizer_of(t->pre)->flags & PRETOKENIZER_ADD_BOS) != 0 : true;
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", &t->bos},
               {"tokenizer.ggml.eos_token_id", &t->eos},
               {"tokenizer.ggml.eot_token_id", &t->eot},
               {"tokenizer.ggml.eom_token_id", &t->eom},
               {"tokenizer.ggml.unknown_token_id", &t->unk}};
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {{"tokenizer.ggml.add_bos_token", &t->add_bos},
                 {"tokenizer.ggml.add_eos_token", &t->add_eos},
                 {"tokenizer.ggml.add_space_prefix", &t->add_space_prefix}};
    wtl_status status = WTL_OK;
    for (size_t i = 0; !status && i < sizeof ids / sizeof *ids; i++)
        status = read_id(t, file, ids[i].key, ids[i].id, err);
    for (size_t i = 0; !status && i < sizeof flags / sizeof *flags; i++)
        status = read_flag(file, flags[i].key, flags[i].flag, err);
    int64_t pad; // nothing here pads: only chat templates ask for it, and files with a wrong one work
    if (!status && gguf_get_i64(file, "tokenizer.ggml.padding_token_id", &pad, NULL) == WTL_OK && pad >= 0 && pad < t->n_vocab) t->pad = (int32_t)pad;
    return status;
}

// Names under which models end a reply, beyond the ids that their files give.
static const char *const end_names[] = {
    "<|im_end|>",   "<|eot_id|>",   "<|eom_id|>", "<|end|>",     "<|endoftext|>",      "<|end_of_text|>",
    "<|return|>",   "<|call|>",     "<|calls|>",  "<|flush|>",   "<end_of_turn>",      "<end_of_utterance>",
    "<turn|>",      "</s>",         "<eos>",      "<EOT>",       "_<EOT>",             "[EOT]",
    "[EOS]",        "[e~[",         "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};

static void find_ends(wtl_tokenizer *t) {
    int32_t end = -1;
    bool has_return = false, has_call = false;
    for (int32_t i = 0; i < t->n_vocab; i++) {
        if (t->types[i] != TOKEN_CONTROL) continue;
        gguf_str s = tokenizer_token_text(t, i);
        for (size_t k = 0; k < sizeof end_names / sizeof *end_names; k++) {
            if (strlen(end_names[k]) != s.len || memcmp(end_names[k], s.s, s.len) != 0) continue;
            t->flags[i] |= TOKENIZER_TOKEN_ENDS;
            if (strcmp(end_names[k], "<|end|>") == 0) end = i;
            if (strcmp(end_names[k], "<|return|>") == 0 || strcmp(end_names[k], "<|flush|>") == 0) has_return = true;
            if (strcmp(end_names[k], "<|call|>") == 0 || strcmp(end_names[k], "<|calls|>") == 0) has_call = true;
        }
    }
    // In dialects with both, "<|end|>" closes one message of a reply that goes on.
    if (end >= 0 && has_return && has_call) t->flags[end] &= (uint8_t)~TOKENIZER_TOKEN_ENDS;
    if (t->eos >= 0) t->flags[t->eos] |= TOKENIZER_TOKEN_ENDS;
    if (t->eot >= 0) t->flags[t->eot] |= TOKENIZER_TOKEN_ENDS;
    if (t->eom >= 0) t->flags[t->eom] |= TOKENIZER_TOKEN_ENDS;
}

// ---- Opening -----------------------------------------------------------------------------------------------------
static wtl_status open_pretokenizer(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    gguf_str name = {"default", 7};
    wtl_status status = gguf_get_str(file, "tokenizer.ggml.pre", &name, err);
    if (status && status != WTL_ERR_NOT_FOUND) return status;
    const pretokenizer_spec *spec = pretokenizer_find(name);
    if (spec) return pretokenizer_open(spec, true, &t->pre, err);
    char known[1024];
    pretokenizer_names(true, known, sizeof known);
    return wtl_fail(err, WTL_ERR_UNSUPPORTED, "%s: unknown pre-tokenizer \"%.*s\"; known are %s and others that work like these",
                    gguf_path(file), (int)(name.len < 64 ? name.len : 64), name.s, known);
}

static wtl_status read_model(wtl_tokenizer *t, const gguf_file *file, wtl_error *err) {
    const char *key = "tokenizer.ggml.model";
    gguf_str model;
    wtl_status status = gguf_get_str(file, key, &model, err);
    if (status == WTL_ERR_NOT_FOUND)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: no vocabulary, key %s is missing", gguf_path(file), key);
    if (status) return status;
    t->is_bpe = model.len == 4 && memcmp(model.s, "gpt2", 4) == 0;
    if (!t->is_bpe && !(model.len == 5 && memcmp(model.s, "llama", 5) == 0))
        return wtl_fail(err, WTL_ERR_UNSUPPORTED, "%s: unknown tokenizer model \"%.*s\"; known are gpt2, llama",
                        gguf_path(file), (int)(model.len < 64 ? model.len : 64), model.s);
    return WTL_OK;
}

wtl_status tokenizer_open(const gguf_file *file, wtl_tokenizer **out, wtl_error *err) {
    *out = NULL;
    wtl_tokenizer *t = wtl_calloc(1, sizeof *t);
    if (!t) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a tokenizer");
    wtl_status status = read_model(t, file, err);
    if (!status && t->is_bpe) status = open_pretokenizer(t, file, err);
    if (!status) status = read_tokens(t, file, err);
    if (!status) status = t->is_bpe ? bpe_open(t, file, err) : spm_open(t, file, err);
    if (!status) status = read_facts(t, file, err);
    if (status) {
        tokenizer_close(&t);
        return status;
    }
    find_ends(t);
    *out = t;
    return WTL_OK;
}

void tokenizer_close(wtl_tokenizer **tokenizer) {
    if (!tokenizer || !*tokenizer) return;
    wtl_tokenizer *t = *tokenizer;
    bpe_close(t);
    spm_close(t);
    special_trie_free(&t->special);
    token_table_free(&t->table);
    wtl_free(t->types);
    wtl_free(t->flags);
    wtl_free(t);
    *tokenizer = NULL;
}
