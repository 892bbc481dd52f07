// Hyperparameters of a model, read from GGUF metadata and range-checked.
//
// Everything the file says about shapes passes through here once; behind it all sizes are positive, fit int32_t and may be
// multiplied as the code does. What the file asks for and no architecture here computes (experts, YaRN, per-layer head
// counts) is refused by name instead of being ignored.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/arch.h"

enum {
    LAYERS_MAX = 1024,
    EMBD_MAX = 1 << 17,
    FF_MAX = 1 << 20,
    HEADS_MAX = 1024,
    HEAD_DIM_MAX = 1024,
    VOCAB_MAX = 1 << 24,
};

wtl_status config_key(const config_reader *r, const char *key, char out[CONFIG_KEY_BYTES]) {
    int n = snprintf(out, CONFIG_KEY_BYTES, "%s.%s", r->config->arch, key);
    return n > 0 && n < CONFIG_KEY_BYTES ? WTL_OK : WTL_ERR_FORMAT;
}

// Value of an integer key, or of an array of equal integers (per-layer head counts that do not vary).
static wtl_status read_uniform(const config_reader *r, const char *name, int64_t *value) {
    const gguf_kv *kv = gguf_find(r->file, name);
    if (!kv) return WTL_ERR_NOT_FOUND;
    for (uint64_t i = 0; i < kv->count; i++) {
        int64_t v;
        if (!gguf_elem_i64(kv, i, &v))
            return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: key %s (byte %llu) is not an integer", gguf_path(r->file), name,
                            (unsigned long long)kv->offset);
        if (i > 0 && v != *value)
            return wtl_fail(r->err, WTL_ERR_UNSUPPORTED, "%s: key %s differs between layers (%lld and %lld); only equal layers can run",
                            gguf_path(r->file), name, (long long)*value, (long long)v);
        *value = v;
    }
    return kv->count ? WTL_OK : WTL_ERR_NOT_FOUND;
}

wtl_status config_int(const config_reader *r, const char *key, int64_t low, int64_t high, const int32_t *fallback,
                      int32_t *out) {
    char name[CONFIG_KEY_BYTES];
    int64_t value = 0;
    wtl_status status = config_key(r, key, name);
    if (!status) status = read_uniform(r, name, &value);
    if (status == WTL_ERR_NOT_FOUND) {
        if (!fallback) return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: key %s is missing", gguf_path(r->file), name);
        value = *fallback;
    } else if (status) {
        return status;
    }
    if (value < low || value > high)
        return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: key %s is %lld, allowed are %lld to %lld", gguf_path(r->file), name,
                        (long long)value, (long long)low, (long long)high);
    *out = (int32_t)value;
    return WTL_OK;
}

wtl_status config_float(const config_reader *r, const char *key, float low, float high, const float *fallback, float *out) {
    char name[CONFIG_KEY_BYTES];
    float value = 0;
    wtl_status status = config_key(r, key, name);
    if (!status) status = gguf_get_f32(r->file, name, &value, r->err);
    if (status == WTL_ERR_NOT_FOUND) {
        if (!fallback) return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: key %s is missing", gguf_path(r->file), name);
        value = *fallback;
    } else if (status) {
        return status;
    }
    if (!(value >= low && value <= high)) // also refuses NaN
        return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: key %s is %g, allowed are %g to %g", gguf_path(r->file), name,
                        (double)value, (double)low, (double)high);
    *out = value;
    return WTL_OK;
}

// Keys that change what a model computes and that nothing here implements: present and not 0 means refusal.
static wtl_status refuse_unimplemented(const config_reader *r) {
    static const char *const keys[] = {"expert_count", "attn_logit_softcapping", "final_logit_softcapping",
                                       "attention.max_alibi_bias", "attention.clamp_kqv"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char name[CONFIG_KEY_BYTES];
        float value;
        wtl_status status = config_key(r, keys[i], name);
        if (status) return status;
        const gguf_kv *kv = gguf_find(r->file, name);
        if (kv && (!gguf_elem_f32(kv, 0, &value) || value != 0))
            return wtl_fail(r->err, WTL_ERR_UNSUPPORTED, "%s: the model uses %s, which wattle cannot run yet", gguf_path(r->file), name);
    }
    return WTL_OK;
}

// Context extension. Absent and "none": as trained. "linear": positions are divided by the factor.
static wtl_status read_rope_scaling(const config_reader *r) {
    char name[CONFIG_KEY_BYTES];
    gguf_str type;
    r->config->rope_freq_scale = 1;
    wtl_status status = config_key(r, "rope.scaling.type", name);
    if (!status) status = gguf_get_str(r->file, name, &type, r->err);
    if (status == WTL_ERR_NOT_FOUND) return WTL_OK;
    if (status) return status;
    if (type.len == 4 && !memcmp(type.s, "none", 4)) return WTL_OK;
    if (type.len != 6 || memcmp(type.s, "linear", 6))
        return wtl_fail(r->err, WTL_ERR_UNSUPPORTED, "%s: key %s is \"%.*s\"; wattle knows none and linear", gguf_path(r->file), name,
                        (int)(type.len < 40 ? type.len : 40), type.s);
    float factor, one = 1;
    status = config_float(r, "rope.scaling.factor", 1e-3f, 1e6f, &one, &factor);
    if (!status) r->config->rope_freq_scale = 1 / factor;
    return status;
}

// The vocabulary's size is that of the embedding matrix; a vocabulary-only file has only its token list.
static wtl_status read_n_vocab(const config_reader *r) {
    const gguf_tensor *embd = gguf_find_tensor(r->file, "token_embd.weight");
    const gguf_kv *tokens = gguf_find(r->file, "tokenizer.ggml.tokens");
    uint64_t n = embd ? embd->dims[1] : tokens ? tokens->count : 0;
    if (n < 1 || n > VOCAB_MAX)
        return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: neither token_embd.weight nor tokenizer.ggml.tokens gives a vocabulary of 1 to %d tokens",
                        gguf_path(r->file), VOCAB_MAX);
    r->config->n_vocab = (int32_t)n;
    return WTL_OK;
}

static wtl_status read_shapes(const config_reader *r) {
    wtl_model_config *c = r->config;
    wtl_status status;
    int32_t value_dim;
    if ((status = config_int(r, "block_count", 1, LAYERS_MAX, NULL, &c->n_layers))) return status;
    if ((status = config_int(r, "embedding_length", 1, EMBD_MAX, NULL, &c->n_embd))) return status;
    if ((status = config_int(r, "feed_forward_length", 1, FF_MAX, NULL, &c->n_ff))) return status;
    if ((status = config_int(r, "context_length", 1, INT32_MAX / 2, NULL, &c->n_ctx_train))) return status;
    if ((status = config_int(r, "attention.head_count", 1, HEADS_MAX, NULL, &c->n_heads))) return status;
    if ((status = config_int(r, "attention.head_count_kv", 1, HEADS_MAX, &c->n_heads, &c->n_heads_kv))) return status;
    int32_t even_split = c->n_embd / c->n_heads;
    if ((status = config_int(r, "attention.key_length", 2, HEAD_DIM_MAX, &even_split, &c->head_dim))) return status;
    if ((status = config_int(r, "attention.value_length", 2, HEAD_DIM_MAX, &even_split, &value_dim))) return status;
    if ((status = config_int(r, "rope.dimension_count", 2, c->head_dim, &c->head_dim, &c->n_rot))) return status;
    if (value_dim != c->head_dim)
        return wtl_fail(r->err, WTL_ERR_UNSUPPORTED, "%s: keys of %d and values of %d dimensions; only equal ones can run",
                        gguf_path(r->file), c->head_dim, value_dim);
    if (c->n_heads % c->n_heads_kv || c->head_dim % 2 || c->n_rot % 2)
        return wtl_fail(r->err, WTL_ERR_FORMAT, "%s: %d heads over %d key-value heads of %d dimensions (%d rotated) do not fit together",
                        gguf_path(r->file), c->n_heads, c->n_heads_kv, c->head_dim, c->n_rot);
    return WTL_OK;
}

wtl_status model_config_read(const gguf_file *file, wtl_model_config *out, wtl_error *err) {
    wtl_model_config config = {0};
    gguf_str name;
    wtl_status status = gguf_get_str(file, "general.architecture", &name, err);
    if (status == WTL_ERR_NOT_FOUND)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: key general.architecture is missing", gguf_path(file));
    if (status) return status;
    const wtl_arch *arch = arch_find(name.s, name.len);
    if (!arch)
        return wtl_fail(err, WTL_ERR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported; supported are %s", gguf_path(file),
                        (int)(name.len < 40 ? name.len : 40), name.s, arch_list());
    snprintf(config.arch, sizeof config.arch, "%s", arch->name);

    const config_reader r = {.file = file, .config = &config, .err = err};
    const float default_base = 10000;
    if ((status = refuse_unimplemented(&r))) return status;
    if ((status = read_shapes(&r))) return status;
    if ((status = read_n_vocab(&r))) return status;
    if ((status = config_float(&r, "attention.layer_norm_rms_epsilon", 0, 1, NULL, &config.norm_eps))) return status;
    if ((status = config_float(&r, "rope.freq_base", 1, 1e12f, &default_base, &config.rope_freq_base))) return status;
    if ((status = read_rope_scaling(&r))) return status;
    const float default_scale = 1 / sqrtf((float)config.head_dim);
    if ((status = config_float(&r, "attention.scale", 0, 1e3f, &default_scale, &config.attn_scale))) return status;
    if (config.attn_scale == 0) config.attn_scale = default_scale; // some converters write 0 for "default"
    config.rope_freq_base_local = config.rope_freq_base;
    config.embed_scale = 1;
    if ((status = arch->config(&r))) return status;
    *out = config;
    return WTL_OK;
}

bool model_layer_is_local(const wtl_model_config *config, int32_t layer) {
    return config->window > 0 && config->window_pattern > 0 && (layer + 1) % config->window_pattern != 0;
}

bool model_arch_known(const char *name, size_t len) { return arch_find(name, len) != NULL; }
