// The ring of step stamps. Index arithmetic only: the memory order is release on publishing, acquire on taking.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_ring.h"

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "runtime/base/alloc.h"

static_assert(sizeof(energy_slot) == 64, "a slot is a cache line");

enum { SLOTS_MIN = 64, SLOTS_MAX = 1 << 24 };

struct energy_ring {
    energy_slot *slots; // [mask + 1]
    uint64_t mask;
    // The producer's line.
    alignas(64) _Atomic uint64_t head;
    uint64_t tail_seen;       // the consumer's tail as last read
    uint64_t dropped_from_ns; // of the drops not yet told in a stamp
    _Atomic uint64_t n_dropped, dropped_until_ns;
    _Atomic uint64_t running_ns;
    _Atomic bool told;
    // The consumer's line.
    alignas(64) _Atomic uint64_t tail;
};

energy_ring *energy_ring_open(uint32_t n_slots) {
    uint64_t n = SLOTS_MIN;
    while (n < n_slots && n < SLOTS_MAX) n *= 2;
    energy_ring *ring = wtl_pages_alloc(sizeof *ring);
    if (!ring) return NULL;
    ring->mask = n - 1;
    ring->slots = wtl_pages_alloc((size_t)n * sizeof *ring->slots); // mapped as it is used
    if (!ring->slots) {
        wtl_pages_free(ring, sizeof *ring);
        return NULL;
    }
    return ring;
}

void energy_ring_close(energy_ring *ring) {
    if (!ring) return;
    wtl_pages_free(ring->slots, (size_t)(ring->mask + 1) * sizeof *ring->slots);
    wtl_pages_free(ring, sizeof *ring);
}

void energy_ring_start(energy_ring *ring, uint64_t (*now_ns)(void *user), void *user) {
    atomic_store(&ring->running_ns, 1); // sequentially consistent: whoever still reads 0 has read an earlier clock
    atomic_store_explicit(&ring->told, true, memory_order_relaxed);
    atomic_store_explicit(&ring->running_ns, now_ns(user), memory_order_release);
}

void energy_ring_fail(energy_ring *ring) { atomic_store_explicit(&ring->running_ns, 0, memory_order_release); }

uint64_t energy_ring_running(const energy_ring *ring, bool *told) {
    const uint64_t running = atomic_load(&ring->running_ns);
    *told = atomic_load_explicit(&ring->told, memory_order_relaxed);
    return running;
}

uint64_t energy_ring_size(const energy_ring *ring) { return ring->mask + 1; }

static bool drop(energy_ring *ring, const wtl_step_work *work) {
    if (!ring->dropped_from_ns) ring->dropped_from_ns = work->start_ns;
    atomic_store_explicit(&ring->dropped_until_ns, work->end_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&ring->n_dropped, 1, memory_order_release);
    atomic_store_explicit(&ring->running_ns, 0, memory_order_release);
    return false;
}

bool energy_ring_push(energy_ring *ring, const wtl_step_work *work, const uint64_t *requests, uint64_t cpu_ns) {
    const uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed), need = 1 + (uint64_t)work->n_seqs;
    if (head + need - ring->tail_seen > ring->mask + 1) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head + need - ring->tail_seen > ring->mask + 1) return drop(ring, work);
    }
    energy_ring_slot(ring, head)->step = (energy_stamp){
        .start_ns = work->start_ns,
        .end_ns = work->end_ns,
        .weight_bytes = work->weight_bytes,
        .cpu_ns = cpu_ns,
        .n_dropped = atomic_load_explicit(&ring->n_dropped, memory_order_relaxed),
        .dropped_from_ns = ring->dropped_from_ns,
        .n_seqs = work->n_seqs,
    };
    for (int32_t i = 0; i < work->n_seqs; i++) {
        const wtl_seq_work *q = &work->seqs[i];
        energy_ring_slot(ring, head + 1 + (uint64_t)i)->seq = (energy_seq_stamp){
            .request = requests[i],
            .macs = q->macs,
            .kv_read_bytes = q->kv_read_bytes,
            .kv_written_bytes = q->kv_written_bytes,
            .n_new_tok = q->n_new_tok,
            .n_past_tok = q->n_past_tok,
            .n_logits = q->n_logits,
        };
    }
    ring->dropped_from_ns = 0;
    atomic_store_explicit(&ring->head, head + need, memory_order_release);
    atomic_store_explicit(&ring->running_ns, 0, memory_order_release);
    return true;
}

double energy_ring_fill(const energy_ring *ring) {
    const uint64_t used = atomic_load_explicit(&ring->head, memory_order_relaxed) - atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return (double)used / (double)(ring->mask + 1);
}

uint64_t energy_ring_head(const energy_ring *ring) { return atomic_load_explicit(&ring->head, memory_order_acquire); }

uint64_t energy_ring_tail(const energy_ring *ring) { return atomic_load_explicit(&ring->tail, memory_order_relaxed); }

energy_slot *energy_ring_slot(energy_ring *ring, uint64_t index) { return &ring->slots[index & ring->mask]; }

void energy_ring_release(energy_ring *ring, uint64_t index) { atomic_store_explicit(&ring->tail, index, memory_order_release); }

uint64_t energy_ring_dropped(const energy_ring *ring, uint64_t *until_ns) {
    const uint64_t n = atomic_load_explicit(&ring->n_dropped, memory_order_acquire);
    *until_ns = atomic_load_explicit(&ring->dropped_until_ns, memory_order_relaxed);
    return n;
}
