// A model: its configuration, its weights bound to a backend, and the forward pass of its architecture.
//
// An architecture is a set {config, bind, forward} in models/registry.c. bind finds and prepares the tensors; forward turns one
// step (a batch of tokens of many sequences over a paged KV cache) into logits, by enqueueing backend ops only.
// A model is immutable once loaded; scratch for activations belongs to the caller (wtl_acts), one per session.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_MODEL_H
#define WTL_MODELS_MODEL_H

#include "kernels/backend.h"
#include "models/gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WTL_ARCH_NAME_BYTES 32

// Hyperparameters, read and range-checked from the file's metadata. Names follow GGUF keys.
typedef struct wtl_model_config {
    char arch[WTL_ARCH_NAME_BYTES];
    int32_t n_layers, n_embd, n_ff, n_heads, n_heads_kv, head_dim, n_vocab, n_ctx_train;
    float norm_eps;
    int32_t n_rot;
    wtl_rope_style rope_style;
    float rope_freq_base, rope_freq_scale;
    float rope_freq_base_local; // of window layers
    int32_t window;             // 0: none; else layers with layer_is_local see only this many positions
    int32_t window_pattern;     // every window_pattern-th layer is global, the others local; 0: all global
    wtl_act act;
    float embed_scale; // multiplies token embeddings
    float attn_scale;  // multiplies q.k
} wtl_model_config;

// Reads the configuration. UNSUPPORTED names an unknown architecture and lists those that are known; FORMAT names the key.
wtl_status model_config_read(const gguf_file *file, wtl_model_config *out, wtl_error *err);
bool model_layer_is_local(const wtl_model_config *config, int32_t layer);
bool model_arch_known(const char *name, size_t len);

typedef struct wtl_layer {
    wtl_weight *attn_norm, *wq, *wk, *wv, *wo;
    wtl_weight *bq, *bk, *bv, *bo;              // biases or NULL
    wtl_weight *q_norm, *k_norm;                // per-head RMS norms or NULL
    wtl_weight *post_attn_norm, *post_ffn_norm; // or NULL
    wtl_weight *ffn_norm, *gate, *up, *down;
    int32_t kv_group, kv_index; // which KV group, and which layer inside it
} wtl_layer;

// Layers that keep the same positions share block tables. Group 0: all positions; group 1: the window only.
#define WTL_KV_GROUPS_MAX 2
typedef struct wtl_kv_group_info {
    int32_t n_layers;
    int32_t window; // 0: keeps everything
} wtl_kv_group_info;

typedef struct wtl_model wtl_model;
typedef struct wtl_step wtl_step;

typedef struct wtl_arch wtl_arch; // {config, bind, forward}, see arch.h

struct wtl_model {
    const wtl_arch *arch;
    wtl_backend *be;
    wtl_model_config config;
    wtl_weight *token_embd, *output_norm, *output; // output is token_embd when tied
    wtl_weight *rope_freqs;                        // frequency factors or NULL
    wtl_layer *layers;                             // [n_layers]
    int32_t n_kv_groups;
    wtl_kv_group_info kv_group[WTL_KV_GROUPS_MAX];
    uint64_t n_params;
    uint64_t weight_bytes;    // all prepared weights
    uint64_t step_bytes;      // weights that a step reads once, without the output head
    uint64_t row_macs;        // multiply-adds of matrices per row, without the head
    uint64_t tail_bytes, tail_macs; // the part of those behind the last attention: only rows with logits go there
    uint64_t head_bytes, head_macs; // the output head: bytes per step with logits, multiply-adds per row of logits
};

// Runs one step: enqueues the architecture's forward pass on s. Results: step->acts.logits.
void model_forward(const wtl_model *model, wtl_stream *s, const wtl_step *step);

// Binds every tensor and gives mapped pages back as they are copied. The file must stay open while model lives when
// model_borrows_file() says so. On failure nothing is left.
wtl_status model_load(const gguf_file *file, wtl_backend *be, wtl_model **out, wtl_error *err);
void model_close(wtl_model **model);
bool model_borrows_file(const wtl_model *model);

// Activations of one step: every matrix that a forward pass needs, carved from one piece of backend memory. gate and up lie
// where q, k, v and attn do: a layer's attention is over when its feed-forward block begins.
typedef struct wtl_acts {
    wtl_mat x, h, q, k, v, attn; // [max_rows, width]
    wtl_mat gate, up;            // [rows of the feed-forward part at a time, n_ff], see model_feed_forward
    wtl_mat rope_global, rope_local;            // [max_rows, n_rot]
    wtl_mat x_out, attn_out, logits;            // [max_logits, width]: the rows whose logits are wanted
} wtl_acts;

// Bytes for those matrices; with base not NULL also places them there. False when the size overflows.
bool model_acts_layout(const wtl_model_config *config, int32_t max_rows, int32_t max_logits, void *base, wtl_acts *acts,
                       size_t *bytes);

// One step. Everything it points to is backend memory; counts are known to the host.
struct wtl_step {
    wtl_rows rows;
    const int32_t *tokens;   // [n_rows]
    const int32_t *out_rows; // [n_logits] rows whose logits are wanted, ascending
    int32_t n_logits;
    int32_t n_top;           // so many of the largest logits of each of them matter, others may be -INFINITY; 0: all
    wtl_kv kv[WTL_KV_GROUPS_MAX]; // layer_offset is set per layer by model_layer_kv
    size_t kv_layer_bytes;
    wtl_acts acts;           // logits end up in acts.logits [n_logits, n_vocab]
};

// ---- Helpers of bind (models/model.c) ----
// Prepares the tensor "blk.<layer>.<name>" (layer < 0: "<name>") as a [rows, cols] matrix or as a vector of cols. An absent
// tensor is an error that names it, or leaves *out NULL when optional. Counts into n_params and weight_bytes.
typedef struct model_binder {
    wtl_model *model;
    const gguf_file *file;
    wtl_error *err;
    wtl_status status; // first failure; later calls do nothing
    const gguf_tensor *done_first, *done_last; // by their place in the file: prepared, but their pages not yet given back
    uint64_t done_bytes;
} model_binder;
void bind_matrix(model_binder *b, int32_t layer, const char *name, int32_t rows, int32_t cols, wtl_weight **out);
void bind_vector(model_binder *b, int32_t layer, const char *name, int32_t n, bool optional, wtl_weight **out);
// token_embd, output_norm and output (tied to token_embd when absent).
void bind_embeddings(model_binder *b);

// ---- Helpers of forward passes (models/forward.c) ----
wtl_kv model_layer_kv(const wtl_step *step, const wtl_layer *layer);
wtl_mat model_rows(wtl_mat m, int32_t rows); // the first rows of m
// x of heads side by side [n, heads * dim] seen as [n * heads, dim]; x must be dense.
wtl_mat model_heads(wtl_mat x, int32_t n_heads, int32_t head_dim);
// rms_norm(x) as the input of a matmul.
wtl_input model_norm(wtl_mat x, const wtl_weight *weight, float eps);
// out = x w^T + bias, or out += x w^T + bias.
void model_matmul(wtl_stream *s, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, wtl_mat out);
void model_matmul_add(wtl_stream *s, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, wtl_mat out);

// A layer's feed-forward part with its norm of x: out = down(act(gate) * up), or out += that, some of the rows at a time. out may be x or h; h is scratch.
void model_feed_forward(const wtl_model *m, wtl_stream *s, const wtl_step *step, const wtl_layer *l, wtl_mat x, wtl_mat h, wtl_mat out, bool accumulate);

// The last norm of x, into h where need be, and the output head: step->acts.logits.
void model_head(const wtl_model *model, wtl_stream *s, const wtl_step *step, wtl_mat x, wtl_mat h);

// Narrows x and attn to the rows whose logits are wanted: copies them to acts.x_out and acts.attn_out and points there.
void model_keep_output_rows(wtl_stream *s, const wtl_step *step, wtl_mat *x, wtl_mat *attn);

#ifdef __cplusplus
}
#endif
#endif
