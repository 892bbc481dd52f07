// The list of `wattle meters` for programs. What is not known is null; beside it stands the reason.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/meters_list.h"

// Names come from files and drivers: what is no UTF-8 cannot be told.
static json_t *text_or_null(const char *text) {
    json_t *string = text && *text ? json_string(text) : NULL;
    return string ? string : json_null();
}
static json_t *count(uint64_t n) { return json_integer((json_int_t)n); }
static json_t *count_or_null(uint64_t n, bool known) { return known ? count(n) : json_null(); }
static json_t *joules(uint64_t uj, bool known) { return known ? json_real((double)uj / 1e6) : json_null(); }

static json_t *json_window(const meters_window *window, double seconds) {
    const tel_energy *e = &window->energy;
    double low, high;
    bool known = e->status != TEL_UNAVAILABLE, shares = meters_share(e, &low, &high);
    json_t *object = json_pack("{s:f, s:s, s:b, s:o, s:o, s:o, s:o}", "window_s", seconds, "status", tel_status_name(e->status), "extrapolated",
                               window->extrapolated, "energy_joules", joules(e->energy_uj, known), "bound_joules", joules(e->bound_uj, known),
                               "low_joules", joules(e->low_uj, known), "high_joules", joules(e->high_uj, known));
    json_object_set_new(object, "bound_frac", shares ? json_real(low > high ? low : high) : json_null());
    json_object_set_new(object, "coverage_frac", known ? json_real(e->coverage_frac) : json_null());
    json_object_set_new(object, "reason", text_or_null(known ? (shares ? NULL : "the window holds no energy to compare with") : e->reason));
    return object;
}

static json_t *json_domain(const meters_row *row) {
    const tel_domain_info *d = &row->info;
    json_t *object = json_pack("{s:o, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:b, s:b}", "name", text_or_null(d->name), "source", d->source, "device",
                               text_or_null(d->device), "scope", tel_scope_name(d->scope), "method", tel_method_name(d->method), "sensor",
                               text_or_null(d->sensor), "unit", text_or_null(d->unit), "path", text_or_null(d->path), "counts", d->counts,
                               "calibrated", d->calibrated);
    json_object_set_new(object, "reason", text_or_null(d->reason));
    json_object_set_new(object, "fix", text_or_null(d->fix));
    if (!d->counts) return object;
    const tel_energy *second = &row->windows[1].energy;
    json_object_set_new(object, "status", json_string(tel_status_name(row->status)));
    json_object_set_new(object, "power_watts", row->power_known ? json_real(row->power_w) : json_null());
    json_object_set_new(object, "step_ns", count_or_null(d->step_ns, d->step_ns > 0));
    json_object_set_new(object, "read_mean_ns", count_or_null(d->read_mean_ns, d->n_reads > 0));
    json_object_set_new(object, "read_p99_ns", count_or_null(d->read_p99_ns, d->n_reads > 0));
    json_object_set_new(object, "n_reads", count(d->n_reads));
    json_object_set_new(object, "n_samples", count(d->n_samples));
    json_object_set_new(object, "n_gaps", count(d->n_gaps));
    json_t *windows = json_array();
    for (int w = 0; w < METERS_WINDOWS; w++) json_array_append_new(windows, json_window(&row->windows[w], meters_window_s[w]));
    json_object_set_new(object, "windows", windows);
    if (!row->power_known) json_object_set_new(object, "power_reason", json_string(second->reason ? second->reason : "no value yet"));
    return object;
}

void meters_print_json(const meters_facts *facts) {
    const tel_observer *o = &facts->observer;
    json_t *domains = json_array();
    bool real = false;
    for (size_t i = 0; i < facts->n_rows; i++) {
        json_array_append_new(domains, json_domain(&facts->rows[i]));
        real = real || (i < facts->n_counting && meters_is_real(&facts->rows[i].info));
    }
    bool read = o->n_reads > 0;
    json_t *observer = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "n_reads", count(o->n_reads), "read_mean_ns", count_or_null(o->read_mean_ns, read),
                                 "read_p99_ns", count_or_null(o->read_p99_ns, read), "interval_ns", count_or_null(o->interval_ns, read), "cpu_ns",
                                 count(o->cpu_ns), "cpu_share", o->wall_ns ? json_real((double)o->cpu_ns / (double)o->wall_ns) : json_null());
    json_t *object = json_pack("{s:b, s:I, s:o, s:o, s:o}", "measured", real, "n_counting", (json_int_t)facts->n_counting, "explain", text_or_null(facts->explain),
                               "domains", domains, "observer", observer);
    cli_put_json(object);
    json_decref(object);
}
