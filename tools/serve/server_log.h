// Log lines of `wattle serve` on standard error: key=value, or one JSON object each with --log-json. One line is one write, so lines of
// several threads never mix. What came over the network is quoted and escaped: no log line can be forged. No text of a message is ever logged.
//
//     server_log_line line;
//     server_log_begin(&line, json, "request");
//     server_log_text(&line, "id", id);
//     server_log_end(&line);
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_SERVER_LOG_H
#define WTL_TOOLS_SERVE_SERVER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct server_log_line {
    char text[4096]; // the last key that does not fit whole is left out, and so are those after it
    size_t n;
    bool json, full;
} server_log_line;

void server_log_begin(server_log_line *line, bool json, const char *event); // with the time, UTC
void server_log_text(server_log_line *line, const char *key, const char *value); // NULL: null
void server_log_int(server_log_line *line, const char *key, int64_t value);
void server_log_real(server_log_line *line, const char *key, double value, int decimals); // not finite: null
void server_log_bool(server_log_line *line, const char *key, bool value);
void server_log_end(server_log_line *line);

#ifdef __cplusplus
}
#endif
#endif
