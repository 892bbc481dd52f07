// UTF-8: well-formedness, and the streaming decoder that never lets half a character out.
//
// Well-formed is what Unicode 15 table 3-7 lists: no overlong forms, no surrogates, nothing above U+10FFFF. Ill-formed
// bytes become U+FFFD one maximal subpart at a time (Unicode 15, section 3.9), so that the output does not depend on how
// the input was cut into pushes.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"

// Length a lead byte announces (0: no lead byte) and the range its second byte must lie in.
static uint32_t lead_info(uint8_t c, uint8_t *lo, uint8_t *hi) {
    *lo = 0x80;
    *hi = 0xBF;
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return 0;
    if (c < 0xE0) return 2;
    if (c < 0xF0) {
        if (c == 0xE0) *lo = 0xA0;
        if (c == 0xED) *hi = 0x9F;
        return 3;
    }
    if (c == 0xF0) *lo = 0x90;
    if (c == 0xF4) *hi = 0x8F;
    return 4;
}

// Bytes at s that are, or could still become with more input, the start of one character. *complete: it is one.
// 0 when s[0] cannot start a character.
static uint32_t subpart(const uint8_t *s, size_t len, bool *complete) {
    uint8_t lo, hi;
    uint32_t want = lead_info(s[0], &lo, &hi), have = 1;
    *complete = false;
    if (want == 0) return 0;
    for (; have < want && have < len; have++, lo = 0x80, hi = 0xBF)
        if (s[have] < lo || s[have] > hi) break;
    *complete = have == want;
    return have;
}

uint32_t utf8_char_len(const char *s, size_t len) {
    bool complete;
    uint32_t n = subpart((const uint8_t *)s, len, &complete);
    return complete ? n : 0;
}

size_t utf8_valid_prefix(const char *s, size_t len) {
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        while (len - i >= 8 && (memcpy(&word, s + i, 8), (word & UINT64_C(0x8080808080808080)) == 0)) i += 8;
        if (i == len) break;
        uint32_t n = utf8_char_len(s + i, len - i);
        if (n == 0) break;
        i += n;
    }
    return i;
}

#define REPLACEMENT "\xEF\xBF\xBD"

// Appends when it fits; what does not fit is lost only when the caller's buffer breaks the contract.
static void put(char *out, size_t cap, size_t *n, const char *bytes, size_t len) {
    if (len > cap - *n) return;
    memcpy(out + *n, bytes, len);
    *n += len;
}

size_t utf8_stream_push(wtl_utf8_stream *state, const char *bytes, size_t len, char *out, size_t cap) {
    size_t n = 0, i = 0;
    while (i < len || state->n_pending) {
        if (state->n_pending == 0) { // the common case: copy whole runs
            size_t run = utf8_valid_prefix(bytes + i, len - i);
            put(out, cap, &n, bytes + i, run);
            i += run;
            if (i == len) break;
        }
        // At most four bytes decide about the next character: pending ones first.
        uint8_t head[4];
        size_t take = sizeof head - state->n_pending;
        if (take > len - i) take = len - i;
        if (state->n_pending) memcpy(head, state->pending, state->n_pending);
        if (take) memcpy(head + state->n_pending, bytes + i, take);
        size_t have = state->n_pending + take;
        bool complete;
        uint32_t used = subpart(head, have, &complete);
        if (!complete && used == have && used < 4) { // may still become a character
            memcpy(state->pending, head, used);
            state->n_pending = used;
            break;
        }
        if (complete) put(out, cap, &n, (const char *)head, used);
        else put(out, cap, &n, REPLACEMENT, 3);
        if (used == 0) used = 1;
        i += used - state->n_pending; // pending bytes are a prefix of what was used: they were a valid start
        state->n_pending = 0;
    }
    return n;
}

size_t utf8_stream_finish(wtl_utf8_stream *state, char *out, size_t cap) {
    size_t n = 0;
    if (state->n_pending) put(out, cap, &n, REPLACEMENT, 3);
    state->n_pending = 0;
    return n;
}
