// Energy records: what an energy number is here. Stands alone: includes nothing of the rest, usable without it.
//
// A number of joules is never a bare double. It carries a bound, how it was obtained and what it covers; an unknown one is a
// status with a reason, never 0.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_TELEMETRY_H
#define TEL_TELEMETRY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tel_status {
    TEL_UNAVAILABLE = 0, // zero-initialised records are unavailable, not zero joules
    TEL_MEASURED,
    TEL_MODELLED,
    TEL_BELOW_RESOLUTION, // the bound is wider than half of the value
    TEL_DISPUTED,         // two sources disagree beyond their joint bound
} tel_status;

// Energy of one window. energy_uj and bound_uj mean nothing while status is TEL_UNAVAILABLE.
typedef struct tel_energy {
    tel_status status;
    uint64_t energy_uj;
    uint64_t bound_uj;   // the truth lies within +- this in at least 99 % of windows
    const char *reason;  // static sentence, set when unavailable
} tel_energy;

const char *tel_status_name(tel_status status); // "unavailable", "measured", ...

// A record that says why there is no number. reason is a static string.
tel_energy tel_energy_unavailable(const char *reason);

#ifdef __cplusplus
}
#endif
#endif
