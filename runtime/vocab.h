// Inside of the runtime: a vocabulary from a file that is already open.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_VOCAB_H
#define WTL_RUNTIME_VOCAB_H

#include "models/gguf.h"
#include "models/tokenizer.h"
#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

// Keeps nothing of the file. On success *out is closed with wtl_vocab_close.
wtl_status vocab_from_file(const gguf_file *file, wtl_vocab **out, wtl_error *err);
// As wtl_tokenize_untrusted, appended to a list.
wtl_status vocab_encode_untrusted(const wtl_vocab *vocab, const char *text, size_t len, unsigned flags, const wtl_span *untrusted,
                                  size_t n_untrusted, wtl_tokens *out, wtl_error *err);
const wtl_tokenizer *vocab_tokenizer(const wtl_vocab *vocab);

#ifdef __cplusplus
}
#endif
#endif
