// kv_write and attention of every target over the cases of cases.h, against the definition and against ref.
// SPDX-License-Identifier: Apache-2.0
#include "attention_oracle.h"

namespace checker {
namespace {

constexpr uint32_t kSeed = 9000;

std::string words(const AttentionCase &c) {
    std::ostringstream s;
    s << wtl_dtype_get(c.dtype)->name << ", " << c.n_heads_kv << " kv heads x " << c.group << ", head_dim "
      << c.head_dim << ", window " << c.window << ", " << name_of(c.fill) << ", spans";
    for (Span span : c.spans) s << " " << span.cached << "+" << span.fresh;
    s << ", seed " << kSeed;
    return s.str();
}

std::vector<Sequence> sequences_of(const AttentionCase &c) {
    std::vector<Sequence> sequences;
    for (size_t i = 0; i < c.spans.size(); i++)
        sequences.push_back(random_sequence(c, kSeed + (uint32_t)i, c.spans[i].cached + c.spans[i].fresh));
    return sequences;
}

// Everything cached is written in pieces of at most 64 rows, then one step writes and attends the fresh rows.
Host run(Rig &rig, const AttentionCase &c, const std::vector<Sequence> &sequences) {
    KvBench bench(rig, c, sequences, kSeed);
    std::vector<StepRows> last;
    for (int i = 0; i < (int)c.spans.size(); i++) {
        for (int at = 0; at < c.spans[i].cached; at += 64) bench.write({{i, at, std::min(64, c.spans[i].cached - at)}});
        last.push_back({i, c.spans[i].cached, c.spans[i].fresh});
    }
    bench.write(last);
    Host out = bench.attend(last);
    rig.check_memory();
    rig.forget();
    return out;
}

class Attention : public testing::TestWithParam<Target> {};

TEST_P(Attention, EveryCaseMatchesTheDefinition) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    for (const AttentionCase &c : attention_cases()) {
        SCOPED_TRACE(words(c));
        std::vector<Sequence> sequences = sequences_of(c);
        Host want(0, c.n_heads_kv * c.group * c.head_dim);
        std::vector<double> bound;
        for (size_t i = 0; i < sequences.size(); i++)
            for (int p = c.spans[i].cached; p < sequences[i].length(); p++)
                attend_by_definition(c, sequences[i], p, 1.0f / std::sqrt((float)c.head_dim), Storage::Any, want, bound);
        ASSERT_TRUE(within(run(rig, c, sequences), want, bound));
    }
}

// A bound is three times the root of the sum of squares of the largest errors that rounding can make; uniform ones are on average
// 1 / sqrt(3) of these, a fifth of the bound, and the bound counts more than these. What is off by a step everywhere would stay below the bound, but not as small as that.
TEST_P(Attention, RoundingIsAsSmallAsItShouldBeOnAverage) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    for (wtl_dtype dtype : {WTL_DTYPE_F16, WTL_DTYPE_Q8_0}) {
        AttentionCase c = {2, 3, 64, dtype, 0, {{20, 60}}};
        std::vector<Sequence> sequences = sequences_of(c);
        Host want(0, c.n_heads_kv * c.group * c.head_dim);
        std::vector<double> bound;
        for (int p = 20; p < 80; p++) attend_by_definition(c, sequences[0], p, 1.0f / std::sqrt((float)c.head_dim), Storage::Any, want, bound);
        Host got = run(rig, c, sequences);
        double squares = 0;
        for (size_t i = 0; i < bound.size(); i++) squares += square((got.v[i] - want.v[i]) / bound[i]);
        EXPECT_LT(std::sqrt(squares / (double)bound.size()), 0.15) << wtl_dtype_get(dtype)->name;
    }
}

// A row that sees only itself gives back its own v as the cache holds it: f32 and (ref) f16 and q8_0 with saturation bit for
// bit, 16 bits of whatever kind within half a step, bytes within three.
TEST_P(Attention, CacheRoundsToNearestEvenAndSaturates) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    for (wtl_dtype dtype : {WTL_DTYPE_F16, WTL_DTYPE_F32, WTL_DTYPE_Q8_0}) {
        AttentionCase c = {2, 2, 64, dtype, 1, {{0, 40}}};
        std::vector<Sequence> sequences = sequences_of(c);
        Host &v = sequences[0].v;
        std::mt19937 random(kSeed);
        for (size_t i = 0; i < v.v.size(); i++) {
            uint16_t h = (uint16_t)(random() & 0xFBFF); // finite, any sign and exponent
            if ((h & 0x7C00) == 0x7C00) h = (uint16_t)(h & 0x83FF);
            float low = wtl_f32_from_f16(h);
            switch (i % 4) {
            case 0: v.v[i] = (low + wtl_f32_from_f16((uint16_t)(h + ((h & 0x7FFF) < 0x7BFF)))) / 2; break; // ties
            case 1: v.v[i] = low; break;
            case 2: v.v[i] = v.v[i] * 1e5f; break; // beyond 65504
            default: break;
            }
        }
        Host want(40, 2 * 2 * 64), given = want;
        std::vector<double> bound;
        for (int p = 0; p < 40; p++)
            for (int h = 0; h < 4; h++) { // query heads
                const float *x = v.row(p) + h / 2 * 64;
                std::vector<float> held = stored(dtype, x, 64);
                std::vector<double> off = rounding(dtype, Part::Value, x, 64);
                const double halves = dtype == WTL_DTYPE_Q8_0 ? 3 : 1.001; // turned ones are sums of 32 errors
                for (int i = 0; i < 64; i++) {
                    want.at(p, h * 64 + i) = held[i] + 0.0f;
                    given.at(p, h * 64 + i) = saturated(x[i]);
                    bound.push_back(halves * off[i] + 4 * kEps * std::fabs(saturated(x[i])));
                }
            }
        Host got = run(rig, c, sequences);
        for (float &x : got.v) x += 0.0f; // the sign of zero is lost in a sum that starts at zero
        if (dtype == WTL_DTYPE_F32 || GetParam().backend == "ref") EXPECT_TRUE(same_bits(got, want)) << wtl_dtype_get(dtype)->name;
        else EXPECT_TRUE(within(got, given, bound)) << wtl_dtype_get(dtype)->name;
    }
}

// NaN or Inf in one row's q, k or v reaches the rows that may see it and no other.
TEST_P(Attention, PoisonStaysWithItsReaders) {
    Rig rig(GetParam());
    CHECKER_RIG(rig);
    AttentionCase c = {2, 2, 64, WTL_DTYPE_F32, 0, {{0, 40}, {20, 3}}};
    std::vector<Sequence> sequences = sequences_of(c);
    Host clean = run(rig, c, sequences);
    for (float poison : {NAN, HUGE_VALF, -HUGE_VALF}) {
        for (int what = 0; what < 3; what++) {
            for (int victim : {0, 17, 39}) {
                SCOPED_TRACE(testing::Message() << poison << " in " << "qkv"[what] << " of row " << victim);
                std::vector<Sequence> bad = sequences;
                (what == 0 ? bad[0].q : what == 1 ? bad[0].k : bad[0].v).at(victim, 5) = poison;
                Host got = run(rig, c, bad);
                int end = what == 0 ? victim + 1 : 40; // later rows of the sequence see k and v
                bool seen = false;
                for (int r = victim; r < end; r++)
                    for (int i = 0; i < got.cols; i++) {
                        seen |= r == victim && !std::isfinite(got.at(r, i));
                        got.at(r, i) = clean.at(r, i);
                    }
                bool limit = what == 1 && std::isinf(poison); // a score of -Inf is a weight of 0
                EXPECT_TRUE(seen || limit) << "the poisoned row came out finite";
                EXPECT_TRUE(same_bits(got, clean)) << "rows that cannot see it changed";
            }
        }
    }
}

// The oracle itself: nothing but the last rounding separates ref from the definition.
TEST(AttentionRef, IsTheDefinitionRoundedOnce) {
    Rig rig({"ref", ""});
    for (const AttentionCase &c : attention_cases()) {
        SCOPED_TRACE(words(c));
        std::vector<Sequence> sequences = sequences_of(c);
        Host want(0, c.n_heads_kv * c.group * c.head_dim);
        std::vector<double> bound, tight;
        for (size_t i = 0; i < sequences.size(); i++)
            for (int p = c.spans[i].cached; p < sequences[i].length(); p++)
                attend_by_definition(c, sequences[i], p, 1.0f / std::sqrt((float)c.head_dim), Storage::Exact, want, bound);
        for (size_t i = 0; i < bound.size(); i++)
            tight.push_back(kEps * std::fabs((double)want.v[i]) + 1e-6 * bound[i] + kSmallest);
        ASSERT_TRUE(within(run(rig, c, sequences), want, tight));
    }
}

INSTANTIATE_TEST_SUITE_P(Targets, Attention, testing::ValuesIn(targets()),
                         [](const auto &info) { return info.param.name(); });

} // namespace
} // namespace checker
