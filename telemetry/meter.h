// Inside telemetry: the meter's own structure, shared by meter.c (asking), meter_open.c (opening, closing), meter_thread.c (reading),
// meter_compare.c (two sources of one domain) and recording.c.
//
// Two sides, so that who asks never waits for a device. Reading side, under read_lock: sources, series, the recording; held during reads
// of milliseconds. Asking side, under lock: tracks and copies of the series' figures; held while samples are taken over. Order:
// call_lock, then read_lock, then lock; the callback runs under call_lock alone, so it may ask.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_METER_H
#define TEL_METER_H

#include <pthread.h>
#include <sys/types.h>

#include "telemetry/choose.h"
#include "telemetry/window.h"

enum { METER_SERIES_CAPACITY = 4096, METER_DISPUTES_MAX = 64 };

typedef struct meter_span {
    uint64_t t0_ns, t1_ns;
} meter_span;

// What the series knows about itself, copied after every read.
typedef struct meter_figures {
    uint64_t step_ns, read_mean_ns, read_p99_ns, n_reads, n_samples, n_gaps;
    uint64_t every_ns, read_ns; // distance of reads; end of the last one, by the meter's clock
    const char *ended; // why there will be no more samples
} meter_figures;

typedef struct meter_domain {
    tel_domain domain;
    const tel_source *source;
    void *state; // of the source
    bool readable, counts, calibrated;
    size_t rival; // does not count: index of the counting domain with the same joules; else SIZE_MAX
    // Reading side.
    tel_series series;
    uint64_t base_ns;    // distance of reads that suits the source, or was asked for
    uint64_t longest_ns; // distance at which a wrap could be missed, or which is too long to be useful
    uint64_t every_ns;   // present distance
    uint64_t due_ns;     // of CLOCK_MONOTONIC
    uint64_t typical_ns; // running median of the time of one read
    // Asking side.
    tel_track *track;
    meter_figures figures;
    meter_span disputes[METER_DISPUTES_MAX]; // counting domains: when the rival said something else
    size_t n_disputes;
    // Comparison of a rival with its counting domain.
    uint64_t compared_ns;
    meter_span suspect; // they disagreed here; once more and it is a dispute
} meter_domain;

typedef struct meter_source {
    const tel_source *source;
    void *state;
    tel_found *found;
} meter_source;

struct tel_recording;

struct tel_meter {
    tel_options options;
    tel_env env;
    char *strings[4]; // root, nvml, replay and card paths that env points to
    pid_t pid;        // a forked child has no sampling thread and must not use the locks
    meter_source sources[TEL_SOURCES_MAX];
    size_t n_sources;
    meter_domain *domains; // [n_domains], the counting ones first
    size_t n_domains, n_counting;
    char explain[TEL_EXPLAIN_MAX];
    uint64_t opened_ns, began_ns; // CLOCK_MONOTONIC; the meter's clock

    pthread_mutex_t read_lock, lock, call_lock, wake_lock;
    bool locks_made;
    void (*call)(void *user); // call_lock
    void *call_user;
    struct tel_recording *recording; // read_lock
    // CLOCK_BOOTTIME minus CLOCK_MONOTONIC: grows by the time spent suspended. Replaceable by tests.
    uint64_t (*suspended_ns)(void);
    uint64_t last_suspended_ns;
    uint64_t random;   // state of the jitter's generator
    double slow_read, slow_cpu; // factors by which reading is slowed down: for slow reads, for CPU time
    uint64_t judged_ns, judged_cpu_ns;
    uint64_t interval_ns, next_ns; // of the domain read most often; when the next one is due
    uint64_t shown_interval_ns, shown_cpu_ns; // lock: for tel_meter_observer

    pthread_t thread;
    bool running;
    pthread_cond_t wake; // wake_lock, with the two below
    bool stop, poked;
};

// A lock inside of a meter that the caller may only look at.
static inline pthread_mutex_t *meter_lock_of(const tel_meter *meter) { return (pthread_mutex_t *)&meter->lock; }

// meter_thread.c. Reads domains: those that are due, besides them the counting ones, or all. Caller holds read_lock.
typedef enum meter_which { METER_DUE, METER_COUNTING, METER_ALL } meter_which;
void meter_round(tel_meter *meter, meter_which which);
void meter_call(tel_meter *meter); // the callback
void *meter_thread(void *meter);
uint64_t meter_suspended_ns(void);
void meter_pace(tel_meter *meter); // sets every_ns of all domains from the factors

// meter_compare.c. Caller holds lock.
void meter_compare(tel_meter *meter);
bool meter_disputed(const meter_domain *domain, uint64_t t0_ns, uint64_t t1_ns);

// recording.c. After a round; caller holds read_lock.
void recording_flush(struct tel_recording *recording);

#endif
