// Which instruction sets this build has and this machine can run.
//
// The compiler's run-time detection also asks the operating system (XGETBV) whether it saves the wide registers.
// On machines other than x86-64 only the plain C kernels exist.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const isa_names[CPU_ISA_COUNT] = {"scalar", "avx2", "avx512vnni"};

const char *cpu_isa_name(cpu_isa isa) { return isa_names[isa]; }

#if defined(__x86_64__)
static bool has_avx2(void) {
    unsigned eax, ebx, ecx = 0, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C)) return false;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512vnni(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

bool cpu_isa_available(cpu_isa isa) {
    switch (isa) {
    case CPU_ISA_SCALAR: return true;
    case CPU_ISA_AVX2: return has_avx2();
    case CPU_ISA_AVX512VNNI: return has_avx512vnni();
    default: return false;
    }
}
#else
bool cpu_isa_available(cpu_isa isa) { return isa == CPU_ISA_SCALAR; }
#endif
