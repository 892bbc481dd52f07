// Inside telemetry: what a source is. One file per source (rapl_perf.c, rapl_powercap.c, nvml.c, hwmon.c, battery.c, cpu_model.c,
// replay.c, simulated.c), each with one tel_source; meter.c opens them, choose.c decides which of their domains count.
//
// A source finds domains and reads them into a tel_series; it does no arithmetic on energies: units, wraps, faults and bounds are the
// series' and window's business. A domain that exists but cannot be read is found too, with the reason and the command that would mend it.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_SOURCE_H
#define TEL_SOURCE_H

#include "telemetry/series.h"
#include "telemetry/telemetry.h"

enum { TEL_DOMAINS_MAX = 64 };

// Where a source looks. Strings are never NULL.
typedef struct tel_env {
    const char *root;      // before /sys, /proc; "" for the real ones
    const char *nvml_path;
    const char *replay_path; // or ""
    const char *card;        // or ""
    double simulated_w;      // idle watts of the made-up device
    double simulated_busy_w; // more of it per core that this process keeps busy
    double cpu_idle_w, cpu_busy_w; // 0, 0: not given
    tel_clock clock;       // never NULL inside
    // The perf system call, replaceable by tests because it has no file to put in a tree. (type, config, cpu) -> file descriptor or -errno.
    int (*perf_open)(uint32_t type, uint64_t config, int cpu);
} tel_env;

// One thing that a source found. Filled by open(); afterwards only read.
typedef struct tel_domain {
    char name[48];
    char device[96];
    char path[192];
    // The physical joules behind it: "cpu_package:0", "dram:0", "gpu_board:0000:01:00.0", "node", "battery". Two domains of one key count the
    // same joules. `contains` names keys (separated by spaces, "cpu_package:*" for all) whose joules are inside this one.
    char key[64];
    char contains[128];
    char reason[192]; // not readable: why, a sentence without full stop; "" when readable
    char fix[192];    // one command; "" when there is none
    const char *unit;
    tel_scope scope;
    tel_method method;
    tel_series_kind kind;
    double uj_per_unit;     // counters: microjoules of one unit (may be 1e6 / 2^32); powers: microwatts of one unit
    uint64_t range;         // counters: the raw value wraps to 0 after this one; 0: 64 bits
    uint64_t limit_uw;      // most that the device can draw (power limit); 0: not known
    uint64_t step_ns;       // documented update step; 0: not known
    uint64_t poll_ns;       // how often to read it; 0: by its step. For devices that keep their readings (a ring): less often
    const tel_card *card;   // class of the sensor; NULL: by kind
    double low_factor, high_factor; // modelled domains: the truth lies between these times the value; 0, 0: a third and three times
    int64_t zero_ns;        // replay: meter time of the recording's t_us = 0
    int slot;               // the source's own index
} tel_domain;

typedef struct tel_found {
    tel_domain items[TEL_DOMAINS_MAX];
    size_t n;
} tel_found;
// Next free domain, zeroed, or NULL when full.
tel_domain *tel_found_add(tel_found *found);

typedef struct tel_source {
    const char *name; // "powercap"
    int rank;         // preference within one key: the lowest wins
    // Finds domains. A source that is not on this machine adds one domain with key "" that says why (or nothing). Failing is for a named file that
    // is wrong (replay) and for memory; everything else is a domain with a reason. *state is closed by close(), also after failure.
    tel_result (*open)(const tel_env *env, void **state, tel_found *found, tel_error *err);
    // Reads one domain: pushes its new samples, or a gap, into the series. Never fails loudly. Sampling thread only.
    // One call pushes at most half of series->options.capacity; when it pushed that many it is called again.
    void (*read)(void *state, const tel_domain *domain, tel_series *series);
    // Why there will be no more samples of this domain, a static sentence; NULL: there may be. The function may be NULL. Sampling thread only.
    const char *(*ended)(void *state, const tel_domain *domain);
    void (*close)(void *state);
} tel_source;

extern const tel_source tel_source_perf, tel_source_powercap, tel_source_nvml, tel_source_hwmon, tel_source_battery, tel_source_model,
    tel_source_replay, tel_source_simulated;

uint64_t tel_env_now(const tel_env *env);
uint64_t tel_monotonic_ns(void); // CLOCK_MONOTONIC
// Fills err (may be NULL) and returns code.
tel_result tel_fail(tel_error *err, tel_result code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
