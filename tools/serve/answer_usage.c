// Counts, times and joules of an answer as JSON. See answer_state.h.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "tools/cli.h"
#include "tools/serve/answer_state.h"

int64_t answer_prompt_tok(const answer *a) {
    int64_t n = 0;
    for (size_t i = 0; i < a->n_parts; i++) n += a->parts[i].n_prompt_tok;
    return n;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return !a || (b && b < a) ? b : a; }
static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

wtl_batch_facts answer_facts(const answer *a) {
    wtl_batch_facts sum = {0};
    for (size_t i = 0; i < a->n_parts; i++) {
        const wtl_batch_facts *f = &a->parts[i].facts;
        sum.n_cached_tok += f->n_cached_tok;
        sum.n_prefilled_tok += f->n_prefilled_tok;
        sum.n_decoded_tok += f->n_decoded_tok;
        sum.n_drafted_tok += f->n_drafted_tok;
        sum.n_accepted_tok += f->n_accepted_tok;
        sum.arrived_ns = earlier(sum.arrived_ns, f->arrived_ns);
        sum.started_ns = earlier(sum.started_ns, f->started_ns);
        sum.first_token_ns = earlier(sum.first_token_ns, f->first_token_ns);
        sum.last_token_ns = later(sum.last_token_ns, f->last_token_ns);
    }
    sum.n_prompt_tok = (int32_t)answer_prompt_tok(a);
    return sum;
}

// ---- Joules of several prompts ----------------------------------------------------------------------------------------------------
static void add(tel_energy *sum, const tel_energy *more) { *sum = tel_energy_add(sum, more); }

static void add_phase(wtl_phase_energy *sum, const wtl_phase_energy *more) {
    add(&sum->energy, &more->energy);
    add(&sum->dynamic, &more->dynamic);
    add(&sum->idle, &more->idle);
    sum->n_tok += more->n_tok;
    sum->n_cached_tok += more->n_cached_tok;
    sum->wall_ns += more->wall_ns;
    sum->busy_ns += more->busy_ns;
    sum->cpu_ns += more->cpu_ns;
    sum->weight_bytes += more->weight_bytes;
    sum->kv_bytes += more->kv_bytes;
    sum->macs += more->macs;
}

void answer_report(const answer *a, wtl_energy_report *out) {
    *out = a->parts[0].report;
    for (size_t i = 1; i < a->n_parts; i++) {
        const wtl_energy_report *r = &a->parts[i].report;
        tel_energy *sums[] = {&out->total, &out->dynamic, &out->idle, &out->new_prompt, &out->cached, &out->avoided};
        const tel_energy *more[] = {&r->total, &r->dynamic, &r->idle, &r->new_prompt, &r->cached, &r->avoided};
        for (size_t k = 0; k < CLI_COUNT(sums); k++) add(sums[k], more[k]);
        add_phase(&out->queue, &r->queue);
        add_phase(&out->prefill, &r->prefill);
        add_phase(&out->decode, &r->decode);
        if (r->n_domains < out->n_domains) out->n_domains = r->n_domains;
        for (size_t k = 0; k < out->n_domains; k++) add(&out->domains[k].energy, &r->domains[k].energy);
        out->settled &= r->settled;
        out->dropped_stamps += r->dropped_stamps;
        out->start_ns = earlier(out->start_ns, r->start_ns);
        out->first_decode_ns = earlier(out->first_decode_ns, r->first_decode_ns);
        out->end_ns = later(out->end_ns, r->end_ns);
    }
}

// ---- Names -----------------------------------------------------------------------------------------------------------------------
const char *answer_finish_name(wtl_finish finish) {
    switch (finish) {
    case WTL_FINISH_END: return "end";
    case WTL_FINISH_STOP: return "stop";
    case WTL_FINISH_LENGTH: return "length";
    case WTL_FINISH_CONTEXT: return "context";
    case WTL_FINISH_ENERGY: return "energy";
    case WTL_FINISH_NONE:
    case WTL_FINISH_CANCELLED: return "aborted";
    case WTL_FINISH_ERROR: break;
    }
    return "error";
}

// Clients know no other words; "stop_reason" beside it has the whole truth.
const char *answer_finish_reason(const answer_choice *c) {
    if (c->finish != WTL_FINISH_END && c->finish != WTL_FINISH_STOP) return "length";
    return c->calls.n_calls ? "tool_calls" : "stop";
}

// ---- Objects ---------------------------------------------------------------------------------------------------------------------
static json_t *joules_in(json_t *energy, const char *phase) {
    json_t *joules = json_object_get(json_object_get(json_object_get(energy, "phases"), phase), "joules");
    return joules ? json_incref(joules) : json_null();
}

json_t *answer_usage(const answer *a, json_t *energy) {
    const wtl_batch_facts facts = answer_facts(a);
    int64_t n_reasoning = 0;
    for (size_t i = 0; i < a->n_choices; i++) n_reasoning += a->choices[i].n_reasoning_tok;
    json_t *total = json_object_get(energy, "energy_joules");
    json_t *prompt = json_pack("{s:i, s:o}", "cached_tokens", (int)facts.n_cached_tok, "energy_joules", joules_in(energy, "prefill"));
    json_t *completion = json_pack("{s:o}", "energy_joules", joules_in(energy, "decode"));
    if (completion && a->has_tags) json_object_set_new(completion, "reasoning_tokens", json_integer(n_reasoning));
    return json_pack("{s:I, s:i, s:I, s:o, s:o, s:o, s:O}", "prompt_tokens", (json_int_t)facts.n_prompt_tok, "completion_tokens", (int)facts.n_decoded_tok,
                     "total_tokens", (json_int_t)facts.n_prompt_tok + facts.n_decoded_tok, "prompt_tokens_details", prompt, "completion_tokens_details", completion,
                     "energy_joules", total ? json_incref(total) : json_null(), "energy", energy);
}

// Three decimals of a millisecond or a rate are more than the clock gives.
static json_t *rounded(bool known, double value) { return known && isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null(); }

json_t *answer_timings(const answer *a) {
    uint64_t prompt_ns = 0, predicted_ns = 0;
    int64_t n_later = 0; // tokens behind the first of each choice: those that decode steps made
    for (size_t i = 0; i < a->n_parts; i++) {
        const wtl_batch_facts *f = &a->parts[i].facts;
        if (!f->first_token_ns) continue;
        if (f->started_ns && f->first_token_ns > f->started_ns) prompt_ns += f->first_token_ns - f->started_ns;
        if (f->last_token_ns > f->first_token_ns) predicted_ns += f->last_token_ns - f->first_token_ns;
        n_later += f->n_decoded_tok > a->request.n ? f->n_decoded_tok - a->request.n : 0;
    }
    const wtl_batch_facts facts = answer_facts(a);
    const double prompt_ms = (double)prompt_ns / 1e6, predicted_ms = (double)predicted_ns / 1e6;
    const double n_new = facts.n_prefilled_tok;
    return json_pack("{s:i, s:i, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:i, s:i}", "cache_n", (int)facts.n_cached_tok, "prompt_n", (int)facts.n_prefilled_tok, "prompt_ms",
                     rounded(true, prompt_ms), "prompt_per_token_ms", rounded(n_new > 0, prompt_ms / n_new), "prompt_per_second",
                     rounded(prompt_ns > 0, n_new * 1e3 / prompt_ms), "predicted_n", (int)facts.n_decoded_tok, "predicted_ms", rounded(true, predicted_ms),
                     "predicted_per_token_ms", rounded(n_later > 0, predicted_ms / (double)n_later), "predicted_per_second",
                     rounded(predicted_ns > 0, (double)n_later * 1e3 / predicted_ms), "draft_n", (int)facts.n_drafted_tok, "draft_n_accepted",
                     (int)facts.n_accepted_tok);
}
