// Overflow-checked size arithmetic. Every size that comes from a file, a request or an option goes through here.
// Each function stores the result and returns true, or returns false and leaves *out untouched.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_BASE_CHECKED_H
#define WTL_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool wtl_add_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool wtl_mul_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool wtl_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool wtl_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

// a rounded up to a multiple of align, a power of two.
static inline bool wtl_align_size(size_t a, size_t align, size_t *out) {
    size_t r;
    if (!wtl_add_size(a, align - 1, &r)) return false;
    *out = r & ~(align - 1);
    return true;
}

#endif
