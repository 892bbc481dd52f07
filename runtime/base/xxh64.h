// XXH64: a fast 64-bit checksum (Yann Collet's xxHash, specification 0.1.1), the same value on every machine. Finds damage and tells
// files apart; no protection against someone who builds a collision on purpose.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_BASE_XXH64_H
#define WTL_BASE_XXH64_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xxh64 {
    uint64_t lane[4], total_bytes;
    uint8_t waiting[32]; // bytes that do not fill a stripe yet
    size_t n_waiting;
} xxh64;

void xxh64_start(xxh64 *state, uint64_t seed);
void xxh64_add(xxh64 *state, const void *data, size_t bytes);
uint64_t xxh64_value(const xxh64 *state); // of all that was added; more may follow
uint64_t xxh64_of(const void *data, size_t bytes); // in one call, seed 0

#ifdef __cplusplus
}
#endif
#endif
