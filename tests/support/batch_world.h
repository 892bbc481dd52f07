// A batch over a tiny model, and what its requests got: for the tests of batching.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_BATCH_WORLD_H
#define WTL_TESTS_BATCH_WORLD_H

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/batch.h"
#include "tests/support/tiny_model.h"

namespace batch_world {

using Tokens = std::vector<int32_t>;

inline Tokens random_tokens(std::mt19937 &rng, int n) {
    Tokens t(n);
    for (int32_t &x : t) x = (int32_t)(rng() % 256);
    return t;
}

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
};

// One model of each architecture for all tests, opened once: small, so that a test is arithmetic of milliseconds.
inline const Engine &engine_of(const std::string &arch) {
    static std::map<std::string, std::pair<std::unique_ptr<TinyModel>, std::unique_ptr<Engine>>> all;
    auto &slot = all[arch];
    if (!slot.second) {
        TinyOptions o;
        o.arch = arch;
        o.n_layers = 2;
        o.n_embd = 64;
        o.n_ff = 128;
        o.n_heads = 2;
        o.n_heads_kv = 1;
        o.head_dim = 32;
        slot.first.reset(new TinyModel(o));
        slot.second.reset(new Engine(slot.first->path()));
    }
    return *slot.second;
}

// What one choice got.
struct Reply {
    Tokens tokens;
    std::vector<float> logprobs;
    std::vector<std::vector<wtl_token_logprob>> tops;
    wtl_finish finish = WTL_FINISH_NONE;
    std::string error;
    int n_events = 0;
};

struct Ask {
    Tokens prompt;
    wtl_batch_request request = {};
    std::vector<Reply> replies;
    uint64_t id = 0;
    std::atomic<bool> over{false}; // set last: from then on another thread may destroy this
    int progress = 0;
    wtl_batch *batch = nullptr;
    wtl_batch_facts facts = {}, last_facts = {};
    std::function<bool(const wtl_batch_token &)> on_token;
    std::function<void(const wtl_batch_facts &)> on_progress;

    explicit Ask(Tokens tokens, int max_tokens = 0, int n_choices = 1) : prompt(std::move(tokens)) {
        request.tokens = prompt.data();
        request.n_tokens = prompt.size();
        request.max_tokens = max_tokens;
        request.n_choices = n_choices;
        request.n_top_logprobs = -1;
        request.ignore_eos = true;
        replies.resize(n_choices ? n_choices : 1);
        request.user = this;
        request.on_token = [](void *user, const wtl_batch_token *t) { return static_cast<Ask *>(user)->take(*t); };
        request.on_progress = [](void *user, uint64_t id, const wtl_batch_facts *f) {
            auto *self = static_cast<Ask *>(user);
            self->id = id;
            self->progress++;
            self->facts = *f;
            if (self->on_progress) self->on_progress(*f);
        };
    }
    Ask(const Ask &) = delete;

    bool take(const wtl_batch_token &t) {
        EXPECT_FALSE(over) << "an event after the last";
        if (t.choice < 0 || t.choice >= (int)replies.size()) {
            ADD_FAILURE() << "choice " << t.choice;
            return true;
        }
        Reply &r = replies[t.choice];
        EXPECT_EQ(r.finish, WTL_FINISH_NONE) << "an event after the end of choice " << t.choice;
        r.n_events++;
        if (t.token >= 0) r.tokens.push_back(t.token);
        if (t.token >= 0 && request.n_top_logprobs >= 0) {
            r.logprobs.push_back(t.logprob);
            r.tops.emplace_back(t.top, t.top + t.n_top);
        }
        r.finish = t.finish;
        if (t.error) r.error = t.error->message;
        EXPECT_EQ(t.error != nullptr, t.finish == WTL_FINISH_ERROR);
        if (batch) {
            EXPECT_TRUE(wtl_batch_facts_of(batch, t.request, &last_facts)) << "facts inside on_token";
        }
        bool go_on = !on_token || on_token(t);
        if (!go_on && r.finish == WTL_FINISH_NONE) r.finish = WTL_FINISH_STOP;
        bool all = true;
        for (const Reply &other : replies) all = all && other.finish != WTL_FINISH_NONE;
        if (t.finish != WTL_FINISH_NONE) {
            EXPECT_EQ(t.last, all);
        }
        over = all;
        return go_on;
    }
};

struct Batch {
    wtl_batch *b = nullptr;
    wtl_error err{};
    explicit Batch(wtl_batch_options o) {
        EXPECT_EQ(wtl_batch_open(&o, &b, &err), WTL_OK) << err.message;
    }
    ~Batch() { wtl_batch_close(&b); }
    wtl_status try_submit(Ask &a) {
        a.batch = b;
        return wtl_batch_submit(b, &a.request, &a.id, &err);
    }
    void submit(Ask &a) { ASSERT_EQ(try_submit(a), WTL_OK) << err.message; }
    bool step() {
        bool ran = false;
        EXPECT_EQ(wtl_batch_step(b, &ran, &err), WTL_OK) << err.message;
        return ran;
    }
    int drain(int most = 100000) {
        int n = 0;
        while (n < most && step()) n++;
        EXPECT_LT(n, most) << "it never comes to an end";
        return n;
    }
    wtl_batch_state state() { return wtl_batch_state_of(b, nullptr, 0, nullptr); }
};

inline wtl_batch_options small(const Engine &engine, int n_parallel, int n_ctx = 128, int n_batch = 64) {
    wtl_batch_options o = {};
    o.engine = engine.e;
    o.n_parallel = n_parallel;
    o.n_ctx = n_ctx;
    o.n_batch = n_batch;
    return o;
}

// A request alone, token by token through the session: what every schedule must reproduce.
inline Tokens alone(const Engine &engine, const Ask &ask, int choice, int n_ctx) {
    wtl_session_options so = {};
    so.n_ctx = n_ctx;
    wtl_session *s = nullptr;
    wtl_sampler *sampler = nullptr;
    wtl_error err = {};
    int32_t seq = 0, n_vocab = wtl_engine_describe(engine.e).n_vocab;
    EXPECT_EQ(wtl_session_open(engine.e, &so, &s, &err), WTL_OK) << err.message;
    wtl_sampler_options sampling = ask.request.sampling;
    sampling.seed += (uint64_t)choice;
    EXPECT_EQ(wtl_sampler_open(&sampling, n_vocab, &sampler, &err), WTL_OK) << err.message;
    for (int32_t t : ask.prompt) wtl_sampler_accept(sampler, t);
    EXPECT_EQ(wtl_seq_open(s, &seq, &err), WTL_OK);
    EXPECT_EQ(wtl_session_prefill(s, seq, ask.prompt.data(), ask.prompt.size(), nullptr, nullptr, &err), WTL_OK) << err.message;
    Tokens out;
    for (;;) {
        int32_t token = -1;
        EXPECT_EQ(wtl_sampler_next(sampler, wtl_session_logits(s, 0), &token, &err), WTL_OK) << err.message;
        out.push_back(token);
        if (!ask.request.ignore_eos && wtl_token_is_end(wtl_engine_vocab(engine.e), token)) break;
        if (ask.request.max_tokens > 0 && (int)out.size() >= ask.request.max_tokens) break;
        if (wtl_seq_length(s, seq) >= n_ctx) break;
        wtl_entry e = {token, seq, true, 0};
        EXPECT_EQ(wtl_session_step(s, &e, 1, &err), WTL_OK) << err.message;
    }
    wtl_sampler_close(&sampler);
    wtl_session_close(&s);
    return out;
}

} // namespace batch_world

#endif
