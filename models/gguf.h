// GGUF files (versions 2 and 3, little endian): parsed over a read-only mapping, input treated as hostile.
//
// Owns the mapping and an index of keys and tensors; nothing is copied out of the file. Every string, array and tensor
// pointer borrows from the gguf_file and dies with it. After opening, a file is immutable: any thread may read it.
// Opening checks every size and offset (checked arithmetic) and refuses what does not fit with a sentence that names the
// key or tensor and the byte offset: overlong counts, unknown or removed types, duplicate keys and tensor names,
// misaligned or overlapping-the-end tensor data, rows that are no whole number of blocks. It knows nothing of models.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_GGUF_H
#define WTL_MODELS_GGUF_H

#include "kernels/tensor.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gguf_type {
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
    GGUF_U64, GGUF_I64, GGUF_F64, GGUF_TYPE_END
} gguf_type;

typedef struct gguf_str {
    const char *s; // not terminated; may hold any byte
    size_t len;
} gguf_str;

typedef struct gguf_kv {
    gguf_str key;
    gguf_type type;         // GGUF_ARRAY: elements are of elem_type (never GGUF_ARRAY: nested arrays are refused)
    gguf_type elem_type;
    uint64_t count;         // array length; 1 for scalars
    const uint8_t *payload; // scalar or first element, unaligned; for strings the u64 length comes first
    uint64_t payload_bytes;
    uint64_t offset;        // of the payload in the file
} gguf_kv;

#define GGUF_MAX_DIMS 4
typedef struct gguf_tensor {
    gguf_str name;
    uint32_t n_dims;
    uint64_t dims[GGUF_MAX_DIMS]; // innermost first, unused ones 1; product checked
    wtl_dtype dtype;
    uint64_t bytes;        // of the data
    uint64_t file_offset;  // absolute; a multiple of general.alignment
    const uint8_t *data;   // inside the mapping
} gguf_tensor;

typedef struct gguf_file gguf_file;

// Opens and indexes path. On success *out must be closed; on failure *out is NULL and err names file and place.
wtl_status gguf_open(const char *path, gguf_file **out, wtl_error *err);
// The same over memory that outlives the file (fuzzing, tests); name stands in for the path in error sentences.
wtl_status gguf_open_memory(const void *data, size_t bytes, const char *name, gguf_file **out, wtl_error *err);
void gguf_close(gguf_file **file); // accepts NULL and a NULL file

const char *gguf_path(const gguf_file *file); // as given at open
uint64_t gguf_file_bytes(const gguf_file *file);
bool gguf_is_mapped(const gguf_file *file); // a file on disk, not the caller's memory
uint32_t gguf_version(const gguf_file *file);
uint64_t gguf_data_offset(const gguf_file *file); // start of the tensor data section
size_t gguf_n_kv(const gguf_file *file);
const gguf_kv *gguf_kv_at(const gguf_file *file, size_t i);
size_t gguf_n_tensors(const gguf_file *file);
const gguf_tensor *gguf_tensor_at(const gguf_file *file, size_t i);

// NULL when absent. Hash lookup.
const gguf_kv *gguf_find(const gguf_file *file, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name);

// Typed reads. NOT_FOUND (err untouched) when the key is absent; FORMAT with a sentence when its type or range does not
// fit. Any integer type is accepted where the value fits; f32 accepts f64. *out is untouched on failure.
wtl_status gguf_get_u32(const gguf_file *file, const char *key, uint32_t *out, wtl_error *err);
wtl_status gguf_get_i64(const gguf_file *file, const char *key, int64_t *out, wtl_error *err);
wtl_status gguf_get_f32(const gguf_file *file, const char *key, float *out, wtl_error *err);
wtl_status gguf_get_bool(const gguf_file *file, const char *key, bool *out, wtl_error *err);
wtl_status gguf_get_str(const gguf_file *file, const char *key, gguf_str *out, wtl_error *err);
// Fills out[0..count) with the elements of a string array; count must be kv->count.
wtl_status gguf_array_strings(const gguf_file *file, const gguf_kv *kv, gguf_str *out, size_t count, wtl_error *err);
// Element i of a numeric or bool array (or scalar, i = 0) converted; false when the type or range does not fit.
bool gguf_elem_i64(const gguf_kv *kv, uint64_t i, int64_t *out);
bool gguf_elem_f32(const gguf_kv *kv, uint64_t i, float *out);

const char *gguf_type_name(gguf_type type); // "u32"; "?" when out of range

// Advice for the kernel about pages: read soon, or no longer needed (resident memory goes back; reading them again is still
// correct). Giving back costs an interrupt of every other thread: do so for many tensors at once, from the one that lies
// first in the file to the one that lies last. Best effort.
void gguf_will_need(const gguf_file *file, const gguf_tensor *tensor);
void gguf_done_with(const gguf_file *file, const gguf_tensor *first, const gguf_tensor *last);

#ifdef __cplusplus
}
#endif
#endif
