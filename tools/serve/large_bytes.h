// Memory of buffers that may become large: below LARGE_BYTES from malloc, from there on in pages of their own.
//
// Such pages go back to the system when they are freed. malloc would serve a large buffer from what its arena has left of an earlier worst
// moment, and a small piece that is taken behind it keeps all of that resident. Who frees or resizes says how large the buffer is.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_LARGE_BYTES_H
#define WTL_TOOLS_SERVE_LARGE_BYTES_H

#include <stddef.h>

enum { LARGE_BYTES = 256 << 10 };

// As realloc: bytes [cap], or NULL and 0, becomes [new_cap], new_cap > 0. NULL: out of memory, bytes stay as they are. Owns: caller frees.
// Thread: any.
void *large_resize(void *bytes, size_t cap, size_t new_cap);
void large_free(void *bytes, size_t cap); // accepts NULL

#endif
