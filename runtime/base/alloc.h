// All heap memory of the library goes through here, so that tests can count allocations and fail the n-th one.
//
// wtl_malloc and friends are for bookkeeping. wtl_pages is for large, page-aligned, zeroed memory (weights, KV blocks,
// scratch): mapped lazily, huge pages where the kernel gives them. Any thread may call everything but wtl_alloc_set_hook.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_BASE_ALLOC_H
#define WTL_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// NULL when out of memory or when the hook refuses. A size of 0 gives a unique pointer that can be freed.
void *wtl_malloc(size_t bytes);
void *wtl_calloc(size_t count, size_t bytes); // overflow-checked, zeroed
void *wtl_realloc(void *p, size_t bytes);     // p keeps its contents when NULL is returned
char *wtl_strndup(const char *s, size_t len); // terminated copy
void wtl_free(void *p);                       // accepts NULL

// Zeroed memory of at least `bytes`, aligned to 4096 (2 MiB for mappings of 4 MiB and more, where huge pages help).
void *wtl_pages_alloc(size_t bytes);
void wtl_pages_free(void *p, size_t bytes); // same size as at allocation; accepts NULL

// Test hook: called before every allocation with the size; returning false makes that allocation fail.
// Set it only while no other thread is inside the library. NULL restores the default.
typedef bool (*wtl_alloc_hook)(void *user, size_t bytes);
void wtl_alloc_set_hook(wtl_alloc_hook hook, void *user);

#ifdef __cplusplus
}
#endif
#endif
