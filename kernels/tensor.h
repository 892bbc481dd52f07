// Data types of model files and views of matrices: the vocabulary that every kernel shares.
//
// A weight matrix is [rows, cols]: rows are outputs, cols is the inner (contiguous) dimension K; GGUF lists the inner
// dimension first. Quantised types store blocks of 32 or 256 weights along K; a row is a whole number of blocks.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_TENSOR_H
#define WTL_KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// X(name, GGUF id, weights per block, bytes per block, can be run)
#define WTL_DTYPE_LIST(X)         \
    X(F32, 0, 1, 4, true)         \
    X(F16, 1, 1, 2, true)         \
    X(Q4_0, 2, 32, 18, true)      \
    X(Q4_1, 3, 32, 20, true)      \
    X(Q5_0, 6, 32, 22, true)      \
    X(Q5_1, 7, 32, 24, true)      \
    X(Q8_0, 8, 32, 34, true)      \
    X(Q8_1, 9, 32, 36, false)     \
    X(Q2_K, 10, 256, 84, true)    \
    X(Q3_K, 11, 256, 110, true)   \
    X(Q4_K, 12, 256, 144, true)   \
    X(Q5_K, 13, 256, 176, true)   \
    X(Q6_K, 14, 256, 210, true)   \
    X(Q8_K, 15, 256, 292, false)  \
    X(IQ2_XXS, 16, 256, 66, false) \
    X(IQ2_XS, 17, 256, 74, false) \
    X(IQ3_XXS, 18, 256, 98, false) \
    X(IQ1_S, 19, 256, 50, false)  \
    X(IQ4_NL, 20, 32, 18, true)   \
    X(IQ3_S, 21, 256, 110, false) \
    X(IQ2_S, 22, 256, 82, false)  \
    X(IQ4_XS, 23, 256, 136, true) \
    X(I8, 24, 1, 1, false)        \
    X(I16, 25, 1, 2, false)       \
    X(I32, 26, 1, 4, false)       \
    X(I64, 27, 1, 8, false)       \
    X(F64, 28, 1, 8, false)       \
    X(IQ1_M, 29, 256, 56, false)  \
    X(BF16, 30, 1, 2, true)       \
    X(TQ1_0, 34, 256, 54, false)  \
    X(TQ2_0, 35, 256, 66, false)  \
    X(MXFP4, 39, 32, 17, false)

typedef enum wtl_dtype {
#define WTL_DTYPE_ENUM(name, id, weights, bytes, runs) WTL_DTYPE_##name = (id),
    WTL_DTYPE_LIST(WTL_DTYPE_ENUM)
#undef WTL_DTYPE_ENUM
} wtl_dtype;

#define WTL_DTYPE_ID_END 40 // one past the largest known id

typedef struct wtl_dtype_info {
    const char *name;       // "Q4_1"; NULL for an id that never was or was removed from the format
    uint32_t block_weights; // weights per block along K
    uint32_t block_bytes;   // bytes per block
    bool can_run;           // every backend can multiply with it
} wtl_dtype_info;

// Facts of a type; never NULL. For an unknown or removed id .name is NULL and the sizes are 0. Any thread.
const wtl_dtype_info *wtl_dtype_get(uint32_t id);

// Bytes of one row of cols weights; false when cols is no multiple of the block or the size overflows.
bool wtl_dtype_row_bytes(wtl_dtype dtype, uint64_t cols, uint64_t *bytes);

// A weight matrix in host memory, as it lies in the file: row r starts at data + r * row_bytes.
typedef struct wtl_tensor {
    const void *data; // borrowed
    wtl_dtype dtype;
    int32_t rows, cols;
    size_t row_bytes;
    bool file_mapping; // data is a read-only mapping of a file: whoever has copied pages of it may give them back to the kernel
} wtl_tensor;

// An f32 matrix of activations in a backend's memory: element (r, c) is data[r * stride + c].
// Only the backend that owns the memory may follow `data`; everyone else may do pointer arithmetic on it.
typedef struct wtl_mat {
    float *data;
    int32_t rows, cols;
    int32_t stride; // in elements, >= cols
} wtl_mat;

// Quantised blocks exactly as files store them (little endian, no padding). Formulas stand in kernels/ref/dequant.c.
typedef struct block_q4_0 { uint16_t d; uint8_t qs[16]; } block_q4_0;
typedef struct block_q4_1 { uint16_t d, m; uint8_t qs[16]; } block_q4_1;
typedef struct block_q5_0 { uint16_t d; uint8_t qh[4]; uint8_t qs[16]; } block_q5_0;
typedef struct block_q5_1 { uint16_t d, m; uint8_t qh[4]; uint8_t qs[16]; } block_q5_1;
typedef struct block_q8_0 { uint16_t d; int8_t qs[32]; } block_q8_0;
typedef struct block_q2_k { uint8_t scales[16]; uint8_t qs[64]; uint16_t d, dmin; } block_q2_k;
typedef struct block_q3_k { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; uint16_t d; } block_q3_k;
typedef struct block_q4_k { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; } block_q4_k;
typedef struct block_q5_k { uint16_t d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; } block_q5_k;
typedef struct block_q6_k { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; } block_q6_k;
typedef struct block_iq4_nl { uint16_t d; uint8_t qs[16]; } block_iq4_nl;
typedef struct block_iq4_xs { uint16_t d; uint16_t scales_h; uint8_t scales_l[4]; uint8_t qs[128]; } block_iq4_xs;

#ifdef __cplusplus
#define WTL_SIZE_ASSERT(type, bytes) static_assert(sizeof(type) == (bytes), #type " must have the size that files use")
#else
#define WTL_SIZE_ASSERT(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " must have the size that files use")
#endif
WTL_SIZE_ASSERT(block_q4_0, 18);
WTL_SIZE_ASSERT(block_q4_1, 20);
WTL_SIZE_ASSERT(block_q5_0, 22);
WTL_SIZE_ASSERT(block_q5_1, 24);
WTL_SIZE_ASSERT(block_q8_0, 34);
WTL_SIZE_ASSERT(block_q2_k, 84);
WTL_SIZE_ASSERT(block_q3_k, 110);
WTL_SIZE_ASSERT(block_q4_k, 144);
WTL_SIZE_ASSERT(block_q5_k, 176);
WTL_SIZE_ASSERT(block_q6_k, 210);
WTL_SIZE_ASSERT(block_iq4_nl, 18);
WTL_SIZE_ASSERT(block_iq4_xs, 136);

// Scalar conversions. f16 is IEEE binary16 (subnormals, Inf and NaN kept), bf16 the upper half of a binary32.
// To f16 and bf16: round to nearest, ties to even.
static inline float wtl_f32_from_bits(uint32_t u) {
    union { uint32_t u; float f; } x = {u};
    return x.f;
}
static inline uint32_t wtl_bits_from_f32(float f) {
    union { float f; uint32_t u; } x = {f};
    return x.u;
}
float wtl_f32_from_f16(uint16_t h);
uint16_t wtl_f16_from_f32(float f);
static inline float wtl_f32_from_bf16(uint16_t h) { return wtl_f32_from_bits((uint32_t)h << 16); }
uint16_t wtl_bf16_from_f32(float f);

#ifdef __cplusplus
}
#endif
#endif
