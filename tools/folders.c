// Folders of the XDG base directory specification.
// SPDX-License-Identifier: Apache-2.0
#include "tools/folders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *xdg(const char *variable, const char *below_home) {
    const char *base = getenv(variable), *home = getenv("HOME");
    char *path = NULL;
    int n = -1;
    if (base && base[0] == '/') n = asprintf(&path, "%s/wattle", base); // the specification ignores relative paths
    else if (home && *home) n = asprintf(&path, "%s/%s/wattle", home, below_home);
    return n < 0 ? NULL : path;
}

char *folder_cache(void) { return xdg("XDG_CACHE_HOME", ".cache"); }
char *folder_state(void) { return xdg("XDG_STATE_HOME", ".local/state"); }

int folder_make(const char *path, mode_t mode, char *failed, size_t cap) {
    char *copy = strdup(path);
    if (!copy) return ENOMEM;
    int error = 0;
    for (char *p = copy + 1;; p++) {
        if (*p && *p != '/') continue;
        char held = *p;
        *p = '\0';
        // A folder that is there may refuse mkdir for another reason than being there (a read-only file system).
        if (mkdir(copy, mode) != 0 && errno != EEXIST) {
            int of_mkdir = errno;
            if (access(copy, X_OK) != 0) error = of_mkdir;
        }
        if (error && failed) snprintf(failed, cap, "%s", copy);
        if (error || !held) break;
        *p = held;
    }
    free(copy);
    return error;
}
