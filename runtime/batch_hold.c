// Requests that pause while others wait for their places, and go on from what is cached of their text: those whose owners take no tokens for
// now, and those of a user that has more places than another user who waits for one.
//
// A pause closes the sequences and keeps everything else: samplers with their random state, the text, the energy id, whatever the owner knows.
// Logits are the same bits however often a text was read, so the tokens are those of a request that was never paused. Only a request that
// decodes can pause: one that reads has given its owner nothing to lag behind with.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_private.h"

bool batch_read_next(batch_request *r) {
    for (int32_t i = 0; i < r->n_choices; i++) {
        batch_choice *c = &r->choices[i];
        if (c->ended || c->decodes) continue;
        r->reader = c;
        r->n_text = r->n_prompt + c->n_decoded;
        r->n_done = 0;
        return true;
    }
    return false;
}

wtl_status batch_reopen(wtl_batch *b, batch_request *r, wtl_error *err) {
    int32_t seq, n_cached;
    const wtl_status status = wtl_seq_open_prefix(b->session, batch_text(r), (size_t)r->n_text, &seq, &n_cached, err);
    if (status) return status;
    batch_lock(b);
    r->reader->seq = seq;
    r->n_done = n_cached;
    batch_unlock(b);
    return WTL_OK;
}

// ---- Pausing: under the mutex, but for the session ---------------------------------------------------------------------------
static bool may_pause(const wtl_batch *b, const batch_request *r) {
    if (r->gone || r->cancelled || r->n_open < 1 || batch_is_reading(r)) return false;
    return batch_blocks_apart(r, r->n_open) <= b->n_blocks; // else it could never go on
}

static bool somebody_lacks_room(const wtl_batch *b) {
    for (const batch_user *u = b->users; u; u = u->next)
        for (const batch_request *r = u->first; r; r = r->next)
            if (!batch_fits(b, r)) return true;
    return false;
}

static batch_request *choose_to_pause(const wtl_batch *b) {
    for (int32_t i = 0; i < b->n_running; i++)
        if (b->running[i]->held && may_pause(b, b->running[i])) return b->running[i];
    return NULL;
}

// The user's oldest request that waits, when none of the user's could start and it waits for nothing but a place.
static const batch_request *wants_place(const wtl_batch *b, const batch_user *u) {
    for (const batch_request *r = u->first; r; r = r->next)
        if (batch_fits(b, r)) return NULL;
    return u->first && !batch_waits_for_prefix(b, u->first) ? u->first : NULL;
}

// The request whose place the newcomer gets: the youngest of the user who has most, when one is enough. Who gives keeps as many as who gets then
// has; so places move only towards equal shares, and never back and forth. Who has been served more gets none: rows count before places.
static batch_request *who_yields(const wtl_batch *b, const batch_request *newcomer) {
    const int32_t then = batch_places(b, newcomer->owner) + newcomer->n_open;
    batch_request *out = NULL;
    int32_t most = 0;
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *r = b->running[i];
        if (r->owner == newcomer->owner || !may_pause(b, r) || r->owner->served_tok < newcomer->owner->served_tok) continue;
        const int32_t n = batch_places(b, r->owner);
        if (n - r->n_open < then || n < most || (n == most && out->id > r->id) || !batch_fits_without(b, newcomer, r)) continue;
        out = r;
        most = n;
    }
    return out;
}

// For the user with the fewest places that somebody can yield for; of several for the one served least.
static batch_request *choose_to_yield(const wtl_batch *b) {
    if (!b->users || !b->users->next || b->options.no_prefix_cache) return NULL;
    const batch_request *only = batch_passed_enough(b);
    const batch_user *poorest = NULL;
    batch_request *out = NULL;
    int32_t least = 0;
    for (const batch_user *u = b->users; u; u = u->next) {
        const batch_request *newcomer = wants_place(b, u);
        if (!newcomer || (only && only != newcomer)) continue;
        const int32_t n = batch_places(b, u);
        if (out && (n > least || (n == least && u->served_tok >= poorest->served_tok))) continue;
        batch_request *r = who_yields(b, newcomer);
        if (!r) continue;
        out = r;
        poorest = u;
        least = n;
    }
    return out;
}

static void pause_request(wtl_batch *b, batch_request *r) {
    for (int32_t i = 0; i < r->n_choices; i++)
        if (r->choices[i].decodes) wtl_seq_close(b->session, r->choices[i].seq);
    batch_lock(b);
    for (int32_t i = 0; i < r->n_choices; i++) {
        r->choices[i].seq = -1;
        r->choices[i].n_held = 0;
        r->choices[i].decodes = false;
    }
    batch_unrun(b, r);
    r->paused = r->resumed = true;
    r->looked_for = false;
    r->n_cached_seen = r->n_granted = 0;
    batch_read_next(r);
    r->facts.n_pauses++;
    b->totals.n_pauses++;
    r->next = b->paused;
    b->paused = r;
    b->n_paused++;
    if (!r->held) { // it has yielded, or its owner has caught up meanwhile
        batch_unpause(b, r);
        batch_enqueue(b, r);
    }
    batch_unlock(b);
}

void batch_make_room(wtl_batch *b) {
    for (;;) {
        batch_lock(b);
        batch_request *r = b->n_waiting ? choose_to_pause(b) : NULL;
        if (r && !somebody_lacks_room(b)) r = NULL;
        else if (!r && b->n_waiting) r = choose_to_yield(b);
        batch_unlock(b);
        if (!r) return;
        pause_request(b, r);
    }
}

void batch_unpause(wtl_batch *b, batch_request *r) {
    batch_request **at = &b->paused;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    r->paused = false;
    b->n_paused--;
}

// ---- From any thread ---------------------------------------------------------------------------------------------------------
bool wtl_batch_hold(wtl_batch *b, uint64_t id, bool held) {
    batch_lock(b);
    batch_request *r = batch_find(b, id);
    const bool alive = r && r->n_open > 0;
    if (alive) r->held = held;
    if (alive && !held && r->paused) {
        batch_unpause(b, r);
        batch_enqueue(b, r);
        pthread_cond_signal(&b->changed);
    }
    batch_unlock(b);
    return alive;
}
