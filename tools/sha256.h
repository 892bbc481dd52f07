// SHA-256 (FIPS 180-4) of a file, for `wattle fetch`.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SHA256_H
#define WTL_TOOLS_SHA256_H

#include <stdbool.h>

enum { SHA256_HEX_LEN = 64 };

// Lower-case digits, terminated. False with errno set when the file cannot be read.
bool sha256_file(const char *path, char hex[SHA256_HEX_LEN + 1]);

#endif
