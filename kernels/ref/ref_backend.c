// The ref backend: memory, weights, streams and the op table of the scalar oracle.
//
// Backend memory is host memory, ops run inside the call. Matrices stay in the tensor they were prepared from; vectors
// are copied to f32. The only failure an op can have is a shape beyond the stream's limits, which sticks until sync.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/ref/ref.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

static void ref_close(wtl_backend *be) { wtl_free(be); }

static wtl_attention_arithmetic ref_attention_arithmetic(wtl_backend *be, wtl_dtype kv) {
    (void)be, (void)kv;
    return (wtl_attention_arithmetic){WTL_ARITHMETIC_F32, WTL_ARITHMETIC_F32};
}

static const char *ref_describe(wtl_backend *be) {
    (void)be;
    return "ref, double precision, 1 thread";
}

static wtl_status ref_alloc(wtl_backend *be, size_t bytes, void **out, wtl_error *err) {
    (void)be;
    void *p = wtl_pages_alloc(bytes);
    if (!p) return wtl_fail(err, WTL_ERR_NO_MEMORY, "ref backend: no memory for %zu bytes", bytes);
    *out = p;
    return WTL_OK;
}

static void ref_free(wtl_backend *be, void *p, size_t bytes) {
    (void)be;
    wtl_pages_free(p, bytes);
}

// Bytes of the whole tensor, after checking that it is one that can run and that its rows are long enough.
static wtl_status tensor_bytes(const wtl_tensor *src, wtl_weight_use use, size_t *out, wtl_error *err) {
    const wtl_dtype_info *info = wtl_dtype_get((uint32_t)src->dtype);
    uint64_t row_bytes;
    if (!info->name || !info->can_run)
        return wtl_fail(err, WTL_ERR_UNSUPPORTED, "ref backend: weights of type %s cannot run",
                        info->name ? info->name : "(unknown)");
    if (src->rows < 1 || src->cols < 1 || !wtl_dtype_row_bytes(src->dtype, (uint64_t)src->cols, &row_bytes) ||
        src->row_bytes < row_bytes || !wtl_mul_size((size_t)src->rows, src->row_bytes, out))
        return wtl_fail(err, WTL_ERR_INVALID, "ref backend: %d x %d weights of type %s do not fit rows of %zu bytes",
                        src->rows, src->cols, info->name, src->row_bytes);
    if (use == WTL_WEIGHT_VECTOR && src->rows != 1)
        return wtl_fail(err, WTL_ERR_INVALID, "ref backend: a vector weight has %d rows instead of 1", src->rows);
    return WTL_OK;
}

static void ref_weight_free(wtl_backend *be, wtl_weight *w) {
    (void)be;
    if (w) wtl_free(((ref_weight *)w)->vector);
    wtl_free(w);
}

static wtl_status ref_weight_prepare(wtl_backend *be, const wtl_tensor *src, wtl_weight_use use, wtl_weight **out,
                                     wtl_error *err) {
    size_t bytes = 0;
    wtl_status status = tensor_bytes(src, use, &bytes, err);
    if (status != WTL_OK) return status;
    ref_weight *w = wtl_calloc(1, sizeof *w);
    if (!w) goto no_memory;
    w->base = (wtl_weight){.dtype = src->dtype, .rows = src->rows, .cols = src->cols, .bytes = bytes};
    w->row_bytes = src->row_bytes;
    if (use != WTL_WEIGHT_VECTOR) {
        w->source = src->data;
        w->base.borrows_source = true;
    } else {
        w->vector = wtl_calloc((size_t)src->cols, sizeof *w->vector);
        if (!w->vector) goto no_memory;
        ref_dequantize_row(src->dtype, src->data, w->vector, src->cols);
    }
    *out = &w->base;
    return WTL_OK;
no_memory:
    ref_weight_free(be, w ? &w->base : NULL);
    return wtl_fail(err, WTL_ERR_NO_MEMORY, "ref backend: no memory for a weight of %d x %d", src->rows, src->cols);
}

static void ref_stream_close(wtl_stream *s) {
    if (!s) return;
    wtl_free(ref_of(s)->row);
    wtl_free(ref_of(s)->wide_row);
    wtl_free(ref_of(s)->weighted);
    wtl_free(ref_of(s)->scores);
    wtl_free(s);
}

static size_t ref_stream_bytes(wtl_backend *be, const wtl_stream_limits *limits) {
    (void)be;
    size_t cols = (size_t)limits->max_cols, head_dim = (size_t)limits->max_head_dim;
    return cols * sizeof(float) + (cols > head_dim ? cols : head_dim) * sizeof(double) +
           (head_dim + (size_t)limits->max_kv_len) * sizeof(double);
}

static wtl_status ref_stream_open(wtl_backend *be, const wtl_stream_limits *limits, wtl_stream **out, wtl_error *err) {
    if (limits->max_rows < 0 || limits->max_cols < 0 || limits->max_head_dim < 0 || limits->max_kv_len < 0)
        return wtl_fail(err, WTL_ERR_INVALID, "ref backend: a limit of the stream is negative");
    ref_stream *rs = wtl_calloc(1, sizeof *rs);
    if (!rs) goto no_memory;
    rs->base = (wtl_stream){.ops = be->ops, .be = be};
    rs->limits = *limits;
    size_t cols = (size_t)limits->max_cols, head_dim = (size_t)limits->max_head_dim;
    rs->row = wtl_calloc(cols, sizeof *rs->row);
    rs->wide_row = wtl_calloc(cols > head_dim ? cols : head_dim, sizeof *rs->wide_row);
    rs->weighted = wtl_calloc(head_dim, sizeof *rs->weighted);
    rs->scores = wtl_calloc((size_t)limits->max_kv_len, sizeof *rs->scores);
    if (!rs->row || !rs->wide_row || !rs->weighted || !rs->scores) goto no_memory;
    *out = &rs->base;
    return WTL_OK;
no_memory:
    ref_stream_close(rs ? &rs->base : NULL);
    return wtl_fail(err, WTL_ERR_NO_MEMORY, "ref backend: no memory for the scratch of a stream");
}

static wtl_status ref_sync(wtl_stream *s, wtl_error *err) {
    wtl_status status = ref_of(s)->failed;
    ref_of(s)->failed = WTL_OK;
    if (status != WTL_OK) return wtl_fail(err, status, "ref backend: an op was larger than the limits of its stream");
    return WTL_OK;
}

static void ref_copy(wtl_stream *s, void *dst, const void *src, size_t bytes) {
    (void)s;
    if (bytes) memcpy(dst, src, bytes);
}

static void ref_set_threads(wtl_stream *s, int32_t n_threads) { (void)s, (void)n_threads; } // one thread, always

static const wtl_backend_ops ref_ops = {
    .name = "ref",
    .close = ref_close,
    .describe = ref_describe,
    .alloc = ref_alloc,
    .free = ref_free,
    .weight_prepare = ref_weight_prepare,
    .weight_free = ref_weight_free,
    .attention_arithmetic = ref_attention_arithmetic,
    .kv_layer_bytes = ref_kv_layer_bytes,
    .stream_bytes = ref_stream_bytes,
    .stream_open = ref_stream_open,
    .stream_close = ref_stream_close,
    .sync = ref_sync,
    .set_threads = ref_set_threads,
    .upload = ref_copy, // backend memory is host memory
    .download = ref_copy,
    .copy = ref_copy,
    .embed = ref_embed,
    .rms_norm = ref_rms_norm,
    .matmul = ref_matmul,
    .head_top = ref_head_top,
    .rope_table = ref_rope_table,
    .rope = ref_rope,
    .kv_write = ref_kv_write,
    .attention = ref_attention,
    .glu = ref_glu,
    .add = ref_add,
    .gather_rows = ref_gather_rows,
};

wtl_status ref_backend_open(const wtl_backend_options *options, wtl_backend **out, wtl_error *err) {
    (void)options; // threads, BLAS and instruction sets do not concern ref
    wtl_backend *be = wtl_calloc(1, sizeof *be);
    if (!be) return wtl_fail(err, WTL_ERR_NO_MEMORY, "ref backend: no memory");
    be->ops = &ref_ops;
    be->n_threads = 1;
    *out = be;
    return WTL_OK;
}
