// Names and sentences of status codes; formatting of error detail.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *wtl_status_name(wtl_status status) {
    switch (status) {
#define WTL_STATUS_CASE(name, value, sentence) \
    case WTL_##name: return "WTL_" #name;
        WTL_STATUS_LIST(WTL_STATUS_CASE)
#undef WTL_STATUS_CASE
    }
    return "WTL_ERR_UNKNOWN";
}

const char *wtl_status_text(wtl_status status) {
    switch (status) {
#define WTL_STATUS_CASE(name, value, sentence) \
    case WTL_##name: return sentence;
        WTL_STATUS_LIST(WTL_STATUS_CASE)
#undef WTL_STATUS_CASE
    }
    return "unknown status code";
}

wtl_status wtl_fail(wtl_error *err, wtl_status status, const char *format, ...) {
    if (!err) return status;
    err->status = status;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (n < 0) err->message[0] = '\0';
    size_t len = strlen(err->message);
    if (n >= (int)sizeof err->message) {
        // Cut: step back over continuation bytes and the lead byte whose tail was lost.
        while (len > 0 && ((unsigned char)err->message[len - 1] & 0xC0) == 0x80) len--;
        if (len > 0 && (unsigned char)err->message[len - 1] >= 0xC0) len--;
        err->message[len] = '\0';
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)err->message[i];
        if (c < 0x20 || c == 0x7F) err->message[i] = '?';
    }
    return status;
}
