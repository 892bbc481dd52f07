// Joules between edges of a meter, over any length of time: edges between two laps cancel, so laps add up to the total exactly.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "tools/meters.h"
#include "tools/quantity.h"

void meters_sum_follow(meters_sum *sum, const tel_meter *meter, size_t domain) {
    tel_edge edges[256];
    for (;;) {
        size_t n = tel_meter_edges(meter, domain, sum->begun ? sum->last.t_ns : 0, edges, CLI_COUNT(edges));
        if (n == 0) return;
        if (!sum->begun) sum->first = sum->mark = edges[0];
        sum->begun = true;
        sum->last = edges[n - 1];
    }
}

static meters_joules between(const tel_edge *from, const tel_edge *to, tel_trust trust) {
    if (to->t_ns <= from->t_ns) return (meters_joules){0};
    double energy_uj = (double)(to->total_uj - from->total_uj), seconds = (double)(to->t_ns - from->t_ns) / 1e9;
    double bound_uj = (double)from->edge_uj + (double)to->edge_uj + (double)(to->unseen_uj - from->unseen_uj) + trust.gain_frac * energy_uj +
                      trust.offset_uw * seconds;
    double low = trust.low_factor > 0 ? trust.low_factor : 1, high = trust.high_factor > 0 ? trust.high_factor : 1;
    return (meters_joules){.known = true, .value = energy_uj / 1e6, .low = fmax(0, (energy_uj - bound_uj) * low / 1e6),
                           .high = (energy_uj + bound_uj) * high / 1e6, .seconds = seconds, .gaps = to->gaps - from->gaps};
}

meters_joules meters_sum_total(const meters_sum *sum, const tel_meter *meter, size_t domain) {
    return sum->begun ? between(&sum->first, &sum->last, tel_meter_trust(meter, domain)) : (meters_joules){0};
}

meters_joules meters_sum_lap(meters_sum *sum, const tel_meter *meter, size_t domain) {
    if (!sum->begun) return (meters_joules){0};
    meters_joules lap = between(&sum->mark, &sum->last, tel_meter_trust(meter, domain));
    sum->mark = sum->last;
    return lap;
}

const char *meters_text(const meters_joules *joules, double scale, const char *unit, bool modelled, char text[METERS_TEXT]) {
    if (joules->known) return quantity_interval(joules->value * scale, joules->low * scale, joules->high * scale, unit, modelled, text);
    snprintf(text, METERS_TEXT, "no new value");
    return text;
}

bool meters_sleep(double seconds) {
    uint64_t until = cli_now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t now; !cli_interrupted() && (now = cli_now_ns()) < until;) {
        uint64_t left = until - now;
        if (left > 100000000u) left = 100000000u; // an interrupt on another thread does not end the sleep
        nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
    }
    return !cli_interrupted();
}
