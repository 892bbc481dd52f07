// Splitting joules: largest remainders, idle by time, dynamic by cost.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/energy_split.h"

#include <math.h>

// Moves the k ranks with the largest remainders to the front of order (quickselect; equal ones by position, so results repeat).
static int before(const energy_rank *ranks, size_t a, size_t b) {
    return ranks[a].rest > ranks[b].rest || (ranks[a].rest == ranks[b].rest && a < b);
}

static void select_largest(const energy_rank *ranks, size_t *order, size_t n, size_t k) {
    size_t low = 0, high = n;
    while (high - low > 1 && k > low && k < high) {
        const size_t pivot = order[low + (high - low - 1) / 2]; // never the last: both sides shrink
        size_t i = low, j = high - 1;
        for (;;) {
            while (before(ranks, order[i], pivot)) i++;
            while (before(ranks, pivot, order[j])) j--;
            if (i >= j) break;
            const size_t swap = order[i];
            order[i++] = order[j];
            order[j--] = swap;
        }
        if (k <= j) high = j + 1;
        else low = j + 1;
    }
}

void energy_split(uint64_t total_uj, energy_rank *ranks, size_t n, size_t *order) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ranks[i].weight;
    uint64_t left = total_uj;
    for (size_t i = 0; i < n; i++) {
        const double share = sum > 0 ? ranks[i].weight / sum : 1.0 / (double)n;
        const double exact = (double)total_uj * share;
        uint64_t part = (uint64_t)floor(exact);
        if (part > left) part = left; // the doubles' rounding may pass the whole by a unit
        ranks[i].part = part;
        ranks[i].rest = exact - (double)part;
        left -= part;
        order[i] = i;
    }
    // What is left is less than one unit each; beyond 2^53 uJ the doubles are coarser, and all get the same on top.
    for (size_t i = 0; i < n && left >= n; i++) ranks[i].part += left / n;
    left %= n;
    select_largest(ranks, order, n, (size_t)left);
    for (size_t i = 0; i < left; i++) ranks[order[i]].part++;
}

// Parts of the dynamic joules. Claims of unknown work are weighed by time, at the mean cost per busy ns of the known ones.
static double weigh(const double theta[ENERGY_TERMS], const energy_claim *claims, size_t n, energy_rank *ranks) {
    double cost = 0, busy = 0, unknown = 0;
    for (size_t i = 0; i < n; i++) {
        cost += ranks[i].weight = energy_cost(theta, claims[i].x);
        busy += claims[i].busy_ns;
        unknown += claims[i].time_cost_ns;
    }
    const double known = busy - unknown, per_ns = cost > 0 && known > 0 ? cost / known : 1;
    for (size_t i = 0; i < n; i++) {
        if (cost <= 0) ranks[i].weight = claims[i].busy_ns; // a model that says nothing: by time
        else ranks[i].weight += claims[i].time_cost_ns * per_ns;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ranks[i].weight;
    return sum;
}

static double split_idle(uint64_t idle_uj, double length_ns, energy_claim *claims, size_t n, energy_rank *ranks, size_t *order) {
    double busy = 0;
    for (size_t i = 0; i < n; i++) busy += ranks[i].weight = claims[i].busy_ns;
    ranks[n].weight = length_ns > busy ? length_ns - busy : 0; // no step ran
    energy_split(idle_uj, ranks, n + 1, order);
    for (size_t i = 0; i < n; i++) claims[i].idle_uj = ranks[i].part;
    return busy;
}

energy_rest energy_split_interval(const energy_interval *v, const double theta[ENERGY_TERMS], energy_claim *claims, size_t n,
                                  energy_rank *ranks, size_t *order) {
    const double idle = v->idle_uw > 0 ? v->idle_uw * v->length_ns * 1e-9 : 0;
    const uint64_t idle_uj = idle < (double)v->energy_uj ? (uint64_t)idle : v->energy_uj, dynamic_uj = v->energy_uj - idle_uj;
    const double busy = split_idle(idle_uj, v->length_ns, claims, n, ranks, order);
    energy_rest rest = {.idle_uj = ranks[n].part, .dynamic_uj = (double)dynamic_uj};
    if (busy <= 0) {
        for (size_t i = 0; i < n; i++) {
            rest.idle_uj += claims[i].idle_uj;
            claims[i].idle_uj = claims[i].dynamic_uj = 0;
            claims[i].share = 0;
        }
        rest.unattributed_uj = dynamic_uj;
        return rest;
    }
    const double sum = weigh(theta, claims, n, ranks);
    energy_split(dynamic_uj, ranks, n, order);
    for (size_t i = 0; i < n; i++) {
        claims[i].share = ranks[i].weight / sum;
        claims[i].dynamic_uj = ranks[i].part;
    }
    return rest;
}
