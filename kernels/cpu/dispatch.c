// Chooses the instruction set once, when a backend opens, and holds the tables of matmul kernels. Compiled without special flags: it runs on every machine.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_planes.h"

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
    const char *from = mask ? "" : "WTL_CPU_MASK: "; // who asked, for the sentence
    if (!mask) mask = getenv("WTL_CPU_MASK");
    if (mask && *mask) {
        cpu_isa named;
        if (!isa_from_name(mask, &named)) {
            return wtl_fail(err, WTL_ERR_INVALID,
                            "%sno instruction set is called \"%s\"; there are scalar, avx2, avxvnni, avx512vnni, neon_dotprod and neon_i8mm", from,
                            mask);
        }
        if (!cpu_isa_available(named)) {
            return wtl_fail(err, WTL_ERR_UNSUPPORTED, "%sinstruction set %s was asked for, but this machine does not have it", from, mask);
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

#define SCALAR_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_scalar,
static const cpu_matmul_kernels matmul_scalar = {cpu_measure_scalar, cpu_quantize_scalar, {CPU_PANEL_LIST(SCALAR_ROW)}, NULL};

#if defined(__x86_64__)
#define AVX2_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_avx2,
#define AVXVNNI_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_avxvnni,
#define AVX512VNNI_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_avx512vnni,
static const cpu_matmul_kernels matmul_avx2 = {cpu_measure_avx2, cpu_quantize_avx2, {CPU_PANEL_LIST(AVX2_ROW)}, NULL};
static const cpu_matmul_kernels matmul_avxvnni = {cpu_measure_avx2, cpu_quantize_avx2, {CPU_PANEL_LIST(AVXVNNI_ROW)}, NULL};
static const cpu_matmul_kernels matmul_avx512vnni = {cpu_measure_avx512vnni, cpu_quantize_avx512vnni, {CPU_PANEL_LIST(AVX512VNNI_ROW)}, &cpu_planes_avx512vnni};
#elif defined(__aarch64__)
#define NEON_DOTPROD_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_neon_dotprod,
#define NEON_I8MM_ROW(DTYPE, name, weights) [WTL_DTYPE_##DTYPE] = &cpu_matmul_##name##_neon_i8mm,
static const cpu_matmul_kernels matmul_neon_dotprod = {cpu_measure_neon, cpu_quantize_neon, {CPU_PANEL_LIST(NEON_DOTPROD_ROW)}, NULL};
static const cpu_matmul_kernels matmul_neon_i8mm = {cpu_measure_neon, cpu_quantize_neon, {CPU_PANEL_LIST(NEON_I8MM_ROW)}, NULL};
#endif

const cpu_matmul_kernels *cpu_matmul_table(cpu_isa isa) {
    static const cpu_matmul_kernels *const tables[CPU_ISA_COUNT] = {
        [CPU_ISA_SCALAR] = &matmul_scalar,
#if defined(__x86_64__)
        [CPU_ISA_AVX2] = &matmul_avx2,
        [CPU_ISA_AVXVNNI] = &matmul_avxvnni,
        [CPU_ISA_AVX512VNNI] = &matmul_avx512vnni,
#elif defined(__aarch64__)
        [CPU_ISA_NEON_DOTPROD] = &matmul_neon_dotprod,
        [CPU_ISA_NEON_I8MM] = &matmul_neon_i8mm,
#endif
    };
    return tables[isa];
}
