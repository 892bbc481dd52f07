// What all forward passes share: activation layout and small views, so that each family's file holds only its graph.
// SPDX-License-Identifier: Apache-2.0
#include "models/arch.h"
#include "runtime/base/checked.h"

// Places a [rows, cols] matrix at *offset bytes behind base and moves *offset on, 64-byte aligned.
static bool place(void *base, size_t *offset, int32_t rows, int32_t cols, wtl_mat *out) {
    size_t elements, bytes, start = *offset;
    if (!wtl_mul_size((size_t)rows, (size_t)cols, &elements) || !wtl_mul_size(elements, sizeof(float), &bytes)) return false;
    if (!wtl_add_size(start, bytes, offset) || !wtl_align_size(*offset, 64, offset)) return false;
    if (out) *out = (wtl_mat){base ? (float *)((char *)base + start) : NULL, rows, cols, cols};
    return true;
}

// Rows that go through a layer's feed-forward part together: its inside is several times as wide as the residual stream, and of all rows of
// a prompt it would be the most of a session's memory. Fewer rows than this would read and unpack the weights too often.
#define FEED_FORWARD_FLOATS (1 << 20)
#define FEED_FORWARD_LEAST 128
static int32_t feed_forward_rows(const wtl_model_config *c, int32_t max_rows) {
    const int32_t few = FEED_FORWARD_FLOATS / c->n_ff, rows = few < FEED_FORWARD_LEAST ? FEED_FORWARD_LEAST : few;
    return rows < max_rows ? rows : max_rows;
}

typedef struct act_shape {
    int32_t rows, cols;
    wtl_mat *mat;
} act_shape;

static bool place_all(void *base, size_t *offset, const act_shape *shapes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!place(base, offset, shapes[i].rows, shapes[i].cols, shapes[i].mat)) return false;
    return true;
}

bool model_acts_layout(const wtl_model_config *c, int32_t max_rows, int32_t max_logits, void *base, wtl_acts *acts,
                       size_t *bytes) {
    wtl_acts a;
    const int32_t q_width = c->n_heads * c->head_dim, kv_width = c->n_heads_kv * c->head_dim;
    const act_shape lasting[] = {
        {max_rows, c->n_embd, &a.x},          {max_rows, c->n_embd, &a.h},       {max_rows, c->n_rot, &a.rope_global},
        {max_rows, c->n_rot, &a.rope_local},  {max_logits, c->n_embd, &a.x_out}, {max_logits, q_width, &a.attn_out},
        {max_logits, c->n_vocab, &a.logits},
    };
    const act_shape attention[] = {{max_rows, q_width, &a.q}, {max_rows, kv_width, &a.k}, {max_rows, kv_width, &a.v}, {max_rows, q_width, &a.attn}};
    const int32_t ff_rows = feed_forward_rows(c, max_rows);
    const act_shape feed_forward[] = {{ff_rows, c->n_ff, &a.gate}, {ff_rows, c->n_ff, &a.up}};
    size_t offset = 0;
    if (!place_all(base, &offset, lasting, sizeof lasting / sizeof *lasting)) return false;
    size_t attention_end = offset, feed_forward_end = offset;
    if (!place_all(base, &attention_end, attention, sizeof attention / sizeof *attention)) return false;
    if (!place_all(base, &feed_forward_end, feed_forward, sizeof feed_forward / sizeof *feed_forward)) return false;
    if (acts) *acts = a;
    *bytes = attention_end > feed_forward_end ? attention_end : feed_forward_end;
    return true;
}

void model_forward(const wtl_model *model, wtl_stream *s, const wtl_step *step) { model->arch->forward(model, s, step); }

wtl_kv model_layer_kv(const wtl_step *step, const wtl_layer *layer) {
    wtl_kv kv = step->kv[layer->kv_group];
    kv.layer_offset = (size_t)layer->kv_index * step->kv_layer_bytes;
    return kv;
}

wtl_mat model_rows(wtl_mat m, int32_t rows) {
    m.rows = rows;
    return m;
}

wtl_mat model_heads(wtl_mat x, int32_t n_heads, int32_t head_dim) {
    return (wtl_mat){x.data, x.rows * n_heads, head_dim, head_dim};
}

wtl_input model_norm(wtl_mat x, const wtl_weight *weight, float eps) {
    return (wtl_input){.kind = WTL_INPUT_RMS_NORM, .from = x, .weight = weight, .eps = eps};
}

static void matmul_one(wtl_stream *s, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, wtl_mat out, bool accumulate) {
    const wtl_matmul a = {.x = x, .n_parts = 1, .part = {{w, bias, out}}, .accumulate = accumulate};
    s->ops->matmul(s, &a);
}

void model_matmul(wtl_stream *s, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, wtl_mat out) {
    matmul_one(s, x, w, bias, out, false);
}

void model_matmul_add(wtl_stream *s, wtl_mat x, const wtl_weight *w, const wtl_weight *bias, wtl_mat out) {
    matmul_one(s, x, w, bias, out, true);
}

static wtl_mat rows_between(wtl_mat m, int32_t first, int32_t end) {
    return (wtl_mat){m.data + (size_t)first * (size_t)m.stride, end - first, m.cols, m.stride};
}

void model_feed_forward(const wtl_model *m, wtl_stream *s, const wtl_step *step, const wtl_layer *l, wtl_mat x, wtl_mat h, wtl_mat out, bool accumulate) {
    const int32_t most = step->acts.gate.rows, n = x.rows, parts = (n + most - 1) / most;
    for (int32_t i = 0; i < parts; i++) {
        const int32_t first = (int32_t)((int64_t)n * i / parts), end = (int32_t)((int64_t)n * (i + 1) / parts);
        const wtl_mat gate = model_rows(step->acts.gate, end - first), up = model_rows(step->acts.up, end - first);
        const wtl_matmul gate_up = {.x = rows_between(h, first, end), .input = model_norm(rows_between(x, first, end), l->ffn_norm, m->config.norm_eps),
                                    .n_parts = 2, .part = {{l->gate, NULL, gate}, {l->up, NULL, up}}, .gated = true, .act = m->config.act};
        s->ops->matmul(s, &gate_up);
        matmul_one(s, gate, l->down, NULL, rows_between(out, first, end), accumulate);
    }
}

void model_head(const wtl_model *m, wtl_stream *s, const wtl_step *step, wtl_mat x, wtl_mat h) {
    const wtl_matmul a = {.x = h, .input = model_norm(x, m->output_norm, m->config.norm_eps), .n_parts = 1,
                          .part = {{m->output, NULL, model_rows(step->acts.logits, step->n_logits)}}};
    if (step->n_top) s->ops->head_top(s, &a, step->n_top);
    else s->ops->matmul(s, &a);
}

void model_keep_output_rows(wtl_stream *s, const wtl_step *step, wtl_mat *x, wtl_mat *attn) {
    if (step->n_logits == step->rows.n_rows) return; // every row is wanted: out_rows is the identity
    const wtl_mat x_out = model_rows(step->acts.x_out, step->n_logits);
    const wtl_mat attn_out = model_rows(step->acts.attn_out, step->n_logits);
    s->ops->gather_rows(s, *x, step->out_rows, x_out);
    s->ops->gather_rows(s, *attn, step->out_rows, attn_out);
    *x = x_out;
    *attn = attn_out;
}
