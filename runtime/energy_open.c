// Binding the books to a meter and an engine: the only file here that calls tel_meter.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/clock.h"
#include "runtime/energy_private.h"
#include "runtime/engine.h"

static size_t meter_edges(void *meter, size_t domain, uint64_t after_ns, tel_edge *out, size_t cap) {
    return tel_meter_edges(meter, domain, after_ns, out, cap);
}
static tel_trust meter_trust(void *meter, size_t domain) { return tel_meter_trust(meter, domain); }
static tel_domain_info meter_info(void *meter, size_t domain) { return tel_meter_domain(meter, domain); }
static uint64_t meter_now(void *meter) { return meter ? tel_meter_now(meter) : wtl_clock_ns(); }
static void meter_poke(void *meter) { tel_meter_poke(meter); }
static bool meter_stalled(void *meter, size_t domain, uint64_t t_ns) { return tel_meter_stalled(meter, domain, t_ns); }
static void meter_detach(void *meter) { tel_meter_on_poll(meter, NULL, NULL); }

wtl_status wtl_energy_open(const wtl_energy_options *options, wtl_energy **out, wtl_error *err) {
    *out = NULL;
    if (!options || !options->engine) return wtl_fail(err, WTL_ERR_INVALID, "the energy of requests needs an engine");
    tel_meter *meter = options->meter;
    size_t n_domains = meter ? tel_meter_n_counting(meter) : 0;
    if (n_domains > WTL_ENERGY_DOMAINS_MAX)
        return wtl_fail(err, WTL_ERR_INVALID, "a meter of %zu domains; at most %d are told apart", n_domains, WTL_ENERGY_DOMAINS_MAX);
    const wtl_engine_info info = wtl_engine_describe(options->engine);
    char key[256];
    snprintf(key, sizeof key, "%.100s %" PRIu64 " %.80s", info.name[0] ? info.name : info.arch, info.file_bytes, info.backend);
    const energy_setup setup = {
        .machine = {n_domains, meter_edges, meter_trust, meter_info, meter_now, meter ? meter_poke : NULL, meter_stalled, meter},
        .shape = engine_work_shape(options->engine, WTL_KV_F16), // forecasts assume the session's default
        .no_meter = options->no_meter,
        .no_meter_fix = options->no_meter_fix,
        .fit_path = options->fit_path,
        .fit_key = key,
        .n_stamps = options->n_stamps,
    };
    wtl_status status = energy_open(&setup, out, err);
    if (status || !n_domains) return status;
    (*out)->detach = meter_detach;
    (*out)->detach_user = meter;
    tel_meter_on_poll(meter, energy_on_poll, *out);
    return WTL_OK;
}
