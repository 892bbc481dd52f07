// Days as people write them, to moments in UTC. Local midnights, so that a day with a clock change has its 23 or 25 hours.
// SPDX-License-Identifier: Apache-2.0
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/ledger_query.h"

enum { DAYS_MAX = 36500 };

// Local midnight `shift` days after the day of *day. False: not on the calendar (month 13, 30 February).
static bool midnight(struct tm day, int shift, int64_t *ms) {
    struct tm exact = {.tm_year = day.tm_year, .tm_mon = day.tm_mon, .tm_mday = day.tm_mday, .tm_hour = 12, .tm_isdst = -1};
    if (mktime(&exact) == (time_t)-1 || exact.tm_mday != day.tm_mday || exact.tm_mon != day.tm_mon) return false;
    struct tm t = {.tm_year = day.tm_year, .tm_mon = day.tm_mon, .tm_mday = day.tm_mday + shift, .tm_isdst = -1};
    const time_t seconds = mktime(&t);
    *ms = (int64_t)seconds * 1000;
    return seconds != (time_t)-1;
}

// Exactly YYYY-MM-DD.
static bool parse_day(const char *text, struct tm *day) {
    static const char form[] = "dddd-dd-dd";
    if (strlen(text) != sizeof form - 1) return false;
    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i]) return false;
    *day = (struct tm){.tm_year = atoi(text) - 1900, .tm_mon = atoi(text + 5) - 1, .tm_mday = atoi(text + 8)};
    return day->tm_year >= 70 && day->tm_mon >= 0 && day->tm_mon < 12 && day->tm_mday >= 1;
}

bool ledger_parse_since(const char *text, int64_t now_ms, int64_t *from_ms) {
    struct tm day;
    if (strcmp(text, "all") == 0) {
        *from_ms = INT64_MIN;
        return true;
    }
    if (parse_day(text, &day)) return midnight(day, 0, from_ms);
    char *end = NULL;
    const long n = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
    if (n < 1 || n > DAYS_MAX || strcmp(end, "d") != 0) return false;
    const time_t now = (time_t)(now_ms / 1000);
    return localtime_r(&now, &day) && midnight(day, 1 - (int)n, from_ms);
}

bool ledger_parse_until(const char *text, int64_t *to_ms) {
    struct tm day;
    *to_ms = INT64_MAX;
    if (!text || strcmp(text, "all") == 0) return true;
    return parse_day(text, &day) && midnight(day, 1, to_ms);
}
