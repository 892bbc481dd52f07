// One phase behind the other. See reply_guard.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/reply_guard.h"

#include <string.h>

enum { FREE, BEFORE, DOCUMENT, AFTER, BEHIND, DONE }; // BEHIND: a document was whole, another may begin
enum { SPACES_MAX = 4 };                              // in front of `before` and `after`

static void enter(reply_guard *g, uint8_t phase) {
    g->phase = phase;
    g->n = 0;
    g->n_space = 0;
    if (phase == BEFORE && !*g->rule->before) g->phase = DOCUMENT;
    if (phase == AFTER && !*g->rule->after) g->phase = DONE;
}

static void begin_free(reply_guard *g, const char *until) {
    g->until = until;
    enter(g, FREE);
}

// Reasoning lies behind, or there was none.
static void begin_reply(reply_guard *g) {
    if (g->rule->start) begin_free(g, g->rule->start);
    else enter(g, BEFORE);
}

bool reply_guard_begin(reply_guard *g, const reply_rule *rule) {
    *g = (reply_guard){.rule = rule, .walk = json_walk_new(rule->schema)};
    if (rule->reasoning) begin_free(g, rule->reasoning);
    else begin_reply(g);
    return g->walk != NULL;
}

void reply_guard_free(reply_guard *g) {
    json_walk_free(g->walk);
    g->walk = NULL;
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// The longest beginning of `word` that is an end of its first n bytes and c.
static uint32_t match_further(const char *word, uint32_t n, char c) {
    for (uint32_t k = n + 1; k > 0; k--)
        if (word[k - 1] == c && memcmp(word, word + (n + 1 - k), k - 1) == 0) return k;
    return 0;
}

static bool in_free(reply_guard *g, char c) {
    g->n = match_further(g->until, g->n, c);
    if (g->until[g->n]) return true;
    if (g->until == g->rule->reasoning) begin_reply(g);
    else enter(g, BEFORE);
    return true;
}

static bool in_word(reply_guard *g, char c, const char *word, uint8_t next) {
    if (g->n == 0 && is_space(c)) return ++g->n_space <= SPACES_MAX;
    if (word[g->n] != c) return false;
    if (!word[++g->n]) enter(g, next);
    return true;
}

static void document_ends(reply_guard *g) {
    if (!g->rule->again) enter(g, DONE);
    else if (g->rule->start) begin_free(g, g->rule->start);
    else enter(g, BEHIND);
}

static bool step(reply_guard *g, char c) {
    switch (g->phase) {
    case FREE: return in_free(g, c);
    case BEFORE:
    case BEHIND: return in_word(g, c, g->rule->before, DOCUMENT);
    case AFTER:
        if (!in_word(g, c, g->rule->after, DONE)) return false;
        if (g->phase == DONE) document_ends(g);
        return true;
    default: return false;
    }
}

// A try does not copy the walk, so bytes that go out of one document and into another are refused; single bytes always remain.
static bool run(reply_guard *g, const char *bytes, size_t len, bool keep) {
    bool walked = false;
    for (size_t i = 0; i < len;) {
        if (g->phase != DOCUMENT) {
            if (!step(g, bytes[i++])) return false;
            continue;
        }
        size_t taken = 0;
        if (walked || !(keep ? json_walk_push : json_walk_allows)(g->walk, bytes + i, len - i, &taken)) return false;
        walked = true;
        i += taken;
        if (keep && json_walk_complete(g->walk)) json_walk_restart(g->walk);
        else if (keep || i == len) continue;
        enter(g, AFTER);
    }
    return true;
}

bool reply_guard_allows(reply_guard *g, const char *bytes, size_t len) {
    reply_guard trial = *g;
    return run(&trial, bytes, len, false);
}

void reply_guard_push(reply_guard *g, const char *bytes, size_t len) { run(g, bytes, len, true); }

bool reply_guard_may_end(const reply_guard *g) {
    switch (g->phase) {
    case FREE: return g->rule->start != NULL;
    case DOCUMENT: return !*g->rule->after && json_walk_may_end(g->walk);
    case BEHIND: return g->n == 0;
    default: return g->phase == DONE;
    }
}

bool reply_guard_complete(const reply_guard *g) { return g->phase == DONE; }
