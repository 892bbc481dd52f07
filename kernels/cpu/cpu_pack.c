// Blocks of the file to panel blocks and back, one pair of functions per type; layouts in cpu_panel.h.
//
// Packing moves 32-bit words (four weights of one row) and never rounds: unpack gives the file's bytes back exactly,
// which is how embed reads a packed row. Types with blocks of 32 are here, super-blocks in pack_kquant.c.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_pack.h"

#include <assert.h>

// ---- four-bit codes in file order: byte j holds weights j and j + 16, so word k holds groups k and k + 4 -------------
// Word k of 16 bytes of every row to the 64 bytes of group k, four rows at a time; flip: XORed into every word.
typedef uint32_t four_words __attribute__((vector_size(16)));
static four_words load_words(const uint8_t *p) {
    four_words words;
    memcpy(&words, p, sizeof words);
    return words;
}
static void pack_words(const uint8_t *const rows[16], size_t offset, uint32_t flip, uint8_t *q) {
    for (int r = 0; r < 16; r += 4) {
        const four_words a = load_words(rows[r] + offset), b = load_words(rows[r + 1] + offset);
        const four_words c = load_words(rows[r + 2] + offset), d = load_words(rows[r + 3] + offset);
        const four_words ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const four_words cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        const four_words group[4] = {
            __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5) ^ flip, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7) ^ flip,
            __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5) ^ flip, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7) ^ flip};
        for (int k = 0; k < 4; k++) memcpy(q + 64 * k + 4 * r, &group[k], sizeof group[k]);
    }
}
static void pack_nibbles(const uint8_t *const rows[16], size_t offset, uint8_t *q) { pack_words(rows, offset, 0, q); }
static void unpack_nibbles(const uint8_t *q, int r, uint8_t *qs) {
    for (int k = 0; k < 4; k++) store_word(qs + 4 * k, load_word(q + 64 * k + 4 * r));
}

static void pack_halves(const uint8_t *const rows[16], size_t offset, uint16_t *d) {
    for (int r = 0; r < 16; r++) memcpy(d + r, rows[r] + offset, 2);
}

// ---- fifth bits: bit 4 g + i of the row's word is bit g of byte i ---------------------------------------------------
static uint32_t fifth_to_plane(uint32_t word) {
    uint32_t plane = 0;
    for (int g = 0; g < 8; g++, word >>= 4) {
        // Four bits apart from each other by 7 instead of 1: multiply copies them, the mask keeps one of each copy.
        plane |= ((word & 15) * 0x00204081u & 0x01010101u) << g;
    }
    return plane;
}
static uint32_t plane_to_fifth(uint32_t plane) {
    uint32_t word = 0;
    for (int g = 0; g < 8; g++, plane >>= 1) {
        word |= ((plane & 0x01010101u) * 0x01020408u >> 24 & 15) << (4 * g);
    }
    return word;
}
static void pack_fifth(const uint8_t *const rows[16], size_t offset, uint8_t *h) {
    for (int r = 0; r < 16; r++) store_word(h + 4 * r, fifth_to_plane(load_word(rows[r] + offset)));
}
static void unpack_fifth(const uint8_t *h, int r, uint8_t *qh) { store_word(qh, plane_to_fifth(load_word(h + 4 * r))); }

// ---- types ----------------------------------------------------------------------------------------------------------
static void pack_q4_0(const uint8_t *const rows[16], void *panel) {
    panel_q4_0 *p = panel;
    pack_nibbles(rows, offsetof(block_q4_0, qs), p->q);
    pack_halves(rows, offsetof(block_q4_0, d), p->d);
}
static void unpack_q4_0(const void *panel, int r, uint8_t *row) {
    const panel_q4_0 *p = panel;
    block_q4_0 b = {.d = p->d[r]};
    unpack_nibbles(p->q, r, b.qs);
    memcpy(row, &b, sizeof b);
}

static void pack_q4_1(const uint8_t *const rows[16], void *panel) {
    panel_q4_1 *p = panel;
    pack_nibbles(rows, offsetof(block_q4_1, qs), p->q);
    pack_halves(rows, offsetof(block_q4_1, d), p->d);
    pack_halves(rows, offsetof(block_q4_1, m), p->m);
}
static void unpack_q4_1(const void *panel, int r, uint8_t *row) {
    const panel_q4_1 *p = panel;
    block_q4_1 b = {.d = p->d[r], .m = p->m[r]};
    unpack_nibbles(p->q, r, b.qs);
    memcpy(row, &b, sizeof b);
}

static void pack_q5_0(const uint8_t *const rows[16], void *panel) {
    panel_q5_0 *p = panel;
    pack_nibbles(rows, offsetof(block_q5_0, qs), p->q);
    pack_fifth(rows, offsetof(block_q5_0, qh), p->h);
    pack_halves(rows, offsetof(block_q5_0, d), p->d);
}
static void unpack_q5_0(const void *panel, int r, uint8_t *row) {
    const panel_q5_0 *p = panel;
    block_q5_0 b = {.d = p->d[r]};
    unpack_nibbles(p->q, r, b.qs);
    unpack_fifth(p->h, r, b.qh);
    memcpy(row, &b, sizeof b);
}

static void pack_q5_1(const uint8_t *const rows[16], void *panel) {
    panel_q5_1 *p = panel;
    pack_nibbles(rows, offsetof(block_q5_1, qs), p->q);
    pack_fifth(rows, offsetof(block_q5_1, qh), p->h);
    pack_halves(rows, offsetof(block_q5_1, d), p->d);
    pack_halves(rows, offsetof(block_q5_1, m), p->m);
}
static void unpack_q5_1(const void *panel, int r, uint8_t *row) {
    const panel_q5_1 *p = panel;
    block_q5_1 b = {.d = p->d[r], .m = p->m[r]};
    unpack_nibbles(p->q, r, b.qs);
    unpack_fifth(p->h, r, b.qh);
    memcpy(row, &b, sizeof b);
}

static void pack_q8_0(const uint8_t *const rows[16], void *panel) {
    panel_q8_0 *p = panel;
    for (int half = 0; half < 2; half++) pack_words(rows, offsetof(block_q8_0, qs) + 16 * (size_t)half, 0x80808080u, p->q + 256 * half);
    pack_halves(rows, offsetof(block_q8_0, d), p->d);
}
static void unpack_q8_0(const void *panel, int r, uint8_t *row) {
    const panel_q8_0 *p = panel;
    memcpy(row, &p->d[r], 2);
    for (int g = 0; g < 8; g++) {
        store_word(row + offsetof(block_q8_0, qs) + 4 * g, load_word(p->q + 64 * g + 4 * r) ^ 0x80808080u);
    }
}

static void pack_iq4_nl(const uint8_t *const rows[16], void *panel) { pack_q4_0(rows, panel); } // same bytes
static void unpack_iq4_nl(const void *panel, int r, uint8_t *row) { unpack_q4_0(panel, r, row); }

static const cpu_packing packings[WTL_DTYPE_ID_END] = {
#define PACKING_ROW(DTYPE, name, weights)                                                                              \
    [WTL_DTYPE_##DTYPE] = {sizeof(block_##name), sizeof(panel_##name), weights, pack_##name, unpack_##name},
    CPU_PANEL_LIST(PACKING_ROW)
#undef PACKING_ROW
};

// Weights take no more memory than in the file, and decode reads no more of it.
#define PACKING_SIZE(DTYPE, name, weights) \
    _Static_assert(sizeof(panel_##name) == CPU_PANEL_ROWS * sizeof(block_##name), "panels hold the bits of the file and no more");
CPU_PANEL_LIST(PACKING_SIZE)
#undef PACKING_SIZE

const cpu_packing *cpu_packing_of(wtl_dtype dtype) {
    return (uint32_t)dtype < WTL_DTYPE_ID_END && packings[dtype].pack ? &packings[dtype] : NULL;
}

void cpu_pack_panel(const wtl_tensor *src, int32_t p, void *panel) {
    static const uint8_t zeros[256];
    const cpu_packing *packing = cpu_packing_of(src->dtype);
    assert(packing && packing->file_block_bytes <= sizeof zeros);
    const uint8_t *rows[CPU_PANEL_ROWS];
    size_t step[CPU_PANEL_ROWS];
    for (int32_t r = 0; r < CPU_PANEL_ROWS; r++) {
        const bool real = p * CPU_PANEL_ROWS + r < src->rows;
        rows[r] = real ? (const uint8_t *)src->data + (size_t)(p * CPU_PANEL_ROWS + r) * src->row_bytes : zeros;
        step[r] = real ? packing->file_block_bytes : 0;
    }
    uint8_t *to = panel;
    for (int32_t b = 0; b < src->cols / packing->block_weights; b++, to += packing->panel_block_bytes) {
        packing->pack(rows, to);
        for (int32_t r = 0; r < CPU_PANEL_ROWS; r++) rows[r] += step[r];
    }
}

void cpu_unpack_row(wtl_dtype dtype, int32_t cols, const void *data, size_t panel_bytes, int32_t r, uint8_t *row) {
    const cpu_packing *packing = cpu_packing_of(dtype);
    assert(packing);
    const uint8_t *from = (const uint8_t *)data + (size_t)(r / CPU_PANEL_ROWS) * panel_bytes;
    for (int32_t b = 0; b < cols / packing->block_weights; b++, from += packing->panel_block_bytes) {
        packing->unpack(from, r % CPU_PANEL_ROWS, row);
        row += packing->file_block_bytes;
    }
}
