// GET /v1/energy: joules since the start, by domain, and what the ledger knows, by day, model, user, conversation, phase or source, with the
// filters of `wattle ledger`. GET /v1/energy/{response id}: the energy object of one answer, settled by now or still an estimate.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/ledger_report.h"
#include "tools/serve/energies.h"
#include "tools/serve/queries.h"

// ---- Since the start -----------------------------------------------------------------------------------------------------------------
static json_t *joules(uint64_t uj) { return json_real((double)uj / 1e6); }

static json_t *domain_json(const server *s, size_t i) {
    const tel_domain_info d = tel_meter_domain(s->desk.meter, i);
    const wtl_energy_totals t = wtl_energy_totals_of(s->desk.energy, i);
    const wtl_energy_fit fit = wtl_energy_fit_of(s->desk.energy, i);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o}, s:{s:o, s:o}, s:o, s:o}", "name", d.name, "device", d.device, "scope",
                     tel_scope_name(d.scope), "source", d.source, "method", tel_method_name(d.method), "watts",
                     d.power_known ? json_real((double)d.power_uw / 1e6) : json_null(), "source_joules", joules(t.source_uj), "requests_joules",
                     joules(t.requests_uj), "idle_joules", joules(t.idle_uj), "unattributed_joules", joules(t.unattributed_uj), "prefill", "dynamic_joules",
                     joules(t.prefill_dynamic_uj), "idle_joules", joules(t.prefill_idle_uj), "decode", "dynamic_joules", joules(t.decode_dynamic_uj), "idle_joules",
                     joules(t.decode_idle_uj), "idle_watts", fit.idle_known ? json_real(fit.idle_w) : json_null(), "idle_watts_spread",
                     fit.idle_known ? json_real(fit.idle_spread_w) : json_null());
}

static json_t *totals_json(const server *s) {
    const tel_meter *meter = s->desk.meter;
    const size_t n = meter ? tel_meter_n_counting(meter) : 0;
    json_t *domains = json_array();
    for (size_t i = 0; i < n && i < WTL_ENERGY_DOMAINS_MAX; i++) json_array_append_new(domains, domain_json(s, i));
    const bool modelled = n && tel_meter_domain(meter, 0).method == TEL_METHOD_MODELLED;
    const char *fix = n ? tel_meter_domain(meter, 0).fix : s->desk.off ? "" : "wattle meters";
    const char *reason = s->desk.off ? "the meter is switched off (--meter none)" : "no source of energy can be read on this machine";
    return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "status", !n ? "unavailable" : modelled ? "modelled" : "measured", "since", (json_int_t)s->created_s,
                     "seconds", (json_int_t)(cli_unix_ms() / 1000 - s->created_s), "domains", domains, "reason", n ? json_null() : json_string(reason), "fix",
                     fix && *fix ? json_string(fix) : json_null(), "explain", meter ? json_string(tel_meter_explain(meter)) : json_null());
}

// ---- The ledger ----------------------------------------------------------------------------------------------------------------------
static const struct {
    const char *name;
    ledger_by by;
} groups[] = {{"day", LEDGER_BY_DAY},     {"model", LEDGER_BY_MODEL}, {"user", LEDGER_BY_USER}, {"conversation", LEDGER_BY_CONVERSATION},
              {"phase", LEDGER_BY_PHASE}, {"source", LEDGER_BY_SOURCE}};

typedef struct question {
    http_call *call; // its strings outlive the answer
    ledger_view view;
} question;

// NULL: good; else what is wrong, and with which parameter.
static const char *read_question(const http_call *call, ledger_view *view, const char **param) {
    const char *by = http_query(call, "by"), *since = http_query(call, "since"), *until = http_query(call, "until");
    *view = (ledger_view){.by_name = by ? by : "day", .since = since ? since : "7d", .until = until,
                          .filter = {.model = http_query(call, "model"), .user = http_query(call, "user"), .conversation = http_query(call, "conversation")}};
    size_t i = 0;
    while (i < CLI_COUNT(groups) && strcmp(view->by_name, groups[i].name) != 0) i++;
    *param = "by";
    if (i == CLI_COUNT(groups)) return "by must be day, model, user, conversation, phase or source";
    view->by = groups[i].by;
    *param = "since";
    if (!ledger_parse_since(view->since, (int64_t)time(NULL) * 1000, &view->filter.from_ms)) return "since must be a day (2026-03-01), a number of days (7d) or all";
    *param = "until";
    if (!ledger_parse_until(until, &view->filter.to_ms)) return "until must be a day (2026-03-01) or all";
    if (view->filter.from_ms >= view->filter.to_ms) return "until lies before since";
    return NULL;
}

// NULL: *off says why there is no ledger, or err what failed.
static json_t *ask_ledger(const server *s, const ledger_view *view, const char **off, char err[LEDGER_ERR]) {
    char *path = NULL;
    ledger_db db;
    if (!ledger_path(s->options.energy.ledger, &path, err)) return NULL;
    if (!path) {
        *off = "the ledger is switched off (--ledger none)";
        return NULL;
    }
    const int opened = ledger_db_open_read(&db, path, err);
    free(path);
    json_t *object = NULL;
    if (opened >= 0) {
        const bool good = !opened || sqlite3_exec(db.sql, "BEGIN", NULL, NULL, NULL) == SQLITE_OK; // all sums are of one moment
        if (good) object = ledger_report_object(opened ? &db : NULL, view, err);
        else ledger_db_explain(&db, sqlite3_errcode(db.sql), err);
    }
    ledger_db_close(&db);
    if (object) json_object_del(object, "ledger"); // where the file lies is no caller's business
    return object;
}

static void answer_question(server *s, void *user) {
    question *q = user;
    const char *off = NULL;
    char err[LEDGER_ERR] = "";
    ledger_flush(s->desk.book, 1000); // answers that were booked a moment ago count too
    json_t *ledger = ask_ledger(s, &q->view, &off, err);
    json_t *reason = ledger ? json_null() : json_string(off ? off : err);
    server_reply_json(q->call, 200, json_pack("{s:s, s:o, s:o, s:o}", "object", "energy", "since_start", totals_json(s), "ledger", ledger ? ledger : json_null(),
                                              "ledger_reason", reason ? reason : json_string("the ledger cannot be read")));
    free(q);
}

void route_energy(server *s, http_call *call) {
    const char *param = NULL;
    question *q = calloc(1, sizeof *q);
    if (!q) {
        server_error(call, 500, NULL, "out of memory", NULL, NULL);
        return;
    }
    q->call = call;
    const char *wrong = read_question(call, &q->view, &param);
    if (!wrong && server_queries_start(s, answer_question, q)) return;
    free(q);
    if (wrong) {
        server_error(call, 400, NULL, wrong, param, NULL);
    } else {
        http_set_header(call, "Retry-After", "1");
        server_error(call, 503, NULL, "too many questions to the ledger at once", NULL, NULL);
    }
}

// ---- One answer ----------------------------------------------------------------------------------------------------------------------
// Twice: the figure may settle, and its number be given up, between looking and asking.
static json_t *energy_of(server *s, const char *id, bool *known) {
    json_t *object = NULL;
    for (int i = 0; i < 2 && !object; i++) {
        uint64_t request = 0;
        char *text = NULL;
        wtl_energy_report report;
        *known = server_energies_get(s->energies, id, &request, &text);
        if (text) object = json_loads(text, 0, NULL);
        else if (request && s->desk.energy && wtl_energy_report_of(s->desk.energy, request, &report)) object = server_energy_json(s, &report);
        free(text);
        if (!*known) break;
    }
    return object;
}

void route_energy_one(server *s, http_call *call) {
    const char *id = http_path(call) + strlen("/v1/energy/");
    bool known = false;
    json_t *energy = energy_of(s, id, &known);
    if (known) {
        server_reply_json(call, 200, json_pack("{s:s, s:s, s:o}", "object", "response.energy", "id", id, "energy", energy ? energy : json_null()));
        return;
    }
    char message[160];
    snprintf(message, sizeof message, "no answer with this id among the last %d; the ledger has the sums (GET /v1/energy)", SERVER_ENERGIES_MAX);
    server_error(call, 404, "not_found_error", message, NULL, "not_found");
}
