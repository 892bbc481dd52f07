// Real models against golden logits: llama.cpp on an exact F32 copy of the same file (see the README beside the data).
//
// Needs the golden files (WTL_SHARED_DATA/golden) and the models (environment WTL_TEST_SMOLLM2, WTL_TEST_GEMMA3).
// KLD is golden against engine over golden's 64 most likely tokens and one bucket for the rest, in nats.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <jansson.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "runtime/wattle.h"

namespace {

using Json = std::unique_ptr<json_t, void (*)(json_t *)>;

Json load_gz(const std::string &path) {
    std::string text;
    FILE *p = popen(("gzip -dc '" + path + "' 2>/dev/null").c_str(), "r");
    char buf[65536];
    for (size_t n; p && (n = fread(buf, 1, sizeof buf, p)) > 0;) text.append(buf, n);
    if (p) pclose(p);
    return Json(json_loads(text.c_str(), 0, nullptr), json_decref);
}

std::vector<int32_t> ints(json_t *array) {
    std::vector<int32_t> v;
    size_t i;
    json_t *x;
    json_array_foreach(array, i, x) v.push_back((int32_t)json_integer_value(x));
    return v;
}


std::vector<double> log_softmax(const float *logits, int n) {
    double max = *std::max_element(logits, logits + n), sum = 0;
    for (int i = 0; i < n; i++) sum += std::exp(logits[i] - max);
    std::vector<double> out(n);
    for (int i = 0; i < n; i++) out[i] = logits[i] - max - std::log(sum);
    return out;
}

double kld(json_t *gold, const std::vector<double> &lp) {
    double total = 0, p_seen = 0, q_seen = 0;
    json_t *ids = json_object_get(gold, "ids"), *lps = json_object_get(gold, "logprobs");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        double want = json_number_value(json_array_get(lps, i));
        double got = lp[json_integer_value(json_array_get(ids, i))];
        total += std::exp(want) * (want - got);
        p_seen += std::exp(want);
        q_seen += std::exp(got);
    }
    double p_rest = std::max(1 - p_seen, 1e-12), q_rest = std::max(1 - q_seen, 1e-12);
    return total + p_rest * std::log(p_rest / q_rest);
}

class Golden : public testing::TestWithParam<std::tuple<const char *, const char *, const char *, wtl_kv_type>> {
  protected:
    void SetUp() override {
        const char *env = std::get<1>(GetParam());
        const char *path = getenv(env);
        if (!path) GTEST_SKIP() << env << " is not set to the model's path";
        golden_ = load_gz(std::string(WTL_SHARED_DATA "/golden/") + std::get<0>(GetParam()) + ".json.gz");
        if (!golden_) GTEST_SKIP() << "the golden files are not at " WTL_SHARED_DATA "/golden";
        ref_ = std::string(std::get<2>(GetParam())) == "ref";
        wtl_error err = {};
        wtl_engine_options eo = {};
        eo.model_path = path;
        eo.backend = std::get<2>(GetParam());
        ASSERT_EQ(wtl_engine_open(&eo, &engine_, &err), WTL_OK) << err.message;
        wtl_session_options so = {};
        so.n_ctx = 1024;
        so.n_batch = 128;
        so.n_logits_max = 64;
        so.kv_type = std::get<3>(GetParam());
        ASSERT_EQ(wtl_session_open(engine_, &so, &session_, &err), WTL_OK) << err.message;
        n_vocab_ = wtl_engine_describe(engine_).n_vocab;
    }
    void TearDown() override {
        wtl_session_close(&session_);
        wtl_engine_close(&engine_);
    }

    bool ref_ = false;
    Json golden_{nullptr, json_decref};
    wtl_engine *engine_ = nullptr;
    wtl_session *session_ = nullptr;
    int n_vocab_ = 0;
};

TEST_P(Golden, PassageLogitsAreClose) {
    json_t *passage = json_object_get(golden_.get(), "passage"), *positions = json_object_get(passage, "positions");
    std::vector<int32_t> tokens = ints(json_object_get(passage, "tokens"));
    std::vector<double> klds;
    size_t next = 0, same = 0;
    int32_t seq;
    wtl_error err = {};
    ASSERT_EQ(wtl_seq_open(session_, &seq, &err), WTL_OK);
    for (size_t done = 0; done < tokens.size(); done += 128) {
        size_t n = std::min<size_t>(128, tokens.size() - done);
        std::vector<wtl_entry> entries;
        for (size_t i = 0; i < n; i++) entries.push_back({tokens[done + i], seq, (done + i) % 4 == 0, 0});
        ASSERT_EQ(wtl_session_step(session_, entries.data(), (int32_t)n, &err), WTL_OK) << err.message;
        for (int i = 0; const float *logits = wtl_session_logits(session_, i); i++, next++) {
            json_t *gold = json_array_get(positions, next);
            ASSERT_TRUE(gold);
            std::vector<double> lp = log_softmax(logits, n_vocab_);
            klds.push_back(kld(gold, lp));
            same += std::max_element(lp.begin(), lp.end()) - lp.begin() ==
                    json_integer_value(json_array_get(json_object_get(gold, "ids"), 0));
        }
    }
    ASSERT_EQ(next, json_array_size(positions));
    double mean = 0;
    for (double k : klds) mean += k / (double)klds.size();
    std::sort(klds.begin(), klds.end());
    double p99 = klds[(size_t)(0.99 * (double)(klds.size() - 1))];
    json_t *peer = json_object_get(passage, "llama_cpp");
    double peer_mean = json_number_value(json_object_get(peer, "mean_kld")), peer_p99 = json_number_value(json_object_get(peer, "p99_kld"));
    printf("%zu positions: mean KLD %.3e, p99 %.3e, top-1 %.3f; llama.cpp: %.3e, %.3e, %.3f\n", klds.size(), mean, p99,
           (double)same / (double)klds.size(), peer_mean, peer_p99, json_number_value(json_object_get(peer, "top1_agreement")));
    if (ref_) {
        EXPECT_LE(mean, 1e-5);
    } else {
        EXPECT_LE(mean, peer_mean);
        EXPECT_LE(p99, peer_p99);
    }
}

TEST_P(Golden, GreedyContinuationsAreEqualUpToTheFirstNarrowMargin) {
    json_t *prompt;
    size_t index;
    wtl_error err = {};
    int compared = 0;
    // The root mean square error of a difference of two logits is about 0.06 nat, with a cache of bytes 0.08.
    const double narrow = std::get<3>(GetParam()) == WTL_KV_Q8_0 ? 0.2 : 0.1;
    json_array_foreach(json_object_get(golden_.get(), "prompts"), index, prompt) {
        const char *text = json_string_value(json_object_get(prompt, "text"));
        SCOPED_TRACE(text);
        std::vector<int32_t> want = ints(json_object_get(prompt, "tokens")), greedy = ints(json_object_get(prompt, "greedy"));
        size_t n = 0;
        std::vector<int32_t> ids(want.size() + 64);
        ASSERT_EQ(wtl_tokenize(wtl_engine_vocab(engine_), text, strlen(text), WTL_ADD_SPECIAL | WTL_PARSE_SPECIAL, ids.data(), ids.size(), &n, &err), WTL_OK);
        ids.resize(n);
        ASSERT_EQ(ids, want);
        int32_t seq;
        ASSERT_EQ(wtl_seq_open(session_, &seq, &err), WTL_OK) << err.message;
        ASSERT_EQ(wtl_session_prefill(session_, seq, ids.data(), n, nullptr, nullptr, &err), WTL_OK) << err.message;
        // The reference takes 0.2 s a token; its logits are held much closer in the passage, and a few steps show that decoding continues it.
        for (size_t i = 0; i < greedy.size() && !(ref_ && i == 8); i++) {
            const double margin = json_number_value(json_array_get(json_object_get(prompt, "margin"), i));
            if (margin < narrow) break;
            const float *logits = wtl_session_logits(session_, 0);
            int32_t got = (int32_t)(std::max_element(logits, logits + n_vocab_) - logits);
            ASSERT_EQ(got, greedy[i]) << "token " << i << ", margin " << margin << " nat";
            compared++;
            wtl_entry entry = {got, seq, true, 0};
            ASSERT_EQ(wtl_session_step(session_, &entry, 1, &err), WTL_OK) << err.message;
        }
        wtl_seq_close(session_, seq);
    }
    printf("%d greedy tokens equal\n", compared);
    EXPECT_GT(compared, 50);
}

// Prompt in one step, in odd chunks beside another sequence, or token by token, with one thread or two: the same bits.
TEST_P(Golden, LogitsDoNotDependOnHowTheTokensCame) {
    if (ref_) GTEST_SKIP() << "a promise of the cpu backend";
    std::vector<int32_t> tokens = ints(json_object_get(json_object_get(golden_.get(), "passage"), "tokens"));
    tokens.resize(96);
    const size_t row = (size_t)n_vocab_;
    wtl_error err = {};
    std::vector<float> want; // logits of the last 32 positions, from one step
    for (int threads = 1; threads <= 2; threads++) {
        wtl_engine *engine = nullptr;
        wtl_session *session = nullptr;
        wtl_engine_options eo = {};
        eo.model_path = getenv(std::get<1>(GetParam()));
        eo.n_threads = threads;
        ASSERT_EQ(wtl_engine_open(&eo, &engine, &err), WTL_OK) << err.message;
        wtl_session_options so = {};
        so.n_ctx = 512;
        so.n_seq_max = 3;
        so.n_batch = 128;
        so.n_logits_max = 40;
        so.kv_type = std::get<3>(GetParam());
        ASSERT_EQ(wtl_session_open(engine, &so, &session, &err), WTL_OK) << err.message;
        int32_t seq[3];
        for (int32_t &s : seq) ASSERT_EQ(wtl_seq_open(session, &s, &err), WTL_OK);
        auto step = [&](std::vector<wtl_entry> e) { return wtl_session_step(session, e.data(), (int32_t)e.size(), &err); };
        auto part = [&](int32_t s, size_t from, size_t n) {
            std::vector<wtl_entry> e;
            for (size_t i = from; i < from + n; i++) e.push_back({tokens[i], s, i >= 64, 0});
            return e;
        };
        ASSERT_EQ(step(part(seq[0], 0, 96)), WTL_OK) << err.message;
        const float *got = wtl_session_logits(session, 0);
        if (want.empty()) want.assign(got, got + 32 * row);
        EXPECT_EQ(memcmp(got, want.data(), 32 * row * sizeof(float)), 0) << "one step, " << threads << " threads";
        for (size_t at = 0; at < 96; at += 7) { // chunks of 7 beside one decoded token of another sequence
            std::vector<wtl_entry> e = part(seq[1], at, std::min<size_t>(7, 96 - at));
            size_t wanted = 0, first = std::max<size_t>(at, 64);
            for (const wtl_entry &x : e) wanted += x.want_logits;
            e.push_back({5, seq[2], false, 0});
            ASSERT_EQ(step(e), WTL_OK) << err.message;
            if (!wanted) continue;
            EXPECT_EQ(memcmp(wtl_session_logits(session, 0), want.data() + (first - 64) * row, wanted * row * sizeof(float)), 0)
                << "chunk at " << at << ", " << threads << " threads";
        }
        ASSERT_EQ(wtl_seq_rewind(session, seq[1], 90, &err), WTL_OK) << err.message;
        for (size_t i = 90; i < 96; i++) {
            ASSERT_EQ(step(part(seq[1], i, 1)), WTL_OK) << err.message;
            EXPECT_EQ(memcmp(wtl_session_logits(session, 0), want.data() + (i - 64) * row, row * sizeof(float)), 0) << "decoded " << i;
        }
        wtl_session_close(&session);
        wtl_engine_close(&engine);
    }
}

using Case = std::tuple<const char *, const char *, const char *, wtl_kv_type>;
INSTANTIATE_TEST_SUITE_P(RealModels, Golden,
                         testing::Values(Case("smollm2", "WTL_TEST_SMOLLM2", "cpu", WTL_KV_F16), Case("gemma3", "WTL_TEST_GEMMA3", "cpu", WTL_KV_F16),
                                         Case("smollm2", "WTL_TEST_SMOLLM2", "cpu", WTL_KV_Q8_0), Case("gemma3", "WTL_TEST_GEMMA3", "cpu", WTL_KV_Q8_0),
                                         Case("smollm2", "WTL_TEST_SMOLLM2", "ref", WTL_KV_F32), Case("gemma3", "WTL_TEST_GEMMA3", "ref", WTL_KV_F32)),
                         [](const auto &info) {
                             const bool bytes = std::get<3>(info.param) == WTL_KV_Q8_0;
                             return std::string(std::get<0>(info.param)) + "_" + std::get<2>(info.param) + (bytes ? "_q8_0" : "");
                         });

} // namespace
