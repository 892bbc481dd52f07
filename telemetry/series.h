// Inside telemetry: what was read of one domain, in order, with everything odd about it counted.
//
// Samples come in as raw counter values or as powers with the time of the read. The series turns them into a cumulative energy that
// never falls: it scales units, follows wraps, and puts a gap wherever the raw values cannot be explained (reset, backwards, failed
// read, implausible power, suspend). A gap is time without a reading: window.c bounds it, nobody fills it with a guess that looks measured.
// From the samples it derives knots: moments at which the source's energy is resolved (for a counter the value changes, for a power
// sensor the ends of its averaging windows). window.c integrates between knots.
// Not locked: meter.c holds its mutex around every call.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_SERIES_H
#define TEL_SERIES_H

#include "telemetry/card.h"
#include "telemetry/telemetry.h"

typedef enum tel_series_kind { TEL_SERIES_COUNTER, TEL_SERIES_POWER } tel_series_kind;

typedef enum tel_fault {
    TEL_FAULT_READ = 0,    // failed or short read, unparsable text
    TEL_FAULT_VANISHED,    // file or device is gone
    TEL_FAULT_BACKWARDS,   // counter fell and a wrap does not explain it
    TEL_FAULT_RESET,       // counter restarted near zero (driver reload)
    TEL_FAULT_IMPLAUSIBLE, // more power than twice the limit
    TEL_FAULT_FROZEN,      // a counter that had moved stood still for 20 of its steps (at least 2 s)
    TEL_FAULT_LATE,        // distance of samples so large that a wrap could have been missed
    TEL_FAULT_SUSPEND,     // boot time ran on while the monotonic clock stood
    TEL_N_FAULTS,
} tel_fault;
const char *tel_fault_name(tel_fault fault);

typedef struct tel_series_options {
    tel_series_kind kind;
    double uj_per_unit;   // counters: uJ per unit; powers: uW per unit
    uint64_t range;       // counters: last raw value before the wrap to 0; 0: 64 bits
    uint64_t limit_uw;    // 0: not known (1 kW per domain is taken for plausibility); twice this is implausible
    uint64_t step_ns;     // expected update step; 0: learn
    size_t capacity;      // samples kept; the oldest fall out
} tel_series_options;

// One stored sample. For counters energy is cumulative; for powers it is the reading.
typedef struct tel_sample {
    uint64_t t_ns;      // middle of the read
    uint64_t value;     // counters: uJ since the first sample; powers: uW
    uint32_t read_ns;   // how long the read took
    bool gap_before;    // the stretch from the sample before to this one was not observed
    bool changed;       // the raw value differs from the one before
} tel_sample;

// Sees every reading that the series accepts, as it was read, and every fault that a source reports (recording.c).
typedef struct tel_tap {
    void (*sample)(void *user, uint64_t t_ns, uint64_t raw, uint64_t read_ns, bool stamped); // stamped: by tel_series_push_at
    void (*fault)(void *user, uint64_t t_ns, tel_fault fault);
    void *user;
} tel_tap;

typedef struct tel_series {
    tel_series_options options;
    tel_tap tap; // zero: none
    tel_sample *ring;        // [capacity]
    size_t head, n;          // oldest is ring[head]
    uint64_t dropped;        // samples that fell out
    uint64_t last_raw;
    long double remainder_uj; // below one uJ, carried
    bool has_last;
    bool gap_pending;        // a fault came after the last sample
    bool gap_hard;           // ... of a kind after which a counter may have restarted: its difference says nothing
    bool frozen, moved;      // counters: stands still now; has changed at least once
    // After a counter was found to have jumped, the value before is kept for some reads: was it a restart (it goes on from the new value)
    // or one bad reading (it goes on from the old one)? Where both could be, the stretch is a gap too.
    struct {
        uint64_t raw, change_ns;
        uint32_t reads; // for which it is still kept; 0: free
    } before[4];
    uint64_t n_reads, n_gaps, faults[TEL_N_FAULTS];
    uint64_t read_total_ns, read_hist[32]; // read time, by power of two of ns
    uint64_t step_ns;        // measured update step (median of the last changes); 0: not yet known
    uint64_t steps[64];      // ring of distances of changes
    uint32_t n_steps;
    uint64_t last_change_ns, last_t_ns;
    uint64_t min_uw, max_uw; // smallest and largest plausible power seen between knots, for the swing
} tel_series;

tel_result tel_series_init(tel_series *series, const tel_series_options *options);
void tel_series_free(tel_series *series);

// A read that took from t0 to t1. Counters: the raw value. Powers: units of options.uj_per_unit (uW per unit).
// Samples not later than the last one are dropped.
void tel_series_push(tel_series *series, uint64_t t0_ns, uint64_t t1_ns, uint64_t raw);
// A reading that the device itself stamped: no read time (call tel_series_cost once per batch).
void tel_series_push_at(tel_series *series, uint64_t t_ns, uint64_t raw);
void tel_series_cost(tel_series *series, uint64_t read_ns);
// A read that gave nothing. The stretch up to the next good sample is a gap; but where a counter's reads only failed for a while
// (TEL_FAULT_READ) and it plainly went on, its difference is the energy: then the gap is counted and gap_before stays false.
void tel_series_fault(tel_series *series, uint64_t t_ns, tel_fault fault);

const tel_sample *tel_series_at(const tel_series *series, size_t i); // i < n, oldest first
uint64_t tel_series_read_p99(const tel_series *series);

#endif
