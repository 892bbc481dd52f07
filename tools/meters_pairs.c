// From files to pairs of averages. See meters_pairs.h.
//
// Two recordings: the sensor shows a new value every step, and each value is the mean of some window that ended some time before. Neither is
// told, so both are searched for: the pair (window, lag) with which the truth's means lie best on one line with the readings. Pairs whose truth
// moved inside the window are then left out where enough others remain, because there a small error of time is a large one of power.
// SPDX-License-Identifier: Apache-2.0
#include "tools/meters_pairs.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/power_csv.h"

enum { POINTS_MAX = 1 << 20, LINE_MAX_BYTES = 1024, STEADY_MIN = 8, LAGS = 80, UPDATES_MIN = 6 };
static const double STEADY_FRAC = 0.03; // of the truth: the two halves of a window differ by less
static const double RANGE_KEPT = 0.7;   // of the levels: steady pairs that show fewer say too little of the offset
static const double window_steps[] = {0.25, 0.5, 1, 2, 5, 10}; // windows that are tried, in update steps
static const double LAG_STEPS = 2;      // largest lag

// New values of a sensor: when each was first seen.
typedef struct updates {
    double *t_s, *w; // [n]
    size_t n;
} updates;

void meters_pairs_free(meters_pairs *pairs) {
    free(pairs->points);
    *pairs = (meters_pairs){0};
}

// ---- Fields --------------------------------------------------------------------------------------------------------

// Field `index` of a line of numbers separated by commas. False: there is none or it is no number.
static bool field_number(const char *line, int index, double *value) {
    for (; index > 0; index--) {
        line = strchr(line, ',');
        if (!line) return false;
        line++;
    }
    char *end = NULL;
    *value = strtod(line, &end);
    end += strspn(end, " \t\r\n");
    return end != line && (*end == ',' || !*end) && isfinite(*value);
}

static bool add_point(meters_pairs *pairs, size_t *cap, tel_calibration_point point) {
    if (pairs->n == *cap) {
        *cap = *cap ? 2 * *cap : 64;
        tel_calibration_point *grown = *cap <= POINTS_MAX ? realloc(pairs->points, *cap * sizeof *grown) : NULL;
        if (!grown) return false;
        pairs->points = grown;
    }
    pairs->points[pairs->n++] = point;
    return true;
}

// ---- A list --------------------------------------------------------------------------------------------------------

int meters_pairs_from_list(const char *path, meters_pairs *out) {
    *out = (meters_pairs){0};
    FILE *file = fopen(path, "re");
    if (!file) return cli_fail("calibrate: %s: %s", path, strerror(errno));
    char line[LINE_MAX_BYTES];
    size_t cap = 0;
    int code = CLI_GO;
    for (int number = 1; code == CLI_GO && fgets(line, sizeof line, file); number++) {
        tel_calibration_point p = {0};
        const char *text = line + strspn(line, " \t\r\n");
        if (!*text || *text == '#') continue;
        bool good = field_number(text, 0, &p.reading_w) && field_number(text, 1, &p.truth_w);
        if (good && !field_number(text, 2, &p.truth_error_w)) {
            const char *second = strchr(strchr(text, ',') + 1, ',');
            good = !second;
        }
        if (!good && number == 1 && strchr(text, ',') && !field_number(text, 0, &p.reading_w)) continue; // a heading
        if (!good) code = cli_fail("calibrate: %s line %d: not `reading_w,truth_w` or `reading_w,truth_w,truth_error_w`", path, number);
        else if (!add_point(out, &cap, p)) code = cli_fail("calibrate: %s: too many points", path);
    }
    if (code == CLI_GO && ferror(file)) code = cli_fail("calibrate: %s cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (code != CLI_GO) meters_pairs_free(out);
    return code;
}

// ---- Recordings ----------------------------------------------------------------------------------------------------

static bool mean_over(const power_csv *truth, double from, double to, double *watts) {
    if (from < truth->edge_s[0] || to > truth->edge_s[truth->n] || to <= from) return false;
    *watts = power_csv_energy(truth, from, to) / (to - from);
    return true;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The readings at which the value changes. *step_s: their median distance.
static int find_updates(const power_csv *sensor, const char *path, updates *out, double *step_s) {
    double *distances = malloc(sensor->n * sizeof *distances);
    out->t_s = malloc(sensor->n * sizeof *out->t_s);
    out->w = malloc(sensor->n * sizeof *out->w);
    int code = distances && out->t_s && out->w ? CLI_GO : cli_fail("out of memory");
    for (size_t i = 1; code == CLI_GO && i < sensor->n; i++) {
        if (sensor->power_w[i] == sensor->power_w[i - 1]) continue;
        if (out->n) distances[out->n - 1] = sensor->t_s[i] - out->t_s[out->n - 1];
        out->t_s[out->n] = sensor->t_s[i];
        out->w[out->n++] = sensor->power_w[i];
    }
    if (code == CLI_GO && out->n < UPDATES_MIN) code = cli_fail("calibrate: %s: the reading changes fewer than %d times", path, UPDATES_MIN);
    if (code == CLI_GO) {
        qsort(distances, out->n - 1, sizeof *distances, by_value);
        *step_s = distances[(out->n - 1) / 2];
    }
    free(distances);
    return code;
}

// ---- Search --------------------------------------------------------------------------------------------------------

// Sum of squared distances from the best line through the pairs, per pair. Infinite when there are too few.
static double misfit(const updates *s, const power_csv *truth, double window, double lag) {
    double n = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    for (size_t i = 0; i < s->n; i++) {
        double t;
        if (!mean_over(truth, s->t_s[i] - lag - window, s->t_s[i] - lag, &t)) continue;
        n++, x += t, y += s->w[i], xx += t * t, xy += t * s->w[i], yy += s->w[i] * s->w[i];
    }
    if (n < UPDATES_MIN) return INFINITY;
    double sxx = xx - x * x / n, sxy = xy - x * y / n, syy = yy - y * y / n;
    return (syy - (sxx > 0 ? sxy * sxy / sxx : 0)) / n;
}

static void search(const updates *s, const power_csv *truth, meters_pairs *out) {
    double best = INFINITY;
    for (size_t k = 0; k < CLI_COUNT(window_steps); k++)
        for (int l = 0; l <= LAGS; l++) {
            double window = window_steps[k] * out->step_s, lag = LAG_STEPS * out->step_s * l / LAGS, found = misfit(s, truth, window, lag);
            if (found >= best) continue;
            best = found;
            out->window_s = window;
            out->lag_s = lag;
        }
}

static bool collect(const updates *s, const power_csv *truth, bool steady_only, meters_pairs *out) {
    size_t cap = 0;
    free(out->points);
    out->points = NULL;
    out->n = 0;
    for (size_t i = 0; i < s->n; i++) {
        double whole, early, late, end = s->t_s[i] - out->lag_s, start = end - out->window_s, margin = out->window_s / 4;
        if (!mean_over(truth, start, end, &whole)) continue;
        bool steady = mean_over(truth, start - margin, (start + end) / 2, &early) && mean_over(truth, (start + end) / 2, end + margin, &late) &&
                      fabs(early - late) < STEADY_FRAC * whole;
        if ((steady || !steady_only) && !add_point(out, &cap, (tel_calibration_point){.reading_w = s->w[i], .truth_w = whole})) return false;
    }
    return true;
}

static double truth_range(const meters_pairs *pairs) {
    double least = INFINITY, most = 0;
    for (size_t i = 0; i < pairs->n; i++) {
        least = fmin(least, pairs->points[i].truth_w);
        most = fmax(most, pairs->points[i].truth_w);
    }
    return pairs->n ? most - least : 0;
}

static int pair_up(const updates *s, const power_csv *truth, meters_pairs *out) {
    search(s, truth, out);
    if (!(out->window_s > 0)) return cli_fail("calibrate: the two recordings hardly overlap in time");
    if (!collect(s, truth, false, out)) return cli_fail("out of memory");
    double range = truth_range(out);
    if (!collect(s, truth, true, out)) return cli_fail("out of memory");
    if ((out->n < STEADY_MIN || truth_range(out) < RANGE_KEPT * range) && !collect(s, truth, false, out)) return cli_fail("out of memory");
    return CLI_GO;
}

int meters_pairs_from_recordings(const char *sensor, const char *truth, const char *column, meters_pairs *out) {
    static const char *const usual[] = {"instant_mw", "power_mw", "average_mw", NULL};
    const char *const named[] = {column, NULL};
    *out = (meters_pairs){0};
    power_csv s = {0}, t = {0};
    updates found = {0};
    int code = power_csv_read(sensor, column ? named : usual, &s);
    if (code == CLI_GO) code = power_csv_read(truth, usual, &t);
    if (code == CLI_GO) code = find_updates(&s, sensor, &found, &out->step_s);
    if (code == CLI_GO) code = pair_up(&found, &t, out);
    free(found.t_s);
    free(found.w);
    power_csv_free(&s);
    power_csv_free(&t);
    if (code != CLI_GO) meters_pairs_free(out);
    return code;
}
