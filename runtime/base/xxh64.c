// XXH64 as its specification describes it: four lanes over stripes of 32 bytes, merged, then the rest and a final mix.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/xxh64.h"

#include <string.h>

#define P1 UINT64_C(0x9E3779B185EBCA87)
#define P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P3 UINT64_C(0x165667B19E3779F9)
#define P4 UINT64_C(0x85EBCA77C2B2AE63)
#define P5 UINT64_C(0x27D4EB2F165667C5)
#define STRIPE_BYTES ((size_t)32)

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static uint64_t read64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

static uint32_t read32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static uint64_t round64(uint64_t lane, uint64_t input) { return rotate(lane + input * P2, 31) * P1; }

static uint64_t merge(uint64_t h, uint64_t lane) { return (h ^ round64(0, lane)) * P1 + P4; }

static void add_stripes(uint64_t lane[4], const uint8_t *p, size_t n) {
    uint64_t a = lane[0], b = lane[1], c = lane[2], d = lane[3];
    for (; n; n--, p += STRIPE_BYTES) {
        a = round64(a, read64(p));
        b = round64(b, read64(p + 8));
        c = round64(c, read64(p + 16));
        d = round64(d, read64(p + 24));
    }
    lane[0] = a, lane[1] = b, lane[2] = c, lane[3] = d;
}

void xxh64_start(xxh64 *s, uint64_t seed) {
    *s = (xxh64){.lane = {seed + P1 + P2, seed + P2, seed, seed - P1}};
}

void xxh64_add(xxh64 *s, const void *data, size_t bytes) {
    const uint8_t *p = data;
    s->total_bytes += bytes;
    if (s->n_waiting) {
        const size_t room = STRIPE_BYTES - s->n_waiting, n = bytes < room ? bytes : room;
        memcpy(s->waiting + s->n_waiting, p, n);
        s->n_waiting += n;
        p += n;
        bytes -= n;
        if (s->n_waiting < STRIPE_BYTES) return;
        add_stripes(s->lane, s->waiting, 1);
        s->n_waiting = 0;
    }
    add_stripes(s->lane, p, bytes / STRIPE_BYTES);
    s->n_waiting = bytes % STRIPE_BYTES;
    if (s->n_waiting) memcpy(s->waiting, p + (bytes - s->n_waiting), s->n_waiting);
}

uint64_t xxh64_value(const xxh64 *s) {
    const uint64_t *v = s->lane;
    uint64_t h = v[2] + P5; // lane 2 starts as the seed
    if (s->total_bytes >= STRIPE_BYTES) {
        h = rotate(v[0], 1) + rotate(v[1], 7) + rotate(v[2], 12) + rotate(v[3], 18);
        for (int i = 0; i < 4; i++) h = merge(h, v[i]);
    }
    h += s->total_bytes;
    const uint8_t *p = s->waiting, *end = p + s->n_waiting;
    for (; end - p >= 8; p += 8) h = rotate(h ^ round64(0, read64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        h = rotate(h ^ read32(p) * P1, 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++) h = rotate(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

uint64_t xxh64_of(const void *data, size_t bytes) {
    xxh64 s;
    xxh64_start(&s, 0);
    xxh64_add(&s, data, bytes);
    return xxh64_value(&s);
}
