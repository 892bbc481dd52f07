// Inside `wattle meters calibrate`: pairs of averages (what the sensor said, what a better meter said), from a list or from two recordings.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_METERS_PAIRS_H
#define WTL_TOOLS_METERS_PAIRS_H

#include "telemetry/telemetry.h"
#include "tools/cli.h"

typedef struct meters_pairs {
    tel_calibration_point *points; // malloc'ed, [n]
    size_t n;
    // Of two recordings: how the sensor was found to look at its device.
    double step_s, window_s, lag_s;
} meters_pairs;

// Lines "reading_w,truth_w" and, if known, ",truth_error_w"; a first line of words and lines that begin with # are passed over.
int meters_pairs_from_list(const char *path, meters_pairs *out);
// Recordings in the form of power_csv.h; `column` of the sensor's, or NULL: instant_mw, power_mw or average_mw, as of the truth's.
// CLI_GO or CLI_FAILED after a message.
int meters_pairs_from_recordings(const char *sensor, const char *truth, const char *column, meters_pairs *out);
void meters_pairs_free(meters_pairs *pairs);

#endif
