// `wattle meters`: samples for a moment, then gathers what each domain is, what reading it costs and how far its figures can be trusted.
//
// The bound of 0.1 and 1 s is that of real windows in what was sampled (the median of the last few for 0.1 s). Ten seconds are longer than anyone waits
// for a list: there the parts of the bound that belong to a window's two ends are kept and the parts that grow with time are scaled.
// SPDX-License-Identifier: Apache-2.0
#include "tools/meters_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/meters.h"

const double meters_window_s[METERS_WINDOWS] = {0.1, 1, 10};
enum { SHORT_WINDOWS = 9 }; // of 0.1 s that the median is taken of
#define SETTLE_S 1.5

bool meters_is_real(const tel_domain_info *info) {
    return info->method == TEL_METHOD_COUNTER || info->method == TEL_METHOD_INTEGRATED;
}

bool meters_share(const tel_energy *energy, double *low_share, double *high_share) {
    if (energy->status == TEL_UNAVAILABLE || energy->energy_uj == 0) return false;
    double value = (double)energy->energy_uj;
    bool sides = energy->low_uj || energy->high_uj;
    *low_share = sides ? (value - (double)energy->low_uj) / value : (double)energy->bound_uj / value;
    *high_share = sides ? ((double)energy->high_uj - value) / value : (double)energy->bound_uj / value;
    return true;
}

// ---- Sampling ------------------------------------------------------------------------------------------------------

static tel_energy window_before(const tel_meter *meter, size_t i, uint64_t end_ns, double seconds) {
    uint64_t length = (uint64_t)(seconds * 1e9);
    if (end_ns == 0) return tel_energy_unavailable("the source has given no value yet", NULL);
    if (end_ns < length) return tel_energy_unavailable("the source has not been watched for so long", NULL);
    return tel_meter_energy(meter, i, end_ns - length, end_ns);
}

static bool all_settled(const tel_meter *meter) {
    for (size_t i = 0; i < tel_meter_n_counting(meter); i++)
        if (window_before(meter, i, tel_meter_settled(meter, i), 1.0).status == TEL_UNAVAILABLE) return false;
    return true;
}

// At least `seconds`, and until every domain has resolved one second if that is soon; not when less than a second was asked for.
static bool sample(const tel_meter *meter, double seconds) {
    const bool terminal = cli_draws(STDERR_FILENO);
    const char *dim = cli_dims(STDERR_FILENO) ? "\033[2m" : "", *bright = *dim ? "\033[0m" : "";
    double most = seconds < 1 ? seconds : seconds + SETTLE_S;
    uint64_t start = cli_now_ns();
    for (double gone = 0; !cli_interrupted(); gone = (double)(cli_now_ns() - start) / 1e9) {
        if (gone >= seconds && (gone >= most || all_settled(meter))) break;
        if (terminal && gone < seconds) fprintf(stderr, "\r%ssampling %.1f of %.1f s%s", dim, gone, seconds, bright);
        else if (terminal) fprintf(stderr, "\r%swaiting for a slow sensor\033[K%s", dim, bright);
        meters_sleep(0.05);
    }
    if (terminal) fputs("\r\033[K", stderr);
    return !cli_interrupted();
}

// ---- Windows -------------------------------------------------------------------------------------------------------

static int by_share(const void *a, const void *b) {
    double low, x = 0, y = 0;
    meters_share(a, &low, &x);
    meters_share(b, &low, &y);
    return (x > y) - (x < y);
}

static tel_energy typical_short(const tel_meter *meter, size_t i, uint64_t settled) {
    tel_energy found[SHORT_WINDOWS], last = window_before(meter, i, settled, meters_window_s[0]);
    size_t n = 0;
    uint64_t step = (uint64_t)(meters_window_s[0] * 1e9);
    for (uint64_t k = 0; k < SHORT_WINDOWS && settled > (k + 1) * step; k++) {
        double low, high;
        found[n] = window_before(meter, i, settled - k * step, meters_window_s[0]);
        n += meters_share(&found[n], &low, &high);
    }
    if (n == 0) return last;
    qsort(found, n, sizeof found[0], by_share);
    return found[n / 2];
}

static uint64_t times(uint64_t uj, double factor) { return (uint64_t)((double)uj * factor + 0.5); }

// A longer window of the same power. Step, lag, latency and gaps belong to the ends or to one event; the rest grows with time.
static tel_energy stretched(const tel_energy *from, double factor) {
    tel_energy e = *from;
    e.energy_uj = times(from->energy_uj, factor);
    e.terms.unseen_uj = times(from->terms.unseen_uj, factor);
    e.terms.gain_uj = times(from->terms.gain_uj, factor);
    e.terms.offset_uj = times(from->terms.offset_uj, factor);
    e.terms.model_uj = times(from->terms.model_uj, factor);
    uint64_t grown = e.terms.unseen_uj + e.terms.gain_uj + e.terms.offset_uj + e.terms.model_uj;
    uint64_t same = from->terms.unseen_uj + from->terms.gain_uj + from->terms.offset_uj + from->terms.model_uj;
    uint64_t added = grown > same ? grown - same : 0, high = from->high_uj > from->energy_uj ? from->high_uj - from->energy_uj : 0;
    uint64_t low = from->energy_uj > from->low_uj ? from->energy_uj - from->low_uj : 0;
    if (e.status == TEL_MODELLED) { // its two sides differ and are shares of the value
        e.bound_uj = times(from->bound_uj, factor);
        e.low_uj = times(from->low_uj, factor);
        e.high_uj = times(from->high_uj, factor);
        return e;
    }
    e.bound_uj = from->bound_uj + added;
    e.low_uj = e.energy_uj > low + added ? e.energy_uj - low - added : 0;
    e.high_uj = e.energy_uj + high + added;
    if (e.status == TEL_MEASURED || e.status == TEL_BELOW_RESOLUTION)
        e.status = e.bound_uj > e.energy_uj / 2 ? TEL_BELOW_RESOLUTION : TEL_MEASURED;
    return e;
}

static void gather_counting(const tel_meter *meter, size_t i, meters_row *row) {
    uint64_t settled = tel_meter_settled(meter, i);
    row->windows[0].energy = typical_short(meter, i, settled);
    row->windows[1].energy = window_before(meter, i, settled, meters_window_s[1]);
    row->windows[2].energy = window_before(meter, i, settled, meters_window_s[2]);
    if (row->windows[2].energy.status == TEL_UNAVAILABLE && row->windows[1].energy.status != TEL_UNAVAILABLE)
        row->windows[2] = (meters_window){stretched(&row->windows[1].energy, meters_window_s[2] / meters_window_s[1]), true};
    int best = row->windows[1].energy.status != TEL_UNAVAILABLE ? 1 : 0;
    row->status = row->windows[best].energy.status;
    if (row->status != TEL_UNAVAILABLE) {
        row->power_known = true;
        row->power_w = (double)row->windows[best].energy.energy_uj / 1e6 / meters_window_s[best];
    } else if (row->info.power_known) {
        row->power_known = true;
        row->power_w = (double)row->info.power_uw / 1e6;
    }
}

int meters_list(tel_meter *meter, double seconds, bool json) {
    if (tel_meter_n_counting(meter) > 0 && !sample(meter, seconds)) return CLI_INTERRUPTED;
    size_t n = tel_meter_n_domains(meter);
    meters_row *rows = calloc(n ? n : 1, sizeof *rows);
    if (!rows) return cli_fail("out of memory");
    meters_facts facts = {.explain = tel_meter_explain(meter), .rows = rows, .n_rows = n, .n_counting = tel_meter_n_counting(meter),
                          .observer = tel_meter_observer(meter)};
    for (size_t i = 0; i < n; i++) {
        rows[i].info = tel_meter_domain(meter, i);
        if (i < facts.n_counting) gather_counting(meter, i, &rows[i]);
    }
    if (json) meters_print_json(&facts);
    else meters_print_table(&facts);
    free(rows);
    return CLI_OK;
}

// ---- Check ---------------------------------------------------------------------------------------------------------

int meters_check(tel_meter *meter) {
    size_t n = tel_meter_n_counting(meter);
    char names[160] = "";
    for (size_t i = 0, len = 0; i < n; i++) {
        tel_domain_info d = tel_meter_domain(meter, i);
        if (!meters_is_real(&d)) continue;
        for (int k = 0; k < 40 && !d.n_samples && meters_sleep(0.05); k++) d = tel_meter_domain(meter, i);
        if (d.n_samples && len < sizeof names) len += (size_t)snprintf(names + len, sizeof names - len, "%s%s (%s)", len ? ", " : "", d.name, d.source);
    }
    if (*names) {
        cli_printf("energy is measured: %s\n", names);
        return CLI_OK;
    }
    tel_domain_info d = n ? tel_meter_domain(meter, 0) : (tel_domain_info){0};
    const char *state = n == 0 ? "nothing counts" : d.method == TEL_METHOD_MODELLED ? "it is modelled from CPU time" :
                        d.method == TEL_METHOD_REPLAYED ? "a recording is played back" :
                        d.method == TEL_METHOD_SIMULATED ? "the device is made up" : "the source gives no value";
    bool mends = n > 0 && *d.fix && *d.fix != '-'; // an option narrows a model, it measures nothing
    cli_printf("energy is not measured: %s%s%s\n", state, mends ? "; to mend it: " : "", mends ? d.fix : "");
    return CLI_FAILED;
}
