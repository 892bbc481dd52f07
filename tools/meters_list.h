// Inside `wattle meters`: what was found about each domain, gathered once by meters_list.c and printed as a table (meters_table.c) or as
// JSON (meters_json.c), so that both say the same.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_METERS_LIST_H
#define WTL_TOOLS_METERS_LIST_H

#include "telemetry/telemetry.h"
#include "tools/cli.h"

enum { METERS_WINDOWS = 3 };
extern const double meters_window_s[METERS_WINDOWS]; // 0.1, 1, 10

typedef struct meters_window {
    tel_energy energy;  // TEL_UNAVAILABLE with a reason when the sensor did not resolve it
    bool extrapolated;  // scaled from a shorter window: what edges add stays, what time adds grows
} meters_window;

typedef struct meters_row {
    tel_domain_info info;
    meters_window windows[METERS_WINDOWS]; // counting domains only
    tel_status status;   // over the last second, or the last tenth where a second is not resolved
    bool power_known;
    double power_w;      // mean over the same time; of the sensor's last interval where neither is resolved
} meters_row;

typedef struct meters_facts {
    const char *explain;
    const meters_row *rows; // [n_rows], the counting ones first
    size_t n_rows, n_counting;
    tel_observer observer;
} meters_facts;

// Width of the bound against the value. False: not known, or there is no energy to compare with.
bool meters_share(const tel_energy *energy, double *low_share, double *high_share);
// Whether the source reads this machine: neither modelled nor replayed nor made up.
bool meters_is_real(const tel_domain_info *info);

void meters_print_table(const meters_facts *facts);
void meters_print_json(const meters_facts *facts);

#endif
