// The text that Prometheus reads (exposition format 0.0.4). Every metric has HELP and TYPE once; label values are escaped; a figure that is
// not known has no sample, never a 0. Behind our own names come those that dashboards for other servers ask for.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve/metrics_counts.h"

typedef struct page {
    FILE *out;
    server *s;
    metrics_counts counts;
    wtl_batch_state state;
    bool ready;       // state is valid
    char model[1200]; // escaped
} page;

// Backslash, quote and line feed are the three that a label value cannot hold.
static void escape(const char *text, char *out, size_t cap) {
    size_t n = 0;
    for (; *text && n + 3 < cap; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n') out[n++] = '\\';
        out[n++] = *text == '\n' ? 'n' : *text;
    }
    out[n] = '\0';
}

static void head(page *p, const char *name, const char *type, const char *help) { fprintf(p->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type); }

static void one(page *p, const char *name, const char *type, const char *help, double value) {
    head(p, name, type, help);
    fprintf(p->out, "%s{model=\"%s\"} %.15g\n", name, p->model, value);
}

static void histogram(page *p, const char *name, const char *label, const char *help, const metrics_histogram *h) {
    uint64_t below = 0;
    head(p, name, "histogram", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        below += h->n[i];
        fprintf(p->out, "%s_bucket{%s=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, label, p->model, h->bounds[i], below);
    }
    below += h->n[METRICS_BUCKETS];
    fprintf(p->out, "%s_bucket{%s=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, label, p->model, below);
    fprintf(p->out, "%s_sum{%s=\"%s\"} %.15g\n%s_count{%s=\"%s\"} %" PRIu64 "\n", name, label, p->model, h->sum, name, label, p->model, below);
}

// ---- Energy --------------------------------------------------------------------------------------------------------------------------
static size_t n_domains(const page *p) {
    if (!p->ready || !p->s->desk.meter || !p->s->desk.energy) return 0;
    const size_t n = tel_meter_n_counting(p->s->desk.meter);
    return n < WTL_ENERGY_DOMAINS_MAX ? n : WTL_ENERGY_DOMAINS_MAX;
}

static void energy_sample(page *p, const char *domain, const char *scope, const char *phase, const char *part, uint64_t uj) {
    fprintf(p->out, "wattle_energy_joules_total{domain=\"%s\",scope=\"%s\",phase=\"%s\",part=\"%s\"} %.15g\n", domain, scope, phase, part, (double)uj / 1e6);
}

static void domain_energy(page *p, size_t i) {
    const tel_domain_info d = tel_meter_domain(p->s->desk.meter, i);
    const wtl_energy_totals t = wtl_energy_totals_of(p->s->desk.energy, i);
    const char *scope = tel_scope_name(d.scope);
    char name[256];
    escape(d.name, name, sizeof name);
    const uint64_t told = t.prefill_dynamic_uj + t.prefill_idle_uj + t.decode_dynamic_uj + t.decode_idle_uj;
    energy_sample(p, name, scope, "prefill", "dynamic", t.prefill_dynamic_uj);
    energy_sample(p, name, scope, "prefill", "idle", t.prefill_idle_uj);
    energy_sample(p, name, scope, "decode", "dynamic", t.decode_dynamic_uj);
    energy_sample(p, name, scope, "decode", "idle", t.decode_idle_uj);
    energy_sample(p, name, scope, "none", "idle", t.idle_uj);
    // With the joules that came for requests nobody waited for any more: in no request's figure.
    energy_sample(p, name, scope, "none", "unattributed", t.unattributed_uj + (t.requests_uj - told));
}

static const char *telemetry_status(const page *p) {
    if (!n_domains(p)) return "unavailable";
    return tel_meter_domain(p->s->desk.meter, 0).method == TEL_METHOD_MODELLED ? "modelled" : "measured";
}

static void energy(page *p) {
    head(p, "wattle_energy_joules_total", "counter", "Joules since the start, by where they were counted and what they went into; the sum over phase and part is all that was counted.");
    for (size_t i = 0; i < n_domains(p); i++) domain_energy(p, i);
    head(p, "wattle_power_watts", "gauge", "Watts of the last sample.");
    for (size_t i = 0; i < n_domains(p); i++) {
        const tel_domain_info d = tel_meter_domain(p->s->desk.meter, i);
        char name[256];
        escape(d.name, name, sizeof name);
        if (d.power_known) fprintf(p->out, "wattle_power_watts{domain=\"%s\"} %.15g\n", name, (double)d.power_uw / 1e6);
    }
    head(p, "wattle_telemetry_status", "gauge", "1 for the kind of joules that are counted here.");
    static const char *const names[] = {"measured", "modelled", "unavailable"};
    for (size_t i = 0; i < CLI_COUNT(names); i++) fprintf(p->out, "wattle_telemetry_status{status=\"%s\"} %d\n", names[i], strcmp(names[i], telemetry_status(p)) == 0);
    one(p, "wattle_joules_avoided_total", "counter", "Joules that prompt tokens found in the cache would have taken (counterfactual).", (double)p->counts.avoided_uj / 1e6);
    one(p, "wattle_requests_without_joules_total", "counter", "Answers whose joules are not known.", (double)p->counts.n_unknown);
    histogram(p, "wattle_joules_per_output_token", "model", "Joules of an answer divided by its tokens.", &p->counts.joules);
}

// ---- Work ----------------------------------------------------------------------------------------------------------------------------
static void requests(page *p) {
    const metrics_counts *c = &p->counts;
    head(p, "wattle_requests_total", "counter", "Answers that have ended, by how.");
    for (size_t i = 0; i < METRICS_OUTCOMES; i++)
        fprintf(p->out, "wattle_requests_total{model=\"%s\",outcome=\"%s\"} %" PRIu64 "\n", p->model, metrics_outcomes[i], c->outcome[i]);
    const wtl_batch_state *b = &p->state; // zeros while loading
    head(p, "wattle_tokens_total", "counter", "Tokens: prompt tokens processed, found in the cache, and tokens chosen.");
    fprintf(p->out, "wattle_tokens_total{model=\"%s\",kind=\"prompt_new\"} %" PRIu64 "\n", p->model, b->n_prompt_tok);
    fprintf(p->out, "wattle_tokens_total{model=\"%s\",kind=\"prompt_cached\"} %" PRIu64 "\n", p->model, b->n_cached_tok);
    fprintf(p->out, "wattle_tokens_total{model=\"%s\",kind=\"completion\"} %" PRIu64 "\n", p->model, b->n_decoded_tok);
    head(p, "wattle_draft_tokens_total", "counter", "Guesses at tokens of replies, checked in the step that chooses them: tried, and right.");
    fprintf(p->out, "wattle_draft_tokens_total{model=\"%s\",kind=\"tried\"} %" PRIu64 "\n", p->model, b->n_drafted_tok);
    fprintf(p->out, "wattle_draft_tokens_total{model=\"%s\",kind=\"accepted\"} %" PRIu64 "\n", p->model, b->n_accepted_tok);
    histogram(p, "wattle_time_to_first_token_seconds", "model", "From the arrival of a request to its first token.", &c->ttft);
    histogram(p, "wattle_time_per_output_token_seconds", "model", "Mean time between two tokens of an answer.", &c->tpot);
    histogram(p, "wattle_request_duration_seconds", "model", "From the arrival of a request to its last token.", &c->total);
}

static void engine(page *p) {
    if (!p->ready) return;
    const wtl_batch_state *b = &p->state;
    one(p, "wattle_requests_running", "gauge", "Requests that the model works on.", b->n_running);
    one(p, "wattle_requests_waiting", "gauge", "Requests in the queue.", b->n_waiting);
    one(p, "wattle_requests_paused", "gauge", "Requests that gave up their place because their reader lagged while others waited.", b->n_paused);
    one(p, "wattle_pauses_total", "counter", "Times that a request gave up its place so.", (double)b->n_pauses);
    one(p, "wattle_reread_tokens_total", "counter", "Tokens that had to be read again after such a pause.", (double)b->n_reread_tok);
    one(p, "wattle_steps_total", "counter", "Steps of the model.", (double)b->n_steps);
    head(p, "wattle_cpu_seconds_total", "counter", "Processor time of the steps.");
    fprintf(p->out, "wattle_cpu_seconds_total{phase=\"prefill\"} %.15g\n", (double)b->cpu_prefill_ns / 1e9);
    fprintf(p->out, "wattle_cpu_seconds_total{phase=\"decode\"} %.15g\n", (double)b->cpu_decode_ns / 1e9);
    head(p, "wattle_kv_blocks", "gauge", "Blocks of the KV cache: held by running requests, kept for later ones, empty.");
    fprintf(p->out, "wattle_kv_blocks{state=\"used\"} %" PRIu64 "\n", b->kv.n_used);
    fprintf(p->out, "wattle_kv_blocks{state=\"cached\"} %" PRIu64 "\n", b->kv.n_cached);
    fprintf(p->out, "wattle_kv_blocks{state=\"free\"} %" PRIu64 "\n", b->kv.n_free);
    one(p, "wattle_kv_evicted_blocks_total", "counter", "Blocks of the KV cache that made room for others.", (double)b->kv.evicted);
    one(p, "wattle_kv_bytes", "gauge", "Memory of the KV cache.", (double)b->kv.bytes);
}

static void network(page *p) {
    one(p, "wattle_refused_total", "counter", "Connections that were turned away for a limit.", (double)p->counts.n_refused);
    if (!p->s->http) return;
    const http_stats h = http_server_stats(p->s->http);
    one(p, "wattle_http_connections", "gauge", "Open connections.", (double)h.n_connections);
    one(p, "wattle_http_requests_total", "counter", "Whole requests.", (double)h.n_requests);
    one(p, "wattle_http_malformed_total", "counter", "Requests with broken framing.", (double)h.n_bad);
    one(p, "wattle_http_slow_total", "counter", "Requests that did not arrive in time.", (double)h.n_slow);
    one(p, "wattle_http_dropped_total", "counter", "Readers that stopped reading.", (double)h.n_dropped);
}

// ---- Names of other servers ----------------------------------------------------------------------------------------------------------
static double kv_usage(const page *p) {
    const double all = (double)(p->state.kv.n_used + p->state.kv.n_cached + p->state.kv.n_free);
    return all > 0 ? (double)p->state.kv.n_used / all : 0;
}

static void plain(page *p, const char *name, const char *type, const char *help, double value) {
    head(p, name, type, help);
    fprintf(p->out, "%s %.15g\n", name, value);
}

static void aliases_llamacpp(page *p) {
    const metrics_counts *c = &p->counts;
    const double prefill_s = (double)c->prefill_ns / 1e9, decode_s = (double)c->decode_ns / 1e9;
    plain(p, "llamacpp:prompt_tokens_total", "counter", "Number of prompt tokens processed.", (double)p->state.n_prompt_tok);
    plain(p, "llamacpp:prompt_seconds_total", "counter", "Prompt process time.", prefill_s);
    plain(p, "llamacpp:tokens_predicted_total", "counter", "Number of generation tokens processed.", (double)p->state.n_decoded_tok);
    plain(p, "llamacpp:tokens_predicted_seconds_total", "counter", "Predict process time.", decode_s);
    if (!p->ready) return;
    plain(p, "llamacpp:n_decode_total", "counter", "Number of steps.", (double)p->state.n_steps);
    plain(p, "llamacpp:prompt_tokens_seconds", "gauge", "Prompt throughput in tokens a second, recent.", p->state.prefill_tok_per_s);
    plain(p, "llamacpp:predicted_tokens_seconds", "gauge", "Generation throughput in tokens a second, recent.", p->state.decode_tok_per_s);
    plain(p, "llamacpp:requests_processing", "gauge", "Number of requests processing.", p->state.n_running);
    plain(p, "llamacpp:requests_deferred", "gauge", "Number of requests deferred.", p->state.n_waiting);
    plain(p, "llamacpp:kv_cache_usage_ratio", "gauge", "Share of the KV cache that running requests hold; 1 means all.", kv_usage(p));
}

static void named(page *p, const char *name, const char *type, const char *help, double value) {
    head(p, name, type, help);
    fprintf(p->out, "%s{model_name=\"%s\"} %.15g\n", name, p->model, value);
}

static void aliases_vllm(page *p) {
    const metrics_counts *c = &p->counts;
    named(p, "vllm:prompt_tokens_total", "counter", "Number of prompt tokens, cached ones too.", (double)(p->state.n_prompt_tok + p->state.n_cached_tok));
    named(p, "vllm:generation_tokens_total", "counter", "Number of generation tokens.", (double)p->state.n_decoded_tok);
    named(p, "vllm:prefix_cache_queries_total", "counter", "Prompt tokens that were looked up in the cache.", (double)(p->state.n_prompt_tok + p->state.n_cached_tok));
    named(p, "vllm:prefix_cache_hits_total", "counter", "Prompt tokens that were found in the cache.", (double)p->state.n_cached_tok);
    histogram(p, "vllm:time_to_first_token_seconds", "model_name", "From the arrival of a request to its first token.", &c->ttft);
    histogram(p, "vllm:time_per_output_token_seconds", "model_name", "Mean time between two tokens of an answer.", &c->tpot);
    histogram(p, "vllm:e2e_request_latency_seconds", "model_name", "From the arrival of a request to its last token.", &c->total);
    if (!p->ready) return;
    named(p, "vllm:num_requests_running", "gauge", "Requests that the model works on.", p->state.n_running);
    named(p, "vllm:num_requests_waiting", "gauge", "Requests in the queue.", p->state.n_waiting);
    named(p, "vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache that running requests hold; 1 means all.", kv_usage(p));
}

char *server_metrics_text(server *s, bool aliases, size_t *len) {
    char *text = NULL;
    page *p = calloc(1, sizeof *p);
    if (!p || !(p->out = open_memstream(&text, len))) {
        free(p);
        return NULL;
    }
    p->s = s;
    p->counts = metrics_copy(s->metrics);
    const int state = atomic_load(&s->state);
    p->ready = (state == SERVER_READY || state == SERVER_DRAINING) && s->batch;
    if (p->ready) p->state = wtl_batch_state_of(s->batch, NULL, 0, NULL);
    escape(s->model_id ? s->model_id : "", p->model, sizeof p->model);
    energy(p);
    requests(p);
    engine(p);
    network(p);
    if (aliases) aliases_llamacpp(p);
    if (aliases) aliases_vllm(p);
    const bool good = !ferror(p->out);
    if (fclose(p->out) != 0 || !good) {
        free(text);
        text = NULL;
    }
    free(p);
    return text;
}
