// wtl_file: what a model file holds, without loading it.
//
// Works on every readable GGUF file: for architectures that can run, figures come from the checked configuration; for
// others from the generic keys `{arch}.*`, where the file has them. Nothing is read but metadata, so a file of any size
// takes milliseconds. Strings are copies fit for a terminal and for JSON: valid UTF-8, no control characters, cut when
// long.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "models/gguf.h"
#include "models/model.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"
#include "runtime/wattle.h"

#define NAME_BYTES_MAX 255
#define KEY_BYTES 320 // longer architecture names are cut by snprintf and find no key

struct wtl_file {
    gguf_file *gguf;
    wtl_file_info info;
    char *arch, *name, *vocab_model, *vocab_pre; // behind info's pointers
    wtl_error why;                               // the obstacle as it was found
    char *obstacle;
    wtl_tensor_info *tensors; // [n_tensors]; names are owned
};

// ---- Strings ----------------------------------------------------------------------------------------------------

static char *copy_text(gguf_str s, size_t len_max) {
    wtl_text_stream stream = {0};
    size_t len = s.len < len_max ? s.len : len_max, cap = 3 * (len + 4);
    char *text = wtl_malloc(cap + 1);
    if (!text) return NULL;
    size_t n = wtl_text_push(&stream, s.s, len, text, cap);
    if (len == s.len) n += wtl_text_finish(&stream, text + n, cap - n); // else the cut character is dropped
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i], next = i + 1 < n ? (unsigned char)text[i + 1] : 0;
        if (c < 0x20 || c == 0x7F) text[i] = '?';
        if (c == 0xC2 && next < 0xA0) text[i] = text[i + 1] = '?'; // U+0080 to U+009F: terminals obey some of them
    }
    text[n] = '\0';
    return text;
}

// The string behind key, or "" where there is none.
static char *copy_key(const gguf_file *gguf, const char *key) {
    gguf_str s = {"", 0};
    gguf_get_str(gguf, key, &s, NULL);
    return copy_text(s, NAME_BYTES_MAX);
}

// ---- Generic keys -----------------------------------------------------------------------------------------------

// Largest integer behind `{arch}.suffix` (per-layer arrays hold one per layer); 0 where it is absent or unfit.
static uint32_t arch_u32(const wtl_file *file, const char *suffix) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", file->arch, suffix);
    const gguf_kv *kv = gguf_find(file->gguf, key);
    uint32_t largest = 0;
    for (uint64_t i = 0; kv && i < kv->count; i++) {
        int64_t value;
        if (gguf_elem_i64(kv, i, &value) && value > largest && value <= UINT32_MAX) largest = (uint32_t)value;
    }
    return largest;
}

// Sum of KV heads over all layers.
static uint64_t count_kv_heads(const wtl_file *file, const wtl_file_info *info) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.attention.head_count_kv", file->arch);
    const gguf_kv *kv = gguf_find(file->gguf, key);
    if (!kv || kv->type != GGUF_ARRAY) return (uint64_t)info->n_layers * info->n_heads_kv;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < kv->count && i < info->n_layers; i++) {
        int64_t value;
        if (gguf_elem_i64(kv, i, &value) && value > 0 && value <= UINT32_MAX) sum += (uint64_t)value;
    }
    return sum;
}

static void describe_generic(const wtl_file *file, wtl_file_info *info) {
    info->n_layers = arch_u32(file, "block_count");
    info->n_embd = arch_u32(file, "embedding_length");
    info->n_ff = arch_u32(file, "feed_forward_length");
    info->n_ctx_train = arch_u32(file, "context_length");
    info->n_heads = arch_u32(file, "attention.head_count");
    info->n_heads_kv = arch_u32(file, "attention.head_count_kv");
    if (!info->n_heads_kv) info->n_heads_kv = info->n_heads;
    info->window = arch_u32(file, "attention.sliding_window"); // which layers use it is not in the file
    info->n_vocab = arch_u32(file, "vocab_size");
    uint32_t key_dim = arch_u32(file, "attention.key_length"), value_dim = arch_u32(file, "attention.value_length");
    uint32_t even_split = info->n_heads ? info->n_embd / info->n_heads : 0;
    if (!key_dim) key_dim = even_split;
    if (!value_dim) value_dim = even_split;
    info->head_dim = key_dim;
    // Two bytes a number and a scale for each key and each value. Hostile figures may overflow or reach absurd sizes; then the
    // product counts as unknown.
    uint64_t bytes;
    if (wtl_mul_u64(count_kv_heads(file, info), 2 * ((uint64_t)key_dim + value_dim + sizeof(float)), &bytes) && bytes <= INT32_MAX)
        info->kv_bytes_per_token = bytes;
}

static uint64_t kv_bytes(const wtl_model_config *config, wtl_dtype dtype) {
    const wtl_kv_shape shape = {dtype, config->n_heads_kv, config->head_dim};
    return (uint64_t)config->n_layers * cpu_backend_kv_layer_bytes(&shape) / WTL_KV_BLOCK;
}

static void describe_config(const wtl_model_config *config, wtl_file_info *info) {
    info->n_layers = (uint32_t)config->n_layers;
    info->n_embd = (uint32_t)config->n_embd;
    info->n_ff = (uint32_t)config->n_ff;
    info->n_ctx_train = (uint32_t)config->n_ctx_train;
    info->n_heads = (uint32_t)config->n_heads;
    info->n_heads_kv = (uint32_t)config->n_heads_kv;
    info->head_dim = (uint32_t)config->head_dim;
    info->n_vocab = (uint32_t)config->n_vocab;
    info->window = (uint32_t)config->window;
    for (int32_t layer = 0; layer < config->n_layers; layer++)
        info->n_window_layers += config->window > 0 && model_layer_is_local(config, layer);
    info->kv_bytes_per_token = kv_bytes(config, WTL_DTYPE_F16);
    info->kv_bytes_per_token_q8_0 = kv_bytes(config, WTL_DTYPE_Q8_0);
}

// ---- Tensors ----------------------------------------------------------------------------------------------------

static bool name_is(const gguf_tensor *t, const char *name) {
    return t->name.len == strlen(name) && memcmp(t->name.s, name, t->name.len) == 0;
}

// Tables of which a token takes one row. token_embd is the output matrix too where there is no other, and read whole.
static bool is_row_table(const gguf_tensor *t, bool tied) {
    return (name_is(t, "token_embd.weight") && !tied) || name_is(t, "position_embd.weight") ||
           name_is(t, "per_layer_token_embd.weight");
}

// Bytes of a tensor that one decoded token reads. Expert weights are stacked along dimension 2, and a token visits
// n_used of them.
static uint64_t token_bytes(const gguf_tensor *t, bool tied, uint32_t n_used) {
    if (is_row_table(t, tied)) return t->bytes / (t->dims[1] * t->dims[2] * t->dims[3]);
    bool experts = t->name.len > 12 && memmem(t->name.s, t->name.len, "_exps.", 6) != NULL;
    if (experts && n_used && n_used < t->dims[2]) return t->bytes / t->dims[2] * n_used;
    return t->bytes;
}

static wtl_status describe_tensors(wtl_file *file, wtl_error *err) {
    const gguf_file *gguf = file->gguf;
    size_t n = gguf_n_tensors(gguf);
    bool tied = !gguf_find_tensor(gguf, "output.weight");
    uint32_t n_used = arch_u32(file, "expert_used_count");
    file->tensors = wtl_calloc(n, sizeof *file->tensors);
    if (!file->tensors)
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for a list of %zu tensors", gguf_path(gguf), n);
    for (size_t i = 0; i < n; i++) {
        const gguf_tensor *t = gguf_tensor_at(gguf, i);
        wtl_tensor_info *out = &file->tensors[i];
        *out = (wtl_tensor_info){.name = copy_text(t->name, NAME_BYTES_MAX),
                                 .dtype = wtl_dtype_get((uint32_t)t->dtype)->name,
                                 .n_dims = t->n_dims,
                                 .bytes = t->bytes,
                                 .file_offset = t->file_offset};
        if (!out->name)
            return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for the names of %zu tensors", gguf_path(gguf),
                            n);
        memcpy(out->dims, t->dims, sizeof out->dims);
        file->info.n_tensors = i + 1;
        file->info.tensor_bytes += t->bytes;
        file->info.n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        file->info.decode_bytes += token_bytes(t, tied, n_used);
        if (!wtl_dtype_get((uint32_t)t->dtype)->can_run && !file->why.status)
            wtl_fail(&file->why, WTL_ERR_UNSUPPORTED, "tensor '%s' is of type %s, which wattle cannot run", out->name,
                     out->dtype);
    }
    return WTL_OK;
}

// ---- The whole --------------------------------------------------------------------------------------------------

static wtl_status copy_strings(wtl_file *file, wtl_error *err) {
    file->arch = copy_key(file->gguf, "general.architecture");
    file->name = copy_key(file->gguf, "general.name");
    file->vocab_model = copy_key(file->gguf, "tokenizer.ggml.model");
    file->vocab_pre = copy_key(file->gguf, "tokenizer.ggml.pre");
    if (!file->arch || !file->name || !file->vocab_model || !file->vocab_pre)
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for its description", gguf_path(file->gguf));
    return WTL_OK;
}

// Error sentences begin with the path, which whoever shows the description knows.
static const char *without_path(const char *message, const char *path) {
    size_t len = strlen(path);
    return strncmp(message, path, len) == 0 && strncmp(message + len, ": ", 2) == 0 ? message + len + 2 : message;
}

static int32_t file_type(const gguf_file *gguf) {
    uint32_t type = 0;
    return gguf_get_u32(gguf, "general.file_type", &type, NULL) == WTL_OK && type <= INT32_MAX ? (int32_t)type : -1;
}

static void describe_model(wtl_file *file) {
    wtl_file_info *info = &file->info;
    wtl_model_config config;
    gguf_str arch = {"", 0};
    gguf_get_str(file->gguf, "general.architecture", &arch, NULL);
    info->arch_supported = model_arch_known(arch.s, arch.len);
    if (model_config_read(file->gguf, &config, &file->why))
        describe_generic(file, info);
    else
        describe_config(&config, info);
    if (gguf_n_tensors(file->gguf) == 0)
        wtl_fail(&file->why, WTL_ERR_UNSUPPORTED, "the file has no tensors, only a vocabulary or metadata");
    const gguf_kv *tokens = gguf_find(file->gguf, "tokenizer.ggml.tokens");
    const gguf_kv *template = gguf_find(file->gguf, "tokenizer.chat_template");
    info->has_vocab = tokens && tokens->elem_type == GGUF_STRING && tokens->count > 0;
    info->has_template = template && template->type == GGUF_STRING && template->payload_bytes > 8;
    if (!info->n_vocab && info->has_vocab && tokens->count <= UINT32_MAX) info->n_vocab = (uint32_t)tokens->count;
}

wtl_status wtl_file_open(const char *path, wtl_file **out, wtl_error *err) {
    if (out) *out = NULL;
    if (!path || !out) return wtl_fail(err, WTL_ERR_INVALID, "wtl_file_open: path and out must not be NULL");
    wtl_file *file = wtl_calloc(1, sizeof *file);
    if (!file) return wtl_fail(err, WTL_ERR_NO_MEMORY, "%.200s: out of memory while opening the file", path);
    wtl_status status = gguf_open(path, &file->gguf, err);
    if (!status) status = copy_strings(file, err);
    if (!status) {
        file->info.version = gguf_version(file->gguf);
        file->info.file_bytes = gguf_file_bytes(file->gguf);
        file->info.file_type = file_type(file->gguf);
        describe_model(file);
        status = describe_tensors(file, err);
    }
    if (!status) {
        const char *why = file->why.status ? without_path(file->why.message, path) : "";
        file->obstacle = copy_text((gguf_str){why, strlen(why)}, sizeof file->why.message);
        if (!file->obstacle) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for its description", path);
    }
    if (status) wtl_file_close(&file);
    *out = file;
    return status;
}

void wtl_file_close(wtl_file **handle) {
    if (!handle || !*handle) return;
    wtl_file *file = *handle;
    *handle = NULL;
    for (size_t i = 0; file->tensors && i < gguf_n_tensors(file->gguf); i++) wtl_free((void *)file->tensors[i].name);
    wtl_free(file->tensors);
    wtl_free(file->arch);
    wtl_free(file->name);
    wtl_free(file->vocab_model);
    wtl_free(file->vocab_pre);
    wtl_free(file->obstacle);
    gguf_close(&file->gguf);
    wtl_free(file);
}

wtl_file_info wtl_file_describe(const wtl_file *file) {
    wtl_file_info info = file->info;
    info.arch = file->arch;
    info.name = file->name;
    info.vocab_model = file->vocab_model;
    info.vocab_pre = file->vocab_pre;
    info.obstacle = file->obstacle;
    return info;
}

wtl_tensor_info wtl_file_tensor(const wtl_file *file, uint64_t i) {
    return i < file->info.n_tensors ? file->tensors[i] : (wtl_tensor_info){.name = "", .dtype = ""};
}
