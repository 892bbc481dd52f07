// Runs another program by its argument list, never through a shell, and waits for it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SPAWN_H
#define WTL_TOOLS_SPAWN_H

enum {
    SPAWN_KEEP_OUT = 1, // standard output into result.out; otherwise it joins our standard error
    SPAWN_KEEP_ERR = 2, // standard error into result.err; otherwise it is ours
};

typedef struct spawn_result {
    int code;        // exit code; 128 + signal when killed; 127 when the program is not installed
    char *out, *err; // malloc'ed, terminated, never NULL after spawn_run; "" where not kept
} spawn_result;

// argv[0] is looked up in PATH; the list ends with NULL. Standard input is empty. Free the result in every case.
void spawn_run(const char *const argv[], unsigned flags, spawn_result *result);
void spawn_free(spawn_result *result);

#endif
