#!/usr/bin/env bash
# From a bare Debian or Ubuntu machine to a first answer: packages, build, model, prompt. Run again: seconds.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD_DIR:-build}
question=${1:-"Why is the sky blue? Answer in one sentence."}

echo "wattle quickstart: build in $build/, the model goes to ${XDG_CACHE_HOME:-$HOME/.cache}/wattle (98 MB)"
bash tools/install_packages.sh cmake gcc libc6-dev make pkg-config libpcre2-dev libutf8proc-dev libjansson-dev libsqlite3-dev libmicrohttpd-dev libedit-dev \
    libopenblas-dev curl python3 python3-pip ca-certificates

[ -x "$build/wattle" ] || echo "building: a few minutes"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake -B "$build" && cmake --build "$build" --target wattle -j "$(nproc)"; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "The build failed; the lines above say why." >&2
    exit 1
fi
"$build/wattle" fetch smollm2

echo
echo "> $question"
"$build/wattle" run --chat -p "$question" -n 128 --temp 0.2 --seed 1
echo
echo "Next: $build/wattle chat      $build/wattle serve      $build/wattle --help"
