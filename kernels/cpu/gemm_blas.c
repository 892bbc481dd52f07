// The one door to OpenBLAS: a single-threaded product of f32 matrices, called from the pool's threads.
//
// Loaded when the first matrix that could use it is prepared, not with the program: the moment it is loaded OpenBLAS starts threads
// of its own that spin for 50 ms (measured: 27 ms of CPU time on each core), and most models never need it. They are told to
// stay away from every product. Its sums depend on the shapes it is given, so callers keep it away when results must not
// depend on the batch.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_float.h"

#ifdef WTL_BLAS
#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>

static pthread_once_t blas_once = PTHREAD_ONCE_INIT;
static __typeof__(&cblas_sgemm) blas_sgemm; // written once, under blas_once

static void blas_open(void) {
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL); // stays open for the life of the process
    if (!library) return;
    __typeof__(&openblas_set_num_threads) set_threads = (__typeof__(set_threads))dlsym(library, "openblas_set_num_threads");
    __typeof__(&cblas_sgemm) sgemm = (__typeof__(sgemm))dlsym(library, "cblas_sgemm");
    if (!set_threads || !sgemm) {
        dlclose(library);
        return;
    }
    set_threads(1);
    blas_sgemm = sgemm;
}

bool blas_built(void) { return true; }

bool blas_load(void) {
    pthread_once(&blas_once, blas_open);
    return blas_sgemm != NULL;
}

void blas_gemm(const float *w, int32_t n, wtl_mat x, bool accumulate, wtl_mat out) {
    blas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, x.rows, n, x.cols, 1.0f, x.data, x.stride, w, x.cols,
               accumulate ? 1.0f : 0.0f, out.data, out.stride);
}
#else
bool blas_built(void) { return false; }

bool blas_load(void) { return false; }

void blas_gemm(const float *w, int32_t n, wtl_mat x, bool accumulate, wtl_mat out) {
    (void)w, (void)n, (void)x, (void)accumulate, (void)out;
}
#endif
