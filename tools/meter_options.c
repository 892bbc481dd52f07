// See meter_options.h. Names of sources are the telemetry library's business: it refuses unknown ones with the list.
// SPDX-License-Identifier: Apache-2.0
#include "tools/meter_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool watts_of(const char *text, const char *end_expected, double *value) {
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    *value = strtod(text, &end);
    return end == end_expected && isfinite(*value);
}

static bool parse_pair(const char *text, double *idle, double *busy) {
    const char *comma = strchr(text, ',');
    return comma && watts_of(text, comma, idle) && watts_of(comma + 1, text + strlen(text), busy);
}

int cli_meter_options(const char *command, const cli_meter *given, tel_options *out) {
    *out = (tel_options){.source = given->source, .calibration_path = given->calibration, .card = given->card,
                         .interval_ns = (uint64_t)given->interval_ms * 1000000u};
    if (!given->cpu_watts) return CLI_GO;
    if (!parse_pair(given->cpu_watts, &out->cpu_idle_w, &out->cpu_busy_w))
        return cli_wrong("%s: --cpu-watts %s: must be two numbers with a comma between, IDLE,BUSY (for example 6.5,48)", command, given->cpu_watts);
    if (!(out->cpu_busy_w > out->cpu_idle_w) || out->cpu_busy_w >= 1e6)
        return cli_wrong("%s: --cpu-watts %s: busy must be more than idle, and below 1000000", command, given->cpu_watts);
    return CLI_GO;
}

int cli_meter_refused(const char *command, const char *source, const char *why) {
    return cli_wrong("%s: --meter %s: %s", command, source ? source : "auto", why);
}

int cli_meter_open(const char *command, const cli_meter *given, tel_meter **out) {
    tel_options options;
    tel_error err = {0};
    int code = cli_meter_options(command, given, &options);
    if (code != CLI_GO) return code;
    tel_result result = tel_meter_open(&options, out, &err);
    if (result == TEL_OK) return CLI_GO;
    return result == TEL_ERR_INVALID ? cli_meter_refused(command, given->source, err.message) : cli_fail("%s: %s", command, err.message);
}
