// Table of tensor types and scalar half-precision conversions.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/tensor.h"

#include "runtime/base/checked.h"

static const wtl_dtype_info dtype_table[WTL_DTYPE_ID_END] = {
#define DTYPE_ROW(name, id, weights, bytes, runs) [id] = {#name, (weights), (bytes), (runs)},
    WTL_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

static const wtl_dtype_info dtype_unknown = {0};

const wtl_dtype_info *wtl_dtype_get(uint32_t id) { return id < WTL_DTYPE_ID_END ? &dtype_table[id] : &dtype_unknown; }

bool wtl_dtype_row_bytes(wtl_dtype dtype, uint64_t cols, uint64_t *bytes) {
    const wtl_dtype_info *info = wtl_dtype_get((uint32_t)dtype);
    if (!info->name || cols % info->block_weights != 0) return false;
    return wtl_mul_u64(cols / info->block_weights, info->block_bytes, bytes);
}

float wtl_f32_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1Fu, mantissa = h & 0x3FFu;
    if (exponent == 31) return wtl_f32_from_bits(sign | 0x7F800000u | (mantissa << 13));
    if (exponent != 0) return wtl_f32_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
    float magnitude = (float)mantissa * 0x1p-24f; // zero and subnormals: exact
    return sign ? -magnitude : magnitude;
}

uint16_t wtl_f16_from_f32(float f) {
    uint32_t bits = wtl_bits_from_f32(f);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00u);  // NaN, quiet
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u); // rounds to 65536 or more: Inf
    if (magnitude < 0x38800000u) {
        // Below 2^-14: adding 0.5 aligns the result's unit (2^-24) with the last mantissa bit, rounding to even.
        float aligned = wtl_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (wtl_bits_from_f32(aligned) - 0x3F000000u));
    }
    uint32_t odd = (magnitude >> 13) & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

uint16_t wtl_bf16_from_f32(float f) {
    uint32_t bits = wtl_bits_from_f32(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
