// Sessions over small random models: batch invariance to the bit, forks, rewinds, windows, limits, memory.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "runtime/base/alloc.h"
#include "runtime/wattle.h"
#include "tests/support/checked_build.h"
#include "tests/support/tiny_model.h"
#include "tests/support/vector_sets.h"

namespace {

struct Engine {
    wtl_engine *e = nullptr;
    Engine(const char *path, int threads, const char *backend = "cpu", bool deterministic = true) {
        wtl_engine_options o = {};
        o.model_path = path;
        o.n_threads = threads;
        o.backend = backend;
        o.deterministic = deterministic;
        wtl_error err = {};
        EXPECT_EQ(wtl_engine_open(&o, &e, &err), WTL_OK) << err.message;
    }
    ~Engine() { wtl_engine_close(&e); }
};

struct Session {
    wtl_session *s = nullptr;
    Session(const Engine &engine, wtl_session_options o) {
        wtl_error err = {};
        EXPECT_EQ(wtl_session_open(engine.e, &o, &s, &err), WTL_OK) << err.message;
    }
    ~Session() { wtl_session_close(&s); }
    int open() {
        int32_t seq = -1;
        wtl_error err = {};
        EXPECT_EQ(wtl_seq_open(s, &seq, &err), WTL_OK) << err.message;
        return seq;
    }
};

using Logits = std::vector<float>;
using Tokens = std::vector<int32_t>;

wtl_session_options options(int n_seq, int n_batch, wtl_kv_type kv = WTL_KV_F16) {
    wtl_session_options o = {};
    o.n_ctx = 512 * n_seq;
    o.n_seq_max = n_seq;
    o.n_batch = n_batch;
    o.n_logits_max = n_batch;
    o.kv_type = kv;
    return o;
}

Tokens random_tokens(std::mt19937 &rng, int n) {
    Tokens t(n);
    for (int32_t &x : t) x = (int32_t)(rng() % TinyModel::kVocab);
    return t;
}

// Logits of every position, one token a step: what all other ways must reproduce.
std::vector<Logits> alone(const Engine &engine, const Tokens &tokens, wtl_kv_type kv = WTL_KV_F16) {
    Session session(engine, options(1, 4, kv));
    int seq = session.open();
    std::vector<Logits> out;
    for (int32_t t : tokens) {
        wtl_entry entry = {t, seq, true, 0};
        wtl_error err = {};
        EXPECT_EQ(wtl_session_step(session.s, &entry, 1, &err), WTL_OK) << err.message;
        const float *l = wtl_session_logits(session.s, 0);
        out.emplace_back(l, l + TinyModel::kVocab);
    }
    return out;
}

bool same_bits(const float *a, const Logits &b) { return memcmp(a, b.data(), b.size() * sizeof(float)) == 0; }


class Invariance : public testing::TestWithParam<std::tuple<const char *, const char *, wtl_dtype, wtl_kv_type>> {
  protected:
    void SetUp() override {
        const char *mask = std::get<1>(GetParam());
        for (int i = 0; i < CPU_ISA_COUNT; i++)
            if (!strcmp(mask, cpu_isa_name((cpu_isa)i)) && !cpu_isa_available((cpu_isa)i)) GTEST_SKIP() << "this machine has no " << mask;
        const char *old = getenv("WTL_CPU_MASK");
        old_ = old ? old : "";
        setenv("WTL_CPU_MASK", mask, 1);
        TinyOptions o;
        o.arch = std::get<0>(GetParam());
        o.type = std::get<2>(GetParam());
        o.bias = o.arch == "llama";
        kv_ = std::get<3>(GetParam());
        model_.reset(new TinyModel(o));
    }
    void TearDown() override {
        if (old_.empty()) unsetenv("WTL_CPU_MASK");
        else setenv("WTL_CPU_MASK", old_.c_str(), 1);
    }
    std::string old_;
    wtl_kv_type kv_ = WTL_KV_F16;
    std::unique_ptr<TinyModel> model_;
};

// 32 sequences in random company: chunks of random size, prefill beside decode, 1 to 3 threads, some of them forks of others.
TEST_P(Invariance, ThirtyTwoSequencesMixedAndAloneGiveTheSameBits) {
    const unsigned seed = 7;
    std::mt19937 rng(seed);
    constexpr int kSeqs = 32, kBatch = 48;
    std::vector<Tokens> tokens;
    std::vector<int> parent(kSeqs, -1), shared(kSeqs, 0);
    for (int i = 0; i < kSeqs; i++) {
        Tokens t = random_tokens(rng, 2 + (int)(rng() % 60));
        if (i >= 24) { // shares a prefix with an earlier sequence
            parent[i] = (int)(rng() % 24);
            const Tokens &p = tokens[parent[i]];
            shared[i] = 1 + (int)(rng() % p.size());
            t.insert(t.begin(), p.begin(), p.begin() + shared[i]);
        }
        tokens.push_back(t);
    }
    Engine one(model_->path(), 1);
    std::vector<std::vector<Logits>> want;
    for (const Tokens &t : tokens) want.push_back(alone(one, t, kv_));

    for (int threads = kChecked ? 3 : 1; threads <= 3; threads++) { // under a sanitizer one company is enough: more show no other memory
        Engine engine(model_->path(), threads);
        Session session(engine, options(kSeqs, kBatch, kv_));
        std::vector<int> seq(kSeqs, -1);
        std::vector<size_t> done(kSeqs, 0);
        for (int i = 0; i < 24; i++) seq[i] = session.open();
        for (int round = 0;; round++) {
            // A fork starts once its parent has the tokens that both share.
            for (int i = 24; i < kSeqs; i++) {
                if (seq[i] >= 0 || done[parent[i]] < (size_t)shared[i]) continue;
                int32_t s;
                wtl_error err = {};
                wtl_status status = wtl_seq_fork(session.s, seq[parent[i]], shared[i], &s, &err);
                if (status == WTL_ERR_LIMIT) { // the window layers moved on: compute the prefix again
                    s = session.open();
                    shared[i] = 0;
                } else {
                    ASSERT_EQ(status, WTL_OK) << err.message;
                }
                seq[i] = s;
                done[i] = (size_t)shared[i];
            }
            std::vector<wtl_entry> entries;
            std::vector<std::pair<int, size_t>> where;
            for (int i = 0; i < kSeqs && entries.size() < kBatch; i++) {
                if (seq[i] < 0 || rng() % 3 == 0) continue;
                size_t n = std::min(tokens[i].size() - done[i], (size_t)(rng() % 2 ? 1 : 1 + rng() % 20));
                n = std::min(n, kBatch - entries.size());
                for (size_t j = 0; j < n; j++) {
                    bool want_logits = rng() % 2;
                    entries.push_back({tokens[i][done[i] + j], seq[i], want_logits, 0});
                    if (want_logits) where.push_back({i, done[i] + j});
                }
                done[i] += n;
            }
            if (!entries.empty()) {
                wtl_error err = {};
                ASSERT_EQ(wtl_session_step(session.s, entries.data(), (int32_t)entries.size(), &err), WTL_OK) << err.message;
                for (size_t k = 0; k < where.size(); k++) {
                    const float *got = wtl_session_logits(session.s, (int32_t)k);
                    ASSERT_TRUE(same_bits(got, want[where[k].first][where[k].second]))
                        << "seed " << seed << " threads " << threads << " sequence " << where[k].first << " position " << where[k].second;
                }
            }
            bool all = true;
            for (int i = 0; i < kSeqs; i++) all = all && done[i] == tokens[i].size();
            if (all) break;
            ASSERT_LT(round, 10000);
        }
    }
}

std::string case_name(const testing::TestParamInfo<Invariance::ParamType> &info) {
    return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param) + "_" + wtl_dtype_get(std::get<2>(info.param))->name +
           (std::get<3>(info.param) == WTL_KV_Q8_0 ? "_kv_q8_0" : "");
}
INSTANTIATE_TEST_SUITE_P(Scalar, Invariance,
                         testing::Combine(testing::Values("llama", "gemma3"), testing::Values("scalar"), testing::Values(WTL_DTYPE_Q4_1),
                                          testing::Values(WTL_KV_F16, WTL_KV_Q8_0)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Models, Invariance,
                         testing::Combine(testing::Values("llama", "gemma3"), testing::ValuesIn(vector_sets()),
                                          testing::Values(WTL_DTYPE_Q4_1, WTL_DTYPE_Q8_0, WTL_DTYPE_Q5_0, WTL_DTYPE_Q4_K, WTL_DTYPE_Q6_K,
                                                          WTL_DTYPE_F16), testing::Values(WTL_KV_F16)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Kv, Invariance,
                         testing::Combine(testing::Values("llama", "gemma3"), testing::ValuesIn(vector_sets()), testing::Values(WTL_DTYPE_Q4_1),
                                          testing::Values(WTL_KV_Q8_0)),
                         case_name);

// Every weight type on both backends: the quantised int8 path stays near the double oracle.
TEST(Session, AllWeightTypesRunOnBothBackendsAndAgree) {
    std::mt19937 rng(3);
    Tokens tokens = random_tokens(rng, 30);
    for (wtl_dtype type : {WTL_DTYPE_F32, WTL_DTYPE_F16, WTL_DTYPE_BF16, WTL_DTYPE_Q4_0, WTL_DTYPE_Q4_1, WTL_DTYPE_Q5_0, WTL_DTYPE_Q5_1,
                           WTL_DTYPE_Q8_0, WTL_DTYPE_Q2_K, WTL_DTYPE_Q3_K, WTL_DTYPE_Q4_K, WTL_DTYPE_Q5_K, WTL_DTYPE_Q6_K,
                           WTL_DTYPE_IQ4_NL, WTL_DTYPE_IQ4_XS}) {
        for (const char *arch : {"llama", "gemma3"}) {
            SCOPED_TRACE(std::string(arch) + " " + wtl_dtype_get(type)->name);
            TinyOptions o;
            o.arch = arch;
            o.type = type;
            o.tied = false;
            TinyModel model(o);
            Engine ref(model.path(), 1, "ref"), cpu(model.path(), 2, "cpu", false);
            std::vector<Logits> want = alone(ref, tokens, WTL_KV_F32), got = alone(cpu, tokens, WTL_KV_F16);
            double err2 = 0, ref2 = 0;
            for (size_t p = 0; p < want.size(); p++)
                for (int i = 0; i < TinyModel::kVocab; i++) {
                    err2 += std::pow((double)got[p][i] - want[p][i], 2);
                    ref2 += std::pow((double)want[p][i], 2);
                }
            const bool is_float = wtl_dtype_get(type)->block_weights == 1;
            EXPECT_GT(ref2, 0);
            EXPECT_LT(std::sqrt(err2 / ref2), is_float ? 2e-3 : 4e-2);
        }
    }
}

// A q8_0 cache takes 140 of 264 bytes for a head of 64 (and its scales): what sessions say that they would take.
TEST(Session, KvTypesTakeTheMemoryTheySay) {
    TinyModel model({});
    Engine engine(model.path(), 1);
    wtl_memory f16, q8_0;
    wtl_error err = {};
    wtl_session_options of_f16 = options(1, 4), of_q8_0 = options(1, 4, WTL_KV_Q8_0), of_none = options(1, 4, (wtl_kv_type)3);
    ASSERT_EQ(wtl_session_memory(engine.e, &of_f16, &f16, &err), WTL_OK) << err.message;
    ASSERT_EQ(wtl_session_memory(engine.e, &of_q8_0, &q8_0, &err), WTL_OK) << err.message;
    EXPECT_EQ(q8_0.kv_bytes * 264, f16.kv_bytes * 140);
    EXPECT_EQ(wtl_session_memory(engine.e, &of_none, &q8_0, &err), WTL_ERR_INVALID);
}

TEST(Session, RewindAndTryAgainGivesTheSameBits) {
    for (const auto &[arch, kv] : {std::pair("llama", WTL_KV_F16), std::pair("gemma3", WTL_KV_F16), std::pair("llama", WTL_KV_Q8_0), std::pair("gemma3", WTL_KV_Q8_0)}) {
        TinyOptions o;
        o.arch = arch;
        o.type = WTL_DTYPE_Q8_0;
        TinyModel model(o);
        Engine engine(model.path(), 2);
        std::mt19937 rng(5);
        Tokens tokens = random_tokens(rng, 100);
        std::vector<Logits> want = alone(engine, tokens, kv);
        Session session(engine, options(1, 64, kv));
        int seq = session.open();
        wtl_error err = {};
        ASSERT_EQ(wtl_session_prefill(session.s, seq, tokens.data(), 100, nullptr, nullptr, &err), WTL_OK) << err.message;
        EXPECT_TRUE(same_bits(wtl_session_logits(session.s, 0), want[99]));
        ASSERT_EQ(wtl_seq_rewind(session.s, seq, 81, &err), WTL_OK) << err.message;
        for (int i = 81; i < 100; i++) {
            wtl_entry entry = {tokens[i], seq, true, 0};
            ASSERT_EQ(wtl_session_step(session.s, &entry, 1, &err), WTL_OK) << err.message;
            ASSERT_TRUE(same_bits(wtl_session_logits(session.s, 0), want[i])) << arch << " position " << i;
        }
    }
}

// Wide feed-forward parts take some of a step's rows at a time, 128 at most here: of 140 the first 70, then the others.
TEST(Session, RowsThatTakeTurnsInTheFeedForwardPartGiveTheSameBits) {
    for (const char *arch : {"llama", "gemma3"}) {
        for (const char *backend : {"cpu", "ref"}) {
            if (kChecked && !strcmp(backend, "ref")) continue; // slow, and touches the same memory
            TinyOptions o;
            o.arch = arch;
            o.type = WTL_DTYPE_Q4_1;
            o.n_layers = 2, o.n_embd = 64, o.n_ff = 8192;
            TinyModel model(o);
            Engine engine(model.path(), 2, backend);
            std::mt19937 rng(13);
            const Tokens tokens = random_tokens(rng, 140);
            const wtl_kv_type kv = strcmp(backend, "ref") ? WTL_KV_F16 : WTL_KV_F32;
            auto logits = [&](int n_batch) {
                Session session(engine, options(1, n_batch, kv));
                const int seq = session.open();
                std::vector<Logits> out;
                for (int at = 0; at < 140; at += n_batch) {
                    std::vector<wtl_entry> entries;
                    for (int i = at; i < at + n_batch; i++) entries.push_back({tokens[i], seq, true, 0});
                    wtl_error err = {};
                    EXPECT_EQ(wtl_session_step(session.s, entries.data(), n_batch, &err), WTL_OK) << err.message;
                    for (int i = 0; i < n_batch; i++) {
                        const float *l = wtl_session_logits(session.s, i);
                        out.emplace_back(l, l + TinyModel::kVocab);
                    }
                }
                return out;
            };
            EXPECT_EQ(logits(140), logits(35)) << arch << " on " << backend;
        }
    }
}

// An engine belongs to any number of threads, a session to one at a time.
TEST(Threads, SessionsOfOneEngineRunAtOnce) {
    TinyOptions o;
    o.type = WTL_DTYPE_Q8_0;
    TinyModel model(o);
    Engine engine(model.path(), 2);
    std::mt19937 rng(11);
    std::vector<Tokens> tokens;
    std::vector<std::vector<Logits>> want, got(3);
    for (int i = 0; i < 3; i++) {
        tokens.push_back(random_tokens(rng, 40));
        want.push_back(alone(engine, tokens[i]));
    }
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) threads.emplace_back([&, i] { got[i] = alone(engine, tokens[i]); });
    for (std::thread &t : threads) t.join();
    for (int i = 0; i < 3; i++) EXPECT_EQ(got[i], want[i]) << "thread " << i;
}

TEST(Session, WhatAStepRefusesChangesNothing) {
    TinyModel model(TinyOptions{});
    Engine engine(model.path(), 1);
    wtl_session_options o = options(2, 8);
    o.n_ctx = 32;
    o.n_logits_max = 2;
    Session session(engine, o);
    int a = session.open(), b = session.open();
    wtl_error err = {};
    auto step = [&](std::vector<wtl_entry> e) { return wtl_session_step(session.s, e.data(), (int32_t)e.size(), &err); };
    EXPECT_EQ(step({}), WTL_ERR_INVALID);
    EXPECT_EQ(step({{1, 9, false, 0}}), WTL_ERR_INVALID);
    EXPECT_EQ(step({{TinyModel::kVocab, a, false, 0}}), WTL_ERR_INVALID);
    EXPECT_EQ(step({{-1, a, false, 0}}), WTL_ERR_INVALID);
    EXPECT_EQ(step({{1, a, false, 0}, {1, b, false, 0}, {1, a, false, 0}}), WTL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("adjacent"), std::string::npos);
    EXPECT_EQ(step({{1, a, true, 0}, {1, a, true, 0}, {1, a, true, 0}}), WTL_ERR_LIMIT);
    EXPECT_EQ(step(std::vector<wtl_entry>(9, {1, a, false, 0})), WTL_ERR_LIMIT);
    for (int i = 0; i < 4; i++) ASSERT_EQ(step(std::vector<wtl_entry>(7, {1, a, false, 0})), WTL_OK) << err.message;
    EXPECT_EQ(wtl_seq_length(session.s, a), 28);
    EXPECT_EQ(step(std::vector<wtl_entry>(5, {1, a, false, 0})), WTL_ERR_LIMIT) << "beyond the context";
    EXPECT_EQ(step({{1, b, false, 0}, {1, a, false, 0}}), WTL_OK) << err.message;
    // b can have no second block: two sequences share a context of 32
    std::vector<wtl_entry> many(8, {1, b, false, 0});
    EXPECT_EQ(wtl_session_step(session.s, many.data(), 8, &err), WTL_OK) << err.message;
    EXPECT_EQ(wtl_session_step(session.s, many.data(), 8, &err), WTL_ERR_KV_FULL);
    EXPECT_EQ(wtl_seq_length(session.s, b), 9);
    EXPECT_EQ(wtl_session_logits(session.s, 0), nullptr);
}

TEST(Session, WorkCountsWhatWasDone) {
    TinyOptions o;
    o.arch = "gemma3";
    TinyModel model(o);
    Engine engine(model.path(), 1);
    Session session(engine, options(2, 64));
    int a = session.open(), b = session.open();
    std::vector<wtl_entry> entries;
    for (int i = 0; i < 30; i++) entries.push_back({i, a, i == 29, 0});
    entries.push_back({1, b, true, 0});
    ASSERT_EQ(wtl_session_step(session.s, entries.data(), 31, nullptr), WTL_OK);
    wtl_step_work w = wtl_session_work(session.s);
    EXPECT_EQ(w.phase, WTL_PHASE_MIXED);
    EXPECT_EQ(w.n_rows, 31);
    EXPECT_EQ(w.n_seqs, 2);
    EXPECT_EQ(w.n_logits, 2);
    EXPECT_EQ(w.seqs[0].n_new_tok, 30);
    EXPECT_EQ(w.seqs[1].n_new_tok, 1);
    EXPECT_GE(w.end_ns, w.start_ns);
    // Layers 0 and 2 see a window of 24, layer 1 everything: 1 + 2 + .. + 30 = 465, in the window 465 - 21 = 444.
    uint64_t window_sum = 0;
    for (int p = 1; p <= 30; p++) window_sum += (uint64_t)std::min(p, 24);
    EXPECT_EQ(w.seqs[0].kv_positions, 465 + 2 * window_sum);
    EXPECT_EQ(w.seqs[1].kv_positions, 3u);
    EXPECT_EQ(w.kv_positions, w.seqs[0].kv_positions + 3);
    const uint64_t q = 4 * 64, kv = 2 * 64, e = 256, f = 512;
    const uint64_t front = e * (q + 2 * kv), back = q * e + 3 * e * f, head = e * TinyModel::kVocab;
    EXPECT_EQ(w.macs, 31 * 3 * (front + back) - 29 * back + 2 * head + 2 * w.kv_positions * q);
    EXPECT_EQ(w.weight_bytes, 4 * (3 * (front + back) + head));
    EXPECT_EQ(w.kv_written_bytes, 31 * 3 * 2 * (kv * 2 + 2 * 4)); // 16 bits a number, a scale for each of two heads
    wtl_entry one = {1, a, true, 0};
    ASSERT_EQ(wtl_session_step(session.s, &one, 1, nullptr), WTL_OK);
    w = wtl_session_work(session.s);
    EXPECT_EQ(w.phase, WTL_PHASE_DECODE);
    EXPECT_EQ(w.seqs[0].n_past_tok, 30);
    EXPECT_EQ(w.kv_positions, 31u + 24 + 24);
}

int64_t refuse_at = -1;                // the allocation that fails, -1: none
std::atomic<int64_t> allocations_seen; // an engine opens on two threads
bool limited(void *, size_t) { return allocations_seen++ != refuse_at; }

TEST(Session, DecodeAllocatesNothing) {
    TinyOptions o;
    o.type = WTL_DTYPE_Q4_1;
    TinyModel model(o);
    Engine engine(model.path(), 2);
    Session session(engine, options(2, 64));
    int a = session.open(), b = session.open();
    wtl_alloc_set_hook(limited, nullptr);
    refuse_at = -1;
    allocations_seen = 0;
    Tokens prompt(70, 5);
    EXPECT_EQ(wtl_session_prefill(session.s, a, prompt.data(), prompt.size(), nullptr, nullptr, nullptr), WTL_OK);
    for (int i = 0; i < 50; i++) {
        wtl_entry e[2] = {{i, a, true, 0}, {i, b, true, 0}};
        EXPECT_EQ(wtl_session_step(session.s, e, 2, nullptr), WTL_OK);
    }
    int32_t fork;
    EXPECT_EQ(wtl_seq_rewind(session.s, a, 60, nullptr), WTL_OK);
    wtl_seq_close(session.s, b);
    EXPECT_EQ(wtl_seq_fork(session.s, a, 33, &fork, nullptr), WTL_OK);
    EXPECT_EQ(allocations_seen.load(), 0);
    wtl_alloc_set_hook(nullptr, nullptr);
}

// The n-th allocation fails, n = 0, 1, 2, ...: a clean refusal every time, until everything succeeds.
void fail_every_allocation(const char *path, const char *backend, wtl_dtype type) {
    SCOPED_TRACE(std::string(backend) + " " + wtl_dtype_get(type)->name);
    int64_t n = 0;
    for (;; n++) {
        wtl_engine *engine = nullptr;
        wtl_session *session = nullptr;
        wtl_error err = {};
        refuse_at = n;
        allocations_seen = 0;
        wtl_alloc_set_hook(limited, nullptr);
        wtl_engine_options eo = {};
        eo.model_path = path;
        eo.backend = backend;
        eo.n_threads = 2;
        wtl_session_options so = options(2, 16);
        int32_t seq = -1;
        wtl_entry entries[5] = {{1, 0, false, 0}, {2, 0, false, 0}, {3, 0, true, 0}, {4, 0, true, 0}, {5, 0, true, 0}};
        wtl_status status = wtl_engine_open(&eo, &engine, &err);
        if (!status) status = wtl_session_open(engine, &so, &session, &err);
        if (!status) status = wtl_seq_open(session, &seq, &err);
        if (!status) status = wtl_session_step(session, entries, 5, &err);
        if (!status) status = wtl_session_step(session, entries, 1, &err);
        wtl_alloc_set_hook(nullptr, nullptr);
        wtl_session_close(&session);
        wtl_engine_close(&engine);
        if (allocations_seen <= n) { // the run has no n-th allocation: all have been tried
            EXPECT_EQ(status, WTL_OK) << err.message;
            break;
        }
        if (!status) continue; // something optional was refused, such as compiled patterns
        ASSERT_EQ(status, WTL_ERR_NO_MEMORY) << "allocation " << n << ": " << err.message;
        ASSERT_NE(err.message[0], '\0');
        ASSERT_LT(n, 5000);
    }
    EXPECT_GT(n, 50);
}

TEST(Session, EveryFailedAllocationIsACleanRefusal) {
    for (wtl_dtype type : {WTL_DTYPE_Q4_1, WTL_DTYPE_F16}) {
        TinyOptions o;
        o.type = type;
        o.n_layers = 1;
        TinyModel model(o);
        for (const char *backend : {"cpu", "ref"}) fail_every_allocation(model.path(), backend, type);
    }
}

TEST(Engine, RefusesWhatItCannotRun) {
    wtl_engine *engine = nullptr;
    wtl_error err = {};
    wtl_engine_options o = {};
    EXPECT_EQ(wtl_engine_open(&o, &engine, &err), WTL_ERR_INVALID);
    TinyModel model(TinyOptions{});
    o.model_path = model.path();
    o.backend = "tpu";
    EXPECT_EQ(wtl_engine_open(&o, &engine, &err), WTL_ERR_INVALID);
    EXPECT_NE(std::string(err.message).find("tpu"), std::string::npos);
    o.backend = nullptr;
    o.n_threads = -1;
    EXPECT_EQ(wtl_engine_open(&o, &engine, &err), WTL_ERR_INVALID);
    EXPECT_EQ(engine, nullptr);
    Engine good(model.path(), 1);
    wtl_session *session = nullptr;
    wtl_session_options so = {};
    so.n_ctx = 100000;
    EXPECT_EQ(wtl_session_open(good.e, &so, &session, &err), WTL_ERR_LIMIT);
    EXPECT_NE(std::string(err.message).find("512"), std::string::npos) << err.message;
}

} // namespace
