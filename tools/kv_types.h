// The names of the KV cache's number types, as options and reports write them.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_KV_TYPES_H
#define WTL_TOOLS_KV_TYPES_H

#include "runtime/wattle.h"

#define KV_TYPE_CHOICES "f16|f32|q8_0"
const char *kv_type_name(wtl_kv_type type);                 // "f16"; static
bool kv_type_parse(const char *name, wtl_kv_type *out);     // false for a name of none
wtl_kv_type kv_type_of(const char *choice);                 // of KV_TYPE_CHOICES; f16 for NULL

#endif
