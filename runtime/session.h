// Inside of the runtime: what a session holds. session.c makes it and runs its steps; kv_file.c saves and loads what its cache finds.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_SESSION_H
#define WTL_RUNTIME_SESSION_H

#include "runtime/engine.h"
#include "runtime/kvcache.h"
#include "runtime/profile_ops.h"

// Sizes that follow from options and model, computed once for wtl_session_memory and wtl_session_open.
typedef struct session_plan {
    wtl_session_options o; // defaults filled in
    kvcache_options kv;
    wtl_kv_shape kv_shape;
    wtl_stream_limits limits;
    work_shape work;
    size_t kv_layer_bytes;
    size_t block_bytes[WTL_KV_GROUPS_MAX], pool_bytes[WTL_KV_GROUPS_MAX];
    size_t acts_bytes, index_words, logits_bytes; // logits_bytes: of the host's copy
    int32_t max_slots; // row length of block tables
} session_plan;

// Host and backend copies of what changes with every step. One piece of memory each, laid out alike.
typedef struct step_index {
    int32_t *tokens, *positions, *seqs; // [n_batch]
    int32_t *out_rows;                  // [n_logits_max]
    int32_t *table[WTL_KV_GROUPS_MAX];  // [n_seq_max, max_slots]
} step_index;

struct wtl_session {
    const wtl_engine *engine;
    session_plan plan;
    kvcache *kv;
    wtl_stream *stream;
    op_profile *profile; // NULL: nobody asked
    void *pool[WTL_KV_GROUPS_MAX];
    void *acts_memory;
    int32_t *index_memory, *index_host;
    step_index index, host;
    float *logits; // [n_logits_max, n_vocab], a copy; NULL: they are read where the step leaves them
    wtl_acts acts;
    wtl_seq_work *seq_work; // [n_seq_max]
    wtl_entry *chunk;       // [n_batch] for wtl_session_prefill
    bool *seen;             // [n_seq_max] sequences met while checking a step
    int64_t head_saved_bytes; // of the output head, by the last step; below 0 when a sketch left most of it to be read
    wtl_step_work work;
    uint64_t model_hash; // of the model's file, see kv_file.c; 0: not computed yet
};

#endif
