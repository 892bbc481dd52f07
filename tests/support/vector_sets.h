// The vector instruction sets of this build whose arithmetic is worth telling apart; a machine may lack some of them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_VECTOR_SETS_H
#define WTL_TESTS_VECTOR_SETS_H

#include <vector>

// Without AVX-VNNI, whose bits are those of AVX2 by a test of its own.
inline std::vector<const char *> vector_sets() {
#if defined(__x86_64__)
    return {"avx2", "avx512vnni"};
#elif defined(__aarch64__)
    return {"neon_dotprod", "neon_i8mm"};
#else
    return {};
#endif
}

#endif
