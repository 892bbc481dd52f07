// Gemma 3 (Gemma Team 2025, text part).
//
// Differs from llama: embeddings are scaled by sqrt(n_embd); every head of Q and K is RMS-normed before the rotation (which
// pairs halves); attention and feed-forward outputs are normed before they join the residual stream; five of six layers see
// a sliding window only and rotate with a base of 10000; the gate is GELU. Norm weights are stored with their +1 added.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "models/arch.h"

static wtl_status gemma3_config(const config_reader *r) {
    wtl_model_config *c = r->config;
    const int32_t pattern = 6;
    const float local_base = 10000;
    c->rope_style = WTL_ROPE_HALVES;
    c->act = WTL_ACT_GELU_TANH;
    c->embed_scale = sqrtf((float)c->n_embd);
    // The 27B model (62 layers) scales by the even split of the embedding, the others by the head's width.
    if (c->n_layers == 62) c->attn_scale = 1 / sqrtf((float)(c->n_embd / c->n_heads));
    wtl_status status = config_int(r, "attention.sliding_window", 1, INT32_MAX / 2, NULL, &c->window);
    if (!status) status = config_int(r, "attention.sliding_window_pattern", 1, 1024, &pattern, &c->window_pattern);
    if (!status) status = config_float(r, "rope.freq_base_swa", 1, 1e12f, &local_base, &c->rope_freq_base_local);
    return status;
}

static void gemma3_bind(model_binder *b) {
    wtl_model *m = b->model;
    const wtl_model_config *c = &m->config;
    const int32_t q_width = c->n_heads * c->head_dim, kv_width = c->n_heads_kv * c->head_dim;
    for (int32_t il = 0; il < c->n_layers; il++) {
        wtl_layer *l = &m->layers[il];
        bind_vector(b, il, "attn_norm.weight", c->n_embd, false, &l->attn_norm);
        bind_matrix(b, il, "attn_q.weight", q_width, c->n_embd, &l->wq);
        bind_matrix(b, il, "attn_k.weight", kv_width, c->n_embd, &l->wk);
        bind_matrix(b, il, "attn_v.weight", kv_width, c->n_embd, &l->wv);
        bind_matrix(b, il, "attn_output.weight", c->n_embd, q_width, &l->wo);
        bind_vector(b, il, "attn_q_norm.weight", c->head_dim, false, &l->q_norm);
        bind_vector(b, il, "attn_k_norm.weight", c->head_dim, false, &l->k_norm);
        bind_vector(b, il, "post_attention_norm.weight", c->n_embd, false, &l->post_attn_norm);
        bind_vector(b, il, "ffn_norm.weight", c->n_embd, false, &l->ffn_norm);
        bind_matrix(b, il, "ffn_gate.weight", c->n_ff, c->n_embd, &l->gate);
        bind_matrix(b, il, "ffn_up.weight", c->n_ff, c->n_embd, &l->up);
        bind_matrix(b, il, "ffn_down.weight", c->n_embd, c->n_ff, &l->down);
        bind_vector(b, il, "post_ffw_norm.weight", c->n_embd, false, &l->post_ffn_norm);
    }
    bind_embeddings(b);
}

static void gemma3_forward(const wtl_model *m, wtl_stream *s, const wtl_step *step) {
    const wtl_model_config *c = &m->config;
    const wtl_backend_ops *be = s->ops;
    const int32_t n = step->rows.n_rows;
    wtl_mat x = model_rows(step->acts.x, n);       // [n, n_embd] the residual stream
    wtl_mat h = model_rows(step->acts.h, n);       // [n, n_embd] normed input of a block, then its output
    wtl_mat q = model_rows(step->acts.q, n);       // [n, n_heads * head_dim]
    wtl_mat k = model_rows(step->acts.k, n);       // [n, n_heads_kv * head_dim]
    wtl_mat v = model_rows(step->acts.v, n);       // [n, n_heads_kv * head_dim]
    wtl_mat attn = model_rows(step->acts.attn, n); // [n, n_heads * head_dim]
    const wtl_mat angles_global = model_rows(step->acts.rope_global, n), angles_local = model_rows(step->acts.rope_local, n);
    const wtl_rope rope_global = {c->n_rot, c->rope_freq_base, c->rope_freq_scale, NULL};
    const wtl_rope rope_local = {c->n_rot, c->rope_freq_base_local, 1, NULL};

    be->embed(s, m->token_embd, step->tokens, c->embed_scale, x);
    be->rope_table(s, step->rows.positions, &rope_global, angles_global);
    be->rope_table(s, step->rows.positions, &rope_local, angles_local);

    for (int32_t il = 0; il < c->n_layers; il++) {
        const wtl_layer *l = &m->layers[il];
        const wtl_kv kv = model_layer_kv(step, l);
        const bool local = model_layer_is_local(c, il);
        const wtl_mat angles = local ? angles_local : angles_global;

        const wtl_matmul qkv = {.x = h, .input = model_norm(x, l->attn_norm, c->norm_eps), .n_parts = 3, .part = {{l->wq, NULL, q}, {l->wk, NULL, k}, {l->wv, NULL, v}}};
        be->matmul(s, &qkv);
        const wtl_mat q_heads = model_heads(q, c->n_heads, c->head_dim), k_heads = model_heads(k, c->n_heads_kv, c->head_dim);
        be->rms_norm(s, q_heads, l->q_norm, c->norm_eps, q_heads);
        be->rms_norm(s, k_heads, l->k_norm, c->norm_eps, k_heads);
        be->rope(s, q, c->n_heads, c->rope_style, angles);
        be->rope(s, k, c->n_heads_kv, c->rope_style, angles);
        be->kv_write(s, k, v, &kv, &step->rows);

        if (il == c->n_layers - 1 && step->n_logits == 0) return; // only the KV cache was wanted
        const wtl_attention attention = {q, attn, kv, c->n_heads, c->attn_scale, local ? c->window : 0};
        be->attention(s, &attention, &step->rows);

        if (il == c->n_layers - 1) { // behind the last attention only the rows with logits matter
            model_keep_output_rows(s, step, &x, &attn);
            h = model_rows(h, x.rows);
        }
        model_matmul(s, attn, l->wo, NULL, h);
        be->rms_norm(s, h, l->post_attn_norm, c->norm_eps, h);
        be->add(s, x, h, x);

        model_feed_forward(m, s, step, l, x, h, h, false);
        be->rms_norm(s, h, l->post_ffn_norm, c->norm_eps, h);
        be->add(s, x, h, x);
    }

    model_head(m, s, step, x, h);
}

const wtl_arch arch_gemma3 = {"gemma3", gemma3_config, gemma3_bind, gemma3_forward};
