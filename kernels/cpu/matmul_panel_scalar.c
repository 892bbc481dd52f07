// Panel kernels of all types in plain C: what runs where no vector variant does, and the readable form of the others.
//
// Codes of a block of 32 are spread to one byte each in panel order, then multiplied as the vector kernels do it: exact
// integer dot products per 32 (or 16) weights, scaled and added in K order.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/cpu/panel_scales.h"

// One block of 32 weights of 16 rows, unpacked: codes in panel order (group, row, byte), scales of both halves.
typedef struct plain_block {
    uint8_t codes[512];
    float scale[2][16], minimum[2][16]; // per 16 weights; [1] only for split types
} plain_block;

typedef struct plain_form {
    size_t block_bytes;
    int32_t subs;       // blocks of 32 per panel block
    int32_t zero_point; // what codes are biased by
    bool split, has_min;
    void (*spread)(const void *block, int sub, plain_block *out);
} plain_form;

static void spread4(const uint8_t *q, uint8_t *codes) {
    for (int i = 0; i < 256; i++) {
        codes[i] = q[i] & 15;
        codes[256 + i] = q[i] >> 4;
    }
}
static void spread2(const uint8_t *q, int position, uint8_t *codes) { // ORs two bits into every code
    for (int g = 0; g < 8; g++) {
        for (int j = 0; j < 64; j++) {
            codes[64 * g + j] = (uint8_t)(codes[64 * g + j] | (q[64 * (g / 4) + j] >> (2 * (g % 4)) & 3) << position);
        }
    }
}
static void spread1(const uint8_t *h, int position, uint8_t *codes) { // ORs one bit into every code
    for (int g = 0; g < 8; g++) {
        for (int j = 0; j < 64; j++) {
            codes[64 * g + j] = (uint8_t)(codes[64 * g + j] | (h[j] >> g & 1) << position);
        }
    }
}
static void spread_iq4(const uint8_t *q, uint8_t *codes) {
    static const uint8_t values[16] = {CPU_IQ4_BIASED};
    spread4(q, codes);
    for (int i = 0; i < 512; i++) codes[i] = values[codes[i]];
}
static void floats(const uint16_t *halves, float *out) {
    for (int r = 0; r < 16; r++) out[r] = wtl_f32_from_f16(halves[r]);
}

static void spread_q4_0(const void *block, int sub, plain_block *out) {
    const panel_q4_0 *w = block;
    (void)sub;
    spread4(w->q, out->codes);
    floats(w->d, out->scale[0]);
}
static void spread_q4_1(const void *block, int sub, plain_block *out) {
    const panel_q4_1 *w = block;
    (void)sub;
    spread4(w->q, out->codes);
    floats(w->d, out->scale[0]);
    floats(w->m, out->minimum[0]);
}
static void spread_q5_0(const void *block, int sub, plain_block *out) {
    const panel_q5_0 *w = block;
    (void)sub;
    spread4(w->q, out->codes);
    spread1(w->h, 4, out->codes);
    floats(w->d, out->scale[0]);
}
static void spread_q5_1(const void *block, int sub, plain_block *out) {
    const panel_q5_1 *w = block;
    (void)sub;
    spread4(w->q, out->codes);
    spread1(w->h, 4, out->codes);
    floats(w->d, out->scale[0]);
    floats(w->m, out->minimum[0]);
}
static void spread_q8_0(const void *block, int sub, plain_block *out) {
    const panel_q8_0 *w = block;
    (void)sub;
    memcpy(out->codes, w->q, 512);
    floats(w->d, out->scale[0]);
}
static void spread_iq4_nl(const void *block, int sub, plain_block *out) {
    const panel_iq4_nl *w = block;
    (void)sub;
    spread_iq4(w->q, out->codes);
    floats(w->d, out->scale[0]);
}
static void spread_q2_k(const void *block, int sub, plain_block *out) {
    const panel_q2_k *w = block;
    const sub_q2_k *b = &w->sub[sub];
    memset(out->codes, 0, sizeof out->codes);
    spread2(b->q, 0, out->codes);
    for (int i = 0; i < 32; i++) {
        const int half = i / 16, r = i % 16;
        out->scale[half][r] = wtl_f32_from_f16(w->d[r]) * (float)(b->sm[half][r] & 15);
        out->minimum[half][r] = -(wtl_f32_from_f16(w->m[r]) * (float)(b->sm[half][r] >> 4));
    }
}
static void spread_q3_k(const void *block, int sub, plain_block *out) {
    const panel_q3_k *w = block;
    const sub_q3_k *b = &w->sub[sub];
    panel_scales k;
    unpack_q3_scales(w->scales, &k);
    memset(out->codes, 0, sizeof out->codes);
    spread2(b->q, 0, out->codes);
    spread1(b->h, 2, out->codes);
    for (int i = 0; i < 32; i++) out->scale[i / 16][i % 16] = wtl_f32_from_f16(w->d[i % 16]) * (float)k.halves[sub][i / 16][i % 16];
}
static void spread_q4_k(const void *block, int sub, plain_block *out) {
    const panel_q4_k *w = block;
    const sub_q4_k *b = &w->sub[sub];
    panel_scales k;
    unpack_scale_min(w->scales, &k);
    spread4(b->q, out->codes);
    for (int r = 0; r < 16; r++) {
        out->scale[0][r] = wtl_f32_from_f16(w->d[r]) * (float)k.scale[sub][r];
        out->minimum[0][r] = -(wtl_f32_from_f16(w->m[r]) * (float)k.minimum[sub][r]);
    }
}
static void spread_q5_k(const void *block, int sub, plain_block *out) {
    const panel_q5_k *w = block;
    const sub_q5_k *b = &w->sub[sub];
    panel_scales k;
    unpack_scale_min(w->scales, &k);
    spread4(b->q, out->codes);
    spread1(b->h, 4, out->codes);
    for (int r = 0; r < 16; r++) {
        out->scale[0][r] = wtl_f32_from_f16(w->d[r]) * (float)k.scale[sub][r];
        out->minimum[0][r] = -(wtl_f32_from_f16(w->m[r]) * (float)k.minimum[sub][r]);
    }
}
static void spread_q6_k(const void *block, int sub, plain_block *out) {
    const panel_q6_k *w = block;
    const sub_q6_k *b = &w->sub[sub];
    spread4(b->q, out->codes);
    spread2(b->h, 4, out->codes);
    for (int i = 0; i < 32; i++) out->scale[i / 16][i % 16] = wtl_f32_from_f16(w->d[i % 16]) * (float)b->sc[i / 16][i % 16];
}
static void spread_iq4_xs(const void *block, int sub, plain_block *out) {
    const panel_iq4_xs *w = block;
    const sub_iq4_xs *b = &w->sub[sub];
    panel_scales k;
    unpack_iq4_scales(w->scales, &k);
    spread_iq4(b->q, out->codes);
    for (int r = 0; r < 16; r++) out->scale[0][r] = wtl_f32_from_f16(w->d[r]) * (float)k.signed_scale[sub][r];
}

// sums[r] = start + sum over groups first..last-1 of codes * activations.
static void dot(const uint8_t *codes, const int8_t *q, int first, int last, int32_t start, int32_t sums[16]) {
    for (int r = 0; r < 16; r++) sums[r] = start;
    for (int g = first; g < last; g++) {
        const uint8_t *u = codes + 64 * g;
        const int8_t *a = q + 4 * g;
        for (int r = 0; r < 16; r++) {
            sums[r] += u[4 * r] * a[0] + u[4 * r + 1] * a[1] + u[4 * r + 2] * a[2] + u[4 * r + 3] * a[3];
        }
    }
}

static void add_scaled(const int32_t sums[16], const float scale[16], float d, float acc[16]) {
    for (int r = 0; r < 16; r++) acc[r] += (float)sums[r] * (scale[r] * d);
}
static void add_minimum(const float minimum[16], float s, float acc[16]) {
    for (int r = 0; r < 16; r++) acc[r] += minimum[r] * s;
}

static void multiply_block(const plain_form *form, const plain_block *w, const cpu_act *x, float acc[16]) {
    int32_t sums[16];
    if (!form->split) {
        dot(w->codes, x->q, 0, 8, form->zero_point * x->neg, sums);
        add_scaled(sums, w->scale[0], x->d, acc);
        if (form->has_min) add_minimum(w->minimum[0], x->s, acc);
        return;
    }
    for (int half = 0; half < 2; half++) {
        const int32_t neg = half ? x->neg - x->neg_low : x->neg_low;
        dot(w->codes, x->q, 4 * half, 4 * half + 4, form->zero_point * neg, sums);
        add_scaled(sums, w->scale[half], x->d, acc);
        if (form->has_min) add_minimum(w->minimum[half], x->d * (float)-neg, acc);
    }
}

static void multiply_outlier(const plain_form *form, const plain_block *w, const cpu_outlier *o, float acc[16]) {
    const int k = o->k % 32, half = form->split ? k / 16 : 0;
    for (int r = 0; r < 16; r++) {
        float weight = (float)(w->codes[64 * (k / 4) + 4 * r + k % 4] - form->zero_point) * w->scale[half][r];
        if (form->has_min) weight += w->minimum[half][r];
        acc[r] += weight * o->x;
    }
}

static void run(const plain_form *form, int32_t n_columns, const cpu_panel_args *a) {
    float acc[CPU_TILE_COLS][16] = {{0}};
    const cpu_outlier *next = a->outliers, *const end = next + a->n_outliers; // they join when their block is unpacked
    plain_block block;
    const uint8_t *w = a->panel;
    for (int32_t b = 0; b < a->n_blocks; b += form->subs, w += form->block_bytes) {
        for (int32_t sub = 0; sub < form->subs; sub++) {
            const ptrdiff_t at = (ptrdiff_t)(b + sub) * n_columns;
            form->spread(w, sub, &block);
            for (int32_t c = 0; c < n_columns; c++) multiply_block(form, &block, a->act + at + c, acc[c]);
            for (; next < end && next->k / 32 == b + sub; next++) multiply_outlier(form, &block, next, acc[next->column]);
        }
    }
    for (int32_t c = 0; c < n_columns; c++) {
        float *out = a->out + (ptrdiff_t)c * a->out_stride;
        for (int32_t r = 0; r < a->n_rows; r++) {
            const float v = a->bias ? acc[c][r] + a->bias[r] : acc[c][r];
            out[r] = a->accumulate ? out[r] + v : v;
        }
    }
}

static const plain_form q4_0_form = {sizeof(panel_q4_0), 1, 8, false, false, spread_q4_0};
static const plain_form q4_1_form = {sizeof(panel_q4_1), 1, 0, false, true, spread_q4_1};
static const plain_form q5_0_form = {sizeof(panel_q5_0), 1, 16, false, false, spread_q5_0};
static const plain_form q5_1_form = {sizeof(panel_q5_1), 1, 0, false, true, spread_q5_1};
static const plain_form q8_0_form = {sizeof(panel_q8_0), 1, 128, false, false, spread_q8_0};
static const plain_form iq4_nl_form = {sizeof(panel_iq4_nl), 1, 128, false, false, spread_iq4_nl};
static const plain_form q2_k_form = {sizeof(panel_q2_k), 8, 0, true, true, spread_q2_k};
static const plain_form q3_k_form = {sizeof(panel_q3_k), 8, 4, true, false, spread_q3_k};
static const plain_form q4_k_form = {sizeof(panel_q4_k), 8, 0, false, true, spread_q4_k};
static const plain_form q5_k_form = {sizeof(panel_q5_k), 8, 0, false, true, spread_q5_k};
static const plain_form q6_k_form = {sizeof(panel_q6_k), 8, 32, true, false, spread_q6_k};
static const plain_form iq4_xs_form = {sizeof(panel_iq4_xs), 8, 128, false, false, spread_iq4_xs};

#define PLAIN_COLUMN(name, nc) static void name##_##nc(const cpu_panel_args *a) { run(&name##_form, nc, a); }
#define PLAIN_KERNELS(DTYPE, name, weights)                                                                            \
    PLAIN_COLUMN(name, 1) PLAIN_COLUMN(name, 2) PLAIN_COLUMN(name, 3) PLAIN_COLUMN(name, 4)                            \
    PLAIN_COLUMN(name, 5) PLAIN_COLUMN(name, 6) PLAIN_COLUMN(name, 7) PLAIN_COLUMN(name, 8)                            \
    const cpu_panel_kernels cpu_matmul_##name##_scalar = {                                                             \
        .columns = {NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8}};
CPU_PANEL_LIST(PLAIN_KERNELS)
