// The JSON automaton: one state per place in the grammar, a stack of one bit per level. See json_guard.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/json_guard.h"

typedef enum guard_state {
    AT_START,        // only a map may begin
    AT_VALUE,        // any value
    AT_VALUE_OR_END, // behind [
    AT_KEY_OR_END,   // behind {
    AT_KEY,          // behind , in a map
    AT_COLON,
    AT_NEXT,         // behind a value: , or the end of its map or list
    AT_END,          // the document is complete
    IN_STRING,
    IN_CHARACTER,    // behind the first byte of a longer UTF-8 character
    IN_ESCAPE,       // behind a backslash
    IN_HEX,          // behind \u
    IN_WORD,
    IN_MINUS,
    IN_ZERO,
    IN_INT,
    IN_POINT,
    IN_FRAC,
    IN_EXP,
    IN_EXP_SIGN,
    IN_EXP_DIGITS,
} guard_state;

void json_guard_begin(json_guard *g) { *g = (json_guard){.state = AT_START}; }

bool json_guard_complete(const json_guard *g) { return g->state == AT_END; }

static bool go(json_guard *g, guard_state state) {
    g->state = (uint8_t)state;
    g->n_space = 0;
    return true;
}

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static bool in_map(const json_guard *g) { return g->maps >> (g->depth - 1) & 1; }

static bool open_level(json_guard *g, bool map) {
    if (g->depth == JSON_GUARD_DEPTH) return false;
    const uint64_t bit = UINT64_C(1) << g->depth++;
    g->maps = map ? g->maps | bit : g->maps & ~bit;
    return go(g, map ? AT_KEY_OR_END : AT_VALUE_OR_END);
}

static bool close_level(json_guard *g, bool map) {
    if (in_map(g) != map) return false;
    g->depth--;
    return go(g, g->depth ? AT_NEXT : AT_END);
}

static bool begin_string(json_guard *g, bool key) {
    g->key = key;
    g->want_low = false;
    return go(g, IN_STRING);
}

static bool begin_word(json_guard *g, const char *word) {
    g->word = word;
    g->n = 1;
    return go(g, IN_WORD);
}

static bool begin_value(json_guard *g, uint8_t c) {
    g->n = 1;
    switch (c) {
    case '{': return open_level(g, true);
    case '[': return open_level(g, false);
    case '"': return begin_string(g, false);
    case 't': return begin_word(g, "true");
    case 'f': return begin_word(g, "false");
    case 'n': return begin_word(g, "null");
    case '-': return go(g, IN_MINUS);
    case '0': return go(g, IN_ZERO);
    default: return is_digit(c) && go(g, IN_INT);
    }
}

static bool between(json_guard *g, uint8_t c) {
    if (g->state == AT_END) return false;
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') return ++g->n_space <= JSON_GUARD_SPACES + (g->depth < 62 ? 4 * g->depth : 248);
    switch ((guard_state)g->state) {
    case AT_START: return c == '{' && open_level(g, true);
    case AT_VALUE: return begin_value(g, c);
    case AT_VALUE_OR_END: return c == ']' ? close_level(g, false) : begin_value(g, c);
    case AT_KEY_OR_END: return c == '}' ? close_level(g, true) : c == '"' && begin_string(g, true);
    case AT_KEY: return c == '"' && begin_string(g, true);
    case AT_COLON: return c == ':' && go(g, AT_VALUE);
    case AT_NEXT:
        if (c == ',') return go(g, in_map(g) ? AT_KEY : AT_VALUE);
        return (c == '}' || c == ']') && close_level(g, c == '}');
    default: return false;
    }
}

// The first byte of a character says how many follow and bounds the second (RFC 3629: no overlong forms, surrogates, or beyond U+10FFFF).
static bool begin_character(json_guard *g, uint8_t c) {
    if (c < 0xc2 || c > 0xf4) return false;
    g->n_more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    g->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    g->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return go(g, IN_CHARACTER);
}

static bool in_string(json_guard *g, uint8_t c) {
    if (c == '\\') return go(g, IN_ESCAPE);
    if (g->want_low || c < 0x20) return false;
    if (c == '"') return go(g, g->key ? AT_COLON : AT_NEXT);
    return c < 0x80 || begin_character(g, c);
}

static bool in_character(json_guard *g, uint8_t c) {
    if (c < g->low || c > g->high) return false;
    g->low = 0x80;
    g->high = 0xbf;
    return --g->n_more > 0 || go(g, IN_STRING);
}

static bool in_escape(json_guard *g, uint8_t c) {
    g->n = 0;
    g->hex = 0;
    if (c == 'u') return go(g, IN_HEX);
    if (g->want_low) return false;
    const bool known = c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' || c == 't';
    return known && go(g, IN_STRING);
}

// What stands so far must still be able to become an allowed code unit: after a high surrogate DC00 to DFFF, else neither that nor 0000.
static bool unit_possible(const json_guard *g) {
    const unsigned shift = 4u * (4u - g->n), first = (unsigned)g->hex << shift, last = first + (1u << shift) - 1;
    if (g->want_low) return first <= 0xdfff && last >= 0xdc00;
    return last > 0 && !(first >= 0xdc00 && last <= 0xdfff);
}

static bool in_hex(json_guard *g, uint8_t c) {
    const uint8_t lower = c | 0x20;
    if (!is_digit(c) && (lower < 'a' || lower > 'f')) return false;
    g->hex = (uint16_t)(g->hex << 4 | (is_digit(c) ? c - '0' : lower - 'a' + 10));
    g->n++;
    if (!unit_possible(g)) return false;
    if (g->n < 4) return true;
    g->want_low = g->hex >= 0xd800 && g->hex <= 0xdbff;
    return go(g, IN_STRING);
}

static bool digit(json_guard *g, uint8_t limit) { return ++g->n <= limit; }

static bool first_digit(json_guard *g, guard_state state) {
    g->n = 1;
    return go(g, state);
}

// A byte that is no part of the number ends it.
static bool number_ends(json_guard *g, uint8_t c) {
    go(g, AT_NEXT);
    return between(g, c);
}

static bool in_number(json_guard *g, uint8_t c) {
    const bool exponent = c == 'e' || c == 'E';
    switch ((guard_state)g->state) {
    case IN_MINUS: return c == '0' ? go(g, IN_ZERO) : is_digit(c) && first_digit(g, IN_INT);
    case IN_ZERO: return c == '.' ? go(g, IN_POINT) : exponent ? go(g, IN_EXP) : number_ends(g, c);
    case IN_INT: return is_digit(c) ? digit(g, JSON_GUARD_INT_DIGITS) : c == '.' ? go(g, IN_POINT) : exponent ? go(g, IN_EXP) : number_ends(g, c);
    case IN_POINT: return is_digit(c) && first_digit(g, IN_FRAC);
    case IN_FRAC: return is_digit(c) ? digit(g, JSON_GUARD_FRAC_DIGITS) : exponent ? go(g, IN_EXP) : number_ends(g, c);
    case IN_EXP: return c == '+' || c == '-' ? go(g, IN_EXP_SIGN) : is_digit(c) && first_digit(g, IN_EXP_DIGITS);
    case IN_EXP_SIGN: return is_digit(c) && first_digit(g, IN_EXP_DIGITS);
    case IN_EXP_DIGITS: return is_digit(c) ? digit(g, JSON_GUARD_EXP_DIGITS) : number_ends(g, c);
    default: return false;
    }
}

static bool in_word(json_guard *g, uint8_t c) {
    if (c != (uint8_t)g->word[g->n]) return false;
    g->n++;
    return g->word[g->n] != '\0' || go(g, AT_NEXT);
}

static bool take(json_guard *g, uint8_t c) {
    switch ((guard_state)g->state) {
    case IN_STRING: return in_string(g, c);
    case IN_CHARACTER: return in_character(g, c);
    case IN_ESCAPE: return in_escape(g, c);
    case IN_HEX: return in_hex(g, c);
    case IN_WORD: return in_word(g, c);
    default: return g->state >= IN_MINUS ? in_number(g, c) : between(g, c);
    }
}

bool json_guard_push(json_guard *g, const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!take(g, (uint8_t)bytes[i])) return false;
    return true;
}
