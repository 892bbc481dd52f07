// Inside of the runtime: operations of one stream, timed. See profile.h and profile.c.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_PROFILE_OPS_H
#define WTL_RUNTIME_PROFILE_OPS_H

#include "models/model.h"
#include "runtime/profile.h"

typedef struct op_profile op_profile;

// From here on the stream's operations are timed. The model tells which matrix is which, kv what attention multiplies. NULL when out of memory: nothing has changed.
op_profile *op_profile_open(wtl_stream *stream, const wtl_model *model, wtl_dtype kv);
void op_profile_close(op_profile *profile); // after the stream; accepts NULL
// After a step that succeeded: counts it, and what only the session knows (KV that attention read).
void op_profile_step(op_profile *profile, const wtl_step_work *work);

#endif
