// Inside the look-alike NVML: the boards that a script describes, and what their sensors would say at a moment.
// SPDX-License-Identifier: Apache-2.0
#ifndef FAKE_NVML_MODEL_H
#define FAKE_NVML_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_DEVICES_MAX = 16, FAKE_FAILS_MAX = 32, FAKE_WORD = 64 };

typedef enum fake_clock { FAKE_METER, FAKE_BOOT, FAKE_WALL } fake_clock; // what stamps are of; METER: the device's own time

typedef struct fake_point {
    uint64_t t_us;
    double mw;
    double mj; // integral up to t_us
} fake_point;

typedef struct fake_fail {
    char function[FAKE_WORD]; // without "nvml"
    int code;
    uint64_t after, count; // calls let through first; calls that fail then, 0: all
    uint64_t n_calls;
} fake_fail;

typedef struct fake_device {
    char name[96];
    unsigned domain, bus, slot, arch;
    bool mig;
    unsigned limit_mw, limit_min_mw, limit_max_mw, limit_default_mw;
    unsigned sm_mhz, mem_mhz, sm_lock_mhz, mem_lock_mhz; // locks: 0: none
    // Truth: a square wave (low = high: constant), or a recording.
    double low_mw, high_mw, duty;
    uint64_t period_us;
    fake_point *points;
    size_t n_points;
    // The power sensor, and what is made of it.
    uint64_t step_us, window_us, delay_us, average_us;
    double gain, offset_mw;
    uint64_t counter_step_us, counter_delay_us, counter_reset_us;
    double counter_start_mj;
    uint64_t sum_steps; // counter of a part-time sensor: steps already added to sum_mj
    double sum_mj;
    unsigned ring;      // samples kept; 0: no ring
    uint64_t ring_step_us, ring_stop_us; // 0: never stops
    fake_clock stamps;
    int64_t stamp_shift_us;
    bool field_stamps;  // POWER_INSTANT carries a stamp
    unsigned value_type;
    uint64_t latency_us, lost_from_us, lost_to_us;
    fake_fail fails[FAKE_FAILS_MAX];
    size_t n_fails;
} fake_device;

typedef struct fake_model {
    bool virtual_clock;
    fake_fail fails[FAKE_FAILS_MAX]; // of functions without a device
    size_t n_fails;
    fake_device devices[FAKE_DEVICES_MAX];
    unsigned n;
} fake_model;

// False: the script is wrong; *line is the number of the line (0: cannot be opened).
bool fake_model_load(fake_model *model, const char *path, int *line);
void fake_model_free(fake_model *model);

// All times in us since the script was loaded (virtual clock: since 0).
double fake_truth_mj(const fake_device *d, uint64_t t_us);               // energy from 0 to t
double fake_sensor_mw(const fake_device *d, uint64_t t_us, uint64_t window_us); // the reading visible at t, averaged over window_us
double fake_sample_mw(const fake_device *d, uint64_t t_us);              // the reading taken at t, without delay
double fake_counter_mj(fake_device *d, uint64_t t_us);

#endif
