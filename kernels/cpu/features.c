// Which instruction sets this build has and this machine can run.
//
// On x86-64 the compiler's run-time detection also asks the operating system (XGETBV) whether it saves the wide registers. On
// 64-bit Arm the kernel says what there is. Elsewhere, and on Arm without dot products, only the plain C kernels run.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const char *const isa_names[CPU_ISA_COUNT] = {"scalar", "avx2", "avxvnni", "avx512vnni", "neon_dotprod", "neon_i8mm"};

const char *cpu_isa_name(cpu_isa isa) { return isa_names[isa]; }

#if defined(__x86_64__)
static bool has_avx2(void) {
    unsigned eax, ebx, ecx = 0, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C)) return false;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avxvnni(void) {
#if WTL_EMULATE_AVXVNNI
    return has_avx2();
#else
    unsigned eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & 1u << 4);
#endif
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
    case CPU_ISA_AVXVNNI: return has_avxvnni();
    case CPU_ISA_AVX512VNNI: return has_avx512vnni();
    default: return false;
    }
}
#elif defined(__aarch64__)
bool cpu_isa_available(cpu_isa isa) {
    const bool dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
    switch (isa) {
    case CPU_ISA_SCALAR: return true;
    case CPU_ISA_NEON_DOTPROD: return dotprod;
    case CPU_ISA_NEON_I8MM: return dotprod && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
    default: return false;
    }
}
#else
bool cpu_isa_available(cpu_isa isa) { return isa == CPU_ISA_SCALAR; }
#endif
