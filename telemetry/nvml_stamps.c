// Time stamps of the NVIDIA driver on the meter's clock: see the header.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/nvml_stamps.h"

#include <stdlib.h>

// A fresh stamp is at most this old (a ring may be filled in bursts) and at most this much ahead (its own rounding, clock reads).
static const int64_t oldest_ns = 5000000000, ahead_ns = 50000000;
// Distances move by slewing (500 ppm; twice that is allowed) and by being preempted between two clock reads.
static const int64_t jitter_ns = 5000000;

static uint64_t clock_of(const nvml_now *now, nvml_base base) {
    return base == NVML_BASE_METER ? now->meter_ns : base == NVML_BASE_BOOT ? now->boot_ns : now->wall_ns;
}

static int64_t distance(const nvml_now *now, nvml_base base) { return (int64_t)(clock_of(now, base) - now->meter_ns); }

bool tel_nvml_stamps_recognise(nvml_stamps *stamps, const nvml_now *now, uint64_t newest_us) {
    stamps->base = NVML_BASE_UNKNOWN;
    if (newest_us == 0 || newest_us > INT64_MAX / 1000) return false;
    int64_t best = 0;
    for (int base = NVML_BASE_METER; base <= NVML_BASE_WALL; base++) {
        const int64_t age = (int64_t)(clock_of(now, (nvml_base)base) - newest_us * 1000);
        if (age < -ahead_ns || age > oldest_ns) continue;
        // Until the first suspend the meter's clock and the time since boot are the same: the first one stays.
        if (stamps->base != NVML_BASE_UNKNOWN && llabs(age) + jitter_ns >= best) continue;
        stamps->base = (nvml_base)base;
        best = llabs(age);
    }
    if (stamps->base == NVML_BASE_UNKNOWN) return false;
    stamps->offset_ns = distance(now, stamps->base);
    stamps->anchored_ns = now->meter_ns;
    return true;
}

bool tel_nvml_stamps_anchor(nvml_stamps *stamps, const nvml_now *now) {
    if (stamps->base == NVML_BASE_UNKNOWN) return true;
    const int64_t offset_ns = distance(now, stamps->base);
    const int64_t elapsed_ns = (int64_t)(now->meter_ns - stamps->anchored_ns);
    const int64_t moved_ns = llabs(offset_ns - stamps->offset_ns);
    stamps->offset_ns = offset_ns;
    stamps->anchored_ns = now->meter_ns;
    if (moved_ns <= jitter_ns + elapsed_ns / 1000) return true;
    tel_nvml_stamps_forget(stamps, now);
    return false;
}

void tel_nvml_stamps_forget(nvml_stamps *stamps, const nvml_now *now) {
    stamps->base = NVML_BASE_UNKNOWN;
    stamps->last_us = 0;
    stamps->floor_ns = now->meter_ns;
}

bool tel_nvml_stamps_ahead(const nvml_stamps *stamps, const nvml_now *now, uint64_t stamp_us) {
    return stamp_us > INT64_MAX / 1000 || (int64_t)(stamp_us * 1000) - stamps->offset_ns > (int64_t)now->meter_ns + ahead_ns;
}

bool tel_nvml_stamps_map(const nvml_stamps *stamps, const nvml_now *now, uint64_t stamp_us, uint64_t *t_ns) {
    if (stamps->base == NVML_BASE_UNKNOWN || stamp_us <= stamps->last_us || tel_nvml_stamps_ahead(stamps, now, stamp_us)) return false;
    const int64_t t = (int64_t)(stamp_us * 1000) - stamps->offset_ns;
    if (t <= (int64_t)stamps->floor_ns) return false;
    *t_ns = t > (int64_t)now->meter_ns ? now->meter_ns : (uint64_t)t;
    return true;
}
