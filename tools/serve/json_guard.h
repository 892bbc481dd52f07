// Is this the beginning of a JSON document? An automaton over bytes: it follows a reply and says which tokens may come next.
//
// Accepts a subset of what strict readers accept (RFC 8259 in valid UTF-8, no lone surrogates, no \u0000), bounded in what a model may do
// without end: nesting, white space in a row, digits of a number. So whatever it calls complete can be read. Plain state without
// pointers: copy it to try bytes out.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_JSON_GUARD_H
#define WTL_TOOLS_SERVE_JSON_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JSON_GUARD_DEPTH = 64,      // maps and lists inside each other
    JSON_GUARD_INT_DIGITS = 18, // of a whole number: it fits 64 bits
    JSON_GUARD_FRAC_DIGITS = 20,
    JSON_GUARD_EXP_DIGITS = 2,
    JSON_GUARD_SPACES = 2,       // in a row, and 4 more for every level: room for an indented line
};

typedef struct json_guard {
    uint64_t maps;   // bit per level: 1: a map, 0: a list
    uint8_t depth;
    uint8_t state;
    uint8_t n_space; // white space bytes in a row
    uint8_t n;       // digits of a number's part, characters of a word, hex digits: so far
    uint8_t n_more;  // bytes that a UTF-8 character still needs
    uint8_t low, high; // bounds of the next one
    bool key;        // the string is a key
    bool want_low;   // a high surrogate was read: only \uDC00 to \uDFFF may follow
    uint16_t hex;    // of \uXXXX so far
    const char *word; // static: "true", "false", "null"
} json_guard;

void json_guard_begin(json_guard *g); // the document is a map: {"type": "json_object"}
// False: no document begins like this; the state means nothing from then on.
bool json_guard_push(json_guard *g, const char *bytes, size_t len);
bool json_guard_complete(const json_guard *g); // the document has ended: nothing may follow

#endif
