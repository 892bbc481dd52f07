// Sampler: chooses the next token from logits [n_vocab]. Owns its random state and the window of tokens for the penalties.
//
// All filters keep a prefix of the tokens in order of (logit descending, id ascending); only what is needed to find its end
// is ever sorted, never the vocabulary. Allocates in open only (and once where
// only some tokens are allowed). Arithmetic on probabilities is in double and in a fixed
// order, so that options, seed and logits determine the token.
// NaN counts as -infinity: it never wins and never poisons a sum.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/wattle.h"

enum { BLOCK = 256, DEFAULT_LAST_N = 64, MAX_LAST_N = 1 << 20, N_BINS = 2048, BINS_PER_NAT = 64 };
enum { DRAWS = 32, ASK_ALL_AFTER = 256 }; // forbidden tokens met before all are asked for

typedef struct candidate {
    float logit;
    int32_t id;
    double weight;
} candidate;

struct wtl_sampler {
    wtl_sampler_options options; // bias points at our copy
    int32_t n_vocab;
    uint64_t random[4];      // xoshiro256**
    wtl_logit_bias *bias;    // [options.n_bias]
    candidate *candidates;   // [n_vocab], or [top_k]; NULL when greedy
    float *adjusted;         // [n_vocab] logits after bias, penalties and bans; NULL when none of them is on
    // Penalty window; all NULL when no penalty is on.
    int32_t *count;          // [n_vocab] occurrences inside the window
    int32_t *seen;           // [n_seen] distinct tokens with count > 0
    int32_t *seen_at;        // [n_vocab] index into seen; valid while count > 0
    int32_t *ring;           // [window] the tokens themselves, NULL when the window has no end
    int32_t n_seen, window, ring_at, ring_used;
};

// ---- Random numbers: xoshiro256** (Blackman and Vigna 2018), seeded by splitmix64 as its authors recommend ---------
static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

static uint64_t random_next(uint64_t s[4]) {
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

// Uniform in [0, 1), 53 bits.
static double random_unit(uint64_t s[4]) { return (double)(random_next(s) >> 11) * 0x1p-53; }

// ---- Selection -----------------------------------------------------------------------------------------------------
// Largest of x[0..n), NaN ignored; -INFINITY for nothing else. So many lanes that gcc uses vectors: it unrolls sixteen into scalars first.
static float block_max(const float *x, int32_t n) {
    enum { LANES = 32 };
    float lane[LANES], best = -INFINITY;
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (int j = 0; j < LANES; j++) best = lane[j] > best ? lane[j] : best;
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

static int32_t block_length(int32_t n, int32_t start) { return n - start < BLOCK ? n - start : BLOCK; }

// Lowest id of the largest logit; -1 when there is none above -infinity.
static int32_t arg_max(const float *x, int32_t n) {
    float best = -INFINITY;
    int32_t block = -1;
    for (int32_t i = 0; i < n; i += BLOCK) {
        float top = block_max(x + i, block_length(n, i));
        if (top > best) {
            best = top;
            block = i;
        }
    }
    if (block < 0) return -1;
    while (!(x[block] == best)) block++;
    return block;
}

static bool ranks_before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

// Restores the heap below i: every parent ranks after its children, so the root is the worst one kept.
static void sift_down(candidate *heap, int32_t n, int32_t i) {
    candidate moved = heap[i];
    for (;;) {
        int64_t child = 2 * (int64_t)i + 1;
        if (child >= n) break;
        if (child + 1 < n && ranks_before(heap[child], heap[child + 1])) child++;
        if (!ranks_before(moved, heap[child])) break;
        heap[i] = heap[child];
        i = (int32_t)child;
    }
    heap[i] = moved;
}

static int by_rank(const void *a, const void *b) {
    return ranks_before(*(const candidate *)a, *(const candidate *)b) ? -1 : 1;
}

// The k best logits of x[0..n) above -infinity, best first, into out. Returns how many there are.
static int32_t select_top(const float *x, int32_t n, int32_t k, candidate *out) {
    int32_t kept = 0;
    for (int32_t start = 0; start < n; start += BLOCK) {
        int32_t len = block_length(n, start);
        if (kept == k && !(block_max(x + start, len) > out[0].logit)) continue;
        for (int32_t i = start; i < start + len; i++) {
            if (kept < k) {
                if (!(x[i] > -INFINITY)) continue;
                out[kept++] = (candidate){.logit = x[i], .id = i};
                if (kept == k)
                    for (int32_t j = k / 2; j-- > 0;) sift_down(out, k, j);
            } else if (x[i] > out[0].logit) { // an equal logit has a higher id here and ranks behind
                out[0] = (candidate){.logit = x[i], .id = i};
                sift_down(out, k, 0);
            }
        }
    }
    qsort(out, (size_t)kept, sizeof *out, by_rank);
    return kept;
}

// exp((logit - top) / temperature); 1 for the top itself, also where both are infinite.
static double weight_of(float logit, float top, double temperature) {
    return logit == top ? 1.0 : exp(((double)logit - (double)top) / temperature);
}

// Keeps of c[0..n), sorted best first, the shortest prefix whose weights (at temperature 1) bring `sum` to `target`.
static int32_t nucleus_length(const candidate *c, int32_t n, float top, double sum, double target) {
    for (int32_t i = 0; i < n; i++) {
        sum += weight_of(c[i].logit, top, 1.0);
        if (sum >= target) return i + 1;
    }
    return n;
}

static int32_t bin_of(float logit, float top) {
    double distance = logit == top ? 0 : ((double)top - (double)logit) * BINS_PER_NAT;
    return distance < N_BINS - 1 ? (int32_t)distance : N_BINS - 1;
}

// Appends the tokens of x[0..n) that lie in bins first..last, in order of their ids, to out[count..).
static int32_t take_bins(const float *x, int32_t n, float top, int32_t first, int32_t last, candidate *out, int32_t count) {
    for (int32_t i = 0; i < n; i++) {
        if (!(x[i] > -INFINITY)) continue;
        int32_t bin = bin_of(x[i], top);
        if (bin >= first && bin <= last) out[count++] = (candidate){.logit = x[i], .id = i};
    }
    return count;
}

// top-p over all of x[0..n): a histogram over the distance from the top finds the narrow bin in which the nucleus ends, and
// only that bin is sorted. A flat distribution, whose nucleus is most of the vocabulary, costs no more than a sharp one.
static int32_t select_nucleus(const float *x, int32_t n, float top, double top_p, candidate *out) {
    double mass[N_BINS] = {0}, total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        if (x[i] > -INFINITY) mass[bin_of(x[i], top)] += weight_of(x[i], top, 1.0);
    for (int32_t b = 0; b < N_BINS; b++) total += mass[b];
    int32_t last = 0;
    while (last < N_BINS - 1 && sum + mass[last] < top_p * total) sum += mass[last++];
    int32_t inside = take_bins(x, n, top, 0, last - 1, out, 0);
    int32_t count = take_bins(x, n, top, last, last, out, inside);
    qsort(out + inside, (size_t)(count - inside), sizeof *out, by_rank);
    return inside + nucleus_length(out + inside, count - inside, top, sum, top_p * total);
}

// The k best, of which top-p keeps its share.
static int32_t filter_top(wtl_sampler *s, const float *x, bool nucleus) {
    candidate *c = s->candidates;
    const int32_t n = select_top(x, s->n_vocab, s->options.top_k, c);
    if (!nucleus) return n;
    double total = 0;
    for (int32_t i = 0; i < n; i++) total += weight_of(c[i].logit, c[0].logit, 1.0);
    return nucleus_length(c, n, c[0].logit, 0, s->options.top_p * total);
}

static int32_t filter_all(wtl_sampler *s, const float *x, bool nucleus, float *top) {
    const int32_t best = arg_max(x, s->n_vocab);
    if (best < 0) return 0;
    *top = x[best];
    return nucleus ? select_nucleus(x, s->n_vocab, *top, s->options.top_p, s->candidates) : take_bins(x, s->n_vocab, *top, 0, N_BINS - 1, s->candidates, 0);
}

// Fills candidates with the tokens that may be drawn. Returns how many; 0 when no logit is above -infinity.
static int32_t filter(wtl_sampler *s, const float *x) {
    const wtl_sampler_options *o = &s->options;
    candidate *c = s->candidates;
    const bool nucleus = o->top_p > 0 && o->top_p < 1, cut = o->top_k > 0 && o->top_k < s->n_vocab;
    float top = -INFINITY;
    const int32_t n = cut ? filter_top(s, x, nucleus) : filter_all(s, x, nucleus, &top);
    if (cut && n > 0) top = c[0].logit;
    int32_t kept = 0;
    if (o->min_p <= 0) return n;
    for (int32_t i = 0; i < n; i++)
        if (weight_of(c[i].logit, top, 1.0) >= o->min_p) c[kept++] = c[i];
    return kept;
}

static int32_t draw(wtl_sampler *s, int32_t n) {
    candidate *c = s->candidates;
    float top = c[0].logit;
    for (int32_t i = 1; i < n; i++) top = c[i].logit > top ? c[i].logit : top;
    double total = 0;
    for (int32_t i = 0; i < n; i++) total += c[i].weight = weight_of(c[i].logit, top, s->options.temperature);
    double left = random_unit(s->random) * total;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (c[i].weight <= 0) continue;
        last = i;
        left -= c[i].weight;
        if (left < 0) break;
    }
    return c[last].id;
}

// ---- Bias and penalties --------------------------------------------------------------------------------------------
// repeat_penalty: Keskar et al. 2019 (CTRL), divided where positive, multiplied where negative. Presence and frequency: as
// the OpenAI interface defines them.
static const float *adjust(wtl_sampler *s, const float *logits) {
    if (!s->adjusted) return logits;
    const wtl_sampler_options *o = &s->options;
    float *x = s->adjusted;
    memcpy(x, logits, (size_t)s->n_vocab * sizeof *x);
    for (int32_t i = 0; i < o->n_bias; i++) x[s->bias[i].token] += s->bias[i].bias;
    float repeat = o->repeat_penalty > 0 ? o->repeat_penalty : 1;
    for (int32_t i = 0; i < s->n_seen; i++) {
        int32_t id = s->seen[i];
        x[id] = x[id] > 0 ? x[id] / repeat : x[id] * repeat;
        x[id] -= o->presence_penalty + (float)s->count[id] * o->frequency_penalty;
    }
    return x;
}

void wtl_sampler_accept(wtl_sampler *s, int32_t token) {
    if (!s->count || token < 0 || token >= s->n_vocab) return;
    if (s->ring && s->ring_used == s->window) {
        int32_t old = s->ring[s->ring_at];
        if (--s->count[old] == 0) {
            int32_t moved = s->seen[--s->n_seen];
            s->seen[s->seen_at[old]] = moved;
            s->seen_at[moved] = s->seen_at[old];
        }
    }
    if (s->ring) {
        s->ring[s->ring_at] = token;
        s->ring_at = (s->ring_at + 1) % s->window;
        if (s->ring_used < s->window) s->ring_used++;
    }
    if (s->count[token] == INT32_MAX) return;
    if (s->count[token]++ == 0) {
        s->seen_at[token] = s->n_seen;
        s->seen[s->n_seen++] = token;
    }
}

wtl_status wtl_sampler_next(wtl_sampler *s, const float *logits, int32_t *token, wtl_error *err) {
    if (!s || !logits || !token) return wtl_fail(err, WTL_ERR_INVALID, "sampler, logits and token must not be NULL");
    const float *x = adjust(s, logits);
    int32_t choice = -1;
    if (!s->candidates) {
        choice = arg_max(x, s->n_vocab);
    } else {
        int32_t n = filter(s, x);
        if (n > 0) choice = draw(s, n);
    }
    if (choice < 0) return wtl_fail(err, WTL_ERR_DEVICE, "no token can be chosen: every logit is NaN or -infinity");
    wtl_sampler_accept(s, choice);
    *token = choice;
    return WTL_OK;
}

int32_t wtl_sampler_n_top(const wtl_sampler *s) {
    if (s->adjusted) return 0; // bias, penalties and bans change the order
    if (!s->candidates) return 1;
    return s->options.top_k > 0 && s->options.top_k < s->n_vocab ? s->options.top_k : 0;
}

// ---- Only allowed tokens -------------------------------------------------------------------------------------------
typedef struct gate {
    wtl_token_allowed allows;
    void *user;
    int32_t n_banned;
} gate;

// Asks for one token; a forbidden one is out of x from here on.
static bool pass(gate *g, float *x, int32_t id) {
    if (g->allows(g->user, id)) return true;
    x[id] = -INFINITY;
    g->n_banned++;
    return false;
}

// Asks for every token that is left.
static void ask_all(gate *g, float *x, int32_t n_vocab) {
    for (int32_t i = 0; i < n_vocab; i++)
        if (x[i] > -INFINITY) pass(g, x, i);
}

// The most likely allowed token: walks down, and asks for all at once when that takes long.
static int32_t best_allowed(gate *g, float *x, int32_t n_vocab) {
    for (;;) {
        const int32_t best = arg_max(x, n_vocab);
        if (best < 0 || pass(g, x, best)) return best;
        if (g->n_banned == ASK_ALL_AFTER) {
            ask_all(g, x, n_vocab);
            return arg_max(x, n_vocab);
        }
    }
}

// top-k and top-p decide by rank among the allowed ones, so every member is asked for, until none has to go. Returns their number.
static int32_t filter_allowed(wtl_sampler *s, gate *g, float *x) {
    for (;;) {
        const int32_t before = g->n_banned, n = filter(s, x);
        for (int32_t i = 0; i < n; i++) pass(g, x, s->candidates[i].id);
        if (g->n_banned == before) return n;
        if (g->n_banned < ASK_ALL_AFTER) continue;
        ask_all(g, x, s->n_vocab);
        return filter(s, x);
    }
}

// Whether the nucleus keeps candidate `chosen` however much of what was not asked for is forbidden: it ranks before the share of what is
// known to be allowed.
static bool surely_kept(const wtl_sampler *s, int32_t n, candidate chosen, float top) {
    double before = 0, sum = 0;
    for (int32_t i = 0; i < n; i++) {
        const double weight = weight_of(s->candidates[i].logit, top, 1.0);
        sum += weight;
        if (ranks_before(s->candidates[i], chosen)) before += weight;
    }
    return before < s->options.top_p * sum;
}

// Asks for everything that top-p is a share of.
static void ask_share(wtl_sampler *s, gate *g, float *x) {
    const float top_p = s->options.top_p, min_p = s->options.min_p;
    s->options.top_p = s->options.min_p = 0;
    if (s->options.top_k > 0 && s->options.top_k < s->n_vocab) filter_allowed(s, g, x);
    else ask_all(g, x, s->n_vocab);
    s->options.top_p = top_p;
    s->options.min_p = min_p;
}

// What top-p leaves out may be forbidden too, and then the nucleus is smaller. That matters for its last tokens only: when one of them is
// drawn the rest is asked for, and it is taken back if it is out.
static int32_t draw_nucleus(wtl_sampler *s, gate *g, float *x) {
    int32_t n = filter_allowed(s, g, x);
    if (n < 1) return -1;
    const int32_t id = draw(s, n);
    if (surely_kept(s, n, (candidate){.logit = x[id], .id = id}, x[arg_max(x, s->n_vocab)])) return id;
    ask_share(s, g, x);
    n = filter(s, x);
    for (int32_t i = 0; i < n; i++)
        if (s->candidates[i].id == id) return id;
    return draw(s, n);
}

// Without them: draw, ask, ban, draw again. The first allowed one drawn has the probability that it has among the allowed alone; min-p is
// relative to the best allowed one.
static int32_t draw_again(wtl_sampler *s, gate *g, float *x) {
    if (best_allowed(g, x, s->n_vocab) < 0) return -1;
    for (int32_t tries = 0;; tries++) {
        if (tries == DRAWS) ask_all(g, x, s->n_vocab);
        const int32_t choice = draw(s, filter(s, x));
        if (tries == DRAWS || pass(g, x, choice)) return choice;
    }
}

static int32_t choose_allowed(wtl_sampler *s, gate *g, float *x) {
    const wtl_sampler_options *o = &s->options;
    if (!s->candidates) return best_allowed(g, x, s->n_vocab);
    if (o->top_p > 0 && o->top_p < 1) return draw_nucleus(s, g, x);
    if (o->top_k <= 0 || o->top_k >= s->n_vocab) return draw_again(s, g, x);
    const int32_t n = filter_allowed(s, g, x);
    return n > 0 ? draw(s, n) : -1;
}

wtl_status wtl_sampler_next_allowed(wtl_sampler *s, const float *logits, wtl_token_allowed allows, void *user, int32_t *token, wtl_error *err) {
    if (!allows) return wtl_sampler_next(s, logits, token, err);
    if (!s || !logits || !token) return wtl_fail(err, WTL_ERR_INVALID, "sampler, logits and token must not be NULL");
    if (!s->adjusted && !(s->adjusted = wtl_calloc((size_t)s->n_vocab, sizeof *s->adjusted)))
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for the choice among %d tokens", s->n_vocab);
    adjust(s, logits);
    float *x = s->adjusted;
    if (arg_max(x, s->n_vocab) < 0) return wtl_fail(err, WTL_ERR_DEVICE, "no token can be chosen: every logit is NaN or -infinity");
    gate g = {.allows = allows, .user = user};
    const int32_t choice = choose_allowed(s, &g, x);
    if (choice < 0) return wtl_fail(err, WTL_ERR_NOT_FOUND, "no token is allowed here");
    wtl_sampler_accept(s, choice);
    *token = choice;
    return WTL_OK;
}

// ---- Opening -------------------------------------------------------------------------------------------------------
static wtl_status check_options(const wtl_sampler_options *o, int32_t n_vocab, wtl_error *err) {
    if (n_vocab < 1) return wtl_fail(err, WTL_ERR_INVALID, "n_vocab %d: must be at least 1", n_vocab);
    const struct {
        const char *name;
        float value, min, max;
    } ranges[] = {
        {"temperature", o->temperature, 0, 1e6f},     {"top_p", o->top_p, 0, 1},
        {"min_p", o->min_p, 0, 1},                    {"repeat_penalty", o->repeat_penalty, 0, 1e6f},
        {"presence_penalty", o->presence_penalty, -1e6f, 1e6f}, {"frequency_penalty", o->frequency_penalty, -1e6f, 1e6f},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max)) // NaN fails too
            return wtl_fail(err, WTL_ERR_INVALID, "%s %g: must be %g to %g", ranges[i].name, (double)ranges[i].value,
                            (double)ranges[i].min, (double)ranges[i].max);
    if (o->top_k < 0) return wtl_fail(err, WTL_ERR_INVALID, "top_k %d: must be 0 or more", o->top_k);
    if (o->penalty_last_n < -1 || o->penalty_last_n > MAX_LAST_N)
        return wtl_fail(err, WTL_ERR_INVALID, "penalty_last_n %d: must be -1 to %d", o->penalty_last_n, MAX_LAST_N);
    if (o->n_bias < 0 || (o->n_bias > 0 && !o->bias)) return wtl_fail(err, WTL_ERR_INVALID, "n_bias %d: without a list", o->n_bias);
    for (int32_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].token < 0 || o->bias[i].token >= n_vocab)
            return wtl_fail(err, WTL_ERR_INVALID, "bias for token %d: the vocabulary has ids 0 to %d", o->bias[i].token, n_vocab - 1);
        if (isnan(o->bias[i].bias)) return wtl_fail(err, WTL_ERR_INVALID, "bias for token %d: not a number", o->bias[i].token);
    }
    return WTL_OK;
}

// Takes all memory that these options need. False when there is none; close frees what was taken.
static bool take_memory(wtl_sampler *s, bool penalties) {
    const wtl_sampler_options *o = &s->options;
    size_t n = (size_t)s->n_vocab;
    if (o->temperature > 0) {
        size_t held = o->top_k > 0 && o->top_k < s->n_vocab ? (size_t)o->top_k : n;
        if (!(s->candidates = wtl_calloc(held, sizeof *s->candidates))) return false;
    }
    if ((penalties || o->n_bias > 0) && !(s->adjusted = wtl_calloc(n, sizeof *s->adjusted))) return false;
    if (o->n_bias > 0) {
        if (!(s->bias = wtl_calloc((size_t)o->n_bias, sizeof *s->bias))) return false;
        memcpy(s->bias, o->bias, (size_t)o->n_bias * sizeof *s->bias);
    }
    if (!penalties) return true;
    if (!(s->count = wtl_calloc(n, sizeof *s->count)) || !(s->seen = wtl_calloc(n, sizeof *s->seen))) return false;
    if (!(s->seen_at = wtl_calloc(n, sizeof *s->seen_at))) return false;
    return s->window < 0 || (s->ring = wtl_calloc((size_t)s->window, sizeof *s->ring));
}

wtl_status wtl_sampler_open(const wtl_sampler_options *options, int32_t n_vocab, wtl_sampler **out, wtl_error *err) {
    if (!options || !out) return wtl_fail(err, WTL_ERR_INVALID, "options and out must not be NULL");
    *out = NULL;
    wtl_status status = check_options(options, n_vocab, err);
    if (status != WTL_OK) return status;
    wtl_sampler *s = wtl_calloc(1, sizeof *s);
    if (!s) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a sampler");
    s->options = *options;
    s->n_vocab = n_vocab;
    s->window = options->penalty_last_n == 0 ? DEFAULT_LAST_N : options->penalty_last_n;
    bool repeats = options->repeat_penalty > 0 && options->repeat_penalty != 1;
    if (!take_memory(s, repeats || options->presence_penalty != 0 || options->frequency_penalty != 0)) {
        wtl_sampler_close(&s);
        return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a sampler over %d tokens", n_vocab);
    }
    s->options.bias = s->bias;
    uint64_t state = options->seed;
    for (int i = 0; i < 4; i++) s->random[i] = splitmix64(&state);
    *out = s;
    return WTL_OK;
}

void wtl_sampler_close(wtl_sampler **sampler) {
    if (!sampler || !*sampler) return;
    wtl_sampler *s = *sampler;
    wtl_free(s->bias);
    wtl_free(s->candidates);
    wtl_free(s->adjusted);
    wtl_free(s->count);
    wtl_free(s->seen);
    wtl_free(s->seen_at);
    wtl_free(s->ring);
    wtl_free(s);
    *sampler = NULL;
}
