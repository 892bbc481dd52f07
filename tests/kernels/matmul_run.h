// A matmul problem on the host and how to run it on a rig; shared by the checks of values and of batch invariance.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_MATMUL_RUN_H
#define WTL_TESTS_MATMUL_RUN_H

#include "data.h"

namespace checker {

struct MatmulPart {
    const HostWeight *w = nullptr;
    std::vector<float> bias; // empty: none
    Host before;             // what out holds when the op accumulates, [n, rows]
};

struct MatmulProblem {
    Host x;
    std::vector<MatmulPart> parts;
    bool accumulate = false;
    Layout layout = {};
};

inline std::vector<Host> run_matmul(Rig &rig, const MatmulProblem &p) {
    wtl_matmul a = {};
    a.x = rig.put(p.x, p.layout);
    a.n_parts = (int32_t)p.parts.size();
    a.accumulate = p.accumulate;
    for (size_t i = 0; i < p.parts.size(); i++) {
        const MatmulPart &part = p.parts[i];
        a.part[i].w = rig.matrix(*part.w);
        a.part[i].bias = part.bias.empty() ? nullptr : rig.vector(part.bias);
        a.part[i].out = p.accumulate ? rig.put(part.before, p.layout) : rig.empty(p.x.rows, part.w->rows, p.layout);
    }
    rig.ops()->matmul(rig.stream(), &a);
    std::vector<Host> out;
    for (size_t i = 0; i < p.parts.size(); i++) out.push_back(rig.get(a.part[i].out));
    EXPECT_TRUE(same_bits(rig.get(a.x), p.x)) << "the op changed x";
    rig.check_memory();
    rig.forget();
    return out;
}

} // namespace checker
#endif
