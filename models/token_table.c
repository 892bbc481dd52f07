// The vocabulary's byte strings and the hash table that finds a symbol by them.
//
// Strings lie in one block, addressed by 32-bit offsets. The table stores the hash beside the symbol, so that a miss costs
// one cache line and a hit one comparison. Keys come from the file and lookups from the text: a hostile text cannot make
// chains longer, only a hostile file can, and that harms only its own use.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/tokenizer_impl.h"
#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"

// Multiply-and-fold over eight bytes at a time; the constants are odd with evenly spread bits.
#define HASH_MUL UINT64_C(0x9E3779B97F4A7C15)
#define HASH_END UINT64_C(0xD6E8FEB86659FD93)

uint32_t token_hash(const char *bytes, size_t len) {
    uint64_t h = (uint64_t)len * HASH_END, word;
    for (; len >= 8; bytes += 8, len -= 8) {
        memcpy(&word, bytes, 8);
        h = (h ^ word) * HASH_MUL;
        h ^= h >> 32;
    }
    word = 0;
    for (size_t i = 0; i < len; i++) word |= (uint64_t)(uint8_t)bytes[i] << (8 * i);
    h = (h ^ word) * HASH_MUL;
    h ^= h >> 29;
    h *= HASH_END;
    return (uint32_t)(h >> 32);
}

static bool slots_resize(token_table *table, size_t n_keys) {
    size_t size = 64;
    while (size < 2 * n_keys) size *= 2;
    if (table->slots && size <= table->mask + 1) return true;
    token_slot *slots = wtl_malloc(size * sizeof *slots);
    if (!slots) return false;
    memset(slots, 0xFF, size * sizeof *slots); // SYMBOL_NONE everywhere
    for (size_t i = 0; table->slots && i <= table->mask; i++) {
        if (table->slots[i].symbol == SYMBOL_NONE) continue;
        size_t at = table->slots[i].hash & (size - 1);
        while (slots[at].symbol != SYMBOL_NONE) at = (at + 1) & (size - 1);
        slots[at] = table->slots[i];
    }
    wtl_free(table->slots);
    table->slots = slots;
    table->mask = size - 1;
    return true;
}

static size_t grown(size_t have, size_t need) { return need > have + have / 2 ? need : have + have / 2; }

bool token_table_reserve(token_table *table, size_t symbols, size_t bytes) {
    size_t n_symbols, n_bytes, size;
    if (!wtl_add_size(table->n_symbols, symbols, &n_symbols) || !wtl_add_size(table->n_bytes, bytes, &n_bytes) ||
        n_symbols >= INT32_MAX || n_bytes >= UINT32_MAX)
        return false;
    if (n_bytes > table->cap_bytes) {
        size_t cap = grown(table->cap_bytes, n_bytes);
        char *p = wtl_realloc(table->bytes, cap);
        if (!p) return false;
        table->bytes = p;
        table->cap_bytes = cap;
    }
    if (n_symbols > table->cap_symbols) {
        size_t cap = grown(table->cap_symbols, n_symbols);
        if (!wtl_mul_size(cap, sizeof(token_info), &size)) return false;
        token_info *p = wtl_realloc(table->tokens, size);
        if (!p) return false;
        table->tokens = p;
        table->cap_symbols = cap;
    }
    return slots_resize(table, n_symbols);
}

void token_table_free(token_table *table) {
    wtl_free(table->bytes);
    wtl_free(table->tokens);
    wtl_free(table->slots);
    memset(table, 0, sizeof *table);
}

uint32_t token_table_append(token_table *table, const char *bytes, size_t len) {
    uint32_t at = (uint32_t)table->n_bytes;
    if (len) memcpy(table->bytes + at, bytes, len);
    table->n_bytes += len;
    return at;
}

// The slot that holds these bytes, or the free one where they belong.
static token_slot *slot_of(const token_table *table, const char *bytes, size_t len, uint32_t hash) {
    for (size_t at = hash & table->mask;; at = (at + 1) & table->mask) {
        token_slot *slot = &table->slots[at];
        if (slot->symbol == SYMBOL_NONE) return slot;
        if (slot->hash != hash) continue;
        const token_info *t = &table->tokens[slot->symbol];
        if (t->piece_len == len && memcmp(table->bytes + t->piece, bytes, len) == 0) return slot;
    }
}

void token_table_index(token_table *table, uint32_t symbol, uint32_t hash) {
    const token_info *t = &table->tokens[symbol];
    token_slot *slot = slot_of(table, table->bytes + t->piece, t->piece_len, hash);
    if (slot->symbol == SYMBOL_NONE) table->n_keys++;
    slot->hash = hash;
    slot->symbol = symbol;
    if (t->piece_len > table->max_key_len) table->max_key_len = t->piece_len;
}

uint32_t token_table_find(const token_table *table, const char *bytes, size_t len) {
    if (len > table->max_key_len) return SYMBOL_NONE;
    return slot_of(table, bytes, len, token_hash(bytes, len))->symbol;
}

uint32_t token_table_intern(token_table *table, const char *bytes, size_t len, uint32_t hash) {
    uint32_t symbol = slot_of(table, bytes, len, hash)->symbol;
    if (symbol != SYMBOL_NONE) return symbol;
    if (!token_table_reserve(table, 1, len)) return SYMBOL_NONE;
    symbol = (uint32_t)table->n_symbols++;
    uint32_t at = token_table_append(table, bytes, len);
    table->tokens[symbol] = (token_info){at, (uint32_t)len, at, (uint32_t)len};
    token_table_index(table, symbol, hash);
    return symbol;
}
