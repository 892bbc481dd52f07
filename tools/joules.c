// Energy in words. Numbers are microjoules in doubles: exact far beyond what a machine uses in years. See joules.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/joules.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

typedef struct unit {
    const char *name;
    int exponent; // of its size in microjoules
} unit;

static unit unit_for(double uj) {
    static const unit units[] = {{"MJ", 12}, {"kJ", 9}, {"J", 6}, {"mJ", 3}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (uj >= pow(10, units[i].exponent)) return units[i];
    return (unit){"uJ", 0};
}

// Exponent of the leading digit: 3 for 1000 to 9999.
static int leading(double value) {
    int e = (int)floor(log10(value));
    return value >= pow(10, e + 1) ? e + 1 : e; // log10 may come out a hair below
}

static int decimals(unit u, int place) { return u.exponent > place ? u.exponent - place : 0; }

static double snap(double value, int place) { return round(value / pow(10, place)) * pow(10, place); }

// Outwards to the place; the small slack keeps 0.8 from becoming 0.9 by a rounding error of the division.
static double snap_up(double value, int place) { return ceil(value / pow(10, place) - 1e-9) * pow(10, place); }
static double snap_down(double value, int place) { return floor(value / pow(10, place) + 1e-9) * pow(10, place); }

static int digits_place(double value, int digits) { return value > 0 ? leading(value) - digits + 1 : 0; }

// Last decimal place that means something beside this bound: one digit of it, two where it begins with 1 or 2 (a step of that digit
// would be too coarse) or is no small part of the value.
static int bound_place(double value, double bound) {
    if (bound <= 0) return digits_place(value, 4);
    const int e = leading(bound);
    return bound < 3 * pow(10, e) || bound > value / 2 ? e - 1 : e;
}

const char *format_joules(uint64_t uj, char text[JOULES_TEXT]) {
    double value = (double)uj;
    if (uj) value = snap(value, digits_place(value, 3) > 0 ? digits_place(value, 3) : 0);
    const unit u = unit_for(value);
    const int place = uj && digits_place(value, 3) > 0 ? digits_place(value, 3) : 0;
    snprintf(text, JOULES_TEXT, "%.*f %s", u.exponent ? decimals(u, place) : 0, value / pow(10, u.exponent), uj ? u.name : "J");
    return text;
}

const char *format_joules_exact(uint64_t uj, char text[JOULES_TEXT]) {
    snprintf(text, JOULES_TEXT, "%" PRIu64 ".%06" PRIu64 " J", uj / 1000000, uj % 1000000);
    return text;
}

static const char *format_measured(double value, double bound, const char *note, char text[ENERGY_TEXT]) {
    const unit u = unit_for(value > bound ? value : bound);
    const double scale = pow(10, u.exponent);
    int place = bound_place(value, bound);
    const double shown = snap(value, place);
    // What rounding took from the value belongs into the bound.
    const double wide = bound > 0 ? snap_up(bound + fabs(shown - value), place) : 0;
    const int n = decimals(u, place);
    snprintf(text, ENERGY_TEXT, "%.*f %s +- %.*f%s", n, shown / scale, u.name, bound > 0 ? n : 0, wide / scale, note);
    return text;
}

// A bound that is no small part of the value says little: the interval itself, in the unit of its upper end.
static const char *format_below(double value, double low, double high, const char *note, char text[ENERGY_TEXT]) {
    const unit u = unit_for(high);
    const double scale = pow(10, u.exponent);
    const int high_place = digits_place(high, 2);
    int place = value > 0 && leading(value) < high_place ? leading(value) : high_place, low_place = digits_place(low, 2);
    if (place < high_place - 2) place = high_place - 2;
    if (low_place < place) low_place = place;
    const double lowest = snap_down(low, low_place);
    snprintf(text, ENERGY_TEXT, "%.*f %s (%.*f to %.*f %s)%s", decimals(u, place), snap(value, place) / scale, u.name, lowest > 0 ? decimals(u, low_place) : 0,
             lowest / scale, decimals(u, high_place), snap_up(high, high_place) / scale, u.name, note);
    return text;
}

static const char *format_modelled(double value, double low, double high, const char *note, char text[ENERGY_TEXT]) {
    const unit u = unit_for(value);
    const double scale = pow(10, u.exponent);
    const int place = digits_place(value, 2), high_place = digits_place(high, 2);
    int low_place = digits_place(low, 2);
    if (low_place < place - 2) low_place = place - 2; // a hundredth of the value's last digit is as good as nothing
    const double lowest = snap_down(low, low_place);
    snprintf(text, ENERGY_TEXT, "~%.*f %s, modelled: %.*f to %.*f %s%s", decimals(u, place), snap(value, place) / scale, u.name,
             lowest > 0 ? decimals(u, low_place) : 0, lowest / scale, decimals(u, high_place), snap_up(high, high_place) / scale, u.name,
             note);
    return text;
}

// What the reader must know beside the number.
static const char *note_of(const tel_energy *e) {
    const bool below = e->status == TEL_BELOW_RESOLUTION, disputed = e->status == TEL_DISPUTED;
    if (e->method == TEL_METHOD_REPLAYED) return below ? ", replayed, below resolution" : disputed ? ", replayed, disputed" : ", replayed";
    if (e->method == TEL_METHOD_SIMULATED) return below ? ", simulated, below resolution" : disputed ? ", simulated, disputed" : ", simulated";
    return below ? ", below resolution" : disputed ? ", disputed" : "";
}

static const char *format_scaled(const tel_energy *e, double n, char text[ENERGY_TEXT]) {
    if (e->status == TEL_UNAVAILABLE) {
        snprintf(text, ENERGY_TEXT, "unavailable - %s", e->reason ? e->reason : "no reason was given");
        return text;
    }
    if (e->status == TEL_MODELLED)
        return format_modelled((double)e->energy_uj / n, (double)e->low_uj / n, (double)e->high_uj / n, note_of(e), text);
    if (e->status == TEL_BELOW_RESOLUTION && e->high_uj >= e->energy_uj && e->high_uj)
        return format_below((double)e->energy_uj / n, (double)e->low_uj / n, (double)e->high_uj / n, note_of(e), text);
    return format_measured((double)e->energy_uj / n, (double)e->bound_uj / n, note_of(e), text);
}

const char *format_energy(const tel_energy *energy, char text[ENERGY_TEXT]) { return format_scaled(energy, 1, text); }

const char *format_energy_per(const tel_energy *energy, uint64_t n, char text[ENERGY_TEXT]) {
    if (n) return format_scaled(energy, (double)n, text);
    snprintf(text, ENERGY_TEXT, "-");
    return text;
}

const char *format_rate(const tel_energy *e, uint64_t n, char text[JOULES_TEXT]) {
    const bool modelled = e->status == TEL_MODELLED, known = modelled || e->status == TEL_MEASURED || e->status == TEL_DISPUTED;
    if (!known || !n || !e->energy_uj) {
        snprintf(text, JOULES_TEXT, "-");
        return text;
    }
    const double rate = (double)n * 1e6 / (double)e->energy_uj;
    const int place = digits_place(rate, modelled || e->bound_uj > e->energy_uj / 20 ? 2 : 3);
    snprintf(text, JOULES_TEXT, "%s%.*f", modelled ? "~" : "", place < 0 ? -place : 0, snap(rate, place));
    return text;
}
