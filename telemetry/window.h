// Inside telemetry: from samples to energy with a bound. The one place where a bound is computed.
//
// A track follows one series. From its samples it derives knots: moments at which the cumulative energy is resolved, in order, kept in a
// ring. Between two knots the total is known and the shape is not: power may have been anywhere between the lowest and highest power that
// this device shows, so a window that begins inside takes the energy of that part from an envelope, not from a straight line.
// Which moments are knots is the sensor's matter (card.h): the changes of a counter; the ends of a power sensor's averaging windows.
// Calibration is applied when a knot is made. Not locked: meter.c holds its mutex around every call.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_WINDOW_H
#define TEL_WINDOW_H

#include "telemetry/card.h"
#include "telemetry/series.h"
#include "telemetry/telemetry.h"

typedef struct tel_track_options {
    const tel_card *card;               // borrowed, static
    const tel_calibration *calibration; // copied; NULL: the card's default errors
    tel_series_kind kind;
    tel_scope scope;
    tel_method method;
    const char *source;   // static
    uint64_t step_ns;     // documented update step; 0: the card's, else measured by the series
    uint64_t limit_uw;    // most that the device draws; 0: the card's, else from the readings
    double low_factor, high_factor; // modelled domains; 0, 0: 1, 1
    size_t capacity;      // knots kept
} tel_track_options;

typedef struct tel_track tel_track;

tel_result tel_track_open(const tel_track_options *options, tel_track **out);
void tel_track_close(tel_track **track);
// Takes over the samples that came into the series since the last call. At least once per series capacity.
void tel_track_update(tel_track *track, const tel_series *series);

tel_energy tel_track_energy(const tel_track *track, uint64_t t0_ns, uint64_t t1_ns);
uint64_t tel_track_settled(const tel_track *track);
size_t tel_track_edges(const tel_track *track, uint64_t after_ns, tel_edge *out, size_t cap);
tel_trust tel_track_trust(const tel_track *track);
// Power between the last two knots. False: there are none.
bool tel_track_power(const tel_track *track, uint64_t *power_uw);

#endif
