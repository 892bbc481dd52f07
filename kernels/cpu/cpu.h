// Inside of the cpu backend: instruction sets, the thread pool, and the tables of kernels that dispatch fills.
//
// Three layers. cpu_backend.c: memory, weights, streams, the op table. cpu_<area>.c: one op each, splits rows, panels or
// heads over the pool and calls a kernel through a table. <op>_<dtype>_<isa>.c: kernels, compiled with that instruction
// set's flags and reached only through the tables, so that one binary runs everywhere. Work is split over independent
// outputs, never along a reduction: results do not depend on the number of threads.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_H
#define WTL_KERNELS_CPU_H

#include <pthread.h>

#include "kernels/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- features.c, dispatch.c ---------------------------------------------------------------------------------------
typedef enum cpu_isa {
    CPU_ISA_SCALAR,       // plain C, any machine
    CPU_ISA_AVX2,         // AVX2 + FMA + F16C
    CPU_ISA_AVXVNNI,      // these + AVX-VNNI
    CPU_ISA_AVX512VNNI,   // AVX2's + AVX-512 F, BW, DQ, VL + VNNI
    CPU_ISA_NEON_DOTPROD, // 64-bit Arm with SDOT
    CPU_ISA_NEON_I8MM,    // these + USDOT, USMMLA
    CPU_ISA_COUNT
} cpu_isa;

// "scalar", "avx2", "avxvnni", "avx512vnni", "neon_dotprod", "neon_i8mm"
const char *cpu_isa_name(cpu_isa isa);
bool cpu_isa_available(cpu_isa isa);   // this build has it, and CPU and operating system support it
// Best available one not above mask (NULL: the environment's WTL_CPU_MASK, and without that the best).
// INVALID with the list of names when the mask names none, UNSUPPORTED when this machine lacks it.
wtl_status cpu_isa_choose(const char *mask, cpu_isa *out, wtl_error *err);
// Threads to use when the caller does not say: physical performance cores in the affinity mask, capped by the cgroup quota rounded down; >= 1.
int32_t cpu_default_threads(void);

// ---- pool.c -------------------------------------------------------------------------------------------------------
// n - 1 workers plus the caller. A worker spins briefly after a job, then sleeps on a futex; it never spins when more
// threads are active than it has cores to run on. pool_run from several threads at once is safe: jobs take turns.
typedef struct cpu_pool cpu_pool;
typedef void (*cpu_job)(void *ctx, int32_t thread, int32_t n_threads);
wtl_status pool_open(int32_t n_threads, cpu_pool **out, wtl_error *err);
void pool_close(cpu_pool **pool); // joins the workers
int32_t pool_threads(const cpu_pool *pool);
int32_t pool_active(const cpu_pool *pool); // of them in the next job, if nobody changes it meanwhile
// From the next job on n_threads of them work, the others sleep; < 1 or more than there are: all. Any thread. It changes no result.
void pool_limit(cpu_pool *pool, int32_t n_threads);
// Runs job(ctx, i, n) once for each share i = 0..n-1 and returns when all are done. Allocates nothing. Shares run on n
// threads at once or, when a worker comes late, several after each other on the caller's: they must not wait for each other.
void pool_run(cpu_pool *pool, cpu_job job, void *ctx);

// ---- vector kernels (vec_<isa>.c, attend_<isa>.c) --------------------------------------------------------------------
// One tile of attention: n_rows query rows of one sequence and one KV head over one partition of positions.
// Partitions are CPU_ATTEND_PART positions at absolute multiples; each gives a partial softmax (maximum m, sum l, weighted
// sum o) and partials are merged in ascending order: the arithmetic of a query depends on nothing but its own keys.
#define CPU_ATTEND_PART 256

typedef struct cpu_vec_kernels {
    void (*rms_norm)(const float *x, const float *weight, float eps, float *out, int32_t n);
    void (*add)(const float *a, const float *b, float *out, int32_t n);
    void (*glu)(const float *gate, const float *up, wtl_act act, float *out, int32_t n);
    // The same for a panel of gates and one of what they let through: out[c * stride + r] from pairs[c][0][r] and pairs[c][1][r], r < n_rows.
    void (*glu_panels)(const float (*pairs)[2][16], int32_t n_columns, int32_t n_rows, wtl_act act, float *out, int32_t stride);
    // One row of n_heads heads; cos_sin as rope_table writes it.
    void (*rope)(float *x, int32_t n_heads, int32_t head_dim, const float *cos_sin, int32_t n_rot, wtl_rope_style style);
    // Puts one position's k and v [n_heads_kv * head_dim] into slot 0..15 of a layer's part of a block. Meanwhile fetches what
    // next_slot of next_block takes up into the cache, unless that is NULL.
    void (*kv_store)(const wtl_kv_shape *shape, const float *k, const float *v, uint8_t *layer_block, int32_t slot,
                     const uint8_t *next_block, int32_t next_slot);
} cpu_vec_kernels;

extern const cpu_vec_kernels cpu_vec_scalar, cpu_vec_avx2, cpu_vec_avx512vnni, cpu_vec_neon; // as far as this build has them

// Tables name_scalar, name_avx2, ... by cpu_isa, for kernels that have no use for instructions on bytes. NULL for sets of other machines.
#if defined(__x86_64__)
#define CPU_ISA_TABLE(name)                                                                                            \
    {[CPU_ISA_SCALAR] = &name##_scalar, [CPU_ISA_AVX2] = &name##_avx2, [CPU_ISA_AVXVNNI] = &name##_avx2,               \
     [CPU_ISA_AVX512VNNI] = &name##_avx512vnni}
#elif defined(__aarch64__)
#define CPU_ISA_TABLE(name)                                                                                            \
    {[CPU_ISA_SCALAR] = &name##_scalar, [CPU_ISA_NEON_DOTPROD] = &name##_neon, [CPU_ISA_NEON_I8MM] = &name##_neon}
#else
#define CPU_ISA_TABLE(name) {[CPU_ISA_SCALAR] = &name##_scalar}
#endif

// ---- backend, streams, weights (cpu_backend.c) -----------------------------------------------------------------------
typedef struct cpu_backend {
    wtl_backend base;
    cpu_isa isa;
    int32_t most_active; // threads that may work at once
    cpu_pool *pool;
    bool use_blas;   // for F32, F16 and BF16 weights, when OpenBLAS can be loaded
    bool blas_named; // the description says that it was
    const cpu_vec_kernels *vec;
    const struct cpu_matmul_kernels *matmul; // cpu_panel.h
    pthread_mutex_t slab_lock;               // cpu_weights.c: guards slab and its counters
    struct cpu_slab *slab;                   // the mapping that new weights are carved from, or NULL
    char description[128];
} cpu_backend;

typedef struct cpu_stream {
    wtl_stream base;
    wtl_stream_limits limits;
    wtl_status failed; // first failure since the last sync
    uint8_t *scratch;  // carved by cpu_backend.c: quantised activations, attention partials
    size_t scratch_bytes;
    void *quant_scratch;   size_t quant_bytes;   // cpu_matmul.c: int8 activations of one matmul input
    void *float_scratch;   size_t float_bytes;   // cpu_matmul_float.c: per-thread f32 tiles
    void *head_scratch;    size_t head_bytes;    // cpu_head.c: bounds of panels and the best rows
    void *attend_scratch;  size_t attend_bytes;  // cpu_attention.c: partials and scores
} cpu_stream;

static inline cpu_backend *cpu_of(wtl_stream *s) { return (cpu_backend *)s->be; }

// True when the op fits the stream's limits; otherwise INVALID sticks to the stream and the op must do nothing.
static inline bool cpu_fits(wtl_stream *s, bool condition) {
    cpu_stream *stream = (cpu_stream *)s;
    if (!condition && stream->failed == WTL_OK) stream->failed = WTL_ERR_INVALID;
    return condition;
}

// Each op file says how much scratch a stream of these limits needs.
size_t cpu_matmul_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads);
size_t cpu_matmul_float_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads);
size_t cpu_head_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads);
size_t cpu_attention_scratch_bytes(const wtl_stream_limits *limits, int32_t n_threads);

// ---- ops, in the op table's signatures -------------------------------------------------------------------------------
// cpu_matmul.c (quantised weights; passes F32, F16, BF16 parts on to cpu_matmul_float)
void cpu_matmul(wtl_stream *s, const wtl_matmul *a);
void cpu_embed(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out);
// cpu_head.c
void cpu_head_top(wtl_stream *s, const wtl_matmul *a, int32_t k);
// cpu_matmul_float.c: own kernels below about 32 rows, OpenBLAS tiles above unless !use_blas
void cpu_matmul_float(wtl_stream *s, const wtl_weight *w, wtl_mat x, const float *bias, bool accumulate, wtl_mat out);
// cpu_rows.c
void cpu_rms_norm(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out);
void cpu_rope_table(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table);
void cpu_rope(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table);
void cpu_glu(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out);
void cpu_add(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out);
void cpu_gather_rows(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out);
// cpu_attention.c
size_t cpu_kv_layer_bytes(const wtl_kv_shape *shape);
void cpu_kv_write(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows);
wtl_attention_arithmetic cpu_attention_arithmetic(wtl_backend *be, wtl_dtype kv);
void cpu_attention(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows);

// ---- cpu_weights.c, in the op table's signatures -----------------------------------------------------------------------
wtl_status cpu_weight_prepare(wtl_backend *be, const wtl_tensor *src, wtl_weight_use use, wtl_weight **out, wtl_error *err);
void cpu_weight_free(wtl_backend *be, wtl_weight *w);
// f32 data of a vector weight [cols].
const float *cpu_vector(const wtl_weight *w);

#ifdef __cplusplus
}
#endif
#endif
