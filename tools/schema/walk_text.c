// The parts of a document that are no structure: strings, keys, words, numbers, literals. One byte at a time; a byte is taken only if what stands
// then can be completed. See walk_private.h.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "tools/schema/walk_private.h"

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static const schema_pattern *pattern_of(const json_schema *s, const walk_branch *b) {
    const int32_t i = s->nodes[b->node].pattern;
    return i < 0 ? NULL : s->patterns[i];
}

// ---- Characters --------------------------------------------------------------------------------------------------------------
// The first byte of a character says how many follow and bounds the second (RFC 3629: no overlong forms, surrogates, or beyond U+10FFFF).
static bool begin_character(walk_branch *b, uint8_t c) {
    if (c < 0xc2 || c > 0xf4) return false;
    b->n_more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    b->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    b->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    b->character = c & (0x3fu >> b->n_more);
    return true;
}

static bool more_character(walk_branch *b, uint8_t c) {
    if (c < b->low || c > b->high) return false;
    b->low = 0x80;
    b->high = 0xbf;
    b->n_more--;
    b->character = b->character << 6 | (c & 0x3f);
    return true;
}

// Some character that begins with these bytes fits the pattern.
static bool character_possible(const schema_pattern *p, const walk_branch *b) {
    const unsigned rest = 6u * (b->n_more - 1u);
    const uint32_t low = (b->character << 6 | (b->low & 0x3f)) << rest, high = (b->character << 6 | (b->high & 0x3f)) << rest | ((1u << rest) - 1);
    return schema_pattern_any(p, b->pattern_state, low, high);
}

// ---- Strings -----------------------------------------------------------------------------------------------------------------
static const char ESCAPES[] = "\"\\/bfnrt", ESCAPED[] = "\"\\/\b\f\n\r\t";

// A character of the string is complete.
static bool take_character(const json_schema *s, walk_branch *b, uint32_t character) {
    const schema_pattern *p = pattern_of(s, b);
    if (p && (b->pattern_state = schema_pattern_next(p, b->pattern_state, character)) == PATTERN_DEAD) return false;
    return walk_go(b, IN_STRING);
}

static bool string_ends(const json_schema *s, walk_branch *b) {
    const schema_pattern *p = pattern_of(s, b);
    if (b->key) {
        if (b->want_low) return false;
        b->key = false;
        b->node = s->nodes[b->frames[b->depth - 1].node].additional;
        return walk_go(b, AT_COLON);
    }
    if (b->want_low || b->n_chars < s->nodes[b->node].min_length || (p && !p->accepts[b->pattern_state])) return false;
    return walk_value_ends(b);
}

static bool begin_escape(const json_schema *s, walk_branch *b) {
    const schema_pattern *p = pattern_of(s, b);
    bool any = !p;
    for (size_t i = 0; p && ESCAPED[i] && !any; i++) any = schema_pattern_any(p, b->pattern_state, (uint8_t)ESCAPED[i], (uint8_t)ESCAPED[i]);
    return any && walk_go(b, IN_ESCAPE);
}

static bool in_string(const json_schema *s, walk_branch *b, uint8_t c) {
    if (c == '"') return string_ends(s, b);
    if (b->want_low) return c == '\\' && walk_go(b, IN_ESCAPE);
    if (c < 0x20 || b->n_chars >= s->nodes[b->node].max_length) return false;
    b->n_chars++;
    if (c == '\\') return begin_escape(s, b);
    if (c < 0x80) return take_character(s, b, c);
    const schema_pattern *p = pattern_of(s, b);
    return begin_character(b, c) && (!p || character_possible(p, b)) && walk_go(b, IN_CHARACTER);
}

static bool in_character(const json_schema *s, walk_branch *b, uint8_t c) {
    if (!more_character(b, c)) return false;
    if (b->n_more == 0) return take_character(s, b, b->character);
    const schema_pattern *p = pattern_of(s, b);
    return !p || character_possible(p, b);
}

static bool in_escape(const json_schema *s, walk_branch *b, uint8_t c) {
    b->n = 0;
    b->hex = 0;
    if (c == 'u') return !pattern_of(s, b) && walk_go(b, IN_HEX);
    const char *known = c && !b->want_low ? strchr(ESCAPES, c) : NULL;
    return known && take_character(s, b, (uint8_t)ESCAPED[known - ESCAPES]);
}

// What stands so far must still be able to become an allowed code unit: after a high surrogate DC00 to DFFF, else neither that nor 0000.
static bool unit_possible(const walk_branch *b) {
    const unsigned shift = 4u * (4u - b->n), first = (unsigned)b->hex << shift, last = first + (1u << shift) - 1;
    if (b->want_low) return first <= 0xdfff && last >= 0xdc00;
    return last > 0 && !(first >= 0xdc00 && last <= 0xdfff);
}

static bool in_hex(walk_branch *b, uint8_t c) {
    const uint8_t lower = c | 0x20;
    if (!is_digit(c) && (lower < 'a' || lower > 'f')) return false;
    b->hex = (uint16_t)(b->hex << 4 | (is_digit(c) ? c - '0' : lower - 'a' + 10));
    b->n++;
    if (!unit_possible(b)) return false;
    if (b->n < 4) return true;
    b->want_low = b->hex >= 0xd800 && b->hex <= 0xdbff;
    return walk_go(b, IN_STRING);
}

bool walk_in_text(const json_schema *s, walk_branch *b, uint8_t c) {
    switch ((walk_state)b->state) {
    case IN_STRING: return in_string(s, b, c);
    case IN_CHARACTER: return in_character(s, b, c);
    case IN_ESCAPE: return in_escape(s, b, c);
    default: return in_hex(b, c);
    }
}

// ---- Keys --------------------------------------------------------------------------------------------------------------------
// Two readings at once: a key of the schema, spelled as in its list, and a free one, which must not be spelled like one of those. Free keys have
// no \u and no \/, so that no key has two spellings. In a map that names none any string is a key.
void walk_begin_key(const json_schema *s, walk_branch *b) {
    const schema_node *map = &s->nodes[b->frames[b->depth - 1].node];
    b->want_low = false;
    if ((b->key = map->n_properties == 0)) {
        b->node = NODE_ANY;
        b->n_chars = 0;
        walk_go(b, IN_STRING);
        return;
    }
    b->first = (uint16_t)map->first_key;
    b->last = (uint16_t)(map->first_key + map->n_properties);
    b->n_bytes = 0;
    b->n_more = 0;
    b->escaped = false;
    b->free_key = walk_free_key(s, b);
    walk_go(b, IN_KEY);
}

// Goes on in the free reading. *ends: the key is complete.
static bool free_byte(walk_branch *b, uint8_t c, bool *ends) {
    if (b->n_more) return more_character(b, c);
    if (b->escaped) {
        b->escaped = false;
        return c && c != '/' && strchr(ESCAPES, c);
    }
    if (c == '"') return *ends = true;
    if (c == '\\') return b->escaped = true;
    return c >= 0x20 && (c < 0x80 || begin_character(b, c));
}

static bool key_is(const json_schema *s, walk_branch *b, uint16_t property) {
    walk_frame *f = &b->frames[b->depth - 1];
    const schema_node *map = &s->nodes[f->node];
    if (!walk_in_window(s, b, property)) return false;
    b->node = s->properties[map->first_property + property].node;
    f->index = (uint16_t)(property + 1);
    return walk_go(b, AT_COLON);
}

bool walk_in_key(const json_schema *s, walk_branch *b, uint8_t c) {
    walk_frame *f = &b->frames[b->depth - 1];
    bool ends = false, named = b->first < b->last && schema_narrow(s, &b->first, &b->last, b->n_bytes, c);
    if (!named) b->last = b->first;
    b->n_bytes++;
    if (named && s->words[b->first].len == b->n_bytes) return key_is(s, b, s->words[b->first].value);
    b->free_key = b->free_key && free_byte(b, c, &ends);
    if (b->free_key && ends) {
        const schema_node *map = &s->nodes[f->node];
        b->node = map->additional;
        f->index = (uint16_t)map->n_properties;
        return walk_go(b, AT_COLON);
    }
    for (uint16_t i = b->first; !b->free_key && i < b->last; i++)
        if (walk_in_window(s, b, s->words[i].value)) return true;
    return b->free_key;
}

// ---- Words and literals --------------------------------------------------------------------------------------------------------
static const char *const WORDS[] = {"true", "false", "null"};

static bool begin_word(walk_branch *b, uint16_t word) {
    b->first = word;
    b->n = 1;
    return walk_go(b, IN_WORD);
}

bool walk_in_word(walk_branch *b, uint8_t c) {
    if (c != (uint8_t)WORDS[b->first][b->n]) return false;
    b->n++;
    return WORDS[b->first][b->n] != '\0' || walk_value_ends(b);
}

static bool literal_whole(const json_schema *s, const walk_branch *b) { return s->words[b->first].len == b->n_bytes; }

bool walk_in_literal(const json_schema *s, walk_branch *b, uint8_t c) {
    uint16_t first = b->first, last = b->last;
    if (schema_narrow(s, &first, &last, b->n_bytes, c)) {
        b->first = first;
        b->last = last;
        b->n_bytes++;
        return !literal_whole(s, b) || s->words[first].number || walk_value_ends(b);
    }
    return literal_whole(s, b) && walk_value_ends(b) && walk_between(s, b, c); // a number
}

// ---- Numbers -----------------------------------------------------------------------------------------------------------------
static const schema_node *number_node(const json_schema *s, const walk_branch *b) { return &s->nodes[b->node]; }

static bool reaches(const json_schema *s, const walk_branch *b) {
    const schema_bounds *bounds = &number_node(s, b)->bounds;
    const bool in_fraction = b->state == IN_POINT || b->state == IN_FRAC;
    return !bounds->set || schema_number_reaches(bounds, b->negative, b->digits, b->n_int, b->state == IN_FRAC ? b->n : 0, in_fraction);
}

static bool number_may_end(const json_schema *s, const walk_branch *b) {
    const schema_bounds *bounds = &number_node(s, b)->bounds;
    if (b->state != IN_ZERO && b->state != IN_INT && b->state != IN_FRAC && b->state != IN_EXP_DIGITS) return false;
    return !bounds->set || schema_number_is(bounds, b->negative, b->digits, b->state == IN_FRAC ? b->n : 0);
}

static bool whole_digit(const json_schema *s, walk_branch *b, uint8_t c) {
    const schema_bounds *bounds = &number_node(s, b)->bounds;
    const int most = bounds->set ? JSON_WALK_BOUND_DIGITS - bounds->n_frac : JSON_WALK_INT_DIGITS;
    if (b->n_int >= most) return false;
    b->n_int++;
    if (bounds->set) b->digits = 10 * b->digits + (c - '0');
    return walk_go(b, b->n_int == 1 && c == '0' ? IN_ZERO : IN_INT) && reaches(s, b);
}

static bool fraction_digit(const json_schema *s, walk_branch *b, uint8_t c) {
    const schema_bounds *bounds = &number_node(s, b)->bounds;
    if (b->state == IN_POINT) b->n = 0;
    if (++b->n > (bounds->set ? bounds->n_frac : JSON_WALK_FRAC_DIGITS)) return false;
    if (bounds->set) b->digits = 10 * b->digits + (c - '0');
    return walk_go(b, IN_FRAC) && reaches(s, b);
}

static bool exponent_digit(walk_branch *b) {
    if (b->state != IN_EXP_DIGITS) b->n = 0;
    return ++b->n <= JSON_WALK_EXP_DIGITS && walk_go(b, IN_EXP_DIGITS);
}

static bool point(const json_schema *s, walk_branch *b) {
    const schema_node *node = number_node(s, b);
    if (!(node->types & TYPE_NUMBER) || (node->bounds.set && node->bounds.n_frac == 0)) return false;
    return walk_go(b, IN_POINT) && reaches(s, b);
}

static bool exponent(const json_schema *s, walk_branch *b) {
    const schema_node *node = number_node(s, b);
    return (node->types & TYPE_NUMBER) && !node->bounds.set && walk_go(b, IN_EXP);
}

bool walk_in_number(const json_schema *s, walk_branch *b, uint8_t c) {
    const walk_state state = (walk_state)b->state;
    if (is_digit(c)) {
        if (state == IN_MINUS || state == IN_INT) return whole_digit(s, b, c);
        if (state == IN_POINT || state == IN_FRAC) return fraction_digit(s, b, c);
        return state >= IN_EXP && exponent_digit(b);
    }
    if (c == '.' && (state == IN_ZERO || state == IN_INT)) return point(s, b);
    if ((c == 'e' || c == 'E') && (state == IN_ZERO || state == IN_INT || state == IN_FRAC)) return exponent(s, b);
    if ((c == '+' || c == '-') && state == IN_EXP) return walk_go(b, IN_EXP_SIGN);
    return number_may_end(s, b) && walk_value_ends(b) && walk_between(s, b, c); // a byte that is no part of the number ends it
}

static bool begin_number(const json_schema *s, walk_branch *b, uint8_t c) {
    b->digits = 0;
    b->n = b->n_int = 0;
    b->negative = c == '-';
    walk_go(b, IN_MINUS);
    return c == '-' ? reaches(s, b) : whole_digit(s, b, c);
}

// ---- Beginnings and ends -------------------------------------------------------------------------------------------------------
bool walk_begin_scalar(const json_schema *s, walk_branch *b, uint8_t c) {
    const schema_node *node = &s->nodes[b->node];
    if (node->is_enum) {
        b->first = (uint16_t)node->first_word;
        b->last = (uint16_t)(node->first_word + node->n_words);
        b->n_bytes = 0;
        walk_go(b, IN_LITERAL);
        if (!schema_narrow(s, &b->first, &b->last, 0, c)) return false;
        b->n_bytes = 1;
        return true; // no literal that one byte ends is no number
    }
    if (c == '"') {
        b->n_chars = 0;
        b->pattern_state = 0;
        b->want_low = false;
        return (node->types & TYPE_STRING) && walk_go(b, IN_STRING);
    }
    if (c == 't' || c == 'f') return (node->types & TYPE_BOOL) && begin_word(b, c == 'f');
    if (c == 'n') return (node->types & TYPE_NULL) && begin_word(b, 2);
    return (c == '-' || is_digit(c)) && (node->types & (TYPE_NUMBER | TYPE_INTEGER)) && begin_number(s, b, c);
}

bool walk_scalar_may_end(const json_schema *s, const walk_branch *b) {
    return b->state >= IN_MINUS ? number_may_end(s, b) : b->state == IN_LITERAL && literal_whole(s, b) && s->words[b->first].number;
}
