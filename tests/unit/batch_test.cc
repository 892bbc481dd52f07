// Batches over tiny models: every request gets what it would get alone, in any company; ends, limits, cancelling.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <set>
#include <thread>

#include "runtime/base/alloc.h"
#include "tests/support/batch_world.h"

namespace {

using namespace batch_world;

wtl_sampler_options random_sampling(std::mt19937 &rng) {
    wtl_sampler_options s = {};
    if (rng() % 3 == 0) return s; // greedy
    s.temperature = 0.5f + (float)(rng() % 10) / 10;
    s.top_k = rng() % 2 ? 20 : 0;
    s.top_p = rng() % 2 ? 0.9f : 0;
    s.min_p = rng() % 2 ? 0.02f : 0;
    s.repeat_penalty = rng() % 2 ? 1.2f : 0;
    s.frequency_penalty = rng() % 3 ? 0 : 0.3f;
    s.seed = rng();
    return s;
}

struct World {
    const char *arch;
    int n_parallel, n_batch;
    double contexts; // KV memory, in full contexts
};

class BatchSchedules : public testing::TestWithParam<World> {};

// KV memory that holds so many full contexts beside n_parallel sequences.
uint64_t kv_for(const Engine &engine, const wtl_batch_options &o, double contexts) {
    wtl_session_options so = {};
    so.n_ctx = (int32_t)(o.n_ctx * contexts);
    so.n_seq_max = o.n_parallel;
    so.n_batch = o.n_batch;
    so.n_logits_max = o.n_parallel;
    wtl_memory memory;
    wtl_error err = {};
    EXPECT_EQ(wtl_session_memory(engine.e, &so, &memory, &err), WTL_OK) << err.message;
    return memory.kv_bytes;
}

TEST_P(BatchSchedules, EveryRequestGetsWhatItWouldGetAlone) {
    const World w = GetParam();
    const Engine &engine = engine_of(w.arch);
    const unsigned seed = 11;
    std::mt19937 rng(seed);
    wtl_batch_options o = small(engine, w.n_parallel, 128, w.n_batch);
    o.kv_bytes = kv_for(engine, o, w.contexts);
    Batch batch(o);
    std::vector<Tokens> heads;
    for (int i = 0; i < 3; i++) heads.push_back(random_tokens(rng, 20 + 25 * i));
    std::vector<std::unique_ptr<Ask>> asks;
    std::set<Ask *> cancelled;
    const int n = 60;
    int submitted = 0;
    while (submitted < n || batch.state().n_running || batch.state().n_waiting) {
        for (int k = (int)(rng() % 3); k > 0 && submitted < n; k--, submitted++) {
            Tokens prompt = rng() % 2 ? heads[rng() % 3] : Tokens();
            Tokens tail = random_tokens(rng, 1 + (int)(rng() % 40));
            prompt.insert(prompt.end(), tail.begin(), tail.end());
            const int choices = rng() % 4 ? 1 : 1 + (int)(rng() % std::min(3, w.n_parallel));
            asks.emplace_back(new Ask(prompt, 1 + (int)(rng() % 30), choices));
            Ask &a = *asks.back();
            a.request.sampling = random_sampling(rng);
            a.request.ignore_eos = rng() % 2;
            if (rng() % 5 == 0) a.request.n_top_logprobs = (int)(rng() % 4);
            const std::string user = "user " + std::to_string(rng() % 4);
            a.request.user_key = user.c_str();
            batch.submit(a);
            a.request.user_key = nullptr;
        }
        if (rng() % 10 == 0 && !asks.empty()) {
            Ask &a = *asks[rng() % asks.size()];
            if (wtl_batch_cancel(batch.b, a.id)) cancelled.insert(&a);
        }
        batch.step();
    }
    ASSERT_EQ(asks.size(), (size_t)n);
    EXPECT_GE(cancelled.size(), 2u);
    for (auto &a : asks) {
        ASSERT_TRUE(a->over);
        for (size_t c = 0; c < a->replies.size(); c++) {
            const Reply &r = a->replies[c];
            Tokens want = alone(engine, *a, (int)c, 128);
            if (cancelled.count(a.get())) {
                ASSERT_LE(r.tokens.size(), want.size());
                want.resize(r.tokens.size());
            } else {
                EXPECT_TRUE(r.finish == WTL_FINISH_LENGTH || (r.finish == WTL_FINISH_END && !a->request.ignore_eos)) << r.finish << r.error;
            }
            ASSERT_EQ(r.tokens, want) << "seed " << seed << ", request " << a->id << ", choice " << c << ", " << w.arch;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, BatchSchedules,
                         testing::Values(World{"llama", 6, 64, 6}, World{"llama", 3, 7, 3}, World{"llama", 8, 32, 2}, World{"gemma3", 6, 64, 6},
                                         World{"gemma3", 4, 16, 2.2}, World{"llama", 1, 1, 1}),
                         [](const auto &info) {
                             const World &w = info.param;
                             return std::string(w.arch) + "_" + std::to_string(w.n_parallel) + "_" + std::to_string(w.n_batch) + "_kv" +
                                    std::to_string((int)(w.contexts * 10));
                         });


TEST(BatchReplies, EndsSayWhy) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 4, 48));
    std::mt19937 rng(1);
    const Tokens prompt = random_tokens(rng, 10);
    Ask length(prompt, 5), context(prompt), full(random_tokens(rng, 48)), stop(prompt), end(prompt, 200);
    stop.on_token = [&](const wtl_batch_token &) { return stop.replies[0].tokens.size() < 3; };
    // An end token in the second place, wherever the model would go.
    const wtl_logit_bias to_end[] = {{257, 1000}};
    end.request.sampling.bias = to_end;
    end.request.sampling.n_bias = 1;
    end.request.ignore_eos = false;
    for (Ask *a : {&length, &context, &full, &stop, &end}) b.submit(*a);
    b.drain();
    EXPECT_EQ(length.replies[0].finish, WTL_FINISH_LENGTH);
    EXPECT_EQ(length.replies[0].tokens.size(), 5u);
    EXPECT_EQ(context.replies[0].finish, WTL_FINISH_CONTEXT);
    EXPECT_EQ(context.replies[0].tokens.size(), 39u); // the last one needs no place
    EXPECT_EQ(context.replies[0].tokens, alone(engine, context, 0, 48));
    EXPECT_EQ(full.replies[0].finish, WTL_FINISH_CONTEXT);
    EXPECT_EQ(full.replies[0].tokens.size(), 1u);
    EXPECT_EQ(stop.replies[0].finish, WTL_FINISH_STOP);
    EXPECT_EQ(stop.replies[0].tokens.size(), 3u);
    EXPECT_EQ(end.replies[0].finish, WTL_FINISH_END);
    EXPECT_EQ(end.replies[0].tokens, Tokens{257});
    // The same but told to go on.
    Ask on(prompt, 6);
    on.request.sampling = end.request.sampling;
    b.submit(on);
    b.drain();
    EXPECT_EQ(on.replies[0].tokens, Tokens(6, 257));
    EXPECT_EQ(on.replies[0].finish, WTL_FINISH_LENGTH);
}

TEST(BatchReplies, ChoicesSharePromptAndEndEachForItself) {
    const Engine &engine = engine_of("gemma3");
    Batch b(small(engine, 4));
    std::mt19937 rng(2);
    Ask a(random_tokens(rng, 37), 20, 4);
    a.request.sampling.temperature = 1;
    a.request.sampling.seed = 99;
    a.on_token = [&](const wtl_batch_token &t) { return t.choice != 1 || a.replies[1].tokens.size() < 3; };
    b.submit(a);
    b.step();
    wtl_batch_slot slots[8];
    size_t n = 0;
    EXPECT_EQ(wtl_batch_state_of(b.b, slots, 8, &n).n_running, 1);
    ASSERT_EQ(n, 4u);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(slots[i].request, a.id);
        EXPECT_EQ(slots[i].choice, i);
        EXPECT_EQ(slots[i].n_ctx_used, 37);
        EXPECT_EQ(slots[i].n_prompt_done, 37);
        EXPECT_EQ(slots[i].n_decoded, 1);
    }
    b.drain();
    EXPECT_EQ(a.last_facts.n_prefilled_tok, 37); // once
    EXPECT_EQ(a.last_facts.n_decoded_tok, 63);
    for (int i = 0; i < 4; i++) {
        Tokens want = alone(engine, a, i, 128);
        if (i == 1) want.resize(3);
        EXPECT_EQ(a.replies[i].tokens, want) << i;
        EXPECT_EQ(a.replies[i].finish, i == 1 ? WTL_FINISH_STOP : WTL_FINISH_LENGTH);
    }
    EXPECT_NE(a.replies[0].tokens, a.replies[2].tokens);
    const wtl_batch_state state = b.state();
    EXPECT_EQ(state.n_prompt_tok, 37u);
    EXPECT_EQ(state.n_decoded_tok, 63u);
    EXPECT_EQ(state.n_running, 0);
    EXPECT_GT(state.itl_ns, 0);
    EXPECT_GT(state.prefill_tok_per_s, 0);
    EXPECT_GT(state.decode_tok_per_s, 0);
    EXPECT_GT(state.busy_ns, 0u);
    EXPECT_GT(state.cpu_decode_ns, 0u);
}

TEST(BatchReplies, LogprobsAreThoseOfTheModelsOwnDistribution) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 2));
    std::mt19937 rng(3);
    Ask a(random_tokens(rng, 9), 6);
    const wtl_logit_bias bias[] = {{42, 1000}}; // moves the choice, not the log-probabilities
    a.request.sampling.bias = bias;
    a.request.sampling.n_bias = 1;
    a.request.n_top_logprobs = 5;
    b.submit(a);
    b.drain();
    wtl_session_options so = {};
    wtl_session *s = nullptr;
    wtl_error err = {};
    int32_t seq;
    ASSERT_EQ(wtl_session_open(engine.e, &so, &s, &err), WTL_OK);
    ASSERT_EQ(wtl_seq_open(s, &seq, &err), WTL_OK);
    ASSERT_EQ(wtl_session_prefill(s, seq, a.prompt.data(), a.prompt.size(), nullptr, nullptr, &err), WTL_OK);
    ASSERT_EQ(a.replies[0].tokens, Tokens(6, 42));
    for (int i = 0; i < 6; i++) {
        const float *x = wtl_session_logits(s, 0);
        long double sum = 0;
        std::vector<std::pair<float, int>> order;
        for (int t = 0; t < TinyModel::kVocab; t++) {
            sum += expl((long double)x[t]);
            order.push_back({-x[t], t});
        }
        std::sort(order.begin(), order.end());
        EXPECT_NEAR(a.replies[0].logprobs[i], (double)x[42] - (double)logl(sum), 1e-5);
        ASSERT_EQ(a.replies[0].tops[i].size(), 5u);
        for (int k = 0; k < 5; k++) {
            EXPECT_EQ(a.replies[0].tops[i][k].token, order[k].second);
            EXPECT_NEAR(a.replies[0].tops[i][k].logprob, (double)-order[k].first - (double)logl(sum), 1e-5);
        }
        wtl_entry e = {42, seq, true, 0};
        ASSERT_EQ(wtl_session_step(s, &e, 1, &err), WTL_OK);
    }
    wtl_session_close(&s);
}

TEST(BatchReplies, OnlyAllowedTokensAreTakenAndNoneIsAnError) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 2));
    std::mt19937 rng(4);
    Ask digits(random_tokens(rng, 9), 12), nothing(random_tokens(rng, 9), 12);
    digits.request.sampling.temperature = 1;
    digits.request.allows = [](void *user, int32_t, int32_t token) {
        const size_t n = static_cast<Ask *>(user)->replies[0].tokens.size();
        return n % 2 ? token == ',' : token >= '0' && token <= '9';
    };
    nothing.request.allows = [](void *user, int32_t, int32_t) { return static_cast<Ask *>(user)->replies[0].tokens.size() < 2; };
    b.submit(digits);
    b.submit(nothing);
    b.drain();
    ASSERT_EQ(digits.replies[0].tokens.size(), 12u);
    for (size_t i = 0; i < 12; i++) EXPECT_TRUE(i % 2 ? digits.replies[0].tokens[i] == ',' : isdigit(digits.replies[0].tokens[i]));
    EXPECT_EQ(nothing.replies[0].finish, WTL_FINISH_ERROR);
    EXPECT_EQ(nothing.replies[0].error, "no token is allowed here");
    EXPECT_EQ(nothing.replies[0].tokens.size(), 2u);
}

TEST(BatchReplies, FactsTellTheStoryOfARequest) {
    const Engine &engine = engine_of("llama");
    Batch b(small(engine, 1, 128, 16));
    std::mt19937 rng(5);
    Ask a(random_tokens(rng, 40), 3);
    a.request.arrived_ns = wtl_clock_ns() - 1000000000;
    b.submit(a);
    wtl_batch_facts f;
    ASSERT_TRUE(wtl_batch_facts_of(b.b, a.id, &f));
    EXPECT_EQ(f.n_prompt_tok, 40);
    EXPECT_EQ(f.arrived_ns, a.request.arrived_ns);
    EXPECT_EQ(f.started_ns, 0u);
    b.step();
    ASSERT_TRUE(wtl_batch_facts_of(b.b, a.id, &f));
    EXPECT_GT(f.started_ns, f.arrived_ns);
    EXPECT_EQ(f.n_prefilled_tok, 16);
    EXPECT_EQ(f.first_token_ns, 0u);
    EXPECT_EQ(a.progress, 2); // looked up, one chunk
    b.drain();
    EXPECT_FALSE(wtl_batch_facts_of(b.b, a.id, &f));
    f = a.last_facts;
    EXPECT_EQ(f.n_prefilled_tok + f.n_cached_tok, 40);
    EXPECT_EQ(f.n_decoded_tok, 3);
    EXPECT_GE(f.first_token_ns, f.started_ns);
    EXPECT_GT(f.last_token_ns, f.first_token_ns);
    EXPECT_EQ(a.progress, 4); // and two more chunks
}

// ---- Memory ------------------------------------------------------------------------------------------------------------------
int64_t refuse_at = -1, seen;
bool Hook(void *, size_t) { return seen++ != refuse_at; }

TEST(BatchMemory, DecodingAllocatesNothing) {
    const Engine &engine = engine_of("gemma3");
    Batch b(small(engine, 4));
    std::mt19937 rng(6);
    std::vector<std::unique_ptr<Ask>> asks;
    for (int i = 0; i < 4; i++) {
        asks.emplace_back(new Ask(random_tokens(rng, 10 + i), 60));
        asks[i]->request.sampling = random_sampling(rng);
        asks[i]->request.n_top_logprobs = i;
        b.submit(*asks[i]);
    }
    for (int i = 0; i < 5; i++) b.step();
    refuse_at = -1;
    seen = 0;
    wtl_alloc_set_hook(Hook, nullptr);
    for (int i = 0; i < 50; i++) b.step();
    wtl_alloc_set_hook(nullptr, nullptr);
    EXPECT_EQ(seen, 0);
    for (auto &a : asks) EXPECT_GT(a->replies[0].tokens.size(), 50u);
    b.drain();
}

TEST(BatchMemory, EveryRefusedAllocationIsAnErrorOfTheRightOne) {
    const Engine &engine = engine_of("llama");
    std::mt19937 rng(7);
    const Tokens prompt = random_tokens(rng, 20), other = random_tokens(rng, 20);
    const wtl_logit_bias bias[] = {{3, 1}};
    int failed_open = 0, failed_submit = 0, failed_run = 0;
    for (refuse_at = 0;; refuse_at++) {
        ASSERT_LT(refuse_at, 200);
        seen = 0;
        wtl_alloc_set_hook(Hook, nullptr);
        wtl_batch_options o = small(engine, 2);
        wtl_batch *b = nullptr;
        wtl_error err = {};
        Ask a(prompt, 4, 2), after(other, 4);
        a.request.sampling.temperature = 1;
        a.request.sampling.repeat_penalty = 1.1f;
        a.request.sampling.bias = bias;
        a.request.sampling.n_bias = 1;
        bool failed = true;
        const wtl_status opened = wtl_batch_open(&o, &b, &err);
        if (opened) {
            EXPECT_EQ(opened, WTL_ERR_NO_MEMORY);
            EXPECT_EQ(b, nullptr);
            failed_open++;
        } else if (const wtl_status submitted = wtl_batch_submit(b, &a.request, &a.id, &err)) {
            EXPECT_EQ(submitted, WTL_ERR_NO_MEMORY);
            EXPECT_EQ(wtl_batch_state_of(b, nullptr, 0, nullptr).n_waiting, 0);
            failed_submit++;
        } else {
            bool ran = true;
            while (ran) wtl_batch_step(b, &ran, &err);
            EXPECT_TRUE(a.over);
            failed = a.replies[0].finish == WTL_FINISH_ERROR || a.replies[1].finish == WTL_FINISH_ERROR;
            failed_run += failed;
        }
        wtl_alloc_set_hook(nullptr, nullptr);
        if (b) { // whatever failed, the next one gets its answer
            bool ran = true;
            EXPECT_EQ(wtl_batch_submit(b, &after.request, &after.id, &err), WTL_OK);
            while (ran) ASSERT_EQ(wtl_batch_step(b, &ran, &err), WTL_OK);
            EXPECT_EQ(after.replies[0].tokens, alone(engine, after, 0, 128));
        }
        wtl_batch_close(&b);
        if (!failed && seen <= refuse_at) break;
    }
    EXPECT_GT(failed_open, 5);
    EXPECT_GT(failed_submit, 5);
    EXPECT_GT(failed_run, 5);
}

} // namespace
