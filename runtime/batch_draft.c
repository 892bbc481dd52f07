// Guesses at a reply's next tokens from what its text has repeated: after the longest ending that occurred before (in the prompt or in
// the reply) comes what came then. A step runs the guesses behind the reply's last token and chooses at each of them as if they had come
// one by one, so the reply is the same, token for token and bit for bit; what was guessed wrong is forgotten. A step waits for the
// weights to come from memory, so a few rows more cost little; when rows do cost (many replies at once), only sure guesses are tried.
//
// The method is known as prompt lookup, or n-gram speculation (Saxena 2023; Leviathan et al. 2023 for checking drafts in one step).
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "runtime/batch_private.h"

enum { LOOK_BACK_TOK = 4096 }; // one pass over so many tokens costs microseconds

static const double FIRST_TRUST[BATCH_DRAFT_MATCH + 1] = {0, 0.3, 0.5, 0.65, 0.75};
static const double TRUST_MEMORY = 12; // guesses that a trust remembers

void batch_draft_open(batch_draft_trust *trust) { memcpy(trust->hit, FIRST_TRUST, sizeof trust->hit); }

void batch_draft_learn(batch_draft_trust *trust, int32_t n_match, int32_t n_tried, int32_t n_right) {
    // Guesses behind the first wrong one say nothing.
    const int32_t n_told = n_right < n_tried ? n_right + 1 : n_tried;
    double *hit = &trust->hit[n_match];
    for (int32_t i = 0; i < n_told; i++) *hit += ((i < n_right) - *hit) / TRUST_MEMORY;
}

// ---- The text ---------------------------------------------------------------------------------------------------------------
// Length of the longest ending of the text, up to BATCH_DRAFT_MATCH tokens, that occurred before; *next: what followed its latest occurrence.
static int32_t find_ending(const batch_choice *c, int32_t n_text, int32_t *next) {
    const int32_t last = n_text - 1, oldest = last > LOOK_BACK_TOK ? last - LOOK_BACK_TOK : 0;
    int32_t best = 0;
    for (int32_t at = last - 1; at >= oldest && best < BATCH_DRAFT_MATCH; at--) {
        int32_t n = 0;
        while (n < BATCH_DRAFT_MATCH && n <= at && c->text[at - n] == c->text[last - n]) n++;
        if (n > best) {
            best = n;
            *next = at + 1;
        }
    }
    return best;
}

// ---- How many are worth a try -------------------------------------------------------------------------------------------------
// What one row more costs. While replies came one row at a time nothing tells the cost of their rows from that of the step; what prompts have
// taught about rows is then the better figure, so the lower one counts.
static double row_ns(const wtl_batch *b, const batch_load *load, uint64_t positions) {
    batch_load decode = *load, prompt = *load;
    decode.n_decode++;
    prompt.n_prompt++;
    decode.kv_positions += positions;
    prompt.kv_positions += positions;
    return fmin(batch_pace_ns(&b->pace, &decode), batch_pace_ns(&b->pace, &prompt)) - batch_pace_ns(&b->pace, load);
}

// Guess i is right with hit^i. It is worth its row while it brings tokens faster than the step does without it.
static int32_t worth(const wtl_batch *b, const batch_choice *c, const batch_load *load, double hit, int32_t most) {
    double tokens = load->n_decode, right = 1, took_ns = batch_pace_ns(&b->pace, load);
    const int32_t n_past = c->request->n_prompt + c->n_decoded - 1;
    int32_t n = 0;
    for (; n < most; n++) {
        const double more_ns = row_ns(b, load, batch_positions(b, n_past + 1 + n, 1));
        right *= hit;
        if (right * took_ns <= more_ns * tokens) break;
        tokens += right;
        took_ns += more_ns;
    }
    return n;
}

int32_t batch_draft(const wtl_batch *b, batch_choice *c, const batch_load *load, int32_t most, int32_t *tokens) {
    const batch_request *r = c->request;
    const int32_t n_text = r->n_prompt + c->n_decoded, left = r->n_reply_max - c->n_decoded - 1; // the last token is never fed
    if (most > b->options.n_draft) most = b->options.n_draft;
    if (most > left) most = left;
    if (most < 1) return 0;
    int32_t next = 0;
    c->n_match = find_ending(c, n_text, &next);
    if (!c->n_match) return 0;
    const int32_t n = worth(b, c, load, c->trust.hit[c->n_match], most);
    // What follows may run into the ending itself: then the text goes round, and so do the guesses.
    for (int32_t i = 0; i < n; i++) tokens[i] = next + i < n_text ? c->text[next + i] : tokens[next + i - n_text];
    return n;
}
