// One branch of a walk, shared by walk.c (structure) and walk_text.c (strings, keys, numbers, literals).
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SCHEMA_WALK_PRIVATE_H
#define WTL_TOOLS_SCHEMA_WALK_PRIVATE_H

#include "tools/schema/schema_private.h"

typedef enum walk_state {
    AT_VALUE,        // a value of `node`
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
    IN_KEY,
    IN_WORD,         // true, false, null
    IN_LITERAL,
    IN_MINUS,        // numbers from here on
    IN_ZERO,
    IN_INT,
    IN_POINT,
    IN_FRAC,
    IN_EXP,
    IN_EXP_SIGN,
    IN_EXP_DIGITS,
} walk_state;

typedef struct walk_frame {
    uint16_t node;  // of the list or map
    uint16_t index; // list: items begun; map: the first property that may come next
    uint16_t map;   // 1: a map. No padding: branches are compared as bytes
} walk_frame;

typedef struct walk_branch {
    uint8_t state, depth;
    uint8_t n_space;   // white space bytes in a row
    uint8_t n;         // digits of a number's part, characters of a word, hex digits: so far
    uint8_t n_int;     // digits in front of the point
    uint8_t n_more;    // bytes that a UTF-8 character still needs
    uint8_t low, high; // bounds of the next one
    bool want_low;     // a high surrogate was read: only \uDC00 to \uDFFF may follow
    bool escaped;      // key: behind a backslash
    bool key;          // the string is a key of a map that names none
    bool free_key;     // key: it may be one that the schema does not name
    bool negative;
    uint16_t node;     // of the value that comes or is being read
    uint16_t first, last; // words that it may still be
    uint16_t pattern_state;
    uint16_t hex;      // of \uXXXX so far
    uint32_t n_bytes;  // of a key or literal
    uint32_t n_chars;  // of a string
    uint32_t character; // bits of a UTF-8 character so far
    uint64_t digits;   // of a bounded number, as one whole number
    walk_frame frames[JSON_WALK_DEPTH]; // [depth]; last, so that only what is in use is copied
} walk_branch;

static inline bool walk_go(walk_branch *b, walk_state state) {
    b->state = (uint8_t)state;
    b->n_space = 0;
    return true;
}

// walk.c
bool walk_value_ends(walk_branch *b);                               // what was read is of no further use: equal branches become alike
bool walk_between(const json_schema *s, walk_branch *b, uint8_t c); // white space and structure
bool walk_has_room(const json_schema *s, const walk_branch *b, uint16_t node); // a value of it fits the depth
bool walk_free_key(const json_schema *s, const walk_branch *b);     // a key that the schema does not name may come
bool walk_in_window(const json_schema *s, const walk_branch *b, uint16_t property); // this property may come

// walk_text.c: each takes one byte in its states
bool walk_begin_scalar(const json_schema *s, walk_branch *b, uint8_t c); // of the plain node b->node
void walk_begin_key(const json_schema *s, walk_branch *b);
bool walk_in_text(const json_schema *s, walk_branch *b, uint8_t c); // IN_STRING to IN_HEX
bool walk_in_key(const json_schema *s, walk_branch *b, uint8_t c);
bool walk_in_word(walk_branch *b, uint8_t c);
bool walk_in_literal(const json_schema *s, walk_branch *b, uint8_t c);
bool walk_in_number(const json_schema *s, walk_branch *b, uint8_t c);
bool walk_scalar_may_end(const json_schema *s, const walk_branch *b); // a number or a literal that the end of the text ends

#endif
