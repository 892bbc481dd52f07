// Products with F32, F16 and BF16 weights: the kernel tables behind cpu_matmul_float.c, and the door to OpenBLAS.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_FLOAT_H
#define WTL_KERNELS_CPU_FLOAT_H

#include "kernels/cpu/cpu.h"

// Some rows of an F32, F16 or BF16 matrix, without gaps.
typedef struct cpu_float_rows {
    const void *data; // first row
    wtl_dtype dtype;
    int32_t n_rows, cols;
} cpu_float_rows;

typedef struct cpu_float_kernels {
    // out[i, j] (+)= x[i] . w[j] + bias[j]. x [x.rows, w.cols], out.cols >= w.n_rows; bias [w.n_rows] or NULL.
    // One sum per output in an order that depends on w.cols alone.
    void (*matmul)(cpu_float_rows w, wtl_mat x, const float *bias, bool accumulate, wtl_mat out);
    // to [n_rows, cols] as f32
    void (*widen)(cpu_float_rows w, float *to);
} cpu_float_kernels;

extern const cpu_float_kernels cpu_float_scalar, cpu_float_avx2, cpu_float_avx512vnni, cpu_float_neon;

// gemm_blas.c, the door to OpenBLAS. blas_built: this build knows how to use it. blas_load: it is there and ready, loaded by the
// first call; any thread.
bool blas_built(void);
bool blas_load(void);
// out[i, j] = x[i] . w[j], or += with accumulate; w [n, x.cols] f32. On the calling thread alone, any number of threads at
// once. Only after blas_load gave true.
void blas_gemm(const float *w, int32_t n, wtl_mat x, bool accumulate, wtl_mat out);

#endif
