// The engine: a model file opened, its vocabulary, its weights on a backend.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/vocab.h"

#define THREADS_MAX 1024

const char *wtl_version(void) { return WTL_VERSION_TEXT; }

void wtl_cpu_list(char *out, size_t cap) {
    size_t n = 0;
    if (cap) out[0] = '\0';
    for (int isa = 0; isa < CPU_ISA_COUNT && n < cap; isa++)
        if (cpu_isa_available((cpu_isa)isa)) n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", cpu_isa_name((cpu_isa)isa));
}

int32_t wtl_cpu_threads(void) { return cpu_default_threads(); }

static wtl_status open_backend(const wtl_engine_options *options, wtl_backend **out, wtl_error *err) {
    const wtl_backend_options backend_options = {.n_threads = options->n_threads, .deterministic = options->deterministic};
    const char *name = options->backend ? options->backend : "cpu";
    if (options->n_threads_decode < 0 || options->n_threads_decode > THREADS_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "n_threads_decode is %d; allowed are 1 to %d, or 0 for as many as n_threads", options->n_threads_decode, THREADS_MAX);
    if (options->n_threads < 0 || options->n_threads > THREADS_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "n_threads is %d; allowed are 1 to %d, or 0 for the default", options->n_threads, THREADS_MAX);
    if (!strcmp(name, "cpu")) return cpu_backend_open(&backend_options, out, err);
    if (!strcmp(name, "ref")) return ref_backend_open(&backend_options, out, err);
    return wtl_fail(err, WTL_ERR_INVALID, "there is no backend \"%.40s\"; there are cpu and ref", name);
}

static wtl_status copy_name(wtl_engine *e, wtl_error *err) {
    gguf_str name = {"", 0};
    wtl_status status = gguf_get_str(e->file, "general.name", &name, err);
    if (status && status != WTL_ERR_NOT_FOUND) return status;
    e->name = wtl_strndup(name.s, name.len);
    return e->name ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory", gguf_path(e->file));
}

// The vocabulary and the weights come from different parts of the file and take about as long to open when a model is small: side by side.
typedef struct vocab_job {
    const gguf_file *file;
    wtl_vocab *vocab;
    wtl_status status;
    wtl_error err;
} vocab_job;

static void *run_vocab_job(void *arg) {
    vocab_job *job = arg;
    job->status = vocab_from_file(job->file, &job->vocab, &job->err);
    return NULL;
}

static wtl_status load(wtl_engine *e, wtl_error *err) {
    vocab_job job = {.file = e->file};
    pthread_t thread;
    const bool beside = pthread_create(&thread, NULL, run_vocab_job, &job) == 0;
    if (!beside) run_vocab_job(&job);
    wtl_status status = model_load(e->file, e->be, &e->model, err);
    if (beside) pthread_join(thread, NULL);
    e->vocab = job.vocab;
    if (!job.status) return status;
    if (err) *err = job.err; // the vocabulary's failure is the one that is told, whoever came first
    return job.status;
}

wtl_status wtl_engine_open(const wtl_engine_options *options, wtl_engine **out, wtl_error *err) {
    *out = NULL;
    if (!options || !options->model_path) return wtl_fail(err, WTL_ERR_INVALID, "model_path is not set");
    wtl_model_config config;
    wtl_engine *e = wtl_calloc(1, sizeof *e);
    if (!e) return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory", options->model_path);
    e->model_fd = -1;
    wtl_status status = gguf_open(options->model_path, &e->file, err);
    if (!status) status = model_config_read(e->file, &config, err); // refuse what cannot run before any long work
    if (!status) status = open_backend(options, &e->be, err);
    if (!status) status = copy_name(e, err);
    if (!status) status = load(e, err);
    if (!status && wtl_vocab_describe(e->vocab).n_vocab > e->model->config.n_vocab)
        status = wtl_fail(err, WTL_ERR_FORMAT, "%s: the tokenizer has %d tokens, the model only %d", options->model_path,
                          wtl_vocab_describe(e->vocab).n_vocab, e->model->config.n_vocab);
    if (status) {
        wtl_engine_close(&e);
        return status;
    }
    e->file_bytes = gguf_file_bytes(e->file);
    e->deterministic = options->deterministic;
    const int32_t n = e->be->n_threads, wanted = options->n_threads_decode;
    e->n_threads_decode = wanted && wanted < n ? wanted : n;
    struct stat file;
    e->model_fd = open(options->model_path, O_RDONLY | O_CLOEXEC);
    if (e->model_fd >= 0 && !fstat(e->model_fd, &file)) e->modified = file.st_mtim;
    if (!model_borrows_file(e->model)) gguf_close(&e->file);
#ifdef __GLIBC__
    malloc_trim(0); // loading leaves megabytes of freed lists behind; they would stay resident for good
#endif
    *out = e;
    return WTL_OK;
}

void wtl_engine_close(wtl_engine **engine) {
    if (!engine || !*engine) return;
    wtl_engine *e = *engine;
    model_close(&e->model);
    wtl_vocab_close(&e->vocab);
    if (e->be) e->be->ops->close(e->be);
    gguf_close(&e->file);
    if (e->model_fd >= 0) close(e->model_fd);
    wtl_free(e->name);
    wtl_free(e);
    *engine = NULL;
}

const wtl_vocab *wtl_engine_vocab(const wtl_engine *engine) { return engine->vocab; }

wtl_engine_info wtl_engine_describe(const wtl_engine *e) {
    const wtl_model_config *c = &e->model->config;
    return (wtl_engine_info){
        .arch = c->arch,
        .name = e->name,
        .backend = e->be->ops->describe(e->be),
        .n_layers = c->n_layers,
        .n_embd = c->n_embd,
        .n_vocab = c->n_vocab,
        .n_ctx_train = c->n_ctx_train,
        .n_threads = e->be->n_threads,
        .n_threads_decode = e->n_threads_decode,
        .n_params = e->model->n_params,
        .file_bytes = e->file_bytes,
        .weight_bytes = e->model->weight_bytes,
    };
}

static const wtl_dtype kv_dtypes[] = {[WTL_KV_F16] = WTL_DTYPE_F16, [WTL_KV_F32] = WTL_DTYPE_F32, [WTL_KV_Q8_0] = WTL_DTYPE_Q8_0};

bool engine_kv_type_exists(wtl_kv_type kv_type) { return (unsigned)kv_type < sizeof kv_dtypes / sizeof *kv_dtypes; }

wtl_kv_shape engine_kv_shape(const wtl_engine *e, wtl_kv_type kv_type) {
    return (wtl_kv_shape){kv_dtypes[kv_type], e->model->config.n_heads_kv, e->model->config.head_dim};
}

work_shape engine_work_shape(const wtl_engine *e, wtl_kv_type kv_type) {
    const wtl_model *m = e->model;
    const wtl_kv_shape kv = engine_kv_shape(e, kv_type);
    work_shape shape = {.n_groups = m->n_kv_groups,
                        .position_bytes = e->be->ops->kv_layer_bytes(&kv) / WTL_KV_BLOCK,
                        .head_width = (uint64_t)(m->config.n_heads * m->config.head_dim),
                        .step_bytes = m->step_bytes,
                        .head_bytes = m->head_bytes,
                        .tail_bytes = m->tail_bytes,
                        .row_macs = m->row_macs,
                        .head_macs = m->head_macs,
                        .tail_macs = m->tail_macs};
    static_assert((int)WORK_GROUPS_MAX >= (int)WTL_KV_GROUPS_MAX, "a shape holds every KV group");
    for (int32_t g = 0; g < m->n_kv_groups; g++) {
        shape.n_layers[g] = m->kv_group[g].n_layers;
        shape.window[g] = m->kv_group[g].window;
    }
    return shape;
}
