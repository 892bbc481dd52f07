// Times the operations of a stream: the stream gets an op table of ours whose entries call the backend's own with a clock around them.
//
// The table is a copy of the backend's with some entries replaced and is the first member of the profile, so a wrapper finds its profile from
// the stream. An operation that has no wrapper runs as before, untimed: it shows as a step that is not explained.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/profile_ops.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/session.h"

enum slot {
    EMBED, RMS_NORM, MATMUL_QKV, MATMUL_O, MATMUL_GATE_UP, MATMUL_DOWN, MATMUL_HEAD, MATMUL_OTHER, ROPE_TABLE, ROPE, KV_WRITE, ATTENTION, GLU, ADD, GATHER_ROWS,
    TRANSFER, N_SLOTS
};
static const char *const names[N_SLOTS] = {
    [EMBED] = "embed", [RMS_NORM] = "rms norm", [MATMUL_QKV] = "matmul q, k, v", [MATMUL_O] = "matmul attention output", [MATMUL_GATE_UP] = "matmul gate, up",
    [MATMUL_DOWN] = "matmul down", [MATMUL_HEAD] = "matmul head", [MATMUL_OTHER] = "matmul, other", [ROPE_TABLE] = "rope angles", [ROPE] = "rope",
    [KV_WRITE] = "kv write", [ATTENTION] = "attention", [GLU] = "glu", [ADD] = "add", [GATHER_ROWS] = "gather rows", [TRANSFER] = "upload, download, copy",
};

struct op_profile {
    wtl_backend_ops ops; // first: what the stream points to
    const wtl_backend_ops *real;
    const wtl_model *model;
    wtl_attention_arithmetic attention;
    int32_t layer; // of the last matrix: the next one is near
    wtl_profile totals;
    wtl_op_profile slots[N_SLOTS];
};

static op_profile *profile_of(const wtl_stream *s) { return (op_profile *)(uintptr_t)s->ops; }

static void end_op(op_profile *p, enum slot slot, uint64_t start_ns, uint64_t bytes, uint64_t macs) {
    wtl_op_profile *o = &p->slots[slot];
    o->ns += wtl_clock_ns() - start_ns;
    o->n_calls++;
    o->bytes += bytes;
    o->macs += macs;
}

static uint64_t mat_bytes(wtl_mat m) { return (uint64_t)m.rows * (uint64_t)m.cols * sizeof(float); }

// ---- Which matrix ---------------------------------------------------------------------------------------------------
static bool role_in_layer(const wtl_layer *l, const wtl_weight *w, enum slot *out) {
    const struct {
        const wtl_weight *weight;
        enum slot slot;
    } roles[] = {{l->wq, MATMUL_QKV}, {l->wk, MATMUL_QKV}, {l->wv, MATMUL_QKV}, {l->wo, MATMUL_O}, {l->gate, MATMUL_GATE_UP}, {l->up, MATMUL_GATE_UP}, {l->down, MATMUL_DOWN}};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (roles[i].weight != w) continue;
        *out = roles[i].slot;
        return true;
    }
    return false;
}

static enum slot role_of(op_profile *p, const wtl_weight *w) {
    enum slot found = MATMUL_OTHER;
    if (w == p->model->output) return MATMUL_HEAD;
    for (int32_t i = 0, n = p->model->config.n_layers; i < n; i++) {
        const int32_t layer = (p->layer + i) % n;
        if (!role_in_layer(&p->model->layers[layer], w, &found)) continue;
        p->layer = layer;
        break;
    }
    return found;
}

// ---- Wrappers -------------------------------------------------------------------------------------------------------
#define TIMED(slot, bytes, macs, call) \
    do { \
        op_profile *p = profile_of(s); \
        const uint64_t start_ns = wtl_clock_ns(); \
        p->real->call; \
        end_op(p, (slot), start_ns, (bytes), (macs)); \
    } while (0)

static void timed_embed(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out) {
    TIMED(EMBED, mat_bytes(out) + w->bytes / (uint64_t)w->rows * (uint64_t)out.rows, 0, embed(s, w, tokens, scale, out));
}

static void timed_rms_norm(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out) {
    TIMED(RMS_NORM, mat_bytes(x) + mat_bytes(out) + weight->bytes, 0, rms_norm(s, x, weight, eps, out));
}

static void timed_matmul(wtl_stream *s, const wtl_matmul *a) {
    const enum slot slot = role_of(profile_of(s), a->part[0].w);
    uint64_t bytes = mat_bytes(a->input.kind == WTL_INPUT_PLAIN ? a->x : a->input.from), macs = 0;
    for (int32_t i = 0; i < a->n_parts; i++) {
        const wtl_weight *w = a->part[i].w;
        bytes += w->bytes;
        if (i == 0 || !a->gated) bytes += mat_bytes(a->part[i].out) * (a->accumulate ? 2 : 1);
        macs += (uint64_t)w->rows * (uint64_t)w->cols * (uint64_t)a->x.rows;
    }
    TIMED(slot, bytes, macs, matmul(s, a));
}

static void timed_head_top(wtl_stream *s, const wtl_matmul *a, int32_t k) {
    const uint64_t before = s->head_bytes, start_ns = wtl_clock_ns(), macs = (uint64_t)a->part[0].w->rows * (uint64_t)a->x.cols * (uint64_t)a->x.rows;
    op_profile *p = profile_of(s);
    p->real->head_top(s, a, k);
    end_op(p, MATMUL_HEAD, start_ns, mat_bytes(a->x) + mat_bytes(a->part[0].out) + s->head_bytes - before, macs);
}

static void timed_rope_table(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table) {
    TIMED(ROPE_TABLE, mat_bytes(table), 0, rope_table(s, positions, rope, table));
}

static void timed_rope(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table) {
    TIMED(ROPE, 2 * mat_bytes(x) + mat_bytes(table), 0, rope(s, x, n_heads, style, table));
}

static void timed_kv_write(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows) {
    const uint64_t stored = profile_of(s)->real->kv_layer_bytes(&kv->shape) / WTL_KV_BLOCK * (uint64_t)rows->n_rows;
    TIMED(KV_WRITE, mat_bytes(k) + mat_bytes(v) + stored, 0, kv_write(s, k, v, kv, rows));
}

static void timed_attention(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows) { // op_profile_step adds the KV and the multiply-adds
    TIMED(ATTENTION, mat_bytes(a->q) + mat_bytes(a->out), 0, attention(s, a, rows));
}

static void timed_glu(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out) {
    TIMED(GLU, mat_bytes(gate) + mat_bytes(up) + mat_bytes(out), 0, glu(s, gate, up, act, out));
}

static void timed_add(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out) { TIMED(ADD, mat_bytes(a) + mat_bytes(b) + mat_bytes(out), 0, add(s, a, b, out)); }

static void timed_gather_rows(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out) { TIMED(GATHER_ROWS, 2 * mat_bytes(out), 0, gather_rows(s, x, row_ids, out)); }

static void timed_upload(wtl_stream *s, void *dst, const void *host_src, size_t bytes) { TIMED(TRANSFER, 2 * bytes, 0, upload(s, dst, host_src, bytes)); }

static void timed_download(wtl_stream *s, void *host_dst, const void *src, size_t bytes) { TIMED(TRANSFER, 2 * bytes, 0, download(s, host_dst, src, bytes)); }

static void timed_copy(wtl_stream *s, void *dst, const void *src, size_t bytes) { TIMED(TRANSFER, 2 * bytes, 0, copy(s, dst, src, bytes)); }

// ---- Life -----------------------------------------------------------------------------------------------------------
static void clear(op_profile *p) {
    memset(p->slots, 0, sizeof p->slots);
    for (int i = 0; i < N_SLOTS; i++) p->slots[i].name = names[i];
    p->totals = (wtl_profile){0};
}

op_profile *op_profile_open(wtl_stream *stream, const wtl_model *model, wtl_dtype kv) {
    op_profile *p = wtl_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->real = stream->ops;
    p->model = model;
    p->attention = stream->ops->attention_arithmetic(stream->be, kv);
    p->ops = *stream->ops;
    p->ops.embed = timed_embed;
    p->ops.rms_norm = timed_rms_norm;
    p->ops.matmul = timed_matmul;
    p->ops.head_top = timed_head_top;
    p->ops.rope_table = timed_rope_table;
    p->ops.rope = timed_rope;
    p->ops.kv_write = timed_kv_write;
    p->ops.attention = timed_attention;
    p->ops.glu = timed_glu;
    p->ops.add = timed_add;
    p->ops.gather_rows = timed_gather_rows;
    p->ops.upload = timed_upload;
    p->ops.download = timed_download;
    p->ops.copy = timed_copy;
    clear(p);
    stream->ops = &p->ops;
    return p;
}

void op_profile_close(op_profile *profile) { wtl_free(profile); }

static void add_macs(wtl_op_profile *o, wtl_arithmetic kind, uint64_t macs) {
    o->macs += macs;
    *(kind == WTL_ARITHMETIC_INT8 ? &o->int8_macs : kind == WTL_ARITHMETIC_INT16 ? &o->int16_macs : &o->f32_macs) += macs;
}

void op_profile_step(op_profile *p, const wtl_step_work *work) {
    p->totals.n_steps++;
    p->totals.step_ns += work->end_ns - work->start_ns;
    p->slots[ATTENTION].bytes += work->kv_read_bytes;
    for (int32_t i = 0; i < work->n_seqs; i++) { // one half with keys, one with values
        add_macs(&p->slots[ATTENTION], p->attention.keys, work->seqs[i].attention_macs / 2);
        add_macs(&p->slots[ATTENTION], p->attention.values, work->seqs[i].attention_macs / 2);
    }
}

// ---- Asking ---------------------------------------------------------------------------------------------------------
static int by_time(const void *a, const void *b) {
    const uint64_t x = ((const wtl_op_profile *)a)->ns, y = ((const wtl_op_profile *)b)->ns;
    return x < y ? 1 : x > y ? -1 : 0;
}

size_t wtl_session_profile(const wtl_session *session, wtl_profile *totals, wtl_op_profile *ops, size_t cap) {
    const op_profile *p = session->profile;
    wtl_op_profile called[N_SLOTS];
    size_t n = 0;
    if (!p) return 0;
    for (int i = 0; i < N_SLOTS; i++)
        if (p->slots[i].n_calls) called[n++] = p->slots[i];
    qsort(called, n, sizeof *called, by_time);
    for (size_t i = 0; i < n && i < cap; i++) ops[i] = called[i];
    if (totals) *totals = p->totals;
    return n;
}

void wtl_session_profile_reset(wtl_session *session) {
    if (session->profile) clear(session->profile);
}
