// Packed quantised weights and quantised activations: the layouts that cpu_pack.c writes and the matmul kernels read.
//
// A panel is 16 rows of the weight matrix. Along K it is cut into blocks of 32 weights (K types: super-blocks of eight).
// The codes of a block of 32 lie as eight groups of 64 bytes; byte 4 r + i of group g is weight 4 g + i of row r, so that
// one 64-byte multiply-add with four broadcast activations advances all 16 rows. Codes are unsigned:
//   4 bits: 256 bytes, low nibbles are groups 0..3, high nibbles groups 4..7 (byte 64 k + j holds groups k and k + 4)
//   5 bits: 4 bits + 64 bytes, bit g of byte j is bit 4 of the code of group g
//   6 bits: 4 bits + 128 bytes, bits 2k and 2k + 1 of byte 64 h + j are bits 4 and 5 of the code of group 4 h + k
//   2 bits: 128 bytes, like the upper two bits of a 6-bit code;  3 bits: 2 bits + 64 bytes as the fifth bit of 5 bits
//   8 bits: 512 bytes, biased by 128
// Scales follow as f16 or bytes [16]. The layout is the same for every instruction set and for any number of columns; it
// holds all bits of the file's blocks and no more, so a row can be unpacked exactly. Rows past the matrix are zero. Of types with
// super-blocks scales come first: what follows starts on a cache line where sizes allow it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_H
#define WTL_KERNELS_CPU_PANEL_H

#include "kernels/cpu/cpu.h"

#define CPU_PANEL_ROWS 16

// X(dtype, name, weights per block): every type that lives in panels.
#define CPU_PANEL_LIST(X)                                                                                              \
    X(Q4_0, q4_0, 32) X(Q4_1, q4_1, 32) X(Q5_0, q5_0, 32) X(Q5_1, q5_1, 32) X(Q8_0, q8_0, 32) X(IQ4_NL, iq4_nl, 32)    \
    X(Q2_K, q2_k, 256) X(Q3_K, q3_k, 256) X(Q4_K, q4_k, 256) X(Q5_K, q5_k, 256) X(Q6_K, q6_k, 256)                     \
    X(IQ4_XS, iq4_xs, 256)

typedef struct panel_q4_0 { uint8_t q[256]; uint16_t d[16]; } panel_q4_0;
typedef struct panel_q4_1 { uint8_t q[256]; uint16_t d[16], m[16]; } panel_q4_1;
typedef struct panel_q5_0 { uint8_t q[256], h[64]; uint16_t d[16]; } panel_q5_0;
typedef struct panel_q5_1 { uint8_t q[256], h[64]; uint16_t d[16], m[16]; } panel_q5_1;
typedef struct panel_q8_0 { uint8_t q[512]; uint16_t d[16]; } panel_q8_0;
typedef struct panel_q4_0 panel_iq4_nl;
// Super-blocks. scales: of six bits and packed, see panel_scales.h.
typedef struct sub_q2_k { uint8_t q[128]; uint8_t sm[2][16]; } sub_q2_k; // scale in the low, minimum in the high nibble
typedef struct sub_q3_k { uint8_t q[128], h[64]; } sub_q3_k;
typedef struct sub_q4_k { uint8_t q[256]; } sub_q4_k;
typedef struct sub_q5_k { uint8_t q[256], h[64]; } sub_q5_k;
typedef struct sub_q6_k { uint8_t q[256], h[128]; int8_t sc[2][16]; } sub_q6_k;
typedef struct sub_iq4_xs { uint8_t q[256]; } sub_iq4_xs;
typedef struct panel_q2_k { sub_q2_k sub[8]; uint16_t d[16], m[16]; } panel_q2_k;
typedef struct panel_q3_k { uint8_t scales[12][16]; uint16_t d[16]; sub_q3_k sub[8]; } panel_q3_k;
typedef struct panel_q4_k { uint8_t scales[12][16]; uint16_t d[16], m[16]; sub_q4_k sub[8]; } panel_q4_k;
typedef struct panel_q5_k { uint8_t scales[12][16]; uint16_t d[16], m[16]; sub_q5_k sub[8]; } panel_q5_k;
typedef struct panel_q6_k { sub_q6_k sub[8]; uint16_t d[16]; } panel_q6_k;
typedef struct panel_iq4_xs { uint8_t scales[6][16]; uint16_t d[16]; sub_iq4_xs sub[8]; } panel_iq4_xs;

// The 16 values of IQ4_NL and IQ4_XS plus 128, so that codes are unsigned like all others.
#define CPU_IQ4_BIASED 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241

// 32 activations of one column: x[k] is about d * q[k]. With a NaN or Inf among them d is NaN and q is 0.
typedef struct cpu_act {
    union { int8_t q[32]; int32_t q4[8]; };
    float d;         // d, s, neg and neg_low are stored together
    float s;         // d * sum of q: multiplies the weights' minimum
    int32_t neg;     // -sum of q: times the weights' zero point is where the integer accumulator starts
    int32_t neg_low; // -sum of q[0..15]
    // Where accumulators of wide panels start: CPU_WIDE_ONE + 128 neg, CPU_WIDE_ONE + 128 neg_low, 128 (neg - neg_low).
    // Set by the instruction sets that have wide kernels.
    int32_t wide, wide_low, wide_high;
    int32_t unused;  // one cache line
} cpu_act;

// A value of x far above the others: its block is quantised without it (as if it were 0), and it multiplies its weights as
// it is. A handful of them in a column causes half of the rounding error, because they alone set the step of their blocks.
typedef struct cpu_outlier {
    int32_t k; // index in the column
    int32_t column;
    float x;
} cpu_outlier;
// A column of cols values has at most this many.
#define CPU_MAX_OUTLIERS(cols) ((cols) / 16)

// Columns of x are quantised in tiles; a tile [n_blocks, columns] is what one kernel call multiplies. Every kernel takes up to
// CPU_TILE_COLS columns, those of an instruction set with more registers up to CPU_MOST_COLS: cpu_matmul_kernels says.
#define CPU_TILE_COLS 8
#define CPU_MOST_COLS 24

// out[c * out_stride + r] (+)= sum over k of weight[r, k] * x[c, k] (+ bias[r]), for r < n_rows and the tile's columns. A
// panel has 16 rows; kernels of two panels take 32.
typedef struct cpu_panel_args {
    const void *panel;
    const void *second;          // for kernels of two panels as they are: the other one, a neighbour or of another matrix
    size_t panel_bytes;          // from one panel to the next, for kernels of two panels and of wide ones
    const cpu_act *act;          // [n_blocks, columns]
    const cpu_outlier *outliers; // [n_outliers] of all columns, by k, then by column: what shares a k shares its weights
    int32_t n_outliers;
    int32_t n_blocks;            // of 32
    int32_t n_rows;
    float *out;
    int32_t out_stride;
    const float *bias;  // NULL or [n_rows]
    bool accumulate;
} cpu_panel_args;

typedef void (*cpu_panel_kernel)(const cpu_panel_args *a);

// Wide panels: for several tiles of columns a span of a panel's blocks is unpacked once into the first-level cache, codes to bytes and
// scales to f32, so that the kernel is left with nothing but products. Codes with a zero point are moved so that it is 128. Accumulators start
// at CPU_WIDE_ONE, the bits of 1.5 * 2^23: read as a float, one with the integer sum n in it is 1.5 * 2^23 + n, so that one
// FMA with d and c = -1.5 * 2^23 d gives d * n, rounded once, as a conversion and a product would. The results have the same
// bits as those of the other kernels.
#define CPU_WIDE_ONE 0x4B400000
typedef struct cpu_wide_block {
    uint8_t q[512];        // as in panel_q8_0
    float d[16], c[16];    // d: of the first 16 weights, for types with two scales
    float more[3][16];     // the minimum, or the scale of the other 16; both: that scale, then both minima
} cpu_wide_block;

#define CPU_WIDE_BYTES(halves, has_min) (512 + 2 * 64 + ((halves) + ((has_min) ? 1 + (halves) : 0)) * 64) // of cpu_wide_block, as far as it is used

// Memory to fetch into the second-level cache while a span is multiplied: with each block of it the next step[i] bytes from at[i] on.
#define CPU_AHEAD_STREAMS 5
typedef struct cpu_ahead {
    int32_t n;
    const uint8_t *at[CPU_AHEAD_STREAMS];
    size_t step[CPU_AHEAD_STREAMS];
} cpu_ahead;

// A tile's sums when a span ends. 64-byte aligned, like all that kernels of wide panels sum up in memory.
typedef struct cpu_wide_sums { _Alignas(64) float products[2][CPU_TILE_COLS][CPU_PANEL_ROWS]; } cpu_wide_sums;

// What kernels of wide panels take besides: which blocks of K their panels and activations are.
typedef struct cpu_wide_span {
    int32_t first_block; // of the row; so many as n_blocks of cpu_panel_args says
    bool first, last;
    cpu_wide_sums *sums; // kept from one span to the next; not read in the first one, not written in the last
    // What the last span adds to each column of which a bit is set in used.
    const float (*outlier_sums)[2][CPU_PANEL_ROWS]; // [columns]
    uint32_t used;
    cpu_ahead ahead;
} cpu_wide_span;

// sums[column] += weight times value, for outliers of many tiles, by k. panels: the span that has the weights of [first_k, end_k).
typedef struct cpu_wide_outliers {
    const void *panels;
    size_t panel_bytes;
    int32_t first_k, end_k;
    const cpu_outlier *next, *end; // next: set to the first one behind the span
    float (*sums)[2][CPU_PANEL_ROWS];
} cpu_wide_outliers;

typedef void (*cpu_wide_kernel)(const cpu_panel_args *a, const cpu_wide_span *span);

// Widens a span of panels into a->panel. With columns a->act is multiplied at once, what span->ahead says is fetched meanwhile, and the sums are
// left in span->sums, in the last span too. Of a: n_blocks and panel_bytes besides.
typedef void (*cpu_widen)(const void *const *panels, const cpu_panel_args *a, const cpu_wide_span *span);

// A kind of wide panels: types differ in scales and minima only.
typedef struct cpu_wide_kernels {
    size_t block_bytes;
    cpu_wide_kernel one[CPU_TILE_COLS + 1], two[CPU_TILE_COLS + 1]; // panels at a time, by number of columns
    void (*outliers[3])(cpu_wide_outliers *a);                      // by panels
} cpu_wide_kernels;

typedef struct cpu_panel_kernels {
    cpu_panel_kernel columns[CPU_MOST_COLS + 1]; // by number of columns: up to CPU_TILE_COLS all, above NULL where there is none; [0] unused
    cpu_panel_kernel two[CPU_TILE_COLS + 1];     // of two panels at a time; NULL where one at a time is as fast
    const cpu_wide_kernels *wide;                // NULL: none, and so for all types of the instruction set
    cpu_widen widen;                             // one panel
    cpu_widen widen_two;                         // two, and their products with CPU_TILE_COLS columns; NULL: none
} cpu_panel_kernels;

// cpu_quantize.h: the two steps of quantising a column. measure: largest magnitudes, steps and limit. quantize: its acts, and its
// outliers to out by k; returns how many, at most max_outliers.
typedef struct cpu_column cpu_column;
typedef void (*cpu_measure)(cpu_column *c);
typedef int32_t (*cpu_quantize)(const cpu_column *c, int32_t max_outliers, cpu_outlier *out);

typedef struct cpu_matmul_kernels {
    cpu_measure measure;
    cpu_quantize quantize;
    const cpu_panel_kernels *types[WTL_DTYPE_ID_END]; // by wtl_dtype
    const struct cpu_planes_kernels *planes;          // cpu_planes.h; NULL: output heads lie in panels like all else
} cpu_matmul_kernels;

// cpu_matmul.c: x of a matmul with up to CPU_TILE_COLS rows as one tile, in the stream's scratch until its next op. The rest of *args, but
// for panel, bias and n_rows, is what a kernel needs for the first part. fits: the op's shapes are sound.
bool cpu_matmul_fits(const cpu_stream *s, const wtl_matmul *a);
void cpu_matmul_tile(wtl_stream *s, const wtl_matmul *a, cpu_panel_args *args);

#define CPU_PANEL_EXTERN(DTYPE, name, weights)                                                                         \
    extern const cpu_panel_kernels cpu_matmul_##name##_scalar, cpu_matmul_##name##_avx2, cpu_matmul_##name##_avx512vnni; \
    extern const cpu_panel_kernels cpu_matmul_##name##_avxvnni, cpu_matmul_##name##_neon_dotprod, cpu_matmul_##name##_neon_i8mm;
CPU_PANEL_LIST(CPU_PANEL_EXTERN) // as far as this build has them
// One scale and no minimum, a minimum, two scales, two of both: Q4_0, Q4_1, Q6_K and Q2_K have these.
extern const cpu_wide_kernels cpu_wide_plain, cpu_wide_min, cpu_wide_halves, cpu_wide_halves_min;
#define CPU_QUANTIZE_EXTERN(isa) void cpu_measure_##isa(cpu_column *); int32_t cpu_quantize_##isa(const cpu_column *, int32_t, cpu_outlier *);
CPU_QUANTIZE_EXTERN(scalar) CPU_QUANTIZE_EXTERN(avx2) CPU_QUANTIZE_EXTERN(avx512vnni) CPU_QUANTIZE_EXTERN(neon)

// dispatch.c. Never NULL.
const cpu_matmul_kernels *cpu_matmul_table(cpu_isa isa);

// cpu_pack.c: how a type gets in and out of panels. NULL for a type without panels.
typedef struct cpu_packing {
    size_t file_block_bytes, panel_block_bytes;
    int32_t block_weights;
    // One block of 16 rows into one panel block, and row r of one panel block back into the file's bytes.
    void (*pack)(const uint8_t *const rows[16], void *panel);
    void (*unpack)(const void *panel, int32_t r, uint8_t *row);
} cpu_packing;
const cpu_packing *cpu_packing_of(wtl_dtype dtype);
// Packs panel p of a matrix; unpacks row r of a packed weight's data into the file's row.
void cpu_pack_panel(const wtl_tensor *src, int32_t p, void *panel);
void cpu_unpack_row(wtl_dtype dtype, int32_t cols, const void *data, size_t panel_bytes, int32_t r, uint8_t *row);

// CPU_UNROLL: loops over groups, which must unroll because shifts take constants. CPU_UNROLL_COLUMNS: loops over columns,
// which unroll so that accumulators stay in registers. Sanitizers make unrolled code very slow to compile: with them one
// instance per type takes the number of columns at run time. CPU_ROLLED: the loop over a super-block's eight sub-blocks.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CPU_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define CPU_SANITIZED 1
#endif
#endif
#if defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#define CPU_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#define CPU_ROLLED _Pragma("GCC unroll 1")
#endif
#if CPU_SANITIZED
#define CPU_UNROLL_COLUMNS
#else
#define CPU_UNROLL_COLUMNS CPU_UNROLL
#endif
#define CPU_INLINE static inline __attribute__((always_inline))

#endif
