// See large_bytes.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/large_bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *take(size_t cap) {
    if (cap < LARGE_BYTES) return malloc(cap);
    void *pages = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

void large_free(void *bytes, size_t cap) {
    if (cap < LARGE_BYTES) free(bytes);
    else munmap(bytes, cap);
}

void *large_resize(void *bytes, size_t cap, size_t new_cap) {
    if (cap < LARGE_BYTES && new_cap < LARGE_BYTES) return realloc(bytes, new_cap);
    if (cap >= LARGE_BYTES && new_cap >= LARGE_BYTES) {
        void *moved = mremap(bytes, cap, new_cap, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    void *fresh = take(new_cap);
    if (!fresh) return NULL;
    if (cap) memcpy(fresh, bytes, cap < new_cap ? cap : new_cap);
    large_free(bytes, cap);
    return fresh;
}
