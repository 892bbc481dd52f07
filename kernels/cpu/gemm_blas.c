// The one door to OpenBLAS: a single-threaded product of f32 matrices, called from the pool's threads.
//
// OpenBLAS keeps threads of its own that spin between calls; they are switched off before the first product. Its sums
// depend on the shapes it is given, so callers keep it away when results must not depend on the batch.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_float.h"

#ifdef WTL_BLAS
#include <cblas.h>
#include <pthread.h>

static pthread_once_t blas_once = PTHREAD_ONCE_INIT;
static void blas_one_thread(void) { openblas_set_num_threads(1); }

bool blas_available(void) { return true; }

bool blas_gemm(const float *w, int32_t n, wtl_mat x, bool accumulate, wtl_mat out) {
    pthread_once(&blas_once, blas_one_thread);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, x.rows, n, x.cols, 1.0f, x.data, x.stride, w, x.cols,
                accumulate ? 1.0f : 0.0f, out.data, out.stride);
    return true;
}
#else
bool blas_available(void) { return false; }

bool blas_gemm(const float *w, int32_t n, wtl_mat x, bool accumulate, wtl_mat out) {
    (void)w, (void)n, (void)x, (void)accumulate, (void)out;
    return false;
}
#endif
