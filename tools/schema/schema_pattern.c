// Regular expressions of "pattern" to a deterministic automaton over characters, lengths included.
//
// The part of ECMA-262 that has no memory: characters, classes, escapes, groups, alternatives, repetition; anchors at the ends of the
// pattern or of its outermost alternatives. Thompson's construction, then subsets; a state is a set and the number of characters so far as
// far as lengths need it. Characters that a JSON string can only hold as \u00XX are taken out, so no string needs that escape.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/schema_private.h"

enum { NFA_MAX = 512, CLASSES_MAX = 400, STATES_MAX = 4096, CELLS_MAX = 1 << 17, RANGES_MAX = 4096, GROUPS_MAX = 24, REPEAT_MAX = 1000, STEPS_MAX = 20000, LAST = 0x10ffff };
enum { SET_WORDS = NFA_MAX / 64 };

typedef struct range {
    uint32_t low, high;
} range;

typedef enum nfa_kind { NFA_SPLIT, NFA_CHARS, NFA_END } nfa_kind;
typedef struct nfa_state {
    nfa_kind kind;
    int out, other;            // -1: open
    uint32_t first_range, n_ranges;
} nfa_state;

typedef struct fragment { // from `in` to `out`, an open split
    int in, out;
} fragment;

typedef struct parser {
    const char *at, *end;
    nfa_state nfa[NFA_MAX];
    int n_nfa;
    range ranges[RANGES_MAX];
    uint32_t n_ranges;
    int n_groups, n_steps;
    const char *why; // the first reason; NULL: none
} parser;

static fragment fail(parser *p, const char *why) {
    if (!p->why) p->why = why;
    return (fragment){0, 0};
}

static int nfa_new(parser *p, nfa_kind kind) {
    if (p->n_nfa == NFA_MAX || ++p->n_steps > STEPS_MAX) {
        fail(p, "is too large");
        return 0;
    }
    p->nfa[p->n_nfa] = (nfa_state){.kind = kind, .out = -1, .other = -1};
    return p->n_nfa++;
}

// ---- Characters and classes --------------------------------------------------------------------------------------------------
static void add_range(parser *p, uint32_t low, uint32_t high) {
    if (p->n_ranges == RANGES_MAX) fail(p, "is too large");
    else if (low <= high) p->ranges[p->n_ranges++] = (range){low, high};
}

static int by_low(const void *a, const void *b) {
    const range *x = a, *y = b;
    return x->low < y->low ? -1 : x->low > y->low;
}

// Replaces ranges[first..) by what they leave out.
static void complement(parser *p, uint32_t first) {
    const uint32_t n = p->n_ranges - first;
    range old[64];
    if (n > 64) {
        fail(p, "has a negated class of too many parts");
        return;
    }
    memcpy(old, p->ranges + first, n * sizeof *old);
    qsort(old, n, sizeof *old, by_low);
    p->n_ranges = first;
    uint32_t from = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (old[i].low > from) add_range(p, from, old[i].low - 1);
        if (old[i].high + 1 > from) from = old[i].high + 1;
    }
    add_range(p, from, LAST);
}

static void add_class(parser *p, char kind) {
    static const range digits[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                       space[] = {{9, 13}, {32, 32}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    const range *list = kind == 'd' || kind == 'D' ? digits : kind == 'w' || kind == 'W' ? word : space;
    const size_t n = list == digits ? 1 : list == word ? 4 : sizeof space / sizeof *space;
    const uint32_t first = p->n_ranges;
    for (size_t i = 0; i < n; i++) add_range(p, list[i].low, list[i].high);
    if (kind < 'a') complement(p, first);
}

static bool hex_number(parser *p, int n, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < n; i++) {
        const char c = p->at < p->end ? *p->at++ : 0;
        const uint32_t digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (digit == 99) return fail(p, "has an escape without its hexadecimal digits"), false;
        *out = *out << 4 | digit;
    }
    return true;
}

static uint32_t utf8_next(const char **at, const char *end) { // the text is valid UTF-8: it comes from a JSON reader
    const uint8_t c = (uint8_t)*(*at)++;
    int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    uint32_t value = more == 0 ? c : c & (0x3fu >> more);
    for (; more > 0 && *at < end; more--) value = value << 6 | ((uint8_t)*(*at)++ & 0x3f);
    return value;
}

// Behind a backslash. True: one character, in *out; else a class was added, or it failed.
static bool escape(parser *p, uint32_t *out) {
    static const char controls[] = "tnrfv", values[] = "\t\n\r\f\v";
    if (p->at == p->end) return fail(p, "ends with a backslash"), false;
    const uint32_t c = utf8_next(&p->at, p->end);
    const char *control = c < 0x80 && c ? strchr(controls, (int)c) : NULL;
    if (c == 'x') return hex_number(p, 2, out);
    if (c == 'u') return hex_number(p, 4, out);
    if (control) return *out = (uint32_t)values[control - controls], true;
    if (c < 0x80 && c && strchr("dDwWsS", (int)c)) return add_class(p, (char)c), false;
    if ((c >= '0' && c <= '9') || (c | 32) == 'b' || c == 'p' || c == 'P' || c == 'k' || c == 'c' || c == 'A' || c == 'Z') return fail(p, "has an escape that is not supported"), false;
    *out = c;
    return true;
}

static bool class_end(parser *p, uint32_t *out, bool *single) { // one end of a range
    const uint32_t before = p->n_ranges;
    *single = true;
    if (*p->at != '\\') return *out = utf8_next(&p->at, p->end), true;
    p->at++;
    if (p->at < p->end && *p->at == 'b') return p->at++, *out = '\b', true;
    *single = escape(p, out);
    return !p->why && (*single || p->n_ranges >= before);
}

static fragment class_of(parser *p) { // behind [
    const int state = nfa_new(p, NFA_CHARS);
    const uint32_t first = p->n_ranges;
    const bool negated = p->at < p->end && *p->at == '^';
    if (negated) p->at++;
    while (p->at < p->end && *p->at != ']' && !p->why) {
        uint32_t low, high;
        bool single, single_high;
        if (!class_end(p, &low, &single) || !single) continue;
        high = low;
        if (p->end - p->at > 1 && p->at[0] == '-' && p->at[1] != ']') {
            p->at++;
            if (!class_end(p, &high, &single_high)) break;
            if (!single_high || high < low) return fail(p, "has a range in a class that ends before it begins");
        }
        add_range(p, low, high);
    }
    if (p->at == p->end) return fail(p, "has a class without its end");
    p->at++;
    if (negated) complement(p, first);
    p->nfa[state].first_range = first;
    p->nfa[state].n_ranges = p->n_ranges - first;
    return (fragment){state, p->nfa[state].out = nfa_new(p, NFA_SPLIT)};
}

static fragment chars(parser *p, uint32_t first) { // ranges[first..) as one step
    const int state = nfa_new(p, NFA_CHARS);
    p->nfa[state].first_range = first;
    p->nfa[state].n_ranges = p->n_ranges - first;
    return (fragment){state, p->nfa[state].out = nfa_new(p, NFA_SPLIT)};
}

// ---- Structure ---------------------------------------------------------------------------------------------------------------
static fragment alternatives(parser *p, bool outermost);

static fragment group(parser *p) { // behind (
    if (++p->n_groups > GROUPS_MAX) return fail(p, "has groups nested too deep");
    if (p->at < p->end && *p->at == '?') {
        if (p->end - p->at < 2 || p->at[1] != ':') return fail(p, "has a group of a kind that is not supported (only (...) and (?:...) are)");
        p->at += 2;
    }
    const fragment f = alternatives(p, false);
    if (p->at == p->end || *p->at != ')') return fail(p, "has a group without its end");
    p->at++;
    p->n_groups--;
    return f;
}

static fragment atom(parser *p) {
    const uint32_t first = p->n_ranges;
    const char c = *p->at;
    uint32_t character;
    if (c == '(') return p->at++, group(p);
    if (c == '[') return p->at++, class_of(p);
    if (c == '^' || c == '$') return fail(p, "has an anchor in another place than its ends");
    if (c == '*' || c == '+' || c == '?' || c == '{') return fail(p, "repeats nothing");
    if (c == '.') {
        p->at++;
        add_range(p, '\n', '\n'), add_range(p, '\r', '\r'), add_range(p, 0x2028, 0x2029);
        complement(p, first);
        return chars(p, first);
    }
    if (c == '\\') {
        p->at++;
        if (escape(p, &character)) add_range(p, character, character);
        return chars(p, first);
    }
    character = utf8_next(&p->at, p->end);
    add_range(p, character, character);
    return chars(p, first);
}

static bool read_number(parser *p, int *out) {
    *out = 0;
    const char *from = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        *out = 10 * *out + (*p->at++ - '0');
        if (*out > REPEAT_MAX) return fail(p, "repeats something too often"), false;
    }
    return p->at > from;
}

// {m}, {m,} or {m,n}; *most -1: without end.
static bool braces(parser *p, int *least, int *most) {
    if (!read_number(p, least)) return fail(p, "has a { that is no repetition (write \\{)"), false;
    *most = *least;
    if (p->at < p->end && *p->at == ',') {
        p->at++;
        if (!read_number(p, most)) *most = -1;
    }
    if (p->why || p->at == p->end || *p->at != '}' || (*most >= 0 && *most < *least)) return fail(p, "has a repetition that cannot be read"), false;
    p->at++;
    return true;
}

static fragment join(parser *p, fragment a, fragment b) {
    p->nfa[a.out].out = b.in;
    return (fragment){a.in, b.out};
}

// The atom at `from` once more: every copy is read again.
static fragment again(parser *p, const char *from) {
    const char *behind = p->at;
    p->at = from;
    const fragment f = atom(p);
    p->at = behind;
    return f;
}

static fragment star(parser *p, fragment body) {
    const int loop = nfa_new(p, NFA_SPLIT), out = nfa_new(p, NFA_SPLIT);
    p->nfa[loop].out = body.in;
    p->nfa[loop].other = out;
    p->nfa[body.out].out = loop;
    return (fragment){loop, out};
}

static fragment repeat(parser *p, fragment body, const char *from, int least, int most) {
    const int start = nfa_new(p, NFA_SPLIT), end = nfa_new(p, NFA_SPLIT);
    fragment all = {start, start};
    for (int i = 0; i < least && !p->why; i++) all = join(p, all, i == 0 ? body : again(p, from));
    if (most < 0) all = join(p, all, star(p, least == 0 ? body : again(p, from)));
    for (int i = least; i < most && !p->why; i++) {
        const int skip = nfa_new(p, NFA_SPLIT);
        p->nfa[all.out].out = skip;
        p->nfa[skip].other = end;
        all = join(p, (fragment){all.in, skip}, i == 0 ? body : again(p, from));
    }
    p->nfa[all.out].out = end;
    return (fragment){all.in, end};
}

static fragment sequence(parser *p, bool outermost) {
    const int start = nfa_new(p, NFA_SPLIT);
    fragment all = {start, start};
    while (p->at < p->end && *p->at != '|' && *p->at != ')' && !p->why) {
        if (outermost && *p->at == '$' && (p->at + 1 == p->end || p->at[1] == '|')) break;
        const char *from = p->at;
        fragment f = atom(p);
        int least = 1, most = 1;
        const char *behind = p->at;
        if (p->at < p->end && strchr("*+?{", *p->at) && *p->at) {
            const char c = *p->at++;
            if (c == '{' ? !braces(p, &least, &most) : false) break;
            if (c != '{') least = c == '+', most = c == '?' ? 1 : -1;
            if (p->at < p->end && *p->at == '?') p->at++; // lazy: the same strings
            const char *next = p->at;
            p->at = behind;
            f = repeat(p, f, from, least, most);
            p->at = next;
        }
        all = join(p, all, f);
    }
    return all;
}

static fragment anything(parser *p) {
    const uint32_t first = p->n_ranges;
    add_range(p, 0, LAST);
    return star(p, chars(p, first));
}

// A pattern is searched for: without an anchor anything may stand beside it.
static fragment outermost_sequence(parser *p) {
    const bool begins = p->at < p->end && *p->at == '^';
    if (begins) p->at++;
    fragment all = sequence(p, true);
    const bool ends = p->at < p->end && *p->at == '$';
    if (ends) p->at++;
    if (!begins) all = join(p, anything(p), all);
    if (!ends) all = join(p, all, anything(p));
    return all;
}

static fragment alternatives(parser *p, bool outermost) {
    fragment all = outermost ? outermost_sequence(p) : sequence(p, false);
    while (p->at < p->end && *p->at == '|' && !p->why) {
        p->at++;
        const fragment other = outermost ? outermost_sequence(p) : sequence(p, false);
        const int in = nfa_new(p, NFA_SPLIT), out = nfa_new(p, NFA_SPLIT);
        p->nfa[in].out = all.in;
        p->nfa[in].other = other.in;
        p->nfa[all.out].out = p->nfa[other.out].out = out;
        all = (fragment){in, out};
    }
    return all;
}

// ---- Subsets -----------------------------------------------------------------------------------------------------------------
typedef struct subset {
    uint64_t set[SET_WORDS];
    uint32_t count;
    uint32_t next_same; // hash chain, + 1
} subset;

typedef struct builder {
    const parser *p;
    schema_pattern *out;
    subset *subsets; // [cap_states]
    size_t cap_states, cap_cells;
    uint32_t heads[1024], min, max, cap; // cap: counts beyond it are alike
    const char *why;
} builder;

static void close_over(const parser *p, uint64_t *set, int state) {
    int stack[2 * NFA_MAX + 2], n = 0;
    stack[n++] = state;
    while (n > 0) {
        const int at = stack[--n];
        if (at < 0 || (set[at / 64] >> at % 64 & 1)) continue;
        set[at / 64] |= UINT64_C(1) << at % 64;
        if (p->nfa[at].kind != NFA_SPLIT) continue;
        stack[n++] = p->nfa[at].out;
        stack[n++] = p->nfa[at].other;
    }
}

static bool grow_states(builder *b) {
    schema_pattern *o = b->out;
    if (o->n_states < b->cap_states) return true;
    const size_t cap = b->cap_states ? 2 * b->cap_states : 16;
    subset *subsets = realloc(b->subsets, cap * sizeof *subsets);
    if (subsets) b->subsets = subsets;
    uint16_t *next = realloc(o->next, cap * o->n_classes * sizeof *next);
    if (next) o->next = next;
    bool *accepts = realloc(o->accepts, cap * sizeof *accepts);
    if (accepts) o->accepts = accepts;
    if (!subsets || !next || !accepts) return false;
    b->cap_states = cap;
    return true;
}

// The state of this set. STATES_MAX: failed.
static uint32_t state_of(builder *b, const subset *s) {
    uint64_t hash = s->count * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < SET_WORDS; i++) hash = (hash ^ s->set[i]) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29;
    uint32_t *head = &b->heads[hash % 1024];
    for (uint32_t i = *head; i; i = b->subsets[i - 1].next_same)
        if (b->subsets[i - 1].count == s->count && memcmp(b->subsets[i - 1].set, s->set, sizeof s->set) == 0) return i - 1;
    const uint32_t id = b->out->n_states;
    if (id == STATES_MAX || (size_t)(id + 1) * b->out->n_classes > CELLS_MAX) b->why = "needs too many states (with its lengths)";
    if (b->why || !grow_states(b)) return STATES_MAX;
    b->subsets[id] = *s;
    b->subsets[id].next_same = *head;
    *head = id + 1;
    b->out->accepts[id] = false;
    for (int i = 0; i < b->p->n_nfa; i++)
        if (b->p->nfa[i].kind == NFA_END && (s->set[i / 64] >> i % 64 & 1)) b->out->accepts[id] = s->count >= b->min;
    return b->out->n_states++;
}

static bool is_usable(uint32_t c) { // in a string without \u00XX
    return !(c >= 0xd800 && c <= 0xdfff) && (c >= 0x20 || c == '\b' || c == '\t' || c == '\n' || c == '\f' || c == '\r');
}

static uint32_t follow(builder *b, uint32_t from, uint32_t class_index) {
    const uint32_t c = b->out->bounds[class_index];
    subset to = {.count = b->subsets[from].count + 1};
    if (to.count > b->cap) to.count = b->cap;
    if (!is_usable(c) || b->subsets[from].count >= b->max) return PATTERN_DEAD;
    bool any = false;
    for (int i = 0; i < b->p->n_nfa; i++) {
        const nfa_state *s = &b->p->nfa[i];
        if (s->kind != NFA_CHARS || !(b->subsets[from].set[i / 64] >> i % 64 & 1)) continue;
        for (uint32_t r = 0; r < s->n_ranges; r++) {
            const range *g = &b->p->ranges[s->first_range + r];
            if (c < g->low || c > g->high) continue;
            close_over(b->p, to.set, s->out);
            any = true;
            break;
        }
    }
    return any ? state_of(b, &to) : PATTERN_DEAD;
}

static int by_value(const void *a, const void *b) {
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

// Characters that every state treats alike.
static bool find_classes(builder *b) {
    static const uint32_t fixed[] = {0, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0x20, 0xd800, 0xe000};
    const size_t n_fixed = sizeof fixed / sizeof *fixed;
    uint32_t *bounds = malloc((2 * b->p->n_ranges + n_fixed) * sizeof *bounds);
    size_t n = 0, kept = 0;
    if (!bounds) return false;
    b->out->bounds = bounds;
    for (; n < n_fixed; n++) bounds[n] = fixed[n];
    for (uint32_t i = 0; i < b->p->n_ranges; i++) {
        bounds[n++] = b->p->ranges[i].low;
        if (b->p->ranges[i].high < LAST) bounds[n++] = b->p->ranges[i].high + 1;
    }
    qsort(bounds, n, sizeof *bounds, by_value);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || bounds[kept - 1] != bounds[i]) bounds[kept++] = bounds[i];
    b->out->n_classes = (uint32_t)kept;
    if (kept > CLASSES_MAX) b->why = "has too many different characters";
    return !b->why;
}

// Ways that lead to no end are taken out.
static bool prune(builder *b) {
    schema_pattern *o = b->out;
    bool *lives = calloc(o->n_states, sizeof *lives), changed = true;
    if (!lives) return false;
    while (changed) {
        changed = false;
        for (uint32_t s = o->n_states; s-- > 0;) {
            bool alive = o->accepts[s];
            for (uint32_t k = 0; k < o->n_classes && !alive; k++) {
                const uint16_t to = o->next[s * o->n_classes + k];
                alive = to != PATTERN_DEAD && lives[to];
            }
            changed |= alive && !lives[s];
            lives[s] |= alive;
        }
    }
    for (size_t i = 0; i < (size_t)o->n_states * o->n_classes; i++)
        if (o->next[i] != PATTERN_DEAD && !lives[o->next[i]]) o->next[i] = PATTERN_DEAD;
    if (!lives[0]) b->why = "fits no string (with its lengths)";
    free(lives);
    return !b->why;
}

static bool build(builder *b, int start) {
    if (!find_classes(b)) return false;
    subset first = {.count = 0};
    close_over(b->p, first.set, start);
    if (state_of(b, &first) == STATES_MAX) return false;
    for (uint32_t s = 0; s < b->out->n_states; s++)
        for (uint32_t k = 0; k < b->out->n_classes; k++) {
            const uint32_t to = follow(b, s, k);
            if (to == STATES_MAX) return false;
            b->out->next[s * b->out->n_classes + k] = (uint16_t)to;
        }
    return prune(b);
}

schema_pattern *schema_pattern_compile(const char *text, size_t len, uint32_t min, uint32_t max, const char **reason) {
    *reason = NULL;
    parser *p = calloc(1, sizeof *p);
    builder *b = calloc(1, sizeof *b);
    schema_pattern *out = calloc(1, sizeof *out);
    bool ok = p && b && out;
    if (ok) {
        p->at = text;
        p->end = text + len;
        const fragment all = alternatives(p, true);
        const int end = nfa_new(p, NFA_END);
        p->nfa[all.out].out = end;
        if (p->at != p->end && !p->why) fail(p, "has a ) without its beginning");
        *b = (builder){.p = p, .out = out, .min = min, .max = max, .cap = max != UINT32_MAX ? max : min, .why = p->why};
        ok = !p->why && build(b, all.in);
        *reason = b->why;
    }
    if (b) free(b->subsets);
    free(b);
    free(p);
    if (ok) return out;
    schema_pattern_free(out);
    return NULL;
}

void schema_pattern_free(schema_pattern *p) {
    if (!p) return;
    free(p->bounds);
    free(p->next);
    free(p->accepts);
    free(p);
}

// ---- Use ---------------------------------------------------------------------------------------------------------------------
static uint32_t class_at(const schema_pattern *p, uint32_t character) {
    uint32_t low = 0, high = p->n_classes;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (p->bounds[middle] <= character) low = middle;
        else high = middle;
    }
    return low;
}

uint16_t schema_pattern_next(const schema_pattern *p, uint16_t state, uint32_t character) {
    return p->next[(size_t)state * p->n_classes + class_at(p, character)];
}

bool schema_pattern_any(const schema_pattern *p, uint16_t state, uint32_t low, uint32_t high) {
    for (uint32_t k = class_at(p, low); k < p->n_classes && p->bounds[k] <= high; k++)
        if (p->next[(size_t)state * p->n_classes + k] != PATTERN_DEAD) return true;
    return false;
}

bool schema_pattern_fits(const schema_pattern *p, const char *utf8, size_t len) {
    const char *at = utf8;
    uint16_t state = 0;
    while (at < utf8 + len && state != PATTERN_DEAD) state = schema_pattern_next(p, state, utf8_next(&at, utf8 + len));
    return state != PATTERN_DEAD && p->accepts[state];
}
