// Which architectures there are. A new family adds its file, its name in ARCH_LIST, and one test.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "models/arch.h"

#define ARCH_ENTRY(name) &arch_##name,
#define ARCH_NAME(name) ", " #name

static const wtl_arch *const arch_table[] = {ARCH_LIST(ARCH_ENTRY)};
static const char arch_names[] = ARCH_LIST(ARCH_NAME); // begins with ", "

const wtl_arch *arch_find(const char *name, size_t len) {
    for (size_t i = 0; i < sizeof arch_table / sizeof *arch_table; i++)
        if (strlen(arch_table[i]->name) == len && !memcmp(arch_table[i]->name, name, len)) return arch_table[i];
    return NULL;
}

const char *arch_list(void) { return arch_names + 2; }
