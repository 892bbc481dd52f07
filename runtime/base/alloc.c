// Heap and page allocation with one test hook.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/checked.h"

static wtl_alloc_hook alloc_hook; // set by tests only, see header
static void *alloc_hook_user;

void wtl_alloc_set_hook(wtl_alloc_hook hook, void *user) {
    alloc_hook = hook;
    alloc_hook_user = user;
}

static bool alloc_allowed(size_t bytes) { return !alloc_hook || alloc_hook(alloc_hook_user, bytes); }

void *wtl_malloc(size_t bytes) { return alloc_allowed(bytes) ? malloc(bytes ? bytes : 1) : NULL; }

void *wtl_calloc(size_t count, size_t bytes) {
    size_t total;
    if (!wtl_mul_size(count, bytes, &total) || !alloc_allowed(total)) return NULL;
    return calloc(1, total ? total : 1);
}

void *wtl_realloc(void *p, size_t bytes) { return alloc_allowed(bytes) ? realloc(p, bytes ? bytes : 1) : NULL; }

char *wtl_strndup(const char *s, size_t len) {
    size_t total;
    if (!wtl_add_size(len, 1, &total)) return NULL;
    char *copy = wtl_malloc(total);
    if (!copy) return NULL;
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void wtl_free(void *p) { free(p); }

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define PAGE_BYTES ((size_t)4096)

// Length of the mapping behind a request: both alloc and free compute it, so no header is needed.
static bool pages_length(size_t bytes, size_t *length) {
    return wtl_align_size(bytes ? bytes : 1, bytes >= 2 * HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES, length);
}

void *wtl_pages_alloc(size_t bytes) {
    size_t length, padded;
    if (!pages_length(bytes, &length) || !alloc_allowed(length)) return NULL;
    bool huge = bytes >= 2 * HUGE_PAGE_BYTES;
    if (!wtl_add_size(length, huge ? HUGE_PAGE_BYTES : 0, &padded)) return NULL;
    char *raw = mmap(NULL, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    if (!huge) return raw;
    // Trim to a 2 MiB boundary so that every huge page lies inside the mapping.
    size_t skip = (HUGE_PAGE_BYTES - ((uintptr_t)raw & (HUGE_PAGE_BYTES - 1))) & (HUGE_PAGE_BYTES - 1);
    if (skip) munmap(raw, skip);
    if (padded - skip > length) munmap(raw + skip + length, padded - skip - length);
#ifdef MADV_HUGEPAGE
    madvise(raw + skip, length, MADV_HUGEPAGE); // a hint: refusal costs speed only
#endif
    return raw + skip;
}

void wtl_pages_free(void *p, size_t bytes) {
    size_t length;
    if (p && pages_length(bytes, &length)) munmap(p, length);
}
