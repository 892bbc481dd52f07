// Six-bit scales of the super-block types: they lie in panels packed as in the file, byte by byte of all 16 rows, so that
// panels take no more memory than the file. Kernels unpack those of a super-block at its start, with a few wide instructions.
//
// Plain C that compilers make vector code of in each file that includes it: loops over bytes, no branch, shifts by constants.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_SCALES_H
#define WTL_KERNELS_CPU_PANEL_SCALES_H

#include "kernels/cpu/cpu_panel.h"

// Of a super-block, a byte each: by 32 weights and row; halves: by 32 weights, half of them and row.
typedef union panel_scales {
    _Alignas(64) struct { uint8_t scale[8][16], minimum[8][16]; };
    int8_t halves[8][2][16];
} panel_scales;

// Q4_K, Q5_K: bytes 0..3 of the file's twelve are scales, 4..7 minima of the first four 32s, with two bits more; these are the
// upper ones of the other four, whose lower bits are bytes 8..11, a scale and a minimum each.
CPU_INLINE void unpack_scale_min(const uint8_t packed[12][16], panel_scales *out) {
    const uint8_t *from = packed[0];
    uint8_t *scale = out->scale[0], *minimum = out->minimum[0];
    for (int i = 0; i < 64; i++) {
        const uint8_t x = from[i], y = from[64 + i], z = from[128 + i];
        scale[i] = x & 63;
        minimum[i] = y & 63;
        scale[64 + i] = (uint8_t)((z & 15) | (x >> 2 & 0x30));
        minimum[64 + i] = (uint8_t)(z >> 4 | (y >> 2 & 0x30));
    }
}

#endif
