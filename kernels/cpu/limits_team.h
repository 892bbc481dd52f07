// Threads for measuring: each bound to a core of its own, all started at the same moment, none ever asleep while the team lives.
//
// The pool of the backend is made for work: a late worker's share is done by the caller, and the kernel may wake two threads on one core.
// What a machine can do at most needs neither.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_LIMITS_TEAM_H
#define WTL_KERNELS_CPU_LIMITS_TEAM_H

#include "kernels/cpu/cpu.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct limits_team limits_team;

// n_threads with the caller, which is bound, too, until the team closes. Physical cores first. Errors: INVALID, NO_MEMORY.
wtl_status limits_team_open(int32_t n_threads, limits_team **out, wtl_error *err);
void limits_team_close(limits_team **team); // accepts NULL
// Runs job(ctx, i, n) once on every thread. Nanoseconds from the first that began to the last that ended.
uint64_t limits_team_run(limits_team *team, cpu_job job, void *ctx);

#ifdef __cplusplus
}
#endif
#endif
