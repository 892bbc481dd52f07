// Inside of the runtime: the chat templates that wattle brings, and which of them fits a vocabulary.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_CHAT_BUILTIN_H
#define WTL_RUNTIME_CHAT_BUILTIN_H

#include <stddef.h>

#include "models/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chat_builtin {
    const char *name;
    const char *marks[2]; // a vocabulary with all of these as special tokens was made for this template; NULL: no such sign
    const char *end;      // what ends a turn; where it is no token that ends a reply, text that does. NULL: EOS
    const char *source;
} chat_builtin;

const chat_builtin *chat_builtin_at(size_t i);         // NULL behind the last
const chat_builtin *chat_builtin_find(const char *name); // NULL: unknown
// The first whose marks the vocabulary has, else "plain".
const chat_builtin *chat_builtin_for(const wtl_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif
