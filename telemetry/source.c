// What every source needs: a free place for a domain, the time, an error with a sentence. No state.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/source.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

tel_domain *tel_found_add(tel_found *found) {
    if (found->n >= TEL_DOMAINS_MAX) return NULL;
    tel_domain *domain = &found->items[found->n++];
    memset(domain, 0, sizeof *domain);
    return domain;
}

uint64_t tel_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t tel_env_now(const tel_env *env) { return env->clock.now_ns ? env->clock.now_ns(env->clock.user) : tel_monotonic_ns(); }

tel_result tel_fail(tel_error *err, tel_result code, const char *format, ...) {
    if (!err) return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return code;
}
