#!/usr/bin/env bash
# The public headers compile alone, as C11 and as C++17, with gcc and clang and all warnings.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
flags="-fsyntax-only -Wall -Wextra -Wpedantic -Werror -I."
for header in runtime/wattle.h runtime/energy.h runtime/chat.h runtime/batch.h runtime/limits.h runtime/profile.h telemetry/telemetry.h; do
    for compiler in "gcc -std=c11 -x c" "clang -std=c11 -x c" "g++ -std=c++17 -x c++" "clang++ -std=c++17 -x c++"; do
        command -v "${compiler%% *}" >/dev/null || continue
        echo "#include \"$header\"" | $compiler $flags - || { echo "$header does not compile alone with: $compiler" >&2; exit 1; }
    done
    lines=$(wc -l <"$header")
    [ "$lines" -le 300 ] || { echo "$header has $lines lines: at most 300" >&2; exit 1; }
done
