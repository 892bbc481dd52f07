// Where a session's time goes: calls, time, bytes and multiply-adds of every operation. Public beside wattle.h.
//
// A session opened with .profile times each operation of its backend; without it nothing is in the way. Operations run inside their calls on
// all backends there are (cpu, ref), so times are those of the work. Timing one costs about 50 ns, a thousandth of a decode step.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_PROFILE_H
#define WTL_RUNTIME_PROFILE_H

#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_op_profile {
    const char *name; // "matmul gate, up", "attention"; static
    uint64_t n_calls, ns;
    uint64_t bytes;   // weights, KV and activations, each operand once
    uint64_t macs;    // multiply-adds of matrices and of attention; 0 for all others
    // Of macs, those that are not of the weights' kind but of attention, whose operands are those of the KV cache.
    uint64_t int8_macs, int16_macs, f32_macs;
} wtl_op_profile;

typedef struct wtl_profile {
    uint64_t n_steps, step_ns; // that succeeded; their time as in wtl_step_work
} wtl_profile;

// Sums since opening or the last reset, most expensive first. Writes at most cap operations that were called, and returns how many there are;
// 0 for a session without .profile. Thread: that of the session.
size_t wtl_session_profile(const wtl_session *session, wtl_profile *totals, wtl_op_profile *ops, size_t cap);
void wtl_session_profile_reset(wtl_session *session);

#ifdef __cplusplus
}
#endif
#endif
