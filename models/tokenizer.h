// Text to tokens and back, as the vocabulary inside a GGUF file defines it.
//
// Two algorithms: byte-level BPE (tokenizer.ggml.model "gpt2": pre-tokenizer pattern, then merges by rank) and
// SentencePiece-style merging ("llama": best score first, leftmost on ties, byte fallback). A tokenizer is immutable after
// opening; any thread may use it. Text is bytes: invalid UTF-8 is tokenised (each offending byte by itself), never refused.
// Pieces add up to the text, but for: a byte-level vocabulary without a token for some byte (that byte is dropped), models
// that compose characters (NFC), U+2581 in the SentencePiece style (it comes back as a space).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_TOKENIZER_H
#define WTL_MODELS_TOKENIZER_H

#include "models/gguf.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_tokenizer wtl_tokenizer;

// Growable list of token ids; zero-initialise, release with tokens_free.
typedef struct wtl_tokens {
    int32_t *ids;
    size_t n, cap;
} wtl_tokens;
void tokens_free(wtl_tokens *tokens);
wtl_status tokens_push(wtl_tokens *tokens, int32_t id, wtl_error *err);

// Copies what it needs: the file may be closed afterwards. Errors name the key that is missing or wrong
// (UNSUPPORTED with the list of known names for an unknown tokenizer model or pre-tokenizer).
wtl_status tokenizer_open(const gguf_file *file, wtl_tokenizer **out, wtl_error *err);
void tokenizer_close(wtl_tokenizer **tokenizer);

enum {
    TOKENIZER_ADD_SPECIAL = 1,   // put BOS in front and EOS behind where the model's metadata asks for it
    TOKENIZER_PARSE_SPECIAL = 2, // text like "<|im_end|>" becomes its control token; without it, it stays text
};

// Appends the tokens of text[0..len) to *out. On failure *out keeps what it had.
wtl_status tokenizer_encode(const wtl_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                            wtl_tokens *out, wtl_error *err);
// Bytes [begin, end) of a text that came from outside.
typedef struct tokenizer_span {
    size_t begin, end;
} tokenizer_span;
// The same, but no control token (nor a user-defined one spelled "<|...|>") is recognised that touches a byte of the spans, and no
// byte of them keeps one beside it from being recognised. Ordinary text runs across the borders. Spans out of order: INVALID.
wtl_status tokenizer_encode_untrusted(const wtl_tokenizer *tokenizer, const char *text, size_t len, unsigned flags,
                                      const tokenizer_span *untrusted, size_t n_untrusted, wtl_tokens *out, wtl_error *err);

// Bytes of one token as they stand in text: byte-level decoded, "<0x0A>" as the byte. Control tokens give their name when
// with_special, else nothing. The bytes may be a part of a UTF-8 character. Borrowed; "" for an id out of range.
gguf_str tokenizer_piece(const wtl_tokenizer *tokenizer, int32_t id, bool with_special);
// The token as the vocabulary writes it ("Ġthe", "▁the", "<0x0A>"), for display.
gguf_str tokenizer_token_text(const wtl_tokenizer *tokenizer, int32_t id);

// Streaming detokenizer state; zero-initialise. Holds back an incomplete UTF-8 character until it is complete.
typedef struct wtl_utf8_stream {
    uint8_t pending[4];
    uint32_t n_pending;
} wtl_utf8_stream;
// Feeds bytes; writes the complete characters to out (cap >= len + 4 always suffices) and returns how many bytes.
// Bytes that can never become valid UTF-8 come out as U+FFFD, so out needs up to 3 * (len + 4).
size_t utf8_stream_push(wtl_utf8_stream *state, const char *bytes, size_t len, char *out, size_t cap);
// What is left at the end, as U+FFFD; returns bytes written (0 or 3).
size_t utf8_stream_finish(wtl_utf8_stream *state, char *out, size_t cap);

// Facts. -1 where the model has no such token.
int32_t tokenizer_n_vocab(const wtl_tokenizer *tokenizer);
int32_t tokenizer_bos(const wtl_tokenizer *tokenizer);
int32_t tokenizer_eos(const wtl_tokenizer *tokenizer);
int32_t tokenizer_unk(const wtl_tokenizer *tokenizer);
int32_t tokenizer_pad(const wtl_tokenizer *tokenizer);
// The control, unknown or user-defined token that is spelled like this.
int32_t tokenizer_special(const wtl_tokenizer *tokenizer, const char *spelling);
bool tokenizer_adds_bos(const wtl_tokenizer *tokenizer);
bool tokenizer_adds_eos(const wtl_tokenizer *tokenizer);
bool tokenizer_is_control(const wtl_tokenizer *tokenizer, int32_t id);
// True for tokens that end a reply: EOS, EOT, and control tokens known for it (<|im_end|>, <end_of_turn>, <|eot_id|>, ...).
bool tokenizer_is_end(const wtl_tokenizer *tokenizer, int32_t id);
const char *tokenizer_model_name(const wtl_tokenizer *tokenizer); // "gpt2" or "llama"
const char *tokenizer_pre_name(const wtl_tokenizer *tokenizer);   // pre-tokenizer, "" for SPM

#ifdef __cplusplus
}
#endif
#endif
