// See quantity.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/quantity.h"

#include <math.h>
#include <stdio.h>

static const struct prefix {
    double factor;
    const char *sign;
} prefixes[] = {{1e-6, "u"}, {1e-3, "m"}, {1, ""}, {1e3, "k"}, {1e6, "M"}};
enum { N_PREFIXES = 5, PLAIN = 2 };

// The prefix that leaves 1 to 999 in front after rounding to three digits.
static int prefix_of(double value) {
    double size = fabs(value);
    if (size == 0 || !isfinite(value)) return PLAIN;
    for (int i = 0; i < N_PREFIXES - 1; i++)
        if (size < 999.5 * prefixes[i].factor) return i;
    return N_PREFIXES - 1;
}

static int decimals(double scaled) {
    double size = fabs(scaled);
    return size == 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
}

const char *quantity_text(double value, const char *unit, char text[QUANTITY_TEXT]) {
    int i = prefix_of(value);
    double scaled = value / prefixes[i].factor;
    snprintf(text, QUANTITY_TEXT, "%.*f %s%s", decimals(scaled), scaled, prefixes[i].sign, unit);
    return text;
}

// Decimals at which a bound of this size has its first digit, or its first two when that is a 1.
static int bound_decimals(double bound) {
    if (!(bound > 0)) return 2;
    int d = (int)-floor(log10(bound) - log10(2));
    return d < 0 ? 0 : d > 3 ? 3 : d;
}

static double outwards(double value, int d, bool up) {
    double step = pow(10, -d);
    return (up ? ceil(value / step - 1e-9) : floor(value / step + 1e-9)) * step;
}

const char *quantity_interval(double value, double low, double high, const char *unit, bool two_sides, char text[QUANTITY_INTERVAL]) {
    const struct prefix *p = &prefixes[prefix_of(value)];
    double v = value / p->factor, l = low / p->factor, h = high / p->factor, bound = fmax(h - v, v - l);
    if (two_sides) {
        int d = bound_decimals(v), dl = bound_decimals(l / 10), dh = bound_decimals(h / 10);
        snprintf(text, QUANTITY_INTERVAL, "~%.*f %s%s (%.*f to %.*f)", d, v, p->sign, unit, dl, outwards(l, dl, false), dh, outwards(h, dh, true));
    } else {
        int d = bound_decimals(bound);
        double half = pow(10, -d) / 2 * (fabs(outwards(v, d, true) - v) > 1e-9); // the value is rounded too
        snprintf(text, QUANTITY_INTERVAL, "%.*f %s%s +- %.*f", d, v, p->sign, unit, d, outwards(bound + half, d, true));
    }
    return text;
}

const char *quantity_percent(double share, char text[QUANTITY_TEXT]) {
    double percent = 100 * share;
    if (percent >= 999.5) snprintf(text, QUANTITY_TEXT, "over 999 %%");
    else snprintf(text, QUANTITY_TEXT, "%.*f %%", percent < 0.095 ? 2 : percent < 9.95 ? 1 : 0, percent);
    return text;
}
