// The energy of one request as JSON, in the names of the HTTP interface, and as lines for people: shared by every command that answers requests.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_ENERGY_JSON_H
#define WTL_TOOLS_ENERGY_JSON_H

#include "runtime/energy.h"
#include "tools/cli.h"

// What is not known is null, and "reason" says why. NULL: out of memory. meter may be NULL.
json_t *energy_json(const wtl_energy_report *report, tel_meter *meter);
// One figure: {"joules", "bound_joules", "low_joules", "high_joules", "status", "method", "reason", "fix", ...}.
json_t *energy_json_record(const tel_energy *energy);

// The summary below a reply, on standard error: one to three lines. scopes: "cpu_package,dram".
void energy_summary(const wtl_energy_report *report, const char *scopes);

#endif
