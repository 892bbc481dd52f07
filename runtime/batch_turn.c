// Whose prompt goes on next. A turn gives at most BATCH_TURN_TOK rows.
//
// Between users: by the rows that ran for them, so that neither many requests nor long prompts nor patience buy more than a share. Those
// within a turn of the one served least count as served equally.
// Among these: the prompt of which least is left to read, so that little work does not wait behind much. What is cached is not to be read.
// Within a user: of PASS_ROWS + 1 rows one is the oldest prompt's. So a prompt of which n rows are to be read, and m of older ones, has
// been read after (PASS_ROWS + 1) * (n + m) rows of its user's and four turns, whatever arrives meanwhile.
//
// Of users that would start a request the one with the fewest running goes first, so that a place that somebody gave up (batch_hold.c) is not
// taken back by its own next request.
//
// What a request's KV may grow to is set aside before it starts. One that does not fit waits, and younger ones may pass it, but only a few:
// then nothing starts before it. A user's oldest that would fit is passed by as few of the same user's.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "kernels/backend.h"
#include "runtime/batch_private.h"

enum {
    PASS_ROWS = 3,       // rows of younger prompts for one of the user's oldest
    SHARED_MIN_TOK = 32, // a prefix that another request is just prefilling is waited for when it is at least so long
    OVERTAKE_TURNS = 2,  // a request that waits is passed by so many times n_parallel others
    LOOK_AGAIN = 4,      // prefixes looked for again in a step: what others have read since may help, or be gone
};

// ---- Cached prefixes ---------------------------------------------------------------------------------------------------------
static void look_for(const wtl_batch *b, batch_request *r) {
    r->n_cached_seen = batch_tells_prompt(r) ? 0 : wtl_session_find_prefix(b->session, batch_text(r), (size_t)r->n_text);
    r->looked_for = true;
}

void batch_look_for_prefixes(wtl_batch *b) {
    const uint64_t every = (uint64_t)b->n_waiting / LOOK_AGAIN + 1;
    uint64_t at = b->totals.n_steps;
    for (batch_user *u = b->users; u; u = u->next)
        for (batch_request *r = u->first; r; r = r->next)
            if (at++ % every == 0 || !r->looked_for) look_for(b, r);
}

// ---- What may go on ------------------------------------------------------------------------------------------------------------
static int32_t n_left(const batch_request *r) { return r->n_text - (r->waiting ? r->n_cached_seen : r->n_done + r->n_granted); }

static bool has_text_left(const batch_request *r) { return r->n_open > 0 && r->n_done + r->n_granted < r->n_text; }

bool batch_fits_without(const wtl_batch *b, const batch_request *r, const batch_request *leaving) {
    int32_t n_seqs = r->n_choices;
    int64_t n_blocks = batch_blocks(r, r->n_choices);
    for (int32_t i = 0; i < b->n_running; i++) {
        if (b->running[i] == leaving) continue;
        n_seqs += b->running[i]->n_open;
        n_blocks += batch_blocks(b->running[i], b->running[i]->n_open);
    }
    return n_seqs <= b->options.n_parallel && n_blocks <= b->n_blocks;
}

bool batch_fits(const wtl_batch *b, const batch_request *r) { return batch_fits_without(b, r, NULL); }

int32_t batch_places(const wtl_batch *b, const batch_user *u) {
    int32_t n = 0;
    for (int32_t i = 0; i < b->n_running; i++) n += b->running[i]->owner == u ? b->running[i]->n_open : 0;
    return n;
}

// The request in prefill that will soon hold more of r's prompt than it does now: computing that twice would help nobody. *n_shared: how
// much of the prompt that will be.
static batch_request *forerunner(const wtl_batch *b, const batch_request *r, int32_t *n_shared) {
    if (b->options.no_prefix_cache || batch_tells_prompt(r)) return NULL;
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *p = b->running[i];
        if (p->n_open < 1 || !batch_is_reading(p)) continue;
        const int32_t most = p->n_text < r->n_text - 1 ? p->n_text : r->n_text - 1, *theirs = batch_text(p), *ours = batch_text(r);
        int32_t same = 0;
        while (same < most && theirs[same] == ours[same]) same++;
        *n_shared = same / WTL_KV_BLOCK * WTL_KV_BLOCK;
        if (*n_shared - p->n_done >= SHARED_MIN_TOK) return p;
    }
    return NULL;
}

bool batch_waits_for_prefix(const wtl_batch *b, const batch_request *r) {
    int32_t n_shared;
    return forerunner(b, r, &n_shared) != NULL;
}

static batch_wish wish_of_running(batch_request *r) {
    return (batch_wish){has_text_left(r) ? r : NULL, r->id, n_left(r), false, false};
}

static batch_wish wish_of_waiting(const wtl_batch *b, batch_request *r, const batch_request *only) {
    int32_t n_shared;
    batch_request *ahead = forerunner(b, r, &n_shared);
    if (ahead) {
        const int32_t n_read = ahead->n_done + ahead->n_granted;
        return (batch_wish){n_read < n_shared ? ahead : NULL, r->id, r->n_text - n_read, false, false};
    }
    return (batch_wish){(!only || only == r) && batch_fits(b, r) ? r : NULL, r->id, n_left(r), true, false};
}

// ---- Within a user -------------------------------------------------------------------------------------------------------------
static bool is_shorter(const batch_wish *a, const batch_wish *b) { return a->n_left < b->n_left || (a->n_left == b->n_left && a->id < b->id); }

static batch_wish oldest_of(const wtl_batch *b, const batch_user *u, const batch_request *only) {
    batch_wish out = {0};
    for (int32_t i = 0; i < b->n_running; i++) {
        if (b->running[i]->owner != u) continue;
        const batch_wish w = wish_of_running(b->running[i]);
        if (w.request && (!out.request || w.id < out.id)) out = w;
    }
    for (batch_request *r = u->first; r && (!out.request || r->id < out.id); r = r->next) {
        const batch_wish w = wish_of_waiting(b, r, only);
        if (w.request) out = w;
    }
    return out;
}

static batch_wish shortest_of(const wtl_batch *b, const batch_user *u, const batch_request *only) {
    batch_wish out = {0};
    for (int32_t i = 0; i < b->n_running; i++) {
        if (b->running[i]->owner != u) continue;
        const batch_wish w = wish_of_running(b->running[i]);
        if (w.request && (!out.request || is_shorter(&w, &out))) out = w;
    }
    for (batch_request *r = u->first; r; r = r->next) {
        if (out.request && n_left(r) > out.n_left) continue; // spares the look at what it would wait for
        const batch_wish w = wish_of_waiting(b, r, only);
        if (w.request && (!out.request || is_shorter(&w, &out))) out = w;
    }
    return out;
}

static int32_t passes_max(const wtl_batch *b) { return OVERTAKE_TURNS * b->options.n_parallel; }

static batch_wish wish_of(const wtl_batch *b, const batch_user *u, const batch_request *only) {
    const batch_wish oldest = oldest_of(b, u, only);
    if (!oldest.request || u->passed_tok >= PASS_ROWS * BATCH_TURN_TOK) return oldest;
    if (oldest.request->waiting && oldest.request->n_passed >= passes_max(b)) return oldest;
    batch_wish shortest = shortest_of(b, u, only);
    shortest.passes = shortest.id != oldest.id;
    return shortest;
}

// ---- Between users -------------------------------------------------------------------------------------------------------------
const batch_request *batch_passed_enough(const wtl_batch *b) {
    const batch_request *out = NULL;
    for (const batch_user *u = b->users; u; u = u->next)
        if (u->first && u->first->n_overtaken >= passes_max(b) && (!out || u->first->id < out->id)) out = u->first;
    return out;
}

static bool goes_before(const batch_user *a, const batch_user *b) {
    if (a->wish.n_left != b->wish.n_left) return a->wish.n_left < b->wish.n_left;
    return a->served_tok < b->served_tok || (a->served_tok <= b->served_tok && a->turn < b->turn);
}

static void start(wtl_batch *b, batch_request *r) {
    for (batch_user *u = b->users; u; u = u->next)
        if (u->first && u->first->id < r->id && !batch_fits(b, u->first)) u->first->n_overtaken++;
    if (r->owner->first != r) r->owner->first->n_passed++;
    batch_unqueue(b, r);
    b->running[b->n_running++] = r;
}

static bool is_eligible(const batch_user *u, double least) { return u->wish.request && u->served_tok <= least + BATCH_TURN_TOK; }

// Places of the user with the fewest of those that would start a request.
static int32_t fewest_places(const wtl_batch *b, double least) {
    int32_t n = INT32_MAX;
    for (const batch_user *u = b->users; u; u = u->next)
        if (is_eligible(u, least) && u->wish.starts && u->n_places < n) n = u->n_places;
    return n;
}

// Every user's wish, and the user whose wish is granted; NULL: nobody has one.
static batch_user *choose(wtl_batch *b) {
    const batch_request *only = batch_passed_enough(b);
    double least = INFINITY;
    batch_user *best = NULL;
    for (batch_user *u = b->users; u; u = u->next) {
        u->wish = wish_of(b, u, only);
        u->n_places = batch_places(b, u);
        if (u->wish.request && u->served_tok < least) least = u->served_tok;
    }
    const int32_t fewest = fewest_places(b, least);
    for (batch_user *u = b->users; u; u = u->next)
        if (is_eligible(u, least) && !(u->wish.starts && u->n_places > fewest) && (!best || goes_before(u, best))) best = u;
    return best;
}

batch_turn batch_next_turn(wtl_batch *b) {
    for (;;) {
        batch_user *u = choose(b);
        if (!u) return (batch_turn){0};
        const batch_wish w = u->wish;
        if (w.starts) {
            const int32_t seen = w.request->n_cached_seen;
            look_for(b, w.request);
            if (w.request->n_cached_seen < seen) continue; // longer than it was chosen for
            start(b, w.request);
        }
        u->turn = ++b->last_turn;
        return (batch_turn){w.request, u, w.starts, w.passes};
    }
}

void batch_charge(const batch_turn *turn, int32_t n_rows) {
    batch_user *u = turn->payer;
    u->served_tok += n_rows;
    u->passed_tok = turn->passes ? u->passed_tok + n_rows : u->passed_tok > PASS_ROWS * n_rows ? u->passed_tok - PASS_ROWS * n_rows : 0;
}
