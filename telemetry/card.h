// Inside telemetry: how a sensor looks at its device, and what is wrong with its readings when nobody calibrated it. Found from the device
// name where it is known, from the readings otherwise (track.c).
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_CARD_H
#define TEL_CARD_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tel_card_class {
    TEL_CARD_COUNTER = 0, // an energy counter: every joule is seen
    TEL_CARD_FULL_WINDOW, // each reading averages the whole time since the one before
    TEL_CARD_PART_TIME,   // each reading averages the last part of it (A100, H100: 25 of 100 ms)
    TEL_CARD_AVERAGED,    // each reading averages longer than the update step (1 s)
    TEL_CARD_INSTANT,     // a reading is the power of one moment (hwmon input, battery)
    TEL_CARD_UNKNOWN,     // full-window or part-time: nobody knows, so part-time is assumed
} tel_card_class;

typedef struct tel_card {
    const char *match;        // words of the device name, "RTX 3090"; NULL: not found by name
    tel_card_class kind;
    uint64_t step_ns;         // update step; 0: learnt from the readings
    uint64_t window_ns;       // time that one reading averages; 0: the step
    uint64_t lag_ns;          // most time between the end of that window and the reading being visible
    double gain_frac;         // default error without calibration, as a share of the reading
    double offset_w;          // the same, constant part
    double limit_w;           // power limit of the stock board; 0: not known
} tel_card;

const char *tel_card_class_name(tel_card_class kind); // "counter", "full-window", "part-time", "averaged", "instant", "unknown"
// By the name that the driver gives ("NVIDIA A100-PCIE-40GB"). Never NULL: the unknown card when nothing matches.
const tel_card *tel_card_by_name(const char *device);
// A board of the GA100 kind: what its driver calls an average is its reading of the last update.
bool tel_card_is_ga100(const char *device);
// The same board read as a long average (nvmlDeviceGetPowerUsage on most boards since Ampere), as a moment, as an energy counter of a
// GPU board (slow steps, lag), as an energy counter of a CPU (1 ms steps), as the energy that a model computes.
const tel_card *tel_card_averaged(void);
const tel_card *tel_card_instant(void);
const tel_card *tel_card_gpu_counter(void);
const tel_card *tel_card_counter(void);
const tel_card *tel_card_exact(void);

#endif
