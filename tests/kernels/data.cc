// Test data generators. Weights are random bytes with scales that keep values of a real model's size (about 0.05 to 0.5).
// SPDX-License-Identifier: Apache-2.0
#include "data.h"

#include <cmath>
#include <cstring>

#include "kernels/ref/ref.h"

namespace checker {

Host random_matrix(std::mt19937 &random, int rows, int cols, Fill fill) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    Host m(rows, cols);
    for (int r = 0; r < rows; r++) {
        float equal = normal(random);
        for (int c = 0; c < cols; c++) {
            float x = normal(random);
            switch (fill) {
            case Fill::Normal: break;
            case Fill::AllEqual: x = equal; break;
            case Fill::Huge: x *= 1e15f; break;
            case Fill::Tiny: x *= 1e-25f; break;
            case Fill::Subnormal: x *= 1e-40f; break;
            case Fill::Zero: x = c % 2 ? 0.0f : -0.0f; break;
            case Fill::Outlier: x = c % 37 == r % 37 ? x * 1000.0f : x * 0.01f; break;
            case Fill::Peaks: x *= c < 64 && c % 9 == r % 9 ? 1000.0f : 1.0f; break; // a few, some of one block
            case Fill::LoudBlock: x *= c / 32 == r % 8 ? 1000.0f : 1.0f; break;       // more peaks than may be outliers
            case Fill::Alternating: x = (c % 2 ? -1.0f : 1.0f) * 1.7320508f; break;
            }
            m.at(r, c) = x;
        }
    }
    return m;
}

std::vector<float> random_vector(std::mt19937 &random, int n, float mean, float spread) {
    std::normal_distribution<float> normal(mean, spread);
    std::vector<float> v((size_t)n);
    for (float &x : v) x = normal(random);
    return v;
}

namespace {

struct ScalePlaces {
    int d = -1, m = -1; // byte offsets of the f16 scale and of the f16 minimum inside a block
    float typical_d = 0, typical_m = 0;
};

ScalePlaces places_of(wtl_dtype dtype) {
    switch (dtype) {
    case WTL_DTYPE_Q4_0: case WTL_DTYPE_IQ4_NL: return {0, -1, dtype == WTL_DTYPE_Q4_0 ? 0.02f : 0.002f, 0};
    case WTL_DTYPE_Q4_1: return {0, 2, 0.02f, -0.15f};
    case WTL_DTYPE_Q5_0: return {0, -1, 0.01f, 0};
    case WTL_DTYPE_Q5_1: return {0, 2, 0.01f, -0.15f};
    case WTL_DTYPE_Q8_0: return {0, -1, 0.001f, 0};
    case WTL_DTYPE_Q2_K: return {80, 82, 0.005f, 0.005f};
    case WTL_DTYPE_Q3_K: return {108, -1, 0.002f, 0};
    case WTL_DTYPE_Q4_K: return {0, 2, 0.0004f, 0.003f};
    case WTL_DTYPE_Q5_K: return {0, 2, 0.0002f, 0.003f};
    case WTL_DTYPE_Q6_K: return {208, -1, 0.00005f, 0};
    case WTL_DTYPE_IQ4_XS: return {0, -1, 0.0001f, 0};
    default: return {};
    }
}

uint16_t scale_bits(std::mt19937 &random, Scales scales, float typical) {
    std::uniform_real_distribution<float> spread(0.5f, 2.0f);
    float value = typical * spread(random);
    if (scales == Scales::Mixed) scales = (Scales)(random() % 4);
    switch (scales) {
    case Scales::Negative: return wtl_f16_from_f32(-value);
    case Scales::Zero: return random() % 2 ? 0x8000 : 0;
    case Scales::Subnormal: return (uint16_t)(1 + random() % 0x3FF);
    default: return wtl_f16_from_f32(value);
    }
}

// Random 16-bit floats of a weight's size, now and then subnormal or zero.
void fill_floats(std::mt19937 &random, HostWeight &w) {
    std::normal_distribution<float> normal(0.0f, 0.1f);
    for (size_t i = 0; i < (size_t)w.rows * w.cols; i++) {
        float x = normal(random) * (i % 41 == 0 ? 1e-6f : i % 43 == 0 ? 0.0f : 1.0f);
        uint16_t half = w.dtype == WTL_DTYPE_F16 ? wtl_f16_from_f32(x) : wtl_bf16_from_f32(x);
        if (w.dtype == WTL_DTYPE_F32)
            std::memcpy(w.bytes.data() + 4 * i, &x, 4);
        else
            std::memcpy(w.bytes.data() + 2 * i, &half, 2);
    }
}

void fill_blocks(std::mt19937 &random, HostWeight &w, Codes codes, Scales scales) {
    ScalePlaces places = places_of(w.dtype);
    size_t block_bytes = wtl_dtype_get(w.dtype)->block_bytes;
    for (size_t at = 0; at < w.bytes.size(); at += block_bytes) {
        uint8_t *block = w.bytes.data() + at;
        for (size_t i = 0; i < block_bytes; i++) {
            switch (codes) {
            case Codes::Random: block[i] = (uint8_t)random(); break;
            case Codes::AllZero: block[i] = 0; break;
            case Codes::AllMax: block[i] = w.dtype == WTL_DTYPE_Q8_0 ? 0x7F : 0xFF; break;
            case Codes::Extremes: block[i] = (uint8_t)(random() % 2 ? 0x80 : 0x7F); break; // Q8_0: -128 and 127
            }
        }
        uint16_t d = scale_bits(random, scales, places.typical_d), m = scale_bits(random, scales, places.typical_m);
        std::memcpy(block + places.d, &d, 2);
        if (places.m >= 0) std::memcpy(block + places.m, &m, 2);
    }
}

// |d q| + |m| of each weight: dequantise once without minima and once without scales.
Host magnitudes(const HostWeight &w) {
    Host magnitude = w.value;
    ScalePlaces places = places_of(w.dtype);
    if (places.m >= 0) {
        size_t block_bytes = wtl_dtype_get(w.dtype)->block_bytes;
        std::vector<uint8_t> no_min(w.bytes.data(), w.bytes.data() + w.bytes.size()), only_min = no_min;
        for (size_t at = 0; at < no_min.size(); at += block_bytes) {
            std::memset(&no_min[at + places.m], 0, 2);
            std::memset(&only_min[at + places.d], 0, 2);
        }
        Host minimum(w.rows, w.cols);
        for (int r = 0; r < w.rows; r++) {
            size_t row = (size_t)r * no_min.size() / w.rows;
            ref_dequantize_row(w.dtype, &no_min[row], &magnitude.at(r, 0), w.cols);
            ref_dequantize_row(w.dtype, &only_min[row], &minimum.at(r, 0), w.cols);
        }
        for (size_t i = 0; i < minimum.v.size(); i++)
            magnitude.v[i] = std::fabs(magnitude.v[i]) + std::fabs(minimum.v[i]);
    }
    for (float &x : magnitude.v) x = std::fabs(x);
    return magnitude;
}

} // namespace

HostWeight random_weight(std::mt19937 &random, wtl_dtype dtype, int rows, int cols, Codes codes, Scales scales) {
    HostWeight w;
    uint64_t row_bytes = 0;
    EXPECT_TRUE(wtl_dtype_row_bytes(dtype, (uint64_t)cols, &row_bytes));
    w.dtype = dtype;
    w.rows = rows;
    w.cols = cols;
    w.bytes = Guarded((size_t)row_bytes * rows);
    if (is_quantised(dtype))
        fill_blocks(random, w, codes, scales);
    else
        fill_floats(random, w);
    w.bytes.make_read_only();
    w.value = Host(rows, cols);
    for (int r = 0; r < rows; r++)
        ref_dequantize_row(dtype, w.bytes.data() + (size_t)r * row_bytes, &w.value.at(r, 0), cols);
    w.magnitude = magnitudes(w);
    return w;
}

std::vector<wtl_dtype> runnable_types() {
    std::vector<wtl_dtype> types;
    for (uint32_t id = 0; id < WTL_DTYPE_ID_END; id++)
        if (wtl_dtype_get(id)->can_run) types.push_back((wtl_dtype)id);
    return types;
}

} // namespace checker
