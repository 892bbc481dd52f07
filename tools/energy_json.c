// Energy of a request as JSON and in words. A number that is not known is null with a reason beside it, never 0; tokens per joule of
// unknown or no joules are null, never infinite; a modelled number never looks like a measured one.
// SPDX-License-Identifier: Apache-2.0
#include "tools/energy_json.h"

#include <math.h>
#include <string.h>

#include "tools/joules.h"

static bool known(const tel_energy *e) { return e->status != TEL_UNAVAILABLE; }

static json_t *number(bool is_known, double value) { return is_known && isfinite(value) ? json_real(value) : json_null(); }

static double joules(uint64_t uj) { return (double)uj / 1e6; }
static double seconds(uint64_t ns) { return (double)ns / 1e9; }

// Nine significant digits hold every microjoule of a kilojoule.
static json_t *joules_of(const tel_energy *e, uint64_t uj) { return number(known(e), joules(uj)); }

static json_t *text_or_null(const char *text) { return text && *text ? json_string(text) : json_null(); }

static json_t *terms_json(const tel_energy *e) {
    const tel_terms *t = &e->terms;
    const struct {
        const char *name;
        uint64_t uj;
    } terms[] = {{"step", t->step_uj}, {"lag", t->lag_uj}, {"latency", t->latency_uj}, {"unseen", t->unseen_uj}, {"gain", t->gain_uj},
                 {"offset", t->offset_uj}, {"gaps", t->gap_uj}, {"model", t->model_uj}, {"idle", t->idle_uj}, {"attribution", t->attribution_uj}};
    json_t *object = json_object();
    for (size_t i = 0; i < CLI_COUNT(terms); i++) json_object_set_new(object, terms[i].name, joules_of(e, terms[i].uj));
    return object;
}

json_t *energy_json_record(const tel_energy *e) {
    return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "joules", joules_of(e, e->energy_uj), "bound_joules", joules_of(e, e->bound_uj), "low_joules",
                     joules_of(e, e->low_uj), "high_joules", joules_of(e, e->high_uj), "status", tel_status_name(e->status), "method",
                     known(e) ? json_string(tel_method_name(e->method)) : json_null(), "reason", text_or_null(known(e) ? NULL : e->reason), "fix",
                     text_or_null(e->fix));
}

// Joules of one token of n, with its bound.
static json_t *per_token(const tel_energy *e, int64_t n) {
    bool is_known = known(e) && n > 0;
    double each = is_known ? 1.0 / (double)n : 0;
    return json_pack("{s:o, s:o, s:o}", "joules", number(is_known, joules(e->energy_uj) * each), "bound_joules", number(is_known, joules(e->bound_uj) * each),
                     "reason", is_known ? json_null() : json_string(n > 0 ? e->reason : "there were no such tokens"));
}

static json_t *phase_json(const wtl_phase_energy *p, bool tokens, bool cached) {
    json_t *object = json_pack("{s:o, s:o, s:o, s:o, s:f, s:f}", "joules", joules_of(&p->energy, p->energy.energy_uj), "bound_joules",
                               joules_of(&p->energy, p->energy.bound_uj), "dynamic_joules", joules_of(&p->dynamic, p->dynamic.energy_uj), "idle_joules",
                               joules_of(&p->idle, p->idle.energy_uj), "seconds", seconds(p->wall_ns), "cpu_seconds", seconds(p->cpu_ns));
    json_object_set_new(object, "low_joules", joules_of(&p->energy, p->energy.low_uj));
    json_object_set_new(object, "high_joules", joules_of(&p->energy, p->energy.high_uj));
    json_object_set_new(object, "status", json_string(tel_status_name(p->energy.status)));
    json_object_set_new(object, "reason", text_or_null(known(&p->energy) ? NULL : p->energy.reason));
    if (!tokens) return object;
    json_object_set_new(object, "tokens", json_integer(p->n_tok));
    if (cached) json_object_set_new(object, "cached_tokens", json_integer(p->n_cached_tok));
    json_object_set_new(object, "busy_seconds", json_real(seconds(p->busy_ns)));
    json_object_set_new(object, "pause_seconds", json_real(seconds(p->pause_ns)));
    json_object_set_new(object, "weight_bytes", json_integer((json_int_t)p->weight_bytes));
    json_object_set_new(object, "kv_bytes", json_integer((json_int_t)p->kv_bytes));
    json_object_set_new(object, "macs", json_integer((json_int_t)p->macs));
    return object;
}

static json_t *tokens_per_joule(const tel_energy *e, int64_t n) {
    bool is_known = known(e) && e->energy_uj > 0;
    return number(is_known, is_known ? (double)n / joules(e->energy_uj) : 0);
}

static json_t *domains_json(const wtl_energy_report *r, tel_meter *meter) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_domains; i++) {
        const tel_energy *e = &r->domains[i].energy;
        tel_domain_info info = meter && i < tel_meter_n_counting(meter) ? tel_meter_domain(meter, i) : (tel_domain_info){0};
        json_t *one = energy_json_record(e);
        json_object_set_new(one, "name", json_string(r->domains[i].name));
        json_object_set_new(one, "scope", json_string(tel_scope_name(e->scope ? e->scope : info.scope)));
        json_object_set_new(one, "source", text_or_null(info.source ? info.source : e->source));
        json_object_set_new(one, "coverage", number(known(e), e->coverage_frac));
        json_object_set_new(one, "resolution_seconds", number(e->resolution_ns > 0, seconds(e->resolution_ns)));
        json_object_set_new(one, "samples", json_integer(e->n_samples));
        json_object_set_new(one, "gaps", json_integer(e->n_gaps));
        if (info.method == TEL_METHOD_REPLAYED) json_object_set_new(one, "recording_zero_seconds", json_real((double)info.replay_zero_ns / 1e9));
        json_object_set_new(one, "bound_terms", terms_json(e));
        json_array_append_new(list, one);
    }
    return list;
}

// Share of what the sources measured while the request ran that was booked to it.
static json_t *attribution_ratio(const wtl_energy_report *r, const tel_meter *meter) {
    double source = 0;
    for (size_t i = 0; known(&r->total) && meter && i < r->n_domains; i++) {
        tel_energy e = tel_meter_energy(meter, i, r->start_ns, r->end_ns);
        if (!known(&e)) return json_null();
        source += joules(e.energy_uj);
    }
    double ratio = source > 0 ? joules(r->total.energy_uj) / source : 0;
    return number(source > 0, ratio > 1 ? 1 : ratio);
}

// What measuring itself cost.
static json_t *observer_json(const tel_meter *meter) {
    if (!meter) return json_null();
    tel_observer o = tel_meter_observer(meter);
    return json_pack("{s:I, s:f, s:f, s:f, s:o, s:f}", "reads", (json_int_t)o.n_reads, "read_mean_seconds", seconds(o.read_mean_ns), "read_p99_seconds",
                     seconds(o.read_p99_ns), "cpu_seconds", seconds(o.cpu_ns), "core_frac", number(o.wall_ns > 0, (double)o.cpu_ns / (double)o.wall_ns),
                     "interval_seconds", seconds(o.interval_ns));
}

static json_t *scopes_json(const wtl_energy_report *r, tel_meter *meter) {
    json_t *list = json_array();
    for (size_t i = 0; meter && i < r->n_domains && i < tel_meter_n_counting(meter); i++) {
        const char *name = tel_scope_name(tel_meter_domain(meter, i).scope);
        bool there = false;
        for (size_t k = 0; k < json_array_size(list); k++) there |= strcmp(json_string_value(json_array_get(list, k)), name) == 0;
        if (!there) json_array_append_new(list, json_string(name));
    }
    return list;
}

json_t *energy_json(const wtl_energy_report *r, tel_meter *meter) {
    const tel_energy *e = &r->total;
    uint64_t span_ns = r->end_ns > r->start_ns ? r->end_ns - r->start_ns : 0;
    json_t *cached = json_pack("{s:i, s:o, s:o, s:o, s:o, s:s}", "tokens", (int)r->prefill.n_cached_tok, "joules_spent", joules_of(&r->cached, r->cached.energy_uj),
                               "joules_avoided", joules_of(&r->avoided, r->avoided.energy_uj), "joules_avoided_bound", joules_of(&r->avoided, r->avoided.bound_uj),
                               "reason", text_or_null(known(&r->avoided) ? NULL : r->avoided.reason), "method", "counterfactual");
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:f, s:s, s:o, s:i, s:s, s:b, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o}", //
        "energy_joules", joules_of(e, e->energy_uj), "energy_kwh", number(known(e), joules(e->energy_uj) / 3.6e6), "avg_power_watts",
        number(known(e) && span_ns > 0, joules(e->energy_uj) / seconds(span_ns)), "duration_seconds", seconds(span_ns), "attribution_method", "interval_model_v1",
        "attribution_ratio", attribution_ratio(r, meter), "schema", 1, "status", tel_status_name(e->status), "settled", (int)r->settled, "bound_joules",
        joules_of(e, e->bound_uj), "low_joules", joules_of(e, e->low_uj), "high_joules", joules_of(e, e->high_uj), "bound_coverage", 0.99, "method",
        known(e) ? json_string(tel_method_name(e->method)) : json_null(), "scope", scopes_json(r, meter), "reason", text_or_null(known(e) ? NULL : e->reason), "fix",
        text_or_null(e->fix));
    if (!object) return NULL;
    json_object_set_new(object, "phases", json_pack("{s:o, s:o, s:o}", "queue", phase_json(&r->queue, false, false), "prefill",
                                                    phase_json(&r->prefill, true, true), "decode", phase_json(&r->decode, true, false)));
    json_object_set_new(object, "dynamic_joules", joules_of(&r->dynamic, r->dynamic.energy_uj));
    json_object_set_new(object, "dynamic_bound_joules", joules_of(&r->dynamic, r->dynamic.bound_uj));
    json_object_set_new(object, "idle_joules", joules_of(&r->idle, r->idle.energy_uj));
    json_object_set_new(object, "dynamic_reason", text_or_null(known(&r->dynamic) ? NULL : r->dynamic.reason));
    json_object_set_new(object, "cached", cached);
    json_object_set_new(object, "joules_per_token", json_pack("{s:o, s:o, s:o}", "new_prompt", per_token(&r->new_prompt, r->prefill.n_tok), "cached_prompt",
                                                              per_token(&r->cached, r->prefill.n_cached_tok), "decoded", per_token(&r->decode.energy, r->decode.n_tok)));
    json_object_set_new(object, "tokens_per_joule",
                        json_pack("{s:o, s:o}", "output", tokens_per_joule(e, r->decode.n_tok), "total",
                                  tokens_per_joule(e, (int64_t)r->prefill.n_tok + r->prefill.n_cached_tok + r->decode.n_tok)));
    json_object_set_new(object, "domains", domains_json(r, meter));
    json_object_set_new(object, "bound_terms", terms_json(e));
    json_object_set_new(object, "dropped_stamps", json_integer(r->dropped_stamps));
    json_object_set_new(object, "clock", json_pack("{s:o, s:o, s:o}", "start_seconds", number(r->start_ns, seconds(r->start_ns)), "first_decode_seconds",
                                                   number(r->first_decode_ns, seconds(r->first_decode_ns)), "end_seconds", number(r->end_ns, seconds(r->end_ns))));
    json_object_set_new(object, "observer", observer_json(meter));
    return object;
}

// ---- In words -----------------------------------------------------------------------------------------------------
// "cpu_package,dram" -> "cpu package, dram".
static const char *spoken(const char *scopes, char out[128]) {
    size_t n = 0;
    for (; *scopes && n + 3 < 128; scopes++) {
        out[n++] = *scopes == '_' ? ' ' : *scopes;
        if (*scopes == ',') out[n++] = ' ';
    }
    out[n] = '\0';
    return out;
}

static void facts(const wtl_energy_report *r) {
    double prefill_bytes = (double)(r->prefill.weight_bytes + r->prefill.kv_bytes) / 1e9, decode_bytes = (double)(r->decode.weight_bytes + r->decode.kv_bytes) / 1e9;
    cli_note("  counted, not modelled: prefill %.2f CPU-seconds, %.2f GB moved; decode %.2f CPU-seconds, %.2f GB moved", seconds(r->prefill.cpu_ns), prefill_bytes,
             seconds(r->decode.cpu_ns), decode_bytes);
}

void energy_summary(const wtl_energy_report *r, const char *scopes) {
    char total[ENERGY_TEXT], prefill[ENERGY_TEXT], decode[ENERGY_TEXT], place[128], per_joule[JOULES_TEXT], rate[64] = "";
    const tel_energy *e = &r->total;
    if (!known(e)) {
        cli_note("energy: unavailable - %s%s%s", e->reason, e->fix ? "; to mend it: " : "", e->fix ? e->fix : "");
        if (r->prefill.cpu_ns + r->decode.cpu_ns) facts(r);
        return;
    }
    format_rate(e, r->decode.n_tok > 0 ? (uint64_t)r->decode.n_tok : 0, per_joule);
    if (*per_joule != '-') snprintf(rate, sizeof rate, e->status == TEL_MODELLED ? "; %s tokens/J in all" : ", %s tokens/J", per_joule);
    format_energy(e, total);
    format_energy(&r->prefill.energy, prefill);
    format_energy(&r->decode.energy, decode);
    if (e->status == TEL_MODELLED) {
        const char *hint = !e->fix ? "" : strncmp(e->fix, "--", 2) == 0 ? "; no counter can be read here, narrower with " : "; to measure: ";
        cli_note("energy: %s%s%s", total, hint, e->fix ? e->fix : "");
        cli_note("  prefill %s; decode %s%s", prefill, decode, rate);
        facts(r);
        return;
    }
    // Whatever else it is than measured (replayed, simulated, disputed, below the resolution) stands beside the number already.
    const bool measured = e->status == TEL_MEASURED && (e->method == TEL_METHOD_COUNTER || e->method == TEL_METHOD_INTEGRATED);
    cli_note("energy: %s (%s%s)%s%s", total, spoken(scopes, place), measured ? ", measured" : "", rate, r->settled ? "" : "; an estimate: the meter had not caught up");
    cli_note("  prefill %s; decode %s", prefill, decode);
    if (known(&r->dynamic)) {
        char dynamic[ENERGY_TEXT], idle[ENERGY_TEXT];
        cli_note("  of which this work %s, idle machine %s", format_energy(&r->dynamic, dynamic), format_energy(&r->idle, idle));
    }
    if (r->prefill.n_cached_tok > 0 && known(&r->avoided)) {
        char avoided[ENERGY_TEXT];
        cli_note("  %d cached tokens avoided %s (counterfactual)", r->prefill.n_cached_tok, format_energy(&r->avoided, avoided));
    }
}
