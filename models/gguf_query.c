// Reading from an open GGUF file: lookup by name, typed values, page advice. Everything here is const and thread safe.
//
// Values are decoded on each read (files are unaligned and little endian); callers read them once, at load.
// SPDX-License-Identifier: Apache-2.0
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "models/gguf_private.h"

static const struct {
    const char *name;
    uint32_t bytes;
} value_types[GGUF_TYPE_END] = {
    [GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2}, [GGUF_I16] = {"i16", 2},
    [GGUF_U32] = {"u32", 4},       [GGUF_I32] = {"i32", 4},     [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},
    [GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8}, [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(gguf_type type) { return (unsigned)type < GGUF_TYPE_END ? value_types[type].name : "?"; }

uint32_t gguf_scalar_bytes(gguf_type type) { return (unsigned)type < GGUF_TYPE_END ? value_types[type].bytes : 0; }

const char *gguf_path(const gguf_file *file) { return file->path; }
uint64_t gguf_file_bytes(const gguf_file *file) { return file->bytes; }
bool gguf_is_mapped(const gguf_file *file) { return file->mapped; }
uint32_t gguf_version(const gguf_file *file) { return file->version; }
uint64_t gguf_data_offset(const gguf_file *file) { return file->data_offset; }
size_t gguf_n_kv(const gguf_file *file) { return file->n_kv; }
const gguf_kv *gguf_kv_at(const gguf_file *file, size_t i) { return i < file->n_kv ? &file->kv[i] : NULL; }
size_t gguf_n_tensors(const gguf_file *file) { return file->n_tensors; }
const gguf_tensor *gguf_tensor_at(const gguf_file *file, size_t i) {
    return i < file->n_tensors ? &file->tensors[i] : NULL;
}

gguf_shown gguf_show(gguf_str s) {
    gguf_shown shown;
    size_t max = sizeof shown.text - 1, n = s.len <= max ? s.len : max - 3;
    for (size_t i = 0; i < n; i++) shown.text[i] = (char)(s.s[i] >= 0x20 && s.s[i] < 0x7F ? s.s[i] : '?');
    strcpy(shown.text + n, n < s.len ? "..." : "");
    return shown;
}

// FNV-1a from a secret start, with the high bits folded into the low ones that index the table.
uint64_t gguf_hash(const gguf_file *file, gguf_str s) {
    uint64_t h = 0xCBF29CE484222325u ^ file->hash_seed;
    for (size_t i = 0; i < s.len; i++) h = (h ^ (uint8_t)s.s[i]) * 0x100000001B3u;
    return h ^ (h >> 32);
}

bool gguf_str_equal(gguf_str a, gguf_str b) { return a.len == b.len && memcmp(a.s, b.s, a.len) == 0; }

const gguf_kv *gguf_find(const gguf_file *file, const char *key) {
    gguf_str wanted = {key, strlen(key)};
    const gguf_table *table = &file->kv_table;
    for (size_t slot = (size_t)gguf_hash(file, wanted) & table->mask; table->slots[slot];
         slot = (slot + 1) & table->mask) {
        const gguf_kv *kv = &file->kv[table->slots[slot] - 1];
        if (gguf_str_equal(kv->key, wanted)) return kv;
    }
    return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name) {
    gguf_str wanted = {name, strlen(name)};
    const gguf_table *table = &file->tensor_table;
    for (size_t slot = (size_t)gguf_hash(file, wanted) & table->mask; table->slots[slot];
         slot = (slot + 1) & table->mask) {
        const gguf_tensor *tensor = &file->tensors[table->slots[slot] - 1];
        if (gguf_str_equal(tensor->name, wanted)) return tensor;
    }
    return NULL;
}

// ---- Values -----------------------------------------------------------------------------------------------------

static bool load_i64(gguf_type type, const uint8_t *p, int64_t *out) {
    uint64_t u;
    switch (type) {
    case GGUF_U8: *out = p[0]; return true;
    case GGUF_I8: *out = (int8_t)p[0]; return true;
    case GGUF_U16: *out = p[0] | p[1] << 8; return true;
    case GGUF_I16: *out = (int16_t)(p[0] | p[1] << 8); return true;
    case GGUF_U32: *out = gguf_load_u32(p); return true;
    case GGUF_I32: *out = (int32_t)gguf_load_u32(p); return true;
    case GGUF_I64: *out = (int64_t)gguf_load_u64(p); return true;
    case GGUF_U64:
        u = gguf_load_u64(p);
        if (u > INT64_MAX) return false;
        *out = (int64_t)u;
        return true;
    case GGUF_BOOL:
        if (p[0] > 1) return false;
        *out = p[0];
        return true;
    default: return false;
    }
}

static bool load_f32(gguf_type type, const uint8_t *p, float *out) {
    int64_t i;
    if (type == GGUF_F32) {
        *out = wtl_f32_from_bits(gguf_load_u32(p));
        return true;
    }
    if (type == GGUF_F64) {
        union {
            uint64_t u;
            double d;
        } x = {gguf_load_u64(p)};
        if (isfinite(x.d) && fabs(x.d) > FLT_MAX) return false;
        *out = (float)x.d;
        return true;
    }
    if (type == GGUF_U64) {
        *out = (float)gguf_load_u64(p);
        return true;
    }
    if (!load_i64(type, p, &i)) return false;
    *out = (float)i;
    return true;
}

bool gguf_elem_i64(const gguf_kv *kv, uint64_t i, int64_t *out) {
    return i < kv->count && load_i64(kv->elem_type, kv->payload + i * gguf_scalar_bytes(kv->elem_type), out);
}

bool gguf_elem_f32(const gguf_kv *kv, uint64_t i, float *out) {
    return i < kv->count && load_f32(kv->elem_type, kv->payload + i * gguf_scalar_bytes(kv->elem_type), out);
}

static wtl_status refuse_type(const gguf_file *file, const gguf_kv *kv, const char *wanted, wtl_error *err) {
    bool array = kv->type == GGUF_ARRAY;
    return wtl_fail(err, WTL_ERR_FORMAT, "%s: key '%s' (offset %" PRIu64 ") is %s%s; %s was expected", file->shown_path,
                    gguf_show(kv->key).text, kv->offset, array ? "an array of " : "of type ",
                    gguf_type_name(kv->elem_type), wanted);
}

static bool is_integer(gguf_type type) { return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64; }

// The integer behind key if it lies in [min, max].
static wtl_status get_integer(const gguf_file *file, const char *key, int64_t min, int64_t max, int64_t *out,
                              wtl_error *err) {
    int64_t value = 0;
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return WTL_ERR_NOT_FOUND;
    if (!is_integer(kv->type)) return refuse_type(file, kv, "an integer", err);
    if (!load_i64(kv->type, kv->payload, &value)) // only a u64 above the range of i64
        return wtl_fail(err, WTL_ERR_FORMAT,
                        "%s: key '%s' (offset %" PRIu64 ") is %" PRIu64 "; %" PRId64 " is the largest allowed",
                        file->shown_path, gguf_show(kv->key).text, kv->offset, gguf_load_u64(kv->payload), max);
    if (value < min || value > max)
        return wtl_fail(err, WTL_ERR_FORMAT,
                        "%s: key '%s' (offset %" PRIu64 ") is %" PRId64 "; it must be from %" PRId64 " to %" PRId64,
                        file->shown_path, gguf_show(kv->key).text, kv->offset, value, min, max);
    *out = value;
    return WTL_OK;
}

wtl_status gguf_get_u32(const gguf_file *file, const char *key, uint32_t *out, wtl_error *err) {
    int64_t value = 0;
    wtl_status status = get_integer(file, key, 0, UINT32_MAX, &value, err);
    if (!status) *out = (uint32_t)value;
    return status;
}

wtl_status gguf_get_i64(const gguf_file *file, const char *key, int64_t *out, wtl_error *err) {
    return get_integer(file, key, INT64_MIN, INT64_MAX, out, err);
}

wtl_status gguf_get_f32(const gguf_file *file, const char *key, float *out, wtl_error *err) {
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return WTL_ERR_NOT_FOUND;
    if (kv->type != GGUF_F32 && kv->type != GGUF_F64) return refuse_type(file, kv, "a floating-point number", err);
    if (!load_f32(kv->type, kv->payload, out))
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key '%s' (offset %" PRIu64 ") is too large for f32", file->shown_path,
                        gguf_show(kv->key).text, kv->offset);
    return WTL_OK;
}

wtl_status gguf_get_bool(const gguf_file *file, const char *key, bool *out, wtl_error *err) {
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return WTL_ERR_NOT_FOUND;
    if (kv->type != GGUF_BOOL) return refuse_type(file, kv, "a bool", err);
    if (kv->payload[0] > 1)
        return wtl_fail(err, WTL_ERR_FORMAT,
                        "%s: key '%s' (offset %" PRIu64 ") is a bool of value %d; it must be 0 or 1", file->shown_path,
                        gguf_show(kv->key).text, kv->offset, kv->payload[0]);
    *out = kv->payload[0] != 0;
    return WTL_OK;
}

wtl_status gguf_get_str(const gguf_file *file, const char *key, gguf_str *out, wtl_error *err) {
    const gguf_kv *kv = gguf_find(file, key);
    if (!kv) return WTL_ERR_NOT_FOUND;
    if (kv->type != GGUF_STRING) return refuse_type(file, kv, "a string", err);
    *out = (gguf_str){(const char *)kv->payload + 8, (size_t)gguf_load_u64(kv->payload)};
    return WTL_OK;
}

wtl_status gguf_array_strings(const gguf_file *file, const gguf_kv *kv, gguf_str *out, size_t count, wtl_error *err) {
    if (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING)
        return refuse_type(file, kv, "an array of strings", err);
    if (count != kv->count)
        return wtl_fail(err, WTL_ERR_INVALID,
                        "%s: key '%s' (offset %" PRIu64 ") has %" PRIu64 " strings; the caller asked for %zu",
                        file->shown_path, gguf_show(kv->key).text, kv->offset, kv->count, count);
    const uint8_t *p = kv->payload; // lengths were checked when the file was opened
    for (size_t i = 0; i < count; i++) {
        out[i] = (gguf_str){(const char *)p + 8, (size_t)gguf_load_u64(p)};
        p += 8 + out[i].len;
    }
    return WTL_OK;
}

// ---- Page advice ------------------------------------------------------------------------------------------------

// Whole pages of the tensors from first to last: outer ones include neighbours' bytes, inner ones are theirs alone.
static void advise(const gguf_file *file, const gguf_tensor *first, const gguf_tensor *last, bool outer, int advice) {
    if (!file->mapped) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)first->data, end = (uintptr_t)last->data + (uintptr_t)last->bytes;
    start = (outer ? start : start + page - 1) & ~(page - 1);
    if (!outer) end &= ~(page - 1);
    if (end > start) madvise((void *)start, end - start, advice);
}

void gguf_will_need(const gguf_file *file, const gguf_tensor *tensor) { advise(file, tensor, tensor, true, MADV_WILLNEED); }
void gguf_done_with(const gguf_file *file, const gguf_tensor *first, const gguf_tensor *last) { advise(file, first, last, false, MADV_DONTNEED); }
