// Makes and frees prepared weights: copies vectors and float matrices, packs quantised matrices on the pool.
//
// Weights of a model are many and often smaller than a huge page, and decode streams through all of them: they are carved
// from large mappings (slabs) so that the kernel backs them with 2 MiB pages. A slab goes when its last weight goes.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu_float.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/ref/ref.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

#define SLAB_BYTES ((size_t)256 << 20) // address space: of what no weight covers a huge page is touched at most
#define WEIGHT_ALIGN 64

typedef struct cpu_slab {
    uint8_t *data;
    size_t bytes, used;
    int32_t n_weights;
} cpu_slab;

// ---- slabs ----------------------------------------------------------------------------------------------------------
// Called with the lock held. NULL when out of memory.
static cpu_slab *slab_with_room(cpu_backend *be, size_t bytes) {
    if (be->slab && be->slab->bytes - be->slab->used >= bytes) return be->slab;
    cpu_slab *slab = wtl_calloc(1, sizeof *slab);
    if (!slab) return NULL;
    slab->bytes = bytes > SLAB_BYTES ? bytes : SLAB_BYTES;
    slab->data = wtl_pages_alloc(slab->bytes);
    if (!slab->data) {
        wtl_free(slab);
        return NULL;
    }
    be->slab = slab; // the one before lives on through its weights
    return slab;
}

static bool slab_take(cpu_backend *be, size_t bytes, cpu_weight *w) {
    size_t rounded;
    if (!wtl_align_size(bytes ? bytes : 1, WEIGHT_ALIGN, &rounded)) return false;
    pthread_mutex_lock(&be->slab_lock);
    cpu_slab *slab = slab_with_room(be, rounded);
    if (slab) {
        w->slab = slab;
        w->data = slab->data + slab->used;
        w->data_bytes = bytes;
        slab->used += rounded;
        slab->n_weights++;
    }
    pthread_mutex_unlock(&be->slab_lock);
    return slab != NULL;
}

static void slab_give_back(cpu_backend *be, cpu_slab *slab) {
    pthread_mutex_lock(&be->slab_lock);
    const bool last = --slab->n_weights == 0;
    if (last && be->slab == slab) be->slab = NULL;
    pthread_mutex_unlock(&be->slab_lock);
    if (!last) return;
    wtl_pages_free(slab->data, slab->bytes);
    wtl_free(slab);
}

// ---- filling on the pool --------------------------------------------------------------------------------------------
typedef struct fill_job {
    const wtl_tensor *src;
    const cpu_weight *w;
    const cpu_planes_kernels *planes;
    int32_t n_items, chunk; // panels, or rows of float matrices
    _Atomic uint32_t largest; // PLANES: bits of the largest of what cpu_planes_pack returned
    _Atomic int32_t next;
} fill_job;

// Bits of floats above 0 compare like the floats, and NaN above all.
static void note_largest(fill_job *job, double squares) {
    const uint32_t bits = wtl_bits_from_f32(fabsf((float)(sqrt(squares) * (1 + 0x1p-20))));
    uint32_t before = atomic_load_explicit(&job->largest, memory_order_relaxed);
    while (bits > before && !atomic_compare_exchange_weak_explicit(&job->largest, &before, bits, memory_order_relaxed, memory_order_relaxed)) continue;
}

static void fill_items(fill_job *job, int32_t first, int32_t end) {
    const cpu_weight *w = job->w;
    const wtl_tensor *src = job->src;
    uint8_t *data = w->data;
    if (w->layout == CPU_LAYOUT_PANELS) {
        for (int32_t p = first; p < end; p++) cpu_pack_panel(src, p, data + (size_t)p * w->panel_bytes);
        return;
    }
    if (w->layout == CPU_LAYOUT_PLANES) {
        for (int32_t p = first; p < end; p++) note_largest(job, cpu_planes_pack(src, p, job->planes, &w->planes));
        return;
    }
    const size_t row_bytes = w->data_bytes / (size_t)src->rows;
    for (int32_t r = first; r < end; r++) {
        memcpy(data + (size_t)r * row_bytes, (const uint8_t *)src->data + (size_t)r * src->row_bytes, row_bytes);
    }
}

// Giving back less than this is left to whoever prepares many weights: it interrupts every other thread.
#define RELEASE_BYTES ((uintptr_t)1 << 20)
#define CHUNK_BYTES ((size_t)2 << 20)

// Gives the pages behind items first..end - 1 back, so that a large matrix is never resident twice. Only whole pages: the
// ones at the ends may hold what others still need.
static void release_source(const fill_job *job, int32_t first, int32_t end) {
    if (!job->src->file_mapping) return;
    const int32_t rows_per_item = job->w->n_panels ? CPU_PANEL_ROWS : 1, rows = job->src->rows;
    const int64_t last = (int64_t)end * rows_per_item < rows ? (int64_t)end * rows_per_item : rows;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), data = (uintptr_t)job->src->data;
    const uintptr_t from = (data + (size_t)first * (size_t)rows_per_item * job->src->row_bytes + page - 1) & ~(page - 1);
    const uintptr_t to = (data + (size_t)last * job->src->row_bytes) & ~(page - 1);
    if (to > from && to - from >= RELEASE_BYTES) madvise((void *)from, to - from, MADV_DONTNEED); // a hint: refusal costs memory only
}

// Items that a thread takes at a time: some for each thread, and little enough to be resident twice.
static int32_t chunk_items(const cpu_weight *w, const wtl_tensor *src, int32_t n_items, int32_t n_threads) {
    const size_t most = CHUNK_BYTES / ((w->n_panels ? CPU_PANEL_ROWS : 1) * src->row_bytes);
    const int32_t fair = n_items / (8 * n_threads);
    return 1 + (most < (size_t)fair ? (int32_t)most : fair);
}

static void fill_run(void *ctx, int32_t thread, int32_t n_threads) {
    fill_job *job = ctx;
    (void)thread, (void)n_threads;
    int32_t first;
    while ((first = atomic_fetch_add(&job->next, job->chunk)) < job->n_items) {
        const int32_t end = job->n_items - first < job->chunk ? job->n_items : first + job->chunk;
        fill_items(job, first, end);
        release_source(job, first, end);
    }
}

// ---- the op table's entries -----------------------------------------------------------------------------------------
static wtl_status check_source(const wtl_tensor *src, wtl_weight_use use, wtl_error *err) {
    const wtl_dtype_info *info = wtl_dtype_get((uint32_t)src->dtype);
    uint64_t row_bytes;
    size_t total;
    if (!info->name || !info->can_run) {
        return wtl_fail(err, WTL_ERR_UNSUPPORTED, "cpu backend: weights of type %s cannot run",
                        info->name ? info->name : "(unknown)");
    }
    // Threads take panels in chunks off a 32-bit counter: the last rounds must not overflow it.
    if (src->rows < 1 || src->rows > INT32_MAX / 2 || src->cols < 1 ||
        !wtl_dtype_row_bytes(src->dtype, (uint64_t)src->cols, &row_bytes) || src->row_bytes < row_bytes ||
        !wtl_mul_size((size_t)src->rows, src->row_bytes, &total)) {
        return wtl_fail(err, WTL_ERR_INVALID, "cpu backend: %d x %d weights of type %s do not fit rows of %zu bytes", src->rows,
                        src->cols, info->name, src->row_bytes);
    }
    if (use == WTL_WEIGHT_VECTOR && src->rows != 1) {
        return wtl_fail(err, WTL_ERR_INVALID, "cpu backend: a vector weight has %d rows instead of 1", src->rows);
    }
    return WTL_OK;
}

// Sets the layout and its counts; the bytes that its data takes, or false when they overflow. planes: the set's kernels for them or NULL.
static bool plan(const wtl_tensor *src, wtl_weight_use use, const cpu_planes_kernels *planes, cpu_weight *w, size_t *bytes) {
    const cpu_packing *packing = cpu_packing_of(src->dtype);
    if (use == WTL_WEIGHT_VECTOR) {
        w->layout = CPU_LAYOUT_VECTOR;
        return wtl_mul_size((size_t)src->cols, sizeof(float), bytes);
    }
    if (!packing) {
        w->layout = CPU_LAYOUT_FLOAT_ROWS;
        return wtl_mul_size((size_t)src->rows * wtl_dtype_get(src->dtype)->block_bytes, (size_t)src->cols, bytes);
    }
    w->layout = CPU_LAYOUT_PANELS;
    w->n_panels = src->rows / CPU_PANEL_ROWS + (src->rows % CPU_PANEL_ROWS != 0);
    w->n_blocks = src->cols / 32;
    w->panel_bytes = (size_t)(src->cols / packing->block_weights) * packing->panel_block_bytes;
    if (use == WTL_WEIGHT_HEAD && planes && src->dtype == WTL_DTYPE_Q8_0 && src->cols <= CPU_PLANES_MAX_COLS) {
        w->layout = CPU_LAYOUT_PLANES;
        return cpu_planes_bytes(w->n_panels, w->n_blocks, bytes, &w->base.aside_bytes) && wtl_add_size(*bytes, w->base.aside_bytes, bytes);
    }
    return wtl_mul_size((size_t)w->n_panels, w->panel_bytes, bytes);
}

void cpu_weight_free(wtl_backend *be, wtl_weight *weight) {
    if (!weight) return;
    cpu_weight *w = (cpu_weight *)weight;
    if (w->slab) slab_give_back((cpu_backend *)be, w->slab);
    wtl_free(w);
}

wtl_status cpu_weight_prepare(wtl_backend *be, const wtl_tensor *src, wtl_weight_use use, wtl_weight **out, wtl_error *err) {
    cpu_backend *cpu = (cpu_backend *)be;
    size_t bytes;
    wtl_status status = check_source(src, use, err);
    if (status != WTL_OK) return status;
    cpu_weight *w = wtl_calloc(1, sizeof *w);
    if (!w || !plan(src, use, cpu->matmul->planes, w, &bytes) || !slab_take(cpu, bytes, w)) {
        cpu_weight_free(be, w ? &w->base : NULL);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "cpu backend: no memory for a weight of %d x %d", src->rows, src->cols);
    }
    const size_t aside = w->base.aside_bytes;
    w->base = (wtl_weight){.dtype = src->dtype, .rows = src->rows, .cols = src->cols, .bytes = bytes - aside, .aside_bytes = aside};
    if (w->layout == CPU_LAYOUT_PLANES) w->planes = cpu_planes_place(w->data, w->n_panels, w->n_blocks);
    if (use == WTL_WEIGHT_VECTOR) {
        ref_dequantize_row(src->dtype, src->data, w->data, src->cols);
    } else {
        // OpenBLAS says so in the description when it is in use: it is the one thing that batch invariance depends on.
        if (w->layout == CPU_LAYOUT_FLOAT_ROWS && cpu->use_blas && !cpu->blas_named && blas_load()) {
            strncat(cpu->description, ", OpenBLAS", sizeof cpu->description - strlen(cpu->description) - 1);
            cpu->blas_named = true;
        }
        const int32_t items = w->n_panels ? w->n_panels : src->rows;
        fill_job job = {.src = src, .w = w, .planes = cpu->matmul->planes, .n_items = items, .chunk = chunk_items(w, src, items, pool_threads(cpu->pool)), .next = 0};
        pool_run(cpu->pool, fill_run, &job);
        w->planes.largest = wtl_f32_from_bits(atomic_load(&job.largest));
    }
    *out = &w->base;
    return WTL_OK;
}

const float *cpu_vector(const wtl_weight *w) { return cpu_weight_of(w)->data; }
