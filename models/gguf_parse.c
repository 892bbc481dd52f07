// Parsing of GGUF metadata: keys, tensor infos, and the place of every tensor in the data section.
//
// Invariant: the cursor never passes the end of the file, and nothing is allocated before the bytes that would fill it
// are known to be there. Every refusal goes through refuse() and so names the file, the key or tensor, and the offset.
// Layout (both versions, little endian): key = str, u32 type, value; array = u32 type, u64 count, elements; str = u64
// length, bytes; tensor = str, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset from the data section.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf_private.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define DEFAULT_ALIGNMENT 32
#define ALIGNMENT_MIN 8
#define ALIGNMENT_MAX 65536
#define NAME_BYTES_MAX 65535 // the format's limit for keys; used for tensor names too
// Far above any real file (about 100 keys, 50,000 tensors); they bound what a hostile one can make us allocate.
#define KV_MAX 65536
#define TENSORS_MAX 1048576
// Smallest encodings: a one-byte name and a one-byte value; a one-byte name and one dimension.
#define KV_BYTES_MIN (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

// Where the parser is, and what it is reading there (for sentences).
typedef struct gguf_cursor {
    gguf_file *file;
    uint64_t pos;
    const char *kind; // "key", "tensor"
    uint64_t index, count;
    gguf_str name; // empty until it is known
    wtl_error *err;
} gguf_cursor;

__attribute__((format(printf, 4, 5))) static wtl_status refuse(const gguf_cursor *c, wtl_status status, uint64_t offset,
                                                               const char *format, ...) {
    char reason[320];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (c->name.len)
        return wtl_fail(c->err, status, "%s: %s '%s' (offset %" PRIu64 "): %s", c->file->shown_path, c->kind,
                        gguf_show(c->name).text, offset, reason);
    return wtl_fail(c->err, status, "%s: %s %" PRIu64 " of %" PRIu64 " (offset %" PRIu64 "): %s", c->file->shown_path,
                    c->kind, c->index + 1, c->count, offset, reason);
}

static uint64_t bytes_left(const gguf_cursor *c) { return c->file->bytes - c->pos; }

// Steps over bytes and gives their start; refuses when the file ends before.
static wtl_status take(gguf_cursor *c, uint64_t bytes, const char *what, const uint8_t **out) {
    if (bytes > bytes_left(c))
        return refuse(c, WTL_ERR_FORMAT, c->pos,
                      "its %s takes %" PRIu64 " bytes, but the file ends after %" PRIu64
                      "; the file is truncated or damaged",
                      what, bytes, bytes_left(c));
    *out = c->file->base + c->pos;
    c->pos += bytes;
    return WTL_OK;
}

static wtl_status take_u32(gguf_cursor *c, const char *what, uint32_t *out) {
    const uint8_t *p = NULL;
    wtl_status status = take(c, 4, what, &p);
    if (!status) *out = gguf_load_u32(p);
    return status;
}

static wtl_status take_u64(gguf_cursor *c, const char *what, uint64_t *out) {
    const uint8_t *p = NULL;
    wtl_status status = take(c, 8, what, &p);
    if (!status) *out = gguf_load_u64(p);
    return status;
}

static wtl_status take_name(gguf_cursor *c) {
    uint64_t len = 0, start = c->pos;
    const uint8_t *p = NULL;
    wtl_status status = take_u64(c, "name length", &len);
    if (status) return status;
    if (len == 0 || len > NAME_BYTES_MAX)
        return refuse(c, WTL_ERR_FORMAT, start, "a name of %" PRIu64 " bytes; 1 to %d are allowed", len,
                      NAME_BYTES_MAX);
    status = take(c, len, "name", &p);
    if (!status) c->name = (gguf_str){(const char *)p, (size_t)len};
    return status;
}

// ---- Index ------------------------------------------------------------------------------------------------------

static bool table_alloc(gguf_table *table, uint64_t count) {
    size_t slots = 2;
    while (slots < 2 * count) slots *= 2;
    table->slots = wtl_calloc(slots, sizeof *table->slots);
    table->mask = slots - 1;
    return table->slots != NULL;
}

// Refuses a name that is already there. names + i * stride is the gguf_str of entry i.
static wtl_status table_add(gguf_cursor *c, gguf_table *table, const void *names, size_t stride, uint64_t start) {
    size_t slot = (size_t)gguf_hash(c->file, c->name) & table->mask;
    for (; table->slots[slot]; slot = (slot + 1) & table->mask) {
        size_t other = table->slots[slot] - 1;
        const gguf_str *name = (const gguf_str *)(const void *)((const char *)names + other * stride);
        if (gguf_str_equal(*name, c->name))
            return refuse(c, WTL_ERR_FORMAT, start, "the name occurs twice: %s %zu of the file has it already", c->kind,
                          other + 1);
    }
    table->slots[slot] = (uint32_t)c->index + 1;
    return WTL_OK;
}

static wtl_status no_memory(const gguf_cursor *c, uint64_t count) {
    return wtl_fail(c->err, WTL_ERR_NO_MEMORY, "%s: out of memory for an index of %" PRIu64 " %ss", c->file->shown_path,
                    count, c->kind);
}

static wtl_status check_count(const gguf_cursor *c, uint64_t header_offset, uint64_t entry_bytes_min, uint64_t max) {
    if (c->count > bytes_left(c) / entry_bytes_min)
        return wtl_fail(c->err, WTL_ERR_FORMAT,
                        "%s: the header (offset %" PRIu64 ") claims %" PRIu64 " %ss, but the %" PRIu64
                        " bytes after offset %" PRIu64 " hold %" PRIu64 " at most; the file is truncated or damaged",
                        c->file->shown_path, header_offset, c->count, c->kind, bytes_left(c), c->pos,
                        bytes_left(c) / entry_bytes_min);
    if (c->count > max)
        return wtl_fail(c->err, WTL_ERR_LIMIT,
                        "%s: the header (offset %" PRIu64 ") claims %" PRIu64 " %ss; %" PRIu64 " are the limit",
                        c->file->shown_path, header_offset, c->count, c->kind, max);
    return WTL_OK;
}

// ---- Keys -------------------------------------------------------------------------------------------------------

// Walks the strings of an array (or the one string of a scalar): each must end inside the file.
static wtl_status skip_strings(gguf_cursor *c, uint64_t count) {
    const uint8_t *base = c->file->base;
    uint64_t pos = c->pos, end = c->file->bytes;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t left = end - pos;
        uint64_t len = left >= 8 ? gguf_load_u64(base + pos) : 0;
        if (left < 8 || len > left - 8)
            return refuse(c, WTL_ERR_FORMAT, pos,
                          "string %" PRIu64 " of %" PRIu64 " takes %" PRIu64
                          " bytes%s, but the file ends after %" PRIu64 "; the file is truncated or damaged",
                          i + 1, count, left < 8 ? 8 : len, left < 8 ? " for its length" : "",
                          left < 8 ? left : left - 8);
        pos += 8 + len;
    }
    c->pos = pos;
    return WTL_OK;
}

static wtl_status refuse_value_type(const gguf_cursor *c, uint32_t type, const char *what, uint64_t offset) {
    return refuse(c, WTL_ERR_UNSUPPORTED, offset, "unknown %s %" PRIu32 "; types 0 to %d exist", what, type,
                  GGUF_TYPE_END - 1);
}

static wtl_status read_array_head(gguf_cursor *c, gguf_kv *kv) {
    uint32_t type = 0;
    uint64_t start = c->pos;
    wtl_status status = take_u32(c, "array element type", &type);
    if (status) return status;
    if (type == GGUF_ARRAY)
        return refuse(c, WTL_ERR_UNSUPPORTED, start,
                      "an array of arrays; only arrays of scalars and strings can be read");
    if (type >= GGUF_TYPE_END) return refuse_value_type(c, type, "array element type", start);
    kv->elem_type = (gguf_type)type;
    start = c->pos;
    status = take_u64(c, "array length", &kv->count);
    if (status) return status;
    uint64_t elem_bytes = type == GGUF_STRING ? 8 : gguf_scalar_bytes(kv->elem_type);
    if (kv->count > bytes_left(c) / elem_bytes)
        return refuse(c, WTL_ERR_FORMAT, start,
                      "an array of %" PRIu64 " elements of type %s, but only %" PRIu64
                      " bytes are left; the file is truncated or damaged",
                      kv->count, gguf_type_name(kv->elem_type), bytes_left(c));
    return WTL_OK;
}

static wtl_status read_value(gguf_cursor *c, gguf_kv *kv) {
    uint32_t type = 0;
    uint64_t start = c->pos;
    wtl_status status = take_u32(c, "type", &type);
    if (status) return status;
    if (type >= GGUF_TYPE_END) return refuse_value_type(c, type, "value type", start);
    kv->type = kv->elem_type = (gguf_type)type;
    kv->count = 1;
    if (type == GGUF_ARRAY && (status = read_array_head(c, kv))) return status;
    kv->offset = c->pos;
    kv->payload = c->file->base + c->pos;
    if (kv->elem_type == GGUF_STRING) {
        status = skip_strings(c, kv->count);
    } else {
        const uint8_t *p = NULL;
        status =
            take(c, kv->count * gguf_scalar_bytes(kv->elem_type), "value", &p); // no overflow: checked against the file
    }
    kv->payload_bytes = c->pos - kv->offset;
    return status;
}

static wtl_status read_keys(gguf_file *file, uint64_t n, uint64_t *pos, wtl_error *err) {
    gguf_cursor c = {.file = file, .pos = *pos, .kind = "key", .count = n, .err = err};
    wtl_status status = check_count(&c, 16, KV_BYTES_MIN, KV_MAX);
    if (status) return status;
    file->kv = wtl_calloc((size_t)n, sizeof *file->kv);
    if (!file->kv || !table_alloc(&file->kv_table, n)) return no_memory(&c, n);
    for (; c.index < n; c.index++) {
        gguf_kv *kv = &file->kv[c.index];
        uint64_t start = c.pos;
        c.name = (gguf_str){0};
        if ((status = take_name(&c))) return status;
        kv->key = c.name;
        if ((status = table_add(&c, &file->kv_table, file->kv, sizeof *kv, start))) return status;
        if ((status = read_value(&c, kv))) return status;
        file->n_kv = (size_t)c.index + 1;
    }
    *pos = c.pos;
    return WTL_OK;
}

static wtl_status read_alignment(gguf_file *file, wtl_error *err) {
    static const char key[] = "general.alignment";
    const gguf_kv *kv = gguf_find(file, key);
    file->alignment = DEFAULT_ALIGNMENT;
    if (!kv) return WTL_OK;
    if (kv->type != GGUF_U32)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key '%s' (offset %" PRIu64 ") is of type %s; it must be u32",
                        file->shown_path, key, kv->offset, gguf_type_name(kv->type));
    uint32_t a = gguf_load_u32(kv->payload);
    if (a < ALIGNMENT_MIN || a > ALIGNMENT_MAX || (a & (a - 1)) != 0)
        return wtl_fail(err, WTL_ERR_FORMAT,
                        "%s: key '%s' (offset %" PRIu64 ") is %" PRIu32 "; it must be a power of two from %d to %d",
                        file->shown_path, key, kv->offset, a, ALIGNMENT_MIN, ALIGNMENT_MAX);
    file->alignment = a;
    return WTL_OK;
}

// ---- Tensors ----------------------------------------------------------------------------------------------------

static wtl_status read_dims(gguf_cursor *c, gguf_tensor *t) {
    uint64_t start = c->pos, elements = 1;
    wtl_status status = take_u32(c, "number of dimensions", &t->n_dims);
    if (status) return status;
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
        return refuse(c, WTL_ERR_FORMAT, start, "%" PRIu32 " dimensions; 1 to %d are allowed", t->n_dims,
                      GGUF_MAX_DIMS);
    for (uint32_t d = 0; d < GGUF_MAX_DIMS; d++) {
        start = c->pos;
        t->dims[d] = 1;
        if (d < t->n_dims && (status = take_u64(c, "dimension", &t->dims[d]))) return status;
        if (t->dims[d] == 0) return refuse(c, WTL_ERR_FORMAT, start, "dimension %" PRIu32 " is 0", d + 1);
        if (!wtl_mul_u64(elements, t->dims[d], &elements) || elements > INT64_MAX)
            return refuse(c, WTL_ERR_FORMAT, start,
                          "dimension %" PRIu32 " is %" PRIu64 ", which makes more than 2^63 elements", d + 1,
                          t->dims[d]);
    }
    return WTL_OK;
}

// Type ids that were given out once and then withdrawn; no current tool writes them.
static bool type_was_removed(uint32_t id) {
    return id == 4 || id == 5 || (id >= 31 && id <= 33) || (id >= 36 && id <= 38);
}

static wtl_status read_dtype(gguf_cursor *c, gguf_tensor *t) {
    uint32_t id = 0;
    uint64_t start = c->pos, bytes = 0;
    wtl_status status = take_u32(c, "type", &id);
    if (status) return status;
    const wtl_dtype_info *info = wtl_dtype_get(id);
    if (!info->name && type_was_removed(id))
        return refuse(c, WTL_ERR_UNSUPPORTED, start,
                      "tensor type %" PRIu32 " was removed from the format; the model must be converted again", id);
    if (!info->name) return refuse(c, WTL_ERR_UNSUPPORTED, start, "unknown tensor type %" PRIu32, id);
    t->dtype = (wtl_dtype)id;
    if (t->dims[0] % info->block_weights != 0)
        return refuse(c, WTL_ERR_FORMAT, start,
                      "rows of %" PRIu64 " elements are no whole number of %s blocks of %" PRIu32, t->dims[0],
                      info->name, info->block_weights);
    bool fits = wtl_dtype_row_bytes(t->dtype, t->dims[0], &bytes);
    for (uint32_t d = 1; d < GGUF_MAX_DIMS; d++) fits = fits && wtl_mul_u64(bytes, t->dims[d], &bytes);
    if (!fits) return refuse(c, WTL_ERR_FORMAT, start, "its size in bytes exceeds 2^64");
    t->bytes = bytes;
    return WTL_OK;
}

static wtl_status read_tensor(gguf_cursor *c, gguf_tensor *t) {
    uint64_t start = c->pos;
    c->name = (gguf_str){0};
    wtl_status status = take_name(c);
    if (status) return status;
    t->name = c->name;
    if ((status = table_add(c, &c->file->tensor_table, c->file->tensors, sizeof *t, start))) return status;
    if ((status = read_dims(c, t))) return status;
    if ((status = read_dtype(c, t))) return status;
    start = c->pos;
    if ((status = take_u64(c, "data offset", &t->file_offset))) return status;
    if (t->file_offset % c->file->alignment != 0)
        return refuse(c, WTL_ERR_FORMAT, start, "its data offset %" PRIu64 " is no multiple of the alignment %" PRIu32,
                      t->file_offset, c->file->alignment);
    return WTL_OK;
}

static wtl_status read_tensors(gguf_file *file, uint64_t n, uint64_t *pos, wtl_error *err) {
    gguf_cursor c = {.file = file, .pos = *pos, .kind = "tensor", .count = n, .err = err};
    wtl_status status = check_count(&c, 8, TENSOR_BYTES_MIN, TENSORS_MAX);
    if (status) return status;
    file->tensors = wtl_calloc((size_t)n, sizeof *file->tensors);
    if (!file->tensors || !table_alloc(&file->tensor_table, n)) return no_memory(&c, n);
    for (; c.index < n; c.index++) {
        if ((status = read_tensor(&c, &file->tensors[c.index]))) return status;
        file->n_tensors = (size_t)c.index + 1;
    }
    *pos = c.pos;
    return WTL_OK;
}

// ---- Data section -----------------------------------------------------------------------------------------------

// Makes offsets absolute and refuses data beyond the end of the file, naming the tensor that lacks most.
static wtl_status place_tensors(gguf_file *file, wtl_error *err) {
    uint64_t last_end = 0;
    const gguf_tensor *last = NULL;
    for (size_t i = 0; i < file->n_tensors; i++) {
        gguf_tensor *t = &file->tensors[i];
        uint64_t relative = t->file_offset, end;
        if (!wtl_add_u64(file->data_offset, relative, &t->file_offset) || !wtl_add_u64(t->file_offset, t->bytes, &end))
            return wtl_fail(err, WTL_ERR_FORMAT,
                            "%s: tensor '%s' (data offset %" PRIu64 ", %" PRIu64 " bytes) ends beyond 2^64",
                            file->shown_path, gguf_show(t->name).text, relative, t->bytes);
        if (end > last_end) {
            last_end = end;
            last = t;
        }
    }
    if (last_end > file->bytes)
        return wtl_fail(err, WTL_ERR_FORMAT,
                        "%s: the file is truncated: tensor '%s' lies at offset %" PRIu64 " to %" PRIu64
                        ", but the file has %zu bytes; %" PRIu64 " bytes are missing",
                        file->shown_path, gguf_show(last->name).text, last->file_offset, last_end, file->bytes,
                        last_end - file->bytes);
    for (size_t i = 0; i < file->n_tensors; i++) file->tensors[i].data = file->base + file->tensors[i].file_offset;
    return WTL_OK;
}

static int by_offset(const void *a, const void *b) {
    const gguf_tensor *x = *(const gguf_tensor *const *)a, *y = *(const gguf_tensor *const *)b;
    return (x->file_offset > y->file_offset) - (x->file_offset < y->file_offset);
}

// Refuses tensors that share bytes. Files list tensors in the order of their data, so the sort is rarely needed.
static wtl_status check_overlap(gguf_file *file, wtl_error *err) {
    wtl_status status = WTL_OK;
    const gguf_tensor *t = file->tensors, **sorted = NULL;
    size_t i = 1;
    while (i < file->n_tensors && t[i].file_offset >= t[i - 1].file_offset + t[i - 1].bytes) i++;
    if (i >= file->n_tensors) return WTL_OK;
    sorted = wtl_malloc(file->n_tensors * sizeof *sorted);
    if (!sorted)
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for an index of %zu tensors", file->shown_path,
                        file->n_tensors);
    for (i = 0; i < file->n_tensors; i++) sorted[i] = &t[i];
    qsort(sorted, file->n_tensors, sizeof *sorted, by_offset);
    for (i = 1; i < file->n_tensors && !status; i++)
        if (sorted[i]->file_offset < sorted[i - 1]->file_offset + sorted[i - 1]->bytes)
            status =
                wtl_fail(err, WTL_ERR_FORMAT, "%s: tensors '%s' and '%s' overlap at offset %" PRIu64, file->shown_path,
                         gguf_show(sorted[i - 1]->name).text, gguf_show(sorted[i]->name).text, sorted[i]->file_offset);
    wtl_free(sorted);
    return status;
}

wtl_status gguf_parse(gguf_file *file, uint64_t n_kv, uint64_t n_tensors, wtl_error *err) {
    uint64_t pos = GGUF_HEADER_BYTES;
    wtl_status status = read_keys(file, n_kv, &pos, err);
    if (!status) status = read_alignment(file, err);
    if (!status) status = read_tensors(file, n_tensors, &pos, err);
    if (status) return status;
    // No overflow: pos is inside the file, which is smaller than half the address space.
    file->data_offset = (pos + file->alignment - 1) & ~(uint64_t)(file->alignment - 1);
    status = place_tensors(file, err);
    return status ? status : check_overlap(file, err);
}
