// The options of every command that opens a meter, spelt and explained alike, and the opening itself.
//
// A command keeps one cli_meter, puts CLI_OPTIONS_METER(&it) into its table and calls cli_meter_open() after cli_parse(). Failures are one
// sentence: a wrong value is wrong usage, a source that cannot be read is a failure.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_METER_OPTIONS_H
#define WTL_TOOLS_METER_OPTIONS_H

#include "telemetry/telemetry.h"
#include "tools/cli.h"

typedef struct cli_meter { // zero: automatic
    const char *source, *cpu_watts, *calibration, *card;
    int64_t interval_ms;
} cli_meter;

#define CLI_OPTIONS_METER(m) \
    {.name = "meter", .kind = CLI_STRING, .value = &(m)->source, .arg = "SOURCE", \
     .help = "auto, require (fail without a real one), none, model, perf, powercap, nvml, hwmon, battery, replay:FILE or simulated:WATTS"}, \
    {.name = "cpu-watts", .kind = CLI_STRING, .value = &(m)->cpu_watts, .arg = "IDLE,BUSY", \
     .help = "watts of this machine idle and with all cores busy, measured by you: a narrower model where no counter can be read"}, \
    {.name = "calibration", .kind = CLI_STRING, .value = &(m)->calibration, .arg = "FILE", \
     .help = "gain and offset of the sensors, from `wattle meters calibrate`"}, \
    {.name = "card", .kind = CLI_STRING, .value = &(m)->card, .arg = "NAME", \
     .help = "name of the device that a replayed recording is from (\"NVIDIA A100-PCIE-40GB\")"}, \
    {.name = "meter-interval", .kind = CLI_INT, .value = &(m)->interval_ms, .arg = "MS", .min = 1, .max = 60000, \
     .help = "milliseconds between two samples (default: by the source)"}

// Checks the values and fills *out, which borrows the strings. `command` is for the messages: "run". CLI_GO or CLI_USAGE.
int cli_meter_options(const char *command, const cli_meter *given, tel_options *out);
// The same and tel_meter_open. CLI_GO, CLI_USAGE or CLI_FAILED.
int cli_meter_open(const char *command, const cli_meter *given, tel_meter **out);
// The sentence for a source (NULL: none was named) that telemetry refuses as no source at all. CLI_USAGE.
int cli_meter_refused(const char *command, const char *source, const char *why);

#endif
