// Energy records.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/telemetry.h"

const char *tel_status_name(tel_status status) {
    switch (status) {
    case TEL_UNAVAILABLE: return "unavailable";
    case TEL_MEASURED: return "measured";
    case TEL_MODELLED: return "modelled";
    case TEL_BELOW_RESOLUTION: return "below_resolution";
    case TEL_DISPUTED: return "disputed";
    }
    return "unknown";
}

tel_energy tel_energy_unavailable(const char *reason) {
    return (tel_energy){.status = TEL_UNAVAILABLE, .reason = reason};
}
