// The llama family: Llama 2 and 3, Mistral, SmolLM2 and everything that converters write as "llama".
//
// Pre-norm transformer (Touvron et al. 2023): RMS norm, rotary positions on adjacent pairs, grouped-query attention, SwiGLU.
// Llama 3.1 files carry rope_freqs.weight, which divides the rotation frequencies. Biases are optional tensors.
// SPDX-License-Identifier: Apache-2.0
#include "models/arch.h"

static wtl_status llama_config(const config_reader *r) {
    r->config->rope_style = WTL_ROPE_ADJACENT;
    r->config->act = WTL_ACT_SILU;
    return WTL_OK;
}

static void llama_bind(model_binder *b) {
    wtl_model *m = b->model;
    const wtl_model_config *c = &m->config;
    const int32_t q_width = c->n_heads * c->head_dim, kv_width = c->n_heads_kv * c->head_dim;
    bind_vector(b, -1, "rope_freqs.weight", c->n_rot / 2, true, &m->rope_freqs);
    for (int32_t il = 0; il < c->n_layers; il++) {
        wtl_layer *l = &m->layers[il];
        bind_vector(b, il, "attn_norm.weight", c->n_embd, false, &l->attn_norm);
        bind_matrix(b, il, "attn_q.weight", q_width, c->n_embd, &l->wq);
        bind_matrix(b, il, "attn_k.weight", kv_width, c->n_embd, &l->wk);
        bind_matrix(b, il, "attn_v.weight", kv_width, c->n_embd, &l->wv);
        bind_matrix(b, il, "attn_output.weight", c->n_embd, q_width, &l->wo);
        bind_vector(b, il, "attn_q.bias", q_width, true, &l->bq);
        bind_vector(b, il, "attn_k.bias", kv_width, true, &l->bk);
        bind_vector(b, il, "attn_v.bias", kv_width, true, &l->bv);
        bind_vector(b, il, "attn_output.bias", c->n_embd, true, &l->bo);
        bind_vector(b, il, "ffn_norm.weight", c->n_embd, false, &l->ffn_norm);
        bind_matrix(b, il, "ffn_gate.weight", c->n_ff, c->n_embd, &l->gate);
        bind_matrix(b, il, "ffn_up.weight", c->n_ff, c->n_embd, &l->up);
        bind_matrix(b, il, "ffn_down.weight", c->n_embd, c->n_ff, &l->down);
    }
    bind_embeddings(b);
}

static void llama_forward(const wtl_model *m, wtl_stream *s, const wtl_step *step) {
    const wtl_model_config *c = &m->config;
    const wtl_backend_ops *be = s->ops;
    const int32_t n = step->rows.n_rows;
    wtl_mat x = model_rows(step->acts.x, n);       // [n, n_embd] the residual stream
    wtl_mat h = model_rows(step->acts.h, n);       // [n, n_embd]
    wtl_mat q = model_rows(step->acts.q, n);       // [n, n_heads * head_dim]
    wtl_mat k = model_rows(step->acts.k, n);       // [n, n_heads_kv * head_dim]
    wtl_mat v = model_rows(step->acts.v, n);       // [n, n_heads_kv * head_dim]
    wtl_mat attn = model_rows(step->acts.attn, n); // [n, n_heads * head_dim]
    wtl_mat angles = model_rows(step->acts.rope_global, n);
    const wtl_rope rope = {c->n_rot, c->rope_freq_base, c->rope_freq_scale, m->rope_freqs};

    be->embed(s, m->token_embd, step->tokens, c->embed_scale, x);
    be->rope_table(s, step->rows.positions, &rope, angles);

    for (int32_t il = 0; il < c->n_layers; il++) {
        const wtl_layer *l = &m->layers[il];
        const wtl_kv kv = model_layer_kv(step, l);

        const wtl_matmul qkv = {.x = h, .input = model_norm(x, l->attn_norm, c->norm_eps), .n_parts = 3, .part = {{l->wq, l->bq, q}, {l->wk, l->bk, k}, {l->wv, l->bv, v}}};
        be->matmul(s, &qkv);
        be->rope(s, q, c->n_heads, c->rope_style, angles);
        be->rope(s, k, c->n_heads_kv, c->rope_style, angles);
        be->kv_write(s, k, v, &kv, &step->rows);

        if (il == c->n_layers - 1 && step->n_logits == 0) return; // only the KV cache was wanted
        const wtl_attention attention = {q, attn, kv, c->n_heads, c->attn_scale, 0};
        be->attention(s, &attention, &step->rows);

        if (il == c->n_layers - 1) { // behind the last attention only the rows with logits matter
            model_keep_output_rows(s, step, &x, &attn);
            h = model_rows(h, x.rows);
        }
        model_matmul_add(s, attn, l->wo, l->bo, x);

        model_feed_forward(m, s, step, l, x, h, x, true);
    }

    model_head(m, s, step, x, h);
}

const wtl_arch arch_llama = {"llama", llama_config, llama_bind, llama_forward};
