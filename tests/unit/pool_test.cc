// The thread pool: every thread runs once per job, jobs of several callers take turns, idle workers cost nothing, and
// more threads than cores still make progress. Run under ThreadSanitizer as well.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cpu/cores.h"
#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

namespace {

struct Pool {
    cpu_pool *pool = nullptr;
    explicit Pool(int32_t n) {
        wtl_error err;
        EXPECT_EQ(pool_open(n, &pool, &err), WTL_OK);
    }
    ~Pool() { pool_close(&pool); }
};

struct Count {
    std::vector<int64_t> runs; // plain: each thread writes its own, the pool must order them before pool_run returns
    int32_t n_threads = 0;
};

void count_job(void *ctx, int32_t thread, int32_t n_threads) {
    auto *c = static_cast<Count *>(ctx);
    c->runs[static_cast<size_t>(thread)]++;
    if (thread == 0) c->n_threads = n_threads;
}

TEST(Pool, EveryThreadRunsOncePerJob) {
    for (int32_t n : {1, 2, 3, 4, 7, 32}) {
        Pool p(n);
        EXPECT_EQ(pool_threads(p.pool), n);
        const int64_t jobs = n <= 2 ? 20000 : 300;
        Count c;
        c.runs.resize(static_cast<size_t>(n));
        for (int64_t j = 1; j <= jobs; j++) {
            pool_run(p.pool, count_job, &c);
            for (int64_t runs : c.runs) ASSERT_EQ(runs, j) << n << " threads";
        }
        EXPECT_EQ(c.n_threads, n);
    }
}

TEST(Pool, WakesSleepingWorkers) {
    Pool p(3);
    Count c;
    c.runs.resize(3);
    for (int64_t j = 1; j <= 50; j++) {
        std::this_thread::sleep_for(std::chrono::microseconds(j % 2 ? 400 : 40)); // longer and shorter than the spin
        pool_run(p.pool, count_job, &c);
        for (int64_t runs : c.runs) ASSERT_EQ(runs, j);
    }
}

TEST(Pool, FewerThreadsThanThereAre) {
    for (int32_t n : {2, 4, 7}) {
        Pool p(n);
        std::mt19937 random(17);
        for (int64_t j = 0; j < 3000; j++) {
            const int32_t limit = (int32_t)(random() % (unsigned)(n + 2)); // 0 and n + 1: all
            const int32_t expected = limit < 1 || limit > n ? n : limit;
            pool_limit(p.pool, limit);
            for (int again = 0; again < 1 + (int)(random() % 3); again++) {
                Count c;
                c.runs.resize(static_cast<size_t>(n));
                pool_run(p.pool, count_job, &c);
                ASSERT_EQ(c.n_threads, expected) << j;
                for (int32_t i = 0; i < n; i++) ASSERT_EQ(c.runs[static_cast<size_t>(i)], i < expected ? 1 : 0) << "job " << j << ", share " << i << " of " << expected;
            }
        }
        pool_limit(p.pool, 1); // closing with parked workers
    }
}

TEST(Pool, WorkersThatAreNotWantedSleep) {
    Pool p(3);
    pool_limit(p.pool, 1);
    Count c;
    c.runs.resize(3);
    // Share of one core that the workers take while jobs follow each other without a pause, as in decode.
    auto others = [&](uint64_t ns) {
        auto own_ns = [] {
            struct timespec t;
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
            return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        };
        const uint64_t start = wtl_clock_ns(), all = wtl_cpu_time_ns(), own = own_ns();
        while (wtl_clock_ns() - start < ns) pool_run(p.pool, count_job, &c);
        const int64_t taken = (int64_t)(wtl_cpu_time_ns() - all) - (int64_t)(own_ns() - own); // a little below 0 when there is nothing
        return (double)taken / (double)(wtl_clock_ns() - start);
    };
    others(20000000); // they find their way to bed
    EXPECT_LT(others(200000000), 0.02);
    EXPECT_EQ(c.runs[1] + c.runs[2], 0);
}

struct Exclusive {
    std::atomic<int> inside{0};
    std::atomic<bool> overlapped{false};
    int64_t sum = 0; // only thread 0 of the running job writes it
};

void exclusive_job(void *ctx, int32_t thread, int32_t) {
    auto *e = static_cast<Exclusive *>(ctx);
    if (thread != 0) return;
    if (e->inside.fetch_add(1) != 0) e->overlapped = true;
    e->sum++;
    e->inside.fetch_sub(1);
}

TEST(Pool, ConcurrentCallersTakeTurns) {
    Pool p(3);
    Exclusive e;
    std::vector<std::thread> callers;
    for (int t = 0; t < 4; t++) {
        callers.emplace_back([&] {
            for (int j = 0; j < 500; j++) pool_run(p.pool, exclusive_job, &e);
        });
    }
    for (auto &t : callers) t.join();
    EXPECT_FALSE(e.overlapped);
    EXPECT_EQ(e.sum, 4 * 500);
}

TEST(Pool, IdleWorkersUseNoCpuTime) {
    Pool p(cpu_usable_cores());
    Count c;
    c.runs.resize(static_cast<size_t>(pool_threads(p.pool)));
    pool_run(p.pool, count_job, &c);
    // On a busy machine a worker may meet its job late; a pool that spins uses the time of every window.
    uint64_t least_ns = UINT64_MAX;
    for (int window = 0; window < 5 && least_ns > 2000000; window++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        const uint64_t before = wtl_cpu_time_ns();
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        least_ns = std::min(least_ns, wtl_cpu_time_ns() - before);
    }
    EXPECT_LT(least_ns, 2000000u); // 0.01 CPU-seconds a second
}

TEST(Pool, RefusesNonsenseCounts) {
    wtl_error err;
    cpu_pool *pool = nullptr;
    for (int32_t n : {0, -1, 100000}) {
        EXPECT_EQ(pool_open(n, &pool, &err), WTL_ERR_INVALID);
        EXPECT_EQ(pool, nullptr);
        EXPECT_NE(std::string(err.message).find("threads"), std::string::npos);
    }
    pool_close(&pool); // NULL inside
    pool_close(nullptr);
}

TEST(Pool, OutOfMemoryIsAStatus) {
    wtl_alloc_set_hook([](void *, size_t) { return false; }, nullptr);
    wtl_error err;
    cpu_pool *pool = nullptr;
    const wtl_status status = pool_open(4, &pool, &err);
    wtl_alloc_set_hook(nullptr, nullptr);
    EXPECT_EQ(status, WTL_ERR_NO_MEMORY);
}

TEST(Cores, ABackendUsesNoMoreThreadsAtOnceThanThereAreCores) {
    const int32_t cores = cpu_usable_cores();
    wtl_backend_options options = {};
    options.n_threads = 4 * cores;
    wtl_error err;
    wtl_backend *be = nullptr;
    ASSERT_EQ(cpu_backend_open(&options, &be, &err), WTL_OK) << err.message;
    const cpu_pool *pool = reinterpret_cast<cpu_backend *>(be)->pool;
    EXPECT_EQ(pool_threads(pool), 4 * cores);
    EXPECT_EQ(pool_active(pool), cores);
    EXPECT_NE(std::string(be->ops->describe(be)).find(", " + std::to_string(cores) + " at once"), std::string::npos) << be->ops->describe(be);
    const wtl_stream_limits limits = {};
    wtl_stream *s = nullptr;
    ASSERT_EQ(be->ops->stream_open(be, &limits, &s, &err), WTL_OK) << err.message;
    for (int32_t n : {1, 0, 4 * cores, 2 * cores}) {
        be->ops->set_threads(s, n);
        EXPECT_EQ(pool_active(pool), n == 1 ? 1 : cores) << n;
    }
    be->ops->stream_close(s);
    be->ops->close(be);
}

TEST(InstructionSets, MaskIsNamedAndChecked) {
    wtl_error err;
    cpu_isa isa;
    EXPECT_EQ(cpu_isa_choose("scalar", &isa, &err), WTL_OK);
    EXPECT_EQ(isa, CPU_ISA_SCALAR);
    EXPECT_EQ(cpu_isa_choose("sse9", &isa, &err), WTL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("avx512vnni"), std::string::npos);
    for (int i = 0; i < CPU_ISA_COUNT; i++) {
        const auto one = static_cast<cpu_isa>(i);
        EXPECT_EQ(cpu_isa_choose(cpu_isa_name(one), &isa, &err), cpu_isa_available(one) ? WTL_OK : WTL_ERR_UNSUPPORTED);
    }
}

} // namespace
