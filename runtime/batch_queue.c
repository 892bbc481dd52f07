// Users, the tables of waiting and running requests, and how long a newcomer would wait.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/backend.h"
#include "runtime/base/alloc.h"
#include "runtime/batch_private.h"

static int32_t blocks_for(int32_t n_tok) { return (n_tok + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK; }

// The last token of a reply is never fed.
int64_t batch_blocks_apart(const batch_request *r, int32_t n_open) { return n_open * (int64_t)blocks_for(r->n_prompt + r->n_reply_max - 1); }

// The prompt's whole blocks are shared; the rest belongs to each choice alone. After a pause the choices find what they have in common only
// if it is still cached.
int64_t batch_blocks(const batch_request *r, int32_t n_open) {
    if (n_open < 1) return 0;
    const int64_t shared = r->resumed ? 0 : r->n_prompt / WTL_KV_BLOCK;
    return batch_blocks_apart(r, n_open) - (n_open - 1) * shared;
}

// ---- Users -----------------------------------------------------------------------------------------------------------------
batch_user *batch_user_get(wtl_batch *b, const char *key) {
    double least = b->users ? b->users->served_tok : 0;
    batch_user **end = &b->users;
    for (; *end; end = &(*end)->next) {
        batch_user *u = *end;
        if (!strcmp(u->key, key)) {
            u->n_alive++;
            return u;
        }
        if (u->served_tok < least) least = u->served_tok;
    }
    const size_t len = strlen(key);
    batch_user *fresh = wtl_calloc(1, sizeof *fresh + len + 1);
    if (!fresh) return NULL;
    memcpy(fresh->key, key, len + 1);
    fresh->served_tok = least;
    fresh->n_alive = 1;
    *end = fresh; // the last of those whose turn is otherwise the same
    return fresh;
}

void batch_user_drop(wtl_batch *b, batch_user *user) {
    if (--user->n_alive > 0) return;
    batch_user **at = &b->users;
    while (*at != user) at = &(*at)->next;
    *at = user->next;
    wtl_free(user);
}

// ---- The two tables --------------------------------------------------------------------------------------------------------
void batch_enqueue(wtl_batch *b, batch_request *r) {
    batch_user *u = r->owner;
    batch_request **at = u->last && u->last->id < r->id ? &u->last->next : &u->first;
    while (*at && (*at)->id < r->id) at = &(*at)->next;
    r->next = *at;
    *at = r;
    if (!r->next) u->last = r;
    r->waiting = true;
    b->n_waiting++;
}

void batch_unqueue(wtl_batch *b, batch_request *r) {
    batch_user *u = r->owner;
    batch_request *before = NULL;
    for (batch_request *at = u->first; at != r; at = at->next) before = at;
    *(before ? &before->next : &u->first) = r->next;
    if (u->last == r) u->last = before;
    r->next = NULL;
    r->waiting = false;
    b->n_waiting--;
}

void batch_unrun(wtl_batch *b, batch_request *r) {
    int32_t i = 0;
    while (i < b->n_running && b->running[i] != r) i++;
    if (i == b->n_running) return;
    memmove(&b->running[i], &b->running[i + 1], (size_t)(b->n_running - i - 1) * sizeof *b->running);
    b->n_running--;
}

batch_request *batch_find(wtl_batch *b, uint64_t id) {
    for (int32_t i = 0; i < b->n_running; i++)
        if (b->running[i]->id == id) return b->running[i]->gone ? NULL : b->running[i];
    for (batch_user *u = b->users; u; u = u->next)
        for (batch_request *r = u->first; r; r = r->next)
            if (r->id == id) return r->gone ? NULL : r;
    for (batch_request *r = b->paused; r; r = r->next)
        if (r->id == id) return r->gone ? NULL : r;
    return NULL;
}

// ---- How long a newcomer would wait ----------------------------------------------------------------------------------------
static double rate(const batch_speed *s, double otherwise) { return s->ns > 0 && s->n > 0 ? s->n / s->ns : otherwise; }

uint64_t batch_wait_estimate(const wtl_batch *b) {
    int32_t n_seqs = 0;
    int64_t n_blocks = 0;
    double prompt = 0, reply = 0;
    for (int32_t i = 0; i < b->n_running; i++) {
        const batch_request *r = b->running[i];
        n_seqs += r->n_open;
        n_blocks += batch_blocks(r, r->n_open);
        prompt += r->n_text - r->n_done;
        for (int32_t c = 0; c < r->n_choices; c++) {
            if (r->choices[c].ended) continue;
            const double most = r->n_reply_max - r->choices[c].n_decoded, mean = b->reply_tok - r->choices[c].n_decoded;
            const double left = mean > b->reply_tok / 4 ? mean : b->reply_tok / 4;
            reply += left < most ? left : most;
        }
    }
    if (!b->n_waiting && n_seqs < b->options.n_parallel && n_blocks < b->n_blocks) return 0;
    for (const batch_user *u = b->users; u; u = u->next)
        for (const batch_request *r = u->first; r; r = r->next) {
            prompt += r->n_text - r->n_cached_seen;
            reply += r->n_choices * (r->n_reply_max < b->reply_tok ? r->n_reply_max : b->reply_tok);
        }
    // The newcomer starts when all but one place are still taken, on average by replies half done.
    const double others = (n_seqs > 1 ? n_seqs - 1 : 0) * b->reply_tok / 2;
    reply = reply > others + 1 ? reply - others : 1;
    const double wait = prompt / rate(&b->prompt_speed, 100e-9) + reply / rate(&b->reply_speed, 20e-9);
    return wait < 1e18 ? (uint64_t)wait : (uint64_t)1e18;
}
