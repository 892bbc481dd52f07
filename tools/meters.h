// Inside `wattle meters`: what its files share. cmd_meters.c parses and dispatches; meters_list.c, meters_watch.c and meters_record.c do the work
// on an open meter; meters_sum.c adds up; meters_calibrate.c and meters_audit.c are commands of their own with their own options.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_METERS_H
#define WTL_TOOLS_METERS_H

#include "telemetry/telemetry.h"
#include "tools/cli.h"
#include "tools/quantity.h"

// argv[0] is the word after `meters`.
int meters_calibrate(int argc, char **argv);
int meters_audit(int argc, char **argv);

// Samples for `seconds` (from one second on: up to a second and a half more for sources that settle late), then prints.
int meters_list(tel_meter *meter, double seconds, bool json);
// One sentence. 0: a real source counts; 1: none does.
int meters_check(tel_meter *meter);

typedef struct meters_run {
    double interval_s; // between lines
    double seconds;    // 0: until interrupted
    bool json;         // one object per line
    const char *record; // CSV file, or NULL
    bool watch;        // show watts while it runs
} meters_run;
int meters_watch(tel_meter *meter, const meters_run *run);

// ---- Sums over edges -----------------------------------------------------------------------------------------------
// Joules of one domain between two moments that its source resolves, with low and high ends of where the truth lies.
typedef struct meters_joules {
    bool known;
    double value, low, high; // J
    double seconds;
    uint32_t gaps;
} meters_joules;

// Follows the edges of one domain, however long: needs no history.
typedef struct meters_sum {
    bool begun;
    tel_edge first, mark, last; // mark: where the last lap ended
} meters_sum;
void meters_sum_follow(meters_sum *sum, const tel_meter *meter, size_t domain);
meters_joules meters_sum_total(const meters_sum *sum, const tel_meter *meter, size_t domain);
// Since the last lap. Not known when the source resolved nothing new.
meters_joules meters_sum_lap(meters_sum *sum, const tel_meter *meter, size_t domain);

// "12.3 W +- 0.4", "~2.3 W (0.76 to 7)" for modelled ones. scale: 1 for joules, 1/seconds for watts.
enum { METERS_TEXT = QUANTITY_INTERVAL };
const char *meters_text(const meters_joules *joules, double scale, const char *unit, bool modelled, char text[METERS_TEXT]);

bool meters_sleep(double seconds); // false: interrupted
#endif
