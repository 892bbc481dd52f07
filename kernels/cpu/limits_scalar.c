// Limits in plain C: what the compiler makes of it, which is what the scalar kernels are, too.
// SPDX-License-Identifier: Apache-2.0
typedef unsigned long long limit_vector __attribute__((vector_size(16)));
#define LIMIT_VECTOR limit_vector
#include "kernels/cpu/limits_read.h"

enum { N = 2048 }; // elements: in the first cache

static double scalar_int8(int64_t rounds) {
    int8_t a[N], b[N];
    int32_t sum = 0;
    for (int i = 0; i < N; i++) a[i] = (int8_t)(i % 17), b[i] = (int8_t)(i % 13);
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < N; i++) sum += a[i] * b[i];
        __asm__ volatile("" : "+r"(sum) : "m"(a), "m"(b)); // or one round would do
    }
    return (double)N * (double)rounds;
}

static double scalar_int16(int64_t rounds) {
    int16_t a[N], b[N];
    int32_t sum = 0;
    for (int i = 0; i < N; i++) a[i] = (int16_t)(i % 17), b[i] = (int16_t)(i % 13);
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < N; i++) sum += a[i] * b[i];
        __asm__ volatile("" : "+r"(sum) : "m"(a), "m"(b));
    }
    return (double)N * (double)rounds;
}

static double scalar_f32(int64_t rounds) {
    float sums[32] = {0}, x = 0.5f, y = 0.25f;
    __asm__ volatile("" : "+m"(x), "+m"(y));
    for (int64_t r = 0; r < rounds; r++) {
        for (int k = 0; k < N / 32; k++)
            for (int i = 0; i < 32; i++) sums[i] = sums[i] * x + y;
        __asm__ volatile("" : "+m"(sums));
    }
    return (double)N * (double)rounds;
}

const cpu_limit_kernels cpu_limits_scalar = {"scalar C", "scalar C", "scalar C", read_piece, scalar_int8, scalar_int16, scalar_f32};
