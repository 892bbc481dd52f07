// The summary of `wattle ledger` as one JSON object. A number that is not known is null with a reason beside it.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "tools/ledger_export.h"
#include "tools/ledger_report.h"

static json_t *text_or_null(const char *text) { return ledger_json_text(text, text ? strlen(text) : 0); }

static json_t *count_or_null(int64_t n) { return n < 0 ? json_null() : json_integer(n); }

static json_t *joules(bool known, uint64_t uj) { return known ? json_real((double)uj / 1e6) : json_null(); }

static json_t *energy_json(const tel_energy *e) {
    const bool known = e->status != TEL_UNAVAILABLE;
    json_t *object = json_object();
    json_object_set_new(object, "status", json_string(tel_status_name(e->status)));
    json_object_set_new(object, "energy_joules", joules(known, e->energy_uj));
    json_object_set_new(object, "bound_joules", joules(known, e->bound_uj));
    json_object_set_new(object, "low_joules", joules(known, e->low_uj));
    json_object_set_new(object, "high_joules", joules(known, e->high_uj));
    json_object_set_new(object, "reason", text_or_null(known ? NULL : e->reason ? e->reason : "no reason was given"));
    return object;
}

static bool add_sum(void *user, const ledger_sum *s) {
    const bool known = s->energy.status != TEL_UNAVAILABLE && s->energy.energy_uj > 0 && s->energy_tok > 0;
    const bool decoded = s->decode.status != TEL_UNAVAILABLE && s->n_decode_tok > 0;
    json_t *object = json_object();
    json_object_set_new(object, "key", text_or_null(s->key));
    json_object_set_new(object, "class", json_string(ledger_class_name(s->class_)));
    json_object_set_new(object, "requests", json_integer(s->n_requests));
    json_object_set_new(object, "new_tokens", count_or_null(s->new_tok));
    json_object_set_new(object, "cached_tokens", count_or_null(s->cached_tok));
    json_object_set_new(object, "decoded_tokens", count_or_null(s->decoded_tok));
    json_object_set_new(object, "energy", energy_json(&s->energy));
    json_object_set_new(object, "decode", energy_json(&s->decode));
    json_object_set_new(object, "decode_joules_per_token",
                        decoded ? json_real((double)s->decode.energy_uj / 1e6 / (double)s->n_decode_tok) : json_null());
    json_object_set_new(object, "tokens_per_joule", known ? json_real((double)s->energy_tok * 1e6 / (double)s->energy.energy_uj) : json_null());
    json_object_set_new(object, "avoided", energy_json(&s->avoided));
    json_object_set_new(object, "avoided_method", json_string("counterfactual"));
    return json_array_append_new(user, object) == 0;
}

static json_t *microjoules(uint64_t uj) { return json_integer((json_int_t)uj); }

static bool add_conserved(void *user, const ledger_conserved *c) {
    json_t *object = json_object();
    json_object_set_new(object, "domain", text_or_null(c->domain));
    json_object_set_new(object, "scope", text_or_null(c->scope));
    json_object_set_new(object, "source", text_or_null(c->source));
    json_object_set_new(object, "class", json_string(ledger_class_name(c->class_)));
    json_object_set_new(object, "rows", json_integer(c->n_rows));
    json_object_set_new(object, "sessions", json_integer(c->n_sessions));
    json_object_set_new(object, "source_uj", microjoules(c->source_uj));
    json_object_set_new(object, "requests_uj", microjoules(c->requests_uj));
    json_object_set_new(object, "idle_uj", microjoules(c->idle_uj));
    json_object_set_new(object, "unattributed_uj", microjoules(c->unattributed_uj));
    json_object_set_new(object, "adds_up", json_boolean(c->adds_up));
    return json_array_append_new(user, object) == 0;
}

json_t *ledger_report_object(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]) {
    json_t *object = json_object(), *rows = json_array(), *total = json_array(), *domains = json_array();
    bool good = true;
    if (db)
        good = ledger_sums(db, view->by, &view->filter, add_sum, rows, err) &&
               ledger_sums(db, LEDGER_BY_NOTHING, &view->filter, add_sum, total, err) &&
               ledger_conservation(db, &view->filter, add_conserved, domains, err);
    json_object_set_new(object, "ledger", text_or_null(view->path));
    json_object_set_new(object, "by", text_or_null(view->by_name));
    json_object_set_new(object, "since", text_or_null(view->since));
    json_object_set_new(object, "until", text_or_null(view->until));
    json_object_set_new(object, "model", text_or_null(view->filter.model));
    json_object_set_new(object, "user", text_or_null(view->filter.user));
    json_object_set_new(object, "bounds", json_string("added linearly"));
    json_object_set_new(object, "rows", rows);
    json_object_set_new(object, "total", total);
    json_object_set_new(object, "conservation", domains);
    if (good) return object;
    json_decref(object);
    return NULL;
}

bool ledger_report_json(ledger_db *db, const ledger_view *view, char err[LEDGER_ERR]) {
    json_t *object = ledger_report_object(db, view, err);
    if (object) cli_put_json(object);
    const bool good = object != NULL;
    json_decref(object);
    return good;
}
