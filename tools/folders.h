// Where things of this user lie, and making the way to them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_FOLDERS_H
#define WTL_TOOLS_FOLDERS_H

#include <stddef.h>
#include <sys/types.h>

// ${XDG_CACHE_HOME:-~/.cache}/wattle and ${XDG_STATE_HOME:-~/.local/state}/wattle, malloc'ed; NULL when there is no home directory.
char *folder_cache(void);
char *folder_state(void);
// Makes `path` and what is missing above it. 0, or errno with the folder that could not be made in failed[cap) (may be NULL).
int folder_make(const char *path, mode_t mode, char *failed, size_t cap);

#endif
