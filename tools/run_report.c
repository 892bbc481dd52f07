// Summary and JSON of `wattle run`. Names of the JSON follow llama-server's timings and the energy record of the HTTP
// interface: a number that is not known is null with a reason beside it, never 0.
// SPDX-License-Identifier: Apache-2.0
#include "tools/run_report.h"

#include <math.h>
#include <string.h>

#include "tools/energy_json.h"

static double per_second(int64_t n, uint64_t ns) { return ns > 0 ? (double)n * 1e9 / (double)ns : 0; }

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

static json_t *real_or_null(bool known, double value) { return known && isfinite(value) ? json_real(value) : json_null(); }

// Three decimals of a millisecond or a rate are more than the clock gives.
static json_t *rounded(bool known, double value) { return real_or_null(known, round(value * 1000) / 1000); }

// " in 0.226 s (328.1 tokens/s)", or nothing where no step ran: a reply of one token comes from prefill alone.
static const char *pace(char out[64], int64_t n_steps, uint64_t ns) {
    out[0] = '\0';
    if (n_steps > 0 && ns > 0) snprintf(out, 64, " in %.3f s (%.1f tokens/s)", seconds(ns), per_second(n_steps, ns));
    return out;
}

void run_report_summary(const run_report *r) {
    char prefill[64], decode[64];
    cli_note("prompt: %lld token%s%s; decoded: %lld token%s%s", (long long)r->prompt_done_tok, r->prompt_done_tok == 1 ? "" : "s",
             pace(prefill, r->prompt_done_tok, r->prefill_ns), (long long)r->completion_tok, r->completion_tok == 1 ? "" : "s",
             pace(decode, r->decode_steps, r->decode_ns));
    static const struct {
        const char *reason, *words;
    } ends[] = {{"end", "the model ended the reply"}, {"stop", "stop string"},        {"length", "length limit (-n)"},
                {"context", "context full (-c)"},    {"energy", "energy budget (--max-joules)"}, {"interrupted", "interrupted"}};
    const char *words = r->stop_reason;
    for (size_t i = 0; i < CLI_COUNT(ends); i++)
        if (strcmp(r->stop_reason, ends[i].reason) == 0) words = ends[i].words;
    if (r->ttft_ns) cli_note("first token after %.3f s; stopped: %s; seed %lld", seconds(r->ttft_ns), words, (long long)r->seed);
    else cli_note("no token; stopped: %s; seed %lld", words, (long long)r->seed);
    energy_summary(&r->energy, r->scopes);
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
    json_t *object = json_pack("{s:o, s:o, s:I, s:I, s:i, s:o, s:s, s:I, s:o, s:s, s:s, s:o}", //
                     "text", json_stringn(r->text ? r->text : "", r->text_len), "tokens", tokens, "prompt_tokens",
                     (json_int_t)r->prompt_tok, "completion_tokens", (json_int_t)r->completion_tok, "cached_tokens", 0, "timings", timings,
                     "stop_reason", r->stop_reason, "seed", (json_int_t)r->seed, "model", cli_json_text(r->model), "arch", r->arch, "backend", r->backend,
                     "energy", energy_json(&r->energy, r->meter));
    if (object && r->chat_template) json_object_set_new(object, "template", json_string(r->chat_template));
    if (object && r->forecast) json_object_set(object, "forecast", r->forecast);
    return object;
}
