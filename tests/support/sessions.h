// Engines and sessions of small models with a few lines each: opened with checks, closed at the end of the scope.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_SESSIONS_H
#define WTL_TESTS_SESSIONS_H

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "runtime/wattle.h"
#include "tests/support/tiny_model.h"

using Tokens = std::vector<int32_t>;
using Logits = std::vector<float>;

struct Engine {
    wtl_engine *e = nullptr;
    explicit Engine(const char *path, int threads = 1) {
        wtl_engine_options o = {};
        o.model_path = path;
        o.n_threads = threads;
        o.deterministic = true;
        wtl_error err = {};
        EXPECT_EQ(wtl_engine_open(&o, &e, &err), WTL_OK) << err.message;
    }
    ~Engine() { wtl_engine_close(&e); }
    int n_vocab() const { return wtl_engine_describe(e).n_vocab; }
};

struct Session {
    wtl_session *s = nullptr;
    int n_vocab = 0;
    Session(const Engine &engine, const wtl_session_options &o) : n_vocab(engine.n_vocab()) {
        wtl_error err = {};
        EXPECT_EQ(wtl_session_open(engine.e, &o, &s, &err), WTL_OK) << err.message;
    }
    ~Session() { wtl_session_close(&s); }
    int open_prefix(const Tokens &tokens, int *n_cached) {
        int32_t seq = -1, n = -1;
        wtl_error err = {};
        EXPECT_EQ(wtl_seq_open_prefix(s, tokens.data(), tokens.size(), &seq, &n, &err), WTL_OK) << err.message;
        *n_cached = n;
        return seq;
    }
    // Runs tokens[from..to) of a sequence in one step; their logits, one vector per token.
    std::vector<Logits> run(int seq, const Tokens &tokens, size_t from, size_t to) {
        std::vector<wtl_entry> entries;
        for (size_t i = from; i < to; i++) entries.push_back({tokens[i], seq, true, 0});
        wtl_error err = {};
        EXPECT_EQ(wtl_session_step(s, entries.data(), (int32_t)entries.size(), &err), WTL_OK) << err.message;
        std::vector<Logits> out;
        for (int i = 0; const float *l = wtl_session_logits(s, i); i++) out.emplace_back(l, l + n_vocab);
        return out;
    }
    wtl_kv_usage usage() const { return wtl_session_kv_usage(s); }
};

inline wtl_session_options prefix_options(int n_ctx, int n_seq, int n_batch, uint64_t cache_bytes, wtl_kv_type kv = WTL_KV_F16) {
    wtl_session_options o = {};
    o.n_ctx = n_ctx;
    o.n_seq_max = n_seq;
    o.n_batch = o.n_logits_max = n_batch;
    o.kv_type = kv;
    o.keep_prefixes = true;
    o.cache_bytes = cache_bytes;
    return o;
}

inline Tokens random_tokens(std::mt19937 &rng, size_t n, int n_vocab) {
    Tokens t(n);
    for (int32_t &x : t) x = (int32_t)(rng() % (unsigned)n_vocab);
    return t;
}

inline bool same_bits(const Logits &a, const Logits &b) { return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0; }

// Length of what two lists begin with alike.
inline size_t common_length(const Tokens &a, const Tokens &b) {
    size_t k = 0;
    while (k < a.size() && k < b.size() && a[k] == b[k]) k++;
    return k;
}

// An environment variable for one scope.
class ScopedEnv {
  public:
    ScopedEnv(const char *name, const char *value) : name_(name) {
        const char *old = getenv(name);
        had_ = old;
        old_ = old ? old : "";
        setenv(name, value, 1);
    }
    ~ScopedEnv() {
        if (had_) setenv(name_, old_.c_str(), 1);
        else unsetenv(name_);
    }

  private:
    const char *name_;
    bool had_;
    std::string old_;
};

#endif
