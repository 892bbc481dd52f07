#!/usr/bin/env bash
# Dependencies between the boxes point one way: tools -> runtime -> models -> kernels (cpu -> ref) -> runtime/base, and
# telemetry stands alone. Every include of one of our headers is held against the table below.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Which headers the files of a folder may include.
allowed() {
    case $1 in
    runtime/base) echo '^runtime/base/' ;;
    kernels) echo '^(runtime/base/|kernels/[^/]+$)' ;;
    kernels/ref) echo '^(runtime/base/|kernels/[^/]+$|kernels/ref/)' ;;
    kernels/cpu) echo '^(runtime/base/|kernels/[^/]+$|kernels/ref/|kernels/cpu/)' ;;
    kernels/cuda) echo '^(runtime/base/|kernels/[^/]+$|kernels/ref/|kernels/cuda/)' ;;
    models/chat_template) echo '^(runtime/base/|models/chat_template/)' ;;
    models | models/*) echo '^(runtime/base/|kernels/[^/]+$|kernels/ref/|models/)' ;;
    runtime) echo '^(runtime/|models/|kernels/|telemetry/telemetry\.h$)' ;;
    telemetry) echo '^telemetry/' ;;
    tools/schema) echo '^tools/schema/' ;;
    tools | tools/*) echo '^(tools/|runtime/(wattle|energy|chat|batch|limits|profile)\.h$|telemetry/telemetry\.h$)' ;;
    *) echo '^$' ;;
    esac
}

failed=0
while IFS=: read -r file header; do
    if ! [[ $header =~ $(allowed "$(dirname "$file")") ]]; then
        echo "$file includes $header: not a dependency that its box may have" >&2
        failed=1
    fi
done < <(grep -RHoP --include='*.[ch]' --include='*.cu' '^\s*#\s*include\s+"\K[^"]+' runtime kernels models telemetry tools)
exit $failed
