// The tables of methods, between the two files that have them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_METHODS_H
#define WTL_MODELS_CHAT_TEMPLATE_METHODS_H

#include "models/chat_template/value.h"

typedef struct method_entry {
    const char *name;
    jval (*call)(jctx *c, jval self, const jargs *args);
    bool changes; // its list or dict: refused unless the rendering allows it
} method_entry;

extern const method_entry text_methods[]; // ends with a NULL name

#endif
