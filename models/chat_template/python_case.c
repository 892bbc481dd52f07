// Classes of characters and changes of case as Python's str has them, from utf8proc and the few mappings to several characters.
// Every character of a result carries the mark of the character that it comes from.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <utf8proc.h>

#include "models/chat_template/value.h"

static utf8proc_category_t category(uint32_t cp) { return cp < 0x110000 ? utf8proc_category((utf8proc_int32_t)cp) : UTF8PROC_CATEGORY_CN; }

bool cp_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool cp_printable(uint32_t cp) {
    if (cp < 0x7F) return cp >= ' ';
    utf8proc_category_t k = category(cp);
    return k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF && k != UTF8PROC_CATEGORY_CS && k != UTF8PROC_CATEGORY_CO &&
           k != UTF8PROC_CATEGORY_ZL && k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS;
}

bool cp_alpha(uint32_t cp) {
    utf8proc_category_t k = category(cp);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool cp_decimal(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_ND; }

bool cp_digit(uint32_t cp) {
    return cp_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
           (cp >= 0x2460 && cp <= 0x2468) || (cp >= 0x2474 && cp <= 0x247C) || (cp >= 0x2488 && cp <= 0x2490) || cp == 0x24EA || (cp >= 0x24F5 && cp <= 0x24FD) ||
           cp == 0x24FF || (cp >= 0x2776 && cp <= 0x277E) || (cp >= 0x2780 && cp <= 0x2788) || (cp >= 0x278A && cp <= 0x2792);
}

bool cp_numeric(uint32_t cp) {
    utf8proc_category_t k = category(cp);
    if (k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO) return true;
    // Han numerals, which are letters by category.
    static const uint16_t han[] = {0x4E00, 0x4E03, 0x4E07, 0x4E09, 0x4E5D, 0x4E8C, 0x4E94, 0x4EBF, 0x5104, 0x5146, 0x516B, 0x516D, 0x5341, 0x5343, 0x56DB, 0x767E, 0x842C, 0x96F6};
    for (size_t i = 0; i < sizeof han / sizeof *han; i++)
        if (cp == han[i]) return true;
    return false;
}

static bool other_upper(uint32_t cp) { return (cp >= 0x2160 && cp <= 0x216F) || (cp >= 0x24B6 && cp <= 0x24CF) || (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189); }
static bool other_lower(uint32_t cp) {
    return cp == 0xAA || cp == 0xBA || (cp >= 0x2B0 && cp <= 0x2B8) || cp == 0x2C0 || cp == 0x2C1 || (cp >= 0x2E0 && cp <= 0x2E4) || cp == 0x345 || cp == 0x37A ||
           (cp >= 0x1D2C && cp <= 0x1D6A) || cp == 0x1D78 || (cp >= 0x1D9B && cp <= 0x1DBF) || cp == 0x2071 || cp == 0x207F || (cp >= 0x2090 && cp <= 0x209C) ||
           (cp >= 0x2170 && cp <= 0x217F) || (cp >= 0x24D0 && cp <= 0x24E9) || cp == 0x2C7C || cp == 0x2C7D || cp == 0xA69C || cp == 0xA69D || cp == 0xA770 ||
           cp == 0xA7F8 || cp == 0xA7F9 || (cp >= 0xAB5C && cp <= 0xAB5F);
}
bool cp_upper(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LU || other_upper(cp); }
bool cp_lower(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LL || other_lower(cp); }
bool cp_title(uint32_t cp) { return category(cp) == UTF8PROC_CATEGORY_LT; }

static bool cp_cased(uint32_t cp) { return cp_upper(cp) || cp_lower(cp) || cp_title(cp); }
static bool cp_ignorable(uint32_t cp) {
    utf8proc_category_t k = category(cp);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK ||
           cp == '\'' || cp == '.' || cp == ':' || cp == 0xB7 || cp == 0x387 || cp == 0x55F || cp == 0x5F4 || cp == 0x2018 || cp == 0x2019 || cp == 0x2024 ||
           cp == 0x2027 || cp == 0xFE13 || cp == 0xFE52 || cp == 0xFE55 || cp == 0xFF07 || cp == 0xFF0E || cp == 0xFF1A;
}

typedef enum { TO_UPPER, TO_LOWER, TO_TITLE, TO_FOLD } case_kind;

// Unicode's SpecialCasing without conditions: upper (and, where it differs, title) case of several characters.
static const struct special_case {
    uint16_t cp, upper[3], title[3];
} special_cases[] = {
    {0xDF, {'S', 'S'}, {'S', 's'}}, {0x149, {0x2BC, 'N'}, {0x2BC, 'N'}}, {0x1F0, {'J', 0x30C}, {'J', 0x30C}}, {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x3B0, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}}, {0x587, {0x535, 0x552}, {0x535, 0x582}}, {0x1E96, {'H', 0x331}, {'H', 0x331}},
    {0x1E97, {'T', 0x308}, {'T', 0x308}}, {0x1E98, {'W', 0x30A}, {'W', 0x30A}}, {0x1E99, {'Y', 0x30A}, {'Y', 0x30A}}, {0x1E9A, {'A', 0x2BE}, {'A', 0x2BE}},
    {0x1F50, {0x3A5, 0x313}, {0x3A5, 0x313}}, {0x1F52, {0x3A5, 0x313, 0x300}, {0x3A5, 0x313, 0x300}}, {0x1F54, {0x3A5, 0x313, 0x301}, {0x3A5, 0x313, 0x301}},
    {0x1F56, {0x3A5, 0x313, 0x342}, {0x3A5, 0x313, 0x342}}, {0x1FB2, {0x1FBA, 0x399}, {0x1FBA, 0x345}}, {0x1FB4, {0x386, 0x399}, {0x386, 0x345}},
    {0x1FB6, {0x391, 0x342}, {0x391, 0x342}}, {0x1FB7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}}, {0x1FC2, {0x1FCA, 0x399}, {0x1FCA, 0x345}},
    {0x1FC4, {0x389, 0x399}, {0x389, 0x345}}, {0x1FC6, {0x397, 0x342}, {0x397, 0x342}}, {0x1FC7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}},
    {0x1FD2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}}, {0x1FD3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}}, {0x1FD6, {0x399, 0x342}, {0x399, 0x342}},
    {0x1FD7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}}, {0x1FE2, {0x3A5, 0x308, 0x300}, {0x3A5, 0x308, 0x300}}, {0x1FE3, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
    {0x1FE4, {0x3A1, 0x313}, {0x3A1, 0x313}}, {0x1FE6, {0x3A5, 0x342}, {0x3A5, 0x342}}, {0x1FE7, {0x3A5, 0x308, 0x342}, {0x3A5, 0x308, 0x342}},
    {0x1FF2, {0x1FFA, 0x399}, {0x1FFA, 0x345}}, {0x1FF4, {0x38F, 0x399}, {0x38F, 0x345}}, {0x1FF6, {0x3A9, 0x342}, {0x3A9, 0x342}},
    {0x1FF7, {0x3A9, 0x342, 0x399}, {0x3A9, 0x342, 0x345}}, {0xFB00, {'F', 'F'}, {'F', 'f'}}, {0xFB01, {'F', 'I'}, {'F', 'i'}}, {0xFB02, {'F', 'L'}, {'F', 'l'}},
    {0xFB03, {'F', 'F', 'I'}, {'F', 'f', 'i'}}, {0xFB04, {'F', 'F', 'L'}, {'F', 'f', 'l'}}, {0xFB05, {'S', 'T'}, {'S', 't'}}, {0xFB06, {'S', 'T'}, {'S', 't'}},
    {0xFB13, {0x544, 0x546}, {0x544, 0x576}}, {0xFB14, {0x544, 0x535}, {0x544, 0x565}}, {0xFB15, {0x544, 0x53B}, {0x544, 0x56B}}, {0xFB16, {0x54E, 0x546}, {0x54E, 0x576}},
    {0xFB17, {0x544, 0x53D}, {0x544, 0x56D}}};

// Greek letters with iota below: upper case writes the iota out, title case keeps it.
static bool iota_upper(uint32_t cp, uint32_t out[2]) {
    if (cp >= 0x1F80 && cp <= 0x1FAF) {
        static const uint16_t base[] = {0x1F08, 0x1F28, 0x1F68};
        out[0] = base[(cp - 0x1F80) >> 4] + (cp & 7);
        return out[1] = 0x399, true;
    }
    static const uint16_t pairs[][2] = {{0x1FB3, 0x391}, {0x1FBC, 0x391}, {0x1FC3, 0x397}, {0x1FCC, 0x397}, {0x1FF3, 0x3A9}, {0x1FFC, 0x3A9}};
    for (size_t i = 0; i < 6; i++)
        if (cp == pairs[i][0]) return out[0] = pairs[i][1], out[1] = 0x399, true;
    return false;
}

static void write_case(jbuild *b, uint32_t cp, bool tainted, case_kind kind) {
    uint32_t iota[2];
    if (cp < 0x80) {
        uint32_t letter = cp | 0x20;
        bool is_letter = letter >= 'a' && letter <= 'z', up = kind == TO_UPPER || kind == TO_TITLE;
        build_char(b, is_letter ? (up ? letter - 0x20 : letter) : cp, tainted);
        return;
    }
    if (kind == TO_UPPER && iota_upper(cp, iota)) {
        build_char(b, iota[0], tainted);
        build_char(b, iota[1], tainted);
        return;
    }
    if (kind == TO_LOWER && cp == 0x130) {
        build_char(b, 'i', tainted);
        build_char(b, 0x307, tainted);
        return;
    }
    for (size_t i = 0; (kind == TO_UPPER || kind == TO_TITLE) && i < sizeof special_cases / sizeof *special_cases; i++) {
        if (special_cases[i].cp != cp) continue;
        const uint16_t *to = kind == TO_UPPER ? special_cases[i].upper : special_cases[i].title;
        for (size_t k = 0; k < 3 && to[k]; k++) build_char(b, to[k], tainted);
        return;
    }
    if (cp >= 0x110000) build_char(b, cp, tainted);
    else if (kind == TO_FOLD) {
        utf8proc_int32_t out[8];
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, out, 8, UTF8PROC_CASEFOLD, &boundary);
        for (utf8proc_ssize_t k = 0; k < n && k < 8; k++) build_char(b, (uint32_t)out[k], tainted);
    } else build_char(b, (uint32_t)(kind == TO_UPPER ? utf8proc_toupper((utf8proc_int32_t)cp) : kind == TO_LOWER ? utf8proc_tolower((utf8proc_int32_t)cp) : utf8proc_totitle((utf8proc_int32_t)cp)), tainted);
}

// A capital sigma at the end of a word becomes the final form: a cased letter before it, none behind, skipping what does not count.
static bool final_sigma(const jstr *s, size_t from, size_t behind) {
    size_t i = from;
    uint32_t cp = 0;
    bool before = false;
    while (i > 0) {
        size_t start = utf8_back(s->p, i), k = start;
        cp = utf8_next(s->p, i, &k);
        i = start;
        if (!cp_ignorable(cp)) {
            before = cp_cased(cp);
            break;
        }
    }
    if (!before) return false;
    for (i = behind; i < s->len;) {
        cp = utf8_next(s->p, s->len, &i);
        if (!cp_ignorable(cp)) return !cp_cased(cp);
    }
    return true;
}

static void write_part(jbuild *b, const jstr *s, size_t from, size_t to, case_kind kind) {
    for (size_t i = from; i < to;) {
        size_t start = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        jinja_charge(b->c, 1);
        bool tainted = str_tainted(s, start, i);
        if (cp == 0x3A3 && kind == TO_LOWER) {
            jinja_charge_bytes(b->c, s->len);
            build_char(b, final_sigma(s, start, i) ? 0x3C2 : 0x3C3, tainted);
        } else write_case(b, cp, tainted, kind);
    }
}

static jstr *whole(jctx *c, const jstr *s, case_kind kind) {
    jbuild b;
    build_open(&b, c);
    write_part(&b, s, 0, s->len, kind);
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}

jstr *str_upper(jctx *c, const jstr *s) { return whole(c, s, TO_UPPER); }
jstr *str_lower(jctx *c, const jstr *s) { return whole(c, s, TO_LOWER); }
jstr *str_casefold(jctx *c, const jstr *s) { return whole(c, s, TO_FOLD); }

jstr *str_capitalize(jctx *c, const jstr *s) {
    jbuild b;
    size_t first = 0;
    build_open(&b, c);
    if (s->len) utf8_next(s->p, s->len, &first);
    write_part(&b, s, 0, first, TO_TITLE);
    write_part(&b, s, first, s->len, TO_LOWER);
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}

// str.title(): after anything that has no case.
jstr *str_title(jctx *c, const jstr *s) {
    jbuild b;
    bool cased = false;
    build_open(&b, c);
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        write_part(&b, s, from, i, cased ? TO_LOWER : TO_TITLE);
        cased = cp_cased(cp);
    }
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}

static bool title_splits(uint32_t cp) { return cp_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp)); }

// The filter: after whitespace and -({[<, first upper, the rest lower.
jstr *str_title_filter(jctx *c, const jstr *s) {
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < s->len;) {
        size_t from = i, first = i, end;
        bool splits = title_splits(utf8_next(s->p, s->len, &first));
        for (i = end = first; i < s->len; end = i)
            if (title_splits(utf8_next(s->p, s->len, &i)) != splits) break;
        i = end;
        const jstr *rest = str_part(c, s, first, end); // a word by itself: what stands before it does not count
        write_part(&b, s, from, first, TO_UPPER);
        write_part(&b, rest, 0, rest->len, TO_LOWER);
    }
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}

jstr *str_swapcase(jctx *c, const jstr *s) {
    jbuild b;
    build_open(&b, c);
    for (size_t i = 0; i < s->len;) {
        size_t from = i;
        uint32_t cp = utf8_next(s->p, s->len, &i);
        if (cp_upper(cp)) write_part(&b, s, from, i, TO_LOWER);
        else if (cp_lower(cp)) write_part(&b, s, from, i, TO_UPPER);
        else build_part(&b, s, from, i);
    }
    jstr *out = build_done(&b);
    out->markup = s->markup;
    return out;
}
