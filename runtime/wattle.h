// wattle: run GGUF language models, and know what each request did.
//
// wtl_engine   a loaded model. Immutable after opening: any number of threads and sessions may share it.
// wtl_session  a KV cache and the sequences in it. One thread at a time.
// wtl_sampler  how the next token is chosen. Plain state, one thread at a time.
// wtl_vocab    text <-> tokens. Immutable, any thread. wtl_file: what a file holds, without loading it.
//
// Rules for all of it. Options structs: zero means default, so a designated initialiser with .model_path is enough. Strings
// are borrowed for the call and are UTF-8. Close functions accept NULL and null the pointer. Functions return wtl_status
// (0 is success) and fill the optional wtl_error with one sentence; on failure outputs are NULL or untouched and nothing is
// lost. Nothing here prints, exits or aborts. Variable output: pass a buffer and its capacity, get the count that was needed.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_WATTLE_H
#define WTL_WATTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *wtl_version(void);
// Instruction sets that the cpu backend can use here, slowest first: "scalar, avx2, avx512vnni", on Arm
// "scalar, neon_dotprod, neon_i8mm". It takes the last one unless the environment's WTL_CPU_MASK names another. Writes at most cap bytes, terminated. Thread: any.
void wtl_cpu_list(char *out, size_t cap);
// Threads that an engine gets by itself: physical performance cores in the affinity mask, capped by the cgroup quota rounded down; >= 1. Thread: any.
int32_t wtl_cpu_threads(void);

// ---- Vocabulary -------------------------------------------------------------------------------------------------
typedef struct wtl_vocab wtl_vocab;

// Opens the tokenizer of a GGUF file; files that hold nothing but a vocabulary will do.
// Owns: caller closes. Thread: any. Errors: NOT_FOUND, IO, FORMAT, UNSUPPORTED, NO_MEMORY.
wtl_status wtl_vocab_open(const char *path, wtl_vocab **out, wtl_error *err);
void wtl_vocab_close(wtl_vocab **vocab);

enum {
    WTL_ADD_SPECIAL = 1,   // BOS in front, EOS behind, where the model asks for it
    WTL_PARSE_SPECIAL = 2, // names of control tokens in the text become those tokens
};
// Tokens of text[0..len). Writes at most cap ids and stores the full count in *n (*n > cap: call again with more room).
// len + 8 ids are enough for nearly every text. Owns: nothing. Thread: any. Errors: NO_MEMORY, LIMIT (over 2^31 - 1 tokens).
wtl_status wtl_tokenize(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, int32_t *ids, size_t cap,
                        size_t *n, wtl_error *err);
// Bytes [begin, end) of a text that came from outside: no control token is recognised that touches one of them.
typedef struct wtl_span {
    size_t begin, end;
} wtl_span;
// As wtl_tokenize, but for the spans (ascending, disjoint, inside the text). Text without names of control tokens gives the same ids
// with any spans; user-defined tokens are ordinary pieces here, except those spelled like a marker ("<|user|>"). Errors: also INVALID
// (spans out of order).
wtl_status wtl_tokenize_untrusted(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, const wtl_span *untrusted,
                                  size_t n_untrusted, int32_t *ids, size_t cap, size_t *n, wtl_error *err);
// Bytes of one token (possibly part of a character). Borrowed from the vocab, not terminated; *len is 0 for an unknown id
// and for control tokens unless with_special.
const char *wtl_token_bytes(const wtl_vocab *vocab, int32_t id, bool with_special, size_t *len);
// The token as the vocabulary spells it ("Ġthe", "<0x0A>").
const char *wtl_token_spelling(const wtl_vocab *vocab, int32_t id, size_t *len);
bool wtl_token_is_end(const wtl_vocab *vocab, int32_t id); // ends a reply

typedef struct wtl_vocab_info {
    const char *model, *pre; // "gpt2", "smollm"; pre is "" where there is none
    int32_t n_vocab, bos, eos; // -1: no such token
    bool adds_bos, adds_eos;
} wtl_vocab_info;
wtl_vocab_info wtl_vocab_describe(const wtl_vocab *vocab);
// The chat template that the file brings (Jinja; runtime/chat.h renders it), terminated, borrowed from the vocab. NULL: it has none.
const char *wtl_vocab_chat_template(const wtl_vocab *vocab);

// Token bytes -> whole UTF-8 characters. Zero-initialise. Incomplete characters wait; bytes that are no UTF-8 become U+FFFD.
typedef struct wtl_text_stream {
    uint8_t pending[4];
    uint32_t n_pending;
} wtl_text_stream;
// out needs 3 * (len + 4) bytes. Returns the bytes written. finish: what still waits, as U+FFFD.
size_t wtl_text_push(wtl_text_stream *state, const char *bytes, size_t len, char *out, size_t cap);
size_t wtl_text_finish(wtl_text_stream *state, char *out, size_t cap);

// ---- Engine -----------------------------------------------------------------------------------------------------
typedef struct wtl_engine wtl_engine;

typedef struct wtl_engine_options {
    const char *model_path; // required
    const char *backend;    // "cpu" (default) or "ref"
    int32_t n_threads;      // 0: physical cores this process may use
    int32_t n_threads_decode; // of steps of a few single tokens, which wait for memory; 0: n_threads, more are as many
    bool deterministic;     // no BLAS: logits do not depend on the batch for F32, F16 and BF16 weights either
} wtl_engine_options;

// Loads a model. Owns: caller closes, after its sessions. Thread: any.
// Errors: INVALID, NOT_FOUND, IO, FORMAT, UNSUPPORTED (architecture or tensor type, named), NO_MEMORY.
wtl_status wtl_engine_open(const wtl_engine_options *options, wtl_engine **out, wtl_error *err);
void wtl_engine_close(wtl_engine **engine);
const wtl_vocab *wtl_engine_vocab(const wtl_engine *engine); // borrowed

typedef struct wtl_engine_info {
    const char *arch, *name; // borrowed from the engine
    const char *backend;     // "cpu avx512vnni, 2 threads"
    int32_t n_layers, n_embd, n_vocab, n_ctx_train, n_threads, n_threads_decode;
    uint64_t n_params, file_bytes, weight_bytes; // weight_bytes: resident, in the backend's layout
} wtl_engine_info;
wtl_engine_info wtl_engine_describe(const wtl_engine *engine);

// ---- Session ----------------------------------------------------------------------------------------------------
typedef struct wtl_session wtl_session;

// Numbers that K and V are kept as. Q8_0: bytes with a step for every 32, half the memory of F16.
typedef enum wtl_kv_type { WTL_KV_F16 = 0, WTL_KV_F32, WTL_KV_Q8_0 } wtl_kv_type;

typedef struct wtl_session_options {
    int32_t n_ctx;        // positions that all sequences may hold together; 0: the model's, at most 8192
    int32_t n_seq_max;    // sequences alive at once; 0: 1
    int32_t n_batch;      // entries of one step; 0: 512
    int32_t n_logits_max; // entries of one step with want_logits; 0: n_seq_max
    wtl_kv_type kv_type;
    bool keep_prefixes;   // what closed sequences held stays findable while memory lasts, least recently used out first
    uint64_t cache_bytes; // KV memory for that beyond what n_ctx and n_seq_max need; rounded down to whole blocks
    int32_t n_threads;    // of every step, not more than the engine's; 0: the engine's, by kind of step
    bool profile;         // time every operation: runtime/profile.h
    bool all_logits;      // compute all of them whatever the entries' n_top
} wtl_session_options;

typedef struct wtl_memory {
    uint64_t weights_bytes, kv_bytes, scratch_bytes;
} wtl_memory;
// What a session with these options would take. Thread: any. Errors: INVALID, LIMIT (n_ctx beyond the model's).
wtl_status wtl_session_memory(const wtl_engine *engine, const wtl_session_options *options, wtl_memory *out, wtl_error *err);

// Owns: caller closes, before the engine. Thread: one at a time from here on. Errors: INVALID, LIMIT, NO_MEMORY, DEVICE.
wtl_status wtl_session_open(const wtl_engine *engine, const wtl_session_options *options, wtl_session **out, wtl_error *err);
void wtl_session_close(wtl_session **session);
int32_t wtl_session_n_ctx(const wtl_session *session);

// Sequences: small integers, each a timeline of tokens. fork shares the blocks of the first n_tok positions of src
// (copied only when one of the two writes into them). rewind drops everything from position n_tok on.
// A window-attention model forgets old positions: rewinding or forking to before what it still holds gives LIMIT.
wtl_status wtl_seq_open(wtl_session *session, int32_t *seq, wtl_error *err);
wtl_status wtl_seq_fork(wtl_session *session, int32_t src, int32_t n_tok, int32_t *seq, wtl_error *err);
wtl_status wtl_seq_rewind(wtl_session *session, int32_t seq, int32_t n_tok, wtl_error *err);
// Like rewind, for tokens that were only tried: nobody will look for them, so they are not kept to be found as a prefix.
wtl_status wtl_seq_forget(wtl_session *session, int32_t seq, int32_t n_tok, wtl_error *err);
void wtl_seq_close(wtl_session *session, int32_t seq);
// Opens a sequence that already holds the longest prefix of tokens[0..n) whose KV is in memory, from sequences open or closed,
// but never all n: the last one is left, for its logits. *n_cached is how many it holds; prefill goes on with tokens[*n_cached].
// Logits are the same bits as without a cache. Without keep_prefixes *n_cached is 0. Errors: LIMIT (n_seq_max).
wtl_status wtl_seq_open_prefix(wtl_session *session, const int32_t *tokens, size_t n, int32_t *seq, int32_t *n_cached, wtl_error *err);
// How much of tokens[0..n) such a call would find now. Changes nothing, also not what is evicted next.
int32_t wtl_session_find_prefix(const wtl_session *session, const int32_t *tokens, size_t n);
int32_t wtl_seq_length(const wtl_session *session, int32_t seq); // tokens held; -1: no such sequence

typedef struct wtl_kv_usage { // blocks, over all groups of layers
    uint64_t n_used, n_cached, n_free; // held by open sequences; only findable; empty
    uint64_t bytes, evicted;           // of all of them; blocks that were evicted since opening
} wtl_kv_usage;
wtl_kv_usage wtl_session_kv_usage(const wtl_session *session);

// What is findable, to a file and back: bound to the model, the backend and the KV type, and checksummed. save replaces the file at
// once or not at all. load adds what fits and counts positions; a file of another model or a damaged one is FORMAT and changes nothing.
// Errors: INVALID (no keep_prefixes), IO, NOT_FOUND, FORMAT, NO_MEMORY.
wtl_status wtl_session_save(wtl_session *session, const char *path, uint64_t *n_tok, wtl_error *err);
wtl_status wtl_session_load(wtl_session *session, const char *path, uint64_t *n_tok, wtl_error *err);

// One entry of a step: the token that sequence seq takes next. Entries of one sequence are adjacent, in order.
typedef struct wtl_entry {
    int32_t token, seq;
    bool want_logits;
    int32_t n_top; // of the logits only so many of the largest matter, as to a sampler (wtl_sampler_n_top); 0: all do
} wtl_entry;

typedef enum wtl_phase { WTL_PHASE_PREFILL, WTL_PHASE_DECODE, WTL_PHASE_MIXED } wtl_phase;

// What one sequence did in a step.
typedef struct wtl_seq_work {
    int32_t seq;
    int32_t n_new_tok;     // entries of this sequence
    int32_t n_past_tok;    // positions it already held
    int32_t n_logits;      // entries with want_logits
    uint64_t kv_positions; // sum over layers and entries of positions read by attention
    uint64_t kv_read_bytes, kv_written_bytes;
    uint64_t attention_macs, macs; // macs: of all matrices and of attention
} wtl_seq_work;

// What one step did: the basis of speed reports and of energy attribution.
typedef struct wtl_step_work {
    wtl_phase phase; // decode: every sequence took one token; prefill: every one took more; mixed: both
    int32_t n_rows, n_seqs, n_logits;
    uint64_t start_ns, end_ns;   // monotonic
    uint64_t weight_bytes;       // weights read once per step
    uint64_t kv_read_bytes, kv_written_bytes;
    uint64_t macs;               // multiply-adds of all matrices and of attention
    uint64_t kv_positions;       // sum over sequences
    const wtl_seq_work *seqs;    // [n_seqs], valid until the session's next call
} wtl_step_work;

// Runs the entries through the model. All or nothing: on failure no sequence has changed.
// Owns: nothing. Errors: INVALID (unknown sequence or token, not adjacent), LIMIT (n_batch, n_logits_max, n_ctx), KV_FULL, DEVICE.
wtl_status wtl_session_step(wtl_session *session, const wtl_entry *entries, int32_t n, wtl_error *err);
// Logits [n_vocab] of the i-th entry with want_logits of the last step; valid until the next step. NULL when out of range.
// When every such entry of the step had n_top > 0: each logit that is at least as large as the entry's n_top-th largest is what it would
// be otherwise, to the bit; any other is that or -INFINITY. That saves reading most of a large output head.
const float *wtl_session_logits(const wtl_session *session, int32_t i);
wtl_step_work wtl_session_work(const wtl_session *session); // of the last step

// Appends tokens to one sequence, in chunks of n_batch; logits of the last one. on_step (may be NULL) is called after every
// chunk and stops the rest by returning false (CANCELLED; the chunks done stay).
typedef bool (*wtl_step_callback)(void *user, const wtl_step_work *work);
wtl_status wtl_session_prefill(wtl_session *session, int32_t seq, const int32_t *tokens, size_t n, wtl_step_callback on_step,
                               void *user, wtl_error *err);

// ---- Sampling ---------------------------------------------------------------------------------------------------
typedef struct wtl_logit_bias {
    int32_t token;
    float bias; // added to the logit; -INFINITY bans the token
} wtl_logit_bias;

// Order: bias, penalties, then temperature <= 0: the most likely token; else top-k, top-p, min-p, temperature, draw.
typedef struct wtl_sampler_options {
    float temperature;       // 0: greedy
    int32_t top_k;           // 0: off
    float top_p;             // 0 or >= 1: off
    float min_p;             // 0: off
    float repeat_penalty;    // 0 or 1: off
    float presence_penalty, frequency_penalty; // 0: off
    int32_t penalty_last_n;  // tokens looked back; 0: 64, -1: all that were accepted
    uint64_t seed;
    const wtl_logit_bias *bias; // [n_bias], copied
    int32_t n_bias;
} wtl_sampler_options;

typedef struct wtl_sampler wtl_sampler;
// Owns: caller closes. Thread: one at a time. Errors: INVALID (names the option), NO_MEMORY.
wtl_status wtl_sampler_open(const wtl_sampler_options *options, int32_t n_vocab, wtl_sampler **out, wtl_error *err);
void wtl_sampler_close(wtl_sampler **sampler);
// Chooses from logits [n_vocab] (not changed) and counts the choice for the penalties. The same options, seed and logits give the
// same token on every machine of one instruction set. DEVICE when no logit is a number.
wtl_status wtl_sampler_next(wtl_sampler *sampler, const float *logits, int32_t *token, wtl_error *err);
// As wtl_sampler_next among the tokens for which allows is true, with their probabilities as if the others did not exist. allows is
// asked for few of them. NOT_FOUND when none is allowed.
typedef bool (*wtl_token_allowed)(void *user, int32_t token);
wtl_status wtl_sampler_next_allowed(wtl_sampler *sampler, const float *logits, wtl_token_allowed allows, void *user, int32_t *token, wtl_error *err);
// How many of the largest logits decide what wtl_sampler_next chooses, whatever the others are: 1 when greedy, top_k; 0: all. For
// wtl_entry.n_top; where only some tokens are allowed or probabilities are told, all matter.
int32_t wtl_sampler_n_top(const wtl_sampler *sampler);
void wtl_sampler_accept(wtl_sampler *sampler, int32_t token); // a token from elsewhere (the prompt) counts too

// ---- Files ------------------------------------------------------------------------------------------------------
typedef struct wtl_file wtl_file;

typedef struct wtl_file_info { // strings borrowed; 0 or "" where the file does not say
    const char *arch, *name;
    bool arch_supported, has_vocab, has_template;
    uint32_t version;
    uint64_t file_bytes, n_params, tensor_bytes, n_tensors;
    uint64_t decode_bytes;       // read per decoded token, without KV
    uint64_t kv_bytes_per_token;      // f16 with its scales, all layers (window layers stop growing at the window)
    uint64_t kv_bytes_per_token_q8_0; // the same for q8_0; 0 when the architecture is not supported
    uint32_t n_layers, n_embd, n_ff, n_heads, n_heads_kv, head_dim, n_ctx_train, n_vocab, window, n_window_layers;
    const char *vocab_model, *vocab_pre;
    int32_t file_type;    // general.file_type: llama.cpp's number for the mixture of tensor types; -1 where the file does not say
    const char *obstacle; // why wtl_engine_open would refuse the file, a sentence; "" when nothing is known against it
} wtl_file_info;

typedef struct wtl_tensor_info {
    const char *name, *dtype; // terminated copies owned by the file
    uint32_t n_dims;
    uint64_t dims[4]; // innermost first
    uint64_t bytes, file_offset;
} wtl_tensor_info;

// Owns: caller closes. Thread: any. Errors: NOT_FOUND, IO, FORMAT, NO_MEMORY.
wtl_status wtl_file_open(const char *path, wtl_file **out, wtl_error *err);
void wtl_file_close(wtl_file **file);
wtl_file_info wtl_file_describe(const wtl_file *file);
wtl_tensor_info wtl_file_tensor(const wtl_file *file, uint64_t i); // i < n_tensors

#ifdef __cplusplus
}
#endif
#endif
