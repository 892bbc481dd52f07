// Shared by cpu_pack.c and pack_kquant.c only: unaligned 32-bit words and the packing pairs of the K types.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_KERNELS_CPU_PACK_H
#define WTL_KERNELS_CPU_PACK_H

#include <string.h>

#include "kernels/cpu/cpu_panel.h"

// Words are little endian: byte i of the word is weight 4 g + i. Big-endian machines are refused at build time.
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files and panels are little endian"
#endif

static inline uint32_t load_word(const uint8_t *p) {
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}
static inline void store_word(uint8_t *p, uint32_t word) { memcpy(p, &word, 4); }

#define CPU_KQUANT_PACK(name)                                                                                          \
    void pack_##name(const uint8_t *const rows[16], void *panel);                                                      \
    void unpack_##name(const void *panel, int r, uint8_t *row);
CPU_KQUANT_PACK(q2_k)
CPU_KQUANT_PACK(q3_k)
CPU_KQUANT_PACK(q4_k)
CPU_KQUANT_PACK(q5_k)
CPU_KQUANT_PACK(q6_k)
CPU_KQUANT_PACK(iq4_xs)

#endif
