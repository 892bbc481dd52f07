// Counters shown twice, found by their values.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/mirror.h"

#include <time.h>

// Two updates of a RAPL counter (about 1 ms each).
#define PAUSE_NS 2000000L

typedef struct watch {
    tel_mirror_round rounds[TEL_MIRROR_MAX][TEL_MIRROR_ROUNDS];
    bool alive[TEL_MIRROR_MAX];
} watch;

static bool same_absolute(const tel_mirror_round *a, const tel_mirror_round *b, size_t n) {
    for (size_t r = 0; r < n; r++)
        if (!b[r].first || b[r].first < a[r].first || a[r].second < b[r].first || b[r].second < a[r].second) return false;
    return n > 0;
}

// Undecided is false here; `possible` asks whether more rounds could still decide for a mirror.
static bool same_growth(const tel_mirror_round *a, const tel_mirror_round *b, size_t n, bool possible) {
    const tel_mirror_round *base_a = NULL, *base_b = NULL;
    uint64_t last = 0;
    int n_growths = 0;
    for (size_t r = 0; r < n; r++) {
        if (a[r].first != a[r].second || b[r].first != b[r].second) continue;
        if (!base_a) {
            base_a = &a[r];
            base_b = &b[r];
            continue;
        }
        uint64_t growth = a[r].first - base_a->first;
        if (growth != b[r].first - base_b->first) return false;
        n_growths += growth != last;
        last = growth;
    }
    return possible || n_growths >= 3;
}

bool tel_mirror_same(const tel_mirror_round *a, const tel_mirror_round *b, size_t n_rounds, bool absolute) {
    return absolute ? same_absolute(a, b, n_rounds) : same_growth(a, b, n_rounds, false);
}

static void read_round(watch *w, size_t r, bool (*read)(void *, size_t, uint64_t *), void *user, size_t n) {
    for (size_t i = 0; i < n; i++) w->alive[i] = w->alive[i] && read(user, i, &w->rounds[i][r].first);
    for (size_t i = 0; i < n; i++) w->alive[i] = w->alive[i] && read(user, i, &w->rounds[i][r].second);
}

static bool any_possible(const watch *w, size_t n, size_t n_rounds, bool absolute) {
    for (size_t b = 1; b < n; b++)
        for (size_t a = 0; a < b; a++)
            if (w->alive[a] && w->alive[b] && (absolute ? same_absolute(w->rounds[a], w->rounds[b], n_rounds)
                                                        : same_growth(w->rounds[a], w->rounds[b], n_rounds, true)))
                return true;
    return false;
}

void tel_mirror_find(bool (*read)(void *user, size_t i, uint64_t *raw), void *user, size_t n, bool absolute, int *twin) {
    for (size_t i = 0; i < n; i++) twin[i] = -1;
    if (n > TEL_MIRROR_MAX) n = TEL_MIRROR_MAX;
    if (n < 2) return;
    watch w = {0};
    for (size_t i = 0; i < n; i++) w.alive[i] = true;
    size_t r = 0;
    while (r < TEL_MIRROR_ROUNDS) {
        read_round(&w, r++, read, user, n);
        if (!any_possible(&w, n, r, absolute)) return;
        if (r < TEL_MIRROR_ROUNDS) nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    for (size_t b = 1; b < n; b++)
        for (size_t a = 0; a < b && twin[b] < 0; a++)
            if (w.alive[a] && w.alive[b] && tel_mirror_same(w.rounds[a], w.rounds[b], r, absolute)) twin[b] = (int)a;
}
