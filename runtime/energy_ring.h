// Inside of the runtime: stamps of steps on their way from the thread that runs steps to the thread that books joules.
//
// A lock-free ring with one producer and one consumer. A step takes one header slot and one slot per sequence, all of 64 bytes; it is
// published whole or not at all. When it does not fit it is dropped, counted, and the stretch of time is remembered, so that nobody
// takes dropped work for idleness. Slots stay with the consumer until it releases them: the ring is also the store of steps whose
// joules have not settled, and the consumer may write into the slots it holds.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_RING_H
#define WTL_RUNTIME_ENERGY_RING_H

#include "runtime/wattle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct energy_stamp {
    uint64_t start_ns, end_ns;
    uint64_t weight_bytes;
    uint64_t cpu_ns;         // CPU time of the process that belongs to this step
    uint64_t n_dropped;      // stamps dropped before this one
    uint64_t dropped_from_ns; // since the stamp before: where the dropped ones began; 0: none were
    // Found by the consumer: the pause before this step, when it belongs to requests; 0: it does not.
    uint64_t pause_ns;
    int32_t n_seqs;
    int32_t n_pausing; // sequences that it is shared by
} energy_stamp;

// Where the tokens of a sequence belong, found by the consumer.
typedef enum energy_phase { ENERGY_PREFILL, ENERGY_DECODE } energy_phase;

typedef struct energy_seq_stamp {
    uint64_t request; // 0: nobody
    uint64_t macs;
    uint64_t kv_read_bytes, kv_written_bytes;
    int32_t n_new_tok, n_past_tok, n_logits;
    // Filled in by the consumer.
    int16_t phase;
    int16_t pause_phase; // that the pause before the step belongs to; -1: no part of the pause is this sequence's
    uint64_t cached_macs, cached_kv_bytes; // the part of attention that goes to cached positions
} energy_seq_stamp;

typedef union energy_slot {
    energy_stamp step;
    energy_seq_stamp seq;
    uint64_t words[8];
} energy_slot;

typedef struct energy_ring energy_ring;

// n_slots is rounded up to a power of two. NULL when memory is short.
energy_ring *energy_ring_open(uint32_t n_slots);
void energy_ring_close(energy_ring *ring); // accepts NULL

// Producer: the step and its sequences; requests[i] belongs to work->seqs[i]. Never waits. False: dropped.
bool energy_ring_push(energy_ring *ring, const wtl_step_work *work, const uint64_t *requests, uint64_t cpu_ns);
// Producer: a step begins (pushing it ends it), and it came to nothing. now_ns() is asked after the consumer has been warned.
void energy_ring_start(energy_ring *ring, uint64_t (*now_ns)(void *user), void *user);
void energy_ring_fail(energy_ring *ring);
// Share of the slots in use, as the producer sees it.
double energy_ring_fill(const energy_ring *ring);

// Consumer, before it looks at the head: a step that begins later than this call is not in what it returns. *told: the producer says when
// steps begin. 0: none is running; else its start, or a moment before it.
uint64_t energy_ring_running(const energy_ring *ring, bool *told);
uint64_t energy_ring_size(const energy_ring *ring);
// Consumer: slots [tail, head) are published. Indices count slots since opening and never wrap.
uint64_t energy_ring_head(const energy_ring *ring);
uint64_t energy_ring_tail(const energy_ring *ring);
energy_slot *energy_ring_slot(energy_ring *ring, uint64_t index);
void energy_ring_release(energy_ring *ring, uint64_t index); // gives back every slot before index
uint64_t energy_ring_dropped(const energy_ring *ring, uint64_t *until_ns); // any thread; until_ns: end of the last dropped step

#ifdef __cplusplus
}
#endif
#endif
