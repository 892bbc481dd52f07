// Stamps, budget and forecast of `wattle run`. See run_energy.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/run_energy.h"

#include "tools/energy_json.h"
#include "tools/joules.h"

// The budget is looked at between steps, but not after each of many short ones: asking costs a lock and some arithmetic.
static const uint64_t BUDGET_EVERY_NS = 20000000;
// NVML's counters run up to a quarter of a second late; batteries later than anybody wants to wait.
static const uint64_t SETTLE_NS = 1500000000;

int run_energy_begin(run_energy *e, energy_desk *desk, double max_joules, int32_t n_prompt_tok, int32_t n_cached_tok) {
    *e = (run_energy){.desk = desk, .max_joules = max_joules};
    bool counts = desk->meter && tel_meter_n_counting(desk->meter) > 0;
    if (max_joules > 0 && !counts) return cli_fail("--max-joules needs a source of energy, and there is none (`wattle meters` says why)");
    if (max_joules > 0 && tel_meter_domain(desk->meter, 0).method == TEL_METHOD_MODELLED)
        cli_warn("--max-joules counts modelled joules here: no counter can be read");
    wtl_energy_request request = {.n_prompt_tok = n_prompt_tok, .n_cached_tok = n_cached_tok};
    e->request = wtl_energy_begin(desk->energy, &request);
    return CLI_GO;
}

static void check_budget(run_energy *e, uint64_t now_ns) {
    if (e->max_joules <= 0 || e->spent || now_ns - e->checked_ns < BUDGET_EVERY_NS) return;
    e->checked_ns = now_ns;
    wtl_energy_report now;
    if (wtl_energy_report_of(e->desk->energy, e->request, &now) && now.total.status != TEL_UNAVAILABLE)
        e->spent = (double)now.total.energy_uj >= e->max_joules * 1e6;
}

// What ran, or nothing where a step that was announced did not come to its end.
static void stamp(run_energy *e, const wtl_step_work *work) {
    const uint64_t requests[] = {e->request};
    wtl_energy_step(e->desk->energy, work, requests);
    if (work->n_seqs) check_budget(e, work->end_ns);
}

wtl_status run_energy_step(run_energy *e, wtl_session *session, const wtl_entry *entry, wtl_error *err) {
    wtl_energy_step_begin(e->desk->energy);
    const wtl_status status = wtl_session_step(session, entry, 1, err);
    const wtl_step_work work = wtl_session_work(session);
    stamp(e, &work);
    return status;
}

typedef struct prefill_steps {
    run_energy *e;
    wtl_step_callback on_step;
    void *user;
} prefill_steps;

static bool after_chunk(void *user, const wtl_step_work *work) {
    const prefill_steps *p = user;
    stamp(p->e, work);
    const bool go_on = p->on_step(p->user, work) && !p->e->spent;
    if (go_on && !work->n_logits) wtl_energy_step_begin(p->e->desk->energy); // the last chunk has logits
    return go_on;
}

wtl_status run_energy_prefill(run_energy *e, wtl_session *session, int32_t seq, const int32_t *tokens, size_t n, wtl_step_callback on_step, void *user,
                              wtl_error *err) {
    const wtl_step_work none = {0};
    prefill_steps p = {e, on_step, user};
    wtl_energy_step_begin(e->desk->energy);
    const wtl_status status = wtl_session_prefill(session, seq, tokens, n, after_chunk, &p, err);
    if (status != WTL_OK && status != WTL_ERR_CANCELLED) stamp(e, &none);
    return status;
}

void run_energy_end(run_energy *e, wtl_energy_report *out) {
    wtl_energy_end(e->desk->energy, e->request);
    wtl_energy_settle(e->desk->energy, e->request, SETTLE_NS);
    if (wtl_energy_report_of(e->desk->energy, e->request, out)) return;
    *out = (wtl_energy_report){0};
    tel_energy *all[] = {&out->total, &out->dynamic, &out->idle, &out->queue.energy, &out->prefill.energy, &out->decode.energy, &out->new_prompt, &out->cached, &out->avoided};
    for (size_t i = 0; i < CLI_COUNT(all); i++) *all[i] = tel_energy_unavailable("out of memory for this request's energy", NULL);
}

json_t *run_energy_forecast(const energy_desk *desk, int32_t n_prompt_tok, int32_t n_decode_tok) {
    wtl_energy_forecast f = wtl_energy_forecast_of(desk->energy, n_prompt_tok, 0, n_decode_tok);
    if (f.total.status == TEL_UNAVAILABLE) {
        cli_note("forecast: unavailable - %s", f.total.reason);
    } else {
        char total[ENERGY_TEXT], prefill[ENERGY_TEXT], decode[ENERGY_TEXT];
        const double seconds = (double)(f.prefill_ns + f.decode_ns) / 1e9;
        cli_note("forecast: %s; about %.*f s, if the reply takes all %d tokens", format_energy(&f.total, total), seconds < 10 ? 2 : 0, seconds, n_decode_tok);
        cli_note("  prefill %s; decode %s", format_energy(&f.prefill, prefill), format_energy(&f.decode, decode));
    }
    return json_pack("{s:o, s:o, s:o, s:f, s:f, s:i, s:i}", "total", energy_json_record(&f.total), "prefill", energy_json_record(&f.prefill), "decode",
                     energy_json_record(&f.decode), "prefill_seconds", (double)f.prefill_ns / 1e9, "decode_seconds", (double)f.decode_ns / 1e9, "prompt_tokens",
                     (int)n_prompt_tok, "decoded_tokens", (int)n_decode_tok);
}
