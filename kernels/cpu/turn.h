// Groups of 32 numbers turned by the Hadamard matrix: what the Q8_0 KV cache does before it rounds to bytes.
//
// One outlying dimension, and keys have some, would set the step of all 32. Turned, every number is a sum of all 32 with
// signs, and they are of about one size. Products of two turned groups are 32 times the product, turning twice is 32 times
// the group: both are scaled back by a power of two, which is exact.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_TURN_H
#define WTL_KERNELS_CPU_TURN_H

#include "kernels/cpu/fixed.h"

#define TURN_WIDTH 32
#define LANE_BITS (CPU_LANES == 16 ? 4 : CPU_LANES == 8 ? 3 : 2)

// Lane i gets lane i ^ distance; distance < CPU_LANES is a power of two.
CPU_INLINE vec v_trade(vec x, const int distance) {
#if CPU_LANES == 16
    if (distance == 1) return _mm512_permute_ps(x, 0xB1);
    if (distance == 2) return _mm512_permute_ps(x, 0x4E);
    return distance == 4 ? _mm512_shuffle_f32x4(x, x, 0xB1) : _mm512_shuffle_f32x4(x, x, 0x4E);
#elif CPU_LANES == 8
    if (distance == 1) return _mm256_permute_ps(x, 0xB1);
    return distance == 2 ? _mm256_permute_ps(x, 0x4E) : _mm256_permute2f128_ps(x, x, 1);
#else
    return distance == 1 ? (vec){x[1], x[0], x[3], x[2]} : (vec){x[2], x[3], x[0], x[1]};
#endif
}

// out[i] = sum over j of x[j], negative where i & j has an odd number of bits. x [32] is clipped to +-limit; out may be x.
CPU_INLINE void turn(const float *x, float limit, float *out) {
    static const float signs[4][16] = {{1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
                                       {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
                                       {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
                                       {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};
    vec v[TURN_WIDTH / CPU_LANES];
    CPU_UNROLL for (int i = 0; i < TURN_WIDTH / CPU_LANES; i++) {
        v[i] = fixed_load(x, i * CPU_LANES, TURN_WIDTH, limit);
        CPU_UNROLL for (int bit = 0; bit < LANE_BITS; bit++) v[i] = v_fma(v[i], v_load(signs[bit]), v_trade(v[i], 1 << bit));
    }
    CPU_UNROLL for (int bit = 0; bit < 5 - LANE_BITS; bit++) {
        const int apart = 1 << bit;
        CPU_UNROLL for (int i = 0; i < TURN_WIDTH / CPU_LANES; i++) {
            if (i & apart) continue;
            const vec a = v[i], b = v[i + apart];
            v[i] = v_add(a, b);
            v[i + apart] = v_sub(a, b);
        }
    }
    CPU_UNROLL for (int i = 0; i < TURN_WIDTH / CPU_LANES; i++) v_store(out + i * CPU_LANES, v[i]);
}

#endif
