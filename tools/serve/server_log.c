// See server_log.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/server_log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TAIL = 4 }; // "}\n" and the terminator

static bool append(server_log_line *l, const char *bytes, size_t len) {
    if (l->n + len + TAIL > sizeof l->text) l->full = true;
    if (l->full) return false;
    memcpy(l->text + l->n, bytes, len);
    l->n += len;
    return true;
}

static void put(server_log_line *l, const char *text) { append(l, text, strlen(text)); }

static void put_quoted(server_log_line *l, const char *value) {
    append(l, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        char escaped[8];
        const bool c1 = c[0] == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0; // control characters of two bytes
        if (*c == '"' || *c == '\\') snprintf(escaped, sizeof escaped, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7F) snprintf(escaped, sizeof escaped, "\\u%04x", *c);
        else if (c1) snprintf(escaped, sizeof escaped, "\\u%04x", *++c);
        else snprintf(escaped, sizeof escaped, "%c", *c);
        put(l, escaped);
    }
    append(l, "\"", 1);
}

// Words that need no quotes in key=value.
static bool is_plain(const char *value) {
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7F || strchr("\"'=\\", *c)) return false;
    return *value && strcmp(value, "null") != 0;
}

// All or nothing of one key: what did not fit is cut off again.
static void put_pair(server_log_line *l, const char *key, const char *value, bool text) {
    const size_t before = l->n;
    if (l->json) {
        put(l, before > 1 ? ", \"" : "\"");
        put(l, key);
        put(l, "\": ");
    } else {
        if (before) put(l, " ");
        put(l, key);
        put(l, "=");
    }
    if (text && (l->json || !is_plain(value))) put_quoted(l, value);
    else put(l, value);
    if (l->full) l->n = before;
}

void server_log_begin(server_log_line *l, bool json, const char *event) {
    *l = (server_log_line){.json = json};
    if (json) put(l, "{");
    struct timespec now;
    struct tm utc;
    char day[32], stamp[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp, sizeof stamp, "%s.%03ldZ", day, now.tv_nsec / 1000000);
    server_log_text(l, "time", stamp);
    server_log_text(l, "event", event);
}

void server_log_text(server_log_line *l, const char *key, const char *value) { put_pair(l, key, value ? value : "null", value != NULL); }

void server_log_int(server_log_line *l, const char *key, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    put_pair(l, key, text, false);
}

void server_log_real(server_log_line *l, const char *key, double value, int decimals) {
    char text[400] = "null";
    if (isfinite(value)) snprintf(text, sizeof text, "%.*f", decimals, value);
    put_pair(l, key, text, false);
}

void server_log_bool(server_log_line *l, const char *key, bool value) { put_pair(l, key, value ? "true" : "false", false); }

void server_log_end(server_log_line *l) {
    if (l->json) l->text[l->n++] = '}';
    l->text[l->n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l->text, l->n); // nobody reads the log: nothing to do about it
    (void)ignored;
}
