// See kv_types.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/kv_types.h"

#include <string.h>

static const struct {
    const char *name;
    wtl_kv_type type;
} types[] = {{"f16", WTL_KV_F16}, {"f32", WTL_KV_F32}, {"q8_0", WTL_KV_Q8_0}};

const char *kv_type_name(wtl_kv_type type) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type) return types[i].name;
    return "?";
}

bool kv_type_parse(const char *name, wtl_kv_type *out) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(types[i].name, name) != 0) continue;
        *out = types[i].type;
        return true;
    }
    return false;
}

wtl_kv_type kv_type_of(const char *choice) {
    wtl_kv_type type = WTL_KV_F16;
    if (choice) kv_type_parse(choice, &type);
    return type;
}
