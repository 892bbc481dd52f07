// How near the panel kernels come to the machine, and what keeps them from it. One thread.
//
// First the kernels by themselves: ten panels of 2048 weights a row and one tile of activations, over and over, so that all lies in the
// second-level cache; multiply-adds a second and their share of a loop of nothing but multiply-adds. Then, with AVX-512 VNNI, which
// other instructions share the multiplier: twelve vpdpbusd and twelve of another kind in turns take the time of both when they do,
// the longer one's time when they do not. Then the kernels of wide panels, two of them at a time, with what widening costs.
// Usage: panel_bench [columns, 1 to 16]; environment: WTL_CPU_MASK.
// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_panel.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

enum { N_BLOCKS = 64, N_PANELS = 10, WIDE_SPAN = 16, WIDE_TILES = 32, PASSES = 20, ROUNDS = 40 };

typedef struct panel_type {
    const char *name;
    wtl_dtype dtype;
    size_t block_bytes;
    int32_t subs;
} panel_type;

#define PANEL_TYPE(DTYPE, name, weights) {#DTYPE, WTL_DTYPE_##DTYPE, sizeof(panel_##name), (weights) / 32},
static const panel_type types[] = {CPU_PANEL_LIST(PANEL_TYPE)};

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static double gmacs_of(const panel_type *type, cpu_panel_kernel kernel, int32_t np, int32_t columns, const uint8_t *weights, const cpu_act *acts) {
    float out[CPU_MOST_COLS * 2 * CPU_PANEL_ROWS];
    const size_t panel_bytes = (size_t)(N_BLOCKS / type->subs) * type->block_bytes;
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t start = wtl_clock_ns();
        for (int i = 0; i < PASSES * N_PANELS; i += np) {
            const uint8_t *panel = weights + (size_t)(i % N_PANELS) * panel_bytes;
            kernel(&(cpu_panel_args){.panel = panel, .second = panel + panel_bytes, .panel_bytes = panel_bytes, .act = acts, .n_blocks = N_BLOCKS, .n_rows = np * CPU_PANEL_ROWS, .out = out, .out_stride = 2 * CPU_PANEL_ROWS});
        }
        best = least(best, wtl_clock_ns() - start);
    }
    return (double)PASSES * N_PANELS * CPU_PANEL_ROWS * columns * N_BLOCKS * 32 / (double)best;
}

// Two panels' span of blocks, widened into the first-level cache, times WIDE_TILES tiles, whose activations come from the second-level one;
// and how many columns' time widening it takes. 0 without such kernels.
static double wide_gmacs_of(const panel_type *type, const cpu_panel_kernels *kernels, int32_t columns, const uint8_t *weights, uint8_t *wide,
                            const cpu_act *acts, double *widening) {
    if (!kernels->wide || columns > CPU_TILE_COLS) return 0;
    float out[CPU_TILE_COLS * 2 * CPU_PANEL_ROWS];
    const size_t panel_bytes = (size_t)(N_BLOCKS / type->subs) * type->block_bytes, wide_bytes = WIDE_SPAN * kernels->wide->block_bytes;
    cpu_wide_sums sums;
    const cpu_wide_span first = {.first = true, .sums = &sums};
    uint64_t best = UINT64_MAX, best_widen = UINT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        const uint64_t start = wtl_clock_ns();
        for (int i = 0; i < PASSES * N_PANELS; i++) {
            kernels->widen(weights + (size_t)(i % N_PANELS) * panel_bytes, i / N_PANELS * WIDE_SPAN % N_BLOCKS, WIDE_SPAN, wide + (size_t)(i & 1) * wide_bytes);
        }
        const uint64_t widened = wtl_clock_ns();
        for (int i = 0; i < PASSES * WIDE_TILES; i++) {
            kernels->wide->two[columns](&(cpu_panel_args){.panel = wide, .panel_bytes = wide_bytes, .act = acts + i % WIDE_TILES * WIDE_SPAN * columns,
                .n_blocks = WIDE_SPAN, .n_rows = 2 * CPU_PANEL_ROWS, .out = out, .out_stride = 2 * CPU_PANEL_ROWS}, &first);
        }
        best_widen = least(best_widen, widened - start);
        best = least(best, wtl_clock_ns() - widened);
    }
    const double column = (double)best / (PASSES * WIDE_TILES * 2 * columns); // one panel's span times one
    *widening = (double)best_widen / (PASSES * N_PANELS) / column;
    return (double)CPU_PANEL_ROWS * WIDE_SPAN * 32 / column;
}

#if defined(__x86_64__)
// A loop of twelve, or twelve and twelve, instructions that do not wait for each other.
#define TWELVE(text) text text text text text text text text text text text text
#define DOT(r) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #r "\n\t"
#define DOTS_AND(text)                                                                                                  \
    DOT(0) text DOT(1) text DOT(2) text DOT(3) text DOT(4) text DOT(5) text DOT(6) text DOT(7) text DOT(8) text DOT(9)  \
        text DOT(10) text DOT(11) text
#define TOUCHED                                                                                                         \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12"
#define LOOP(name, body)                                                                                                \
    __attribute__((target("avx512f,avx512bw,avx512vnni"))) static void name(void) {                                     \
        __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" ::: TOUCHED);          \
        for (int i = 0; i < 20000; i++) __asm__ volatile(body ::: TOUCHED);                                            \
    }
#define PAIR(name, text) LOOP(name##_alone, TWELVE(text)) LOOP(name##_beside, DOTS_AND(text))
LOOP(dot_alone, DOTS_AND(""))
PAIR(mul, "vmulps %%zmm30, %%zmm31, %%zmm12\n\t")
PAIR(maddubs, "vpmaddubsw %%zmm30, %%zmm31, %%zmm12\n\t")
PAIR(convert, "vcvtdq2ps %%zmm31, %%zmm12\n\t")
PAIR(shift, "vpsrlw $4, %%zmm31, %%zmm12\n\t")

static uint64_t time_of(void (*loop)(void)) {
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < 20; round++) {
        const uint64_t start = wtl_clock_ns();
        loop();
        best = least(best, wtl_clock_ns() - start);
    }
    return best;
}

static double print_ports(void) {
    static const struct { const char *name; void (*alone)(void), (*beside)(void); } kinds[] = {
        {"vmulps", mul_alone, mul_beside}, {"vpmaddubsw", maddubs_alone, maddubs_beside},
        {"vcvtdq2ps", convert_alone, convert_beside}, {"vpsrlw", shift_alone, shift_beside}};
    const uint64_t dot = time_of(dot_alone);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        printf("12 vpdpbusd %.2f, 12 %s %.2f, both in turns %.2f (vpdpbusd = 12)\n", 12.0, kinds[i].name,
               12.0 * (double)time_of(kinds[i].alone) / (double)dot, 12.0 * (double)time_of(kinds[i].beside) / (double)dot);
    }
    return 20000.0 * 12 * 64 / (double)dot;
}
#endif

int main(int argc, char **argv) {
    const int columns = argc > 1 ? atoi(argv[1]) : CPU_TILE_COLS;
    cpu_isa isa;
    wtl_error err = {0};
    if (columns < 1 || columns > CPU_MOST_COLS || cpu_isa_choose(NULL, &isa, &err) != WTL_OK) {
        fprintf(stderr, "usage: panel_bench [columns, 1 to %d] %s\n", CPU_MOST_COLS, err.message);
        return 2;
    }
    double peak = 0;
#if defined(__x86_64__)
    if (isa == CPU_ISA_AVX512VNNI) peak = print_ports();
#endif
    // Panels behind the last one: kernels prefetch ahead. Codes and scales of one value: speed does not depend on them.
    const size_t bytes = (size_t)(N_PANELS + 2) * N_BLOCKS * sizeof(panel_q8_0), act_bytes = sizeof(cpu_act) * (N_BLOCKS + WIDE_TILES * WIDE_SPAN) * CPU_MOST_COLS;
    uint8_t *weights = wtl_pages_alloc(bytes);
    cpu_act *acts = wtl_pages_alloc(act_bytes);
    const size_t wide_bytes = (size_t)(2 * WIDE_SPAN + 1) * sizeof(cpu_wide_block);
    uint8_t *wide = wtl_pages_alloc(wide_bytes);
    if (!weights || !acts || !wide) return 1;
    memset(weights, 0x11, bytes);
    for (size_t i = 0; i < act_bytes / sizeof(cpu_act); i++) acts[i] = (cpu_act){.d = 1e-3f, .s = 1e-3f};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const cpu_panel_kernels *kernels = cpu_matmul_table(isa)->types[types[i].dtype];
        if (!kernels->columns[columns]) continue;
        double widening = 0;
        const double gmacs = gmacs_of(&types[i], kernels->columns[columns], 1, columns, weights, acts);
        const cpu_panel_kernel two = columns <= CPU_TILE_COLS ? kernels->two[columns] : NULL;
        const double wide_gmacs = wide_gmacs_of(&types[i], kernels, columns, weights, wide, acts, &widening);
        printf("%s %s, %d columns: %.0f GMAC/s", cpu_isa_name(isa), types[i].name, columns, gmacs);
        if (peak > 0) printf(", %.0f %% of %.0f", 100 * gmacs / peak, peak);
        if (two) printf("; two panels %.0f", gmacs_of(&types[i], two, 2, columns, weights, acts));
        if (wide_gmacs > 0) printf("; wide %.0f, %.0f %%, and widening is %.1f columns", wide_gmacs, 100 * wide_gmacs / peak, widening);
        printf("\n");
    }
    wtl_pages_free(wide, wide_bytes);
    wtl_pages_free(acts, act_bytes);
    wtl_pages_free(weights, bytes);
    return 0;
}
