// Opens a model with a number of threads and says what llama-bench would say of it. See bench.h.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "tools/bench.h"

static bool is_float(const char *type) { return strcmp(type, "F32") == 0 || strcmp(type, "F16") == 0 || strcmp(type, "BF16") == 0; }

// llama.cpp's names of general.file_type, as far as wattle runs the types: a mixture is named after what it mostly is.
static const char *mixture(int32_t file_type) {
    static const char *const names[] = {[0] = "all F32", [1] = "F16", [2] = "Q4_0", [3] = "Q4_1", [7] = "Q8_0", [8] = "Q5_0", [9] = "Q5_1", [10] = "Q2_K - Medium",
                                        [11] = "Q3_K - Small", [12] = "Q3_K - Medium", [13] = "Q3_K - Large", [14] = "Q4_K - Small", [15] = "Q4_K - Medium",
                                        [16] = "Q5_K - Small", [17] = "Q5_K - Medium", [18] = "Q6_K", [21] = "Q2_K - Small", [25] = "IQ4_NL - 4.5 bpw",
                                        [30] = "IQ4_XS - 4.25 bpw", [32] = "BF16"};
    return file_type >= 0 && (size_t)file_type < sizeof names / sizeof *names ? names[file_type] : NULL;
}

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
    const char *type = main_type(file, info.n_tensors), *said = mixture(info.file_type);
    const double n = (double)info.n_params;
    snprintf(m->type, sizeof m->type, "%s %.2f%s %s", info.arch, n >= 1e9 ? n / 1e9 : n / 1e6, n >= 1e9 ? "B" : "M", said ? said : type);
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
