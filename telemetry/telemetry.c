// Energy records: names, absence, sums.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/telemetry.h"

const char *tel_status_name(tel_status status) {
    static const char *const names[] = {"unavailable", "measured", "modelled", "below_resolution", "disputed"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

const char *tel_method_name(tel_method method) {
    static const char *const names[] = {"none", "counter", "integrated", "modelled", "replayed", "simulated"};
    return (unsigned)method < sizeof names / sizeof names[0] ? names[method] : "unknown";
}

const char *tel_scope_name(tel_scope scope) {
    static const char *const names[] = {"none", "cpu_package", "dram", "gpu_board", "module", "node", "battery", "wall"};
    return (unsigned)scope < sizeof names / sizeof names[0] ? names[scope] : "unknown";
}

tel_energy tel_energy_unavailable(const char *reason, const char *fix) {
    return (tel_energy){.status = TEL_UNAVAILABLE, .reason = reason, .fix = fix};
}

static tel_terms add_terms(const tel_terms *a, const tel_terms *b) {
    return (tel_terms){.step_uj = a->step_uj + b->step_uj,
                       .lag_uj = a->lag_uj + b->lag_uj,
                       .latency_uj = a->latency_uj + b->latency_uj,
                       .unseen_uj = a->unseen_uj + b->unseen_uj,
                       .gain_uj = a->gain_uj + b->gain_uj,
                       .offset_uj = a->offset_uj + b->offset_uj,
                       .gap_uj = a->gap_uj + b->gap_uj,
                       .model_uj = a->model_uj + b->model_uj,
                       .idle_uj = a->idle_uj + b->idle_uj,
                       .attribution_uj = a->attribution_uj + b->attribution_uj};
}

// The bound of a sum decides anew whether it is resolved: many short windows add up to something that is.
static tel_status add_status(const tel_energy *a, const tel_energy *b, uint64_t energy_uj, uint64_t bound_uj) {
    if (a->status == TEL_MODELLED) return TEL_MODELLED;
    if (a->status == TEL_DISPUTED || b->status == TEL_DISPUTED) return TEL_DISPUTED;
    return bound_uj > energy_uj / 2 ? TEL_BELOW_RESOLUTION : TEL_MEASURED;
}

tel_energy tel_energy_add(const tel_energy *a, const tel_energy *b) {
    if (a->status == TEL_UNAVAILABLE) return *a;
    if (b->status == TEL_UNAVAILABLE) return *b;
    if ((a->status == TEL_MODELLED) != (b->status == TEL_MODELLED))
        return tel_energy_unavailable("a part is measured and a part is modelled: these do not add up", NULL);
    tel_energy sum = {.method = a->method == b->method ? a->method : TEL_METHOD_INTEGRATED,
                      .scope = a->scope == b->scope ? a->scope : TEL_SCOPE_NONE,
                      .source = a->source,
                      .fix = a->fix,
                      .energy_uj = a->energy_uj + b->energy_uj,
                      .bound_uj = a->bound_uj + b->bound_uj,
                      .low_uj = a->low_uj + b->low_uj,
                      .high_uj = a->high_uj + b->high_uj,
                      .resolution_ns = a->resolution_ns > b->resolution_ns ? a->resolution_ns : b->resolution_ns,
                      .n_samples = a->n_samples + b->n_samples,
                      .n_gaps = a->n_gaps + b->n_gaps,
                      .terms = add_terms(&a->terms, &b->terms)};
    double total = (double)sum.energy_uj;
    sum.coverage_frac = total > 0 ? (a->coverage_frac * (double)a->energy_uj + b->coverage_frac * (double)b->energy_uj) / total
                                  : (a->coverage_frac + b->coverage_frac) / 2;
    sum.status = add_status(a, b, sum.energy_uj, sum.bound_uj);
    return sum;
}
