// One test's outcome as a row: a JSON object with llama-bench's fields in llama-bench's order, then ours. See bench.h.
//
// What has no meaning here has the value that says so: no GPU layers, no devices, nothing offloaded. What is not known is null.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/bench.h"
#include "tools/bench_stats.h"

const bench_field bench_fields[] = {
    {"build_commit", BENCH_TEXT}, {"build_number", BENCH_INTEGER}, {"cpu_info", BENCH_TEXT}, {"gpu_info", BENCH_TEXT}, {"backends", BENCH_TEXT},
    {"model_filename", BENCH_TEXT}, {"model_type", BENCH_TEXT}, {"model_size", BENCH_INTEGER}, {"model_n_params", BENCH_INTEGER}, {"n_batch", BENCH_INTEGER},
    {"n_ubatch", BENCH_INTEGER}, {"n_threads", BENCH_INTEGER}, {"cpu_mask", BENCH_TEXT}, {"cpu_strict", BENCH_BOOL}, {"poll", BENCH_INTEGER},
    {"type_k", BENCH_TEXT}, {"type_v", BENCH_TEXT}, {"n_gpu_layers", BENCH_INTEGER}, {"n_cpu_moe", BENCH_INTEGER}, {"split_mode", BENCH_TEXT},
    {"main_gpu", BENCH_INTEGER}, {"no_kv_offload", BENCH_BOOL}, {"flash_attn", BENCH_INTEGER}, {"devices", BENCH_TEXT}, {"tensor_split", BENCH_TEXT},
    {"tensor_buft_overrides", BENCH_TEXT}, {"load_mode", BENCH_TEXT}, {"lazy_mode", BENCH_TEXT}, {"embeddings", BENCH_BOOL}, {"no_op_offload", BENCH_INTEGER},
    {"no_host", BENCH_BOOL}, {"repack", BENCH_BOOL}, {"fit_target", BENCH_INTEGER}, {"fit_min_ctx", BENCH_INTEGER}, {"n_prompt", BENCH_INTEGER},
    {"n_gen", BENCH_INTEGER}, {"n_depth", BENCH_INTEGER}, {"test_time", BENCH_TEXT}, {"avg_ns", BENCH_INTEGER}, {"stddev_ns", BENCH_INTEGER},
    {"avg_ts", BENCH_REAL}, {"stddev_ts", BENCH_REAL}, {"samples_ns", BENCH_SAMPLES}, {"samples_ts", BENCH_SAMPLES},
    // Ours.
    {"engine", BENCH_TEXT}, {"n_parallel", BENCH_INTEGER}, {"n_repetitions", BENCH_INTEGER},
    {"joules", BENCH_REAL}, {"joules_bound", BENCH_REAL}, {"joules_low", BENCH_REAL}, {"joules_high", BENCH_REAL}, {"joules_status", BENCH_TEXT},
    {"joules_method", BENCH_TEXT}, {"joules_source", BENCH_TEXT}, {"joules_reason", BENCH_TEXT}, {"joules_per_token", BENCH_REAL},
    {"tokens_per_joule", BENCH_REAL}, {"avg_watts", BENCH_REAL}, {"cpu_s_per_token", BENCH_REAL}, {"gb_per_s", BENCH_REAL}, {"gmac_per_s", BENCH_REAL},
    {"limit_gb_per_s", BENCH_REAL}, {"limit_gmac_per_s", BENCH_REAL}, {"limit_arithmetic", BENCH_TEXT}, {"pct_bandwidth", BENCH_REAL},
    {"pct_compute", BENCH_REAL}, {"cpu_mhz", BENCH_REAL}, {"steal_frac", BENCH_REAL}, {"others_frac", BENCH_REAL}, {"busy", BENCH_TEXT},
    {"load_ns", BENCH_INTEGER}, {"rss_bytes", BENCH_INTEGER},
};

size_t bench_n_fields(void) { return CLI_COUNT(bench_fields); }

double bench_tokens(const bench_case *c) { return (double)c->n_parallel * ((double)c->n_prompt + c->n_gen); }

static json_t *real_or_null(bool known, double value) { return known && isfinite(value) ? json_real(value) : json_null(); }
static json_t *text_or_null(const char *text) { return text && *text ? json_string(text) : json_null(); }
static void put(json_t *row, const char *name, json_t *value) { json_object_set_new(row, name, value); }
static void put_integer(json_t *row, const char *name, uint64_t value) { put(row, name, json_integer((json_int_t)value)); }
static void put_text(json_t *row, const char *name, const char *value) { put(row, name, cli_json_text(value)); }

// ---- llama-bench's --------------------------------------------------------------------------------------------------
static void put_machine(json_t *row, const bench_model *m) {
    char cpu[128], version[64];
    snprintf(version, sizeof version, "wattle-%s", wtl_version());
    put_text(row, "build_commit", version);
    put_integer(row, "build_number", 0);
    put_text(row, "cpu_info", bench_cpu_name(cpu, sizeof cpu));
    put_text(row, "gpu_info", "");
    put_text(row, "backends", "CPU");
    put_text(row, "model_filename", m->path);
    put_text(row, "model_type", m->type);
    put_integer(row, "model_size", m->tensor_bytes);
    put_integer(row, "model_n_params", m->n_params);
}

static void put_settings(json_t *row, const bench_case *c) {
    put_integer(row, "n_batch", (uint64_t)c->n_batch);
    put_integer(row, "n_ubatch", (uint64_t)c->n_ubatch);
    put_integer(row, "n_threads", (uint64_t)c->n_threads);
    put_text(row, "cpu_mask", "0x0");
    put(row, "cpu_strict", json_false());
    put_integer(row, "poll", 0);
    put_text(row, "type_k", kv_type_name(c->kv_type));
    put_text(row, "type_v", kv_type_name(c->kv_type));
    put_integer(row, "n_gpu_layers", 0);
    put_integer(row, "n_cpu_moe", 0);
    put_text(row, "split_mode", "none");
    put_integer(row, "main_gpu", 0);
    put(row, "no_kv_offload", json_false());
    put_integer(row, "flash_attn", 1); // scores are never kept for all positions
    put_text(row, "devices", "none");
    put_text(row, "tensor_split", "0.00");
    put_text(row, "tensor_buft_overrides", "none");
    put_text(row, "load_mode", "mmap");
    put_text(row, "lazy_mode", "off");
    put(row, "embeddings", json_false());
    put_integer(row, "no_op_offload", 0);
    put(row, "no_host", json_false());
    put(row, "repack", json_true()); // weights are packed for the machine at hand
    put_integer(row, "fit_target", 0);
    put_integer(row, "fit_min_ctx", 0);
    put_integer(row, "n_prompt", (uint64_t)c->n_prompt);
    put_integer(row, "n_gen", (uint64_t)c->n_gen);
    put_integer(row, "n_depth", (uint64_t)c->n_depth);
}

static bool put_speed(json_t *row, const bench_result *r) {
    const double tokens = bench_tokens(&r->at);
    double *ns = calloc(r->n_samples + 1, sizeof *ns), *ts = calloc(r->n_samples + 1, sizeof *ts);
    json_t *all_ns = json_array(), *all_ts = json_array();
    for (size_t i = 0; ns && ts && i < r->n_samples; i++) {
        ns[i] = (double)r->samples_ns[i];
        ts[i] = tokens * 1e9 / (ns[i] > 0 ? ns[i] : 1);
        json_array_append_new(all_ns, json_integer((json_int_t)r->samples_ns[i]));
        json_array_append_new(all_ts, json_real(ts[i]));
    }
    const bool good = ns && ts && all_ns && all_ts;
    put_text(row, "test_time", r->test_time);
    if (good) {
        put_integer(row, "avg_ns", (uint64_t)bench_mean(ns, r->n_samples));
        put_integer(row, "stddev_ns", (uint64_t)bench_stddev(ns, r->n_samples));
        put(row, "avg_ts", json_real(bench_mean(ts, r->n_samples)));
        put(row, "stddev_ts", json_real(bench_stddev(ts, r->n_samples)));
    }
    put(row, "samples_ns", all_ns);
    put(row, "samples_ts", all_ts);
    free(ns);
    free(ts);
    return good;
}

// ---- Ours -------------------------------------------------------------------------------------------------------------
static void put_energy(json_t *row, const bench_result *r) {
    const tel_energy *e = &r->energy;
    const bool known = e->status != TEL_UNAVAILABLE && r->n_samples > 0;
    const double n = r->n_samples ? (double)r->n_samples : 1, tokens = bench_tokens(&r->at), joules = (double)e->energy_uj * 1e-6 / n;
    put(row, "joules", real_or_null(known, joules));
    put(row, "joules_bound", real_or_null(known, (double)e->bound_uj * 1e-6 / n));
    put(row, "joules_low", real_or_null(known, (double)e->low_uj * 1e-6 / n));
    put(row, "joules_high", real_or_null(known, (double)e->high_uj * 1e-6 / n));
    put_text(row, "joules_status", tel_status_name(known ? e->status : TEL_UNAVAILABLE));
    put(row, "joules_method", known ? json_string(tel_method_name(e->method)) : json_null());
    put(row, "joules_source", known ? text_or_null(e->source) : json_null());
    put(row, "joules_reason", known ? json_null() : json_string(e->reason ? e->reason : "no repetition was completed"));
    put(row, "joules_per_token", real_or_null(known && tokens > 0, joules / tokens));
    put(row, "tokens_per_joule", real_or_null(known && joules > 0, tokens / joules));
    put(row, "avg_watts", real_or_null(known && r->energy_ns > 0, (double)e->energy_uj * 1e3 / (double)(r->energy_ns ? r->energy_ns : 1)));
}

static void put_work(json_t *row, const bench_result *r) {
    double ns = 0;
    for (size_t i = 0; i < r->n_samples; i++) ns += (double)r->samples_ns[i];
    const bool known = ns > 0;
    const double gb = known ? (double)(r->weight_bytes + r->kv_bytes) / ns : 0, gmac = known ? (double)r->macs / ns : 0;
    const bench_limit *l = &r->limit;
    put(row, "cpu_s_per_token", real_or_null(known, (double)r->cpu_ns * 1e-9 / ((double)r->n_samples * bench_tokens(&r->at))));
    put(row, "gb_per_s", real_or_null(known, gb));
    put(row, "gmac_per_s", real_or_null(known, gmac));
    put(row, "limit_gb_per_s", real_or_null(l->read_gb_per_s > 0, l->read_gb_per_s));
    put(row, "limit_gmac_per_s", real_or_null(l->gmac_per_s > 0, l->gmac_per_s));
    put(row, "limit_arithmetic", text_or_null(l->arithmetic));
    put(row, "pct_bandwidth", real_or_null(known && l->read_gb_per_s > 0, 100 * gb / l->read_gb_per_s));
    put(row, "pct_compute", real_or_null(known && l->gmac_per_s > 0, 100 * gmac / l->gmac_per_s));
}

static void put_use(json_t *row, const bench_use *u) {
    char text[160];
    put(row, "cpu_mhz", real_or_null(u->mhz > 0, u->mhz));
    put(row, "steal_frac", real_or_null(u->known, u->steal_frac));
    put(row, "others_frac", real_or_null(u->known, u->others_frac));
    put(row, "busy", text_or_null(bench_use_warning(u, text, sizeof text)));
}

json_t *bench_row(const bench_model *m, const bench_result *r) {
    char engine[128];
    json_t *row = json_object();
    if (!row) return NULL;
    put_machine(row, m);
    put_settings(row, &r->at);
    bool good = put_speed(row, r);
    snprintf(engine, sizeof engine, "wattle %s %s", wtl_version(), m->info.backend);
    put_text(row, "engine", engine);
    put_integer(row, "n_parallel", (uint64_t)r->at.n_parallel);
    put_integer(row, "n_repetitions", r->n_samples);
    put_energy(row, r);
    put_work(row, r);
    put_use(row, &r->use);
    put_integer(row, "load_ns", m->load_ns);
    put(row, "rss_bytes", r->rss_bytes ? json_integer((json_int_t)r->rss_bytes) : json_null());
    good = good && json_object_size(row) == bench_n_fields(); // an insertion that found no memory
    if (good) return row;
    json_decref(row);
    return NULL;
}
