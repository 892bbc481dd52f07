// Packing of the super-block types: Q2_K to Q6_K and IQ4_XS; see cpu_pack.c for the idea and cpu_panel.h for the layout.
//
// The file spreads bits over the 256 weights of a block, panels keep each 32 weights together. Both directions work on words
// of four weights: mask, shift, merge.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_pack.h"

#define NIBBLES 0x0F0F0F0Fu
#define PAIRS 0x03030303u
#define BITS 0x01010101u

// ---- pieces ---------------------------------------------------------------------------------------------------------
// Eight words of four-bit codes per byte, groups 0..7 in the nibble at `shift`, to the four words of one sub-block.
static void gather_nibbles(const uint8_t *from, int shift, uint8_t *q, int r) {
    for (int k = 0; k < 4; k++) {
        const uint32_t low = load_word(from + 4 * k) >> shift & NIBBLES;
        const uint32_t high = load_word(from + 16 + 4 * k) >> shift & NIBBLES;
        store_word(q + 64 * k + 4 * r, low | high << 4);
    }
}
static void scatter_nibbles(const uint8_t *q, int r, uint8_t *to, int shift) { // ORs into `to`
    for (int k = 0; k < 4; k++) {
        const uint32_t word = load_word(q + 64 * k + 4 * r);
        store_word(to + 4 * k, load_word(to + 4 * k) | (word & NIBBLES) << shift);
        store_word(to + 16 + 4 * k, load_word(to + 16 + 4 * k) | (word >> 4 & NIBBLES) << shift);
    }
}

// Eight words with two bits per byte at `shift` to two words: groups 0..3, then 4..7.
static void gather_pairs(const uint8_t *from, int shift, uint8_t *h, int r) {
    for (int plane = 0; plane < 2; plane++) {
        uint32_t word = 0;
        for (int k = 0; k < 4; k++) word |= (load_word(from + 16 * plane + 4 * k) >> shift & PAIRS) << (2 * k);
        store_word(h + 64 * plane + 4 * r, word);
    }
}
static void scatter_pairs(const uint8_t *h, int r, uint8_t *to, int shift) {
    for (int g = 0; g < 8; g++) {
        const uint32_t pairs = load_word(h + 64 * (g / 4) + 4 * r) >> (2 * (g % 4)) & PAIRS;
        store_word(to + 4 * g, load_word(to + 4 * g) | pairs << shift);
    }
}

// Eight words with one bit per byte at `shift` to one word: bit g of each byte.
static void gather_bits(const uint8_t *from, int shift, uint8_t *h, int r) {
    uint32_t word = 0;
    for (int g = 0; g < 8; g++) word |= (load_word(from + 4 * g) >> shift & BITS) << g;
    store_word(h + 4 * r, word);
}
static void scatter_bits(const uint8_t *h, int r, uint8_t *to, int shift) {
    const uint32_t word = load_word(h + 4 * r);
    for (int g = 0; g < 8; g++) store_word(to + 4 * g, load_word(to + 4 * g) | (word >> g & BITS) << shift);
}

// Packed scales stay as they are: byte i of each row's twelve.
static void gather_scales(const uint8_t from[12], uint8_t scales[12][16], int r) {
    for (int i = 0; i < 12; i++) scales[i][r] = from[i];
}
static void scatter_scales(const uint8_t scales[12][16], uint8_t to[12], int r) {
    for (int i = 0; i < 12; i++) to[i] = scales[i][r];
}

// ---- types ----------------------------------------------------------------------------------------------------------
void pack_q2_k(const uint8_t *const rows[16], void *panel) {
    panel_q2_k *p = panel;
    for (int r = 0; r < 16; r++) {
        const block_q2_k *b = (const void *)rows[r];
        p->d[r] = b->d;
        p->m[r] = b->dmin;
        for (int s = 0; s < 8; s++) {
            gather_pairs(b->qs + s / 4 * 32, s % 4 * 2, p->sub[s].q, r);
            p->sub[s].sm[0][r] = b->scales[2 * s];
            p->sub[s].sm[1][r] = b->scales[2 * s + 1];
        }
    }
}
void unpack_q2_k(const void *panel, int r, uint8_t *row) {
    const panel_q2_k *p = panel;
    block_q2_k b = {.d = p->d[r], .dmin = p->m[r]};
    for (int s = 0; s < 8; s++) {
        scatter_pairs(p->sub[s].q, r, b.qs + s / 4 * 32, s % 4 * 2);
        b.scales[2 * s] = p->sub[s].sm[0][r];
        b.scales[2 * s + 1] = p->sub[s].sm[1][r];
    }
    memcpy(row, &b, sizeof b);
}

void pack_q3_k(const uint8_t *const rows[16], void *panel) {
    panel_q3_k *p = panel;
    for (int r = 0; r < 16; r++) {
        const block_q3_k *b = (const void *)rows[r];
        p->d[r] = b->d;
        gather_scales(b->scales, p->scales, r);
        for (int s = 0; s < 8; s++) {
            gather_pairs(b->qs + s / 4 * 32, s % 4 * 2, p->sub[s].q, r);
            gather_bits(b->hmask, s, p->sub[s].h, r);
        }
    }
}
void unpack_q3_k(const void *panel, int r, uint8_t *row) {
    const panel_q3_k *p = panel;
    block_q3_k b = {.d = p->d[r]};
    scatter_scales(p->scales, b.scales, r);
    for (int s = 0; s < 8; s++) {
        scatter_pairs(p->sub[s].q, r, b.qs + s / 4 * 32, s % 4 * 2);
        scatter_bits(p->sub[s].h, r, b.hmask, s);
    }
    memcpy(row, &b, sizeof b);
}

void pack_q4_k(const uint8_t *const rows[16], void *panel) {
    panel_q4_k *p = panel;
    for (int r = 0; r < 16; r++) {
        const block_q4_k *b = (const void *)rows[r];
        p->d[r] = b->d;
        p->m[r] = b->dmin;
        gather_scales(b->scales, p->scales, r);
        for (int s = 0; s < 8; s++) {
            gather_nibbles(b->qs + s / 2 * 32, s % 2 * 4, p->sub[s].q, r);
        }
    }
}
void unpack_q4_k(const void *panel, int r, uint8_t *row) {
    const panel_q4_k *p = panel;
    block_q4_k b = {.d = p->d[r], .dmin = p->m[r]};
    scatter_scales(p->scales, b.scales, r);
    for (int s = 0; s < 8; s++) {
        scatter_nibbles(p->sub[s].q, r, b.qs + s / 2 * 32, s % 2 * 4);
    }
    memcpy(row, &b, sizeof b);
}

void pack_q5_k(const uint8_t *const rows[16], void *panel) {
    panel_q5_k *p = panel;
    for (int r = 0; r < 16; r++) {
        const block_q5_k *b = (const void *)rows[r];
        p->d[r] = b->d;
        p->m[r] = b->dmin;
        gather_scales(b->scales, p->scales, r);
        for (int s = 0; s < 8; s++) {
            gather_nibbles(b->qs + s / 2 * 32, s % 2 * 4, p->sub[s].q, r);
            gather_bits(b->qh, s, p->sub[s].h, r);
        }
    }
}
void unpack_q5_k(const void *panel, int r, uint8_t *row) {
    const panel_q5_k *p = panel;
    block_q5_k b = {.d = p->d[r], .dmin = p->m[r]};
    scatter_scales(p->scales, b.scales, r);
    for (int s = 0; s < 8; s++) {
        scatter_nibbles(p->sub[s].q, r, b.qs + s / 2 * 32, s % 2 * 4);
        scatter_bits(p->sub[s].h, r, b.qh, s);
    }
    memcpy(row, &b, sizeof b);
}

// Sub-block s of Q6_K: half s / 4 of the block; of its 64 bytes of nibbles the first or second 32, low or high.
void pack_q6_k(const uint8_t *const rows[16], void *panel) {
    panel_q6_k *p = panel;
    for (int r = 0; r < 16; r++) {
        const block_q6_k *b = (const void *)rows[r];
        p->d[r] = b->d;
        for (int s = 0; s < 8; s++) {
            gather_nibbles(b->ql + s / 4 * 64 + s % 2 * 32, s % 4 / 2 * 4, p->sub[s].q, r);
            gather_pairs(b->qh + s / 4 * 32, s % 4 * 2, p->sub[s].h, r);
            p->sub[s].sc[0][r] = b->scales[2 * s];
            p->sub[s].sc[1][r] = b->scales[2 * s + 1];
        }
    }
}
void unpack_q6_k(const void *panel, int r, uint8_t *row) {
    const panel_q6_k *p = panel;
    block_q6_k b = {.d = p->d[r]};
    for (int s = 0; s < 8; s++) {
        scatter_nibbles(p->sub[s].q, r, b.ql + s / 4 * 64 + s % 2 * 32, s % 4 / 2 * 4);
        scatter_pairs(p->sub[s].h, r, b.qh + s / 4 * 32, s % 4 * 2);
        b.scales[2 * s] = p->sub[s].sc[0][r];
        b.scales[2 * s + 1] = p->sub[s].sc[1][r];
    }
    memcpy(row, &b, sizeof b);
}

void pack_iq4_xs(const uint8_t *const rows[16], void *panel) {
    panel_iq4_xs *p = panel;
    memset(p->scales, 0, sizeof p->scales);
    for (int r = 0; r < 16; r++) {
        const block_iq4_xs *b = (const void *)rows[r];
        p->d[r] = b->d;
        for (int s = 0; s < 8; s++) {
            for (int k = 0; k < 4; k++) store_word(p->sub[s].q + 64 * k + 4 * r, load_word(b->qs + 16 * s + 4 * k));
            const int low = b->scales_l[s / 2] >> (s % 2 * 4) & 15, high = b->scales_h >> (2 * s) & 3;
            p->scales[s % 4][r] = (uint8_t)(p->scales[s % 4][r] | low << (s / 4 * 4));
            p->scales[4 + s % 2][r] = (uint8_t)(p->scales[4 + s % 2][r] | high << (s / 2 * 2));
        }
    }
}
void unpack_iq4_xs(const void *panel, int r, uint8_t *row) {
    const panel_iq4_xs *p = panel;
    block_iq4_xs b = {.d = p->d[r]};
    for (int s = 0; s < 8; s++) {
        for (int k = 0; k < 4; k++) store_word(b.qs + 16 * s + 4 * k, load_word(p->sub[s].q + 64 * k + 4 * r));
        const int low = p->scales[s % 4][r] >> (s / 4 * 4) & 15, high = p->scales[4 + s % 2][r] >> (s / 2 * 2) & 3;
        b.scales_l[s / 2] = (uint8_t)(b.scales_l[s / 2] | low << (s % 2 * 4));
        b.scales_h = (uint16_t)(b.scales_h | high << (2 * s));
    }
    memcpy(row, &b, sizeof b);
}
