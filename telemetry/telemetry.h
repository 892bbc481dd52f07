// Energy telemetry: how many joules went through this machine between two moments, and how far that number can be trusted.
// Stands alone: includes nothing of the rest, needs only libc and pthreads, usable from any program (pkg-config name: tel).
//
// tel_meter    every power and energy source of the machine, the ones that count chosen so that no joule is counted twice, and
//              one thread that samples them. Any number of threads may ask it.
// tel_energy   the answer: a value, a bound, how it was obtained and what it covers. Never a bare number; an unknown one is a
//              status with a reason, never 0.
//
// A meter keeps for every domain (a CPU package, a GPU board) its samples of the last minutes. Ask for any window of time with
// tel_meter_energy(), or for the resolvable edges with tel_meter_edges(): cumulative joules at moments that the source resolves,
// so that intervals between edges add up exactly. Times are nanoseconds of the meter's clock (CLOCK_MONOTONIC unless replaced).
//
// Rules for all of it. Options: zero means default. Strings are borrowed for the call; strings in results are owned by the meter or
// static. Functions return tel_result (0 is success) and fill the optional tel_error with one sentence. Nothing prints, exits
// or aborts. Energies are integers in microjoules (_uj), powers in microwatts (_uw), times in nanoseconds (_ns).
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_TELEMETRY_H
#define TEL_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- The record ---------------------------------------------------------------------------------------------------
typedef enum tel_status {
    TEL_UNAVAILABLE = 0, // zero-initialised records are unavailable, not zero joules
    TEL_MEASURED,
    TEL_MODELLED,         // no counter was read: an estimate with a wide interval, never added to measured joules
    TEL_BELOW_RESOLUTION, // measured, but the bound is wider than half of the value
    TEL_DISPUTED,         // two sources disagree beyond their joint bound
} tel_status;

typedef enum tel_method {
    TEL_METHOD_NONE = 0,
    TEL_METHOD_COUNTER,    // differences of an energy counter
    TEL_METHOD_INTEGRATED, // power readings times time
    TEL_METHOD_MODELLED,   // CPU time times watts from a table or from the user
    TEL_METHOD_REPLAYED,   // a recording played back
    TEL_METHOD_SIMULATED,  // a made-up device
} tel_method;

typedef enum tel_scope {
    TEL_SCOPE_NONE = 0,
    TEL_SCOPE_CPU_PACKAGE,
    TEL_SCOPE_DRAM,
    TEL_SCOPE_GPU_BOARD,
    TEL_SCOPE_MODULE, // a system on module, or a chip with CPU and GPU
    TEL_SCOPE_NODE,   // the whole machine behind its power supply
    TEL_SCOPE_BATTERY,
    TEL_SCOPE_WALL,
} tel_scope;

// What a bound is made of, each in microjoules; they add up to the bound.
typedef struct tel_terms {
    uint64_t step_uj;        // the source updates in steps and the window does not begin and end on one
    uint64_t lag_uj;         // the source reports late by an amount not exactly known
    uint64_t latency_uj;     // reading it takes time
    uint64_t unseen_uj;      // time that the sensor does not look at
    uint64_t gain_uj;        // error proportional to the power
    uint64_t offset_uj;      // constant error
    uint64_t gap_uj;         // failed reads, resets, suspends: time without a reading
    uint64_t model_uj;       // modelled values only: the interval of the model
    uint64_t idle_uj;        // idle baseline (set by who splits off the idle part)
    uint64_t attribution_uj; // share of a common interval (set by who splits intervals)
} tel_terms;

// Energy of one window. The numbers mean nothing while status is TEL_UNAVAILABLE.
typedef struct tel_energy {
    tel_status status;
    tel_method method;
    tel_scope scope;
    const char *source;      // "powercap", "nvml"; static
    uint64_t energy_uj;
    uint64_t bound_uj;       // the truth lies within +- this in at least 99 % of windows
    uint64_t low_uj, high_uj; // the same interval where its sides differ: bound_uj is the longer side
    double coverage_frac;    // share of the window that the source looked at
    uint64_t resolution_ns;  // update step of the source
    uint32_t n_samples, n_gaps;
    tel_terms terms;
    const char *reason;      // a sentence, set when unavailable; else NULL
    const char *fix;         // the one command that would mend it; NULL: there is none
} tel_energy;

const char *tel_status_name(tel_status status); // "unavailable", "measured", "modelled", "below_resolution", "disputed"
const char *tel_method_name(tel_method method); // "counter", "integrated", ...
const char *tel_scope_name(tel_scope scope);    // "cpu_package", "dram", ...

// A record that says why there is no number. Both strings are static; fix may be NULL.
tel_energy tel_energy_unavailable(const char *reason, const char *fix);
// Sum of two windows or domains: values and bounds add, coverage is weighted by energy, the worse status wins. Measured and modelled
// do not mix: the sum is then unavailable with a reason. An unavailable record makes the sum unavailable.
tel_energy tel_energy_add(const tel_energy *a, const tel_energy *b);

// ---- Results ------------------------------------------------------------------------------------------------------
typedef enum tel_result {
    TEL_OK = 0,
    TEL_ERR_INVALID = -1,     // an option or argument
    TEL_ERR_NOT_FOUND = -2,   // a file or device that was named is not there
    TEL_ERR_PERMISSION = -3,
    TEL_ERR_IO = -4,
    TEL_ERR_FORMAT = -5,      // a file does not hold what it should: file, line, field
    TEL_ERR_NO_MEMORY = -6,
    TEL_ERR_UNAVAILABLE = -7, // no source of the kind that was asked for
} tel_result;

typedef struct tel_error {
    tel_result code;
    char message[640]; // a reason and a command, each as long as they come
} tel_error;

// ---- The meter ----------------------------------------------------------------------------------------------------
typedef struct tel_meter tel_meter;

// A clock that tests can turn by hand.
typedef struct tel_clock {
    uint64_t (*now_ns)(void *user);
    void *user;
} tel_clock;

typedef struct tel_options {
    // Which sources: NULL or "auto" (the best one of every domain, the model when there is none), "require" (as auto, without the
    // model: opening fails when nothing can be read), "none" (opens, with no domain), "model", or one name: "perf", "powercap",
    // "nvml", "hwmon", "battery", "replay:FILE.csv", "simulated:WATTS" (a constant power), "simulated:cpu:IDLE,BUSY" (watts that follow
    // this process' CPU time: idle ones and more per busy core).
    const char *source;
    const char *sysfs_root;       // what stands before /sys and /proc; NULL: $WTL_SYSFS_ROOT, else ""
    const char *nvml_path;        // NULL: $WTL_NVML_PATH, else libnvidia-ml.so.1
    const char *calibration_path; // gain and offset of a domain (tel_calibration_*); NULL: none
    const char *card;             // replay: name of the device that was recorded, decides its sensor class; NULL: unknown
    double cpu_idle_w, cpu_busy_w; // model: watts of this machine when idle and with every core busy, as measured by the user; 0, 0: table
    uint64_t interval_ns;         // between two samples, kept; 0: by the source (20 ms to 1 s), slower when reading is slow
    uint64_t history_ns;          // samples kept; 0: 10 minutes
    tel_clock clock;              // zero: CLOCK_MONOTONIC
    bool manual;                  // no thread: nothing is read but by tel_meter_poll() (tests, audits)
} tel_options;

// Owns: caller closes. Thread: any. Errors: INVALID, NOT_FOUND, FORMAT, PERMISSION, UNAVAILABLE ("require" or a named source without
// anything readable: the message says why), NO_MEMORY.
tel_result tel_meter_open(const tel_options *options, tel_meter **out, tel_error *err);
void tel_meter_close(tel_meter **meter); // accepts NULL, nulls the pointer

uint64_t tel_meter_now(const tel_meter *meter);
// Reads every chosen domain now, in the calling thread; never on a path that may not wait (a read can take milliseconds).
void tel_meter_poll(tel_meter *meter);
// Asks the sampling thread for a sample soon. Never waits. Nothing happens in a manual meter.
void tel_meter_poke(tel_meter *meter);
// Called on the sampling thread (or by tel_meter_poll) after every round of samples. One callback; NULL removes it: when this
// returns no call is running. Not from inside the callback.
void tel_meter_on_poll(tel_meter *meter, void (*call)(void *user), void *user);

// ---- Domains ------------------------------------------------------------------------------------------------------
// Everything that was found, readable or not: first the domains that count, then those that do not, with the reason.
typedef struct tel_domain_info {
    const char *name;    // "package-0", "gpu-0"
    const char *device;  // "NVIDIA A100-PCIE-40GB"; "" when not known
    const char *source;  // "powercap"
    const char *unit;    // of the raw reading: "uJ", "mJ", "mW"
    const char *path;    // file, event or library that is read
    const char *sensor;  // class of the sensor: "counter", "full-window", "part-time", "averaged", "unknown"
    tel_scope scope;
    tel_method method;
    bool counts;         // part of the sum
    const char *reason;  // why it does not count or cannot be read; "" when it counts
    const char *fix;     // the one command that would mend it; "" when there is none. A modelled domain that counts: what would make
                         // measuring possible, or "--cpu-watts IDLE,BUSY" where nothing would
    bool calibrated;
    uint64_t step_ns;    // update step, measured here; 0: not yet seen
    uint64_t read_mean_ns, read_p99_ns; // cost of one read
    uint64_t n_reads, n_samples, n_gaps;
    uint64_t power_uw;   // of the last interval; 0 while there is none
    bool power_known;
    int64_t replay_zero_ns; // replay: meter time of the recording's t_us = 0
} tel_domain_info;

size_t tel_meter_n_domains(const tel_meter *meter); // all
size_t tel_meter_n_counting(const tel_meter *meter); // the first so many of them count
tel_domain_info tel_meter_domain(const tel_meter *meter, size_t i); // i < n_domains
// "powercap package-0 and dram-0 count; not used: ..." - a sentence or two on the choice. Owned by the meter.
const char *tel_meter_explain(const tel_meter *meter);

// ---- Asking -------------------------------------------------------------------------------------------------------
// Energy of domain i (i < n_counting) between two moments. Unavailable with a reason when a part of the window was not observed
// (before the meter opened, after the last settled sample, forgotten). Thread: any; waits at most for a sample being stored.
tel_energy tel_meter_energy(const tel_meter *meter, size_t i, uint64_t t0_ns, uint64_t t1_ns);
// Moment up to which domain i has settled: windows that end before it will not change any more. 0: no sample yet.
uint64_t tel_meter_settled(const tel_meter *meter, size_t i);
// Whether it is in vain to wait until domain i settles up to t_ns: it was read after that moment and has resolved nothing for so long (twenty
// of its steps or reads, two seconds at least) that nobody can say when it will; or there will be no more samples. Thread: any.
bool tel_meter_stalled(const tel_meter *meter, size_t i, uint64_t t_ns);

// A moment at which the source resolves its energy. Differences between edges are energies of intervals, and add up exactly.
typedef struct tel_edge {
    uint64_t t_ns;
    uint64_t total_uj;   // since the meter opened, never falling
    uint64_t edge_uj;    // the total is uncertain by +- this at this edge alone (step, lag, latency); cancels between adjoining intervals
    uint64_t unseen_uj;  // cumulative: the part of the bound that grows with time (unseen share, gaps); take differences
    uint32_t gaps;       // cumulative count of gaps
} tel_edge;
// Settled edges of domain i (i < n_counting) later than after_ns, oldest first, at most cap of them. Returns how many were written.
// A gap appears as one long interval between two edges, with its bound in unseen_uj.
size_t tel_meter_edges(const tel_meter *meter, size_t i, uint64_t after_ns, tel_edge *out, size_t cap);
// What is wrong with every reading of domain i alike: the true energy of E microjoules over t ns lies within
// +- (gain_frac * E + offset_uw * t / 1e9), besides the bounds of the edges.
typedef struct tel_trust {
    double gain_frac;
    double offset_uw;
    double low_factor, high_factor; // modelled domains: the truth lies between these times the value; 1, 1 for measured ones
    double coverage_frac; // share of the time that the sensor looks at (part-time sensors: 0.25)
    double peak_uw;       // highest power that the device can have for a moment, by its power limit; 0: the limit is not known
} tel_trust;
tel_trust tel_meter_trust(const tel_meter *meter, size_t i);

// ---- The observer -------------------------------------------------------------------------------------------------
typedef struct tel_observer {
    uint64_t n_reads;
    uint64_t read_mean_ns, read_p99_ns;
    uint64_t cpu_ns;      // CPU time of the sampling thread since opening
    uint64_t wall_ns;     // since opening
    uint64_t interval_ns; // present distance of samples, after slowing down
} tel_observer;
tel_observer tel_meter_observer(const tel_meter *meter);

// ---- Recording ----------------------------------------------------------------------------------------------------
// Everything that is read, as it was read, into a file that "replay:FILE" plays back through the same arithmetic: form in replay.c.
typedef struct tel_recording tel_recording;
// From now on; one recording per meter at a time. Owns: caller closes, before the meter. Errors: INVALID, NOT_FOUND, PERMISSION, IO, NO_MEMORY.
tel_result tel_recording_open(tel_meter *meter, const char *path, tel_recording **out, tel_error *err);
uint64_t tel_recording_rows(const tel_recording *recording); // written so far; stays when the file cannot be written any more
// Errors: IO (disk full, ...): the file then ends at the last whole row that could be written. Accepts NULL, nulls the pointer.
tel_result tel_recording_close(tel_recording **recording, tel_error *err);

// ---- Calibration --------------------------------------------------------------------------------------------------
// reading = gain * truth + offset, for one device; the errors are what remains unknown after the fit (99 %).
typedef struct tel_calibration {
    char domain[48];
    char device[96];
    double gain, offset_w;
    double gain_error, offset_error_w;
} tel_calibration;
// One pair of averages over the same time: what the sensor said and what a better meter said.
typedef struct tel_calibration_point {
    double reading_w, truth_w;
    double truth_error_w; // of the better meter; 0: taken as exact
} tel_calibration_point;
// Least squares with honest remaining errors. Needs two points; points whose truths lie within 20 % of each other fix a gain only.
// Errors: INVALID (too few points, not finite, not positive, a fit no sensor has: gain outside 0.5 to 2).
tel_result tel_calibration_fit(const tel_calibration_point *points, size_t n, tel_calibration *out, tel_error *err);
// The file: a few `name = value` lines per domain, written by people or by tel_calibration_save. Errors: NOT_FOUND, PERMISSION, IO, FORMAT.
tel_result tel_calibration_save(const char *path, const tel_calibration *list, size_t n, tel_error *err);
// Reads at most cap entries, stores the number in the file in *n.
tel_result tel_calibration_load(const char *path, tel_calibration *list, size_t cap, size_t *n, tel_error *err);

#ifdef __cplusplus
}
#endif
#endif
