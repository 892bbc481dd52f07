// The cpu backend: memory, streams and the op table. Weights are in cpu_weights.c, ops in their own files.
//
// Backend memory is host memory and ops run inside the call, split over the backend's pool. A stream carries the scratch
// of all ops, sized from its limits when it opens: ops allocate nothing. Streams of one backend share the pool, whose
// jobs take turns.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cores.h"
#include "kernels/cpu/cpu_panel.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

// ---- memory ---------------------------------------------------------------------------------------------------------
static wtl_status backend_alloc(wtl_backend *be, size_t bytes, void **out, wtl_error *err) {
    (void)be;
    void *p = wtl_pages_alloc(bytes);
    if (!p) return wtl_fail(err, WTL_ERR_NO_MEMORY, "cpu backend: no memory for %zu bytes", bytes);
    *out = p;
    return WTL_OK;
}

static void backend_free(wtl_backend *be, void *p, size_t bytes) {
    (void)be;
    wtl_pages_free(p, bytes);
}

static const char *backend_describe(wtl_backend *be) { return ((cpu_backend *)be)->description; }

static void backend_close(wtl_backend *base) {
    if (!base) return;
    cpu_backend *be = (cpu_backend *)base;
    pool_close(&be->pool);
    pthread_mutex_destroy(&be->slab_lock);
    wtl_free(be);
}

// ---- streams --------------------------------------------------------------------------------------------------------
static void stream_close(wtl_stream *s) {
    if (!s) return;
    cpu_stream *stream = (cpu_stream *)s;
    wtl_pages_free(stream->scratch, stream->scratch_bytes);
    wtl_free(stream);
}

// Sizes of the scratch areas and their sum; false on overflow.
static bool plan_scratch(cpu_stream *s, int32_t n_threads) {
    if (!wtl_align_size(cpu_matmul_scratch_bytes(&s->limits, n_threads), 64, &s->quant_bytes)) return false;
    if (!wtl_align_size(cpu_matmul_float_scratch_bytes(&s->limits, n_threads), 64, &s->float_bytes)) return false;
    if (!wtl_align_size(cpu_head_scratch_bytes(&s->limits, n_threads), 64, &s->head_bytes)) return false;
    if (!wtl_align_size(cpu_attention_scratch_bytes(&s->limits, n_threads), 64, &s->attend_bytes)) return false;
    return wtl_add_size(s->quant_bytes, s->float_bytes, &s->scratch_bytes) &&
           wtl_add_size(s->scratch_bytes, s->head_bytes, &s->scratch_bytes) &&
           wtl_add_size(s->scratch_bytes, s->attend_bytes, &s->scratch_bytes);
}

static size_t stream_bytes(wtl_backend *be, const wtl_stream_limits *limits) {
    cpu_stream sizes = {.limits = *limits};
    return plan_scratch(&sizes, be->n_threads) ? sizes.scratch_bytes : SIZE_MAX;
}

static wtl_status stream_open(wtl_backend *be, const wtl_stream_limits *limits, wtl_stream **out, wtl_error *err) {
    if (limits->max_rows < 0 || limits->max_cols < 0 || limits->max_heads < 0 || limits->max_head_dim < 0 ||
        limits->max_kv_len < 0 || limits->max_head_rows < 0) {
        return wtl_fail(err, WTL_ERR_INVALID, "cpu backend: a limit of the stream is negative");
    }
    cpu_stream *s = wtl_calloc(1, sizeof *s);
    if (!s) goto no_memory;
    s->base = (wtl_stream){.ops = be->ops, .be = be};
    s->limits = *limits;
    if (!plan_scratch(s, pool_threads(((cpu_backend *)be)->pool))) goto no_memory;
    s->scratch = wtl_pages_alloc(s->scratch_bytes);
    if (!s->scratch) goto no_memory;
    s->quant_scratch = s->scratch;
    s->float_scratch = s->scratch + s->quant_bytes;
    s->head_scratch = s->scratch + s->quant_bytes + s->float_bytes;
    s->attend_scratch = s->scratch + s->quant_bytes + s->float_bytes + s->head_bytes;
    *out = &s->base;
    return WTL_OK;
no_memory:
    stream_close(s ? &s->base : NULL);
    return wtl_fail(err, WTL_ERR_NO_MEMORY, "cpu backend: no memory for the scratch of a stream of %d rows", limits->max_rows);
}

static wtl_status stream_sync(wtl_stream *s, wtl_error *err) {
    cpu_stream *stream = (cpu_stream *)s;
    const wtl_status status = stream->failed;
    stream->failed = WTL_OK;
    if (status != WTL_OK) return wtl_fail(err, status, "cpu backend: an op was larger than the limits of its stream");
    return WTL_OK;
}

// More threads than usable cores would only wait for each other, several times in every op: they are never active.
static void limit_threads(cpu_backend *be, int32_t n_threads) {
    pool_limit(be->pool, n_threads < 1 || n_threads > be->most_active ? be->most_active : n_threads);
}

static void stream_set_threads(wtl_stream *s, int32_t n_threads) { limit_threads(cpu_of(s), n_threads); }

static void stream_copy(wtl_stream *s, void *dst, const void *src, size_t bytes) {
    (void)s;
    if (bytes) memcpy(dst, src, bytes);
}

// ---- the table ------------------------------------------------------------------------------------------------------
static const wtl_backend_ops cpu_ops = {
    .name = "cpu",
    .host_reads = true,
    .close = backend_close,
    .describe = backend_describe,
    .alloc = backend_alloc,
    .free = backend_free,
    .weight_prepare = cpu_weight_prepare,
    .weight_free = cpu_weight_free,
    .attention_arithmetic = cpu_attention_arithmetic,
    .kv_layer_bytes = cpu_kv_layer_bytes,
    .stream_bytes = stream_bytes,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .sync = stream_sync,
    .set_threads = stream_set_threads,
    .upload = stream_copy, // backend memory is host memory
    .download = stream_copy,
    .copy = stream_copy,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .matmul = cpu_matmul,
    .head_top = cpu_head_top,
    .rope_table = cpu_rope_table,
    .rope = cpu_rope,
    .kv_write = cpu_kv_write,
    .attention = cpu_attention,
    .glu = cpu_glu,
    .add = cpu_add,
    .gather_rows = cpu_gather_rows,
};

static const cpu_vec_kernels *const vec_kernels[CPU_ISA_COUNT] = CPU_ISA_TABLE(cpu_vec);

wtl_status cpu_backend_open(const wtl_backend_options *options, wtl_backend **out, wtl_error *err) {
    cpu_isa isa;
    wtl_status status = cpu_isa_choose(options->cpu_mask, &isa, err);
    if (status != WTL_OK) return status;
    cpu_backend *be = wtl_calloc(1, sizeof *be);
    if (!be) return wtl_fail(err, WTL_ERR_NO_MEMORY, "cpu backend: no memory");
    pthread_mutex_init(&be->slab_lock, NULL); // cannot fail with default attributes
    status = pool_open(options->n_threads ? options->n_threads : cpu_default_threads(), &be->pool, err);
    if (status != WTL_OK) {
        backend_close(&be->base);
        return status;
    }
    be->base.ops = &cpu_ops;
    be->isa = isa;
#if WTL_BLAS
    be->use_blas = !options->deterministic;
#endif
    be->vec = vec_kernels[isa];
    be->matmul = cpu_matmul_table(isa);
    const int32_t n = be->base.n_threads = pool_threads(be->pool);
    const int32_t cores = cpu_usable_cores();
    be->most_active = n < cores ? n : cores;
    limit_threads(be, n);
    size_t length = (size_t)snprintf(be->description, sizeof be->description, "cpu %s, %d thread%s", cpu_isa_name(isa), n, n == 1 ? "" : "s");
    if (n > cores) snprintf(be->description + length, sizeof be->description - length, ", %d at once: as many cores are usable", cores);
    *out = &be->base;
    return WTL_OK;
}
