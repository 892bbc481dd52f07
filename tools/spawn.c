// Child processes for `wattle fetch`. See spawn.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli.h"

extern char **environ;

// What a memory file holds, as a terminated string; "" when there is no file or no memory.
static char *contents(int fd) {
    struct stat st;
    size_t len = fd >= 0 && fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
    char *text = malloc(len + 1);
    if (!text) return NULL;
    ssize_t got = len > 0 ? pread(fd, text, len, 0) : 0;
    text[got > 0 ? got : 0] = '\0';
    return text;
}

void spawn_run(const char *const argv[], unsigned flags, spawn_result *result) {
    // Memory files need no reader while the child runs, as pipes would.
    int out = flags & SPAWN_KEEP_OUT ? memfd_create("out", MFD_CLOEXEC) : -1;
    int err = flags & SPAWN_KEEP_ERR ? memfd_create("err", MFD_CLOEXEC) : -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out >= 0 ? out : STDERR_FILENO, STDOUT_FILENO);
    if (err >= 0) posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); // ignored here, not there
    sigaddset(&defaults, SIGXFSZ);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

    pid_t child;
    int status = 0;
    if (posix_spawnp(&child, argv[0], &actions, &attributes, (char *const *)argv, environ) != 0) {
        result->code = 127;
    } else {
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            if (cli_interrupted()) kill(child, SIGTERM); // the signal may have been sent to this process alone
        result->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    result->out = contents(out);
    result->err = contents(err);
    if (out >= 0) close(out);
    if (err >= 0) close(err);
    if (!result->out || !result->err) {
        spawn_free(result);
        result->code = 127;
        result->out = strdup("");
        result->err = strdup("");
    }
}

void spawn_free(spawn_result *result) {
    free(result->out);
    free(result->err);
    result->out = result->err = NULL;
}
