// See limits_team.h. A run is announced by raising `epoch`; everybody stamps its own begin and end.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/limits_team.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

enum { TEAM_MAX = 1024, SPINS_BEFORE_YIELD = 1000 };

typedef struct team_member {
    limits_team *team;
    pthread_t thread;
    int32_t index, cpu; // cpu < 0: not bound
    uint64_t begin_ns, end_ns;
} team_member;

struct limits_team {
    int32_t n;
    cpu_set_t before; // the caller's mask
    bool bound;
    cpu_job job;
    void *ctx;
    _Alignas(64) _Atomic uint32_t epoch;
    _Atomic bool stop;
    _Alignas(64) _Atomic int32_t ready, done; // of this run
    team_member members[];
};

// ---- Cores ----------------------------------------------------------------------------------------------------------
// Whether another hardware thread comes before this one on the same core.
static bool is_sibling(int cpu) {
    char path[96];
    int first = cpu;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    if (fscanf(f, "%d", &first) != 1) first = cpu;
    fclose(f);
    return first != cpu;
}

// The processors of the mask, one of each core before the second of any; members beyond them start over.
static void choose_cpus(limits_team *team) {
    int32_t n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int cpu = 0; cpu < CPU_SETSIZE && n < team->n; cpu++)
            if (CPU_ISSET(cpu, &team->before) && is_sibling(cpu) == (pass == 1)) team->members[n++].cpu = cpu;
    for (int32_t i = n; i < team->n; i++) team->members[i].cpu = n ? team->members[i % n].cpu : -1;
}

static void bind_self(int32_t cpu) {
    cpu_set_t one;
    if (cpu < 0) return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)sched_setaffinity(0, sizeof one, &one); // refused: it runs where it is
}

// ---- Runs -----------------------------------------------------------------------------------------------------------
static void wait_a_little(int *spins) {
    if (++*spins % SPINS_BEFORE_YIELD == 0) sched_yield(); // more threads than cores
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_part(team_member *self) {
    limits_team *team = self->team;
    int spins = 0;
    atomic_fetch_add(&team->ready, 1);
    while (atomic_load_explicit(&team->ready, memory_order_acquire) < team->n) wait_a_little(&spins);
    self->begin_ns = wtl_clock_ns();
    team->job(team->ctx, self->index, team->n);
    self->end_ns = wtl_clock_ns();
    atomic_fetch_add(&team->done, 1);
}

static void *member_main(void *arg) {
    team_member *self = arg;
    uint32_t seen = 0;
    bind_self(self->cpu);
    for (;;) {
        uint32_t epoch;
        int spins = 0;
        while ((epoch = atomic_load_explicit(&self->team->epoch, memory_order_acquire)) == seen) wait_a_little(&spins);
        seen = epoch;
        if (atomic_load(&self->team->stop)) return NULL;
        take_part(self);
    }
}

uint64_t limits_team_run(limits_team *team, cpu_job job, void *ctx) {
    int spins = 0;
    team->job = job;
    team->ctx = ctx;
    atomic_store(&team->ready, 0);
    atomic_store(&team->done, 0);
    atomic_fetch_add(&team->epoch, 1);
    take_part(&team->members[0]);
    while (atomic_load_explicit(&team->done, memory_order_acquire) < team->n) wait_a_little(&spins);
    uint64_t begin = team->members[0].begin_ns, end = team->members[0].end_ns;
    for (int32_t i = 1; i < team->n; i++) {
        if (team->members[i].begin_ns < begin) begin = team->members[i].begin_ns;
        if (team->members[i].end_ns > end) end = team->members[i].end_ns;
    }
    return end - begin;
}

// ---- Life -----------------------------------------------------------------------------------------------------------
static size_t team_bytes(int32_t n) { return sizeof(limits_team) + (size_t)n * sizeof(team_member); }

static void stop_members(limits_team *team, int32_t n) {
    atomic_store(&team->stop, true);
    atomic_fetch_add(&team->epoch, 1);
    for (int32_t i = 1; i < n; i++) pthread_join(team->members[i].thread, NULL);
    if (team->bound) (void)sched_setaffinity(0, sizeof team->before, &team->before);
    wtl_pages_free(team, team_bytes(team->n));
}

wtl_status limits_team_open(int32_t n, limits_team **out, wtl_error *err) {
    if (n < 1 || n > TEAM_MAX) return wtl_fail(err, WTL_ERR_INVALID, "%d threads asked for; between 1 and %d are possible", n, TEAM_MAX);
    limits_team *team = wtl_pages_alloc(team_bytes(n)); // aligned
    if (!team) return wtl_fail(err, WTL_ERR_NO_MEMORY, "no memory for a team of %d threads", n);
    team->n = n;
    team->bound = sched_getaffinity(0, sizeof team->before, &team->before) == 0;
    for (int32_t i = 0; i < n; i++) team->members[i] = (team_member){.team = team, .index = i, .cpu = -1};
    if (team->bound) choose_cpus(team);
    for (int32_t i = 1; i < n; i++) {
        const int rc = pthread_create(&team->members[i].thread, NULL, member_main, &team->members[i]);
        if (rc == 0) continue;
        stop_members(team, i);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "thread %d of %d could not be started: error %d", i + 1, n, rc);
    }
    bind_self(team->members[0].cpu);
    *out = team;
    return WTL_OK;
}

void limits_team_close(limits_team **team) {
    if (!team || !*team) return;
    stop_members(*team, (*team)->n);
    *team = NULL;
}
