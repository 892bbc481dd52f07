// Numbers with units, as people read them: three digits and a prefix ("12.3 W", "812 mJ", "9.00 us"), shares in percent.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_QUANTITY_H
#define WTL_TOOLS_QUANTITY_H

#include <stdbool.h>

enum { QUANTITY_TEXT = 32 };

// value in the plain unit ("W", "J", "s"). Prefixes u, m, none, k, M. Returns text.
const char *quantity_text(double value, const char *unit, char text[QUANTITY_TEXT]);
// A value and the interval of the truth, "11.8 W +- 0.7" or, where the sides are not alike, "~1.5 W (0.47 to 4.8)". The bound decides the digits and is
// rounded outwards, so that the interval shown contains the one meant. two_sides: the second form.
enum { QUANTITY_INTERVAL = 96 };
const char *quantity_interval(double value, double low, double high, const char *unit, bool two_sides, char text[QUANTITY_INTERVAL]);
// 0.0213 -> "2.1 %"; from 10 % on without decimals.
const char *quantity_percent(double share, char text[QUANTITY_TEXT]);

#endif
