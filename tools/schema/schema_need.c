// The end of compiling: alternatives are flattened, and every node learns how many levels its shallowest document opens. With that a walk never
// enters what it could not leave: neither what has no document, nor what would have to be nested deeper than it may.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "tools/schema/schema_private.h"

typedef struct flattener {
    schema_compiler *c;
    uint16_t *stack, *found;
    uint32_t *seen; // [n_nodes] the last union that reached it
    size_t n_found;
} flattener;

// Nodes that a union comes to, through other unions, each once; *n: how many.
static bool flatten_one(flattener *f, uint16_t id, uint32_t turn) {
    const json_schema *s = f->c->s;
    size_t n = 0;
    f->n_found = 0;
    f->stack[n++] = id;
    f->seen[id] = turn;
    while (n > 0) {
        const schema_node *node = &s->nodes[f->stack[--n]];
        if (!node->is_union) {
            f->found[f->n_found++] = f->stack[n];
            continue;
        }
        for (uint32_t i = node->n_alternatives; i-- > 0;) { // the stack turns them round
            const uint16_t to = s->alternatives[node->first_alternative + i];
            if (f->seen[to] == turn || !schema_burn(f->c)) continue;
            f->seen[to] = turn;
            f->stack[n++] = to;
        }
    }
    return !f->c->failed;
}

static bool flatten(schema_compiler *c) {
    json_schema *s = c->s;
    const size_t n = s->n_nodes;
    uint32_t *first = calloc(n, sizeof *first), *count = calloc(n, sizeof *count);
    flattener f = {.c = c, .stack = calloc(n, sizeof *f.stack), .found = calloc(n, sizeof *f.found), .seen = calloc(n, sizeof *f.seen)};
    bool ok = first && count && f.stack && f.found && f.seen ? true : schema_no_memory(c);
    for (size_t i = 0; ok && i < n; i++) {
        if (!s->nodes[i].is_union) continue;
        ok = flatten_one(&f, (uint16_t)i, (uint32_t)i + 1);
        first[i] = (uint32_t)s->n_alternatives;
        count[i] = (uint32_t)f.n_found;
        if (ok && s->n_alternatives + f.n_found > 4 * ALTERNATIVES_MAX) ok = schema_fail(c, NULL, "has too many alternatives");
        ok = ok && schema_grow(c, (void **)&s->alternatives, &s->cap_alternatives, s->n_alternatives + f.n_found, sizeof *s->alternatives);
        for (size_t k = 0; ok && k < f.n_found; k++) s->alternatives[s->n_alternatives++] = f.found[k];
        if (f.n_found > s->max_alternatives) s->max_alternatives = (uint32_t)f.n_found;
    }
    for (size_t i = 0; ok && i < n; i++) {
        if (!s->nodes[i].is_union) continue;
        s->nodes[i].first_alternative = first[i];
        s->nodes[i].n_alternatives = count[i];
    }
    free(first);
    free(count);
    free(f.stack);
    free(f.found);
    free(f.seen);
    return ok;
}

// ---- Depth -------------------------------------------------------------------------------------------------------------------
static uint8_t one_more(uint8_t need) { return need >= JSON_WALK_DEPTH ? NO_NEED : (uint8_t)(need + 1); }

static uint8_t list_need(const json_schema *s, const schema_node *node) {
    uint8_t most = 0;
    for (uint32_t i = 0; i < node->min_items && i <= node->n_prefix; i++) {
        const uint8_t need = s->nodes[i < node->n_prefix ? s->alternatives[node->first_prefix + i] : node->items].need;
        if (need > most) most = need;
    }
    return one_more(most);
}

static uint8_t map_need(const json_schema *s, const schema_node *node) {
    uint8_t most = 0;
    for (uint32_t i = 0; i < node->n_properties; i++) {
        const schema_property *p = &s->properties[node->first_property + i];
        if (p->required && s->nodes[p->node].need > most) most = s->nodes[p->node].need;
    }
    return one_more(most);
}

static uint8_t smaller(uint8_t a, uint8_t b) { return a < b ? a : b; }

static void need_of(const json_schema *s, schema_node *node) {
    uint8_t least = NO_NEED;
    if (node->is_union) {
        for (uint32_t i = 0; i < node->n_alternatives; i++) least = smaller(least, s->nodes[s->alternatives[node->first_alternative + i]].need);
    } else if (node->is_enum) {
        least = node->n_words ? 0 : NO_NEED;
    } else {
        node->need_list = node->types & TYPE_LIST ? list_need(s, node) : NO_NEED;
        node->need_map = node->types & TYPE_MAP ? map_need(s, node) : NO_NEED;
        least = node->types & ~(TYPE_LIST | TYPE_MAP) ? 0 : smaller(node->need_list, node->need_map);
    }
    node->need = least;
}

bool schema_finish(schema_compiler *c) {
    json_schema *s = c->s;
    if (!flatten(c)) return false;
    for (size_t i = 0; i < s->n_nodes; i++) s->nodes[i].need = s->nodes[i].need_list = s->nodes[i].need_map = NO_NEED;
    for (bool changed = true; changed;) { // needs only fall
        changed = false;
        for (size_t i = s->n_nodes; i-- > 0;) {
            const uint8_t before = s->nodes[i].need;
            need_of(s, &s->nodes[i]);
            changed |= s->nodes[i].need != before;
        }
    }
    return s->nodes[s->root].need != NO_NEED || schema_fail(c, NULL, "takes no value at all (or only ones nested deeper than %d levels)", JSON_WALK_DEPTH);
}
