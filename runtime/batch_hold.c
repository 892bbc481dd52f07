// Requests whose owners take no tokens for now: they pause while others wait for their places, and go on from what is cached of their text.
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
    if (!r->held || r->gone || r->cancelled || r->n_open < 1 || batch_is_reading(r)) return false;
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
        if (may_pause(b, b->running[i])) return b->running[i];
    return NULL;
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
    if (!r->held) { // its owner has caught up meanwhile
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
