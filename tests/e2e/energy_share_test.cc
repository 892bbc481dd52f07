// Eight requests at once through the library, beside a meter that plays a trace with a known truth in real time: shares that add up.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <cinttypes>

#include "runtime/energy.h"
#include "tests/e2e/energy_rig.h"
#include "tests/support/tiny_model.h"

namespace {

constexpr int kRequests = 8;

struct Rig {
    wtl_engine *engine = nullptr;
    wtl_session *session = nullptr;
    tel_meter *meter = nullptr;
    wtl_energy *energy = nullptr;
    ~Rig() {
        wtl_energy_close(&energy);
        tel_meter_close(&meter);
        wtl_session_close(&session);
        wtl_engine_close(&engine);
    }
    bool open(const char *model, const std::string &sensor) {
        wtl_error err = {};
        tel_error tel_err = {};
        wtl_engine_options eo = {};
        eo.model_path = model;
        wtl_session_options so = {};
        so.n_seq_max = kRequests;
        so.n_ctx = 4096;
        so.n_batch = 128;
        const std::string source = "replay:" + sensor;
        tel_options to = {};
        to.source = source.c_str();
        const bool ok = wtl_engine_open(&eo, &engine, &err) == WTL_OK && wtl_session_open(engine, &so, &session, &err) == WTL_OK &&
                        tel_meter_open(&to, &meter, &tel_err) == TEL_OK;
        EXPECT_TRUE(ok) << err.message << tel_err.message;
        if (!ok) return false;
        wtl_energy_options oo = {};
        oo.meter = meter;
        oo.engine = engine;
        EXPECT_EQ(wtl_energy_open(&oo, &energy, &err), WTL_OK) << err.message;
        return energy != nullptr;
    }
};

struct Request {
    uint64_t id = 0;
    int32_t seq = -1;
    std::vector<int32_t> prompt;
    size_t done = 0;
    int left = 0; // tokens to decode
    int32_t next = 0;
    bool running() const { return seq >= 0; }
};

// Prompts in pieces of 24 beside decodes of one token, until all have had their tokens; request `abort_at` is dropped half way.
void serve(Rig &rig, std::vector<Request> &requests, int abort_at) {
    std::array<uint64_t, kRequests> ids = {};
    for (bool any = true; any;) {
        std::vector<wtl_entry> batch;
        std::vector<std::pair<Request *, int>> takes;
        for (Request &r : requests) {
            if (!r.running()) continue;
            const size_t n = r.done < r.prompt.size() ? std::min<size_t>(24, r.prompt.size() - r.done) : 1;
            if (batch.size() + n > 128) continue;
            for (size_t i = 0; i < n; i++)
                batch.push_back({r.done < r.prompt.size() ? r.prompt[r.done + i] : r.next, r.seq, i + 1 == n, 0});
            takes.push_back({&r, (int)n});
        }
        any = !batch.empty();
        if (!any) break;
        wtl_error err = {};
        ASSERT_EQ(wtl_session_step(rig.session, batch.data(), (int32_t)batch.size(), &err), WTL_OK) << err.message;
        wtl_step_work work = wtl_session_work(rig.session);
        ASSERT_EQ(work.n_seqs, (int)takes.size());
        for (int i = 0; i < work.n_seqs; i++)
            for (Request &r : requests)
                if (r.seq == work.seqs[i].seq) ids[(size_t)i] = r.id;
        wtl_energy_step(rig.energy, &work, ids.data());
        for (auto &[r, n] : takes) {
            if (r->done < r->prompt.size()) r->done += (size_t)n;
            else r->left--;
            r->next = (r->next * 31 + 7) % 250;
            const bool aborted = r == &requests[(size_t)abort_at] && r->left < 40;
            if (r->left > 0 && !aborted) continue;
            wtl_seq_close(rig.session, r->seq);
            wtl_energy_end(rig.energy, r->id);
            r->seq = -1;
        }
    }
}

// steady: a device that always draws the same, so that shares follow the work; else its power has nothing to do with the work.
void eight_at_once(const char *model, int prompt_tok, int decode_tok, const char *shape, unsigned seed, bool steady = false) {
    TempDir dir;
    const Trace trace = make_trace(dir, shape, seed, 60, std::string("--kind counter --busy-w 60 --idle-w ") + (steady ? "60" : "15"));
    Rig rig;
    ASSERT_TRUE(rig.open(model, trace.sensor));
    std::vector<Request> requests(kRequests);
    for (int i = 0; i < kRequests; i++) {
        Request &r = requests[(size_t)i];
        // 0 and 1 are alike; the others differ in length.
        const int n = i < 2 ? prompt_tok : prompt_tok * (3 + i) / 6;
        for (int k = 0; k < n; k++) r.prompt.push_back(i < 2 ? (k * 17) % 250 : (k * 17 + 31 * i) % 250);
        r.left = decode_tok;
        wtl_error err = {};
        ASSERT_EQ(wtl_seq_open(rig.session, &r.seq, &err), WTL_OK) << err.message;
        wtl_energy_request request = {};
        request.n_prompt_tok = n;
        r.id = wtl_energy_begin(rig.energy, &request);
        ASSERT_GT(r.id, 0u);
    }
    serve(rig, requests, 7);
    if (testing::Test::HasFatalFailure()) return;

    double sum = 0, bounds = 0;
    std::vector<wtl_energy_report> reports(kRequests);
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < kRequests; i++) {
        wtl_energy_report &r = reports[(size_t)i];
        EXPECT_TRUE(wtl_energy_settle(rig.energy, requests[(size_t)i].id, 2000000000));
        ASSERT_TRUE(wtl_energy_report_of(rig.energy, requests[(size_t)i].id, &r));
        ASSERT_NE(r.total.status, TEL_UNAVAILABLE) << r.total.reason;
        EXPECT_EQ(r.total.method, TEL_METHOD_REPLAYED);
        EXPECT_GT(r.total.energy_uj, 0u);
        EXPECT_EQ(r.prefill.n_tok, (int)requests[(size_t)i].prompt.size());
        sum += (double)r.total.energy_uj / 1e6;
        bounds += (double)r.total.bound_uj / 1e6;
        start = std::min(start, r.start_ns);
        end = std::max(end, r.end_ns);
    }
    // Steps follow each other without a pause worth naming, so the truth of all together is that of the whole span.
    const double zero = (double)tel_meter_domain(rig.meter, 0).replay_zero_ns / 1e9;
    const double truth = Truth(trace.truth).joules((double)start / 1e9 - zero, (double)end / 1e9 - zero);
    std::printf("%s, %.2f s: eight requests %.3f J +- %.3f, truth %.3f; alike: %.3f +- %.3f and %.3f; aborted %.3f\n", shape, (double)(end - start) / 1e9, sum, bounds,
                truth, (double)reports[0].total.energy_uj / 1e6, (double)reports[0].total.bound_uj / 1e6, (double)reports[1].total.energy_uj / 1e6,
                (double)reports[7].total.energy_uj / 1e6);
    EXPECT_LE(std::fabs(sum - truth), bounds);
    EXPECT_NEAR(sum / truth, 1, 0.05); // what the split leaves open lies between the requests, not in their sum

    // Exactly, to the microjoule, in every domain.
    uint64_t booked = 0;
    for (size_t d = 0; d < tel_meter_n_counting(rig.meter); d++) {
        const wtl_energy_totals t = wtl_energy_totals_of(rig.energy, d);
        EXPECT_EQ(t.source_uj, t.requests_uj + t.idle_uj + t.unattributed_uj);
        booked += t.requests_uj;
    }
    EXPECT_NEAR((double)booked, sum * 1e6, kRequests);

    // The same prompt and the same number of tokens: the same joules, and the same to a tenth of a per cent as the model splits.
    const double a = (double)reports[0].total.energy_uj, b = (double)reports[1].total.energy_uj;
    EXPECT_LE(std::fabs(a - b), (double)(reports[0].total.bound_uj + reports[1].total.bound_uj));
    EXPECT_NEAR(a / b, 1, 0.02);
    EXPECT_GT(reports[7].decode.energy.energy_uj, 0u);
    EXPECT_LT(reports[7].decode.n_tok, reports[6].decode.n_tok);
    if (!steady) return;
    // Nobody has more than the whole device while its own steps ran, nor less than half of an even share of that.
    for (const wtl_energy_report &r : reports) {
        const double whole = 60 * (double)(r.prefill.busy_ns + r.decode.busy_ns) / 1e9, joules = (double)r.total.energy_uj / 1e6;
        EXPECT_LE(joules, whole);
        EXPECT_GE(joules, whole / kRequests / 2);
    }
    const double low6 = (double)reports[6].prefill.energy.low_uj, high6 = (double)reports[6].prefill.energy.high_uj;
    EXPECT_GE(high6, (double)reports[2].prefill.energy.low_uj); // 1.8 times the prompt
    EXPECT_LE(low6, 4 * (double)reports[2].prefill.energy.high_uj);
    EXPECT_LT(reports[7].decode.energy.low_uj, reports[6].decode.energy.high_uj); // left early
}

TEST(EightAtOnce, TinyModel) {
    TinyOptions o;
    o.n_layers = 4;
    o.n_embd = 512;
    o.n_heads = 8;
    o.n_heads_kv = 4;
    o.n_ff = 1024;
    o.n_ctx = 4096;
    const TinyModel model(o);
    for (const char *shape : {"llm", "square", "levels"}) eight_at_once(model.path(), 90, 160, shape, 5);
    eight_at_once(model.path(), 90, 160, "levels", 5, true);
}

TEST(EightAtOnce, RealModel) {
    const char *model = getenv("WTL_TEST_SMOLLM2");
    if (!model) GTEST_SKIP() << "WTL_TEST_SMOLLM2 does not name a model file";
    for (const char *shape : {"llm", "sine"}) eight_at_once(model, 100, 60, shape, 6);
    eight_at_once(model, 100, 60, "levels", 6, true);
}

} // namespace
