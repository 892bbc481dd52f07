// Body of the reading kernels. The including file defines LIMIT_VECTOR (a register's type of 64-bit lanes, with the operator ^).
// Included once per instruction set; no guard.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/cpu/limits.h"

enum { READ_BLOCK = 256, READ_VECTORS = READ_BLOCK / (int)sizeof(LIMIT_VECTOR) };

static inline __attribute__((always_inline)) void read_block(const uint8_t *p, int32_t ahead, bool passing, LIMIT_VECTOR sums[READ_VECTORS]) {
    for (int line = 0; line < READ_BLOCK && ahead; line += 64) {
        if (passing) __builtin_prefetch(p + ahead + line, 0, 0);
        else __builtin_prefetch(p + ahead + line, 0, 3);
    }
    for (int i = 0; i < READ_VECTORS; i++) {
        LIMIT_VECTOR v;
        memcpy(&v, p + i * (int)sizeof v, sizeof v);
        sums[i] ^= v;
    }
}

// Constants at the calls make loops of their own: no decisions inside. The last prefetches reach behind the piece, which is harmless.
static inline __attribute__((always_inline)) uint64_t read_streams(const uint8_t *piece, int32_t ahead, bool prefetches, bool passing, int streams) {
    LIMIT_VECTOR sums[READ_VECTORS] = {0};
    const size_t part = CPU_LIMIT_PIECE / (size_t)streams;
    for (size_t i = 0; i < part; i += READ_BLOCK)
        for (int s = 0; s < streams; s++) read_block(piece + (size_t)s * part + i, prefetches ? ahead : 0, passing, sums);
    uint64_t folded = 0, lanes[sizeof(LIMIT_VECTOR) / 8];
    for (int i = 0; i < READ_VECTORS; i++) {
        memcpy(lanes, &sums[i], sizeof lanes);
        for (size_t j = 0; j < sizeof lanes / sizeof *lanes; j++) folded ^= lanes[j];
    }
    return folded;
}

static inline __attribute__((always_inline)) uint64_t read_with(const uint8_t *piece, const cpu_read_pattern *p, int streams) {
    if (p->ahead == 0) return read_streams(piece, 0, false, false, streams);
    return p->passing ? read_streams(piece, p->ahead, true, true, streams) : read_streams(piece, p->ahead, true, false, streams);
}

static uint64_t read_piece(const uint8_t *piece, const cpu_read_pattern *p) {
    return p->streams == 1 ? read_with(piece, p, 1) : p->streams == 2 ? read_with(piece, p, 2) : read_with(piece, p, 4);
}
