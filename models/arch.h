// Inside of models/: the table of architectures, and how each reads its own configuration keys.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_ARCH_H
#define WTL_MODELS_ARCH_H

#include "models/model.h"

// Where configuration keys are read from and to. Keys are given without the "<architecture>." in front.
typedef struct config_reader {
    const gguf_file *file;
    wtl_model_config *config;
    wtl_error *err;
} config_reader;

#define CONFIG_KEY_BYTES 128
wtl_status config_key(const config_reader *r, const char *key, char out[CONFIG_KEY_BYTES]);
// Value within low..high, or *fallback when the key is absent; with fallback NULL an absent key is an error.
wtl_status config_int(const config_reader *r, const char *key, int64_t low, int64_t high, const int32_t *fallback, int32_t *out);
wtl_status config_float(const config_reader *r, const char *key, float low, float high, const float *fallback, float *out);

struct wtl_arch {
    const char *name; // value of general.architecture
    wtl_status (*config)(const config_reader *r); // what differs from the defaults of model_config_read
    void (*bind)(model_binder *b);                // fills model->layers; failure sticks to the binder
    void (*forward)(const wtl_model *model, wtl_stream *s, const wtl_step *step);
};

// X(name): every architecture, called as general.architecture calls it.
#define ARCH_LIST(X) X(llama) X(gemma3)
#define ARCH_EXTERN(name) extern const wtl_arch arch_##name;
ARCH_LIST(ARCH_EXTERN)
#undef ARCH_EXTERN

const wtl_arch *arch_find(const char *name, size_t len); // NULL when unknown
const char *arch_list(void);                             // "llama, gemma3"

#endif
