// The op table: what a backend (ref, cpu, cuda) must be able to do, and the contract of each operation.
//
// A backend owns memory and prepared weights. Work is done on a stream: ops are enqueued in order and may still be
// running when the call returns; results reach the host only through download(), failures only through sync().
// Positions, tokens and block tables live in backend memory too, so a recorded decode step can be replayed with new
// contents. Callers never follow a pointer into backend memory; they may only do arithmetic on it.
//
// Batch invariance (cpu, cuda): for a given instruction set, each output row is a function of that row's inputs alone.
// Number of threads, other rows of the batch, and the split of a prompt into steps change no bit of it. Every
// floating-point reduction therefore has a fixed order. ref computes in double; BLAS is the one exception.
//
// Adding an op: contract here, reference in ref/, cases in tests/kernels/, cpu variants, cuda kernel, bench line.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_BACKEND_H
#define WTL_KERNELS_BACKEND_H

#include "kernels/tensor.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wtl_backend wtl_backend;
typedef struct wtl_stream wtl_stream;

// A prepared weight. Backends embed this as the first member of their own struct.
typedef struct wtl_weight {
    wtl_dtype dtype; // type in the file
    int32_t rows, cols;
    size_t bytes;         // backend memory that reading the whole weight touches
    size_t aside_bytes;   // further memory of the weight, which head_top alone reads
    bool borrows_source;  // true: the source tensor must stay readable as long as the weight lives
} wtl_weight;

typedef enum wtl_weight_use {
    WTL_WEIGHT_MATRIX, // matmul and embed
    WTL_WEIGHT_HEAD,   // these and head_top
    WTL_WEIGHT_VECTOR, // rms_norm, bias, frequency factors: rows == 1, kept as f32
} wtl_weight_use;

// Largest step that a stream must be able to run; scratch is sized from it once, ops allocate nothing.
typedef struct wtl_stream_limits {
    int32_t max_rows;    // rows of any op
    int32_t max_cols;    // widest x of any matmul (K)
    int32_t max_heads;   // query heads
    int32_t max_head_dim;
    int32_t max_kv_len;  // positions of the longest sequence
    int32_t max_head_rows; // rows of the weight of head_top; 0: it is not called
} wtl_stream_limits;

// ---- KV cache -------------------------------------------------------------------------------------------------
// Positions are stored in blocks of WTL_KV_BLOCK. One pool holds the blocks of a group of layers with the same
// retention; block b of the pool starts at base + b * block_bytes and holds every layer of the group at
// layer_offset (a multiple of kv_layer_bytes). How K and V lie inside a layer's part is private to the backend.
#define WTL_KV_BLOCK 16

typedef struct wtl_kv_shape {
    wtl_dtype dtype;     // F32; F16: 16 bits a number, as f16 or as whole numbers of a step per head and position (KV16);
                         // Q8_0: bytes with a step per 32 of a head's numbers at a position (KV8)
    int32_t n_heads_kv;
    int32_t head_dim;    // of K and of V
} wtl_kv_shape;

// One layer's K and V seen through block tables. All pointers are backend memory.
typedef struct wtl_kv {
    wtl_kv_shape shape;
    uint8_t *base;           // pool
    size_t block_bytes;      // bytes of one block over all layers of the group
    size_t layer_offset;     // where this layer starts inside a block
    const int32_t *table;    // [n_seqs, table_stride]: pool index of the block that holds positions 16 j .. 16 j + 15,
    int32_t table_stride;    //   or -1 where no row of this step may look
} wtl_kv;

// Which token of which sequence each row of the step is. Rows of one sequence are adjacent, their positions ascend by 1.
typedef struct wtl_rows {
    int32_t n_rows, n_seqs;
    int32_t kv_len_max;       // host hint: largest position + 1 in this step
    const int32_t *positions; // [n_rows]
    const int32_t *seqs;      // [n_rows] row of the block tables
} wtl_rows;

// ---- Op arguments ---------------------------------------------------------------------------------------------
typedef enum wtl_act { WTL_ACT_SILU, WTL_ACT_GELU_TANH } wtl_act;

// How a matmul makes its x from something else, row by row, while it is in the cache.
typedef enum wtl_input_kind {
    WTL_INPUT_PLAIN,    // x is there
    WTL_INPUT_RMS_NORM, // x = rms_norm(from) with weight and eps
} wtl_input_kind;

typedef struct wtl_input {
    wtl_input_kind kind;
    wtl_mat from;             // [n, K]
    const wtl_weight *weight; // vector [K]
    float eps;
} wtl_input;

#define WTL_MATMUL_PARTS 3
typedef struct wtl_matmul {
    wtl_mat x;        // [n, K]
    wtl_input input;  // but for PLAIN, what x holds before does not count and what it holds afterwards is undefined
    int32_t n_parts;  // 1..3 weights multiply the same x (q,k,v and gate,up share one quantisation of x)
    struct wtl_matmul_part {
        const wtl_weight *w;    // [rows, K]
        const wtl_weight *bias; // vector [rows] or NULL
        wtl_mat out;            // [n, rows]; aliases neither x nor another part
    } part[WTL_MATMUL_PARTS];
    bool accumulate;  // out += instead of out =  (residual connections)
    // Two parts of equal shape without biases, a gate and what it lets through, no accumulate: out of part 0 is glu(part 0, part 1) with act.
    // That of part 1 may have been used on the way: what it holds afterwards is undefined.
    bool gated;
    wtl_act act;
} wtl_matmul;
typedef struct wtl_matmul_part wtl_matmul_part;

typedef enum wtl_rope_style {
    WTL_ROPE_ADJACENT, // pairs (2i, 2i+1): GGUF "llama"
    WTL_ROPE_HALVES,   // pairs (i, i + n_rot/2): gemma, qwen
} wtl_rope_style;

typedef struct wtl_rope {
    int32_t n_rot;                  // rotated dimensions of a head, even, <= head_dim; the rest passes through
    float freq_base;                // e.g. 10000
    float freq_scale;               // linear position scaling, 1 = none
    const wtl_weight *freq_factors; // vector [n_rot/2] dividing the frequencies (Llama 3.1), or NULL
} wtl_rope;

typedef struct wtl_attention {
    wtl_mat q;      // [n_rows, n_heads * head_dim]
    wtl_mat out;    // same shape; does not alias q
    wtl_kv kv;      // the step's own K and V are already written
    int32_t n_heads; // a multiple of kv.shape.n_heads_kv: query head h reads KV head h / (n_heads / n_heads_kv)
    float scale;    // multiplies q.k
    int32_t window; // 0: all positions <= own; else only those with own - p < window
} wtl_attention;

// What a multiply-add multiplies, which decides how many of them a machine does in a second.
typedef enum wtl_arithmetic { WTL_ARITHMETIC_F32, WTL_ARITHMETIC_INT16, WTL_ARITHMETIC_INT8 } wtl_arithmetic;
typedef struct wtl_attention_arithmetic { wtl_arithmetic keys, values; } wtl_attention_arithmetic;

// ---- The table ------------------------------------------------------------------------------------------------
// Tolerance against ref: EXACT (same bits), or SUM(n): |got - ref| <= c sqrt(n) eps sum|a_i b_i|; see tests/kernels.
// Ops return nothing: a failure sticks to the stream and sync() reports the first one. NaN and Inf in the inputs of a
// row come out as NaN or Inf somewhere in that row and nowhere else. All mats of one op have equal rows. No entry is NULL.
typedef struct wtl_backend_ops {
    const char *name; // "ref", "cpu", "cuda"

    // -- memory and lifetime; any thread --
    void (*close)(wtl_backend *be); // no stream and no weight may be left
    // What runs here, e.g. "cpu avx512vnni, 2 threads"; static as long as the backend lives.
    const char *(*describe)(wtl_backend *be);
    // Zeroed memory, 64-byte aligned. free accepts NULL; bytes as at alloc.
    wtl_status (*alloc)(wtl_backend *be, size_t bytes, void **out, wtl_error *err);
    void (*free)(wtl_backend *be, void *p, size_t bytes);
    // Makes a weight from a tensor of a type that can_run, in the backend's own layout. One thread at a time.
    wtl_status (*weight_prepare)(wtl_backend *be, const wtl_tensor *src, wtl_weight_use use, wtl_weight **out,
                                 wtl_error *err);
    void (*weight_free)(wtl_backend *be, wtl_weight *w); // accepts NULL
    // Bytes that one layer takes in one KV block (WTL_KV_BLOCK positions of K and V), a multiple of 64.
    size_t (*kv_layer_bytes)(const wtl_kv_shape *shape);
    // What attention multiplies over a cache of that type: queries with keys, weights with values.
    wtl_attention_arithmetic (*attention_arithmetic)(wtl_backend *be, wtl_dtype kv);

    // -- streams; different streams may run on different threads at once, one stream on one thread at a time --
    size_t (*stream_bytes)(wtl_backend *be, const wtl_stream_limits *limits); // scratch that stream_open will take
    wtl_status (*stream_open)(wtl_backend *be, const wtl_stream_limits *limits, wtl_stream **out, wtl_error *err);
    void (*stream_close)(wtl_stream *s); // accepts NULL
    wtl_status (*sync)(wtl_stream *s, wtl_error *err); // waits; first failure since the last sync
    // How many of the backend's host threads later ops use, of all its streams; < 1: all of them. A hint: results are the same.
    void (*set_threads)(wtl_stream *s, int32_t n_threads);
    void (*upload)(wtl_stream *s, void *dst, const void *host_src, size_t bytes);   // src may be reused on return
    void (*download)(wtl_stream *s, void *host_dst, const void *src, size_t bytes); // waits for what was enqueued
    void (*copy)(wtl_stream *s, void *dst, const void *src, size_t bytes);          // inside backend memory

    // -- ops; shapes [rows, cols] --
    // out[i] = scale * w[tokens[i]] dequantised. tokens [n] in backend memory, each in 0..w.rows-1. EXACT but for scale.
    void (*embed)(wtl_stream *s, const wtl_weight *w, const int32_t *tokens, float scale, wtl_mat out);
    // out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight. out may be x. Zhang and Sennrich 2019.
    void (*rms_norm)(wtl_stream *s, wtl_mat x, const wtl_weight *weight, float eps, wtl_mat out);
    // For each part: out = x * w^T (+ bias), or out += ... when accumulate. Quantised weights may quantise x to int8 per
    // 32 values with step amax / 127 (tolerance class QUANT). Outliers of a row, magnitudes above 1.6 times the mean amax of its
    // blocks, are left out of their blocks and multiplied as they are; while these are more than a sixteenth of the row,
    // the limit doubles. That is half a percent of the values and half of the rounding error. ref uses x as it is.
    // With an input other than PLAIN the bits are those of the op of that name and a matmul of what it gives; when gated, those
    // of a matmul and glu.
    void (*matmul)(wtl_stream *s, const wtl_matmul *a);
    // The k > 0 largest outputs of each row of a matmul with one part, no bias and no accumulation, by a weight prepared as HEAD: each
    // output that is at least as large as the row's k-th largest has the bits that matmul gives, any other these or -INFINITY. Which
    // are which is decided by the row alone, but may change with the number of rows. A NaN has the bits of matmul's. Adds the bytes
    // of the weight that it read to the stream's head_bytes.
    void (*head_top)(wtl_stream *s, const wtl_matmul *a, int32_t k);
    // table[i] = cos, sin of positions[i] * freq_scale * freq_base^(-2j/n_rot) / freq_factors[j], j = 0..n_rot/2-1,
    // as n_rot/2 cosines followed by n_rot/2 sines: [n_rows, n_rot]. Angles are computed in double. Su et al. 2021.
    void (*rope_table)(wtl_stream *s, const int32_t *positions, const wtl_rope *rope, wtl_mat table);
    // Rotates every head of x [n_rows, n_heads * head_dim] in place by the row's angles. table.cols = n_rot.
    void (*rope)(wtl_stream *s, wtl_mat x, int32_t n_heads, wtl_rope_style style, wtl_mat table);
    // Stores k, v [n_rows, n_heads_kv * head_dim] at each row's position. Anything but F32 saturates at +-65504 and rounds to
    // nearest. 16 bits: to f16, or (cpu) to whole numbers of a step, one step for a head's K at a position and one for its V:
    // for K max(largest / 32767, norm / 46300), for V largest / 16383. Bytes: to whole numbers of a step per 32, largest / 127
    // rounded up: to an f16, or (cpu, V) to a multiple of the head's largest step / 32767; whole 32 may be turned by the
    // Hadamard matrix before (cpu). What a position is stored as depends on it alone.
    void (*kv_write)(wtl_stream *s, wtl_mat k, wtl_mat v, const wtl_kv *kv, const wtl_rows *rows);
    // Causal attention: out = softmax(scale * q k^T over the visible positions) v, per query head. Over a cache of whole
    // numbers q may be rounded as K is, and a row's weights times the steps of V, in partitions of 256 positions, to whole
    // numbers of max(largest / 32767, sum / 130000): tolerance class KV16, see tests/kernels/attention_oracle.h. Over bytes
    // (KV8) q may be rounded as K is, steps unrounded, and weights to whole numbers of largest / 32767, once with the largest
    // step of a position's V and once more with that of every 32.
    void (*attention)(wtl_stream *s, const wtl_attention *a, const wtl_rows *rows);
    // out = act(gate) * up, elementwise. out may be gate or up. GELU is the tanh form of Hendrycks and Gimpel 2016.
    void (*glu)(wtl_stream *s, wtl_mat gate, wtl_mat up, wtl_act act, wtl_mat out);
    // out = a + b. out may be a or b.
    void (*add)(wtl_stream *s, wtl_mat a, wtl_mat b, wtl_mat out);
    // out[i] = x[row_ids[i]]; row_ids [out.rows] in backend memory; out does not alias x. EXACT.
    void (*gather_rows)(wtl_stream *s, wtl_mat x, const int32_t *row_ids, wtl_mat out);

    // The host may read backend memory where it lies, after sync; else, as with ref, it downloads. Last: what is before it are pointers.
    bool host_reads;
} wtl_backend_ops;

struct wtl_backend {
    const wtl_backend_ops *ops;
    int32_t n_threads; // host threads that ops run on
};
struct wtl_stream {
    const wtl_backend_ops *ops;
    wtl_backend *be;
    uint64_t head_bytes; // a count of head_top's, to be read after sync and set to 0 by whoever wants it
};

typedef struct wtl_backend_options {
    int32_t n_threads;     // cpu: 0 = default; ref: ignored
    bool deterministic;    // no BLAS: batch invariance holds for F32, F16 and BF16 weights too
    const char *cpu_mask;  // cpu: highest instruction set to use ("scalar", "avx2", "avx512vnni", ...: kernels/README.md); NULL = WTL_CPU_MASK or best
} wtl_backend_options;

// Both fill *out on success only. The caller closes with ops->close.
wtl_status ref_backend_open(const wtl_backend_options *options, wtl_backend **out, wtl_error *err);
wtl_status cpu_backend_open(const wtl_backend_options *options, wtl_backend **out, wtl_error *err);
size_t cpu_backend_kv_layer_bytes(const wtl_kv_shape *shape); // kv_layer_bytes without opening one

#ifdef __cplusplus
}
#endif
#endif
