// Inside of the GGUF reader: the file object, little-endian loads and error sentences, shared by gguf.c (opening),
// gguf_parse.c (keys and tensors) and gguf_query.c (lookup and typed reads). Nobody else includes it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_GGUF_PRIVATE_H
#define WTL_MODELS_GGUF_PRIVATE_H

#include "models/gguf.h"

#define GGUF_HEADER_BYTES 24 // magic, version, tensor count, key count

// Open addressing, linear probing; a slot holds index + 1, 0 is free. At least half of the slots are free.
typedef struct gguf_table {
    uint32_t *slots; // [mask + 1]
    size_t mask;
} gguf_table;

struct gguf_file {
    const uint8_t *base; // [bytes]
    size_t bytes;
    bool mapped; // else the caller's memory
    char *path;
    char *shown_path; // in error sentences: a long path keeps its tail
    uint32_t version;
    uint32_t alignment;
    uint64_t data_offset;
    uint64_t hash_seed; // differs per open, so that no file can be made to collide
    gguf_kv *kv;        // [n_kv]
    size_t n_kv;
    gguf_table kv_table;
    gguf_tensor *tensors; // [n_tensors]
    size_t n_tensors;
    gguf_table tensor_table;
};

// Reads keys, tensor infos and checks the data section; the header is 24 bytes and was checked by the caller.
wtl_status gguf_parse(gguf_file *file, uint64_t n_kv, uint64_t n_tensors, wtl_error *err);

uint64_t gguf_hash(const gguf_file *file, gguf_str s);
bool gguf_str_equal(gguf_str a, gguf_str b);

// A name from the file, fit for a sentence: printable ASCII, others '?', cut with "..." when long.
typedef struct gguf_shown {
    char text[72];
} gguf_shown;
gguf_shown gguf_show(gguf_str s);

// Bytes of one scalar; 0 for strings, arrays and unknown types.
uint32_t gguf_scalar_bytes(gguf_type type);

static inline uint32_t gguf_load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t gguf_load_u64(const uint8_t *p) {
    return (uint64_t)gguf_load_u32(p) | (uint64_t)gguf_load_u32(p + 4) << 32;
}

#endif
