// Opens a model with a number of threads and says what llama-bench would say of it. See bench.h.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"

static bool is_float(const char *type) { return strcmp(type, "F32") == 0 || strcmp(type, "F16") == 0 || strcmp(type, "BF16") == 0; }

// The type that holds the most bytes of the file's tensors.
static const char *main_type(const wtl_file *file, uint64_t n_tensors) {
    enum { TYPES_MAX = 40 };
    struct {
        const char *name;
        uint64_t bytes;
    } seen[TYPES_MAX];
    size_t n = 0, best = 0;
    for (uint64_t i = 0; i < n_tensors; i++) {
        const wtl_tensor_info t = wtl_file_tensor(file, i);
        size_t k = 0;
        while (k < n && strcmp(seen[k].name, t.dtype) != 0) k++;
        if (k == TYPES_MAX) continue;
        if (k == n) {
            seen[n].name = t.dtype;
            seen[n++].bytes = 0;
        }
        seen[k].bytes += t.bytes;
        if (seen[k].bytes > seen[best].bytes) best = k;
    }
    return n ? seen[best].name : "unknown";
}

static int describe_file(bench_model *m) {
    wtl_error err = {0};
    wtl_file *file = NULL;
    if (wtl_file_open(m->path, &file, &err) != WTL_OK) return cli_fail("%s", err.message);
    const wtl_file_info info = wtl_file_describe(file);
    const char *type = main_type(file, info.n_tensors);
    const double n = (double)info.n_params;
    snprintf(m->type, sizeof m->type, "%s %.2f%s %s", info.arch, n >= 1e9 ? n / 1e9 : n / 1e6, n >= 1e9 ? "B" : "M", type);
    m->float_weights = is_float(type);
    m->tensor_bytes = info.tensor_bytes;
    m->n_params = info.n_params;
    wtl_file_close(&file);
    return CLI_GO;
}

int bench_model_open(bench_model *m, const bench_case *c, const char *backend) {
    if (m->engine && strcmp(m->path, c->model) == 0 && m->asked_threads == c->n_threads) return CLI_GO;
    bench_model_close(m);
    wtl_error err = {0};
    m->path = c->model;
    m->asked_threads = c->n_threads;
    int code = describe_file(m);
    if (code != CLI_GO) return code;
    const uint64_t start = cli_now_ns();
    const wtl_engine_options options = {.model_path = c->model, .backend = backend, .n_threads = c->n_threads};
    if (wtl_engine_open(&options, &m->engine, &err) != WTL_OK) return cli_fail("%s", err.message);
    m->load_ns = cli_now_ns() - start;
    m->info = wtl_engine_describe(m->engine);
    return CLI_GO;
}

void bench_model_close(bench_model *m) {
    wtl_engine_close(&m->engine);
    *m = (bench_model){0};
}
