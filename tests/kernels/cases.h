// The case table: which shapes, data and layouts every op is run with on every backend and instruction set.
//
// Sizes are chosen around the edges of blocks (16 positions, 32 and 256 weights), panels (16 rows), tiles of columns (up to
// 16) and vectors (4, 8, 16), plus the shapes of the two models that everybody runs. NaN/Inf policy: a poisoned row comes
// out poisoned somewhere, all others unchanged to the bit.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_CASES_H
#define WTL_TESTS_CASES_H

#include "data.h"

namespace checker {

struct MatmulCase {
    int rows, cols, n; // w [rows, cols], x [n, cols]
    Fill fill = Fill::Normal;
    Codes codes = Codes::Random;
    Scales scales = Scales::Normal;
    Layout layout = {};
    bool bias = false, accumulate = false;
};

// For one type: cols are multiples of its block.
inline std::vector<MatmulCase> matmul_cases(wtl_dtype dtype) {
    int block = (int)wtl_dtype_get(dtype)->block_weights, wide = block == 256 ? 512 : 576;
    std::vector<MatmulCase> cases;
    for (int n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 32, 33, 64}) cases.push_back({33, 256, n});
    for (int rows : {1, 2, 7, 15, 16, 17, 31, 32, 48, 100, 129}) cases.push_back({rows, 256, 3});
    for (int cols : {1, 3, 8, 17, 31, 32, 33, 64, 96, 100, 256, 512, 576, 640, 768, 1024, 1536, 2048})
        if (cols % block == 0) cases.push_back({18, cols, 5});
    for (Fill fill : {Fill::AllEqual, Fill::Huge, Fill::Tiny, Fill::Subnormal, Fill::Zero, Fill::Outlier, Fill::Alternating})
        for (int n : {1, 6}) cases.push_back({20, wide, n, fill});
    for (Fill fill : {Fill::Peaks, Fill::LoudBlock})
        for (int n : {1, 5, 13, 21})
            for (int cols : {256, wide}) cases.push_back({20, cols, n, fill});
    for (Codes codes : {Codes::Random, Codes::AllZero, Codes::AllMax, Codes::Extremes})
        for (Scales scales : {Scales::Normal, Scales::Negative, Scales::Zero, Scales::Subnormal, Scales::Mixed})
            for (Fill fill : {Fill::Normal, Fill::AllEqual}) cases.push_back({21, wide, 2, fill, codes, scales});
    cases.push_back({35, 1536, 21, Fill::Outlier}); // more rows than a tile, longer than what is unpacked at a time
    const int models[][2] = {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {1024, 640}, {256, 640}, {640, 1024},
                             {2048, 640}, {640, 2048}, {1024, 256}};
    for (auto &shape : models)
        if (shape[1] % block == 0) cases.push_back({shape[0], shape[1], 2});
    for (int n : {1, 4, 13, 21}) {
        cases.push_back({19, 256, n, Fill::Normal, Codes::Random, Scales::Normal, {3, 1}, true, false});
        cases.push_back({19, 256, n, Fill::Normal, Codes::Random, Scales::Normal, {16, 0}, false, true});
        cases.push_back({35, wide, n, Fill::Outlier, Codes::Random, Scales::Mixed, {1, 5}, true, true});
    }
    return cases;
}

struct RowsCase {
    int n, cols;
    Fill fill = Fill::Normal;
    Layout layout = {};
    bool in_place = false;
};

// rms_norm, glu, add, gather_rows.
inline std::vector<RowsCase> rows_cases() {
    std::vector<RowsCase> cases;
    for (int cols : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 256, 576, 640, 1536, 2048, 2049})
        for (bool in_place : {false, true}) cases.push_back({3, cols, Fill::Normal, {}, in_place});
    for (int n : {1, 2, 5, 8, 33, 64}) cases.push_back({n, 576, Fill::Normal, {5, 3}, n % 2 == 0});
    for (Fill fill : {Fill::AllEqual, Fill::Huge, Fill::Tiny, Fill::Subnormal, Fill::Zero, Fill::Outlier, Fill::Alternating})
        cases.push_back({4, 640, fill});
    return cases;
}

struct RopeCase {
    int n, n_heads, head_dim, n_rot;
    wtl_rope_style style;
    float base = 10000.0f, scale = 1.0f;
    bool factors = false;
    Layout layout = {};
};

inline std::vector<RopeCase> rope_cases() {
    std::vector<RopeCase> cases;
    for (wtl_rope_style style : {WTL_ROPE_ADJACENT, WTL_ROPE_HALVES}) {
        for (int head_dim : {2, 6, 8, 16, 34, 64, 80, 128, 256}) cases.push_back({3, 2, head_dim, head_dim, style});
        for (int n_rot : {2, 6, 16, 32, 62}) cases.push_back({2, 3, 64, n_rot, style}); // the rest passes through
        for (int n : {1, 5, 17, 40}) cases.push_back({n, 9, 64, 64, style, 100000.0f, 1.0f, false, {7, 1}});
        cases.push_back({4, 4, 256, 256, style, 1000000.0f, 0.125f});
        cases.push_back({4, 2, 128, 128, style, 500000.0f, 1.0f, true});
    }
    return cases;
}

// One sequence of a step: `cached` positions were written earlier, `fresh` rows are in this step.
struct Span {
    int cached, fresh;
};

struct AttentionCase {
    int n_heads_kv, group, head_dim;
    wtl_dtype dtype;
    int window; // 0 = none
    std::vector<Span> spans;
    Fill fill = Fill::Normal;
    Layout layout = {};
};

inline std::vector<AttentionCase> attention_cases() {
    std::vector<AttentionCase> cases;
    const std::vector<Span> mixed = {{0, 17}, {33, 1}, {15, 1}, {16, 5}, {0, 1}, {255, 2}, {99, 1}};
    for (wtl_dtype dtype : {WTL_DTYPE_F16, WTL_DTYPE_F32, WTL_DTYPE_Q8_0}) {
        // the two real models, Llama-like, and every combination of kv heads and groups at odd head sizes
        cases.push_back({3, 3, 64, dtype, 0, mixed});
        cases.push_back({1, 4, 256, dtype, 0, mixed});
        cases.push_back({8, 4, 128, dtype, 0, {{40, 3}, {0, 2}}});
        for (int kv : {1, 3, 8})
            for (int group : {1, 3, 4})
                for (int dim : {64, 80, 128, 256}) cases.push_back({kv, group, dim, dtype, 0, {{20, 1}, {0, 6}, {14, 4}}});
        for (int dim : {2, 6, 10, 16, 24, 48, 96, 112, 192}) cases.push_back({2, 2, dim, dtype, 0, {{18, 2}, {0, 3}}});
        // positions around the edges of blocks, partitions and windows
        for (int len : {1, 2, 15, 16, 17, 31, 32, 33, 48, 255, 256, 257, 300, 511, 512, 513, 528, 600, 769, 1025})
            cases.push_back({1, 3, 64, dtype, 0, {{len - 1, 1}, {len > 3 ? len - 3 : 0, len > 3 ? 3 : len}}});
        cases.push_back({1, 1, 64, dtype, 0, {{250, 12}, {505, 20}}});
        cases.push_back({2, 1, 64, dtype, 0, {{0, 70}}});
        for (int window : {1, 2, 16, 17, 100, 512})
            cases.push_back({1, 2, 64, dtype, window, {{40, 1}, {0, 20}, {13, 8}, {300, 4}, {511, 3}, {600, 2}, {700, 33}}});
        cases.push_back({1, 4, 256, dtype, 512, {{700, 2}, {3, 1}}});
        for (Fill fill : {Fill::AllEqual, Fill::Tiny, Fill::Zero, Fill::Outlier})
            cases.push_back({2, 2, 64, dtype, 0, {{30, 3}, {270, 1}}, fill});
        cases.push_back({3, 3, 64, dtype, 0, mixed, Fill::Normal, {5, 3}});
    }
    return cases;
}

} // namespace checker
#endif
