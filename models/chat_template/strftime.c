// strftime_now: the time of the rendering in Python's (that is, C's) format, in the C locale.
// SPDX-License-Identifier: Apache-2.0
#include <locale.h>
#include <string.h>
#include <time.h>

#include "models/chat_template/value.h"

static struct tm current_time(const jctx *c) {
    struct tm tm = {0};
    if (c->now) return *c->now;
    time_t now = time(NULL);
    localtime_r(&now, &tm);
    return tm;
}

// English names whatever the program's locale is.
static size_t c_strftime(char *out, size_t cap, const char *spec, const struct tm *tm) {
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale) return 0;
    size_t n = strftime_l(out, cap, spec, tm, c_locale);
    freelocale(c_locale);
    return n;
}

// One directive at a time, so that the room for each is known. Widths and flags are the C library's.
jstr *format_time(jctx *c, const jstr *format) {
    struct tm tm = current_time(c);
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < format->len;) {
        const char *percent = memchr(format->p + i, '%', format->len - i);
        size_t stop = percent ? (size_t)(percent - format->p) : format->len;
        build_part(&b, format, i, stop);
        if (!percent) break;
        size_t end = stop + 1;
        while (end < format->len && strchr("-_0^#", format->p[end])) end++;
        if (end < format->len && (format->p[end] == 'E' || format->p[end] == 'O')) end++;
        char spec[16] = "", out[256];
        bool tainted = str_tainted(format, stop, end < format->len ? end + 1 : end);
        i = end < format->len ? end + 1 : end;
        if (end >= format->len || i - stop >= sizeof spec) {
            build_part(&b, format, stop, i);
            continue;
        }
        memcpy(spec, format->p + stop, i - stop);
        if (format->p[end] == 'f') strcpy(spec, "000000"); // microseconds: the clock is not read that closely
        size_t n;
        if (format->p[end] == 'z' || format->p[end] == 'Z') n = 0; // a time without a zone, as datetime.now() is
        else n = c_strftime(out, sizeof out, spec, &tm);
        build_bytes(&b, out, n, NULL, tainted ? TAINT_ALL : TAINT_NONE);
    }
    return build_done(&b);
}
