// Inside telemetry: the knots of a track (window.h), shared by track.c, which makes them, and window.c, which integrates between them.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_TRACK_H
#define TEL_TRACK_H

#include "telemetry/window.h"

// What is known of the stretch that ends at a knot.
typedef enum tel_stretch {
    TEL_STRETCH_SEEN = 0, // its energy was measured, its shape was not
    TEL_STRETCH_UNSEEN,   // the sensor did not look: the value is interpolated, the truth anywhere between lowest and highest power
    TEL_STRETCH_MOMENTS,  // readings of moments at both ends, taken at jittered times: unseen, but independent from stretch to stretch
    TEL_STRETCH_GAP,      // a fault: as unseen, and counted
    TEL_STRETCH_DOUBTFUL, // an unknown sensor: it saw all of it, or only a quarter at the end
    TEL_N_STRETCHES,
} tel_stretch;

// Share of a doubtful stretch that may be unseen: the sensors that see least look 25 of 100 ms.
#define TEL_DOUBT 0.75

// All sums run from the first knot.
typedef struct tel_knot {
    uint64_t t_ns;
    uint64_t total_uj;
    uint64_t blind_ns[TEL_N_STRETCHES]; // time by stretch (SEEN: stays 0; DOUBTFUL: the share that may be unseen)
    uint64_t blind_uj[TEL_N_STRETCHES]; // value given to that time
    uint64_t blind_bound_uj; // bound of it, with the extremes known when the knot was made
    uint32_t early_ns;       // the true moment of the knot lies within +- this
    uint32_t n_gaps, n_samples, n_moments;
    tel_stretch stretch;
} tel_knot;

struct tel_track {
    tel_track_options options;
    double gain, offset_w;           // reading = gain * truth + offset
    double gain_error, offset_error; // share of the truth; W
    bool calibrated;
    tel_card_class kind;             // of the card; an unknown one may become averaged or full-window by behaviour
    tel_knot *ring;                  // [capacity]
    size_t head, n;
    uint64_t consumed;               // samples of the series taken over, counted from its beginning
    long double sum_uj;              // exact total behind the last knot's integer
    // Update tracker of sensors that are read faster than they update.
    uint64_t step_ns;                // present estimate; 0: not known yet
    uint64_t last_t_ns;              // last sample
    uint64_t last_value;
    double last_power_uw;            // of the last stretch, calibrated
    bool started;
    uint64_t distances[64];          // ring of distances between visible changes
    uint32_t n_distances;
    uint64_t last_change_ns;
    uint64_t poll_ns;                // typical distance of samples
    // Lowest and highest mean power of a stretch, calibrated.
    double min_uw, max_uw, max_jump_uw;
    // Behaviour of an unknown sensor: isolated changes of level, and how many of them showed a reading in between.
    double recent_uw[4];
    uint32_t n_recent, n_levels, n_between;
    uint64_t last_stretch_ns;
};

const tel_knot *track_knot(const tel_track *track, size_t i); // i < n, oldest first
// Lowest and highest power that the device can have had in between, uW.
void track_extremes(const tel_track *track, double *low_uw, double *high_uw);
double track_limit_peak(const tel_track *track); // by the device's power limit, uW; 0: it is not known
// The highest power as a sensor shows it that averages a short part of each step: such windows do catch the peaks.
double track_seen_peak(const tel_track *track);
uint64_t track_lag_ns(const tel_track *track); // common uncertainty of all knots' times, +- half of this

#endif
