// Row ops of the cpu backend at the edges of f32, for every instruction set of this machine: activations far out, norms of
// huge and tiny rows, odd lengths beside a canary, rotations at late positions, half-precision saturation.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/attend.h"

namespace {

struct Isa {
    const char *name;
    const cpu_vec_kernels *kernels;
};

std::vector<Isa> isas() {
    std::vector<Isa> out = {{"scalar", &cpu_vec_scalar}};
#if defined(__x86_64__)
    if (cpu_isa_available(CPU_ISA_AVX2)) out.push_back({"avx2", &cpu_vec_avx2});
    if (cpu_isa_available(CPU_ISA_AVX512VNNI)) out.push_back({"avx512vnni", &cpu_vec_avx512vnni});
#elif defined(__aarch64__)
    out.push_back({"neon", &cpu_vec_neon});
#endif
    return out;
}

double silu(double x) { return x / (1.0 + std::exp(-x)); }
double gelu(double x) {
    double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
    return u < -20.0 ? x * std::exp(2.0 * u) : 0.5 * x * (1.0 + std::tanh(u));
}

// Largest error in ulp of f32 (of the smallest subnormal below that) over a sweep.
double worst_ulp(const cpu_vec_kernels &k, wtl_act act, float from, float to) {
    const int n = 100003;
    std::vector<float> x(n), one(n, 1.0f), y(n);
    for (int i = 0; i < n; i++) x[i] = from + (to - from) * (float)i / (float)(n - 1);
    k.glu(x.data(), one.data(), act, y.data(), n);
    double worst = 0.0;
    for (int i = 0; i < n; i++) {
        double want = act == WTL_ACT_SILU ? silu(x[i]) : gelu(x[i]);
        double ulp = std::max(std::fabs(want) * 0x1p-23, 0x1p-149);
        double error = std::fabs(y[i] - want) / ulp;
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

TEST(Vec, ActivationsWithinAFewUlp) {
    for (const Isa &isa : isas()) {
        EXPECT_LT(worst_ulp(*isa.kernels, WTL_ACT_SILU, -20.0f, 20.0f), 4.0) << isa.name;
        EXPECT_LT(worst_ulp(*isa.kernels, WTL_ACT_SILU, -87.0f, 120.0f), 4.0) << isa.name;
        // e^x is subnormal: half a unit of that times |x|.
        EXPECT_LT(worst_ulp(*isa.kernels, WTL_ACT_SILU, -120.0f, -87.0f), 64.0) << isa.name;
        EXPECT_LT(worst_ulp(*isa.kernels, WTL_ACT_GELU_TANH, -1.0f, 10.0f), 6.0) << isa.name;
        // An error of u in its last place counts |2u| times here.
        EXPECT_LT(worst_ulp(*isa.kernels, WTL_ACT_GELU_TANH, -5.0f, -1.0f), 32.0) << isa.name;
    }
}

TEST(Vec, ActivationsFarOut) {
    const float max = std::numeric_limits<float>::max(), nan = NAN, inf = INFINITY;
    for (const Isa &isa : isas()) {
        for (wtl_act act : {WTL_ACT_SILU, WTL_ACT_GELU_TANH}) {
            SCOPED_TRACE(testing::Message() << isa.name << ", act " << act);
            const float x[] = {0.0f, -0.0f, 100.0f, -100.0f, 1e20f, -1e20f, max, -max, 1e-40f, nan, inf, -inf};
            const float one[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
            float y[12];
            isa.kernels->glu(x, one, act, y, 12);
            EXPECT_EQ(y[0], 0.0f);
            EXPECT_EQ(y[1], 0.0f);
            EXPECT_EQ(y[2], 100.0f);
            EXPECT_NEAR(y[3], 0.0f, 1e-37f);
            EXPECT_EQ(y[4], 1e20f);
            EXPECT_EQ(y[5], 0.0f);
            EXPECT_EQ(y[6], max);
            EXPECT_EQ(y[7], 0.0f);
            EXPECT_NEAR(y[8], 0.5e-40f, 2e-45f);
            EXPECT_TRUE(std::isnan(y[9]));
            EXPECT_FALSE(std::isfinite(y[10]));
            EXPECT_FALSE(std::isfinite(y[11]));
        }
    }
}

TEST(Vec, NormOfAnyMagnitudeAndLength) {
    for (const Isa &isa : isas()) {
        for (float size : {1e-20f, 1.0f, 1e30f}) {
            for (int n = 1; n < 70; n++) {
                std::vector<float> x(n), w(n, 2.0f), y(n + 1, 77.0f);
                double squares = 0.0;
                for (int i = 0; i < n; i++) {
                    x[i] = size * (float)((i * 37) % 11 - 5);
                    squares += (double)x[i] * x[i];
                }
                isa.kernels->rms_norm(x.data(), w.data(), 1e-5f, y.data(), n);
                for (int i = 0; i < n; i++) {
                    double want = 2.0 * x[i] / std::sqrt(squares / n + (double)1e-5f);
                    ASSERT_NEAR(y[i], want, 3e-7 * std::fabs(want)) << isa.name << " " << size << " " << n;
                }
                ASSERT_EQ(y[n], 77.0f) << isa.name << " wrote past " << n;
            }
        }
    }
}

TEST(Vec, RopeTurnsPairsAndNothingElse) {
    std::mt19937 rng(11);
    std::normal_distribution<float> normal;
    for (const Isa &isa : isas()) {
        for (wtl_rope_style style : {WTL_ROPE_ADJACENT, WTL_ROPE_HALVES}) {
            for (int n_rot : {2, 6, 16, 30, 64, 80}) {
                SCOPED_TRACE(testing::Message() << isa.name << ", style " << style << ", n_rot " << n_rot);
                const int heads = 3, head_dim = 83;
                std::vector<float> x(heads * head_dim), table(n_rot);
                for (float &v : x) v = normal(rng);
                for (int j = 0; j < n_rot / 2; j++) {
                    table[j] = std::cos((float)j);
                    table[n_rot / 2 + j] = std::sin((float)j);
                }
                std::vector<float> y = x;
                isa.kernels->rope(y.data(), heads, head_dim, table.data(), n_rot, style);
                for (int h = 0; h < heads; h++) {
                    for (int j = 0; j < n_rot / 2; j++) {
                        int a = h * head_dim + (style == WTL_ROPE_HALVES ? j : 2 * j);
                        int b = style == WTL_ROPE_HALVES ? a + n_rot / 2 : a + 1;
                        double c = table[j], s = table[n_rot / 2 + j];
                        ASSERT_NEAR(y[a], x[a] * c - x[b] * s, 1e-6);
                        ASSERT_NEAR(y[b], x[b] * c + x[a] * s, 1e-6);
                    }
                    for (int d = n_rot; d < head_dim; d++) ASSERT_EQ(y[h * head_dim + d], x[h * head_dim + d]);
                }
            }
        }
    }
}

// Every instruction set holds the same numbers, and what f16 would saturate is clipped instead of becoming Inf.
TEST(Vec, CacheStoresAgree) {
    for (int head_dim : {5, 16, 40, 64}) {
        wtl_kv_shape shape = {WTL_DTYPE_F16, 2, head_dim};
        const cpu_kv_layout layout = cpu_kv_head_layout(&shape);
        std::vector<float> k(2 * head_dim), v(2 * head_dim);
        const float odd[] = {1e9f, -1e9f, 65519.9f, -65520.0f, 1e-8f, 3e-8f, 6e4f, 2049.0f, 2051.0f, INFINITY, -INFINITY};
        for (int i = 0; i < 2 * head_dim; i++) k[i] = odd[i % 11], v[i] = odd[(i + 5) % 11];
        const int slot = 7;
        for (const Isa &isa : isas()) {
            std::vector<float> block(cpu_kv_layer_bytes(&shape) / sizeof(float));
            isa.kernels->kv_store(&shape, k.data(), v.data(), (uint8_t *)block.data(), slot, NULL, 0);
            for (int h = 0; h < 2; h++) {
                const uint8_t *part = (const uint8_t *)block.data() + h * layout.bytes;
                float key_step = ((const float *)(part + layout.key_scales))[slot], value_step = ((const float *)(part + layout.value_scales))[slot];
                const int16_t *keys = (const int16_t *)part, *values = (const int16_t *)(part + layout.values);
                double norm = 0;
                for (int d = 0; d < head_dim; d++) {
                    float want_k = std::fmin(std::fmax(k[h * head_dim + d], -65504.0f), 65504.0f);
                    float want_v = std::fmin(std::fmax(v[h * head_dim + d], -65504.0f), 65504.0f);
                    int key = keys[(d / 2 * 16 + slot) * 2 + d % 2], value = values[(d / 16 * 8 + slot / 2) * 32 + d % 16 * 2 + slot % 2];
                    EXPECT_NEAR(key * (double)key_step, want_k, 0.5001 * key_step) << isa.name << ", key " << d;
                    EXPECT_NEAR(value * (double)value_step, want_v, 0.5001 * value_step) << isa.name << ", value " << d;
                    norm += (double)key * key;
                }
                EXPECT_LE(std::sqrt(norm), 46340) << isa.name;
            }
        }
    }
}

// A slot's numbers are its own: what other slots hold stays as it is, whatever is stored beside them or fetched meanwhile.
TEST(Vec, StoresLeaveOtherSlotsAlone) {
    for (wtl_dtype dtype : {WTL_DTYPE_F16, WTL_DTYPE_Q8_0, WTL_DTYPE_F32}) {
        for (int head_dim : {6, 40, 64}) {
            wtl_kv_shape shape = {dtype, 2, head_dim};
            std::vector<float> k(2 * head_dim), v(2 * head_dim);
            for (int i = 0; i < 2 * head_dim; i++) k[i] = std::sin(0.7f * (float)i), v[i] = std::cos(0.3f * (float)i);
            for (const Isa &isa : isas()) {
                std::vector<float> memory(cpu_kv_layer_bytes(&shape) / sizeof(float)), other = memory, both = memory, next = memory;
                auto store = [&](std::vector<float> &block, int slot) {
                    isa.kernels->kv_store(&shape, k.data(), v.data(), (uint8_t *)block.data(), slot, (uint8_t *)next.data(), 9);
                };
                for (auto *block : {&memory, &other, &both}) memset(block->data(), 0x5A, block->size() * sizeof(float));
                store(memory, 6), store(other, 7), store(both, 6), store(both, 7);
                const uint8_t *a = (const uint8_t *)memory.data(), *b = (const uint8_t *)other.data(), *ab = (const uint8_t *)both.data();
                for (size_t i = 0; i < memory.size() * sizeof(float); i++) {
                    ASSERT_TRUE(a[i] == 0x5A || b[i] == 0x5A) << isa.name << ", byte " << i << " belongs to two slots";
                    ASSERT_EQ(ab[i], a[i] != 0x5A ? a[i] : b[i]) << isa.name << ", byte " << i;
                }
                EXPECT_EQ(next, std::vector<float>(next.size())) << isa.name;
            }
        }
    }
}

// 32 numbers turned as turn.h does it.
std::vector<double> turned(const std::vector<double> &x) {
    std::vector<double> out(32);
    for (unsigned i = 0; i < 32; i++)
        for (unsigned j = 0; j < 32; j++) out[i] += __builtin_parity(i & j) ? -x[j] : x[j];
    return out;
}

// Bytes of a cache, turned back, are the numbers they came from to half a step; the same bytes whatever the instruction set.
TEST(Vec, ByteCacheStoresAgree) {
    for (int head_dim : {5, 32, 40, 64}) {
        wtl_kv_shape shape = {WTL_DTYPE_Q8_0, 2, head_dim};
        const cpu_kv_layout layout = cpu_kv_head_layout(&shape);
        std::vector<float> k(2 * head_dim), v(2 * head_dim);
        const float odd[] = {1e9f, -700.0f, 65519.9f, 3.0f, 1e-8f, -2.5f, 6e2f, 2049.0f, -1.0f, INFINITY, 0.5f};
        for (int i = 0; i < 2 * head_dim; i++) k[i] = odd[i % 11] * (i % 3 ? 1 : 1e-3f), v[i] = odd[(i + 5) % 11];
        const int slot = 7;
        std::vector<uint8_t> first;
        for (const Isa &isa : isas()) {
            std::vector<uint8_t> block(cpu_kv_layer_bytes(&shape));
            isa.kernels->kv_store(&shape, k.data(), v.data(), block.data(), slot, NULL, 0);
            if (first.empty()) first = block;
            EXPECT_EQ(block, first) << isa.name << ", head_dim " << head_dim;
            for (int i = 0; i < 4 * cpu_kv_groups(head_dim); i++) {
                const int h = i / 2 % 2, g = i / 4, n = std::min(32, head_dim - 32 * g);
                const bool key = i % 2 == 0;
                const uint8_t *part = block.data() + h * layout.bytes;
                uint16_t half;
                int16_t ratio;
                float top;
                memcpy(&half, part + layout.key_scales + (g * 16 + slot) * 2, 2);
                memcpy(&ratio, part + layout.value_ratios + (g * 16 + slot) * 2, 2);
                memcpy(&top, part + layout.value_scales + slot * 4, 4);
                const double step = key ? wtl_f32_from_f16(half) : (double)top * ratio / 32768;
                std::vector<double> stored(32), want(32);
                double largest = 0;
                for (int d = 0; d < n; d++) {
                    const int at = g * 32 + d;
                    stored[d] = step * (key ? part[at / 4 * 64 + slot * 4 + at % 4] - 128 : (int8_t)part[layout.values + g * 512 + slot / 2 * 64 + d * 2 + slot % 2]);
                    want[d] = std::fmin(std::fmax((key ? k : v)[h * head_dim + at], -65504.0f), 65504.0f);
                }
                if (n == 32) want = turned(want);
                for (int d = 0; d < n; d++) {
                    EXPECT_NEAR(stored[d], want[d], 0.5001 * step) << isa.name << (key ? ", key " : ", value ") << g * 32 + d;
                    largest = std::fmax(largest, std::fabs(want[d]));
                }
                EXPECT_LE(step, largest / 127 * 1.001 + 0x1p-24 + (key ? 0 : top / 32767)) << "coarser than it need be";
            }
        }
    }
}

} // namespace
