// Summary and JSON of `wattle run`. Names of the JSON follow llama-server's timings and the energy record of the HTTP
// interface: a number that is not known is null with a reason beside it, never 0.
// SPDX-License-Identifier: Apache-2.0
#include "tools/run_report.h"

#include <math.h>
#include <string.h>

static double per_second(int64_t n, uint64_t ns) { return ns > 0 ? (double)n * 1e9 / (double)ns : 0; }

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static json_t *real_or_null(bool known, double value) { return known && isfinite(value) ? json_real(value) : json_null(); }

// Three decimals of a millisecond or a rate are more than the clock gives.
static json_t *rounded(bool known, double value) { return real_or_null(known, round(value * 1000) / 1000); }

void run_report_summary(const run_report *r) {
    cli_note("prompt: %lld tokens in %.3f s (%.1f tokens/s); decoded: %lld tokens in %.3f s (%.1f tokens/s)", (long long)r->prompt_done_tok,
             seconds(r->prefill_ns), per_second(r->prompt_done_tok, r->prefill_ns), (long long)r->completion_tok, seconds(r->decode_ns),
             per_second(r->decode_steps, r->decode_ns));
    static const struct {
        const char *reason, *words;
    } ends[] = {{"end", "the model ended the reply"}, {"stop", "stop string"},        {"length", "length limit (-n)"},
                {"context", "context full (-c)"},    {"interrupted", "interrupted"}};
    const char *words = r->stop_reason;
    for (size_t i = 0; i < CLI_COUNT(ends); i++)
        if (strcmp(r->stop_reason, ends[i].reason) == 0) words = ends[i].words;
    if (r->ttft_ns) cli_note("first token after %.3f s; stopped: %s; seed %lld", seconds(r->ttft_ns), words, (long long)r->seed);
    else cli_note("no token; stopped: %s; seed %lld", words, (long long)r->seed);
    if (r->energy.status == TEL_UNAVAILABLE) cli_note("energy: unavailable - %s", r->energy.reason);
    else cli_note("energy: %.2f J +- %.2f J (%s)", (double)r->energy.energy_uj / 1e6, (double)r->energy.bound_uj / 1e6, tel_status_name(r->energy.status));
}

static json_t *phase_json(int64_t tokens, uint64_t ns) {
    return json_pack("{s:n, s:n, s:I, s:f}", "joules", "bound_joules", "tokens", (json_int_t)tokens, "seconds", seconds(ns));
}

static json_t *energy_json(const run_report *r) {
    const tel_energy *e = &r->energy;
    bool known = e->status != TEL_UNAVAILABLE;
    double joules = (double)e->energy_uj / 1e6, bound = (double)e->bound_uj / 1e6, duration = seconds(r->prefill_ns + r->decode_ns);
    json_t *prefill = phase_json(r->prompt_done_tok, r->prefill_ns), *decode = phase_json(r->completion_tok, r->decode_ns);
    if (prefill) json_object_set_new(prefill, "cached_tokens", json_integer(0));
    return json_pack("{s:o, s:o, s:o, s:f, s:i, s:s, s:b, s:o, s:o, s:o, s:n, s:[], s:s?, s:{s:o, s:o}}", //
                     "energy_joules", real_or_null(known, joules), "energy_kwh", real_or_null(known, joules / 3.6e6),
                     "avg_power_watts", real_or_null(known && duration > 0, joules / duration), "duration_seconds", duration, "schema", 1,
                     "status", tel_status_name(e->status), "settled", 1, "bound_joules", real_or_null(known, bound), "low_joules",
                     real_or_null(known, joules - bound), "high_joules", real_or_null(known, joules + bound), "method", "scope",
                     "reason", known ? NULL : e->reason, "phases", "prefill", prefill, "decode", decode);
}

json_t *run_report_json(const run_report *r) {
    json_t *tokens = json_array();
    for (int64_t i = 0; i < r->completion_tok; i++) json_array_append_new(tokens, json_integer(r->tokens[i]));
    json_t *timings = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", //
                                "load_ms", rounded(true, (double)r->load_ns / 1e6), "prompt_ms", rounded(true, (double)r->prefill_ns / 1e6),
                                "prompt_per_second", rounded(r->prefill_ns > 0, per_second(r->prompt_done_tok, r->prefill_ns)),
                                "predicted_ms", rounded(true, (double)r->decode_ns / 1e6), "predicted_per_second",
                                rounded(r->decode_steps > 0, per_second(r->decode_steps, r->decode_ns)), "ttft_ms",
                                rounded(r->ttft_ns > 0, (double)r->ttft_ns / 1e6));
    return json_pack("{s:o, s:o, s:I, s:I, s:i, s:o, s:s, s:I, s:s, s:s, s:s, s:o}", //
                     "text", json_stringn(r->text ? r->text : "", r->text_len), "tokens", tokens, "prompt_tokens",
                     (json_int_t)r->prompt_tok, "completion_tokens", (json_int_t)r->completion_tok, "cached_tokens", 0, "timings", timings,
                     "stop_reason", r->stop_reason, "seed", (json_int_t)r->seed, "model", r->model, "arch", r->arch, "backend", r->backend,
                     "energy", energy_json(r));
}
