// Loading: finds tensors, checks their shapes, hands them to the backend, and adds up what a step will read and multiply.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "models/arch.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define TENSOR_NAME_BYTES 96

// Finds a tensor by layer and name and checks that it is [rows, cols] of a type that runs. NULL when absent.
static const gguf_tensor *find_tensor(model_binder *b, const char *name, uint64_t rows, uint64_t cols) {
    const gguf_tensor *t = gguf_find_tensor(b->file, name);
    if (!t) return NULL;
    const wtl_dtype_info *type = wtl_dtype_get((uint32_t)t->dtype);
    if (!type->can_run) {
        b->status = wtl_fail(b->err, WTL_ERR_UNSUPPORTED, "%s: tensor %s has type %s, which wattle cannot run yet", gguf_path(b->file),
                             name, type->name);
        return NULL;
    }
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1) {
        b->status = wtl_fail(b->err, WTL_ERR_FORMAT,
                             "%s: tensor %s is [%llu, %llu, %llu, %llu], but the metadata asks for [%llu, %llu]", gguf_path(b->file), name,
                             (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
                             (unsigned long long)t->dims[3], (unsigned long long)cols, (unsigned long long)rows);
        return NULL;
    }
    return t;
}

// What a file may have resident beside its prepared weights.
#define RELEASE_BYTES ((uint64_t)6 << 20)

// Should others lie between them that are still to be read, these are mapped again then.
static void release_done(model_binder *b) {
    if (b->done_bytes) gguf_done_with(b->file, b->done_first, b->done_last);
    b->done_bytes = 0;
}

static void done_with(model_binder *b, const gguf_tensor *t) {
    if (!b->done_bytes || t->file_offset < b->done_first->file_offset) b->done_first = t;
    if (!b->done_bytes || t->file_offset > b->done_last->file_offset) b->done_last = t;
    b->done_bytes += t->bytes;
    if (b->done_bytes >= RELEASE_BYTES) release_done(b);
}

static void bind_tensor(model_binder *b, int32_t layer, const char *name, int32_t rows, int32_t cols, wtl_weight_use use,
                        bool optional, wtl_weight **out) {
    char full[TENSOR_NAME_BYTES];
    if (b->status) return;
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    else snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    const gguf_tensor *t = find_tensor(b, full, (uint64_t)rows, (uint64_t)cols);
    if (b->status) return;
    if (!t) {
        if (!optional) b->status = wtl_fail(b->err, WTL_ERR_FORMAT, "%s: tensor %s is missing", gguf_path(b->file), full);
        return;
    }
    const wtl_tensor source = {t->data, t->dtype, rows, cols, (size_t)(t->bytes / (uint64_t)rows), gguf_is_mapped(b->file)};
    wtl_backend *be = b->model->be;
    gguf_will_need(b->file, t);
    b->status = be->ops->weight_prepare(be, &source, use, out, b->err);
    if (b->status) return;
    if (!(*out)->borrows_source) done_with(b, t);
    b->model->n_params += (uint64_t)rows * (uint64_t)cols;
    b->model->weight_bytes += (*out)->bytes + (*out)->aside_bytes;
}

void bind_matrix(model_binder *b, int32_t layer, const char *name, int32_t rows, int32_t cols, wtl_weight **out) {
    bind_tensor(b, layer, name, rows, cols, WTL_WEIGHT_MATRIX, false, out);
}

void bind_vector(model_binder *b, int32_t layer, const char *name, int32_t n, bool optional, wtl_weight **out) {
    bind_tensor(b, layer, name, 1, n, WTL_WEIGHT_VECTOR, optional, out);
}

void bind_embeddings(model_binder *b) {
    wtl_model *m = b->model;
    const wtl_model_config *c = &m->config;
    const bool tied = !gguf_find_tensor(b->file, "output.weight");
    bind_tensor(b, -1, "token_embd.weight", c->n_vocab, c->n_embd, tied ? WTL_WEIGHT_HEAD : WTL_WEIGHT_MATRIX, false, &m->token_embd);
    bind_vector(b, -1, "output_norm.weight", c->n_embd, false, &m->output_norm);
    if (b->status) return;
    if (tied) m->output = m->token_embd;
    else bind_tensor(b, -1, "output.weight", c->n_vocab, c->n_embd, WTL_WEIGHT_HEAD, false, &m->output);
}

// Layers that forget old positions share a KV group of their own.
static void assign_kv_groups(wtl_model *m) {
    m->n_kv_groups = 1;
    for (int32_t il = 0; il < m->config.n_layers; il++) {
        bool local = model_layer_is_local(&m->config, il);
        wtl_layer *layer = &m->layers[il];
        layer->kv_group = local ? 1 : 0;
        layer->kv_index = m->kv_group[layer->kv_group].n_layers++;
        if (local) {
            m->n_kv_groups = 2;
            m->kv_group[1].window = m->config.window;
        }
    }
}

static uint64_t matrix_macs(const wtl_weight *w) { return (uint64_t)w->rows * (uint64_t)w->cols; }

static void count_step_cost(wtl_model *m) {
    for (int32_t il = 0; il < m->config.n_layers; il++) {
        const wtl_layer *l = &m->layers[il];
        const wtl_weight *const front[] = {l->wq, l->wk, l->wv}, *const back[] = {l->wo, l->gate, l->up, l->down};
        for (size_t i = 0; i < 3; i++) {
            m->step_bytes += front[i]->bytes;
            m->row_macs += matrix_macs(front[i]);
        }
        m->tail_bytes = m->tail_macs = 0; // what remains after the loop is the last layer's
        for (size_t i = 0; i < 4; i++) {
            m->tail_bytes += back[i]->bytes;
            m->tail_macs += matrix_macs(back[i]);
        }
        m->step_bytes += m->tail_bytes;
        m->row_macs += m->tail_macs;
    }
    m->head_bytes = m->output->bytes;
    m->head_macs = matrix_macs(m->output);
}

// wtl_rows, wtl_mat and the ops count elements in int32_t: one row of anything must stay well inside.
static wtl_status check_widths(const gguf_file *file, const wtl_model_config *c, wtl_error *err) {
    int64_t q = (int64_t)c->n_heads * c->head_dim;
    if (q > 1 << 20)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: %d heads of %d dimensions are more than wattle can run", gguf_path(file), c->n_heads,
                        c->head_dim);
    return WTL_OK;
}

wtl_status model_load(const gguf_file *file, wtl_backend *be, wtl_model **out, wtl_error *err) {
    *out = NULL;
    wtl_model *m = wtl_calloc(1, sizeof *m);
    if (!m) return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory while loading", gguf_path(file));
    m->be = be;
    wtl_status status = model_config_read(file, &m->config, err);
    if (!status) status = check_widths(file, &m->config, err);
    if (status) goto fail;
    m->arch = arch_find(m->config.arch, strlen(m->config.arch));
    m->layers = wtl_calloc((size_t)m->config.n_layers, sizeof *m->layers);
    if (!m->layers) {
        status = wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for %d layers", gguf_path(file), m->config.n_layers);
        goto fail;
    }
    assign_kv_groups(m);
    model_binder binder = {.model = m, .file = file, .err = err};
    m->arch->bind(&binder);
    release_done(&binder);
    if ((status = binder.status)) goto fail;
    count_step_cost(m);
    *out = m;
    return WTL_OK;
fail:
    model_close(&m);
    return status;
}

void model_close(wtl_model **model) {
    if (!model || !*model) return;
    wtl_model *m = *model;
    const wtl_backend_ops *ops = m->be->ops;
    for (int32_t il = 0; m->layers && il < m->config.n_layers; il++) {
        wtl_layer *l = &m->layers[il];
        wtl_weight *const weights[] = {l->attn_norm, l->wq,   l->wk,     l->wv,     l->wo,   l->bq,   l->bk,
                                       l->bv,        l->bo,   l->q_norm, l->k_norm, l->gate, l->up,   l->down,
                                       l->ffn_norm,  l->post_attn_norm,  l->post_ffn_norm};
        for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) ops->weight_free(m->be, weights[i]);
    }
    if (m->output != m->token_embd) ops->weight_free(m->be, m->output);
    ops->weight_free(m->be, m->token_embd);
    ops->weight_free(m->be, m->output_norm);
    ops->weight_free(m->be, m->rope_freqs);
    wtl_free(m->layers);
    wtl_free(m);
    *model = NULL;
}

bool model_borrows_file(const wtl_model *model) { return model->token_embd->borrows_source; }
