// Chooses the instruction set once, when a backend opens. Compiled without special flags: it runs on every machine.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

static bool isa_from_name(const char *name, cpu_isa *out) {
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        if (strcmp(name, cpu_isa_name((cpu_isa)isa)) == 0) {
            *out = (cpu_isa)isa;
            return true;
        }
    }
    return false;
}

wtl_status cpu_isa_choose(const char *mask, cpu_isa *out, wtl_error *err) {
    if (!mask) mask = getenv("WTL_CPU_MASK");
    if (mask && *mask) {
        cpu_isa named;
        if (!isa_from_name(mask, &named)) {
            return wtl_fail(err, WTL_ERR_INVALID, "no instruction set is called \"%s\"; there are scalar, avx2 and avx512vnni",
                            mask);
        }
        if (!cpu_isa_available(named)) {
            return wtl_fail(err, WTL_ERR_UNSUPPORTED, "instruction set %s was asked for, but this machine does not have it", mask);
        }
        *out = named;
        return WTL_OK;
    }
    cpu_isa best = CPU_ISA_SCALAR;
    for (int isa = 0; isa < CPU_ISA_COUNT; isa++) {
        if (cpu_isa_available((cpu_isa)isa)) best = (cpu_isa)isa;
    }
    *out = best;
    return WTL_OK;
}
