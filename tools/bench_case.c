// Options multiplied out into tests, checked against the models before anything runs. See bench.h.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"

const char *bench_case_name(const bench_case *c, char *text, size_t cap) {
    size_t n = 0;
    text[0] = '\0';
    if (c->n_prompt) n += (size_t)snprintf(text, cap, "pp%d", c->n_prompt);
    if (c->n_gen && n < cap) n += (size_t)snprintf(text + n, cap - n, "%stg%d", n ? "+" : "", c->n_gen);
    if (c->n_depth && n < cap) n += (size_t)snprintf(text + n, cap - n, " @ d%d", c->n_depth);
    if (c->n_parallel > 1 && n < cap) snprintf(text + n, cap - n, " x%d", c->n_parallel);
    return text;
}

// ---- Multiplying out ------------------------------------------------------------------------------------------------
typedef struct growing {
    bench_case *cases;
    size_t n, cap;
    bool no_memory;
} growing;

static void push(growing *g, bench_case c) {
    if (c.n_prompt == 0 && c.n_gen == 0) return;
    if (g->n == g->cap) {
        const size_t cap = g->cap ? 2 * g->cap : 64;
        bench_case *grown = realloc(g->cases, cap * sizeof *grown);
        if (!grown) {
            g->no_memory = true;
            return;
        }
        g->cases = grown;
        g->cap = cap;
    }
    g->cases[g->n++] = c;
}

// The innermost lists, in llama-bench's order: prompts, replies, pairs.
static void push_tests(growing *g, const bench_params *p, bench_case c) {
    for (size_t i = 0; i < p->n_prompt.n; i++) {
        c.n_prompt = p->n_prompt.values[i];
        push(g, c);
    }
    c.n_prompt = 0;
    for (size_t i = 0; i < p->n_gen.n; i++) {
        c.n_gen = p->n_gen.values[i];
        push(g, c);
    }
    for (size_t i = 0; i < p->n_pairs; i++) {
        c.n_prompt = p->pair_prompt[i];
        c.n_gen = p->pair_gen[i];
        push(g, c);
    }
}

static void push_sizes(growing *g, const bench_params *p, bench_case c) {
    for (size_t t = 0; t < p->n_threads.n; t++)
        for (size_t d = 0; d < p->n_depth.n; d++)
            for (size_t n = 0; n < p->n_parallel.n; n++) {
                c.n_threads = p->n_threads.values[t];
                c.n_depth = p->n_depth.values[d];
                c.n_parallel = p->n_parallel.values[n];
                push_tests(g, p, c);
            }
}

static bench_list list_or(const bench_list *list, int32_t value) {
    if (list->n) return *list;
    return (bench_list){.values = {value}, .n = 1};
}

// llama-bench's defaults, which leave a prompt test and a reply test out only when a list says 0.
static bench_params with_defaults(const bench_params *given) {
    bench_params p = *given;
    p.n_prompt = list_or(&given->n_prompt, 512);
    p.n_gen = list_or(&given->n_gen, 128);
    p.n_depth = list_or(&given->n_depth, 0);
    p.n_batch = list_or(&given->n_batch, 2048);
    p.n_ubatch = list_or(&given->n_ubatch, 512);
    p.n_threads = list_or(&given->n_threads, 0);
    p.n_parallel = list_or(&given->n_parallel, 1);
    if (!p.n_type_k) p.type_k[p.n_type_k++] = WTL_KV_F16;
    if (!p.n_type_v) p.type_v[p.n_type_v++] = WTL_KV_F16;
    return p;
}

// K and V have one type here: of all pairs those that are alike.
static void push_kv(growing *g, const bench_params *p, bench_case c) {
    for (size_t k = 0; k < p->n_type_k; k++)
        for (size_t v = 0; v < p->n_type_v; v++) {
            if (p->type_k[k] != p->type_v[v]) continue;
            c.kv_type = p->type_k[k];
            push_sizes(g, p, c);
        }
}

static bool is_among(const wtl_kv_type *types, size_t n, wtl_kv_type type) {
    for (size_t i = 0; i < n; i++)
        if (types[i] == type) return true;
    return false;
}

// A type that is on one side alone would be in no test.
static int check_kv(const bench_params *p) {
    for (size_t k = 0; k < p->n_type_k; k++)
        if (!is_among(p->type_v, p->n_type_v, p->type_k[k]))
            return cli_wrong("bench: -ctk %s -ctv %s: K and V must have the same type", kv_type_name(p->type_k[k]), kv_type_name(p->type_v[0]));
    for (size_t v = 0; v < p->n_type_v; v++)
        if (!is_among(p->type_k, p->n_type_k, p->type_v[v]))
            return cli_wrong("bench: -ctk %s -ctv %s: K and V must have the same type", kv_type_name(p->type_k[0]), kv_type_name(p->type_v[v]));
    return CLI_GO;
}

int bench_cases(const bench_params *params, bench_case **out, size_t *n) {
    const bench_params p = with_defaults(params);
    growing g = {0};
    int code = check_kv(&p);
    for (size_t m = 0; m < p.n_models && code == CLI_GO; m++)
        for (size_t b = 0; b < p.n_batch.n; b++)
            for (size_t u = 0; u < p.n_ubatch.n; u++)
                push_kv(&g, &p, (bench_case){.model = p.models[m], .n_batch = p.n_batch.values[b], .n_ubatch = p.n_ubatch.values[u]});
    if (code == CLI_GO && g.no_memory) code = cli_fail("out of memory for the list of tests");
    if (code == CLI_GO && g.n == 0) code = cli_wrong("bench: nothing to measure: every -p and -n is 0");
    if (code != CLI_GO) {
        free(g.cases);
        return code;
    }
    *out = g.cases;
    *n = g.n;
    return CLI_GO;
}

// ---- Checking -------------------------------------------------------------------------------------------------------
static int check_model(const char *path, uint32_t *n_ctx) {
    wtl_error err = {0};
    wtl_file *file = NULL;
    if (wtl_file_open(path, &file, &err) != WTL_OK) return cli_fail("%s", err.message);
    const wtl_file_info info = wtl_file_describe(file);
    *n_ctx = info.n_ctx_train;
    const int code = *info.obstacle ? cli_fail("%s: %s", path, info.obstacle) : CLI_GO;
    wtl_file_close(&file);
    return code;
}

int bench_cases_check(const bench_case *cases, size_t n) {
    const char *path = NULL;
    uint32_t n_ctx = 0;
    for (size_t i = 0; i < n; i++) {
        const bench_case *c = &cases[i];
        if (!path || strcmp(path, c->model) != 0) {
            const int code = check_model(c->model, &n_ctx);
            if (code != CLI_GO) return code;
            path = c->model;
        }
        const int64_t length = (int64_t)c->n_depth + c->n_prompt + c->n_gen;
        char name[64];
        if (length > n_ctx)
            return cli_fail("%s: test %s takes %lld positions, and the model was trained for %u", path, bench_case_name(c, name, sizeof name), (long long)length, n_ctx);
    }
    return CLI_GO;
}
