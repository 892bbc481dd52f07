// Inside telemetry: time stamps of the NVIDIA driver on the meter's clock.
//
// The reference says "CPU timestamp in microseconds" and not of which clock: Unix time on some drivers, time since boot on others. So the
// clock is recognised from a fresh stamp, and the distance to the meter's clock is measured anew before every batch, because Unix time is slewed (up to
// 500 us/s) and set, and time since boot runs on through a suspend. When the distance jumps, older stamps cannot be placed any more:
// the caller makes a gap of it. Plain data and pure functions, so that clocks can be made up in tests.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_NVML_STAMPS_H
#define TEL_NVML_STAMPS_H

#include <stdbool.h>
#include <stdint.h>

// The same moment on the three clocks that a stamp may be of.
typedef struct nvml_now {
    uint64_t meter_ns, wall_ns, boot_ns;
} nvml_now;

typedef enum nvml_base { NVML_BASE_UNKNOWN = 0, NVML_BASE_METER, NVML_BASE_BOOT, NVML_BASE_WALL } nvml_base;

typedef struct nvml_stamps {
    nvml_base base;
    int64_t offset_ns;    // stamp's clock minus meter's clock
    uint64_t anchored_ns; // meter's clock when offset_ns was measured
    uint64_t last_us;     // newest stamp taken; 0: none
    uint64_t floor_ns;    // meter time before which stamps are not trusted (last jump)
} nvml_stamps;

// Recognises the clock of `newest_us`, a stamp of about now. False: of none of them (base stays unknown).
bool tel_nvml_stamps_recognise(nvml_stamps *stamps, const nvml_now *now, uint64_t newest_us);
// Measures the distance anew. False: it jumped since the last time; the base is then unknown and older stamps are worthless.
bool tel_nvml_stamps_anchor(nvml_stamps *stamps, const nvml_now *now);
// From here on nothing is known; stamps of moments before now are not trusted any more.
void tel_nvml_stamps_forget(nvml_stamps *stamps, const nvml_now *now);
// A stamp that the recognised clock has not reached: it is of another clock.
bool tel_nvml_stamps_ahead(const nvml_stamps *stamps, const nvml_now *now, uint64_t stamp_us);
// A stamp on the meter's clock. False: not newer than what was taken, before the last jump, or ahead.
bool tel_nvml_stamps_map(const nvml_stamps *stamps, const nvml_now *now, uint64_t stamp_us, uint64_t *t_ns);

#endif
