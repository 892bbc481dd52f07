// Thread counts by kind of step: no bit of a logit changes, and threads that a step is not given do not work.
// SPDX-License-Identifier: Apache-2.0
#include <ctime>

#include "runtime/base/clock.h"
#include "tests/support/sessions.h"

namespace {

const TinyModel &model() {
    static TinyModel m([] {
        TinyOptions o;
        o.type = WTL_DTYPE_Q4_0;
        return o;
    }());
    return m;
}

wtl_engine *open_engine(int threads, int decode) {
    wtl_engine *e = nullptr;
    wtl_error err = {};
    wtl_engine_options o = {};
    o.model_path = model().path();
    o.n_threads = threads;
    o.n_threads_decode = decode;
    EXPECT_EQ(wtl_engine_open(&o, &e, &err), WTL_OK) << err.message;
    return e;
}

// Logits of the last of 40 prompt tokens, then of ten single ones. others: CPU time of the threads but this one during those, in ns.
std::vector<Logits> run(wtl_engine *e, int session_threads, double *others = nullptr) {
    wtl_session *s = nullptr;
    wtl_error err = {};
    wtl_session_options o = {};
    o.n_threads = session_threads;
    EXPECT_EQ(wtl_session_open(e, &o, &s, &err), WTL_OK) << err.message;
    const int n_vocab = wtl_engine_describe(e).n_vocab;
    std::vector<Logits> out;
    int32_t seq = -1;
    Tokens prompt(40);
    for (size_t i = 0; i < prompt.size(); i++) prompt[i] = (int32_t)(7 * i % 250);
    EXPECT_EQ(wtl_seq_open(s, &seq, &err), WTL_OK);
    EXPECT_EQ(wtl_session_prefill(s, seq, prompt.data(), prompt.size(), nullptr, nullptr, &err), WTL_OK);
    out.emplace_back(wtl_session_logits(s, 0), wtl_session_logits(s, 0) + n_vocab);
    auto own_ns = [] {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    };
    int64_t all = 0, own = 0;
    for (int i = 0; i < 210; i++) {
        if (i == 10) all = (int64_t)wtl_cpu_time_ns(), own = own_ns(); // by then the others are asleep
        const wtl_entry entry = {i, seq, true, 0};
        EXPECT_EQ(wtl_session_step(s, &entry, 1, &err), WTL_OK) << err.message;
        if (i < 10) out.emplace_back(wtl_session_logits(s, 0), wtl_session_logits(s, 0) + n_vocab);
    }
    if (others) *others = (double)((int64_t)wtl_cpu_time_ns() - all - (own_ns() - own)) / (double)(own_ns() - own);
    wtl_session_close(&s);
    return out;
}

TEST(StepThreads, ChangeNoBit) {
    wtl_engine *one = open_engine(1, 0), *three = open_engine(3, 0), *mixed = open_engine(3, 1), *more = open_engine(2, 5);
    EXPECT_EQ(wtl_engine_describe(three).n_threads_decode, 3);
    EXPECT_EQ(wtl_engine_describe(mixed).n_threads, 3);
    EXPECT_EQ(wtl_engine_describe(mixed).n_threads_decode, 1);
    EXPECT_EQ(wtl_engine_describe(more).n_threads_decode, 2);
    const std::vector<Logits> want = run(one, 0);
    for (wtl_engine *e : {three, mixed, more})
        for (int session_threads : {0, 1, 2, 64}) EXPECT_EQ(run(e, session_threads), want) << session_threads;
    for (wtl_engine **e : {&one, &three, &mixed, &more}) wtl_engine_close(e);
}

TEST(StepThreads, ThoseThatAreNotAskedForSleep) {
    wtl_engine *mixed = open_engine(2, 1), *both = open_engine(2, 2);
    double others = 1;
    run(mixed, 0, &others);
    EXPECT_LT(others, 0.02);
    run(both, 1, &others);
    EXPECT_LT(others, 0.02);
    wtl_engine_close(&mixed);
    wtl_engine_close(&both);
}

TEST(StepThreads, NonsenseIsInvalid) {
    wtl_engine *e = nullptr;
    wtl_error err = {};
    wtl_engine_options o = {};
    o.model_path = model().path();
    for (int bad : {-1, 100000}) {
        o.n_threads_decode = bad;
        EXPECT_EQ(wtl_engine_open(&o, &e, &err), WTL_ERR_INVALID);
    }
    e = open_engine(1, 0);
    for (int bad : {-1, 100000}) {
        wtl_session *s = nullptr;
        wtl_session_options so = {};
        so.n_threads = bad;
        EXPECT_EQ(wtl_session_open(e, &so, &s, &err), WTL_ERR_INVALID);
    }
    wtl_engine_close(&e);
}

} // namespace
