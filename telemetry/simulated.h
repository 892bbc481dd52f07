// Inside telemetry: the option of the simulated load. What "simulated:cpu:" is followed by: "IDLE,BUSY", both watts.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_SIMULATED_H
#define TEL_SIMULATED_H

#include "telemetry/source.h"

bool tel_simulated_parse(const char *option, double *idle_w, double *busy_w);

#endif
