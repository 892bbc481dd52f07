// Energy in words, for people. One place, so that every command shows the same number the same way.
//
// The bound decides the digits: none is printed that the bound makes meaningless, and the interval that is shown always contains the
// interval that is meant (bounds are rounded outwards). What is no measurement says so: modelled, replayed, simulated, disputed.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_JOULES_H
#define WTL_TOOLS_JOULES_H

#include <stddef.h>
#include <stdint.h>

#include "telemetry/telemetry.h"

enum { JOULES_TEXT = 32, ENERGY_TEXT = 256 };

// A number without a bound, three significant digits: "950 uJ", "12.3 mJ", "1.50 kJ".
const char *format_joules(uint64_t uj, char text[JOULES_TEXT]);

// Every microjoule, for sums that must be seen to add up: "1234.567890 J".
const char *format_joules_exact(uint64_t uj, char text[JOULES_TEXT]);

// "12.3 J +- 0.8", "0.3 J (0 to 1.4 J), below resolution", "~12 J, modelled: 4 to 36 J", "unavailable - no counter can be read".
const char *format_energy(const tel_energy *energy, char text[ENERGY_TEXT]);

// The same for a share of it: energy per token, or whatever `n` counts. n = 0: "-".
const char *format_energy_per(const tel_energy *energy, uint64_t n, char text[ENERGY_TEXT]);

// How many of `n` for one joule, in as many digits as the bound allows: "4.86", "~37"; "-" when unknown or below the resolution.
const char *format_rate(const tel_energy *energy, uint64_t n, char text[JOULES_TEXT]);

#endif
