// Inside of the runtime: what an engine holds. Immutable after wtl_engine_open.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENGINE_H
#define WTL_RUNTIME_ENGINE_H

#include <time.h>

#include "models/gguf.h"
#include "models/model.h"
#include "runtime/wattle.h"
#include "runtime/work.h"

struct wtl_engine {
    gguf_file *file; // kept only while weights borrow from it
    wtl_vocab *vocab;
    wtl_backend *be;
    wtl_model *model;
    char *name; // general.name or ""
    uint64_t file_bytes;
    bool deterministic;
    int32_t n_threads_decode; // 1 .. be->n_threads
    int model_fd;             // the file again, for kv_file.c to tell models apart; -1: could not be opened twice
    struct timespec modified; // when it was last written, at opening
};

bool engine_kv_type_exists(wtl_kv_type kv_type);
wtl_kv_shape engine_kv_shape(const wtl_engine *engine, wtl_kv_type kv_type); // of a type that exists

// Sizes from which the work of a step follows, with KV of that type.
work_shape engine_work_shape(const wtl_engine *engine, wtl_kv_type kv_type);

#endif
