// Stop strings and think tags. See reply_text.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/reply_text.h"

#include <stdint.h>
#include <string.h>

enum { // where the text stands
    PLACE_FRONT, // only white space or the beginning of think_open so far
    PLACE_OPENED, // behind think_open: white space is dropped
    PLACE_INSIDE,
    PLACE_CLOSED, // behind think_close: white space is dropped
    PLACE_ANSWER,
};

void reply_text_begin(reply_text *t) {
    const bool tags = t->think_open && t->think_close && *t->think_open && *t->think_close;
    t->place = !tags ? PLACE_ANSWER : t->thinks ? PLACE_OPENED : PLACE_FRONT;
    t->thinking = tags;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t skip_space(const char *text, size_t from, size_t end) {
    while (from < end && is_space(text[from])) from++;
    return from;
}

// Length of the longest end of text[from..end) that is a proper beginning of `word`.
static size_t half_word(const char *text, size_t from, size_t end, const char *word) {
    const size_t n = strlen(word);
    for (size_t k = n - 1 < end - from ? n - 1 : end - from; k > 0; k--)
        if (memcmp(text + end - k, word, k) == 0) return k;
    return 0;
}

// PLACE_FRONT. True: decided.
static bool front(reply_text *t, size_t end, bool last) {
    const char *text = t->raw.bytes;
    const size_t at = skip_space(text, t->split, end), n = strlen(t->think_open), there = end - at < n ? end - at : n;
    if (there < n && !last && memcmp(text + at, t->think_open, there) == 0) return false;
    const bool opened = there == n && memcmp(text + at, t->think_open, n) == 0;
    if (opened) t->split = at + n;
    t->place = opened ? PLACE_OPENED : PLACE_ANSWER;
    return true;
}

// PLACE_INSIDE. True: think_close was found.
static bool inside(reply_text *t, size_t end, bool last) {
    const char *text = t->raw.bytes;
    const char *close = memmem(text + t->split, end - t->split, t->think_close, strlen(t->think_close));
    size_t until = close ? (size_t)(close - text) : last ? end : end - half_word(text, t->split, end, t->think_close);
    while (until > t->split && is_space(text[until - 1])) until--; // dropped if the tag follows, else it comes with what follows
    text_put(&t->reasoning, text + t->split, until - t->split);
    t->split = close ? (size_t)(close - text) + strlen(t->think_close) : until;
    if (close) t->place = PLACE_CLOSED;
    return close != NULL;
}

// Moves raw[split..end) on. last: nothing follows.
static void release(reply_text *t, size_t end, bool last) {
    if (t->split > end) return;
    bool on = true;
    while (on && t->place != PLACE_ANSWER) {
        if (t->place == PLACE_FRONT) on = front(t, end, last);
        else if (t->place == PLACE_INSIDE) on = inside(t, end, last);
        else {
            t->split = skip_space(t->raw.bytes, t->split, end);
            on = t->split < end;
            if (on) t->place = t->place == PLACE_OPENED ? PLACE_INSIDE : PLACE_ANSWER;
        }
    }
    if (t->place == PLACE_ANSWER && t->split < end) {
        text_put(&t->content, t->raw.bytes + t->split, end - t->split);
        t->split = end;
    }
    t->thinking = t->place < PLACE_CLOSED;
}

// Cuts at the stop string that was complete first (of two: the longer one), among those that touch raw[from..): so it does not matter how
// the text was cut into tokens.
static void find_stop(reply_text *t, size_t from) {
    size_t first_end = SIZE_MAX;
    for (size_t i = 0; i < t->n_stops; i++) {
        const size_t n = strlen(t->stops[i]), start = from >= n ? from - n + 1 : 0;
        const char *hit = memmem(t->raw.bytes + start, t->raw.len - start, t->stops[i], n);
        const size_t at = hit ? (size_t)(hit - t->raw.bytes) : 0;
        if (!hit || at + n > first_end || (at + n == first_end && at >= t->text_len)) continue;
        first_end = at + n;
        t->text_len = at;
        t->stopped = t->stops[i];
    }
}

static void take(reply_text *t, size_t n, bool last) {
    const size_t from = t->text_len;
    t->raw.len += n;
    t->text_len = t->raw.len;
    find_stop(t, from);
    size_t held = 0;
    for (size_t i = 0; !t->stopped && !last && i < t->n_stops; i++) {
        const size_t half = half_word(t->raw.bytes, 0, t->text_len, t->stops[i]);
        if (half > held) held = half;
    }
    if (t->text_len > 0) release(t, t->text_len - held, last || t->stopped);
}

void reply_text_push(reply_text *t, const char *bytes, size_t len) {
    const size_t room = 3 * (len + 4); // what wtl_text_push asks for
    if (t->stopped || len == 0 || !text_reserve(&t->raw, room)) return;
    take(t, wtl_text_push(&t->characters, bytes, len, t->raw.bytes + t->raw.len, room), false);
}

void reply_text_finish(reply_text *t) {
    enum { ROOM = 16 };
    if (t->stopped || !text_reserve(&t->raw, ROOM)) return;
    take(t, wtl_text_finish(&t->characters, t->raw.bytes + t->raw.len, ROOM), true);
}

bool reply_text_failed(const reply_text *t) { return t->raw.failed || t->content.failed || t->reasoning.failed; }

void reply_text_free(reply_text *t) {
    text_free(&t->raw);
    text_free(&t->content);
    text_free(&t->reasoning);
}
