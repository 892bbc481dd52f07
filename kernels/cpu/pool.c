// The thread pool: n - 1 workers that run one job at a time together with the caller.
//
// A job is announced by raising `epoch`, its end by `pending` reaching 0. Every share i of a job is claimed once, by worker
// i or, when the caller is done with its own and the worker has not come yet, by the caller: on a busy machine a worker
// that waits for a core delays nobody. Whoever waits for one of them spins for a
// bounded time (a barrier then costs 0.3 us instead of 25) and after that sleeps on the word itself with a futex. With
// more active threads than usable cores nobody spins: that would keep the core from the thread that is waited for. Sleepers
// register before they sleep and the other side looks after it changed the word (both sequentially consistent), so no
// wake-up is lost and none is paid for when nobody sleeps.
//
// A pool can be told to use fewer of its threads. The others sleep on `parking`, so that they neither spin nor wake with every job; their
// shares count as claimed before the job is announced.
// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/cores.h"
#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

// Longer than the serial parts between two jobs of a decode step, far shorter than the pause between tokens.
#define POOL_SPIN_NS 50000u
#define POOL_MAX_THREADS 1024

typedef struct pool_worker {
    cpu_pool *pool;
    int32_t index;
    pthread_t thread;
    _Alignas(64) _Atomic uint32_t claimed; // epoch of the last job whose share was claimed
} pool_worker;

struct cpu_pool {
    pthread_mutex_t turn; // held by the caller whose job runs
    cpu_job job;          // written before epoch is raised, read after
    void *ctx;
    int32_t job_threads;
    int32_t n_threads;
    int32_t cores;       // usable ones, when the pool was opened
    _Atomic bool spins;  // the active threads are not more than the cores
    _Atomic bool stop;
    _Atomic int32_t wanted;   // threads of the next job
    _Atomic int32_t active;   // of the present one; written by who holds `turn`
    _Atomic uint32_t parking; // raised when active grows
    _Alignas(64) _Atomic uint32_t epoch;
    _Atomic uint32_t sleepers; // workers asleep on epoch, or about to be
    _Alignas(64) _Atomic uint32_t pending;
    _Atomic uint32_t caller_sleeps;
    pool_worker workers[]; // n_threads - 1
};

static void cpu_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0); }

// Waits in user space until *word != value; false when the time is up.
static bool spin_until_changed(_Atomic uint32_t *word, uint32_t value) {
    uint64_t end = wtl_clock_ns() + POOL_SPIN_NS;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value) return true;
            cpu_pause();
        }
    } while (wtl_clock_ns() < end);
    return false;
}

// Returns once *word != value; `asleep` counts those for whom the other side must call the kernel.
static void wait_until_changed(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *asleep, bool spins) {
    if (atomic_load_explicit(word, memory_order_acquire) != value) return;
    if (spins && spin_until_changed(word, value)) return;
    atomic_fetch_add(asleep, 1);
    while (atomic_load(word) == value) futex_wait(word, value);
    atomic_fetch_sub(asleep, 1);
}

// Takes worker's share of the job of this epoch; true for exactly one thread. Until that thread has lowered `pending`,
// the job stays current.
static bool claim(pool_worker *worker, uint32_t epoch) {
    uint32_t before = epoch - 1;
    return atomic_load_explicit(&worker->claimed, memory_order_relaxed) == before &&
           atomic_compare_exchange_strong(&worker->claimed, &before, epoch);
}

// Sleeps while this worker is not among the active ones.
static void park(pool_worker *self) {
    cpu_pool *pool = self->pool;
    for (;;) {
        const uint32_t ticket = atomic_load(&pool->parking);
        if (self->index < atomic_load(&pool->active) || atomic_load(&pool->stop)) return;
        futex_wait(&pool->parking, ticket);
    }
}

static void *worker_main(void *arg) {
    pool_worker *self = arg;
    cpu_pool *pool = self->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_until_changed(&pool->epoch, seen, &pool->sleepers, atomic_load_explicit(&pool->spins, memory_order_relaxed));
        seen = atomic_load_explicit(&pool->epoch, memory_order_acquire);
        if (atomic_load(&pool->stop)) return NULL;
        park(self);
        if (!claim(self, seen)) continue;
        pool->job(pool->ctx, self->index, pool->job_threads);
        if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_sleeps)) futex_wake_all(&pool->pending);
    }
}

// Raises epoch and returns it.
static uint32_t announce(cpu_pool *pool) {
    const uint32_t epoch = atomic_fetch_add(&pool->epoch, 1) + 1;
    if (atomic_load(&pool->sleepers)) futex_wake_all(&pool->epoch);
    return epoch;
}

// Takes over what pool_limit asked for. Holding `turn`.
static int32_t update_active(cpu_pool *pool) {
    const int32_t wanted = atomic_load_explicit(&pool->wanted, memory_order_relaxed), before = atomic_load_explicit(&pool->active, memory_order_relaxed);
    if (wanted == before) return wanted;
    atomic_store(&pool->active, wanted);
    atomic_store_explicit(&pool->spins, wanted <= pool->cores, memory_order_relaxed);
    if (wanted > before) {
        atomic_fetch_add(&pool->parking, 1);
        futex_wake_all(&pool->parking);
    }
    return wanted;
}

void pool_limit(cpu_pool *pool, int32_t n_threads) {
    atomic_store_explicit(&pool->wanted, n_threads < 1 || n_threads > pool->n_threads ? pool->n_threads : n_threads, memory_order_relaxed);
}

void pool_run(cpu_pool *pool, cpu_job job, void *ctx) {
    if (pool->n_threads == 1) {
        job(ctx, 0, 1);
        return;
    }
    pthread_mutex_lock(&pool->turn);
    const int32_t n = update_active(pool);
    const uint32_t next = atomic_load_explicit(&pool->epoch, memory_order_relaxed) + 1;
    pool->job = job;
    pool->ctx = ctx;
    pool->job_threads = n;
    atomic_store_explicit(&pool->pending, (uint32_t)n - 1, memory_order_relaxed);
    for (int32_t i = n; i < pool->n_threads; i++) atomic_store_explicit(&pool->workers[i - 1].claimed, next, memory_order_relaxed);
    const uint32_t epoch = announce(pool);
    job(ctx, 0, n);
    for (int32_t i = 1; i < n; i++) {
        if (!claim(&pool->workers[i - 1], epoch)) continue;
        job(ctx, i, n);
        atomic_fetch_sub(&pool->pending, 1);
    }
    uint32_t left;
    while ((left = atomic_load_explicit(&pool->pending, memory_order_acquire)) != 0) {
        wait_until_changed(&pool->pending, left, &pool->caller_sleeps, atomic_load_explicit(&pool->spins, memory_order_relaxed));
    }
    pthread_mutex_unlock(&pool->turn);
}

int32_t pool_threads(const cpu_pool *pool) { return pool->n_threads; }

int32_t pool_active(const cpu_pool *pool) { return atomic_load_explicit(&pool->wanted, memory_order_relaxed); }

// Stops and joins the first n workers.
static void stop_workers(cpu_pool *pool, int32_t n) {
    atomic_store(&pool->stop, true);
    (void)announce(pool);
    atomic_fetch_add(&pool->parking, 1);
    futex_wake_all(&pool->parking);
    for (int32_t i = 0; i < n; i++) pthread_join(pool->workers[i].thread, NULL);
}

wtl_status pool_open(int32_t n_threads, cpu_pool **out, wtl_error *err) {
    if (n_threads < 1 || n_threads > POOL_MAX_THREADS) {
        return wtl_fail(err, WTL_ERR_INVALID, "%d threads asked for; between 1 and %d are possible", n_threads,
                        POOL_MAX_THREADS);
    }
    size_t bytes = sizeof(cpu_pool) + (size_t)(n_threads - 1) * sizeof(pool_worker);
    cpu_pool *pool = wtl_pages_alloc(bytes); // zeroed and aligned; wtl_malloc promises no cache line
    if (!pool) return wtl_fail(err, WTL_ERR_NO_MEMORY, "no memory for a pool of %d threads", n_threads);
    pool->n_threads = n_threads;
    atomic_store(&pool->wanted, n_threads);
    atomic_store(&pool->active, n_threads);
    pool->cores = cpu_usable_cores();
    atomic_init(&pool->spins, n_threads <= pool->cores);
    pthread_mutex_init(&pool->turn, NULL); // cannot fail with default attributes
    for (int32_t i = 0; i < n_threads - 1; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].index = i + 1;
        int rc = pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]);
        if (rc != 0) {
            stop_workers(pool, i);
            pthread_mutex_destroy(&pool->turn);
            wtl_pages_free(pool, bytes);
            return wtl_fail(err, WTL_ERR_NO_MEMORY, "thread %d of %d could not be started: error %d", i + 2, n_threads, rc);
        }
    }
    *out = pool;
    return WTL_OK;
}

void pool_close(cpu_pool **pool) {
    if (!pool || !*pool) return;
    cpu_pool *p = *pool;
    stop_workers(p, p->n_threads - 1);
    pthread_mutex_destroy(&p->turn);
    wtl_pages_free(p, sizeof(cpu_pool) + (size_t)(p->n_threads - 1) * sizeof(pool_worker));
    *pool = NULL;
}
