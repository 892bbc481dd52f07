// Test data: activations of every awkward magnitude and random valid blocks of every weight type. See data.cc.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_DATA_H
#define WTL_TESTS_DATA_H

#include "rig.h"

namespace checker {

enum class Fill { Normal, AllEqual, Huge, Tiny, Subnormal, Zero, Outlier, Alternating, Peaks, LoudBlock };
inline const char *name_of(Fill f) {
    static const char *const names[] = {"normal", "all equal", "huge", "tiny", "subnormal", "zero", "outlier", "alternating", "peaks", "loud block"};
    return names[(int)f];
}

// What the integer codes of a quantised weight are.
enum class Codes { Random, AllZero, AllMax, Extremes };
// What the f16 scales are.
enum class Scales { Normal, Negative, Zero, Subnormal, Mixed };

Host random_matrix(std::mt19937 &random, int rows, int cols, Fill fill);
std::vector<float> random_vector(std::mt19937 &random, int n, float mean, float spread);
HostWeight random_weight(std::mt19937 &random, wtl_dtype dtype, int rows, int cols, Codes codes = Codes::Random,
                         Scales scales = Scales::Normal);
std::vector<wtl_dtype> runnable_types();
inline bool is_quantised(wtl_dtype t) { return wtl_dtype_get(t)->block_weights > 1; }

} // namespace checker
#endif
