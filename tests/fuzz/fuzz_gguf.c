// Fuzz entry of the GGUF reader: opens the input, then reads everything that an open file offers.
//
// fuzz_gguf() is shared by the libFuzzer program (WTL_LIBFUZZER) and by the replay in the ordinary tests. Whatever it
// reads is folded into a sum that the compiler cannot drop, so that sanitizers see every access.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"
#include "models/model.h"
#include "runtime/base/alloc.h"

int fuzz_gguf(const uint8_t *data, size_t bytes); // 1: the input was a readable file

static volatile uint64_t sink;

static void read_bytes(const void *data, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes; i++) sum += ((const uint8_t *)data)[i];
    sink = sink + sum;
}

static void read_getters(const gguf_file *file, const char *key) {
    wtl_error err;
    uint32_t u = 0;
    int64_t i = 0;
    float f = 0;
    bool b = false;
    gguf_str s = {0};
    gguf_get_u32(file, key, &u, &err);
    gguf_get_i64(file, key, &i, &err);
    gguf_get_f32(file, key, &f, &err);
    gguf_get_bool(file, key, &b, &err);
    if (gguf_get_str(file, key, &s, &err) == WTL_OK) read_bytes(s.s, s.len);
}

static void read_key(const gguf_file *file, const gguf_kv *kv) {
    read_bytes(kv->key.s, kv->key.len);
    read_bytes(kv->payload, kv->payload_bytes);
    sink = sink + strlen(gguf_type_name(kv->type));
    for (uint64_t i = 0; i <= kv->count && i < 4096; i++) { // one past the end must be refused
        int64_t whole;
        float real;
        gguf_elem_i64(kv, i, &whole);
        gguf_elem_f32(kv, i, &real);
    }
    if (kv->type == GGUF_ARRAY && kv->elem_type == GGUF_STRING) {
        gguf_str *strings = wtl_calloc((size_t)kv->count, sizeof *strings);
        if (strings && gguf_array_strings(file, kv, strings, (size_t)kv->count, NULL) == WTL_OK)
            for (uint64_t i = 0; i < kv->count; i++) read_bytes(strings[i].s, strings[i].len);
        wtl_free(strings);
    }
    char *key = wtl_strndup(kv->key.s, kv->key.len);
    if (key && strlen(key) == kv->key.len && gguf_find(file, key) != kv) abort(); // keys are unique, so each finds itself
    if (key) read_getters(file, key);
    wtl_free(key);
}

static void read_tensor(const gguf_file *file, const gguf_tensor *t) {
    read_bytes(t->name.s, t->name.len);
    read_bytes(t->data, t->bytes);
    if (!wtl_dtype_get((uint32_t)t->dtype)->name || t->file_offset + t->bytes > gguf_file_bytes(file)) abort();
    char *name = wtl_strndup(t->name.s, t->name.len);
    if (name && strlen(name) == t->name.len && gguf_find_tensor(file, name) != t) abort();
    wtl_free(name);
    gguf_will_need(file, t);
    gguf_done_with(file, t, t);
}

int fuzz_gguf(const uint8_t *data, size_t bytes) {
    gguf_file *file = NULL;
    wtl_error err = {0};
    wtl_status status = gguf_open_memory(data, bytes, "fuzz", &file, &err);
    if (status) {
        if (file || err.status != status || !err.message[0]) abort(); // a refusal leaves nothing and says why
        return 0;
    }
    for (size_t i = 0; i < gguf_n_kv(file); i++) read_key(file, gguf_kv_at(file, i));
    for (size_t i = 0; i < gguf_n_tensors(file); i++) read_tensor(file, gguf_tensor_at(file, i));
    gguf_find(file, "general.alignment");
    wtl_model_config config;
    if (model_config_read(file, &config, &err) == WTL_OK)
        for (int32_t i = 0; i < config.n_layers; i++) sink = sink + model_layer_is_local(&config, i);
    gguf_close(&file);
    return 1;
}

#ifdef WTL_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_gguf(data, bytes);
    return 0;
}
#endif
