// Two sources of one domain, compared all the time: over every second or more, where their energies differ by more than both bounds together
// twice in a row, both cannot be right. Which one is, nobody knows: windows that touch such a time are TEL_DISPUTED.
//
// Twice, because a bound holds in 99 % of windows: comparing every second, one disagreement in some minutes means nothing.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "telemetry/meter.h"

static const uint64_t COMPARE_MIN_NS = 1000000000u;

static bool is_number(const tel_energy *e) { return e->status == TEL_MEASURED || e->status == TEL_BELOW_RESOLUTION; }

static bool disagree(const tel_energy *a, const tel_energy *b) {
    return a->low_uj > b->high_uj || b->low_uj > a->high_uj;
}

static void add_dispute(meter_domain *d, meter_span span) {
    meter_span *last = d->n_disputes ? &d->disputes[d->n_disputes - 1] : NULL;
    if (last && span.t0_ns <= last->t1_ns) {
        if (span.t1_ns > last->t1_ns) last->t1_ns = span.t1_ns;
        return;
    }
    if (d->n_disputes == METER_DISPUTES_MAX) { // the two oldest become one: rather too much in dispute than too little
        d->disputes[1].t0_ns = d->disputes[0].t0_ns;
        memmove(d->disputes, d->disputes + 1, (METER_DISPUTES_MAX - 1) * sizeof d->disputes[0]);
        d->n_disputes--;
    }
    d->disputes[d->n_disputes++] = span;
}

static void compare_pair(meter_domain *ours, meter_domain *rival) {
    uint64_t a = tel_track_settled(ours->track), b = tel_track_settled(rival->track), end = a < b ? a : b;
    if (!end) return;
    if (!rival->compared_ns) { // from the first moment that both have seen
        rival->compared_ns = end;
        return;
    }
    if (end < rival->compared_ns + COMPARE_MIN_NS) return;
    meter_span span = {rival->compared_ns, end};
    tel_energy left = tel_track_energy(ours->track, span.t0_ns, end), right = tel_track_energy(rival->track, span.t0_ns, end);
    rival->compared_ns = end;
    if (!is_number(&left) || !is_number(&right)) return;
    if (!disagree(&left, &right)) {
        rival->suspect = (meter_span){0};
        return;
    }
    if (rival->suspect.t1_ns == span.t0_ns) add_dispute(ours, (meter_span){rival->suspect.t0_ns, span.t1_ns});
    rival->suspect = span;
}

void meter_compare(tel_meter *meter) {
    for (size_t i = meter->n_counting; i < meter->n_domains; i++) {
        meter_domain *rival = &meter->domains[i];
        if (rival->track && rival->rival < meter->n_counting) compare_pair(&meter->domains[rival->rival], rival);
    }
}

bool meter_disputed(const meter_domain *domain, uint64_t t0_ns, uint64_t t1_ns) {
    for (size_t i = 0; i < domain->n_disputes; i++)
        if (domain->disputes[i].t0_ns < t1_ns && domain->disputes[i].t1_ns > t0_ns) return true;
    return false;
}
