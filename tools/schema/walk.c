// The automaton: a stack of lists and maps for every branch, and all branches of the alternatives that the bytes so far leave open. See json_schema.h.
//
// Every branch can be completed by itself, so one may be left out where there are too many; and branches that have become alike are one again.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/walk_private.h"

typedef struct branch_list {
    walk_branch *items; // [cap]
    uint32_t n;
} branch_list;

struct json_walk {
    const json_schema *schema;
    branch_list now, next, other; // next, other: for bytes that are tried
    uint32_t cap;
    uint32_t n_asked;  // since the last push
    bool knows_first;  // first[] is valid
    uint8_t first[256]; // whether this byte may come next
};

// ---- Structure -----------------------------------------------------------------------------------------------------------------
bool walk_value_ends(walk_branch *b) {
    const uint8_t depth = b->depth;
    memset(b, 0, offsetof(walk_branch, frames));
    b->depth = depth;
    return walk_go(b, depth ? AT_NEXT : AT_END);
}

static walk_frame *top(walk_branch *b) { return &b->frames[b->depth - 1]; }

bool walk_has_room(const json_schema *s, const walk_branch *b, uint16_t node) {
    const uint8_t need = s->nodes[node].need;
    return need != NO_NEED && b->depth + need <= JSON_WALK_DEPTH;
}

static uint32_t next_required(const json_schema *s, const walk_frame *f) {
    const schema_node *map = &s->nodes[f->node];
    return f->index < map->n_properties ? s->properties[map->first_property + f->index].next_required : map->n_properties;
}

bool walk_in_window(const json_schema *s, const walk_branch *b, uint16_t property) {
    const walk_frame *f = &b->frames[b->depth - 1];
    return property >= f->index && property <= next_required(s, f) && walk_has_room(s, b, s->properties[s->nodes[f->node].first_property + property].node);
}

bool walk_free_key(const json_schema *s, const walk_branch *b) {
    const walk_frame *f = &b->frames[b->depth - 1];
    return next_required(s, f) == s->nodes[f->node].n_properties && walk_has_room(s, b, s->nodes[f->node].additional);
}

static bool some_key(const json_schema *s, walk_branch *b) {
    const schema_node *map = &s->nodes[top(b)->node];
    if (walk_free_key(s, b)) return true;
    for (uint32_t i = top(b)->index; i < map->n_properties && i <= next_required(s, top(b)); i++)
        if (walk_in_window(s, b, (uint16_t)i)) return true;
    return false;
}

static uint16_t item_node(const json_schema *s, const walk_frame *f) {
    const schema_node *list = &s->nodes[f->node];
    return f->index < list->n_prefix ? s->alternatives[list->first_prefix + f->index] : list->items;
}

static bool some_item(const json_schema *s, walk_branch *b) { return top(b)->index < s->nodes[top(b)->node].max_items && walk_has_room(s, b, item_node(s, top(b))); }

static bool begin_item(const json_schema *s, walk_branch *b) {
    if (!some_item(s, b)) return false;
    b->node = item_node(s, top(b));
    top(b)->index++;
    return true;
}

static bool open_level(const json_schema *s, walk_branch *b, bool map) {
    const schema_node *node = &s->nodes[b->node];
    const uint8_t need = map ? node->need_map : node->need_list;
    if (node->is_enum || need == NO_NEED || b->depth + need > JSON_WALK_DEPTH) return false;
    b->frames[b->depth++] = (walk_frame){.node = b->node, .map = map};
    return walk_go(b, map ? AT_KEY_OR_END : AT_VALUE_OR_END);
}

static bool close_level(const json_schema *s, walk_branch *b, bool map) {
    const walk_frame *f = top(b);
    const schema_node *node = &s->nodes[f->node];
    if (f->map != map || (map ? next_required(s, f) < node->n_properties : f->index < node->min_items)) return false;
    b->depth--;
    return walk_value_ends(b);
}

static bool comma(const json_schema *s, walk_branch *b) {
    if (top(b)->map) return some_key(s, b) && walk_go(b, AT_KEY);
    return begin_item(s, b) && walk_go(b, AT_VALUE);
}

static bool key(const json_schema *s, walk_branch *b) {
    if (!some_key(s, b)) return false;
    walk_begin_key(s, b);
    return true;
}

static bool is_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

bool walk_between(const json_schema *s, walk_branch *b, uint8_t c) {
    if (b->state == AT_END) return false;
    if (is_space(c)) return ++b->n_space <= JSON_WALK_SPACES + (b->depth < 62 ? 4 * b->depth : 248);
    switch ((walk_state)b->state) {
    case AT_KEY_OR_END: return c == '}' ? close_level(s, b, true) : c == '"' && key(s, b);
    case AT_KEY: return c == '"' && key(s, b);
    case AT_COLON: return c == ':' && walk_go(b, AT_VALUE);
    case AT_NEXT: return c == ',' ? comma(s, b) : (c == '}' || c == ']') && close_level(s, b, c == '}');
    case AT_VALUE_OR_END: return c == ']' && close_level(s, b, false);
    default: return false;
    }
}

// A value of the plain node b->node.
static bool begin_value(const json_schema *s, walk_branch *b, uint8_t c) {
    if (!s->nodes[b->node].is_enum && (c == '{' || c == '[')) return open_level(s, b, c == '{');
    return walk_begin_scalar(s, b, c);
}

static bool take(const json_schema *s, walk_branch *b, uint8_t c) {
    switch ((walk_state)b->state) {
    case IN_STRING:
    case IN_CHARACTER:
    case IN_ESCAPE:
    case IN_HEX: return walk_in_text(s, b, c);
    case IN_KEY: return walk_in_key(s, b, c);
    case IN_WORD: return walk_in_word(b, c);
    case IN_LITERAL: return walk_in_literal(s, b, c);
    default: return b->state >= IN_MINUS ? walk_in_number(s, b, c) : walk_between(s, b, c);
    }
}

// ---- Branches ------------------------------------------------------------------------------------------------------------------
static size_t used_bytes(const walk_branch *b) { return offsetof(walk_branch, frames) + b->depth * sizeof b->frames[0]; }

static walk_branch *add_copy(branch_list *list, uint32_t cap, const walk_branch *b) {
    if (list->n == cap) return NULL;
    walk_branch *to = &list->items[list->n];
    memcpy(to, b, used_bytes(b));
    return to;
}

// A value begins: one branch for every alternative that begins with c.
static void branch_out(const json_schema *s, const walk_branch *b, branch_list *out, uint32_t cap, uint8_t c) {
    walk_branch item = *b;
    if (item.state == AT_VALUE_OR_END && !begin_item(s, &item)) return;
    const schema_node *node = &s->nodes[item.node];
    const uint32_t n = node->is_union ? node->n_alternatives : 1;
    for (uint32_t i = 0; i < n; i++) {
        walk_branch *to = add_copy(out, cap, &item);
        if (!to) return;
        if (node->is_union) to->node = s->alternatives[node->first_alternative + i];
        if (walk_has_room(s, to, to->node) && begin_value(s, to, c)) out->n++;
    }
}

static void drop_alike(branch_list *list) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list->n; i++) {
        const walk_branch *b = &list->items[i];
        bool known = false;
        for (uint32_t k = 0; k < kept && !known; k++) known = list->items[k].depth == b->depth && memcmp(&list->items[k], b, used_bytes(b)) == 0;
        if (!known && kept != i) memcpy(&list->items[kept], b, used_bytes(b));
        kept += !known;
    }
    list->n = kept;
}

// One byte for all branches.
static void step(const json_walk *w, const branch_list *in, branch_list *out, uint8_t c) {
    const json_schema *s = w->schema;
    bool ended = false;
    out->n = 0;
    for (uint32_t i = 0; i < in->n; i++) {
        const walk_branch *b = &in->items[i];
        const bool begins = (b->state == AT_VALUE || (b->state == AT_VALUE_OR_END && c != ']')) && !is_space(c);
        if (begins) {
            branch_out(s, b, out, w->cap, c);
            continue;
        }
        walk_branch *to = add_copy(out, w->cap, b);
        if (!to || !take(s, to, c)) continue;
        ended |= to->state == AT_NEXT || to->state == AT_END;
        out->n++;
    }
    if (ended && out->n > 1) drop_alike(out);
}

static bool all_ended(const branch_list *list) {
    for (uint32_t i = 0; i < list->n; i++)
        if (list->items[i].state != AT_END) return false;
    return true;
}

// Follows bytes from `now`; where it ends: NULL: nowhere.
static branch_list *follow(json_walk *w, const char *bytes, size_t len, size_t *taken) {
    branch_list *from = &w->now, *to = &w->next;
    size_t i = 0;
    for (; i < len && !(taken && all_ended(from)); i++) {
        step(w, from, to, (uint8_t)bytes[i]);
        if (to->n == 0) return NULL;
        from = to;
        to = from == &w->next ? &w->other : &w->next;
    }
    if (taken) *taken = i;
    return from;
}

// ---- The walk ------------------------------------------------------------------------------------------------------------------
json_walk *json_walk_new(const json_schema *schema) {
    enum { LEAST = 8 };
    json_walk *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    const uint64_t wanted = schema->max_alternatives < 2 ? 1 : UINT64_C(4) * schema->max_alternatives;
    w->schema = schema;
    w->cap = wanted == 1 ? 1 : wanted < LEAST ? LEAST : wanted > JSON_WALK_BRANCHES ? JSON_WALK_BRANCHES : (uint32_t)wanted;
    branch_list *lists[] = {&w->now, &w->next, &w->other};
    for (size_t i = 0; i < 3; i++) lists[i]->items = calloc(w->cap, sizeof *lists[i]->items);
    if (!w->now.items || !w->next.items || !w->other.items) {
        json_walk_free(w);
        return NULL;
    }
    json_walk_restart(w);
    return w;
}

void json_walk_restart(json_walk *w) {
    w->now.items[0] = (walk_branch){.state = AT_VALUE, .node = w->schema->root};
    w->now.n = 1;
    w->knows_first = false;
    w->n_asked = 0;
}

void json_walk_free(json_walk *w) {
    if (!w) return;
    free(w->now.items);
    free(w->next.items);
    free(w->other.items);
    free(w);
}

// Most candidates fail at their first byte, and a vocabulary has far more tokens than there are bytes.
static bool first_passes(json_walk *w, uint8_t c) {
    enum { PATIENCE = 16 };
    if (!w->knows_first && w->n_asked++ < PATIENCE) return true;
    for (int i = 0; i < 256 && !w->knows_first; i++) {
        step(w, &w->now, &w->next, (uint8_t)i);
        w->first[i] = w->next.n > 0;
    }
    w->knows_first = true;
    return w->first[c];
}

// Inside a string most of a vocabulary may come: bytes that are characters by themselves need no walk. False says nothing.
static bool is_plain_text(const json_walk *w, const char *bytes, size_t len) {
    const walk_branch *b = &w->now.items[0];
    const schema_node *node = &w->schema->nodes[b->node];
    if (w->now.n != 1 || b->state != IN_STRING || b->want_low || node->pattern >= 0 || len > node->max_length - b->n_chars) return false;
    for (size_t i = 0; i < len; i++) {
        const uint8_t c = (uint8_t)bytes[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') return false;
    }
    return true;
}

bool json_walk_allows(json_walk *w, const char *bytes, size_t len, size_t *taken) {
    if (is_plain_text(w, bytes, len)) {
        if (taken) *taken = len;
        return true;
    }
    if (len > 0 && !(taken && all_ended(&w->now)) && !first_passes(w, (uint8_t)bytes[0])) return false;
    return follow(w, bytes, len, taken) != NULL;
}

bool json_walk_push(json_walk *w, const char *bytes, size_t len, size_t *taken) {
    branch_list *end = follow(w, bytes, len, taken);
    if (!end) return false;
    if (end != &w->now) {
        const branch_list before = w->now;
        w->now = *end;
        *end = before;
    }
    w->knows_first = false;
    w->n_asked = 0;
    return true;
}

bool json_walk_complete(const json_walk *w) { return all_ended(&w->now); }

bool json_walk_may_end(const json_walk *w) {
    for (uint32_t i = 0; i < w->now.n; i++) {
        const walk_branch *b = &w->now.items[i];
        if (b->state == AT_END || (b->depth == 0 && walk_scalar_may_end(w->schema, b))) return true;
    }
    return false;
}
