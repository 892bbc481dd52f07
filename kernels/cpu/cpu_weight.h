// A weight as the cpu backend keeps it: one contiguous 64-byte aligned copy in the layout that its kernels read.
//
// The file's bytes are never referenced after weight_prepare, so that their pages can be given back. Made and freed by
// cpu_weights.c only; read by the op files. Everything is immutable once prepared.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_WEIGHT_H
#define WTL_KERNELS_CPU_WEIGHT_H

#include "kernels/cpu/cpu_planes.h"

typedef enum cpu_layout {
    CPU_LAYOUT_VECTOR,     // f32 [cols]: norms, biases, frequency factors
    CPU_LAYOUT_FLOAT_ROWS, // F32, F16 or BF16 as in the file: [rows, cols] row-major without gaps (base.dtype says which)
    CPU_LAYOUT_PANELS,     // quantised: panels of 16 interleaved rows, see cpu_panel.h
    CPU_LAYOUT_PLANES,     // an output head of type Q8_0: panels cut into planes of bits, see cpu_planes.h
} cpu_layout;

typedef struct cpu_weight {
    wtl_weight base;
    cpu_layout layout;
    void *data;        // 64-byte aligned
    size_t data_bytes;
    int32_t n_panels;  // PANELS, PLANES: rows / 16 rounded up; else 0
    int32_t n_blocks;  // PANELS, PLANES: blocks of 32 weights along cols; else 0
    size_t panel_bytes; // PANELS: panel p starts at data + p * panel_bytes. PLANES: all parts of a panel together
    cpu_planes planes;  // PLANES: into data
    struct cpu_slab *slab; // mapping that holds data; cpu_weights.c
} cpu_weight;

static inline const cpu_weight *cpu_weight_of(const wtl_weight *w) { return (const cpu_weight *)w; }

#endif
