// How many threads a model gets when nobody says: from the profile that `wattle bench --calibrate` wrote, else the engine's own default.
//
// The profile is one JSON object in ${XDG_STATE_HOME:-~/.local/state}/wattle/threads.json. It counts only on the machine that it was measured
// on: the same processor and as many cores for this process.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_THREAD_PROFILE_H
#define WTL_TOOLS_THREAD_PROFILE_H

#include "runtime/wattle.h"
#include "tools/cli.h"

typedef struct thread_profile {
    char cpu[128];  // name of the processor
    int32_t n_cores, n_prefill, n_decode; // cores: wtl_cpu_threads() then; 1 <= n_prefill, n_decode <= n_cores
    char time[32];  // UTC, when it was measured
    char reason[320];
} thread_profile;

// Saves atomically. CLI_GO, or CLI_FAILED after a message; path as it is shown, malloc'ed, in *path.
int thread_profile_save(const thread_profile *profile, char **path);
// False when there is none, it cannot be read, or it is of another machine; why (may be NULL) then says which, "" for none.
bool thread_profile_load(thread_profile *out, char *why, size_t cap);

enum { THREADS_REASON = 512 };
// Sets the engine's thread counts: `asked` of -t (0: not given), else the profile's, else none. reason says why, a sentence without a full stop.
void thread_profile_apply(int64_t asked, wtl_engine_options *engine, char reason[THREADS_REASON]);

// {"prefill", "decode", "reason"} of an open engine.
json_t *thread_profile_json(const wtl_engine *engine, const char *reason);

#endif
