// Six-bit scales of the super-block types. They lie in panels packed, byte by byte of all 16 rows, so that panels take no
// more memory than the file; Q3_K's, Q4_K's and Q5_K's in the bytes of the file, IQ4_XS's in an order of their own. Kernels
// unpack those of a super-block at its start, with a few wide instructions.
//
// Plain C that compilers make vector code of in each file that includes it: loops over bytes, no branch, shifts by constants.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PANEL_SCALES_H
#define WTL_KERNELS_CPU_PANEL_SCALES_H

#include "kernels/cpu/cpu_panel.h"

// Of a super-block, a byte each: by 32 weights and row; halves: by 32 weights, half of them and row.
typedef union panel_scales {
    _Alignas(64) struct { uint8_t scale[8][16], minimum[8][16]; };
    int8_t halves[8][2][16], signed_scale[8][16];
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

// Q3_K: bytes 0..7 are the lower four bits of scales of 16 weights i and i + 8, bytes 8..11 the upper ones of i, i + 4, i + 8, i + 12.
CPU_INLINE void unpack_q3_scales(const uint8_t packed[12][16], panel_scales *out) {
    const uint8_t *from = packed[0];
    int8_t *scale = out->halves[0][0];
    for (int i = 0; i < 64; i++) {
        const uint8_t x = from[i], y = from[64 + i], h = from[128 + i];
        scale[i] = (int8_t)(((x & 15) | (h << 4 & 0x30)) - 32);
        scale[64 + i] = (int8_t)(((y & 15) | (h << 2 & 0x30)) - 32);
        scale[128 + i] = (int8_t)((x >> 4 | (h & 0x30)) - 32);
        scale[192 + i] = (int8_t)((y >> 4 | (h >> 2 & 0x30)) - 32);
    }
}

// IQ4_XS: bytes 0..3 are the lower four bits of scales s and s + 4, bytes 4 and 5 the upper ones of s, s + 2, s + 4, s + 6. The file has
// neighbours in a byte, which takes twice the instructions.
CPU_INLINE void unpack_iq4_scales(const uint8_t packed[6][16], panel_scales *out) {
    const uint8_t *from = packed[0];
    int8_t *scale = out->signed_scale[0];
    for (int i = 0; i < 32; i++) {
        const uint8_t x = from[i], y = from[32 + i], h = from[64 + i];
        scale[i] = (int8_t)(((x & 15) | (h << 4 & 0x30)) - 32);
        scale[32 + i] = (int8_t)(((y & 15) | (h << 2 & 0x30)) - 32);
        scale[64 + i] = (int8_t)((x >> 4 | (h & 0x30)) - 32);
        scale[96 + i] = (int8_t)((y >> 4 | (h >> 2 & 0x30)) - 32);
    }
}

#endif
