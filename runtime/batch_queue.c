// Whose turn it is. Users are served by the tokens that ran for them: the one served least goes next, a newcomer level with the least of
// those that are there, so that neither many requests nor long prompts nor patience buy more than a share.
//
// What a request's KV may grow to is set aside before it starts. One that does not fit waits, and younger ones may pass it, but only a few:
// then nothing starts before it.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/backend.h"
#include "runtime/base/alloc.h"
#include "runtime/batch_private.h"

enum {
    SHARED_MIN_TOK = 32, // a prefix that another request is just prefilling is waited for when it is at least so long
    OVERTAKE_TURNS = 2,  // a request that does not fit is passed by so many times n_parallel others
};

static int32_t blocks_for(int32_t n_tok) { return (n_tok + WTL_KV_BLOCK - 1) / WTL_KV_BLOCK; }

// The prompt's whole blocks are shared; the rest belongs to each choice alone. The last token of a reply is never fed.
int64_t batch_blocks(const batch_request *r, int32_t n_open) {
    if (n_open < 1) return 0;
    const int64_t all = blocks_for(r->n_prompt + r->n_reply_max - 1);
    return all + (n_open - 1) * (all - r->n_prompt / WTL_KV_BLOCK);
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
    r->next = NULL;
    *(u->last ? &u->last->next : &u->first) = r;
    u->last = r;
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
    return NULL;
}

// ---- Turns -----------------------------------------------------------------------------------------------------------------
static bool has_prompt_left(const batch_request *r) { return r->n_open > 0 && r->n_done + r->n_granted < r->n_prompt; }

static bool fits(const wtl_batch *b, const batch_request *r) {
    int32_t n_seqs = r->n_choices;
    int64_t n_blocks = batch_blocks(r, r->n_choices);
    for (int32_t i = 0; i < b->n_running; i++) {
        n_seqs += b->running[i]->n_open;
        n_blocks += batch_blocks(b->running[i], b->running[i]->n_open);
    }
    return n_seqs <= b->options.n_parallel && n_blocks <= b->n_blocks;
}

// The request in prefill that will soon hold more of r's prompt than it does now: computing that twice would help nobody.
static batch_request *forerunner(const wtl_batch *b, const batch_request *r) {
    if (b->options.no_prefix_cache) return NULL;
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *p = b->running[i];
        if (p->n_open < 1 || p->n_done >= p->n_prompt) continue;
        const int32_t most = p->n_prompt < r->n_prompt - 1 ? p->n_prompt : r->n_prompt - 1;
        int32_t same = 0;
        while (same < most && p->tokens[same] == r->tokens[same]) same++;
        if (same / WTL_KV_BLOCK * WTL_KV_BLOCK - p->n_done >= SHARED_MIN_TOK) return p;
    }
    return NULL;
}

static bool goes_before(const batch_user *a, const batch_user *b) {
    return a->served_tok < b->served_tok || (a->served_tok == b->served_tok && a->turn < b->turn);
}

// Oldest waiting request that has been passed often enough; NULL: none.
static const batch_request *passed_enough(const wtl_batch *b) {
    const batch_request *out = NULL;
    for (const batch_user *u = b->users; u; u = u->next)
        if (u->first && u->first->n_overtaken >= OVERTAKE_TURNS * b->options.n_parallel && (!out || u->first->id < out->id)) out = u->first;
    return out;
}

static void start(wtl_batch *b, batch_request *r) {
    for (batch_user *u = b->users; u; u = u->next)
        if (u->first && u->first->id < r->id && !fits(b, u->first)) u->first->n_overtaken++;
    batch_unqueue(b, r);
    b->running[b->n_running++] = r;
}

// What user u would have done next: a prompt of theirs that goes on, else their oldest waiting request.
static batch_request *next_of(const wtl_batch *b, const batch_user *u, const batch_request *only, bool *waits) {
    *waits = false;
    for (int32_t i = 0; i < b->n_running; i++)
        if (b->running[i]->owner == u && has_prompt_left(b->running[i])) return b->running[i];
    batch_request *r = u->first;
    if (!r) return NULL;
    batch_request *ahead = forerunner(b, r);
    if (ahead) return has_prompt_left(ahead) ? ahead : NULL; // helps it along, at u's cost
    if ((only && r != only) || !fits(b, r)) return NULL;
    *waits = true;
    return r;
}

batch_request *batch_next_prompt(wtl_batch *b, batch_user **payer, bool *starts) {
    const batch_request *only = passed_enough(b);
    batch_request *best = NULL;
    for (batch_user *u = b->users; u; u = u->next) {
        bool waits;
        if (best && !goes_before(u, *payer)) continue;
        batch_request *r = next_of(b, u, only, &waits);
        if (!r) continue;
        best = r;
        *payer = u;
        *starts = waits;
    }
    if (!best) return NULL;
    if (*starts) start(b, best);
    (*payer)->turn = ++b->last_turn;
    return best;
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
        prompt += r->n_prompt - r->n_done;
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
            prompt += r->n_prompt;
            reply += r->n_choices * (r->n_reply_max < b->reply_tok ? r->n_reply_max : b->reply_tok);
        }
    // The newcomer starts when all but one place are still taken, on average by replies half done.
    const double others = (n_seqs > 1 ? n_seqs - 1 : 0) * b->reply_tok / 2;
    reply = reply > others + 1 ? reply - others : 1;
    const double wait = prompt / rate(&b->prompt_speed, 100e-9) + reply / rate(&b->reply_speed, 20e-9);
    return wait < 1e18 ? (uint64_t)wait : (uint64_t)1e18;
}
