// Status codes and error detail: the one list from which codes, names and sentences come.
//
// Every fallible function of wattle returns wtl_status (0 is success) and takes an optional wtl_error, which the
// caller owns. wtl_fail() fills it with a sentence that names the place (file, key, tensor, byte offset, option).
// Library code never prints, exits or aborts; this is how a failure reaches a person.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_BASE_STATUS_H
#define WTL_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

// X(name, value, sentence). Values are part of the ABI: append, never renumber.
#define WTL_STATUS_LIST(X)                                                    \
    X(OK, 0, "success")                                                       \
    X(ERR_INVALID, -1, "a function was called with an argument it forbids")    \
    X(ERR_NO_MEMORY, -2, "out of memory")                                     \
    X(ERR_IO, -3, "reading or writing a file failed")                         \
    X(ERR_NOT_FOUND, -4, "no such file or entry")                             \
    X(ERR_FORMAT, -5, "the file is damaged or not what it should be")          \
    X(ERR_UNSUPPORTED, -6, "the file or request asks for something unsupported") \
    X(ERR_LIMIT, -7, "a size limit was exceeded")                             \
    X(ERR_KV_FULL, -8, "the KV cache has no free block")                      \
    X(ERR_DEVICE, -9, "the device or its driver reported a failure")           \
    X(ERR_CANCELLED, -10, "the caller asked to stop")                         \
    X(ERR_BUSY, -11, "there is no room now; the same call may succeed later")

typedef enum wtl_status {
#define WTL_STATUS_ENUM(name, value, sentence) WTL_##name = (value),
    WTL_STATUS_LIST(WTL_STATUS_ENUM)
#undef WTL_STATUS_ENUM
} wtl_status;

// Where and why a call failed. Zero-initialise or not: wtl_fail() overwrites it. Untouched on success.
typedef struct wtl_error {
    wtl_status status;
    char message[512]; // one sentence, no newline, UTF-8, always terminated
} wtl_error;

// Short symbolic name ("WTL_ERR_FORMAT") and general sentence of a code. Static strings, any thread.
const char *wtl_status_name(wtl_status status);
const char *wtl_status_text(wtl_status status);

// Fills *err (when not NULL) from a printf format and returns status, so that `return wtl_fail(err, ...)` reads well.
// Truncates at a UTF-8 character boundary; control bytes (hostile names from files) become '?'.
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
wtl_status wtl_fail(wtl_error *err, wtl_status status, const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
