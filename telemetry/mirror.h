// Inside telemetry: finds energy counters that are the same counter shown twice.
//
// Kernels that count every compute die of an AMD package as a die of its own (6.9 to 6.10) show the package's one counter once
// per die, under different names. Summed, a 12-die processor seems to draw twelve times its power. Names do not tell; the
// values do. Used by the sources that read RAPL, once, while they open.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_MIRROR_H
#define TEL_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEL_MIRROR_MAX = 64, TEL_MIRROR_ROUNDS = 6 };

// Two reads of one counter in one round: all counters are read in order, then all again.
typedef struct tel_mirror_round {
    uint64_t first, second;
} tel_mirror_round;

// Whether counter b (read after a in each pass) is counter a.
//   absolute    both count from the same moment: each value of b must lie between the values of a around it, and not be zero
//   otherwise   they count from different moments: over the rounds in which neither moved between its two reads, both must have
//               grown by exactly the same amount, at least three times. Independent packages do not do that: in a round they
//               grow by thousands of units
bool tel_mirror_same(const tel_mirror_round *a, const tel_mirror_round *b, size_t n_rounds, bool absolute);

// Reads n counters (those beyond TEL_MIRROR_MAX are taken as their own) for some rounds, 2 ms apart, at most TEL_MIRROR_ROUNDS;
// fewer as soon as none can be another's mirror. twin[i]: the lowest counter that i repeats, or -1. read returns false when
// there is no value: the counter is then nobody's mirror.
void tel_mirror_find(bool (*read)(void *user, size_t i, uint64_t *raw), void *user, size_t n, bool absolute, int *twin);

#endif
