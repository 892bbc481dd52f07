// What the tokenizer's own files share: the vocabulary in memory, the merge engine, the pre-tokenizer, special tokens.
//
// Included by models/{tokenizer,tokenizer_open,token_table,special_tokens,merge,bpe,spm,pretokenizer}.c and by their tests
// only. Everything reachable from wtl_tokenizer is read-only once tokenizer_open has returned; all state of one call is in
// token_encoder. Symbols are numbered: [0, n_vocab) are the file's tokens, above it stand byte strings that merges mention
// without the vocabulary having them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_TOKENIZER_IMPL_H
#define WTL_MODELS_TOKENIZER_IMPL_H

#include "models/token_heap.h"
#include "models/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SYMBOL_NONE UINT32_MAX

// tokenizer.ggml.token_type as GGUF numbers it.
enum { TOKEN_UNDEFINED, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

// ---- Byte strings to symbols (token_table.c) ---------------------------------------------------------------------
typedef struct token_info { // offsets into token_table.bytes
    uint32_t text, text_len;   // as the vocabulary writes it
    uint32_t piece, piece_len; // as it stands in text
} token_info;

typedef struct token_slot {
    uint32_t hash, symbol; // SYMBOL_NONE: free
} token_slot;

typedef struct token_table {
    char *bytes;
    size_t n_bytes, cap_bytes;
    token_info *tokens; // [n_symbols]
    size_t n_symbols, cap_symbols;
    token_slot *slots; // [mask + 1], open addressing, at most half full; keys are pieces
    size_t mask, n_keys;
    uint32_t max_key_len;
} token_table;

bool token_table_reserve(token_table *table, size_t symbols, size_t bytes); // false: out of memory or over 4 GiB
void token_table_free(token_table *table);
// Appends bytes and returns their offset; room must have been reserved.
uint32_t token_table_append(token_table *table, const char *bytes, size_t len);
// Makes symbol findable by its piece, whose hash this is; the last one of equal pieces wins. Room must have been reserved.
void token_table_index(token_table *table, uint32_t symbol, uint32_t hash);
uint32_t token_table_find(const token_table *table, const char *bytes, size_t len); // SYMBOL_NONE when absent
// The symbol of these bytes, made when there is none; SYMBOL_NONE when out of memory.
uint32_t token_table_intern(token_table *table, const char *bytes, size_t len, uint32_t hash);
uint32_t token_hash(const char *bytes, size_t len);
// Opening is a long row of lookups, each a cache miss: they are announced some steps ahead.
#define TOKEN_LOOKAHEAD 8
static inline void token_table_announce(const token_table *table, uint32_t hash) {
    __builtin_prefetch(&table->slots[hash & table->mask]);
}

// ---- UTF-8 (utf8_stream.c) -------------------------------------------------------------------------------------
// Bytes of the well-formed character at s[0..len), 0 when there is none. len >= 1.
uint32_t utf8_char_len(const char *s, size_t len);
size_t utf8_valid_prefix(const char *s, size_t len); // bytes of well-formed text at the start

// ---- Special tokens (special_tokens.c) ---------------------------------------------------------------------------
typedef struct special_node {
    uint32_t child, sibling; // 0: none
    uint32_t id;             // SYMBOL_NONE: no token ends here
    uint8_t byte;
    bool user_defined, guarded;
} special_node;

typedef struct special_trie {
    special_node *nodes; // [0] is the root
    size_t n, cap;
    uint32_t roots[256];       // node of the first byte, 0: none
    bool starts_user[256];     // a user-defined token starts with this byte
    bool starts_any[256];
} special_trie;

typedef struct special_match {
    size_t at;
    uint32_t len, id;
    bool guarded; // never made of untrusted bytes
} special_match;

typedef enum special_set { SPECIAL_ALL, SPECIAL_USER_DEFINED, SPECIAL_UNGUARDED } special_set;

bool special_trie_add(special_trie *trie, const char *text, size_t len, uint32_t id, bool user_defined);
uint32_t special_trie_find(const special_trie *trie, const char *text, size_t len); // SYMBOL_NONE: no token is spelled like this
void special_trie_free(special_trie *trie);
// Every special token of the set in the text, by position, the longest token first where they overlap. SPECIAL_ALL with untrusted
// spans (ascending, disjoint, inside the text): no guarded token touches one. *out is the caller's to free.
wtl_status special_find(const special_trie *trie, const char *text, size_t len, special_set set, const tokenizer_span *untrusted,
                        size_t n_untrusted, special_match **out, size_t *n, wtl_error *err);

// ---- Pre-tokenizer (pretokenizer.c) ------------------------------------------------------------------------------
#define PRETOKENIZER_PATTERNS_MAX 6
enum {
    PRETOKENIZER_WHOLE_WORDS = 1, // a piece that is a token is taken as it is, without merging
    PRETOKENIZER_ADD_BOS = 2,     // where the file does not say
    PRETOKENIZER_NFC = 4,         // the reference composes characters first
};
typedef struct pretokenizer_spec {
    const char *name;
    unsigned flags;
    const char *patterns[PRETOKENIZER_PATTERNS_MAX]; // applied in turn, each to the pieces of the one before; NULL ends
} pretokenizer_spec;
typedef struct pretokenizer pretokenizer;
typedef struct pretokenizer_scan pretokenizer_scan;
typedef wtl_status (*pretokenizer_sink)(void *user, const char *piece, size_t len);

const pretokenizer_spec *pretokenizer_find(gguf_str name); // NULL: unknown
// Known names, comma separated, as snprintf; distinct: of those that do the same only the first.
size_t pretokenizer_names(bool distinct, char *out, size_t cap);
wtl_status pretokenizer_open(const pretokenizer_spec *spec, bool jit, pretokenizer **out, wtl_error *err);
void pretokenizer_close(pretokenizer **pre);
const pretokenizer_spec *pretokenizer_of(const pretokenizer *pre);
// Working memory of one thread.
wtl_status pretokenizer_scan_open(const pretokenizer *pre, pretokenizer_scan **out, wtl_error *err);
void pretokenizer_scan_close(pretokenizer_scan **scan);
// Calls sink for consecutive pieces that cover text[0..len), which must be well-formed UTF-8.
wtl_status pretokenizer_run(pretokenizer_scan *scan, const char *text, size_t len, pretokenizer_sink sink, void *user,
                            wtl_error *err);
// Composes (NFC) when that changes anything: *out is then the caller's to free, otherwise NULL.
wtl_status pretokenizer_compose(const char *text, size_t len, char **out, size_t *out_len, wtl_error *err);

// ---- One call (tokenizer.c, merge.c) -----------------------------------------------------------------------------
typedef struct merge_symbol {
    uint32_t at, len;    // bytes in the piece
    uint32_t prev, next; // SYMBOL_NONE at the ends and for absorbed symbols
    uint32_t id;         // SYMBOL_NONE: no token
    uint32_t key, merged; // of merging with the right neighbour: smallest key first; SYMBOL_NONE: they do not merge
} merge_symbol;

typedef struct cached_piece {
    const char *piece;
    uint32_t hash, len;
    size_t at;  // its ids are out->ids[at..at + n)
    uint32_t n;
} cached_piece;

typedef struct token_encoder {
    const wtl_tokenizer *tokenizer;
    wtl_tokens *out;
    wtl_error *err;
    merge_symbol *symbols;
    size_t cap_symbols;
    token_heap heap;
    cached_piece *cache;
    uint32_t cache_mask;
    pretokenizer_scan *scan; // BPE
    char *text;              // SPM: working copy of the text, spaces in front included
    size_t n_text;
} token_encoder;

// Sets l->key and l->merged for merging l with its right neighbour r.
typedef void (*merge_rule)(const wtl_tokenizer *tokenizer, const char *piece, merge_symbol *l, const merge_symbol *r);
bool merge_reserve(token_encoder *e, size_t n_symbols);
// Merges e->symbols[0..n) to the end: smallest key first, leftmost on ties. O(n log n).
wtl_status merge_run(token_encoder *e, const char *piece, size_t n, merge_rule rule);
// Ids of an equal piece earlier in this call, appended to out. *found tells whether there was one.
wtl_status cache_get(token_encoder *e, const char *piece, size_t len, uint32_t *hash, bool *found);
void cache_put(token_encoder *e, const char *piece, size_t len, uint32_t hash, size_t at);
void cache_clear(token_encoder *e);
wtl_status tokens_reserve(wtl_tokens *tokens, size_t more, wtl_error *err);

// ---- Algorithms ------------------------------------------------------------------------------------------------
typedef struct bpe_pair {
    uint32_t left, right; // SYMBOL_NONE: free
    uint32_t rank, merged;
} bpe_pair;

enum {
    TOKENIZER_TOKEN_ENDS = 1,      // ends a reply
    TOKENIZER_TOKEN_MERGEABLE = 2, // text can become it by merging
};

struct wtl_tokenizer {
    bool is_bpe;
    int32_t n_vocab;
    token_table table;
    uint8_t *types; // [n_vocab]
    uint8_t *flags; // [n_vocab] TOKENIZER_TOKEN_...
    special_trie special;
    int32_t bos, eos, eot, eom, unk, pad;
    bool add_bos, add_eos, add_space_prefix;
    uint32_t byte_symbols[256]; // BPE: of each byte; SPM: "<0xXX>", SYMBOL_NONE where there is none
    // BPE
    pretokenizer *pre;
    bpe_pair *pairs; // [pair_mask + 1], open addressing
    size_t pair_mask;
    // SPM
    uint32_t *score_keys;      // [n_vocab], the better the score the smaller
    uint32_t ascii_symbols[128];
    uint64_t ascii_pairs[256]; // bit 128 * a + b: some token holds b right behind a
    uint64_t *other_pairs;     // the same for all characters, by hash: may say yes wrongly, never no
};

wtl_status bpe_open(wtl_tokenizer *t, const gguf_file *file, wtl_error *err); // merges
void bpe_close(wtl_tokenizer *t);
size_t bpe_decode(const char *text, size_t len, char *out); // out[len]; SIZE_MAX when a character stands for no byte
wtl_status bpe_encode(token_encoder *e, const char *text, size_t len);

wtl_status spm_open(wtl_tokenizer *t, const gguf_file *file, wtl_error *err); // scores
void spm_close(wtl_tokenizer *t);
wtl_status spm_encode(token_encoder *e, const char *text, size_t len, bool space_prefix);

#ifdef __cplusplus
}
#endif
#endif
